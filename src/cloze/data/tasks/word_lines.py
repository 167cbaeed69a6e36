"""Sentences whose words stand one to a line, or two lists to a line: CoNLL-U, CoNLL columns, MSRA's TSV.

CoNLL-U: https://universaldependencies.org/format.html. CoNLL columns: https://aclanthology.org/W03-0419.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cloze.data.files import Bad, File, beginning, lines
from cloze.data.tasks.fields import Fault
from cloze.errors import Refusal, did_you_mean

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
Column = str | int | None

_WORD = re.compile(r"[0-9]+")
_RANGE = re.compile(r"[0-9]+-([0-9]+)")
_EMPTY_NODE = re.compile(r"[0-9]+\.[0-9]+")
_COMMENT = re.compile(r"#\s*(newdoc|newpar|text\s*=)(.*)")
_DOCSTART = "-DOCSTART-"


@dataclass
class Sentence:
    """`tags` are None where the file has none. `rows` are its lines as they stand there, each with the number of its word, or -1."""

    words: list[str] = field(default_factory=list)
    tags: list[str] | None = None
    numbers: list[int] = field(default_factory=list)  # the line of each word
    text: str | None = None
    begins_document: bool = False
    begins_paragraph: bool = False
    rows: list[tuple[str, int]] = field(default_factory=list)


Told = Callable[[int, str], None]  # what is to be done about a line that is malformed: its number, and what is wrong
Reader = Callable[[File, str, Column, int, Told], Iterator[Sentence]]


def conllu(file: File, encoding: str, column: Column, word_column: int, told: Told) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file. Words are the syntactic ones: of "don't" 1-2, do 1, n't 2, the last two. Empty nodes are none."""
    at = _conllu_column(column)
    document = paragraph = False  # what a block without words, or one that is left out, has begun
    for block in _blocks(file, encoding, told):
        sentence = Sentence(tags=[], begins_document=document, begins_paragraph=paragraph)
        pieces: list[str] = []  # of the running text, where the file does not say it
        covered = 0  # the last word of the range that is being read
        try:
            for number, line in block:
                if line.startswith("#"):
                    _heed(line, sentence)
                    sentence.rows.append((line, -1))
                    continue
                cells = line.split("\t")
                if len(cells) != len(CONLLU):
                    raise _At(number, f"{len(cells)} columns, where CoNLL-U has {len(CONLLU)}, with a tab between two")
                is_word = bool(_WORD.fullmatch(cells[0]))
                spans = _RANGE.fullmatch(cells[0])
                if not is_word and not spans and not _EMPTY_NODE.fullmatch(cells[0]):
                    raise _At(
                        number, f"{cells[0]!r} is not the number of a word (1), a range (1-2) or an empty node (1.1)"
                    )
                if spans:
                    covered = int(spans[1])
                if spans or (is_word and int(cells[0]) > covered):
                    pieces.append(cells[1] + ("" if "SpaceAfter=No" in cells[9].split("|") else " "))
                if is_word:
                    _add(sentence, number, cells[1], cells[at])
                sentence.rows.append((line, len(sentence.words) - 1 if is_word else -1))
        except _At as fault:
            told(fault.number, str(fault))
            sentence.words.clear()
        document, paragraph = sentence.begins_document, sentence.begins_paragraph
        if not sentence.words:
            continue
        document = paragraph = False
        if set(sentence.tags or ()) == {"_"}:
            sentence.tags = None
        if sentence.text is None:
            sentence.text = "".join(pieces).strip()
        yield sentence


def columns(file: File, encoding: str, column: Column, word_column: int, told: Told) -> Iterator[Sentence]:
    """The sentences of a file with columns that tabs, or else spaces, stand between. Lines that hold nothing else end a sentence."""
    if isinstance(column, str):
        raise Refusal(
            f"data.column={column} names a column of CoNLL-U; of {file} give a number (1 is the first), or null for the last"
        )
    first: tuple[int, int] | None = None  # how many columns, and the line that says so
    tabs = False
    document, preface = False, list[tuple[str, int]]()
    for block in _blocks(file, encoding, told):
        sentence = Sentence(tags=[])
        try:
            for number, line in block:
                if line.split(maxsplit=1)[0] == _DOCSTART:
                    document = True
                    preface.append((line, -1))
                    continue
                if first is None:
                    tabs = "\t" in line
                cells = line.split("\t") if tabs else re.split(r"[ \t]+", line.strip(" \t"))
                first = first or (len(cells), number)
                if len(cells) != first[0]:
                    raise _At(number, f"{_many(len(cells))}, where line {first[1]} has {first[0]}")
                at = len(cells) if column is None else column
                if not 1 <= word_column <= len(cells):
                    raise _At(
                        number, f"there is no column data.word_column={word_column}: the file has {_many(len(cells))}"
                    )
                has_tag = 1 <= at <= len(cells) and at != word_column
                _add(sentence, number, cells[word_column - 1], cells[at - 1] if has_tag else None)
                sentence.rows.append((line, len(sentence.words) - 1))
        except _At as fault:
            told(fault.number, str(fault))
            continue
        if sentence.words:
            sentence.begins_document = document
            if preface:
                sentence.rows[:0] = [*preface, ("", -1)]
            document, preface = False, []
            yield sentence


def two_lists(file: File, encoding: str, column: Column, word_column: int, told: Told) -> Iterator[Sentence]:
    """The sentences of a TSV file with a header: words in `text_a`, tags in `label`, a space between two."""
    beginning(file)
    header: list[str] = []
    for number, (_, line) in enumerate(lines(file, encoding), start=1):
        if isinstance(line, Bad):
            told(number, f"byte {line.offset}: {line.reason}")
            continue
        cells = line.split("\t")
        if number == 1:
            header = [cell.strip() for cell in cells]
            if "text_a" not in header:
                raise Refusal(f"{file}, line 1: no column text_a{did_you_mean('text_a', header)}")
            continue
        if not line.strip():
            continue
        if len(cells) != len(header):
            told(number, f"{_many(len(cells))}, where the header has {len(header)}")
            continue
        row = dict(zip(header, cells, strict=True))
        words = row["text_a"].strip(" ").split(" ")
        tags = row["label"].strip(" ").split(" ") if row.get("label") else None
        if "" in words or "" in (tags or ()):
            told(number, "two spaces stand together: an empty word or tag")
        elif tags is not None and len(tags) != len(words):
            told(number, f"{len(words)} words, {len(tags)} tags")
        else:
            yield Sentence(words, tags, [number] * len(words), rows=[(line, -1)])


class _At(Fault):
    def __init__(self, number: int, what: str) -> None:
        super().__init__(what)
        self.number = number


def _blocks(file: File, encoding: str, told: Told) -> Iterator[list[tuple[int, str]]]:
    """The lines between lines that hold only white space, with their numbers."""
    beginning(file)
    block: list[tuple[int, str]] = []
    whole = True
    for number, (_, line) in enumerate(lines(file, encoding), start=1):
        if isinstance(line, Bad):
            told(number, f"byte {line.offset}: {line.reason}")
            whole = False
        elif line.strip():
            block.append((number, line))
        else:
            if whole and block:
                yield block
            block, whole = [], True
    if whole and block:
        yield block


def _add(sentence: Sentence, number: int, word: str, tag: str | None) -> None:
    """One more word. Raises _At where it is empty, or has a tag where others have none, or the other way round."""
    if not word.strip():
        raise _At(number, "there is no word")
    if tag is not None and not tag.strip():
        raise _At(number, f"{word} has no tag")
    sentence.words.append(word)
    sentence.numbers.append(number)
    if tag is None:
        sentence.tags = None
    elif sentence.tags is not None:
        sentence.tags.append(tag.strip())


def _heed(line: str, sentence: Sentence) -> None:
    match = _COMMENT.match(line)
    if match is None:
        return
    if match[1] == "newdoc":
        sentence.begins_document = True
    elif match[1] == "newpar":
        sentence.begins_paragraph = True
    else:
        sentence.text = match[2].strip()


def conllu_with(row: str, column: Column, tag: str) -> str:
    """A line of CoNLL-U with another tag."""
    cells = row.split("\t")
    cells[_conllu_column(column)] = tag
    return "\t".join(cells)


def _conllu_column(column: Column) -> int:
    if column is None:
        return CONLLU.index("upos")
    if isinstance(column, int):
        if not 1 <= column <= len(CONLLU):
            raise Refusal(f"data.column={column} must be a name, or lie in 1 … {len(CONLLU)}: {', '.join(CONLLU)}")
        return column - 1
    if column.lower() not in CONLLU:
        raise Refusal(f"data.column={column} is not one of them{did_you_mean(column.lower(), CONLLU)}")
    return CONLLU.index(column.lower())


def _many(count: int) -> str:
    return f"{count} column{'s' * (count != 1)}"
