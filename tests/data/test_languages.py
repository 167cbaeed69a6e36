"""Languages in batches: each token's own, inputs in one language, and the shares that sampling gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cloze.compose import compose
from cloze.data.base import TokenizedCorpus
from cloze.data.languages import evened, of_places, runs
from cloze.errors import Refusal
from cloze.objectives.base import ExampleBuilder, Examples
from cloze.objectives.clm import CausalExamples
from cloze.objectives.mlm import MaskedExamples
from cloze.prepare import _refuse_languages
from tests.objectives.corpora import SPECIAL, random_corpus, sequences, vocabulary

BUILDERS: dict[str, Any] = {
    "mlm": lambda words: MaskedExamples(words, 32),
    "mlm_doc": lambda words: MaskedExamples(words, 32, format="doc_sentences"),
    "mlm_nsp": lambda words: MaskedExamples(words, 32, format="segment_pair", pair="nsp"),
    "clm": lambda words: CausalExamples(words, 32),
    "clm_apart": lambda words: CausalExamples(words, 32, documents="apart"),
}
NAMES = ("x", "y", "z")


def words() -> Any:
    return replace(vocabulary(), special={**SPECIAL, "eos": 3})


def tongues(tokens: int = 20_000, run: int = 9, share: tuple[float, ...] = (0.7, 0.25, 0.05)) -> TokenizedCorpus:
    """A corpus in runs of documents in one language; a token says its language: token t is in language t % 3."""
    corpus = random_corpus(tokens, size=1000, sentence=(3, 12), document=(2, 8))
    generator = np.random.default_rng(5)
    languages = np.repeat(generator.choice(3, len(corpus) // run + 1, p=share), run)[: len(corpus)].astype(np.int32)
    sizes = np.diff(corpus.sentences[corpus.documents])
    tokens_ = corpus.tokens.astype(np.int64)
    tokens_ += (np.repeat(languages, sizes) - tokens_) % 3
    return replace(corpus, tokens=np.minimum(tokens_, 998 + (tokens_ - 998) % 3 - 3 * (tokens_ > 999)), languages=languages,
                   language_names=NAMES)  # fmt: skip


@pytest.fixture(scope="module")
def corpus() -> TokenizedCorpus:
    return tongues()


@pytest.mark.parametrize("name", BUILDERS)
def test_every_token_has_its_language(name: str, corpus: TokenizedCorpus) -> None:
    builder: ExampleBuilder = BUILDERS[name](words())
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    inputs, targets = sample.inputs, sample.targets
    assert inputs.languages is not None and len(inputs.languages) == len(inputs.tokens)
    tokens = inputs.tokens.copy()
    if "at" in targets:
        tokens[targets["at"]] = targets["tokens"]
    ordinary = tokens >= 5
    assert ordinary.mean() > 0.8 and (tokens[ordinary] % 3 == inputs.languages[ordinary]).all()
    # an input is in one language, special tokens too, and that is the example's
    assert examples.languages is not None
    mixed = 0
    for spoken, language in zip(sequences(inputs.languages, inputs.lengths), examples.languages, strict=True):
        assert spoken[0] == language
        mixed += len(set(spoken.tolist())) > 1
    # partners are drawn again, a few times, until they are in the same language: by chance alone 22 % would not be
    assert mixed <= (0.04 if name == "mlm_nsp" else 0) * len(examples)


@pytest.mark.parametrize("name", BUILDERS)
def test_one_language_is_no_language(name: str, corpus: TokenizedCorpus) -> None:
    """A corpus without languages gives what it always gave."""
    plain = replace(corpus, languages=None)
    builder: ExampleBuilder = BUILDERS[name](words())
    examples = builder.build(plain, 0)
    indices = np.arange(40)
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    assert examples.languages is None and sample.inputs.languages is None
    assert evened(examples, 0.5, 1) is examples
    alone = replace(corpus, languages=np.zeros_like(corpus.languages))
    told = builder.build(alone, 0)
    assert (told.table == examples.table).all()
    assert (builder.sample(told, indices, builder.keys(1, 0, indices)).inputs.tokens == sample.inputs.tokens).all()


def test_every_token_stands_in_one_example(corpus: TokenizedCorpus) -> None:
    for name in ("mlm", "clm"):
        builder: ExampleBuilder = BUILDERS[name](words())
        examples = builder.build(corpus, 0)
        starts, ends = examples.table[:, 0], examples.table[:, 1]
        assert (starts[1:] == ends[:-1]).all() and starts[0] == 0
        assert len(examples) < 1.2 * examples.total_tokens / 32


def test_places_and_runs(corpus: TokenizedCorpus) -> None:
    places = np.random.default_rng(0).integers(0, len(corpus.tokens), 500)
    assert (of_places(corpus, places) == corpus.tokens[places] % 3).all()
    assert of_places(replace(corpus, languages=None), places) is None
    number = runs(corpus)
    assert (np.diff(number) == (np.diff(corpus.languages) != 0)).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.5, 0.7, 0.9])
def test_shares_are_in_proportion_to_the_power(exponent: float) -> None:
    corpus = tongues(200_000)
    builder = MaskedExamples(words(), 32)
    examples = builder.build(corpus, 0)
    assert examples.languages is not None
    before = np.bincount(examples.languages) / len(examples)
    more = evened(examples, exponent, 3)
    assert more.languages is not None
    after = np.bincount(more.languages) / len(more)
    expected = before**exponent / (before**exponent).sum()
    assert np.abs(after - expected).max() < 3 / len(examples)
    # nothing is lost, and no example is repeated more than once more than another of its language
    rows, times = np.unique(more.table, axis=0, return_counts=True)
    assert (rows == np.unique(examples.table, axis=0)).all()
    for language in range(3):
        of = {tuple(row) for row in examples.table[examples.languages == language].tolist()}
        counts = [n for row, n in zip(rows.tolist(), times.tolist(), strict=True) if tuple(row) in of]
        assert max(counts) - min(counts) <= 1
    assert f"z {100 * before[2]:.1f} % -> {100 * after[2]:.1f} %" in more.notes[-1]
    # repetitions are masked anew
    copies = np.flatnonzero((more.table == more.table[-1]).all(axis=1))
    if len(copies) > 1:
        sample = builder.sample(more, copies, builder.keys(1, 0, copies))
        assert len({row.tobytes() for row in sequences(sample.inputs.tokens, sample.inputs.lengths)}) > 1


def test_what_sampling_leaves_alone(corpus: TokenizedCorpus) -> None:
    examples = MaskedExamples(words(), 32).build(corpus, 0)
    assert evened(examples, None, 1) is examples and evened(examples, 1.0, 1) is examples
    languages = np.arange(40) % 2
    even = Examples(corpus, np.arange(80).reshape(40, 2), np.full(40, 7), languages=languages)
    assert evened(even, 0.5, 1) is even
    rare = Examples(
        corpus, np.arange(80).reshape(40, 2), np.full(40, 7), tokens=np.arange(40), languages=languages // 2 + languages
    )
    one, other, again = evened(rare, 0.0, 1), evened(rare, 0.0, 2), evened(rare, 0.0, 1)
    assert one.tokens is not None and (one.tokens == one.table[:, 0] // 2).all()
    assert (one.table == again.table).all() and len(one) == len(other)
    skewed = Examples(
        corpus, np.arange(200).reshape(100, 2), np.full(100, 7), languages=(np.arange(100) < 30).astype(np.int64)
    )
    assert not (evened(skewed, 0.5, 1).table == evened(skewed, 0.5, 2).table).all()


def test_a_model_with_too_few_languages_is_refused(corpus: TokenizedCorpus) -> None:
    from cloze.models.bert import Bert
    from cloze.models.xlm import XLM

    shape = {"layers": 1, "width": 8, "heads": 1, "inner": 8}
    with pytest.raises(
        Refusal, match=r"model\.languages=2 is too few: the text has 3 languages \(x, y, z\)\. Say model\.languages=3"
    ):
        _refuse_languages(XLM(50, 20, False, **shape), corpus)
    for model in (
        XLM(50, 20, False, **shape, languages=3),
        XLM(50, 20, False, **shape, languages=1),
        Bert(50, 20, False, **shape),
    ):
        _refuse_languages(model, corpus)


def test_the_setting_stands_where_languages_are() -> None:
    assert compose(["data=world_parallel"]).config.data.language_sampling == 0.7
    assert "language_sampling" not in compose(["data=world"]).config.data
