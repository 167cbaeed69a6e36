"""How often a comparison claims a difference where there is none: A/A studies, both arms of one configuration.

    python -m benchmarks.calibration --runs 120      # real tiny runs, 2 at a time, then their studies; taken up where it was stopped
    python -m benchmarks.calibration                 # the table of what is there, and of drawn figures

Real runs are `python train.py` with one seed each. Studies of 3, 5 and 10 seeds an arm are made of them in two ways: such that no two
share a run (few, independent), and by dividing all runs at random again and again (many, of the same runs). In a paired study run i of one
arm stands beside run i of the other; in an unpaired one the seeds are others. Drawn figures are those of tests/report/test_calibration.py.
A study has two arms, or five under Holm's correction; it counts as claiming where any arm is called better or worse than the first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "outputs" / "benchmarks" / "calibration"
WORDS = (
    "model.layers=1", "optimizer.learning_rate=0.005", "budget.steps=100", "validation.every=100", "validation.examples=256",
    "data.documents=1000", "data.validation_documents=100", "data.test_documents=10", "tracking=none", "hardware.threads=1",
)  # fmt: skip
METRICS = ("val/accuracy", "val/loss")
SEEDS = (3, 5, 10)
DRAWN, DIVIDED = 500, 200  # studies


def drawn(rng: np.random.Generator, arms: int, n: int, paired: bool) -> NDArray[np.float64]:
    """(arms, n, 2): accuracy and loss of runs of one configuration: an accuracy over 512 examples (so on a grid) and a loss with a skewed
    noise. In a `paired` study all arms of a seed share what the seed decides."""
    shared = rng.normal(0, 0.02, (1 if paired else arms, n))
    accuracy = np.round((0.6 + shared + rng.normal(0, 0.02, (arms, n))) * 512) / 512
    loss = 2.5 + shared + rng.gamma(4, 0.01, (arms, n))
    return np.stack([accuracy, loss], axis=-1)


def claims(figures: NDArray[np.float64], paired: bool) -> list[bool]:
    """Whether the verdicts on (arms, n, metrics) claim any difference to the first arm, for each metric."""
    from cloze.report.collect import Run
    from cloze.report.comparison import Arm
    from cloze.report.judge import cells
    from cloze.report.metrics import described

    arms = []
    for a, of_arm in enumerate(figures):
        runs = []
        for i, values in enumerate(of_arm):
            seed = i if paired else i + a * len(of_arm)
            named = dict(zip(METRICS, values.tolist(), strict=True))
            runs.append(Run(FOLDER, {"status": "done", "identity": {"seed": seed}, "metrics": named}))
        arms.append(Arm(str(a), runs))
    found = [cells(described(key), arms, "0").values() for key in METRICS]
    return [any(cell.difference is not None and cell.difference.claimed for cell in row) for row in found]


def train(count: int, jobs: int) -> None:
    """The runs that are not there yet."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

    def one(seed: int) -> None:
        words = [*WORDS, f"seed={seed}", f"output_dir={FOLDER / f'seed-{seed}'}", "resume=auto"]
        done = subprocess.run(
            [sys.executable, "train.py", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"seed {seed}: {done.stderr.strip().splitlines()[-1]}")

    missing = [seed for seed in range(1, count + 1) if not _is_done(seed)]
    began = time.monotonic()
    if missing:
        one(missing[0])  # alone: what it tokenises is in the cache for the others
    with ThreadPoolExecutor(jobs) as pool:
        for number, _ in enumerate(pool.map(one, missing[1:]), start=2):
            print(f"{number} of {len(missing)} runs, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def real() -> NDArray[np.float64]:
    """(runs, metrics) of the runs that are there, by seed."""
    from cloze.report.collect import find

    runs = [run for run in find(FOLDER)[0] if run.status == "done"] if FOLDER.is_dir() else []
    runs.sort(key=lambda run: run.seed or 0)
    return np.asarray([[run.figures[key] for key in METRICS] for run in runs]).reshape(len(runs), len(METRICS))


def studies(runs: NDArray[np.float64], arms: int, n: int, at_random: int) -> Iterator[NDArray[np.float64]]:
    """(arms, n, metrics) of runs: those that share none where `at_random` is 0, else so many divisions."""
    size = arms * n
    apart = np.arange(len(runs) // size * size).reshape(-1, size)
    divided = [np.random.default_rng(i).permutation(len(runs))[:size] for i in range(at_random if len(apart) else 0)]
    for chosen in divided if at_random else apart:
        yield runs[chosen].reshape(arms, n, -1)


def rows() -> Iterator[list[str]]:
    """One a kind of study and test."""
    from cloze.report import statistics

    statistics.RESAMPLES = 99  # no verdict goes by them
    runs = real()
    for arms in (2, 5):
        for n in SEEDS:
            for paired in (True, False):
                kinds = {
                    "drawn": [drawn(np.random.default_rng([arms, n, i]), arms, n, paired) for i in range(DRAWN)],
                    f"{len(runs)} real runs, none shared": list(studies(runs, arms, n, 0)),
                    f"{len(runs)} real runs, divided at random": list(studies(runs, arms, n, DIVIDED)),
                }
                test = "paired" if paired else "unpaired"
                for kind, found in kinds.items():
                    if found:
                        yield [kind, str(arms), str(n), test, str(len(found)), *_rates(found, paired)]


def _rates(found: Sequence[NDArray[np.float64]], paired: bool) -> list[str]:
    counts = np.sum([claims(each, paired) for each in found], axis=0)
    shown = []
    for count in counts.tolist():
        interval = stats.binomtest(count, len(found)).proportion_ci(method="wilson")
        shown.append(f"{count / len(found):.1%} ({interval.low:.1%} to {interval.high:.1%})")
    return shown


def _is_done(seed: int) -> bool:
    from cloze.folder import RunFolder

    facts = RunFolder(FOLDER / f"seed-{seed}").facts()
    if facts and not set(WORDS) <= set(facts["provenance"]["words"]):
        raise SystemExit(f"{FOLDER / f'seed-{seed}'} is a run of other words: take the folder away")
    return facts.get("status") == "done"


def main() -> int:
    """Trains what is asked for and prints the table, in Markdown. Intervals are Wilson's; of runs divided at random they are too narrow,
    for these studies share their runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=int, default=0, help="real runs that there are to be: 120 are 20 studies of 3 seeds an arm"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    said = parser.parse_args()
    train(said.runs, said.jobs)
    print("| studies | arms | seeds | test | how many | claimed on accuracy | claimed on loss |")
    print("|---|---|---|---|---|---|---|")
    for row in rows():
        print(f"| {' | '.join(row)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
