"""BLEU and chrF of written texts."""

from __future__ import annotations

import pytest

from cloze.scoring.texts import score_texts


def test_the_same_texts_have_all() -> None:
    texts = ["the boat was found by the sea", "nobody wanted the old lamp"]
    assert score_texts(texts, texts) == pytest.approx({"bleu": 1.0, "chrf": 1.0})
    other = score_texts(["zyx zyx", "qqq"], texts)
    assert other["bleu"] < 0.05 and other["chrf"] < 0.05


def test_bleu_by_hand() -> None:
    """4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples, and no brevity penalty."""
    found = score_texts(["ant bee cat dog elk"], ["ant bee cat dog fox"])["bleu"]
    assert found == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # half as long as the reference: all it has is right, and the penalty is exp(1 - 2)
    assert score_texts(["ant bee cat dog"], ["ant bee cat dog elk fox gnu hen"])["bleu"] == pytest.approx(
        2.718281828**-1
    )
