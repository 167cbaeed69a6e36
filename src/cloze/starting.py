"""`init=SOURCE` without `model=`: the family is the one that lies there, and so are its objective and optimizer.

Hydra composes a family's own defaults only where the family is named, so the word is added before anything is composed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cloze.compose import choices, parse, target
from cloze.errors import Refusal


def with_family(words: Sequence[str]) -> list[str]:
    """The words, `model=CHOICE` first where only `init=` says what the model is.

    As they are where a model or an experiment is named, and where the source holds a class of the user's own, which no choice
    builds. Raises Refusal where there is no such source.
    """
    if not any(word.lstrip("+").startswith("init=") for word in words):
        return list(words)
    said = {override.key_or_group: override for override in parse(words)}
    if said.keys() & {"model", "experiment", "model._target_"} or said["init"].is_sweep_override():
        return list(words)
    source = said["init"].value()
    if not isinstance(source, str):
        return list(words)  # refused, or no start at all, where the setting is read
    refuse_architecture(said, source)
    choice = _choice(source)
    return list(words) if choice is None else [f"model={choice}", *words]


def complete(words: Sequence[str]) -> tuple[list[str], str]:
    """The whole sentence: its model, where only `init=` says it, and for labelled data the recipe's words; and what to say of those."""
    from cloze.recipes import completed

    return completed(with_family(words))


def refuse_architecture(said: Iterable[str], source: str) -> None:
    """Raises Refusal where one of the settings that were `said` decides what `init=` decides already."""
    for key in said:
        if key in ("size", "tokenizer") or key.startswith(("size.", "tokenizer.")):
            raise Refusal(f"{key}=… has no effect with init={source}: architecture and tokenizer come from there")


def _choice(source: str) -> str | None:
    """The choice of the model group that builds what a source describes; its weights are not read."""
    from cloze.environment import prepare

    prepare()
    from cloze.loading import families
    from cloze.models import checkpoints, storage

    folder = checkpoints.located(source)
    config = storage.read_json(folder / storage.CONFIG)
    if "cloze" in config:
        node = config.get("model")
        built = node.get("_target_") if isinstance(node, dict) else None
    else:
        family = families().get(str(config.get("model_type")))
        built = family and f"{family.__module__}.{family.__qualname__}"
    able = [name for name in choices("model") if built and target("model", name) == built]
    return next((name for name in able if name in _recorded(folder)), able[0] if able else None)


def _recorded(folder: Path) -> list[str]:
    """The model that the run's own words name, where the folder is a run's."""
    from cloze.folder import RunFolder

    provenance = RunFolder(folder.parent).facts().get("provenance")
    words = provenance.get("words") if isinstance(provenance, dict) else None
    return [str(word).partition("=")[2] for word in words or [] if str(word).startswith("model=")]
