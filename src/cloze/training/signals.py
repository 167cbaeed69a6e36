"""Signals only raise a flag; the run stops at the next optimizer step, with a checkpoint. A second one stops it at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_CAUGHT = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


class AtOnce(BaseException):
    """A second signal: no waiting for the step to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped at once by {signal.Signals(number).name}")
        self.number = number


class Signals:
    """A context manager that turns TERM, INT, HUP and USR1 into `asked`, the number of the signal (0: none)."""

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        if self._main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._before = {}

    def install(self) -> None:
        """Takes the signals over, also from whoever (Lightning) has taken them meanwhile."""
        if self._main_thread():
            for name in _CAUGHT:
                if (number := getattr(signal, name, None)) is not None:
                    before = signal.signal(number, self._handle)
                    self._before.setdefault(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise AtOnce(number)
        self.asked = number

    @staticmethod
    def _main_thread() -> bool:
        return threading.current_thread() is threading.main_thread()
