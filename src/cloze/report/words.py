"""How figures read: digits, signs and sentences, one way for terminal, pages and files for people. Files for programs have all digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cloze.report import LEVEL

if TYPE_CHECKING:
    from cloze.report.comparison import Arm, Difference, Metric, Summary

MINUS = "−"
NONE = "–"  # where there is no figure
MOST_DIGITS = 6  # after the point
HUGE = 1e7  # from here on, and below what MOST_DIGITS show, numbers have an exponent


def decimals(*sizes: float | None) -> int:
    """Digits after the point, so that the smallest of `sizes` (deviations, half-widths) shows two that count; 3 where none is known."""
    known = [abs(size) for size in sizes if size is not None and math.isfinite(size) and size != 0]
    if not known:
        return 3
    return min(max(1 - math.floor(math.log10(min(known))), 0), MOST_DIGITS)


def number(value: float | None, digits: int = 3) -> str:
    """`0.812`; `4.2e12` where nobody would count the digits; the minus sign is a minus sign; nothing becomes a dash."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:,.{digits}f}"
    zero = not float(text.replace(",", ""))
    if abs(value) >= HUGE or (zero and value and digits >= MOST_DIGITS):
        mantissa, exponent = f"{value:.2e}".split("e")
        text, zero = f"{mantissa}e{int(exponent)}", False
    if text.startswith("-"):
        text = text[1:] if zero else MINUS + text[1:]
    return text


def signed(value: float | None, digits: int = 3) -> str:
    """`+0.21`, `−0.3`."""
    text = number(value, digits)
    return text if text == NONE or text.startswith(MINUS) else f"+{text}"


def p_value(p: float | None) -> str:
    """`p<0.001`, `p=0.034`, `p=0.58`; near the level, digits enough to see the side."""
    if p is None:
        return NONE
    if p < 0.001:
        return "p<0.001"
    digits = 3 if p < 0.1 else 2
    while float(text := f"{p:.{digits}f}") == LEVEL != p:  # must not read as if it lay on the level
        digits += 1
    return f"p={text}"


def seeds(n: int) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{n} seed" + ("" if n == 1 else "s")


def figure(summary: Summary | None, digits: int | None = None) -> str:
    """`0.812 ± 0.012`: the mean and the sample deviation over the seeds; the mean alone of one seed."""
    if summary is None:
        return NONE
    if summary.deviation is None:
        return number(summary.mean, 3 if digits is None else digits)
    shown = decimals(summary.deviation) if digits is None else digits
    own = (
        max(shown, decimals(summary.deviation) - 1) if summary.deviation else shown
    )  # a column's digits may show none of it
    return f"{number(summary.mean, shown)} ± {number(summary.deviation, own)}"


def change(difference: Difference | None, digits: int | None = None) -> str:
    """`+0.21 ± 0.03`: the mean difference and half of its 95 % interval; the difference alone where there is no interval."""
    if difference is None:
        return NONE
    half = difference.half
    if half is None:
        return signed(difference.mean, decimals(difference.mean) if digits is None else digits)
    shown = decimals(half) if digits is None else digits
    return f"{signed(difference.mean, shown)} ± {number(half, shown)}"


def verdict(metric: Metric, arm: str, baseline: str, difference: Difference, arms: int) -> str:
    """What the difference allows to be said, in one sentence. `arms` are the comparisons that the metric has."""
    if difference.unjudged:
        return f"no verdict on {metric.title} ({change(difference)}, {_seeds_of(difference)}): {difference.unjudged}"
    assert difference.half is not None and difference.p_holm is not None and difference.detectable is not None
    facts = [change(difference), _seeds_of(difference), p_value(difference.p_holm)]
    if difference.claimed:
        return f"{arm} is {direction(metric, difference.mean)} than {baseline} on {metric.title} ({', '.join(facts)})"
    note = f"smallest detectable {number(difference.detectable, decimals(difference.detectable))}"
    if arms > 1 and difference.p is not None and difference.p < LEVEL:  # where the interval alone would say otherwise
        note = f"{p_value(difference.p)} before Holm's correction for {arms} arms; {note}"
    return f"no difference could be shown on {metric.title} ({', '.join(facts)}; {note})"


def direction(metric: Metric, difference: float) -> str:
    """`better` or `worse`; of a metric that has no good side, `higher` or `lower`."""
    if metric.higher_is_better is None:
        return "higher" if difference > 0 else "lower"
    return "better" if (difference > 0) == metric.higher_is_better else "worse"


def absences(arms: Sequence[Arm]) -> list[str]:
    """A sentence for every run that should be there and is not: who reads a table must know what is not in it."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for arm in arms:
        for each in arm.absent:
            key = (arm.name, each.evaluation or "", each.status, each.reason)
            found.setdefault(key, []).append("?" if each.seed is None else str(each.seed))
    sentences = []
    for (arm_name, evaluation, status, reason), numbers in found.items():
        what = f"{arm_name}, {evaluation}" if evaluation else arm_name
        who = f"seed{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
        sentences.append(f"{what}, {who}: {status}" + (f" ({reason})" if reason else ""))
    return sentences


def _seeds_of(difference: Difference) -> str:
    if difference.paired:
        return seeds(difference.n)
    return f"{difference.n_arm} and {difference.n_baseline} seeds, unpaired"
