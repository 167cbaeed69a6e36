"""A task as text: a template with a place for the answer, words for its classes, demonstrations before the question.

The layout is that of GPT-3's figure 2.1 (https://arxiv.org/abs/2005.14165): a description of the task, k solved examples, the one to be
solved, with a separator between them. Nothing is learnt from the demonstrations but by reading them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Literal

import numpy as np

from cloze.data import keyed
from cloze.data.base import Choices, Labelled, Record
from cloze.data.tasks.lambada import LastWord
from cloze.errors import Refusal, did_you_mean
from cloze.inference.reading import BLANK

FIELDS: dict[type[Record], tuple[str, ...]] = {
    Labelled: ("first", "second"),
    Choices: ("context", "question"),
    LastWord: ("context",),
}
ANSWER = "answer"


@dataclass(frozen=True)
class Style:
    """How a task is asked where nobody says it: a template, and a word for each class."""

    template: str
    words: Mapping[str, str] = field(default_factory=dict)


_YES_NO = {"1": "yes", "0": "no"}
_TRUE_FALSE = {"entailment": "True", "not_entailment": "False"}
_TRUE_FALSE_NEITHER = {"entailment": "True", "contradiction": "False", "neutral": "Neither"}
_PAIR = "Sentence 1: {first}\nSentence 2: {second}\nQuestion: "

# RTE, CB and BoolQ, and inference in three classes (ANLI there): after the formats in appendix G of the GPT-3 paper
# (https://arxiv.org/abs/2005.14165). It has no other task of GLUE: those are asked in the same manner, in words of our own.
STYLES: dict[str, Style] = {
    "rte": Style("{first}\nQuestion: {second} True or False?\nAnswer: {answer}", _TRUE_FALSE),
    "cb": Style("{first}\nQuestion: {second} True, False, or Neither?\nAnswer: {answer}", _TRUE_FALSE_NEITHER),
    "boolq": Style(
        "{first}\nQuestion: {second}?\nAnswer: {answer}", {"true": "yes", "false": "no", "True": "yes", "False": "no"}
    ),
    "mnli": Style("{first}\nQuestion: {second} True, False, or Neither?\nAnswer: {answer}", _TRUE_FALSE_NEITHER),
    "snli": Style("{first}\nQuestion: {second} True, False, or Neither?\nAnswer: {answer}", _TRUE_FALSE_NEITHER),
    "xnli": Style("{first}\nQuestion: {second} True, False, or Neither?\nAnswer: {answer}", _TRUE_FALSE_NEITHER),
    "sick": Style(
        "{first}\nQuestion: {second} True, False, or Neither?\nAnswer: {answer}",
        _TRUE_FALSE_NEITHER | {"ENTAILMENT": "True", "CONTRADICTION": "False", "NEUTRAL": "Neither"},
    ),
    "ax": Style("{first}\nQuestion: {second} True, False, or Neither?\nAnswer: {answer}", _TRUE_FALSE_NEITHER),
    "wnli": Style("{first}\nQuestion: {second} True or False?\nAnswer: {answer}", {"1": "True", "0": "False"}),
    "qnli": Style(
        "{first}\n{second}\nQuestion: Is the question answered? yes or no?\nAnswer: {answer}",
        {"entailment": "yes", "not_entailment": "no"},
    ),
    "sst2": Style(
        "{first}\nQuestion: Is this positive or negative?\nAnswer: {answer}", {"1": "positive", "0": "negative"}
    ),
    "cola": Style("{first}\nQuestion: Is this sentence correct? yes or no?\nAnswer: {answer}", _YES_NO),
    "mrpc": Style(_PAIR + "Do both sentences mean the same? yes or no?\nAnswer: {answer}", _YES_NO),
    "qqp": Style(
        "Question 1: {first}\nQuestion 2: {second}\nQuestion: Do both ask the same? yes or no?\nAnswer: {answer}",
        _YES_NO,
    ),
}
_ONE = Style("{first}\nAnswer: {answer}")
_TWO = Style("{first}\n{second}\nAnswer: {answer}")
_CHOICES = Style("{context} {question} {answer}")
_LAST_WORD = Style("{context} {answer}")


def style_of(task: str, record: Record) -> Style:
    """The style of a task by its name ("sst2", "SST-2", "glue/sst2"), or the plain one for records of this kind."""
    name = task.rpartition("/")[2].lower().replace("-", "").replace("_", "")
    if name.startswith("mnli"):
        name = "mnli"
    found = STYLES.get(name)
    if isinstance(record, Choices | LastWord):
        return _CHOICES if isinstance(record, Choices) else _LAST_WORD
    two = isinstance(record, Labelled) and record.second is not None
    if found is None or ("{second}" in found.template) != two:
        return _TWO if two else _ONE
    return found


@dataclass(frozen=True)
class Asked:
    """A text with a place for the answer, what may stand there, and which of these is right (None: nobody says)."""

    before: str
    options: tuple[str, ...]
    after: str = ""
    gold: int | None = None

    def solved(self, option: int) -> str:
        """The text with an answer in its place."""
        return f"{self.before}{self.options[option]}{self.after}"


class Template:
    """Text with fields in braces: {first} and {second} of labelled records, {context} and {question} of choices, and {answer}, which
    stands at the end where it is not said. `\\n` is a new line. A field that is empty takes the space before it along."""

    def __init__(self, text: str, kind: type[Record]) -> None:
        text = text.replace("\\n", "\n")
        accepted = (*FIELDS[kind], ANSWER)
        try:
            pieces = [(literal, name) for literal, name, *_ in Formatter().parse(text)]
        except ValueError as fault:
            raise Refusal(f"objective.template: {fault}; a brace that is text is written twice.") from None
        names = [name for _, name in pieces if name is not None]
        for name in names:
            if name not in accepted:
                raise Refusal(f"objective.template: {{{name}}} is not there{did_you_mean(name, accepted)}")
        if names.count(ANSWER) > 1:
            raise Refusal("objective.template has {answer} more than once; there is one answer.")
        if not set(names) - {ANSWER}:
            fields = " or ".join(f"{{{name}}}" for name in FIELDS[kind])
            raise Refusal(f"objective.template shows nothing of an example: it must have {fields}.")
        if ANSWER not in names:
            ends_in_space = pieces[-1][1] is None and pieces[-1][0][-1:].isspace()
            pieces.append(("" if ends_in_space else " ", ANSWER))
        self.pieces = pieces

    def filled(self, values: Mapping[str, str], options: Sequence[str], gold: int | None) -> Asked:
        """The template for one example."""
        said = ["", ""]
        side = 0
        for literal, name in self.pieces:
            said[side] += literal
            if name == ANSWER:
                side = 1
            elif name is not None:
                value = values.get(name, "")
                if not value and said[side].endswith(" "):
                    said[side] = said[side][:-1]
                said[side] += value
        return Asked(said[0], tuple(options), said[1], gold)


class Questions:
    """What turns a task's records into texts with a place for the answer.

    `classes` are the names of what a Labelled record may be. `template` and `words` (class -> what stands for it) win over the
    task's own style.
    """

    def __init__(
        self,
        task: str,
        example: Record,
        classes: Sequence[str] = (),
        template: str | None = None,
        words: Mapping[str, str] | None = None,
    ) -> None:
        style = style_of(task, example)
        kind: type[Record] = next(kind for kind in FIELDS if isinstance(example, kind))
        self.text = template if template is not None else style.template
        self.template = Template(self.text, kind)
        self.classes = tuple(classes)
        said = dict(words or {})
        if said and kind is not Labelled:
            raise Refusal(f"objective.words has no effect: the answers of {task} are texts, not classes.")
        for name in said:
            if name not in self.classes:
                raise Refusal(f"objective.words.{name} is no class of {task}{did_you_mean(name, self.classes)}")
        # a style's words are for its classes: where the names differ (one's own table called "rte") none of them is taken
        own = style.words if all(name in style.words for name in self.classes) else {}
        self.words = tuple(said.get(name, own.get(name, name)) for name in self.classes)
        double = next((word for word in self.words if self.words.count(word) > 1), None)
        if double is not None:
            raise Refusal(f"objective.words: {double!r} stands for more than one class of {task}.")
        self._own = template is not None

    def asked(self, record: Record) -> Asked:
        """The text for a record, without demonstrations."""
        if isinstance(record, Choices):
            if BLANK in record.context and not self._own:  # the text itself says where the answer belongs
                before, _, after = record.context.partition(BLANK)
                return Asked(before, record.options, f"{after} {record.question}".rstrip(), record.label)
            values = {"context": record.context, "question": record.question}
            return self.template.filled(values, record.options, record.label)
        if isinstance(record, LastWord):
            if not self._own:
                return Asked(f"{record.context}{record.gap}", (record.target,), "", 0)
            return self.template.filled({"context": record.context}, (record.target,), 0)
        assert isinstance(record, Labelled)
        values = {"first": record.sentences[0], "second": record.second or ""}
        gold = None if record.label is None else self.classes.index(str(record.label))
        return self.template.filled(values, self.words, gold)


@dataclass(frozen=True)
class Demonstrations:
    """How solved examples are drawn and laid out.

    `draw`: as many of each class as can be, or at random. `each`: the same for all examples, or drawn anew for each. `shuffle_labels`:
    the answers of the demonstrations change places at random, so that they keep their distribution and say nothing: the control that
    tells whether a model reads them. `separator` stands between two of them.
    """

    draw: Literal["balanced", "random"] = "balanced"
    each: Literal["same", "anew"] = "same"
    shuffle_labels: bool = False
    separator: str = "\\n\\n"


class Prompter:
    """Puts a description and `shots` demonstrations, drawn by `seed` from `pool`, before what is asked.

    `pool`: texts whose right answer is known. Raises Refusal where it has fewer than `shots`.
    """

    def __init__(
        self,
        pool: Sequence[Asked],
        shots: int,
        seed: int,
        how: Demonstrations | None = None,
        description: str | None = None,
    ) -> None:
        self.how = how or Demonstrations()
        if any(each.gold is None for each in pool):
            raise ValueError("demonstrations need their answers")
        if shots > len(pool):
            raise Refusal(f"objective.shots={shots}: there are {len(pool)} examples to draw demonstrations from.")
        self.pool, self.shots, self.seed = list(pool), shots, seed
        self.separator = self.how.separator.replace("\\n", "\n")
        self.description = None if description is None else description.replace("\\n", "\n")
        self._same = self._drawn(keyed.key(seed, "demonstrations")) if shots and self.how.each == "same" else []

    def demonstrations(self, number: int = 0) -> list[tuple[Asked, int]]:
        """The demonstrations for an example, by its number in its split, each with the answer that it is shown with."""
        if not self.shots or self.how.each == "same":
            return self._same
        return self._drawn(keyed.key(self.seed, "demonstrations", number))

    def _drawn(self, key: int) -> list[tuple[Asked, int]]:
        order = keyed.permutation(key, len(self.pool)).tolist()
        if self.how.draw == "random":
            chosen = order[: self.shots]
        else:
            queues: dict[int, list[int]] = {}
            for number in order:  # classes in the order in which chance brings them: the first may get one more
                queues.setdefault(int(self.pool[number].gold or 0), []).append(number)
            chosen = []
            while len(chosen) < self.shots:
                for queue in queues.values():
                    if queue and len(chosen) < self.shots:
                        chosen.append(queue.pop(0))
            chosen = [chosen[i] for i in keyed.permutation(keyed.key(key, "order"), len(chosen))]
        golds = [int(self.pool[number].gold or 0) for number in chosen]
        if self.how.shuffle_labels:
            golds = [golds[i] for i in keyed.permutation(keyed.key(key, "labels"), len(golds))]
        made = [self.pool[number] for number in chosen]
        return [(each, gold % len(each.options)) for each, gold in zip(made, golds, strict=True)]

    def asked(self, question: Asked, number: int = 0) -> Asked:
        """The question with all that stands before it."""
        shown = [each.solved(gold) for each, gold in self.demonstrations(number)]
        opening = [] if self.description is None else [self.description]
        before = self.separator.join([*opening, *shown, question.before])
        return Asked(before, question.options, question.after, question.gold)


def chance(asked: Sequence[Asked]) -> float:
    """The accuracy of one who guesses among each example's options."""
    return float(np.mean([1 / len(each.options) for each in asked])) if asked else 0.0


def majority(asked: Sequence[Asked]) -> float | None:
    """The accuracy of one who always gives the most frequent answer, where the options are the same for all; None where not."""
    golds = [each.gold for each in asked if each.gold is not None]
    if not golds or len({each.options for each in asked}) > 1:
        return None
    return float(np.bincount(golds).max() / len(golds))


__all__ = [
    "STYLES",
    "Asked",
    "Demonstrations",
    "Prompter",
    "Questions",
    "Style",
    "Template",
    "chance",
    "majority",
    "style_of",
]
