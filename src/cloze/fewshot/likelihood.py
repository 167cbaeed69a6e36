"""How probable a model holds a completion to be: what zero- and few-shot choices are compared by.

A *query* is a text cut in three: what stands before, the completion that is asked about, what stands after. What is asked of a
model goes by its role:

- one that sees what stands before a token: the sum of log p of each token, given all before it; what stands after is part of
  what is summed, as it depends on the completion (https://arxiv.org/abs/1806.02847 calls that the full score);
- one that sees both sides: the *pseudo*-log-likelihood, each token of the completion masked in turn and predicted from all others
  (https://arxiv.org/abs/1910.14659), or all of them masked together, which for a word of one token is the same;
- one that reads a text and writes another: what its decoder writes where the completion is missing, in the way it has learnt: behind a
  sentinel (T5), in the whole text (BART), as the fragment (MASS); or, `plain`, alone after reading what stands before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cloze.errors import Refusal, with_article
from cloze.inference.generate import Growing
from cloze.inference.predict import language_of
from cloze.inference.reading import Speller, batch_for, enclose, judging, logits_of
from cloze.inference.tasks import leading, objective_class, task_learnt
from cloze.models.base import (
    Backbone,
    Bidirectional,
    Discriminator,
    EncoderDecoder,
    TokenHead,
    TwoDirections,
    TwoStreams,
)
from cloze.models.layout import Layout
from cloze.models.padding import flat

if TYPE_CHECKING:
    from cloze.loading import Pretrained

Masking = Literal["in_turn", "together"]
Decoder = Literal["as_learnt", "plain"]

TOKENS_AT_ONCE = 4096  # read together
LOGITS_AT_ONCE = 1 << 24  # 64 MiB in 32 bits
CONTEXTS_AT_ONCE = 32


@dataclass(frozen=True)
class Query:
    """Token ids without special tokens; `completion` is never empty."""

    before: tuple[int, ...]
    completion: tuple[int, ...]
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Likelihood:
    """`log_likelihood` in nats of `tokens` tokens; `greedy`: whether each of them is the likeliest one at its place."""

    log_likelihood: float
    tokens: int
    greedy: bool


def queries(tokenizer: Speller, before: str, completions: Sequence[str], after: str = "") -> list[Query]:
    """The queries for several completions of one text, which have the same tokens before them.

    The whole text is cut into tokens as it stands, so no token is one that the model would not see there. Where a token reaches across the
    border (or one that a completion changes, as sentence-piece models may), it counts with the completion, for all completions alike:
    the differences of their log-likelihoods are those of the whole texts. White space at the end of `before` belongs to the completion.
    Raises ValueError for a completion that has no token.
    """
    shared = before.rstrip()
    context = tokenizer.encode(shared) if shared else []
    wholes = [tokenizer.encode(f"{before}{each}" if shared else each) for each in completions]
    common = min((_common(context, whole) for whole in wholes), default=0)
    made = []
    for text, whole in zip(completions, wholes, strict=True):
        end = len(whole)
        if after:
            longer = tokenizer.encode(f"{before}{text}{after}" if shared else f"{text}{after}")
            end, whole = _common(whole, longer), longer
        if end <= common:
            raise ValueError(f"{text!r} has no token of its own after {before[-40:]!r}")
        made.append(Query(tuple(whole[:common]), tuple(whole[common:end]), tuple(whole[end:])))
    return made


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    for n, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return n
    return min(len(one), len(other))


def fitted(loaded: Pretrained, query: Query, length: int) -> Query:
    """The query within `length` tokens, special tokens counted: the beginning of what stands before is cut off, or, where that is not
    enough, the end of what stands after. Raises Refusal where the completion alone is too long."""
    room = length - _frame(loaded) - len(query.completion)
    if room < 0:
        raise Refusal(
            f"a completion has {len(query.completion)} tokens, and length={length} has room for {length - _frame(loaded)}."
        )
    after = query.after[:room]
    keep = room - len(after)
    return replace(query, before=query.before[max(0, len(query.before) - keep) :], after=after)


def _frame(loaded: Pretrained) -> int:
    """Tokens that stand around a text, and beside the completion."""
    beside = 2 if isinstance(loaded.model, EncoderDecoder) else 0
    return len(enclose(loaded.model, [], loaded.tokenizer.vocabulary, queries=loaded.queries)) + beside + 1


def log_likelihoods(
    loaded: Pretrained, asked: Sequence[Query], masking: Masking = "in_turn", decoder: Decoder = "as_learnt"
) -> list[Likelihood]:
    """The log-likelihood of each query's completion. Raises Refusal where the model gives none."""
    model, head = loaded.model, loaded.head
    if head is None and loaded.generator_head is not None and isinstance(model, Discriminator):
        assert model.generator is not None
        model, head = model.generator, loaded.generator_head
    name = with_article(type(model).__name__)
    if head is None:
        raise Refusal(f"this checkpoint of {name} has no token head, so it gives no text a probability.")
    if not asked:
        return []
    scorer = _Scorer(loaded, model, head)
    with judging(model, head):
        if isinstance(model, EncoderDecoder):
            return scorer.written(model, asked, decoder)
        if decoder != "as_learnt":
            raise Refusal(f"objective.decoder={decoder} has no effect on {name}, which has no decoder of its own.")
        if loaded.one_sided or isinstance(model, TwoDirections):
            return scorer.one_sided(asked)
        if isinstance(model, TwoStreams) and loaded.queries:
            return scorer.followed([(scorer.opened(each), _rest(each), None, 0) for each in asked])
        if isinstance(model, Bidirectional):
            return scorer.masked(asked, masking)
    raise Refusal(f"{name} {model.role}: it gives no completion a probability here.")


def measure(loaded: Pretrained) -> str:
    """What `log_likelihoods` gives of this model, in words."""
    if isinstance(loaded.model, EncoderDecoder):
        return "log-likelihood of what the decoder writes"
    left_to_right = loaded.one_sided or isinstance(loaded.model, TwoDirections)
    if left_to_right or (isinstance(loaded.model, TwoStreams) and loaded.queries):
        return "log-likelihood"
    return "pseudo-log-likelihood"


def _rest(query: Query) -> tuple[int, ...]:
    return query.completion + query.after


Followed = tuple[
    tuple[int, ...], tuple[int, ...], "tuple[int, ...] | None", int
]  # context, tokens, encoder's, position


class _Scorer:
    def __init__(self, loaded: Pretrained, model: Backbone, head: TokenHead) -> None:
        self.model, self.head, self.loaded = model, head, loaded
        self.vocabulary = loaded.tokenizer.vocabulary
        self.bare = (leading(loaded.objective) or {}).get("documents") == "continued"
        self.whole = bool(getattr(objective_class(loaded.objective), "prefixes", False))
        self.language = None if model.languages is None else language_of(None, loaded.languages, model.languages)

    # From left to right

    def opened(self, query: Query) -> tuple[int, ...]:
        """What stands before a completion, with the token that texts begin with."""
        special = self.vocabulary.special
        opening = [special["eos"]] if "eos" in special else enclose(self.model, [], self.vocabulary, before=True)
        row = (*opening, *query.before)
        if not row:
            raise Refusal(
                "nothing stands before the completion, and this tokenizer has no token that texts begin with: the prompt must have a word"
            )
        return row

    def one_sided(self, asked: Sequence[Query]) -> list[Likelihood]:
        contexts = [self.opened(query) for query in asked]
        tokens = [_rest(query) for query in asked]
        together = {context: len(context) for context in contexts}
        alone = {(c, t[:-1]): len(c) + len(t) - 1 for c, t in zip(contexts, tokens, strict=True)}
        steps = sum(len(t) - 1 for t in tokens)
        # a token by itself costs more than one among others
        if type(self.model).caches and 1.5 * (sum(together.values()) + 3 * steps) < sum(alone.values()):
            return self.followed([(c, t, None, 0) for c, t in zip(contexts, tokens, strict=True)])
        return self.read(contexts, tokens)

    def read(self, contexts: Sequence[tuple[int, ...]], tokens: Sequence[tuple[int, ...]]) -> list[Likelihood]:
        """Each text at one go; texts that differ in their last token only are read once."""
        keys = [(c + t[:-1], len(c)) for c, t in zip(contexts, tokens, strict=True)]
        asking: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for number, key in enumerate(keys):
            asking.setdefault(key, []).append(number)
        found: dict[int, Likelihood] = {}
        for few in _batches(sorted(asking, key=lambda key: len(key[0]))):
            inputs = flat([row for row, _ in few], "causal")
            if self.whole:
                inputs.layout = Layout(inputs.layout.lengths, "prefix", [context for _, context in few])
            states = self.model(batch_for(self.model, inputs, language=self.language)).last
            if isinstance(self.model, TwoDirections):  # what follows is the forward half's business
                states = states[:, : states.shape[1] // 2]
            at: list[int] = []
            targets: list[int] = []
            owners: list[int] = []
            for offset, key in zip(inputs.layout.offsets[:-1], few, strict=True):
                row, context = key
                for number in asking[key]:
                    at += range(offset + context - 1, offset + len(row))
                    targets += tokens[number]
                    owners += [number] * len(tokens[number])
            found |= self._sums(states[torch.tensor(at, device=states.device)], targets, owners)
        return [found[number] for number in range(len(tokens))]

    def followed(self, asked: Sequence[Followed]) -> list[Likelihood]:
        """Each context once, then the tokens behind it one by one, with what is kept of the context where the family keeps it."""
        contexts: dict[Any, list[int]] = {}
        for number, (context, _, encoder, position) in enumerate(asked):
            contexts.setdefault((context, encoder, position), []).append(number)
        found: dict[int, Likelihood] = {}
        every = sorted(contexts, key=lambda key: len(key[0]))
        for start in range(0, len(every), CONTEXTS_AT_ONCE):
            few = every[start : start + CONTEXTS_AT_ONCE]
            growing = Growing(
                self.model, self.head,
                [context for context, _, _ in few],
                [encoder for _, encoder, _ in few] if few[0][1] is not None else None,
                [position for _, _, position in few],
                [len(context) for context, _, _ in few] if self.whole else None,
                bare=self.bare, language=self.language,
            )  # fmt: skip
            ways = [(row, number) for row, key in enumerate(few) for number in contexts[key]]
            sums = {number: Likelihood(0.0, len(asked[number][1]), True) for _, number in ways}
            step = 0
            while ways:
                logits = growing.logits()
                shares, best = logits.log_softmax(-1), logits.amax(-1)
                ahead = []
                for row, number in ways:
                    token = asked[number][1][step]
                    before = sums[number]
                    greedy = before.greedy and bool(logits[row, token] >= best[row])
                    total = before.log_likelihood + float(shares[row, token])
                    sums[number] = Likelihood(total, before.tokens, greedy)
                    if step + 1 < before.tokens:
                        ahead.append((row, number, token))
                if ahead:
                    growing.follow([row for row, _, _ in ahead], [token for _, _, token in ahead])
                ways = [(row, number) for row, (_, number, _) in enumerate(ahead)]
                step += 1
            found |= sums
        return [found[number] for number in range(len(asked))]

    # Seen from both sides

    def masked(self, asked: Sequence[Query], masking: Masking) -> list[Likelihood]:
        if "mask" not in self.vocabulary.special:
            name = with_article(type(self.model).__name__)
            raise Refusal(f"this tokenizer has no mask token, without which {name} predicts nothing")
        mask, queries_ = self.vocabulary["mask"], self.loaded.queries
        opening = [] if self.bare else enclose(self.model, [], self.vocabulary, before=True, queries=queries_)
        asking: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}  # masked text: whose, place, token
        for number, query in enumerate(asked):
            text = [*query.before, *query.completion, *query.after]
            whole = text if self.bare else enclose(self.model, text, self.vocabulary, queries=queries_)
            first = len(opening) + len(query.before)
            places = range(first, first + len(query.completion))
            for hidden in [[place] for place in places] if masking == "in_turn" else [list(places)]:
                row = [mask if place in hidden else token for place, token in enumerate(whole)]
                asking.setdefault(tuple(row), []).extend((number, place, whole[place]) for place in hidden)
        found: dict[int, Likelihood] = {}
        for few in _batches([(row, 0) for row in sorted(asking, key=len)]):
            inputs = flat([row for row, _ in few])
            states = self.model(batch_for(self.model, inputs, language=self.language)).last
            offsets = inputs.layout.offsets[:-1]
            wanted = [
                (offset + place, token, number)
                for offset, (row, _) in zip(offsets, few, strict=True)
                for number, place, token in asking[row]
            ]
            at = torch.tensor([place for place, _, _ in wanted], device=states.device)
            new = self._sums(states[at], [token for _, token, _ in wanted], [number for _, _, number in wanted])
            for number, part in new.items():
                found[number] = _added(found[number], part) if number in found else part
        return [found[number] for number in range(len(asked))]

    # Written by a decoder

    def written(self, model: EncoderDecoder, asked: Sequence[Query], decoder: Decoder) -> list[Likelihood]:
        vocabulary = self.vocabulary
        learnt = task_learnt(self.loaded.objective)
        begins = vocabulary[getattr(objective_class(self.loaded.objective), "begins", None) or model.begins]
        rows: list[Followed] = []
        for query in asked:
            before, after = query.before, query.after
            if decoder == "plain":
                if after:
                    raise Refusal("objective.decoder=plain: the template must end in its {answer}.")
                read = enclose(model, before, vocabulary)
                rows.append(((begins,), query.completion, tuple(read), 0))
            elif vocabulary.sentinels:
                blank = vocabulary.sentinels[0]
                read = [*before, blank, *after, vocabulary["eos"]]
                rows.append(((vocabulary["pad"], blank), query.completion, tuple(read), 0))
            elif "mask" not in vocabulary.special:
                raise Refusal(
                    "this tokenizer has neither sentinels nor a mask: objective.decoder=plain asks without one."
                )
            elif learnt == "fill":  # as many masks as tokens, of which the decoder is told the places
                read = [*before, *[vocabulary["mask"]] * len(query.completion), *after, vocabulary["eos"]]
                rows.append(((vocabulary["mask"],), query.completion, tuple(read), len(before)))
            else:  # the text is written again: up to the completion it is given
                read = enclose(model, [*before, vocabulary["mask"], *after], vocabulary)
                opening = enclose(model, [], vocabulary, before=True)
                rows.append(((begins, *opening, *before), query.completion, tuple(read), 0))
        return self.followed(rows)

    def _sums(self, states: Tensor, targets: Sequence[int], owners: Sequence[int]) -> dict[int, Likelihood]:
        """The log-likelihoods of (M, width) states' targets, summed by owner."""
        size = max(1, LOGITS_AT_ONCE // self.vocabulary.size)
        found: dict[int, Likelihood] = {}
        for start in range(0, len(targets), size):
            logits = logits_of(self.model, self.head, states[start : start + size])
            wanted = torch.tensor(targets[start : start + size], device=logits.device)[:, None]
            chosen = logits.gather(1, wanted).squeeze(1)
            nats = (chosen - logits.logsumexp(-1)).tolist()
            greedy = (chosen >= logits.amax(-1)).tolist()
            for number, each, best in zip(owners[start : start + size], nats, greedy, strict=True):
                part = Likelihood(each, 1, best)
                found[number] = _added(found[number], part) if number in found else part
        return found


def _added(one: Likelihood, other: Likelihood) -> Likelihood:
    return Likelihood(one.log_likelihood + other.log_likelihood, one.tokens + other.tokens, one.greedy and other.greedy)


def _batches(rows: Sequence[tuple[tuple[int, ...], int]]) -> Iterator[list[tuple[tuple[int, ...], int]]]:
    """Rows in order, as many at a time as `TOKENS_AT_ONCE` holds, at least one."""
    few: list[tuple[tuple[int, ...], int]] = []
    tokens = 0
    for row in rows:
        if few and tokens + len(row[0]) > TOKENS_AT_ONCE:
            yield few
            few, tokens = [], 0
        few.append(row)
        tokens += len(row[0])
    if few:
        yield few
