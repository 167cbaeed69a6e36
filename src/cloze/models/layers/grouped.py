"""Attention on the CPU: sequences of similar length in groups, plain matrix products in a group.

On a CPU with bf16 this takes between a quarter and two fifths of the time of torch's fused kernel, with dropout of its
unfused one (`benchmarks/attention.py`): the matrix products run at full speed, dropout's random numbers are
cheap (`dropout.py`), nothing is computed for padding beyond a group's own, and a causal pattern is computed in blocks, so
that half of the square is hardly touched. The attention weights are kept for the backward pass while they are few and
computed again where they are many, so memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cloze.models.layers.dropout import keep, kept_share, masked, masked_
from cloze.models.layout import Layout

_GROUP_COST = 1 << 14  # what one more group costs, in attention weights a head that could be computed meanwhile
_TILE = 1 << 21  # attention weights computed at once: few enough to stay in cache, enough to keep the cores busy
_BLOCK = 128  # queries of a causal block
_KEPT = 1 << 25  # attention weights kept for the backward pass in one call; beyond that they are computed again


@dataclass(frozen=True)
class Side:
    """Where the queries (or keys) of a group lie, as a rectangle of `count` sequences by `length`."""

    count: int
    length: int
    lengths: tuple[int, ...]
    rows: slice | Tensor  # of the flat tensor, for every place of the rectangle
    back: tuple[Tensor, Tensor] | None  # (places, rows) of real tokens where the rectangle has padding

    @classmethod
    def of(cls, layout: Layout, members: Sequence[int]) -> Side:
        lengths = tuple(layout.lengths[b] for b in members)
        longest = max(lengths)
        starts = [layout.offsets[b] for b in members]
        even = min(lengths) == longest
        if even and starts == list(range(starts[0], starts[0] + longest * len(members), longest)):
            return cls(len(members), longest, lengths, slice(starts[0], starts[0] + longest * len(members)), None)
        place = torch.arange(longest)
        ends = torch.tensor(lengths)[:, None]
        first = torch.tensor(starts)[:, None]
        rows = (first + place.where(place < ends, 0)).flatten()
        if even:
            return cls(len(members), longest, lengths, rows, None)
        places = (place < ends).flatten().nonzero().flatten()
        return cls(len(members), longest, lengths, rows, (places, rows[places]))

    @property
    def ragged(self) -> bool:
        return self.back is not None

    def take(self, flat: Tensor) -> Tensor:
        """(N, H, D) -> (count * H, length, D), contiguous; places without a token repeat the sequence's first."""
        _, heads, width = flat.shape
        block = flat[self.rows] if isinstance(self.rows, slice) else flat.index_select(0, self.rows)
        laid = block.view(self.count, self.length, heads, width).transpose(1, 2)
        return laid.reshape(self.count * heads, self.length, width)

    def give(self, laid: Tensor, flat: Tensor, scale: float) -> None:
        """The way back, times `scale`, into `flat`; what stands in places without a token is dropped."""
        _, heads, width = flat.shape
        if scale != 1:
            laid.mul_(scale)
        block = laid.view(self.count, heads, self.length, width).transpose(1, 2)
        if isinstance(self.rows, slice):
            flat[self.rows].view(self.count, self.length, heads, width).copy_(block)
            return
        places, rows = self.back or (None, self.rows)
        block = block.to(flat.dtype).reshape(-1, heads, width)
        flat.index_copy_(0, rows, block if places is None else block.index_select(0, places))

    def fill(self, laid: Tensor, value: float, dim: int, sequences: slice = slice(None)) -> None:
        """Sets the padding of `laid` (sequences, …) to `value`, its dimension `dim` being the length."""
        lengths, first = self.lengths[sequences], 0
        for last in range(1, len(lengths) + 1):
            if last == len(lengths) or lengths[last] != lengths[first]:
                if lengths[first] < laid.shape[dim]:
                    laid[first:last].narrow(dim, lengths[first], laid.shape[dim] - lengths[first]).fill_(value)
                first = last


@dataclass(frozen=True)
class Group:
    queries: Side
    keys: Side
    members: tuple[int, ...]


@dataclass(frozen=True)
class Tile:
    """Part of a group that is computed at once: some of its sequences, some of their queries, the keys that these see."""

    sequences: slice
    queries: slice
    keys: int

    def place(self, heads: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where it lies in tensors (sequences * H, queries, …) and (sequences * H, keys, …)."""
        both = slice(self.sequences.start * heads, self.sequences.stop * heads)
        return (both, self.queries), (both, slice(0, self.keys))


def groups(layout: Layout, memory: Layout) -> list[Group]:
    """Sequences by falling length, cut into groups where padding would cost more than a group does."""
    key = memory.lengths, memory.stride
    known = layout.groups.get(key)
    if known is None:
        pairs = list(zip(layout.lengths, memory.lengths, strict=True))
        order = sorted((b for b in range(len(pairs)) if all(pairs[b])), key=lambda b: (-pairs[b][0], -pairs[b][1], b))
        cut: list[list[int]] = []
        waste = longest = widest = 0
        for b in order:
            queries, keys = pairs[b]
            if cut:
                # a key side wider than the group's so far is padding for all that are in it already
                more = longest * max(widest, keys) - queries * keys + max(0, keys - widest) * longest * len(cut[-1])
            if not cut or waste + more > _GROUP_COST:
                cut.append([])
                waste, longest, widest, more = 0, queries, keys, 0
            cut[-1].append(b)
            waste, widest = waste + more, max(widest, keys)
        known = []
        for members in cut:
            queries_side = Side.of(layout, members)
            keys_side = queries_side if memory is layout else Side.of(memory, members)
            known.append(Group(queries_side, keys_side, tuple(members)))
        layout.groups[key] = known
    return known


def tiles(group: Group, heads: int, causal: bool) -> Iterator[Tile]:
    """The whole group where it is small; else some sequences at a time and, where causal, blocks of queries."""
    size = group.queries.length * group.keys.length * heads
    step = max(1, _TILE // size)
    for first in range(0, group.queries.count, step):
        sequences = slice(first, min(first + step, group.queries.count))
        if not causal:
            yield Tile(sequences, slice(0, group.queries.length), group.keys.length)
            continue
        for start in range(0, group.queries.length, _BLOCK):
            end = min(start + _BLOCK, group.queries.length)
            yield Tile(sequences, slice(start, end), end)


@lru_cache(maxsize=8)
def _later(size: int, dtype: torch.dtype) -> Tensor:
    """(size, size): minus infinity where the key comes after the query, else 0."""
    return torch.full((size, size), float("-inf"), dtype=dtype).triu_(1)


@dataclass(frozen=True)
class Call:
    """What stays the same in one call of attention, forward and backward."""

    layout: Layout
    memory: Layout | None
    scale: float
    rate: float
    seed: int

    @property
    def pattern(self) -> str:
        return "bidirectional" if self.memory is not None else self.layout.pattern

    def groups(self) -> list[Group]:
        return groups(self.layout, self.memory or self.layout)

    @staticmethod
    def biases(bias: Tensor, group: Group, tile: Tile) -> Tensor:
        """What is added to a tile's scores, (H, queries, keys), or (sequences, H, queries, keys) where each has its own."""
        if bias.dim() == 3:
            return bias[:, tile.queries, : tile.keys]
        return bias[list(group.members[tile.sequences]), :, tile.queries, : tile.keys]

    def weights(
        self, group: Group, tile: Tile, number: int, queries: Tensor, keys: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """A tile's attention weights (sequences * H, queries, keys) before dropout, and what dropout keeps of them."""
        scores = torch.bmm(queries, keys.transpose(1, 2))
        members = range(group.queries.count)[tile.sequences]
        square = scores.view(len(members), -1, *scores.shape[1:])
        if bias is not None:
            square.add_(self.biases(bias, group, tile))
        if self.pattern == "causal":
            # keys that are padding come after every query that is not
            square[..., tile.queries.start :].add_(_later(scores.shape[1], scores.dtype))
        elif self.pattern == "prefix":
            assert self.layout.prefix is not None
            for place, b in enumerate(members):
                hidden = _later(scores.shape[1], scores.dtype).clone()
                hidden[:, : self.layout.prefix[group.members[b]]] = 0
                square[place].add_(hidden)
        elif group.keys.ragged:
            group.keys.fill(square, float("-inf"), 3, tile.sequences)
        mask = keep(scores.numel(), self.rate, [self.seed, number]).view(scores.shape) if self.rate else None
        return torch.softmax(scores, -1), mask


class GroupedAttention(torch.autograd.Function):
    """Queries, keys, values (N, H, D) of one dtype -> (Nq, H, D). `bias` is (H, Lq, Lk) or (B, H, Lq, Lk) of that
    dtype, or None."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, call: Call) -> Tensor:
        heads = queries.shape[1]
        cut = call.groups()
        count = sum(group.queries.count * group.queries.length * group.keys.length for group in cut) * heads
        kept = any(ctx.needs_input_grad) and count <= _KEPT
        saved: list[Tensor | None] = []
        out = _like(queries, call.layout)
        number = 0
        for group in cut:
            q, k, v = group.queries.take(queries) * call.scale, group.keys.take(keys), group.keys.take(values)
            laid = torch.empty_like(q)
            saved += [q, k, v] if kept else []
            for tile in tiles(group, heads, call.pattern == "causal"):
                at, seen = tile.place(heads)
                weights, mask = call.weights(group, tile, number, q[at], k[seen], bias)
                laid[at] = torch.bmm(weights if mask is None else masked(weights, mask), v[seen])
                saved += [weights, mask] if kept else []
                number += 1
            group.queries.give(laid, out, 1 / kept_share(call.rate))
        ctx.call, ctx.kept, ctx.tensors = call, kept, len(saved)
        ctx.save_for_backward(*saved, *(() if kept else (queries, keys, values)), bias)
        ctx.like = queries.shape, keys.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        saved = list(ctx.saved_tensors)
        bias = saved.pop()
        heads = gradient.shape[1]
        dq, dk, dv = (
            _like(gradient.new_empty(shape), layout)
            for shape, layout in zip(
                (ctx.like[0], ctx.like[1], ctx.like[1]),
                (call.layout, call.memory or call.layout, call.memory or call.layout),
                strict=True,
            )
        )
        dbias = torch.zeros(bias.shape, device=bias.device) if ctx.needs_input_grad[3] else None
        left = iter(saved)
        number = 0
        for group in call.groups():
            if ctx.kept:
                q, k, v = next(left), next(left), next(left)
            else:
                q = group.queries.take(saved[0]) * call.scale
                k, v = group.keys.take(saved[1]), group.keys.take(saved[2])
            g = group.queries.take(gradient) * (1 / kept_share(call.rate))
            if group.queries.ragged:
                group.queries.fill(g.view(group.queries.count, heads, *g.shape[1:]), 0.0, 2)
            blocks = call.pattern == "causal" and group.queries.length > _BLOCK
            # keys gather from several blocks of queries: in single precision
            gq = torch.empty_like(q)
            gk, gv = (x.new_zeros(x.shape, dtype=torch.float32) if blocks else torch.empty_like(x) for x in (k, v))
            for tile in tiles(group, heads, call.pattern == "causal"):
                at, seen = tile.place(heads)
                if ctx.kept:
                    weights, mask = next(left), next(left)
                else:
                    weights, mask = call.weights(group, tile, number, q[at], k[seen], bias)
                number += 1
                used = weights if mask is None else masked(weights, mask)
                from_values = torch.bmm(used.transpose(1, 2), g[at])
                to_weights = torch.bmm(g[at], v[seen].transpose(1, 2))
                if mask is not None:
                    to_weights = masked_(to_weights, mask)
                scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
                if dbias is not None:
                    members = scores.view(-1, heads, *scores.shape[1:])
                    if dbias.dim() == 3:
                        dbias[:, tile.queries, : tile.keys] += members.sum(0, dtype=torch.float32)
                    else:
                        own = list(group.members[tile.sequences])
                        dbias[own, :, tile.queries, : tile.keys] += members.float()
                gq[at] = torch.bmm(scores, k[seen])
                from_scores = torch.bmm(scores.transpose(1, 2), q[at])
                if blocks:
                    gk[seen].add_(from_scores)
                    gv[seen].add_(from_values)
                else:
                    gk[seen], gv[seen] = from_scores, from_values
            group.queries.give(gq, dq, call.scale)
            group.keys.give(gk, dk, 1.0)
            group.keys.give(gv, dv, 1.0)
        return dq, dk, dv, None if dbias is None else dbias.to(bias.dtype), None


def _like(flat: Tensor, layout: Layout) -> Tensor:
    """A contiguous tensor of this shape to be filled; with zeros where the layout leaves rows without a token."""
    filled = layout.stride is None or all(n == layout.stride for n in layout.lengths)
    new = torch.empty if filled else torch.zeros
    return new(flat.shape, dtype=flat.dtype, device=flat.device)
