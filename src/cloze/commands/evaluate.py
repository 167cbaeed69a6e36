"""`cloze evaluate`: perplexity per token and per word, bits per byte, of a whole split."""

from __future__ import annotations

import argparse
import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloze.errors import Refusal, did_you_mean

if TYPE_CHECKING:
    from cloze.data.base import Corpus
    from cloze.evaluation import Evaluation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `cloze evaluate` understands."""
    parser.add_argument("run", help="a run's folder, a Hugging Face directory, or a name on its hub")
    parser.add_argument(
        "--split", default="validation", help="train, validation (default), test, or what else the data has"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="WORDS",
        help="text other than the run's own: data=text data.path=…, as for training",
    )
    parser.add_argument(
        "--stride", type=int, metavar="N", help="windows begin N tokens apart and overlap (default: side by side)"
    )
    parser.add_argument("--length", type=int, metavar="N", help="tokens of a window (default: the run's length)")
    parser.add_argument("--json", action="store_true", help="one JSON object for each figure's direction")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, …")


def run(given: argparse.Namespace) -> int:
    """Does what the arguments say. Raises Refusal, one sentence, where that cannot be."""
    if _learnt_from_labels(given.run):
        return _judge(given)
    if given.split not in ("train", "validation", "test"):
        raise Refusal(f"--split {given.split} is not there{did_you_mean(given.split, ('train', 'validation', 'test'))}")
    corpus, cache = _corpus(given.run, given.data)
    from cloze.commands.devices import device
    from cloze.data.store import tokenized
    from cloze.evaluation import evaluate
    from cloze.loading import load

    loaded = load(given.run, device(given.device))
    text = tokenized(corpus, given.split, loaded.tokenizer, cache, say=lambda line: None)
    found = evaluate(loaded, text, given.stride, given.length)
    for each in found:
        if given.json:
            print(json.dumps({"split": given.split, **each.figures()}, ensure_ascii=False))
        else:
            print("\n".join(lines(each, corpus.announcement, given.split)))
    return 0


def _learnt_from_labels(run: str) -> bool:
    """Whether a run's own record says that it was fine-tuned on labelled data."""
    from cloze.folder import RunFolder

    folder = Path(run).expanduser()
    return bool(RunFolder(folder).facts().get("scores") is not None or (folder / "predictions").is_dir())


def _judge(given: argparse.Namespace) -> int:
    """A fine-tuned run on a split of its task, or of other data with the same labels."""
    from cloze import downstream
    from cloze.folder import RunFolder
    from cloze.run import again

    if given.stride is not None or given.length is not None:
        raise Refusal(
            "--stride and --length have no effect on a run that was fine-tuned: they are of the perplexity of texts"
        )
    run = Path(given.run).expanduser()
    prepared = again(run, given.data)
    precision = RunFolder(run).facts().get("hardware", {}).get("precision", "32")
    say = (lambda line: None) if given.json else print
    for outcome in downstream.outcomes(prepared, (given.split,), precision, say):
        if given.json:
            print(json.dumps({"split": outcome.split, "examples": outcome.examples, **outcome.figures}))
    return 0


def lines(found: Evaluation, announcement: str, split: str) -> list[str]:
    """The figures and how they were measured, for people."""
    size = f"{found.tokens:,} tokens"
    if found.words:
        size += f", {found.words:,} words, {found.bytes:,} bytes"
    said = [f"text        {split} of {announcement}", f"            {size}", f"protocol    {found.protocol}"]
    kind = "pseudo-perplexity" if found.direction == "pseudo" else "perplexity"
    figures = [f"{found.perplexity:.4g} per token ({found.scored:,} scored)"]
    if found.perplexity_per_word is not None:
        figures.append(f"{found.perplexity_per_word:.4g} per word")
    said.append(f"{kind:<11} {', '.join(figures)}")
    if found.bits_per_byte is not None:
        said.append(f"bits        {found.bits_per_byte:.4f} per byte, {found.bits_per_character:.4f} per character")
    if found.direction == "pseudo":
        said.append(
            "            no probability of a text: it compares with other pseudo-perplexities of the same tokens only"
        )
    if found.unknown:
        share = 100 * found.unknown / found.tokens
        said.append(
            f"unknown     {share:.2f} % of the tokens are the one for unknown words: what they hide is not counted, which flatters"
        )
    return said


def _corpus(run: str, words: Sequence[str]) -> tuple[Corpus, Path]:
    """The corpus that the words describe, or the run's own with the words' changes; and where tokenised text is kept."""
    from cloze.compose import as_settings, compose, parse
    from cloze.folder import RunFolder
    from cloze.schema import Node, faults, locate

    for override in parse(words):
        if override.key_or_group.split(".")[0] not in ("data", "cache_dir", "trusted"):
            raise Refusal(
                f"{override.input_line} has no effect here: --data takes words of data, such as data=text data.path=…"
            )
    folder = Path(run).expanduser()
    folder = folder.parent if folder.name == "model" and not (folder / "run.json").exists() else folder
    facts = RunFolder(folder).facts().get("provenance", {})
    recorded = list(facts.get("words") or [])
    if not recorded and not words:
        raise Refusal(f"{run} does not know what text it was trained on; say what to evaluate it on: --data data=…")
    now = {word.partition("=")[0] for word in words}
    if "data" in now:  # settings of another corpus are none of this one's
        recorded = [word for word in recorded if not word.startswith("data.")]
    recorded = [word for word in recorded if word.partition("=")[0] not in now | {"init", "resume", "output_dir"}]
    settings = as_settings(compose([*recorded, *words]).config)
    node: dict[str, Any] = dict(settings["data"])
    if "data" not in now:
        node = {
            name: value if f"data.{name}" in now else _where_it_lies(name, value, facts.get("directory"))
            for name, value in node.items()
        }
    trusted = settings["trusted"]
    built = locate(node.pop("_target_", None), "data", trusted)
    if found := faults([built], node, "data"):
        raise Refusal("\n".join(found))
    corpus: Corpus = Node("data", built, node).build()
    return corpus, Path(settings["cache_dir"])


def _where_it_lies(name: str, value: Any, directory: str | None) -> Any:
    """A setting that names files as it is understood here: what the run's words said was relative to the folder it was started in.
    Raises Refusal where nothing of that name is here and the run does not say which folder that was."""
    if not isinstance(value, str) or Path(value).expanduser().is_absolute():
        return value
    if name == "name":  # of Hugging Face: a file, or a name on the hub
        return str(Path(directory, value)) if directory and Path(directory, value).exists() else value
    if name != "path" and not name.endswith("_path"):
        return value
    found = [where for where in (directory, ".") if where is not None and _is_there(Path(where, value))]
    if not found and directory is None:
        raise Refusal(
            f"data.{name}={value} is not here, and this run does not say in which folder it was started: go there, or say where the "
            f"text lies, --data data.{name}=…"
        )
    return value if found[:1] == ["."] else str(Path(directory or ".", value))


def _is_there(path: Path) -> bool:
    """Whether a file, a folder or something that a pattern matches is there."""
    return path.exists() or bool(glob.glob(str(path), recursive=True))  # noqa: PTH207  (an absolute pattern is one too)
