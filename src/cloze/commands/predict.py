"""`cloze predict`: what a trained model says of texts, for people at a terminal, for pipes and for programs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cloze.errors import Refusal, did_you_mean
from cloze.tasks import TASKS

if TYPE_CHECKING:
    from cloze.loading import Pretrained

SETTINGS = {  # the options that are handed on as they are, where they are said
    "tokens": (int, "N", "write at most so many tokens"),
    "temperature": (float, "T", "draw tokens, the likelier the lower T is; 0 takes the likeliest (default)"),
    "top_k": (int, "K", "draw from the K likeliest tokens"),
    "top_p": (float, "P", "draw from the smallest set of tokens that holds P of the probability"),
    "beams": (int, "N", "follow so many ways at once and take the best text"),
    "length_penalty": (float, "X", "divide a text's log-probability by length^X when beams are compared (default 1)"),
    "no_repeat_ngram": (int, "N", "never write the same N tokens in a row twice"),
    "seed": (int, "S", "of what is drawn (default 0)"),
    "language": (str, "L", "the texts' language, by name or number, for models that tell languages apart"),
    "k": (int, "K", "so many guesses for each blank (default 5)"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `cloze predict` understands."""
    parser.add_argument("run", help="a run's folder, a Hugging Face directory, or a name on its hub")
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help="texts; from the standard input, one a line, where none is given"
    )
    parser.add_argument("--file", type=Path, help="a file of texts, one a line")
    tasks = "; ".join(f"{name}: {words}" for name, words in TASKS.items())
    parser.add_argument("--task", default="auto", help=f"auto (what the model was trained for), or {tasks}")
    for name, (kind, shown, words) in SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=shown, help=words)
    parser.add_argument(
        "--layer", help="of the vectors: a number (0 is the embedding), last, all, or mix (the mean of all)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write to FILE.jsonl, or vectors to FILE.npz")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, …")


def run(given: argparse.Namespace) -> int:
    """Does what the arguments say. Raises Refusal, one sentence, where that cannot be."""
    output: Path | None = given.output
    if output is not None and output.suffix not in (".npz", ".jsonl"):
        raise Refusal(f"--output={output} must end in .jsonl or, for vectors, in .npz")
    if output is not None:
        _refuse_unwritable(output)
    texts = _texts(given)
    from cloze.commands.devices import device
    from cloze.loading import load

    loaded = load(given.run, device(given.device))
    task = _task(loaded, given.task)
    settings: dict[str, Any] = {name: getattr(given, name) for name in SETTINGS if getattr(given, name) is not None}
    if given.layer is not None:
        settings["layer"] = int(given.layer) if given.layer.isdigit() else given.layer
    if output is not None and output.suffix == ".npz" and task != "vectors":
        raise Refusal(f"--output={output}: only vectors go into an .npz file, this is task={task}; take FILE.jsonl")
    said = loaded.predict(texts, task, **settings)
    if output is not None:
        _write(output, task, texts, said)
        print(f"written: {output}")
    elif given.json:
        _lines(sys.stdout, task, texts, said)
    elif sys.stdout.isatty():
        _table(task, texts, said)
    else:
        _plain(task, texts, said)
    return 0


def _refuse_unwritable(output: Path) -> None:
    """Before anything is computed."""
    if not output.parent.is_dir():
        raise Refusal(f"--output={output} cannot be written: there is no folder {output.parent}")
    if output.is_dir():
        raise Refusal(f"--output={output} is a folder; name a file")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise Refusal(f"--output={output} cannot be written: no permission")


def _texts(given: argparse.Namespace) -> list[str]:
    if given.texts and given.file:
        raise Refusal("texts are given both as words and by --file; take one of them")
    if given.texts:
        return list(given.texts)
    if given.file:
        try:
            content = given.file.read_text(encoding="utf-8")
        except OSError as fault:
            raise Refusal(f"--file={given.file} cannot be read: {fault.strerror}") from None
        except UnicodeDecodeError:
            raise Refusal(f"--file={given.file} is not text in UTF-8") from None
    else:
        content = sys.stdin.read()
    texts = [line for line in content.splitlines() if line.strip()]
    if not texts:
        raise Refusal(
            'there is no text: write it behind the run ("the [MASK] lay in fog"), in a --file or on the standard input'
        )
    return texts


def _task(loaded: Pretrained, said: str) -> Any:
    if said == "auto":
        return loaded.task
    if said not in TASKS:
        raise Refusal(f"--task={said} is not there{did_you_mean(said, ['auto', *TASKS])}")
    return said


def record(task: str, text: str, said: Any) -> dict[str, Any]:
    """One answer as plain data."""
    if task == "vectors":
        return {"text": text, "tokens": list(said.tokens), "vectors": said.values.tolist()}
    if task == "replaced":
        return {"text": text, "tokens": list(said.tokens), "replaced": list(said.probabilities)}
    if isinstance(said, str):
        return {"text": text, "answer" if task == "judge" else "written": said}
    guesses = [[{"token": g.token, "probability": g.probability} for g in blank] for blank in said.blanks]
    return {"text": text, "filled": said.text, "blanks": guesses}


def _lines(file: TextIO, task: str, texts: Sequence[str], said: Sequence[Any]) -> None:
    for text, each in zip(texts, said, strict=True):
        print(json.dumps(record(task, text, each), ensure_ascii=False), file=file)


def _write(output: Path, task: str, texts: Sequence[str], said: Sequence[Any]) -> None:
    try:
        if output.suffix == ".jsonl":
            with output.open("w", encoding="utf-8") as file:
                _lines(file, task, texts, said)
            return
        import numpy as np

        arrays: dict[str, Any] = {"texts": np.array(texts)}
        for number, each in enumerate(said):
            arrays[f"tokens_{number}"] = np.array(each.tokens)
            arrays[f"vectors_{number}"] = each.values.numpy()
        np.savez(output, **arrays)
    except OSError as fault:
        raise Refusal(f"--output={output} cannot be written: {fault.strerror}") from None


def _cells(task: str, said: Any) -> tuple[str, str]:
    """What is said, and what there is to say about it."""
    if task == "vectors":
        shape = " × ".join(map(str, said.values.shape))
        return f"{shape} numbers", "--output=FILE.npz or --json gives them"
    if task == "replaced":
        doubted = [f"{token} {share:.2f}" for token, share in zip(said.tokens, said.probabilities, strict=True)]
        most = [token for token, share in zip(said.tokens, said.probabilities, strict=True) if share > 0.5]
        return ", ".join(most) or "none", ", ".join(doubted)
    if isinstance(said, str):
        return said, ""
    return said.text, "\n".join(
        ", ".join(f"{guess.token} {guess.probability:.2f}" for guess in blank) for blank in said.blanks
    )


_HEADS = {
    "judge": ("answer", ""),
    "fill": ("filled", "guesses for each blank"),
    "replaced": ("replaced?", "probability of each token"),
    "vectors": ("vectors", ""),
}


def _table(task: str, texts: Sequence[str], said: Sequence[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("text", *filter(None, _HEADS.get(task, ("written", ""))), show_lines=True)
    for text, each in zip(texts, said, strict=True):
        table.add_row(text, *[cell for cell in _cells(task, each) if cell][: len(table.columns) - 1])
    Console().print(table, markup=False)


def _plain(task: str, texts: Sequence[str], said: Sequence[Any]) -> None:
    """A line for each text, its parts between tabs."""
    for text, each in zip(texts, said, strict=True):
        answer, about = _cells(task, each)
        parts = [text, answer, *([about.replace("\n", "; ")] if about else [])]
        print("\t".join(" ".join(part.split()) for part in parts))
