"""Parameter counts of BERT, RoBERTa and ALBERT against published ones, computed from transformers' configurations.

Counted on the meta device: nothing is allocated, so xxlarge costs nothing.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from cloze.models.albert import Albert
from cloze.models.base import Backbone
from cloze.models.bert import Bert
from cloze.models.roberta import Roberta


def size(name: str) -> dict[str, Any]:
    """A size of conf/size, without what only T5 takes."""
    settings = OmegaConf.to_container(OmegaConf.load(f"conf/size/{name}.yaml"))
    assert isinstance(settings, dict)
    return {key: settings[key] for key in ("layers", "width", "heads", "inner")}


def count(family: type[Backbone], vocabulary: int, name: str, pooler: bool, head: bool = False, **settings: Any) -> int:
    """Parameters of the model, with its token head and (if it pools) a two-way head where `head` is given."""
    with torch.device("meta"):
        model = family(vocabulary, 512, pooler, **size(name), **settings)  # type: ignore[call-arg]
        parts: list[nn.Module] = [model]
        if head:
            parts.append(model.token_head())
            if pooler:
                parts.append(nn.Linear(model.width, 2))
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


@pytest.mark.parametrize(
    ("name", "vocabulary", "pooler", "head", "published"),
    [
        ("base", 30522, True, False, 109_482_240),
        ("base", 30522, True, True, 110_106_428),
        ("base", 30522, False, True, 109_514_298),
        ("large", 30522, True, False, 335_141_888),
        ("large", 30522, True, True, 336_226_108),
        ("tiny", 30522, True, False, 4_385_920),
        ("mini", 30522, True, False, 11_170_560),
        ("small", 30522, True, False, 28_763_648),
        ("medium", 30522, True, False, 41_373_184),
        ("base", 28996, True, False, 108_310_272),
        ("base", 21128, True, False, 102_267_648),
        ("base", 119547, True, False, 177_853_440),
        ("base", 105879, True, False, 167_356_416),
    ],
)
def test_bert(name: str, vocabulary: int, pooler: bool, head: bool, published: int) -> None:
    assert count(Bert, vocabulary, name, pooler, head) == published


def test_bert_with_fine_tuning_heads() -> None:
    """The published rows for classification (2 classes, pooled) and question answering (two vectors, no pooler)."""
    assert count(Bert, 30522, "base", True) + 768 * 2 + 2 == 109_483_778
    assert count(Bert, 30522, "base", False) + 768 * 2 + 2 == 108_893_186


@pytest.mark.parametrize(
    ("name", "pooler", "head", "published"),
    [
        ("base", True, False, 124_645_632),
        ("base", False, True, 124_697_433),
        ("large", False, True, 355_412_057),
    ],
)
def test_roberta(name: str, pooler: bool, head: bool, published: int) -> None:
    assert count(Roberta, 50265, name, pooler, head) == published


@pytest.mark.parametrize(
    ("name", "model", "with_heads"),
    [
        ("base", 11_683_584, 11_813_810),
        ("large", 17_683_968, 17_847_474),
        ("xlarge", 58_724_864, 59_021_490),
        ("xxlarge", 222_595_584, 223_158_450),
    ],
)
def test_albert(name: str, model: int, with_heads: int) -> None:
    assert count(Albert, 30000, name, True) == model
    assert count(Albert, 30000, name, True, True) == with_heads


@pytest.mark.parametrize(
    ("embedding_width", "sharing", "published"),
    [
        (128, "all", 11_683_584),
        (128, "attention", 63_647_232),
        (128, "ffn", 37_686_528),
        (128, "none", 89_650_176),
        (768, "all", 31_705_344),
        (768, "attention", 83_668_992),
        (768, "ffn", 57_708_288),
        (768, "none", 109_671_936),
        (64, "all", 9_681_408),
        (256, "all", 15_687_936),
    ],
)
def test_albert_sharing(embedding_width: int, sharing: str, published: int) -> None:
    assert count(Albert, 30000, "base", True, embedding_width=embedding_width, sharing=sharing) == published
