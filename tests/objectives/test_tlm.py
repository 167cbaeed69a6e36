"""Translation language modelling: its inputs, the declared rates on 200,000 tokens, and that nothing leaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cloze.data.base import TokenizedCorpus
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.base import Backbone
from cloze.models.bert import Bert
from cloze.models.xlm import XLM
from cloze.objectives.base import Examples, Tally
from cloze.objectives.mlm import MaskedExamples
from cloze.objectives.tlm import SPECIAL, TranslationExamples, TranslationLM
from tests.objectives.corpora import SPECIAL as IDS
from tests.objectives.corpora import numbered_corpus, random_corpus, sequences, vocabulary

SETTINGS: list[dict[str, Any]] = [
    {},
    {"mask_ratio": 0.4, "mask": 0.5, "random": 0.2, "keep": 0.3},
    {"sentences": 1},
    {"unit": "whole_word"},
    {"unit": "span", "random_tokens": "ordinary"},
    {"rounding": "stochastic", "max_predictions": 8},
]


def doubled(corpus: TokenizedCorpus, shift: int, untranslated: int = 0) -> TokenizedCorpus:
    """The corpus and behind it its translation, in which every token is another by `shift`: the order of documents and of the sentences
    in them is kept. The last `untranslated` sentences have no translation."""
    tokens, sentences = len(corpus.tokens), len(corpus.sentences) - 1
    number = np.arange(2 * sentences)
    translations = np.where(number < sentences, number + sentences, number - sentences)
    if untranslated:
        for half in (slice(sentences - untranslated, sentences), slice(2 * sentences - untranslated, None)):
            translations[half] = -1
    return replace(
        corpus,
        tokens=np.concatenate([corpus.tokens, corpus.tokens + (corpus.tokens >= 5) * shift]),
        word_starts=np.tile(corpus.word_starts, 2),
        sentences=np.append(corpus.sentences, corpus.sentences[1:] + tokens),
        documents=np.append(corpus.documents, corpus.documents[1:] + sentences),
        topics=np.tile(corpus.topics, 2),
        languages=np.repeat([0, 1], len(corpus)).astype(np.int32),
        translations=translations,
        language_names=("x", "y"),
    )


@pytest.fixture(scope="module")
def corpus() -> TokenizedCorpus:
    """200,000 tokens; ids from 1000 on are the second language."""
    return doubled(random_corpus(100_000, sentence=(1, 20), unknown=0.01), 1000)


def words(size: int = 2000) -> Any:
    return vocabulary(size)


def all_samples(builder: MaskedExamples, examples: Examples, size: int = 512) -> list[Any]:
    parts = np.split(np.arange(len(examples)), np.arange(size, len(examples), size))
    return [builder.sample(examples, part, builder.keys(1, 0, part)) for part in parts]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_declared_rate_holds(corpus: TokenizedCorpus, settings: dict[str, Any]) -> None:
    builder = TranslationExamples(words(), 64, **settings)
    tallies: dict[str, Tally] = {}
    for sample in all_samples(builder, builder.build(corpus, 0)):
        for name, tally in builder.tally(sample).items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
    wrong = [n for n, t in tallies.items() if abs(t.seen - t.expected) > 4 * t.variance**0.5 + 1e-6]
    assert not wrong
    assert all(tally.trials > 100 for tally in tallies.values())


@pytest.mark.parametrize("settings", [{}, {"sentences": 1}, {"sentences": 2}], ids=str)
def test_two_halves_that_look_like_two_inputs(corpus: TokenizedCorpus, settings: dict[str, Any]) -> None:
    """Counted from the arrays alone, without what the builder says of itself."""
    builder = TranslationExamples(words(), 64, **settings)
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    inputs, at, hidden = sample.inputs, sample.targets["at"], sample.targets["tokens"]
    assert (inputs.lengths == examples.lengths).all() and inputs.lengths.max() <= 64
    tokens = inputs.tokens.copy()
    tokens[at] = hidden
    chosen = np.zeros(len(tokens), bool)
    chosen[at] = True
    assert inputs.languages is not None and inputs.segments is not None and inputs.positions is not None
    arrays = (tokens, inputs.languages, inputs.segments, inputs.positions, chosen)
    both = [0, 0]
    for row in zip(*(sequences(array, inputs.lengths) for array in arrays), strict=True):
        text, languages, segments, positions, selected = row
        middle = len(text) // 2  # both halves are of one length here
        for half, segment in ((slice(0, middle), 0), (slice(middle, None), 1)):
            part = text[half]
            assert part[0] == IDS["cls"] and part[-1] == IDS["sep"]
            ordinary = part[(part >= 5)]
            assert (part[1:-1] != IDS["cls"]).all() and (part[1:-1] != IDS["sep"]).all()
            assert (positions[half] == np.arange(middle)).all() and (segments[half] == segment).all()
            assert len(set(languages[half].tolist())) == 1
            assert ((ordinary >= 1000) == (languages[half][0] == 1)).all()
            assert not selected[half][0] and not selected[half][-1]
            both[segment] += int(selected.sum())
        one, other = text[:middle], text[middle:]
        assert languages[0] != languages[-1]
        if languages[0]:
            one, other = other, one
        assert (one + (one >= 5) * 1000 == other).all(), "a half is not the other's translation"
        assert max(1, round(len(text) * 0.15)) == selected.sum() or selected.sum() == (text >= 5).sum()
    assert abs(both[0] - both[1]) < 0.02 * sum(both)
    # which comes first is a toss
    first = inputs.languages[np.cumsum(inputs.lengths) - inputs.lengths]
    assert abs(first.mean() - 0.5) < 4 * 0.5 / len(first) ** 0.5
    again = builder.sample(examples, indices, builder.keys(1, 1, indices)).inputs
    assert again.languages is not None
    other_time = again.languages[np.cumsum(again.lengths) - again.lengths]
    assert 0.4 < (first == other_time).mean() < 0.6


@pytest.mark.parametrize("sentences", [None, 1, 3])
def test_every_sentence_is_read_once_and_inputs_are_full(corpus: TokenizedCorpus, sentences: int | None) -> None:
    builder = TranslationExamples(words(), 64, sentences=sentences)
    examples = builder.build(corpus, 0)
    first, second, count, _ = examples.table.T
    read = np.concatenate([np.arange(a, a + n) for a, n in zip(first, count, strict=True)])
    sizes = np.diff(corpus.sentences)
    half = len(sizes) // 2
    assert (second == first + half).all()
    assert (read == np.flatnonzero(2 * sizes[:half] + SPECIAL <= 64)).all()
    assert sentences is None or count.max() == sentences
    document = np.searchsorted(corpus.documents, first, side="right")
    assert (document == np.searchsorted(corpus.documents, first + count - 1, side="right")).all()
    # one more sentence would not have fitted, or is of another document
    for start, number, length in zip(first[:-1], count, examples.lengths, strict=False):
        if number != sentences and start + number < half and start + number in read:
            same = np.searchsorted(corpus.documents, start + number, side="right") == np.searchsorted(
                corpus.documents, start, side="right"
            )
            assert not same or length + 2 * sizes[start + number] > 64


def test_sentences_that_do_not_fit_and_translations_in_another_order() -> None:
    corpus, _ = numbered_corpus([[3, 9, 4, 2], [2, 2]])
    told = doubled(corpus, 1000, untranslated=1)
    builder = TranslationExamples(words(), 16)
    examples = builder.build(told, 0)
    assert examples.table[:, :3].tolist() == [[0, 6, 1], [2, 8, 2], [4, 10, 1]]
    assert examples.notes == ("1 of 5 sentences are too long with their translation for length=16: left out.",)
    assert told.translations is not None
    crossed = told.translations.copy()
    crossed[[2, 3, 8, 9]] = [9, 8, 3, 2]
    examples = builder.build(replace(told, translations=crossed), 0)
    assert examples.table[:, :3].tolist() == [[0, 6, 1], [2, 9, 1], [3, 8, 1], [4, 10, 1]]
    # a translation that is not translated back is used as well
    one_way = np.full(12, -1)
    one_way[[6, 7]] = [0, 1]
    examples = TranslationExamples(words(), 40).build(replace(told, translations=one_way), 0)
    assert examples.table[:, :3].tolist() == [[6, 0, 2]]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_counts_without_sampling_and_examples_by_their_keys(corpus: TokenizedCorpus, settings: dict[str, Any]) -> None:
    builder = TranslationExamples(words(), 48, **settings)
    examples = builder.build(corpus, 0)
    indices = np.random.default_rng(0).permutation(len(examples))[:150]
    keys = builder.keys(3, 1, indices)
    sample = builder.sample(examples, indices, keys)
    assert builder.counts(examples, indices, keys) == sample.counts
    alone = builder.sample(examples, indices[7:8], keys[7:8])
    assert (alone.inputs.tokens == sequences(sample.inputs.tokens, sample.inputs.lengths)[7]).all()


def test_judged_at_a_fixed_rate(corpus: TokenizedCorpus) -> None:
    judges = [
        TranslationExamples(words(), 64, **settings).judge() for settings in SETTINGS if "sentences" not in settings
    ]
    indices = np.arange(50)
    seen = []
    for judge in judges:
        assert isinstance(judge, TranslationExamples)
        examples = judge.build(corpus, 0)
        sample = judge.sample(examples, indices, judge.keys(1, 0, indices))
        seen.append((sample.inputs.tokens.tobytes(), sample.targets["at"].tobytes()))
    assert len(set(seen)) == 1


MODELS: dict[str, Any] = {
    "xlm": lambda: XLM(2000, 64, False, layers=2, width=32, heads=2, inner=48, initializer_range=0.2),
    "bert": lambda: Bert(2000, 64, False, layers=2, width=32, heads=2, inner=48, initializer_range=0.2),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_prediction_depends_on_both_languages_of_its_own_input_and_on_nothing_hidden(
    corpus: TokenizedCorpus, name: str
) -> None:
    torch.manual_seed(0)
    model: Backbone = MODELS[name]().eval()
    builder = TranslationExamples(words(), 40, mask=1.0, random=0.0, keep=0.0)
    examples = builder.build(corpus, 0)
    indices = np.arange(4)
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    batch = batch_of(sample)
    embedded: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    table = model.get_submodule("word" if name == "xlm" else "embeddings.word")
    table.register_forward_hook(keep)
    states = model(batch).last  # type: ignore[arg-type]
    at = int(sample.targets["at"][0])
    states[at].pow(2).sum().backward()
    reach = embedded[0].grad.abs().sum(1) > 0  # type: ignore[union-attr]
    length = int(sample.inputs.lengths[0])
    assert reach[:length].all() and not reach[length:].any()
    # what was hidden is nowhere in the input
    assert (sample.inputs.tokens[sample.targets["at"]] == IDS["mask"]).all()
    objective = TranslationLM(model, words())
    output = objective(model, batch)
    assert torch.isfinite(output.terms["mlm"].total) and output.terms["mlm"].count == len(sample.targets["at"])


def test_models_tell_the_halves_apart(corpus: TokenizedCorpus) -> None:
    """Positions begin again: what says which half a token is in is its language to XLM and its segment to BERT."""
    builder = TranslationExamples(words(), 40)
    examples = builder.build(corpus, 0)
    sample = builder.sample(examples, np.arange(4), builder.keys(1, 0, np.arange(4)))
    inputs = sample.inputs
    for name, array in (("xlm", "languages"), ("bert", "segments")):
        torch.manual_seed(0)
        model = MODELS[name]().eval()
        whole = model(batch_of(sample)).last
        for dropped in ("languages", "segments"):
            without = model(batch_of(replace(sample, inputs=replace(inputs, **{dropped: None})))).last
            assert torch.allclose(whole, without, atol=1e-6) == (dropped != array)


@pytest.mark.parametrize(
    ("settings", "length", "message"),
    [
        ({}, 5, r"length=5 leaves no room .* at least length=6"),
        ({"sentences": 0}, 64, r"objective\.sentences=0 must be at least 1"),
        ({"mask_ratio": 15}, 64, r"objective\.mask_ratio=15 must lie in \(0, 1\]"),
        ({"duplicates": 3}, 64, r"objective\.duplicates=3 has no effect"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], length: int, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        TranslationExamples(words(), length, **settings)


def test_corpora_that_cannot_be_are_refused(corpus: TokenizedCorpus) -> None:
    for translations in (None, np.full(len(corpus.sentences) - 1, -1)):
        with pytest.raises(Refusal, match="needs sentences with translations"):
            TranslationExamples(words(), 64).build(replace(corpus, translations=translations), 0)
    long = doubled(numbered_corpus([[9, 8]])[0], 1000)
    with pytest.raises(Refusal, match="no sentence fits with its translation; the shortest needs length=20"):
        TranslationExamples(words(), 12).build(long, 0)
