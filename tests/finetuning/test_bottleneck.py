"""Adapters: next to nothing at first, where the paper puts them, and as many parameters as it counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cloze.errors import Refusal
from cloze.finetuning.added import Added
from cloze.finetuning.bottleneck import Bottleneck, add_bottlenecks, bottleneck_of, sublayers
from cloze.finetuning.course import Course
from cloze.finetuning.ways import Finetuning
from cloze.models.bert import Bert
from tests.finetuning.reading import states
from tests.models.parity import scramble
from tests.models.test_layouts import FAMILIES

WITH_SUBLAYERS = {name: 2 * 2 for name in FAMILIES if name != "elmo"} | {
    "albert": 2,  # layers that share weights share adapters
    **dict.fromkeys(("t5", "switch", "bart"), 2 * 2 + 2 * 3),
    "mass": 2 * 2 + 1 * 3,
}


@pytest.mark.parametrize(("name", "count"), WITH_SUBLAYERS.items())
def test_one_behind_every_sublayer(name: str, count: int) -> None:
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    before, weights = states(model), sum(p.numel() for p in model.parameters())
    add_bottlenecks(model, 6)
    near = states(model)
    assert len(list(sublayers(model))) == count
    assert sum(p.numel() for p in model.parameters()) - weights == count * (2 * 32 * 6 + 6 + 32)  # 2md + d + m
    assert not torch.equal(near, before)
    torch.testing.assert_close(near, before, rtol=0, atol=1e-3)
    for module in model.modules():
        if isinstance(module, Bottleneck):
            nn.init.normal_(module.up.weight)
            nn.init.normal_(module.down.weight)
    assert (states(model) - before).abs().max() > 0.01
    assert all(model.depth(parameter) >= 1 for parameter, _ in model.named_parameters() if ".adapter." in parameter)


def test_it_stands_before_the_stream_is_added() -> None:
    """A layer of BERT with adapters, written out: figure 2 of https://arxiv.org/abs/1902.00751."""
    torch.manual_seed(0)
    model = Bert(40, 24, False, layers=1, width=32, heads=2, inner=48).eval()
    add_bottlenecks(model, 6)
    scramble(model)
    layer = model.layers[0]
    x = torch.randn(5, 32)
    adapter = layer.feed_forward.outer.adapter
    inside = F.gelu(x @ layer.feed_forward.inner.weight.T + layer.feed_forward.inner.bias)
    written = inside @ layer.feed_forward.outer.weight.T + layer.feed_forward.outer.bias
    written = (
        written + F.gelu(written @ adapter.down.weight.T + adapter.down.bias) @ adapter.up.weight.T + adapter.up.bias
    )
    norm = layer.feed_forward.norm
    expected = F.layer_norm(x + written, (32,), norm.weight, norm.bias, 1e-12)
    torch.testing.assert_close(layer.feed_forward(x), expected, rtol=1e-5, atol=1e-5)


def test_adapters_and_norms_train() -> None:
    model = FAMILIES["bert"]()
    Course.install(Finetuning(trains="head", adapter="bottleneck", bottleneck=6), model)
    able = Course(Finetuning(trains="head", adapter="bottleneck"), model, nn.Linear(32, 2)).able
    inside = {name.removeprefix("model.") for name in able if name.startswith("model.")}
    assert inside == {name for name, _ in model.named_parameters() if ".adapter." in name or ".norm." in name}
    assert Course(Finetuning(trains="head"), model, nn.Linear(32, 2)).able == {"objective.weight", "objective.bias"}


def test_they_are_described_and_built_again() -> None:
    model, again = FAMILIES["t5"](), FAMILIES["t5"]()
    assert Added.of(model).description == {}
    add_bottlenecks(model, 6)
    added = Added.of(model)
    assert added.description == {"added": {"bottleneck": 6}} and bottleneck_of(model) == 6
    added.install(again)
    again.load_state_dict(model.state_dict())
    assert torch.equal(states(again.eval()), states(model.eval()))
    with torch.device("meta"):
        bare = FAMILIES["t5"]()
        added.install(bare)
    assert bare.state_dict().keys() == model.state_dict().keys()
    add_bottlenecks(model, 6)  # a second stage goes on with them
    assert model.state_dict().keys() == again.state_dict().keys()
    with pytest.raises(
        Refusal, match=r"bottleneck=7: the model's adapters have width 6; they go on with finetune\.bottleneck=6"
    ):
        add_bottlenecks(model, 7)


def test_a_family_without_sublayers() -> None:
    with pytest.raises(
        Refusal, match=r"an ELMo has no attention or feed-forward sublayers.*adapter=lora finetune\.targets=all"
    ):
        add_bottlenecks(FAMILIES["elmo"](), 6)
