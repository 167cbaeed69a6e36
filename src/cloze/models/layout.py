"""Where each sequence lies in the flat (tokens, …) tensors, and what its tokens may see."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

Pattern = Literal["bidirectional", "causal", "prefix"]


class Layout:
    """B sequences of `lengths` one after the other. `pattern` says what a token sees of its own sequence.

    Packed documents that must be kept apart are simply several sequences: no mask is needed for that.
    """

    def __init__(
        self, lengths: Sequence[int], pattern: Pattern = "bidirectional", prefix: Sequence[int] | None = None
    ) -> None:
        self.lengths = tuple(int(n) for n in lengths)
        self.pattern: Pattern = pattern
        self.prefix = None if prefix is None else tuple(int(n) for n in prefix)

    def to(self, device: torch.device | str) -> Layout:
        return self

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """(B+1,): sequence b is rows offsets[b]:offsets[b+1] of the flat tensors."""
        return tuple(accumulate(self.lengths, initial=0))

    def starts(self, device: torch.device | str = "cpu") -> Tensor:
        """(B,) int64: the row of each sequence's first token, e.g. of its [CLS]."""
        return torch.tensor(self.offsets[:-1], dtype=torch.int64, device=device)
