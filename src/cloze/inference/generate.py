"""Writing, token by token: texts that grow, with a cache where the family keeps one, and beam search over them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cloze.inference.decoding import Decoding
from cloze.inference.reading import batch_for, judging, logits_of, segments_of
from cloze.models.base import Backbone, Sequences, TokenHead, TwoDirections, TwoStreams
from cloze.models.cache import Cache
from cloze.models.layout import Layout
from cloze.models.padding import flat

AT_ONCE = 64  # texts, so that a file of thousands needs no more memory than one of these


class Growing:
    """Texts that a model goes on with, of which it may drop some and follow others more than once.

    `rows` are the ids so far, `inputs` those that an encoder reads, `positions` where each row begins (0 where not given).
    `prefix`: how many tokens of each text may be seen whole, for models that were trained so.
    `mask`: the token that is put where the next one is asked for, and the segment of such texts, for models that predict a token
    where it stands and not before it. `bare`: see `segments_of`; `language`: see `batch_for`.
    """

    def __init__(
        self,
        model: Backbone,
        head: TokenHead,
        rows: Sequence[Sequence[int]],
        inputs: Sequence[Sequence[int]] | None = None,
        positions: Sequence[int] | None = None,
        prefix: Sequence[int] | None = None,
        mask: tuple[int, int] | None = None,
        bare: bool = False,
        language: int | None = None,
        cached: bool = True,
    ) -> None:
        self.model, self.head = model, head
        self.rows = [list(row) for row in rows]
        self._inputs = None if inputs is None else [list(row) for row in inputs]
        self._positions = list(positions) if positions else [0] * len(self.rows)
        self._prefix = None if prefix is None else list(prefix)
        self._mask, self._bare, self._language = mask, bare, language
        self._cache = Cache() if cached and type(model).caches and mask is None else None

    def logits(self) -> Tensor:
        """(rows, V), on the CPU in 32 bits: what comes next."""
        if isinstance(self.model, TwoStreams):
            return self._asked_of_the_second_stream(self.model)
        if self._mask is not None:
            token, segment = self._mask
            written = flat([[*row, token] for row in self.rows], "causal")
            written.segments = torch.full_like(written.tokens, segment)
        elif self._cache is not None and self._cache.filled:
            written = flat([row[-1:] for row in self.rows], "causal")
            written.positions = torch.tensor([p + len(r) - 1 for p, r in zip(self._positions, self.rows, strict=True)])
        else:
            written = self._whole()
        lasts = torch.tensor(written.layout.offsets[1:]) - 1
        if self._inputs is None:
            batch = batch_for(self.model, written, language=self._language)
        else:
            batch = batch_for(self.model, flat(self._inputs), written)
        batch.cache = self._cache
        states = self.model(batch).last
        states = states[lasts.to(states.device)]
        if isinstance(self.model, TwoDirections):  # what follows is the forward half's business
            states = states[:, : states.shape[1] // 2]
        return logits_of(self.model, self.head, states).cpu()

    def _whole(self) -> Sequences:
        written = flat(self.rows, "causal")
        if self._prefix is not None:
            written.layout = Layout(written.layout.lengths, "prefix", self._prefix)
        if any(self._positions):
            written.positions += torch.repeat_interleave(
                torch.tensor(self._positions), torch.tensor(written.layout.lengths)
            )
        return written

    def _asked_of_the_second_stream(self, model: TwoStreams) -> Tensor:
        """One place more, whose token is not looked at, is predicted from all that stand before it."""
        asked = flat([[*row, row[-1]] for row in self.rows])
        lasts = torch.tensor(asked.layout.offsets[1:]) - 1
        asked.order = torch.full_like(asked.tokens, -1).index_fill(0, lasts, 0)
        asked.queries = lasts
        asked.segments = segments_of(model, asked.tokens, None, self._bare)
        states = model(batch_for(model, asked)).queries
        assert states is not None
        return logits_of(model, self.head, states).cpu()

    def follow(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Row i becomes what row rows[i] was, and tokens[i] behind it."""
        self.rows = [[*self.rows[row], token] for row, token in zip(rows, tokens, strict=True)]
        self._select(rows)

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these alone."""
        if len(rows) < len(self.rows):
            self.rows = [self.rows[row] for row in rows]
            self._select(rows)

    def _select(self, rows: Sequence[int]) -> None:
        self._positions = [self._positions[row] for row in rows]
        if self._prefix is not None:
            self._prefix = [self._prefix[row] for row in rows]
        if self._inputs is not None:
            self._inputs = [self._inputs[row] for row in rows]
        if self._cache is not None:
            self._cache.select(rows)


def generate(
    model: Backbone,
    head: TokenHead,
    starts: Sequence[Sequence[int]],
    end: int,
    decoding: Decoding | None = None,
    inputs: Sequence[Sequence[int]] | None = None,
    positions: Sequence[int] | None = None,
    prefix: Sequence[int] | None = None,
    limits: Sequence[int] | None = None,
    mask: tuple[int, int] | None = None,
    bare: bool = False,
    language: int | None = None,
    cached: bool = True,
) -> list[list[int]]:
    """What is written after each of `starts` (none empty), up to the token `end`, which is left out, or as far as `decoding` and
    `limits`, tokens for each text, let it go. Many texts are written a few at a time.

    With `inputs` the model reads those and writes behind `starts`. `positions`: where each start begins. `prefix`, `mask`, `bare`,
    `language`: see `Growing`. A model with a position table stops where the table ends. `cached=False` reads everything again for
    each token.
    """
    decoding = decoding or Decoding()
    most = model.positions
    places = positions or [0] * len(starts)
    most = None if most is None else most - (mask is not None)
    room = [
        min(decoding.tokens, decoding.tokens if most is None else max(0, most - place - len(start)))
        for place, start in zip(places, starts, strict=True)
    ]
    if limits is not None:
        room = [min(r, limit) for r, limit in zip(room, limits, strict=True)]
    write = _one_way if decoding.beams == 1 else _several_ways
    written: list[list[int]] = []
    with judging(model, head):
        for first in range(0, len(starts), AT_ONCE):
            few = slice(first, first + AT_ONCE)
            growing = Growing(
                model,
                head,
                starts[few],
                None if inputs is None else inputs[few],
                places[few],
                None if prefix is None else prefix[few],
                mask,
                bare,
                language,
                cached,
            )
            written += write(growing, room[few], end, decoding, first)
    return written


def _one_way(growing: Growing, room: Sequence[int], end: int, decoding: Decoding, first: int) -> list[list[int]]:
    written: list[list[int]] = [[] for _ in room]
    texts = list(range(len(room)))  # of the rows that still grow
    for step in range(decoding.tokens):
        on = [row for row, text in enumerate(texts) if step < room[text]]
        growing.keep(on)
        texts = [texts[row] for row in on]
        if not texts:
            break
        logits = growing.logits()
        decoding.forbid(logits, growing.rows)
        chosen = decoding.choose(logits, [first + text for text in texts], step)
        on = [row for row, token in enumerate(chosen) if token != end and logits[row, token] > -math.inf]
        growing.follow(on, [chosen[row] for row in on])
        texts = [texts[row] for row in on]
        for row, text in enumerate(texts):
            written[text].append(growing.rows[row][-1])
    return written


def _several_ways(growing: Growing, room: Sequence[int], end: int, decoding: Decoding, _: int) -> list[list[int]]:
    """Beam search. Of the 2 * beams best ways to go on, those that end are finished, if among the best `beams`; the best `beams` of the
    others go on. A text is done when no way that goes on could still be better than all `beams` finished ones.
    """
    beams, penalty = decoding.beams, decoding.length_penalty
    starts = [len(row) for row in growing.rows]
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in room]
    texts = [text for text, most in enumerate(room) if most]  # whose text each row is
    growing.keep(texts)
    scores = [0.0] * len(texts)
    for step in range(decoding.tokens):
        if not texts:
            break
        shares = growing.logits().log_softmax(-1)
        decoding.forbid(shares, growing.rows)  # what is left keeps its probability: texts are judged by the model's own
        ways: list[tuple[int, int, float]] = []  # row, token, score of those that go on
        for text in sorted(set(texts)):
            own = [row for row, other in enumerate(texts) if other == text]
            ahead: list[tuple[int, int, float]] = []
            reached = shares[own] + torch.tensor([scores[row] for row in own])[:, None]
            best, places = reached.flatten().topk(min(2 * beams, reached.numel()))
            for rank, (score, place) in enumerate(zip(best.tolist(), places.tolist(), strict=True)):
                row, token = own[place // shares.shape[1]], place % shares.shape[1]
                if score == -math.inf:
                    break
                if token == end or step + 1 == room[text]:
                    if rank < beams:
                        said = growing.rows[row][starts[text] :] + ([] if token == end else [token])
                        finished[text].append((score / (step + 1) ** penalty, said))
                elif len(ahead) < beams:
                    ahead.append((row, token, score))
            finished[text] = sorted(finished[text], key=lambda each: -each[0])[:beams]
            if ahead and len(finished[text]) == beams:
                # the length at which the best of them could score highest: scores fall with every token
                length = room[text] if penalty > 0 else step + 2
                if ahead[0][2] / length**penalty <= finished[text][-1][0]:
                    ahead = []
            ways += ahead
        growing.follow([row for row, _, _ in ways], [token for _, token, _ in ways])
        texts = [texts[row] for row, _, _ in ways]
        scores = [score for _, _, score in ways]
    return [each[0][1] if each else [] for each in finished]
