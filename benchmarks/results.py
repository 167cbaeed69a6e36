"""Short real runs of every family and objective: does the loss fall, and how far in a minute?

    python -m benchmarks.results                 # the table of docs/results.md
    python -m benchmarks.results pydocs text     # only rows whose command holds one of these words

Each row is the command itself, run in its own process with one thread; the figures are read from its metrics.jsonl and run.json.
Rows that need ../shared/data (real public data, not part of the repository) are left out where it is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path("..") / "shared" / "data" / "lm"


def commands() -> Iterator[list[str]]:
    """The words of every row."""
    for data, steps in (("world", 1500), ("pydocs", 600)):
        short = [f"budget.steps={steps}", f"validation.every={steps // 3}"]
        for model in ("bert", "roberta", "albert"):
            for objective in ("mlm", "mlm_nsp", "mlm_sop"):
                yield [f"model={model}", f"objective={objective}", f"data={data}", *short]
        yield ["model=gpt2", "objective=clm", f"data={data}", *short]
        yield ["model=t5", "objective=span_corruption", f"data={data}", *short]
    if (ROOT / SHARED).is_dir():
        for folder in ("enwiki", "gutenberg"):
            for sentence in ("model=bert objective=mlm", "model=gpt2 objective=clm"):
                words = [*sentence.split(), "data=text", f"data.path={SHARED / folder}", *short]
                yield words + (["data.encoding=latin-1"] if folder == "gutenberg" else [])


def run(words: list[str]) -> str:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), *words, f"output_dir={folder}/run", "tracking=none"]
        threads = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run(command, cwd=ROOT, env=threads, capture_output=True, text=True, check=False)
        sentence = f"`python train.py {' '.join(words)}`"
        if done.returncode:
            return f"| {sentence} | failed: {done.stderr.strip().splitlines()[-1][:200]} |"
        facts = json.loads((Path(folder) / "run" / "run.json").read_text(encoding="utf-8"))
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        points = [json.loads(line) for line in lines]
    own = [p.get("val/loss_mlm", p["val/loss"]) for p in points if "val/loss" in p]
    first = next(p.get("train/loss_mlm", p["train/loss"]) for p in points if "train/loss" in p)
    pair = facts["metrics"].get("val/pair_accuracy")
    floor = facts["data"]["entropy_floor"]
    cells = [
        sentence,
        f"{facts['data']['unigram_entropy']:.2f}",
        "" if floor is None else f"{floor:.2f}",
        f"{first:.2f}",
        " → ".join(f"{value:.2f}" for value in own),
        f"{facts['metrics']['val/accuracy']:.2f}",
        "" if pair is None else f"{pair:.2f}",
        f"{facts['seconds']:.0f} s",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Two runs at a time, rows in order."""
    wanted = [words for words in commands() if any(word in " ".join(words) for word in sys.argv[1:] or [""])]
    columns = [
        "command",
        "unigram entropy",
        "entropy floor",
        "first training loss",
        "validation loss after each third",
        "token accuracy",
        "pair accuracy",
        "time",
    ]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with ThreadPoolExecutor(2) as pool:
        for row in pool.map(run, wanted):
            print(row, flush=True)


if __name__ == "__main__":
    main()
