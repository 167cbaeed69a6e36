"""Zip archives that are not what they should be."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from cloze.data.files import open_file
from cloze.data.tasks import archives
from cloze.data.tasks.archives import members
from cloze.errors import Refusal


def zipped(folder: Path, content: dict[str, bytes]) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def test_members_are_read_where_they_lie(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"b/two.tsv": b"x\ty\n", "b/": b"", "one.txt": "é".encode()})
    two, one = members(path)
    assert (str(two), two.kind, two.size) == (f"{path}/b/two.tsv", ".tsv", 4) and one.kind == ".txt"
    with open_file(one) as stream:
        assert stream.read() == "é".encode()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.zip"]  # nothing is unpacked


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt"])
def test_places_outside_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refusal, match="names a place outside of the archive"):
        members(zipped(tmp_path, {name: b"x"}))


def test_bombs_are_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match=r"would unpack from [0-9,]+ to 4,000,000 bytes: more than 200-fold"):
        members(zipped(tmp_path, {"bomb.txt": bytes(4_000_000)}))
    monkeypatch.setattr(archives, "UNPACKED", 100)
    with pytest.raises(Refusal, match="would unpack to 120 bytes; at most 100"):
        members(zipped(tmp_path, {"a.txt": bytes(60), "b.txt": bytes(60)}))
    monkeypatch.setattr(archives, "MEMBERS", 2)
    with pytest.raises(Refusal, match="holds 3 files; at most 2"):
        members(zipped(tmp_path, dict.fromkeys("abc", b"")))


def test_an_archive_that_lies_about_a_size_gives_no_more_than_it_said(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"a.txt": b"0123456789" * 50})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # the entry in the central directory: its size is 24 bytes on
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    path.write_bytes(content)
    (member,) = members(path)
    with pytest.raises(Refusal, match=r"a.txt (cannot be unpacked|holds more than)"):
        open_file(member)


def test_damage_is_told(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"a.txt": b"0123456789" * 50})
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    with pytest.raises(Refusal, match=r"a\.zip is not a whole zip archive"):
        members(path)
    broken = bytearray(whole)
    broken[45] ^= 0xFF
    path.write_bytes(broken)
    with pytest.raises(Refusal, match=r"a.txt cannot be unpacked"):
        open_file(members(path)[0])
    encrypted = bytearray(whole)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(mark) + place] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(Refusal, match=r"its member a\.txt is encrypted"):
        members(path)
