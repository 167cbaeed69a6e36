"""Attention by relative positions, with a memory (Transformer-XL: Dai et al. 2019, https://arxiv.org/abs/1901.02860; XLNet: Yang
et al. 2019, https://arxiv.org/abs/1906.08237).

The score of query i and key j is a sum of products: (a) query and key, (b) query and an encoding of their distance, (c) a learnt
vector `u` and the key, (d) a learnt vector `v` and the distance, and in XLNet one more of the query and whether both are in the
same segment. The keys are the memory, states of the text before, and behind it the sequence's own.

Scores are made in rectangles (sequences, queries, keys), as every query needs every distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cloze.models.base import Memory
from cloze.models.layers.dropout import drop
from cloze.models.layers.feed_forward import Activation, FeedForward
from cloze.models.layout import Layout


def rectangle(flat: Tensor, layout: Layout) -> Tensor:
    """(N, …) rows -> (B, L, …), each sequence's first row where it has no token."""
    if layout.stride is None and not layout.even:
        # an empty sequence at the end would begin behind the last row
        flat = flat.index_select(0, layout.rows.clamp(max=len(flat) - 1))
    return flat.view(len(layout.lengths), layout.longest, *flat.shape[1:])


def flattened(laid: Tensor, layout: Layout) -> Tensor:
    """The opposite of `rectangle`."""
    rows = laid.flatten(0, 1)
    return rows if layout.stride is not None or layout.even else rows.index_select(0, layout.places)


@dataclass(frozen=True)
class Sight:
    """What queries see.

    seen   (B or 1, Q, K) bool: whether query q sees key k, the memory's keys first
    blind  (B, Q) bool: queries that see nothing and gather nothing; None where every query sees something
    """

    seen: Tensor
    blind: Tensor | None = None

    @classmethod
    def maybe_blind(cls, seen: Tensor) -> Sight:
        """For `seen` with rows that may be empty. A blind query looks at everything, so that its softmax is one, and its result is
        thrown away."""
        blind = ~seen.any(-1)
        return cls(seen | blind[..., None], blind)


def sight(layout: Layout, memory: int = 0) -> Sight:
    """By the layout's pattern; all of a sequence sees the `memory` keys before it."""
    place = torch.arange(layout.longest, device=layout.device)
    if layout.pattern == "bidirectional":
        seen = layout.real[:, None].expand(-1, layout.longest, -1)
    else:  # a key that is no token comes after every query that is one
        seen = (place <= place[:, None])[None]
        if layout.pattern == "prefix":
            seen = seen | ((place < layout.prefix_tensor[:, None]) & layout.real)[:, None]
    return Sight(_with_memory(seen, memory))


def sight_by_order(ranks: Tensor, layout: Layout, memory: int = 0) -> tuple[Sight, Tensor]:
    """For (B, L) ranks in a factorisation order: what the states that know their own token see, and (B, L, memory + L) what those
    see that do not.

    A token of rank r sees those of lower rank. Rank -1 is given: all see it, and it sees the other given ones.
    """
    lower = (ranks[:, None] < ranks[:, :, None]) | (ranks == -1)[:, None]
    lower = lower & layout.real[:, None]
    itself = torch.eye(layout.longest, dtype=torch.bool, device=ranks.device)
    return Sight(_with_memory(lower | itself, memory)), _with_memory(lower, memory)


def _with_memory(seen: Tensor, memory: int) -> Tensor:
    return seen if memory == 0 else torch.cat([seen.new_ones(*seen.shape[:2], memory), seen], dim=2)


def distances(length: int, memory: int, ahead: bool, device: torch.device) -> Tensor:
    """(R,) int64: how far each query of `length` lies behind the `memory` + `length` keys, falling, as `RelativeAttention` counts
    them; below 0 for keys that come after a query, which are there where `ahead` says that such are seen."""
    return torch.arange(memory + length - 1, -length - 1 if ahead else -2, -1, device=device)


def sinusoids(places: Tensor, width: int) -> Tensor:
    """(R,) numbers -> (R, width) float32: the sines of all frequencies, then the cosines."""
    frequencies = 10000.0 ** (-torch.arange(0, width, 2, device=places.device) / width)
    angles = places[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width]


class Biases(nn.Module):
    """`u` and `v`, and XLNet's for segments: what a query's products begin with, all heads one after the other."""

    def __init__(self, inner: int, segments: bool = False) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.empty(inner))
        self.position = nn.Parameter(torch.empty(inner))
        self.segment = nn.Parameter(torch.empty(inner)) if segments else None


@dataclass(frozen=True)
class Source:
    """What is attended to: keys and values (H, B, K, D), and the encodings of the R distances (H, D, R)."""

    keys: Tensor
    values: Tensor
    positions: Tensor


class RelativeAttention(nn.Module):
    """Multi-head attention without biases in its projections. `read` what is attended to, then call it with the queries' states."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float, segments: bool = False) -> None:
        super().__init__()
        self.heads, self.head_width, self.dropout = heads, head_width, dropout
        inner = heads * head_width
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.position = nn.Linear(width, inner, bias=False)
        self.output = nn.Linear(inner, width, bias=False)
        # in the same segment, in another one
        self.segments = nn.Parameter(torch.empty(2, inner)) if segments else None

    def read(self, x: Tensor, layout: Layout, encodings: Tensor, memory: Tensor | None = None) -> Source:
        """(N, width) states, (R, width) encodings of `distances`, and (B, M, width) of the memory."""
        both = rectangle(self.key_value(x), layout)
        if memory is not None:
            both = torch.cat([self.key_value(memory).to(both.dtype), both], dim=1)
        keys, values = both.view(*both.shape[:2], 2, self.heads, self.head_width).permute(2, 3, 0, 1, 4)
        positions = self.position(encodings).view(-1, self.heads, self.head_width).permute(1, 2, 0)
        return Source(keys, values, positions)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        source: Source,
        biases: Biases,
        view: Sight,
        at: Tensor | None = None,
        elsewhere: Tensor | None = None,
    ) -> Tensor:
        """(N, width) states of queries, which lie as `layout` says -> the same.

        The queries are all places of the sequences, in order; or, with `at` (B, Q), those places. `elsewhere` (B, Q, K) bool: the
        key is of another segment than the query.
        """
        projected = rectangle(self.query(x), layout)
        by_content = self._heads(projected + biases.content)
        by_position = self._heads(projected + biases.position)
        scores = torch.matmul(by_content, source.keys.transpose(2, 3))  # (H, B, Q, K)
        every = torch.matmul(by_position.flatten(1, 2), source.positions).view(*scores.shape[:3], -1)
        scores = scores + _by_place(every, scores.shape[-1], at)
        if self.segments is not None and biases.segment is not None:
            if (
                elsewhere is None
            ):  # nothing to tell apart; yet every parameter has its part, as training over ranks asks for
                scores = scores + (self.segments.sum() + biases.segment.sum()) * 0.0
            else:
                # softmax does not see what all keys of a query have in common, so the difference is all that counts
                difference = (self.segments[1] - self.segments[0]).view(self.heads, self.head_width, 1)
                by_segment = torch.matmul(self._heads(projected + biases.segment).flatten(1, 2), difference)
                scores = scores + by_segment.view(*scores.shape[:3], 1) * elsewhere
        scores = (scores * self.head_width**-0.5).masked_fill(~view.seen, float("-inf"))
        weights = drop(torch.softmax(scores, dim=-1), self.dropout, self.training)
        gathered = torch.matmul(weights.to(source.values.dtype), source.values)
        if view.blind is not None:
            gathered = gathered.masked_fill(view.blind[None, ..., None], 0.0)
        out: Tensor = self.output(flattened(gathered.permute(1, 2, 0, 3).flatten(2), layout))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """(B, Q, H * D) -> (H, B, Q, D)."""
        return x.view(*x.shape[:2], self.heads, self.head_width).permute(2, 0, 1, 3)


def _by_place(every: Tensor, keys: int, at: Tensor | None) -> Tensor:
    """From the scores of all distances (H, B, Q, R), the first being `keys` - 1, to those of the keys: (H, B, Q, keys).

    Query i needs the columns from length - 1 - i on. In order, each query's row therefore begins one column earlier than that of
    the query before: rows one shorter, laid over the same numbers.
    """
    queries, columns = every.shape[2:]
    if at is None:
        line = every.flatten(2)[..., queries - 1 : queries - 1 + queries * (columns - 1)]
        return line.reshape(*every.shape[:2], queries, columns - 1)[..., :keys]
    # distances run from keys - 1 down to -length
    length = columns - keys
    places = (length - 1 - at)[..., None] + torch.arange(keys, device=at.device)
    return every.gather(3, places.expand(every.shape[0], *places.shape))


class RelativeLayer(nn.Module):
    """Attention, then feed-forward, each with dropout added to its input and normed after: (N, width) -> the same."""

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        inner: int,
        activation: Activation,
        dropout: float,
        attention_dropout: float,
        epsilon: float,
        segments: bool = False,
    ) -> None:
        super().__init__()
        self.attention = RelativeAttention(width, heads, head_width, attention_dropout, segments)
        self.attention_norm = nn.LayerNorm(width, eps=epsilon)
        self.feed_forward = FeedForward(width, inner, activation, inner_dropout=dropout)
        self.feed_forward_norm = nn.LayerNorm(width, eps=epsilon)
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        source: Source,
        biases: Biases,
        view: Sight,
        at: Tensor | None = None,
        elsewhere: Tensor | None = None,
    ) -> Tensor:
        """As `RelativeAttention`."""
        attended = self.attention(x, layout, source, biases, view, at, elsewhere)
        x = self.attention_norm(x + drop(attended, self.dropout, self.training))
        normed: Tensor = self.feed_forward_norm(x + drop(self.feed_forward(x), self.dropout, self.training))
        return normed


def remembered(states: list[Tensor], layout: Layout, old: Tensor | None, length: int) -> Memory | None:
    """What is carried to the next batch: the last `length` states that each layer read, the older ones from `old` (B, layers, M,
    width), without their gradients. None where nothing is to be carried, or where sequences end at different places: text goes
    on in sequences of one length only."""
    if length == 0 or not layout.even:
        return None
    with torch.no_grad():
        new = torch.stack([rectangle(state.detach(), layout) for state in states], dim=1)
        joined = new if old is None else torch.cat([old.to(new.dtype), new], dim=2)
        return {"layers": joined[:, :, -length:].contiguous()}
