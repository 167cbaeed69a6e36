"""A run apart: what it said of its failure, and signals that are handed on to it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from cloze.suites import process


def test_its_error_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    ended = process.train(["model=gtp2"])
    assert ended.exit_code == 2 and ended.signal is None
    assert ended.error.startswith("model=gtp2 is not there; did you mean gpt2?")
    assert "error: model=gtp2" in capfd.readouterr().err  # shown as well


def test_a_signal_is_handed_on_and_its_end_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "run"
    program.write_text(
        f"#!/bin/sh\ntrap 'echo ended > {tmp_path}/ended; exit 143' TERM\nkill -TERM {os.getpid()}\nwhile :; do sleep 0.05; done\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    before = signal.getsignal(signal.SIGTERM)
    ended = process.train([])
    assert ended == process.Ended(143, "", signal.SIGTERM)
    assert (tmp_path / "ended").exists() and signal.getsignal(signal.SIGTERM) == before
