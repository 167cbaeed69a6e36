"""Shares that settings name: refused where they cannot be, held against what was done."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cloze.errors import Refusal
from cloze.objectives.base import Tally


def check_share(name: str, value: float, lowest_excluded: bool = False) -> None:
    """Refuses a share outside of [0, 1], or of (0, 1]. Settings by their name."""
    if not 0 <= value <= 1 or (lowest_excluded and value == 0):
        interval = "(0, 1]" if lowest_excluded else "[0, 1]"
        near = f" Did you mean {value / (10 if value < 10 else 100):g}?" if 1 < value <= 100 else ""
        raise Refusal(f"objective.{name}={value:g} must lie in {interval}.{near}")


def check_fates(mask: float, random: float, keep: float) -> None:
    """Refuses shares of the selected tokens that do not add up to 1."""
    for name, value in (("mask", mask), ("random", random), ("keep", keep)):
        check_share(name, value)
    if abs(mask + random + keep - 1) > 1e-6:
        raise Refusal(
            f"objective.mask={mask:g}, objective.random={random:g} and objective.keep={keep:g} are shares of the selected tokens: "
            f"they add up to {mask + random + keep:g}, not 1. With objective.mask={mask:g} objective.random={random:g} it is "
            f"objective.keep={max(0.0, 1 - mask - random):g}."
        )


def tally_fates(actions: NDArray[Any], mask: float, random: float, of: str = "selected") -> dict[str, Tally]:
    """What is declared of the selected tokens' fates, and what `actions` (M,), as `corruption.corrupt` gives them, show."""
    declared = (("masked", mask), ("replaced", random), ("kept", 1 - mask - random))
    return {
        f"{name} of the {of}": Tally.share(share, int((actions == action).sum()), len(actions))
        for action, (name, share) in enumerate(declared)
    }
