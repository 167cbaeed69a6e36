"""The sentence splitter against sentences cut by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloze.data.base import Text
from cloze.data.sentences import sentences_of, split_sentences

CUT_BY_HAND = [
    ["Mr. Hyde paid 3.50 dollars.", "Why?", "Nobody knew."],
    ["A book by G.K. Chesterton lay there.", "It was new."],
    ["The house of J. R. Hartley stood on Mt. Pleasant.", "It was old."],
    ["Use a list, e.g. one of names, i.e. strings.", "See Fig. 3 for more."],
    ["She said no.", "Then she left at 5 p.m. and slept."],
    ["“Stop!” she cried.", "“Why should I?”", "He went on."],
    ["It costs $5.", "(That is much.)", "We paid."],
    ["Wait... what is this?", "Nothing!"],
    ["It was I.", "You knew."],
    ["It ended in 1999.", "2000 came."],
    ["Überall war Stille.", "Äpfel fielen."],
]


@pytest.mark.parametrize("sentences", CUT_BY_HAND)
def test_cut_by_hand(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == sentences


def test_scripts_without_spaces() -> None:
    assert split_sentences("今天下雨。你去吗？「不去！」他说。") == ["今天下雨。", "你去吗？", "「不去！」", "他说。"]


def test_white_space_of_every_kind_is_one_space() -> None:
    assert split_sentences(" One\u2028two\x85three\x0cfour.\r\n  Five\u00a0six. ") == [
        "One two three four.",
        "Five six.",
    ]
    assert split_sentences(" \n\t ") == []


def test_paragraphs_end_in_newlines() -> None:
    sentences = sentences_of(["One. Two.", "  ", "Three."])
    assert sentences == ("One.", "Two.\n", "Three.")
    assert Text(sentences).text == "One. Two.\nThree."


@given(st.text(alphabet=st.sampled_from("abAB. !?。…\n\"')(1"), max_size=60))
def test_nothing_is_lost(text: str) -> None:
    sentences = split_sentences(text)
    assert all(sentence == sentence.strip() and sentence for sentence in sentences)
    assert "".join("".join(sentences).split()) == "".join(text.split())
