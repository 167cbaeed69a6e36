"""How long one waits: for the help, for a refusal, for the first step of the default run on a machine that has nothing cached.

python -m benchmarks.startup
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def seconds_of_cpu(words: list[str], repeats: int = 5) -> float:
    """Median CPU seconds (user and system) of a whole command."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            before = os.times()
            subprocess.run(
                [sys.executable, str(ROOT / "train.py"), *words], cwd=folder, capture_output=True, check=False
            )
            after = os.times()
            taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(taken)


def seconds_to_first_step() -> float:
    """Wall seconds from the command to the first point of metrics.jsonl: language made, tokenizer trained, text tokenised."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run" / "metrics.jsonl"
        begin = time.perf_counter()
        run = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), "output_dir=run", "tracking=none"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while run.poll() is None and time.perf_counter() - begin < 120:
                if metrics.exists() and metrics.stat().st_size:
                    point = json.loads(metrics.read_text(encoding="utf-8").splitlines()[0])
                    return time.perf_counter() - begin - float(point["seconds"])
                time.sleep(0.02)
        finally:
            run.kill()
            run.wait()
    raise RuntimeError("the run logged nothing")


def main() -> None:
    """Prints the table."""
    print("## Start-up\n")
    print("| what | here | at most |")
    print("|---|---|---|")
    print(f"| `--help`, CPU | {seconds_of_cpu(['--help']):.2f} s | 1 s |")
    print(f"| a refused run (`model.heads=3`), CPU | {seconds_of_cpu(['model.heads=3']):.2f} s | 3 s |")
    print(f"| first step of the default run, nothing cached, wall | {seconds_to_first_step():.1f} s | 10 s |")


if __name__ == "__main__":
    main()
