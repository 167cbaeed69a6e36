"""`python train.py --help`: the groups, their choices with one line each, and commands to start from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from cloze.compose import GROUPS, choices

EXAMPLES = (
    ("python train.py", "the default run: a small BERT on the generated language, about three minutes on two cores"),
    ("python train.py model=albert objective=mlm_sop size=mini", "another family, another objective, another size"),
    ("python train.py data=text data.path=books/ budget.minutes=10", "your own text, for ten minutes"),
    (
        "python train.py init=outputs/first data=world/mrpc",
        "a finished run learns a task from labels; with data=glue/mrpc GLUE's own",
    ),
    ("python train.py show=10 objective=mlm objective.mask_ratio=0.3", "ten examples as the model sees them"),
    ("python train.py -m seed=1,2,3 objective=mlm,mlm_sop", "six runs, each in its own process, and their comparison"),
    ("python train.py sweeps=nsp_vs_sop", "a study of sweeps/; the same sentence again runs what is missing"),
)

FOLDERS = {  # the choices of these are told in one line: what they have in common, and their names
    "data/clue": "CLUE, FewCLUE and OCNLI, Chinese (data.path=FOLDER)",
    "data/glue": "GLUE's tasks, all of them together and its diagnostic set (data.path=FOLDER)",
    "data/superglue": "SuperGLUE's tasks (data.path=FOLDER)",
    "data/world": "the generated language's own tasks, in the shapes of the originals; no file is needed",
}

OPTIONS = (
    ("--cfg job", "print the composed config and stop"),
    ("-m, --multirun", "run every combination of comma-separated values (docs/sweeps.md)"),
    ("--debug", "show the traceback of a refusal too"),
    ("--help", "this page"),
)


def render() -> str:
    """The help page as plain text."""
    lines = [
        "A run is a sentence: python train.py GROUP=CHOICE … GROUP.SETTING=VALUE …",
        "",
        "Start from one of these:",
    ]
    lines += [f"  {command}\n      {meaning}" for command, meaning in EXAMPLES]
    for group in GROUPS:
        found = choices(group)
        if not found:
            continue
        lines += ["", f"{group}="]
        folded = {folder for folder in _folders(found) if f"{group}/{folder}" in FOLDERS}
        alone = {choice: line for choice, line in found.items() if choice.rpartition("/")[0] not in folded}
        width = min(24, max((len(choice) for choice in alone), default=0))
        lines += [f"  {choice:<{width}}  {line}" for choice, line in alone.items()]
        for folder in sorted(folded):
            names = " ".join(choice.rpartition("/")[2] for choice in found if choice.startswith(f"{folder}/"))
            lines += textwrap.wrap(
                f"{folder}/…  {FOLDERS[f'{group}/{folder}']}: {names}",
                width=118, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False,
            )  # fmt: skip
    lines += [
        "",
        "Beside the groups: seed length batch_size validation.every validation.examples init resume output_dir cache_dir name",
    ]
    lines += [
        "Instead of training: plan=true (what it costs), show=10 (what the model sees), audit=true (rates, counted)",
        "",
    ]
    lines += [f"  {option:<16}{meaning}" for option, meaning in OPTIONS]
    return "\n".join(lines)


def _folders(found: Iterable[str]) -> set[str]:
    return {choice.rpartition("/")[0] for choice in found}
