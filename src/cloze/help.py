"""`python train.py --help`: the groups, their choices with one line each, and five commands to start from."""

from __future__ import annotations

from cloze.compose import GROUPS, choices

EXAMPLES = (
    ("python train.py", "the default run: a small BERT on the generated language, about three minutes on two cores"),
    ("python train.py model=albert objective=mlm_sop size=mini", "another family, another objective, another size"),
    ("python train.py data=text data.path=books/ budget.minutes=10", "your own text, for ten minutes"),
    ("python train.py show=10 objective=mlm objective.mask_ratio=0.3", "ten examples as the model sees them"),
    ("python train.py -m seed=1,2,3 objective=mlm,mlm_sop", "six runs, each in its own process"),
)

OPTIONS = (
    ("--cfg job", "print the composed config and stop"),
    ("-m, --multirun", "run every combination of comma-separated values"),
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
        width = min(24, max(len(choice) for choice in found))
        lines += [f"  {choice:<{width}}  {line}" for choice, line in found.items()]
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
