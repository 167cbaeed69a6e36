"""What the encoders of BERT's kind have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.models import conversion
from cloze.models.base import Batch, Bidirectional, HiddenStates
from cloze.models.conversion import Portable
from cloze.models.layers.embeddings import Embeddings
from cloze.models.layers.feed_forward import Activation
from cloze.models.layers.heads import TransformedHead

THEIR_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
OUR_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}


def layer_names(ours: str, theirs: str) -> dict[str, str | tuple[str, ...]]:
    """The modules of one layer here and in transformers' BERT, RoBERTa and ELECTRA."""
    return {
        ours + "attention.qkv": tuple(theirs + f"attention.self.{name}" for name in ("query", "key", "value")),
        ours + "attention.output": theirs + "attention.output.dense",
        ours + "attention.norm": theirs + "attention.output.LayerNorm",
        ours + "feed_forward.inner": theirs + "intermediate.dense",
        ours + "feed_forward.outer": theirs + "output.dense",
        ours + "feed_forward.norm": theirs + "output.LayerNorm",
    }


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json of a BERT, a RoBERTa or an ELECTRA says alike, as settings of ours. Raises Refusal for what none of them does."""
    conversion.demand(
        config,
        {
            "is_decoder": (False,),
            "position_embedding_type": ("absolute", None),
            "tie_word_embeddings": (True,),
            "hidden_act": tuple(THEIR_ACTIVATIONS),
        },
    )
    return {
        "layers": config["num_hidden_layers"],
        "width": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "inner": config["intermediate_size"],
        "positions": config["max_position_embeddings"],
        "segments": config["type_vocab_size"],
        "activation": THEIR_ACTIVATIONS[config.get("hidden_act", "gelu")],
        "dropout": float(config.get("hidden_dropout_prob", 0.1)),
        "attention_dropout": float(config.get("attention_probs_dropout_prob", 0.1)),
        "norm_epsilon": config.get("layer_norm_eps", 1e-12),
        "initializer_range": config.get("initializer_range", 0.02),
    }


def config_of(settings: Mapping[str, Any], embedding: Tensor, vocabulary: Vocabulary) -> dict[str, Any]:
    """The opposite: entries of config.json. `embedding` (V, E) is the word embedding, which may have more rows than there are words."""
    return {
        "vocab_size": len(embedding),
        "num_hidden_layers": settings["layers"],
        "hidden_size": settings["width"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": settings["inner"],
        "max_position_embeddings": settings["positions"],
        "type_vocab_size": settings["segments"],
        "hidden_act": OUR_ACTIVATIONS[settings["activation"]],
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["attention_dropout"],
        "layer_norm_eps": settings["norm_epsilon"],
        "initializer_range": settings["initializer_range"],
        **{f"{role}_token_id": vocabulary.special.get(role) for role in ("pad", "bos", "eos")},
    }


class Encoder(Bidirectional, Portable):
    """Embeddings, a token head with a layer of its own, and a pooler on [CLS] where the objective asks for one."""

    embeddings: Embeddings
    pooler: nn.Linear | None
    _head: tuple[int, int, int, Activation, float, float]  # what `TransformedHead` is made of

    @property
    def word_embedding(self) -> Tensor:
        return self.embeddings.word.weight

    def token_head(self) -> TransformedHead:
        return TransformedHead(*self._head)

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        if self.pooler is None:
            return super().pool(states, batch)
        first = states.last[batch.inputs.layout.starts(states.last.device)]
        return torch.tanh(self.pooler(first))
