"""A task as a blank to fill: the text in a template with a [MASK], a word for each class, and the masked language model's own head, which
is fine-tuned on (Schick and Schütze 2021, https://arxiv.org/abs/2001.07676; Gao et al. 2021, https://arxiv.org/abs/2012.15723).

Nothing is new to the model, so a handful of examples can be enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cloze.data import keyed
from cloze.data.base import Labelled, Labels, Record, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.data.tokenizers import Tokenizer
from cloze.errors import Refusal
from cloze.fewshot.prompts import Template, style_of
from cloze.models.base import Backbone, Batch, Bidirectional
from cloze.objectives.base import Examples, StepOutput, Term
from cloze.objectives.framing import RecordExamples, labelled, lay_out
from cloze.objectives.ledger import Row
from cloze.objectives.supervised import Supervised
from cloze.scoring.metrics import score


class BlankExamples(RecordExamples):
    """One example a record: what the template has before the answer, [MASK], what it has behind it. Where that is too long the beginning
    is cut off. A row of the table: record."""

    reads = Labelled
    special_tokens = ("mask",)

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        family: type[Backbone],
        labels: Mapping[str, Labels],
        template: str | None = None,
    ) -> None:
        super().__init__(vocabulary, length, family)
        (kind,) = labels.values()
        if kind.numeric:
            raise Refusal(
                "objective=verbalise has a word for each class; this task asks for a number: objective=classify."
            )
        self.labels, self.template = kind, template
        if template is not None:
            Template(template, Labelled)
        self.mask = np.array([vocabulary["mask"]]) if "mask" in vocabulary.special else np.array([0])
        self.most = self.room(1, 3) - 1

    def reworded(self, records: Sequence[Record], task: str) -> list[Record]:
        """The records as (text before the answer, text behind it)."""
        made: list[Record] = []
        for record in records:
            assert isinstance(record, Labelled)
            template = Template(self.template or style_of(task, record).template, Labelled)
            asked = template.filled({"first": record.sentences[0], "second": record.second or ""}, ("",), None)
            sides = (asked.before.strip(), asked.after.strip())
            made.append(
                Labelled(sides, record.topic, record.where, label=record.label, id=record.id, group=record.group)
            )
        return made

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        texts = labelled(corpus)
        sizes = np.diff(texts.sentences).reshape(-1, 2).sum(1)
        cut = int((sizes > self.most).sum())
        notes = (f"{cut:,} of {len(sizes):,} examples are longer than length={self.length}: cut",) if cut else ()
        lengths = np.minimum(sizes, self.most) + 1 + self.frame.specials(1)
        return Examples(corpus, np.arange(len(sizes))[:, None], lengths, notes)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        texts, numbers = labelled(examples.corpus), examples.table[indices, 0].tolist()
        sequences, places = [], []
        for number in numbers:
            before, behind = (texts.tokens[start:end] for start, end in texts.fields(number))
            behind = behind[: self.most]
            before = before[max(0, len(before) + len(behind) - self.most) :]
            sequences.append([np.concatenate([before, self.mask, behind])])
            places.append(len(before))
        laid = lay_out(self.frame, sequences)
        records: list[Any] = [texts.records[number] for number in numbers]
        targets = {
            "at": np.array([start[0] + place for start, place in zip(laid.starts, places, strict=True)], np.int64),
            "label": np.array([-1 if r.label is None else self.labels.number(r.label) for r in records], np.int64),
        }
        count = int((targets["label"] >= 0).sum())
        return Sample(laid.inputs, targets, {"label": count}, laid.decoder, extra={"records": numbers})

    def asked(self, sample: Sample) -> list[tuple[int, str]]:
        labels = sample.targets["label"].tolist()
        return [
            (number, f"the word of class {self.labels.names[label]}" if label >= 0 else "nothing")
            for number, label in enumerate(labels)
        ]

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        texts = labelled(examples.corpus)
        records: list[Any] = [texts.records[number] for number in examples.table[indices, 0]]
        return {"label": sum(record.label is not None for record in records)}

    def explain(self, sample: Sample) -> list[list[str]]:
        words = super().explain(sample)
        ends = np.cumsum(sample.inputs.lengths)
        for at in sample.targets["at"].tolist():
            row = int(np.searchsorted(ends, at, side="right"))
            words[row][at - int(ends[row] - sample.inputs.lengths[row])] = "masked"
        return words


class Verbalise(Supervised[Bidirectional, Labelled]):
    """The mean over examples of the cross-entropy of the class's word among the words of all classes."""

    Examples: ClassVar[type[BlankExamples]] = BlankExamples

    def __init__(
        self,
        model: Backbone,
        vocabulary: Vocabulary,
        labels: Mapping[str, Labels],
        tokenizer: Tokenizer | None,
        words: dict[Any, str] | None = None,
    ) -> None:
        super().__init__(model, "last", "last", 0.0)
        ((task, kind),) = labels.items()
        self.labels, self.figures = kind, kind.metrics
        self.head = model.token_head()
        ids = (
            torch.arange(len(kind.names))
            if tokenizer is None
            else _ids(task, kind, tokenizer, words and {str(name): word for name, word in words.items()})
        )
        self.register_buffer("words", ids, persistent=False)

    def forward(self, model: Bidirectional, batch: Batch) -> StepOutput:
        states = model(batch)
        hidden = states.last.index_select(0, batch.targets["at"])
        words = self.get_buffer("words")
        logits: Tensor = self.head(hidden, model.word_embedding)[:, words].float()
        total = F.cross_entropy(logits, batch.targets["label"], reduction="sum", ignore_index=-1)
        return StepOutput.of(
            states, {"label": Term(total, batch.counts["label"])}, {"classes": logits.detach().argmax(-1)}
        )

    def rows(self, output: StepOutput, batch: Batch) -> list[Row]:
        chosen, labels = output.predictions["classes"].tolist(), batch.targets["label"].tolist()
        return [(record, chosen[i], labels[i]) for i, record in enumerate(batch.extra["records"])]

    def shown(self, output: StepOutput, batch: Batch) -> list[tuple[int, str, str]]:
        names = self.labels.names
        return [
            (number, names[label] if label >= 0 else "", names[chosen])
            for number, (_, chosen, label) in enumerate(self.rows(output, batch))
        ]

    def score(self, rows: list[Row]) -> dict[str, float]:
        known = [row for row in rows if row[2] >= 0]
        return score(self.figures, [row[1] for row in known], [row[2] for row in known]) if known else {}

    def answers(self, rows: list[Row], records: Sequence[Text]) -> list[Any]:
        found = {record: self.labels.names[chosen] for record, chosen, _ in rows}
        return [found[number] for number in range(len(records))]


def _ids(task: str, kind: Labels, tokenizer: Tokenizer, words: dict[str, str] | None) -> Tensor:
    """The token of each class's word. Raises Refusal where a class has none, a word is not one token, or two classes have the same."""
    said = words
    if said is None:
        pair = Labelled(("", ""))
        known = style_of(task, pair).words or style_of(task, Labelled(("",))).words
        said = {name: known.get(name, name) for name in kind.names}
    example = ", ".join(f"'{name}': …" for name in kind.names)
    if set(said) != set(kind.names):
        raise Refusal(
            f"objective.words must have a word for each class, {{{example}}}; it has {', '.join(said) or 'none'}."
        )
    ids = []
    for name in kind.names:
        own = tokenizer.encode(said[name])
        if len(own) != 1 or own[0] == tokenizer.vocabulary.special.get("unk"):
            pieces = " ".join(tokenizer.token(each) for each in own) or "nothing"
            raise Refusal(
                f"objective.words: {said[name]!r} for the class {name!r} is not one token of this vocabulary but {pieces}; "
                f"say words that are: objective.words={{{example}}}."
            )
        ids.append(own[0])
    if len(set(ids)) < len(ids):
        raise Refusal(
            f"objective.words: two classes have the same token: {', '.join(said[name] for name in kind.names)}."
        )
    return torch.tensor(ids)
