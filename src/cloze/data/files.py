"""The user's files: finding them, opening them whatever they are packed with, and reading their lines with their places.

A fault names the file, the line, the byte and what to do. Lines end at \\n or \\r\\n and nowhere else; a byte order mark is dropped.
"""

from __future__ import annotations

import codecs
import contextlib
import glob
import io
import lzma
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cloze.errors import Refusal, nearest

KINDS = (".txt", ".md", ".jsonl", ".csv", ".tsv")
PACKED = (".gz", ".zst", ".xz", ".bz2")
LONGEST = 16 << 20  # bytes after which a line is cut, at a space where there is one: memory stays bounded

_WIKI = re.compile(r"wiki_\d+$")
_MAGIC = {
    b"\x1f\x8b": "gzip-compressed: name it .gz",
    b"\x28\xb5\x2f\xfd": "Zstandard-compressed: name it .zst",
    b"\xfd7zXZ\x00": "xz-compressed: name it .xz",
    b"BZh": "bzip2-compressed: name it .bz2",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"PAR1": "a Parquet file: data=huggingface reads it",
    b"%PDF": "a PDF: extract its text",
    b"\x7fELF": "a program, not text",
    b"\x89PNG": "a picture, not text",
    b"\xff\xd8\xff": "a picture, not text",
    b"SQLite format 3": "a database, not text",
}
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_UNPACKING_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)


@dataclass(frozen=True)
class File:
    """A file of the corpus. `kind` is its extension without that of the packing (".txt" where there is none)."""

    path: Path
    kind: str
    packing: str  # "" = none
    size: int

    def __str__(self) -> str:
        return str(self.path)


class Bad(ValueError):
    """What is wrong with a line, and the byte in the file (unpacked) where it shows."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


# ------------------------------------------------------------------------------------------------------- finding


def find(setting: str, value: str) -> list[File]:
    """The files that a path, a folder or a glob names, sorted; empty ones are left out. Raises Refusal where there are none."""
    path = Path(value).expanduser()
    if path.is_dir():
        found = [_file(each) for each in _below(path) if _is_text(each)]
        if not found:
            seen = sorted({each.suffix or each.name for each in _below(path)})[:8]
            there = f"; it holds {', '.join(seen)}" if seen else "; it is empty"
            raise Refusal(
                f"{setting}={value}: no {', '.join(KINDS)} or wiki_00 file in this folder (plain or {', '.join(PACKED)}){there}"
            )
    elif path.exists():
        if not path.is_file():
            raise Refusal(f"{setting}={value} is neither a file nor a folder")
        found = [_file(path)]
    elif glob.has_magic(value):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  (an absolute pattern is one too)
        found = [_file(Path(match)) for match in matches if Path(match).is_file()]
        if not found:
            raise Refusal(f"{setting}={value}: no file matches" + (f" ({matches[0]} is a folder)" if matches else ""))
    else:
        raise Refusal(f"{setting}={value} not found{_near(path)}")
    whole = sorted((file for file in found if file.size), key=lambda file: str(file.path))
    if not whole:
        raise Refusal(
            f"{setting}={value} is empty" if len(found) == 1 else f"{setting}={value}: all {len(found)} files are empty"
        )
    return whole


def _below(path: Path) -> Iterator[Path]:
    """All files below a folder but the hidden ones."""
    for folder, below, names in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def _near(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        while parent != parent.parent and not parent.is_dir():
            parent = parent.parent
        return f": there is no {path.parent}; the folder {parent} exists"
    with contextlib.suppress(OSError):
        guess = nearest(path.name, (each.name for each in parent.iterdir()))
        if guess:
            return f"; did you mean {parent / guess}?"
    return ""


def _is_text(path: Path) -> bool:
    name = path.with_suffix("") if path.suffix in PACKED else path
    return name.suffix.lower() in KINDS or bool(_WIKI.match(name.name))


def _file(path: Path) -> File:
    packing = path.suffix.lower() if path.suffix.lower() in PACKED else ""
    kind = (path.with_suffix("") if packing else path).suffix.lower()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror}") from error
    return File(path, kind if kind in KINDS else ".txt", packing, size)


# ------------------------------------------------------------------------------------------------------- opening


def open_file(file: File) -> IO[bytes]:
    """The unpacked bytes."""
    try:
        if file.packing == ".gz":
            import gzip

            return io.BufferedReader(gzip.open(file.path))
        if file.packing == ".xz":
            return io.BufferedReader(lzma.open(file.path))
        if file.packing == ".bz2":
            import bz2

            return io.BufferedReader(bz2.open(file.path))
        if file.packing == ".zst":
            return io.BufferedReader(_zstandard(file))
        return file.path.open("rb")
    except OSError as error:
        raise Refusal(f"{file} cannot be read: {error.strerror or error}") from error


def _zstandard(file: File) -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise Refusal(f"{file}: reading .zst needs the package zstandard (pip install zstandard)") from error
    return zstandard.ZstdDecompressor().stream_reader(file.path.open("rb"), read_across_frames=True, closefd=True)


def beginning(file: File, size: int = 1 << 16) -> bytes:
    """The first bytes, unpacked. Raises Refusal where the file is not what its name says."""
    with open_file(file) as stream, _damage_told(file):
        first = stream.read(size)
    for magic, what in _MAGIC.items():
        if first.startswith(magic):
            raise Refusal(f"{file}, line 1, byte 0: this is {what}")
    return first


@contextlib.contextmanager
def _damage_told(file: File) -> Iterator[None]:
    """What unpacking raises, as a Refusal that names the file."""
    try:
        yield
    except Exception as error:
        # by its name: the package of Zstandard need not be there
        if not isinstance(error, _UNPACKING_ERRORS) and type(error).__name__ != "ZstdError":
            raise
        what = f"is not a whole {file.packing} file" if file.packing else "cannot be read"
        raise Refusal(f"{file} {what}: {error}") from error


# ------------------------------------------------------------------------------------------------------- lines


def is_wide(encoding: str) -> bool:
    """Whether a line end is more than one byte in this encoding (UTF-16, UTF-32)."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def lines(file: File, encoding: str, start: int = 0) -> Iterator[tuple[int, str | Bad]]:
    """(offset, text without its end, or what is wrong with it) of each line that begins at `start` or after it.

    Offsets count unpacked bytes (those of its UTF-8 form where the encoding is a wide one). A line longer than `LONGEST` comes in
    pieces.
    """
    with open_file(file) as stream, _damage_told(file):
        if is_wide(encoding):
            yield from _wide_lines(stream, encoding)
            return
        offset = start
        if start:
            stream.seek(start - 1)
            offset = start - 1 + _skip_line(stream)
        rest = b""
        while True:
            line = rest + stream.readline(LONGEST - len(rest))
            if not line:
                return
            rest = b""
            if len(line) >= LONGEST and not line.endswith(b"\n"):
                cut = line.rfind(b" ") + 1 or _character_end(line)
                line, rest = line[:cut], line[cut:]
            yield offset, _decoded(line, encoding, offset)
            offset += len(line)


def _skip_line(stream: IO[bytes]) -> int:
    skipped = 0
    while piece := stream.readline(LONGEST):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _character_end(line: bytes) -> int:
    """Where the last character that is surely whole ends, in UTF-8 (in other encodings: the end)."""
    end = len(line)
    while end > len(line) - 4 and line[end - 1] & 0xC0 == 0x80:
        end -= 1
    return end - 1 if line[end - 1] >= 0xC0 else len(line)


def _decoded(line: bytes, encoding: str, offset: int) -> str | Bad:
    if line.endswith(b"\n"):
        line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
    if offset == 0 and line.startswith(codecs.BOM_UTF8):
        line = line[3:]
        offset = 3
    if b"\0" in line:
        return Bad(f"a NUL byte{_guess(line)}", offset + line.index(b"\0"))
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        return Bad(f"byte 0x{line[error.start]:02x} is not {encoding}{_guess(line)}", offset + error.start)


def _guess(line: bytes) -> str:
    """A hint at what such bytes are."""
    sample = line[: 1 << 16]
    for mark, name in _MARKS.items():
        if sample.startswith(mark):
            return f"; it looks like {name}: data.encoding={name}"
    nothing = sample.count(0)
    if nothing > len(sample) / 4:
        name = "utf-16-be" if sample[::2].count(0) > nothing / 2 else "utf-16-le"
        return f"; it looks like {name}: data.encoding={name}"
    if nothing:
        return "; is this a text file?"
    if sum(byte < 32 and byte not in b"\t\r\n\f\v" for byte in sample) > len(sample) / 20:
        return "; it looks like binary data, not text"
    for name in ("utf-8", "latin-1" if not any(0x80 <= byte < 0xA0 for byte in sample) else "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            sample.decode(name)
            return f"; it may be {name}: data.encoding={name}"
    return "; it looks like binary data, not text"


def _wide_lines(stream: IO[bytes], encoding: str) -> Iterator[tuple[int, str | Bad]]:
    offset = 0
    text = io.TextIOWrapper(stream, encoding, newline="\n")
    while True:
        try:
            line = text.readline(LONGEST)
        except UnicodeError as error:
            yield offset, Bad(f"not {encoding} ({error})", offset)
            return
        if not line:
            return
        yield offset, line.removesuffix("\n").removesuffix("\r").removeprefix("\ufeff")
        offset += len(line.encode("utf-8", "surrogatepass"))


def line_number(file: File, encoding: str, offset: int) -> int:
    """The number, from 1, of the line that holds the byte `offset`."""
    if is_wide(encoding):
        return sum(1 for start, _ in lines(file, encoding) if start <= offset) or 1
    number, left = 1, offset
    with open_file(file) as stream:
        while left > 0 and (block := stream.read(min(left, 1 << 20))):
            number += block.count(b"\n")
            left -= len(block)
    return number
