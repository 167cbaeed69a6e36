"""What a head reads: layers, pooling by hand on sequences of different lengths, and which parameters nothing depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch, EncoderDecoder, Sequences
from cloze.models.layout import Layout, Way
from cloze.models.static_shapes import pad
from cloze.objectives.readout import Layer, Pooling, Readout, layer_count, layout_of, pool
from tests.objectives.labelled import NAMES, SIZE, built

LENGTHS = [5, 13, 1, 13, 8]
POOLINGS = get_args(Pooling)


def read_batch(model: Backbone, lengths: list[int] = LENGTHS, seed: int = 0, way: Way | None = None) -> Batch:
    """Random tokens in two segments; a model that reads a text twice has a copy for its decoder."""
    tokens = torch.randint(0, SIZE, (sum(lengths),), generator=torch.Generator().manual_seed(seed))
    positions = torch.cat([torch.arange(n) for n in lengths])
    inputs = Sequences(tokens, Layout(lengths, way=way), positions, positions % 2)
    decoder = None
    if isinstance(model, EncoderDecoder) and model.reads_twice:
        decoder = Sequences(tokens, Layout(lengths, "causal", way=way), positions)
    return Batch(inputs, {}, {}, {}, decoder=decoder)


def by_hand(rows: list[Tensor], pooling: Pooling) -> Tensor:
    ways = {
        "first": [row[0] for row in rows],
        "last": [row[-1] for row in rows],
        "mean": [sum(row) / len(row) for row in rows],  # type: ignore[arg-type]
        "max": [torch.stack([row[:, n].max() for n in range(row.shape[1])]) for row in rows],
    }
    if pooling == "concat":
        return torch.cat([torch.stack(ways[name]) for name in ("last", "max", "mean")], -1)
    return torch.stack(ways[pooling])


@pytest.mark.parametrize("way", get_args(Way))
def test_pooling_by_hand_under_every_layout(way: Way) -> None:
    """Also where each sequence takes a fixed number of rows, whose filling is read by nothing."""
    states = torch.randn(sum(LENGTHS), 6, generator=torch.Generator().manual_seed(1))
    flat = Sequences(torch.zeros(sum(LENGTHS), dtype=torch.int64), Layout(LENGTHS, way=way), torch.zeros(sum(LENGTHS)))
    padded, places = pad(flat, 15)
    spread = torch.full((len(LENGTHS) * 15, 6), torch.nan).index_copy(0, places, states)
    for pooling in POOLINGS[1:]:
        expected = by_hand(list(states.split(LENGTHS)), pooling)
        torch.testing.assert_close(pool(states, flat.layout, pooling), expected)
        torch.testing.assert_close(pool(spread, padded.layout, pooling), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", NAMES)
def test_a_sequences_vector_does_not_depend_on_its_neighbours(name: str, pooling: Pooling) -> None:
    """And is that of the family's states, by hand."""
    model = built(name, pooler=True)
    readout = Readout(model, "last", pooling)
    made = read_batch(model)
    with torch.no_grad():
        states = readout.states(model, made)
        vectors = readout.pooled(model, states, made)
        assert vectors.shape == (len(LENGTHS), readout.pooled_width)
        if pooling != "own":
            torch.testing.assert_close(vectors, by_hand(list(states.last.split(LENGTHS)), pooling))
        if name == "switch.Switch":
            return  # where experts are full depends on all tokens of a batch
        for number, length in enumerate(LENGTHS):
            rows = slice(sum(LENGTHS[:number]), sum(LENGTHS[:number]) + length)
            alone = read_batch(model, [length])
            for sequences in (alone.inputs, alone.decoder):
                if sequences is not None:
                    sequences.tokens = made.inputs.tokens[rows]
            one = readout.pooled(model, readout.states(model, alone), alone)
            torch.testing.assert_close(one[0], vectors[number], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_each_familys_own_vector(name: str) -> None:
    model = built(name, pooler=True)
    made = read_batch(model)
    with torch.no_grad():
        states = model(made)
        found = model.pool(states, made)
        rows = list(states.last.split(LENGTHS))
        pooler = getattr(model, "pooler", None)
        if name in ("xlm.XLM",):
            expected = by_hand(rows, "first")
        elif name == "elmo.ELMo":  # each direction where it has read everything
            half = model.width // 2
            expected = torch.stack([torch.cat([row[-1, :half], row[0, half:]]) for row in rows])
        elif name in ("t5.T5", "switch.Switch"):
            assert made.decoder is None
            expected = by_hand(rows, "mean")
        elif pooler is not None:
            place: Pooling = "last" if name == "xlnet.XLNet" else "first"
            expected = torch.tanh(by_hand(rows, place) @ pooler.weight.t() + pooler.bias)
        else:
            expected = by_hand(rows, "last")
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_layers(name: str) -> None:
    """A number is that layer, the last one as the head of the model itself reads it; static a word wherever it stands; mix by hand."""
    model = built(name)
    made = read_batch(model)
    with torch.no_grad():
        whole = model(made, every_layer=True)
        assert len(whole.layers) == layer_count(model) + 1
        for layer in range(len(whole.layers)):
            torch.testing.assert_close(Readout(model, layer).states(model, made).last, whole.layers[layer])
        torch.testing.assert_close(Readout(model, "last").states(model, made).last, whole.last)
        torch.testing.assert_close(Readout(model, "static").states(model, made).last, whole.layers[0])
        mixed = Readout(model, "mix")
        assert mixed.mix is not None
        mixed.mix.weights.copy_(torch.linspace(-1, 1, len(whole.layers)))
        mixed.mix.gamma.fill_(1.5)
        shares = torch.linspace(-1, 1, len(whole.layers)).exp()
        expected = 1.5 * sum(s * state for s, state in zip(shares / shares.sum(), whole.layers, strict=True))
        states = mixed.states(model, made)
        torch.testing.assert_close(states.last, expected)
        vectors = mixed.pooled(model, states, made) if name in ("t5.T5", "gpt2.GPT2", "bart.Bart") else None
    if vectors is not None:  # the family's own vector is of what is read
        kind: Pooling = "mean" if name == "t5.T5" else "last"
        torch.testing.assert_close(vectors, by_hand(list(expected.split(LENGTHS)), kind))
    with pytest.raises(Refusal, match=rf"objective.layer={len(whole.layers)} must lie in 0 … {layer_count(model)}"):
        Readout(model, len(whole.layers))


def test_static_vectors_know_nothing_of_other_words() -> None:
    model = built("gpt2.GPT2")
    readout = Readout(model, "static")
    made = read_batch(model)
    other = replace(made, inputs=replace(made.inputs, tokens=made.inputs.tokens.clone()))
    other.inputs.tokens[3] += 1
    with torch.no_grad():
        differ = (readout.states(model, made).last != readout.states(model, other).last).any(1)
    assert differ.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", ["static", 1, "last", "mix"])
def test_idle_parameters_are_those_without_a_gradient(name: str, layer: Layer) -> None:
    """Exactly: a process of several would wait for a gradient that never comes, or a rate would go by layers that nothing reads."""
    changed: dict[str, Any] = {"decoder_layers": 3} if name in ("bart.Bart", "mass.Mass", "t5.T5") else {"layers": 3}
    model = built(name, pooler=True, **changed)
    readout = Readout(model, layer, "own")
    made = read_batch(model)
    states = readout.states(model, made)
    vectors = torch.cat([readout.pooled(model, states, made).flatten(), states.last.flatten()])
    (vectors * torch.randn(len(vectors), generator=torch.Generator().manual_seed(2))).sum().backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert readout.idle(model) == without
    above = layer == "static" or (layer == 1 and name != "albert.Albert")  # whose layers are all the same one
    assert bool(without) == (above or name in ("t5.T5", "switch.Switch"))


def test_where_the_states_lie() -> None:
    model = built("bart.Bart")
    made = read_batch(model)
    assert made.decoder is not None
    assert layout_of(made) is made.decoder.layout
    assert layout_of(replace(made, decoder=None)) is made.inputs.layout
