"""Whole studies, with real jobs: models that raise, leave, are killed and run out of memory beside those that train; ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloze.report.collect import read

pytestmark = pytest.mark.timeout(1200)

SMALL = (
    "tracking=none,hardware.threads=1,size.layers=1,size.width=32,size.heads=2,size.inner=64,length=32,batch_size=8,budget.steps=3,"
    "validation.examples=8,validation.every=3,data.documents=60,data.validation_documents=10,data.test_documents=10,"
    "tokenizer.vocabulary=300,checkpoint.every=1"
)

FAULTY = '''
"""Models of a user's own that end their run at its second or third step, until there is a file called mended."""
import os, resource, signal, sys
from pathlib import Path
import torch
from cloze.models.bert import Bert


class Faulty(Bert):
    steps = 0

    def forward(self, *inputs, **settings):
        if self.training and torch.is_grad_enabled() and not Path("mended").exists():
            self.steps += 1
            if self.steps == 3:
                self.fail()
        return super().forward(*inputs, **settings)


class Raises(Faulty):
    def fail(self):
        raise ValueError("this model has had enough")


class Exits(Faulty):
    def fail(self):
        sys.exit(7)


class Killed(Faulty):
    def fail(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Greedy(Faulty):
    def fail(self):
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, now + 2**28))
        torch.empty(2**31)
'''


def told(folder: Path, *words: str) -> tuple[int, str]:
    """A sentence given in a folder; its exit code and all that it said."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "CLOZE_RUN_FOLDER": "nowhere",
        "RANK": "0",
        "LOCAL_RANK": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "cloze", "train", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def jobs(folder: Path) -> dict[str, dict[str, Any]]:
    return {job["arm"]: job for job in json.loads((folder / "study.json").read_text(encoding="utf-8"))["jobs"]}


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    (tmp_path / "faulty.py").write_text(FAULTY, encoding="utf-8")
    own = {"raises": "Raises", "exits": "Exits", "killed": "Killed", "no memory": "Greedy"}
    arms = "".join(f"  {arm}: [model._target_=faulty.{name}]\n" for arm, name in own.items())
    (tmp_path / "faults.yaml").write_text(
        f"words: [model=bert,objective=mlm,data=world,{SMALL},'trusted=[faulty]']\n"
        f"arms:\n{arms}  good: []\n  also good: [objective.mask_ratio=0.3]\n"
        "baseline: good\nmetrics: [{key: val/accuracy, title: accuracy, higher_is_better: true}]\n",
        encoding="utf-8",
    )
    return tmp_path


def each_has_its_reason(folder: Path, code: int, said: str) -> None:
    assert code == 1, said
    found = jobs(folder / "s")
    assert {arm for arm, job in found.items() if job["status"] == "done"} == {"good", "also good"}, said
    reasons = {arm: job["reason"] for arm, job in found.items() if job["status"] == "failed"}
    assert reasons["raises"].startswith("ValueError: this model has had enough")
    assert reasons["exits"] == "left with sys.exit(7) before its end"
    assert reasons["killed"].startswith("killed by SIGKILL")
    assert reasons["no memory"].startswith("out of memory: RuntimeError")
    for arm, reason in reasons.items():
        assert f"failed {found[arm]['name']}: {reason}" in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits its address space by /proc")
def test_a_job_that_raises_leaves_is_killed_or_runs_out_of_memory_ends_no_other(faulty: Path) -> None:
    each_has_its_reason(faulty, *told(faulty, "sweeps=faults.yaml", "output_dir=s"))


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="limits its address space by /proc")
def test_the_same_sentence_again_runs_those_that_failed_from_where_they_were(faulty: Path) -> None:
    each_has_its_reason(faulty, *told(faulty, "sweeps=faults.yaml", "output_dir=s"))
    (faulty / "mended").touch()
    code, said = told(faulty, "sweeps=faults.yaml", "output_dir=s", "sweeps.parallel=2")
    assert code == 0, said
    attempts = {arm: job["attempts"] for arm, job in jobs(faulty / "s").items()}
    assert attempts == {"raises": 2, "exits": 2, "killed": 2, "no memory": 2, "good": 1, "also good": 1}
    same = {
        read(faulty / "s/runs" / f"{arm}-1").facts["weights_sha256"] for arm in ("good", "raises", "exits", "killed")
    }
    assert len(same) == 1  # they went on, to the weights of the run that was never stopped
    starts = [each["from_step"] for each in read(faulty / "s/runs/killed-1").facts["attempts"]]
    assert starts[1] > 0


@pytest.mark.exhaustive
def test_a_distributed_job_is_one_folder(tmp_path: Path) -> None:
    words = [*SMALL.split(","), "hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2", "output_dir=s"]
    code, said = told(tmp_path, "-m", "objective=mlm", "objective.mask_ratio=0.15,0.3", "sweeps.parallel=2", *words)
    assert code == 0, said
    runs = sorted((tmp_path / "s/runs").iterdir())
    assert [run.name for run in runs] == ["mask_ratio-0.15-1", "mask_ratio-0.3-1"]
    for run in runs:
        facts = read(run).facts
        assert facts["status"] == "done" and facts["hardware"]["world"] == 2 and facts["steps"] == 3
    assert not (tmp_path / "nowhere").exists() and sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "s"]
