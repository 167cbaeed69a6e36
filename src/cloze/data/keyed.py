"""Randomness that is a pure function of a key: the reason why nothing here depends on workers, ranks, order or a resume.

A *key* is an unsigned 64-bit number derived from names and integers, for example (seed, "train", epoch, index of the example).
A *draw* is a function of (key, counter): the 7th number of example 12 in epoch 3 is the same whoever asks for it, in whatever
order, alone or with a thousand others. That also makes drawing vectorised: a batch's draws are a few array operations.

The mixing function is SplitMix64's finaliser (Steele, Lea, Flood 2014, https://doi.org/10.1145/2714064.2660195).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(x: Keys) -> Keys:
    """SplitMix64's finaliser, in place on a fresh array."""
    x ^= x >> np.uint64(30)
    x *= _MIX_1
    x ^= x >> np.uint64(27)
    x *= _MIX_2
    x ^= x >> np.uint64(31)
    return x


def key(*parts: int | str) -> int:
    """One 64-bit key from names and integers: `key(seed, "train", epoch)`. Stable across machines and versions."""
    text = "|".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def keys(parent: int, indices: NDArray[Any]) -> Keys:
    """A key for each index below one parent key: (n,) integers -> (n,) uint64."""
    with np.errstate(over="ignore"):
        x = np.asarray(indices).astype(np.uint64) * _GOLDEN + np.uint64(parent)
        return _mix(_mix(x) + _GOLDEN)


def stream(parents: Keys, name: str) -> Keys:
    """Independent keys for another purpose: one stream for which tokens, one for what replaces them."""
    with np.errstate(over="ignore"):
        return _mix(np.asarray(parents, dtype=np.uint64) ^ np.uint64(key(name)))


def bits(parents: Keys, counters: NDArray[Any]) -> Keys:
    """64 random bits for each (key, counter); the two broadcast."""
    with np.errstate(over="ignore"):
        return _mix(
            np.asarray(parents, dtype=np.uint64) + (np.asarray(counters).astype(np.uint64) + np.uint64(1)) * _GOLDEN
        )


def uniform(parents: Keys, counters: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers in [0, 1) with 53 random bits, one for each (key, counter); the two broadcast."""
    drawn: NDArray[np.float64] = np.multiply(bits(parents, counters) >> np.uint64(11), 2.0**-53, dtype=np.float64)
    return drawn


def integers(parents: Keys, counters: NDArray[Any], high: NDArray[Any] | int) -> NDArray[np.int64]:
    """Integers in [0, high), one for each (key, counter); `high` broadcasts too. Its bias is below 2^-53 * high."""
    return (uniform(parents, counters) * high).astype(np.int64)


def permutation(parent: int, n: int) -> NDArray[np.int64]:
    """A permutation of 0..n-1 that depends on the key alone."""
    generator = np.random.Generator(np.random.PCG64(parent))
    return generator.permutation(n)
