"""The generated world told in two or three languages: documents with their translations, sentence by sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, pairwise

import numpy as np

from cloze.data import keyed
from cloze.data.base import Parallel, Text
from cloze.data.world.corpus import Part, World, text_of
from cloze.data.world.documents import Document, OrderCue
from cloze.data.world.languages import LANGUAGES, Language, translate
from cloze.errors import Refusal, did_you_mean


class ParallelWorld(World):
    """The world's stories in several languages (`cloze.data.world.languages`). Document i tells the story of document i of `World`.

    languages: two or all of a, b and c (None: a and b). Of three, documents take the pairs ab, ac and bc in turn.
    translated: share of documents that come with their translation; each of the others is in one language.
    shares: the languages' shares of those others, one number for each language; None: all the same.
    anchors: share of names and number words that are the same in all languages.
    language_sampling: examples of rarer languages are repeated until language i has a share in proportion to its own to this power; None
        leaves the shares as they are (`cloze.data.languages`).
    The others are those of `World`. `entropy` counts a story once: to who knows the languages its translation says nothing new.
    """

    reads = Parallel

    def __init__(
        self,
        documents: int = 8000,
        validation_documents: int = 500,
        test_documents: int = 500,
        topics: int = 48,
        order_cue: OrderCue = "both",
        topic_overlap: float = 0.0,
        cast_overlap: float = 0.5,
        noise: float = 0.03,
        language_seed: int = 1,
        languages: list[str] | None = None,
        translated: float = 1.0,
        shares: list[float] | None = None,
        anchors: float = 0.5,
        language_sampling: float | None = 0.7,
    ) -> None:
        super().__init__(
            documents, validation_documents, test_documents, topics, order_cue, topic_overlap, cast_overlap, noise, language_seed
        )  # fmt: skip
        chosen = list(languages) if languages is not None else ["a", "b"]
        for name in chosen:
            if name not in LANGUAGES:
                raise Refusal(
                    f"data.languages={_list(chosen)}: there is no language {name}{did_you_mean(str(name), LANGUAGES)}"
                )
        if len(set(chosen)) != len(chosen) or len(chosen) < 2:
            raise Refusal(
                f"data.languages={_list(chosen)} must name two or three different ones of {_list(LANGUAGES)}."
            )
        for setting, share in (("translated", translated), ("anchors", anchors)):
            if not 0.0 <= share <= 1.0:
                raise Refusal(f"data.{setting}={share:g} must lie in [0, 1].")
        if shares is not None:
            if len(shares) != len(chosen) or min(shares) <= 0 or not sum(shares) < float("inf"):
                raise Refusal(
                    f"data.shares={_list(shares)} must be {len(chosen)} numbers above 0, one for each of data.languages={_list(chosen)}."
                )
            if translated == 1.0:
                raise Refusal(
                    f"data.shares={_list(shares)} has no effect with data.translated=1: no document is in one language alone."
                )
        if language_sampling is not None and not 0.0 <= language_sampling <= 1.0:
            raise Refusal(f"data.language_sampling={language_sampling:g} must lie in [0, 1], or be null.")
        self.languages: tuple[Language, ...] = tuple(name for name in LANGUAGES if name in chosen)
        by_name = dict(zip(chosen, shares or [1.0] * len(chosen), strict=True))
        self.shares = tuple(by_name[name] / sum(by_name.values()) for name in self.languages)
        self.translated = translated
        self.anchors = anchors
        self.language_sampling = language_sampling

    @property
    def announcement(self) -> str:
        told = " and ".join(self.languages)
        return f"{super().announcement}; told in languages {told}, sha256 {self.language_digest()[:16]}…"

    def language_digest(self) -> str:
        """sha256 of training documents 0..999 in each of the other languages: what `digest` is for language a."""
        settings = (
            self.topics,
            self.topic_overlap,
            self.cast_overlap,
            self.style.order_cue,
            self.style.noise,
            self.language_seed,
        )
        digests = [_digest(settings, name, self.anchors) for name in self.languages if name != "a"]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def fingerprint(self) -> str:
        settings = [
            super().fingerprint(),
            self.language_digest(),
            self.languages,
            self.translated,
            self.shares,
            self.anchors,
        ]
        return hashlib.sha256(json.dumps(["parallel world", *settings]).encode()).hexdigest()

    def read(self, part: Part) -> Iterator[Text]:
        split, start, stop = part
        pairs = list(combinations(self.languages, 2))
        numbers = np.arange(start, stop)
        keys = keyed.keys(keyed.key(self.language_seed, "languages", split), numbers)
        drawn = keyed.uniform(keys[:, None], np.arange(2)[None, :])
        edges = np.cumsum(self.shares)
        edges[-1] = 1.0
        for number, (alone, which) in zip(numbers.tolist(), drawn.tolist(), strict=True):
            document = self.annotated(number, split)
            where = f"world, {split} document {number}"
            if alone < self.translated:
                first, second = pairs[number % len(pairs)]
                told, other = self.told(document, first), self.told(document, second)
                yield Parallel(told, document.topic.name, where, first, translation=other, translation_language=second)
            else:
                language = self.languages[int(np.searchsorted(edges, which, side="right"))]
                yield Text(self.told(document, language), document.topic.name, where, language)

    def told(self, document: Document, language: Language) -> tuple[str, ...]:
        """The document's sentences in a language; a paragraph's last one ends in a newline, but for the document's last."""
        return sentences_in(document, language, self.anchors)


def sentences_in(document: Document, language: Language, anchors: float) -> tuple[str, ...]:
    """As `ParallelWorld.told`."""
    if language == "a":
        return text_of(document, "").sentences
    told = [translate(sentence.words, language, anchors).text for sentence in document.sentences]
    ends = [this.paragraph != after.paragraph for this, after in pairwise(document.sentences)]
    return tuple(text + "\n" * end for text, end in zip(told, [*ends, False], strict=True))


def _list(values: Sequence[object]) -> str:
    return "[" + ",".join(map(str, values)) + "]"


@lru_cache(maxsize=32)
def _digest(settings: tuple[int, float, float, OrderCue, float, int], language: Language, anchors: float) -> str:
    topics, topic_overlap, cast_overlap, order_cue, noise, seed = settings
    world = World(1000, 1, 1, topics, order_cue, topic_overlap, cast_overlap, noise, seed)
    digest = hashlib.sha256()
    for number in range(1000):
        text = Text(sentences_in(world.annotated(number), language, anchors)).text
        digest.update(text.encode() + b"\n\n")
    return digest.hexdigest()
