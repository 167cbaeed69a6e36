"""The generated language: same bytes everywhere, random access, grammar, truth, and what each knob does."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from cloze.data import keyed
from cloze.data.world import World
from cloze.data.world import words as lists
from cloze.data.world.documents import Document, Style, tell
from cloze.data.world.lexicon import lexicon
from cloze.data.world.morphology import article, ness, plural, verb
from cloze.data.world.scripts import SCRIPTS
from cloze.data.world.state import Person, State, Thing
from cloze.errors import Refusal

SHA256 = "5359f3bf3144a3b0bcd09614fda479e5eb7509b57b8054bddd6d6aea3cf834c0"


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    world = World()
    return [world.annotated(number) for number in range(600)]


def test_the_language_is_the_same_on_every_machine() -> None:
    """sha256 over training documents 0..999: any change to the language must change World's VERSION and this number."""
    assert World().digest() == SHA256
    assert World(documents=10).digest() == SHA256
    assert World().announcement == f"generated language v1, sha256 {SHA256[:16]}…; not English"


def test_a_document_needs_no_predecessor_and_no_size() -> None:
    world = World(documents=600, validation_documents=3)
    in_order = list(world.records("train"))
    alone = World(documents=5000).annotated(517)
    assert in_order[517].sentences[0].rstrip("\n") == alone.sentences[0].text  # type: ignore[attr-defined]
    parts = list(world.parts("train"))
    assert [part.stop - part.start for part in parts] == [250, 250, 100]
    assert [record for part in reversed(parts) for record in reversed(list(world.read(part)))] == in_order[::-1]
    assert len(list(world.records("validation"))) == 3


def test_splits_and_seeds_share_no_document() -> None:
    texts = [record.text for split in ("train", "validation", "test") for record in World(300, 300, 300).records(split)]  # type: ignore[attr-defined, arg-type]
    other = {record.text for record in World(300, language_seed=2).records("train")}  # type: ignore[attr-defined]
    assert len(set(texts)) == 900
    assert not other & set(texts)


def test_records_keep_the_promises_of_text(documents: list[Document]) -> None:
    for record, document in zip(World(50).records("train"), documents, strict=False):
        sentences = record.sentences  # type: ignore[attr-defined]
        assert record.topic == document.topic.name  # type: ignore[attr-defined]
        assert not sentences[-1].endswith("\n")
        assert all(re.fullmatch(r"[A-Z][^\n]*\.\n?", sentence) for sentence in sentences)
        ends = [index for index, sentence in enumerate(sentences) if sentence.endswith("\n")]
        paragraphs = [sentence.paragraph for sentence in document.sentences]
        assert ends == [i for i in range(len(paragraphs) - 1) if paragraphs[i] != paragraphs[i + 1]]


def test_size_and_predictability(documents: list[Document]) -> None:
    words = Counter(word.form for document in documents for sentence in document.sentences for word in sentence.words)
    total = sum(words.values())
    unigram = -sum(count / total * math.log(count / total) for count in words.values())
    floor = sum(document.cost for document in documents) / total
    assert len(words) > 1400
    assert unigram > 4.8
    assert floor < 0.7
    assert len(World().lexicon.topics) == 48
    assert len(SCRIPTS) >= 10


def test_words_of_two_senses_and_names_of_two_words(documents: list[Document]) -> None:
    forms = Counter(noun.one for noun in World().lexicon.nouns)
    assert sum(count > 1 for count in forms.values()) >= 20
    pairs = dict(town.split("_") for town in lists.TOWNS.split())
    assert len(pairs) >= 30
    seen = 0
    for document in documents:
        for sentence in document.sentences:
            forms_here = [word.form for word in sentence.words]
            for one, after in zip(forms_here, [*forms_here[1:], ""], strict=True):
                seen += one in pairs
                assert (after == pairs[one]) if one in pairs else after not in pairs.values()
    assert seen > 600


def test_articles_agree_with_the_next_word(documents: list[Document]) -> None:
    for document in documents:
        for sentence in document.sentences:
            for match in re.finditer(r"\b(an?) (\w+)", sentence.text):
                vowel = match[2][0].lower() in "aeiou" and not match[2].startswith("use")
                assert match[1] == ("an" if vowel else "a"), sentence.text


def test_verbs_agree_with_their_subject_also_over_an_attractor(documents: list[Document]) -> None:
    attractors = 0
    for document in documents:
        for sentence in document.sentences:
            forms = [word.form for word in sentence.words]
            for at, form in enumerate(forms):
                if form not in ("was", "were"):
                    continue
                things = [
                    mention for mention in sentence.mentions if isinstance(mention.entity, Thing) and mention.end <= at
                ]
                subject = things[0] if things and "near" in forms[:at] else things[-1] if things else None
                attractors += bool(things) and "near" in forms[:at]
                if subject is not None and (subject.end == at or "near" in forms[:at]):
                    assert (form == "was") == (subject.entity.count == 1), sentence.text  # type: ignore[union-attr]
    assert attractors > 20


def test_pronouns_agree_and_have_one_antecedent(documents: list[Document]) -> None:
    pronouns = 0
    for document in documents:
        last: list[object] = []
        for sentence in document.sentences:
            if " stood in " in sentence.text:  # a distraction: the story goes on as if it were not there
                continue
            for mention in sentence.mentions:
                entity = mention.entity
                if mention.pronoun and isinstance(entity, Person):
                    pronouns += 1
                    form = sentence.words[mention.start].form.lower()
                    assert form in (("she", "her") if entity.female else ("he", "him", "his"))
                    around = {one for one in last if isinstance(one, Person)}
                    around |= {other.entity for other in sentence.mentions if isinstance(other.entity, Person)}
                    assert entity in last or entity in [
                        other.entity for other in sentence.mentions if other.start < mention.start
                    ]
                    assert [
                        one
                        for one in around & {*last, *(o.entity for o in sentence.mentions if o.start < mention.start)}
                        if one.female == entity.female
                    ] == [entity]
            last = [mention.entity for mention in sentence.mentions]
    assert pronouns > 1000


def test_events_keep_their_preconditions(documents: list[Document]) -> None:
    """Replayed by this test's own reading of the facts: nothing is repaired that is whole, given that one does not have, …"""
    checked: Counter[str] = Counter()
    for document in documents:
        holder: dict[Thing, Person] = {}
        damaged: set[Thing] = set()
        lost: set[Thing] = set()
        dirty: set[Thing] = set()
        for sentence in sorted(document.sentences, key=lambda sentence: sentence.time):
            for kind, subject, thing, other, _, _ in sentence.facts:
                checked[kind] += 1
                if thing is None:
                    continue
                if kind in ("give", "sell", "lend", "return"):
                    assert (kind == "return" and thing in lost) or holder[thing] is subject, sentence.text
                    holder[thing] = other  # type: ignore[assignment]
                    lost.discard(thing)
                if kind in ("take", "buy", "has", "borrow"):
                    assert kind != "borrow" or holder[thing] is other
                    holder[thing] = subject  # type: ignore[assignment]
                if kind == "damage":
                    assert thing not in damaged and holder[thing] is subject
                    damaged.add(thing)
                if kind == "repair":
                    assert thing in damaged
                    damaged.remove(thing)
                if kind == "lose":
                    assert holder[thing] is subject and thing not in lost
                    lost.add(thing)
                if kind == "soil":
                    dirty.add(thing)
                if kind == "clean":
                    assert thing in dirty
    assert all(
        checked[kind] > 20 for kind in ("give", "sell", "lend", "borrow", "return", "damage", "repair", "lose", "clean")
    )


def test_the_state_decides_statements(documents: list[Document]) -> None:
    """What a sentence says of a thing holds in the state at that sentence, and its contrary does not."""
    decided = 0
    for document in documents[:200]:
        for sentence in document.sentences:
            state: State | None = None
            for fact in sentence.facts:
                if fact.kind in ("colour", "price", "dirty", "quality", "has") and fact.thing is not None:
                    state = state or document.state_after(sentence.time + 1)
                    assert state.holds(fact), sentence.text
                    if fact.kind == "has":
                        others = [person for person in document.people if person is not fact.subject]
                        assert not any(state.holds(fact._replace(subject=person)) for person in others)
                    decided += 1
    assert decided > 500


def test_one_quality_has_one_polarity_throughout_a_document(documents: list[Document]) -> None:
    for document in documents:
        told: dict[Thing, bool] = {}
        for sentence in document.sentences:
            for fact in sentence.facts:
                if fact.kind == "quality" and fact.thing is not None:
                    assert told.setdefault(fact.thing, fact.value.good) == fact.value.good


def cue(order_cue: str, **settings: float) -> list[Document]:
    world = World(order_cue=order_cue, **settings)  # type: ignore[arg-type]
    return [world.annotated(number) for number in range(150)]


@pytest.mark.parametrize("order_cue", ["local", "global", "both", "none"])
def test_order_cues_are_there_where_they_should_be_and_nowhere_else(order_cue: str) -> None:
    documents = cue(order_cue)
    words = Counter(word.form for document in documents for sentence in document.sentences for word in sentence.words)
    local = order_cue in ("local", "both")
    assert (words["She"] + words["it"] > 100) if local else words["She"] + words["he"] + words["them"] == 0
    days = sum(words[day] for day in lists.WEEKDAYS)
    assert (days > 100) == (order_cue in ("global", "both"))
    assert days > 100 or days == 0
    in_order = [
        [sentence.time for sentence in document.sentences] == sorted(s.time for s in document.sentences)
        for document in documents
    ]
    assert all(in_order) if local else not any(in_order)
    if order_cue == "global":  # shuffled within a paragraph only
        for document in documents:
            assert [s.paragraph for s in document.sentences] == sorted(s.paragraph for s in document.sentences)
            by_time = sorted(document.sentences, key=lambda sentence: sentence.time)
            assert [s.paragraph for s in by_time] == sorted(s.paragraph for s in by_time)


def test_noise_is_the_share_that_was_asked_for() -> None:
    for noise in (0.0, 0.03, 0.2):
        sentences = [sentence.text for document in cue("both", noise=noise) for sentence in document.sentences]
        distractions = sum(" stood in " in text for text in sentences)
        told = len(sentences) - distractions
        assert abs(distractions - noise * told) <= 3 * math.sqrt(told * noise * (1 - noise))


def test_overlap_of_topics_and_casts() -> None:
    def own_things(documents: list[Document]) -> float:
        things = [(thing, document) for document in documents for thing in document.things]
        return sum(thing.noun.base.startswith(document.topic.name + ":") for thing, document in things) / len(things)

    assert own_things(cue("both")) == 1.0
    assert 0.4 < own_things(cue("both", topic_overlap=0.5)) < 0.6
    names = [
        len({(d.topic.name, p.name.word.form) for d in cue("both", cast_overlap=share) for p in d.people})
        for share in (0.0, 1.0)
    ]
    assert names[0] < 0.9 * names[1]
    closed = lexicon(48, 0.0)
    assert all(len(topic.names.items) == 8 for topic in closed.topics)


def test_a_tenth_of_the_lexicon_is_kept_from_labelled_data() -> None:
    whole, open_ = lexicon(), lexicon(without_reserved=True)
    assert 0.08 < 1 - len(open_.nouns) / len(whole.nouns) < 0.12
    seen = {
        word.form
        for number in range(300)
        for sentence in tell(open_, keyed.key("open", number), Style()).sentences
        for word in sentence.words
    }
    assert not seen & whole.reserved
    used = {word.form for number in range(300) for s in World().annotated(number).sentences for word in s.words}
    assert len(used & whole.reserved) > 20
    assert all(len(topic.nouns.items) >= 5 for topic in open_.topics)


def test_morphology() -> None:
    assert [plural(word) for word in ("loaf", "box", "pony", "key", "cloth hall", "mouse")] == [
        "loaves", "boxes", "ponies", "keys", "cloth halls", "mice",
    ]  # fmt: skip
    assert verb("carry") == ("carry", "carries", "carried", "carried", "carrying")
    assert verb("stop")[2:] == ("stopped", "stopped", "stopping")
    assert verb("give") == ("give", "gives", "gave", "given", "giving")
    assert [article(word) for word in ("apple", "useful", "Orin", "key")] == ["an", "a", "an", "a"]
    assert ness("ugly") == "ugliness"


def test_settings_stand_in_the_config_with_their_defaults() -> None:
    config = yaml.safe_load((Path(__file__).parents[2] / "conf/data/world.yaml").read_text())
    assert config.pop("_target_") == "cloze.data.world.World"
    parameters = inspect.signature(World).parameters
    assert config == {name: parameter.default for name, parameter in parameters.items()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"documents": 0}, "data.documents=0"),
        ({"topics": 49}, "data.topics=49 must lie in 1..48"),
        ({"noise": 0.7}, "data.noise=0.7"),
        ({"cast_overlap": -1.0}, "data.cast_overlap=-1.0"),
        ({"order_cue": "globl"}, "did you mean global"),
    ],
)
def test_refusals(settings: dict[str, object], message: str) -> None:
    with pytest.raises(Refusal, match=re.escape(message)):
        World(**settings)  # type: ignore[arg-type]


def test_order_can_be_told_where_there_are_cues_and_only_there() -> None:
    """A linear model on the words of two segments says whether they were swapped: well above chance, at chance without cues."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    def accuracy(order_cue: str, size: int = 4) -> float:
        world = World(order_cue=order_cue)  # type: ignore[arg-type]
        features, labels = [], []
        for number in range(400):
            sentences = [[word.form for word in sentence.words] for sentence in world.annotated(number).sentences]
            for start in range(0, len(sentences) - 2 * size, size):
                runs = (sentences[start : start + size], sentences[start + size : start + 2 * size])
                segments = [[word for sentence in run for word in sentence] for run in runs]
                swapped = (number + start) % 2
                first, second = segments[::-1] if swapped else segments
                features.append({**{f"first {w}": 1 for w in first}, **{f"second {w}": 1 for w in second}})
                labels.append(swapped)
        table = DictVectorizer().fit_transform(features)
        half = len(labels) * 2 // 3
        model = LogisticRegression(max_iter=300, C=0.1).fit(table[:half], labels[:half])
        return float(model.score(table[half:], labels[half:]))

    assert accuracy("both") > 0.65
    assert abs(accuracy("none") - 0.5) < 0.1
