"""Every family gives the same hidden states and the same gradients under every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from cloze.models.albert import Albert
from cloze.models.bart import Bart
from cloze.models.base import Backbone, Batch, EncoderDecoder, Sequences
from cloze.models.bert import Bert
from cloze.models.electra import Electra
from cloze.models.elmo import ELMo
from cloze.models.gpt import GPT
from cloze.models.gpt2 import GPT2
from cloze.models.layout import Layout, Pattern, Way
from cloze.models.mass import Mass
from cloze.models.roberta import Roberta
from cloze.models.static_shapes import pad
from cloze.models.switch import Switch
from cloze.models.t5 import T5
from cloze.models.transformer_xl import TransformerXL
from cloze.models.unilm import UniLM
from cloze.models.xlm import XLM
from cloze.models.xlnet import XLNet

WORDS, LENGTH = 40, 24
FAMILIES: dict[str, Callable[[], Backbone]] = {
    "bert": lambda: Bert(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48),
    "roberta": lambda: Roberta(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48),
    "albert": lambda: Albert(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48, embedding_width=16),
    "unilm": lambda: UniLM(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48),
    "electra": lambda: Electra(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48, embedding_width=16),
    "gpt": lambda: GPT(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48),
    "gpt2": lambda: GPT2(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48),
    "xlm": lambda: XLM(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48),
    "transformer_xl": lambda: TransformerXL(WORDS, LENGTH, False, layers=2, width=32, heads=2, head_width=8, inner=48),
    "elmo": lambda: ELMo(WORDS, LENGTH, False, layers=2, width=32, cells=24),
    "xlnet": lambda: XLNet(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48),
    "t5": lambda: T5(WORDS, LENGTH, False, layers=2, width=32, heads=2, head_width=8, inner=48),
    "switch": lambda: Switch(WORDS, LENGTH, False, layers=2, width=32, heads=2, head_width=8, inner=48, experts=3),
    "bart": lambda: Bart(WORDS, LENGTH, False, layers=2, width=32, heads=2, inner=48),
    "mass": lambda: Mass(WORDS, LENGTH, False, layers=2, decoder_layers=1, width=32, heads=2, inner=48),
}
LENGTHS = {"encoder": [5, 24, 24, 1, 17, 23], "decoder": [9, 2, 12, 12, 4, 1]}
PREFIX = [5, 10, 0, 1, 16, 23]  # of the encoder's sequences, for the pattern of that name: all, none or some of each


def sequences(lengths: list[int], pattern: Pattern, way: Way | None, segments: bool) -> Sequences:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, WORDS, (sum(lengths),), generator=generator)
    positions = torch.cat([torch.arange(n) for n in lengths])
    layout = Layout(lengths, pattern, PREFIX if pattern == "prefix" else None, way=way)
    return Sequences(tokens, layout, positions, positions % 2 if segments else None)


def run(name: str, model: Backbone, way: Way | None, static: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Hidden states of the real tokens, and the gradients of a loss of theirs."""
    inputs = sequences(
        LENGTHS["encoder"],
        "causal" if name in ("gpt", "gpt2") else "prefix" if name == "unilm" else "bidirectional",
        way,
        name in ("bert", "albert", "unilm", "electra", "xlnet"),
    )
    decoder = sequences(LENGTHS["decoder"], "causal", way, False) if isinstance(model, EncoderDecoder) else None
    rows = torch.arange(len((decoder or inputs).tokens))
    if static:
        inputs, rows = pad(inputs, 30)
        if decoder is not None:
            decoder, rows = pad(decoder, 13)
    model.zero_grad()
    last = model(Batch(inputs, {}, {}, {}, decoder=decoder)).last[rows]
    probe = torch.randn(last.shape, generator=torch.Generator().manual_seed(2))
    (last * probe).sum().backward()
    return last.detach(), {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()  # dropout draws other numbers in another layout
    reference, gradients = run(name, model, None, False)
    assert len(gradients) == len(list(model.parameters()))
    for way in get_args(Way):
        for static in (False, True):
            states, others = run(name, model, way, static)
            torch.testing.assert_close(states, reference, rtol=1e-5, atol=1e-5)
            for key, gradient in gradients.items():
                torch.testing.assert_close(
                    others[key], gradient, rtol=1e-4, atol=2e-5, msg=lambda m, key=key: f"{key}: {m}"
                )


@pytest.mark.parametrize("name", ["bert", "gpt2", "elmo", "t5", "switch", "bart"])
def test_a_sequence_sees_nothing_of_its_neighbours(name: str) -> None:
    """Alone or among others, a sequence's states are the same."""
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    pattern: Pattern = "causal" if name in ("gpt", "gpt2") else "bidirectional"
    whole = sequences(LENGTHS["encoder"], pattern, None, False)
    decoder = sequences(LENGTHS["decoder"], "causal", None, False) if isinstance(model, EncoderDecoder) else None
    together = model(Batch(whole, {}, {}, {}, decoder=decoder)).last

    def alone(of: Sequences, b: int) -> Sequences:
        rows = slice(of.layout.offsets[b], of.layout.offsets[b + 1])
        return Sequences(of.tokens[rows], Layout([of.layout.lengths[b]], of.layout.pattern), of.positions[rows])

    read = decoder or whole
    for b in range(len(LENGTHS["encoder"])):
        one = model(Batch(alone(whole, b), {}, {}, {}, decoder=alone(decoder, b) if decoder else None)).last
        torch.testing.assert_close(
            together[read.layout.offsets[b] : read.layout.offsets[b + 1]], one, rtol=1e-5, atol=1e-5
        )


def test_static_shapes_compile_to_one_graph() -> None:
    """The padded layout holds no number that depends on the batch: another batch of the same shape runs the same program."""
    torch.manual_seed(0)
    model = FAMILIES["bert"]().eval()
    programs = 0

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        nonlocal programs
        programs += 1
        return graph.forward

    compiled = torch.compile(lambda batch: model(batch).last, backend=count, fullgraph=True, dynamic=False)
    with torch.no_grad():
        for lengths in ([5, 24, 3], [24, 24, 1], [7, 7, 7]):
            padded, places = pad(sequences(lengths, "bidirectional", None, True), 24)
            padded.layout.prepare()
            expected = model(Batch(sequences(lengths, "bidirectional", None, True), {}, {}, {})).last
            torch.testing.assert_close(compiled(Batch(padded, {}, {}, {}))[places], expected, rtol=1e-5, atol=1e-5)
    assert programs == 1


def test_compiled_with_open_sizes_it_settles_on_the_cpu() -> None:
    """Grouped attention stays outside the compiled parts: batches of other lengths need no new programs."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model = FAMILIES["bert"]().eval()
    programs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        programs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda batch: model(batch).last, backend=count, dynamic=True)
    made = []
    with torch.no_grad():
        for lengths in ([5, 24, 3], [24, 24, 1], [7, 7], [1, 2, 3, 4], [20]):
            batch = Batch(sequences(lengths, "bidirectional", None, True), {}, {}, {})
            torch.testing.assert_close(compiled(batch), model(batch).last, rtol=1e-5, atol=1e-5)
            made.append(len(programs))
    assert made[1:] == made[1:2] * 4  # the second batch tells what is not constant


def test_a_sequence_too_long_for_its_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="a sequence of 9 tokens does not fit into 8"):
        pad(sequences([3, 9], "bidirectional", None, False), 8)
