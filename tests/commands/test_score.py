"""`cloze score` as a command: one JSON object for every kind of file, and the sentences that refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloze.cli import main

SQUAD: dict[str, Any] = {
    "version": "1.1",
    "data": [
        {
            "title": "Fog",
            "paragraphs": [
                {
                    "context": "The lamp was lit at nine, and the old boat lay in fog.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "What lay in fog?",
                            "answers": [{"text": "the old boat", "answer_start": 30}],
                        },
                        {
                            "id": "b",
                            "question": "When was it lit?",
                            "answers": [{"text": "at nine", "answer_start": 17}],
                        },
                    ],
                }
            ],
        }
    ],
}


def command(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["cloze", "score", *map(str, words)])
        main()
    code = end.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def scores(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command in a folder of its own; what it prints must be one JSON object on one line."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> dict[str, Any]:
        assert command(*words) == 0, capsys.readouterr().err
        (line,) = capsys.readouterr().out.splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The one sentence of a command that ends with exit code 2 and prints nothing else."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> str:
        assert command(*words) == 2
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == 1 and said.err.startswith("error: ")
        return said.err.removeprefix("error: ").strip()

    return run


def write(name: str, content: object) -> str:
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8", newline="")
    return name


def json_lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# ------------------------------------------------------------------------------------------------------- squad


def test_squad(scores: Any, capsys: pytest.CaptureFixture[str]) -> None:
    gold = write("gold.json", SQUAD)
    assert scores("squad", gold, write("p.json", {"a": "old boat", "b": "nine"})) == {
        "exact_match": 50.0,
        "f1": pytest.approx((100 + 100 * 2 / 3) / 2),
    }
    assert command("squad", gold, write("p.json", {"a": "old boat", "x": ""})) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"exact_match": 50.0, "f1": 50.0}
    assert said.err == (
        "note: 1 of 2 questions have no prediction and score 0 (the first: b)\n"
        "note: 1 predictions are of questions that GOLD does not have (the first: x)\n"
    )


def test_squad_2_is_told_by_the_file(scores: Any) -> None:
    second = json.loads(json.dumps(SQUAD))
    second["version"] = "v2.0"
    second["data"][0]["paragraphs"][0]["qas"].append(
        {"id": "c", "question": "Why?", "answers": [], "is_impossible": True}
    )
    gold, said = write("gold.json", second), write("p.json", {"a": "old boat", "b": "nine", "c": "fog"})
    plain = scores("squad", gold, said)
    assert list(plain) == [f"{of}{name}" for of in ("", "HasAns_", "NoAns_") for name in ("exact", "f1", "total")]
    assert (plain["exact"], plain["HasAns_exact"], plain["NoAns_exact"]) == (pytest.approx(100 / 3), 50.0, 0.0)
    sure = write("na.json", {"a": 0.1, "b": 0.7, "c": 0.9})
    with_threshold = scores("squad", gold, said, "--na-prob", sure, "--threshold", 0.8)
    assert with_threshold["exact"] == pytest.approx(200 / 3) and with_threshold["NoAns_exact"] == 100.0
    assert (with_threshold["best_exact"], with_threshold["best_exact_thresh"]) == (pytest.approx(200 / 3), 0.1)
    assert with_threshold["best_f1_thresh"] == 0.7
    assert scores("squad", write("one.json", SQUAD), said, "--version", "2.0")["total"] == 2


def test_squad_refuses_what_is_malformed(refused: Any) -> None:
    gold, said = write("gold.json", SQUAD), write("p.json", {"a": "", "b": ""})
    assert refused("squad", "gld.json", said) == "GOLD=gld.json not found; did you mean gold.json?"
    assert refused("squad", gold, ".") == "PREDICTIONS=. is a folder; it must be a file"
    assert "line 1, column 2: not JSON" in refused("squad", gold, write("bad.json", "{a"))
    assert "must be one JSON object" in refused("squad", gold, write("bad.json", ["x"]))
    assert refused("squad", gold, write("bad.json", {"a": None})) == "bad.json: the answer to a must be text, not null"
    assert "there is no `data`" in refused("squad", write("bad.json", {"version": "1.1"}), said)
    broken = json.loads(json.dumps(SQUAD))
    del broken["data"][0]["paragraphs"][0]["qas"][1]["answers"]
    assert "data[0].paragraphs[0].qas[1]: there is no `answers`" in refused("squad", write("bad.json", broken), said)
    assert "goes with version 2.0" in refused("squad", gold, said, "--na-prob", said)
    assert "--na-prob FILE" in refused("squad", gold, said, "--version", "2.0", "--threshold", 0.5)
    assert "the probability of a must be a number" in refused(
        "squad", gold, said, "--version", "2.0", "--na-prob", said
    )
    assert refused("squad", gold, said, "--column", 1) == "--column goes with tags, not with squad"
    assert "argument --version: invalid choice: '3.0'" in refused("squad", gold, said, "--version", "3.0")


def test_cmrc(scores: Any) -> None:
    gold = json.loads(json.dumps(SQUAD))
    gold["data"][0]["paragraphs"][0]["qas"] = [
        {"id": "a", "question": "？", "answers": [{"text": "光荣公司", "answer_start": 0}]}
    ]
    found = scores("cmrc", write("gold.json", gold), write("p.json", {"a": "光荣"}))
    assert found["EM"] == 0.0 and found["F1"] == pytest.approx(100 * 2 / 3) and found["SKIP"] == 0


# ------------------------------------------------------------------------------------------------------- tasks

MRPC = (
    "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    '1\t11\t12\t" It rained .\tIt rained .\r\n'
    "0\t13\t14\tShe left .\tNA\r\n"
    "1\t15\t16\tHe sat .\tHe sat down .\r\n"
)


def test_glue_mrpc_is_f1_and_accuracy(scores: Any) -> None:
    gold = write("dev.tsv", MRPC)  # a byte order mark, \\r\\n, and a quote that is not closed
    said = write("p.tsv", "index\tprediction\n0\t1\n2\t0\n1\t0\n")  # in any order
    assert scores("glue/mrpc", gold, said) == {"f1": pytest.approx(200 / 3), "accuracy": pytest.approx(200 / 3)}
    assert scores("glue/MRPC", gold, said)["f1"] == pytest.approx(200 / 3)


def test_glue_cola_has_no_header_and_stsb_has_numbers(scores: Any) -> None:
    cola = write("cola.tsv", "gj04\t1\t\tOne .\ngj04\t0\t*\tTwo .\ngj04\t1\t\tThree .\ncj99\t0\t*\tFour .\n")
    said = write("p.tsv", "index\tprediction\n0\t1\n1\t0\n2\t0\n3\t0\n")
    assert scores("glue/cola", cola, said) == {"matthews": pytest.approx(100 * 2 / 12**0.5)}  # tp 1, tn 2, fn 1
    head = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
    rows = [f"{n}\tg\tf\t2012\t{n}\tnone\tnone\tA .\tB .\t{x}\n" for n, x in enumerate((5.0, 2.5, 1.0))]
    stsb = write("stsb.tsv", head + "".join(rows))
    found = scores("glue/STS-B", stsb, write("p.tsv", "index\tprediction\n0\t3.0\n1\t2.0\n2\t1.5\n"))
    assert found["spearman"] == pytest.approx(100.0) and 90 < found["pearson"] < 100


def test_examples_are_named_by_the_files_ids_or_their_numbers(scores: Any) -> None:
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    gold = write("qqp.tsv", head + "70\t1\t2\tWhy ?\tHow ?\t0\n90\t3\t4\tWho ?\tWho is it ?\t1\n")
    by_id = scores("glue/qqp", gold, write("p.tsv", "index\tprediction\n90\t1\n70\t1\n"))
    assert by_id == scores("glue/qqp", gold, write("p.tsv", "index\tprediction\n0\t1\n1\t1\n"))
    assert by_id == {"f1": pytest.approx(200 / 3), "accuracy": 50.0}


def test_superglue_clue_and_xnli(scores: Any) -> None:
    boolq = write("val.jsonl", json_lines({"idx": 0, "label": True}, {"idx": 1, "label": False}))
    said = write("p.jsonl", json_lines({"idx": 1, "label": "true"}, {"idx": 0, "label": "True"}))
    assert scores("superglue/boolq", boolq, said) == {"accuracy": 50.0}

    cb = [{"idx": n, "label": label} for n, label in enumerate(("neutral", "entailment", "contradiction", "neutral"))]
    said = [{"idx": n, "label": label} for n, label in enumerate(("neutral", "entailment", "neutral", "neutral"))]
    found = scores("superglue/cb", write("cb.jsonl", json_lines(*cb)), write("p.jsonl", json_lines(*said)))
    assert found == {"f1_macro": pytest.approx(100 * (0.8 + 1 + 0) / 3), "accuracy": 75.0}

    ocnli = [{"id": n, "label": label} for n, label in enumerate(("neutral", "-", "entailment"))]
    said = [{"id": n, "label": "neutral"} for n in range(3)]
    assert scores("clue/ocnli", write("g.json", json_lines(*ocnli)), write("p.json", json_lines(*said))) == {
        "accuracy": 50.0
    }

    tnews = [
        {"id": 7, "label": "100", "label_desc": "news_story"},
        {"id": 8, "label": "101", "label_desc": "news_culture"},
    ]
    for labels, share in ((("100", "100"), 50.0), (("news_story", "news_culture"), 100.0), (("100", "999"), 50.0)):
        said = [{"id": n, "label": label} for n, label in zip((7, 8), labels, strict=True)]
        found = scores("fewclue/tnews", write("g.json", json_lines(*tnews)), write("p.json", json_lines(*said)))
        assert found == {"accuracy": share}

    xnli = write("x.tsv", "language\tgold_label\tsentence1\nen\tneutral\tOne .\nde\tentailment\tTwo .\n")
    assert scores("xnli", xnli, write("p.tsv", "index\tprediction\n0\tneutral\n1\tneutral\n")) == {"accuracy": 50.0}


def multirc(*questions: tuple[int, ...]) -> str:
    asked = [
        {"idx": q, "answers": [{"idx": 10 * q + a, "label": label} for a, label in enumerate(labels)]}
        for q, labels in enumerate(questions)
    ]
    return json_lines({"idx": 0, "passage": {"text": "…", "questions": asked}})


def test_multirc_and_record_are_nested(scores: Any) -> None:
    gold, said = write("g.jsonl", multirc((1, 0), (1, 1, 0))), write("p.jsonl", multirc((1, 0), (1, 0, 0)))
    assert scores("superglue/multirc", gold, said) == {"f1_a": pytest.approx(80.0), "exact_match": 50.0}
    row = {
        "idx": 0,
        "qas": [
            {"idx": 5, "answers": [{"text": "Bhutto"}, {"text": "Ms. Bhutto"}]},
            {"idx": 6, "answers": [{"text": "Lahore"}]},
        ],
    }
    said = write("p.jsonl", json_lines({"idx": 6, "label": "Karachi"}, {"idx": 5, "label": "the Ms Bhutto"}))
    assert scores("superglue/record", write("g.jsonl", json_lines(row)), said) == {"f1": 50.0, "exact_match": 50.0}


def test_tasks_refuse_what_does_not_fit(refused: Any) -> None:
    gold, said = write("dev.tsv", MRPC), "index\tprediction\n0\t1\n1\t0\n2\t1\n"
    assert refused("glue/mrcp", gold, gold).startswith("glue/mrcp is not something to score; did you mean glue/mrpc?")
    assert refused("glue/mrpc", gold, write("p.tsv", said[:-4])) == (
        "p.tsv: 1 of 3 examples have no prediction (the first: 2, dev.tsv, line 4)"
    )
    assert refused("glue/mrpc", gold, write("p.tsv", said + "3\t1\n")) == "p.tsv, line 5: dev.tsv has no example 3"
    assert "p.tsv, line 5: example 2 is there twice, first at p.tsv, line 4" in refused(
        "glue/mrpc", gold, write("p.tsv", said + "2\t1\n")
    )
    assert 'p.tsv, line 4: "yes" is not a class. Accepted: 0, 1' in refused(
        "glue/mrpc", gold, write("p.tsv", said.replace("2\t1", "2\tyes"))
    )
    assert "p.tsv, line 1: no column index" in refused("glue/mrpc", gold, write("p.tsv", said.split("\n", 1)[1]))
    assert "dev.tsv, line 1: no column label" in refused("glue/rte", gold, write("p.tsv", said))
    assert "dev.tsv, line 1: no column score" in refused("glue/stsb", gold, write("p.tsv", said))
    assert "bad.tsv, line 3: 2 columns where there must be 5" in refused(
        "glue/mrpc", write("bad.tsv", MRPC.replace("\t13\t14\tShe left .", "")), write("p.tsv", said)
    )
    wnli = write("wnli.jsonl", json_lines({"idx": 0, "label": [1]}))
    assert "a label is a word or a number" in refused("superglue/wsc", wnli, wnli)
    stsb = write("s.tsv", "index\tscore\n0\t4.0\n")
    assert 'p.tsv, line 2: "nan" is not a number' in refused(
        "glue/stsb", stsb, write("p.tsv", "index\tprediction\n0\tnan\n")
    )
    bad = write("p.jsonl", json_lines({"idx": 0, "passage": {"questions": [{"idx": 0}]}}))
    assert "p.jsonl, line 1: there is no 'answers'; MultiRC has" in refused("superglue/multirc", bad, bad)
    assert refused("glue/mrpc", gold, gold, "--threshold", 1) == "--threshold goes with squad, not with glue/mrpc"


# ------------------------------------------------------------------------------------------------------- tags

NER = "-DOCSTART- O\n\nAnna B-PER\nsat O\n\nLake B-LOC\nComo I-LOC\n. O\n"


def test_tags(scores: Any) -> None:
    gold = write("gold.conll", NER)
    found = scores("tags", gold, write("p.conll", NER.replace("Como I-LOC", "Como O").replace("\n\n", "\n \t\n")))
    assert (found["accuracy"], found["f1"], found["precision"]) == (80.0, 50.0, 50.0)
    assert found["types"]["PER"] == {"precision": 100.0, "recall": 100.0, "f1": 100.0, "support": 1}
    three = write("three.conll", "Anna NNP B-NP\nsat VBD B-VP\n\n")
    four = write("four.conll", "Anna NNP B-NP I-NP\nsat VBD B-VP B-NP\n\n")  # the prediction as one more column
    assert scores("tags", three, four)["f1"] == 50.0
    assert scores("tags", three, four, "--column", 3)["f1"] == 50.0
    assert scores("tags", three, three, "--column", 2) == {"accuracy": 100.0}


def test_tags_of_conllu(scores: Any) -> None:
    rows = [
        "# text = Don't go",
        "1-2\tDon't" + "\t_" * 8,
        "1\tDo\tdo\tAUX\tVB" + "\t_" * 5,
        "2\tn't\tnot\tPART\tRB" + "\t_" * 5,
    ]
    rows += ["2.1\tyou" + "\t_" * 8, "3\tgo\tgo\tVERB\tVB" + "\t_" * 5, "", ""]
    gold = write("gold.conllu", "\n".join(rows))
    said = write("p.conllu", "\n".join(rows).replace("AUX", "VERB"))
    assert scores("tags", gold, said) == {"accuracy": pytest.approx(200 / 3)}
    assert scores("tags", gold, said, "--column", "xpos") == {"accuracy": 100.0}


def test_tags_refuse_other_words(refused: Any) -> None:
    gold = write("gold.conll", NER)
    same = "both files must have the same words in the same sentences"
    assert refused("tags", gold, write("p.conll", NER.replace("Como", "Garda"))) == (
        f"p.conll, line 7, has 'Garda', but gold.conll, line 7, has 'Como': {same}"
    )
    assert refused("tags", gold, write("p.conll", NER.replace("Como I-LOC\n", "Como I-LOC\n\n"))) == (
        f"p.conll, line 7, ends a sentence with 'Como', but gold.conll, line 8, has '.': {same}"
    )
    assert refused("tags", gold, write("p.conll", NER[: NER.index("Lake")])) == (
        f"p.conll ends, but gold.conll, line 6, has 'Lake': {same}"
    )
    assert "p.conll, line 3: 'PER' is not a tag of a span" in refused(
        "tags", gold, write("p.conll", NER.replace("B-PER", "PER"))
    )
    assert "p.conll, line 4" in refused("tags", gold, write("p.conll", NER.replace("sat O", "sat")))
    assert "has no tag in column 7" in refused("tags", gold, gold, "--column", 7)
    assert "upos names a column of CoNLL-U" in refused("tags", gold, gold, "--column", "upos")


# ------------------------------------------------------------------------------------------------------- as a whole


def test_the_command_starts_without_torch(tmp_path: Path) -> None:
    gold, said = tmp_path / "gold.json", tmp_path / "p.json"
    gold.write_text(json.dumps(SQUAD), encoding="utf-8")
    said.write_text(json.dumps({"a": "boat", "b": "at nine"}), encoding="utf-8")
    code = (
        "import sys; from cloze import cli; sys.argv = ['cloze', 'score', *sys.argv[1:]]\n"
        "try: cli.main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "squad", str(gold), str(said)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["exact_match"] == 50.0 and done.stderr == "False\n"


def test_help_names_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "glue/mrpc" in said and "--na-prob" in said
    assert command() == 2 and "WHAT, GOLD, PREDICTIONS" in capsys.readouterr().err


@pytest.mark.data
def test_real_files_score_100_with_their_own_labels(shared_data: Path, scores: Any) -> None:
    folders = {"cola": "CoLA", "mrpc": "MRPC", "sst2": "SST-2", "stsb": "STS-B", "wnli": "WNLI"}
    for task, folder in folders.items():
        gold = shared_data / "glue" / folder / "dev.tsv"
        lines = gold.read_bytes().decode("utf-8-sig").split("\n")
        rows = [line.removesuffix("\r").split("\t") for line in lines if line][0 if task == "cola" else 1 :]
        place = {"cola": 1, "mrpc": 0}.get(task, -1)
        said = write("p.tsv", "index\tprediction\n" + "".join(f"{n}\t{row[place]}\n" for n, row in enumerate(rows)))
        assert list(scores(f"glue/{task}", gold, said).values()) == pytest.approx(
            [100.0] * (1 + (task in ("mrpc", "stsb")))
        )
    for task in ("BoolQ", "CB", "COPA", "WSC"):
        gold = shared_data / "superglue" / task / "val.jsonl"
        found = [json.loads(line) for line in gold.read_text(encoding="utf-8").splitlines()]
        said = write("p.jsonl", json_lines(*({"idx": row["idx"], "label": str(row["label"])} for row in found)))
        assert set(scores(f"superglue/{task}", gold, said).values()) == {100.0}
    for task in ("chid", "csl", "ocnli", "tnews"):
        gold = shared_data / "clue/fewclue" / task / "test_public.json"
        found = [json.loads(line) for line in gold.read_text(encoding="utf-8").splitlines()]
        label = "answer" if task == "chid" else "label"
        said = write("p.json", json_lines(*({"id": row["id"], "label": row[label]} for row in found)))
        assert scores(f"fewclue/{task}", gold, said) == {"accuracy": 100.0}


@pytest.mark.data
def test_real_tagged_files(shared_data: Path, scores: Any) -> None:
    gold = shared_data / "tagging/wnut17/emerging.dev.conll"
    text = gold.read_text(encoding="utf-8")
    assert scores("tags", gold, gold)["f1"] == 100.0
    found = scores(
        "tags", gold, write("p.conll", text.replace("\tB-person", "\tB-group").replace("\tI-person", "\tI-group"))
    )
    people = found["types"]["person"]["support"]
    others = sum(of["support"] for of in found["types"].values()) - people
    assert people == text.count("\tB-person") and found["f1"] == pytest.approx(100 * others / (people + others))
    ewt = shared_data / "tagging/ud_english_ewt/en_ewt-ud-dev.conllu"
    assert scores("tags", ewt, ewt) == {"accuracy": 100.0}


@pytest.mark.data
def test_what_training_writes_can_be_scored(shared_data: Path, scores: Any) -> None:
    from cloze.data.base import Choices, Labelled, Tagged, TaskCorpus
    from cloze.data.tasks.choices import Copa
    from cloze.data.tasks.clue import Chid, Clue
    from cloze.data.tasks.conll import Conll
    from cloze.data.tasks.glue import Glue
    from cloze.data.tasks.superglue import SuperGlue

    def right(record: object) -> Any:
        assert isinstance(record, Labelled | Choices | Tagged)
        return record.tags if isinstance(record, Tagged) else record.label

    fewclue, tagging = shared_data / "clue/fewclue", shared_data / "tagging/wnut17"
    cases: list[tuple[str, TaskCorpus, Path]] = [
        ("glue/mrpc", Glue("mrpc", str(shared_data / "glue")), shared_data / "glue/MRPC/dev.tsv"),
        ("glue/cola", Glue("cola", str(shared_data / "glue")), shared_data / "glue/CoLA/dev.tsv"),
        ("superglue/cb", SuperGlue("cb", str(shared_data / "superglue")), shared_data / "superglue/CB/val.jsonl"),
        ("superglue/wsc", SuperGlue("wsc", str(shared_data / "superglue")), shared_data / "superglue/WSC/val.jsonl"),
        ("superglue/copa", Copa(path=str(shared_data / "superglue/COPA")), shared_data / "superglue/COPA/val.jsonl"),
        ("clue/tnews", Clue("tnews", str(fewclue), fold=0), fewclue / "tnews/dev_0.json"),
        ("clue/chid", Chid(str(fewclue), fold=0), fewclue / "chid/dev_0.json"),
        ("tags", Conll(path=str(tagging)), tagging / "emerging.dev.conll"),
    ]
    for name, corpus, gold in cases:
        records = list(corpus.split_records("validation"))
        ((file, content),) = corpus.submission("validation", records, [right(record) for record in records]).items()
        found = {
            metric: value for metric, value in scores(name, gold, write(file, content)).items() if metric != "types"
        }
        assert list(found.values()) == pytest.approx([100.0] * len(found)), name
