"""How well a trained model predicts a whole split, in figures that can be compared: perplexity per token and per word, bits per byte.

A perplexity per token says as much of the tokenizer as of the model. What the same text costs per word of it (white-space separated)
or per byte (UTF-8) does not: those figures may be compared across tokenizers, where none of them has unknown words.

A *left to right* figure is exact: the probability that the model gives the text, every token scored once. Text longer than the window
is read in windows that overlap, so that each token sees at least length - stride tokens before it; or by a model that remembers what
it has read, one window after the other. The *pseudo*-perplexity of a model that sees both sides (Salazar et al. 2020,
https://arxiv.org/abs/1910.14659) is no probability of a text and compares with nothing but others of its kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloze.data.languages import numbered
from cloze.errors import Refusal, with_article
from cloze.inference.reading import batch_for, embedding_for, enclose, judging, segments_of
from cloze.inference.tasks import leading
from cloze.models.base import (
    Backbone,
    Batch,
    Bidirectional,
    Causal,
    Memory,
    TokenHead,
    TwoDirections,
    TwoStreams,
)
from cloze.models.padding import flat
from cloze.objectives.cross_entropy import token_cross_entropy
from cloze.objectives.windows import ends_of_text

if TYPE_CHECKING:
    from cloze.data.base import TokenizedCorpus
    from cloze.loading import Pretrained

Direction = Literal["left to right", "right to left", "pseudo"]
Windows = NDArray[np.int64]

AT_ONCE = 16  # windows
PSEUDO_TOKENS = 2000  # each costs a reading of its window


@dataclass(frozen=True)
class Evaluation:
    """What a text cost a model.

    `nats` for `scored` tokens, the ends of documents among them where the tokenizer has a token for them (`ends`). `words`, `bytes` and
    `characters` are those of the text that was scored, 0 where not all of its tokens were. `unknown` of its `tokens` are the token for
    unknown words: what they hide costs nothing.
    """

    direction: Direction
    nats: float
    scored: int
    ends: int
    tokens: int
    unknown: int
    words: int
    bytes: int
    characters: int
    window: int
    stride: int
    remembers: bool = False

    @property
    def perplexity(self) -> float:
        """Per token that was scored."""
        return _exp(self.nats / self.scored)

    @property
    def perplexity_per_word(self) -> float | None:
        return _exp(self.nats / self.words) if self.words else None

    @property
    def bits_per_byte(self) -> float | None:
        return self.nats / math.log(2) / self.bytes if self.bytes else None

    @property
    def bits_per_character(self) -> float | None:
        return self.nats / math.log(2) / self.characters if self.characters else None

    @property
    def protocol(self) -> str:
        """How it was measured, in a sentence."""
        if self.direction == "pseudo":
            return f"windows of {self.window} tokens, one of them masked at a time and predicted from all others"
        scored = "each token and each document's end" if self.ends else "each token that has one before it"
        read = f"{scored} scored once, {self.direction}, in windows of {self.window} tokens"
        if self.remembers:
            return f"{read}, what was read before remembered"
        if self.stride == self.window:
            return f"{read} side by side"
        return (
            f"{read} that begin {self.stride} apart: at least {self.window - self.stride} tokens are seen before each"
        )

    def figures(self) -> dict[str, Any]:
        """Plain data: what was measured and how."""
        return {
            "direction": self.direction,
            "perplexity": self.perplexity,
            "perplexity_per_word": self.perplexity_per_word,
            "bits_per_byte": self.bits_per_byte,
            "bits_per_character": self.bits_per_character,
            "nats": self.nats,
            "scored": self.scored,
            "ends": self.ends,
            "tokens": self.tokens,
            "unknown": self.unknown,
            "words": self.words,
            "bytes": self.bytes,
            "characters": self.characters,
            "window": self.window,
            "stride": self.stride,
            "remembers": self.remembers,
            "protocol": self.protocol,
        }


def _exp(nats: float) -> float:
    return math.exp(min(nats, 700.0))


def evaluate(
    loaded: Pretrained,
    corpus: TokenizedCorpus,
    stride: int | None = None,
    window: int | None = None,
    pseudo_tokens: int = PSEUDO_TOKENS,
) -> list[Evaluation]:
    """The figures of a whole split (of `pseudo_tokens` of it for a model that sees both sides); two for a model with two directions.

    `window`: tokens read at a time, the model's `length` where not given. `stride`: how far apart windows begin; not given, they lie
    side by side, or, for a model that was trained on text that goes on from batch to batch and gives a memory, each is read with what
    is remembered of those before. Whether a window may hold several documents goes by what the model was trained on. Raises Refusal
    where the model gives no probability of a text.
    """
    model, head = loaded.model, loaded.head
    name = type(model).__name__
    if head is None or not isinstance(model, Causal | Bidirectional | TwoDirections):
        raise Refusal(
            f"{with_article(name)} that {model.role} gives no probability of a text here"
            + ("" if head else ": it has no head")
        )
    corpus = _in_its_languages(loaded, corpus)
    window = loaded.length if window is None else window
    if window < 2 or (model.positions is not None and window > model.positions):
        most = "" if model.positions is None else f" and at most {model.positions}, the model's positions"
        raise Refusal(f"length={window} must be at least 2{most}.")
    if stride is not None and not 1 <= stride <= window:
        raise Refusal(f"stride={stride} must lie in 1 … {window}, the window's length.")
    learnt = leading(loaded.objective) or {}
    documents = learnt.get("documents", "packed")
    streams = isinstance(model, TwoStreams) and loaded.queries
    if not loaded.one_sided and not streams and not isinstance(model, TwoDirections):
        if stride is not None:
            raise Refusal(
                f"stride={stride} has no effect on {with_article(name)}: each of its windows is read once for each token."
            )
        return [_pseudo(loaded, head, corpus, window, pseudo_tokens)]
    if isinstance(model, TwoDirections) and stride is not None:
        raise Refusal(
            f"stride={stride} has no effect on {with_article(name)}: both directions go through the whole text."
        )
    text = _Text.of(corpus, loaded.tokenizer.vocabulary.special.get("eos"), documents)
    remembers = documents == "continued" and stride is None and _gives_memory(model, text)
    # with two streams the window's first token is given, beside those that are predicted
    width = window - 1 if streams and not remembers else window
    cut = windows(text.stretches, width, min(stride or width, width))
    read = _in_memory if remembers else _in_windows
    nats, scored = read(model, head, text, cut)
    # without a token that stands before the text its first one is not predicted: the figures are then not of all its words and bytes
    sizes = (corpus.words, corpus.bytes, corpus.characters) if text.ends else (0, 0, 0)
    facts = (len(corpus.tokens), _unknown(loaded, corpus), *sizes, window)
    found = [Evaluation("left to right", nats, scored, text.ends, *facts, stride or window, remembers)]
    if isinstance(model, TwoDirections):  # each token from the one behind it; nothing is remembered in this direction
        nats, scored = _in_windows(model, head, text, cut, backwards=True)
        found.append(Evaluation("right to left", nats, scored, text.ends, *facts, window))
    return found


def _in_its_languages(loaded: Pretrained, corpus: TokenizedCorpus) -> TokenizedCorpus:
    """The split with the numbers that the model's table has for its languages. Raises Refusal where it has none for one of them."""
    own = numbered(corpus, loaded.languages)
    if own.languages is None and loaded.languages:  # text that does not say is in the first, as for `predict`
        own = replace(own, languages=np.zeros(len(own), np.int32), language_names=loaded.languages)
    rows = loaded.model.languages
    if rows is None or rows == 1 or own.languages is None:
        return own
    known = loaded.languages or own.language_names[:rows]
    unknown = [name for name in own.language_names if name not in known]
    if unknown:
        has = ", ".join(loaded.languages) or f"{rows}, whose names it does not say"
        raise Refusal(f"the text has a language that this model does not know ({', '.join(unknown)}); its own: {has}.")
    return own


@dataclass(frozen=True)
class _Text:
    """A split as one row of tokens.

    `stretches` (k, 2): what windows may not cross. Of the stretch from a to b the tokens a + 1 … b are predicted, each from its
    stretch's tokens before it: with an end-of-text token before every document and behind the last, every token of the text.
    """

    tokens: Tensor
    stretches: NDArray[np.int64]
    ends: int
    bare: bool  # as in training: without segments
    languages: Tensor | None  # of each token

    @classmethod
    def of(cls, corpus: TokenizedCorpus, end_of_text: int | None, documents: str) -> _Text:
        apart, bare = documents == "apart", documents == "continued"
        plain = corpus.tokens.astype(np.int64)
        begins = corpus.sentences[corpus.documents]
        spoken = None if corpus.languages is None else np.repeat(corpus.languages, np.diff(begins)).astype(np.int64)
        if end_of_text is None:
            edges = np.stack([begins[:-1], begins[1:] - 1], axis=1) if apart else np.array([[0, len(plain) - 1]])
            return cls(torch.from_numpy(plain), edges, 0, bare, None if spoken is None else torch.from_numpy(spoken))
        tokens = np.insert(plain, begins, end_of_text)
        if (
            spoken is not None
        ):  # an end of text is in the language of the document behind it, the last in that before it
            assert corpus.languages is not None
            spoken = np.insert(spoken, begins, np.append(corpus.languages, corpus.languages[-1]))
        ends = ends_of_text(corpus)
        edges = np.stack([ends[:-1], ends[1:]], axis=1) if apart else ends[None, [0, -1]]
        tongues = None if spoken is None else torch.from_numpy(spoken)
        return cls(torch.from_numpy(tokens), edges, len(corpus), bare, tongues)


def windows(stretches: NDArray[np.int64], length: int, stride: int) -> Windows:
    """(n, 3): start, end and the first place that is scored of windows of `length` that begin `stride` apart, the last of a stretch
    being shorter where it must: each place is scored once, and all but a stretch's first `length` with at least length - stride
    places before it."""
    found = []
    for a, b in stretches.tolist():
        start, first = a, a
        while first < b:
            end = min(start + length, b)
            found.append((start, end, first))
            start, first = start + stride, end
    return np.array(found, np.int64).reshape(-1, 3)


def _gives_memory(model: Backbone, text: _Text) -> bool:
    """Whether the model has anything to carry from one window to the next."""
    with judging(model):
        return bool(model(batch_for(model, flat([text.tokens[:1].tolist()], "causal"))).memory)


def _in_windows(
    model: Backbone, head: TokenHead, text: _Text, cut: Windows, backwards: bool = False
) -> tuple[float, int]:
    """Nats, and for how many tokens."""
    nats, scored = 0.0, 0
    with judging(model, head):
        for start in range(0, len(cut), AT_ONCE):
            cost, count, _ = _cost(model, head, text, cut[start : start + AT_ONCE], backwards=backwards)
            nats, scored = nats + cost, scored + count
    return nats, scored


def _in_memory(model: Backbone, head: TokenHead, text: _Text, cut: Windows) -> tuple[float, int]:
    """One window after the other, each with what is remembered of those before."""
    nats, scored, memory = 0.0, 0, None
    with judging(model, head):
        for start in range(len(cut)):
            cost, count, memory = _cost(model, head, text, cut[start : start + 1], memory)
            nats, scored = nats + cost, scored + count
    return nats, scored


def _cost(
    model: Backbone, head: TokenHead, text: _Text, cut: Windows, memory: Memory | None = None, backwards: bool = False
) -> tuple[float, int, Memory | None]:
    """What some windows cost, for how many tokens, and what the model remembers of them."""
    streams = isinstance(model, TwoStreams)
    # what predicts a token stands one before it; backwards one behind it; a query at the token's own place, and what is remembered
    # ends with the token before the window
    ahead, behind = (int(memory is not None), 1) if streams else (1, 1) if backwards else (0, 0)
    rows = [text.tokens[start + ahead : end + behind].tolist() for start, end, _ in cut.tolist()]
    inputs = flat(rows, "causal" if isinstance(model, Causal) else "bidirectional")
    offsets = torch.tensor(inputs.layout.offsets[:-1])
    at = torch.cat(
        [o + torch.arange(f - s, e - s) for o, (s, e, f) in zip(offsets.tolist(), cut.tolist(), strict=True)]
    )
    step = -1 if backwards else 1
    targets = torch.cat([text.tokens[f + backwards + step : e + backwards + step] for _, e, f in cut.tolist()])
    if streams:
        inputs.order, inputs.queries = inputs.positions.clone(), at + 1 - ahead
        inputs.segments = segments_of(model, inputs.tokens, None, text.bare)
    batch: Batch = batch_for(model, inputs)
    if model.languages is not None and text.languages is not None:
        own = torch.cat([text.languages[start + ahead : end + behind] for start, end, _ in cut.tolist()])
        batch.inputs.languages = own.to(batch.inputs.tokens.device)
    batch.memory, batch.continues = memory, memory is not None
    states = model(batch)
    if streams:
        assert states.queries is not None
        hidden = states.queries
    else:
        hidden = states.last[at.to(states.last.device)]
    if isinstance(model, TwoDirections):
        hidden = hidden.chunk(2, -1)[int(backwards)]
    total, _ = token_cross_entropy(head, hidden, embedding_for(model, head), targets.to(hidden.device))
    return float(total), len(targets), states.memory


def _pseudo(loaded: Pretrained, head: TokenHead, corpus: TokenizedCorpus, window: int, most: int) -> Evaluation:
    """Each token of some windows, spread evenly over the text, from all others of its window."""
    model, vocabulary = loaded.model, loaded.tokenizer.vocabulary
    if "mask" not in vocabulary.special:
        raise Refusal(
            f"this tokenizer has no mask token, without which {with_article(type(model).__name__)} predicts nothing"
        )
    around = enclose(model, [], vocabulary, queries=loaded.queries)
    before = len(enclose(model, [], vocabulary, before=True, queries=loaded.queries))
    room = max(1, window - len(around))
    begins = corpus.sentences[corpus.documents]
    cut = windows(np.stack([begins[:-1], begins[1:]], axis=1), room, room)
    few = np.unique(np.linspace(0, len(cut) - 1, max(1, min(len(cut), most // room))).astype(np.int64))
    nats, scored = 0.0, 0
    with judging(model, head):
        for start, end, _ in cut[few].tolist():
            document = int(np.searchsorted(begins, start, side="right")) - 1
            language = None if corpus.languages is None else int(corpus.languages[document])
            row = corpus.tokens[start:end].astype(np.int64).tolist()
            whole = enclose(model, row, vocabulary, queries=loaded.queries)
            for first in range(0, len(row), AT_ONCE):
                places = range(first, min(first + AT_ONCE, len(row)))
                inputs = flat([whole] * len(places))
                at = torch.tensor([number * len(whole) + before + i for number, i in enumerate(places)])
                inputs.tokens[at] = vocabulary["mask"]
                states = model(batch_for(model, inputs, language=language)).last
                targets = torch.tensor([row[i] for i in places], device=states.device)
                hidden = states[at.to(states.device)]
                total, _ = token_cross_entropy(head, hidden, embedding_for(model, head), targets)
                nats, scored = nats + float(total), scored + len(places)
    return Evaluation("pseudo", nats, scored, 0, len(corpus.tokens), _unknown(loaded, corpus), 0, 0, 0, window, window)


def _unknown(loaded: Pretrained, corpus: TokenizedCorpus) -> int:
    unknown = loaded.tokenizer.vocabulary.special.get("unk")
    return 0 if unknown is None else int((np.asarray(corpus.tokens) == unknown).sum())
