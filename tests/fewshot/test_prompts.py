"""Prompts: the layout of GPT-3's figure 2.1, styles of tasks, demonstrations and what chance does to them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cloze.data.base import Choices, Labelled
from cloze.data.tasks.lambada import LastWord
from cloze.errors import Refusal
from cloze.fewshot.prompts import (
    STYLES,
    Asked,
    Demonstrations,
    Prompter,
    Questions,
    Template,
    chance,
    majority,
    style_of,
)

WORDS = [("brown", "braun"), ("red", "rot"), ("night", "Nacht"), ("milk", "Milch")]


def translations() -> list[Asked]:
    """A task in the manner of the figure, with words of our own."""
    template = Template("{context} =>", Choices)
    return [template.filled({"context": word}, [answer], 0) for word, answer in WORDS]


@pytest.mark.parametrize(
    ("shots", "expected"),
    [
        (0, "Translate English to German:\ncheese => "),
        (1, "Translate English to German:\n{0}\ncheese => "),
        (3, "Translate English to German:\n{0}\n{1}\n{2}\ncheese => "),
    ],
)
def test_the_layout_is_the_papers(shots: int, expected: str) -> None:
    """Description, k examples, the prompt, a line each (figure 2.1 of https://arxiv.org/abs/2005.14165)."""
    how = Demonstrations(separator="\\n")
    prompter = Prompter(translations(), shots, 1, how, "Translate English to German:")
    question = Template("{context} =>", Choices).filled({"context": "cheese"}, ["Kaese"], 0)
    asked = prompter.asked(question)
    shown = [each.solved(gold) for each, gold in prompter.demonstrations()]
    assert asked.before == expected.format(*shown)
    assert asked.solved(0) == f"{asked.before}Kaese"
    assert set(shown) <= {f"{word} => {answer}" for word, answer in WORDS} and len(set(shown)) == shots


def test_inference_as_the_issue_writes_it() -> None:
    template = "{first} Question: {second} True, False, or Neither? Answer:"
    words = {"entailment": "True", "contradiction": "False", "neutral": "Neither"}
    questions = Questions("own", Labelled(("a", "b")), list(words), template, words)
    asked = questions.asked(Labelled(("It rains.", "It is wet."), label="neutral"))
    assert asked == Asked(
        "It rains. Question: It is wet. True, False, or Neither? Answer: ", ("True", "False", "Neither"), "", 2
    )


def test_the_answer_may_stand_inside() -> None:
    asked = Template("{first} It was {answer} . {{so}}", Labelled).filled({"first": "Good."}, ["great", "awful"], 1)
    assert asked == Asked("Good. It was ", ("great", "awful"), " . {so}", 1)
    assert asked.solved(1) == "Good. It was awful . {so}"


def test_an_empty_field_takes_its_space_along() -> None:
    template = Template("{context} {question} {answer}", Choices)
    assert template.filled({"context": "He ate.", "question": ""}, ["Then"], 0).before == "He ate. "
    assert template.filled({"context": "He ate.", "question": "Why?"}, ["Then"], 0).before == "He ate. Why? "
    assert Template("{context}\\n", Choices).filled({"context": "He ate."}, ["Then"], 0).before == "He ate.\n"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("{frist}", Labelled, r"\{frist\} is not there; did you mean first\? Accepted: answer, first, second"),
        ("{first} {context}", Labelled, r"\{context\} is not there"),
        ("Answer: {answer}", Labelled, "shows nothing of an example: it must have {first} or {second}"),
        ("{first} {answer} {answer}", Labelled, "more than once"),
        ("{first} {", Labelled, "a brace that is text is written twice"),
    ],
)
def test_templates_that_cannot_be(text: str, kind: Any, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        Template(text, kind)


def test_every_style_is_a_template_with_words_of_its_own() -> None:
    for name, style in STYLES.items():
        Template(style.template, Labelled)
        assert style.template.endswith("{answer}"), name
        assert style.words


def test_a_task_is_known_by_its_name() -> None:
    one, two = Labelled(("a",)), Labelled(("a", "b"))
    assert style_of("SST-2", one) == style_of("glue/sst2", one) == STYLES["sst2"]
    assert style_of("mnli_mismatched", two) == STYLES["mnli"]
    assert style_of("my own", one).template == "{first}\nAnswer: {answer}"
    assert style_of("my own", two).template == "{first}\n{second}\nAnswer: {answer}"
    assert style_of("sst2", two) != STYLES["sst2"]  # one's own table of pairs that is called so
    choices = Choices(("a", "Why?"), options=("b", "c"), label=1)
    assert style_of("mnli", choices).template == "{context} {question} {answer}"
    assert Questions("copa", choices).asked(choices) == Asked("a Why? ", ("b", "c"), "", 1)
    blank = Choices(("a [MASK] b",), options=("b", "c"), label=1)
    assert Questions("lama", blank).asked(blank) == Asked("a ", ("b", "c"), " b", 1)
    assert Questions("lama", blank, template="{context}\\n").asked(blank) == Asked("a [MASK] b\n", ("b", "c"), "", 1)


def test_a_last_word_stands_where_it_stood() -> None:
    record = LastWord(("He said",), target="so.", gap="\n")
    assert Questions("lambada", record).asked(record) == Asked("He said\n", ("so.",), "", 0)
    assert Questions("lambada", record, template="{context} _ ->").asked(record).before == "He said _ -> "
    with pytest.raises(Refusal, match=r"\{question\} is not there"):
        Questions("lambada", record, template="{context} {question}")


def test_words_of_classes() -> None:
    record = Labelled(("a film",), label="1")
    known = Questions("sst2", record, ["0", "1"])
    assert known.asked(record).options == ("negative", "positive") and known.asked(record).gold == 1
    assert Questions("sst2", record, ["0", "1"], words={"1": "great"}).words == ("negative", "great")
    assert Questions("sst2", record, ["bad", "good"]).words == ("bad", "good")  # its own names are words
    with pytest.raises(Refusal, match=r"objective\.words\.2 is no class of sst2"):
        Questions("sst2", record, ["0", "1"], words={"2": "great"})
    with pytest.raises(Refusal, match="'great' stands for more than one class"):
        Questions("sst2", record, ["0", "1"], words={"1": "great", "0": "great"})
    with pytest.raises(Refusal, match="the answers of swag are texts, not classes"):
        Questions("swag", Choices(("a",), options=("b", "c")), words={"0": "x"})


# ------------------------------------------------------------------------------------------------------- demonstrations


def pool(sizes: dict[str, int]) -> tuple[Questions, list[Asked]]:
    classes = list(sizes)
    records = [Labelled((f"{name} {n}",), label=name) for name, size in sizes.items() for n in range(size)]
    questions = Questions("own", records[0], classes)
    return questions, [questions.asked(record) for record in records]


def labels(shown: list[tuple[Asked, int]]) -> Counter[str]:
    return Counter(each.options[gold] for each, gold in shown)


@pytest.mark.parametrize("shots", [1, 4, 6, 7, 20])
def test_balanced_draws_have_as_many_of_each_class_as_can_be(shots: int) -> None:
    _, examples = pool({"x": 40, "y": 30, "z": 3})
    for seed in range(20):
        shown = Prompter(examples, shots, seed).demonstrations()
        counts = labels(shown)
        assert len({id(each) for each, _ in shown}) == len(shown) == shots
        assert counts["z"] <= 3
        left = [counts[name] for name in "xy"]
        assert max(left) - min(left) <= 1
        assert counts["z"] == min(3, shots // 3) or (shots % 3 and counts["z"] == shots // 3 + 1)


def test_random_draws_are_as_the_split_is() -> None:
    _, examples = pool({"x": 300, "y": 100})
    total: Counter[str] = Counter()
    for seed in range(200):
        total += labels(Prompter(examples, 8, seed, Demonstrations(draw="random")).demonstrations())
    assert abs(total["x"] / 1600 - 0.75) < 4 * (0.75 * 0.25 / 1600) ** 0.5


def test_draws_depend_on_the_seed_and_the_example_alone() -> None:
    _, examples = pool({"x": 40, "y": 40})
    same, anew = Prompter(examples, 4, 1), Prompter(examples, 4, 1, Demonstrations(each="anew"))
    assert same.demonstrations(0) == same.demonstrations(7) == Prompter(examples, 4, 1).demonstrations(3)
    assert same.demonstrations(0) != Prompter(examples, 4, 2).demonstrations(0)
    assert anew.demonstrations(7) == Prompter(examples, 4, 1, Demonstrations(each="anew")).demonstrations(7)
    assert len({anew.asked(examples[0], n).before for n in range(10)}) == 10


def test_each_place_is_anybodys() -> None:
    """The order of demonstrations is by chance: no class stands always last, which small models would answer."""
    _, examples = pool({"x": 40, "y": 40})
    last = Counter(
        shown[-1][0].options[shown[-1][1]]
        for seed in range(400)
        if (shown := Prompter(examples, 4, seed).demonstrations())
    )
    assert abs(last["x"] - 200) < 4 * 10


@pytest.mark.parametrize("draw", ["balanced", "random"])
def test_shuffled_labels_keep_their_distribution_and_say_nothing(draw: Any) -> None:
    _, examples = pool({"x": 60, "y": 60})
    right = wrong = 0
    for seed in range(300):
        true = Prompter(examples, 6, seed, Demonstrations(draw=draw)).demonstrations()
        control = Prompter(examples, 6, seed, Demonstrations(draw=draw, shuffle_labels=True)).demonstrations()
        assert [each for each, _ in true] == [each for each, _ in control]
        assert labels(true) == labels(control)
        assert all(each.gold == gold for each, gold in true)
        right += sum(each.gold == gold for each, gold in control)
        wrong += sum(each.gold != gold for each, gold in control)
    share = right / (right + wrong)
    # two of three of each class: a label that changes places finds its own class with probability 1/2 (a little more at random)
    assert 0.45 < share < (0.55 if draw == "balanced" else 0.62)


def test_shuffled_options_stay_options() -> None:
    template = Template("{context}", Choices)
    examples = [
        template.filled({"context": f"c{n}"}, [f"o{i}" for i in range(2 + n % 3)], (2 + n % 3) - 1) for n in range(12)
    ]
    shown = Prompter(examples, 12, 3, Demonstrations(shuffle_labels=True)).demonstrations()
    assert all(0 <= gold < len(each.options) for each, gold in shown)
    assert any(gold != each.gold for each, gold in shown)


def test_more_demonstrations_than_there_are() -> None:
    _, examples = pool({"x": 2, "y": 1})
    with pytest.raises(Refusal, match=r"objective\.shots=4: there are 3 examples to draw demonstrations from"):
        Prompter(examples, 4, 1)
    assert len(Prompter(examples, 3, 1).demonstrations()) == 3


def test_what_guessing_gives() -> None:
    _, examples = pool({"x": 30, "y": 10})
    assert chance(examples) == 0.5
    assert majority(examples) == 0.75
    several = [Asked("a", ("b", "c"), gold=0), Asked("a", ("b", "c", "d", "e"), gold=0)]
    assert chance(several) == pytest.approx(0.375)
    assert majority(several) is None
