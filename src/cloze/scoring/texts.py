"""Texts beside reference texts: BLEU (https://aclanthology.org/P02-1040/) and chrF (https://aclanthology.org/W15-3049/), counted by
sacreBLEU (https://arxiv.org/abs/1804.08771) with its default settings, so that figures are those that papers report.
"""

from __future__ import annotations

from collections.abc import Sequence


def score_texts(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """bleu and chrf of all texts together, as fractions; each has one reference."""
    from sacrebleu import corpus_bleu, corpus_chrf

    said, wanted = list(written), [list(references)]
    return {"bleu": corpus_bleu(said, wanted).score / 100, "chrf": corpus_chrf(said, wanted).score / 100}
