"""A task without training, zero-, one- or few-shot: what `objective=score` does to a model and a corpus."""

from __future__ import annotations

import json
from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cloze.data import keyed
from cloze.data.base import Choices, Labelled, Record, TaskCorpus, Text
from cloze.errors import Refusal, with_article
from cloze.fewshot.comparison import Comparison, Judged, Normalise, refuse_alike
from cloze.fewshot.likelihood import Decoder, Masking, measure
from cloze.fewshot.prompts import FIELDS, Asked, Demonstrations, Prompter, Questions
from cloze.fewshot.results import Results, of_classes, of_last_words, of_options
from cloze.schema import faults

if TYPE_CHECKING:
    from cloze.loading import Pretrained

Say = Callable[[str], object]


class Answerable(Text, ABC):
    """Records with answers to compare: classes of labelled texts, options of choices, the last word of a passage."""


for _kind in FIELDS:
    Answerable.register(_kind)


@dataclass(frozen=True)
class Scored:
    """What was asked, what the model said of it, and what that comes to."""

    records: tuple[Record, ...]
    asked: tuple[Asked, ...]
    judged: tuple[Judged, ...]
    predictions: tuple[Any, ...]  # the names of classes, or the numbers of options
    results: Results
    protocol: str


class Scoring:
    """The settings of conf/objective/score.yaml, and what they do to a model and a task.

    template         the task as text, with {first} and {second} (or {context} and {question}) and {answer}; None: `STYLES`, by task
    words            class -> what stands for it; None: the task's own, or the names of the classes
    description      what stands before everything
    shots            demonstrations
    demonstrations   settings of `Demonstrations`
    normalise, content_free, masking, decoder: see `Comparison`
    split            what is scored; None: validation, or test where there is no other
    demonstrate_from where demonstrations are drawn from
    examples         of the split, of each paradigm where it has minimal pairs; always the same ones
    """

    def __init__(
        self,
        template: str | None = None,
        words: dict[Any, str] | None = None,
        description: str | None = None,
        shots: int = 0,
        demonstrations: dict[str, Any] | None = None,
        normalise: Normalise = "none",
        content_free: str = "Answer:",
        masking: Masking = "in_turn",
        decoder: Decoder = "as_learnt",
        split: str | None = None,
        demonstrate_from: str = "train",
        examples: int | None = None,
    ) -> None:
        for name, value, least in (("shots", shots, 0), ("examples", examples, 1)):
            if value is not None and value < least:
                raise Refusal(f"objective.{name}={value} must be at least {least}.")
        given = dict(demonstrations or {})
        if found := faults([Demonstrations], given, "objective.demonstrations"):
            raise Refusal("\n".join(found))
        self.demonstrations = Demonstrations(**given)
        if not shots:
            usual = Demonstrations()
            for name in given:
                if getattr(self.demonstrations, name) != getattr(usual, name) and name != "separator":
                    raise Refusal(
                        f"objective.demonstrations.{name}={given[name]} has no effect with objective.shots=0."
                    )
        if normalise != "calibrated" and content_free != "Answer:":
            raise Refusal(
                f"objective.content_free has no effect with objective.normalise={normalise}; calibrated uses it."
            )
        self.template, self.description, self.shots = template, description, shots
        self.words = None if words is None else {str(name): word for name, word in words.items()}
        self.comparison = Comparison(normalise, content_free, masking, decoder)
        self.split, self.demonstrate_from, self.examples = split, demonstrate_from, examples

    def prompts(self, corpus: TaskCorpus, seed: int, say: Say = lambda line: None) -> Prompts:
        """What is asked of a split, demonstrations drawn by `seed`. Raises Refusal where the task is none of choosing."""
        split = self._split_of(corpus)
        records = list(corpus.split_records(split))
        for note in corpus.notes():
            say(f"{split}: {note}")
        if not records:
            raise Refusal(f"the {split} split of this corpus holds no example")
        records = self._some(records)
        first = records[0]
        if not isinstance(first, Answerable):
            kind = type(first).__name__.lower()
            raise Refusal(
                f"objective=score compares answers; {corpus.name} has {kind} records, which have none to compare."
            )
        classes = _classes(corpus, first)
        questions = Questions(corpus.name, first, classes, self.template, self.words)
        asked = [questions.asked(record) for record in records]
        pool: list[Asked] = []
        if self.shots:
            solved = self._pool(corpus, split, records)
            pool = [each for each in (questions.asked(record) for record in solved) if each.gold is not None]
            if self.demonstrations.shuffle_labels and len({each.gold for each in pool}) < 2:
                raise Refusal(
                    "objective.demonstrations.shuffle_labels=true has no effect: the right answers are all the same one."
                )
        prompter = Prompter(pool, self.shots, seed, self.demonstrations, self.description)
        whole = tuple(prompter.asked(each, number) for number, each in enumerate(asked))
        return Prompts(split, tuple(records), whole, questions, classes)

    def score(
        self, loaded: Pretrained, corpus: TaskCorpus, seed: int, length: int, say: Say = lambda line: None
    ) -> Scored:
        """The whole. `length`: tokens of a text, special tokens counted; what is longer loses its beginning."""
        made = self.prompts(corpus, seed, say)
        if made.classes:
            refuse_alike(loaded, made.questions.words)
        judged = self.comparison.judge(loaded, made.asked, length)
        facts: dict[str, Any] = {"task": corpus.name, "split": made.split, "shots": self.shots}
        cut = sum(each.cut for each in judged)
        if cut:
            facts["notes"] = (
                f"{cut:,} of {len(judged):,} prompts had more than {length} tokens and lost their beginning",
            )
        groups = [_group(record) for record in made.records]
        if made.classes:
            labels = corpus.labels[made.task] if made.task in corpus.labels else next(iter(corpus.labels.values()))
            results = of_classes(made.asked, judged, labels, groups, **facts)
        elif all(len(each.options) == 1 for each in made.asked):
            results = of_last_words(judged, **facts)
        else:
            results = of_options(made.asked, judged, groups, **facts)
        predictions = tuple(made.classes[each.choice] if made.classes else each.choice for each in judged)
        return Scored(made.records, made.asked, tuple(judged), predictions, results, self.protocol(loaded, made))

    def protocol(self, loaded: Pretrained, made: Prompts) -> str:
        """How it was measured, in a sentence."""
        way = measure(loaded)
        if len(made.asked[0].options) == 1:
            return (
                f"right: each token of the completion is the likeliest one, those before it given; perplexity by {way}"
            )
        how = {
            "none": "",
            "token": ", divided by its tokens",
            "character": ", divided by its characters",
            "calibrated": f", less that behind {self.comparison.content_free!r}",
        }
        return f"options compared by {way}{how[self.comparison.normalise]}"

    def _split_of(self, corpus: TaskCorpus) -> str:
        there = corpus.splits()
        if self.split is None:
            return next((name for name in ("validation", "test") if name in there), there[0])
        if self.split not in there:
            raise Refusal(f"objective.split={self.split} is not there; {corpus.name} has {', '.join(there)}.")
        return self.split

    def _some(self, records: Sequence[Record]) -> list[Record]:
        """So many of each group, or of all where there is one; not the seed's business, so that all runs are judged on the same."""
        if self.examples is None:
            return list(records)
        by_group: dict[str, list[int]] = {}
        for number, record in enumerate(records):
            by_group.setdefault("" if isinstance(record, Labelled) else _group(record), []).append(number)
        chosen: list[int] = []
        for name, numbers in by_group.items():
            order = keyed.permutation(keyed.key("score examples", name), len(numbers))
            chosen += [numbers[i] for i in order[: self.examples]]
        return [records[number] for number in sorted(chosen)]

    def _pool(self, corpus: TaskCorpus, split: str, records: Sequence[Record]) -> list[Record]:
        """The records that demonstrations are drawn from: never one that is asked about."""
        source = self.demonstrate_from
        if source not in corpus.splits():
            has = ", ".join(corpus.splits())
            raise Refusal(f"objective.demonstrate_from={source} is not there; {corpus.name} has {has}.")
        found = list(corpus.split_records(source))
        if source == split:
            asked = set(records)
            found = [record for record in found if record not in asked]
        return found


@dataclass(frozen=True)
class Prompts:
    """The texts of a split, and what they were made of."""

    split: str
    records: tuple[Record, ...]
    asked: tuple[Asked, ...]
    questions: Questions
    classes: tuple[str, ...] = field(default=())

    @property
    def task(self) -> str:
        return str(getattr(self.records[0], "task", ""))


def _classes(corpus: TaskCorpus, first: Record) -> tuple[str, ...]:
    if not isinstance(first, Labelled):
        return ()
    labels = corpus.labels.get(first.task) or next(iter(corpus.labels.values()))
    if labels.numeric:
        raise Refusal(f"objective=score compares the words of classes; {corpus.name} asks for a number.")
    return labels.names


def _group(record: Record) -> str:
    """What a record is put together with others by: answers of one question; whole sentences to choose from (minimal pairs) of one
    paradigm, which is what they have instead of a name of their own."""
    if isinstance(record, Labelled):
        return record.group
    whole = isinstance(record, Choices) and not record.context and not record.question
    return record.id if isinstance(record, Choices) and whole else ""


def written(scored: Scored, corpus: TaskCorpus, facts: dict[str, Any]) -> dict[str, str]:
    """The files of a run: score.json and the predictions in the form that the benchmark takes."""
    content = {**facts, **scored.results.figures(), "protocol": scored.protocol, "prompt": scored.asked[0].before}
    files = {"score.json": json.dumps(content, indent=2, ensure_ascii=False) + "\n"}
    if len(scored.asked[0].options) > 1:  # of a single completion nobody knows what the model would have written
        files |= corpus.submission(scored.results.split, scored.records, scored.predictions)
    return files


def length_for(loaded: Pretrained, said: int | None) -> int:
    """Tokens of a text: as the run was trained, or as is said. Raises Refusal where the model has no positions for them."""
    if said is None:
        return loaded.length
    most = loaded.model.positions
    if most is not None and said > most:
        name = with_article(type(loaded.model).__name__)
        raise Refusal(f"length={said} is more than the {most} positions of this {name.partition(' ')[2]}.")
    return said


__all__ = ["Answerable", "Prompts", "Scored", "Scoring", "length_for", "written"]
