"""Two processes train as one: the same examples in the same steps, the same curve, one run folder, nothing said twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import jobs
import pytest
from test_resume import curve, start, wait_for

from cloze.folder import RunFolder
from cloze.session import train
from cloze.training import checkpoints

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")


def examples(*files: Path) -> dict[int, list[int]]:
    """{step: its examples, over all ranks}"""
    found: dict[int, list[int]] = defaultdict(list)
    for file in files:
        for line in file.read_text().splitlines():
            step, *indices = map(int, line.split())
            found[step] += indices
    return {step: sorted(indices) for step, indices in found.items()}


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    words = ["--dropout", 0, "--steps", 8, "--objective", "mlm_sop"]
    process = start(tmp_path / "two", *words, "--devices", 2, "--micro", 2, "--trace", tmp_path / "two")
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    assert out.count("run folder:") == 1 and out.count("validation loss") == 1 and not err
    assert not list(tmp_path.glob("outputs*")) and RunFolder(tmp_path / "two").facts()["hardware"]["world"] == 2
    single = jobs.parts(dropout=0.0, steps=8, objective="mlm_sop")
    jobs.follow(single, tmp_path / "one")
    train(single, RunFolder.take(tmp_path / "one", None, "test"))
    together = examples(tmp_path / "two.0", tmp_path / "two.1")
    assert together == examples(tmp_path / "one.0") and len(together) == 8
    for mine, theirs in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert mine["tokens"] == theirs["tokens"]
        assert {k: pytest.approx(v, rel=1e-3, abs=1e-6) for k, v in theirs.items()} == mine


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mix",
    [
        pytest.param("objective.mix=alternate", marks=pytest.mark.slow),
        pytest.param("+objective.weights.mlm='0:1,2:0'", marks=pytest.mark.exhaustive),
    ],
)
def test_two_processes_whose_objective_leaves_out_a_part(tmp_path: Path, mix: str) -> None:
    """A step asks some of the heads only: none of the processes waits for the others' gradients."""
    words = ["model=electra", "objective=together", "objective.of=[mlm,replaced_token]", mix, "data.documents=200",
             "data.validation_documents=20", "budget.steps=6", "batch_size=8", "length=32", "hardware.accelerator=cpu",
             "hardware.devices=2", "hardware.strategy=ddp", f"output_dir={tmp_path / 'run'}",
             f"cache_dir={tmp_path / 'cache'}"]  # fmt: skip
    command = [sys.executable, "-m", "cloze", "train", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert RunFolder(tmp_path / "run").facts()["status"] == "done"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("rank 0", marks=pytest.mark.exhaustive),
        pytest.param("rank 1", marks=pytest.mark.slow),
        pytest.param("both", marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_any_rank_stops_all(tmp_path: Path, victim: str) -> None:
    words = ["--steps", 400, "--pause", 0.02, "--devices", 2, "--save_every", 1000]
    folder = tmp_path / "run"
    process = start(folder, *words)
    wait_for(lambda: (folder / "metrics.jsonl").exists(), process)
    (child,) = children(process.pid)
    for victims in {"rank 0": [process.pid], "rank 1": [child], "both": [process.pid, child]}[victim]:
        os.kill(victims, signal.SIGTERM)
    asked = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in out + err, err
    assert time.monotonic() - asked < 20 and not alive(child)
    assert RunFolder(folder).facts()["status"] == "preempted"
    assert checkpoints.newest_valid(folder / "checkpoints")[0] is not None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_and_resumed(tmp_path: Path) -> None:
    words = ["--steps", 60, "--pause", 0.02, "--devices", 2, "--save_every", 4]
    whole = start(tmp_path / "whole", *words)
    assert whole.wait(300) == 0
    folder = tmp_path / "killed"
    for rank in (0, 1):
        process = start(folder, *words)
        steps = (folder / "metrics.jsonl").stat().st_size if (folder / "metrics.jsonl").exists() else 0
        wait_for(
            lambda: (folder / "checkpoints").exists() and len(list((folder / "checkpoints").glob("*.json"))) > 0,
            process,
        )
        wait_for(lambda: (folder / "metrics.jsonl").stat().st_size > steps, process)  # noqa: B023
        (child,) = children(process.pid)
        os.kill((process.pid, child)[rank], signal.SIGKILL)
        process.communicate(timeout=60)
        wait_until_gone(child)
    end = start(folder, *words)
    _, err = end.communicate(timeout=300)
    assert end.returncode == 0, err
    facts = RunFolder(folder).facts()
    assert facts["weights_sha256"] == RunFolder(tmp_path / "whole").facts()["weights_sha256"]
    assert len(facts["attempts"]) == 3 and curve(folder) == curve(tmp_path / "whole")


def children(process: int) -> list[int]:
    """The ranks that a process launched (not its data workers or trackers)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "stat").exists():
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == process and b"jobs.py" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def wait_until_gone(process: int) -> None:
    end = time.monotonic() + 60
    while alive(process):
        assert time.monotonic() < end, "an orphan"
        time.sleep(0.1)
