"""GPT: the decoder that normalises after each sub-layer (Radford et al. 2018, "Improving Language Understanding by
Generative Pre-Training",
https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models import conversion
from cloze.models.conversion import Weights
from cloze.models.decoder import Decoder


class GPT(Decoder):
    """Post-norm decoder with learned positions and a tied head; the last layer's norm is the final one.

    Every matrix begins as a normal with `initializer_range`. The published model has `positions` = 512.
    """

    model_type: ClassVar[str] = "openai-gpt"
    norm_first = False
    their_embeddings = ("tokens_embed", "positions_embed")

    def deviation(self, parameter_name: str) -> float:
        return self.initializer_range

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        # what transformers calls "gelu" here is the tanh approximation, as OpenAI's code has it
        conversion.demand(config, {"afn": ("gelu",)})
        return super().from_transformers({"n_positions": 512, **config}, weights)

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        if settings["inner"] != 4 * settings["width"]:
            raise Refusal(
                f"model.inner={settings['inner']}: transformers' GPT always has 4 x model.width = {4 * settings['width']}"
            )
        config, theirs = super().to_transformers(settings, weights, vocabulary)
        return config | {"architectures": ["OpenAIGPTLMHeadModel"], "afn": "gelu"}, theirs
