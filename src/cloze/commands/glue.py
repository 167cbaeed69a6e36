"""`cloze glue`: all of GLUE with one model."""

from __future__ import annotations

import argparse

from cloze.errors import Refusal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `cloze glue` understands."""
    parser.add_argument(
        "init", nargs="?", metavar="INIT", help="a run's folder, a Hugging Face directory, or a name on its hub"
    )
    parser.add_argument(
        "--data", metavar="FOLDER", help="GLUE's folder, a name on the hub, or world: the generated language's tasks"
    )
    parser.add_argument("--tasks", metavar="LIST", help="cola,mrpc,… (default: all that are there)")
    parser.add_argument("--seeds", metavar="LIST", help="1,2,3: each task so often (default: once)")
    parser.add_argument("--chain", action="store_true", help="start RTE, STS-B and MRPC from the model of MNLI")
    parser.add_argument("--out", metavar="DIR", help="where everything goes (default: outputs/glue/<name of INIT>)")
    parser.add_argument(
        "words", nargs="*", metavar="WORDS", help="settings of every run: budget.epochs=1 finetune=lora"
    )


def run(given: argparse.Namespace) -> int:
    """Says it as a sentence with data=glue/all and runs that. Raises Refusal."""
    from cloze.suites import ALL_OF_GLUE, glue

    if given.init is None or "=" in given.init:
        raise Refusal("INIT is missing: the run or the model that all tasks start from, cloze glue INIT --data FOLDER")
    if given.data is None:
        raise Refusal(
            "--data is missing: GLUE's folder, or world for the generated language's tasks, which need no file"
        )
    said = {"init": given.init, "data.path": given.data, "output_dir": given.out}
    words = [
        f"data={ALL_OF_GLUE}",
        *(f"{key}={glue.written(value)}" for key, value in said.items() if value is not None),
    ]
    for option in ("tasks", "seeds"):
        if (value := getattr(given, option)) is not None:
            words.append(f"data.{option}=[{','.join(_listed(value, option))}]")
    words += ["data.chain=true"] if given.chain else []
    keys = {word.partition("=")[0] for word in words}
    for word in given.words:
        if word.lstrip("+").partition("=")[0] in keys | {"data", "data.path", "output_dir"}:
            raise Refusal(f"{word}: cloze glue has INIT, --data and --out for that")
    return glue.run(glue.understood([*words, *given.words]))


def _listed(value: str, option: str) -> list[str]:
    parts = [part for part in value.replace(",", " ").split() if part]
    if option == "seeds" and (wrong := next((part for part in parts if not part.isdigit()), None)):
        raise Refusal(f"--seeds {value}: {wrong} is not a whole number; such as --seeds 1,2,3")
    return parts
