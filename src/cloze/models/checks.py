"""What no model can be, whatever its family: refused before anything is built."""

from __future__ import annotations

from cloze.errors import Refusal


def positive(**counts: int) -> None:
    """Refuses counts (of layers, heads, …) below 1. Settings by their name."""
    for name, count in counts.items():
        if count < 1:
            raise Refusal(f"model.{name}={count} must be at least 1.")


def above_zero(**numbers: float) -> None:
    """Refuses epsilons and deviations that are 0, negative or no finite number. Settings by their name."""
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise Refusal(f"model.{name}={number:g} must be more than 0.")


def rates(**shares: float) -> None:
    """Refuses dropout that would drop everything, or less than nothing. Settings by their name."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise Refusal(f"model.{name}={share} must lie in [0, 1).")


def divides(width: int, heads: int) -> None:
    """Refuses heads that do not divide the width."""
    if width % heads:
        divisors = [n for n in range(1, width + 1) if width % n == 0]
        near = min(divisors, key=lambda n: abs(n - heads))
        raise Refusal(
            f"model.heads={heads} must divide model.width={width}; the nearest that does is model.heads={near}."
        )


def fitting(width: int, heads: int, length: int, positions: int) -> None:
    """Refuses heads that do not divide the width, and examples that are longer than the position table."""
    divides(width, heads)
    if length > positions:
        raise Refusal(f"length={length} is more than model.positions={positions}: make one of them the other.")
