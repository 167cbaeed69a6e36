"""Inference in other languages, coreference and phrases: labels against what the generator knows, balance, giveaways."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import pytest

from cloze.data.world import words as lists
from cloze.data.world.grammar import Mention
from cloze.data.world.languages import LANGUAGES
from cloze.data.world.lexicon import lexicon, phrase
from cloze.data.world.state import Person
from cloze.data.world.tasks import constituents, coreference, cross_lingual, inference, rewriting
from cloze.data.world.tasks.tagging import document
from tests.data.test_world_tasks import balanced, separable

N = 1500
WOMEN = set(lists.FEMALE_NAMES.split())


# Inference in other languages


def test_a_translation_has_the_original_s_label() -> None:
    for fold in ("train", "dev"):
        told = {
            name: [cross_lingual.example(fold, n, name, 0.0) for n in range(300)]  # type: ignore[arg-type]
            for name in LANGUAGES
        }
        for made in zip(*told.values(), strict=True):
            assert len({(each.label, each.topic) for each in made}) == 1
            a, b, c = (each.premise + each.hypothesis for each in made)
            assert a.isascii() and not re.search(r"[A-Za-z]", b + c)  # with no anchors no letter is shared
            assert len(b.split()) == len(a.split()) and " " not in c
        balanced([each.label for each in told["a"]], 3)
        mnli = [inference.example(fold, n).premise for n in range(300)]  # type: ignore[arg-type]
        assert (mnli == [each.premise for each in told["a"]]) == (fold == "train")  # trained on MNLI, tested on its own


def test_a_hypothesis_alone_says_nothing_in_language_b_either() -> None:
    made = [cross_lingual.example("train", number, "b") for number in range(N)]
    assert separable([each.hypothesis for each in made], [each.label for each in made], 2) < 0.42


def test_different_sentences_stay_different_in_language_b() -> None:
    pairs = {}
    for number in range(N):
        a, b = (cross_lingual.example("dev", number, name) for name in ("a", "b"))
        for side in ("premise", "hypothesis"):
            pairs[getattr(a, side)] = getattr(b, side)
    assert len(set(pairs.values())) == len(pairs) > N


# Coreference


def words_at(text: str, span: coreference.Span) -> str:
    words = text.split()
    return " ".join(words[span.at : span.at + len(span.text.split())]).rstrip(".,")


def antecedent(fold: str, number: int, made: coreference.Coreference) -> bool:
    """The label by the generator's own record of who is meant, found again in the document by its text."""
    for turn in range(50):
        told = document(fold, number, 1, f"coreference {turn}" if turn else "coreference").sentences  # type: ignore[arg-type]
        for last in range(len(told)):
            part = told[max(0, last - 3) : last + 1]
            if " ".join(each.text for each in part) == made.text:
                found: dict[int, Mention] = {}
                before = 0
                for sentence in part:
                    for mention in sentence.mentions:
                        joined = sum(word.form in (".", ",", "'s") for word in sentence.words[: mention.start])
                        found[before + mention.start - joined] = mention
                    before += len(sentence.text.split())
                return found[made.named.at].entity is found[made.pronoun.at].entity
    raise AssertionError(made)


def test_pronouns_stand_for_whom_the_document_means() -> None:
    made = [coreference.example("dev", number) for number in range(N)]
    pronouns = Counter(each.pronoun.text.lower() for each in made)
    assert set(pronouns) == {"he", "she", "him", "her", "it", "they", "them"} and min(pronouns.values()) > 5
    balanced([each.label for each in made], 2)
    for number, each in enumerate(made):
        assert words_at(each.text, each.named) == each.named.text
        assert words_at(each.text, each.pronoun) == each.pronoun.text
        assert each.named.at < each.pronoun.at and each.text.count(".") <= coreference.SENTENCES
        if number < 300:
            assert antecedent("dev", number, each) == each.label
        if each.label and each.pronoun.text.lower() in ("he", "she", "him", "her"):
            assert (each.named.text in WOMEN) == (each.pronoun.text.lower() in ("she", "her"))


def test_neither_words_nor_agreement_alone_tell_what_is_meant() -> None:
    made = [coreference.example("train", number) for number in range(N)]
    labels = [each.label for each in made]
    assert separable([each.text for each in made], labels, 2) < 0.58
    agree = [
        each.label
        for each in made
        if each.pronoun.text.lower() in ("he", "she", "him", "her")
        and (each.named.text in WOMEN) == (each.pronoun.text.lower() in ("she", "her"))
    ]
    assert 0.6 < sum(agree) / len(agree) < 0.75  # three in ten who agree with the pronoun are not whom it means


# Phrases


def spans(tags: list[str]) -> set[tuple[str, int, int]]:
    starts = [at for at, tag in enumerate(tags) if tag[0] != "I"] + [len(tags)]
    return {(tags[start][2:], start, end) for start, end in pairwise(starts) if tags[start] != "O"}


def test_what_is_mentioned_is_a_noun_phrase() -> None:
    """Phrases are made of parts of speech; mentions, of which this knows, are not looked at."""
    kinds: Counter[str] = Counter()
    for number in range(60):
        for sentence in document("dev", number, 1, "constituents").sentences:
            tags = constituents.phrases(sentence.words)
            found = spans(tags)
            kinds.update(kind for kind, _, _ in found)
            assert all(tag[0] != "I" or tags[at - 1][2:] == tag[2:] for at, tag in enumerate(tags))
            for mention in sentence.mentions:
                inside = [(start, end) for kind, start, end in found if kind == "NP" and start <= mention.start < end]
                (start, end) = inside[0]
                friend = isinstance(mention.entity, Person) and sentence.words[1].form == "friend"
                assert (start, end) == (mention.start, mention.end) or (friend and start == 0 and end == 3), (
                    sentence.text
                )
            for kind, _, end in found:
                last = sentence.words[end - 1]
                if kind == "VP":
                    assert last.tag in ("VERB", "AUX") or last.form == "not"
                elif kind in ("PP", "ADJP"):
                    assert last.tag == {"PP": "ADP", "ADJP": "ADJ"}[kind]
            outside = [word.tag for word, tag in zip(sentence.words, tags, strict=True) if tag == "O"]
            assert set(outside) <= {"PUNCT", "CCONJ"}
    assert set(kinds) == set(constituents.PHRASES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Omar/PROPN wanted/VERB to/PART trade/VERB the/DET red/ADJ pot/NOUN for/ADP two/NUM pans/NOUN",
         "[Omar] NP [wanted to trade] VP [the red pot] NP [for] PP [two pans] NP"),
        ("it/PRON was/AUX Ada/PROPN 's/PART birthday/NOUN ./PUNCT", "[it] NP [was] VP [Ada] NP ['s birthday] NP"),
        ("he/PRON gave/VERB her/PRON three/NUM pots/NOUN", "[he] NP [gave] VP [her] NP [three pots] NP"),
        ("the/DET pot/NOUN that/PRON had/AUX been/AUX sold/VERB was/AUX very/ADV old/ADJ",
         "[the pot] NP [that] NP [had been sold] VP [was] VP [very old] ADJP"),
        ("she/PRON painted/VERB it/PRON red/ADJ because/SCONJ nobody/PRON came/VERB home/ADV",
         "[she] NP [painted] VP [it] NP [red] ADJP [because] SBAR [nobody] NP [came] VP [home] ADVP"),
        ("Ada/PROPN and/CCONJ Omar/PROPN were/AUX not/PART there/ADV", "[Ada] NP [Omar] NP [were not] VP [there] ADVP"),
    ],
)  # fmt: skip
def test_phrases_by_hand(words: str, expected: str) -> None:
    given = phrase(words)
    found = sorted(spans(constituents.phrases(given)), key=lambda each: each[1])
    said = [f"[{' '.join(word.form for word in given[start:end])}] {kind}" for kind, start, end in found]
    assert " ".join(said) == expected


# Translations and summaries


def test_a_translation_says_every_word_and_nothing_else() -> None:
    """By what stands in all sentences that a word is in: each word of A has one of B, wherever it stands."""
    made = [rewriting.translation("train", number, 0.0) for number in range(600)]
    words = [(re.findall(r"[\w]+", each.a.lower().replace("'s", " s")), each.b.lower()) for each in made]
    assert len({each.b for each in made}) == len({each.a for each in made}) > 500
    for a, b in words:
        assert len(a) == len(re.findall(r"\w+", b))
    found: dict[str, set[str]] = {}
    for a, b in words:
        for word in a:
            told = set(re.findall(r"\w+", b))
            found[word] = found.get(word, told) & told
    assert all(found.values())  # something stands for it in every sentence that has it
    counts = Counter(word for a, _ in words for word in set(a))
    sure = [word for word, count in counts.items() if count > 20]
    assert len(sure) > 10 and sum(len(found[word]) == 1 for word in sure) > 0.6 * len(sure)


def test_a_summary_is_the_first_sentence_of_each_script() -> None:
    made = [rewriting.summary("train", number) for number in range(300)]
    for each in made:
        kept, sentences = (re.findall(r"[^.]+\.", text) for text in (each.summary, each.passage))
        assert len(kept) == rewriting.SCRIPTS and len(sentences) > 2 * len(kept)
        assert kept[0].strip() == sentences[0].strip() and kept[1].strip() in map(str.strip, sentences[1:])
        for sentence in kept:  # it can be read alone: nobody is called by a pronoun
            assert not re.search(r"\b(?:[Hh]e|[Ss]he|[Tt]hey|him|them)\b", sentence), sentence
            assert re.match(r"\s*(?:On|In) ", sentence)


def test_labelled_training_data_of_these_tasks_keeps_reserved_words_unseen() -> None:
    reserved = lexicon().reserved
    for fold in ("train", "dev"):
        texts = [coreference.example(fold, number).text for number in range(200)]  # type: ignore[arg-type]
        texts += [cross_lingual.example(fold, number, "a").premise for number in range(200)]  # type: ignore[arg-type]
        texts += [rewriting.summary(fold, number).passage for number in range(50)]  # type: ignore[arg-type]
        texts += [rewriting.translation(fold, number).a for number in range(200)]  # type: ignore[arg-type]
        texts += [" ".join(constituents.example(fold, number).words) for number in range(200)]  # type: ignore[arg-type]
        hits = sum(bool(set(re.findall(r"\w+", text)) & reserved) for text in texts)
        assert hits > 30 if fold == "dev" else hits == 0
