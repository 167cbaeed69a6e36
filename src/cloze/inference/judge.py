"""What a fine-tuned model says of texts that nobody has labelled: a class or a number, tags, the answer to a question, a choice, a text.

Several texts of one example are separated by tabs: a pair; a question and its passage; a context, a question (which may be empty) and
options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cloze.data import keyed
from cloze.data.base import Choices, Labelled, Labels, Passage, Question, Record, SourceTarget, Tagged
from cloze.data.batches import batch_of
from cloze.data.records import of_records
from cloze.errors import Refusal
from cloze.inference.reading import device_of, judging
from cloze.inference.tasks import objective_class
from cloze.schema import Node, own

if TYPE_CHECKING:
    from torch import Tensor

    from cloze.data.tokenizers import Tokenizer
    from cloze.models.base import Backbone
    from cloze.objectives.framing import RecordExamples
    from cloze.objectives.supervised import Supervised

AT_ONCE = 32  # texts of a batch


class Judge:
    """A fine-tuned head with the data half that lays texts out for it."""

    def __init__(
        self, objective: Supervised[Any, Any], builder: RecordExamples, tokenizer: Tokenizer, task: str
    ) -> None:
        self.objective, self.builder, self.tokenizer, self.task = objective.eval(), builder, tokenizer, task

    @classmethod
    def of(
        cls,
        model: Backbone,
        tokenizer: Tokenizer,
        length: int,
        learnt: Mapping[str, Any] | None,
        labels: Mapping[str, Sequence[str]],
        weights: Mapping[str, Tensor],
    ) -> Judge | None:
        """From a run's record of its objective and labels, and the objective's weights; None where it learnt from no labels."""
        kind = objective_class(learnt)
        from cloze.objectives.supervised import Supervised

        if kind is None or not issubclass(kind, Supervised) or not labels:
            return None
        settings = {name: value for name, value in dict(learnt or {}).items() if name != "_target_"}
        named = {task: Labels(tuple(names)) for task, names in labels.items()}
        objective = Node("objective", kind, own(kind, settings)).build(
            model=model, vocabulary=tokenizer.vocabulary, labels=named, tokenizer=tokenizer
        )
        objective.load_state_dict(dict(weights))
        builder = Node("objective", kind.Examples, own(kind.Examples, settings)).build(
            vocabulary=tokenizer.vocabulary, length=length, family=type(model), labels=named
        )
        return cls(objective, builder.judge(), tokenizer, next(iter(named)))

    def __call__(self, model: Backbone, texts: Sequence[str]) -> list[str]:
        """The answer to each text, as it is written: a class's name, a number, "word/TAG …", a stretch of the passage, an option."""
        records = [self._record(text) for text in texts]
        corpus = of_records(self.builder.reworded(records, self.task), self.tokenizer)
        examples = self.builder.build(corpus, keyed.key("judge"))
        rows: list[Any] = []
        with judging(model, self.objective):
            for start in range(0, len(examples), AT_ONCE):
                mine = np.arange(start, min(start + AT_ONCE, len(examples)))
                sample = self.builder.sample(examples, mine, keyed.keys(keyed.key("judge"), mine))
                batch = batch_of(sample, indices=mine.tolist()).to(device_of(model))
                rows += self.objective.told(model, self.objective(model, batch), batch)
        answers = self.objective.answers(rows, records)
        return [_written(record, answer) for record, answer in zip(records, answers, strict=True)]

    def _record(self, text: str) -> Any:
        parts = text.split("\t")
        kind: type[Record] = self.objective.record
        if kind is Labelled:
            if len(parts) > 2:
                raise Refusal(f"{text!r} has {len(parts)} texts; an example is one, or two with a tab between them")
            return Labelled(tuple(parts), task=self.task)
        if kind is Tagged:
            words = tuple(text.split())
            return Tagged((text,), words=(words,))
        if kind is SourceTarget:
            return SourceTarget((text,))
        if kind is Passage:
            if len(parts) != 2:
                raise Refusal(f"{text!r}: write a question, a tab, and the passage that answers it")
            return Passage((parts[1],), questions=(Question("0", parts[0], hidden=True),))
        if len(parts) < 4:
            raise Refusal(
                f"{text!r}: write a context, a question (it may be empty) and two options or more, with tabs between"
            )
        return Choices((parts[0], parts[1]), options=tuple(parts[2:]))


def _written(record: Any, answer: Any) -> str:
    if isinstance(record, Tagged):
        return " ".join(f"{word}/{tag}" for word, tag in zip(record.words[0], answer[0], strict=True))
    if isinstance(record, Passage):
        return str(answer["0"])
    if isinstance(record, Choices):
        return str(record.options[answer])
    return f"{answer:.3f}" if isinstance(answer, float) else str(answer)
