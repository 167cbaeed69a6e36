"""Keys and values of what has been read already: a text that grows by one token a step is not read again from its start.

The first call of a model with a fresh cache reads whole texts as ever, under their own pattern, and leaves every layer's keys and
values here. Each later call has one new token a sequence, which sees all that is kept and itself: the same as reading the whole
text from left to right. What a decoder's layers take from the encoder is computed in the first call alone.

A layer takes part with one line before its attention (`kept`, or `computed_once` for cross-attention); without a cache both change
nothing. Sequences that are finished are dropped, and beams reordered, by `Cache.select`. For use without gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cloze.models.layout import Layout

_ROOM = 32  # places made beyond what is needed; the room doubles where they are used up


@dataclass
class _Growing:
    """One layer's keys and values: (B, room, H, D) each, of which sequence b has filled the first lengths[b] places."""

    keys: Tensor
    values: Tensor
    lengths: tuple[int, ...]


@dataclass
class _Fixed:
    """What one layer made of the encoder's states: (N, …) each, one sequence after the other."""

    tensors: tuple[Tensor, ...]
    lengths: tuple[int, ...]


class Cache:
    """What the layers of one model keep of a batch of growing texts. A layer is known by its module."""

    def __init__(self) -> None:
        self._growing: dict[object, _Growing] = {}
        self._fixed: dict[object, _Fixed] = {}
        self._counts: dict[object, Tensor] = {}
        self._layout = Layout(())  # of the last step, which all layers share

    @property
    def filled(self) -> bool:
        """Whether the first call has been: the encoder then need not be read again."""
        return bool(self._growing)

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens of each text are kept, and so where the next one stands in what its layers look at."""
        return next(iter(self._growing.values())).lengths if self._growing else ()

    def extend(
        self, layer: object, keys: Tensor, values: Tensor, layout: Layout
    ) -> tuple[Tensor, Tensor, Layout | None]:
        """Keeps keys and values (N, H, D) that lie as `layout` says; gives what the queries are to be held against, and where each
        sequence lies in that (None in the first call: as in `layout`).

        Raises ValueError where a later call has other than one token a sequence.
        """
        if layout.stride is not None:
            raise ValueError("a cache needs a layout without stride")
        if layer not in self._growing:
            self._growing[layer] = self._begun(keys, values, layout)
            return keys, values, None
        kept = self._growing[layer]
        if layout.lengths != (1,) * len(kept.lengths):
            raise ValueError(
                f"the cache holds {len(kept.lengths)} sequences and takes one more token of each; "
                f"these have {', '.join(map(str, layout.lengths))}"
            )
        room = kept.keys.shape[1]
        if max(kept.lengths) == room:
            kept.keys, kept.values = (torch.cat([x, torch.zeros_like(x)], 1) for x in (kept.keys, kept.values))
            room *= 2
        places = torch.tensor([b * room + n for b, n in enumerate(kept.lengths)], device=keys.device)
        for store, new in ((kept.keys, keys), (kept.values, values)):
            store.view(-1, *store.shape[2:]).index_copy_(0, places, new.detach())
        kept.lengths = tuple(n + 1 for n in kept.lengths)
        if (self._layout.lengths, self._layout.stride) != (kept.lengths, room):
            self._layout = Layout(kept.lengths, stride=room, way=layout.way, device=layout.device)
        return kept.keys.flatten(0, 1), kept.values.flatten(0, 1), self._layout

    @staticmethod
    def _begun(keys: Tensor, values: Tensor, layout: Layout) -> _Growing:
        count, room = len(layout.lengths), layout.longest + _ROOM
        rows = torch.tensor(
            [b * room + place for b, n in enumerate(layout.lengths) for place in range(n)], device=keys.device
        )
        # zeros where nothing is yet: masked places are multiplied with a weight of 0, which only finite numbers stand
        stores = [x.new_zeros(count * room, *x.shape[1:]).index_copy_(0, rows, x.detach()) for x in (keys, values)]
        kept_keys, kept_values = (store.view(count, room, *store.shape[1:]) for store in stores)
        return _Growing(kept_keys, kept_values, layout.lengths)

    def once(self, layer: object, make: Callable[[], tuple[Tensor, ...]], layout: Layout) -> tuple[Tensor, ...]:
        """What `make` gave in the first call, (N, …) each, whose sequences lie as `layout`, the encoder's, says."""
        if layer not in self._fixed:
            self._fixed[layer] = _Fixed(tuple(x.detach() for x in make()), layout.lengths)
        return self._fixed[layer].tensors

    def counted(self, layer: object, bins: Tensor, shape: tuple[int, int]) -> Tensor:
        """How often each bin of each sequence came up in the calls before, (B * n,) for `shape` (B, n); those of this call, `bins`
        (N,), are then added. What a router with room for so many tokens of each sequence must know of the text before."""
        before = self._counts.get(layer)
        before = bins.new_zeros(shape) if before is None else before
        self._counts[layer] = before + torch.bincount(bins, minlength=before.numel()).view(shape)
        return before.flatten()

    def select(self, rows: Sequence[int]) -> None:
        """Goes on with these sequences in this order: finished ones are left out, and one that several beams follow comes more
        than once."""
        for kept in self._growing.values():
            if list(rows) != list(range(len(kept.lengths))):
                index = torch.tensor(rows, dtype=torch.int64, device=kept.keys.device)
                kept.keys, kept.values = kept.keys.index_select(0, index), kept.values.index_select(0, index)
                kept.lengths = tuple(kept.lengths[b] for b in rows)
        for layer, counts in self._counts.items():
            self._counts[layer] = counts[list(rows)]
        for fixed in self._fixed.values():
            if list(rows) != list(range(len(fixed.lengths))):
                fixed.tensors = tuple(_sequences(x, fixed.lengths, rows) for x in fixed.tensors)
                fixed.lengths = tuple(fixed.lengths[b] for b in rows)


def _sequences(flat: Tensor, lengths: Sequence[int], rows: Sequence[int]) -> Tensor:
    parts = torch.split(flat, list(lengths))
    return torch.cat([parts[b] for b in rows]) if rows else flat[:0]


def kept(
    cache: Cache | None, layer: object, keys: Tensor, values: Tensor, layout: Layout
) -> tuple[Tensor, Tensor, Layout | None]:
    """For self-attention: keys, values and their layout as `attend` takes them (`memory`), from the cache where there is one."""
    return (keys, values, None) if cache is None else cache.extend(layer, keys, values, layout)


def computed_once(
    cache: Cache | None, layer: object, make: Callable[[], tuple[Tensor, ...]], layout: Layout
) -> tuple[Tensor, ...]:
    """For cross-attention: keys and values of the encoder's states, which lie as `layout` says; computed only where no cache has
    them."""
    return make() if cache is None else cache.once(layer, make, layout)
