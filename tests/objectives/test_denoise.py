"""BART's noises on 200,000 tokens: their rates, what they leave alone, and that the decoder is shown nothing ahead of it."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from cloze.data import keyed
from cloze.data.base import Sample, TokenizedCorpus, Vocabulary
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.bart import Bart
from cloze.objectives import noise
from cloze.objectives.base import Tally
from cloze.objectives.denoise import Denoising, DenoisingExamples, sentences
from tests.models.parity import reached
from tests.objectives.corpora import numbered_corpus, random_corpus
from tests.objectives.corpora import sequences as pieces

BOS, PAD, EOS, MASK = 0, 1, 2, 4
VOCABULARY = Vocabulary(1000, {"bos": BOS, "pad": PAD, "eos": EOS, "mask": MASK})
NOTHING: dict[str, Any] = {"infill": 0.0, "permute": 0.0}


def samples_of(builder: DenoisingExamples, corpus: TokenizedCorpus, size: int = 64) -> list[tuple[Any, Sample]]:
    examples = builder.build(corpus, 0)
    order = np.random.default_rng(0).permutation(len(examples))
    parts = np.split(order, np.arange(size, len(order), size))
    return [(examples.table[part], builder.sample(examples, part, builder.keys(1, 0, part))) for part in parts]


def texts_of(corpus: TokenizedCorpus, table: Any, sample: Sample) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Each text and its damaged copy, without the tokens around it. What is written is the text, whatever the noise."""
    assert sample.decoder is not None
    found = []
    for row, damaged, reads, writes in zip(
        table,
        pieces(sample.inputs.tokens, sample.inputs.lengths),
        pieces(sample.decoder.tokens, sample.decoder.lengths),
        pieces(sample.targets["tokens"], sample.decoder.lengths),
        strict=True,
    ):
        text = corpus.tokens[row[0] : row[1]]
        assert writes.tolist() == [BOS, *text, EOS]
        assert reads.tolist() == [EOS, BOS, *text]
        assert (damaged[0], damaged[-1]) == (BOS, EOS)
        found.append((text, damaged[1:-1]))
    return found


def is_part_in_order(part: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(token in rest for token in part)


@pytest.mark.parametrize("documents", ["packed", "apart"])
def test_infilling_hides_whole_words_and_as_many_as_declared(documents: Any) -> None:
    """The damaged text with its masks replaced by what they hide is the text; its spans are Poisson(3), none of them overlapping."""
    corpus = random_corpus(200_000)
    builder = DenoisingExamples(VOCABULARY, 128, permute=0.0, documents=documents)
    read = np.zeros(len(corpus.tokens), int)
    hidden = words = 0
    drawn: Counter[int] = Counter()
    tallies: dict[str, Tally] = {}
    for table, sample in samples_of(builder, corpus):
        counts, sizes = iter(sample.extra["hidden"].tolist()), iter(sample.extra["sizes"].tolist())
        for row, (text, damaged) in zip(table, texts_of(corpus, table, sample), strict=True):
            assert len(damaged) <= 126
            starts = corpus.word_starts[row[0] : row[1]].copy()
            starts[0] = True
            read[row[0] : row[1]] += 1
            at, mine = 0, 0
            for token in damaged.tolist():
                if token != MASK:
                    assert text[at] == token
                    at += 1
                    continue
                tokens, size = next(counts), next(sizes)
                assert starts[at : at + tokens].sum() == size  # a span begins with a word …
                at += tokens
                assert at == len(text) or starts[at] or not tokens  # … and ends with one
                mine += size
            assert at == len(text)
            assert mine == int(np.ceil(0.3 * starts.sum() - 1e-9))
            hidden, words = hidden + mine, words + int(starts.sum())
        assert next(counts, None) is None
        drawn.update(sample.extra["drawn"].tolist())
        for name, tally in builder.tally(sample).items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
    assert (read == 1).all()
    # rounding up is what is above 0.3: half a word a text where texts are long
    assert hidden / words == pytest.approx(0.3, abs=0.012)
    assert all(tally.holds for tally in tallies.values()), tallies
    assert {name.split(" (")[0] for name in tallies} >= {"words in spans", "masks: one a span", "spans of 0 words"}
    seen = [drawn[n] for n in range(9)] + [sum(count for n, count in drawn.items() if n > 8)]
    expected = [stats.poisson.pmf(n, 3) for n in range(9)] + [stats.poisson.sf(8, 3)]
    total = sum(seen)
    assert stats.chisquare(seen, np.array(expected) * total).pvalue > 1e-3
    assert seen[0] / total == pytest.approx(0.0498, abs=4 * np.sqrt(0.0498 * 0.95 / total))


@pytest.mark.parametrize("mean", [1.0, 3.0, 20.0])
def test_lengths_are_poisson_and_make_up_the_budget(mean: float) -> None:
    budget = np.random.default_rng(0).integers(0, 60, 5000)
    drawn, used = noise.span_lengths(budget, mean, keyed.keys(3, np.arange(len(budget))))
    inside = np.arange(drawn.shape[1]) < used[:, None]
    reached = np.where(inside, drawn, 0).sum(1)
    last = drawn[np.arange(len(budget)), np.maximum(used - 1, 0)]
    assert ((reached >= budget) & ((reached - last < budget) | (used == 0))).all()
    assert (used == 0).tolist() == (budget == 0).tolist()
    assert noise.poisson(mean)[:30] == pytest.approx(stats.poisson.pmf(np.arange(30), mean), abs=1e-15)
    seen = np.bincount(drawn[inside], minlength=60)
    whole = stats.poisson.pmf(np.arange(len(seen)), mean) * seen.sum()
    often = whole > 20
    shares = np.append(whole[often], seen.sum() - whole[often].sum())
    assert stats.chisquare(np.append(seen[often], seen[~often].sum()), shares).pvalue > 1e-3


def test_every_place_of_a_span_is_equally_likely() -> None:
    """3 words that stay and 2 spans: 20 ways to put them in a row."""
    draws = 20 * 500
    kept, added = np.full(draws, 3), np.full(draws, 2)
    owner, number = noise._mingled(kept, added, keyed.keys(9, np.arange(draws)))
    assert (owner == np.repeat(np.arange(draws), 5)).all()
    seen = Counter(map(tuple, number.reshape(-1, 5).tolist()))
    assert set(seen) == set(itertools.permutations([-1, -1, -1, 0, 1]))
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_what_spans_become() -> None:
    corpus = random_corpus(50_000)
    for become in ("masks", "nothing"):
        builder = DenoisingExamples(VOCABULARY, 64, permute=0.0, spans_become=become)  # type: ignore[arg-type]
        for table, sample in samples_of(builder, corpus):
            for text, damaged in texts_of(corpus, table, sample):
                if become == "masks":  # every token stands where it stood, or is masked
                    assert len(damaged) == len(text) and ((damaged == text) | (damaged == MASK)).all()
                else:
                    assert is_part_in_order(damaged.tolist(), text.tolist())
            hidden = sample.extra["hidden"].sum()
            masks = (sample.inputs.tokens == MASK).sum()
            assert masks == (hidden if become == "masks" else 0)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_sentences_change_places_whole(share: float) -> None:
    corpus = random_corpus(200_000)
    builder = DenoisingExamples(VOCABULARY, 128, infill=0.0, permute=share)
    total = Tally(0.0, 0.0, 0)
    orders: Counter[tuple[int, ...]] = Counter()
    for table, sample in samples_of(builder, corpus):
        sizes, counts = sentences(corpus, table)
        for (text, damaged), own, order in zip(
            texts_of(corpus, table, sample), pieces(sizes, counts), pieces(sample.extra["order"], counts), strict=True
        ):
            parts = [tuple(part) for part in pieces(text, own)]
            local = (order - order.min()).tolist()
            assert damaged.tolist() == [token for i in local for token in parts[i]]
            assert sorted(local) == list(range(len(parts)))
            if len(parts) == 4:
                orders[tuple(local)] += 1
        (tally,) = builder.tally(sample).values()
        total += tally
    assert total.holds and total.trials > 10_000
    if share == 1.0:
        assert len(orders) == 24 and stats.chisquare(list(orders.values())).pvalue > 1e-3


def test_sentences_of_a_window_are_the_corpus_own() -> None:
    corpus, _ = numbered_corpus([[3, 2, 4], [5], [1, 1]])
    rows = np.array([[0, 9], [1, 6], [4, 4 + 5], [9, 16], [2, 3]])
    sizes, counts = sentences(corpus, rows)
    assert [part.tolist() for part in pieces(sizes, counts)] == [[3, 2, 4], [2, 2, 1], [1, 4], [5, 1, 1], [1]]


def test_rotation_turns_a_text_and_keeps_its_tokens() -> None:
    corpus = random_corpus(200_000)
    builder = DenoisingExamples(VOCABULARY, 34, **NOTHING, rotate=0.4, documents="packed")
    begun: list[int] = []
    total = Tally(0.0, 0.0, 0)
    for table, sample in samples_of(builder, corpus):
        for (text, damaged), first in zip(texts_of(corpus, table, sample), sample.extra["first"], strict=True):
            assert damaged.tolist() == np.roll(text, -max(first, 0)).tolist()
            if first >= 0 and len(text) == 32:
                begun.append(int(first))
        (tally,) = builder.tally(sample).values()
        total += tally
    assert total.holds
    assert stats.chisquare(np.bincount(begun, minlength=32)).pvalue > 1e-3


def test_masking_deletion_and_insertion_take_exactly_their_share() -> None:
    corpus = random_corpus(200_000)
    which = {"mask": 0.15, "delete": 0.3, "insert": 0.2}
    for name, share in which.items():
        builder = DenoisingExamples(VOCABULARY, 128, **NOTHING, **{name: share})
        places = np.zeros(4)  # where in the text it happens, by quarters
        for table, sample in samples_of(builder, corpus):
            for text, damaged in texts_of(corpus, table, sample):
                count = int(np.ceil(len(text) * share - 1e-9))
                masks = np.flatnonzero(damaged == MASK)
                if name == "mask":
                    assert len(masks) == count and ((damaged == text) | (damaged == MASK)).all()
                elif name == "delete":
                    assert len(damaged) == len(text) - count and is_part_in_order(damaged.tolist(), text.tolist())
                else:
                    assert len(masks) == count and damaged[damaged != MASK].tolist() == text.tolist()
                if name != "delete" and len(damaged) > 60:
                    places += np.histogram(masks / len(damaged), [0, 0.25, 0.5, 0.75, 1])[0]
            assert all(tally.holds for tally in builder.tally(sample).values())
        if name != "delete":
            assert places / places.sum() == pytest.approx([0.25] * 4, abs=0.01)


def test_all_noises_together_and_random_tokens() -> None:
    """In this order: sentences, spans, masks, deletion, insertion, random tokens for masks, rotation."""
    corpus = random_corpus(100_000)
    everything = {"infill": 0.2, "permute": 0.5, "mask": 0.1, "delete": 0.1, "insert": 0.1, "rotate": 0.5}
    builder = DenoisingExamples(VOCABULARY, 96, **everything, random=0.3)  # type: ignore[arg-type]
    tallies: dict[str, Tally] = {}
    for table, sample in samples_of(builder, corpus):
        assert sample.inputs.lengths.max() <= 96
        assert not set(sample.inputs.tokens.tolist()) & {PAD}
        texts_of(corpus, table, sample)
        for name, tally in builder.tally(sample).items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
    assert len(tallies) == 11 and all(tally.holds for tally in tallies.values()), tallies


@settings(max_examples=60, deadline=None)
@given(
    st.integers(4, 40),
    st.fixed_dictionaries(
        {name: st.floats(0, 1) for name in ("infill", "permute", "mask", "delete", "insert", "rotate")}
    ),
    st.sampled_from(["one_mask", "masks", "nothing"]),
    st.integers(0, 2**32),
)
def test_any_noise_fits_and_leaves_the_target_alone(
    length: int, shares: dict[str, float], become: Any, seed: int
) -> None:
    corpus = random_corpus(300, seed % 100)
    settings_: dict[str, Any] = dict(shares, spans_become=become if shares["infill"] else "one_mask")
    if not any(shares.values()):
        settings_["mask"] = 0.5
    if length - 2 < 1 + np.ceil(shares["insert"]):
        return
    builder = DenoisingExamples(VOCABULARY, length, **settings_)
    examples = builder.build(corpus, 0)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, keyed.keys(seed, indices))
    assert sample.inputs.lengths.max() <= length and sample.inputs.lengths.min() >= 2
    texts_of(corpus, examples.table, sample)
    assert builder.counts(examples, indices, keyed.keys(seed, indices)) == sample.counts


def test_spans_of_no_word_are_left_out_where_there_is_no_room() -> None:
    """A text of two words one of which is hidden has room for one mask alone; longer ones keep theirs."""
    texts = noise.Texts.of(np.arange(10, 16), np.ones(6, bool), np.array([2, 4]))
    left_out = 0
    for seed in range(300):
        damaged, spans = noise.infill(texts, 0.3, 1.0, "one_mask", MASK, 2, keyed.keys(seed, np.arange(2)))
        drawn, used = noise.span_lengths(np.array([1, 2]), 1.0, keyed.stream(keyed.keys(seed, np.arange(2)), "lengths"))
        assert damaged.lengths[0] == 2 and damaged.lengths.sum() == len(damaged.tokens)
        assert (damaged.tokens == MASK).sum() == len(spans.sizes)
        assert (spans.sizes[spans.owner == 0] > 0).sum() == 1
        left_out += int(used.sum()) - len(spans.sizes)
        assert (drawn[0, : used[0]] == 0).sum() >= (spans.sizes[spans.owner == 0] == 0).sum() == 0
    assert left_out > 0


def test_samples_depend_on_their_keys_alone() -> None:
    builder = DenoisingExamples(
        VOCABULARY, 64, mask=0.1, delete=0.1, insert=0.1, rotate=0.5, random=0.2, documents="packed"
    )
    examples = builder.build(random_corpus(5_000), 0)
    order = np.arange(len(examples))
    together = builder.sample(examples, order, builder.keys(5, 2, order))
    rows = pieces(together.inputs.tokens, together.inputs.lengths)
    for i in (0, 7, len(examples) - 1):
        one = order[i : i + 1]
        alone = pickle.loads(pickle.dumps(builder)).sample(examples, one, builder.keys(5, 2, one))
        assert alone.inputs.tokens.tolist() == rows[i].tolist()
        assert builder.counts(examples, one, keyed.keys(0, one)) == alone.counts
    other = builder.sample(examples, order, builder.keys(5, 3, order))
    assert other.inputs.tokens.tolist() != together.inputs.tokens.tolist()


@pytest.mark.parametrize(
    "setting", [{}, {"documents": "packed", "insert": 0.1}, {"permute": 0.0, "delete": 0.2}], ids=str
)
def test_tokens_of_a_budget_are_nearly_those_that_a_run_counts(setting: dict[str, Any]) -> None:
    builder = DenoisingExamples(VOCABULARY, 128, **setting)
    examples = builder.build(random_corpus(100_000), 0)
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    counted = batch_of(sample, sample.counts, tuple(indices), 0, 1).real_tokens
    assert examples.total_tokens == pytest.approx(counted, rel=0.01)


def test_validation_is_damaged_in_one_way_only() -> None:
    arms = (
        DenoisingExamples(VOCABULARY, 64, delete=0.3, insert=0.3, rotate=1.0, **NOTHING),
        DenoisingExamples(VOCABULARY, 64, infill=0.15, mean_span=5.0, spans_become="nothing"),
    )
    examples = arms[0].judge().build(random_corpus(3_000), 0)
    indices = np.arange(len(examples))
    sampled = [arm.judge().sample(examples, indices, keyed.keys(1, indices)).inputs.tokens.tolist() for arm in arms]
    assert sampled[0] == sampled[1]
    judge = arms[0].judge()
    assert (judge.infill, judge.mean_span, judge.permute, judge.delete, judge.rotate) == (0.3, 3.0, 1.0, 0.0, 0.0)


def test_what_the_lens_sees() -> None:
    builder = DenoisingExamples(VOCABULARY, 64)
    examples = builder.build(random_corpus(2_000), 0)
    sample = builder.sample(examples, np.arange(4), builder.keys(0, 0, np.arange(4)))
    words = [word for row in builder.explain(sample) for word in row]
    assert [word == "masked" for word in words] == (sample.inputs.tokens == MASK).tolist()
    assert words.count("special") == 8


@pytest.mark.parametrize(
    ("setting", "length", "words"),
    [
        ({"infill": 1.7}, 64, "objective.infill=1.7 must lie in"),
        ({"rotate": -1.0}, 64, "objective.rotate=-1 must lie in"),
        ({"mean_span": 0.5}, 64, "objective.mean_span=0.5 must be at least 1 word"),
        ({"judged_span": 0.0}, 64, "objective.judged_span=0 must be"),
        (NOTHING, 64, "without any noise"),
        ({"judged_infill": 0.0, "judged_permute": 0.0}, 64, "validation would ask for a copy"),
        ({"infill": 0.0, "mean_span": 2.0}, 64, "objective.mean_span=2 has no effect with objective.infill=0"),
        ({"infill": 0.0, "spans_become": "masks"}, 64, "objective.spans_become=masks has no effect"),
        ({"infill": 0.0, "random": 0.1}, 64, "objective.random=0.1 has no effect"),
        ({}, 2, "length=2 is too short"),
        ({"insert": 1.0}, 3, "length=3 is too short"),
    ],
)
def test_wrong_settings_are_refused(setting: dict[str, Any], length: int, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        DenoisingExamples(VOCABULARY, length, **setting)


def test_a_corpus_without_tokens_is_refused() -> None:
    empty = TokenizedCorpus.of([])
    with pytest.raises(Refusal, match="objective=denoise needs at least one document"):
        DenoisingExamples(VOCABULARY, 64).build(empty, 0)


def test_loss_is_transformers_and_nothing_leaks() -> None:
    """Their own shift of the labels; what a span hides is nowhere in the encoder, and no target sees the decoder ahead of it."""
    transformers = import_module("transformers")
    corpus, known = numbered_corpus([[10] * 9])  # no token twice: what is hidden can be looked for
    vocabulary = Vocabulary(known.size + 5, {"bos": BOS, "pad": PAD, "eos": EOS, "mask": MASK})
    builder = DenoisingExamples(vocabulary, 32)
    examples = builder.build(corpus, 0)
    config = transformers.BartConfig(
        vocab_size=vocabulary.size, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=40, dropout=0.0,
        pad_token_id=PAD, decoder_start_token_id=EOS,
    )  # fmt: skip
    theirs = transformers.BartForConditionalGeneration(config).eval()
    shape, weights = Bart.from_transformers(config.to_dict(), theirs.state_dict())
    model = Bart(vocabulary.size, 32, False, **shape).eval()
    model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    objective = Denoising(model, vocabulary, head_rows=7)
    batch = batch_of(builder.sample(examples, np.arange(3), builder.keys(0, 0, np.arange(3))))
    assert batch.decoder is not None and batch.decoder.layout.lengths == (32, 32, 32)
    labels = batch.targets["tokens"].view(3, 32)
    read = batch.inputs.layout.lengths
    ids = torch.full((3, max(read)), PAD)
    for row, part in zip(ids, batch.inputs.tokens.split(read), strict=True):
        row[: len(part)] = part
    expected = theirs(ids, attention_mask=(ids != PAD).long(), labels=labels)
    output = objective(model, batch)
    term = output.terms["denoise"]
    assert abs(term.total / term.count - expected.loss) <= 1e-5
    metrics = objective.metrics()
    objective.measure(metrics, output, batch)
    assert metrics["accuracy"].compute() == pytest.approx(float((expected.logits.argmax(-1) == labels).float().mean()))

    def loss(at: int) -> torch.Tensor:
        logits = objective.head(model(batch).last[at : at + 1], model.word_embedding)
        return torch.nn.functional.cross_entropy(logits, batch.targets["tokens"][at : at + 1])

    own = batch.inputs.layout.offsets
    for at in (0, 3, 31, 34, 95):
        encoder, decoder = reached(model.word, lambda at=at: loss(at))
        text = at // 32
        assert decoder == list(range(text * 32, at + 1))
        assert encoder == list(range(own[text], own[text + 1]))
        shown = set(batch.inputs.tokens[encoder].tolist()) - {BOS, EOS, MASK}
        whole = set(labels[text].tolist()) - {BOS, EOS}
        assert shown < whole and len(whole - shown) == 9  # 30 words, of which 9 are hidden
