"""GPT-2: a decoder that normalises before each sub-layer (Radford et al. 2019, "Language Models are Unsupervised
Multitask Learners",
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf).

GPT-3 (https://arxiv.org/abs/2005.14165) and Megatron-LM's 8.3 B (https://arxiv.org/abs/1909.08053) have the same
layout, larger. (In GPT-3 every second layer attends within a band; here all layers are dense.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from cloze.data.base import Vocabulary
from cloze.models import conversion
from cloze.models.conversion import Weights
from cloze.models.decoder import Decoder


class GPT2(Decoder):
    """Pre-norm decoder with learned positions, a final norm and a tied head.

    Initialisation is the paper's: normal with `initializer_range`, the projections that write into the residual stream
    divided by sqrt(2 * layers). (OpenAI's code draws positions with half that range; transformers, as here, with the
    same.)
    """

    model_type: ClassVar[str] = "gpt2"
    norm_first = True
    their_embeddings = ("wte", "wpe")

    def deviation(self, parameter_name: str) -> float:
        writes = parameter_name.endswith(("attention.output.weight", "feed_forward.outer.weight"))
        return self.initializer_range / math.sqrt(2 * len(self.layers)) if writes else self.initializer_range

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        conversion.demand(
            config,
            {
                "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
                "scale_attn_weights": (True,),
                "scale_attn_by_inverse_layer_idx": (False,),
                "add_cross_attention": (False,),
            },
        )
        return super().from_transformers({"n_positions": 1024, **config}, weights)

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        config, theirs = super().to_transformers(settings, weights, vocabulary)
        own = {
            "architectures": ["GPT2LMHeadModel"],
            "activation_function": "gelu_new",
            "n_inner": settings["inner"],
        }
        return config | own, theirs
