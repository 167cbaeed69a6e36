"""A trial that only pretends to train, for tests of the search. Its words: x=NUMBER kinds=good-bad-raise-nan-late (the n-th is
that of the n-th trial, the last of all others) validations=N wait=FILE.

It logs a validation of accuracy x, a little higher each time, and stops with a checkpoint on SIGTERM. A bad one logs a tenth of that and
waits for the signal after its third; a late one waits after its first for as long as the file is not there.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any


def main(words: list[str]) -> int:
    said = dict(word.split("=", 1) for word in words)
    folder, kinds = Path(said["output_dir"].strip("'")), said.get("kinds", "good").split("-")
    kind = kinds[min(int(folder.name.rpartition("-")[2]), len(kinds) - 1)]
    validations = int(said.get("validations", 4))
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"format": 1, "identity": {"seed": int(said["seed"])}, "words": words}

    def record(**more: Any) -> None:
        facts.update(more)
        temporary = folder / "run.json.tmp"
        temporary.write_text(json.dumps(facts))
        temporary.replace(folder / "run.json")

    def stop(number: int, _: Any) -> None:
        record(status="preempted", reason=f"stopped by {signal.Signals(number).name}")
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    file = folder / "metrics.jsonl"
    done = len(file.read_text().splitlines()) if file.exists() else 0
    record(status="running", budget={"steps": 10 * validations}, from_validation=done)
    value = float(said["x"]) * (0.1 if kind == "bad" else 1.0)
    for number in range(done + 1, validations + 1):
        while kind == "late" and number == 2 and not Path(said["wait"]).exists():
            time.sleep(0.01)
        if kind == "bad" and number == 4:
            time.sleep(60)
        with file.open("a") as stream:
            stream.write(json.dumps({"step": 10 * number, "val/accuracy": value + 0.001 * number}) + "\n")
    if kind == "raise":
        record(status="failed", reason="the loss is not a number")
        print("error: the loss is not a number")
        return 1
    metrics = {"val/loss": 1.0} if kind == "nan" else {"val/accuracy": value + 0.001 * validations}
    record(status="done", steps=10 * validations, metrics=metrics)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
