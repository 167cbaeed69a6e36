"""Classes and numbers of one text or two: BERT's way (Devlin et al. 2018, https://arxiv.org/abs/1810.04805, section 4.1), and with
`lm_weight` and `frame=delimited` GPT's (Radford et al. 2018, section 3.2: the loss of the language model beside that of the task).

Several tasks at once (a corpus made of several) have a head each on one model: multi-task fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cloze.data import keyed
from cloze.data.base import Labelled, Labels, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.data.tasks.several import Several
from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch, Bidirectional, Causal
from cloze.objectives.base import Examples, StepOutput, Term
from cloze.objectives.cross_entropy import token_cross_entropy
from cloze.objectives.framing import FrameKind, RecordExamples, fitting, labelled, lay_out
from cloze.objectives.ledger import Row
from cloze.objectives.readout import Layer, Pooling
from cloze.objectives.supervised import Supervised, linear
from cloze.scoring.metrics import score


class LabelledExamples(RecordExamples):
    """One example a record. A row of the table: record, then start and length of the first text, of the second (length -1: none),
    and the number of the task. `both_orders` lays a pair out twice, the second time the other way round."""

    reads = Labelled

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        family: type[Backbone],
        labels: Mapping[str, Labels],
        frame: FrameKind = "own",
        both_orders: bool = False,
        lm_weight: float = 0.0,
    ) -> None:
        super().__init__(vocabulary, length, family, frame)
        self.labels, self.both_orders, self.with_lm = dict(labels), both_orders, lm_weight > 0
        self.room(2, 2)

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        texts = labelled(corpus)
        tasks = list(self.labels)
        rows = []
        for number, record in enumerate(texts.records):
            assert isinstance(record, Labelled)
            fields = texts.fields(number)
            pair = len(fields) > 1
            if self.both_orders and not pair:
                raise Refusal("objective.both_orders=true has no effect: these examples are single texts, not pairs")
            (a, a_end), (b, b_end) = fields[0], fields[1] if pair else (0, -1)
            task = tasks.index(record.task) if record.task in self.labels else 0
            rows.append((number, a, a_end - a, b, b_end - b, task))
        table = np.array(rows, np.int64).reshape(-1, 6)
        paired = table[:, 4] >= 0
        room_of_one, room_of_two = self.room(1, 1), self.room(2, 2)
        single = np.minimum(table[:, 2], room_of_one)
        first, second = fitting(table[:, 2], np.maximum(table[:, 4], 0), room_of_two)
        kept = np.where(paired, first, single)
        cut = int(((kept < table[:, 2]) | (paired & (second < table[:, 4]))).sum())
        table[:, 2], table[paired, 4] = kept, second[paired]
        lengths = kept + np.where(paired, second + self.frame.specials(2), self.frame.specials(1))
        notes = (f"{cut:,} of {len(table):,} examples are longer than length={self.length}: cut",) if cut else ()
        times = 2 if self.both_orders else 1
        return Examples(corpus, table, lengths, notes, tokens=lengths * times)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        texts, table = labelled(examples.corpus), examples.table[indices]
        sequences: list[list[Any]] = []
        for _, a, a_length, b, b_length, _ in table.tolist():
            fields = [texts.tokens[a : a + a_length]]
            if b_length >= 0:
                fields.append(texts.tokens[b : b + b_length])
            sequences.append(fields)
        if self.both_orders:
            sequences = [order for fields in sequences for order in (fields, fields[::-1])]
        laid = lay_out(self.frame, sequences)
        records: list[Any] = [texts.records[number] for number in table[:, 0]]
        tasks = list(self.labels)
        numbers = [
            np.nan if record.label is None else self.labels[tasks[task]].number(record.label)
            for record, task in zip(records, table[:, 5].tolist(), strict=True)
        ]
        known = np.array(numbers, np.float32)
        targets: dict[str, NDArray[Any]] = {"label": known, "task": table[:, 5]}
        extra: dict[str, Any] = {"records": table[:, 0].tolist()}
        if self.judging:
            extra["groups"] = [record.group for record in records]
        counts = {"label": int((~np.isnan(known)).sum())} | self._tokens(examples, indices)
        return Sample(laid.inputs, targets, counts, laid.decoder, extra=extra)

    def asked(self, sample: Sample) -> list[tuple[int, str]]:
        kinds = list(self.labels.values())
        said = []
        for label, task in zip(sample.targets["label"].tolist(), sample.targets["task"].tolist(), strict=True):
            kind = kinds[task]
            said.append("nothing" if label != label else f"{label:g}" if kind.numeric else kind.names[int(label)])
        times = len(sample.inputs.lengths) // len(said)
        return [(number // times, said[number // times]) for number in range(times * len(said))]

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        texts = labelled(examples.corpus)
        records: list[Any] = [texts.records[number] for number in examples.table[indices, 0]]
        return {"label": sum(record.label is not None for record in records)} | self._tokens(examples, indices)

    def _tokens(self, examples: Examples, indices: NDArray[np.int64]) -> dict[str, int]:
        """Tokens that a language model predicts, where there is one: all but each sequence's first."""
        times = 2 if self.both_orders else 1
        return {"lm": times * int((examples.lengths[indices] - 1).sum())} if self.with_lm else {}


def mixed(examples: Examples, corpus: Several, seed: int) -> Examples:
    """The index with the examples of smaller tasks repeated, as the corpus mixes them; `seed` decides which ones once more."""
    tasks = examples.table[:, 5]
    sizes = np.bincount(tasks, minlength=len(corpus.labels))
    times = corpus.times(sizes)
    chosen = []
    for task in np.flatnonzero(sizes):
        own = np.flatnonzero(tasks == task)
        whole, more = divmod(int(np.rint(times[task] * len(own))), len(own))
        once_more = own[keyed.permutation(keyed.key(seed, "task", int(task)), len(own))[:more]]
        chosen += [np.tile(own, whole), np.sort(once_more)]
    order = np.concatenate(chosen)
    after = np.bincount(tasks[order], minlength=len(sizes)) / len(order)
    shares = ", ".join(
        f"{name} {size:,} ({100 * share:.1f} % of the training)"
        for name, size, share in zip(corpus.labels, sizes, after, strict=True)
    )
    tokens = None if examples.tokens is None else examples.tokens[order]
    notes = (*examples.notes, f"tasks: {shares}")
    return replace(examples, table=examples.table[order], lengths=examples.lengths[order], tokens=tokens, notes=notes)


class Classify(Supervised[Backbone, Labelled]):
    """The mean over examples of the cross-entropy of the class, or, where the label is a number, of the squared error; with `lm_weight`
    (models that read from left to right) plus so much times the mean over tokens of the language model's loss, whose head stays that of
    the checkpoint. `hidden` puts a layer of that width, ReLU and dropout before the last one."""

    Examples: ClassVar[type[LabelledExamples]] = LabelledExamples

    def __init__(
        self,
        model: Backbone,
        vocabulary: Vocabulary,
        labels: Mapping[str, Labels],
        layer: Layer = "last",
        pooling: Pooling = "own",
        dropout: float = 0.1,
        hidden: int | None = None,
        lm_weight: float = 0.0,
        both_orders: bool = False,
    ) -> None:
        super().__init__(model, layer, pooling, dropout)
        if hidden is not None and hidden < 1:
            raise Refusal(f"objective.hidden={hidden} must be at least 1, or null for none.")
        if not 0 <= lm_weight < float("inf"):
            raise Refusal(f"objective.lm_weight={lm_weight:g} must be 0 or more.")
        if lm_weight and (not isinstance(model, Causal) or isinstance(model, Bidirectional)):
            raise Refusal(
                f"objective.lm_weight={lm_weight:g} needs a model that {Causal.role}; this one {type(model).role}: take 0."
            )
        self.labels, self.lm_weight, self.both_orders = dict(labels), lm_weight, both_orders
        width = self.readout.pooled_width
        self.hidden = None
        if hidden is not None:
            self.hidden = nn.Sequential(linear(width, hidden, model.initializer_range), nn.ReLU(), nn.Dropout(dropout))
            width = hidden
        self.heads = nn.ModuleDict(
            {
                task: linear(width, max(1, len(each.names)), model.initializer_range)
                for task, each in self.labels.items()
            }
        )
        self.head = model.token_head() if lm_weight else None
        several = len(self.labels) > 1
        self.figures = tuple(
            f"{task}_{name}" if several else name for task, each in self.labels.items() for name in each.metrics
        )

    def forward(self, model: Backbone, batch: Batch) -> StepOutput:
        states = self.readout.states(model, batch)
        vectors = self.readout.pooled(model, states, batch)
        if self.both_orders:
            vectors = vectors[0::2] + vectors[1::2]
        vectors = self.dropout(vectors)
        if self.hidden is not None:
            vectors = self.hidden(vectors)
        label, task = batch.targets["label"], batch.targets["task"]
        total, scores = vectors.new_zeros((), dtype=torch.float32), []
        for number, (name, kind) in enumerate(self.labels.items()):
            outputs: Tensor = self.heads[name](vectors).float()
            scores.append(outputs.detach())
            own = (
                (task == number) if len(self.labels) > 1 else torch.ones_like(task, dtype=torch.bool)
            ) & ~label.isnan()
            if kind.numeric:
                total = total + F.mse_loss(outputs[own, 0], label[own], reduction="sum")
            else:
                total = total + F.cross_entropy(outputs[own], label[own].long(), reduction="sum")
        terms = {"label": Term(total, batch.counts["label"])}
        if self.head is not None:
            # its head goes on from the last layer, whichever the task reads
            terms["lm"] = self._language(model, states.layers[-1] if states.layers else states.last, batch)
        return StepOutput.of(states, terms, dict(zip(self.labels, scores, strict=True)))

    def _language(self, model: Backbone, states: Tensor, batch: Batch) -> Term:
        """Each token but a sequence's first from those before it."""
        assert self.head is not None
        tokens = batch.inputs.tokens
        last = torch.zeros_like(tokens, dtype=torch.bool)
        last[batch.inputs.layout.lasts.to(tokens.device)] = True
        at = (~last).nonzero().flatten()
        loss, _ = token_cross_entropy(self.head, states[at], model.word_embedding, tokens[at + 1])
        return Term(loss, batch.counts["lm"], self.lm_weight)

    def idle(self, model: Backbone) -> list[str]:
        return [] if self.head is not None else super().idle(model)  # the language model's loss is of every layer

    def rows(self, output: StepOutput, batch: Batch) -> list[Row]:
        names = list(self.labels)
        scores = {name: output.predictions[name].tolist() for name in names}
        tasks, labels = batch.targets["task"].tolist(), batch.targets["label"].tolist()
        groups = batch.extra.get("groups") or [""] * len(tasks)
        return [
            (record, tasks[i], tuple(scores[names[tasks[i]]][i]), labels[i], groups[i])
            for i, record in enumerate(batch.extra["records"])
        ]

    def shown(self, output: StepOutput, batch: Batch) -> list[tuple[int, str, str]]:
        kinds = list(self.labels.values())
        found = []
        for number, (_, task, scores, label, _) in enumerate(self.rows(output, batch)):
            said = [label, self._answer(kinds[task], scores)]
            names = [
                "" if value != value else f"{value:.2f}" if kinds[task].numeric else kinds[task].names[int(value)]
                for value in said
            ]
            found.append((number * (2 if self.both_orders else 1), names[0], names[1]))
        return found

    def score(self, rows: list[Row]) -> dict[str, float]:
        found: dict[str, float] = {}
        for number, (task, labels) in enumerate(self.labels.items()):
            own = [row for row in rows if row[1] == number and row[3] == row[3]]
            if not own:
                continue
            predicted = [self._answer(labels, row[2]) for row in own]
            groups = [row[4] for row in own] if any(row[4] for row in own) else None
            figures = score(labels.metrics, predicted, [row[3] for row in own], groups)
            found |= {f"{task}_{name}" if len(self.labels) > 1 else name: value for name, value in figures.items()}
        return found

    @staticmethod
    def _answer(labels: Labels, scores: Sequence[float]) -> float:
        """A class's number, or the number that was predicted."""
        return float(scores[0] if labels.numeric else int(np.argmax(scores)))

    def answers(self, rows: list[Row], records: Sequence[Text]) -> list[Any]:
        kinds = list(self.labels.values())
        found: dict[int, Any] = {}
        for record, task, scores, _, _ in rows:
            answer = self._answer(kinds[task], scores)
            found[record] = answer if kinds[task].numeric else kinds[task].names[int(answer)]
        return [found[number] for number in range(len(records))]
