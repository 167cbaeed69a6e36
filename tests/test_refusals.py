"""Wrong commands: one clear message with the nearest right word, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from cloze import cli
from cloze.check import check
from cloze.compose import compose
from cloze.prepare import prepare, rank_agreement

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command in an empty folder; returns what it said, having checked how it ended."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        before = set(tmp_path.rglob("*"))
        code = cli._guarded(cli._train, [*words])
        heard = capsys.readouterr()
        assert code == 2, heard.err or heard.out
        assert heard.err.startswith("error: ")
        assert "Traceback" not in heard.err + heard.out
        left = set(tmp_path.rglob("*")) - before
        assert not [path for path in left if path.is_file() and "cache" not in path.parts], left
        return heard.err

    return run


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("model=brt", ["model=brt is not there", "did you mean bert?", "roberta"]),
        ("objective=mlm_nps", ["did you mean mlm_nsp?"]),
        ("modle=bert", ["modle is not a setting", "did you mean model?"]),
        ("objective.mask_rato=0.3", ["objective.mask_rato is not a setting", "did you mean objective.mask_ratio?"]),
        ("mask_ratio=0.3", ["did you mean objective.mask_ratio?"]),
        ("+objective.mask_rato=0.3", ["did you mean objective.mask_ratio?"]),
        ("+seeed=3", ["seeed is not a setting", "did you mean seed?"]),
        ("+size.layerz=3", ["did you mean layers?"]),
        ("objective.mask_ratio=lots", ["objective.mask_ratio='lots' must be a number"]),
        ("objective.unit=whole_words", ["objective.unit=whole_words", "did you mean whole_word?"]),
        ("objective.mask_ratio=1.7", ["objective.mask_ratio=1.7", "1"]),
        ("objective.mask_ratio=0", ["objective.mask_ratio=0"]),
        ("objective.mask_ratio=nan", ["objective.mask_ratio=nan"]),
        ("model.heads=3", ["model.heads=3", "width"]),
        ("model.dropout=often", ["model.dropout='often' must be a number"]),
        ("model.layers=2.5", ["model.layers=2.5 must be a whole number"]),
        ("batch_size=0", ["batch_size=0 must be at least 1"]),
        ("seed=-1", ["seed=-1"]),
        ("length=2", ["length=2"]),
        ("length=4096", ["length=4096", "model.positions"]),
        ("budget.steps=0", ["budget.steps=0"]),
        ("optimizer.learning_rate=-1", ["optimizer.learning_rate=-1"]),
        ("optimizer.lr=0.1", ["did you mean optimizer.learning_rate?"]),
        ("lr=0.1", ["did you mean optimizer.learning_rate?"]),
        ("hardware.devices=64", ["64"]),
        ("model=gpt2 objective=mlm", ["sees both sides", "model=albert|bert", "|clm|"]),
        ("model=bert objective=clm", ["sees only what stands before", "gpt2"]),
        ("objective=mlm_sop objective.format=full_sentences", ["format"]),
        ("data=text", ["data.path"]),
        ("data=text data.path=nowhere.txt", ["nowhere.txt"]),
        ("init=nowhere", ["nowhere"]),
        ("resume=nowhere", ["nowhere"]),
        ("resume=auto", ["output_dir"]),
        ("init=nowhere size=base", ["size=… has no effect with init"]),
        ("model._target_=os.system", ["model._target_=os.system", "trusted"]),
        ("+tracking.api_key=abc", ["secret"]),
        ("bert", ["'bert' is not a setting"]),
        ("--modle", ["--modle is not an option"]),
        ("seed=1,2", ["-m"]),
        ("hydra.run.dir=x", ["output_dir"]),
        ("-m seed=1,2 objective=mlm,clm", ["2 of 4 jobs cannot be; nothing was started"]),
        ("size.head_width=7", ["size.head_width has no effect", "model=bert"]),
        ("model.layers=0", ["model.layers=0"]),
        ("~objective", ["objective"]),
        ("-m seed=1,2 hydra.sweep.dir=x", ["the study's folder is output_dir=FOLDER"]),
        ("-m seed=1,2 resume=x", ["the same sentence again goes on where it stopped"]),
        ("-m seed=1,2 sweeps.paralel=2", ["did you mean sweeps.parallel?"]),
        ("-m seed=1,2 plan=true", ["plan=true looks at one run"]),
        ("model._target_=mypackage.Model trusted=[mypackage]", ["mypackage.Model cannot be found"]),
        ("model=xlnet objective=mlm model.memory_length=8", ["model.memory_length=8 has no effect with mlm"]),
        (
            "model=transformer_xl objective=clm model.evaluation_memory_length=8",
            ["model.evaluation_memory_length=8 has no effect"],
        ),
        (
            "model=switch model.sparse_every=9",
            ["model.sparse_every=9 is more than the encoder's 2 layers"],
        ),
        (
            "model=t5 objective.mean_span=10 length=2048",
            ["objective.judged_span=3.0 needs 115 sentinels; the tokenizer has 100"],
        ),
        ("sweeps=mask_rate", ["did you mean mask_ratio?"]),
        (
            "objective=classify data=world",
            ["learns from labelled records; data=world has text records", "data=clue/… (not chid)|glue/…|"],
        ),
        (
            "data=glue/mrpc data.path=. objective=tag",
            ["learns from tagged records", "world/{constituents,ner,pos,srl,unseen_words}"],
        ),
        ("data=glue/mprc", ["data=glue/mprc is not there; did you mean glue/mrpc? Accepted: glue/all, glue/ax"]),
        ("data=wrld", ["did you mean world?", "superglue/…"]),
        ("data=glue/mrpc", ["data.path is missing"]),
        ("data=squad data.path=/nowhere", ["/nowhere"]),
        ("data=ud", ["data.path is missing: a folder with *-ud-train.conllu"]),
        ("data=world/mrpc length=4", ["length=4 is too short", "take length=5 or more"]),
        (
            "data=world/squad length=32 objective.question_length=40",
            ["objective.question_length=40 leaves no room for the passage with length=32"],
        ),
        (
            "data=world/mrpc objective.lm_weight=0.5",
            ["objective.lm_weight=0.5 needs a model that sees only what stands before"],
        ),
        ("data=world/mrpc objective.hidden=0", ["objective.hidden=0 must be at least 1, or null"]),
        ("data=world/mrpc objective.layer=99", ["objective.layer=99 must lie in 0 … 2"]),
        (
            "data=world/mrpc objective.pooling=average",
            ["objective.pooling=average is not one of them. Accepted: concat"],
        ),
        ("data=world/mrpc objective.dropout=1.5", ["objective.dropout=1.5 must lie in [0, 1)"]),
        ("data=world/mrpc data.train=0", ["data.train=0 must be at least 1"]),
        (
            "data=world/mrpc model=gpt2 objective=verbalise",
            ["sees both sides", "With model=gpt2: objective=choose|classify|"],
        ),
        (
            "data=world/squad objective.unanswerable=false objective.null_threshold=1",
            ["objective.null_threshold=1 has no effect"],
        ),
        ("data=world/squad objective.stride=0", ["objective.stride=0 must be at least 1"]),
        (
            "data=world/pos objective.context=page",
            ["objective.context=page is not one of them. Accepted: document, sentence"],
        ),
        ("data=world/blimp objective=choose", ["there is no train split; it has test"]),
        ("data=world/mrpc finetune=lroa", ["did you mean lora?"]),
        (
            "data=world/mrpc objective=together objective.of=[mlm,classify]",
            ["classify learns from labelled data and cannot be one of several yet: objective=classify trains it alone"],
        ),
        ("objective=together objective.of=[mlm,score]", ["objective.of=['mlm', 'score']: score trains nothing"]),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(
    refuse: Callable[..., str], words: str, expected: list[str]
) -> None:
    said = refuse(*words.split())
    for piece in expected:
        assert piece in said, said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "data=world/sst2 objective.both_orders=true",
            "objective.both_orders=true has no effect: these examples are single texts",
        ),
        ("data=world/mrpc labelled_examples=1000", "labelled_examples=1000 is more than the 32 training examples"),
        ("data=world/stsb objective=verbalise", "this task asks for a number: objective=classify"),
        (
            "data=world/mrpc objective=verbalise objective.words={0:was,1:was}",
            "two classes have the same token: was, was",
        ),
        (
            "data=world/mrpc objective=verbalise objective.words={0:was}",
            "objective.words must have a word for each class",
        ),
        (
            "data=world/mrpc objective=verbalise objective.words={0:incomprehensibly,1:was}",
            "'incomprehensibly' for the class '0' is not one token of this vocabulary",
        ),
        ("data=world/sst2 objective=mlm_sop", "needs documents of at least 2 sentences"),
    ],
)
def test_labelled_data_that_cannot_serve(refuse: Callable[..., str], words: str, expected: str) -> None:
    small = ["data.train=32", "data.validation=8", "data.test=8", "size=tiny", "tokenizer.vocabulary=300"]
    assert expected in refuse(*words.split(), *small)


def test_a_column_that_is_not_there(refuse: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("text\tlabel\nA lamp.\tyes\n", encoding="utf-8")
    said = refuse("data=table", "data.path=pairs.tsv", "data.text=text", "data.label=lable")
    assert "data.label=lable: pairs.tsv has no such column; did you mean label?" in said


def test_labels_that_are_not_there_cannot_be_counted(refuse: Callable[..., str]) -> None:
    said = refuse(*SMALL, "labelled_examples=10", "tokenizer.vocabulary=300")
    assert "labelled_examples=10 has no effect: this objective learns from text without labels" in said


def test_all_faults_are_told_at_once(refuse: Callable[..., str]) -> None:
    said = refuse("objective.mask_ratio=lots", "+model.widht=3", "batch_size=many")
    assert said.count("error: ") >= 3, said


@pytest.mark.parametrize(
    ("content", "words", "expected"),
    [
        (b"", "", ["empty"]),
        (b" \n\n \n", "", ["corpus"]),
        (bytes(range(256)) * 40, "", ["corpus.txt"]),
        ("Grüße aus Köln.\n".encode("latin-1"), "", ["corpus.txt", "utf-8"]),
        (gzip.compress(b"A text. Another.\n"), "", ["corpus.txt"]),
        (b"One document. It is alone.\n", "objective=mlm_nsp", ["document"]),
        (b"One sentence.\n\nAnother one.\n\nA third.\n" * 20, "objective=mlm_sop", ["sentence"]),
        (b"A small text. It has two sentences.\n\nAnd one more. With two.\n" * 3, "batch_size=500", ["500"]),
    ],
    ids=["empty", "blank", "binary", "latin-1", "gzip", "one-document", "one-sentence", "too-small"],
)
def test_a_corpus_that_cannot_serve(
    refuse: Callable[..., str], tmp_path: Path, content: bytes, words: str, expected: list[str]
) -> None:
    (tmp_path / "corpus.txt").write_bytes(content)
    said = refuse("data=text", "data.path=corpus.txt", "tokenizer.vocabulary=200", *words.split())
    for piece in expected:
        assert piece.lower() in said.lower(), said


def test_the_process_itself_ends_with_code_2_and_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "model=brt"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: model=brt is not there")
    assert "Traceback" not in done.stderr


def test_a_memory_that_nobody_asked_for_is_no_fault() -> None:
    for words in (
        "model=xlnet objective=mlm", "model=xlnet objective=mlm model.memory_length=0", "model=transformer_xl model.memory_length=8",
        "model=transformer_xl objective=clm model.memory_length=8 model.same_length=true",
        "model=xlnet objective.documents=continued model.memory_length=8",
    ):  # fmt: skip
        check(compose(words.split()))


SMALL = ["data.documents=60", "data.validation_documents=20", "data.test_documents=10", "size=tiny", "length=32"]


def test_more_negatives_than_words(refuse: Callable[..., str]) -> None:
    said = refuse(*SMALL, "model=elmo", "objective.negatives=5000", "tokenizer.vocabulary=300")
    assert "objective.negatives=5000 are not fewer than the 300 tokens of the vocabulary" in said


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (
            "model=gpt2 objective=clm_lanes tokenizer.vocabulary=400",
            "model=gpt2 has no memory: each window is read without",
        ),
        ("model=transformer_xl objective=clm_lanes tokenizer.vocabulary=400", None),
        (
            "model=elmo objective.negatives=20 tokenizer=wordpiece tokenizer.vocabulary=400",
            "ids of this tokenizer do not go by frequency",
        ),
        ("model=elmo objective.negatives=20 tokenizer.vocabulary=400", None),
    ],
)
def test_what_does_little_is_said(words: str, note: str | None, tmp_path: Path) -> None:
    heard: list[str] = []
    prepare(check(compose([*SMALL, f"cache_dir={tmp_path}", *words.split()])), say=heard.append)
    told = [line for line in heard if "memory" in line or "by frequency" in line]
    assert len(told) == (note is not None) and all(str(note) in line for line in told)


def test_frequencies_against_ids() -> None:
    assert rank_agreement(np.array([0, 9, 5, 5, 1])) == pytest.approx(
        float(spearmanr([9, 5, 5, 1], [-0, -1, -2, -3]).statistic)
    )
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 30, 200)
    assert rank_agreement(counts) == pytest.approx(float(spearmanr(-counts, np.arange(200)).statistic))
