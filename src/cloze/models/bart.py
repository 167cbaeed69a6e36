"""BART: an encoder-decoder that writes a text again of which it reads a damaged copy (Lewis et al. 2019,
https://arxiv.org/abs/1910.13461).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models import conversion
from cloze.models.conversion import Portable, Rule, Weights
from cloze.models.encoder import OUR_ACTIVATIONS, THEIR_ACTIVATIONS
from cloze.models.encoder_decoder import PostNormEncoderDecoder
from cloze.models.layers.heads import OffsetHead


class Bart(PostNormEncoderDecoder, Portable):
    """Post-norm encoder and decoder whose position tables begin at row 2 (a habit of the code that the published weights come from)
    and whose head adds an offset that is not learnt: 0, unless a checkpoint brings another.
    """

    model_type: ClassVar[str] = "bart"
    begins = "eos"
    between: ClassVar[tuple[str, ...]] = ("eos", "eos")
    first_position = 2

    def token_head(self) -> OffsetHead:
        return OffsetHead(self.word.num_embeddings)

    # Hugging Face

    @classmethod
    def _rules(cls, layers: int, decoder_layers: int) -> list[Rule]:
        names: dict[str, str | tuple[str, ...]] = {}
        tables = {"word": "shared"}
        for stack, count in (("encoder", layers), ("decoder", decoder_layers)):
            tables[f"{stack}.position"] = f"{stack}.embed_positions"
            names[f"{stack}.embedding_norm"] = f"{stack}.layernorm_embedding"
            for i in range(count):
                here = f"{stack}.layers.{i}."
                own, cross = here + "self_attn.", here + "encoder_attn."
                names |= {
                    here + "attention.qkv": (own + "q_proj", own + "k_proj", own + "v_proj"),
                    here + "attention.output": own + "out_proj",
                    here + "attention.norm": here + "self_attn_layer_norm",
                    here + "feed_forward.inner": here + "fc1",
                    here + "feed_forward.outer": here + "fc2",
                    here + "feed_forward.norm": here + "final_layer_norm",
                }
                if stack == "decoder":
                    names |= {
                        here + "cross_attention.query": cross + "q_proj",
                        here + "cross_attention.key_value": (cross + "k_proj", cross + "v_proj"),
                        here + "cross_attention.output": cross + "out_proj",
                        here + "cross_attention.norm": here + "encoder_attn_layer_norm",
                    }
        body = conversion.rules(tables, ("weight",)) + conversion.rules(names)
        return [Rule(f"model.{rule.ours}", tuple(f"model.{name}" for name in rule.theirs)) for rule in body]

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        # mBART and its like, whose old checkpoints call themselves BART too, are other networks
        same = {
            f"decoder_{name}": (config.get(f"encoder_{name}", default),)
            for name, default in (("attention_heads", 16), ("ffn_dim", 4096))
        }
        conversion.demand(
            config,
            {
                "is_encoder_decoder": (True,),
                "normalize_before": (False,),
                "normalize_embedding": (True,),
                "add_final_layer_norm": (False,),
                "static_position_embeddings": (False,),
                "scale_embedding": (False,),
                "tie_word_embeddings": (True,),
                "encoder_layerdrop": (0.0,),
                "decoder_layerdrop": (0.0,),
                "activation_function": tuple(THEIR_ACTIVATIONS),
                **same,
            },
        )
        layers, decoder_layers = config.get("encoder_layers", 12), config.get("decoder_layers", 12)
        settings = {
            "layers": layers,
            "decoder_layers": None if decoder_layers == layers else decoder_layers,
            "width": config.get("d_model", 1024),
            "heads": config.get("encoder_attention_heads", 16),
            "inner": config.get("encoder_ffn_dim", 4096),
            "positions": config.get("max_position_embeddings", 1024),
            "activation": THEIR_ACTIVATIONS[config.get("activation_function", "gelu")],
            "dropout": float(config.get("dropout", 0.1)),
            "attention_dropout": float(config.get("attention_dropout", 0.0)),
            "inner_dropout": float(config.get("activation_dropout", 0.0)),
            "initializer_range": config.get("init_std", 0.02),
        }
        # the embedding's copies, what older code kept beside the weights, and the head of a classifier
        ignored = ("*embed_tokens.weight", "lm_head.weight", "model.*.version", "classification_head.*")
        theirs = conversion.with_prefix(weights, "model.", ("shared.", "encoder.", "decoder."))
        offset = theirs.pop("final_logits_bias", None)
        ours = conversion.load(cls._rules(layers, decoder_layers), theirs, ignored)
        # a bare model's checkpoint has no offset; its head is the embedding all the same
        ours["objective.head.bias"] = torch.zeros(config["vocab_size"]) if offset is None else offset.flatten()
        return settings, ours

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        if settings["norm_epsilon"] != 1e-5:
            raise Refusal(
                f"model.norm_epsilon={settings['norm_epsilon']:g}: transformers' BART has 1e-05 and nothing else"
            )
        layers = settings["layers"]
        decoder_layers = layers if settings["decoder_layers"] is None else settings["decoder_layers"]
        special = {role: vocabulary.special.get(role) for role in ("pad", "bos", "eos")}
        size = len(weights["model.word.weight"])
        config = {
            "model_type": cls.model_type,
            "architectures": ["BartForConditionalGeneration"],
            "vocab_size": size,
            "max_position_embeddings": settings["positions"],
            "d_model": settings["width"],
            "encoder_layers": layers,
            "decoder_layers": decoder_layers,
            **{f"{stack}_attention_heads": settings["heads"] for stack in ("encoder", "decoder")},
            **{f"{stack}_ffn_dim": settings["inner"] for stack in ("encoder", "decoder")},
            "activation_function": OUR_ACTIVATIONS[settings["activation"]],
            "dropout": settings["dropout"],
            "attention_dropout": settings["attention_dropout"],
            "activation_dropout": settings["inner_dropout"],
            "init_std": settings["initializer_range"],
            "scale_embedding": False,
            "is_encoder_decoder": True,
            "tie_word_embeddings": True,
            **{f"{role}_token_id": id for role, id in special.items()},
            "decoder_start_token_id": special["eos"],
            "forced_eos_token_id": special["eos"],
        }
        theirs = conversion.store(cls._rules(layers, decoder_layers), weights)
        offset = weights.get("objective.head.bias", torch.zeros(size))
        return config, {**theirs, "final_logits_bias": offset[None].clone()}
