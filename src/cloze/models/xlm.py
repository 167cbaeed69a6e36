"""XLM (Lample and Conneau 2019, https://arxiv.org/abs/1901.07291): one Transformer for many languages, told which each token is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models import conversion
from cloze.models.base import Batch, HiddenStates, Sequences, Steerable
from cloze.models.checks import above_zero, fitting, positive, rates
from cloze.models.conversion import Portable, Rule, Weights
from cloze.models.layers.dropout import drop
from cloze.models.layers.encoder import EncoderLayer
from cloze.models.layers.heads import TiedHead


class XLM(Steerable, Portable):
    """Post-norm layers over word, position and language embeddings; the token head is the word embedding with a bias.

    It reads both sides or what stands before a token, as the batch says: the published models were trained with masked, translation or
    causal language modelling. To a batch that says nothing of languages no embedding of one is added. With `languages=1` there is no
    such table.
    """

    model_type = "xlm"
    caches = True
    idle = ("language.weight",)  # by text that says nothing of languages

    def __init__(
        self,
        vocabulary: int,
        length: int,
        pooler: bool,
        layers: int = 12,
        width: int = 1024,
        heads: int = 8,
        inner: int = 4096,
        languages: int = 2,
        positions: int = 512,
        activation: Literal["gelu", "relu"] = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        norm_epsilon: float = 1e-12,
        initializer_range: float = 0.02,
        embedding_range: float | None = None,
    ) -> None:
        super().__init__()
        positive(layers=layers, width=width, heads=heads, inner=inner, languages=languages, positions=positions)
        above_zero(norm_epsilon=norm_epsilon, initializer_range=initializer_range)
        if embedding_range is not None:
            above_zero(embedding_range=embedding_range)
        rates(dropout=dropout, attention_dropout=attention_dropout)
        fitting(width, heads, length, positions)
        self.width, self.positions, self.initializer_range = width, positions, initializer_range
        self.languages: int | None = languages
        self.dropout = dropout
        self.word = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(positions, width)
        self.language = nn.Embedding(languages, width) if languages > 1 else None
        self.norm = nn.LayerNorm(width, eps=norm_epsilon)
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, inner, activation, dropout, attention_dropout, norm_epsilon)
            for _ in range(layers)
        )
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=width**-0.5 if embedding_range is None else embedding_range)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=initializer_range)
                nn.init.zeros_(module.bias)

    @property
    def word_embedding(self) -> Tensor:
        return self.word.weight

    def token_head(self) -> TiedHead:
        return TiedHead(vocabulary=self.word.num_embeddings)

    def embed(self, sequences: Sequences) -> Tensor:
        """(N,) tokens -> (N, width): word, position and language embeddings added up and normed."""
        x = self.word(sequences.tokens) + self.position(sequences.positions)
        if self.language is not None:
            if sequences.languages is not None:
                x = x + self.language(sequences.languages)
            else:  # every weight gets a gradient, if of 0: processes that add theirs up would wait for it
                x = x + 0.0 * self.language.weight[0]
        return drop(self.norm(x), self.dropout, self.training)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        x = self.embed(batch.inputs)
        states = [x]
        for layer in self.layers:
            x = layer(x, batch.inputs.layout, batch.cache)
            states.append(x)
        return HiddenStates(x, states if every_layer else [])

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        """The first token's state, as it is."""
        return states.last[batch.inputs.layout.starts(states.last.device)]

    def depth(self, parameter_name: str) -> int:
        part, *rest = parameter_name.split(".")
        return int(rest[0]) + 1 if part == "layers" else 0

    # Hugging Face

    @classmethod
    def _rules(cls, layers: int) -> list[Rule]:
        tables = {"word": "embeddings", "position": "position_embeddings", "language": "lang_embeddings"}
        modules: dict[str, str | tuple[str, ...]] = {"norm": "layer_norm_emb"}
        for i in range(layers):
            ours = f"layers.{i}."
            modules |= {
                ours + "attention.qkv": tuple(f"attentions.{i}.{name}_lin" for name in "qkv"),
                ours + "attention.output": f"attentions.{i}.out_lin",
                ours + "attention.norm": f"layer_norm1.{i}",
                ours + "feed_forward.inner": f"ffns.{i}.lin1",
                ours + "feed_forward.outer": f"ffns.{i}.lin2",
                ours + "feed_forward.norm": f"layer_norm2.{i}",
            }
        body = conversion.rules(tables, ("weight",)) + conversion.rules(modules)
        return [
            *(Rule(f"model.{rule.ours}", tuple("transformer." + name for name in rule.theirs)) for rule in body),
            Rule("objective.head.bias", ("pred_layer.proj.bias",)),
        ]

    @classmethod
    def from_transformers(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], Weights]:
        conversion.demand(
            config,
            {
                "is_encoder": (True,),
                "sinusoidal_embeddings": (False,),
                "asm": (False,),
                "tie_word_embeddings": (True,),
            },
        )
        width = config.get("emb_dim", 2048)
        languages = config.get("n_langs", 1) if config.get("use_lang_emb", True) else 1
        settings = {
            "layers": config.get("n_layers", 12),
            "width": width,
            "heads": config.get("n_heads", 16),
            "inner": 4 * width,
            "languages": languages,
            "positions": config.get("max_position_embeddings", 512),
            "activation": "gelu" if config.get("gelu_activation", True) else "relu",
            "dropout": float(config.get("dropout", 0.1)),
            "attention_dropout": float(config.get("attention_dropout", 0.1)),
            "norm_epsilon": config.get("layer_norm_eps", 1e-12),
            "initializer_range": config.get("init_std", 0.02),
            "embedding_range": config.get("embed_init_std", 2048**-0.5),
        }
        parts = ("embeddings.", "position_", "lang_", "layer_norm", "attentions.", "ffns.")
        ours = conversion.load(
            cls._rules(settings["layers"]),
            conversion.with_prefix(weights, "transformer.", parts),
            ignored=("*position_ids", "pred_layer.proj.weight"),
        )
        return settings, ours

    @classmethod
    def remarks(cls, one_sided: bool, languages: Sequence[str]) -> dict[str, Any]:
        said: dict[str, Any] = {"causal": one_sided}
        if languages:
            said["lang2id"] = {name: number for number, name in enumerate(languages)}
            said["id2lang"] = {str(number): name for number, name in enumerate(languages)}
        return said

    @classmethod
    def remarked(cls, config: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
        numbers = config.get("lang2id") or {}
        names = tuple(sorted(numbers, key=lambda name: int(numbers[name])))
        # a model of one language has no table, and names that do not count up from 0 are not its rows'
        whole = config.get("use_lang_emb", True) and [int(numbers[name]) for name in names] == list(range(len(names)))
        return bool(config.get("causal", False)), names if whole and len(names) <= config.get("n_langs", 1) else ()

    @classmethod
    def to_transformers(
        cls, settings: Mapping[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], Weights]:
        width = settings["width"]
        if settings["inner"] != 4 * width:
            raise Refusal(
                f"transformers' XLM always has feed-forward layers of 4 x {width} = {4 * width}; this model has "
                f"model.inner={settings['inner']} and cannot be written as one."
            )
        deviation = settings["embedding_range"]
        begins, ends = vocabulary.special.get("cls"), vocabulary.special.get("sep")
        config: dict[str, Any] = {
            "model_type": cls.model_type,
            "architectures": ["XLMWithLMHeadModel" if "objective.head.bias" in weights else "XLMModel"],
            "vocab_size": len(weights["model.word.weight"]),
            "n_layers": settings["layers"],
            "emb_dim": width,
            "n_heads": settings["heads"],
            "n_langs": settings["languages"],
            "use_lang_emb": settings["languages"] > 1,
            "max_position_embeddings": settings["positions"],
            "gelu_activation": settings["activation"] == "gelu",
            "dropout": settings["dropout"],
            "attention_dropout": settings["attention_dropout"],
            "layer_norm_eps": settings["norm_epsilon"],
            "init_std": settings["initializer_range"],
            "embed_init_std": width**-0.5 if deviation is None else deviation,
            "pad_token_id": vocabulary.special.get("pad"),
            "bos_token_id": vocabulary.special.get("bos", begins),
            "eos_token_id": vocabulary.special.get("eos", ends),
            "mask_token_id": vocabulary.special.get("mask"),
            "unk_index": vocabulary.special.get("unk", 3),
            "mask_index": vocabulary.special.get("mask", 5),
        }
        return config, conversion.store(cls._rules(settings["layers"]), weights)
