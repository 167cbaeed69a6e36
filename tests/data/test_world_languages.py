"""Languages B and C: same bytes everywhere, a bijection of words, known alignments, word order, alphabets and anchors."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from cloze.data.base import Parallel, Text
from cloze.data.world import ParallelWorld, World
from cloze.data.world.documents import Document
from cloze.data.world.languages import anchored, characters_of_c, lemmas, order, sense_of, senses, translate, word_of_b
from cloze.data.world.lexicon import Word, phrase
from cloze.errors import Refusal

SHA256 = {
    "b": "53bf0b2f46d28442bb733ddb54156a6af086a6b694df6c71667f348b6cbe94c0",
    "c": "346d6c5c765680b32b4ad96a99e5faa190b254ebbf5f64d9c47b83edad8b22d7",
}


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [World().annotated(number) for number in range(400)]


@pytest.mark.parametrize("language", ["b", "c"])
def test_the_languages_are_the_same_on_every_machine(language: str) -> None:
    """sha256 over training documents 0..999, as for language a: `World`'s own is frozen in test_world.py."""
    assert ParallelWorld(languages=["a", language]).language_digest() == SHA256[language]
    assert ParallelWorld(documents=5, languages=[language, "a"], translated=0.0).language_digest() == SHA256[language]


def test_every_word_of_every_style_is_known() -> None:
    for cue in ("both", "local", "global", "none"):
        world = World(order_cue=cue, noise=0.2, topic_overlap=0.5)  # type: ignore[arg-type]
        for number in range(150):
            for sentence in world.annotated(number).sentences:
                for word in sentence.words:
                    if word.tag != "PUNCT":
                        sense_of(word.form.lower())
    with pytest.raises(KeyError, match="no word for 'sesquipedalian'"):
        sense_of("sesquipedalian")


def test_language_b_is_a_bijection_of_words_compounds_and_all() -> None:
    nouns = [form for form, sense in senses().items() if not sense.feature and not sense.again]
    forms = [*senses(), *(noun + container for noun in nouns for container in ("box", "shelf", "rack"))]
    forms = list(dict.fromkeys(forms))
    assert len(forms) > 5000
    assert len({word_of_b(form) for form in forms}) == len(forms)


def test_suffixes_have_no_exceptions() -> None:
    def ending(form: str, lemma: str) -> str:
        return word_of_b(form).removeprefix(word_of_b(lemma))

    past = {ending("baked", "bake"), ending("went", "go"), ending("stopped", "stop"), ending("took", "take")}
    plural = {ending("loaves", "loaf"), ending("mice", "mouse"), ending("brushes", "brush")}
    assert len(past) == len(plural) == 1 and past != plural
    again = ending("rebake", "bake")
    assert word_of_b("rebaked") == word_of_b("bake") + again + past.pop()
    assert word_of_b("trainbox") == word_of_b("train") + word_of_b("box")


def said(text: str) -> str:
    words = phrase(text)
    return " ".join(words[number].form for number in order(words))


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Nora/PROPN baked/VERB the/DET loaf/NOUN ./PUNCT", "Nora the loaf baked ."),
        (
            "in/ADP the/DET evening/NOUN ,/PUNCT she/PRON put/VERB it/PRON in/ADP a/DET box/NOUN ./PUNCT",
            "the evening in , she it a box in put .",
        ),
        ("he/PRON had/AUX not/PART been/AUX seen/VERB by/ADP Omar/PROPN ./PUNCT", "he Omar by seen been not had ."),
        (
            "the/DET loaf/NOUN that/PRON had/AUX been/AUX baked/VERB was/AUX good/ADJ ./PUNCT",
            "the loaf that baked been had good was .",
        ),
        (
            "Omar/PROPN liked/VERB it/PRON because/SCONJ it/PRON was/AUX red/ADJ ./PUNCT",
            "Omar it liked because it red was .",
        ),
        ("she/PRON wanted/VERB to/PART bake/VERB a/DET pie/NOUN ./PUNCT", "she a pie bake to wanted ."),
        (
            "she/PRON works/VERB in/ADP the/DET mill/NOUN every/DET day/NOUN ./PUNCT",
            "she the mill in every day works .",
        ),
    ],
)  # fmt: skip
def test_verbs_stand_last_and_prepositions_behind(sentence: str, expected: str) -> None:
    assert said(sentence) == expected


@pytest.mark.parametrize("anchors", [0.0, 0.5, 1.0])
def test_alignments_and_text(documents: list[Document], anchors: float) -> None:
    """Every word of A has its place in B exactly once, with the word that the dictionary has for it; in C one place or more in a row."""
    kept = anchored(anchors)
    for sentence in (sentence for document in documents[:100] for sentence in document.sentences):
        forms = [word.form.lower() for word in sentence.words]
        told = translate(sentence.words, "b", anchors)
        assert sorted(told.sources) == list(range(len(forms)))
        for word, source in zip(told.words, told.sources, strict=True):
            if sentence.words[source].tag != "PUNCT":
                assert word.lower() == (forms[source] if forms[source] in kept else word_of_b(forms[source]))
        assert re.sub(r"([՝։])", r" \1", told.text).split() == list(told.words)
        assert told.words[0][0].isupper() and told.text.endswith("։")

        told = translate(sentence.words, "c", anchors)
        assert list(dict.fromkeys(told.sources)) == list(range(len(forms)))
        assert "".join(told.words).replace(" ", "") == told.text.replace(" ", "")
        for word, source in zip(told.words, told.sources, strict=True):
            assert len(word) == 1 or forms[source] in kept
        for source, form in enumerate(forms):
            if sentence.words[source].tag != "PUNCT" and form not in kept:
                spelt = "".join(w for w, s in zip(told.words, told.sources, strict=True) if s == source)
                assert spelt == characters_of_c(form)


def test_alphabets_are_their_own_and_anchors_are_all_that_is_shared(documents: list[Document]) -> None:
    def letters(language: str, anchors: float) -> set[str]:
        told = (translate(s.words, language, anchors).text for d in documents[:100] for s in d.sentences)  # type: ignore[arg-type]
        return {letter for text in told for letter in text}

    ours = {letter for document in documents[:100] for sentence in document.sentences for letter in sentence.text}
    assert letters("b", 0.0) & ours == {" "}
    assert not letters("c", 0.0) & ours
    assert not letters("c", 0.0) & letters("b", 0.0)
    assert len(letters("b", 0.0)) < 90 < 500 < len(letters("c", 0.0)) < len(lemmas()) + 3
    # a word is an anchor in the same spelling, and a larger share holds a smaller one
    assert anchored(0.0) == frozenset() < anchored(0.3) < anchored(1.0)
    assert abs(len(anchored(0.3)) - 0.3 * len(anchored(1.0))) <= 0.5
    shared: Counter[bool] = Counter()
    for sentence in (sentence for document in documents for sentence in document.sentences):
        theirs = translate(sentence.words, "b", 1.0).text.split()
        for word in sentence.words:
            if word.entity == "PER":
                shared[word.form in [re.sub(r"[՝։]", "", other) for other in theirs]] += 1
    assert shared[True] > 1000 and not shared[False]


def test_parallel_records_are_the_worlds_documents_in_two_languages() -> None:
    world, parallel = World(30), ParallelWorld(30)
    for record, both in zip(world.records("train"), parallel.records("train"), strict=True):
        assert isinstance(record, Text) and isinstance(both, Parallel)
        assert both.sentences == record.sentences and both.topic == record.topic
        assert (both.language, both.translation_language) == ("a", "b")
        assert [text.endswith("\n") for text in both.translation] == [text.endswith("\n") for text in both.sentences]
        assert [document.language for document in both.documents] == ["a", "b"]


def test_three_languages_take_turns_and_some_documents_are_in_one_alone() -> None:
    three = ParallelWorld(300, languages=["c", "a", "b"])
    pairs = Counter((r.language, r.translation_language) for r in three.records("train") if isinstance(r, Parallel))
    assert pairs == {("a", "b"): 100, ("a", "c"): 100, ("b", "c"): 100}
    world = ParallelWorld(2000, languages=["b", "a"], translated=0.2, shares=[0.1, 0.9])
    kinds = Counter(
        "both" if isinstance(record, Parallel) else record.language
        for part in world.parts("train")
        for record in world.read(part)
    )
    for kind, share in (("both", 0.2), ("a", 0.8 * 0.9), ("b", 0.8 * 0.1)):
        assert abs(kinds[kind] - 2000 * share) < 4 * (2000 * share * (1 - share)) ** 0.5
    again = ParallelWorld(5000, languages=["b", "a"], translated=0.2, shares=[0.1, 0.9])
    assert list(again.read(again.parts("train")[1])) == list(world.read(world.parts("train")[1]))


def test_fingerprints_tell_settings_apart() -> None:
    marks = {ParallelWorld(**settings).fingerprint() for settings in (  # type: ignore[arg-type]
        {}, {"languages": ["a", "c"]}, {"anchors": 0.0}, {"translated": 0.5}, {"translated": 0.5, "shares": [1.0, 2.0]},
        {"documents": 10}, {"languages": ["a", "b", "c"]},
    )}  # fmt: skip
    assert len(marks | {World().fingerprint()}) == 8
    assert ParallelWorld(languages=["b", "a"]).fingerprint() == ParallelWorld().fingerprint()
    assert ParallelWorld(language_sampling=None).fingerprint() == ParallelWorld().fingerprint()  # the text is the same


def test_settings_stand_in_the_config_with_their_defaults() -> None:
    config = yaml.safe_load((Path(__file__).parents[2] / "conf/data/world_parallel.yaml").read_text())
    assert config.pop("_target_") == "cloze.data.world.ParallelWorld"
    assert config.pop("languages") == list(ParallelWorld().languages)
    parameters = inspect.signature(ParallelWorld).parameters
    assert config == {name: parameter.default for name, parameter in parameters.items() if name != "languages"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"languages": ["a"]}, "data.languages=[a] must name two or three different ones of [a,b,c]."),
        ({"languages": ["a", "a"]}, "must name two or three"),
        ({"languages": ["a", "d"]}, "there is no language d"),
        ({"anchors": 1.5}, "data.anchors=1.5 must lie in [0, 1]."),
        ({"translated": -0.1}, "data.translated=-0.1"),
        ({"shares": [1.0, 2.0]}, "data.shares=[1.0,2.0] has no effect with data.translated=1"),
        ({"shares": [1.0], "translated": 0.5}, "must be 2 numbers above 0"),
        ({"shares": [1.0, 0.0], "translated": 0.5}, "must be 2 numbers above 0"),
        ({"language_sampling": 2.0}, "data.language_sampling=2 must lie in [0, 1], or be null."),
        ({"noise": 0.7}, "data.noise=0.7"),
    ],
)
def test_refusals(settings: dict[str, object], message: str) -> None:
    with pytest.raises(Refusal, match=re.escape(message)):
        ParallelWorld(**settings)  # type: ignore[arg-type]


def test_a_word_of_two_tags_is_one_word() -> None:
    """Words of two senses keep them: that is what a dictionary of forms means."""
    assert translate([Word("Seal", "NOUN")], "b").words == translate([Word("seal", "VERB")], "b").words
