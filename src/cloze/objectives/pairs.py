"""Pairs of segments: where the two halves of this time's example come from, and the label of the pair.

- nsp, next sentence prediction (Devlin et al. 2018, https://arxiv.org/abs/1810.04805): in half of the pairs the second segment is the
  text that follows the first (label 0), in the others it comes from another document (label 1).
- sop, sentence order prediction (Lan et al. 2019, https://arxiv.org/abs/1909.11942): both segments follow each other in one document,
  in order (label 0) or swapped (label 1).

Everything is drawn for a whole batch at once, from the keys of its examples alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import TokenizedCorpus
from cloze.errors import Refusal
from cloze.objectives.base import Tally
from cloze.objectives.corruption import Places
from cloze.objectives.formats import chunk_sentences

Pair = Literal["none", "nsp", "sop"]
Negatives = Literal["random", "position_matched", "same_topic"]
PairRules = Literal["paper", "google"]


def draw(keys: keyed.Keys, name: str, first: int, count: int) -> tuple[NDArray[np.float64], ...]:
    """`count` numbers in [0, 1) for each key, an array (B,) each: those from number `first` on of the stream `name`."""
    return tuple(keyed.uniform(keyed.stream(keys, name), np.arange(first, first + count)[:, None]))


def below(chance: NDArray[np.float64], high: NDArray[np.int64] | int) -> Places:
    """An integer in [0, high) from a number in [0, 1)."""
    return (chance * high).astype(np.int64)


TRIES = 8  # how often another document is drawn where the one drawn is too short for the partner that is wanted


@dataclass(frozen=True)
class Pairs:
    """B pairs as ranges of a corpus's tokens, in the order in which the model reads them.

    starts, sizes (B, 2): of both segments; the second has size 0 where there is none
    labels (B,): 0 next / in order, 1 not
    documents (B, 2): where each segment comes from
    short (B,) bool: a shorter target was drawn
    chance (B,): with which probability the label had to be 1 (1.0 where nothing else was possible)
    """

    starts: Places
    sizes: Places
    labels: Places
    documents: Places
    short: NDArray[np.bool_]
    chance: NDArray[np.float64]


class PairSampler:
    """Draws pairs from chunks: runs of sentences of one document, rows (first sentence, behind the last, document).

    `google` does what the published code of BERT and ALBERT does where that is not what the papers say: a chunk of one sentence
    becomes a negative with a random partner (for sop too, whose negatives are then no longer all swaps), the partner's document is
    drawn with equal chances whatever its size, and the partner is as long as room is left (where segments are sentences, one
    sentence all the same). With `paper` a chunk has two sentences or more, the partner begins at a sentence drawn from those of all
    other documents, and it is as long as the text that it stands in for would be, so that a pair's length says nothing about its
    label.
    """

    def __init__(
        self, pair: Pair, negatives: Negatives, rules: PairRules, room: int, short_share: float, sentences: bool
    ):
        self.pair, self.negatives, self.rules = pair, negatives, rules
        self.room, self.short_share, self.sentences = room, short_share, sentences
        self._by_topic: tuple[TokenizedCorpus, Places, NDArray[np.int32], Places] | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_by_topic": None}  # made anew in a worker, which has the corpus by another way

    @property
    def shortest(self) -> int:
        """The least number of sentences of a chunk."""
        return 2 if self.pair != "none" and self.rules == "paper" else 1

    def chunks(self, corpus: TokenizedCorpus) -> tuple[Places, tuple[str, ...]]:
        """The table of chunks (n, 3), and notes for the log. Raises Refusal where the corpus has no such pairs."""
        documents = len(corpus)
        partners = self.pair == "nsp" or (self.pair == "sop" and self.rules == "google")
        if partners and documents < 2:
            raise Refusal(
                f"objective.pair={self.pair} takes partners from other documents: the corpus has {documents}, at least 2 are needed. "
                "Give more documents, or objective=mlm or objective=mlm_sop."
            )
        table, skipped = chunk_sentences(corpus, self.room, self.shortest, self.sentences)
        if not len(table):
            raise Refusal(
                f"objective.pair={self.pair} needs documents of at least {self.shortest} sentences: 0 of {documents} have them. "
                "Is each line a document of its own (data.documents_are)? Else objective=mlm does without."
            )
        notes = []
        if len(skipped):
            notes.append(f"{len(skipped):,} of {documents:,} documents have one sentence: no pair starts in them.")
        if self.negatives == "same_topic" and self.pair == "nsp":
            served = self._served(corpus)[table[:, 2]]
            if not served.any():
                known = int((np.asarray(corpus.topics) >= 0).sum())
                raise Refusal(
                    f"objective.negatives=same_topic needs topics that two documents share: {known:,} of {documents:,} documents "
                    "have a topic, 0 share one. With this corpus: objective.negatives=random|position_matched."
                )
            if not served.all():
                count = documents - int(self._served(corpus).sum())
                notes.append(
                    f"{count:,} of {documents:,} documents share their topic with no other: no pair starts in them."
                )
                table = table[served]
        return table, tuple(notes)

    @staticmethod
    def _served(corpus: TokenizedCorpus) -> NDArray[np.bool_]:
        """(D,) whether another document has the same topic."""
        topics = np.asarray(corpus.topics)
        known = np.bincount(topics[topics >= 0], minlength=1)
        served: NDArray[np.bool_] = (topics >= 0) & (known[np.maximum(topics, 0)] > 1)
        return served

    def draw(self, corpus: TokenizedCorpus, rows: NDArray[np.int64], keys: keyed.Keys) -> Pairs:
        """This time's pair of each chunk: rows (B, 3) of the table, keys (B,)."""
        sentences = corpus.sentences
        first, last, document = rows[:, 0], rows[:, 1], rows[:, 2]
        shortness, length, split, label = draw(keys, "pair", 0, 4)
        short = shortness < self.short_share
        target = np.where(short, 2 + below(length, self.room - 1), self.room)
        if self.short_share:
            enough = np.searchsorted(sentences, sentences[first] + target, side="left")
            last = np.where(short, np.clip(enough, np.minimum(first + self.shortest, last), last), last)
        count = last - first
        middle = first + np.where(count > 1, 1 + below(split, count - 1), 1)
        begin, end = middle, last
        documents = np.stack([document, document], axis=1)
        labels = np.zeros(len(rows), np.int64)
        probability = np.zeros(len(rows))
        if self.pair != "none":
            alone = count == 1
            probability = np.where(alone, 1.0, 0.5)
            labels = ((label < 0.5) | alone).astype(np.int64)
            elsewhere = (labels == 1) & (alone | (self.pair == "nsp"))
            if elsewhere.any():
                which = (array[elsewhere] for array in (document, first, middle, last, target, keys))
                other, start, stop = self._partners(corpus, *which)
                begin, end = begin.copy(), end.copy()
                begin[elsewhere], end[elsewhere], documents[elsewhere, 1] = start, stop, other
        starts = np.stack([sentences[first], sentences[begin]], axis=1)
        sizes = np.stack([sentences[middle], sentences[end]], axis=1) - starts
        if self.pair == "sop":
            swapped = (labels == 1) & (documents[:, 0] == documents[:, 1])
            for array in (starts, sizes, documents):
                array[swapped] = array[swapped, ::-1]
        self._truncate(starts, sizes, keys)
        return Pairs(starts, sizes, labels, documents, short, probability)

    def tally(self, pairs: Pairs) -> dict[str, Tally]:
        """What is declared of pairs, and what these show."""
        count = len(pairs.labels)
        same = pairs.documents[:, 0] == pairs.documents[:, 1]
        tallies = {}
        if not self.sentences:
            tallies["inputs with a short target"] = Tally.share(self.short_share, int(pairs.short.sum()), count)
        if self.pair != "none":
            name = "not next" if self.pair == "nsp" else "swapped"
            forced = "" if self.rules == "paper" else " or of one sentence"
            tallies[f"pairs {name}{forced}"] = Tally(
                float(pairs.chance.sum()),
                int(pairs.labels.sum()),
                count,
                float((pairs.chance * (1 - pairs.chance)).sum()),
            )
        negatives = pairs.labels == 1
        if self.pair == "nsp":
            tallies["not next: of two documents"] = Tally.share(
                1.0, int((negatives & ~same).sum()), int(negatives.sum())
            )
            tallies["next: of two documents"] = Tally.share(
                0.0, int((~negatives & ~same).sum()), int((~negatives).sum())
            )
        else:
            expected = 0 if self.pair == "none" else int((pairs.chance == 1).sum())
            tallies["pairs of one document"] = Tally(count - expected, int(same.sum()), count)
        return tallies

    def _partners(
        self,
        corpus: TokenizedCorpus,
        document: Places,
        first: Places,
        middle: Places,
        last: Places,
        target: Places,
        keys: keyed.Keys,
    ) -> tuple[Places, Places, Places]:
        """Sentences of another document in the place of `middle` … `last`: (document, first sentence, behind the last)."""
        sentences, documents = corpus.sentences, corpus.documents
        number = np.maximum(last - middle, 1)
        wanted = target - (sentences[middle] - sentences[first])
        # a run that reached its target is to reach it with the partner too; one that its document cut short has a partner of as many
        # sentences
        by_tokens = sentences[last] - sentences[first] >= target
        if self.rules == "google":
            by_tokens = np.ones(len(by_tokens), bool)
        if self.sentences:  # a pair of sentences is one by any rule
            by_tokens = np.zeros(len(by_tokens), bool)
        other, start = self._another(corpus, document, middle, keys, 0)
        if self.rules == "paper" and self.negatives != "position_matched":
            for attempt in range(1, TRIES):
                begin, latest = documents[other], self._latest(corpus, other, number, wanted, by_tokens)
                unfit = latest < begin
                if corpus.languages is not None:  # one in another language would be told by its letters
                    unfit |= corpus.languages[other] != corpus.languages[document]
                short = np.flatnonzero(unfit)
                if not len(short):
                    break
                other[short], start[short] = self._another(corpus, document[short], middle[short], keys[short], attempt)
            latest = self._latest(corpus, other, number, wanted, by_tokens)
            start = np.maximum(np.minimum(start, latest), documents[other])
        stop = np.where(by_tokens, np.searchsorted(sentences, sentences[start] + wanted, side="left"), start + number)
        return other, start, np.clip(stop, start + 1, documents[other + 1])

    @staticmethod
    def _latest(
        corpus: TokenizedCorpus, document: Places, number: Places, wanted: Places, by_tokens: NDArray[np.bool_]
    ) -> Places:
        """The last sentence from which `number` sentences, or `wanted` tokens, reach to the document's end or less far."""
        end = corpus.documents[document + 1]
        last = np.searchsorted(corpus.sentences, corpus.sentences[end] - np.maximum(wanted, 1), side="right") - 1
        latest: Places = np.where(by_tokens, last, end - number)
        return latest

    def _another(
        self, corpus: TokenizedCorpus, document: Places, middle: Places, keys: keyed.Keys, attempt: int
    ) -> tuple[Places, Places]:
        """Another document for each of `document`, and a sentence of it: (document, sentence). Each attempt draws anew."""
        which, where = draw(keys, "partner", 2 * attempt, 2)
        documents = corpus.documents
        own, own_end = documents[document], documents[document + 1]
        if self.negatives == "random" and self.rules == "paper":
            start = below(where, int(documents[-1]) - (own_end - own))
            start += np.where(start >= own, own_end - own, 0)
            return np.searchsorted(documents, start, side="right") - 1, start
        if self.negatives == "same_topic":
            other = self._same_topic(corpus, document, which)
        else:
            other = below(which, len(corpus) - 1)
            other += other >= document
        size = documents[other + 1] - documents[other]
        if self.negatives == "position_matched":
            # as far into its document as the text that it stands in for is into its own
            place = (np.minimum(middle, own_end - 1) - own + 0.5) / (own_end - own)
            return other, documents[other] + (place * size).astype(np.int64)
        return other, documents[other] + below(where, size)

    def _same_topic(self, corpus: TokenizedCorpus, document: Places, chance: NDArray[np.float64]) -> Places:
        """For each document another one of its topic."""
        if self._by_topic is None or self._by_topic[0] is not corpus:
            topics = np.asarray(corpus.topics)
            order = np.argsort(topics, kind="stable")
            own = np.empty(len(topics), np.int64)
            own[order] = np.arange(len(topics))
            self._by_topic = corpus, order, topics[order], own
        _, order, ordered, own = self._by_topic
        topic = corpus.topics[document]
        begin = np.searchsorted(ordered, topic, side="left")
        end = np.searchsorted(ordered, topic, side="right")
        number = below(chance, end - begin - 1)
        # the documents of a topic are in rising order: step over the document itself
        number += number >= own[document] - begin
        other: Places = order[begin + number]
        return other

    def _truncate(self, starts: Places, sizes: Places, keys: keyed.Keys) -> None:
        """Cuts pairs down to `room` tokens as BERT does, a token at a time from the longer segment (the second where they are equal),
        from its front or its back with equal chances. In place, and all tokens at once: how many are cut is a matter of the sizes,
        and how many of them in front is binomial.
        """
        too_long = np.flatnonzero(sizes.sum(axis=1) > self.room)
        if not len(too_long):
            return
        before = sizes[too_long]
        second = np.minimum(before[:, 1], np.maximum(self.room // 2, self.room - before[:, 0]))
        after = np.stack([self.room - second, second], axis=1)
        cut = before - after
        front = binomial_half(keyed.stream(keys[too_long], "truncate"), cut)
        starts[too_long] += front
        sizes[too_long] = after


def binomial_half(keys: keyed.Keys, trials: Places) -> Places:
    """How many of `trials` (B, 2) fair coins show heads, a draw for each: the set bits among that many random ones."""
    heads = np.zeros(trials.shape, np.int64)
    words = -(-int(trials.max(initial=0)) // 64)
    for word in range(words):
        wanted = np.clip(trials - 64 * word, 0, 64)
        rows, columns = np.nonzero(wanted)
        drawn = keyed.bits(keys[rows], 2 * word + columns)
        shift = (64 - wanted[rows, columns]).astype(np.uint64)
        heads[rows, columns] += np.bitwise_count(drawn >> shift)
    return heads
