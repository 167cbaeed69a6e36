"""The world's tasks: labels against an independent reading of the sentences, balance, artefacts, and the originals' layouts."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from cloze.data.world import words as lists
from cloze.data.world.lexicon import lexicon
from cloze.data.world.state import Fact, Person, State, Thing
from cloze.data.world.tasks import (
    acceptability,
    continuation,
    inference,
    paraphrase,
    questions,
    sentiment,
    similarity,
    tagging,
    write_tasks,
)
from cloze.data.world.tasks.scene import HELD_OUT
from cloze.errors import Refusal

N = 1500


def balanced(labels: list[Any], classes: int) -> None:
    """Every class within 4 standard deviations of an equal share."""
    share = 1 / classes
    slack = 4 * math.sqrt(share * (1 - share) / len(labels))
    counts = Counter(labels)
    assert len(counts) == classes
    assert all(abs(count / len(labels) - share) < slack for count in counts.values()), counts


def separable(texts: list[str], labels: list[Any], ngrams: int = 1) -> float:
    """Test accuracy of a linear model on counts of words: what the words alone give away."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    features = CountVectorizer(ngram_range=(1, ngrams), token_pattern=r"\w+").fit_transform(texts)
    half = len(texts) * 2 // 3
    model = LogisticRegression(max_iter=300, C=0.3).fit(features[:half], labels[:half])
    return float(model.score(features[half:], labels[half:]))


# A reader of transfers that knows nothing of the generator: who had it, who has it, what was done, to what

GIVING = {"gave": "give", "handed": "give", "given": "give", "showed": "show", "shown": "show", "presented": "show",
          "lent": "lend", "loaned": "lend", "sold": "sell"}  # fmt: skip
TAKING = {"bought": "sell", "purchased": "sell", "borrowed": "lend"}


def read_transfer(sentence: str) -> tuple[str, str, str, str]:
    """(act, giver, receiver, thing) of "Nora gave Omar the pot", "The pot was bought by Omar from Nora", …"""
    text = sentence.rstrip(".")
    passive = re.fullmatch(
        r"The (?P<thing>.+?) (?:was|were) (?P<verb>\w+) (?:to|from) (?P<other>\w+) by (?P<subject>\w+)", text
    )
    dative = re.fullmatch(r"(?P<subject>\w+) (?P<verb>\w+) (?P<other>\w+) the (?P<thing>.+)", text)
    plain = re.fullmatch(r"(?P<subject>\w+) (?P<verb>\w+) the (?P<thing>.+) (?:to|from) (?P<other>\w+)", text)
    match = passive or plain or dative
    assert match, sentence
    if match["verb"] in GIVING:
        return GIVING[match["verb"]], match["subject"], match["other"], match["thing"]
    return TAKING[match["verb"]], match["other"], match["subject"], match["thing"]


def test_paraphrases_mean_the_same_to_an_independent_reader() -> None:
    made = [paraphrase.example("train", number) for number in range(N)]
    for example in made:
        same = read_transfer(example.first) == read_transfer(example.second)
        assert same == bool(example.label), example
        assert example.first != example.second
    balanced([example.label for example in made], 2)


def test_overlap_of_words_does_not_give_paraphrases_away() -> None:
    made = [paraphrase.example("train", number) for number in range(N)]
    overlaps: dict[int, list[float]] = {0: [], 1: []}
    for example in made:
        first, second = set(example.first.lower().split()), set(example.second.lower().split())
        overlaps[example.label].append(len(first & second) / len(first | second))
    means = [sum(values) / len(values) for values in overlaps.values()]
    assert abs(means[0] - means[1]) < 0.2
    below = sum(a < b for a in overlaps[0][:400] for b in overlaps[1][:400]) / 160_000
    assert below < 0.75  # area under the curve of "much overlap = paraphrase"
    assert separable([example.second for example in made], [example.label for example in made]) < 0.6


def test_unacceptable_sentences_are_never_acceptable_ones() -> None:
    made = [acceptability.example("train", number) for number in range(3 * N)]
    good = {example.twin for example in made}
    for example in made:
        assert (example.sentence == example.twin) == bool(example.label)
        assert len(example.sentence.split()) == len(example.twin.split())
        if not example.label:
            assert example.sentence not in good
    assert {example.level for example in made} == set(acceptability.LEVELS)
    balanced([example.label for example in made], 2)
    lengths = [[len(e.sentence.split()) for e in made if e.label == label] for label in (0, 1)]
    assert abs(sum(lengths[0]) / len(lengths[0]) - sum(lengths[1]) / len(lengths[1])) < 0.25


def test_acceptability_by_an_independent_checker() -> None:
    """Rules of English written for this test: articles, was and were, bare verbs, who can act, where articles stand."""
    words = lexicon()
    one = {" ".join(word.form for word in noun.one) for noun in words.nouns}
    many = {" ".join(word.form for word in noun.many) for noun in words.nouns}
    names = {name.word.form for topic in words.topics for name in topic.names.items}
    adjectives = {a.word.form for topic in words.topics for a in (*topic.good.items, *topic.bad.items)}
    adjectives |= {colour.form for colour in words.colours.items}

    def fault(sentence: str) -> bool:
        text = sentence.rstrip(".")
        low = text[0].lower() + text[1:]
        for a, following in re.findall(r"\b(an?) (\w+)", low):
            if (a == "an") != (following[0] in "aeiou" and not following.startswith("use")):
                return True
        subject = re.match(r"the ((?:\w+ )+?)(?:near the .+? )?(was|were) ", low)
        if subject:
            noun = " ".join(word for word in subject[1].split() if word not in adjectives)
            if noun not in (one if subject[2] == "was" else many):
                return True
        if re.search(r"\b(did not|to) (took|gave|found)\b", low):
            return True
        if re.search(r"\bby the\b", low) or (
            re.match(r"the .* \w+ ?(\w+)$", low) and low.split()[-1] in names and "by" not in low.split()
        ):
            return True  # things do not act
        tokens = low.split()
        for at, token in enumerate(tokens):
            after = tokens[at + 1] if at + 1 < len(tokens) else ""
            known = after in adjectives or any(noun.split()[0] == after for noun in one | many)
            place = any(after == place[0].form for topic in words.topics for place in topic.places.items)
            if (
                token in adjectives
                and at
                and tokens[at - 1] not in ("the", "was", "were", "a", "an")
                and token not in one
            ):
                return True
            if token == "the" and not (known or place):
                return True
            if token in ("to", "in", "from", "by") and not (
                after == "the" or after in names or (token == "to" and "wanted" in tokens)
            ):
                return True
        return tokens[0] not in ("the",) and text.split()[0] not in names

    for number in range(N):
        example = acceptability.example("dev", number)
        assert fault(example.sentence) != bool(example.label), example


def test_sentiment_by_counting_negations() -> None:
    good = {a.word.form for topic in lexicon().topics for a in topic.good.items}
    made = [sentiment.example("dev", number) for number in range(N)]
    for example in made:
        words = example.sentence.lower().rstrip(".").split()
        negations = sum(word in ("not", "never", "nobody") for word in words)
        assert (words[-1] in good) == (bool(example.label) != bool(negations)), example
    balanced([example.label for example in made], 2)
    balanced([example.negated for example in made], 2)
    assert separable([example.sentence for example in made], [example.label for example in made]) < 0.62


def test_similarity_is_the_share_of_common_facts() -> None:
    verbs = {"found": 0, "discovered": 0, "put": 1, "placed": 1, "saw": 2, "seen": 2, "noticed": 2}
    for number in range(N):
        example = similarity.example("train", number)
        facts = []
        for sentence in (example.first, example.second):
            text = sentence.rstrip(".")
            match = re.fullmatch(
                r"(?P<who>\w+) (?P<verb>\w+) the (?P<colour>\w+) (?P<thing>.+) in the (?P<place>.+)", text
            ) or (
                re.fullmatch(
                    r"The (?P<colour>\w+) (?P<thing>.+) w(?:as|ere) (?P<verb>\w+) in the (?P<place>.+) by (?P<who>\w+)",
                    text,
                )
            )
            assert match, sentence
            facts.append(
                {("verb", verbs[match["verb"]]), *((k, match[k]) for k in ("who", "colour", "thing", "place"))}
            )
        assert example.score == pytest.approx(5 * len(facts[0] & facts[1]) / len(facts[0] | facts[1]), abs=1e-3)
        assert example.first != example.second
    scores = [similarity.example("train", number).score for number in range(N)]
    assert min(scores) == 0.0 and max(scores) == 5.0
    balanced(scores, 6)


def test_inference_labels_follow_from_the_world_state() -> None:
    """The premise's facts are put into a state; what the state says of the hypothesis must be the label."""
    made = [inference.example(fold, number) for fold in ("train", "mismatched") for number in range(N)]  # type: ignore[arg-type]
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
        else:  # one event was told: it is this one, or this one with the roles changed
            told = example.told[0]
            verdict = None if told.kind == "want" else told == asked
        expected = "neutral" if verdict is None else "entailment" if verdict != example.negated else "contradiction"
        assert example.label == expected, example
    balanced([example.label for example in made], 3)
    for label in get_args(inference.Label):
        balanced([example.negated for example in made if example.label == label], 2)
        balanced([example.family for example in made if example.label == label], len(inference.FAMILIES))


def test_a_hypothesis_alone_says_nothing() -> None:
    made = [inference.example("train", number) for number in range(3 * N)]
    texts, labels = [example.hypothesis for example in made], [example.label for example in made]
    assert separable(texts, labels, ngrams=2) < 0.40


def test_mismatched_topics_are_of_no_other_fold() -> None:
    topics = {
        fold: {inference.example(fold, number).topic for number in range(400)}
        for fold in ("train", "dev", "mismatched")
    }  # type: ignore[arg-type]
    assert not (topics["train"] | topics["dev"]) & topics["mismatched"]
    assert len(topics["mismatched"]) == 48 // HELD_OUT


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_answers_stand_in_their_context(version: str) -> None:
    from cloze.data.world.tasks.write import squad

    data: Any = squad("dev", 300, version)
    rows = [(p["context"], row) for article in data["data"] for p in article["paragraphs"] for row in p["qas"]]
    assert len(rows) == 300 and len({row["id"] for _, row in rows}) == 300
    assert len({(context, row["question"]) for context, row in rows}) == 300
    for context, row in rows:
        for answer in row["answers"]:
            start = answer["answer_start"]
            assert context[start : start + len(answer["text"])] == answer["text"] != ""
            assert not (context[start - 1 : start] + context[start + len(answer["text"])]).isalnum()
    if version == "2.0":
        impossible = [row["is_impossible"] for _, row in rows]
        assert impossible == [not row["answers"] for _, row in rows]
        balanced(impossible, 2)
        kinds = [" ".join(row["question"].split()[:2]) for _, row in rows]
        assert separable([kind.replace(" ", "_") for kind in kinds], impossible) < 0.6


def test_answers_are_the_only_ones() -> None:
    """By this test's own search in text and facts: one answer where there is one, and none for the twins."""
    same = {"buy": ("buy", "sell"), "borrow": ("borrow", "lend")}
    asked: Counter[str] = Counter()
    for number in range(120):
        document = tagging.document("dev", number, task="questions")
        asker = questions.Asker(document)
        text = asker.context
        facts = [fact for sentence in document.sentences for fact in sentence.facts]

        def doers(kind: str, about: object, facts: list[Fact] = facts) -> set[object]:
            """Who did it: the subject, or the other party of the converse event."""
            act = kind.removeprefix("who ")
            found = [
                fact for fact in facts if fact.thing is about and fact.kind in same.get(act, (act,)) and fact.subject
            ]
            return {fact.subject if fact.kind == act else fact.other for fact in found}

        for question in asker.questions():
            kind = question.kind.split()[0]
            asked[kind] += 1
            if isinstance(question.about, Person):
                name = question.about.name.word.form
                pattern = {
                    "role": rf"(?:{name}(?:,| was|, who was) an? |There was an? (?=\w+ called {name}))(\w+)",
                    "home": rf"{name}[^.]* in (\w+ \w+)\.",
                    "where": r"travelled to (\w+ \w+) with",
                }[kind]
                match = re.search(pattern, text)
                assert match and match[1] == question.answer, (question, text)
                continue
            one, many = (
                " ".join(word.form for word in words) for words in (question.about.noun.one, question.about.noun.many)
            )
            if kind == "who":
                (doer,) = doers(question.kind, question.about)
                assert isinstance(doer, Person) and doer.name.word.form == question.answer
            elif kind == "colour":
                first = re.search(rf"(?:[Aa]n?|[Tt]he|{'|'.join(lists.NUMBERS)}) (\w+) (?:{one}|{many})\b", text)
                assert first and first[1] == question.answer, (question, text)
            elif kind == "count":
                first = re.search(rf"({'|'.join(lists.NUMBERS)}) (?:\w+ )?{many}\b", text)
                assert first and first[1] == question.answer, (question, text)
            else:
                assert kind == "cost" and f"{question.answer} coins" in text
        for question in asker.unanswerable():
            assert (question.answer, question.start) == ("", -1)
            if question.kind.startswith("who "):
                assert not doers(question.kind, question.about)
            elif question.kind == "colour":
                assert not any(fact.kind == "colour" and fact.thing is question.about for fact in facts)
            elif question.kind == "home":
                assert not any(fact.kind == "lives" and fact.subject is question.about for fact in facts)
            asked["nobody"] += 1
    assert all(asked[kind] > 20 for kind in ("who", "colour", "count", "cost", "role", "home", "where", "nobody")), (
        asked
    )


def test_one_ending_alone_is_possible() -> None:
    made = [continuation.example("train", number) for number in range(N)]
    for example in made:
        state = State()
        for fact in example.told:
            state.apply(fact)
        possible = [_can_happen(act, state) for act in example.acts]
        assert [at for at, can in enumerate(possible) if can] == [example.label], example
        assert len(set(example.endings)) == 4
    balanced([example.label for example in made], 4)
    # what ending it is says nothing: right and wrong ones are drawn alike
    texts = [ending for example in made for ending in example.endings]
    labels = [at == example.label for example in made for at in range(4)]
    assert separable(texts, labels) < 0.77  # 0.75 are wrong


def _can_happen(act: Fact, state: State) -> bool:
    assert act.thing is not None
    return {
        "repair": state.damaged.get(act.thing, False),
        "find": state.lost.get(act.thing, False),
        "clean": state.dirty.get(act.thing, False),
        "return": state.holder.get(act.thing) is act.subject,
    }[act.kind]  # type: ignore[index]


def test_labelled_training_data_keeps_reserved_words_unseen() -> None:
    reserved = lexicon().reserved
    modules = (acceptability, sentiment, paraphrase, similarity, inference, continuation)
    unseen = 0
    for module in modules:
        for fold in ("train", "dev"):
            for number in range(200):
                text = " ".join(
                    str(field)
                    for field in module.example(fold, number)
                    if isinstance(field, str | tuple) and not _has_facts(field)
                )  # type: ignore[attr-defined]
                hits = set(re.findall(r"\w+", text)) & reserved
                assert fold == "dev" or not hits
                unseen += bool(hits)
    assert unseen > 100
    for number in range(50):
        assert not any(tagging.reserved_in(s, reserved) for s in tagging.document("train", number).sentences)
    assert any(
        tagging.reserved_in(s, reserved) for number in range(20) for s in tagging.document("dev", number).sentences
    )


def _has_facts(field: object) -> bool:
    return isinstance(field, tuple) and not all(isinstance(item, str) for item in field)


# Layouts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(folder, train=64, dev=80, test=16)
    return folder


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines()]


def test_glue_layouts(folder: Path) -> None:
    """Columns of the originals (first column is 0) and rows; test files have no label."""
    cola = rows(folder / "CoLA/train.tsv")
    assert len(cola) == 64 and all(
        len(row) == 4 and row[1] in "01" and row[2] == ("*" if row[1] == "0" else "") for row in cola
    )
    assert rows(folder / "CoLA/test.tsv")[0] == ["index", "sentence"]
    sst = rows(folder / "SST-2/dev.tsv")
    assert sst[0] == ["sentence", "label"] and len(sst) == 81 and all(row[1] in "01" for row in sst[1:])
    assert (
        (folder / "MRPC/train.tsv")
        .read_bytes()
        .startswith(b"\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n")
    )
    assert rows(folder / "MRPC/test.tsv")[0][0] == "index"
    sts = rows(folder / "STS-B/dev.tsv")
    assert sts[0][7:] == ["sentence1", "sentence2", "score"] and all(0 <= float(row[9]) <= 5 for row in sts[1:])
    assert len(rows(folder / "STS-B/test.tsv")[0]) == 9
    for name, columns in (
        ("train", 12),
        ("dev_matched", 16),
        ("dev_mismatched", 16),
        ("test_matched", 10),
        ("test_mismatched", 10),
    ):
        mnli = rows(folder / f"MNLI/{name}.tsv")
        assert all(len(row) == columns for row in mnli)
        assert mnli[0][8:10] == ["sentence1", "sentence2"]
        if columns > 10:
            assert mnli[0][-1] == "gold_label" and {row[-1] for row in mnli[1:]} <= {
                "entailment",
                "neutral",
                "contradiction",
            }
    texts = [
        row[8:10] for name in ("dev_mismatched", "test_mismatched") for row in rows(folder / f"MNLI/{name}.tsv")[1:]
    ]
    assert texts[:16] != texts[80:96]


def test_tagging_layouts(folder: Path) -> None:
    tags = "NOUN PROPN VERB AUX ADJ ADV PRON DET ADP NUM CCONJ SCONJ PART PUNCT".split()
    blocks = (folder / "POS/world-dev.conllu").read_text().strip().split("\n\n")
    for block in blocks:
        lines = block.split("\n")
        text = next(line for line in lines if line.startswith("# text = ")).removeprefix("# text = ")
        cells = [line.split("\t") for line in lines if not line.startswith("#")]
        assert all(len(row) == 10 and row[3] in tags for row in cells)
        assert [row[0] for row in cells] == [str(number + 1) for number in range(len(cells))]
        assert "".join(row[1] + ("" if "SpaceAfter=No" in row[9] else " ") for row in cells).strip() == text
    found: Counter[str] = Counter()
    before = "O"
    for line in (folder / "NER/dev.txt").read_text().splitlines():
        cells_ = line.split(" ")
        tag = cells_[3] if line else "O"
        assert not line or len(cells_) == 4
        assert not tag.startswith("I-") or before[2:] == tag[2:]
        found[tag[2:]] += tag.startswith("B-")
        before = tag
    assert all(found[kind] > 3 for kind in ("PER", "LOC", "OBJ", "TIME")) and found["ORG"] > 0


def test_swag_and_squad_layouts(folder: Path) -> None:
    header = "video-id fold-ind startphrase sent1 sent2 gold-source ending0 ending1 ending2 ending3".split()
    table = list(csv.reader(io.StringIO((folder / "SWAG/val.csv").read_text())))
    assert table[0] == ["", *header, "label"] and len(table) == 81
    assert all(row[3] == f"{row[4]} {row[5]}" and row[11] in "0123" for row in table[1:])
    assert next(csv.reader(io.StringIO((folder / "SWAG/test.csv").read_text()))) == ["", *header]
    for version in ("1.1", "2.0"):
        data = json.loads((folder / f"SQuAD/train-v{version}.json").read_text())
        assert set(data) == {"version", "data"}
        assert set(data["data"][0]) == {"title", "paragraphs"}


def test_writing_again_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    files = write_tasks(tmp_path, train=64, dev=80, test=16)
    assert len(files) == len(set(files)) == 100
    for path in files:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()
    assert write_tasks(tmp_path / "other", 64, 80, 16, seed=2)[0].read_bytes() != files[0].read_bytes()
    with pytest.raises(Refusal, match="train=0"):
        write_tasks(tmp_path, train=0)
