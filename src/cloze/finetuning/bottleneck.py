"""Adapters: a narrow layer with a way around it after each sublayer (Houlsby et al. 2019, https://arxiv.org/abs/1902.00751)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from cloze.errors import Refusal, with_article
from cloze.models.base import Backbone
from cloze.models.switch import SparseFeedForward

ADAPTER = ".adapter."  # stands in the names of an adapter's weights, behind the name of what it follows
DEVIATION = 1e-3  # with which both layers begin, as in the published code: next to nothing is added at first


class Bottleneck(nn.Module):
    """(N, width) -> what is added to it, by way of (N, bottleneck) and a GELU."""

    def __init__(self, like: Tensor, width: int, bottleneck: int) -> None:
        super().__init__()
        settings: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        self.down = nn.Linear(width, bottleneck, **settings)
        self.up = nn.Linear(bottleneck, width, **settings)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.up(F.gelu(self.down(x)))
        return added


def sublayers(model: nn.Module) -> Iterator[nn.Module]:
    """What writes each sublayer's result, before it is added to the stream: the place of an adapter."""
    for path, module in model.named_modules():
        parts = path.split(".")
        attends = parts[-1] == "output" and any(p in ("attention", "attentions", "cross_attention") for p in parts)
        feeds = parts[-1] == "outer" and any(p in ("feed_forward", "feed_forwards") for p in parts)
        if isinstance(module, SparseFeedForward) or (isinstance(module, nn.Linear) and (attends or feeds)):
            yield module


def add_bottlenecks(model: Backbone, bottleneck: int) -> None:
    """Adds an adapter to every sublayer. Raises Refusal where the family has none, or where there are adapters of another width."""
    there = bottleneck_of(model)
    if there == bottleneck:
        return
    if there is not None:
        raise Refusal(
            f"finetune.bottleneck={bottleneck}: the model's adapters have width {there}; they go on with finetune.bottleneck={there}"
        )
    found = list(sublayers(model))
    if not found:
        raise Refusal(
            f"finetune.adapter=bottleneck: {with_article(type(model).__name__)} has no attention or feed-forward sublayers to put "
            "adapters behind; finetune.adapter=lora finetune.targets=all adapts its layers"
        )
    for module in found:
        like = next(module.parameters())
        width = (
            module.out_features if isinstance(module, nn.Linear) else like.shape[-1]
        )  # a router reads what it is to write
        module.adapter = Bottleneck(like, width, bottleneck)
        module.register_forward_hook(_through_the_adapter)


def bottleneck_of(model: nn.Module) -> int | None:
    """How wide the adapters of a model are; None where it has none."""
    return next((module.down.out_features for module in model.modules() if isinstance(module, Bottleneck)), None)


def _through_the_adapter(module: nn.Module, _: tuple[Any, ...], written: Any) -> Any:
    """A sparse feed-forward gives its routing too, which stays as it is."""
    adapter = module.adapter
    assert isinstance(adapter, Bottleneck)
    if isinstance(written, tuple):
        return (written[0] + adapter(written[0]), *written[1:])
    return written + adapter(written)
