"""What is set before torch: in processes of their own, because it cannot be taken back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAULTS = """
import resource, sys
from cloze.environment import prepare
if sys.argv[1] == "prepared":
    prepare()
def work():
    return [b"x" * (64 << 20) for _ in range(3)]  # blocks larger than any that glibc keeps by itself
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def output(program: str, *words: str, **environment: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "OMP_WAIT"))}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, env=kept | environment, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_memory_once_taken_is_kept() -> None:
    """A second round of large blocks has no page to fault in; without `prepare` it has all of them again."""
    assert int(output(FAULTS, "prepared")) < 2000
    assert int(output(FAULTS, "left as it is")) > 20000


def test_what_the_user_has_set_stays() -> None:
    program = "from cloze.environment import prepare; prepare(); import os; print(os.environ['OMP_WAIT_POLICY'])"
    assert output(program) == "PASSIVE"
    assert output(program, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
    told = "from cloze.environment import keep_memory; print(keep_memory())"
    assert output(told, MALLOC_ARENA_MAX="2") == "False"


def test_nothing_heavy_is_imported() -> None:
    program = "import sys; from cloze.environment import prepare; prepare(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert output(program) == "False False"


LAUNCHED = """
import os, subprocess, sys, time
if len(sys.argv) > 1:
    from cloze.environment import prepare
    prepare()
    print("ready", flush=True)
    time.sleep(60)
else:
    os.environ |= {"CLOZE_RUN_PROCESS": str(os.getpid()), "LOCAL_RANK": "1"}
    rank = subprocess.Popen([sys.executable, __file__, "rank"], stdout=subprocess.PIPE, text=True)
    rank.stdout.readline()
    print(rank.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_launched_rank_ends_when_rank_0_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "launched.py"
    program.write_text(LAUNCHED, encoding="utf-8")
    rank_0 = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert rank_0.stdout is not None
    rank = int(rank_0.stdout.readline())
    assert Path(f"/proc/{rank}").exists()
    rank_0.kill()
    rank_0.wait()
    end = time.monotonic() + 10
    while Path(f"/proc/{rank}").exists() and "Z" not in Path(f"/proc/{rank}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < end, "an orphan"
        time.sleep(0.05)
