"""Which settings decide a run: its weights, and the figures that it is judged by.

All who ask go by this one list: what a run is resumed as, which words a study may be told anew, which runs are seeds of one arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Groups and keys that say where a run lies, how fast it goes, how often it is looked at, or that it is only looked at
_ASIDE = (
    "output_dir", "resume", "cache_dir", "name", "trusted", "plan", "show", "audit", "matrix", "hydra",
    "hardware", "tracking", "checkpoint", "validation.every",
)  # fmt: skip
_ALL_THE_SAME = ("hardware.precision",)  # of a group that does not decide
_DIALS = ("size",)  # what they set stands in the settings that ask for it

LATER = ("hardware.precision", "validation.examples")  # identities in older run folders have none of these


def decides(key: str) -> bool:
    """Whether a setting (`model.layers`) can make another run, or a group (`model`) as a whole."""
    return key in _ALL_THE_SAME or not (key in _ASIDE or key.partition(".")[0] in _ASIDE)


def deciding(settings: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """Those of a composed run's settings that decide, by group and key. `precision` is what `auto` has come to here."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {key: value}
    found = {key: value for key, value in flat.items() if decides(key) and key.partition(".")[0] not in _DIALS}
    return {**found, "hardware.precision": precision}
