"""The generated language's own tasks as corpora that need no file (docs/world-tasks.md).

The records are those that the benchmarks' readers find in the files of `cloze world --tasks`, save that here a test split has labels too.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from cloze.data.base import (
    Answer,
    Choices,
    Labelled,
    Labels,
    Passage,
    Question,
    Record,
    SourceTarget,
    Tagged,
    TaskCorpus,
)
from cloze.data.tasks.glue import FORMS
from cloze.data.tasks.lambada import LastWord
from cloze.data.tasks.marks import marked, word_span
from cloze.data.tasks.pairs import LABELS as TEXT_TO_TEXT
from cloze.data.tasks.pairs import lines_of
from cloze.data.tasks.superglue import LABELS as SUPERGLUE
from cloze.data.world.documents import Document
from cloze.data.world.languages import LANGUAGES
from cloze.data.world.tasks import (
    acceptability,
    answering,
    constituents,
    continuation,
    coreference,
    cross_lingual,
    duplicates,
    entailment,
    inference,
    knowledge,
    last_words,
    paraphrase,
    pronouns,
    questions,
    reading,
    rewriting,
    roles,
    sentiment,
    similarity,
    tagging,
    unseen_words,
)
from cloze.data.world.tasks.scene import Fold
from cloze.errors import Refusal, did_you_mean

VERSION = 2

ClassificationTask = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "coreference"]
TaggingTask = Literal["pos", "ner", "srl", "constituents", "unseen_words"]
QuestionsTask = Literal["squad", "squad2"]
ChoicesTask = Literal["swag", "race"]

_FOLDS: dict[str, Fold] = {"train": "train", "validation": "dev", "test": "test"}


class WorldTask(TaskCorpus):
    """One task of the generated language.

    train, validation, test: how many examples of each (documents, for taggers of documents; questions, for those that ask them).
    Example i is the same whatever these numbers are. task_seed: another seed, other examples.
    """

    generated = True
    task: str
    further: tuple[object, ...] = ()  # more settings that decide the examples

    def __init__(self, train: int, validation: int, test: int, task_seed: int) -> None:
        for name, count in (("train", train), ("validation", validation), ("test", test)):
            if count < 1:
                raise Refusal(f"data.{name}={count} must be at least 1.")
        self.sizes = {"train": train, "validation": validation, "test": test}
        self.task_seed = task_seed

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.task

    @property
    def announcement(self) -> str:
        return f"task {self.task} of the generated language v{VERSION}; not English"

    def fingerprint(self) -> str:
        settings = json.dumps(
            ["world task", VERSION, self.task, sorted(self.sizes.items()), self.task_seed, *self.further]
        )
        # the text itself is part of it, so that a cache never outlives a change of the language
        first = [
            repr(_shown(record))
            for split in self.splits()
            for record, _ in zip(self.split_records(split), range(8), strict=False)
        ]
        return hashlib.sha256("\n".join([settings, *first]).encode()).hexdigest()

    def splits(self) -> tuple[str, ...]:
        return ("train", "validation", "test")

    def split_records(self, split: str) -> Iterator[Record]:
        if split not in self.splits():
            raise Refusal(f"{self.announcement}: there is no {split} split; it has {', '.join(self.splits())}")
        yield from self.generate(split, f"world/{self.task}, {split}")

    @abstractmethod
    def generate(self, split: str, where: str) -> Iterator[Record]:
        """The records of a split that is there."""


class WorldClassification(WorldTask):
    """One or two texts and a label, as in GLUE: cola sst2 mrpc stsb qqp mnli qnli rte wnli; coreference, as WSC in SuperGLUE.

    mnli has also validation_mismatched and test_mismatched: topics that no other split has.
    """

    reads = Labelled

    def __init__(
        self,
        task: ClassificationTask,
        train: int = 4000,
        validation: int = 500,
        test: int = 500,
        task_seed: int = 1,
    ) -> None:
        super().__init__(train, validation, test, task_seed)
        self.task = task

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.task: SUPERGLUE["wsc"] if self.task == "coreference" else FORMS[self.task].labels}

    def splits(self) -> tuple[str, ...]:
        further = ("validation_mismatched", "test_mismatched") if self.task == "mnli" else ()
        return (*super().splits(), *further)

    def generate(self, split: str, where: str) -> Iterator[Record]:
        kind = split.removesuffix("_mismatched")
        fold: Fold = _FOLDS[kind] if kind == split else "mismatched"
        first = MISMATCHED_TEST if split == "test_mismatched" else 0
        make = _LABELLED[self.task]
        for number in range(self.sizes[kind]):
            texts, label = make(fold, first + number, self.task_seed)
            name = str(number) if kind == "test" or self.task in _NUMBERED else ""
            yield Labelled(texts, where=f"{where} example {number}", label=label, id=name, task=self.task)


class WorldXnli(WorldTask):
    """Shaped like XNLI: learn from premises and hypotheses in one language, be tested in others.

    languages       those to validate and test on, of a, b and c (None: a and b); an example is the same in each, translated
    train_language  the one that is trained in
    anchors         share of names and number words that are the same in all languages

    Splits are train, validation and test of all `languages`, and validation_a, test_a, … of one each where there are several.
    """

    reads = Labelled
    task = "xnli"

    def __init__(
        self,
        languages: list[str] | None = None,
        train_language: str = "a",
        anchors: float = cross_lingual.ANCHORS,
        train: int = 4000,
        validation: int = 500,
        test: int = 500,
        task_seed: int = 1,
    ) -> None:
        super().__init__(train, validation, test, task_seed)
        tested = ("a", "b") if languages is None else tuple(languages)
        for setting, named in (("languages", tested), ("train_language", (train_language,))):
            for name in named:
                if name not in LANGUAGES:
                    raise Refusal(f"data.{setting}: there is no language {name}{did_you_mean(str(name), LANGUAGES)}")
        if not tested or len(set(tested)) < len(tested):
            raise Refusal(
                f"data.languages=[{','.join(tested)}] must name one or more of {', '.join(LANGUAGES)}, each once."
            )
        if not 0.0 <= anchors <= 1.0:
            raise Refusal(f"data.anchors={anchors:g} must lie in [0, 1].")
        self.languages, self.train_language, self.anchors = tested, train_language, anchors
        self.further = (tested, train_language, anchors)

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.task: Labels(("entailment", "neutral", "contradiction"))}

    def splits(self) -> tuple[str, ...]:
        kinds = ("validation", "test") if len(self.languages) > 1 else ()
        return (*super().splits(), *(f"{kind}_{language}" for kind in kinds for language in self.languages))

    def generate(self, split: str, where: str) -> Iterator[Record]:
        kind, _, alone = split.partition("_")
        for language in (self.train_language,) if kind == "train" else (alone,) if alone else self.languages:
            for number in range(self.sizes[kind]):
                made = cross_lingual.example(_FOLDS[kind], number, language, self.anchors, self.task_seed)  # type: ignore[arg-type]
                yield Labelled(
                    (made.premise, made.hypothesis),
                    where=f"{where}, language {language}, example {number}",
                    language=language,
                    label=made.label,
                    id="" if kind == "train" else str(number),
                    task=self.task,
                )


class WorldTagging(WorldTask):
    """Words and their tags: pos and ner of whole documents; srl (semantic roles), constituents (phrases) and unseen_words of single
    sentences.

    unseen_words gives no tag to half of the words in training and to the other half in validation and test ("_"): what is scored are
    words that were never seen with a label.
    """

    reads = Tagged

    def __init__(
        self, task: TaggingTask, train: int = 500, validation: int = 60, test: int = 60, task_seed: int = 1
    ) -> None:
        super().__init__(train, validation, test, task_seed)
        self.task = task

    @property
    def labels(self) -> dict[str, Labels]:
        metrics = ("span_f1", "accuracy") if self.task in ("ner", "srl", "constituents") else ("accuracy",)
        return {self.task: Labels(tuple(sorted(_TAGS[self.task], key=lambda tag: (tag != "O", tag))), metrics)}

    def generate(self, split: str, where: str) -> Iterator[Record]:
        fold = _FOLDS[split]
        for number in range(self.sizes[split]):
            at = f"{where} example {number}"
            if self.task in ("pos", "ner"):
                yield _document(self.task, tagging.document(fold, number, self.task_seed), at)
                continue
            if self.task == "srl":
                role = roles.example(fold, number, self.task_seed)
                given, tags = role.words, role.tags
            elif self.task == "constituents":
                given, _, tags = constituents.example(fold, number, self.task_seed)
            else:
                made = unseen_words.example(fold, number, self.task_seed)
                given, tags = made.words, made.tags
            yield Tagged((" ".join(given),), where=at, words=(given,), tags=(tags,))


class WorldQuestions(WorldTask):
    """Questions answered by a stretch of a document: squad (1.1), and squad2, half of whose questions the document does not answer."""

    reads = Passage

    def __init__(
        self, task: QuestionsTask, train: int = 4000, validation: int = 500, test: int = 500, task_seed: int = 1
    ) -> None:
        super().__init__(train, validation, test, task_seed)
        self.task = task

    @property
    def labels(self) -> dict[str, Labels]:
        further = ("no_answer_accuracy",) if self.task == "squad2" else ()
        return {self.task: Labels((), ("f1", "exact_match", *further))}

    def generate(self, split: str, where: str) -> Iterator[Record]:
        version = "2.0" if self.task == "squad2" else "1.1"
        for article in questions.articles(_FOLDS[split], self.sizes[split], version, self.task_seed):
            asked = tuple(
                Question(name, each.text, (Answer(each.answer, each.start),) if each.answer else ())
                for name, each in article.questions
            )
            yield Passage(
                (article.context,), article.title, f"{where} {article.title}", questions=asked, title=article.title
            )


class WorldChoices(WorldTask):
    """Several options, one of which is right: swag (what can happen next), race (questions about a text)."""

    reads = Choices

    def __init__(
        self, task: ChoicesTask, train: int = 4000, validation: int = 500, test: int = 500, task_seed: int = 1
    ) -> None:
        super().__init__(train, validation, test, task_seed)
        self.task = task

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.task: Labels(tuple("ABCD" if self.task == "race" else "0123"))}

    def generate(self, split: str, where: str) -> Iterator[Record]:
        for number, made in zip(
            range(self.sizes[split]), _CHOICES[self.task](_FOLDS[split], self.task_seed), strict=False
        ):
            texts, options, label, name = made
            yield Choices(texts, where=f"{where} example {number}", options=options, label=label, id=name)


class WorldRewriting(WorldTask):
    """A text for each text. A subclass says which."""

    reads = SourceTarget

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.task: TEXT_TO_TEXT}

    def generate(self, split: str, where: str) -> Iterator[Record]:
        for number in range(self.sizes[split]):
            source, target = self.pair(_FOLDS[split], number)
            yield SourceTarget((source,), where=f"{where} example {number}", target=target, id=str(number))

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, str]:
        return lines_of(self.name, split, predictions)

    @abstractmethod
    def pair(self, fold: Fold, number: int) -> tuple[str, str]:
        """A source and its target."""


class WorldTranslation(WorldRewriting):
    """Sentences and their translations, of documents of their own.

    source, target  the languages: a, b or c; not from c, which says neither number nor tense
    anchors         share of names and number words that are the same in all languages
    """

    task = "translation"

    def __init__(
        self,
        source: str = "a",
        target: str = "b",
        anchors: float = cross_lingual.ANCHORS,
        train: int = 4000,
        validation: int = 500,
        test: int = 500,
        task_seed: int = 1,
    ) -> None:
        super().__init__(train, validation, test, task_seed)
        for setting, name in (("source", source), ("target", target)):
            if name not in LANGUAGES:
                raise Refusal(f"data.{setting}={name}: there is no such language{did_you_mean(str(name), LANGUAGES)}")
        if source == target:
            raise Refusal(f"data.target={target} is the source's language: take another of {', '.join(LANGUAGES)}.")
        if source == "c":
            raise Refusal(
                "data.source=c: that language says neither number nor tense, so nobody could tell; take a or b."
            )
        if not 0.0 <= anchors <= 1.0:
            raise Refusal(f"data.anchors={anchors:g} must lie in [0, 1].")
        self.source, self.target, self.anchors = source, target, anchors
        self.further = (source, target, anchors)

    def pair(self, fold: Fold, number: int) -> tuple[str, str]:
        made = rewriting.translation(fold, number, self.anchors, self.task_seed)
        return getattr(made, self.source), getattr(made, self.target)


class WorldSummary(WorldRewriting):
    """Passages of two scripts, and the first sentence of each."""

    task = "summary"

    def __init__(self, train: int = 4000, validation: int = 500, test: int = 500, task_seed: int = 1) -> None:
        super().__init__(train, validation, test, task_seed)

    def pair(self, fold: Fold, number: int) -> tuple[str, str]:
        return rewriting.summary(fold, number, self.task_seed)


class WorldMinimalPairs(WorldTask):
    """Shaped like BLiMP: an acceptable sentence, which is option 0, and its twin with one fault. There is one split, "test".

    test: pairs of each of the three levels, order, agreement and selection. Agreement has four paradigms: of the verb with its noun
    (`number`), with another noun between them (`across_noun`), of the article with the sound after it (`article`), and the verb
    behind `did not` and `wanted to` (`bare_verb`): of give, find and take, which documents have in the past alone.
    """

    reads = Choices
    task = "blimp"

    def __init__(self, test: int = 500, task_seed: int = 1) -> None:
        super().__init__(1, 1, test, task_seed)

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.task: Labels(("good", "bad"))}

    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def generate(self, split: str, where: str) -> Iterator[Record]:
        for level in acceptability.LEVELS:
            for number in range(self.sizes[split]):
                made = acceptability.minimal_pair(level, number, self.task_seed)
                at = f"{where} {level} {number}"
                yield Choices(("",), level, at, options=(made.good, made.bad), label=0, id=f"world_{made.paradigm}")


class WorldFacts(WorldTask):
    """Shaped like LAMA: facts of the language that no text beside the question tells, so only pre-training can have taught them.

    A fact is `Choices` between whole sentences, the blank filled with the right word or with that of others. A record's `id` is the
    relation: workplace, belongings, town (four options each), pronoun (two). There is one split, "test", which has all facts.
    """

    reads = Choices
    task = "lama"

    def __init__(self, task_seed: int = 1) -> None:
        super().__init__(1, 1, 1, task_seed)

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.task: Labels(tuple("0123"))}

    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def generate(self, split: str, where: str) -> Iterator[Record]:
        for fact in knowledge.facts(self.task_seed):
            options = tuple(fact.sentence.replace(knowledge.BLANK, option) for option in fact.options)
            yield Choices(("",), where=f"{where} {fact.subject}", options=options, label=fact.label, id=fact.relation)


class WorldLastWords(WorldTask):
    """Shaped like LAMBADA: passages whose last word the last sentence alone does not tell. There is one split, "test"."""

    reads = LastWord
    task = "lambada"

    def __init__(self, test: int = 500, task_seed: int = 1) -> None:
        super().__init__(1, 1, test, task_seed)

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.task: Labels(metrics=("accuracy", "perplexity"))}

    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def generate(self, split: str, where: str) -> Iterator[Record]:
        for number in range(self.sizes[split]):
            made = last_words.example(number, self.task_seed)
            yield LastWord((made.passage,), where=f"{where} example {number}", target=made.word, id=str(number + 1))


def _shown(record: Record) -> object:
    told = (getattr(record, "target", None),) if isinstance(record, SourceTarget) else ()
    return (record.sentences, getattr(record, "tags", None), getattr(record, "label", None), *told)  # type: ignore[attr-defined]


# What an example is as a record

MISMATCHED_TEST = 100_000  # the first example of mnli's test_mismatched: others than those of validation_mismatched
_NUMBERED = (
    "stsb",
    "qqp",
    "mnli",
    "qnli",
    "rte",
    "wnli",
    "coreference",
)  # the files of these number the rows of all splits

_Made = tuple[tuple[str, ...], str | float]


def _cola(fold: Fold, number: int, seed: int) -> _Made:
    made = acceptability.example(fold, number, seed)
    return (made.sentence,), str(made.label)


def _sst2(fold: Fold, number: int, seed: int) -> _Made:
    made = sentiment.example(fold, number, seed)
    return (made.sentence,), str(made.label)


def _mrpc(fold: Fold, number: int, seed: int) -> _Made:
    made = paraphrase.example(fold, number, seed)
    return (made.first, made.second), str(made.label)


def _stsb(fold: Fold, number: int, seed: int) -> _Made:
    made = similarity.example(fold, number, seed)
    return (made.first, made.second), made.score


def _qqp(fold: Fold, number: int, seed: int) -> _Made:
    made = duplicates.example(fold, number, seed)
    return (made.first, made.second), str(made.label)


def _mnli(fold: Fold, number: int, seed: int) -> _Made:
    made = inference.example(fold, number, seed)
    return (made.premise, made.hypothesis), made.label


def _qnli(fold: Fold, number: int, seed: int) -> _Made:
    made = answering.example(fold, number, seed)
    return (made.question, made.sentence), made.label


def _rte(fold: Fold, number: int, seed: int) -> _Made:
    made = entailment.example(fold, number, seed)
    return (made.text, made.hypothesis), made.label


def _wnli(fold: Fold, number: int, seed: int) -> _Made:
    made = pronouns.example(fold, number, seed)
    return (made.text, made.claim), str(made.label)


def _coreference(fold: Fold, number: int, seed: int) -> _Made:
    made = coreference.example(fold, number, seed)
    places = [
        (word_span(made.text, span.at, span.text), sign) for span, sign in ((made.named, "*"), (made.pronoun, "#"))
    ]
    return (marked(made.text, [(start, end, sign) for (start, end, _), sign in places]),), str(made.label).lower()


_LABELLED: dict[str, Callable[[Fold, int, int], _Made]] = {
    "cola": _cola,
    "sst2": _sst2,
    "mrpc": _mrpc,
    "stsb": _stsb,
    "qqp": _qqp,
    "mnli": _mnli,
    "qnli": _qnli,
    "rte": _rte,
    "wnli": _wnli,
    "coreference": _coreference,
}

_TAGS: dict[str, tuple[str, ...]] = {
    "pos": tagging.PARTS_OF_SPEECH,
    "ner": tagging.ENTITY_TAGS,
    "srl": roles.TAGS,
    "constituents": constituents.TAGS,
    "unseen_words": unseen_words.CLASSES,
}


def _document(task: str, document: Document, where: str) -> Tagged:
    given = tuple(tagging.plain(sentence) for sentence in document.sentences)
    if task == "pos":
        tags = tuple(tuple(word.tag for word in sentence.words) for sentence in document.sentences)
    else:
        tags = tuple(tuple(tagging.entity_tags(sentence.words)) for sentence in document.sentences)
    texts = tuple(
        s.text if task == "pos" else " ".join(words) for s, words in zip(document.sentences, given, strict=True)
    )
    return Tagged(texts, where=where, words=given, tags=tags)


_Choice = tuple[tuple[str, ...], tuple[str, ...], int, str]


def _swag(fold: Fold, seed: int) -> Iterator[_Choice]:
    number = 0
    while True:
        made = continuation.example(fold, number, seed)
        yield (made.first, made.start), made.endings, made.label, str(number)
        number += 1


def _race(fold: Fold, seed: int) -> Iterator[_Choice]:
    number = 0
    while True:
        made = reading.article(fold, number, seed)
        for which, ask in enumerate(made.questions):
            yield (made.article, ask.text), ask.options, ask.label, f"{fold}/middle/{number}.txt#{which}"
        number += 1


_CHOICES: dict[str, Callable[[Fold, int], Iterator[_Choice]]] = {"swag": _swag, "race": _race}
