"""A run that is stopped and resumed ends in bitwise the weights of one that was not."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jobs
import pytest

from cloze import cli, session
from cloze.deciding import LATER
from cloze.errors import Preempted, Refusal
from cloze.folder import RunFolder
from cloze.training import checkpoints
from cloze.training.signals import Signals

JOB = Path(jobs.__file__)


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, **settings: Any) -> None:
    """Runs until a signal at the end of step `at`; the run saves there and stops."""
    from cloze.training.callbacks.conductor import Conductor

    agree = Conductor._agree

    def agree_to_stop(self: Conductor, module: Any) -> int:
        agree(self, module)
        return signal.SIGTERM if self.progress.step == at else 0

    with monkeypatch.context() as patch:
        patch.setattr(Conductor, "_agree", agree_to_stop)
        with pytest.raises(Preempted, match="SIGTERM at step") as stopped:
            jobs.run(folder, resume=(folder / "run.json").exists(), **settings)
    assert stopped.value.exit_code == 143


def curve(folder: Path) -> list[dict[str, Any]]:
    """The logged points, without what the clock decides."""
    clock = ("seconds", "train/tokens_per_second")
    return [{k: v for k, v in point.items() if k not in clock} for point in RunFolder(folder).points()]


@pytest.mark.parametrize("objective", ["mlm", "mlm_sop"])
@pytest.mark.parametrize(("workers", "micro"), [(0, None), (2, 2)])
def test_stopped_and_resumed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str, workers: int, micro: int | None
) -> None:
    settings: dict[str, Any] = {"objective": objective, "workers": workers, "micro": micro}
    whole = jobs.run(tmp_path / "whole", **settings)
    folder = tmp_path / "stopped"
    for at in (3, 7):
        interrupted(folder, monkeypatch, at, **settings)
        facts = RunFolder(folder).facts()
        assert facts["status"] == "preempted" and f"step {at}" in facts["reason"]
    resumed = jobs.run(folder, resume=True, **settings)
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["status"] == "done" and resumed["steps"] == 12 and resumed["tokens"] == whole["tokens"]
    assert [attempt["from_step"] for attempt in resumed["attempts"]] == [0, 3, 7]
    assert curve(folder) == curve(tmp_path / "whole")
    strip = lambda text: text.read_text()  # noqa: E731
    assert strip(folder / "samples.txt") == strip(tmp_path / "whole" / "samples.txt")


def test_from_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at the end, in the step of a validation, before the first and after the last checkpoint."""
    settings: dict[str, Any] = {"steps": 5, "validate_every": 2, "save_every": 3}
    whole = jobs.run(tmp_path / "whole", **settings)
    for at in range(1, 6):
        folder = tmp_path / str(at)
        interrupted(folder, monkeypatch, at, **settings)
        assert jobs.run(folder, resume=True, **settings)["weights_sha256"] == whole["weights_sha256"]
        assert curve(folder) == curve(tmp_path / "whole")


def test_a_validation_that_was_cut_short_is_run_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloze.training.module import PretrainingModule

    settings: dict[str, Any] = {"steps": 6, "validate_every": 3, "save_every": None}
    whole = jobs.run(tmp_path / "whole", **settings)
    for at in (3, 6):
        folder = tmp_path / str(at)
        step = PretrainingModule.validation_step

        def stopped(self: Any, batch: Any, batch_idx: int, at: int = at, step: Any = step) -> None:
            step(self, batch, batch_idx)
            if self.trainer.global_step == at:
                os.kill(os.getpid(), signal.SIGHUP)

        with monkeypatch.context() as patch:
            patch.setattr(PretrainingModule, "validation_step", stopped)
            with pytest.raises(Preempted) as fault:
                jobs.run(folder, **settings)
        assert fault.value.exit_code == 129
        assert [p["step"] for p in RunFolder(folder).points() if "val/loss" in p] == [3][: at // 3 - 1]
        assert jobs.run(folder, resume=True, **settings)["weights_sha256"] == whole["weights_sha256"]
        assert curve(folder) == curve(tmp_path / "whole")


def test_nothing_but_the_recipe_decides_the_weights(tmp_path: Path) -> None:
    """Workers, evaluations, checkpoints, logging, tracking: one digest. The seed: another."""
    from cloze.tracking.tensorboard import TensorBoard

    plain = jobs.run(tmp_path / "plain")["weights_sha256"]
    for name, settings in {
        "workers": {"workers": 3},
        "seldom": {"validate_every": 100, "save_every": None},
        "often": {"validate_every": 1, "save_every": 1, "log_every": 1},
        "tracked": {"tracking": TensorBoard()},
    }.items():
        assert jobs.run(tmp_path / name, **settings)["weights_sha256"] == plain, name
    assert jobs.run(tmp_path / "seed", seed=2)["weights_sha256"] != plain


def test_one_part_or_four_give_the_same_curve(tmp_path: Path) -> None:
    """A step's mean is over the whole batch however it is cut: equal but for the order of additions."""
    losses = {}
    for micro in (None, 2):
        jobs.run(tmp_path / str(micro), micro=micro, dropout=0.0, objective="mlm_sop")
        losses[micro] = [p["train/loss"] for p in RunFolder(tmp_path / str(micro)).points() if "train/loss" in p]
    assert losses[None] == pytest.approx(losses[2], rel=1e-4)


def test_resumed_in_other_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The position is the step's: a run may go on with another micro-batch, on the same examples."""
    whole = jobs.run(tmp_path / "whole", dropout=0.0)
    folder = tmp_path / "stopped"
    interrupted(folder, monkeypatch, 5, dropout=0.0)
    resumed = jobs.run(folder, resume=True, micro=2, dropout=0.0)
    assert resumed["tokens"] == whole["tokens"] and resumed["steps"] == 12
    assert resumed["metrics"]["val/loss"] == pytest.approx(whole["metrics"]["val/loss"], rel=1e-4)


def test_a_longer_budget_goes_on(tmp_path: Path) -> None:
    jobs.run(tmp_path / "run", steps=6)
    assert jobs.run(tmp_path / "run", resume=True, steps=6)["steps"] == 6  # done: nothing is trained again
    longer = jobs.run(tmp_path / "run", resume=True, steps=9)
    assert longer["steps"] == 9
    assert [p["step"] for p in RunFolder(tmp_path / "run").points() if "train/loss" in p] == [3, 6, 9]
    with pytest.raises(Refusal, match="has done 9 steps already"):
        jobs.run(tmp_path / "run", resume=True, steps=7)


def test_another_precision_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    interrupted(folder, monkeypatch, 5)
    with pytest.raises(
        Refusal, match=r"hardware\.precision \(32 there, bf16-mixed here\); hardware\.precision=32 goes on"
    ):
        jobs.run(folder, resume=True, precision="bf16-mixed")
    assert RunFolder(folder).facts()["hardware"]["threads"] == 1

    def stopped(*_: Any) -> None:
        raise Refusal("before the threads are taken")

    with monkeypatch.context() as patch:
        patch.setattr(session._Session, "_take_threads", stopped)
        with pytest.raises(Refusal, match="before the threads"):
            jobs.run(folder, resume=True)
    assert RunFolder(folder).facts()["hardware"]["threads"] == 1  # what the next attempt takes


def test_more_minutes_go_on(tmp_path: Path) -> None:
    first = jobs.run(tmp_path / "run", minutes=0.005)
    assert jobs.run(tmp_path / "run", resume=True, minutes=0.005)["steps"] == first["steps"]
    longer = jobs.run(tmp_path / "run", resume=True, minutes=0.01)
    assert longer["steps"] > first["steps"] and longer["seconds"] >= 0.6


def test_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    interrupted(folder, monkeypatch, 5)
    before = (folder / "run.json").read_text()
    with pytest.raises(
        Refusal, match=r"another run than this one: rate \(0\.003 there, 0\.1 here\), seed \(1 there, 2 here\)"
    ):
        jobs.run(folder, resume=True, seed=2, rate=0.1)
    with pytest.raises(Refusal, match=r"already holds a run \(preempted\); resume=auto"):
        jobs.run(folder)
    assert (folder / "run.json").read_text() == before


def test_what_a_run_is_judged_by_is_part_of_it_and_older_records_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "length=32", "batch_size=8", "data.documents=120", "data.validation_documents=20", "data.test_documents=20",
        "tracking=none", "hardware=cpu", "hardware.threads=1", "hardware.precision=32", "output_dir=run",
    ]  # fmt: skip

    def trained(*more: str) -> int:
        return cli._guarded(cli._train, [*words, *more])

    assert trained("budget.steps=2", "validation.examples=8") == 0
    record = json.loads(Path("run/run.json").read_text())
    later = {key: record["identity"].pop(key) for key in LATER}
    assert later == {"hardware.precision": "32-true", "validation.examples": 8}
    Path("run/run.json").write_text(json.dumps(record))  # as earlier versions wrote it
    assert trained("resume=auto", "budget.steps=3", "validation.examples=4") == 2
    assert "validation.examples (8 there, 4 here)" in capsys.readouterr().err
    assert trained("resume=auto", "budget.steps=3", "validation.examples=8", "validation.every=1") == 0
    assert trained("resume=auto", "budget.steps=4", "validation.examples=4") == 2
    assert "another run than this one: validation.examples (8 there, 4 here)" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flipped", "directory", "missing"])
def test_a_damaged_checkpoint_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    """Left there, it would be the newest for many steps, and the good ones would go to make room for it."""
    settings: dict[str, Any] = {"save_every": 1, "steps": 9, "validate_every": 100}
    folder = tmp_path / "run"
    interrupted(folder, monkeypatch, 6, **settings)
    spoil(checkpoints.checkpoint_path(folder / "checkpoints", 6), damage)
    late = folder / "checkpoints" / "step-00000008.json"
    late.write_text("{}")
    interrupted(folder, monkeypatch, 6, **settings)
    assert "step-00000008.ckpt is taken away" in capsys.readouterr().out and not late.exists()
    kept = checkpoints.all_checkpoints(folder / "checkpoints")
    assert [(checkpoints.step_of(path), checkpoints.fault_of(path)) for path in kept] == [(6, None), (5, None)]


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "flipped", "missing", "directory", "unfinished"])
def test_a_damaged_checkpoint_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    settings: dict[str, Any] = {"save_every": 2, "steps": 6, "validate_every": 100}
    whole = jobs.run(tmp_path / "whole", **settings)["weights_sha256"]
    folder = tmp_path / "run"
    interrupted(folder, monkeypatch, 5, **settings)
    newest, older = checkpoints.all_checkpoints(folder / "checkpoints")
    spoil(newest, damage)
    found, faults = checkpoints.newest_valid(folder / "checkpoints")
    assert found == older and len(faults) == 1
    assert jobs.run(folder, resume=True, **settings)["weights_sha256"] == whole
    # all of them damaged: never begun anew in silence
    for path in checkpoints.all_checkpoints(folder / "checkpoints"):
        if checkpoints.fault_of(path) is None:
            spoil(path, damage)
    with pytest.raises(Refusal, match=r"no checkpoint in .* can be used"):
        jobs.run(folder, resume=True, **{**settings, "steps": 8})


def spoil(path: Path, damage: str) -> None:
    content = path.read_bytes()
    if damage == "unfinished":
        path.with_suffix(".json").unlink()
        return
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage != "missing":
        middle = len(content) // 2
        path.write_bytes(
            {
                "cut": content[:middle],
                "empty": b"",
                "garbage": b"no checkpoint",
                "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            }[damage]
        )


def test_a_second_run_is_kept_out(tmp_path: Path) -> None:
    folder = RunFolder.take(tmp_path / "run", None, "test")
    with folder:
        with pytest.raises(Refusal, match="is in use by another run of this process"):
            RunFolder(tmp_path / "run").lock()
        code = "import sys; from pathlib import Path; from cloze.folder import RunFolder; RunFolder(Path(sys.argv[1])).lock()"
        other = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True)
        assert f"is in use by process {os.getpid()} on" in other.stderr
    RunFolder(tmp_path / "run").lock()


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, str(JOB), str(folder), *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)


def hindered(folder: Path, settings: dict[str, Any]) -> None:
    """A run in which nothing is quick, writing a checkpoint least of all: so that a kill can hit anything half done."""
    replace = Path.replace

    def late(self: Path, target: Path) -> Path:
        if self.parent.name == "checkpoints":
            time.sleep(0.05)
        return replace(self, target)

    Path.replace = late  # type: ignore[method-assign]
    if not (folder / "run.json").exists():
        session.provenance = lambda: time.sleep(0.3) or {}  # type: ignore[attr-defined]
    with (folder.parent / "said").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        jobs.run(folder, resume=True, pause=0.01, **settings)


def killed_at_random(folder: Path, kills: int, generator: random.Random, settings: dict[str, Any]) -> set[str]:
    """Starts and kills, `kills` times, and lets it end then; returns what the kills hit."""
    fork = multiprocessing.get_context("fork")  # of this process, which has imported everything: starts at once
    hit = set()
    for left in reversed(range(kills + 1)):
        process = fork.Process(target=hindered, args=(folder, settings))
        process.start()
        if left == 0:
            process.join(120)
            assert process.exitcode == 0, (folder.parent / "said").read_text()
            return hit
        if left == kills:  # the first kill hits the beginning: files lie there, and no run.json yet
            end = time.monotonic() + 60
            while not (folder / "config.yaml").exists():
                assert process.is_alive() and time.monotonic() < end, "it never began"
                time.sleep(0.01)
        else:
            time.sleep(generator.uniform(0.1, 1.2))
        process.kill()
        process.join()
        assert left < kills or not (folder / "run.json").exists()
        assert process.exitcode == -signal.SIGKILL, "it had ended: nothing was killed"
        kept = list(RunFolder(folder).points()) if folder.exists() else []
        half = list((folder / "checkpoints").glob(".*.tmp"))
        hit.add(
            "saving" if half else "validation" if kept and "val/loss" not in kept[-1] else "else" if kept else "start"
        )
    raise AssertionError


def test_killed_like_a_machine_that_lost_power(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"objective": "mlm_sop", "steps": 40, "save_every": 3, "workers": 2, "micro": 2}
    whole = jobs.run(tmp_path / "whole", **settings)["weights_sha256"]
    killed_at_random(tmp_path / "killed", 3, random.Random(0), settings)
    facts = RunFolder(tmp_path / "killed").facts()
    assert facts["weights_sha256"] == whole and facts["status"] == "done"
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("objective", "workers", "micro"),
    [
        pytest.param("mlm_sop", 2, 8, marks=pytest.mark.slow),
        *(
            pytest.param(objective, workers, micro, marks=pytest.mark.exhaustive)
            for objective, workers, micro in itertools.product(("mlm", "mlm_sop"), (0, 2), (8, 2))
            if (objective, workers, micro) != ("mlm_sop", 2, 8)
        ),
    ],
)
def test_twenty_kills(tmp_path: Path, objective: str, workers: int, micro: int) -> None:
    settings: dict[str, Any] = {
        "objective": objective, "workers": workers, "micro": micro, "steps": 400, "save_every": 3, "validate_every": 7,
    }  # fmt: skip
    whole = jobs.run(tmp_path / "whole", **settings)["weights_sha256"]
    generator = random.Random(f"{objective} {workers} {micro}")
    hit = killed_at_random(tmp_path / "killed", 20, generator, settings)
    assert RunFolder(tmp_path / "killed").facts()["weights_sha256"] == whole
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole") and "saving" in hit


def test_a_signal_from_outside(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, "--steps", 500, "--pause", 0.02, "--micro", 2, "--save_every", 1000)
    wait_for(lambda: (folder / "metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in out + err
    assert time.monotonic() - asked < 15
    facts = RunFolder(folder).facts()
    assert facts["status"] == "preempted" and "SIGTERM" in facts["reason"]
    newest, _ = checkpoints.newest_valid(folder / "checkpoints")
    assert newest is not None and f"step {checkpoints.step_of(newest)}" in facts["reason"]  # not one step is lost


def test_a_second_signal_does_not_wait() -> None:
    from cloze.training.signals import AtOnce

    before = signal.getsignal(signal.SIGUSR1)
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.asked == signal.SIGUSR1
        with pytest.raises(AtOnce):
            os.kill(os.getpid(), signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == before


def test_checkpoints_hold_plain_things_only(tmp_path: Path) -> None:
    jobs.run(tmp_path / "run", steps=3)
    path, _ = checkpoints.newest_valid(tmp_path / "run" / "checkpoints")
    assert path is not None
    content = checkpoints.load(path)  # weights_only=True
    assert {key.partition(".")[0] for key in content["state_dict"]} == {"model", "objective"}
    assert json.loads(content["cloze"]["identity"])["seed"] == 1
    with pytest.raises(TypeError, match=r"checkpoint\['where'\] is a PosixPath"):
        checkpoints.refuse_objects({"where": tmp_path})


def test_retention(tmp_path: Path) -> None:
    jobs.run(tmp_path / "run", steps=10, save_every=1, validate_every=2)
    facts = RunFolder(tmp_path / "run").facts()
    kept = {checkpoints.step_of(path) for path in checkpoints.all_checkpoints(tmp_path / "run" / "checkpoints")}
    assert kept == {9, 10, facts["best"]["step"]}
