"""Fine-tuning carried out: a run's parameters in groups by depth, the rate of each, and which of them train at a step.

Everything here is a function of the step alone, so a resumed run goes on exactly.
"""

from __future__ import annotations

import math
from functools import cached_property

from torch import nn

from cloze.errors import Refusal, with_article
from cloze.finetuning import low_rank
from cloze.finetuning.bottleneck import ADAPTER, add_bottlenecks
from cloze.finetuning.prompt import add_prompt
from cloze.finetuning.ways import Finetuning
from cloze.models.base import Backbone

_ABOVE = ("pooler.", "prompt.")  # parts of a model that no layer holds: they train as the objective's weights do
_NORMS = (nn.LayerNorm, nn.RMSNorm)


def groups(model: Backbone, objective: nn.Module) -> list[list[str]]:
    """The names of all parameters, as a run's state has them ("model.…", "objective.…"), from the bottom up.

    The embeddings first, then each layer, and last what reads the states: the objective's weights, the model's pooler, a prompt. Layers
    go by `Backbone.depth`; where layers share weights (ALBERT) a group is what several of them run.
    """
    depths: dict[int, list[str]] = {}
    above = [f"objective.{name}" for name, _ in objective.named_parameters()]
    for name, _ in model.named_parameters():
        if name.startswith(_ABOVE):
            above.append(f"model.{name}")
        else:
            depths.setdefault(model.depth(name), []).append(f"model.{name}")
    return [*(depths[depth] for depth in sorted(depths)), above]


class Course:
    """What a way of fine-tuning means for this model and this objective.

    Raises Refusal where nothing would train. `install` what the way adds to the model before.
    """

    def __init__(self, way: Finetuning, model: Backbone, objective: nn.Module) -> None:
        self.way = way
        alive = _alive(nn.ModuleDict({"model": model, "objective": objective}))
        # layers that no loss depends on (above the one that is read, a decoder that is given nothing) are not counted
        found = [[name for name in group if name in alive] for group in groups(model, objective)]
        self.groups = [*(group for group in found[:-1] if group), found[-1]]
        self.able = self._able(model, alive)  # every parameter that trains at some step
        if not self.able:
            raise Refusal(
                f"finetune.trains={way.trains} leaves nothing to train: {type(objective).__name__} has no weights of its own on "
                f"{with_article(type(model).__name__)}. Take finetune.trains=all, or an adapter."
            )

    @staticmethod
    def install(way: Finetuning, model: Backbone) -> None:
        """Adds to the model what the way adds, drawn by torch's generator. Raises Refusal where it does not fit the family."""
        if way.adapter == "lora":
            low_rank.add_low_rank(model, *low_rank.rank_of(way.alpha, way.rank)[:2], way.targets or "query_value")
        elif way.adapter == "bottleneck":
            add_bottlenecks(model, way.bottleneck or 64)
        elif way.adapter == "prompt":
            add_prompt(model, way.prompt_tokens or 20)

    def _able(self, model: Backbone, alive: frozenset[str]) -> frozenset[str]:
        way = self.way
        if way.trains == "all":
            return alive
        able = {name for name in self.groups[-1] if not name.startswith("model.prompt.") or way.adapter == "prompt"}
        if way.trains == "biases":
            biases = {name for group in self.groups[:-1] for name in group if _is_bias(name)}
            if not biases:
                raise Refusal(
                    f"finetune.trains=biases: {with_article(type(model).__name__)} has no biases; finetune=lora changes as little"
                )
            able |= biases
        if way.adapter == "lora":
            able |= {name for name in alive if low_rank.is_added(name)}
        elif way.adapter == "bottleneck":
            norms = {f"model.{path}." for path, module in model.named_modules() if isinstance(module, _NORMS)}
            able |= {name for name in alive if ADAPTER in name or f"{name.rpartition('.')[0]}." in norms}
        return frozenset(able)

    # --- rates -----------------------------------------------------------------------------------------------------------------

    def factors(self) -> dict[str, float]:
        """What the learning rate of each parameter is multiplied by, where that is not 1: layer_decay ** (how many groups lie above)."""
        decay, above = self.way.layer_decay, len(self.groups) - 1
        if decay == 1:
            return {}
        return {name: decay ** (above - number) for number, group in enumerate(self.groups[:-1]) for name in group}

    # --- when ------------------------------------------------------------------------------------------------------------------

    @cached_property
    def _periods(self) -> list[frozenset[str]]:
        """What trains in each period of unfreezing; the last one lasts."""
        there = [group & self.able for group in map(frozenset, self.groups)]
        falling = [group for group in reversed(there) if group]
        if self.way.unfreeze == "gradual":
            return [frozenset().union(*falling[: number + 1]) for number in range(len(falling))]
        if self.way.unfreeze == "chain_thaw":
            first = [falling[0]] if there[-1] else []
            return [*first, *(group for group in there[:-1] if group), self.able]
        return [self.able]

    def period(self, step: int, steps_per_epoch: int) -> int:
        """Which period of unfreezing a step lies in, from 0."""
        every = (self.way.unfreeze_every or 1.0) * max(1, steps_per_epoch)
        # a step that is reached on time must not be late by a rounding
        return min(math.floor(step / every + 1e-9), len(self._periods) - 1)

    def trained(self, step: int, steps_per_epoch: int) -> frozenset[str]:
        """The names of the parameters that train at a step (from 0)."""
        return self._periods[self.period(step, steps_per_epoch)]

    @property
    def changes(self) -> bool:
        """Whether what trains depends on the step."""
        return len(self._periods) > 1

    def remark(self, steps: int | None, steps_per_epoch: int) -> str | None:
        """What a user should know of a budget that ends before everything has trained."""
        if steps is None or not self.changes or self.trained(steps - 1, steps_per_epoch) == self._periods[-1]:
            return None
        reached, last = self.period(steps - 1, steps_per_epoch) + 1, len(self._periods)
        sooner = math.floor(100 * steps / steps_per_epoch / last) / 100  # epochs, so that each period has as many
        return (
            f"finetune.unfreeze={self.way.unfreeze}: this budget ends in period {reached} of {last}, before all layers train"
            + (f"; finetune.unfreeze_every={sooner:g} shares it out" if sooner else "")
        )

    # --- where it cannot be ----------------------------------------------------------------------------------------------------

    def refuse(self, strategy: str, layout: str, continuous: bool) -> None:
        """Raises Refusal where this way does not go with a machine's strategy and layout, or with text that goes on."""
        if self.way.adapter == "none":
            return
        word = f"finetune.adapter={self.way.adapter}"
        if strategy == "fsdp":
            raise Refusal(
                f"{word} needs whole weights, and hardware.strategy=fsdp cuts them up; take hardware.strategy=ddp"
            )
        if self.way.adapter == "prompt" and layout == "padded":
            raise Refusal(
                f"{word} makes sequences longer than hardware.layout=padded has room for; take hardware.layout=packed"
            )
        if self.way.adapter == "prompt" and continuous:
            raise Refusal(
                f"{word} stands before a text, and here text goes on from batch to batch; take objective.documents=packed"
            )


def _alive(everything: nn.Module) -> frozenset[str]:
    """The parameters that may train: those that nobody has switched off, and of what is added to a weight or a layer only what was
    added to one of these (else processes that add up gradients would wait for one that never comes)."""
    trained = [name for name, parameter in everything.named_parameters() if parameter.requires_grad]
    hosts = {_host(name) for name in trained if _host(name) != name}
    idle = {host for host in hosts if not any(name.startswith(host) and _host(name) == name for name in trained)}
    return frozenset(name for name in trained if _host(name) not in idle)


def _host(name: str) -> str:
    """Where what is added with a parameter was added: how the names there begin; other parameters' own names."""
    if low_rank.is_added(name):
        return name.rsplit(".", 2)[0] + ".original"
    return name.partition(ADAPTER)[0] + "." if ADAPTER in name else name


def _is_bias(name: str) -> bool:
    """Biases of dense layers and norms, and Transformer-XL's, which are added to its queries."""
    parts = name.split(".")
    return parts[-1] == "bias" or "biases" in parts
