"""What pre-training pays on real tasks: one checkpoint of ours against the same model from scratch, over seeds, with curves.

python -m benchmarks.pretraining_pays [--init RUN] [--world RUN] [--data DIR] [--seeds 3] [--tasks …] [--out DIR] [--table] [--picture FILE]

Each task is two runs of train.py a seed that differ in `finetune=scratch` alone: architecture, tokenizer, examples, their order and the
number of steps are the same. --init: pre-trained on real prose, for the real tasks; --world: on the generated language, for its
tasks. What is in --out already is not run again, so this can be stopped and taken up; --table prints what is there.
--picture draws training losses and scores (needs matplotlib): the fine-tune-versus-scratch picture of the literature (Hao et al.
2019, https://arxiv.org/abs/1908.05620).

Scores are of the development split (the generated language: of the test split). The interval is Student's at 95 % for the mean of the
paired differences.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

ROOT = Path(__file__).parents[1]
SIDES = {"pre-trained": "full", "scratch": "scratch"}


@dataclass(frozen=True)
class Task:
    """What a row is called, the figure that it shows, of which split, and the words of both sides. `{data}` is the folder of --data."""

    title: str
    metric: str
    split: str
    words: tuple[str, ...]
    world: bool = False


TASKS = {
    "ud": Task(
        "parts of speech (UD, 1,000 sentences)", "accuracy", "validation",
        ("data=ud", "data.path={data}/tagging/ud_english_ewt", "labelled_examples=1000", "budget.epochs=6"),
    ),
    "sst2": Task(
        "sentiment (SST-2, 4,000 phrases)", "accuracy", "validation",
        ("data=glue/sst2", "data.path={data}/glue", "labelled_examples=4000", "budget.epochs=3"),
    ),
    "sst2_mean": Task(
        "sentiment (SST-2, 4,000 phrases, mean of the states)", "accuracy", "validation",
        ("data=glue/sst2", "data.path={data}/glue", "labelled_examples=4000", "budget.epochs=3", "objective.pooling=mean"),
    ),
    "sst2_few": Task(
        "sentiment (SST-2, 500 phrases)", "accuracy", "validation",
        ("data=glue/sst2", "data.path={data}/glue", "labelled_examples=500", "budget.epochs=12"),
    ),
    "mrpc": Task(
        "paraphrase (MRPC, all)", "f1", "validation",
        ("data=glue/mrpc", "data.path={data}/glue", "budget.epochs=3"),
    ),
    "cola": Task(
        "acceptability (CoLA, all)", "matthews", "validation",
        ("data=glue/cola", "data.path={data}/glue", "budget.epochs=2"),
    ),
    "unseen_words": Task("unseen words (generated language)", "accuracy", "test", ("data=world/unseen_words",), world=True),
    "world_ner": Task("names (generated language)", "span_f1", "test", ("data=world/ner",), world=True),
}  # fmt: skip


def run(task: str, side: str, seed: int, given: argparse.Namespace) -> Path:
    """One run's folder; it is trained where it is not there yet."""
    folder: Path = given.out / f"{task}-{side}-{seed}"
    if (folder / "scores.json").exists():
        return folder
    each = TASKS[task]
    words = [word.replace("{data}", str(given.data)) for word in each.words]
    source = given.world if each.world else given.init
    command = [
        sys.executable, str(ROOT / "train.py"), f"init={source}", f"finetune={SIDES[side]}", f"seed={seed}", *words,
        f"output_dir={folder}", "resume=auto", "tracking=none", "hardware.threads=1", "validation.every=100000",
        "checkpoint.every=null",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    print(f"{task} {side} {seed}", flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (given.out / f"{task}-{side}-{seed}.log").open("w", encoding="utf-8") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True, env=environment)
    return folder


def score(folder: Path, task: str) -> float:
    """The row's figure of a run, in percent."""
    content = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return 100 * float(content[TASKS[task].split][TASKS[task].metric])


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The mean of paired differences and half the width of its 95 % interval (not a number for one pair)."""
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, float("nan")
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return mean, float(stats.t.ppf(0.975, len(differences) - 1)) * error


def table(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """Markdown: each side's mean ± standard deviation over seeds, and the difference with its interval."""
    lines = ["| task | figure | pre-trained | from scratch | difference, 95 % interval |", "|---|---|---|---|---|"]
    for task, sides in found.items():
        cells = [f"{statistics.fmean(sides[side]):.1f} ± {_deviation(sides[side]):.1f}" for side in SIDES]
        mean, half = interval([a - b for a, b in zip(sides["pre-trained"], sides["scratch"], strict=True)])
        lines.append(f"| {TASKS[task].title} | {TASKS[task].metric} | {' | '.join(cells)} | {mean:+.1f} ± {half:.1f} |")
    return lines


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def curve(folder: Path) -> list[tuple[int, float]]:
    """(step, training loss) of a run."""
    points = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(point["step"], point["train/loss"]) for point in points if "train/loss" in point]


def picture(found: dict[str, dict[str, list[float]]], seeds: Sequence[int], out: Path, path: Path) -> None:
    """For each task the training losses of both sides, and beside them the scores of every seed."""
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "cloze", "svg.fonttype": "none", "font.size": 9})
    colours: dict[str, Any] = {"pre-trained": "#08519c", "scratch": "#a63603"}
    figure, axes = plt.subplots(
        len(found), 2, figsize=(8, 1.9 * len(found)), layout="constrained", width_ratios=(3, 1), squeeze=False
    )
    for (losses, scores), (task, sides) in zip(axes, found.items(), strict=True):
        for place, side in enumerate(SIDES):
            curves = [dict(curve(out / f"{task}-{side}-{seed}")) for seed in seeds]
            steps = sorted(set.intersection(*(set(each) for each in curves)))
            rows = [[each[step] for each in curves] for step in steps]
            middle = [statistics.fmean(row) for row in rows]
            losses.plot(steps, middle, color=colours[side], label=side)
            losses.fill_between(
                steps, [min(row) for row in rows], [max(row) for row in rows], color=colours[side], alpha=0.2
            )
            scores.plot([place] * len(sides[side]), sides[side], "o", color=colours[side], markersize=4)
            scores.plot([place - 0.2, place + 0.2], [statistics.fmean(sides[side])] * 2, color=colours[side])
        losses.set(title=TASKS[task].title, ylabel="training loss", ylim=(0, None))
        scores.set(
            xlim=(-0.6, 1.6), xticks=(0, 1), xticklabels=("pre-\ntrained", "scratch"), ylabel=TASKS[task].metric + ", %"
        )
        for axis in (losses, scores):
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False)
    axes[-1][0].set(xlabel="optimizer steps")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", type=Path, default=ROOT / "outputs/prose")
    parser.add_argument("--world", type=Path, default=ROOT / "outputs/world")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/benchmarks/pretraining_pays")
    parser.add_argument("--table", action="store_true", help="print what is there and run nothing")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    seeds = range(1, given.seeds + 1)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        for task in given.tasks:
            for side in SIDES:
                folder = given.out / f"{task}-{side}-{seed}"
                if given.table and not (folder / "scores.json").exists():
                    continue
                value = score(run(task, side, seed, given), task)
                found.setdefault(task, {}).setdefault(side, []).append(value)
    whole = {
        task: sides for task, sides in found.items() if all(len(sides.get(side, ())) == given.seeds for side in SIDES)
    }
    print("\n".join(table(whole)))
    if given.picture is not None:
        picture(whole, seeds, given.out, given.picture)


if __name__ == "__main__":
    main()
