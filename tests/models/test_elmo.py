"""ELMo against torch's LSTM, its published size, and what each direction may know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cloze.data.tokenizers import ByteLevelBPE, Word, WordPiece
from cloze.errors import Refusal
from cloze.models.base import Batch, Sequences
from cloze.models.elmo import ELMo
from cloze.models.layers.characters import CharacterEncoder, Highway, as_text, is_byte_level, spelled
from cloze.models.layers.recurrent import ProjectedLSTM, recur
from cloze.models.layers.scalar_mix import ScalarMix
from cloze.models.layout import Layout
from cloze.models.static_shapes import pad
from tests.models.parity import scramble
from tests.pretrained import FewWords

SMALL: dict[str, Any] = {"layers": 2, "width": 12, "cells": 10, "filters": [[1, 4], [3, 5]], "characters": 12}
WORDS = 40


def elmo(**settings: Any) -> ELMo:
    torch.manual_seed(0)
    return ELMo(WORDS, 24, False, **SMALL | settings).eval()


def batch(lengths: list[int], seed: int = 1, **more: Any) -> Batch:
    tokens = torch.randint(0, WORDS, (sum(lengths),), generator=torch.Generator().manual_seed(seed))
    positions = torch.cat([torch.arange(n) for n in lengths])
    return Batch(Sequences(tokens, Layout(lengths), positions), {}, {}, {}, **more)


# ------------------------------------------------------------------------------------------------------- recurrence


def torchs(ours: ProjectedLSTM) -> nn.LSTM:
    """torch's LSTM with the same weights."""
    theirs = nn.LSTM(ours.weight_ih.shape[1], ours.weight_hr.shape[1], proj_size=ours.weight_hr.shape[0])
    for name in ("weight_ih", "weight_hh", "weight_hr"):
        getattr(theirs, f"{name}_l0").data.copy_(getattr(ours, name).data)
    theirs.bias_ih_l0.data.copy_(ours.bias.data)
    theirs.bias_hh_l0.data.zero_()
    return theirs.double()


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_without_clipping_it_is_torchs() -> None:
    torch.manual_seed(3)
    ours = [ProjectedLSTM(5, 7, 4).double() for _ in range(2)]
    inputs, state, cell = (
        torch.randn(2, *shape, 3, n, dtype=torch.double) for shape, n in (((9,), 5), ((), 4), ((), 7))
    )
    probe = torch.randn(2, 9, 3, 4, dtype=torch.double)
    mine = [tensor.clone().requires_grad_() for tensor in (inputs, state, cell)]
    states, cells = recur(ours, *mine, 1e9, 1e9)
    (states * probe).sum().backward()
    for d, own in enumerate(ours):
        layer = torchs(own)
        x, h, c = (tensor[d].clone().requires_grad_() for tensor in (inputs, state, cell))
        want, (_, last) = layer(x, (h[None], c[None]))
        (want * probe[d]).sum().backward()
        torch.testing.assert_close(states[d], want)
        torch.testing.assert_close(cells[d, -1], last[0])
        for have, wanted in zip(mine, (x, h, c), strict=True):
            assert have.grad is not None
            torch.testing.assert_close(have.grad[d], wanted.grad)
        for name in ("weight_ih", "weight_hh", "weight_hr"):
            torch.testing.assert_close(getattr(own, name).grad, getattr(layer, f"{name}_l0").grad)
        torch.testing.assert_close(own.bias.grad, layer.bias_ih_l0.grad)


def test_clipping_and_its_gradient() -> None:
    """Large weights, small limits: a good part of the cells and of the states is clipped, and finite differences agree."""
    torch.manual_seed(5)
    layers = [ProjectedLSTM(3, 4, 2).double() for _ in range(2)]
    for layer in layers:
        scramble(layer, scale=2.0)
    inputs, state, cell = (
        torch.randn(2, *shape, 2, n, dtype=torch.double) for shape, n in (((5,), 3), ((), 2), ((), 4))
    )
    states, cells = recur(layers, inputs, state, cell, 0.8, 0.5)
    assert cells.abs().max() == 0.8 and 0.1 < (cells.abs() == 0.8).double().mean() < 0.9
    assert states.abs().max() == 0.5 and 0.1 < (states.abs() == 0.5).double().mean() < 0.9
    names = [(layer, name) for layer in layers for name, _ in list(layer.named_parameters())]
    values = [getattr(layer, name).detach().clone().requires_grad_() for layer, name in names]

    def outcome(*tensors: Tensor) -> Tensor:
        for (layer, name), value in zip(names, tensors[3:], strict=True):
            layer._parameters.pop(name, None)
            setattr(layer, name, value)
        return recur(layers, tensors[0], tensors[1], tensors[2], 0.8, 0.5)[0]

    assert torch.autograd.gradcheck(outcome, [t.requires_grad_() for t in (inputs, state, cell)] + values)


# ------------------------------------------------------------------------------------------------------------ model


def test_published_counts() -> None:
    with torch.device("meta"):
        model = ELMo(793_471, 20, False)
        head = model.token_head()
    alone = sum(parameter.numel() for parameter in model.parameters())
    assert alone == 93_600_864
    assert alone + sum(parameter.numel() for parameter in head.parameters()) == 500_651_487


def test_each_direction_knows_its_side_only() -> None:
    """By gradient: the forward state of a token depends on the words up to it, the backward one on those from it on."""
    model = elmo()
    model.encoder = Table(model.width // 2)  # so that the gradient of each place is seen by itself
    lengths = [7, 1, 4]
    given = batch(lengths)
    given.inputs.tokens = torch.arange(12)  # every place a word of its own
    last = model(given).last
    starts = given.inputs.layout.offsets
    half = model.width // 2
    for b, n in enumerate(lengths):
        for place in range(n):
            for side, seen in ((slice(0, half), range(place + 1)), (slice(half, None), range(place, n))):
                (gradient,) = torch.autograd.grad(
                    last[starts[b] + place, side].sum(), [model.encoder.rows], retain_graph=True
                )
                moved = set(gradient.abs().sum(1).nonzero().flatten().tolist())
                assert moved == {starts[b] + other for other in seen}


class Table(CharacterEncoder):
    """In the place of the characters' encoder: row i of a table for the token whose spelling is the number i."""

    def __init__(self, width: int) -> None:
        nn.Module.__init__(self)
        self.rows = nn.Parameter(torch.randn(WORDS, width))

    def forward(self, characters: Tensor) -> Tensor:
        digits = (characters[:, 1:3] - 1 - ord("0")).long()
        two = (digits[:, 1] >= 0) & (digits[:, 1] < 10)
        return self.rows[torch.where(two, 10 * digits[:, 0] + digits[:, 1], digits[:, 0])]


def test_text_that_goes_on() -> None:
    """Two batches with the state carried give the forward states of the whole; the backward ones begin anew."""
    model = elmo()
    whole = batch([10, 10])
    half = model.width // 2
    want = model(whole).last.view(2, 10, -1)
    tokens = whole.inputs.tokens.view(2, 10)
    memory = None
    for number, part in enumerate((slice(0, 4), slice(4, 10))):
        piece = batch([part.stop - part.start] * 2, continues=number > 0, memory=memory)
        piece.inputs.tokens = tokens[:, part].flatten()
        states = model(piece)
        memory = states.memory
        assert memory is not None and not any(tensor.requires_grad for tensor in memory.values())
        assert {name: tuple(tensor.shape) for name, tensor in memory.items()} == {
            "forward_state": (2, 2, half),
            "forward_cell": (2, 2, model.cells),
        }
        have = states.last.view(2, -1, model.width)
        torch.testing.assert_close(have[..., :half], want[:, part, :half])
        if number:
            torch.testing.assert_close(have[..., half:], want[:, part, half:])
        else:
            assert not torch.allclose(have[..., half:], want[:, part, half:], atol=1e-3)


def test_nothing_is_carried_where_the_text_does_not_go_on() -> None:
    assert elmo()(batch([4, 2], goes_on=False)).memory is None


def test_the_carried_state_is_that_of_the_last_real_token() -> None:
    model = elmo()
    given = batch([3, 8, 5])
    together = model(given).memory
    starts = given.inputs.layout.offsets
    for b, n in enumerate([3, 8, 5]):
        one = batch([n])
        one.inputs.tokens = given.inputs.tokens[starts[b] : starts[b] + n]
        alone = model(one).memory
        for name, tensor in alone.items():
            torch.testing.assert_close(tensor[0], together[name][b])


def test_layers() -> None:
    model = elmo(layers=3)
    states = model(batch([6, 2]), every_layer=True)
    assert [tuple(layer.shape) for layer in states.layers] == [(8, model.width)] * 4
    words = states.layers[0].chunk(2, -1)
    assert torch.equal(words[0], words[1])
    assert torch.equal(states.layers[-1], states.last)
    assert model(batch([6, 2])).layers == []


def test_the_layers_above_the_first_add_what_they_read() -> None:
    """With LSTMs that give nothing, the first layer's states are 0, and those above pass them on."""
    model = elmo(layers=2)
    for parameter in (model.layers[1].forwards.weight_hr, model.layers[1].backwards.weight_hr):  # type: ignore[union-attr]
        parameter.data.zero_()
    states = model(batch([6, 2]), every_layer=True).layers
    assert torch.equal(states[2], states[1]) and states[1].abs().sum() > 0
    for parameter in (model.layers[0].forwards.weight_hr, model.layers[0].backwards.weight_hr):  # type: ignore[union-attr]
        parameter.data.zero_()
    assert model(batch([6, 2]), every_layer=True).layers[1].abs().sum() == 0


def test_pooled_states_have_seen_all() -> None:
    model, given = elmo(), batch([5, 1, 3])
    states = model(given)
    half = model.width // 2
    want = torch.stack(
        [torch.cat([states.last[end, :half], states.last[start, half:]]) for start, end in ((0, 4), (5, 5), (6, 8))]
    )
    assert torch.equal(model.pool(states, given), want)


def test_dropout_only_in_training() -> None:
    model, given = elmo(dropout=0.5), batch([6, 2])
    assert torch.equal(model(given).last, model(given).last)
    model.train()
    assert not torch.equal(model(given).last, model(given).last)


def test_half_precision_is_near() -> None:
    model, given = elmo(), batch([6, 6])
    with torch.autocast("cpu", torch.bfloat16):
        states = model(given)
        states.last.float().sum().backward()
    torch.testing.assert_close(states.last.float(), model(given).last, atol=0.05, rtol=0.05)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_elsewhere_than_on_the_cpu_every_token_is_read() -> None:
    """With static shapes, and without looking for the different words."""
    model, given = elmo(), batch([5, 2, 7])
    padded, places = pad(given.inputs, 9)
    torch.testing.assert_close(model(Batch(padded, {}, {}, {})).last[places], model(given).last)
    torch.testing.assert_close(
        model.word_embedding[given.inputs.tokens], model(given, True).layers[0][:, : model.width // 2]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 13}, "model.width=13 must be even, half for each direction; the nearest is 14"),
        ({"filters": [[1, 4], [99, 2]]}, r"model.filters=\[\[1, 4\], \[99, 2\]\]: one spans 99 characters"),
        ({"filters": [[1, 4], [2]]}, r"model.filters=\[\[1, 4\], \[2\]\] must be pairs"),
        ({"filters": []}, "model.filters"),
        ({"characters": 2}, "model.characters=2 must be at least"),
        (
            {"filters": [[20, 4]]},
            r"model.filters=\[\[20, 4\]\]: one spans 20 characters, a word has model.characters=12",
        ),
        ({"cell_clip": 0.0}, "model.cell_clip=0 must be more than 0"),
        ({"dropout": 1.0}, "model.dropout"),
    ],
)
def test_what_it_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        elmo(**settings)


# ------------------------------------------------------------------------------------------------------- characters


def test_spelling() -> None:
    table = spelled(["ab", "é", "", "abcdefgh", b"\xff", "</s>", "<s>"], 6).tolist()
    assert table == [
        [259, 98, 99, 260, 261, 261],
        [259, 0xC3 + 1, 0xA9 + 1, 260, 261, 261],
        [259, 260, 261, 261, 261, 261],
        [259, 98, 99, 100, 101, 260],
        [259, 256, 260, 261, 261, 261],
        [259, 258, 260, 261, 261, 261],
        [259, 257, 260, 261, 261, 261],
    ]


def test_what_tokens_stand_for() -> None:
    """Byte-level tokens decode to the same bytes by the library's own account."""
    byte_level = ByteLevelBPE(400).trained(FewWords(), ("pad", "eos"), 0)
    tokens = [byte_level.token(number) for number in range(len(byte_level))]
    assert is_byte_level(tokens)
    written = as_text(tokens, True)
    for number in range(len(tokens)):
        if number not in byte_level.vocabulary.special_ids:
            text = byte_level._backend.decode([number])
            assert isinstance(written[number], bytes) and written[number].decode("utf-8", "replace") == text  # type: ignore[union-attr]
    assert {word for word in written if isinstance(word, bytes) and len(word) == 1} == {bytes([n]) for n in range(256)}
    pieces = WordPiece(vocabulary=60).trained(FewWords(), ("pad", "unk"), 0)
    tokens = [pieces.token(number) for number in range(len(pieces))]
    assert (
        not is_byte_level(tokens)
        and as_text(tokens, False) == tokens
        and any(token.startswith("##") for token in tokens)
    )
    assert as_text(["▁the", "re"], False) == [" the", "re"]


def test_unknown_words_are_read_by_their_characters() -> None:
    """Words of the vocabulary have the vectors that their tokens have; others differ from one another and from [UNK]."""
    tokenizer = Word(vocabulary=WORDS, min_frequency=1).trained(FewWords(), ("pad", "unk", "eos"), 0)
    model = ELMo(len(tokenizer), 24, False, **SMALL).eval()
    scramble(model)
    words = [tokenizer.token(number) for number in range(len(tokenizer))]
    model.spell(words)
    known = "the old harbour was empty".split()
    ids = [tokenizer.id(word) for word in known]
    assert None not in ids
    end = tokenizer.vocabulary["eos"]
    one, other, none = model.vectors([known, ["the", "unheardof", "thing"], []])
    assert one.shape == (3, 5, model.width) and other.shape == (3, 3, model.width) and none.shape == (3, 0, model.width)
    tokens = torch.tensor([end, *ids, end])
    states = model(Batch(Sequences(tokens, Layout([7]), torch.arange(7)), {}, {}, {}), True)
    torch.testing.assert_close(one, torch.stack(states.layers)[:, 1:-1])
    unknown = model.encoder(model.spelling[tokenizer.vocabulary["unk"]][None])[0]
    assert not torch.allclose(other[0, 1, : model.width // 2], unknown, atol=1e-3)
    assert not torch.allclose(other[0, 1], other[0, 2], atol=1e-3)
    with pytest.raises(ValueError, match=f"has {len(tokenizer)} tokens, not 3"):
        model.spell(words[:3])


def test_byte_level_words_are_read_as_the_bytes_that_they_are() -> None:
    tokenizer = ByteLevelBPE(400).trained(FewWords(), ("pad", "eos"), 0)
    model = ELMo(len(tokenizer), 24, False, **SMALL).eval()
    scramble(model)
    model.spell([tokenizer.token(number) for number in range(len(tokenizer))])
    again = ELMo(len(tokenizer), 24, False, **SMALL).eval()
    again.load_state_dict(model.state_dict())
    text = "the ships"
    words = tokenizer.words(text)
    ids = tokenizer.encode(text)
    assert [tokenizer.token(number) for number in ids] == words  # both are frequent enough to be tokens
    end = tokenizer.vocabulary["eos"]
    states = model(Batch(Sequences(torch.tensor([end, *ids, end]), Layout([4]), torch.arange(4)), {}, {}, {}), True)
    torch.testing.assert_close(again.vectors([words])[0], torch.stack(states.layers)[:, 1:-1])


def test_highway_passes_what_its_gate_lets() -> None:
    layer = Highway(6)
    x = torch.randn(4, 6)
    layer.gate.weight.data.zero_()
    passed = torch.sigmoid(torch.tensor(-2.0))
    want = passed * torch.relu(layer.transform(x)) + (1 - passed) * x
    torch.testing.assert_close(layer(x), want)


def test_encoder_takes_the_highest_value_of_each_filter() -> None:
    encoder = CharacterEncoder(3, [[2, 4]], 1, 5).double()
    characters = torch.from_numpy(spelled(["abc", "de"], 7))
    x = encoder.embedding(characters.long())
    weight, bias = encoder.convolutions[0].weight, encoder.convolutions[0].bias
    highest = torch.stack(
        [torch.einsum("nwc,fcw->nf", x[:, at : at + 2], weight) + bias for at in range(6)]  # type: ignore[arg-type]
    ).amax(0)
    torch.testing.assert_close(encoder(characters), encoder.projection(encoder.highways[0](highest.relu())))


# -------------------------------------------------------------------------------------------------------------- mix


def test_mix_of_layers() -> None:
    layers = [torch.randn(5, 4) for _ in range(3)]
    mix = ScalarMix(3)
    torch.testing.assert_close(mix(layers), sum(layers) / 3)
    mix.weights.data.copy_(torch.tensor([0.0, -1e4, -1e4]))
    assert torch.equal(mix(layers), layers[0])
    mix.gamma.data.fill_(2.5)
    assert torch.equal(mix(layers), 2.5 * layers[0])
    mix = ScalarMix(3, norm=True)
    mix.weights.data.copy_(torch.tensor([-1e4, 0.0, -1e4]))
    normed = mix([3 * layer + 7 for layer in layers])
    torch.testing.assert_close(
        normed, (layers[1] - layers[1].mean()) / layers[1].std(correction=0), rtol=1e-5, atol=1e-5
    )
    mix(layers).sum().backward()
    assert mix.weights.grad is not None and mix.gamma.grad is not None
    with pytest.raises(ValueError, match="of 3 layers was given 2"):
        mix(layers[:2])
