"""LoRA: nothing at first, what peft makes of the same matrices, and merged the same as unmerged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cloze.errors import Refusal
from cloze.finetuning.course import Course
from cloze.finetuning.low_rank import INSIDE, LowRank, add_low_rank, is_added, merged, places
from cloze.finetuning.ways import Finetuning, Targets
from cloze.models.base import Backbone
from cloze.models.t5 import T5
from tests.finetuning.reading import states
from tests.models.parity import scramble
from tests.models.test_layouts import FAMILIES


def adapted(name: str, targets: Targets = "all", rank: int = 2, alpha: float = 6.0) -> Backbone:
    """With A and B that do something."""
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    add_low_rank(model, rank, alpha, targets)
    for module in model.modules():
        if isinstance(module, LowRank):
            nn.init.normal_(module.up, std=0.3)
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_is_added_at_first(name: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    scramble(model)
    before = states(model)
    names = set(model.state_dict())
    add_low_rank(model, 2, 2.0, "all")
    assert set(model.state_dict()) != names
    assert torch.equal(states(model), before)


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_is_unmerged(name: str) -> None:
    model = adapted(name)
    expected = states(model)
    state = {f"model.{key}": value for key, value in model.state_dict().items()} | {"objective.bias": torch.ones(3)}
    plain = merged(model, state)
    assert torch.equal(plain.pop("objective.bias"), torch.ones(3))
    fresh = FAMILIES[name]().eval()
    assert set(plain) == {f"model.{key}" for key in fresh.state_dict()}  # the names that a run without LoRA has
    changed = [key for key, value in fresh.state_dict().items() if f"model.{key}" not in state]
    assert changed
    fresh.load_state_dict({key.removeprefix("model."): value for key, value in plain.items()})
    assert (states(fresh) - expected).abs().max() <= 1e-6
    for key in changed:  # and without the update the states are others
        original = state[f"model.{key.rpartition('.')[0]}{INSIDE}{key.rpartition('.')[2]}.original"]
        assert not torch.equal(fresh.state_dict()[key], original)
    assert (states(FAMILIES[name]().eval()) - expected).abs().max() > 1e-3


def test_peft_adds_the_same() -> None:
    """The same A and B in peft's own layer."""
    import peft

    torch.manual_seed(0)
    for alpha, rank in ((8.0, 4), (1.0, 3)):
        ours, theirs = nn.Linear(12, 20), nn.Sequential()
        theirs.add_module("dense", nn.Linear(12, 20))
        theirs.dense.load_state_dict(ours.state_dict())
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=["dense"], init_lora_weights=False)
        theirs = peft.get_peft_model(theirs, config)
        layer = theirs.base_model.model.dense
        update = LowRank(ours.weight, rank, alpha / rank, 1, (0,))
        with torch.no_grad():
            update.down[0].copy_(layer.lora_A["default"].weight)
            update.up[0].copy_(layer.lora_B["default"].weight)
        nn.utils.parametrize.register_parametrization(ours, "weight", update)
        x = torch.randn(7, 12)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
        probe = torch.randn(7, 20)
        (ours(x) * probe).sum().backward(), (theirs(x) * probe).sum().backward()
        torch.testing.assert_close(update.down.grad[0], layer.lora_A["default"].weight.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(update.up.grad[0], layer.lora_B["default"].weight.grad, rtol=1e-4, atol=1e-5)
        whole = theirs.merge_and_unload().dense.weight
        torch.testing.assert_close(ours.weight, whole, rtol=1e-5, atol=1e-6)


def test_it_begins_as_pefts_does() -> None:
    """A uniform within one over the root of its inputs, B 0."""
    import peft

    torch.manual_seed(0)
    linear = nn.Linear(400, 300)
    theirs = peft.get_peft_model(nn.Sequential(nn.Linear(400, 300)), peft.LoraConfig(r=64, target_modules=["0"]))
    layer = theirs.base_model.model[0]
    ours = LowRank(linear.weight, 64, 1.0, 1, (0,))
    for a in (ours.down.detach(), layer.lora_A["default"].weight.detach()):
        assert a.abs().max() <= 1 / 20 and a.std() == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
    assert not ours.up.any() and not layer.lora_B["default"].weight.any()


def test_queries_keys_and_values_are_apart() -> None:
    """A fused weight has the updates of three weights; the paper's choice leaves the keys alone."""
    model = adapted("bert", "attention")
    attention = model.get_submodule("layers.0.attention")
    update = attention.qkv.parametrizations.weight[0]
    assert update.down.shape == (3, 2, 32) and update.up.shape == (3, 32, 2)
    difference = attention.qkv.weight - attention.qkv.parametrizations.weight.original
    for number, rows in enumerate(difference.split(32)):
        torch.testing.assert_close(rows, 3.0 * update.up[number] @ update.down[number])
    assert torch.linalg.matrix_rank(difference, tol=1e-4) == 2 * 3 or difference.shape[0] < 6
    model = adapted("bert", "query_value")
    qkv = model.get_submodule("layers.1.attention.qkv")
    queries, keys, values = (qkv.weight - qkv.parametrizations.weight.original).split(32)
    assert queries.any() and not keys.any() and values.any()
    assert not hasattr(model.get_submodule("layers.1.attention.output"), "parametrizations")


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_adapted(name: str) -> None:
    """By its name, in every family: dense layers of attention and feed-forward, and nothing else."""
    model = FAMILIES[name]()
    linear = {path for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    outside = {
        path for path in linear if "layers" not in path and path.split(".")[0] not in ("attentions", "feed_forwards")
    }
    found: dict[Any, set[str]] = {
        target: {f"{place.path}.{place.name}" for place in places(model, target)}
        for target in ("query_value", "attention", "feed_forward", "all")
    }
    assert found["attention"] | found["feed_forward"] <= found["all"]
    assert not found["attention"] & found["feed_forward"]
    assert found["query_value"] <= found["attention"]
    if name == "elmo":
        assert not found["attention"] | found["feed_forward"] and len(found["all"]) == 2 * 2 * 3
    else:
        assert found["attention"] and found["feed_forward"]
        assert {path.removesuffix(".weight") for path in found["all"]} >= linear - outside


def test_a_gated_layer_is_two() -> None:
    model = T5(40, 24, False, layers=1, width=32, heads=2, head_width=8, inner=48, feed_forward="gated_gelu")
    pieces = {place.path: place.pieces for place in places(model, "feed_forward")}
    assert pieces["encoder.layers.0.feed_forward.inner"] == 2 and pieces["encoder.layers.0.feed_forward.outer"] == 1


def test_only_the_updates_train() -> None:
    model = adapted("bert", "query_value")
    way = Finetuning(trains="head", adapter="lora")
    course = Course(way, model, nn.Linear(32, 2))
    added = {f"model.{name}" for name, _ in model.named_parameters() if is_added(name)}
    assert course.able == added | {"objective.weight", "objective.bias"}
    assert sum(model.get_parameter(name.removeprefix("model.")).numel() for name in added) == 2 * 2 * (2 * 2 * 32)
    decayed = Course(Finetuning(trains="head", adapter="lora", layer_decay=0.5), model, nn.Linear(32, 2)).factors()
    assert {decayed[name] for name in added} == {0.5, 0.25}


@pytest.mark.parametrize(
    ("name", "rank", "targets", "message"),
    [
        ("elmo", 2, "attention", r"targets=attention: an ELMo has no such weights; finetune\.targets=all takes what it has"),
        ("bert", 33, "attention", r"rank=33 is more than 32, the full rank of layers\.0\.attention\.qkv\.weight"),
        ("elmo", 17, "all", r"rank=17 is more than 16"),
    ],
)  # fmt: skip
def test_refusals(name: str, rank: int, targets: Any, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        add_low_rank(FAMILIES[name](), rank, 1.0, targets)
