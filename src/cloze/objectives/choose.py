"""Which of several options is right: each is read with its context, one vector scores it, and a softmax goes over the options (BERT on
SWAG, https://arxiv.org/abs/1810.04805, section 4.4; GPT section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cloze.data import keyed
from cloze.data.base import Choices, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.models.base import Backbone, Batch
from cloze.objectives.base import Examples, StepOutput, Term
from cloze.objectives.framing import FrameKind, RecordExamples, fitting, labelled, lay_out
from cloze.objectives.ledger import Row
from cloze.objectives.readout import Layer, Pooling
from cloze.objectives.supervised import Supervised, linear
from cloze.scoring.metrics import score


class ChoiceExamples(RecordExamples):
    """One example a record, one sequence an option: the context, and the question followed by the option; in GPT's delimited frame the
    context followed by the question, and the option. Where that is too long the longer of the two is cut: of the context its end, else the
    beginning, so that question and option are cut last. A row of the table: record."""

    reads = Choices

    def __init__(self, vocabulary: Vocabulary, length: int, family: type[Backbone], frame: FrameKind = "own") -> None:
        super().__init__(vocabulary, length, family, frame)
        self.asked_first = frame == "delimited"
        self.room(2, 2)

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        texts = labelled(corpus)
        totals, longest, cut = [], [], 0
        room = self.length - self.frame.specials(2)
        for number in range(len(texts.records)):
            (context, question, *options) = [end - start for start, end in texts.fields(number)]
            wanted = [context + question + option + self.frame.specials(2) for option in options]
            cut += max(wanted) > room + self.frame.specials(2)
            sizes = [min(size, self.length) for size in wanted]
            totals.append(sum(sizes))
            longest.append(max(sizes))
        table = np.arange(len(totals), dtype=np.int64)[:, None]
        notes = (f"{cut:,} of {len(table):,} examples are longer than length={self.length}: cut",) if cut else ()
        return Examples(corpus, table, np.array(longest, np.int64), notes, tokens=np.array(totals, np.int64))

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        texts, numbers = labelled(examples.corpus), examples.table[indices, 0]
        sequences, sizes, labels = [], [], []
        room = self.room(2, 2)
        for number in numbers.tolist():
            context, question, *options = [texts.tokens[start:end] for start, end in texts.fields(number)]
            for option in options:
                asked, second = (
                    (question, option) if self.asked_first else (question[:0], np.concatenate([question, option]))
                )
                kept, rest = fitting(np.array([len(context) + len(asked)]), np.array([len(second)]), room)
                asked = asked[max(0, len(asked) - int(kept[0])) :]
                first = np.concatenate([context[: int(kept[0]) - len(asked)], asked])
                sequences.append([first, second[len(second) - int(rest[0]) :]])
            sizes.append(len(options))
            record = texts.records[number]
            assert isinstance(record, Choices)
            labels.append(-1 if record.label is None else record.label)
        laid = lay_out(self.frame, sequences)
        targets = {"label": np.array(labels, np.int64), "options": np.array(sizes, np.int64)}
        count = int((targets["label"] >= 0).sum())
        return Sample(laid.inputs, targets, {"label": count}, laid.decoder, extra={"records": numbers.tolist()})

    def asked(self, sample: Sample) -> list[tuple[int, str]]:
        sizes, labels = sample.targets["options"].tolist(), sample.targets["label"].tolist()
        return [
            (number, f"option {option + 1} of {size}" + (", the right one" if option == label else ""))
            for number, (size, label) in enumerate(zip(sizes, labels, strict=True))
            for option in range(size)
        ]

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        texts = labelled(examples.corpus)
        records: list[Any] = [texts.records[number] for number in examples.table[indices, 0]]
        return {"label": sum(record.label is not None for record in records)}


class Choose(Supervised[Backbone, Choices]):
    """The mean over examples of the cross-entropy of the right option."""

    Examples: ClassVar[type[ChoiceExamples]] = ChoiceExamples
    figures = ("accuracy",)

    def __init__(
        self,
        model: Backbone,
        vocabulary: Vocabulary,
        layer: Layer = "last",
        pooling: Pooling = "own",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(model, layer, pooling, dropout)
        self.choice_head = linear(self.readout.pooled_width, 1, model.initializer_range)

    def forward(self, model: Backbone, batch: Batch) -> StepOutput:
        states = self.readout.states(model, batch)
        vectors = self.dropout(self.readout.pooled(model, states, batch))
        scores: Tensor = self.choice_head(vectors)[:, 0].float()
        sizes, label = batch.targets["options"], batch.targets["label"]
        places = torch.arange(int(sizes.max()), device=sizes.device) < sizes[:, None]
        table = scores.new_full(places.shape, -torch.inf).masked_scatter(places, scores)
        total = F.cross_entropy(table, label, reduction="sum", ignore_index=-1)
        return StepOutput.of(states, {"label": Term(total, batch.counts["label"])}, {"options": table.detach()})

    def rows(self, output: StepOutput, batch: Batch) -> list[Row]:
        chosen, labels = output.predictions["options"].argmax(-1).tolist(), batch.targets["label"].tolist()
        return [(record, chosen[i], labels[i]) for i, record in enumerate(batch.extra["records"])]

    def shown(self, output: StepOutput, batch: Batch) -> list[tuple[int, str, str]]:
        """The sequence of the option that was chosen."""
        sizes = batch.targets["options"].tolist()
        first = [sum(sizes[:number]) for number in range(len(sizes))]
        return [
            (first[number] + chosen, f"option {label + 1}" if label >= 0 else "", f"option {chosen + 1}")
            for number, (_, chosen, label) in enumerate(self.rows(output, batch))
        ]

    def score(self, rows: list[Row]) -> dict[str, float]:
        known = [row for row in rows if row[2] >= 0]
        return score(("accuracy",), [row[1] for row in known], [row[2] for row in known]) if known else {}

    def answers(self, rows: list[Row], records: Sequence[Text]) -> list[Any]:
        found = {record: chosen for record, chosen, _ in rows}
        return [found[number] for number in range(len(records))]
