"""Answers: each rule of the comparison by hand, thresholds by brute force, and the real files."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from cloze.errors import Refusal
from cloze.scoring import cmrc
from cloze.scoring.squad import exact, f1, normalise, score_squad


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("Denver Broncos", "denver broncos"),
        ("The Denver Broncos", "denver broncos"),
        ("an apple, a day.", "apple day"),
        ("the the the", ""),
        ("Theatre and anthem", "theatre and anthem"),  # an article is a whole word
        ("U.S.", "us"),
        ("rock-a-hula", "rockahula"),  # punctuation goes before articles, so this a is part of a word
        ("a.m.", "am"),
        ("A–B", "–b"),  # a dash that is not ASCII stays, and ends a word
        ("  two \t words\n", "two words"),
        ("\u00a0no-break\u00a0space", "nobreak space"),
        ("«Ça va»", "«ça va»"),
        ("$5,000", "5000"),
        ("", ""),
    ],
)
def test_normalisation(answer: str, normal: str) -> None:
    assert normalise(answer) == normal


def test_words_count_as_often_as_they_are_there() -> None:
    assert f1("new york new york", "york") == pytest.approx(2 * (1 / 4) * 1 / (1 / 4 + 1))
    assert f1("york york", "new york york city") == pytest.approx(2 * 1 * (1 / 2) / (1 + 1 / 2))
    assert f1("paris", "london") == 0.0
    assert f1("The cat", "cat!") == exact("The cat", "cat!") == 1.0
    assert f1("cat dog", "dog cat") == 1.0 and exact("cat dog", "dog cat") == 0.0  # a bag: order does not matter


def test_the_best_of_the_gold_answers_counts() -> None:
    gold = [("q", ["the big red house", "red house", "house"])]
    scores = score_squad(gold, {"q": "the red house on the hill"})
    assert scores["exact_match"] == 0.0
    # words red house on hill: with red house, 2 of 4 and 2 of 2; with big red house 2 of 4 and 2 of 3
    assert scores["f1"] == pytest.approx(100 * 2 * (2 / 4) * 1 / (2 / 4 + 1))
    assert score_squad(gold, {"q": "House."}) == {"exact_match": 100.0, "f1": 100.0}


def test_a_question_without_a_prediction_scores_0_in_one_version_and_is_left_out_in_the_other() -> None:
    gold = [("a", ["cat"]), ("b", ["dog"]), ("c", []), ("d", ["owl"])]
    answerable = [(question, answers) for question, answers in gold if answers]
    said = {"a": "cat", "d": "cow", "unknown": "cat"}
    assert score_squad(answerable, said) == {"exact_match": pytest.approx(100 / 3), "f1": pytest.approx(100 / 3)}
    assert score_squad(answerable, {}) == {"exact_match": 0.0, "f1": 0.0}
    half = {"exact": 50.0, "f1": 50.0, "total": 2}
    scores = score_squad(gold, said, version="2.0")
    assert scores == half | {f"HasAns_{name}": value for name, value in half.items()}  # no NoAns_: c was left out
    with pytest.raises(Refusal, match="none of the 4 questions"):
        score_squad(gold, {}, version="2.0")
    with pytest.raises(Refusal, match="question c has no answers"):
        score_squad(gold, said)
    with pytest.raises(Refusal, match="no questions"):
        score_squad([], said)


def test_answers_that_normalise_to_nothing() -> None:
    gold = [("a", ["The", "A!"]), ("b", ["the", "word"])]
    # 1.1: equal, but they have no word in common
    assert score_squad(gold, {"a": "", "b": "word"}) == {"exact_match": 100.0, "f1": 50.0}
    # 2.0: such answers are dropped, and with all of them gone "" is the answer; a still counts as answerable
    scores = score_squad(gold, {"a": "...", "b": "the"}, version="2.0")
    assert scores["HasAns_exact"] == scores["HasAns_f1"] == 50.0 and "NoAns_total" not in scores


def test_version_2_by_hand() -> None:
    gold = [("a", ["red house"]), ("b", ["owl"]), ("c", []), ("d", [])]
    scores = score_squad(gold, {"a": "house", "b": "owl", "c": "", "d": "what"}, version="2.0")
    overlap = 100 * 2 / 3
    assert scores == {
        "exact": 50.0,
        "f1": pytest.approx((overlap + 100 + 100) / 4),
        "total": 4,
        "HasAns_exact": 50.0,
        "HasAns_f1": pytest.approx((overlap + 100) / 2),
        "HasAns_total": 2,
        "NoAns_exact": 50.0,
        "NoAns_f1": 50.0,
        "NoAns_total": 2,
    }


def test_above_the_threshold_a_question_counts_as_not_answered() -> None:
    gold = [("a", ["cat"]), ("b", ["dog"]), ("c", []), ("d", [])]
    said = {"a": "cat", "b": "dog", "c": "cow", "d": "cow"}
    sure = {"a": 0.1, "b": 0.6, "c": 0.6, "d": 0.2}
    for threshold, exact_all, has, no in ((1.0, 50, 100, 0), (0.6, 50, 100, 0), (0.5, 50, 50, 50), (0.0, 50, 0, 100)):
        scores = score_squad(gold, said, sure, "2.0", threshold)
        assert (scores["exact"], scores["HasAns_exact"], scores["NoAns_exact"]) == (exact_all, has, no)
        assert (scores["best_exact"], scores["best_exact_thresh"]) == (75.0, 0.1)  # whatever the threshold
    with pytest.raises(Refusal, match=r"question d has no probability of no answer \(1 have none\)"):
        score_squad(gold, said, {"a": 0.1, "b": 0.6, "c": 0.6}, "2.0")
    with pytest.raises(Refusal, match=r"version 2\.0"):
        score_squad(gold[:2], said, sure)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_is_that_of_brute_force(seed: int) -> None:
    draw = random.Random(seed)
    words = ["cat", "dog", "owl", "red"]
    names = [f"q{n}" for n in range(30)]
    gold = [(q, [" ".join(draw.choices(words, k=2))] if draw.random() < 0.6 else []) for q in names]
    said = {q: " ".join(draw.choices(words, k=2)) if draw.random() < 0.8 else "" for q in names}
    sure = dict(zip(names, draw.sample([n / 100 for n in range(1, 100)], 30), strict=True))
    scores = score_squad(gold, said, sure, "2.0")
    for measure in ("exact", "f1"):
        tried = {x: score_squad(gold, said, sure, "2.0", x)[measure] for x in (0.0, *sure.values())}
        best = max(tried.values())
        assert scores[f"best_{measure}"] == pytest.approx(best)
        assert scores[f"best_{measure}_thresh"] == min(x for x, value in tried.items() if value > best - 1e-9)


def test_equal_probabilities_are_answered_one_by_one() -> None:
    """As the official script does, though no threshold comes between a and b."""
    scores = score_squad([("a", ["cat"]), ("b", [])], {"a": "cat", "b": "cow"}, {"a": 0.5, "b": 0.5}, "2.0")
    assert (scores["best_exact"], scores["best_exact_thresh"], scores["exact"]) == (100.0, 0.5, 50.0)


def test_torchmetrics_counts_the_same() -> None:
    from torchmetrics.functional.text import squad

    draw = random.Random(0)
    words = ["the", "a", "An", "cat", "Cat,", "dog", "dog.", "(owl)", "theatre", "new-york", "é", "’s"]
    gold = [(str(n), [" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(3)]) for n in range(300)]
    said = {question: " ".join(draw.choices(words, k=draw.randint(1, 4))) for question, _ in gold}
    # torchmetrics gives two empty answers an F1 of 1, as version 2.0
    gold = [(q, answers) for q, answers in gold if normalise(said[q]) and all(map(normalise, answers))]
    assert len(gold) > 200
    for some in ([each] for each in gold[:40]), [gold]:
        for questions in some:
            theirs = squad(
                [{"prediction_text": said[q], "id": q} for q, _ in questions],
                [{"answers": {"answer_start": [0] * 3, "text": answers}, "id": q} for q, answers in questions],
            )
            assert score_squad(questions, said) == {
                name: pytest.approx(float(x), rel=1e-5) for name, x in theirs.items()
            }


# ------------------------------------------------------------------------------------------------------- real files


def dev(path: Path) -> list[tuple[str, list[str]]]:
    data = json.loads(path.read_text(encoding="utf-8"))["data"]
    asked = [q for article in data for paragraph in article["paragraphs"] for q in paragraph["qas"]]
    return [(q["id"], [answer["text"] for answer in q["answers"]]) for q in asked]


@pytest.mark.data
def test_the_real_dev_file(shared_data: Path) -> None:
    gold = dev(shared_data / "qa/squad/dev-v1.1.json")
    assert len(gold) == 10570
    assert score_squad(gold, {q: answers[0] for q, answers in gold}) == {"exact_match": 100.0, "f1": 100.0}
    # Three questions have a gold answer that is a full stop, of one it is the last: equal to it and to "", but of no words in common.
    last = score_squad(gold, {q: answers[-1] for q, answers in gold})
    assert last == {"exact_match": 100.0, "f1": pytest.approx(100 * 10569 / 10570)}
    silent = score_squad(gold, dict.fromkeys((q for q, _ in gold), ""))
    assert silent == {"exact_match": pytest.approx(100 * 3 / 10570), "f1": 0.0}

    first = {q: answers[0].split()[0] for q, answers in gold}
    marks = re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")

    def bag(text: str) -> Counter[str]:
        return Counter(re.sub(r"(?<!\w)(the|an|a)(?!\w)", " ", re.sub(f"[{marks}]", "", text.lower())).split())

    same = overlap = 0.0
    for q, answers in gold:
        said = bag(first[q])
        rights = [bag(answer) for answer in answers]
        same += max(said == right and max(said.total(), right.total()) <= 1 for right in rights)
        overlap += max(
            2 * (said & right).total() / (said.total() + right.total()) if said + right else 0.0 for right in rights
        )
    scores = score_squad(gold, first)
    assert scores == {"exact_match": pytest.approx(100 * same / 10570), "f1": pytest.approx(100 * overlap / 10570)}
    assert 20 < scores["exact_match"] < scores["f1"] < 80


@pytest.mark.data
def test_silence_scores_the_share_of_unanswerable_questions(shared_data: Path) -> None:
    gold = [(q, answers if n % 3 else []) for n, (q, answers) in enumerate(dev(shared_data / "qa/squad/dev-v1.1.json"))]
    share = sum(not answers for _, answers in gold) / len(gold)
    scores = score_squad(gold, dict.fromkeys((q for q, _ in gold), ""), version="2.0")
    assert scores["exact"] == scores["f1"] == pytest.approx(100 * share)
    assert (scores["HasAns_exact"], scores["NoAns_exact"], scores["NoAns_total"]) == (0.0, 100.0, 3524)
    right = score_squad(gold, {q: answers[0] if answers else "" for q, answers in gold}, version="2.0")
    assert right["exact"] == right["f1"] == right["HasAns_f1"] == right["NoAns_f1"] == 100.0


# ------------------------------------------------------------------------------------------------------- Chinese


def test_chinese_answers_are_compared_by_character_and_longest_stretch() -> None:
    assert cmrc.segments("《战国无双3》由Omega Force开发，2010。") == [
        *"战国无双",
        "3",
        "由",
        "omega",
        "force",
        *"开发",
        "2010",
    ]
    assert cmrc.segments("don't 3.5% (u.s.)") == ["do", "n't", "3.5", "%", "(", "u.s.", ")"]
    assert cmrc.exact("《战国无双》", "战国无双。") == 1.0
    assert cmrc.exact("Omega-Force", "omegaforce") == 1.0
    assert cmrc.exact("战 国", "战国") == 0.0  # white space within counts
    # 光荣和ω has 4 segments, 光荣与ω 4; the longest stretch is 光荣, 2: a bag of characters would give 3
    assert cmrc.f1("光荣和ω", "光荣与ω") == pytest.approx(2 / 4)
    assert cmrc.f1("公司", "光荣公司制作") == pytest.approx(2 * 1 * (2 / 6) / (1 + 2 / 6))
    assert cmrc.f1("。", "。") == 0.0 and cmrc.exact("。", "。") == 1.0


def test_cmrc_counts_questions_without_a_prediction() -> None:
    gold = [("a", ["光荣公司", "光荣"]), ("b", ["上海"]), ("c", ["北京"])]
    scores = cmrc.score_cmrc(gold, {"a": "光荣", "b": "上海市"})
    overlap = 100 * (1 + 2 * (2 / 3) / (2 / 3 + 1)) / 3
    assert scores == {
        "AVERAGE": pytest.approx((100 / 3 + overlap) / 2),
        "F1": pytest.approx(overlap),
        "EM": pytest.approx(100 / 3),
        "TOTAL": 3,
        "SKIP": 1,
    }
    with pytest.raises(Refusal, match="question x has no answers"):
        cmrc.score_cmrc([("x", [])], {})


@pytest.mark.data
def test_the_real_chinese_dev_file(shared_data: Path) -> None:
    gold = dev(shared_data / "clue/cmrc2018/cmrc2018_dev.json")
    scores = cmrc.score_cmrc(gold, {q: answers[-1] for q, answers in gold})
    assert scores == {"AVERAGE": 100.0, "F1": 100.0, "EM": 100.0, "TOTAL": 3219, "SKIP": 0}
    short = [(q, answers[0]) for q, answers in gold if re.fullmatch("[\u4e00-\u9fa5]{4,}", answers[0])][:300]
    half = cmrc.score_cmrc([(q, [right]) for q, right in short], {q: right[: len(right) // 2] for q, right in short})
    shares = [len(right) // 2 / len(right) for _, right in short]
    assert half["EM"] == 0.0 and half["F1"] == pytest.approx(100 * sum(2 * x / (x + 1) for x in shares) / len(shares))
