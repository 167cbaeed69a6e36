"""SuperGLUE's tasks but COPA (`choices.py`): https://arxiv.org/abs/1905.00537, from the official files.

FewGLUE_32dev has the same fields, 32 examples in train.jsonl and 32 in dev32.jsonl, which is a split of its own here where there is a
val.jsonl, and else what is validated on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cloze.data.base import Answer, Labelled, Labels, Passage, Question, Record
from cloze.data.tasks.benchmark import Benchmark, Maker, id_of, label_of, numbered, text_of
from cloze.data.tasks.fields import Fault, checked, field
from cloze.data.tasks.marks import marked, word_span
from cloze.data.tasks.rows import JsonRows, Row, Rows, file_in
from cloze.errors import Refusal

SuperGlueTask = Literal["boolq", "cb", "multirc", "rte", "wic", "wsc"]

_BOOLEAN = ("false", "true")
_TWO = ("entailment", "not_entailment")
LABELS: dict[str, Labels] = {
    "boolq": Labels(_BOOLEAN),
    "cb": Labels(("entailment", "contradiction", "neutral"), ("f1_macro", "accuracy")),
    "multirc": Labels(("0", "1"), ("f1_a", "exact_match")),
    "record": Labels((), ("f1", "exact_match")),
    "rte": Labels(_TWO),
    "wic": Labels(_BOOLEAN),
    "wsc": Labels(_BOOLEAN),
}
FOLDERS = {
    "boolq": "BoolQ",
    "cb": "CB",
    "multirc": "MultiRC",
    "record": "ReCoRD",
    "rte": "RTE",
    "wic": "WiC",
    "wsc": "WSC",
}
_COLUMNS: dict[str, tuple[str, ...]] = {
    "boolq": ("passage", "question"),
    "cb": ("premise", "hypothesis"),
    "multirc": ("passage",),
    "record": ("passage", "qas"),
    "rte": ("premise", "hypothesis"),
    "wic": ("sentence1", "sentence2", "word", "start1", "end1", "start2", "end2"),
    "wsc": ("text", "target"),
}
_FILES: dict[str, tuple[str, ...]] = {
    "train": ("train.jsonl",),
    "validation": ("val.jsonl", "dev.jsonl"),
    "dev32": ("dev32.jsonl",),
    "test": ("test.jsonl",),
}


class _Files(Benchmark):
    """A task's folder of JSON lines, below the folder of all tasks or named itself."""

    def __init__(self, task: str, path: str) -> None:
        self.name = task
        self.title = f"SuperGLUE {FOLDERS[task]}"
        self.path = path

    def _found(self) -> dict[str, Rows]:
        path = Path(self.path).expanduser()
        if not path.is_dir():
            raise Refusal(f"data.path={self.path} is not a folder: it must be SuperGLUE's, or the task's own")
        below = {each.name.lower(): each for each in sorted(path.iterdir()) if each.is_dir()}
        official = FOLDERS[self.name]
        for folder in (path, below.get(official.lower())):
            found: dict[str, Rows] = {}
            for split, names in _FILES.items() if folder is not None else ():
                file = file_in(folder, *names) if folder is not None else None
                if file is not None:
                    found[split] = JsonRows(file)
            if found:
                if "validation" not in found and "dev32" in found:  # FewGLUE's ReCoRD
                    found["validation"] = found.pop("dev32")
                for rows in found.values():
                    for column in _COLUMNS[self.name]:
                        rows.column(column)
                return found
        there = ", ".join(each.name for each in below.values()) or "no folders"
        raise Refusal(
            f"data.path={self.path}: no folder {official} with train.jsonl, val.jsonl, test.jsonl in it; it has {there}"
        )

    @property
    def labels(self) -> dict[str, Labels]:
        return {self.name: LABELS[self.name]}

    def _sent(self, split: str, lines: Iterator[dict[str, Any]]) -> dict[str, str]:
        name = f"{FOLDERS[self.name]}.jsonl" if split == "test" else f"{FOLDERS[self.name]}-{split}.jsonl"
        return {name: "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)}


class SuperGlue(_Files):
    """One of SuperGLUE's tasks that are classification, as one text or two:

    boolq    passage, question
    cb, rte  premise, hypothesis
    wic      the two sentences, the word between asterisks in each: "He * beat * the drum ."
    wsc      the text, the noun between asterisks and the pronoun between number signs: "* Tina * said # she # was late ."
    multirc  paragraph, then question and answer: each answer is an example, and the question is its group

    task      boolq | cb | multirc | rte | wic | wsc
    path      the folder of all tasks, or the task's own
    """

    def __init__(self, task: SuperGlueTask, path: str) -> None:
        super().__init__(task, path)
        self._moved = 0

    def maker(self, split: str) -> Maker:
        texts = getattr(self, f"_{self.name}", None) or self._pair
        labels = LABELS[self.name]
        tested = split == "test"
        if not tested:
            self.tables[split].column("label")

        def make(row: Row) -> Record:
            return Labelled(
                texts(row),
                where=row.where,
                label=label_of(row, "label", labels, needed=not tested),
                id=id_of(row, ("idx",)),
                task=self.name,
            )

        return make

    def _pair(self, row: Row) -> tuple[str, ...]:
        return tuple(text_of(row, column) for column in _COLUMNS[self.name])

    def _wic(self, row: Row) -> tuple[str, ...]:
        texts = []
        for n in (1, 2):
            text = checked(row.fields.get(f"sentence{n}"), f"sentence{n}", str)
            start, end = (field(row.fields, f"{edge}{n}", int) for edge in ("start", "end"))
            if not 0 <= start < end <= len(text):
                raise Fault(
                    f"start{n}={start}, end{n}={end} is no place in sentence{n}, which has {len(text)} characters"
                )
            texts.append(marked(text, [(start, end, "*")]).strip())
        return tuple(texts)

    def _wsc(self, row: Row) -> tuple[str, ...]:
        text = text_of(row, "text")
        target = field(row.fields, "target", dict)
        spans = []
        for n, sign in ((1, "*"), (2, "#")):
            *span, there = word_span(text, field(target, f"span{n}_index", int), field(target, f"span{n}_text", str))
            spans.append((span[0], span[1], sign))
            self._moved += not there
        return (marked(text, spans),)

    # MultiRC: a row has several examples

    def split_records(self, split: str) -> Iterator[Record]:
        self._moved = 0
        if self.name != "multirc":
            yield from super().split_records(split)
            return
        for row in self.tables[split]:
            try:
                if row.fault:
                    raise Fault(row.fault)
                yield from _answers(row, needed=split != "test")
            except Fault as fault:
                raise Refusal(f"{row.where}: {str(fault).removesuffix('.')}") from None

    def notes(self) -> list[str]:
        moved, self._moved = self._moved, 0
        one = "span does" if moved == 1 else "spans do"
        more = (
            [f"{self.path}: {moved} {one} not stand where the file says; the nearest place is marked"] if moved else []
        )
        return [*super().notes(), *more]

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """As super.gluebenchmark.com takes it: a JSON object a line, of MultiRC a passage a line."""
        if self.name != "multirc":
            return self._sent(split, ({"idx": _number(i), "label": p} for i, p in numbered(records, predictions)))
        passages: dict[int, dict[int, list[dict[str, int]]]] = defaultdict(lambda: defaultdict(list))
        for index, predicted in numbered(records, predictions):
            passage, question, answer = map(int, index.split("-"))
            passages[passage][question].append({"idx": answer, "label": int(predicted)})
        return self._sent(
            split,
            (
                {
                    "idx": passage,
                    "passage": {"questions": [{"idx": q, "answers": answers} for q, answers in questions.items()]},
                }
                for passage, questions in passages.items()
            ),
        )


class ReCoRD(_Files):
    """Cloze questions about news articles: which entity of the article stands at @placeholder?

    Taken as what the benchmark scores, exact match and F1 of a text: the passage is a context, the query a question, and the answers
    are stretches of the context, so a model of answer spans learns it. (The entities that the file lists are not told to the model.)

    path      the folder of all tasks, or the task's own
    """

    reads = Passage

    def __init__(self, path: str) -> None:
        super().__init__("record", path)

    def maker(self, split: str) -> Maker:
        def make(row: Row) -> Record:
            context = field(field(row.fields, "passage", dict), "text", str)
            if not context.strip():
                raise Fault("the passage is empty")
            asked = field(row.fields, "qas", list)
            questions = tuple(_query(each, context, needed=split != "test") for each in asked)
            return Passage((context,), where=row.where, questions=questions)

        return make

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """As super.gluebenchmark.com takes it: {"idx": query, "label": text} a line."""
        answers: dict[str, str] = {}
        for given in predictions:
            answers |= {str(index): str(text) for index, text in checked(given, "prediction", dict).items()}
        return self._sent(split, ({"idx": _number(index), "label": text} for index, text in answers.items()))


def _query(asked: Mapping[str, Any], context: str, needed: bool) -> Question:
    asked = checked(asked, "qas", dict)
    index = str(asked.get("idx", ""))
    text = field(asked, "query", str)
    if "answers" not in asked and not needed:
        return Question(index, text, hidden=True)
    answers = []
    for each in field(asked, "answers", list):
        start, end, answer = field(each, "start", int), field(each, "end", int), field(each, "text", str)
        if context[start : end + 1] != answer:  # the last character belongs to it
            raise Fault(
                f"query {index}: {answer!r} is not at {start} of the passage, where {context[start : end + 1]!r} is"
            )
        answers.append(Answer(answer, start))
    if not answers:
        raise Fault(f"query {index} has no answer")
    return Question(index, text, tuple(answers))


def _answers(row: Row, needed: bool) -> Iterator[Labelled]:
    """The answers of a MultiRC passage, an example each. The question stands beside the answer: a long paragraph, when cut to the model's
    length, loses its own end and not the question."""
    labels = LABELS["multirc"]
    passage = field(row.fields, "passage", dict)
    paragraph = field(passage, "text", str).strip()
    number = row.fields.get("idx", row.number - 1)
    for q, question in enumerate(field(passage, "questions", list)):
        asked = field(checked(question, "questions", dict), "question", str).strip()
        q = question.get("idx", q)
        for a, answer in enumerate(field(question, "answers", list)):
            said = field(checked(answer, "answers", dict), "text", str).strip()
            one = Row(answer, row.source, row.number)
            yield Labelled(
                (paragraph, f"{asked} {said}"),
                where=f"{row.where}, question {q}, answer {answer.get('idx', a)}",
                label=label_of(one, "label", labels, needed),
                id=f"{number}-{q}-{answer.get('idx', a)}",
                group=f"{number}-{q}",
                task="multirc",
            )


def _number(index: str) -> int | str:
    return int(index) if index.isdigit() else index
