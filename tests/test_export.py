"""What we export, transformers loads, to the same outputs; what it writes, we load."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

import cloze
from cloze.cli import main
from cloze.errors import Refusal
from cloze.loading import export, families, heads
from cloze.models import storage
from cloze.models.base import EncoderDecoder
from cloze.schema import locate
from tests.pretrained import PORTABLE, TEXTS, built, saved_run, tokenizer_of

transformers = import_module("transformers")

CLASSES = {
    "bert.Bert": "BertForMaskedLM",
    "roberta.Roberta": "RobertaForMaskedLM",
    "albert.Albert": "AlbertForMaskedLM",
    "unilm.UniLM": "BertForMaskedLM",
    "electra.Electra": "ElectraForMaskedLM",
    "gpt.GPT": "OpenAIGPTLMHeadModel",
    "gpt2.GPT2": "GPT2LMHeadModel",
    "t5.T5": "T5ForConditionalGeneration",
    "switch.Switch": "SwitchTransformersForConditionalGeneration",
    "bart.Bart": "BartForConditionalGeneration",
    "xlm.XLM": "XLMWithLMHeadModel",
    "xlnet.XLNet": "XLNetLMHeadModel",
}
COMES_BACK_AS = {"unilm.UniLM": "bert.Bert"}  # families that have no model type of their own there
WITH_PAIRS = {"bert.Bert": "BertForPreTraining", "albert.Albert": "AlbertForPreTraining"}


@pytest.mark.parametrize("family", PORTABLE)
def test_transformers_loads_an_exported_run(family: str, tmp_path: Path) -> None:
    saved_run(tmp_path / "run", family)
    export(tmp_path / "run", tmp_path / "out")
    theirs = getattr(transformers, CLASSES[family]).from_pretrained(tmp_path / "out").eval()
    assert theirs.config.architectures == [CLASSES[family]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = cloze.load(tmp_path / "run")
    encoded = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    own = ours.encode(TEXTS)
    # RoBERTa has one segment and XLM none, so their tokenizers do not speak of them
    without = family in ("roberta.Roberta", "xlm.XLM")
    assert set(own) - set(encoded) == ({"token_type_ids"} if without else set())
    assert all(torch.equal(own[name], encoded[name]) for name in encoded)
    real = own["attention_mask"].bool()
    extra = {}
    if isinstance(ours.model, EncoderDecoder):
        extra["decoder_input_ids"] = torch.tensor([[0, 5, 9, 7], [0, 8, 8, 11], [0, 5, 5, 6], [0, 30, 31, 32]])
        real = torch.ones_like(extra["decoder_input_ids"], dtype=torch.bool)
    asked = {**own, **extra}
    if family == "xlm.XLM":  # theirs takes segments for words
        del asked["token_type_ids"]
    with torch.no_grad():
        expected = theirs(**asked, output_hidden_states=True)
        states = ours.hidden_states(**own, **extra)
        assert ours.head is not None
        logits = ours.head(states, ours.model.word_embedding)
    last = expected.decoder_hidden_states if extra else expected.hidden_states
    assert (states - last[-1])[real].abs().max() <= 1e-5
    assert (logits - expected.logits)[real].abs().max() <= 1e-5
    # the bare model too, by the Auto class
    bare = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert (states - bare(**asked).last_hidden_state)[real].abs().max() <= 1e-5


@pytest.mark.parametrize("family", WITH_PAIRS)
def test_the_pair_head_is_exported_too(family: str, tmp_path: Path) -> None:
    saved_run(tmp_path / "run", family, pooler=True)
    export(tmp_path / "run", tmp_path / "out")
    theirs, info = getattr(transformers, WITH_PAIRS[family]).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    _, state = built(family, theirs.config.vocab_size, pooler=True)
    head = theirs.cls.seq_relationship if family == "bert.Bert" else theirs.sop_classifier.classifier
    assert head.weight.shape == state["objective.pair_head.weight"].shape


@pytest.mark.parametrize("family", PORTABLE)
@pytest.mark.parametrize("file", ["safetensors", "pytorch", "sharded"])
def test_we_load_what_transformers_writes(family: str, file: str, tmp_path: Path) -> None:
    """Their files in three forms, and a run exported and loaded again: every weight is the same."""
    saved_run(tmp_path / "run", family)
    export(tmp_path / "run", tmp_path / "out")
    theirs = getattr(transformers, CLASSES[family]).from_pretrained(tmp_path / "out").eval()
    again = tmp_path / "again"
    if file == "pytorch":
        theirs.config.save_pretrained(again)
        torch.save(theirs.state_dict(), again / "pytorch_model.bin")
    else:
        theirs.save_pretrained(again, max_shard_size="10KB" if file == "sharded" else "1GB")
        assert (again / "model.safetensors.index.json").exists() == (file == "sharded")
    tokenizer_of(family).save(again)
    ours, original = cloze.load(again), cloze.load(tmp_path / "run")
    assert type(ours.model) is locate(f"cloze.models.{COMES_BACK_AS.get(family, family)}", "model")
    state = ours.model.state_dict()
    for name, tensor in original.model.state_dict().items():
        unread = getattr(ours.model, "first_position", 0) if "position" in name else 0  # RoBERTa's first rows
        assert torch.equal(state[name][unread:], tensor[unread:]), name
    assert ours.head is not None and original.head is not None
    for name, tensor in original.head.state_dict().items():
        assert torch.equal(ours.head.state_dict()[name], tensor), name


def test_every_family_that_transformers_knows_is_tried_here() -> None:
    assert {f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}" for kind in families().values()} == set(
        PORTABLE
    ) - set(COMES_BACK_AS)


def test_the_directory_must_be_free(tmp_path: Path) -> None:
    saved_run(tmp_path / "run", "bert.Bert")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(Refusal, match="exists already"):
        export(tmp_path / "run", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    saved_run(tmp_path / "run", "gpt2.GPT2")
    monkeypatch.setattr("sys.argv", ["cloze", "export", str(tmp_path / "run"), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert (tmp_path / "out" / "config.json").is_file()
    assert str(tmp_path / "out") in capsys.readouterr().out


def test_heads_of_several_objectives_are_found_again(tmp_path: Path) -> None:
    """A run under objective=together keeps each head below its part's name: the model comes back with them, and goes out with them."""
    from cloze.objectives.replaced_token import DiscriminatorHead

    saved_run(tmp_path / "run", "electra.Electra")
    folder = tmp_path / "run" / "model"
    weights, metadata = storage.read_tensors(folder / storage.WEIGHTS)
    head, pair = DiscriminatorHead(32, "gelu", 0.5).eval(), torch.nn.Linear(32, 2)
    parts = {"replaced_token.discriminator_head": head, "mlm_sop.pair_head": pair, "other.pair_head": pair}
    for part, module in parts.items():
        weights |= {f"objective.parts.{part}.{name}": p.detach().clone() for name, p in module.named_parameters()}
    metadata |= {"weights_sha256": storage.weights_sha256(weights)}
    storage.write_tensors(folder / storage.WEIGHTS, weights, metadata)
    loaded = cloze.load(folder)
    assert loaded.tasks == ("replaced", "fill", "vectors") and loaded.discriminator is not None
    assert torch.equal(loaded.discriminator.output.weight, head.output.weight)  # type: ignore[union-attr]
    export(tmp_path / "run", tmp_path / "out")
    theirs = transformers.ElectraForPreTraining.from_pretrained(tmp_path / "out").eval()
    encoded = loaded.encode(TEXTS)
    with torch.no_grad():
        ours, real = head(loaded.hidden_states(**encoded)), encoded["attention_mask"].bool()
        assert torch.allclose(theirs(**encoded).logits[real], ours[real], atol=1e-5)
    # two parts have a head of this name: neither takes the place of the other
    assert {name for name in heads(weights) if "pair_head" in name} == {name for name in weights if "pair_head" in name}
    assert not any("parts.replaced" in name for name in heads(weights))


@pytest.mark.parametrize("one_sided", [False, True])
def test_an_xlm_keeps_its_languages_and_its_direction(one_sided: bool, tmp_path: Path) -> None:
    """Their names stand in config.json as the published models have them, and whether a token sees what stands behind it."""
    saved_run(tmp_path / "run", "xlm.XLM")
    config = storage.read_json(tmp_path / "run" / "model" / storage.CONFIG)
    if one_sided:
        config["objective"] = {"_target_": "cloze.objectives.clm.CausalLM"}
    storage.write_json(tmp_path / "run" / "model" / storage.CONFIG, config | {"languages": ["de", "b", "a"]})
    export(tmp_path / "run", tmp_path / "out")
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    assert theirs.config.causal is one_sided and theirs.config.lang2id == {"de": 0, "b": 1, "a": 2}
    theirs.save_pretrained(tmp_path / "again")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "again" / file).write_bytes((tmp_path / "out" / file).read_bytes())
    for folder in ("run", "out", "again"):
        ours = cloze.load(tmp_path / folder)
        assert ours.languages == ("de", "b", "a") and ours.one_sided is one_sided
        own = ours.encode(TEXTS)
        assert torch.equal(own["langs"], torch.zeros_like(own["input_ids"]))
        mixed = {"langs": torch.arange(own["input_ids"].numel()).view_as(own["input_ids"]) % 3}
        masked, real = {"attention_mask": own["attention_mask"]}, own["attention_mask"].bool()
        for langs in ({"langs": own["langs"]}, mixed, {}):  # without any, none is added on either side
            with torch.no_grad():
                expected = theirs(own["input_ids"], **masked, **langs).last_hidden_state
            assert (ours.hidden_states(own["input_ids"], **masked, **langs) - expected)[real].abs().max() <= 1e-5


def test_names_that_are_no_rows_of_a_table_are_left() -> None:
    named = {"lang2id": {"en": 0, "fr": 1}, "n_langs": 2}
    kind = families()["xlm"]
    assert kind.remarked(named) == (False, ("en", "fr"))
    for other in ({"use_lang_emb": False}, {"n_langs": 1}, {"lang2id": {"en": 0, "fr": 2}}, {"lang2id": None}):
        assert kind.remarked(named | other) == (False, ())
    assert families()["bert"].remarked(named) == (False, ())
