"""Files inside of a zip archive, read where they lie: nothing is ever unpacked onto the disk.

What an archive says of itself is not believed further than it is safe: sizes are limited, declared and real.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from cloze.data.files import KINDS, File
from cloze.errors import Refusal

MEMBERS = 10_000
UNPACKED = 512 << 20  # bytes of all members together
RATIO = 200  # of a member larger than a MiB: text shrinks to a third or a tenth
_SMALL = 1 << 20


@dataclass(frozen=True)
class _Inside:
    """Where a member lies: what `File.path` is of it, as far as reading goes."""

    archive: Path
    member: str
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.member}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name

    def open(self, mode: str = "rb") -> IO[bytes]:
        try:
            with zipfile.ZipFile(self.archive) as archive, archive.open(self.member) as stream:
                content = stream.read(self.size + 1)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
            raise Refusal(f"{self} cannot be unpacked: {error}") from error
        if len(content) > self.size:
            raise Refusal(f"{self} holds more than the {self.size:,} bytes that the archive says")
        return io.BytesIO(content)


@dataclass(frozen=True)
class Member(File):
    """A file inside of an archive; to those who read it, a file like others."""

    archive: Path


def members(path: Path) -> list[Member]:
    """The files of a zip archive, sorted by name. Raises Refusal where it is none, is encrypted, or would unpack to too much."""
    try:
        with zipfile.ZipFile(path) as archive:
            held = [each for each in archive.infolist() if not each.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise Refusal(f"{path} is not a whole zip archive: {error}") from error
    if len(held) > MEMBERS:
        raise Refusal(f"{path} holds {len(held):,} files; at most {MEMBERS:,} are read")
    for each in held:
        place = PurePosixPath(each.filename.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts:
            raise Refusal(f"{path}: its member {each.filename!r} names a place outside of the archive")
        if each.flag_bits & 1:
            raise Refusal(f"{path}: its member {each.filename} is encrypted; unpack it")
        if each.file_size > _SMALL and each.file_size > RATIO * each.compress_size:
            raise Refusal(
                f"{path}: its member {each.filename} would unpack from {each.compress_size:,} to {each.file_size:,} bytes: "
                f"more than {RATIO}-fold, which no text does"
            )
    total = sum(each.file_size for each in held)
    if total > UNPACKED:
        raise Refusal(
            f"{path} would unpack to {total:,} bytes; at most {UNPACKED:,} are read from an archive: unpack it"
        )
    return [_member(path, each) for each in sorted(held, key=lambda each: each.filename)]


def _member(path: Path, held: zipfile.ZipInfo) -> Member:
    kind = PurePosixPath(held.filename).suffix.lower()
    inside = cast(Path, _Inside(path, held.filename, held.file_size))
    return Member(inside, kind if kind in KINDS else ".txt", "", held.file_size, path)
