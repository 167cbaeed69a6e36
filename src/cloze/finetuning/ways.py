"""The settings of fine-tuning: what conf/finetune builds. Full fine-tuning, which is also pre-training, has them all at their defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cloze.errors import Refusal

Trains = Literal["all", "head", "biases"]
Unfreezing = Literal["gradual", "chain_thaw"]
Kind = Literal["none", "lora", "bottleneck", "prompt"]
Targets = Literal["query_value", "attention", "feed_forward", "all"]


@dataclass(frozen=True)
class Finetuning:
    """What trains, how fast, from when on, and what is added.

    trains          of the model's own weights: all of them, its biases (BitFit, https://arxiv.org/abs/2106.10199) or none ("head").
                    What reads its states always trains: the objective's weights and the model's pooler
    layer_decay     the rate of each layer is this times that of the layer above it; what reads the states has the full rate
    unfreeze        "gradual": what reads the states first, then from the last layer down one more after every `unfreeze_every` epochs
                    (ULMFiT, https://arxiv.org/abs/1801.06146); "chain_thaw": the same first, then each layer alone, the embeddings
                    first, then all (https://arxiv.org/abs/1708.00524)
    adapter         trained weights that are added to a model whose own do not train: "lora" (https://arxiv.org/abs/2106.09685, `rank`,
                    `alpha`, `targets`), "bottleneck" (https://arxiv.org/abs/1902.00751, as wide as `bottleneck`) or "prompt", vectors
                    before the text (https://arxiv.org/abs/2104.08691, `prompt_tokens` of them)
    from_scratch    architecture and tokenizer come from init=, the weights from chance: the control
    """

    trains: Trains = "all"
    layer_decay: float = 1.0
    unfreeze: Unfreezing | None = None
    unfreeze_every: float | None = None
    adapter: Kind = "none"
    rank: int | None = None
    alpha: float | None = None
    targets: Targets | None = None
    bottleneck: int | None = None
    prompt_tokens: int | None = None
    from_scratch: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise Refusal(
                f"finetune.layer_decay={self.layer_decay} must lie in (0, 1]: 1 is one rate for all layers; ULMFiT's is 1/2.6"
            )
        for name in ("unfreeze_every", "alpha"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise Refusal(f"finetune.{name}={value} must be above 0")
        for name in ("rank", "bottleneck", "prompt_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Refusal(f"finetune.{name}={value} must be at least 1")
        self._refuse_without_effect()

    def _refuse_without_effect(self) -> None:
        """A setting that changes nothing is a mistake: what it was meant for is missing."""
        owners = {
            "unfreeze_every": ("unfreeze=gradual", self.unfreeze is not None),
            **dict.fromkeys(("rank", "alpha", "targets"), ("adapter=lora", self.adapter == "lora")),
            "bottleneck": ("adapter=bottleneck", self.adapter == "bottleneck"),
            "prompt_tokens": ("adapter=prompt", self.adapter == "prompt"),
        }
        for name, (needed, there) in owners.items():
            value = getattr(self, name)
            if value is not None and not there:
                raise Refusal(f"finetune.{name}={value} has no effect without finetune.{needed}")
        if self.adapter != "none" and self.trains == "all":
            raise Refusal(
                f"finetune.adapter={self.adapter} trains in place of the model's own weights: say finetune.trains=head (none of "
                "them) or finetune.trains=biases beside it"
            )
        if self.unfreeze is not None and self.trains != "all":
            raise Refusal(
                f"finetune.unfreeze={self.unfreeze} has no effect with finetune.trains={self.trains}: it ends with all layers training"
            )
        if self.layer_decay != 1 and self.trains == "head" and self.adapter in ("none", "prompt"):
            raise Refusal(f"finetune.layer_decay={self.layer_decay} has no effect: no layer trains")

    @property
    def plain(self) -> bool:
        """Whether this is full fine-tuning from the weights that are there, as every run trained before there was a choice."""
        return self == Finetuning()

    @property
    def freezes_all(self) -> bool:
        """Whether the model's states never change, so that it need not be read with dropout either."""
        return self.trains == "head" and self.adapter == "none"
