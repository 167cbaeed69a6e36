"""What is set before torch: in processes of their own, because it cannot be taken back."""

from __future__ import annotations

import os
import subprocess
import sys

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
