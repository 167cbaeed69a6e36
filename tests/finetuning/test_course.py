"""Which layer a parameter belongs to, how fast it learns, and when: in every family."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cloze.check import built_by
from cloze.errors import Refusal
from cloze.finetuning.course import Course, groups
from cloze.finetuning.ways import Finetuning
from cloze.models.albert import Albert
from cloze.models.base import Backbone
from cloze.models.bert import Bert
from cloze.models.electra import Electra
from cloze.models.switch import Switch
from cloze.models.t5 import T5
from cloze.models.transformer_xl import TransformerXL
from cloze.models.xlnet import XLNet
from cloze.training.optimizers import LAMB, Adafactor, Adagrad, AdamW, OptimizerSettings, decay_groups
from tests.models.test_layouts import FAMILIES

SHAPE: dict[str, Any] = {"width": 32, "heads": 2, "inner": 48}
LAYERS: dict[
    str, tuple[Callable[[], Backbone], int]
] = {  # by name: a model, and how many layers lie above its embeddings
    **{name: (make, 2) for name, make in FAMILIES.items()},
    "albert": (lambda: Albert(40, 24, True, layers=3, embedding_width=16, sharing="none", **SHAPE), 3),
    "t5": (FAMILIES["t5"], 4),
    "switch": (FAMILIES["switch"], 4),
    "bart": (FAMILIES["bart"], 4),
    "mass": (FAMILIES["mass"], 3),
    "electra": (lambda: Electra(40, 24, True, True, layers=3, embedding_width=16, generator_layers=0.5, **SHAPE), 3),
    "xlnet": (lambda: XLNet(40, 24, True, layers=3, **SHAPE), 3),
    "transformer_xl": (lambda: TransformerXL(40, 24, True, layers=3, head_width=8, untied_biases=True, **SHAPE), 3),
    "t5 with a short decoder": (lambda: T5(40, 24, False, layers=3, decoder_layers=1, head_width=8, **SHAPE), 4),
    "switch, all sparse": (
        lambda: Switch(40, 24, False, layers=2, sparse_every=1, head_width=8, experts=2, **SHAPE),
        4,
    ),
}


class Reader(nn.Module):
    """Stands for an objective's own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(32, 2)


def test_every_family_is_here() -> None:
    assert {type(make()) for make, _ in LAYERS.values()} >= set(built_by("model").values())


@pytest.mark.parametrize("name", LAYERS)
def test_every_parameter_lies_in_a_layer(name: str) -> None:
    make, layers = LAYERS[name]
    model = make()
    depths = {parameter: model.depth(parameter) for parameter, _ in model.named_parameters()}
    inside = {depth for parameter, depth in depths.items() if not parameter.startswith("pooler.")}
    assert inside == set(range(layers + 1))
    assert {depth for parameter, depth in depths.items() if parameter.startswith("pooler.")} <= {layers + 1}
    made = groups(model, Reader())
    assert len(made) == layers + 2
    everything = [name for group in made for name in group]
    assert len(everything) == len(set(everything)) == len(depths) + 2
    assert all(name.startswith(("objective.", "model.pooler.")) for name in made[-1])


def test_layers_that_share_weights_are_one_group() -> None:
    """Two groups of layers: two groups, whatever layers run them. What reads the states lies right above."""
    model = Albert(40, 24, True, layers=6, layer_groups=2, embedding_width=16, **SHAPE)
    made = groups(model, Reader())
    assert len(made) == 4 and {name.split(".")[2] for name in made[2]} == {"1"}


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5 with a short decoder", "xlnet", "elmo"])
@pytest.mark.parametrize(
    "settings", [AdamW(1e-3), LAMB(1e-3), Adafactor(1e-3), Adagrad(1e-3)], ids=lambda x: type(x).__name__
)
def test_each_layer_has_the_rate_of_the_formula(name: str, settings: OptimizerSettings) -> None:
    """rate of depth d = rate * decay ** (layers + 1 - d); that of what reads the states is the rate itself."""
    make, layers = LAYERS[name]
    model, reader, decay = make(), Reader(), 1 / 2.6
    course = Course(Finetuning(layer_decay=decay), model, reader)
    both = nn.ModuleDict({"model": model, "objective": reader})
    optimizer = settings.build(both, factors=course.factors())
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(both.parameters()))
    for parameter, tensor in model.named_parameters():
        above = 0 if parameter.startswith("pooler.") else layers + 1 - model.depth(parameter)
        assert rates[id(tensor)] == pytest.approx(1e-3 * decay**above, rel=1e-12), parameter
        assert decays[id(tensor)] == (settings.weight_decay if tensor.ndim >= 2 else 0.0)
    assert {rates[id(tensor)] for tensor in reader.parameters()} == {1e-3}
    if isinstance(settings, LAMB):
        for group in optimizer.param_groups:
            assert all((p.ndim >= 2) == group["adapted"] for p in group["params"])


def test_a_step_goes_by_these_rates() -> None:
    """Adam's first step is as long as its rate, whatever the gradient: each layer's moves tell its rate."""
    torch.manual_seed(0)
    model, reader = Bert(40, 24, False, layers=2, **SHAPE), Reader()
    both = nn.ModuleDict({"model": model, "objective": reader})
    factors = Course(Finetuning(layer_decay=0.5), model, reader).factors()
    optimizer = AdamW(1e-3, weight_decay=0.0, epsilon=1e-12).build(both, factors=factors)
    before = {name: p.detach().clone() for name, p in both.named_parameters()}
    for parameter in both.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for name, factor in {"model.embeddings.word.weight": 1 / 8, "model.layers.0.attention.qkv.weight": 1 / 4,
                         "model.layers.1.feed_forward.norm.bias": 1 / 2, "objective.dense.weight": 1.0}.items():  # fmt: skip
        move = (both.get_parameter(name).detach() - before[name]).abs()
        torch.testing.assert_close(move, torch.full_like(move, 1e-3 * factor), rtol=1e-3, atol=1e-9)


def test_one_rate_for_all_makes_the_two_groups_of_old() -> None:
    """Else a run from before there were other ways could not be resumed."""
    model, reader = Bert(40, 24, True, layers=2, **SHAPE), Reader()
    both = nn.ModuleDict({"model": model, "objective": reader})
    course = Course(Finetuning(), model, reader)
    plain, ours = decay_groups(both, 0.01), decay_groups(both, 0.01, None, 1e-3, course.factors())
    assert [list(group) for group in ours] == [list(group) for group in plain] == [["params", "weight_decay"]] * 2
    for before, after in zip(plain, ours, strict=True):
        assert list(map(id, before["params"])) == list(map(id, after["params"]))
    assert course.able == {name for name, _ in both.named_parameters()} and not course.changes


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "bart", "albert", "elmo"])
@pytest.mark.parametrize("every", [None, 0.5, 2.0])
def test_gradual_unfreezing_adds_whole_layers(name: str, every: float | None) -> None:
    make, layers = LAYERS[name]
    model, reader, per_epoch = make(), Reader(), 6
    course = Course(Finetuning(unfreeze="gradual", unfreeze_every=every), model, reader)
    made = groups(model, reader)
    period = int((every or 1) * per_epoch)
    for step in range((layers + 3) * period):
        open_ = min(step // period, layers + 1)
        expected = {parameter for group in made[len(made) - 1 - open_ :] for parameter in group}
        assert course.trained(step, per_epoch) == expected
    assert course.trained(10**6, per_epoch) == course.able
    assert (
        course.remark((layers + 1) * period, per_epoch) and course.remark((layers + 1) * period + 1, per_epoch) is None
    )


def test_chain_thaw() -> None:
    """What is new first, then each layer alone from the first one on, then all: https://arxiv.org/abs/1708.00524, section 3.3."""
    model, reader = Bert(40, 24, True, layers=2, **SHAPE), Reader()
    course = Course(Finetuning(unfreeze="chain_thaw"), model, reader)
    bottom, first, second, top = map(frozenset, groups(model, reader))
    seen = [course.trained(step, 10) for step in range(0, 70, 10)]
    assert seen == [top, bottom, first, second, *[course.able] * 3]


def test_a_period_that_is_no_whole_number_of_steps() -> None:
    course = Course(Finetuning(unfreeze="gradual", unfreeze_every=0.1), FAMILIES["bert"](), Reader())
    assert [course.period(step, 30) for step in range(10)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert [course.period(step, 15) for step in range(8)] == [min(3, math.floor(step / 1.5)) for step in range(8)]


@pytest.mark.parametrize("name", LAYERS)
def test_biases(name: str) -> None:
    """Those of dense layers and norms, and what Transformer-XL adds to its queries; T5 has none."""
    make, _ = LAYERS[name]
    model = make()
    if name.startswith(("t5", "switch")):
        with pytest.raises(Refusal, match=r"trains=biases: a \w+ has no biases; finetune=lora"):
            Course(Finetuning(trains="biases"), model, Reader())
        return
    able = Course(Finetuning(trains="biases"), model, Reader()).able
    inside = {n.removeprefix("model.") for n in able if n.startswith("model.") and not n.startswith("model.pooler.")}
    assert {"objective.dense.weight", "objective.dense.bias"} <= able and inside
    assert all(model.get_parameter(parameter).ndim == 1 for parameter in inside)
    norms = [n for n, module in model.named_modules() if isinstance(module, nn.LayerNorm)]
    assert all(f"{norm}.bias" in inside and f"{norm}.weight" not in inside for norm in norms)


def test_parameters_that_were_not_to_train_do_not() -> None:
    model = FAMILIES["bert"]()
    model.get_parameter("embeddings.segment.weight").requires_grad_(False)
    assert "model.embeddings.segment.weight" not in Course(Finetuning(), model, Reader()).able
    with pytest.raises(
        Refusal, match="trains=head leaves nothing to train: Module has no weights of its own on a Bert"
    ):
        Course(Finetuning(trains="head"), model, nn.Module())


@pytest.mark.parametrize("way", [{"adapter": "lora"}, {"adapter": "bottleneck"}, {}])
def test_what_no_loss_depends_on_is_not_counted(way: dict[str, Any]) -> None:
    """A T5 whose encoder alone is read: its layers stand right below the head, and nothing that lies on the decoder trains."""
    model, reader = T5(40, 24, False, layers=2, width=32, heads=2, head_width=8, inner=48), Reader()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("decoder."))
    settings = Finetuning(layer_decay=0.5, trains="head" if way else "all", **way)
    Course.install(settings, model)
    course = Course(settings, model, reader)
    assert course.able and not any(name.startswith("model.decoder.") for name in course.able)
    assert len(course.groups) == 4
    rates = {name: factor for name, factor in course.factors().items() if name in course.able}
    assert {name.split(".")[3] for name, factor in rates.items() if factor == 0.5 and ".layers." in name} == {"1"}
    assert {name.split(".")[3] for name, factor in rates.items() if factor == 0.25 and ".layers." in name} == {"0"}
    assert "model.encoder.final_norm.weight" in course.able or way == {"adapter": "lora"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer_decay": 0.0}, r"layer_decay=0\.0 must lie in \(0, 1\]"),
        ({"layer_decay": 2.6}, r"layer_decay=2\.6 must lie in \(0, 1\]: .* ULMFiT's is 1/2\.6"),
        ({"unfreeze_every": 2.0}, r"unfreeze_every=2\.0 has no effect without finetune\.unfreeze=gradual"),
        ({"unfreeze": "gradual", "unfreeze_every": 0.0}, r"unfreeze_every=0\.0 must be above 0"),
        ({"unfreeze": "gradual", "trains": "biases"}, r"unfreeze=gradual has no effect with finetune\.trains=biases"),
        ({"rank": 4}, r"rank=4 has no effect without finetune\.adapter=lora"),
        ({"adapter": "bottleneck", "trains": "head", "alpha": 4.0}, r"alpha=4\.0 has no effect without finetune\.adapter=lora"),
        ({"adapter": "lora", "trains": "head", "bottleneck": 4}, r"bottleneck=4 has no effect without finetune\.adapter=bottleneck"),
        ({"prompt_tokens": 4}, r"prompt_tokens=4 has no effect without finetune\.adapter=prompt"),
        ({"adapter": "lora"}, r"adapter=lora trains in place of the model's own weights: say finetune\.trains=head"),
        ({"adapter": "lora", "trains": "head", "rank": 0}, r"rank=0 must be at least 1"),
        ({"layer_decay": 0.9, "trains": "head"}, r"layer_decay=0\.9 has no effect: no layer trains"),
    ],
)  # fmt: skip
def test_refusals(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        Finetuning(**settings)


@pytest.mark.parametrize(
    ("adapter", "strategy", "layout", "continuous", "message"),
    [
        ("lora", "fsdp", "packed", False, r"adapter=lora needs whole weights.*hardware\.strategy=ddp"),
        ("prompt", "single", "padded", False, r"adapter=prompt makes sequences longer.*hardware\.layout=packed"),
        ("prompt", "single", "packed", True, r"adapter=prompt stands before a text.*objective\.documents=packed"),
    ],
)
def test_refused_machines(adapter: Any, strategy: str, layout: str, continuous: bool, message: str) -> None:
    course = Course(Finetuning(trains="head", adapter=adapter), FAMILIES["bert"](), Reader())
    course.refuse("ddp", "packed", False)
    with pytest.raises(Refusal, match=message):
        course.refuse(strategy, layout, continuous)
