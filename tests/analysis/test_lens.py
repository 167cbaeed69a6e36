"""The lens shows what the model gets, readable without colour; the audit believes nobody."""

from __future__ import annotations

import inspect
import io
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from cloze.analysis.lens import _outputs, _pictures, audit, count, show, visible
from cloze.check import built_by, with_parts
from cloze.compose import defaults
from cloze.data import keyed
from cloze.data.base import Packed, Sample, Vocabulary
from cloze.data.batches import batch_of
from cloze.models.layers.relative import sight_by_order
from cloze.models.layout import Layout
from cloze.objectives.base import ExampleBuilder, Tally
from cloze.objectives.clm import CausalExamples
from cloze.objectives.framing import RecordExamples
from cloze.objectives.mlm import MaskedExamples
from cloze.objectives.span_corruption import SpanExamples
from tests.objectives.corpora import random_corpus, sequences, vocabulary
from tests.objectives.test_tlm import doubled

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


# those that learn from text without labels; what is shown of labelled data stands in tests/analysis/test_lens_labelled.py
ON_TEXT = [
    name
    for name, objective in built_by("objective").items()
    if objective.trains and not issubclass(objective.Examples, RecordExamples)
]


class Words:
    """Token 17 is written t17."""

    def token(self, id: int) -> str:
        return NAMES[id] if id < 5 else f"t{id}"


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=100_000, no_color=True), out


def shown(builder: ExampleBuilder, n: int = 3) -> tuple[list[str], Sample]:
    """The printed lines, and the sample that they are of."""
    corpus = random_corpus(5000)
    examples = builder.build(corpus, 0)
    screen, out = console()
    show(n, builder, examples, Words(), screen, 7)
    indices = keyed.permutation(keyed.key(7, "order", 0), len(examples))[:n]
    return out.getvalue().splitlines(), builder.sample(examples, indices, builder.keys(7, 0, indices))


def test_hidden_tokens_stand_in_brackets_behind_what_replaces_them() -> None:
    lines, sample = shown(MaskedExamples(vocabulary(), 64, mask_ratio=0.4, mask=0.4, random=0.3, keep=0.3))
    words = [word for line in lines if line.startswith("[CLS]") for word in line.split()]
    assert len(words) == len(sample.inputs.tokens)
    wanted = dict(zip(sample.targets["at"].tolist(), sample.targets["tokens"].tolist(), strict=True))
    for place, (word, token) in enumerate(zip(words, sample.inputs.tokens.tolist(), strict=True)):
        expected = Words().token(token)
        assert word == (f"{expected}(t{wanted[place]})" if place in wanted else expected)
    legend = [line.partition(":")[0] for line in lines[:5]]
    assert legend == ["masked", "replaced", "kept", "special", "(in brackets)"]


def test_pairs_tell_their_label_and_documents() -> None:
    lines, sample = shown(MaskedExamples(vocabulary(), 64, format="segment_pair", pair="nsp"), 8)
    heads = [line for line in lines if line.startswith("example ")]
    assert len(heads) == 8
    for number, head in enumerate(heads):
        label = int(sample.targets["pair"][number])
        first, second = sample.extra["pairs"].documents[number]
        assert f"pair label {label}" in head
        assert (f"from document {second}, the first from {first}" in head) == (label == 1)
        a, b = sample.extra["pairs"].sizes[number]
        assert f"segments of {a + 2} + {b + 1}" in head


def test_a_decoders_text_and_a_causal_models_targets_are_shown() -> None:
    words = Vocabulary(1000, {"pad": 0, "eos": 1}, tuple(range(999, 899, -1)))
    lines, sample = shown(SpanExamples(words, 64))
    assert sample.decoder is not None
    reads = [line for line in lines if line.startswith("decoder reads: ")]
    writes = [line for line in lines if line.startswith("decoder writes: ")]
    written = [word for line in writes for word in line.split()[2:]]
    assert written == [Words().token(t) for t in sample.targets["tokens"].tolist()]
    assert len(reads) == 3
    assert sum("who sees whom" in line or "the decoder" in line for line in lines) == 3
    lines, sample = shown(CausalExamples(words, 64))
    predicted = [word for line in lines if line.startswith("predicts: ") for word in line.split()[1:]]
    assert predicted == [Words().token(t) for t in sample.targets["tokens"].tolist()]


def test_who_sees_whom_is_what_each_pattern_says() -> None:
    rows, columns = np.array([3, 2]), np.array([2, 4])
    for causal in (False, True):
        for prefix in (None, np.array([2, 1])):
            seen = visible(rows, rows, causal, prefix)
            for i in range(5):
                for j in range(5):
                    same = (i < 3) == (j < 3)
                    start = 0 if i < 3 else 3
                    ahead = causal and j > i and not (prefix is not None and j - start < prefix[int(i >= 3)])
                    assert seen[i, j] == (same and not ahead)
    across = visible(rows, columns, False, None)
    assert across.tolist() == [[True] * 2 + [False] * 4] * 3 + [[False] * 2 + [True] * 4] * 2


def built_as(name: str) -> tuple[ExampleBuilder, Any, Vocabulary]:
    """The data half of an objective as its file sets it, with a corpus for it."""
    half = built_by("objective")[name].Examples
    node = defaults("objective", name)
    if built_by("objective")[name].composite:
        node, _ = with_parts(node)
    special = {role: number for number, role in enumerate(("pad", "unk", "cls", "sep", "mask", "bos", "eos"))}
    _, sentinels = half.needs(node)
    words = Vocabulary(3000, special, tuple(range(2999, 2999 - sentinels, -1)))
    named = inspect.signature(half).parameters
    builder = half(words, 32, **{key: value for key, value in node.items() if key in named})
    corpus = random_corpus(4000, size=900, sentence=(4, 12))
    corpus.tokens[:] = np.maximum(corpus.tokens, 10)
    return builder, doubled(corpus, 1000) if name == "tlm" else corpus, words


class Numbers:
    """Each token as its number, so that what is printed can be read back."""

    def token(self, id: int) -> str:
        return f"t{id}"


@pytest.mark.parametrize("name", ON_TEXT)
def test_every_target_is_shown_where_it_belongs(name: str) -> None:
    builder, corpus, _ = built_as(name)
    examples = builder.build(corpus, 0)
    screen, out = console()
    show(4, builder, examples, Numbers(), screen, 7)
    lines = out.getvalue().splitlines()
    indices = keyed.permutation(keyed.key(7, "order", 0), len(examples))[:4]
    sample = builder.sample(examples, indices, builder.keys(7, 0, indices))
    heads = [number for number, line in enumerate(lines) if line.startswith("example ")]
    texts = iter([lines[number + 1].split() for number in heads])
    rest = {
        title: iter([line.removeprefix(f"{title}: ").split() for line in lines if line.startswith(f"{title}: ")])
        for title in ("predicts", "predicts, in this order", "predicts forward", "predicts backward", "decoder writes")
    }
    for _, each, _part in builder.views(sample):
        lengths = each.inputs.lengths
        for number, (start, length) in enumerate(zip(np.cumsum(lengths) - lengths, lengths, strict=True)):
            shown_here, span = next(texts), range(start, start + length)
            tokens = [f"t{token}" for token in each.inputs.tokens[start : start + length]]
            if each.decoder is not None:
                own = sequences(each.targets["tokens"], each.decoder.lengths)[number]
                assert next(rest["decoder writes"]) == [f"t{token}" for token in own]
            elif "forward_at" in each.targets:
                for direction, step in (("forward", 1), ("backward", -1)):
                    said = next(rest[f"predicts {direction}"])
                    assert len(said) == length
                    for place, word in enumerate(said):
                        if 0 <= place + step < length:
                            assert word == tokens[place + step]
            elif each.inputs.queries is not None:
                mine = [place - start for place in each.inputs.queries if place in span]
                tokens = [f"{token}({token})" if place in mine else token for place, token in enumerate(tokens)]
                assert each.inputs.order is not None
                ranked = sorted(mine, key=lambda place: each.inputs.order[start + place])
                assert next(rest["predicts, in this order"]) == [f"t{each.inputs.tokens[start + p]}" for p in ranked]
            elif "at" in each.targets:
                for place, token in zip(each.targets["at"], each.targets["tokens"], strict=True):
                    if place in span:
                        tokens[place - start] += f"(t{token})"
            else:
                said = next(rest["predicts"])
                assert said == [f"t{token}" for token in sequences(each.targets["tokens"], lengths)[number]]
                assert said[:-1] == tokens[1:]
            assert shown_here == tokens
    assert next(texts, None) is None and all(next(lines_left, None) is None for lines_left in rest.values())


@pytest.mark.parametrize("name", ON_TEXT)
def test_who_sees_whom_is_what_the_model_is_given(name: str) -> None:
    """The pictures against the layout that the batch has, row by row."""
    builder, corpus, _ = built_as(name)
    examples = builder.build(corpus, 0)
    indices = np.arange(3)
    sample = builder.sample(examples, indices, builder.keys(1, 0, indices))
    for _, each, _part in builder.views(sample):
        batch = batch_of(each, each.counts, (0, 1, 2), 0, 1)
        layout, ends = batch.inputs.layout, np.cumsum(each.inputs.lengths)
        (_, first), *others = _pictures(each, 3)
        two = "forward_at" in each.targets
        expected = np.zeros((ends[-1], ends[-1]), bool)
        behind: list[np.ndarray[Any, Any]] = []
        for number, (end, length) in enumerate(zip(ends, each.inputs.lengths, strict=True)):
            block = slice(end - length, end)
            if each.inputs.order is not None:
                ranks = torch.tensor(each.inputs.order[block])[None]
                one = Layout([int(length)], "bidirectional")
                sees, lower = sight_by_order(ranks, one)
                expected[block, block] = sees.seen[0].numpy()
                asked = [place - block.start for place in each.inputs.queries if block.start <= place < end]  # type: ignore[union-attr]
                behind.append(lower[0].numpy()[asked])
                continue
            for i in range(length):
                for j in range(length):
                    prefix = 0 if each.prefix is None else each.prefix[number]
                    one_sided = two or layout.pattern in ("causal", "prefix")
                    expected[block.start + i, block.start + j] = not one_sided or j <= i or j < prefix
        assert (first == expected).all()
        if two:
            assert (others[0][1] == expected.T).all()
        if behind:
            drawn = others[0][1]
            assert drawn.shape == (len(each.inputs.queries), ends[-1])  # type: ignore[arg-type]
            row = 0
            for number, block_rows in enumerate(behind):
                block = slice(ends[number] - each.inputs.lengths[number], ends[number])
                assert (drawn[row : row + len(block_rows), block] == block_rows).all()
                assert drawn[row : row + len(block_rows)].sum() == block_rows.sum()
                row += len(block_rows)


def test_a_permutations_picture_row_by_row() -> None:
    """t10 t11 t12, and t13 given: t12 comes first, then t10, then t11."""
    ranks = np.array([1, 2, 0, -1])
    inputs = Packed(np.arange(10, 14), np.array([4]), order=ranks, queries=np.array([0, 1, 2]))
    sample = Sample(inputs, {"tokens": np.arange(10, 13)}, {})
    (_, states), (_, predictions) = _pictures(sample, 1)
    assert states.astype(int).tolist() == [[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert predictions.astype(int).tolist() == [[0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 1]]
    assert _outputs(sample, 0, Numbers()) == [("predicts, in this order", "t12 t10 t11")]


def test_pictures_without_unicode() -> None:
    examples = MaskedExamples(vocabulary(), 16).build(random_corpus(500), 0)
    raw = io.BytesIO()
    screen = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=200, no_color=True)
    show(2, MaskedExamples(vocabulary(), 16), examples, Words(), screen, 0)
    screen.file.flush()
    assert "##" in raw.getvalue().decode("ascii")


@pytest.mark.parametrize(
    "settings",
    [{}, {"unit": "span"}, {"format": "segment_pair", "pair": "nsp"}, {"format": "segment_pair", "pair": "sop"}],
    ids=str,
)
def test_the_audit_finds_nothing_wrong_with_an_honest_builder(settings: dict[str, Any]) -> None:
    builder = MaskedExamples(vocabulary(), 128, **settings)
    examples = builder.build(random_corpus(60_000), 0)
    tallies, counted = count(builder, examples, seed=3, tokens=200_000)
    assert 200_000 <= counted < 200_000 + 256 * 128
    # one in 370 lies outside three sigma by chance; four sigma is one in 16,000
    assert all(abs(tally.seen - tally.expected) <= 4 * tally.variance**0.5 + 1e-6 for tally in tallies.values())


class Liar(MaskedExamples):
    """Declares one rate and masks at another."""

    def tally(self, sample: Sample) -> dict[str, Tally]:
        claimed = MaskedExamples(self.vocabulary, self.length, mask=0.79, random=0.11)
        return claimed.tally(sample)


def test_the_audit_finds_a_rate_that_is_one_percent_off() -> None:
    builder = Liar(vocabulary(), 128)
    examples = builder.build(random_corpus(60_000), 0)
    screen, out = console()
    screen.print(audit(builder, examples, seed=0, tokens=1_000_000))
    rows = {line.split("│")[1].strip(): line for line in out.getvalue().splitlines() if line.count("│") > 5}
    assert rows["masked of the selected"].rstrip(" │").endswith("NO")
    assert rows["replaced of the selected"].rstrip(" │").endswith("NO")
    assert rows["kept of the selected"].rstrip(" │").endswith("yes")
    assert "0.79000" in rows["masked of the selected"]


def test_repeated_masks_are_counted_once() -> None:
    builder = MaskedExamples(vocabulary(), 64, masking="static", duplicates=2)
    examples = builder.build(random_corpus(3000), 0)
    _, counted = count(builder, examples, seed=0, tokens=1_000_000)
    assert counted == 2 * int(examples.lengths.sum())


class Silent(ExampleBuilder):
    """Declares nothing."""

    def build(self, *_: Any) -> Any: ...

    def sample(self, examples: Any, indices: Any, keys: Any) -> Sample:
        n = np.full(len(indices), 10)
        return Sample(Packed(np.zeros(10 * len(n), np.int64), n), {}, {})


def test_an_objective_that_declares_nothing_says_so() -> None:
    examples = MaskedExamples(vocabulary(), 16).build(random_corpus(500), 0)
    screen, out = console()
    screen.print(audit(Silent(), examples, seed=0, tokens=100))
    assert "declares no rates" in out.getvalue()


def test_tallies_add_up_and_hold_within_three_sigma() -> None:
    tally = Tally.share(0.5, 48, 100) + Tally.share(0.5, 62, 100)
    assert (tally.expected, tally.seen, tally.trials, tally.variance) == (100.0, 110.0, 200, 50.0)
    assert tally.holds
    assert not Tally.share(0.5, 66, 100).holds
    assert not Tally.share(1.0, 99, 100).holds
    assert Tally.share(1.0, 100, 100).holds
