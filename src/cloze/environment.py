"""What must be set before torch is imported: how idle threads wait and how memory is kept. Call `prepare` first of all.

Both matter more than most code. Threads that spin while they wait made two of them 6 to 30 times slower than one on a busy
two-core machine. And glibc gives every large block back to the system and has it zeroed and faulted in again at the next
step: keeping blocks took a step of transformers' GPT-2 (2 layers of 128, 50,257 words) from 2.9 to 1.2 seconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt's names for them, from malloc.h
_PR_SET_PDEATHSIG = 1  # prctl's
PROCESS_VARIABLE = "CLOZE_RUN_PROCESS"  # the process of rank 0, for the ranks that it launches
STUDY_VARIABLE = "CLOZE_STUDY_PROCESS"  # the process that runs a study, for its jobs


def prepare() -> None:
    """Sets this process up for torch; what the user's environment says already stays. Harmless to repeat."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when the OpenMP library is loaded, with torch
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads and forked workers do not go together
    keep_memory()
    if (
        study := os.environ.pop(STUDY_VARIABLE, None)
    ) is not None:  # not for the ranks and workers that this process starts
        end_with(int(study), signal.SIGTERM)  # with a checkpoint
    if PROCESS_VARIABLE in os.environ and os.environ.get("LOCAL_RANK", "0") != "0":
        end_with(int(os.environ[PROCESS_VARIABLE]))


def end_with(parent: int, by: signal.Signals = signal.SIGKILL) -> bool:
    """Has Linux end this process when its parent ends, or at once if that has ended; whether that could be asked for.

    For the ranks that rank 0 launches: one whose rank 0 is killed before they have met would wait for it for ever. And for the jobs
    of a study: one whose study is killed would hold its folder while the study is started again.
    """
    if sys.platform != "linux":
        return False
    try:
        asked = bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by) == 0)
    except (OSError, AttributeError):
        return False
    if os.getppid() != parent:
        os.kill(os.getpid(), by)
    return asked


def keep_memory() -> bool:
    """Tells glibc's malloc to keep what it has been given instead of returning it; whether there was a glibc to tell.

    Memory that a process has once used stays its own until it ends, also where torch has freed it.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    # no block of its own mapping for large requests, never trim, and grow by 64 MiB
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1), mallopt(_TOP_PAD, 64 << 20)])
