"""Every model under every objective on every corpus: refused with a sentence that names what would fit, or it trains.

Trains: two steps with finite losses, a gradient for every trainable parameter, saved, read back, and the same predictions.
New choices in conf/ are found by themselves; the test says how many triples it saw.

Every refusal is read. Of the triples that fit, each model is trained under each objective, each objective on each corpus and each model on
each corpus; the rest, in which nothing meets for the first time, is behind the marker `exhaustive`. So are, but for one, those on
Python's own prose, which takes seconds to read and gives the same records as other text.
"""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloze.check import built_by, check, compatibility
from cloze.compose import choices, compose, defaults
from cloze.data import keyed
from cloze.data.batches import batch_of
from cloze.models.storage import read_model, save_model
from cloze.prepare import Prepared, prepare
from cloze.run import description

TRAINING = [choice for choice, objective in built_by("objective").items() if objective.trains]
TRIPLES = list(itertools.product(choices("model"), TRAINING, choices("data")))


@cache
def refusal(model: str, objective: str, data: str) -> list[str]:
    taken: dict[str, str | None] = {"model": model, "objective": objective, "data": data}
    return compatibility(built_by("model")[model], built_by("objective")[objective], built_by("data")[data], taken)


FITTING = [triple for triple in TRIPLES if not refusal(*triple)]
REFUSED = [triple for triple in TRIPLES if refusal(*triple)]


def meetings(triple: tuple[str, str, str]) -> set[tuple[str, str]]:
    return set(itertools.combinations([f"{group}={c}" for group, c in zip("mod", triple, strict=True)], 2))


def first_meetings() -> list[tuple[str, str, str]]:
    """Triples in which some two have not met in an earlier one; the generated language comes first."""
    met: set[tuple[str, str]] = set()
    chosen = []
    for triple in sorted(FITTING, key=lambda each: (each[2] != "world", each[2])):
        if meetings(triple) - met:
            chosen.append(triple)
            met |= meetings(triple)
    return chosen


FIRST = first_meetings()
REST = [triple for triple in FITTING if triple not in set(FIRST)]
PROSE = [triple for triple in FIRST if triple[2] == "pydocs"][1:]


def test_how_many_triples_there_are() -> None:
    assert len(TRIPLES) == len(choices("model")) * len(TRAINING) * len(choices("data"))
    assert len(choices("model")) >= 5
    assert len(choices("objective")) >= 5
    assert len(choices("data")) >= 4
    assert len(FITTING) >= 40
    assert set(FIRST) | set(REST) == set(FITTING)
    assert {triple[:2] for triple in FIRST} == {triple[:2] for triple in FITTING}


@pytest.mark.parametrize("model", choices("model"))
def test_what_does_not_fit_is_refused_with_what_would(model: str) -> None:
    for _, objective, data in (triple for triple in REFUSED if triple[0] == model):
        sentence = " ".join(refusal(model, objective, data))
        named = {
            "model": [c for c in choices("model") if not refusal(c, objective, data)],
            "objective": [c for c in choices("objective") if not refusal(model, c, data)],
            "data": [c for c in choices("data") if not refusal(model, objective, c)],
        }
        assert sentence
        for group, fitting in named.items():
            for choice in fitting:
                assert f"{group}=" in sentence
                assert choice in sentence


TEXT = "\n\n".join(
    f"Number {n} is the {'first' if n % 2 else 'second'} of its kind. It follows {n - 1}. Nobody asked why it was {n * 7}. "
    f"The next one is {n + 1}, and that is all. So it goes on, said the {'cat' if n % 3 else 'dog'}."
    for n in range(300)
)


@cache
def corpus_words(folder: Path) -> dict[str, list[str]]:
    """The words that make each corpus small."""
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    (folder / "hub").mkdir()
    (folder / "hub" / "train.jsonl").write_text(
        "\n".join(f'{{"text": {line!r}}}'.replace("'", '"') for line in TEXT.split("\n\n")), encoding="utf-8"
    )
    small_world = ["data.documents=120", "data.validation_documents=20", "data.test_documents=20"]
    lines = TEXT.replace(". ", ".\n")
    for name, text in (("en", lines), ("xx", lines.upper())):
        (folder / f"aligned.{name}").write_text(text, encoding="utf-8")
    return {
        "world": small_world,
        "world_parallel": small_world,
        "parallel": [
            f"data.path={folder / 'aligned.en'}",
            f"data.translation_path={folder / 'aligned.xx'}",
            "data.documents_are=blank_line",
        ],
        "pydocs": [],
        "text": [f"data.path={folder / 'corpus.txt'}", "data.documents_are=blank_line"],
        "huggingface": [f"data.name={folder / 'hub'}"],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance")


def prepared(folder: Path, model: str, objective: str, data: str, *others: str) -> Prepared:
    words = [
        f"model={model}", f"objective={objective}", f"data={data}", "size=tiny", "model.layers=2", "length=48",
        "batch_size=8", f"cache_dir={folder / 'cache'}", "tokenizer.vocabulary=600", *corpus_words(folder)[data],
        *others,
    ]  # fmt: skip
    return prepare(check(compose(words)), say=lambda line: None)


def batch(parts: Prepared, epoch: int) -> Any:
    indices = keyed.permutation(epoch, len(parts.train))[:8]
    sample = parts.builder.sample(parts.train, indices, parts.builder.keys(1, epoch, indices))
    return batch_of(sample, sample.counts, tuple(int(i) for i in indices), epoch, 1)


@pytest.mark.parametrize(
    "triple",
    [triple for triple in FIRST if triple not in PROSE]
    + [pytest.param(triple, marks=pytest.mark.exhaustive) for triple in [*PROSE, *REST]],
    ids="-".join,
)
def test_what_fits_trains_reloads_and_predicts_the_same(triple: tuple[str, str, str], folder: Path) -> None:
    trains_reloads_and_predicts_the_same(folder, *triple)


def a_model_of_each_role() -> dict[str, tuple[str, list[str]]]:
    """By its role, a model and the objectives that it can learn together: two, where there are two that it can learn."""
    found = {}
    for model, family in built_by("model").items():
        able = [
            each
            for each in choices("objective")
            if not refusal(model, each, "world") and each not in ("together", "clm_lanes")
        ]
        usual = compose([f"model={model}"]).choices["objective"]
        able.sort(key=lambda each: each != usual)  # the one that the family is for comes first
        found.setdefault(family.role, (model, able[:2]))
    return found


@pytest.mark.parametrize(("model", "of"), a_model_of_each_role().values(), ids=str)
def test_objectives_that_fit_train_together(model: str, of: list[str], folder: Path) -> None:
    assert of
    # text that goes on from batch to batch trains alone
    continued = [name for name in of if defaults("objective", name).get("documents") == "continued"]
    apart = [f"objective.settings.{name}.documents=packed" for name in continued]
    trains_reloads_and_predicts_the_same(folder, model, "together", "world", f"objective.of=[{','.join(of)}]", *apart)


def trains_reloads_and_predicts_the_same(folder: Path, *choice: str) -> None:
    parts = prepared(folder, *choice)
    modules = torch.nn.ModuleDict({"model": parts.model, "objective": parts.objective})
    optimizer = torch.optim.AdamW(modules.parameters(), 1e-3)
    touched: set[str] = set()
    for step in range(2):
        output = parts.objective(parts.model, batch(parts, step))
        loss = sum(term.weight * term.total / term.count for term in output.terms.values())
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        touched |= {name for name, p in modules.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
    trainable = {name for name, parameter in modules.named_parameters() if parameter.requires_grad}
    assert all(name.endswith(parts.model.idle) for name in trainable - touched)
    if choice[:2] == ("xlnet", "permutation_lm"):  # which has the queries and the segments that others leave idle
        assert touched == trainable
    assert all(p.grad is not None for name, p in modules.named_parameters() if name.endswith(parts.model.idle))

    save_model(folder / "model", modules.state_dict(), description(parts))
    again = prepared(folder, *choice)
    fresh = torch.nn.ModuleDict({"model": again.model, "objective": again.objective})
    fresh.load_state_dict(read_model(folder / "model").weights)
    modules.eval(), fresh.eval()
    with torch.no_grad():
        want, have = (m["objective"](m["model"], batch(parts, 7)) for m in (modules, fresh))
    for name, term in want.terms.items():
        assert torch.equal(term.total, have.terms[name].total)
    for name, value in want.predictions.items():
        np.testing.assert_array_equal(value.float().numpy(), have.predictions[name].float().numpy())
