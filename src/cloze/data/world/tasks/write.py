"""All tasks as files, in the layouts of the originals, so that whatever reads those reads these."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from cloze.data.world.documents import Document
from cloze.data.world.draws import Draws, Table
from cloze.data.world.tasks import (
    acceptability,
    continuation,
    inference,
    paraphrase,
    questions,
    sentiment,
    similarity,
    tagging,
)
from cloze.data.world.tasks.scene import Fold
from cloze.errors import Refusal

_HELDOUT_DOCUMENTS = 8  # examples for one document


def write_tasks(folder: Path, train: int = 4000, dev: int = 500, test: int = 500, seed: int = 1) -> list[Path]:
    """Writes every task below `folder` and returns the files, sorted. As in the originals, GLUE's test files have no labels.

    CoLA, SST-2, MRPC, STS-B, MNLI (tab-separated), SQuAD (v1.1 and v2.0), POS (CoNLL-U), NER (CoNLL-2003), SWAG (csv).
    train, dev, test: examples of each; tagging and questions come from one document for every eight of them.
    """
    for name, count in (("train", train), ("dev", dev), ("test", test)):
        if count < 1:
            raise Refusal(f"{name}={count} must be at least 1.")
    sizes: dict[Fold, int] = {"train": train, "dev": dev, "test": test}
    folder = Path(folder)
    files: list[Path] = []

    def lines(name: str, content: Iterable[str], bom: bool = False) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
            file.writelines(content)
        files.append(path)

    for fold, size in sizes.items():
        lines(f"CoLA/{fold}.tsv", _cola(fold, size, seed))
        lines(f"SST-2/{fold}.tsv", _sst(fold, size, seed))
        lines(f"MRPC/{fold}.tsv", _mrpc(fold, size, seed), bom=fold != "test")
        lines(f"STS-B/{fold}.tsv", _sts(fold, size, seed))
        if fold == "train":
            lines("MNLI/train.tsv", _mnli(fold, fold, size, seed))
        else:
            lines(f"MNLI/{fold}_matched.tsv", _mnli(fold, fold, size, seed))
            lines(f"MNLI/{fold}_mismatched.tsv", _mnli(fold, "mismatched", size, seed))
        for version in ("1.1", "2.0"):
            lines(f"SQuAD/{fold}-v{version}.json", [json.dumps(squad(fold, size, version, seed), ensure_ascii=False)])
        documents = max(1, size // _HELDOUT_DOCUMENTS)
        lines(f"POS/world-{fold}.conllu", tagging.conllu(_documents(fold, documents, seed)))
        lines(f"NER/{fold}.txt", tagging.conll2003(_documents(fold, documents, seed)))
        name = "val" if fold == "dev" else fold
        path = folder / "SWAG" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_swag(fold, size, seed))
        files.append(path)
    return sorted(files)


def _documents(fold: Fold, count: int, seed: int) -> Iterator[tuple[str, Document]]:
    for number in range(count):
        yield f"world-{fold}-{number}", tagging.document(fold, number, seed)


def _row(*cells: object) -> str:
    return "\t".join(map(str, cells)) + "\n"


def _cola(fold: Fold, size: int, seed: int) -> Iterator[str]:
    if fold == "test":
        yield _row("index", "sentence")
    for number in range(size):
        made = acceptability.example(fold, number, seed)
        if fold == "test":
            yield _row(number, made.sentence)
        else:
            yield _row(made.level, made.label, "" if made.label else "*", made.sentence)


def _sst(fold: Fold, size: int, seed: int) -> Iterator[str]:
    yield _row("index", "sentence") if fold == "test" else _row("sentence", "label")
    for number in range(size):
        made = sentiment.example(fold, number, seed)
        yield _row(number, made.sentence) if fold == "test" else _row(made.sentence, made.label)


def _mrpc(fold: Fold, size: int, seed: int) -> Iterator[str]:
    yield _row("index" if fold == "test" else "Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
    for number in range(size):
        made = paraphrase.example(fold, number, seed)
        yield _row(number if fold == "test" else made.label, 2 * number, 2 * number + 1, made.first, made.second)


def _sts(fold: Fold, size: int, seed: int) -> Iterator[str]:
    header = ("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2")
    yield _row(*header) if fold == "test" else _row(*header, "score")
    for number in range(size):
        made = similarity.example(fold, number, seed)
        cells = (number, "world", "similarity", "v1", f"{number:04}", "none", "none", made.first, made.second)
        yield _row(*cells) if fold == "test" else _row(*cells, f"{made.score:.3f}")


def _mnli(layout: Fold, fold: Fold, size: int, seed: int) -> Iterator[str]:
    """Training rows have one annotator's label, development rows five, test rows none. Parses are not given (`_`)."""
    annotators = {"train": 1, "dev": 5}.get(layout, 0)
    header = (
        "index",
        "promptID",
        "pairID",
        "genre",
        "sentence1_binary_parse",
        "sentence2_binary_parse",
        "sentence1_parse",
        "sentence2_parse",
        "sentence1",
        "sentence2",
    )
    labels = [f"label{one}" for one in range(1, annotators + 1)]
    yield _row(*header, *labels, "gold_label") if annotators else _row(*header)
    skip = size if layout == "test" and fold == "mismatched" else 0  # test_mismatched goes on where dev_mismatched ends
    for number in range(size):
        made = inference.example(fold, 100_000 * bool(skip) + number, seed)
        cells = (number, number, f"{number}w", made.topic, "_", "_", "_", "_", made.premise, made.hypothesis)
        yield _row(*cells, *[made.label] * (annotators + 1)) if annotators else _row(*cells)


def squad(fold: Fold, size: int, version: str, seed: int = 1) -> dict[str, object]:
    """SQuAD's JSON with about `size` questions; version 2.0 has as many without an answer as with one."""
    articles: list[dict[str, object]] = []
    asked, number = 0, 0
    while asked < size:
        document = tagging.document(fold, number, seed, "questions")
        asker = questions.Asker(document)
        found = list(asker.questions())
        draws = Draws(number)
        if version == "2.0":  # as many of a kind with an answer as without one
            twins = _some(list(asker.unanswerable()), 4, draws)
            chosen = []
            for twin in twins:
                same = [question for question in found if question.kind == twin.kind and question not in chosen]
                if same:
                    chosen += [*_some(same, 1, draws), twin]
        else:
            chosen = _some(found, 4, draws)
        rows: list[dict[str, object]] = []
        for question in chosen[: size - asked]:
            answers = [{"text": question.answer, "answer_start": question.start}] if question.answer else []
            row: dict[str, object] = {
                "question": question.text,
                "id": f"{fold}-{number}-{len(rows)}",
                "answers": answers,
            }
            if version == "2.0":
                row["is_impossible"] = not answers
                if not answers:
                    row["plausible_answers"] = []
            rows.append(row)
        asked += len(rows)
        if rows:
            articles.append(
                {"title": f"{document.topic.name}_{number}", "paragraphs": [{"context": asker.context, "qas": rows}]}
            )
        number += 1
    return {"version": version if version == "1.1" else "v2.0", "data": articles}


def _some(items: list[questions.Question], count: int, draws: Draws) -> list[questions.Question]:
    """Up to `count` of the items, drawn without looking at them."""
    left = list(items)
    kept: list[questions.Question] = []
    while left and len(kept) < count:
        kept.append(left.pop(draws.pick(Table(range(len(left))))))
    return kept


def _swag(fold: Fold, size: int, seed: int) -> Iterator[list[object]]:
    header: list[object] = ["", "video-id", "fold-ind", "startphrase", "sent1", "sent2", "gold-source"]
    header += [f"ending{one}" for one in range(4)]
    yield header if fold == "test" else [*header, "label"]
    for number in range(size):
        made = continuation.example(fold, number, seed)
        row: list[object] = [
            number,
            f"world_{number}",
            number,
            f"{made.first} {made.start}",
            made.first,
            made.start,
            "gold",
        ]
        row += made.endings
        yield row if fold == "test" else [*row, made.label]
