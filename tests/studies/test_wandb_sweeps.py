"""The files for W&B's server: what an agent would run, with values from the ends of every range, can be. No server is asked."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloze.check import check
from cloze.compose import compose, conf_directory

FILES = sorted((conf_directory().parent / "sweeps" / "wandb").glob("*.yaml"))


def values(parameter: dict[str, Any]) -> list[Any]:
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def commands(file: Path) -> list[list[str]]:
    """As https://docs.wandb.ai/guides/sweeps/define-sweep-configuration says: `${args_no_hyphens}` is key=value of every parameter."""
    sweep = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = []
    for chosen in itertools.product(*(values(each) for each in sweep["parameters"].values())):
        words = [f"{key}={value}" for key, value in zip(sweep["parameters"], chosen, strict=True)]
        (place,) = [number for number, part in enumerate(sweep["command"]) if part == "${args_no_hyphens}"]
        found.append([*sweep["command"][:place], *words, *sweep["command"][place + 1 :]])
    return found


def test_there_are_files() -> None:
    assert len(FILES) >= 2


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_agent_would_run_what_can_be(file: Path) -> None:
    sweep = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert sweep["method"] in ("grid", "random", "bayes") and sweep["metric"]["goal"] in ("minimize", "maximize")
    assert sweep["metric"]["name"] in ("val/accuracy", "val/loss_mlm")  # what a run of mlm measures
    assert re.match(r"# .*wandb sweep " + f"sweeps/wandb/{file.name}", file.read_text(encoding="utf-8"))
    every = commands(file)
    for command in (every[0], every[-1]):
        assert command[:3] == ["${env}", "python", "train.py"] and "tracking=wandb" in command
        check(compose(command[3:]))
