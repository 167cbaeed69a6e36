"""From the words on the command line to one config: Hydra composes it, and its errors become sentences.

Nothing here imports torch.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cloze.errors import Refusal, nearest
from cloze.schema import leaves

OPEN = (
    "objective.weights",
    "objective.settings",
    "objective.words",
    "data.settings",
)  # mappings whose names the run says: objectives, classes, tasks
GROUPS = (
    "model", "size", "objective", "data", "finetune", "tokenizer", "optimizer", "schedule", "budget", "hardware", "checkpoint",
    "tracking", "experiment",
)  # fmt: skip


# What other libraries call the same thing.
OTHER_NAMES = {
    "lr": "learning_rate", "bs": "batch_size", "max_steps": "steps", "num_train_steps": "steps", "vocab_size": "vocabulary",
    "hidden_size": "width", "d_model": "width", "num_layers": "layers", "num_hidden_layers": "layers", "depth": "layers",
    "num_attention_heads": "heads", "intermediate_size": "inner", "d_ff": "inner", "mlm_probability": "mask_ratio",
    "masking_ratio": "mask_ratio", "mask_rate": "mask_ratio", "max_length": "length", "max_seq_length": "length",
    "num_epochs": "epochs", "max_epochs": "epochs", "num_workers": "workers", "warmup_steps": "warmup", "output": "output_dir",
}  # fmt: skip


@cache
def conf_directory() -> Path:
    """`conf/` of the checkout, or the copy that an installed package carries."""
    here = Path(__file__).resolve().parent
    checkout = here.parents[1] / "conf"
    return checkout if (checkout / "config.yaml").is_file() else here / "conf"


@cache
def choices(group: str) -> dict[str, str]:
    """The choices of a config group with the one-line description that each file begins with."""
    folder = conf_directory() / group
    found = {}
    for path in sorted(folder.rglob("*.yaml")):
        lines = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines()[:3] if line.startswith("#")]
        found[path.relative_to(folder).with_suffix("").as_posix()] = next(
            (x for x in lines if not x.startswith("@")), ""
        )
    return found


def target(group: str, choice: str) -> str | None:
    """The class that a choice builds, as written in its file."""
    found: str | None = _content(group, choice).get("_target_")
    return found


def defaults(group: str, choice: str) -> dict[str, Any]:
    """The settings of a choice as written in its file, references unresolved."""
    return {name: value for name, value in copy.deepcopy(_content(group, choice)).items() if name != "defaults"}


@cache
def _content(group: str, choice: str) -> dict[str, Any]:
    return _plain(OmegaConf.load(conf_directory() / group / f"{choice}.yaml"))


def parse(words: Sequence[str]) -> list[Override]:
    """The words as Hydra understands them. Raises Refusal for what is not a `key=value`."""
    overrides = []
    for word in words:
        if "=" not in word and not word.startswith("~"):
            group = nearest(word, GROUPS)
            meant = f"; did you mean {group}=…?" if group else ""
            raise Refusal(f"{word!r} is not a setting: settings are written key=value{meant}")
        try:
            overrides.extend(OverridesParser.create().parse_overrides([word]))
        except HydraException as fault:
            raise Refusal(
                f"{word!r} cannot be read: {_first_line(fault)}. Put quotes around values with spaces or commas."
            ) from None
    return overrides


@dataclass(frozen=True)
class Composed:
    """The config of one run, the words that made it, and the choice that was taken in every group."""

    config: DictConfig
    words: tuple[str, ...]
    choices: dict[str, str | None]


def compose(words: Sequence[str]) -> Composed:
    """Composes the config. Raises Refusal, naming the word that is wrong and the nearest right one."""
    overrides = parse(words)
    for override in overrides:
        _refuse_unknown_choice(override)
        if override.key_or_group.split(".")[0] == "hydra":
            raise Refusal(
                f"{override.input_line} has no effect on one run (only with -m); the run's folder is output_dir=…"
            )
    try:
        config = _compose([*_brought(overrides), *words])
    except (HydraException, OmegaConfBaseException) as fault:
        raise Refusal(_explain(fault, words, overrides)) from None
    taken = {group: config.hydra.runtime.choices.get(group) for group in GROUPS}
    return Composed(_without_hydra(config), tuple(words), taken)


def as_settings(config: DictConfig) -> dict[str, Any]:
    """The config as plain containers, all references resolved. Raises Refusal where one cannot be."""
    missing = [path for path, value in leaves(OmegaConf.to_container(config, resolve=False)) if value == "???"]
    if missing:
        raise Refusal("\n".join(f"{key} is missing: say {key}=…" for key in missing))
    try:
        return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException as fault:
        raise Refusal(_explain_reference(fault)) from None


def grid(words: Sequence[str]) -> list[list[str]]:
    """The jobs of a multirun: the product of all comma-separated (or range) words, in Hydra's order."""
    axes: list[list[str]] = []
    for override in parse(words):
        if override.key_or_group.split(".")[0] == "hydra" or override.key_or_group.startswith("hydra/"):
            continue
        if override.is_sweep_override():
            key = override.get_key_element()
            axes.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            axes.append([str(override.input_line)])
    return [list(job) for job in itertools.product(*axes)]


def _compose(words: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_directory())):
        return hydra_compose("config", overrides=[_opened(word) for word in words], return_hydra_config=True)


def _brought(overrides: Sequence[Override]) -> list[str]:
    """The objective that labelled data which are named bring with them, as a word: in Hydra's order a family's own would go before it."""
    said = {override.key_or_group: override.value() for override in overrides}
    data = said.get("data")
    if not isinstance(data, str) or said.keys() & {"objective", "experiment"}:
        return []
    own = brought_objective(data)
    return [] if own is None else [f"objective={own}"]


def brought_objective(data: str) -> str | None:
    """The objective that a choice of data is for, as its file says; None where it leaves that to the family."""
    brought = [
        each.get("override /objective@_global_.objective") for each in _content("data", data).get("defaults", ())
    ]
    return next((each for each in brought if each is not None), None)


def _opened(word: str) -> str:
    """A word that Hydra takes although the files do not name its key: the check knows which keys there may be."""
    key = word.partition("=")[0]
    return f"++{word}" if ".".join(key.split(".")[:2]) in OPEN else word


def _without_hydra(config: DictConfig) -> DictConfig:
    with open_dict(config):
        del config["hydra"]
    return config


def _refuse_unknown_choice(override: Override) -> None:
    key = override.key_or_group
    if key not in GROUPS or override.is_delete():
        return
    wanted = override.value()
    if override.is_sweep_override():
        raise Refusal(f"{override.input_line} names several choices: add -m to run them all")
    if wanted is None:
        raise Refusal(f"{key}=null is not a choice; leave the word out, or take one of: {', '.join(choices(key))}.")
    if not isinstance(wanted, str) or wanted not in choices(key):
        guess = nearest(str(wanted), choices(key))
        meant = f"; did you mean {guess}?" if guess else "."
        raise Refusal(f"{key}={wanted} is not there{meant} Accepted: {', '.join(_in_sight(key, str(wanted)))}.")


def _in_sight(group: str, wanted: str) -> list[str]:
    """The choices of a group that a wrong word may have meant: those beside it, and folders by their names."""
    folder = wanted[: wanted.rfind("/") + 1]
    beside = sorted(choice for choice in choices(group) if folder and choice.startswith(folder))
    return beside or sorted({f"{each.partition('/')[0]}/…" if "/" in each else each for each in choices(group)})


def _explain(fault: Exception, words: Sequence[str], overrides: list[Override]) -> str:
    """A sentence for a composition that failed: which of the words cannot be, and the nearest that can."""
    for override in overrides:
        if override.is_sweep_override():
            return f"{override.input_line} names several values: add -m to run them all, or put quotes around a value with commas"
    structure = [*_brought(overrides), *(w for w, o in zip(words, overrides, strict=True) if o.key_or_group in GROUPS)]
    try:
        base = _without_hydra(_compose(structure))
    except (HydraException, OmegaConfBaseException):
        return f"the config cannot be composed: {_first_line(fault)}"
    for override in overrides:
        key = override.key_or_group
        if key not in GROUPS and not override.is_add() and not _has(base, key):
            return unknown_key(key, base)
    return f"the config cannot be composed: {_first_line(fault)}"


def unknown_key(key: str, config: DictConfig | dict[str, Any]) -> str:
    """`objective.mask_rato is not a setting`, with the nearest setting at that place or anywhere."""
    plain = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
    everywhere = [path for path, _ in leaves(plain) if not path.endswith("_target_")]
    parent = key.rpartition(".")[0]
    siblings = (
        [path for path in everywhere if path.startswith(f"{parent}.")]
        if parent
        else [p for p in everywhere if "." not in p]
    )
    leaf = OTHER_NAMES.get(key.rpartition(".")[2], key.rpartition(".")[2])
    same_leaf = [path for path in everywhere if path.rpartition(".")[2] == leaf and not path.startswith("size.")]
    inside = [path for path in same_leaf if parent and path.startswith(f"{parent}.")]
    guess = (
        (inside or same_leaf)[0]
        if same_leaf
        else nearest(key, siblings if parent else [*GROUPS, *siblings]) or nearest(key, everywhere)
    )
    if guess is None and (near := nearest(leaf, [p.rpartition(".")[2] for p in everywhere])):
        guess = next(p for p in everywhere if p.rpartition(".")[2] == near)
    meant = f"; did you mean {guess}?" if guess else "."
    accepted = sorted(
        {path.removeprefix(f"{parent}.").split(".")[0] for path in siblings} | (set() if parent else set(GROUPS))
    )
    place = f"under {parent}" if parent else "at the top"
    return f"{key} is not a setting{meant}" + (f" Settings {place}: {', '.join(accepted)}." if accepted else "")


def _plain(config: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=False))


def _has(config: DictConfig, key: str) -> bool:
    node: Any = OmegaConf.to_container(config, resolve=False)
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True


def _explain_reference(fault: Exception) -> str:
    text = str(fault)
    variable = re.search(r"Environment variable '([^']+)'", text)
    place = re.search(r"full_key: (\S+)", text)
    where = f"{place.group(1)}: " if place else ""
    if variable:
        return f"{where}the environment variable {variable.group(1)} is not set"
    return f"{where}{_first_line(fault)}"


def _first_line(fault: Exception) -> str:
    return str(fault).strip().splitlines()[0].rstrip(".") if str(fault).strip() else type(fault).__name__
