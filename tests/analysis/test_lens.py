"""The lens shows what the model gets, readable without colour; the audit believes nobody."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cloze.analysis.lens import audit, count, show, visible
from cloze.data import keyed
from cloze.data.base import Packed, Sample, Vocabulary
from cloze.objectives.base import ExampleBuilder, Tally
from cloze.objectives.clm import CausalExamples
from cloze.objectives.mlm import MaskedExamples
from cloze.objectives.span_corruption import SpanExamples
from tests.objectives.corpora import random_corpus, vocabulary

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


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
