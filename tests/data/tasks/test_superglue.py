"""SuperGLUE's files, in small ones of our own with the official fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloze.data.base import Labelled, Passage
from cloze.data.tasks.marks import marked, word_span
from cloze.data.tasks.superglue import FOLDERS, ReCoRD, SuperGlue, SuperGlueTask
from cloze.errors import Refusal

WSC = {
    "text": 'Tina said, "Give it to Ann," because she was tired.',
    "target": {"span1_text": "tina", "span1_index": 0, "span2_text": "she", "span2_index": 7},
}
ARTICLE = "Ann Bell won the race.\n@highlight\nAnn Bell is ten."
RECORD = {
    "passage": {"text": ARTICLE, "entities": [{"start": 0, "end": 7}, {"start": 34, "end": 41}]},
    "qas": [
        {
            "query": "The youngest was @placeholder.",
            "idx": 3,
            "answers": [{"start": 0, "end": 7, "text": "Ann Bell"}, {"start": 34, "end": 41, "text": "Ann Bell"}],
        }
    ],
    "idx": 1,
}
MULTIRC = {
    "idx": 4,
    "passage": {
        "text": "Ann ran home. She slept.",
        "questions": [
            {
                "question": "Who ran?",
                "idx": 8,
                "answers": [{"text": "Ann", "idx": 20, "label": 1}, {"text": "Bo", "idx": 21, "label": 0}],
            },
            {"question": "Who slept?", "idx": 9, "answers": [{"text": "She", "idx": 22, "label": 1}]},
        ],
    },
}
ROWS: dict[str, dict[str, Any]] = {
    "boolq": {"question": "is rain wet", "passage": "Rain is water.", "label": True, "idx": 7},
    "cb": {"premise": "He said it rained.", "hypothesis": "it rained", "label": "neutral", "idx": 2},
    "rte": {"premise": "Ann ran.", "hypothesis": "Ann moved.", "label": "entailment", "idx": 0},
    "wic": {
        "word": "beat", "sentence1": "He beat the drum.", "sentence2": "We beat them.", "idx": 0, "label": False,
        "start1": 3, "end1": 7, "start2": 3, "end2": 7, "version": 1.1,
    },
    "wsc": {**WSC, "label": False, "idx": 5},
    "multirc": MULTIRC,
    "record": RECORD,
}  # fmt: skip


def write(root: Path, task: str, *rows: dict[str, Any], name: str = "train.jsonl") -> None:
    folder = root / FOLDERS[task]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def examples(corpus: SuperGlue, split: str = "train") -> list[Labelled]:
    return [record for record in corpus.split_records(split) if isinstance(record, Labelled)]


@pytest.mark.parametrize(
    ("task", "texts", "label", "id"),
    [
        ("boolq", ("Rain is water.", "is rain wet"), "true", "7"),
        ("cb", ("He said it rained.", "it rained"), "neutral", "2"),
        ("rte", ("Ann ran.", "Ann moved."), "entailment", "0"),
        ("wic", ("He * beat * the drum.", "We * beat * them."), "false", "0"),
        ("wsc", ('* Tina * said, "Give it to Ann," because # she # was tired.',), "false", "5"),
    ],
)
def test_one_text_or_two(tmp_path: Path, task: SuperGlueTask, texts: tuple[str, ...], label: str, id: str) -> None:
    write(tmp_path, task, ROWS[task])
    hidden = {key: value for key, value in ROWS[task].items() if key != "label"}
    write(tmp_path, task, hidden, name="test.jsonl")
    for path in (tmp_path, tmp_path / FOLDERS[task]):
        corpus = SuperGlue(task, str(path))
        (example,) = examples(corpus)
        assert (example.sentences, example.label, example.id) == (texts, label, id)
        assert example.label in corpus.labels[task].names
        assert examples(corpus, "test")[0].label is None
    index = int(id)
    assert corpus.submission("test", examples(corpus, "test"), [label]) == {
        f"{FOLDERS[task]}.jsonl": json.dumps({"idx": index, "label": label}) + "\n"
    }
    assert f"{FOLDERS[task]}-train.jsonl" in corpus.submission("train", examples(corpus), [label])


def test_multirc_is_an_example_for_each_answer_in_the_group_of_its_question(tmp_path: Path) -> None:
    write(tmp_path, "multirc", MULTIRC)
    corpus = SuperGlue("multirc", str(tmp_path))
    found = examples(corpus)
    assert [(e.sentences[1], e.label, e.group, e.id) for e in found] == [
        ("Who ran? Ann", "1", "4-8", "4-8-20"),
        ("Who ran? Bo", "0", "4-8", "4-8-21"),
        ("Who slept? She", "1", "4-9", "4-9-22"),
    ]
    assert {e.sentences[0] for e in found} == {"Ann ran home. She slept."}
    assert corpus.labels["multirc"].metrics == ("f1_a", "exact_match")
    (line,) = corpus.submission("test", found, ["0", "1", "1"])["MultiRC.jsonl"].splitlines()
    assert json.loads(line) == {
        "idx": 4,
        "passage": {
            "questions": [
                {"idx": 8, "answers": [{"idx": 20, "label": 0}, {"idx": 21, "label": 1}]},
                {"idx": 9, "answers": [{"idx": 22, "label": 1}]},
            ]
        },
    }


def test_record_is_a_context_with_questions_whose_answers_stand_in_it(tmp_path: Path) -> None:
    write(tmp_path, "record", RECORD)
    corpus = ReCoRD(str(tmp_path))
    (passage,) = list(corpus.split_records("train"))
    assert isinstance(passage, Passage) and passage.context == ARTICLE
    (question,) = passage.questions
    assert question.id == "3" and [answer.start for answer in question.answers] == [0, 34]
    assert all(ARTICLE[a.start : a.start + len(a.text)] == a.text for a in question.answers)
    assert corpus.submission("test", [passage], [{"3": "Ann Bell"}]) == {
        "ReCoRD.jsonl": '{"idx": 3, "label": "Ann Bell"}\n'
    }
    wrong = {**RECORD, "qas": [{**RECORD["qas"][0], "answers": [{"start": 1, "end": 7, "text": "Ann Bell"}]}]}  # type: ignore[index, dict-item]
    write(tmp_path, "record", wrong)
    with pytest.raises(Refusal, match=r"train.jsonl, line 1: query 3: 'Ann Bell' is not at 1 of the passage"):
        list(ReCoRD(str(tmp_path)).split_records("train"))


def test_the_small_sets_of_fewglue(tmp_path: Path) -> None:
    for name in ("train.jsonl", "dev32.jsonl"):
        write(tmp_path, "cb", ROWS["cb"], name=name)
    assert SuperGlue("cb", str(tmp_path)).splits() == ("train", "validation")
    write(tmp_path, "cb", ROWS["cb"], name="val.jsonl")
    assert set(SuperGlue("cb", str(tmp_path)).splits()) == {"train", "validation", "dev32"}


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("boolq", {"label": "yes"}, r"BoolQ/train.jsonl, line 2: column label: 'yes' is not a label. Accepted: false, true"),
        ("boolq", {"label": None}, r"line 2: column label: the label is missing. Accepted: false, true"),
        ("boolq", {"passage": 3}, r"line 2: column passage: 3 is a int, not text"),
        ("cb", {"label": "entailmnt"}, r"did you mean entailment\?"),
        ("wic", {"end1": 70}, r"line 2: start1=3, end1=70 is no place in sentence1, which has 17 characters"),
        ("wsc", {"target": {**WSC["target"], "span1_text": "Zoe"}}, r"line 2: the text does not have the words 'Zoe'"),  # type: ignore[dict-item]
        ("wsc", {"target": {}}, r"line 2: there is no `span1_index`"),
    ],
)  # fmt: skip
def test_malformed_rows(tmp_path: Path, task: SuperGlueTask, change: dict[str, Any], said: str) -> None:
    write(tmp_path, task, ROWS[task], {**ROWS[task], **change})
    with pytest.raises(Refusal, match=said):
        examples(SuperGlue(task, str(tmp_path)))


def test_malformed_files(tmp_path: Path) -> None:
    write(tmp_path, "rte", ROWS["cb"] | {"premis": "x"})
    row = {key: value for key, value in ROWS["rte"].items() if key != "premise"} | {"premis": "x"}
    write(tmp_path, "rte", row)
    with pytest.raises(Refusal, match=r"no column premise; did you mean premis\?"):
        SuperGlue("rte", str(tmp_path)).splits()
    (tmp_path / "RTE/train.jsonl").write_text(json.dumps(ROWS["rte"]) + "\n{broken\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"train.jsonl, line 2: not JSON"):
        examples(SuperGlue("rte", str(tmp_path)))
    (tmp_path / "RTE/train.jsonl").write_text("[1, 2]\n", encoding="utf-8")
    with pytest.raises(Refusal, match=r"line 1: a JSON list, not an object"):
        SuperGlue("rte", str(tmp_path)).splits()
    with pytest.raises(Refusal, match=r"no folder CB with train.jsonl.* it has RTE"):
        SuperGlue("cb", str(tmp_path)).splits()


# marks


@pytest.mark.parametrize(
    ("number", "words", "span", "there"),
    [
        (0, "The dog", "The dog", True),
        (0, "the DOG", "The dog", True),
        (4, "it", "it", True),
        (5, "it", "it", False),  # the nearest
        (6, "ran home", "ran home", True),
    ],
)
def test_words_are_found_at_their_number_or_nearest_to_it(number: int, words: str, span: str, there: bool) -> None:
    text = 'The dog, called "Rex", it  barked; ran home.'
    start, end, stood = word_span(text, number, words)
    assert (text[start:end], stood) == (span, there)


def test_a_span_inside_another() -> None:
    assert marked("and their mothers are", [(4, 17, "*"), (4, 9, "#")]) == "and * # their # mothers * are"
    assert marked("ab", [(0, 1, "*"), (1, 2, "#")], gap="") == "*a*#b#"
