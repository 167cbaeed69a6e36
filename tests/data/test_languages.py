"""Languages in batches: each token's own, inputs in one language, and the shares that sampling gives."""

from __future__ import annotations

import itertools
import pickle
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloze.check import check
from cloze.compose import compose
from cloze.data.base import TokenizedCorpus
from cloze.data.batches import batch_of
from cloze.data.languages import evened, idle, numbered, of_places, runs
from cloze.data.store import opened
from cloze.data.tokenizers import Tokenizer
from cloze.errors import Refusal
from cloze.models.bert import Bert
from cloze.models.xlm import XLM
from cloze.objectives.base import ExampleBuilder, Examples
from cloze.objectives.clm import CausalExamples, CausalLM
from cloze.objectives.mlm import MaskedExamples, MaskedLM
from cloze.objectives.prefix_lm import PrefixExamples, PrefixLM
from cloze.objectives.tlm import TranslationExamples
from cloze.objectives.unilm import Mixed, MixedExamples
from cloze.prepare import _refuse_languages, prepare
from tests.objectives.corpora import SPECIAL, random_corpus, sequences, vocabulary

BUILDERS: dict[str, Any] = {
    "mlm": lambda words: MaskedExamples(words, 32),
    "mlm_doc": lambda words: MaskedExamples(words, 32, format="doc_sentences"),
    "mlm_nsp": lambda words: MaskedExamples(words, 32, format="segment_pair", pair="nsp"),
    "clm": lambda words: CausalExamples(words, 32),
    "clm_apart": lambda words: CausalExamples(words, 32, documents="apart"),
    "prefix_lm": lambda words: PrefixExamples(words, 32),
    "unilm": lambda words: MixedExamples(words, 32),
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

    shape = {"layers": 1, "width": 8, "heads": 1, "inner": 8}
    with pytest.raises(
        Refusal, match=r"model\.languages=2 is too few: the text has 3 languages \(x, y, z\)\. Say model\.languages=3"
    ):
        _refuse_languages(XLM(50, 20, False, **shape), corpus, corpus)
    for model in (
        XLM(50, 20, False, **shape, languages=3),
        XLM(50, 20, False, **shape, languages=1),
        Bert(50, 20, False, **shape),
    ):
        _refuse_languages(model, corpus, corpus)


def test_the_setting_stands_where_languages_are() -> None:
    assert compose(["data=world_parallel"]).config.data.language_sampling == 0.7
    assert "language_sampling" not in compose(["data=world"]).config.data


SMALL = ["data=world_parallel", "data.documents=60", "data.validation_documents=12", "model.layers=1", "model.width=32",
         "model.heads=2", "model.inner=48", "tokenizer.vocabulary=600"]  # fmt: skip


def spoken(text: TokenizedCorpus, tokenizer: Tokenizer) -> list[set[str]]:
    """Which alphabets each document has letters of."""
    begins = text.sentences[text.documents]
    written = ["".join(map(tokenizer.token, text.tokens[a:b].tolist())) for a, b in itertools.pairwise(begins.tolist())]
    return [{unicodedata.name(letter).split()[0] for letter in each if letter.isalpha()} for each in written]


@pytest.mark.parametrize("translated", [0.0, 0.2, 1.0])
def test_a_language_has_one_number_in_every_split(translated: float, tmp_path: Path) -> None:
    """Whichever language a split begins with."""
    swapped = 0
    for seed in (1, 2, 3, 4):
        words = [*SMALL, "model=xlm", "objective=mlm", f"data.translated={translated}", f"data.language_seed={seed}",
                 f"cache_dir={tmp_path}"]  # fmt: skip
        prepared = prepare(check(compose(words)), say=lambda line: None)
        for text in (prepared.train_text, prepared.validation_text, prepared.validation.corpus):
            assert text.language_names == prepared.train_text.language_names and text.languages is not None
            theirs = [bool(letters - {"LATIN"}) for letters in spoken(text, prepared.tokenizer)]  # language b's
            assert ((text.languages == text.language_names.index("b")) == theirs).all()
            # to another process it goes as the name of its folder
            sent = pickle.loads(pickle.dumps(text))
            assert (sent.languages == text.languages).all() and sent.language_names == text.language_names
            assert sent.fingerprint == text.fingerprint
        folder = prepared.validation_text.folder
        assert folder is not None
        swapped += opened(folder).language_names != prepared.train_text.language_names
    assert translated == 1.0 or swapped


def test_languages_are_numbered_by_a_list_of_names(corpus: TokenizedCorpus) -> None:
    assert corpus.languages is not None
    assert (numbered(corpus, ()).languages == corpus.languages).all()
    assert numbered(corpus, ("x", "y")).fingerprint == corpus.fingerprint
    turned = numbered(corpus, ("z", "w", "x"))
    assert turned.language_names == ("z", "w", "x", "y") and turned.fingerprint != corpus.fingerprint
    assert (turned.languages == np.array([2, 3, 0])[corpus.languages]).all()
    assert (numbered(turned, ("x", "y", "z")).languages != turned.languages).any()
    plain = replace(corpus, languages=None, language_names=())
    assert numbered(plain, NAMES) is plain


def test_a_validation_in_an_unseen_language_is_refused(corpus: TokenizedCorpus) -> None:
    shape: dict[str, Any] = {"layers": 1, "width": 32, "heads": 2, "inner": 48, "languages": 3}
    train = numbered(replace(corpus, languages=np.zeros_like(corpus.languages), language_names=("x",)), ())
    with pytest.raises(Refusal, match=r"also in a language that the training text is not in \(y, z\)"):
        _refuse_languages(XLM(50, 20, False, **shape), train, numbered(corpus, train.language_names))
    shape["languages"] = 1
    _refuse_languages(XLM(50, 20, False, **shape), train, corpus)


def test_a_table_that_was_taken_over_cannot_grow(corpus: TokenizedCorpus) -> None:
    shape: dict[str, Any] = {"layers": 1, "width": 32, "heads": 2, "inner": 48, "languages": 2}
    with pytest.raises(
        Refusal, match=r"init=there has a table of 2 languages, which cannot grow.* without init"
    ) as told:
        _refuse_languages(XLM(50, 20, False, **shape), corpus, corpus, "init=there")
    assert "Say model.languages" not in str(told.value)


def test_sampling_that_has_no_effect_is_said(corpus: TokenizedCorpus) -> None:
    linked = replace(corpus, translations=np.roll(np.arange(len(corpus.sentences) - 1), 1))
    pairs = TranslationExamples(words(), 32).build(linked, 0)
    assert evened(pairs, 0.5, 1) is pairs
    assert idle(pairs, 0.5) and "data.language_sampling=0.5 has no effect" in idle(pairs, 0.5)[0]
    assert idle(pairs, None) == idle(pairs, 1.0) == []
    assert idle(replace(pairs, corpus=replace(linked, language_names=())), 0.5) == []
    assert idle(MaskedExamples(words(), 32).build(corpus, 0), 0.5) == []


def test_a_model_learns_its_languages(corpus: TokenizedCorpus) -> None:
    """Every row of the table of languages gets a gradient."""
    shape: dict[str, Any] = {"layers": 1, "width": 32, "heads": 2, "inner": 48, "languages": 3}
    kinds: tuple[Any, ...] = (Mixed, PrefixLM, MaskedLM, CausalLM)
    for kind in kinds:
        builder = kind.Examples(words(), 32)
        examples = builder.build(corpus, 0)
        assert examples.languages is not None
        indices = np.concatenate([np.flatnonzero(examples.languages == language)[:3] for language in range(3)])
        sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
        model = XLM(1000, 32, False, **shape)
        output = kind(model, words())(model, batch_of(sample))
        sum(term.total for term in output.terms.values()).backward()  # type: ignore[union-attr]
        assert model.language is not None and model.language.weight.grad is not None
        assert model.language.weight.grad.abs().sum(-1).gt(0).all()
