"""All tasks as files, in the layouts of the originals, so that whatever reads those reads these."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from cloze.data.world.documents import Document
from cloze.data.world.languages import LANGUAGES, Language
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
from cloze.errors import Refusal

_HELDOUT_DOCUMENTS = 8  # examples for one document
_SMALL = 8  # RTE and WNLI have few examples for training: one for every so many of the others
_ASKED = len(reading.FORMS)  # questions about one of RACE's texts


def write_tasks(folder: Path, train: int = 4000, dev: int = 500, test: int = 500, seed: int = 1) -> list[Path]:
    """Writes every task below `folder` and returns the files, sorted. As in the originals, GLUE's test files have no labels.

    CoLA, SST-2, MRPC, STS-B, MNLI, QQP, QNLI, RTE, WNLI, XNLI (tab-separated), WSC (JSON lines), SQuAD (v1.1 and v2.0), POS
    (CoNLL-U), NER (CoNLL-2003), Constituents (CoNLL-2000), SRL and UnseenWords (word and tag), SWAG (csv), RACE (a JSON text each),
    Translation (a column for each language), Summary (JSON lines), and, to be asked without training, BLiMP, LAMA, LAMBADA (JSON lines).
    train, dev, test: examples of each; tagging of documents comes from one for every eight of them, and RTE and WNLI have an eighth of
    the examples for training.
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
        small = max(1, size // _SMALL) if fold == "train" else size
        lines(f"QQP/{fold}.tsv", _qqp(fold, size, seed))
        lines(f"QNLI/{fold}.tsv", _qnli(fold, size, seed))
        lines(f"RTE/{fold}.tsv", _rte(fold, small, seed))
        lines(f"WNLI/{fold}.tsv", _wnli(fold, small, seed))
        for language in LANGUAGES if fold == "train" else ():
            lines(f"XNLI/multinli/multinli.train.{language}.tsv", _multinli(language, size, seed))
        if fold != "train":
            lines(f"XNLI/xnli.{fold}.tsv", _xnli(fold, size, seed))
        lines(f"WSC/{'val' if fold == 'dev' else fold}.jsonl", _wsc(fold, size, seed))
        lines(f"Translation/{fold}.tsv", _translation(fold, size, seed))
        lines(f"Summary/{fold}.jsonl", _summary(fold, size, seed))
        for version in ("1.1", "2.0"):
            lines(f"SQuAD/{fold}-v{version}.json", [json.dumps(squad(fold, size, version, seed), ensure_ascii=False)])
        documents = max(1, size // _HELDOUT_DOCUMENTS)
        lines(f"POS/world-{fold}.conllu", tagging.conllu(_documents(fold, documents, seed)))
        lines(f"NER/{fold}.txt", tagging.conll2003(_documents(fold, documents, seed)))
        lines(f"Constituents/{fold}.txt", _constituents(fold, size, seed))
        lines(f"SRL/{fold}.txt", _words_and_tags(roles.example(fold, number, seed) for number in range(size)))
        lines(
            f"UnseenWords/{fold}.txt",
            _words_and_tags(unseen_words.example(fold, number, seed) for number in range(small)),
        )
        for number in range(-(-size // _ASKED)):
            lines(f"RACE/{fold}/middle/{number}.txt", [_race(fold, number, min(_ASKED, size - _ASKED * number), seed)])
        name = "val" if fold == "dev" else fold
        path = folder / "SWAG" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_swag(fold, size, seed))
        files.append(path)
    for level in acceptability.LEVELS:
        lines(f"BLiMP/world_{level}.jsonl", _blimp(level, test, seed))
    lines("LAMA/facts.jsonl", _lama(seed))
    lines("LAMBADA/test.jsonl", _lambada(test, seed))
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


def _qqp(fold: Fold, size: int, seed: int) -> Iterator[str]:
    names = ("id", "question1", "question2") if fold == "test" else ("id", "qid1", "qid2", "question1", "question2")
    yield _row(*names) if fold == "test" else _row(*names, "is_duplicate")
    for number in range(size):
        made = duplicates.example(fold, number, seed)
        if fold == "test":
            yield _row(number, made.first, made.second)
        else:
            yield _row(number, 2 * number, 2 * number + 1, made.first, made.second, made.label)


def _qnli(fold: Fold, size: int, seed: int) -> Iterator[str]:
    made = (answering.example(fold, number, seed) for number in range(size))
    return _pairs(fold, ("question", "sentence"), ((each.question, each.sentence, each.label) for each in made))


def _rte(fold: Fold, size: int, seed: int) -> Iterator[str]:
    made = (entailment.example(fold, number, seed) for number in range(size))
    return _pairs(fold, ("sentence1", "sentence2"), ((each.text, each.hypothesis, each.label) for each in made))


def _wnli(fold: Fold, size: int, seed: int) -> Iterator[str]:
    made = (pronouns.example(fold, number, seed) for number in range(size))
    return _pairs(fold, ("sentence1", "sentence2"), ((each.text, each.claim, str(each.label)) for each in made))


def _pairs(fold: Fold, names: tuple[str, str], rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """An index, two texts, and a label where it is not the test file."""
    yield _row("index", *names) if fold == "test" else _row("index", *names, "label")
    for number, (first, second, label) in enumerate(rows):
        yield _row(number, first, second) if fold == "test" else _row(number, first, second, label)


def _multinli(language: Language, size: int, seed: int) -> Iterator[str]:
    """A training file of XNLI-MT, which writes one of the labels in another way."""
    yield _row("premise", "hypo", "label")
    for number in range(size):
        made = cross_lingual.example("train", number, language, seed=seed)
        yield _row(made.premise, made.hypothesis, {"contradiction": "contradictory"}.get(made.label, made.label))


def _xnli(fold: Fold, size: int, seed: int) -> Iterator[str]:
    """All languages in one file, the test file with its labels too. Parses and tokens are not given (`_`)."""
    parses = ("sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse")
    annotators = [f"label{one}" for one in range(1, 6)]
    names = ("language", "gold_label", *parses, "sentence1", "sentence2", "promptID", "pairID", "genre", *annotators)
    yield _row(*names, "sentence1_tokenized", "sentence2_tokenized", "match")
    for language in LANGUAGES:
        for number in range(size):
            made = cross_lingual.example(fold, number, language, seed=seed)
            cells = (
                language,
                made.label,
                "_",
                "_",
                "_",
                "_",
                made.premise,
                made.hypothesis,
                number,
                number,
                made.topic,
            )
            yield _row(*cells, *[made.label] * 5, "_", "_", "True")


def _wsc(fold: Fold, size: int, seed: int) -> Iterator[str]:
    for number in range(size):
        made = coreference.example(fold, number, seed)
        spans = {f"span{n}_{name}": value for n, span in ((1, made.named), (2, made.pronoun))
                 for name, value in (("index", span.at), ("text", span.text))}  # fmt: skip
        row = {"text": made.text, "target": spans, "idx": number, "label": made.label}
        if fold == "test":
            del row["label"]
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _translation(fold: Fold, size: int, seed: int) -> Iterator[str]:
    """A column for each language."""
    yield _row(*LANGUAGES)
    for number in range(size):
        yield _row(*rewriting.translation(fold, number, seed=seed))


def _summary(fold: Fold, size: int, seed: int) -> Iterator[str]:
    """With the fields of XSum."""
    for number in range(size):
        made = rewriting.summary(fold, number, seed)
        row = {"document": made.passage, "summary": made.summary, "id": str(number)}
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _constituents(fold: Fold, size: int, seed: int) -> Iterator[str]:
    """Word, part of speech, phrase."""
    for number in range(size):
        rows = zip(*constituents.example(fold, number, seed), strict=True)
        yield "".join(f"{' '.join(row)}\n" for row in rows) + "\n"


def _words_and_tags(made: Iterable[roles.Roles | unseen_words.UnseenWords]) -> Iterator[str]:
    """A word and its tag a line, a blank line after each sentence."""
    for each in made:
        yield "".join(f"{word} {tag}\n" for word, tag in zip(each.words, each.tags, strict=True)) + "\n"


def _race(fold: Fold, number: int, count: int, seed: int) -> str:
    """A text with its first `count` questions, the right options as letters."""
    made = reading.article(fold, number, seed)
    asked = made.questions[:count]
    content = {
        "answers": ["ABCD"[ask.label] for ask in asked],
        "options": [list(ask.options) for ask in asked],
        "questions": [ask.text for ask in asked],
        "article": made.article,
        "id": f"middle{number}.txt",
    }
    return json.dumps(content, ensure_ascii=False)


def _blimp(level: str, size: int, seed: int) -> Iterator[str]:
    for number in range(size):
        made = acceptability.minimal_pair(level, number, seed)
        row = {
            "sentence_good": made.good,
            "sentence_bad": made.bad,
            "field": "semantics" if level == "selection" else "syntax",
            "linguistics_term": level,
            "UID": f"world_{made.paradigm}",
            "simple_LM_method": True,
            "one_prefix_method": False,
            "two_prefix_method": False,
            "lexically_identical": level == "order",
            "pairID": str(number),
        }
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _lama(seed: int) -> Iterator[str]:
    for number, fact in enumerate(knowledge.facts(seed)):
        row = {
            "uuid": str(number),
            "predicate_id": fact.relation,
            "sub_label": fact.subject,
            "obj_label": fact.answer,
            "masked_sentences": [fact.sentence],
        }
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _lambada(size: int, seed: int) -> Iterator[str]:
    for number in range(size):
        made = last_words.example(number, seed)
        yield json.dumps({"text": f"{made.passage} {made.word}"}, ensure_ascii=False) + "\n"


def squad(fold: Fold, size: int, version: str, seed: int = 1) -> dict[str, object]:
    """SQuAD's JSON with `size` questions; version 2.0 has as many without an answer as with one."""
    found: list[dict[str, object]] = []
    for article in questions.articles(fold, size, version, seed):
        rows: list[dict[str, object]] = []
        for name, question in article.questions:
            answers = [{"text": question.answer, "answer_start": question.start}] if question.answer else []
            row: dict[str, object] = {"question": question.text, "id": name, "answers": answers}
            if version == "2.0":
                row["is_impossible"] = not answers
                if not answers:
                    row["plausible_answers"] = []
            rows.append(row)
        found.append({"title": article.title, "paragraphs": [{"context": article.context, "qas": rows}]})
    return {"version": version if version == "1.1" else "v2.0", "data": found}


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
