"""The generated language's tasks: what pre-training buys on each, against the same model from scratch.

python -m benchmarks.world_tasks [--tasks cola mnli …] [--seeds 3] [--steps N] [--init RUN] [--out DIR] [--table]

Every row is two runs of train.py a seed, which differ in `finetune=scratch` alone, judged on the task's test split. The checkpoint is
made first, by `python train.py`, where --init names none. What is in --out already is not run again, so this can be stopped and taken
up; --table prints what is there and runs nothing. --steps: of fine-tuning, in place of each task's own.

Columns. majority: who always says what is most frequent (0 for correlations and spans). scratch, pre-trained: means over seeds ±
standard deviations. ceiling: labels are functions of the text, so 1. gap closed: (scratch - majority) / (ceiling - majority), which is
to be 0.6 at most. clear: the means differ by two standard errors and by 0.05 at least.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SIDES = ("scratch", "pre-trained")
CEILING = 1.0


@dataclass(frozen=True)
class Task:
    """The figure that a row shows, and the words that both sides are run with beside `data=world/TASK`."""

    metric: str = "accuracy"
    words: tuple[str, ...] = ()


TASKS = {
    "unseen_words": Task(),
    "pos": Task(),
    "ner": Task("span_f1"),
    "srl": Task("span_f1"),
    "constituents": Task("span_f1"),
    "cola": Task("matthews"),
    "sst2": Task(),
    "mrpc": Task(),
    "stsb": Task("spearman"),
    "qqp": Task(),
    "mnli": Task(),
    "qnli": Task(),
    "rte": Task(),
    "wnli": Task(),
    "coreference": Task(),
    "squad": Task("f1"),
    "squad2": Task("f1"),
    "swag": Task(),
    "race": Task(),
}


@dataclass(frozen=True)
class Row:
    """What the table says of a task. `clear`: the pre-trained model is better beyond chance; None where seeds are too few to tell."""

    task: str
    majority: float
    scratch: list[float]
    pretrained: list[float]

    @property
    def closed(self) -> float:
        """Of the way from majority to ceiling, what the model from scratch went."""
        return (statistics.mean(self.scratch) - self.majority) / (CEILING - self.majority)

    @property
    def clear(self) -> bool | None:
        if min(len(self.scratch), len(self.pretrained)) < 2:
            return None
        gain = statistics.mean(self.pretrained) - statistics.mean(self.scratch)
        error = math.sqrt(sum(statistics.variance(side) / len(side) for side in (self.scratch, self.pretrained)))
        return gain > max(0.05, 2 * error)


def majority(task: str) -> float:
    """The figure of the answer that is most frequent in the test split."""
    from cloze.compose import as_settings, compose
    from cloze.data.base import NO_TAG, Choices, Labelled, Passage, Tagged
    from cloze.schema import locate

    node = as_settings(compose([f"data=world/{task}"]).config)["data"]
    corpus = locate(node.pop("_target_"), "data")(**node)
    records: list[Any] = list(corpus.split_records("test"))
    if TASKS[task].metric in ("matthews", "spearman", "span_f1"):
        return 0.0
    said: list[Any] = []
    for record in records:
        if isinstance(record, Labelled | Choices):
            said.append(record.label)
        elif isinstance(record, Tagged):
            said += [tag for tags in record.tags or () for tag in tags if tag != NO_TAG]
        else:
            assert isinstance(record, Passage)  # no answer is an answer, and no stretch is frequent
            said += ["" if not question.answers else question.id for question in record.questions]
    return 0.0 if task == "squad" else Counter(said).most_common(1)[0][1] / len(said)


def run(words: Sequence[str], folder: Path) -> float:
    """One run of train.py in a process of its own; returns its CPU seconds."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(ROOT / "train.py"), *words, f"output_dir={folder}", "tracking=none"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    before = os.times()
    with folder.with_suffix(".log").open("w") as log:
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def score(task: str, side: str, seed: int, out: Path, init: Path, steps: int | None) -> float | None:
    """The figure of one run, which is made where it is not there yet; None where it failed, which is printed."""
    name = f"{task}-{side}-{seed}" + (f"-{steps}" if steps else "")
    kept = out / f"{name}.json"
    if not kept.is_file():
        words = [f"init={init}", f"data=world/{task}", f"seed={seed}", *TASKS[task].words]
        words += ["finetune=scratch"] * (side == "scratch") + ([f"budget.steps={steps}"] if steps else [])
        started = time.perf_counter()
        try:
            cpu = run(words, out / name)
        except subprocess.CalledProcessError:
            print(f"{name} failed: {out / name}.log", flush=True)
            return None
        scores = json.loads((out / name / "scores.json").read_text())
        kept.write_text(json.dumps({"words": words, "cpu_seconds": round(cpu, 1), "scores": scores}, indent=1))
        value = scores["test"][TASKS[task].metric]
        print(f"{name}: {value:.3f} · {cpu:.0f} CPU-s · {time.perf_counter() - started:.0f} s", flush=True)
    content = json.loads(kept.read_text())
    return float(content["scores"]["test"][TASKS[task].metric])


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    lines = [
        "| task | metric | majority | scratch | pre-trained | ceiling | gap closed by scratch | clear |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        clear = {True: "yes", False: "no", None: "–"}[row.clear]
        cells = (row.task, TASKS[row.task].metric, f"{row.majority:.2f}", _mean(row.scratch), _mean(row.pretrained), f"{CEILING:.2f}",
                 f"{row.closed:.2f}", clear)  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    good = sum(row.closed <= 0.6 for row in rows)
    clear_ones = sum(row.clear is True for row in rows)
    counts = f"{good} of {len(rows)}; pre-trained clearly above scratch: {clear_ones} of {len(rows)}"
    lines += ["", f"scratch goes 0.6 of the way or less: {counts}"]
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.world_tasks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/world-tasks")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args(words)
    init = given.init or given.out / "pretrained"
    if not given.table and not (init / "model").is_dir():
        if given.init is not None:
            parser.error(f"--init {init} is not the folder of a run")
        print("pre-training: python train.py", flush=True)
        print(f"{run([], init):.0f} CPU-s", flush=True)
    rows = []
    for task in given.tasks:
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        for seed in range(1, given.seeds + 1):
            for side in SIDES:
                name = f"{task}-{side}-{seed}" + (f"-{given.steps}" if given.steps else "")
                if given.table and not (given.out / f"{name}.json").is_file():
                    continue
                value = score(task, side, seed, given.out, init.absolute(), given.steps)
                if value is not None:
                    found[side].append(value)
        if all(found.values()):
            rows.append(Row(task, majority(task), found["scratch"], found["pre-trained"]))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
