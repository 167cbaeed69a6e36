"""Every way to fine-tune, through whole runs: what moves, when, and that a resume is exact."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jobs
import pytest
import torch
from test_resume import curve, interrupted, start
from torch import Tensor

import cloze
from cloze import cli
from cloze.errors import Refusal
from cloze.finetuning.course import Course, groups
from cloze.finetuning.ways import Finetuning
from cloze.folder import RunFolder
from cloze.loading import export
from cloze.models.storage import read_model
from cloze.session import Parts, train

WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "head": {"trains": "head"},
    "biases": {"trains": "biases"},
    "layerwise": {"layer_decay": 0.5},
    "gradual": {"unfreeze": "gradual", "unfreeze_every": 0.5},
    "chain_thaw": {"unfreeze": "chain_thaw", "unfreeze_every": 0.5},
    "lora": {"trains": "head", "adapter": "lora", "rank": 2, "targets": "all"},
    "bottleneck": {"trains": "head", "adapter": "bottleneck", "bottleneck": 4},
    "prompt": {"trains": "head", "adapter": "prompt", "prompt_tokens": 3},
}
PER_EPOCH = 4  # steps


def parts(way: str, **settings: Any) -> Parts:
    made = jobs.parts(**{"layers": 2, "steps": 12, "documents": 32, "finetuning": Finetuning(**WAYS[way]), **settings})
    assert len(made.train) // made.batch_size == PER_EPOCH, len(made.train)
    return made


def run(folder: Path, made: Parts) -> dict[str, Any]:
    return train(made, RunFolder.take(folder, None, "test"))


def weights(made: Parts) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": parameter.detach().clone()
        for part, module in (("model", made.model), ("objective", made.objective))
        for name, parameter in module.named_parameters()
    }


@pytest.mark.parametrize("way", WAYS)
def test_only_what_is_to_train_moves(way: str, tmp_path: Path) -> None:
    """In real optimizer steps, weight decay and momentum included."""
    made = parts(way)
    before = weights(made)
    facts = run(tmp_path / "run", made)
    after = weights(made)
    for parameter in made.model.parameters():  # the run has switched off what does not train
        parameter.requires_grad_(True)
    able = Course(Finetuning(**WAYS[way]), made.model, made.objective).able
    moved = {name for name in after if name in before and not torch.equal(before[name], after[name])}
    # a run's LoRA lies on the weights, whose names are others then: what it started from is still there
    originals = {name: name.replace(".parametrizations.weight.original", ".weight") for name in after}
    kept = {name for name, old in originals.items() if old in before and torch.equal(after[name], before[old])}
    assert moved == able & before.keys() and moved
    assert kept == {name for name, old in originals.items() if old in before} - able
    assert facts["parameters"]["trained"] == sum(after[name].numel() for name in able)
    assert facts["status"] == "done" and facts["metrics"]["val/loss"] < 10
    fresh = able - before.keys()
    assert bool(fresh) == (way in ("lora", "bottleneck", "prompt"))
    if way == "lora":
        assert all(after[name].any() for name in fresh)  # B began at 0


def test_frozen_features_stay_the_same_bit_for_bit(tmp_path: Path) -> None:
    """Also while what reads them trains: no dropout, no buffer that moves."""
    made = parts("head", dropout=0.3)
    batches: list[Any] = []
    forward = made.objective.forward

    def followed(model: Any, batch: Any) -> Any:
        if made.objective.training:
            batches.append((batch, model(batch).last.detach().clone(), model.training))
        return forward(model, batch)

    made.objective.forward = followed  # type: ignore[method-assign]
    probe = torch.nn.BatchNorm1d(16)  # stands for what keeps running averages
    made.model.register_module("probe", probe)
    model_forward = made.model.forward

    def probed(batch: Any, every_layer: bool = False) -> Any:
        states = model_forward(batch, every_layer)
        states.last = states.last + 0.0 * probe(states.last)
        return states

    made.model.forward = probed  # type: ignore[method-assign]
    run(tmp_path / "run", made)
    assert len(batches) >= 12
    made.model.eval()
    for batch, states, training in batches:
        assert not training
        with torch.no_grad():
            assert torch.equal(made.model(batch).last, states)
    assert not probe.running_mean.any() and probe.num_batches_tracked == 0


@pytest.mark.parametrize("way", ["gradual", "chain_thaw"])
def test_layers_begin_to_train_with_their_epoch(way: str, tmp_path: Path) -> None:
    """Whole layers, one after the other; those that do not train cost no backward pass."""
    made = parts(way)
    seen: list[set[str]] = []
    forward = made.objective.forward

    def followed(model: Any, batch: Any) -> Any:
        if made.objective.training and torch.is_grad_enabled():
            pairs = (("model", model), ("objective", made.objective))
            seen.append({f"{part}.{name}" for part, m in pairs for name, p in m.named_parameters() if p.requires_grad})
        return forward(model, batch)

    made.objective.forward = followed  # type: ignore[method-assign]
    run(tmp_path / "run", made)
    bottom, first, second, top = map(set, groups(made.model, made.objective))
    orders = {
        "gradual": [top, top | second, top | second | first, top | second | first | bottom],
        "chain_thaw": [top, bottom, first, second, top | second | first | bottom],
    }
    expected = [orders[way][min(step // 2, len(orders[way]) - 1)] for step in range(12)]
    assert seen[-12:] == expected


@pytest.mark.parametrize(
    "way",
    [
        "gradual",
        "lora",
        *(
            pytest.param(way, marks=pytest.mark.slow)
            for way in ("chain_thaw", "bottleneck", "prompt", "layerwise", "head")
        ),
    ],
)
def test_stopped_and_resumed(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"layers": 2, "finetuning": Finetuning(**WAYS[way])}
    whole = jobs.run(tmp_path / "whole", **settings)
    for at in (3, 6):
        interrupted(tmp_path / "stopped", monkeypatch, at, **settings)
    resumed = jobs.run(tmp_path / "stopped", resume=True, **settings)
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    assert whole["weights_sha256"] != jobs.run(tmp_path / "full", layers=2)["weights_sha256"]


def test_full_fine_tuning_is_what_training_was(tmp_path: Path) -> None:
    """Without a way, and with the one that changes nothing: the same weights, in as many tensors."""
    plain = jobs.run(tmp_path / "plain", finetuning=None)
    assert jobs.run(tmp_path / "full", finetuning=Finetuning())["weights_sha256"] == plain["weights_sha256"]


def test_lora_is_saved_merged(tmp_path: Path) -> None:
    """Under the names that any run has; its checkpoints keep what it was made of."""
    made = parts("lora")
    names = {f"model.{name}" for name in made.model.state_dict()} | {
        f"objective.{name}" for name in made.objective.state_dict()
    }
    run(tmp_path / "run", made)
    stored = read_model(tmp_path / "run")
    assert set(stored.weights) == names and "added" not in stored.config
    for name in ("layers.0.attention.qkv", "layers.1.feed_forward.outer"):
        weight = made.model.get_submodule(name).weight
        torch.testing.assert_close(stored.weights[f"model.{name}.weight"], weight.detach(), rtol=0, atol=1e-6)
    from cloze.training import checkpoints

    path, _ = checkpoints.newest_valid(tmp_path / "run" / "checkpoints")
    assert path is not None
    assert any(name.endswith("parametrizations.weight.0.up") for name in checkpoints.load(path)["state_dict"])


@pytest.mark.parametrize("way", ["bottleneck", "prompt"])
def test_what_is_added_is_described(way: str, tmp_path: Path) -> None:
    run(tmp_path / "run", parts(way))
    added = read_model(tmp_path / "run").config["added"]
    assert added == {"bottleneck": {"bottleneck": 4}, "prompt": {"prompt_tokens": 3}}[way]


def test_a_budget_that_ends_too_early_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "run", parts("gradual", steps=4))
    out = capsys.readouterr().out
    assert (
        "this budget ends in period 2 of 4, before all layers train; finetune.unfreeze_every=0.25 shares it out" in out
    )
    run(tmp_path / "frozen", parts("head"))
    assert " parameters, " in (out := capsys.readouterr().out) and " of them train" in out


SMALL = [
    "model.layers=2", "budget.steps=6", "validation.examples=8", "validation.every=6", "tracking=none", "hardware.threads=1",
    "data.documents=200", "data.validation_documents=20", "data.test_documents=10", "hardware.precision=32", "length=32",
]  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli._guarded(cli._train, [*SMALL, "output_dir=first"]) == 0
    return folder


@pytest.fixture
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(workplace)
    return workplace


def finetuned(name: str, *words: str) -> int:
    return cli._guarded(cli._train, [*SMALL[1:], f"output_dir={name}", *words])


@pytest.mark.parametrize("choice", ["lora", "adapters", "prompt_tuning"])
def test_a_finetuned_model_is_loaded_and_goes_on(choice: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`cloze.load` and `init=` have the model that was trained; what transformers cannot hold is not exported."""
    small = {
        "lora": "finetune.rank=4",
        "adapters": "finetune.bottleneck=4",
        "prompt_tuning": "finetune.prompt_tokens=4",
    }
    sure = ["optimizer.learning_rate=0.05", "schedule=constant"]  # so that a step is seen
    assert finetuned(choice, "init=first", f"finetune={choice}", small[choice], *sure) == 0
    text = "henrik is in the"
    first, loaded = cloze.load("first"), cloze.load(choice)
    encoded = loaded.encode(text)
    difference = (loaded.hidden_states(**encoded) - first.hidden_states(**encoded)).abs().max()
    assert difference > 1e-3
    assert loaded.predict(f"{text} [MASK]")
    assert finetuned(f"{choice}-again", f"init={choice}", "finetune=linear_probe") == 0
    again = cloze.load(f"{choice}-again")
    assert torch.equal(again.hidden_states(**encoded), loaded.hidden_states(**encoded))
    capsys.readouterr()
    if choice == "lora":
        export("lora", "exported")
        return
    with pytest.raises(Refusal, match="for which transformers' class has no place"):
        export(choice, "never")
    assert not Path("never").exists()
    # a second stage with another size is refused, before anything is written
    other = small[choice].replace("=4", "=5")
    assert finetuned("other", f"init={choice}", f"finetune={choice}", other) == 2
    assert "=4" in capsys.readouterr().err and not Path("other").exists()


def test_from_scratch(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The architecture and the tokenizer of a run, and none of its weights: those that a run without init= begins with."""
    assert finetuned("scratch", "init=first", "finetune=scratch") == 0
    assert "the weights begin from chance" in capsys.readouterr().out
    assert (
        json.loads(Path("scratch/run.json").read_text())["weights_sha256"]
        == RunFolder(here / "first").facts()["weights_sha256"]
    )
    assert finetuned("nothing", "finetune=scratch") == 2
    assert "finetune.from_scratch=true has no effect without init=" in capsys.readouterr().err


def test_a_run_from_before_there_were_ways_goes_on(here: Path) -> None:
    """Full fine-tuning is no part of what a run is; any other way is."""
    folder = RunFolder(here / "first")
    assert not any(key.startswith("finetune") for key in folder.facts()["identity"])
    assert cli._guarded(cli._train, ["resume=first", "budget.steps=8"]) == 0
    assert folder.facts()["steps"] == 8
    assert finetuned("probe", "init=first", "finetune=linear_probe") == 0
    assert cli._guarded(cli._train, ["resume=probe", "finetune=full", "budget.steps=8"]) == 2
    assert cli._guarded(cli._train, ["resume=probe", "budget.steps=8"]) == 0


def test_what_cannot_be_is_refused_before_data_is_read(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in {
        (
            "finetune=lora",
            "model=elmo",
            "objective=bilm",
            "tokenizer=word",
        ): "an ELMo has no such weights; finetune.targets=all",
        ("finetune=bitfit", "model=t5"): "a T5 has no biases",
        (
            "finetune=linear_probe",
            "model=gpt2",
        ): "leaves nothing to train: CausalLM has no weights of its own on a GPT2",
        ("finetune=gradual", "finetune.rank=2"): "finetune.rank=2 has no effect without finetune.adapter=lora",
        ("finetune=lorra",): "finetune=lorra is not there; did you mean lora?",
        ("finetune.layer_deca=0.5",): "did you mean finetune.layer_decay?",
    }.items():
        assert cli._guarded(cli._train, [*words, "tracking=none", "output_dir=refused"]) == 2
        assert message in capsys.readouterr().err, words
    assert not Path("refused").exists()


def test_a_random_model_that_is_frozen_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._guarded(cli._train, [*SMALL, "output_dir=random", "finetune=linear_probe"]) == 0
    assert (
        "finetune.trains=head without weights to start from: the model stays as chance made it"
        in capsys.readouterr().out
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["gradual", "lora", "head"])
def test_two_processes_finetune_as_one(way: str, tmp_path: Path) -> None:
    """Gradients of what does not train yet are thrown away in both."""
    words = ["--dropout", 0, "--steps", 8, "--layers", 2, "--finetuning", json.dumps(WAYS[way])]
    process: subprocess.Popen[str] = start(tmp_path / "two", *words, "--devices", 2)
    _, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    run(tmp_path / "one", jobs.parts(layers=2, dropout=0.0, steps=8, finetuning=Finetuning(**WAYS[way])))
    for mine, theirs in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert {k: pytest.approx(v, rel=1e-3, abs=1e-6) for k, v in theirs.items()} == mine
    one, two = (read_model(tmp_path / name).weights for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-5)
