"""The index of examples of a large corpus, made once and kept beside the token store, as memory-mapped arrays.

An index's address is the digest of all that decides it: the text, the builder (its class, its settings and the source code that
it is made of), and the seed. So a changed objective never meets an index that it would not have made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Mapping
from functools import cache as remembered
from pathlib import Path
from typing import Any

import numpy as np

from cloze.data import cache as caches
from cloze.data import keyed
from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.errors import RunFailure
from cloze.objectives.base import ExampleBuilder, Examples

FORMAT = 1
SMALL = 4_000_000  # tokens of a corpus up to which its index is made anew: a second's work, some megabytes


class Indexed(Examples):
    """Examples that lie in a folder: to another process they travel as its name."""

    folder: Path | None = None

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self.folder is None:
            return super().__reduce__()
        return opened, (self.corpus, self.folder)


def indexed(
    builder: ExampleBuilder, corpus: TokenizedCorpus, seed: int, settings: Mapping[str, Any], cache: Path
) -> Examples:
    """`builder.build(corpus, seed)`, from the cache where the corpus is a large one. `settings` are those of the builder.

    Raises Refusal where the corpus cannot serve the objective or the cache cannot be written.
    """
    code = _code(type(builder))
    if corpus.folder is None or len(corpus.tokens) <= SMALL or code is None:
        return builder.build(corpus, seed)
    kind = f"{type(builder).__module__}.{type(builder).__qualname__}"
    state = {name: _plain(value) for name, value in vars(builder).items()}  # settings, and what `judge` makes of them
    folder = cache / "examples" / caches.digest(
        "examples", FORMAT, corpus.fingerprint, kind, code, _plain(dict(settings)), state, builder.length,
        _plain(builder.vocabulary), seed,
    )  # fmt: skip

    def build(temporary: Path) -> dict[str, Any]:
        examples = builder.build(corpus, seed)
        facts: dict[str, Any] = {}
        for field in dataclasses.fields(examples):
            value = getattr(examples, field.name)
            if isinstance(value, np.ndarray):
                np.save(temporary / f"{field.name}.npy", value)
            elif field.name != "corpus":
                facts[field.name] = value
        return {"fields": facts}

    caches.obtain(folder, build)
    return opened(corpus, folder)


def opened(corpus: TokenizedCorpus, folder: Path) -> Indexed:
    """An index that is there, by its folder. Raises RunFailure where it is not whole."""
    facts = caches.verified(folder)
    if facts is None:
        raise RunFailure(f"{folder} is not a whole index of examples")
    fields = {**facts["fields"], "notes": tuple(facts["fields"]["notes"])}
    for name in facts["files"]:
        fields[name.removesuffix(".npy")] = np.asarray(np.load(folder / name, mmap_mode="r"))  # views are cheaper so
    examples = Indexed(corpus, **fields)
    examples.folder = folder
    return examples


def _plain(value: Any) -> Any:
    """A setting as JSON can hold it, the same in every process; of what is no setting (an object) its kind alone."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Vocabulary):
        return [value.size, sorted(value.special.items()), value.sentinels]
    if isinstance(value, Mapping):
        return sorted((str(name), _plain(each)) for name, each in value.items())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, np.ndarray):
        return hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
    if isinstance(value, Path):
        return str(value)
    return f"{type(value).__module__}.{type(value).__qualname__}"


@remembered
def _code(kind: type[ExampleBuilder]) -> str | None:
    """Digest of the source files that a builder is made of: those of its class, its parents and what lies beside them.

    None where there are none to read (a class that was typed in).
    """
    files = {Path(keyed.__file__)}
    for each in kind.__mro__:
        if each.__module__ in ("builtins", "abc", "typing"):
            continue
        name = getattr(sys.modules.get(each.__module__), "__file__", None)
        if name is None or not Path(name).is_file():
            return None
        files.add(Path(name))
        if "." in each.__module__:
            files.update(Path(name).parent.glob("*.py"))
    return caches.digest([hashlib.blake2b(path.read_bytes()).hexdigest() for path in sorted(files)])
