"""SQuAD's files: what is read, what is refused, and the real ones."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cloze.data.base import Answer, Passage
from cloze.data.tasks.squad import Squad
from cloze.errors import Refusal

CONTEXT = " The old mill stands by the river.  It was built in 1810, and a miller still lives in the mill."
SMALL: dict[str, Any] = {
    "version": "1.1",
    "data": [
        {
            "title": "Mill",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "m1",
                            "question": "When was it built?",
                            "answers": [
                                {"text": "1810", "answer_start": CONTEXT.index("1810")},
                                {"text": "in 1810", "answer_start": CONTEXT.index("in 1810")},
                            ],
                        },
                        {
                            "id": "m2",
                            "question": "Who lives there?",
                            "answers": [{"text": "a miller", "answer_start": CONTEXT.index("a miller")}],
                        },
                    ],
                }
            ],
        }
    ],
}


def written(folder: Path, content: Any, name: str = "train.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return str(path)


def passages(corpus: Squad, split: str = "train") -> list[Passage]:
    return [record for record in corpus.split_records(split) if isinstance(record, Passage)]


def alone(folder: Path, content: Any, **settings: Any) -> Squad:
    return Squad(path=written(folder, content), validation_share=0.0, **settings)


def mended(place: str, value: Any) -> dict[str, Any]:
    """The small file with one value replaced; `place` says where: "data.0.title"; None takes it away."""
    content = deepcopy(SMALL)
    *way, last = [int(each) if each.isdigit() else each for each in place.split(".")]
    node: Any = content
    for each in way:
        node = node[each]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return content


PARAGRAPH = "data.0.paragraphs.0"
FIRST = f"{PARAGRAPH}.qas.0"


def test_a_passage_is_what_stands_in_the_file(tmp_path: Path) -> None:
    (passage,) = passages(alone(tmp_path, SMALL))
    assert passage.context == CONTEXT and passage.title == passage.topic == "Mill"
    assert [question.id for question in passage.questions] == ["m1", "m2"]
    for question in passage.questions:
        for answer in question.answers:
            assert passage.context[answer.start : answer.start + len(answer.text)] == answer.text
    assert passage.questions[0].answers[0] == Answer("1810", CONTEXT.index("1810"))


def test_byte_order_mark_and_line_ends_change_nothing(tmp_path: Path) -> None:
    text = "\ufeff" + json.dumps(SMALL, indent=1).replace("\n", "\r\n")
    assert passages(alone(tmp_path, text))[0].questions == passages(alone(tmp_path, SMALL))[0].questions


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"data": [\n  {"title" "Mill"}]}', "train.json, line 2, column 12: not JSON (expecting ':' delimiter)"),
        ('{"data": []}\n{"data": []}', "line 2, column 1: not JSON (extra data); this looks like JSON lines"),
        ('{"data": [], "data": []}', 'an object has "data" twice'),
        ('{"data": [NaN]}', "NaN is not a JSON value"),
        ({"articles": []}, "there is no `data`, the list of articles that SQuAD's format begins with"),
        ([1], "the file is [1]"),
        (mended("data", {}), "`data` must be a list, not {}"),
        (mended(f"{PARAGRAPH}.context", 3), "data[0].paragraphs[0]: `context` must be text, not 3"),
        (mended(f"{PARAGRAPH}.qas", None), "data[0].paragraphs[0]: there is no `qas`; there are context"),
        (mended(f"{PARAGRAPH}.context", "  "), "its context is empty (questions m1, m2)"),
        (mended(f"{FIRST}.id", "m2"), "question m2: this id is another question's too"),
        (mended(f"{FIRST}.id", 7), "question 1: `id` must be text, not 7"),
        (mended(f"{FIRST}.question", ["Who?"]), 'question m1: `question` must be text, not ["Who?"]'),
        (mended(f"{FIRST}.answers.0.answer_start", "53"), '`answer_start` must be a whole number, not "53"'),
        (mended(f"{FIRST}.answers.0.answer_start", True), "`answer_start` must be a whole number, not true"),
        (
            mended(f"{FIRST}.answers.0.answer_start", 50),
            'question m1: answer_start=50 is not where "1810" stands, which stands at 52: the context has',
        ),
        (
            mended(f"{FIRST}.answers.0.answer_start", 999),
            f'answer_start=999 of "1810", which stands at 52, lies outside of the context, which has {len(CONTEXT)} characters',
        ),
        (mended(f"{FIRST}.answers.0.answer_start", -1), "answer_start=-1 of"),
        (mended(f"{FIRST}.answers.0.text", "1811"), 'is not where "1811" stands, which the context does not hold'),
        (mended(f"{FIRST}.answers.0.text", ""), "question m1: an answer is empty"),
        (mended(f"{FIRST}.answers", []), "it has no answer, which SQuAD 1.1 does not have"),
        (mended(f"{FIRST}.answers", None), "question m1: there is no `answers`; there are id, question"),
        (mended(f"{PARAGRAPH}.context", CONTEXT + "\0"), "data[0].paragraphs[0]: `context` holds a NUL character"),
        (mended(f"{PARAGRAPH}.context", CONTEXT + "\ud83d"), "`context` holds half of a character"),
    ],
)
def test_what_is_malformed_is_told_with_its_place(tmp_path: Path, content: Any, said: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(Refusal) as refusal:
        list(alone(tmp_path, text).split_records("train"))
    assert said in str(refusal.value) and "train.json" in str(refusal.value)


def test_the_place_is_shown_with_what_stands_around_it(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refusal:
        list(alone(tmp_path, mended(f"{FIRST}.answers.0.answer_start", 50)).split_records("train"))
    assert 'the context has "ver.  It was built in 1810, and a miller sti" there' in str(refusal.value)
    assert str(refusal.value).endswith("Or leave such answers out: data.on_bad=drop")


def test_dropping_takes_the_answer_and_then_the_question(tmp_path: Path) -> None:
    one = mended(f"{FIRST}.answers.0.answer_start", 50)
    corpus = alone(tmp_path, one, on_bad="drop")
    (passage,) = passages(corpus)
    assert [answer.text for answer in passage.questions[0].answers] == ["in 1810"] and len(passage.questions) == 2
    assert [note.split(" of ")[0] for note in corpus.notes()] == ["1 malformed answers"] and corpus.notes() == []

    del one["data"][0]["paragraphs"][0]["qas"][0]["answers"][1]
    corpus = alone(tmp_path, one, on_bad="drop")
    assert [question.id for question in passages(corpus)[0].questions] == ["m2"]
    assert [note.split(" of ")[0] for note in corpus.notes()] == ["1 malformed answers", "1 malformed questions"]

    one["data"][0]["paragraphs"][0]["context"] = "\n"
    corpus = alone(tmp_path, one, on_bad="drop")
    assert passages(corpus) == [] and "1 malformed passages" in corpus.notes()[0]


def second(answered: bool, impossible: bool | None, version: str | None = "v2.0") -> dict[str, Any]:
    content = deepcopy(SMALL)
    content["version"] = version
    question = content["data"][0]["paragraphs"][0]["qas"][0]
    if not answered:
        question["answers"] = []
    if impossible is not None:
        question["is_impossible"] = impossible
    return content


def test_squad_2_has_questions_without_answers(tmp_path: Path) -> None:
    assert alone(tmp_path, SMALL).version == 1.1
    corpus = alone(tmp_path, second(False, True))
    assert corpus.version == 2.0
    first, other = passages(corpus)[0].questions
    assert first.answers == () and not first.hidden and other.answers
    assert alone(tmp_path, second(False, True, None)).version == 2.0  # told by is_impossible
    assert passages(alone(tmp_path, second(False, None, "1.1"), version=2.0))[0].questions[0].answers == ()


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        (second(True, True), {}, "is_impossible is true, but it has answers"),
        (second(False, False), {}, "it has no answer, but is_impossible is false"),
        (second(False, True), {"version": 1.1}, "where questions may have none: data.version=2.0"),
        (SMALL, {"version": 3.0}, "data.version=3 is not one of them. Accepted: 1.1, 2.0"),
        (SMALL, {"revision": "main"}, "data.config and data.revision have no effect on"),
    ],
)
def test_versions_are_held_apart(tmp_path: Path, content: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        list(alone(tmp_path, content, **settings).split_records("train"))


def test_a_test_file_may_hide_its_answers(tmp_path: Path) -> None:
    hidden = written(tmp_path, mended(f"{FIRST}.answers", None), "hidden.json")
    corpus = Squad(test_path=hidden)
    first, other = passages(corpus, "test")[0].questions
    assert corpus.splits() == ("test",) and first.hidden and not first.answers and not other.hidden
    with pytest.raises(Refusal, match="there is no train split; it has test"):
        corpus.parts("train")


def test_a_folder_has_official_names(tmp_path: Path) -> None:
    for name in ("train-v1.1.json", "dev-v1.1.json", "other.json"):
        written(tmp_path, SMALL, name)
    corpus = Squad(path=str(tmp_path))
    assert corpus.splits() == ("train", "validation") and "dev-v1.1.json" in corpus.announcement
    written(tmp_path, second(False, True), "train-v2.0.json")
    written(tmp_path, second(False, True), "dev-v2.0.json")
    with pytest.raises(Refusal, match=r"train-v1\.1\.json and .*train-v2\.0\.json, both named like"):
        Squad(path=str(tmp_path)).splits()
    assert Squad(path=str(tmp_path), version=2.0).version == 2.0
    assert str(Squad(path=str(tmp_path), version=1).sources["validation"]).endswith("dev-v1.1.json")


def test_files_inside_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "squad.zip", "w") as archive:
        archive.writestr("squad/train-v1.1.json", json.dumps(SMALL))
        archive.writestr("squad/dev-v1.1.json", json.dumps(SMALL))
    corpus = Squad(path=str(tmp_path / "squad.zip"))
    assert [len(passages(corpus, split)) for split in corpus.splits()] == [1, 1]
    alone = Squad(validation_path=str(tmp_path / "squad.zip/squad/dev-v1.1.json"))
    assert passages(alone, "validation")[0].context == CONTEXT and alone.fingerprint() != corpus.fingerprint()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "data.path is missing: a folder with train-v"),
        ({"path": "{}/train-v1.1.jsn"}, "not found; did you mean .*train-v1.1.json"),
        ({"path": "{}/empty"}, "has no file named like .*; it holds no files"),
        ({"path": "{}/train-v1.1.json", "train_path": "x"}, "data.train_path has no effect"),
        ({"validation_path": "x", "validation_share": 0.1}, "data.validation_share has no effect beside"),
        ({"path": "{}", "validation_share": 0.1}, "data.validation_share=0.1 has no effect: .*dev-v1.1.json is there"),
        ({"train_path": "{}"}, "is a folder; it must be a file"),
        ({"path": "{}/train-v1.1.json", "validation_share": 1.0}, "must lie in"),
        ({"config": "plain_text"}, "data.config and data.revision are of a data set on the hub"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    written(tmp_path, SMALL, "train-v1.1.json")
    written(tmp_path, SMALL, "dev-v1.1.json")
    (tmp_path / "empty").mkdir()
    filled = {k: v.format(tmp_path) if isinstance(v, str) else v for k, v in settings.items()}
    with pytest.raises(Refusal, match=said):
        Squad(**filled).splits()


def test_articles_are_held_out_whole(tmp_path: Path) -> None:
    articles = []
    for n in range(20):
        article = deepcopy(SMALL["data"][0])
        article["title"] = f"Mill {n}"
        article["paragraphs"] = [deepcopy(article["paragraphs"][0]) for _ in range(3)]
        for k, paragraph in enumerate(article["paragraphs"]):
            for question in paragraph["qas"]:
                question["id"] += f"-{n}-{k}"
        articles.append(article)
    path = written(tmp_path, {"version": "1.1", "data": articles})
    corpus = Squad(path=path, validation_share=0.2)
    train, held = passages(corpus), passages(corpus, "validation")
    assert (len(train), len(held)) == (48, 12)
    assert not {passage.title for passage in train} & {passage.title for passage in held}
    assert {p.title for p in passages(Squad(path=path, validation_share=0.2, split_seed=1), "validation")} != {
        p.title for p in held
    }
    assert len(passages(Squad(path=path), "validation")) == 3  # 0.05 of 20 articles


def test_what_decides_the_records_decides_the_fingerprint(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    first = Squad(path=path).fingerprint()
    assert Squad(path=path).fingerprint() == first
    assert (
        len({first, Squad(path=path, on_bad="drop").fingerprint(), Squad(path=path, split_seed=3).fingerprint()}) == 3
    )
    written(tmp_path, mended("data.0.title", "Mills"))
    assert Squad(path=path).fingerprint() != first


def test_predictions_are_what_the_official_script_reads(tmp_path: Path) -> None:
    corpus = alone(tmp_path, SMALL)
    made = corpus.submission("train", passages(corpus), [{"m1": "1810", "m2": "“é”"}])
    assert {name: json.loads(text) for name, text in made.items()} == {"predictions.json": {"m1": "1810", "m2": "“é”"}}


def rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """As `datasets` has SQuAD: a row for each question."""
    return [
        {
            "id": question["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {
                "text": [answer["text"] for answer in question["answers"]],
                "answer_start": [answer["answer_start"] for answer in question["answers"]],
            },
        }
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def test_datasets_have_the_same_passages(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    held = {"train": Dataset.from_list(rows(SMALL)), "validation": Dataset.from_list(rows(second(False, None)))}
    DatasetDict(held).save_to_disk(str(tmp_path / "saved"))
    corpus = Squad(path=str(tmp_path / "saved"), version=2.0)
    assert passages(corpus)[0].questions == passages(alone(tmp_path, SMALL))[0].questions
    assert passages(corpus, "validation")[0].questions[0].answers == () and corpus.splits() == ("train", "validation")
    assert Squad(path=str(tmp_path / "saved")).version == 1.1  # its training split's questions all have answers
    with pytest.raises(Refusal, match="question m1: it has no answer"):
        passages(Squad(path=str(tmp_path / "saved")), "validation")
    wrong = rows(SMALL)
    wrong[0]["answers"]["answer_start"][0] = 3
    Dataset.from_list(wrong).to_parquet(str(tmp_path / "wrong.parquet"))
    with pytest.raises(Refusal, match='question m1: answer_start=3 is not where "1810" stands'):
        passages(Squad(path=str(tmp_path / "wrong.parquet")))


# --------------------------------------------------------------------------------------------------- real files


@pytest.mark.data
def test_the_real_files_are_read_strictly(shared_data: Path) -> None:
    squad = shared_data / "qa" / "squad"
    whole = Squad(path=str(squad))  # dev-v1.1.json is the only official name there
    found = passages(whole, "validation")
    answers = [answer for passage in found for question in passage.questions for answer in question.answers]
    assert whole.splits() == ("validation",) and whole.version == 1.1
    assert len({passage.title for passage in found}) == 48 and len(found) == 2067
    assert sum(len(passage.questions) for passage in found) == 10570 and len(answers) == 34726
    assert sum(passage.context != passage.context.strip() for passage in found) == 6  # and they stay so
    parts = Squad(train_path=str(squad / "train-small-v1.1.json"), validation_path=str(squad / "dev-small-v1.1.json"))
    sides = [passages(parts, split) for split in parts.splits()]
    assert [len({passage.title for passage in side}) for side in sides] == [36, 12]
    assert [sum(len(passage.questions) for passage in side) for side in sides] == [8206, 2364]


@pytest.mark.data
def test_cmrc_has_answers_that_are_not_in_the_passage(shared_data: Path) -> None:
    """193 with an offset of -1, and 7 whose offset is beside the place: counted here with nothing of Cloze."""
    path = shared_data / "clue" / "cmrc2018" / "cmrc2018_dev.json"
    questions = kept = 0
    wrong: Counter[bool] = Counter()
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                stands = [
                    paragraph["context"].find(each["text"], each["answer_start"]) == each["answer_start"] >= 0
                    for each in question["answers"]
                ]
                wrong.update(stands)
                questions, kept = questions + 1, kept + any(stands)
    assert (questions, kept, wrong[False]) == (3219, 3216, 200)
    with pytest.raises(Refusal, match="question DEV_6_QUERY_2: answer_start=-1 of"):
        passages(Squad(path=str(path.parent)), "validation")
    corpus = Squad(task="cmrc", path=str(path.parent), on_bad="drop")
    found = passages(corpus, "validation")
    assert len(found) == 848 and sum(len(passage.questions) for passage in found) == kept
    assert sum(len(question.answers) for passage in found for question in passage.questions) == wrong[True]
    assert [note.split(" of ")[0] for note in corpus.notes()] == ["200 malformed answers", "3 malformed questions"]
