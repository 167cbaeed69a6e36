"""Studies: many runs from one sentence, each in a process of its own, and what they say together. Nothing here is heavy to import."""

from __future__ import annotations

import re
from collections.abc import Sequence


def is_asked_for(words: Sequence[str]) -> bool:
    """Whether the words name a study: sweeps=NAME, or a setting of one."""
    return any(re.match(r"\+{0,2}sweeps[.=]", word) for word in words)
