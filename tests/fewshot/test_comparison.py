"""Which completion is preferred: closed forms on models whose probabilities are known."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from cloze.data.base import Labelled
from cloze.errors import Refusal
from cloze.fewshot import comparison
from cloze.fewshot.comparison import Comparison, Judged, refuse_alike
from cloze.fewshot.likelihood import Likelihood
from cloze.fewshot.prompts import Asked, Prompter, Questions
from tests.fewshot.toys import WORDS, bigram, log_probabilities, unigram

OPTIONS = ("good", "bad", "very good")


def scores(loaded: Any, asked: Asked, **settings: Any) -> tuple[float, ...]:
    return Comparison(**settings).judge(loaded, [asked], 1000)[0].scores


def test_four_measures_by_hand() -> None:
    loaded = bigram()
    p = log_probabilities(loaded)
    film, colon, good, bad, very = (WORDS.index(word) for word in ("film", ":", "good", "bad", "very"))
    asked = Asked("a film ", OPTIONS)
    total = [p[film, good], p[film, bad], p[film, very] + p[very, good]]
    free = [p[colon, good], p[colon, bad], p[colon, very] + p[very, good]]
    expected = {
        "none": total,
        "token": [total[0], total[1], total[2] / 2],
        "character": [total[0] / 4, total[1] / 3, total[2] / 9],
        "calibrated": [one - other for one, other in zip(total, free, strict=True)],
    }
    for normalise, wanted in expected.items():
        assert scores(loaded, asked, normalise=normalise) == pytest.approx([float(x) for x in wanted], abs=1e-5)
    with_review = [p[WORDS.index("Review"), good], p[WORDS.index("Review"), bad]]
    found = scores(loaded, Asked("a film ", OPTIONS[:2]), normalise="calibrated", content_free="Review")
    assert found == pytest.approx([float(a - b) for a, b in zip(total, with_review, strict=False)], abs=1e-5)


def test_calibration_takes_out_all_that_a_unigram_model_knows() -> None:
    loaded = unigram()
    p = log_probabilities(loaded)[0]
    for before in ("a film ", "a dull tale . Answer : ", ""):
        raw = scores(loaded, Asked(before, OPTIONS))
        assert raw[0] == pytest.approx(float(p[WORDS.index("good")]), abs=1e-5)
        assert scores(loaded, Asked(before, OPTIONS), normalise="calibrated") == pytest.approx([0.0] * 3, abs=1e-5)


def test_what_stands_after_is_part_of_the_likelihood() -> None:
    loaded = bigram()
    p = log_probabilities(loaded)
    film, good, bad, tale = (WORDS.index(word) for word in ("film", "good", "bad", "tale"))
    found = scores(loaded, Asked("film ", ("good", "bad"), " tale"))
    wanted = [p[film, good] + p[good, tale], p[film, bad] + p[bad, tale]]
    assert found == pytest.approx([float(x) for x in wanted], abs=1e-5)


def test_the_order_of_demonstrations_is_nothing_to_a_unigram_model() -> None:
    """And to a bigram model it is nothing either, as long as the last words stay; what is asked last does matter to it."""
    shown = ["a dull film . Answer : bad", "a bright tale . Answer : good", "a very bright film . Answer : good"]
    for loaded in (unigram(), bigram()):
        found = {
            scores(loaded, Asked("\n\n".join([*order, "a tale . Answer : "]), OPTIONS))
            for order in itertools.permutations(shown)
        }
        first = next(iter(found))
        assert all(each == pytest.approx(first, abs=1e-5) for each in found)
    other = scores(bigram(), Asked("a tale . very ", OPTIONS))
    assert other != pytest.approx(scores(bigram(), Asked("a tale . Answer : ", OPTIONS)), abs=1e-3)


def test_demonstrations_reach_the_model() -> None:
    """A prompt whose question is empty ends in its last demonstration, which a bigram model then goes by."""
    loaded = bigram()
    p = log_probabilities(loaded)
    questions = Questions("own", Labelled(("a",), label="good"), ["good", "bad"], "{first} {answer}")
    examples = [questions.asked(Labelled(("film",), label=label)) for label in ("good", "bad")]
    for seed in range(4):
        prompter = Prompter(examples, 1, seed)
        asked = prompter.asked(Asked("", ("tale", "film"), gold=0))
        last = WORDS.index(examples[0].options[prompter.demonstrations()[0][1]])
        newline = WORDS.index("\n")
        wanted = [p[last, newline] + p[newline, newline] + p[newline, WORDS.index(word)] for word in ("tale", "film")]
        assert scores(loaded, asked) == pytest.approx([float(x) for x in wanted], abs=1e-4)


def test_many_examples_are_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = bigram(3)
    asked = [Asked(f"a {word} ", options) for word in WORDS[2:9] for options in (OPTIONS, ("a", "b"))]
    whole = Comparison("calibrated").judge(loaded, asked, 1000)
    monkeypatch.setattr(comparison, "AT_ONCE", 1)
    alone = Comparison("calibrated").judge(loaded, asked, 1000)
    for one, other in zip(whole, alone, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_a_text_that_does_not_fit_is_said_to_be_cut() -> None:
    loaded = bigram()
    asked = [Asked("a b c a b c film ", OPTIONS), Asked("film ", OPTIONS)]
    cut, whole = Comparison().judge(loaded, asked, 6)
    assert cut.cut and not whole.cut
    assert cut.scores == pytest.approx(whole.scores, abs=1e-5)  # a bigram model looks no further


def test_nobody_is_preferred_where_two_are_even() -> None:
    even = Judged((Likelihood(-1.0, 1, True),) * 2, (-1.0, -1.0))
    assert even.choice == 0 and not even.prefers(0) and not even.prefers(1)
    assert Judged((), (-1.0, -2.0)).prefers(0) and not Judged((), (-1.0, -2.0)).prefers(1)


def test_words_that_a_tokenizer_cannot_tell_apart() -> None:
    loaded = bigram()
    refuse_alike(loaded, ["good", "bad", "never"])
    with pytest.raises(Refusal, match=r"'never' and 'ever', which stand for two classes, are the same .*<\?>"):
        refuse_alike(loaded, ["good", "never", "ever"])
    with pytest.raises(Refusal, match="a completion cannot be asked about: '' has no token"):
        scores(loaded, Asked("film ", ("good", "")))
