"""Several labelled tasks as one corpus, for multi-task fine-tuning with a head for each (Liu et al. 2019, https://arxiv.org/abs/1901.11504).

Temperature mixing (Raffel et al. 2019, https://arxiv.org/abs/1910.10683, section 3.5.2): a task with n examples has a share in
proportion to min(n, limit) ** (1 / temperature). No example is left out for it: those of smaller tasks are repeated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloze.compose import choices, defaults
from cloze.data import cache as caches
from cloze.data.base import Labelled, Labels, Record, TaskCorpus
from cloze.errors import Refusal, did_you_mean
from cloze.schema import Node, faults, locate


class Several(TaskCorpus):
    """The tasks `of`, each a choice of the group data. `settings` are those of each by its name; `path` is that of each which has one
    and is told no other."""

    reads = Labelled
    name = "several"

    def __init__(
        self,
        of: list[str],
        settings: dict[str, dict[str, Any]] | None = None,
        path: str | None = None,
        temperature: float = 1.0,
        limit: int | None = None,
    ) -> None:
        if len(of) < 2 or len(set(of)) < len(of):
            raise Refusal(
                f"data.of={of} must name two tasks or more, each once: data.of=[glue/mrpc,glue/rte], for example."
            )
        if not temperature >= 1:
            raise Refusal(
                f"data.temperature={temperature} must be at least 1: 1 mixes by size, more evens the tasks out."
            )
        if limit is not None and limit < 1:
            raise Refusal(f"data.limit={limit} must be at least 1, or null.")
        self.temperature, self.limit = temperature, limit
        said = settings or {}
        for name in said:
            if name not in of:
                raise Refusal(
                    f"data.settings.{name} has no effect: data.of={of} does not name it{did_you_mean(name, of)}"
                )
        built = {choice: _built(choice, said.get(choice, {}), path) for choice in of}
        plain = [corpus.name for corpus in built.values()]
        self.corpora = {
            corpus.name if plain.count(corpus.name) == 1 else choice.replace("/", "_"): corpus
            for choice, corpus in built.items()
        }

    @property
    def announcement(self) -> str:
        return "\n".join(corpus.announcement for corpus in self.corpora.values())

    def fingerprint(self) -> str:
        return caches.digest("several", {name: corpus.fingerprint() for name, corpus in self.corpora.items()})

    @property
    def labels(self) -> dict[str, Labels]:
        return {name: next(iter(corpus.labels.values())) for name, corpus in self.corpora.items()}

    def splits(self) -> tuple[str, ...]:
        every = [split for corpus in self.corpora.values() for split in corpus.splits()]
        return tuple(dict.fromkeys(every))

    def split_records(self, split: str) -> Iterator[Record]:
        for name, corpus in self.corpora.items():
            if split in corpus.splits():
                for record in corpus.split_records(split):
                    assert isinstance(record, Labelled)
                    yield dataclasses.replace(record, task=name)

    def notes(self) -> list[str]:
        return [f"{name}: {note}" for name, corpus in self.corpora.items() for note in corpus.notes()]

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        files: dict[str, str] = {}
        for name, corpus in self.corpora.items():
            own = [
                (record, prediction)
                for record, prediction in zip(records, predictions, strict=True)
                if isinstance(record, Labelled) and record.task == name
            ]
            if own:
                files |= corpus.submission(split, [record for record, _ in own], [said for _, said in own])
        return files

    def times(self, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """How often each task's examples are repeated, for tasks of these sizes; 1 for the one whose share grows least."""
        shares = np.minimum(sizes, self.limit or np.inf) ** (1 / self.temperature)
        repeated = shares / np.maximum(sizes, 1)
        return np.asarray(repeated / repeated[sizes > 0].min(), np.float64)


def _built(choice: str, settings: Mapping[str, Any], path: str | None) -> TaskCorpus:
    """The corpus of a choice. Raises Refusal where it is not there, is not one of labelled texts, or is missing a setting."""
    if choice not in choices("data"):
        raise Refusal(f"data.of: {choice} is not there{did_you_mean(choice, choices('data'))}")
    node = {**defaults("data", choice), **settings}
    if path is not None and "path" in node and "path" not in settings:
        node["path"] = path
    missing = [name for name, value in node.items() if value == "???"]
    if missing:
        asked = f"'data.settings={{{choice}: {{{missing[0]}: …}}}}'"  # a key with a slash cannot be said with dots
        raise Refusal(f"data.of: {choice} needs {', '.join(missing)}: {asked}")
    kind = locate(node.pop("_target_", None), f"data.settings.{choice}")
    if not (issubclass(kind, TaskCorpus) and issubclass(kind.reads, Labelled)):
        raise Refusal(f"data.of: {choice} has no labelled texts; only such tasks can be learnt together.")
    if wrong := faults([kind], node, f"data.settings.{choice}"):
        raise Refusal("\n".join(wrong))
    corpus: TaskCorpus = Node("data", kind, node).build()
    return corpus
