"""Refuses a run that cannot be, before any data is read: all faults at once, each with the nearest right word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

import torch
from omegaconf import OmegaConf

from cloze.compose import GROUPS, Composed, as_settings, choices, defaults, target
from cloze.data.base import Corpus, Labels, Record, Text, Vocabulary
from cloze.errors import Refusal, did_you_mean, nearest
from cloze.finetuning.course import Course
from cloze.finetuning.ways import Finetuning
from cloze.models.base import Backbone
from cloze.objectives.base import Objective
from cloze.schema import Node, faults, fits, locate, own

RUNTIME = {
    "model": ("vocabulary", "length", "pooler", "generator"),
    "objective": ("model", "vocabulary", "length", "family", "labels", "tokenizer"),
}
SINGLE = (
    "data",
    "tokenizer",
    "model",
    "finetune",
    "optimizer",
    "schedule",
    "budget",
    "hardware",
    "checkpoint",
    "tracking",
)
SIZES = (  # what the dial sets, the last ones for the families that have them
    "layers", "width", "heads", "head_width", "inner", "initializer_range", "learning_rate", "positions", "experts", "sparse_every",
    "embedding_width", "generator_size",
)  # fmt: skip
_SOME_LABELS = {"task": Labels(("0", "1"))}  # what heads are tried with before the data is read
_SECRET = re.compile(r"(^|_)(api_?key|token|secret|password|passwd|credentials?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Validation:
    """How often and on how much a run is validated."""

    every: int = 250
    examples: int | None = 512


@dataclass(frozen=True)
class Top:
    """The settings that belong to no group. The comments in conf/config.yaml say what they mean."""

    seed: int
    length: int
    batch_size: int
    validation: dict[str, int | None]
    init: str | None = None
    resume: str | None = None
    output_dir: str | None = None
    cache_dir: str = "outputs/cache"
    name: str | None = None
    plan: bool = False
    show: int = 0
    audit: bool = False
    matrix: bool = False
    labelled_examples: int | None = None
    trusted: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Checked:
    """A run that can be: its classes found, its settings bound to their signatures."""

    composed: Composed
    settings: dict[str, Any]  # the whole config as plain containers
    top: Top
    validation: Validation
    nodes: dict[str, Node]
    objective: type[Objective[Any, Any]]

    @property
    def builder_settings(self) -> dict[str, Any]:
        return own(self.objective.Examples, self.settings["objective"])

    @property
    def objective_settings(self) -> dict[str, Any]:
        return own(self.objective, self.settings["objective"])

    @property
    def name(self) -> str:
        """What the run is called: the user's name for it, or its model, objective and data."""
        taken = self.composed.choices
        return self.top.name or "-".join(
            str(taken[group]).replace("/", "_") for group in ("model", "objective", "data")
        )


def check(composed: Composed) -> Checked:
    """Raises Refusal with every fault that can be seen without reading data."""
    settings = as_settings(composed.config)
    top_settings = {key: value for key, value in settings.items() if key not in GROUPS}
    found = faults([Top], top_settings, "the run", ())
    found = [_at_the_top(fault) for fault in found]
    trusted = settings["trusted"] if fits(settings.get("trusted"), list[str]) else []
    _refuse_secrets(settings)
    found += faults([Validation], settings.get("validation") or {}, "validation")
    found += [
        f"size.{key} is not a setting{did_you_mean(key, SIZES)}"
        for key in settings.get("size") or {}
        if key not in SIZES
    ]
    found += _words_without_effect(composed)
    nodes: dict[str, Node] = {}
    for group in SINGLE:
        node = dict(settings.get(group) or {})
        if "_target_" not in node:
            found.append(f"{group} is empty: choose {group}={'|'.join(choices(group))}.")
            continue
        built = locate(node.pop("_target_"), group, trusted)
        found += faults([built], node, group, RUNTIME.get(group, ()))
        nodes[group] = Node(group, built, node)
    objective_node = dict(settings.get("objective") or {})
    if "_target_" not in objective_node:
        raise Refusal("\n".join([*found, f"objective is empty: choose objective={'|'.join(choices('objective'))}."]))
    objective = locate(objective_node.pop("_target_", None), "objective", trusted)
    if not issubclass(objective, Objective):
        raise Refusal(f"objective._target_={objective.__name__} is not an objective")
    wrong = faults([objective, objective.Examples], objective_node, "objective", RUNTIME["objective"])
    if objective.composite and not wrong:
        settings["objective"], wrong = with_parts(settings["objective"], trusted)
    found += wrong
    if found:
        raise Refusal("\n".join(found))
    checked = Checked(
        composed, settings, Top(**top_settings), Validation(**settings["validation"]), nodes, objective,
    )  # fmt: skip
    found += _ranges(checked)
    found += compatibility(
        nodes["model"].built, objective, nodes["data"].built, composed.choices, settings["objective"]
    )
    if not found:
        found += _trial_build(checked)
    if found:
        raise Refusal("\n".join(found))
    return checked


def _at_the_top(fault: str) -> str:
    fault = fault.replace("the run.", "")
    if " is not a setting of Top" not in fault:
        return fault
    key = fault.split(" ")[0]
    accepted = [each.name for each in fields(Top)] + list(GROUPS)
    return f"{key} is not a setting{did_you_mean(key, accepted)}"


def _words_without_effect(composed: Composed) -> list[str]:
    """`size.…` is only a dial: what no setting of this run refers to does nothing."""
    text = OmegaConf.to_yaml(composed.config, resolve=False)
    said = [word.lstrip("+").partition("=")[0] for word in composed.words]
    taken = composed.choices
    return [
        f"{key} has no effect: model={taken['model']} and optimizer={taken['optimizer']} do not ask for it"
        for key in said
        if key.removeprefix("size.") in SIZES and f"${{{key}}}" not in text and f"${{oc.select:{key}," not in text
    ]


def _ranges(checked: Checked) -> list[str]:
    top, validation = checked.top, checked.validation
    bounds = [
        ("seed", top.seed, 0), ("length", top.length, 4), ("batch_size", top.batch_size, 1), ("show", top.show, 0),
        ("labelled_examples", top.labelled_examples, 1),
        ("validation.every", validation.every, 1), ("validation.examples", validation.examples, 1),
    ]  # fmt: skip
    found = [
        f"{key}={value} must be at least {low}." for key, value, low in bounds if value is not None and value < low
    ]
    if checked.nodes["finetune"].settings.get("from_scratch") and top.init is None:
        found.append("finetune.from_scratch=true has no effect without init=: the weights begin from chance anyway.")
    if top.seed >= 2**63:
        found.append(f"seed={top.seed} must be below 2^63.")
    return found


def with_parts(node: dict[str, Any], trusted: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """An objective that is made of others, with all settings of each below `settings`; and what is wrong with them."""
    said, complete = node.get("settings") or {}, {}
    found = [
        f"objective.settings.{name} has no effect: objective.of={node['of']} does not name it{did_you_mean(name, node['of'])}"
        for name in said
        if name not in node["of"]
    ]
    for name in node["of"]:
        if name not in choices("objective"):
            found.append(f"objective.of: {name} is not there{did_you_mean(name, choices('objective'))}")
            continue
        complete[name] = {**defaults("objective", name), **said.get(name, {})}
        built = locate(complete[name]["_target_"], f"objective.settings.{name}", trusted)
        its = {key: value for key, value in complete[name].items() if key != "_target_"}
        found += faults([built, built.Examples], its, f"objective.settings.{name}", RUNTIME["objective"])  # type: ignore[attr-defined]
    return {**node, "settings": complete}, found


def compatibility(
    model: type[Backbone],
    objective: type[Objective[Any, Any]],
    corpus: type[Corpus],
    taken: dict[str, str | None],
    settings: dict[str, Any] | None = None,
) -> list[str]:
    """The sentences that refuse a triple, with the choices that would fit; empty where it fits.

    `settings` are the objective's, where they decide what it is made of; None: those of its file.
    """
    found = []
    named = {group: f"{group}={taken.get(group)}" for group in ("model", "objective", "data")}
    needed = _made_of(str(taken.get("objective")), objective, settings)
    for name, part in needed.items():
        if not issubclass(model, part.model_role):
            of = f" (of {name}, unless objective.of says others)" if objective.composite else ""
            models = [
                c for c, cls in built_by("model").items() if all(issubclass(cls, p.model_role) for p in needed.values())
            ]
            objectives = [
                c
                for c, cls in built_by("objective").items()
                if all(issubclass(model, each.model_role) for each in _made_of(c, cls, None).values())
            ]
            found.append(
                f"{named['objective']}{of} needs a model that {part.model_role.role}; {named['model']} is one that {model.role}. "
                f"With {named['objective']}: model={'|'.join(models) or 'none yet'}. "
                f"With {named['model']}: objective={'|'.join(objectives) or 'none yet'}."
            )
        if not issubclass(corpus.reads, part.record):
            of = f" (of {name}, unless objective.of says others)" if objective.composite else ""
            corpora = [
                c
                for c, cls in built_by("data").items()
                if all(issubclass(cls.reads, p.record) for p in needed.values())
            ]
            objectives = [
                c
                for c, cls in built_by("objective").items()
                if all(
                    issubclass(model, each.model_role) and issubclass(corpus.reads, each.record)
                    for each in _made_of(c, cls, None).values()
                )
            ]
            found.append(
                f"{named['objective']}{of} learns from {plural(part.record)}; {named['data']} has {plural(corpus.reads)}. "
                f"With {named['objective']}: data={folded(corpora)}. "
                f"With {named['model']} and {named['data']}: objective={'|'.join(objectives) or 'none yet'}."
            )
    return found


def _made_of(
    choice: str, objective: type[Objective[Any, Any]], settings: dict[str, Any] | None
) -> dict[str, type[Objective[Any, Any]]]:
    """The objectives whose needs an objective has: those that it is made of, or itself."""
    if objective.composite and settings is None:
        return _made_by_default(choice, objective)
    return objective.made_of(settings or {}) or {choice: objective}


@cache
def _made_by_default(choice: str, objective: type[Objective[Any, Any]]) -> dict[str, type[Objective[Any, Any]]]:
    return objective.made_of(with_parts(defaults("objective", choice))[0])


@cache
def built_by(group: str) -> dict[str, Any]:
    """The class that each choice of a group builds: walking the folder, so that a new file shows up by itself."""
    return {choice: locate(path, group) for choice in choices(group) if (path := target(group, choice))}


def folded(corpora: Sequence[str]) -> str:
    """The choices of data in few words: a folder by its name where all of it is meant, `superglue/… (not record)` where nearly all is,
    `world/{ner,pos}` where a part is."""
    folders: dict[str, list[str]] = {}  # "glue/" -> all that lies in it
    for choice, built in built_by("data").items():
        if issubclass(built.reads, Text):  # else no objective learns from it: it stands for several runs
            folder = choice[: choice.rfind("/") + 1]
            folders.setdefault(folder or choice, []).append(choice.removeprefix(folder))
    said = []
    for folder, names in folders.items():
        if not folder.endswith("/"):
            said += [folder] if folder in corpora else []
            continue
        meant = [name for name in names if f"{folder}{name}" in corpora]
        others = [name for name in names if name not in meant]
        if len(meant) == 1:
            said.append(folder + meant[0])
        elif meant and (len(others) > 2 or len(others) >= len(meant)):
            said.append(f"{folder}{{{','.join(meant)}}}")
        elif meant:
            said.append(f"{folder}…" + (f" (not {', '.join(others)})" if others else ""))
    return "|".join(said)


def plural(record: type[Record]) -> str:
    """`labelled records`."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", record.__name__).lower() + " records"


def _trial_build(checked: Checked) -> list[str]:
    """Builds everything that costs nothing (the model without memory), so that their own range checks speak now."""
    found = []
    special = {role: number for number, role in enumerate(("pad", "unk", "cls", "sep", "mask", "bos", "eos"))}
    try:
        _, sentinels = checked.objective.Examples.needs(checked.settings["objective"])
        parts = {
            "pooler": checked.objective.pools(checked.settings["objective"]),
            "generator": checked.objective.generates(checked.settings["objective"]),
        }
    except Refusal as fault:
        return [str(fault)]
    most = checked.nodes["tokenizer"].settings.get("vocabulary", 0)  # the tokenizer may come out smaller, never larger
    size = max(1000, most) if isinstance(most, int) else 1000
    vocabulary = Vocabulary(size, special, tuple(range(900, 900 - sentinels, -1)))
    model: Backbone | None = None
    ready: dict[str, Any] = {}
    for group in SINGLE:
        if group in ("model", "data"):  # the model waits for a vocabulary, the corpus looks at files
            continue
        try:
            built = ready[group] = checked.nodes[group].build()
            if group == "hardware":
                built.resolve(checked.top.batch_size)
        except Refusal as fault:
            found.append(str(fault))
    with torch.device("meta"):
        try:
            model = checked.nodes["model"].build(vocabulary=vocabulary.size, length=checked.top.length, **parts)
        except Refusal as fault:
            found.append(str(fault))
        except (ArithmeticError, RuntimeError, ValueError) as fault:  # what torch says of shapes that cannot be
            found.append(f"model={checked.composed.choices['model']} cannot be built: {fault}")
        try:
            builder = Node("objective", checked.objective.Examples, checked.builder_settings)
            family = checked.nodes["model"].built
            made = builder.build(vocabulary=vocabulary, length=checked.top.length, family=family, labels=_SOME_LABELS)
            found += [] if made.continuous else _memory_without_effect(checked)
            if model is not None:
                head = Node("objective", checked.objective, checked.objective_settings)
                learner = head.build(model=model, vocabulary=vocabulary, labels=_SOME_LABELS, tokenizer=None)
                if "finetune" in ready:
                    way: Finetuning = ready["finetune"]
                    Course.install(way, model)
                    Course(way, model, learner)
        except Refusal as fault:
            found.append(str(fault))
    return found


def _memory_without_effect(checked: Checked) -> list[str]:
    """A memory that was asked for where no text goes on from batch to batch: there is nothing to remember."""
    settings = checked.nodes["model"].settings
    if settings.get("same_length"):  # then its length is also how far each token sees in evaluation
        return []
    said = {word.lstrip("+").partition("=")[0] for word in checked.composed.words}
    return [
        f"model.{name}={settings[name]} has no effect with {checked.composed.choices['objective']}, whose text does not go on from batch "
        "to batch: objective.documents=continued reads it so, where the objective has it."
        for name in ("memory_length", "evaluation_memory_length")
        if f"model.{name}" in said and settings.get(name)
    ]


def _refuse_secrets(settings: dict[str, Any], prefix: str = "") -> None:
    """A secret in a config is written to disk and sent to trackers: it belongs in the environment."""
    for key, value in settings.items():
        where = f"{prefix}{key}"
        if isinstance(value, dict):
            _refuse_secrets(value, f"{where}.")
        elif _SECRET.search(str(key)) and value is not None:
            hint = nearest(str(key), ("WANDB_API_KEY", "HF_TOKEN")) or "WANDB_API_KEY, HF_TOKEN"
            raise Refusal(
                f"{where} looks like a secret: configs are saved and logged. Put it into the environment ({hint})."
            )
