"""Trained vectors before the text: the model reads them as tokens, and everybody else sees only the text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from cloze.errors import Refusal
from cloze.finetuning.added import Added
from cloze.finetuning.course import Course
from cloze.finetuning.prompt import Prompt, add_prompt, lengthened
from cloze.finetuning.ways import Finetuning
from cloze.models.base import Backbone, Batch, EncoderDecoder, Sequences
from cloze.models.cache import Cache
from cloze.models.layout import Layout
from tests.finetuning.reading import batch, read
from tests.models.parity import scramble
from tests.models.test_cache import CACHING, batch_of, flat, grown, lasts, model_of, rows
from tests.models.test_layouts import FAMILIES

READING = [name for name in FAMILIES if name != "elmo"]
TOKENS = 3


def words_of(model: Backbone) -> nn.Module:
    return next(m for m in model.modules() if getattr(m, "_forward_hooks", None) and m is not model)


def written_out(given: Batch, ids: list[int]) -> Batch:
    """The same batch with the tokens `ids` before every text, at the position and in the segment of its first token."""
    old = given.inputs
    parts: dict[str, list[torch.Tensor]] = {"tokens": [], "positions": [], "segments": []}
    for b, n in enumerate(old.layout.lengths):
        first = old.layout.offsets[b]
        here = slice(first, first + n)
        parts["tokens"] += [torch.tensor(ids), old.tokens[here]]
        parts["positions"] += [old.positions[first].repeat(len(ids)), old.positions[here]]
        if old.segments is not None:
            parts["segments"] += [old.segments[first].repeat(len(ids)), old.segments[here]]
    prefix = None if old.layout.prefix is None else [n + len(ids) for n in old.layout.prefix]
    layout = Layout([n + len(ids) for n in old.layout.lengths], old.layout.pattern, prefix)
    inputs = Sequences(torch.cat(parts["tokens"]), layout, torch.cat(parts["positions"]),
                       torch.cat(parts["segments"]) if parts["segments"] else None)  # fmt: skip
    return replace(given, inputs=inputs)


def without_the_first(values: torch.Tensor, lengths: tuple[int, ...], tokens: int) -> torch.Tensor:
    return torch.cat([part[tokens:] for part in values.split([n + tokens for n in lengths])])


@pytest.mark.parametrize("name", READING)
def test_vectors_of_words_are_read_as_those_words(name: str) -> None:
    """A prompt that is the embeddings of some words gives the states of the text behind these words, in every layer."""
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    scramble(model)
    ids, given = [5, 11, 2], batch(model, name)
    if name == "switch":  # an expert has room for so many tokens of a sequence: those before the text take some of it
        for module in model.modules():
            if hasattr(module, "capacity"):
                module.capacity = 99
    expected = read(model, written_out(given, ids), every_layer=True)
    add_prompt(model, TOKENS)
    with torch.no_grad():
        model.prompt.table.copy_(words_of(model)(torch.tensor(ids)))
    found = read(model, given, every_layer=True)
    lengths = given.inputs.layout.lengths
    if isinstance(model, EncoderDecoder):
        torch.testing.assert_close(found.last, expected.last)
        assert found.encoder is not None and expected.encoder is not None
        torch.testing.assert_close(found.encoder, without_the_first(expected.encoder, lengths, TOKENS))
        alone = read(model, replace(given, decoder=None), every_layer=True)  # the encoder, for its vectors
        torch.testing.assert_close(alone.last, found.encoder)
        assert all(len(layer) == sum(lengths) for layer in alone.layers)
        return
    torch.testing.assert_close(found.last, without_the_first(expected.last, lengths, TOKENS), rtol=1e-4, atol=1e-5)
    assert len(found.layers) == len(expected.layers) > 1
    for mine, theirs in zip(found.layers, expected.layers, strict=True):
        torch.testing.assert_close(mine, without_the_first(theirs, lengths, TOKENS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", READING)
def test_every_vector_has_a_gradient_and_nothing_else_moves(name: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES[name]()
    Course.install(Finetuning(trains="head", adapter="prompt", prompt_tokens=TOKENS), model)
    able = Course(Finetuning(trains="head", adapter="prompt"), model, nn.Module()).able
    assert able == {"model.prompt.table"}
    for parameter, tensor in model.named_parameters():
        tensor.requires_grad_(f"model.{parameter}" in able)
    states = model(batch(model, name)).last
    (states * torch.randn(states.shape)).sum().backward()
    gradient = model.prompt.table.grad
    assert gradient is not None and gradient.abs().amax(-1).min() > 0 and gradient.isfinite().all()
    assert all(tensor.grad is None for parameter, tensor in model.named_parameters() if parameter != "prompt.table")
    assert not model.prompt.reading and model.prompt.waiting is None


@pytest.mark.parametrize("name", CACHING)
def test_a_text_that_grows(name: str) -> None:
    """With a cache the prompt is read once."""
    model, cache = model_of(name), Cache()
    add_prompt(model, TOKENS)
    scramble(model.prompt)
    texts, sources = rows([12, 9, 15], 1), rows([3, 9, 5], 2)
    lengths = [7, 1, 4]
    with torch.no_grad():
        for step in range(6):
            heads = [text[:n] for text, n in zip(texts, lengths, strict=True)]
            whole = flat(heads, "causal")
            expected = lasts(model(batch_of(model, whole, sources)).last, lengths)
            states = model(batch_of(model, grown(texts, lengths) if step else whole, sources, cache)).last
            states = states if step else lasts(states, lengths)
            assert (states - expected).abs().max() <= 1e-5, step
            if step == 3:
                cache.select([2, 0])
                texts, sources, lengths = ([x[b] for b in (2, 0)] for x in (texts, sources, lengths))
            lengths = [n + 1 for n in lengths]


def test_queries_and_orders_go_along() -> None:
    """XLNet: the prompt is given, so that every token sees it; rows that are asked for are the same tokens."""
    order = torch.tensor([0, 1, -1, 2, 1, 0])
    old = Sequences(
        torch.arange(6), Layout([4, 2]), torch.tensor([0, 1, 2, 3, 0, 1]), None, None, order, torch.tensor([1, 4])
    )
    new, found = lengthened(old, 2)
    assert new.tokens.tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4, 5]
    assert new.order is not None and new.order.tolist() == [-1, -1, 0, 1, -1, 2, -1, -1, 1, 0]
    assert new.queries is not None and new.tokens[new.queries].tolist() == [1, 4]
    assert new.positions.tolist() == [0, 0, 0, 1, 2, 3, 0, 0, 0, 1]
    assert torch.equal(new.tokens[found.text], old.tokens)
    torch.manual_seed(0)
    model = FAMILIES["xlnet"]().eval()
    add_prompt(model, 2)
    states = read(model, Batch(old, {}, {}, {}))
    assert states.queries is not None and states.queries.shape == (2, 32) and states.last.shape == (6, 32)
    before = states.queries.clone()
    with torch.no_grad():
        model.prompt.table.add_(1.0)
    after = read(model, Batch(old, {}, {}, {})).queries
    assert after is not None and (after - before).abs().amax(-1).min() > 1e-4


def test_an_empty_text_has_its_prompt_too() -> None:
    layout = Layout([2, 0, 1, 0])
    new, found = lengthened(Sequences(torch.tensor([7, 8, 9]), layout, torch.tensor([0, 1, 0])), 2)
    assert new.layout.lengths == (4, 2, 3, 2)
    assert new.tokens[found.text].tolist() == [7, 8, 9] and len(found.prompt) == 8


def test_it_begins_as_words() -> None:
    torch.manual_seed(0)
    model = FAMILIES["bert"]()
    add_prompt(model, TOKENS)
    table = model.word_embedding
    assert all((table == row).all(-1).any() for row in model.prompt.table)
    assert isinstance(model.prompt, Prompt) and Added.of(model).description == {"added": {"prompt_tokens": TOKENS}}
    again = FAMILIES["bert"]().eval()
    Added.of(model).install(again)
    again.load_state_dict(model.state_dict())
    assert torch.equal(read(again, batch(again)).last, read(model.eval(), batch(model)).last)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("transformer_xl", {"continues": True}, "text that goes on from batch to batch has no beginning"),
        ("bert", {"layout": Layout([4, 2], stride=4)}, r"adapter=prompt needs hardware\.layout=packed"),
    ],
)
def test_refused_batches(name: str, changed: dict[str, Any], message: str) -> None:
    model = FAMILIES[name]()
    add_prompt(model, 2)
    given = Batch(Sequences(torch.arange(8), Layout([4, 4]), torch.arange(8) % 4), {}, {}, {})
    layout = changed.pop("layout", given.inputs.layout)
    given = replace(given, inputs=replace(given.inputs, layout=layout), **changed)
    with pytest.raises(Refusal, match=message):
        model(given)


def test_refused_models() -> None:
    with pytest.raises(Refusal, match="an ELMo has no table of words"):
        add_prompt(FAMILIES["elmo"](), 2)
    model = FAMILIES["bert"]()
    add_prompt(model, 2)
    with pytest.raises(Refusal, match=r"prompt_tokens=3: the model has a prompt of 2 already"):
        add_prompt(model, 3)
