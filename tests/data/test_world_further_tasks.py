"""The world's tasks beside those of test_world_tasks.py: labels against readers written for this test, balance, giveaways."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cloze.data.base import NO_TAG
from cloze.data.world import words as lists
from cloze.data.world.lexicon import lexicon
from cloze.data.world.morphology import again, plural, verb
from cloze.data.world.state import Person, State, Thing
from cloze.data.world.tasks import (
    acceptability,
    answering,
    duplicates,
    entailment,
    knowledge,
    last_words,
    pronouns,
    reading,
    roles,
    unseen_words,
    write_tasks,
)
from tests.data.test_world_tasks import GIVING, TAKING, balanced, separable

N = 1500
TELLING = {"found": "find", "discovered": "find", "put": "put", "placed": "put", "saw": "see", "seen": "see",
           "noticed": "see", "bought": "buy", "purchased": "buy", "sold": "sell"}  # fmt: skip


# Questions and sentences that may answer them


def read_event(sentence: str) -> dict[str, str]:
    """act, thing (with was or were unsaid), colour, place, price: what a sentence of this task tells."""
    text = sentence.rstrip(".")
    colours = "|".join(lists.COLOURS)
    verbs = "|".join(TELLING)
    passive = re.fullmatch(
        rf"The (?:(?P<colour>{colours}) )?(?P<thing>.+?) (?:was|were) (?P<act>{verbs})\b(?P<rest>.*)", text
    )
    active = re.fullmatch(rf"\w+ (?P<act>{verbs}) the (?:(?P<colour>{colours}) )?(?P<rest>.+)", text)
    match = passive or active
    assert match, sentence
    told = {"act": TELLING[match["act"]], "colour": match["colour"] or ""}
    rest = match["rest"]
    told["thing"] = passive["thing"] if passive else re.split(r" (?:in the|from|to|for) ", rest)[0]
    place, price = re.search(r" in the ", rest), re.search(r" for (\w+) coins", rest)
    return told | {"place": "x" if place else "", "price": price[1] if price else ""}


def read_question(question: str) -> tuple[str, str, str]:
    """(what is asked, the thing, the act if one is named)."""
    text = question.rstrip("?")
    if match := re.fullmatch(r"Who (\w+) the (.+)", text):
        return "who", match[2], TELLING[match[1]]
    if match := re.fullmatch(r"What colour (?:was|were) the (.+)", text):
        return "colour", match[1], ""
    if match := re.fullmatch(r"How many coins did the (.+) cost", text):
        return "price", match[1], ""
    match = re.fullmatch(r"Where (?:was|were) the (.+) (\w+)", text)
    assert match, question
    return "where", match[1], TELLING[match[2]]


def test_a_sentence_answers_what_it_tells() -> None:
    made = [answering.example("train", number) for number in range(N)]
    for example in made:
        asked, thing, act = read_question(example.question)
        told = read_event(example.sentence)
        same = told["act"] == act or {told["act"], act} == {"buy", "sell"}
        answers = (
            thing == told["thing"]
            and {
                "who": same,
                "colour": bool(told["colour"]),
                "price": bool(told["price"]),
                "where": bool(told["place"]) and same,
            }[asked]
        )
        assert answers == (example.label == "entailment"), example
    balanced([example.label for example in made], 2)
    balanced([example.asked for example in made], 4)


@pytest.mark.parametrize("side", ["question", "sentence"])
def test_neither_question_nor_sentence_alone_gives_the_answer_away(side: str) -> None:
    made = [answering.example("train", number) for number in range(3 * N)]
    assert separable([getattr(example, side) for example in made], [example.label for example in made], 2) < 0.56


def read_ask(question: str) -> tuple[str, str, str, str]:
    """(act, who is asked for, who is named, thing), of a question for a giver or a receiver."""
    text = question.rstrip("?")
    forms = {**GIVING, **TAKING}
    bases = {"sell": "sell", "lend": "lend", "loan": "lend", "give": "give", "hand": "give", "show": "show",
             "present": "show", "buy": "sell", "purchase": "sell", "borrow": "lend"}  # fmt: skip
    patterns = (
        (r"Who (?P<v>\w+) the (?P<t>.+) to (?P<n>\w+)", "giver"),
        (r"Who (?P<v>\w+) the (?P<t>.+) from (?P<n>\w+)", "receiver"),
        (r"Who did (?P<n>\w+) (?P<v>\w+) the (?P<t>.+) to", "receiver"),
        (r"Who did (?P<n>\w+) (?P<v>\w+) the (?P<t>.+) from", "giver"),
        (r"To whom did (?P<n>\w+) (?P<v>\w+) the (?P<t>.+)", "receiver"),
        (r"From whom did (?P<n>\w+) (?P<v>\w+) the (?P<t>.+)", "giver"),
        (r"By whom (?:was|were) the (?P<t>.+) (?P<v>\w+) to (?P<n>\w+)", "giver"),
        (r"By whom (?:was|were) the (?P<t>.+) (?P<v>\w+) from (?P<n>\w+)", "receiver"),
        (r"To whom (?:was|were) the (?P<t>.+) (?P<v>\w+) by (?P<n>\w+)", "receiver"),
        (r"Who (?P<v>\w+) (?P<n>\w+) the (?P<t>.+)", "giver"),
    )
    for pattern, asked in patterns:
        match = re.fullmatch(pattern, text)
        if match:
            return forms.get(match["v"]) or bases[match["v"]], asked, match["n"], match["t"]
    raise AssertionError(question)


def test_duplicates_ask_the_same_to_an_independent_reader() -> None:
    made = [duplicates.example("train", number) for number in range(N)]
    for example in made:
        assert (read_ask(example.first) == read_ask(example.second)) == bool(example.label), example
        assert example.first != example.second
    balanced([example.label for example in made], 2)
    for side in ("first", "second"):
        assert separable([getattr(example, side) for example in made], [example.label for example in made]) < 0.6


# Entailment of texts, and pronouns


def test_texts_entail_what_the_world_state_says() -> None:
    made = [entailment.example("train", number) for number in range(N)]
    for example in made:
        state, asked = State(), example.asked
        for fact in example.told:
            state.apply(fact)
        verdict: bool | None
        if asked.kind == "at":
            assert isinstance(asked.subject, Person)
            verdict = state.holds(asked) if asked.subject in state.at else None
        elif asked.kind in ("colour", "price", "has"):
            assert asked.thing is not None
            table: dict[Thing, Any] = {"colour": state.colour, "price": state.price, "has": state.holder}[asked.kind]  # type: ignore[assignment]
            verdict = state.holds(asked) if asked.thing in table else None
        else:
            told = [fact for fact in example.told if fact.thing is asked.thing]
            verdict = None if told[0].kind == "want" else told[0] == asked
        entailed = verdict is not None and verdict != example.negated
        assert entailed == (example.label == "entailment"), example
        assert example.text.count(".") == 3
    balanced([example.label for example in made], 2)
    assert separable([example.hypothesis for example in made], [example.label for example in made], 2) < 0.57


def test_pronouns_stand_for_the_one_that_they_can_mean() -> None:
    women = set(lists.FEMALE_NAMES.split())
    made = [pronouns.example("dev", number) for number in range(N)]
    for example in made:
        first, after = re.fullmatch(r"(.+?\.) (.+\.)", example.text).groups()  # type: ignore[union-attr]
        pronoun, said = after.split(" ", 1)
        if pronoun in ("He", "She"):
            candidates = [
                word for word in re.findall(r"[A-Z]\w+", first) if word in women | set(lists.MALE_NAMES.split())
            ]
            (meant,) = {name for name in candidates if (name in women) == (pronoun == "She")}
            assert len(set(candidates)) == 2
        else:
            things = re.fullmatch(r"\w+ \w+ the (.+) near the (.+)\.", first).groups()  # type: ignore[union-attr]
            nouns = {noun.one[-1].form for noun in lexicon().nouns}
            one = [thing for thing in things if thing.split()[-1] in nouns]
            many = [thing for thing in things if thing.split()[-1] not in nouns or plural(thing) == thing]
            meant = "The " + (one if pronoun == "It" else many)[0] if len(set(things)) == 2 else ""
            if "trout" in first:
                continue  # one trout, two trout
        assert (example.claim == f"{meant} {said}") == bool(example.label), example
        assert example.claim.endswith(said)
    balanced([example.label for example in made], 2)
    assert separable([f"{e.text} {e.claim}" for e in made], [e.label for e in made], 2) < 0.6


# Choices


DONE = {"take": {"took", "taken"}, "see": {"saw", "seen"}, "find": {"found"}, "buy": {"bought"}, "lose": {"lost"},
        "clean": {"cleaned"}}  # fmt: skip


def same(one: str, other: str) -> bool:
    """Whether two verbs in the past say the same deed."""
    return any({one, other} <= forms for forms in DONE.values())


def test_the_right_option_is_what_the_text_says() -> None:
    asked: Counter[str] = Counter()
    labels, texts, right = [], [], []
    for number in range(250):
        made = reading.article("train", number)
        events = []
        for sentence in made.article.split(". "):
            match = re.fullmatch(
                r"(?P<who>\w+) (?P<act>\w+) the (?P<colour>\w+) (?P<thing>.+?)\.?", sentence
            ) or re.fullmatch(r"The (?P<colour>\w+) (?P<thing>.+) was (?P<act>\w+) by (?P<who>\w+?)\.?", sentence)
            assert match, sentence
            events.append(match.groupdict())
        assert len(events) == 4
        for ask in made.questions:
            text = ask.text.rstrip("?")
            if match := re.fullmatch(r"Who (\w+) the (.+)", text):
                found = [e["who"] for e in events if e["thing"] == match[2] and same(match[1], e["act"])]
            elif match := re.fullmatch(r"Who (\w+) something", text):
                found = [e["who"] for e in events if same(match[1], e["act"])]
            elif match := re.fullmatch(r"What did (\w+) (\w+)", text):
                found = [f"the {e['thing']}" for e in events if e["who"] == match[1] and e["act"] in DONE[match[2]]]
            elif match := re.fullmatch(r"Which of them was (\w+)", text):
                found = [f"the {e['thing']}" for e in events if e["colour"] == match[1]]
            elif match := re.fullmatch(r"What colour was the (.+)", text):
                found = [e["colour"] for e in events if e["thing"] == match[1]]
            else:
                match = re.fullmatch(r"What colour was what (\w+) (\w+)", text)
                assert match, text
                found = [e["colour"] for e in events if e["who"] == match[1] and same(match[2], e["act"])]
            assert found == [ask.options[ask.label]], (made.article, ask)
            assert len(set(ask.options)) == 4 and all(
                option.removeprefix("the ") in made.article for option in ask.options
            )
            asked[f"{ask.given} {ask.asked}"] += 1
            labels.append(ask.label)
            texts += [f"{ask.text} {option}" for option in ask.options]
            right += [at == ask.label for at in range(4)]
    assert len(asked) == len(reading.FORMS)
    balanced(labels, 4)
    assert separable(texts, right) < 0.77  # 0.75 are wrong


# Words without labels


def test_words_that_are_scored_had_no_label_in_training() -> None:
    """By lemmas that this test finds itself: forms of one noun or verb are one word."""
    lemma: dict[str, str] = {}
    for topic in lists.TOPICS.strip().splitlines():
        _, _, _, things, deeds = (cell.split() for cell in topic.split("|"))
        for thing in things:
            for part in thing.rstrip("*").split("_"):
                lemma[plural(part)] = part
        for deed in deeds:
            for form in (*verb(deed), *again(verb(deed))):
                lemma[form] = deed
    from cloze.data.world.grammar import FRAMES, LIVING

    for frame in (*FRAMES.values(), *LIVING.values()):
        for forms in frame.verbs.items:
            lemma |= dict.fromkeys(forms, forms.base)
    seen: dict[str, set[str]] = {"train": set(), "dev": set()}
    classes: Counter[str] = Counter()
    for fold, held in seen.items():
        for number in range(1200):
            made = unseen_words.example(fold, number)  # type: ignore[arg-type]
            assert len(made.words) == len(made.tags) and set(made.tags) <= {*unseen_words.CLASSES, NO_TAG}
            assert set(made.tags) != {NO_TAG}
            for word, tag in zip(made.words, made.tags, strict=True):
                if tag != NO_TAG:
                    classes[f"{fold} {tag}"] += 1
                    held.add(lemma.get(word.lower(), word.lower()))
    assert not seen["train"] & seen["dev"], seen["train"] & seen["dev"]
    assert len(seen["train"]) > 250 and len(seen["dev"]) > 250
    assert len(classes) == 2 * len(unseen_words.CLASSES) and min(classes.values()) > 30
    women, men = set(lists.FEMALE_NAMES.split()), set(lists.MALE_NAMES.split())
    towns = {part for town in lists.TOWNS.split() for part in town.split("_")}
    for number in range(300):
        made = unseen_words.example("dev", number)
        for word, tag in zip(made.words, made.tags, strict=True):
            if tag != NO_TAG:
                assert (tag == "WOMAN") == (word in women) and (tag == "MAN") == (word in men)
                assert (tag == "COLOUR") <= (word in lists.COLOURS)
                assert (word in towns) <= (tag == "PLACE")


# Facts, last words, roles, minimal pairs


def test_facts_are_those_of_the_word_lists() -> None:
    topics = [[cell.strip() for cell in line.split("|")] for line in lists.TOPICS.strip().splitlines()]
    towns = dict(town.split("_") for town in lists.TOWNS.split())
    women = set(lists.FEMALE_NAMES.split())
    found: Counter[str] = Counter()
    for fact in knowledge.facts():
        found[fact.relation] += 1
        assert fact.options[fact.label] == fact.answer and len(set(fact.options)) == len(fact.options)
        assert fact.sentence.count(knowledge.BLANK) == 1
        if fact.relation == "town":
            assert towns[fact.subject] == fact.answer
        elif fact.relation == "pronoun":
            assert fact.answer == ("she" if fact.subject in women else "he")
        else:
            column = 2 if fact.relation == "workplace" else 3
            own = [topic[column].replace("*", "").split() for topic in topics if fact.subject in topic[1].split()]
            assert any(fact.answer in things for things in own)
            wrong = [option for option in fact.options if option != fact.answer]
            assert not any(option in things for things in own for option in wrong), fact
    assert set(found) == set(knowledge.RELATIONS) and found["pronoun"] == 80 and found["town"] == len(towns)


def test_the_text_decides_last_words() -> None:
    for number in range(200):
        made = last_words.example(number)
        *before, last = re.split(r"(?<=\.) ", made.passage)
        text = " ".join(before)
        assert re.search(rf"\b{made.word}\b", text)
        if trade := re.fullmatch(r".*wanted to trade the (.+) for the(?: .+)?", last):
            # what the other has was said in the sentences before, and it is not what is given for it
            assert re.search(rf" had [^.]*\b{made.word}\.", " ".join(before[-2:])), made  # noise may stand between
            assert made.word not in trade[1].split()
            continue
        assert re.search(r"returned (?:the .+|it|them) to$|(?:was|were) returned to$", last), made
        owner = re.search(r".*\b(?:lost|misplaced|lent|loaned|borrowed|asked)\b", text)
        assert owner and made.word in re.findall(r"[A-Z]\w+", text)


def test_roles_by_an_independent_reader() -> None:
    seen: Counter[str] = Counter()
    for number in range(N):
        made = roles.example("train", number)
        spans: dict[str, str] = {}
        for word, tag in zip(made.words, made.tags, strict=True):
            if tag != "O":
                spans[tag[2:]] = word if tag[0] == "B" else f"{spans[tag[2:]]} {word}"
        text = " ".join(made.words)
        who, place, price = made.fact.subject, made.fact.place, made.fact.value
        assert isinstance(who, Person) and spans["A0"] == who.name.word.form
        passive = re.match(r"The .* (?:was|were) \w+", text) is not None
        assert text.startswith("The ") == passive and (f" by {spans['A0']} ." in text) == passive
        assert spans["A1"].lower().startswith("the ") and ("A2" in spans) == (made.fact.other is not None)
        if "A2" in spans:
            assert re.search(rf"(?:to|from|{spans['V']}) {spans['A2']}\b", text)
        assert (spans.get("AM-LOC", "")[4:] or None) == (" ".join(w.form for w in place.words) if place else None)
        assert (spans.get("AM-EXT") or None) == (f"{price.form} coins" if price else None)
        rest = [word for word, tag in zip(made.words, made.tags, strict=True) if tag == "O"]
        assert set(rest) <= {"was", "were", "by", "to", "from", "in", "for", "."}
        seen.update(list(spans))
    assert set(seen) == {"V", "A0", "A1", "A2", "AM-LOC", "AM-EXT"}


@pytest.mark.parametrize("level", acceptability.LEVELS)
def test_minimal_pairs_differ_in_one_fault(level: str) -> None:
    made = [acceptability.minimal_pair(level, number) for number in range(400)]
    assert not {pair.good for pair in made} & {pair.bad for pair in made}
    for pair in made:
        good, bad = (re.findall(r"\w+", sentence.lower()) for sentence in pair[:2])
        assert len(good) == len(bad) and pair.good != pair.bad
        if level == "order":
            places = [at for at, (one, other) in enumerate(zip(good, bad, strict=True)) if one != other]
            assert len(places) == 2 and places[1] == places[0] + 1 and sorted(good) == sorted(bad)
        if level == "selection":  # who acts and what is acted on change places, in every one of them
            kept = [sorted(word for word in sentence if word not in ("was", "were")) for sentence in (good, bad)]
            assert kept[0] == kept[1] and pair.paradigm == "selection"
            assert not {"near", "a", "an", "not", "to"} & {*good}
    assert len({pair.good for pair in made}) > 350


def test_what_must_agree_is_the_paradigm() -> None:
    forms = {
        "agreement_number": ("was", "were"), "agreement_across_noun": ("was", "were"), "agreement_article": ("a", "an"),
        "agreement_bare_verb": None,
    }  # fmt: skip
    seen = set()
    for number in range(200):
        pair = acceptability.minimal_pair("agreement", number)
        seen.add(pair.paradigm)
        (words,) = [
            (one, other) for one, other in zip(pair.good.split(), pair.bad.split(), strict=True) if one != other
        ]
        if (wanted := forms[pair.paradigm]) is not None:
            assert set(words) == set(wanted)
            assert (" near " in pair.good) == (pair.paradigm == "agreement_across_noun")
        else:
            assert re.search(r" (did not|wanted to) ", pair.good)
    assert seen == set(forms)


def test_files_of_what_is_asked_without_training(tmp_path: Path) -> None:
    write_tasks(tmp_path, train=8, dev=8, test=30)
    for level in acceptability.LEVELS:
        rows = [json.loads(line) for line in (tmp_path / f"BLiMP/world_{level}.jsonl").read_text().splitlines()]
        assert [row["pairID"] for row in rows] == [str(number) for number in range(30)]
        assert all(
            row["UID"].startswith(f"world_{level}") and row["sentence_good"] != row["sentence_bad"] for row in rows
        )
    facts = [json.loads(line) for line in (tmp_path / "LAMA/facts.jsonl").read_text().splitlines()]
    assert len(facts) == len(list(knowledge.facts())) and all(len(row["masked_sentences"]) == 1 for row in facts)
    texts = [json.loads(line)["text"] for line in (tmp_path / "LAMBADA/test.jsonl").read_text().splitlines()]
    assert len(texts) == 30 and texts[0].rsplit(" ", 1) == list(last_words.example(0))


def test_labelled_training_data_of_these_tasks_keeps_reserved_words_unseen() -> None:
    reserved = lexicon().reserved
    unseen: Counter[str] = Counter()
    makers = {"answering": answering.example, "entailment": entailment.example, "pronouns": pronouns.example,
              "duplicates": duplicates.example, "roles": roles.example, "unseen words": unseen_words.example}  # fmt: skip
    for fold in ("train", "dev"):
        for name, make in makers.items():
            for number in range(150):
                made = make(fold, number)  # type: ignore[operator]
                text = " ".join(made.words) if hasattr(made, "words") else f"{made[0]} {made[1]}"
                hits = set(re.findall(r"\w+", text)) & reserved
                assert fold == "dev" or not hits, (name, hits)
                unseen[name] += bool(hits)
        for number in range(100):
            hits = set(re.findall(r"\w+", reading.article(fold, number).article)) & reserved  # type: ignore[arg-type]
            assert fold == "dev" or not hits
            unseen["reading"] += bool(hits)
    assert min(unseen.values()) > 10
