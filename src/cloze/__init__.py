"""Cloze: a config-driven experiment platform for self-supervised pre-training.

Importing this package is cheap: torch and Lightning are imported by what needs them, when it needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloze.loading import Pretrained, load

__all__ = ["Pretrained", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in ("load", "Pretrained"):
        from cloze import loading

        return getattr(loading, name)
    raise AttributeError(f"module 'cloze' has no attribute {name!r}")
