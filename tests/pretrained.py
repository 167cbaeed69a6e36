"""Small untrained models of every family, as a run leaves them on disk: what loading and export are tried on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from cloze.data import tokenizers
from cloze.data.base import Corpus, Split, Text
from cloze.models import storage
from cloze.models.base import Backbone
from cloze.models.conversion import Portable
from cloze.schema import locate
from tests.models.parity import scramble

TEXTS = [
    "the old harbour lay in fog and nobody could see the ships",
    "she said that the ships would come back before the winter",
    "in winter the harbour was empty, and he said nothing",
    "nobody knew what the old man could see from his window",
]
SHAPE = {"layers": 2, "width": 32, "heads": 2, "inner": 48}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert.Bert": {**SHAPE, "positions": 40},
    "roberta.Roberta": {**SHAPE, "positions": 40},
    "albert.Albert": {**SHAPE, "positions": 40, "embedding_width": 16},
    "unilm.UniLM": {**SHAPE, "positions": 40},
    "electra.Electra": {**SHAPE, "positions": 40, "embedding_width": 24},
    "gpt.GPT": {**SHAPE, "positions": 40, "inner": 128},
    "gpt2.GPT2": {**SHAPE, "positions": 40},
    "t5.T5": {**SHAPE, "head_width": 12},
    "switch.Switch": {**SHAPE, "head_width": 12, "experts": 3, "capacity_factor": 0.8},
    "bart.Bart": {**SHAPE, "positions": 40},
    "mass.Mass": {**SHAPE, "positions": 40},
    "xlm.XLM": {**SHAPE, "inner": 128, "positions": 40, "languages": 3},
    "transformer_xl.TransformerXL": {**SHAPE, "head_width": 12},
    "xlnet.XLNet": SHAPE,
    "elmo.ELMo": {"layers": 2, "width": 32, "cells": 48},
}
PORTABLE = {
    name: shape for name, shape in FAMILIES.items() if issubclass(locate(f"cloze.models.{name}", "model"), Portable)
}
LEARNS: dict[str, str] = {  # what each family's run says that it was trained under
    **dict.fromkeys(("bert.Bert", "roberta.Roberta", "albert.Albert", "electra.Electra", "xlm.XLM"), "mlm.MaskedLM"),
    **dict.fromkeys(("gpt.GPT", "gpt2.GPT2", "transformer_xl.TransformerXL"), "clm.CausalLM"),
    **dict.fromkeys(("t5.T5", "switch.Switch"), "span_corruption.SpanCorruption"),
    "unilm.UniLM": "unilm.Mixed",
    "bart.Bart": "denoise.Denoising",
    "mass.Mass": "masked_fragment.MaskedFragment",
    "xlnet.XLNet": "permutation_lm.PermutationLM",
    "elmo.ELMo": "bilm.BidirectionalLM",
}
LENGTH = 32


class FewWords(Corpus):
    """TEXTS, each a document."""

    @property
    def announcement(self) -> str:
        return "a few sentences"

    def fingerprint(self) -> str:
        return "few words"

    def parts(self, split: Split) -> Sequence[Any]:
        return [0]

    def read(self, part: Any) -> Iterator[Text]:
        return (Text((text,)) for text in TEXTS * 3)


def tokenizer_of(family: str) -> tokenizers.Tokenizer:
    corpus = FewWords()
    if family.startswith(("bert", "roberta")):
        kind: Any = tokenizers.WordPiece(vocabulary=120) if family == "bert.Bert" else tokenizers.ByteLevelBPE(400)
        return kind.trained(
            corpus, ("pad", "unk", "cls", "sep", "mask") if family == "bert.Bert" else ("pad", "cls", "sep", "mask"), 0
        )
    if family.startswith(("unilm", "electra")):
        return tokenizers.WordPiece(vocabulary=120).trained(corpus, ("pad", "unk", "cls", "sep", "mask"), 0)
    if family.startswith("albert"):
        return tokenizers.Unigram(vocabulary=100).trained(corpus, ("pad", "unk", "cls", "sep", "mask"), 0)
    if family.startswith("xlm"):
        return tokenizers.BPE(vocabulary=150).trained(corpus, ("pad", "unk", "cls", "sep", "mask"), 0)
    if family.startswith("gpt."):
        return tokenizers.BPE(vocabulary=150).trained(corpus, ("pad", "unk", "eos"), 0)
    if family.startswith("xlnet"):
        return tokenizers.Unigram(vocabulary=100).trained(corpus, ("pad", "unk", "cls", "sep", "eos"), 0)
    if family.startswith(("gpt2", "transformer_xl")):
        return tokenizers.ByteLevelBPE(400).trained(corpus, ("pad", "eos"), 0)
    if family.startswith(("bart", "mass")):
        return tokenizers.ByteLevelBPE(400).trained(corpus, ("pad", "mask", "bos", "eos"), 0)
    if family.startswith("elmo"):
        return tokenizers.Word(min_frequency=1).trained(corpus, ("pad", "unk", "eos"), 0)
    return tokenizers.Unigram(vocabulary=150).trained(corpus, ("pad", "unk", "eos"), 20)


def built(family: str, vocabulary: int, pooler: bool = False) -> tuple[Backbone, dict[str, torch.Tensor]]:
    """A model with random parameters, and its weights and its head's as a run stores them."""
    model = locate(f"cloze.models.{family}", "model")(vocabulary, LENGTH, pooler, **FAMILIES[family]).eval()
    head = model.token_head().eval()
    scramble(model)
    scramble(head, seed=1)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    state |= {f"objective.head.{name}": tensor for name, tensor in head.state_dict().items()}
    if pooler:
        pair = torch.nn.Linear(SHAPE["width"], 2)
        state |= {f"objective.pair_head.{name}": tensor.detach() for name, tensor in pair.named_parameters()}
    return model, state


def saved_run(folder: Path, family: str, pooler: bool = False) -> Backbone:
    """A finished run's directory with nothing but its model in it."""
    tokenizer = tokenizer_of(family)
    model, state = built(family, tokenizer.vocabulary.size, pooler)
    storage.save_model(
        folder / "model",
        state,
        {
            "model": {"_target_": f"cloze.models.{family}", **FAMILIES[family]},
            "objective": {"_target_": f"cloze.objectives.{LEARNS[family]}"},
            "vocabulary": tokenizer.vocabulary.size,
            "length": LENGTH,
        },
    )
    tokenizer.save(folder / "model", LENGTH)
    return model
