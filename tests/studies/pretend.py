"""A job that only pretends to train, for tests of what runs the jobs. Its words: do=finish|refuse|raise|exit|exit0|kill|memory|wait|later.

It keeps the contract of a run folder: run.json says running, then done; metrics.jsonl grows; a signal leaves `preempted`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def main(words: list[str]) -> int:
    said = dict(word.split("=", 1) for word in words)
    folder, do = Path(said["output_dir"].strip("'")), said.get("do", "finish")
    facts: dict[str, Any] = {"format": 1, "seed": said.get("seed"), "identity": {"seed": int(said["seed"]), "do": do}}
    begun = (folder / "run.json").exists()

    def record(**more: Any) -> None:
        facts.update(more)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{os.getpid()}.tmp"
        temporary.write_text(json.dumps(facts))
        temporary.replace(folder / "run.json")

    def stop(number: int, _: Any) -> None:
        record(status="preempted", reason=f"stopped by {signal.Signals(number).name}")
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    if do == "refuse":
        print("error: do=refuse is not a setting")
        return 2
    threads, rank = os.environ.get("OMP_NUM_THREADS"), os.environ.get("LOCAL_RANK")
    record(status="running", budget={"steps": 10}, words=words, threads=threads, rank=rank, stdin=sys.stdin.read())
    print("step 1, and then…")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, "seconds": 1.0, "train/loss": 2.5}) + "\n")
    if do == "later" and not begun:  # ends well when it is run again
        do = "raise"
    if do == "wait" and not begun:
        (folder / "waits").touch()
        while True:
            time.sleep(0.02)
    if do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if do in ("raise", "memory"):
        reason, kind = ("MemoryError", "MemoryError") if do == "memory" else ("no such thing", "ValueError")
        record(status="failed", reason=reason)
        print(f"error: {kind}: {reason} (the traceback is in {folder}/log.txt)")
        return 1
    if do in ("exit", "exit0"):
        code = 3 if do == "exit" else 0
        record(status="failed", reason=str(code))
        return code
    value = float(said.get("value", 0.5)) + 0.01 * int(said["seed"])
    record(status="done", steps=10, seconds=1.0, metrics={"val/accuracy": value})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
