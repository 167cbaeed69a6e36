"""A tag for each word, read off the word's first token (BERT's way, https://arxiv.org/abs/1810.04805, section 5.3, without a CRF)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cloze.data import keyed
from cloze.data.base import NO_TAG, Labels, Sample, Tagged, Text, TokenizedCorpus, TokenizedRecords, Vocabulary
from cloze.models.base import Backbone, Batch
from cloze.objectives.base import Examples, StepOutput, Term
from cloze.objectives.framing import RecordExamples, labelled, lay_out
from cloze.objectives.ledger import Row
from cloze.objectives.readout import Layer
from cloze.objectives.supervised import Supervised, linear
from cloze.scoring.tags import score_tags


class TaggedExamples(RecordExamples):
    """Runs of whole words. A row of the table: record, first word and last word + 1 (over the record's words).

    `context=sentence`: a sentence each, cut between words where it is too long. `document`: as many following sentences of a document as
    fit (BERT's maximal document context). Every word is in one example.
    """

    reads = Tagged

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        family: type[Backbone],
        labels: Mapping[str, Labels],
        context: Literal["sentence", "document"] = "sentence",
    ) -> None:
        super().__init__(vocabulary, length, family)
        self.tags = {tag: number for number, tag in enumerate(next(iter(labels.values())).names)}
        self.context = context
        self.most = self.room(1, 1)

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        texts = labelled(corpus)
        sizes = np.minimum(np.diff(texts.sentences), self.most)  # of each word, in tokens
        rows, lengths, cut = [], [], 0
        for number, record in enumerate(texts.records):
            assert isinstance(record, Tagged)
            own = sizes[texts.documents[number] : texts.documents[number + 1]]
            begin, filled, word = 0, 0, 0
            for sentence in record.words:
                size = int(own[word : word + len(sentence)].sum())
                if word > begin and (self.context == "sentence" or filled + size > self.most):
                    rows.append((number, begin, word))
                    lengths.append(filled)
                    begin, filled = word, 0
                cut += size > self.most
                for _ in sentence:
                    if filled + own[word] > self.most:  # a sentence that is longer than an example
                        rows.append((number, begin, word))
                        lengths.append(filled)
                        begin, filled = word, 0
                    filled += int(own[word])
                    word += 1
            if word > begin:
                rows.append((number, begin, word))
                lengths.append(filled)
        notes = (f"{cut:,} sentences are longer than length={self.length}: read in pieces",) if cut else ()
        table = np.array(rows, np.int64).reshape(-1, 3)
        return Examples(corpus, table, np.array(lengths, np.int64) + self.frame.specials(1), notes)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        texts, table = labelled(examples.corpus), examples.table[indices]
        sequences, places, tags = [], [], []
        for number, begin, end in table.tolist():
            bounds = texts.sentences[texts.documents[number] + begin : texts.documents[number] + end + 1].tolist()
            words = [texts.tokens[a : min(b, a + self.most)] for a, b in itertools.pairwise(bounds)]
            sequences.append([np.concatenate(words)])
            places.append(np.cumsum([0, *map(len, words[:-1])]))
            tags.append(self._tags(texts, number, begin, end))
        laid = lay_out(self.frame, sequences)
        at = np.concatenate([start[0] + place for start, place in zip(laid.starts, places, strict=True)])
        targets = {"at": at.astype(np.int64), "tag": np.concatenate(tags)}
        extra: dict[str, Any] = {"rows": table.tolist()}
        if self.judging:
            extra["breaks"] = [_breaks(texts, *row) for row in table.tolist()]
        return Sample(laid.inputs, targets, {"tag": int((targets["tag"] >= 0).sum())}, laid.decoder, extra=extra)

    def _tags(self, texts: TokenizedRecords, number: int, begin: int, end: int) -> NDArray[np.int64]:
        """-1 where the file does not say, be it of all words or of one."""
        record = texts.records[number]
        assert isinstance(record, Tagged)
        if record.tags is None:
            return np.full(end - begin, -1, np.int64)
        flat = [tag for sentence in record.tags for tag in sentence]
        return np.array([-1 if tag == NO_TAG else self.tags[tag] for tag in flat[begin:end]], np.int64)

    def asked(self, sample: Sample) -> list[tuple[int, str]]:
        names, ends = list(self.tags), np.cumsum(sample.inputs.lengths)
        owners = np.searchsorted(ends, sample.targets["at"], side="right")
        said: list[list[str]] = [[] for _ in ends]
        for owner, tag in zip(owners.tolist(), sample.targets["tag"].tolist(), strict=True):
            said[owner].append(names[tag] if tag >= 0 else "–")
        return [(number, " ".join(tags)) for number, tags in enumerate(said)]

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        texts = labelled(examples.corpus)
        rows = examples.table[indices].tolist()
        return {"tag": sum(int((self._tags(texts, *row) >= 0).sum()) for row in rows)}


def _breaks(texts: TokenizedRecords, number: int, begin: int, end: int) -> list[int]:
    """The words begin … end - 1 at which a sentence begins: spans do not go over them."""
    record = texts.records[number]
    assert isinstance(record, Tagged)
    starts = np.cumsum([0, *map(len, record.words)])
    return [int(start) for start in starts if begin <= start < end]


class Tag(Supervised[Backbone, Tagged]):
    """The mean over words of the cross-entropy of the tag."""

    Examples: ClassVar[type[TaggedExamples]] = TaggedExamples

    def __init__(
        self,
        model: Backbone,
        vocabulary: Vocabulary,
        labels: Mapping[str, Labels],
        layer: Layer = "last",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(model, layer, "last", dropout)
        (kind,) = labels.values()
        self.names, self.figures = kind.names, kind.metrics
        self.tag_head = linear(model.width, len(self.names), model.initializer_range)

    def forward(self, model: Backbone, batch: Batch) -> StepOutput:
        states = self.readout.states(model, batch)
        hidden = self.dropout(states.last.index_select(0, batch.targets["at"]))
        logits: Tensor = self.tag_head(hidden).float()
        tags = batch.targets["tag"]
        total = F.cross_entropy(logits, tags, reduction="sum", ignore_index=-1)
        return StepOutput.of(states, {"tag": Term(total, batch.counts["tag"])}, {"tags": logits.detach().argmax(-1)})

    def rows(self, output: StepOutput, batch: Batch) -> list[Row]:
        predicted, gold = output.predictions["tags"].tolist(), batch.targets["tag"].tolist()
        breaks = batch.extra.get("breaks") or [[]] * len(batch.extra["rows"])
        found, at = [], 0
        for (record, begin, end), own in zip(batch.extra["rows"], breaks, strict=True):
            size = end - begin
            found.append((record, begin, tuple(predicted[at : at + size]), tuple(gold[at : at + size]), tuple(own)))
            at += size
        return found

    def shown(self, output: StepOutput, batch: Batch) -> list[tuple[int, str, str]]:
        found = []
        for number, (_, _, predicted, gold, _) in enumerate(self.rows(output, batch)):
            right, said = (
                " ".join(self.names[tag] if tag >= 0 else "?" for tag in tags[:16]) for tags in (gold, predicted)
            )
            found.append((number, right, said))
        return found

    def score(self, rows: list[Row]) -> dict[str, float]:
        right, said = [], []
        for sentence in _sentences(rows):
            known = [(gold, predicted) for gold, predicted in sentence if gold >= 0]
            if known:
                right.append([self.names[gold] for gold, _ in known])
                said.append([self.names[predicted] for _, predicted in known])
        if not right:
            return {}
        figures = score_tags(right, said)
        renamed = {"span_f1": "f1"}
        return {
            name: figures[renamed.get(name, name)] / 100 for name in self.figures if renamed.get(name, name) in figures
        }

    def answers(self, rows: list[Row], records: Sequence[Text]) -> list[Any]:
        """For each record the tags of each of its sentences."""
        flat: dict[int, dict[int, str]] = {}
        for record, begin, predicted, _, _ in rows:
            words = flat.setdefault(record, {})
            words |= {begin + place: self.names[tag] for place, tag in enumerate(predicted)}
        found = []
        for number, each in enumerate(records):
            assert isinstance(each, Tagged)
            tags, sentences, at = flat.get(number, {}), [], 0
            for sentence in each.words:
                sentences.append([tags[at + place] for place in range(len(sentence))])
                at += len(sentence)
            found.append(sentences)
        return found


def _sentences(rows: list[Row]) -> list[list[tuple[int, int]]]:
    """(right, predicted) of the words of each sentence, whole again where it was read in pieces."""
    found: list[list[tuple[int, int]]] = []
    follows: tuple[int, int] | None = None  # the record and word that would go on with the last sentence
    for record, begin, predicted, gold, breaks in sorted(rows, key=lambda row: (row[0], row[1])):
        for place, pair in enumerate(zip(gold, predicted, strict=True), start=begin):
            if place in breaks or (record, place) != follows:
                found.append([])
            found[-1].append(pair)
            follows = record, place + 1
    return found
