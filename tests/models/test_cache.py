"""With a cache a text that grows by one token is read as if it were read whole: every family that says it has one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cloze.models.base import Backbone, Batch, EncoderDecoder, Sequences
from cloze.models.cache import Cache
from cloze.models.layers.attention import attend
from cloze.models.layers.grouped import groups
from cloze.models.layout import Layout
from cloze.models.padding import flat
from tests.models.parity import scramble
from tests.models.test_layouts import FAMILIES, WORDS

CACHING = [name for name, make in FAMILIES.items() if make().caches]
PROMPTS, WRITTEN = [7, 1, 4, 4, 12], 40  # beyond the room that a cache is made with


def model_of(name: str) -> Backbone:
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    scramble(model)
    if model.positions is not None:  # the tests' tables end at 24: longer ones
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.num_embeddings < WORDS:
                extended = torch.cat([module.weight, module.weight.flip(0), module.weight * 0.5])
                module.weight = torch.nn.Parameter(extended)
    return model


def rows(lengths: list[int], seed: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, WORDS, (n,), generator=generator).tolist() for n in lengths]


def batch_of(model: Backbone, written: Sequences, sources: list[list[int]], cache: Cache | None = None) -> Batch:
    if isinstance(model, EncoderDecoder):
        return Batch(flat(sources), {}, {}, {}, written, cache=cache)
    return Batch(written, {}, {}, {}, cache=cache)


def grown(texts: list[list[int]], lengths: list[int]) -> Sequences:
    """The newest token of each text, at its place."""
    last = [text[n - 1 : n] for text, n in zip(texts, lengths, strict=True)]
    step = flat(last, "causal")
    step.positions = torch.tensor(lengths) - 1
    return step


def lasts(states: Tensor, lengths: list[int]) -> Tensor:
    return states[torch.tensor(lengths).cumsum(0) - 1]


@pytest.mark.parametrize("way", ["grouped", "padded"])
@pytest.mark.parametrize("name", CACHING)
def test_cached_states_are_those_of_the_whole_text(name: str, way: Any) -> None:
    """Texts of different lengths; now and then some are dropped, doubled and put into another order."""
    model, cache = model_of(name), Cache()
    texts, sources = rows([n + WRITTEN for n in PROMPTS], 1), rows([3, 9, 5, 1, 9], 2)
    lengths = list(PROMPTS)
    with torch.no_grad():
        for step in range(WRITTEN):
            heads = [text[:n] for text, n in zip(texts, lengths, strict=True)]
            whole = flat(heads, "causal")
            expected = lasts(model(batch_of(model, whole, sources)).last, lengths)
            read = grown(texts, lengths) if cache.filled else whole
            read.layout.way = way
            batch = batch_of(model, read, sources, cache)
            batch.inputs.layout.way = way
            states = model(batch).last
            if step:
                assert len(states) == len(lengths)  # one token of each was read
            else:
                states = lasts(states, lengths)
            assert (states - expected).abs().max() <= 1e-5, step
            if step in (5, 20, 37):
                order = {5: [4, 0, 0, 2, 3, 1], 20: [5, 3, 1], 37: [1, 0, 2, 2]}[step]
                cache.select(order)
                texts, sources, lengths = ([x[b] for b in order] for x in (texts, sources, lengths))
                texts = [
                    text[:n] + more for text, n, more in zip(texts, lengths, rows([50] * len(order), step), strict=True)
                ]
            lengths = [n + 1 for n in lengths]


@pytest.mark.parametrize("name", [name for name in CACHING if isinstance(FAMILIES[name](), EncoderDecoder)])
def test_positions_may_begin_anywhere(name: str) -> None:
    """As a fragment's do, which is written where it stands (objective=masked_fragment)."""
    model, cache = model_of(name), Cache()
    texts, sources, begin = rows([10, 12], 3), rows([9, 5], 4), torch.tensor([5, 3])
    lengths = [1, 1]
    with torch.no_grad():
        for step in range(8):
            whole = flat([text[:n] for text, n in zip(texts, lengths, strict=True)], "causal")
            whole.positions = whole.positions + begin.repeat_interleave(torch.tensor(lengths))
            expected = lasts(model(batch_of(model, whole, sources)).last, lengths)
            read = whole
            if step:
                read = grown(texts, lengths)
                read.positions = read.positions + begin
            states = model(batch_of(model, read, sources, cache)).last
            assert (states - expected).abs().max() <= 1e-5, step
            lengths = [n + 1 for n in lengths]


def test_a_prefix_that_is_seen_whole_stays_so() -> None:
    """The first call goes by its own layout: what is written behind a prefix sees the prefix's states as they were made there."""
    model, cache, texts = model_of("gpt2"), Cache(), rows([10, 12], 3)
    lengths, prefix = [6, 4], [6, 4]
    with torch.no_grad():
        for step in range(4):
            whole = flat([text[:n] for text, n in zip(texts, lengths, strict=True)], "causal")
            whole.layout = Layout(lengths, "prefix", prefix)
            expected = lasts(model(Batch(whole, {}, {}, {})).last, lengths)
            read = grown(texts, lengths) if step else whole
            states = model(Batch(read, {}, {}, {}, cache=cache)).last
            assert ((states if step else lasts(states, lengths)) - expected).abs().max() <= 1e-5
            lengths = [n + 1 for n in lengths]


def test_more_than_one_new_token_is_an_error() -> None:
    model, cache = model_of("gpt2"), Cache()
    with torch.no_grad():
        model(Batch(flat([[1, 2], [3]], "causal"), {}, {}, {}, cache=cache))
        with pytest.raises(ValueError, match="holds 2 sequences and takes one more token of each; these have 2, 1"):
            model(Batch(flat([[1, 2], [3]], "causal"), {}, {}, {}, cache=cache))
        cache.select([1])
        with pytest.raises(ValueError, match="holds 1 sequences"):
            model(Batch(flat([[1], [3]], "causal"), {}, {}, {}, cache=cache))


@pytest.mark.parametrize("way", ["grouped", "padded"])
@pytest.mark.parametrize("memory", [None, Layout([3, 8, 8, 1])])
def test_a_bias_of_each_sequence(way: Any, memory: Layout | None) -> None:
    """Values and gradients, against one call for each sequence with its own bias."""
    lengths = [5, 2, 5, 7]
    layout = Layout(lengths, way=way)
    keys_of = memory or layout
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(sum(lengths), 2, 4, generator=generator)
    keys, values = (torch.randn(sum(keys_of.lengths), 2, 4, generator=generator) for _ in range(2))
    bias = torch.randn(4, 2, 7, 8, generator=generator, requires_grad=True)
    together = attend(queries, keys, values, layout, memory, bias=bias)
    probe = torch.randn(together.shape, generator=generator)
    (gradient,) = torch.autograd.grad((together * probe).sum(), bias)
    for b, n in enumerate(lengths):
        own, theirs = slice(layout.offsets[b], layout.offsets[b + 1]), slice(keys_of.offsets[b], keys_of.offsets[b + 1])
        scores = torch.einsum("qhd,khd->hqk", queries[own], keys[theirs]) / 2
        one = bias.detach()[b, :, :n, : keys_of.lengths[b]].requires_grad_()
        expected = torch.einsum("hqk,khd->qhd", (scores + one).softmax(-1), values[theirs])
        assert (together[own] - expected).abs().max() <= 1e-5
        (wanted,) = torch.autograd.grad((expected * probe[own]).sum(), one)
        assert (gradient[b, :, :n, : keys_of.lengths[b]] - wanted).abs().max() <= 1e-5


def test_memories_of_equal_lengths_and_another_stride_are_kept_apart() -> None:
    """A decoder's own keys lie in rows of a cache, the encoder's without gaps; both may be of the same lengths."""
    queries = Layout([1, 1])
    assert groups(queries, Layout([2, 3]))[0].keys.rows.tolist() == [2, 3, 4, 0, 1, 0]  # type: ignore[union-attr]
    assert groups(queries, Layout([2, 3], stride=8))[0].keys.rows.tolist() == [8, 9, 10, 0, 1, 0]  # type: ignore[union-attr]
