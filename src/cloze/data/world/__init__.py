"""A generated language with known truth: the default corpus of every command (docs/data-world.md)."""

from cloze.data.world.corpus import World
from cloze.data.world.parallel import ParallelWorld

__all__ = ["ParallelWorld", "World"]
