"""A generated language with known truth: the default corpus of every command (docs/data-world.md)."""

from cloze.data.world.corpus import World

__all__ = ["World"]
