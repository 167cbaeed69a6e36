"""Where each sequence lies in the flat (tokens, …) tensors, and what its tokens may see."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

Pattern = Literal["bidirectional", "causal", "prefix"]
Way = Literal["grouped", "flash", "padded"]


class Layout:
    """B sequences of `lengths`. `pattern` says what a token sees of its own sequence; for the pattern "prefix", `prefix` (B,)
    says how many tokens at a sequence's start all of it may see.

    Packed documents that must be kept apart are simply several sequences: no mask is needed for that.

    Sequences lie one after the other, real tokens only. With `stride` each takes that many rows, what is left of them being
    filling: static shapes, for hardware that compiles one program a shape (`cloze.models.static_shapes` makes such batches).

    `way` is how attention goes about it: "grouped" (CPU), "flash" (CUDA's variable-length kernels) or "padded" (one masked
    rectangle, anywhere); None leaves that to the device. Every way gives the same result.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        pattern: Pattern = "bidirectional",
        prefix: Sequence[int] | None = None,
        *,
        stride: int | None = None,
        way: Way | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.lengths = tuple(int(n) for n in lengths)
        self.pattern: Pattern = pattern
        self.prefix = None if prefix is None else tuple(int(n) for n in prefix)
        self.stride = stride
        self.way: Way | None = way
        self.device = torch.device(device)
        self.longest = stride or max(self.lengths, default=0)
        self.even = all(n == self.longest for n in self.lengths)
        self.groups: dict[Any, Any] = {}  # what grouped attention worked out about this layout
        self._others: dict[Pattern, Layout] = {}
        if self.device.type != "cpu":
            self.prepare()

    def prepare(self) -> None:
        """Makes the tensors. Compiled code must find them made: making them looks at every length, for which alone the code
        would then be good. Done at once for devices other than the CPU.
        """
        _ = self.ends, self.starts_tensor, self.rows, self.places, self.real, self.prefix_tensor

    def to(self, device: torch.device | str) -> Layout:
        """The same layout with its tensors on `device`."""
        if torch.device(device) == self.device:
            return self
        return Layout(self.lengths, self.pattern, self.prefix, stride=self.stride, way=self.way, device=device)

    def seen_as(self, pattern: Pattern) -> Layout:
        """The same sequences under another pattern: a causal model reads a batch that says nothing of it."""
        if pattern == self.pattern:
            return self
        if pattern not in self._others:
            self._others[pattern] = Layout(
                self.lengths, pattern, self.prefix, stride=self.stride, way=self.way, device=self.device
            )
        return self._others[pattern]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """(B+1,): sequence b begins in row offsets[b] of the flat tensors; the last is the number of rows."""
        if self.stride is not None:
            return tuple(range(0, self.stride * len(self.lengths) + 1, self.stride))
        return tuple(accumulate(self.lengths, initial=0))

    def starts(self, device: torch.device | str | None = None) -> Tensor:
        """(B,) int64: the row of each sequence's first token, e.g. of its [CLS]."""
        return self.starts_tensor if device is None else self.starts_tensor.to(device)

    @cached_property
    def starts_tensor(self) -> Tensor:
        return self._there(torch.tensor(self.offsets[:-1], dtype=torch.int64))

    @cached_property
    def lasts(self) -> Tensor:
        """(B,) int64: the row of each sequence's last token."""
        last = [start + n - 1 for start, n in zip(self.offsets[:-1], self.lengths, strict=True)]
        return self._there(torch.tensor(last, dtype=torch.int64))

    @cached_property
    def ends(self) -> Tensor:
        """(B+1,) int32: `offsets` as variable-length kernels take them."""
        return self._there(torch.tensor(self.offsets, dtype=torch.int32))

    @cached_property
    def prefix_tensor(self) -> Tensor:
        """(B,) int64: `prefix`, all 0 where there is none."""
        return self._there(torch.tensor(self.prefix or [0] * len(self.lengths)))

    @cached_property
    def real(self) -> Tensor:
        """(B, longest) bool: where the rectangle of all sequences holds a token."""
        return self._there(self._real())

    @cached_property
    def rows(self) -> Tensor:
        """(B * longest,) int64: which row fills each place of the rectangle; a sequence's first where there is no token."""
        starts = torch.tensor(self.offsets[:-1], dtype=torch.int64)[:, None]
        return self._there((starts + torch.arange(self.longest).where(self._real(), 0)).flatten())

    @cached_property
    def places(self) -> Tensor:
        """(rows,) int64: the place of each row in the rectangle."""
        if self.stride is not None:
            return self._there(torch.arange(self.offsets[-1]))
        return self._there(self._real().flatten().nonzero().flatten())

    def _real(self) -> Tensor:
        return torch.arange(self.longest) < torch.tensor(self.lengths)[:, None]

    def _there(self, tensor: Tensor) -> Tensor:
        """Made here, moved there: asking the device for sizes would wait for all its work."""
        return tensor.to(self.device, non_blocking=True)
