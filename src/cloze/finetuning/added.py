"""What a model has beside its family's own weights, and keeps when it is saved: `"added"` in model/config.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from cloze.finetuning.bottleneck import add_bottlenecks, bottleneck_of
from cloze.finetuning.prompt import add_prompt, prompt_of
from cloze.models.base import Backbone


@dataclass(frozen=True)
class Added:
    """Adapters of a width, and a prompt of so many vectors; None where there are none."""

    bottleneck: int | None = None
    prompt_tokens: int | None = None

    @classmethod
    def of(cls, model: nn.Module) -> Added:
        """What a model has."""
        return cls(bottleneck_of(model), prompt_of(model))

    @property
    def description(self) -> dict[str, Any]:
        """Its part of model/config.json: nothing, where nothing is added."""
        there = {name: size for name, size in asdict(self).items() if size is not None}
        return {"added": there} if there else {}

    def install(self, model: Backbone) -> None:
        """Builds it into a model of the family, with weights that are to be replaced."""
        if self.bottleneck is not None:
            add_bottlenecks(model, self.bottleneck)
        if self.prompt_tokens is not None:
            add_prompt(model, self.prompt_tokens)
