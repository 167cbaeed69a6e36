"""Every command that README and docs print is run, training shortened to two steps; none is there that does not work. But for these:
of `make` the target is looked for, and of `python -m`, whose measuring takes long, the module, which says its `--help` where it has one."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloze import cli
from cloze.studies.file import shipped

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHORT = ["budget.steps=2", "validation.examples=8", "validation.every=2", "tracking=none", "hardware.threads=1"]
SMALL_TASK = ["data.train=64", "data.validation=8", "data.test=8"]
SMALL_WORLD = ["data.documents=400", "data.validation_documents=30", "data.test_documents=10"]

# What the pages' commands speak of, in a folder that the test makes: a run, the user's own text.
TEXT = "\n\n".join(
    f"Chapter {n} begins here. The lamp was lit at {n} o'clock, and someone came in. They sat down. Nothing was said for a while."
    for n in range(400)
)

_ASKED = (
    '{"data": [{"paragraphs": [{"qas": [{"id": "q", "answers": [%s]}, {"id": "r", "answers": [{"text": "nine"}]}]}]}]}'
)
SCORED = {  # gold data and predictions of cloze score
    "dev-v1.1.json": _ASKED % '{"text": "a lamp"}',
    "dev-v2.0.json": _ASKED % "",
    "predictions.json": '{"q": "lamp", "r": "at nine"}',
    "no_answer.json": '{"q": 0.9, "r": 0.2}',
    "MRPC/dev.tsv": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tThey sat .\tThey sat down .\n",
    "MRPC.tsv": "index\tprediction\n0\t1\n",
    "BoolQ/val.jsonl": '{"question": "is it lit", "passage": "The lamp was lit.", "idx": 0, "label": true}\n',
    "BoolQ.jsonl": '{"idx": 0, "label": "true"}\n',
    "dev.conll": "Clara NNP B-PER\nsat VBD O\n",
    "predicted.conll": "Clara NNP B-PER\nsat VBD O\n",
}


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) of every line in a code block that begins like one of ours; a trailing backslash continues it."""
    for page in PAGES:
        for block in re.findall(r"```(?:bash|console|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.removeprefix("$ ").split("  #")[0].strip()
                if re.match(r"(python train\.py|cloze |make |python -m )", command):
                    yield page.name, command


COMMANDS = sorted({command: page for page, command in commands()}.items())


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) >= 15
    assert {"make train", "make test"} <= {command for command, _ in COMMANDS}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the pages assume: a folder with books/, what is scored, and finished runs: outputs/first (a BERT), outputs/gpt2 and outputs/mini
    (GPT-2), outputs/mrpc (fine-tuned)."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "books").mkdir()
    for n in range(3):
        (folder / "books" / f"book{n}.txt").write_text(f"Book {n}.\n\n{TEXT}", encoding="utf-8")
    (folder / "pairs.tsv").write_text("clara lost the lamp.\tthe lamp was lost by clara.\n", encoding="utf-8")
    for name, content in SCORED.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli._guarded(cli._train, [*SHORT, *SMALL_WORLD, "output_dir=outputs/first"]) == 0
        for name in ("gpt2", "mini"):
            assert cli._guarded(cli._train, [*SHORT, *SMALL_WORLD, "model=gpt2", f"output_dir=outputs/{name}"]) == 0
        labelled = ["init=outputs/first", "data=world/mrpc", "data.train=64", "data.validation=8", "data.test=8"]
        assert cli._guarded(cli._train, [*SHORT, *labelled, "output_dir=outputs/mrpc"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("command", "page"), COMMANDS, ids=[f"{page}: {command}" for command, page in COMMANDS])
def test_a_printed_command_works(command: str, page: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    if words[0] == "make":
        target = words[1]
        rule = re.sub(r"^sweep-(.+)", "sweep-%", target)
        assert re.search(rf"^{rule}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), target
        assert rule == target or target.removeprefix("sweep-") in shipped(), target
        return
    if words[:2] == ["python", "-m"]:
        path = words[2].replace(".", "/")
        files = [root / there for root in (ROOT, ROOT / "src") for there in (f"{path}.py", f"{path}/__main__.py")]
        found = [file for file in files if file.exists()]
        assert found, words[2]
        if "argparse" in found[0].read_text(encoding="utf-8"):
            done = subprocess.run(
                [sys.executable, *words[1:3], "--help"], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
        return
    monkeypatch.chdir(workplace)
    if words[:2] == ["cloze", "glue"]:
        if any("shared" in word for word in words):
            pytest.skip("needs ../shared/data, real public data that is not part of the repository")
        words += [*SHORT, "data.train=64", "data.validation=8", "data.test=8"]
    if words[0] == "cloze" and words[1] != "train":
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return
    # what a page has made for the commands below it is there already
    words = [word for word in words[2:] if word != "output_dir=outputs/mini"]
    if any(word.startswith(("data.path=", "init=", "resume=")) and "shared" in word for word in words):
        pytest.skip("needs ../shared/data, real public data that is not part of the repository")
    assert cli._guarded(cli._train, shortened(words)) == 0


def shortened(words: list[str]) -> list[str]:
    """The same sentence for two steps on little text: the budget and the size of model and text are the test's."""
    if any(word in ("--help", "--cfg", "matrix=true") for word in words):
        return words
    if "objective=score" in words:  # which trains nothing
        return [*words, "objective.examples=8", "tracking=none", "hardware.threads=1"]
    kept = [
        word for word in words if not word.startswith(("budget", "size=", "validation.", "tracking", "schedule.warmup"))
    ]
    data = next((word for word in words if word.startswith("data=")), "data=world")
    generated = SMALL_TASK if data.startswith("data=world/") else SMALL_WORLD if data == "data=world" else []
    small = [*SHORT, *generated]
    small += [] if any(word.startswith("init=") for word in words) else ["size=tiny"]
    small += ["batch_size=16"] if any(word.startswith("experiment=") for word in words) else []
    small += ["sweeps.seeds=[1]", "sweeps.after=[]"] if any(word.startswith("sweeps=") for word in words) else []
    small += ["objective.mask_ratio=0.15"] if "sweeps=mask_ratio" in words else []
    return [*kept, *(word for word in small if word.partition("=")[0] not in {k.partition("=")[0] for k in kept})]
