"""What `--device` says."""

from __future__ import annotations

import torch

from cloze.errors import Refusal


def device(said: str) -> torch.device:
    """The device, if it can be used here. Raises Refusal."""
    try:
        found = torch.device(said)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as fault:
        raise Refusal(f"--device={said} cannot be used: {str(fault).splitlines()[0]}") from None
    return found
