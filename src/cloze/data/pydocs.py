"""Real English prose that every Python carries: the help topics and the docstrings of the standard library.

It is read at run time from the user's own installation, docstrings from the source (`-OO` strips them from memory), and cleaned
into documents > paragraphs > sentences. Other versions of Python have other texts: results cannot be compared between machines,
which is why the announcement names the version and the fingerprint covers every byte read.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

from cloze.data import keyed
from cloze.data.base import Corpus, Split, Text
from cloze.data.sentences import split_sentences
from cloze.data.splits import checked_shares
from cloze.errors import Refusal, did_you_mean

_VERSION = 1  # of the cleaning
_SKIPPED = frozenset(
    "test tests testing idlelib lib2to3 encodings turtledemo ensurepip pydoc_data site-packages __pycache__".split()
)
_FUNCTION_WORDS = frozenset(
    """a about after all also an and any are as at be because been before being between both but by can cannot could did do does
    each either every for from had has have he how if in into is it its may might more most must no nor not of on one only or
    other our out over own same she should so some such than that the their them then there these they this those through to too
    under until up upon us used was we were what when where whether which while who whom whose why will with within without
    would you your""".split()
)
_WORD = re.compile(r"[A-Za-z]+(?:['’][a-z]+)?")
_MARKUP = (
    (re.compile(r":[a-z:+-]+:`~?([^`<]*?)(?:\s*<[^>`]*>)?`"), r"\1"),  # :class:`x`
    (re.compile(r"``([^`]*)``"), r"\1"),
    (re.compile(r"`([^`<]*?)(?:\s*<[^>`]*>)?`_?"), r"\1"),
    (re.compile(r"(?<!\w)\*{1,2}(\w(?:[^*\n]*\w)?)\*{1,2}(?!\w)"), r"\1"),  # *emphasis*
    (re.compile(r"\s*\[\d+\]_?"), ""),  # footnotes
)
_BULLET = re.compile(r"^(?:[*+•-]|\(?\d{1,2}[.)])\s+")


class Source(NamedTuple):
    """One document's source: a help topic's name, or a file of a package."""

    kind: str  # topic or file
    name: str
    group: str  # what the document's topic is called


class PyDocs(Corpus):
    """Help topics and docstrings of this Python, and of installed packages where asked for.

    packages: names of installed packages whose docstrings are read too (they are not imported).
    validation_share, test_share: share of documents for these splits. split_seed: which documents they are.
    """

    def __init__(
        self,
        packages: list[str] | None = None,
        validation_share: float = 0.05,
        test_share: float = 0.05,
        split_seed: int = 0,
    ) -> None:
        checked_shares(validation_share, test_share)
        self.packages = list(packages or ())
        self.validation_share = validation_share
        self.test_share = test_share
        self.split_seed = split_seed

    @property
    def announcement(self) -> str:
        topics = sum(source.kind == "topic" for source in self.sources)
        files = len(self.sources) - topics
        besides = f" and of {', '.join(self.packages)}" if self.packages else ""
        return (
            f"English prose of this Python {platform.python_version()}: {topics} help topics, docstrings of {files} source files "
            f"of the standard library{besides}; another version of Python has other texts"
        )

    def fingerprint(self) -> str:
        """Over the settings and every byte that is read."""
        digest = hashlib.sha256(f"{_VERSION} {self.validation_share} {self.test_share} {self.split_seed}".encode())
        for source in self.sources:
            digest.update(source.kind.encode() + _label(source).encode())
            digest.update(_content(source).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def parts(self, split: Split) -> Sequence[Source]:
        chosen = [source for source in self.sources if self._split_of(source) == split]
        share = {"validation": self.validation_share, "test": self.test_share}.get(split, 1.0)
        if not chosen and share:
            raise Refusal(f"data=pydocs found {len(self.sources)} sources, too few for a {split} split.")
        return chosen

    def read(self, part: Source) -> Iterator[Text]:
        """The part's document, where cleaning leaves at least two sentences of it."""
        text = _content(part)
        raw = [text] if part.kind == "topic" else list(docstrings(text))
        seen: set[str] = set()
        paragraphs = []
        for item in raw:
            for paragraph in clean_paragraphs(item):
                if paragraph not in seen:
                    seen.add(paragraph)
                    paragraphs.append(split_sentences(paragraph))
        if sum(map(len, paragraphs)) >= 2:
            sentences = [
                sentence + ("\n" if last and number < len(paragraphs) - 1 else "")
                for number, paragraph in enumerate(paragraphs)
                for sentence, last in zip(paragraph, [False] * (len(paragraph) - 1) + [True], strict=True)
            ]
            yield Text(tuple(sentences), part.group, _label(part))

    @cached_property
    def sources(self) -> list[Source]:
        """All that there is to read, in a fixed order. Raises Refusal where there is nothing, or a package is not installed."""
        found = [Source("topic", name, "help topics") for name in sorted(_topics())]
        library = Path(sysconfig.get_paths()["stdlib"])
        found += [Source("file", str(path), _group(path, library)) for path in _python_files(library)]
        if not found:
            raise Refusal(
                f"data=pydocs found neither pydoc_data.topics nor Python sources below {library}: this Python comes without them. "
                "Use data=world, or data=text data.path=…"
            )
        for package in self.packages:
            spec = importlib.util.find_spec(package) if package.isidentifier() else None
            if spec is None or not spec.submodule_search_locations:
                raise Refusal(
                    f"data.packages: {package} is not an installed package{did_you_mean(package, packages_distributions())}"
                )
            for folder in spec.submodule_search_locations:
                found += [Source("file", str(path), package) for path in _python_files(Path(folder))]
        return found

    def _split_of(self, source: Source) -> Split:
        """By a keyed draw from the document's name, so that a new document moves no other one."""
        share = keyed.key(self.split_seed, "pydocs", _label(source)) / 2**64
        if share < self.validation_share:
            return "validation"
        return "test" if share < self.validation_share + self.test_share else "train"


def _topics() -> dict[str, str]:
    try:
        from pydoc_data import topics
    except ImportError:  # some minimal installations leave it out
        return {}
    return dict(topics.topics)


def _python_files(folder: Path) -> list[Path]:
    """All sources below a folder that are not tests, tools or other packages."""
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        found += [Path(here, name) for name in files if name.endswith(".py")]
    return sorted(found)


def _group(path: Path, library: Path) -> str:
    return path.relative_to(library).parts[0].removesuffix(".py")


def _label(source: Source) -> str:
    """What identifies a source on any machine: no folder of this one."""
    if source.kind == "topic":
        return f"pydoc topic {source.name}"
    parts = Path(source.name).parts
    start = max(
        (at for at, part in enumerate(parts) if part == source.group or part == source.group + ".py"), default=-1
    )
    return "/".join(parts[start:])


def _content(source: Source) -> str:
    if source.kind == "topic":
        return _topics()[source.name]
    return Path(source.name).read_text(encoding="utf-8", errors="replace")


def docstrings(source: str) -> Iterator[str]:
    """The docstrings of a module's source, its own first, then in the order of the file. Nothing where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield text


def clean_paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of prose in a text with light markup, each on one line.

    Left out: what is indented (code, grammar, lists of parameters), headings, tables, doctests, and what has less than 85 % of
    letters, less than a fifth of function words, or no end of a sentence.
    """
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = block.split("\n")
        if block[:1].isspace() or ">>>" in block or "::=" in block or "|" in block:
            continue
        if any(re.fullmatch(r"\s*([=*~^\"#-])\1{2,}\s*", line) for line in lines) or any(
            re.search(r"\S {3,}\S", line) for line in lines
        ):
            continue
        paragraph = _BULLET.sub("", " ".join(block.split()))
        for pattern, replacement in _MARKUP:
            paragraph = pattern.sub(replacement, paragraph)
        if _is_prose(paragraph):
            yield paragraph


def _is_prose(paragraph: str) -> bool:
    if not paragraph.endswith((".", "!", "?", ":")):
        return False
    visible = paragraph.replace(" ", "")
    if sum(character.isalpha() for character in visible) < 0.85 * len(visible):
        return False
    words = [word.lower() for word in _WORD.findall(paragraph)]
    return len(words) >= 4 and sum(word in _FUNCTION_WORDS for word in words) >= 0.2 * len(words)
