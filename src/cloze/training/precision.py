"""Mixed precision that casts each weight once a step."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pytorch_lightning.plugins.precision import MixedPrecision


class CachedMixedPrecision(MixedPrecision):
    """Lightning's mixed precision, with autocast's cache of cast weights, which Lightning switches off.

    A weight that is used more than once in a pass is cast once, and its gradients are added up before they are cast back. (The
    fault for which the cache was mistrusted, a weight first used under `no_grad` losing its gradient, is mended in torch; a test
    watches it.)
    """

    def __init__(self, precision: Literal["16-mixed", "bf16-mixed"], device: str) -> None:
        super().__init__(precision, device)

    def autocast_context_manager(self) -> Any:
        """Autocast for forward passes."""
        dtype = torch.bfloat16 if self.precision == "bf16-mixed" else torch.half
        return torch.autocast(self.device, dtype=dtype, cache_enabled=True)
