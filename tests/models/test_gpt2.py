"""GPT-2 against transformers and against published counts."""

import pytest
import torch

from cloze.models.base import Batch, Sequences
from cloze.models.gpt2 import GPT2
from cloze.models.layout import Layout

SMALL = {"small": (12, 768, 12), "medium": (24, 1024, 16), "large": (36, 1280, 20), "xl": (48, 1600, 25)}


def batch_of(rows: list[list[int]], pattern: str = "causal", **targets: torch.Tensor) -> Batch:
    positions = torch.cat([torch.arange(len(row)) for row in rows])
    tokens = torch.tensor([token for row in rows for token in row])
    layout = Layout([len(row) for row in rows], pattern)  # type: ignore[arg-type]
    return Batch(Sequences(tokens, layout, positions), targets, {}, {})


@pytest.mark.parametrize(
    ("shape", "vocabulary", "positions", "parameters"),
    [
        ((12, 768, 12), 50257, 1024, 124_439_808),
        ((24, 1024, 16), 50257, 1024, 354_823_168),
        ((36, 1280, 20), 50257, 1024, 774_030_080),
        ((48, 1600, 25), 50257, 1024, 1_557_611_200),
        ((72, 3072, 24), 51200, 1024, 8_317_040_640),  # Megatron-LM
        ((96, 12288, 96), 50257, 2048, 174_604_259_328),  # GPT-3
    ],
)
def test_published_counts(shape: tuple[int, int, int], vocabulary: int, positions: int, parameters: int) -> None:
    layers, width, heads = shape
    with torch.device("meta"):
        model = GPT2(vocabulary, 128, False, layers, width, heads, 4 * width, positions)
        head = model.token_head()
    assert sum(p.numel() for p in model.parameters()) + sum(p.numel() for p in head.parameters()) == parameters
