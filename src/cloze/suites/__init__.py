"""Whole benchmarks: many runs from one sentence, and their table. Nothing here is heavy to import."""

from __future__ import annotations

import re
from collections.abc import Sequence

ALL_OF_GLUE = "glue/all"  # a choice of the data group


def names_all_of_glue(words: Sequence[str]) -> bool:
    """Whether the words choose data=glue/all, alone or among other choices."""
    return any(re.match(rf"data=.*\b{ALL_OF_GLUE}\b", word) for word in words)
