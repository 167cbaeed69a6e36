"""What a run says: to the terminal, and with the time before it to log.txt. Advertisements and warnings without a use are left out."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloze.folder import RunFolder

# Each of these tells of something that is as it should be here, or that nobody can do anything about.
_USELESS = (
    r"The '\w+' does not have many workers",  # threads and workers are chosen for this machine
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the position is exact: training/callbacks/conductor.py
    r"Found \d+ module\(s\) in eval mode at the start of training",
    r"The number of training batches",
    r"`torch\.jit\.script` is deprecated",
    r"Checkpoint directory .* exists and is not empty",
    r"The ``compute`` method of metric .* was called before the ``update``",  # a rank without a validation batch
    r"No device id is provided via `init_process_group`",
    r"barrier\(\): using the device under current context",
    r".*isinstance\(treespec, LeafSpec\)",
    r"It is recommended to use `self\.log\(.*sync_dist=True\)`",  # what is logged is the sum over ranks already
    r"You have overridden `transfer_batch_to_device` in `LightningModule`",
)


class Voice:
    """Says lines. Followers say nothing."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.live: Any = None  # the console of a progress bar that is on the screen

    def say(self, line: str) -> None:
        """A line for the user and the log."""
        if self._folder.follower:
            return
        if self.live is not None:
            self.live.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            print(line, flush=True)
        self._folder.note(line)

    def warn(self, line: str) -> None:
        """A line for standard error and the log."""
        if self._folder.follower:
            return
        if self.live is not None:
            self.live.print(f"warning: {line}", highlight=False, markup=False, soft_wrap=True)
        else:
            print(f"warning: {line}", file=sys.stderr, flush=True)
        self._folder.note(f"warning: {line}")

    @contextmanager
    def only(self) -> Iterator[None]:
        """Within, warnings are lines of ours, and libraries log only what is one."""
        import pytorch_lightning  # noqa: F401  (sets the level of its loggers when it is imported: before us, not after)

        handler = _Handler(self)
        loggers = [logging.getLogger(name) for name in ("cloze", "pytorch_lightning", "lightning_fabric")]
        before = [(logger, logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
        with warnings.catch_warnings():
            for pattern in _USELESS:
                warnings.filterwarnings("ignore", pattern)
            warnings.showwarning = self._show
            for logger in loggers:
                logger.handlers, logger.propagate = [handler], False
                logger.setLevel(logging.WARNING)
            try:
                yield
            finally:
                for logger, level, propagate, handlers in before:
                    logger.handlers, logger.propagate = handlers, propagate
                    logger.setLevel(level)

    def _show(self, message: Warning | str, *_: Any, **__: Any) -> None:
        self.warn(" ".join(str(message).split()))


class _Handler(logging.Handler):
    def __init__(self, voice: Voice) -> None:
        super().__init__(logging.WARNING)
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        self._voice.warn(" ".join(record.getMessage().split()))
