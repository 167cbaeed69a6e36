"""How tokens are chosen and beams followed: against enumeration, against transformers, with and without a cache."""

from __future__ import annotations

import itertools
import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from cloze.errors import Refusal
from cloze.inference import Decoding, generate
from cloze.models.base import Backbone, TokenHead
from cloze.models.gpt2 import GPT2
from cloze.models.t5 import T5
from tests.models.parity import scramble

transformers = import_module("transformers")

WORDS, END = 23, 2
STARTS = [[END, 7, 8], [END], [END, 3, 3, 3, 9, 11, 4], [END, 5]]
INPUTS = [[7, 8, 9, END], [4, END], [12, 13, 14, 15, 16, 17, END], [9, 9, END]]


def model_of(kind: str, words: int = WORDS, scale: float = 0.3) -> tuple[Backbone, TokenHead]:
    """A small model whose logits differ much, so that it writes more than one token over and over, and sometimes ends."""
    torch.manual_seed(3)
    shape = {"layers": 2, "width": 32, "heads": 2, "inner": 48}
    model: Backbone = (
        GPT2(words, 30, False, **shape) if kind == "gpt2" else T5(words, 30, False, head_width=16, **shape)
    )
    scramble(model, 4, scale)
    return model.eval(), model.token_head().eval()


def written(kind: str, decoding: Decoding, cached: bool = True, rows: Any = slice(None)) -> list[list[int]]:
    model, head = model_of(kind)
    if kind == "gpt2":
        return generate(model, head, STARTS[rows], END, decoding, cached=cached)
    return generate(model, head, [[0]] * len(STARTS[rows]), END, decoding, INPUTS[rows], cached=cached)


WAYS = [
    Decoding(25),
    Decoding(25, no_repeat_ngram=2),
    Decoding(25, temperature=1.0, seed=3),
    Decoding(25, temperature=1.3, top_k=5, top_p=0.9, seed=1),
    Decoding(25, beams=3),
    Decoding(12, beams=4, length_penalty=2.0, no_repeat_ngram=3),
    Decoding(12, beams=2, length_penalty=0.0),
]


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize("decoding", WAYS, ids=str)
def test_the_cache_changes_no_token(kind: str, decoding: Decoding) -> None:
    said = written(kind, decoding)
    assert said == written(kind, decoding, cached=False)
    assert len({tuple(row) for row in said}) > 1 and len({token for row in said for token in row}) > 2


@pytest.mark.parametrize("temperature", [1e-39, 1e-300, 5e-324])
def test_however_low_the_temperature_is_it_draws(temperature: float) -> None:
    logits = torch.tensor([[-3.0, 8.0, 7.9, -math.inf], [-60.0, -80.0, -70.0, -59.0]])
    assert Decoding(temperature=temperature, seed=1).choose(logits, [0, 1], 0) == [1, 3]


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize("decoding", [way for way in WAYS if way.temperature == 0], ids=str)
def test_a_text_is_gone_on_with_alone_as_among_others(kind: str, decoding: Decoding) -> None:
    together = written(kind, decoding)
    assert together == [written(kind, decoding, rows=slice(b, b + 1))[0] for b in range(len(STARTS))]


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize(
    ("beams", "settings"),
    [
        (1, {}),
        (1, {"no_repeat_ngram": 2}),
        *itertools.product([2, 5], [{}, {"length_penalty": 2.0}, {"length_penalty": 0.0}, {"no_repeat_ngram": 2}]),
    ],
    ids=str,
)
def test_transformers_writes_the_same(kind: str, beams: int, settings: dict[str, Any]) -> None:
    """Greedy and with beams, one text at a time: theirs pads, and an ended text's last tokens are padding."""
    model, _ = model_of(kind)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    from cloze.data.base import Vocabulary
    from cloze.loading import _defaults

    shape = {"layers": 2, "width": 32, "heads": 2, "inner": 48} | ({"head_width": 16} if kind == "t5" else {})
    complete = _defaults(type(model)) | shape
    config, weights = type(model).to_transformers(complete, state, Vocabulary(WORDS, {"pad": 0, "eos": END}))  # type: ignore[attr-defined]
    name = {"gpt2": "GPT2", "t5": "T5"}[kind]
    theirs = getattr(transformers, {"gpt2": "GPT2LMHeadModel", "t5": "T5ForConditionalGeneration"}[kind])(
        getattr(transformers, f"{name}Config")(**config)
    )
    theirs.load_state_dict(weights, strict=False)
    theirs.tie_weights()
    options = {"num_beams": beams, "no_repeat_ngram_size": settings.get("no_repeat_ngram", 0), "do_sample": False}
    if beams > 1:
        options |= {"length_penalty": settings.get("length_penalty", 1.0), "early_stopping": "never"}
    ours = written(kind, Decoding(12, beams=beams, **settings))
    for b, start in enumerate(STARTS):
        ids = torch.tensor([start if kind == "gpt2" else INPUTS[b]])
        out = (
            theirs.eval()
            .generate(
                ids, max_new_tokens=12, pad_token_id=0, eos_token_id=END, attention_mask=torch.ones_like(ids), **options
            )[0]
            .tolist()
        )
        said = out[len(start) if kind == "gpt2" else 1 :]
        assert ours[b] == (said[: said.index(END)] if END in said else said)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 3.0, -1.0])
@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_enough_beams_find_the_best_of_all_texts(kind: str, penalty: float) -> None:
    """All texts of a vocabulary of 4 up to 4 tokens, scored one by one: as many beams as there are beginnings miss none."""
    model, head = model_of(kind, words=4)
    longest = 4
    starts, inputs = ([[2, 1], [3]], None) if kind == "gpt2" else ([[0], [0]], [[3, 1], [1]])
    found = generate(model, head, starts, 2, Decoding(longest, beams=4**longest, length_penalty=penalty), inputs)
    from cloze.models.base import Batch
    from cloze.models.padding import flat

    for b, start in enumerate(starts):
        texts = [
            list(text)
            for n in range(1, longest + 1)
            for text in itertools.product(range(4), repeat=n)
            if 2 not in text[:-1] and (text[-1] == 2 or n == longest)
        ]
        rows = flat([[*start, *text] for text in texts], "causal")
        sources = None if inputs is None else flat([inputs[b]] * len(texts))
        batch = Batch(rows, {}, {}, {}) if sources is None else Batch(sources, {}, {}, {}, rows)
        with torch.no_grad():
            shares = head(model(batch).last, model.word_embedding).log_softmax(-1)
        scores = []
        for text, offset in zip(texts, rows.layout.offsets[:-1], strict=True):
            first = offset + len(start) - 1
            total = sum(float(shares[first + i, token]) for i, token in enumerate(text))
            scores.append(total / len(text) ** penalty)
        best = texts[int(np.argmax(scores))]
        assert found[b] == (best[:-1] if best[-1] == 2 else best)


def test_more_beams_score_no_worse() -> None:
    """Not a law of beam search, but one of these models' texts: a sign that the scores are what they should be."""
    model, head = model_of("gpt2")
    from cloze.models.base import Batch
    from cloze.models.padding import flat

    def score(said: list[int], start: list[int]) -> float:
        text = [*said, END] if len(said) < 10 else said
        with torch.no_grad():
            states = model(Batch(flat([[*start, *text]], "causal"), {}, {}, {})).last
            shares = head(states, model.word_embedding).log_softmax(-1)
        return sum(float(shares[len(start) - 1 + i, token]) for i, token in enumerate(text)) / len(text)

    totals = []
    for beams in (1, 4, 16):
        said = generate(model, head, STARTS, END, Decoding(10, beams=beams))
        totals.append(sum(score(row, start) for row, start in zip(said, STARTS, strict=True)))
    assert totals[0] < totals[1] <= totals[2] + 1e-6


# ------------------------------------------------------------------------------------------------------------- drawing


def test_what_is_drawn_is_as_frequent_as_it_is_probable() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -math.inf])
    draws = 20_000
    for settings, kept in (
        ({"temperature": 1.0}, 4),
        ({"temperature": 0.5}, 4),
        ({"temperature": 1.0, "top_k": 2}, 2),
        ({"temperature": 1.0, "top_p": 0.8}, 2),  # 0.64, 0.24
        ({"temperature": 1.0, "top_p": 0.95}, 3),
    ):
        decoding = Decoding(**settings, seed=5)
        expected = (logits / settings["temperature"]).softmax(-1)
        expected[kept:] = 0
        expected /= expected.sum()
        seen = (
            torch.bincount(torch.tensor(decoding.choose(logits.expand(draws, -1), range(draws), 0)), minlength=5)
            / draws
        )
        deviation = (expected * (1 - expected) / draws).sqrt()
        assert ((seen - expected).abs() <= 4 * deviation + 1e-12).all(), settings


def test_draws_depend_on_the_text_and_the_place_alone() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    decoding = Decoding(temperature=1.0, seed=2)
    before = torch.random.get_rng_state()
    together = decoding.choose(logits, range(6), 4)
    assert together == [decoding.choose(logits[i : i + 1], [i], 4)[0] for i in range(6)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert len({tuple(Decoding(temperature=1.0, seed=s).choose(logits, range(6), 4)) for s in range(5)}) > 1
    assert len({tuple(decoding.choose(logits, range(6), step)) for step in range(5)}) > 1


def test_no_ngram_stands_twice() -> None:
    for n in (1, 2, 3):
        said = written("gpt2", Decoding(25, no_repeat_ngram=n))
        for start, new in zip(STARTS, said, strict=True):
            row = [*start, *new]
            ngrams = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
            fresh = ngrams[max(0, len(start) - n + 1) :]  # those that end in what was written
            assert len(set(fresh)) == len(fresh) and not set(fresh) & set(ngrams[: len(ngrams) - len(fresh)])
        if n == 1:  # every word stands in the text: nothing is left to write
            assert [len(new) for new in said] == [WORDS - len(set(start)) for start in STARTS]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tokens": 0}, "tokens=0 must be at least 1"),
        ({"temperature": -1.0}, "temperature=-1.0 must be at least 0"),
        ({"temperature": math.nan}, "temperature=nan must be at least 0"),
        ({"temperature": 1.0, "top_p": 0.0}, r"top_p=0.0 must lie in \(0, 1\]"),
        ({"top_k": 5}, "top_k has no effect with temperature=0"),
        ({"top_p": 0.5}, "top_p has no effect with temperature=0"),
        ({"beams": 0}, "beams=0 must be at least 1"),
        ({"beams": 3, "temperature": 1.0}, "temperature=1.0 has no effect with beams=3"),
        ({"length_penalty": 2.0}, "length_penalty=2.0 has no effect without beams"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram=-1 must be at least 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        Decoding(**settings)
