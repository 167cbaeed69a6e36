"""The one kind of error that is the user's to mend, and how it reads.

`Refusal` ends the process with exit code 2 and one message, never a traceback. Everything else that ends a run is a `RunFailure`
(exit code 1): it happened while running and its traceback goes to the run's log file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Refusal(Exception):
    """A mistake of the user: names the setting, the value, what is accepted and the nearest right one."""

    exit_code = 2


class RunFailure(Exception):
    """A run that could not go on (disk full, loss not a number): one line for the user, the rest for the log."""

    exit_code = 1


class Preempted(Exception):
    """A signal asked the run to stop, and it did at the next optimizer step, with a checkpoint: exit code 128 + signal."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
        self.exit_code = 128 + signal


def with_article(name: str) -> str:
    """A family's name with its article: "a GPT2", "an ELMo", "an XLNet"."""
    return f"an {name}" if name.startswith(("A", "E", "I", "O", "XL")) else f"a {name}"


def nearest(word: str, accepted: Iterable[str]) -> str | None:
    """The accepted word that `word` was most probably meant to be, if any is near enough."""
    matches = difflib.get_close_matches(word, list(accepted), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """`; did you mean X?` where something is near, and the accepted words: the tail of a refusal."""
    choices = sorted(accepted)
    guess = nearest(word, choices)
    hint = f"; did you mean {guess}?" if guess else "."
    return f"{hint} Accepted: {', '.join(choices)}."
