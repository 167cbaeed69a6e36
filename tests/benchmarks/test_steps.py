"""The benchmark compares like with like: same weights, same batch, same loss on both sides."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import steps
from cloze.data.base import Vocabulary
from cloze.models.bert import Bert
from cloze.models.gpt2 import GPT2
from cloze.models.t5 import T5
from cloze.objectives.clm import CausalLM
from cloze.objectives.mlm import MaskedLM
from cloze.objectives.span_corruption import SpanCorruption

transformers = import_module("transformers")

WORDS = 300
SIDES: dict[str, tuple[Any, Any, Any]] = {
    "bert": (
        lambda: transformers.BertForMaskedLM(
            transformers.BertConfig(
                vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
            )
        ),
        Bert,
        MaskedLM,
    ),
    "gpt2": (
        lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=2)),
        GPT2,
        CausalLM,
    ),
    "t5": (
        lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                vocab_size=WORDS, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
            )
        ),
        T5,
        SpanCorruption,
    ),
}


@pytest.mark.parametrize("name", SIDES)
def test_both_sides_have_the_same_loss(name: str) -> None:
    make, family, kind = SIDES[name]
    torch.manual_seed(0)
    reference = make().eval()
    settings, weights = family.from_transformers(json.loads(reference.config.to_json_string()), reference.state_dict())
    model = family(WORDS, 64, False, **settings)
    objective = kind(model, Vocabulary(WORDS, {"pad": 0, "cls": 1, "sep": 2, "mask": 3, "eos": 4, "bos": 5}))
    for part, prefix in ((model, "model."), (objective, "objective.")):
        part.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        part.eval()

    lengths = (64, 64, 64) if name == "gpt2" else (64, 20, 41)
    rows = [np.random.default_rng(n).integers(10, WORDS, n) for n in lengths]
    case = steps.Case(name, "tiny", 64, 3, (None, None))
    expected = reference(**steps.padded(case, rows)).loss
    (term,) = objective(model, steps.flat(case, rows)).terms.values()
    torch.testing.assert_close(term.total / term.count, expected, rtol=1e-5, atol=1e-5)


def test_useful_flops_against_torch_counting_them() -> None:
    """Forward and backward of a dense batch: within the embedding's and the norms' share, which nobody counts."""
    from torch.utils.flop_counter import FlopCounterMode

    case = steps.Case("bert", "tiny", 128, 4, (None, None))
    rows = [np.random.default_rng(n).integers(10, 30522, 128) for n in range(4)]
    words = Vocabulary(30522, {"pad": 0, "cls": 1, "sep": 2, "mask": 3})
    model = Bert(30522, 128, False, layers=2, width=128, heads=2, inner=512)
    objective = MaskedLM(model, words)
    with FlopCounterMode(display=False) as counter:
        (term,) = objective(model, steps.flat(case, rows)).terms.values()
        term.total.backward()
    assert counter.get_total_flops() == pytest.approx(steps.flops(case, [128] * 4), rel=0.02)


def test_pieces_of_documents() -> None:
    texts = [np.arange(n) for n in (10, 70, 100, 128)]
    found = steps.cut(texts, 50)
    assert [len(piece) for piece in found] == [50, 20, 50, 50, 50, 50, 28]
    assert all(len(piece) <= 50 for piece in found)
