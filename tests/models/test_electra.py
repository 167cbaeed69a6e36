"""ELECTRA's discriminator and generator give transformers' logits with the same weights, both ways, and have the published sizes."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cloze
from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.loading import export
from cloze.models import storage
from cloze.models.electra import Electra
from cloze.objectives.replaced_token import ReplacedToken
from tests.models.parity import padded, scramble
from tests.pretrained import LENGTH, TEXTS, saved_run, tokenizer_of

transformers = import_module("transformers")

WORDS = 97
VOCABULARY = Vocabulary(WORDS, {"pad": 0, "cls": 1, "sep": 2, "mask": 3})
SHAPES = [
    {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 100,
        "embedding_size": 24,
    },
    {
        "hidden_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "intermediate_size": 72,
        "embedding_size": 40,
        "hidden_act": "relu",
        "type_vocab_size": 3,
    },
]


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def near(ours: Tensor, theirs: Tensor, real: Tensor) -> None:
    assert (ours - theirs[real]).abs().max() <= 1e-5


@pytest.mark.parametrize("architecture", ["ElectraForPreTraining", "ElectraForMaskedLM", "ElectraModel"])
@pytest.mark.parametrize("shape", SHAPES)
def test_theirs_to_ours_and_back(architecture: str, shape: dict[str, Any]) -> None:
    config = transformers.ElectraConfig(vocab_size=WORDS, max_position_embeddings=40, **{"type_vocab_size": 2, **shape})
    reference = getattr(transformers, architecture)(config).eval()
    scramble(reference)
    settings, weights = Electra.from_transformers(json.loads(config.to_json_string()), reference.state_dict())
    model = Electra(WORDS, 30, False, False, **settings).eval()
    model.load_state_dict(part(weights, "model."))
    batch = padded(WORDS, [7, 30, 12, 12, 1], settings["segments"], 0)
    flat, real = batch.flat(), batch.attention_mask.bool()
    with torch.no_grad():
        states, expected = model(flat, every_layer=True), reference(**vars(batch), output_hidden_states=True)
        if settings["embedding_width"] != settings["width"]:
            assert states.layers[0].shape[1] == settings["width"]  # projected: theirs keeps what comes before it, too
        for ours, theirs in zip(states.layers[1:], expected.hidden_states[1:], strict=True):
            near(ours, theirs, real)
        if architecture == "ElectraForMaskedLM":
            head = model.token_head()
            head.load_state_dict(part(weights, "objective.head."))
            near(head(states.last, model.word_embedding), expected.logits, real)
        elif architecture == "ElectraForPreTraining":
            objective = ReplacedToken(Electra(WORDS, 30, False, True, **settings), VOCABULARY)
            objective.discriminator_head.load_state_dict(part(weights, "objective.discriminator_head."))
            near(objective.discriminator_head(states.last), expected.logits, real)

    back_config, back = Electra.to_transformers(
        {"generator_size": 0.25, "generator_layers": 1.0, **settings}, weights, VOCABULARY
    )
    assert back_config["architectures"] == [architecture]
    names = (
        "hidden_size num_hidden_layers num_attention_heads intermediate_size embedding_size hidden_act type_vocab_size"
    )
    assert all(back_config[name] == getattr(config, name) for name in names.split())
    bare = {name.removeprefix("electra."): tensor for name, tensor in reference.state_dict().items()}
    for name, tensor in back.items():
        assert torch.equal(tensor, bare[name.removeprefix("electra.")]), name
    missing = set(bare) - {name.removeprefix("electra.") for name in back}
    assert all(name == "generator_lm_head.weight" or "_ids" in name for name in missing), missing


def trained(folder: Path) -> tuple[Electra, ReplacedToken]:
    """A run under replaced token detection, as it lies on disk."""
    tokenizer = tokenizer_of("electra.Electra")
    settings = {
        "layers": 2,
        "width": 64,
        "heads": 4,
        "inner": 48,
        "embedding_width": 24,
        "generator_size": 0.5,
        "positions": 40,
    }
    model = Electra(tokenizer.vocabulary.size, LENGTH, False, True, **settings).eval()
    objective = ReplacedToken(model, tokenizer.vocabulary).eval()
    scramble(model)
    scramble(objective, seed=1)
    both = nn.ModuleDict({"model": model, "objective": objective})
    description = {
        "model": {"_target_": "cloze.models.electra.Electra", **settings},
        "objective": {"_target_": "cloze.objectives.replaced_token.ReplacedToken"},
        "vocabulary": tokenizer.vocabulary.size,
        "length": LENGTH,
    }
    storage.save_model(folder / "model", both.state_dict(), description)
    tokenizer.save(folder / "model", LENGTH)
    return model, objective


def test_both_models_of_a_run_are_exported(tmp_path: Path) -> None:
    model, objective = trained(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "exported")
    discriminator = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "exported").eval()
    generator = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "exported" / "generator").eval()
    assert type(discriminator).__name__ == "ElectraForPreTraining"
    assert generator.config.hidden_size == 32 and generator.config.intermediate_size == 128
    batch = padded(len(model.word_embedding), [7, 30, 12], 2, 0)
    flat, real = batch.flat(), batch.attention_mask.bool()
    assert model.generator is not None
    with torch.no_grad():
        near(objective.discriminator_head(model(flat).last), discriminator(**vars(batch)).logits, real)
        proposed = objective.generator_head(model.generator(flat).last, model.word_embedding)
        near(proposed, generator(**vars(batch)).logits, real)
    # and each comes back as a model of its own
    loaded = cloze.load(tmp_path / "exported" / "generator")
    encoded = loaded.encode(TEXTS)
    with torch.no_grad():
        expected = generator.electra(**encoded).last_hidden_state
    assert (loaded.hidden_states(**encoded) - expected)[encoded["attention_mask"].bool()].abs().max() <= 1e-5
    assert loaded.head is not None


def test_a_run_comes_back_with_its_generator(tmp_path: Path) -> None:
    model, _ = trained(tmp_path / "run")
    loaded = cloze.load(tmp_path / "run").model
    assert isinstance(loaded, Electra) and loaded.generator is not None
    batch = padded(len(model.word_embedding), [7, 30], 2, 0).flat()
    with torch.no_grad():
        assert torch.equal(loaded(batch).last, model(batch).last)
        assert model.generator is not None
        assert torch.equal(loaded.generator(batch).last, model.generator(batch).last)
    saved_run(tmp_path / "plain", "electra.Electra")
    plain = cloze.load(tmp_path / "plain").model
    assert isinstance(plain, Electra) and plain.generator is None


def test_a_pooler_comes_back_from_their_directory(tmp_path: Path) -> None:
    """Theirs has none: it travels unread."""
    saved_run(tmp_path / "run", "electra.Electra", pooler=True)
    export(tmp_path / "run", tmp_path / "exported")
    assert (
        type(transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "exported")).__name__ == "ElectraForMaskedLM"
    )
    ours, back = (cloze.load(tmp_path / name).model.state_dict() for name in ("run", "exported"))
    assert ours.keys() == back.keys() and "pooler.weight" in ours
    assert all(torch.equal(tensor, back[name]) for name, tensor in ours.items())


def count(name: str) -> tuple[int, int]:
    """Parameters of the discriminator that a size of conf/size makes, and what its generator adds: its tower and, for each, the head."""
    settings = dict(compose(["model=electra", f"size=electra/{name}"]).config.model)
    del settings["_target_"]
    with torch.device("meta"):
        model = Electra(30522, 512, False, True, **settings)
    assert model.generator is not None
    whole = sum(p.numel() for p in model.parameters())
    added = sum(p.numel() for p in model.generator.parameters())
    return whole - added, added


def test_published_counts() -> None:
    """The small one of the table; base and large against transformers' classes with the released checkpoints' shapes."""
    assert count("small")[0] == 13_483_008
    for name, width, layers, heads, generator, embedding in (
        ("small", 256, 12, 4, 64, 128),
        ("base", 768, 12, 12, 256, 768),
        ("large", 1024, 24, 16, 256, 1024),
    ):
        with torch.device("meta"):
            theirs = [
                transformers.ElectraModel(
                    transformers.ElectraConfig(
                        embedding_size=embedding, hidden_size=w, num_hidden_layers=layers, num_attention_heads=h,
                        intermediate_size=4 * w,
                    )
                )
                for w, h in ((width, heads), (generator, generator // 64))
            ]  # fmt: skip
        discriminator, added = count(name)
        assert discriminator == sum(p.numel() for p in theirs[0].parameters())
        assert added == sum(p.numel() for n, p in theirs[1].named_parameters() if not n.startswith("embeddings."))


def test_the_embeddings_are_one() -> None:
    """The generator reads the discriminator's tables and norm, and its gradients arrive in them; they are counted once."""
    model = Electra(WORDS, 20, False, True, layers=1, width=64, heads=2, inner=32, embedding_width=16)
    assert model.generator is not None
    assert not any("embeddings" in name for name, _ in model.generator.named_parameters())
    assert model.generator.word_embedding is model.word_embedding
    model.eval().generator(padded(WORDS, [9], 2, 0).flat()).last.pow(2).sum().backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name for name in touched if name.startswith("embeddings.")} == {
        f"embeddings.{name}"
        for name in ("word.weight", "position.weight", "segment.weight", "norm.weight", "norm.bias")
    }
    assert not any(name.startswith("tower.") for name in touched)


def test_depth_and_refusals() -> None:
    model = Electra(50, 20, True, True, layers=2, width=64, heads=2, inner=8, embedding_width=16)
    names = "embeddings.word.weight tower.projection.bias tower.layers.1.attention.qkv.bias pooler.bias".split()
    assert [model.depth(name) for name in names] == [0, 0, 2, 3]
    assert [model.depth(f"generator.{name}") for name in names[1:3]] == [0, 2]
    for settings, message in (
        ({"generator_size": 0.0}, r"model\.generator_size=0 must lie in \(0, 1\]"),
        ({"generator_layers": 2.0}, r"model\.generator_layers=2 must lie in \(0, 1\]"),
        (
            {"width": 384, "generator_size": 0.51},
            r"model\.generator_size=0\.51 of model\.width=384 is 196, which 3 heads do not",
        ),
        ({"embedding_width": 0}, r"model\.embedding_width=0 must be at least 1"),
    ):
        with pytest.raises(Refusal, match=message):
            Electra(50, 20, False, True, **{"layers": 1, "width": 64, "heads": 2, "inner": 8, **settings})
