"""Every model under every objective on every corpus: refused with a sentence that names what would fit, or it trains.

Trains: two steps with finite losses, a gradient for every trainable parameter, saved, read back, and the same predictions.
New choices in conf/ are found by themselves; the test says how many triples it saw.

What fits goes by the records that a corpus has, so of the many choices of labelled data a few stand for all. GLUE's, CoNLL-U's and
SQuAD's are files in the benchmarks' own formats, and every family learns from each of them.

Every refusal is read. Of the triples that fit, each model is trained under each objective and each objective on each corpus; the rest, in
which nothing meets for the first time, is behind the marker `exhaustive`. So are, but for one, those on Python's own prose, which takes
seconds to read and gives the same records as other text.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloze.check import built_by, check, compatibility
from cloze.compose import brought_objective, choices, compose, defaults
from cloze.data import keyed
from cloze.data.base import Choices, Labelled, Parallel, Passage, SourceTarget, Tagged, Text
from cloze.data.batches import batch_of
from cloze.data.world.tasks.write import write_tasks
from cloze.models.storage import read_model, save_model
from cloze.objectives.base import StepOutput
from cloze.objectives.framing import RecordExamples
from cloze.prepare import Prepared, prepare
from cloze.run import description

# Data that are trained on, by their records: the first of each kind is where models and objectives meet.
WITHOUT_LABELS = ("world", "huggingface", "parallel", "pydocs", "text", "world_parallel")
LABELLED = {
    Labelled: ("glue/mrpc", "world/mrpc", "world/stsb", "world/mnli"),
    Tagged: ("ud", "world/pos", "world/ner"),
    Passage: ("squad", "world/squad2"),
    Choices: ("swag", "world/swag"),
    SourceTarget: ("world/translation", "pairs"),
}
OFFICIAL = ("glue/mrpc", "ud", "squad")  # files as the benchmarks have them
PLAIN = "glue/mrpc"  # labelled data whose text is learnt from as any other text is

TRAINING = [choice for choice, objective in built_by("objective").items() if objective.trains]
FROM_LABELS = [choice for choice in TRAINING if issubclass(built_by("objective")[choice].Examples, RecordExamples)]
STANDS_FOR = {built.reads: choice for choice, built in reversed(built_by("data").items())}
STANDS_FOR |= {kind: chosen[0] for kind, chosen in LABELLED.items()} | {Text: "world", Parallel: "world_parallel"}
TRIPLES = list(itertools.product(choices("model"), TRAINING, choices("data")))


@cache
def refusal(model: str, objective: str, data: str) -> list[str]:
    taken: dict[str, str | None] = {"model": model, "objective": objective, "data": data}
    return compatibility(built_by("model")[model], built_by("objective")[objective], built_by("data")[data], taken)


def fits(model: str, objective: str, data: str) -> bool:
    """By the choice that stands for all with the same records: a test holds two families to its being so."""
    return not refusal(model, objective, STANDS_FOR[built_by("data")[data].reads])


def tried(objective: str) -> tuple[str, ...]:
    """The data that an objective is trained on here."""
    if objective == "verbalise":  # which has words for two classes here
        return PLAIN, "world/mrpc"
    if objective in FROM_LABELS:
        return LABELLED[built_by("objective")[objective].record]
    return (*WITHOUT_LABELS, PLAIN)


FITTING = [
    (model, objective, data)
    for model, objective in itertools.product(choices("model"), TRAINING)
    for data in tried(objective)
    if fits(model, objective, data)
]


def meetings(model: str, objective: str, data: str) -> set[tuple[str, ...]]:
    return {("a model's objective", model, objective), ("an objective's data", objective, data)}


def first_meetings() -> list[tuple[str, str, str]]:
    """Triples in which some two have not met in an earlier one; the generated language, and official files, come first. Where two others
    have met, it is the family that has been used least."""
    met: set[tuple[str, ...]] = set()
    used = dict.fromkeys(choices("model"), 0)
    chosen = []
    waiting = sorted(FITTING, key=lambda triple: (tried(triple[1]).index(triple[2]), triple[1:]))
    for _, together in itertools.groupby(waiting, key=lambda triple: triple[1:]):
        for triple in sorted(together, key=lambda triple: used[triple[0]]):
            if meetings(*triple) - met:
                chosen.append(triple)
                met |= meetings(*triple)
                used[triple[0]] += 1
    return chosen


FIRST = first_meetings()
REST = [triple for triple in FITTING if triple not in set(FIRST)]
PROSE = [triple for triple in FIRST if triple[2] == "pydocs" and triple[1] != "mlm"]


def test_how_many_triples_there_are() -> None:
    fitting = [triple for triple in TRIPLES if fits(*triple)]
    print(
        f"{len(TRIPLES):,} triples: {len(TRIPLES) - len(fitting):,} refused, {len(fitting):,} fit, of which {len(FIRST)} are trained "
        f"and {len(REST)} more under the marker exhaustive"
    )
    assert len(TRIPLES) == len(choices("model")) * len(TRAINING) * len(choices("data"))
    assert len(choices("model")) >= 17
    assert len(TRAINING) >= 20
    assert len(choices("data")) >= 75
    assert set(FITTING) <= set(fitting)
    assert set(FIRST) | set(REST) == set(FITTING)
    assert {triple[:2] for triple in FIRST} == {triple[:2] for triple in fitting}
    assert {triple[1:] for triple in FIRST} == {triple[1:] for triple in FITTING}


def test_every_family_learns_from_official_files() -> None:
    for data in OFFICIAL:
        objective = brought_objective(data)
        assert {triple[0] for triple in FIRST if triple[1:] == (objective, data)} == set(choices("model"))


def test_what_fits_goes_by_the_records() -> None:
    for model, objective, data in itertools.product(("bert", "gpt2"), TRAINING, choices("data")):
        assert fits(model, objective, data) == (not refusal(model, objective, data))


@pytest.mark.parametrize("model", choices("model"))
def test_what_does_not_fit_is_refused_with_what_would(model: str) -> None:
    for objective, data in itertools.product(TRAINING, STANDS_FOR.values()):
        if fits(model, objective, data):
            continue
        sentence = " ".join(refusal(model, objective, data))
        assert sentence
        assert all(len(each) < 700 for each in refusal(model, objective, data))
        for group, fitting in {
            "model": [c for c in choices("model") if fits(c, objective, data)],
            "objective": [c for c in TRAINING if fits(model, c, data)],
        }.items():
            assert not fitting or f"{group}=" in sentence
            assert all(choice in sentence for choice in fitting)
        read = {c for c in choices("data") if any(fits(m, objective, c) for m in choices("model"))}
        assert data_offered_in(sentence) == (set() if data in read else read)


def data_offered_in(sentence: str) -> set[str]:
    """`glue/…` is all of a folder that objectives learn from, `superglue/… (not record)` all but one, `world/{ner,pos}` these two."""
    found: set[str] = set()
    for listed in re.findall(r": data=(.*?)\. With", sentence):
        for part in listed.split("|"):
            folder, _, names = part.partition("/")
            beside = {
                c for c in choices("data") if c.startswith(f"{folder}/") and issubclass(built_by("data")[c].reads, Text)
            }
            if names.startswith("…"):
                found |= beside - {f"{folder}/{name}" for name in re.findall(r"\w+", names)}
            else:
                found |= {f"{folder}/{name}" for name in re.findall(r"\w+", names)} or {part}
    return found


STORY = "\n\n".join(
    f"Number {n} is the {'first' if n % 2 else 'second'} of its kind. It follows {n - 1}. Nobody asked why it was {n * 7}. "
    f"The next one is {n + 1}, and that is all. So it goes on, said the {'cat' if n % 3 else 'dog'}."
    for n in range(300)
)


@cache
def corpus_words(folder: Path) -> dict[str, list[str]]:
    """The words that make each corpus small."""
    (folder / "corpus.txt").write_text(STORY, encoding="utf-8")
    (folder / "hub").mkdir()
    (folder / "hub" / "train.jsonl").write_text(
        "\n".join(f'{{"text": {line!r}}}'.replace("'", '"') for line in STORY.split("\n\n")), encoding="utf-8"
    )
    small_world = ["data.documents=120", "data.validation_documents=20", "data.test_documents=20"]
    lines = STORY.replace(". ", ".\n")
    for name, text in (("en", lines), ("xx", lines.upper())):
        (folder / f"aligned.{name}").write_text(text, encoding="utf-8")
    # sixteen documents to train on are plenty for taggers, and 64 examples for all others
    small, smaller = (["data.validation=16", "data.test=8", f"data.train={n}"] for n in (64, 16))
    write_tasks(folder / "tasks", train=48, dev=8, test=8)
    return {
        "glue/mrpc": [f"data.path={folder / 'tasks'}"],
        "ud": [
            f"data.{split}_path={folder / 'tasks' / 'POS' / f'world-{name}.conllu'}"
            for split, name in (("train", "train"), ("validation", "dev"), ("test", "test"))
        ],
        "squad": [f"data.path={folder / 'tasks' / 'SQuAD'}", "data.version=1.1"],
        "swag": [f"data.path={folder / 'tasks' / 'SWAG'}"],
        **{f"world/{name}": small for name in ("mrpc", "stsb", "mnli", "squad2", "swag", "translation")},
        "pairs": [f"data.path={folder / 'tasks' / 'Translation'}", "data.source=b", "data.target=a"],
        **{f"world/{name}": smaller for name in ("pos", "ner")},
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


OBJECTIVE_WORDS = {
    "extractive_qa": ["objective.question_length=16", "objective.stride=16"],
    "verbalise": ["++objective.words={0: Nora, 1: Clara}"],  # each is one token of any vocabulary
}


def prepared(folder: Path, model: str, objective: str, data: str, *others: str) -> Prepared:
    words = [
        f"model={model}", f"objective={objective}", f"data={data}", "size=tiny", "model.layers=2", "length=48",
        "batch_size=8", f"cache_dir={folder / 'cache'}", "tokenizer.vocabulary=600", *corpus_words(folder)[data],
        *OBJECTIVE_WORDS.get(objective, []), *others,
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


def total(output: StepOutput) -> torch.Tensor:
    return sum((term.weight * term.total / term.count for term in output.terms.values()), torch.tensor(0.0))


def gradients(parts: Prepared, modules: torch.nn.Module, of: list[torch.nn.Parameter]) -> list[torch.Tensor | None]:
    """The gradients of parameters that do not train, as if they did."""
    if not of:
        return []
    for parameter in of:
        parameter.requires_grad_(True)
    found = torch.autograd.grad(total(parts.objective(parts.model, batch(parts, 0))), of, allow_unused=True)
    for parameter in of:
        parameter.requires_grad_(False)
    return list(found)


def trains_reloads_and_predicts_the_same(folder: Path, *choice: str) -> None:
    parts = prepared(folder, *choice)
    modules = torch.nn.ModuleDict({"model": parts.model, "objective": parts.objective})
    optimizer = torch.optim.AdamW(modules.parameters(), 1e-3)
    touched: set[str] = set()
    idle = [parts.model.get_parameter(name) for name in parts.objective.idle(parts.model)]
    assert {id(p) for p in modules.parameters() if not p.requires_grad} == {id(p) for p in idle}
    assert all(p is None or not p.any() for p in gradients(parts, modules, idle)), "no loss depends on what is idle"
    for step in range(2):
        output = parts.objective(parts.model, batch(parts, step))
        loss = total(output)
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        touched |= {name for name, p in modules.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
    trainable = {name for name, parameter in modules.named_parameters() if parameter.requires_grad}
    assert all(name.endswith(parts.model.idle) for name in trainable - touched)
    if choice[:2] == ("xlnet", "permutation_lm"):  # which has the queries and the segments that others leave idle
        assert touched == trainable
    parameters = {name: p for name, p in modules.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for name, p in parameters.items() if name.endswith(parts.model.idle))

    save_model(folder / "model", modules.state_dict(), description(parts))
    again = prepare(parts.checked, say=lambda line: None)
    fresh = torch.nn.ModuleDict({"model": again.model, "objective": again.objective})
    fresh.load_state_dict(read_model(folder / "model").weights)
    modules.eval(), fresh.eval()
    with torch.no_grad():
        want, have = (m["objective"](m["model"], batch(parts, 7)) for m in (modules, fresh))
    for name, term in want.terms.items():
        assert torch.equal(term.total, have.terms[name].total)
    for name, value in want.predictions.items():
        np.testing.assert_array_equal(value.float().numpy(), have.predictions[name].float().numpy())
