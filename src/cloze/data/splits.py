"""Which documents are held out: decided by their content, so that a text that a corpus holds twice never lies on both sides.

A document's seeded digest is a number below 2^64; those below one mark are for validation, those below a second for testing. More
documents do not change where the others lie, save that in a small corpus the marks are set so that the shares are met.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cloze.data.base import Split
from cloze.errors import Refusal

COUNTED = 64 << 20  # bytes of a corpus up to which all its documents are looked at to hold out an exact share

Marks = tuple[int, int]


def checked_shares(validation_share: float, test_share: float) -> None:
    """Raises Refusal where the shares cannot be."""
    for name, share in (("validation_share", validation_share), ("test_share", test_share)):
        if not 0 <= share < 1:
            raise Refusal(f"data.{name}={share} must lie in [0, 1)")
    if validation_share + test_share >= 1:
        raise Refusal(
            f"data.validation_share={validation_share} and data.test_share={test_share} leave nothing to train on"
        )


def beside_paths(
    validation_path: str | None, test_path: str | None, validation_share: float | None, test_share: float
) -> float:
    """The share to hold out for validation (None: 0.05 where there are no files for it). Raises Refusal where a share stands beside a
    path or cannot be."""
    if validation_path is not None and validation_share is not None:
        raise Refusal("data.validation_share has no effect beside data.validation_path: give one of them")
    if test_path is not None and test_share:
        raise Refusal("data.test_share has no effect beside data.test_path: give one of them")
    if validation_share is None:
        validation_share = 0.0 if validation_path is not None else 0.05
    checked_shares(validation_share, test_share)
    return validation_share


def digest(paragraphs: Iterable[str], seed: int) -> int:
    """A document's number in [0, 2^64)."""
    state = hashlib.blake2b(str(seed).encode(), digest_size=8)
    for paragraph in paragraphs:
        state.update(b"\n")
        state.update(paragraph.encode())
    return int.from_bytes(state.digest(), "little")


def marks(validation_share: float, test_share: float, digests: Iterable[int] | None, name: str, hint: str) -> Marks:
    """The two marks; from the documents' digests where they are given, so that at least one document lies in each wanted split.

    Raises Refusal, with `name` of the corpus and a `hint`, where there are too few documents for that.
    """
    if digests is None:
        return int(validation_share * 2**64), int((validation_share + test_share) * 2**64)
    ordered = sorted(set(digests))
    if not ordered:
        raise Refusal(f"{name} holds only white space")
    wanted = [max(1, round(share * len(ordered))) if share else 0 for share in (validation_share, test_share)]
    if sum(wanted) >= len(ordered):
        many = (
            f"{len(ordered)} different documents"
            if len(ordered) > 1
            else "only 1 document, or the same one several times"
        )
        raise Refusal(f"{name} has {many}: too few to hold some out. {hint}")
    return ordered[wanted[0]], ordered[sum(wanted)]


def side(digest: int, marks: Marks) -> Split:
    """The split that a document belongs to."""
    return "validation" if digest < marks[0] else "test" if digest < marks[1] else "train"
