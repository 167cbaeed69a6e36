"""XLM and multilingual BERT against transformers and against published counts."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Batch, Sequences
from cloze.models.bert import Bert
from cloze.models.layout import Layout, Pattern
from cloze.models.xlm import XLM
from tests.models.parity import Padded, padded, scramble

transformers = import_module("transformers")

VOCABULARY = 97
LENGTHS = [7, 30, 12, 12, 1]
SHAPES: list[dict[str, Any]] = [
    {"emb_dim": 48, "n_layers": 3, "n_heads": 4, "n_langs": 3},
    {"emb_dim": 40, "n_layers": 2, "n_heads": 1, "n_langs": 15, "gelu_activation": False, "pad_token_id": 0},
    {"emb_dim": 32, "n_layers": 1, "n_heads": 8, "n_langs": 1, "layer_norm_eps": 1e-3},
    {"emb_dim": 32, "n_layers": 2, "n_heads": 2, "n_langs": 4, "use_lang_emb": False},
]


def theirs_of(shape: dict[str, Any]) -> Any:
    config = transformers.XLMConfig(vocab_size=VOCABULARY, max_position_embeddings=40, **shape)
    model = transformers.XLMWithLMHeadModel(config).eval()
    scramble(model)
    model.tie_weights()
    return model


def ours_of(theirs: Any) -> tuple[XLM, torch.nn.Module, dict[str, Any], dict[str, Tensor]]:
    settings, weights = XLM.from_transformers(json.loads(theirs.config.to_json_string()), theirs.state_dict())
    model = XLM(VOCABULARY, 30, False, **settings).eval()
    model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    head = model.token_head()
    head.load_state_dict({"bias": weights["objective.head.bias"]})
    return model, head, settings, weights


def batches(languages: int, pad: int, pattern: Pattern = "bidirectional") -> tuple[Padded, Tensor, Tensor, Batch]:
    """Random tokens, positions and languages, as theirs and as ours."""
    theirs = padded(VOCABULARY, LENGTHS, 1, pad)
    generator = torch.Generator().manual_seed(3)
    shape = theirs.input_ids.shape
    langs = torch.randint(0, languages, shape, generator=generator)
    positions = torch.randint(0, 40, shape, generator=generator)
    real = theirs.attention_mask.bool()
    flat = Sequences(theirs.input_ids[real], Layout(LENGTHS, pattern), positions[real], None, langs[real])
    return theirs, langs, positions, Batch(flat, {}, {}, {})


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_are_transformers(shape: dict[str, Any], causal: bool) -> None:
    theirs = theirs_of({**shape, "causal": causal})
    ours, head, _, _ = ours_of(theirs)
    padded_, langs, positions, flat = batches(
        shape["n_langs"], theirs.config.pad_token_id, "causal" if causal else "bidirectional"
    )
    with torch.no_grad():
        states = ours(flat, every_layer=True)
        logits = head(states.last, ours.word_embedding)
        expected = theirs(
            padded_.input_ids,
            attention_mask=padded_.attention_mask,
            langs=langs,
            position_ids=positions,
            output_hidden_states=True,
        )
    real = padded_.attention_mask.bool()
    assert (logits - expected.logits[real]).abs().max() <= 1e-5
    assert len(states.layers) == len(expected.hidden_states)
    for layer, hidden in zip(states.layers, expected.hidden_states, strict=True):
        assert (layer - hidden[real]).abs().max() <= 1e-5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transformers_loads_what_we_write(shape: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    theirs = theirs_of(shape)
    ours, head, settings, weights = ours_of(theirs)
    special = {"pad": theirs.config.pad_token_id, "cls": 0, "sep": 1, "mask": 5}
    config, state = XLM.to_transformers(settings, weights, Vocabulary(VOCABULARY, special))
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    again, info = transformers.XLMWithLMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    padded_, langs, positions, flat = batches(shape["n_langs"], theirs.config.pad_token_id)
    with torch.no_grad():
        expected = again.eval()(
            padded_.input_ids, attention_mask=padded_.attention_mask, langs=langs, position_ids=positions
        ).logits
        logits = head(ours(flat).last, ours.word_embedding)
    assert (logits - expected[padded_.attention_mask.bool()]).abs().max() <= 1e-5


def test_loss_and_gradients_are_transformers() -> None:
    theirs = theirs_of(SHAPES[0] | {"dropout": 0.0, "attention_dropout": 0.0}).train()
    ours, head, _, _ = ours_of(theirs)
    padded_, langs, positions, flat = batches(3, theirs.config.pad_token_id)
    real = padded_.attention_mask.bool()
    logits = theirs(
        padded_.input_ids, attention_mask=padded_.attention_mask, langs=langs, position_ids=positions
    ).logits[real]
    targets = flat.inputs.tokens.roll(5)
    torch.nn.functional.cross_entropy(logits, targets).backward()
    states = ours.train()(flat).last
    torch.nn.functional.cross_entropy(head(states, ours.word_embedding), targets).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    expected["pred_layer.proj.bias"] = theirs.pred_layer.proj.bias.grad
    _, renamed = XLM.from_transformers(theirs.config.to_dict(), expected)
    gradients = {f"model.{name}": p.grad for name, p in ours.named_parameters()}
    gradients["objective.head.bias"] = head.bias.grad  # type: ignore[assignment]
    assert gradients.keys() == renamed.keys()
    for name, gradient in gradients.items():
        # theirs never moves the row of the padding token, which no text has
        assert gradient is not None
        rows = torch.arange(len(gradient)) != theirs.config.pad_token_id if name == "model.word.weight" else slice(None)
        assert (gradient[rows] - renamed[name][rows]).abs().max() <= 1e-5, name


@pytest.mark.parametrize(
    ("words", "vocabulary", "parameters"),
    [
        ("size=xlm/en model.languages=1", 30145, 667_088_896),
        ("size=xlm/xnli15 model.languages=15", 95000, 248_976_384),
    ],
)
def test_published_counts(words: str, vocabulary: int, parameters: int) -> None:
    settings = dict(compose(["model=xlm", *words.split()]).config.model)
    assert settings.pop("_target_") == "cloze.models.xlm.XLM"
    with torch.device("meta"):
        model = XLM(vocabulary, 256, False, **settings)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(("vocabulary", "parameters"), [(119_547, 177_853_440), (105_879, 167_356_416)])
def test_published_counts_of_multilingual_bert(vocabulary: int, parameters: int) -> None:
    settings = dict(compose(["model=mbert", "size=base"]).config.model)
    assert settings.pop("_target_") == "cloze.models.bert.Bert"
    with torch.device("meta"):
        model = Bert(vocabulary, 512, True, **settings)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_multilingual_bert_is_bert_with_defaults_of_its_own() -> None:
    mbert, bert = compose(["model=mbert"]), compose(["model=bert"])
    assert mbert.config.model == bert.config.model
    assert (mbert.choices["data"], bert.choices["data"]) == ("world_parallel", "world")
    assert compose(["model=mbert", "data=world"]).choices["data"] == "world"


def test_to_a_batch_that_says_nothing_of_languages_none_is_added() -> None:
    model = XLM(50, 20, False, layers=1, width=32, heads=2, inner=48, languages=3).eval()
    tokens = torch.arange(12)
    of = {
        name: Batch(Sequences(tokens, Layout([12]), tokens, None, languages), {}, {}, {})
        for name, languages in (
            ("none", None),
            ("first", torch.zeros_like(tokens)),
            ("second", torch.ones_like(tokens)),
        )
    }
    states = {name: model(batch).last for name, batch in of.items()}
    for one, other in (("none", "first"), ("none", "second"), ("first", "second")):
        assert not torch.allclose(states[one], states[other], atol=1e-3)
    assert model.language is not None
    model.train()(
        of["none"]
    ).last.sum().backward()  # the table gets gradients nevertheless: several processes add them up
    assert model.language.weight.grad is not None and not model.language.weight.grad.any()
    model.eval()
    torch.nn.init.zeros_(model.language.weight)
    assert torch.equal(states["none"], model(of["second"]).last)
    assert torch.equal(model.pool(model(of["none"]), of["none"]), states["none"][:1])


def test_depth() -> None:
    model = XLM(50, 20, False, layers=2, width=32, heads=2, inner=48)
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert depths["word.weight"] == depths["language.weight"] == depths["norm.bias"] == 0
    assert depths["layers.0.attention.qkv.weight"] == 1 and depths["layers.1.feed_forward.norm.weight"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, r"model\.heads=5 must divide model\.width=48"),
        ({"positions": 10}, r"length=20 is more than model\.positions=10"),
        ({"languages": 0}, r"model\.languages=0 must be at least 1"),
        ({"embedding_range": 0.0}, r"model\.embedding_range=0 must be more than 0"),
        ({"dropout": 1.0}, r"model\.dropout=1\.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        XLM(50, 20, False, **{"layers": 1, "width": 48, "heads": 4, "inner": 8, **settings})


def test_checkpoints_that_cannot_be_are_refused() -> None:
    theirs = theirs_of(SHAPES[0])
    config = theirs.config.to_dict()
    for name, value in (("sinusoidal_embeddings", True), ("asm", True)):
        with pytest.raises(Refusal, match=f"{name}=True"):
            XLM.from_transformers({**config, name: value}, theirs.state_dict())
    _, _, settings, weights = ours_of(theirs)
    with pytest.raises(Refusal, match=r"model\.inner=100 and cannot be written"):
        XLM.to_transformers({**settings, "inner": 100}, weights, Vocabulary(VOCABULARY, {}))
