"""Scorers: of classes and numbers (`metrics`), of the benchmarks' tasks and averages (`glue`), of answers (`squad`), of tags (`tags`).

They take plain arrays, lists and dictionaries and know nothing of torch, so training, `cloze score` and a notebook use the same ones.
"""

from cloze.scoring.metrics import METRICS, score

__all__ = ["METRICS", "score"]
