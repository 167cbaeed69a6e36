"""Files of multiple choice: what is read, what is refused, and the real ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cloze.data.base import Choices, TaskCorpus
from cloze.data.tasks.choices import Copa, Dream, HellaSwag, Race, Swag
from cloze.errors import Refusal

SWAG_HEADER = ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
SWAG = SWAG_HEADER + (
    '0,film-1,7,"A man sits, smiling. He","A man sits, smiling.",He,gold,"stands, then ""leaves"".",sings.,flies.,eats NA.,0\n'
    "1,film-1,8,NA. She,NA.,She,gen,waves.,null,runs.,swims.,3\n"
)
COPA = [
    {
        "premise": "The cup fell.",
        "choice1": "It broke.",
        "choice2": "It sang.",
        "question": "effect",
        "label": 0,
        "idx": 4,
    },
    {
        "premise": "The cup fell.",
        "choice1": "It rained.",
        "choice2": "A cat jumped.",
        "question": "cause",
        "label": 1,
        "idx": 5,
    },
]
DREAM = [
    [
        ["M: Is it late?", "W: Past ten."],
        [
            {"question": "When is it?", "choice": ["Ten.", "After ten.", "Noon."], "answer": "After ten."},
            {"question": "Who asks?", "choice": ["A man.", "A woman.", "A child."], "answer": "A man."},
        ],
        "1-7",
    ]
]
RACE = {
    "id": "high10.txt",
    "article": "Anna keeps bees.\nShe sells honey.",
    "questions": ["What does she sell?", "Anna _ bees."],
    "options": [["Milk", "Honey", "Bread", "Wool"], ["keeps", "eats", "fears", "paints"]],
    "answers": ["B", "A"],
}
HELLASWAG = {
    "ind": 24,
    "activity_label": "Baking",
    "ctx_a": "A woman mixes dough.",
    "ctx_b": "she",
    "ctx": "A woman mixes dough. she",
    "endings": ["bakes it.", "drives it.", "reads it.", "sues it."],
    "source_id": "wiki~3",
    "label": 0,
}


def written(folder: Path, content: Any, name: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return str(path)


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def choices(corpus: TaskCorpus, split: str = "train") -> list[Choices]:
    return [record for record in corpus.split_records(split) if isinstance(record, Choices)]


# ---------------------------------------------------------------------------------------------------- SWAG


def test_swag(tmp_path: Path) -> None:
    corpus = Swag(path=written(tmp_path, SWAG, "train.csv"), validation_share=0.0)
    first, second = choices(corpus)
    assert (first.context, first.question, first.label, first.id) == ("A man sits, smiling.", "He", 0, "0")
    assert first.options == ('stands, then "leaves".', "sings.", "flies.", "eats NA.")
    assert (second.context, second.options[1], second.label) == ("NA.", "null", 3) and second.where.endswith("line 3")
    assert corpus.labels["swag"].names == ("0", "1", "2", "3") and corpus.labels["swag"].metrics == ("accuracy",)
    assert corpus.submission("test", [first, second], [2, 0]) == {"swag-test.csv": "2\n0\n"}


def test_swag_tests_without_labels(tmp_path: Path) -> None:
    unlabelled = "\n".join(line.rsplit(",", 1)[0] for line in SWAG.strip().split("\n")) + "\n"
    written(tmp_path, SWAG, "train.csv")
    written(tmp_path, unlabelled, "test.csv")
    corpus = Swag(path=str(tmp_path), validation_share=0.0)
    assert [each.label for each in choices(corpus, "test")] == [None, None]
    written(tmp_path, unlabelled, "val.csv")
    with pytest.raises(Refusal, match=r"val.csv, line 1: no column label"):
        choices(Swag(path=str(tmp_path)), "validation")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",3\n", ",4\n", 'train.csv, line 3: the answer "4" is not one of 0, 1, 2, 3'),
        (",3\n", "\n", "line 3: 11 columns where there must be 12"),
        ("ending2", "ending9", "line 1: no column ending2; did you mean ending"),
    ],
)
def test_what_is_malformed_in_swag(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = written(tmp_path, SWAG.replace(old, new), "train.csv")
    with pytest.raises(Refusal) as refusal:
        choices(Swag(path=path, validation_share=0.0))
    assert said in str(refusal.value)
    if "line 1" not in said:
        corpus = Swag(path=path, validation_share=0.0, on_bad="drop")
        assert len(choices(corpus)) == 1 and corpus.notes()[0].startswith("1 malformed questions of")


def test_videos_are_held_out_whole(tmp_path: Path) -> None:
    rows = [SWAG.strip().split("\n")[1].replace("film-1", f"film-{n % 20}") for n in range(100)]
    corpus = Swag(path=written(tmp_path, SWAG_HEADER + "\n".join(rows) + "\n", "train.csv"), validation_share=0.1)
    assert [len(choices(corpus, split)) for split in corpus.splits()] == [90, 10]


def test_hellaswag(tmp_path: Path) -> None:
    rows = [HELLASWAG, {**HELLASWAG, "label": 3}, {key: value for key, value in HELLASWAG.items() if key != "label"}]
    written(tmp_path, lines(rows[:2]), "hellaswag_train.jsonl")
    written(tmp_path, lines(rows[2:]), "hellaswag_test.jsonl")
    corpus = HellaSwag(path=str(tmp_path), validation_share=0.0)
    first, second = choices(corpus)
    assert (first.context, first.question, first.label, second.label) == ("A woman mixes dough. she", "", 0, 3)
    assert first.options[0] == "bakes it." and first.topic == "Baking" and choices(corpus, "test")[0].label is None
    written(tmp_path, lines([{**HELLASWAG, "endings": ["a", "b"]}]), "hellaswag_train.jsonl")
    with pytest.raises(Refusal, match="line 1: `endings` must be 4 texts, not 2"):
        choices(HellaSwag(path=str(tmp_path), validation_share=0.0))


# ---------------------------------------------------------------------------------------------------- RACE


def test_race(tmp_path: Path) -> None:
    written(tmp_path, RACE, "train/high/10.txt")
    written(tmp_path, RACE, "train/high/9.txt")
    written(tmp_path, {**RACE, "article": "Bees sleep."}, "train/middle/1.txt")
    written(tmp_path, RACE, "dev/middle/1.txt")
    corpus = Race(path=str(tmp_path))
    found = choices(corpus)
    assert corpus.splits() == ("train", "validation") and len(choices(corpus, "validation")) == 2
    names = ["train/high/9.txt#0", "train/high/9.txt#1", "train/high/10.txt#0", "train/high/10.txt#1"]
    assert [each.id for each in found] == [*names, "train/middle/1.txt#0", "train/middle/1.txt#1"]
    assert found[0].context == "Anna keeps bees.\nShe sells honey." and found[0].question == "What does she sell?"
    assert found[0].options == ("Milk", "Honey", "Bread", "Wool") and [each.label for each in found[:2]] == [1, 0]
    assert corpus.labels["race"].names == ("A", "B", "C", "D")
    made = corpus.submission("train", found[:4], [3, 0, 1, 2])["race-train.json"]
    assert json.loads(made) == {"train/high/9.txt": ["D", "A"], "train/high/10.txt": ["B", "C"]}
    assert len(choices(Race(path=str(tmp_path), level="middle"))) == 2
    assert Race(path=str(tmp_path), level="high", validation_share=0.0).splits() == ("train",)
    with pytest.raises(Refusal, match=r"validation_share=0\.1 has no effect"):
        Race(path=str(tmp_path), validation_share=0.1).splits()
    assert Race(path=str(tmp_path)).fingerprint() != Race(path=str(tmp_path), level="high").fingerprint()


@pytest.mark.parametrize(
    ("changes", "said", "left"),
    [
        ({"answers": ["B", "E"]}, 'high/1.txt, question 2: the answer "E" is not one of A, B, C, D', 1),
        ({"answers": ["B"]}, "2 questions, 2 lists of options, 1 answers", 0),
        ({"options": [["Milk", "Honey"], RACE["options"][1]]}, "question 1: `options` must be 4 texts, not 2", 1),
        ({"options": ["Milk", RACE["options"][1]]}, 'question 1: `options` must be a list, not "Milk"', 1),
        ({"article": None}, "`article` must be text, not null", 0),
    ],
)
def test_what_is_malformed_in_race(tmp_path: Path, changes: dict[str, Any], said: str, left: int) -> None:
    written(tmp_path, {**RACE, **changes}, "train/high/1.txt")
    with pytest.raises(Refusal) as refusal:
        choices(Race(path=str(tmp_path), validation_share=0.0))
    assert said in str(refusal.value)
    corpus = Race(path=str(tmp_path), validation_share=0.0, on_bad="drop")
    assert len(choices(corpus)) == left and corpus.notes()[0].startswith("1 malformed")


def test_race_is_a_folder_of_folders(tmp_path: Path) -> None:
    written(tmp_path, RACE, "high/1.txt")
    with pytest.raises(Refusal, match="has no folders train, dev or test with high or middle in them; it holds high"):
        Race(path=str(tmp_path)).splits()
    with pytest.raises(Refusal, match="must be the folder RACE"):
        Race(path=str(tmp_path / "high" / "1.txt")).splits()


# ---------------------------------------------------------------------------------------------------- DREAM


def test_dream(tmp_path: Path) -> None:
    corpus = Dream(path=written(tmp_path, DREAM, "train.json"), validation_share=0.0)
    first, second = choices(corpus)
    assert first.context == "M: Is it late?\nW: Past ten." and first.question == "When is it?" and first.label == 1
    assert second.label == 0 and [first.id, second.id] == ["1-7-0", "1-7-1"]
    assert corpus.submission("test", [first, second], [1, 2]) == {
        "dream-test.tsv": "index\tprediction\n1-7-0\t1\n1-7-1\t2\n"
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": DREAM}, "it must be a list of [turns, questions, id]"),
        ([DREAM[0][:2]], "dialogue 1: it must be [turns, questions, id]"),
        (
            [[["Hello."], [{"question": "Q?", "choice": ["a", "b", "c"], "answer": "d"}], "x"]],
            'the answer "d" is 0 of the options',
        ),
        (
            [[["Hello."], [{"question": "Q?", "choice": ["a", "a", "c"], "answer": "a"}], "x"]],
            'the answer "a" is 2 of the options',
        ),
        (
            [[["Hello."], [{"question": "Q?", "choice": ["a", "c"], "answer": "a"}], "x"]],
            "`choice` must be 3 texts, not 2",
        ),
        ([[["Hello.", 3], [], "x"]], "dialogue 1: `turns[1]` must be text, not 3"),
    ],
)
def test_what_is_malformed_in_dream(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        choices(Dream(path=written(tmp_path, content, "train.json"), validation_share=0.0))
    assert said in str(refusal.value)


# ---------------------------------------------------------------------------------------------------- COPA


def test_copa_is_worded_as_a_question(tmp_path: Path) -> None:
    path = written(tmp_path, lines(COPA), "train.jsonl")
    corpus = Copa(path=path, validation_share=0.0)
    first, second = choices(corpus)
    assert first.sentences == ("The cup fell.", "What happened as a result?") and first.options == (
        "It broke.",
        "It sang.",
    )
    assert second.question == "What was the cause of this?" and [first.label, second.label] == [0, 1]
    assert corpus.submission("test", [first, second], [1, 0]) == {
        "COPA.jsonl": '{"idx": 4, "label": 1}\n{"idx": 5, "label": 0}\n'
    }
    worded = Copa(path=path, validation_share=0.0, cause="because", effect="so")
    assert [each.question for each in choices(worded)] == ["so", "because"]
    assert worded.fingerprint() != corpus.fingerprint()


def test_xcopa_lies_in_a_folder_for_each_language(tmp_path: Path) -> None:
    for language in ("et", "zh"):
        written(tmp_path, lines(COPA), f"{language}/val.{language}.jsonl")
        written(tmp_path, lines(COPA[:1]), f"{language}/test.{language}.jsonl")
    corpus = Copa(task="xcopa", path=str(tmp_path), language="et")
    assert corpus.splits() == ("validation", "test") and [len(choices(corpus, s)) for s in corpus.splits()] == [2, 1]
    assert choices(corpus, "test")[0].language == "et" and "val.et.jsonl" in corpus.announcement
    assert Copa(path=str(tmp_path / "zh"), language="zh").splits() == ("validation", "test")
    trained = Copa(path=str(tmp_path), language="et", train_path=written(tmp_path, lines(COPA), "copa.jsonl"))
    assert trained.splits() == ("train", "validation", "test")
    assert [choices(trained, split)[0].language for split in trained.splits()] == ["en", "et", "et"]
    with pytest.raises(Refusal, match=r"data.language=ett is not in .*did you mean et\? Accepted: et, zh"):
        Copa(path=str(tmp_path), language="ett").splits()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": 2}, "line 1: `label`=2 is no option: it must be a number from 0 to 1"),
        ({"label": "0"}, '`label` must be a whole number, not "0"'),
        ({"question": "causes"}, "`question`: causes is not one of them; did you mean cause?"),
        ({"premise": None}, "`premise` must be text, not null"),
    ],
)
def test_what_is_malformed_in_copa(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = written(tmp_path, lines([{**COPA[0], **changes}, COPA[1]]), "train.jsonl")
    with pytest.raises(Refusal) as refusal:
        choices(Copa(path=path, validation_share=0.0))
    assert said in str(refusal.value)
    corpus = Copa(path=path, validation_share=0.0, on_bad="drop")
    assert len(choices(corpus)) == 1 and "(the first: line 1: " in corpus.notes()[0]


def test_premises_are_held_out_with_both_their_questions(tmp_path: Path) -> None:
    rows = [{**row, "premise": f"Cup {n} fell."} for n in range(30) for row in COPA]
    corpus = Copa(path=written(tmp_path, lines(rows), "train.jsonl"), validation_share=0.1)
    train, held = ({each.context for each in choices(corpus, split)} for split in corpus.splits())
    assert len(train) == 27 and len(held) == 3 and not train & held


# ---------------------------------------------------------------------------------------------------- real files


def labels(corpus: TaskCorpus) -> list[dict[int | None, int]]:
    return [dict(Counter(record.label for record in choices(corpus, split))) for split in corpus.splits()]


@pytest.mark.data
def test_the_real_files(shared_data: Path) -> None:
    dream = Dream(path=str(shared_data / "multiple_choice" / "dream"))
    assert labels(dream) == [{0: 1979, 1: 2067, 2: 2070}, {0: 652, 1: 703, 2: 685}, {0: 626, 1: 704, 2: 711}]
    dialogues = [{each.id.rpartition("-")[0] for each in choices(dream, split)} for split in dream.splits()]
    assert [len(each) for each in dialogues] == [3869, 1288, 1287]
    copa = Copa(path=str(shared_data / "superglue" / "COPA"))
    assert copa.splits() == ("train", "validation") and labels(copa) == [{0: 14, 1: 18}, {0: 55, 1: 45}]
    for language in ("et", "it", "sw", "vi", "zh"):
        corpus = Copa(path=str(shared_data / "multiple_choice" / "xcopa"), language=language)
        assert labels(corpus) == [{0: 55, 1: 45}, {0: 250, 1: 250}]
