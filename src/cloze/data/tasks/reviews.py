"""Single texts that were the benchmarks of the first transfer learning in language, ULMFiT (https://arxiv.org/abs/1801.06146): the film
reviews of IMDb (https://aclanthology.org/P11-1015/) and the questions of TREC (https://aclanthology.org/C02-1150/).
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cloze.data import cache as caches
from cloze.data import splits
from cloze.data.base import Labelled, Labels, Record
from cloze.data.files import Bad, find, lines, open_file
from cloze.data.tasks.benchmark import Benchmark, Maker, id_of, label_of, text_of
from cloze.data.tasks.rows import FileRows, Row, Rows, file_in
from cloze.errors import Refusal

_SIDES = ("neg", "pos")
_REVIEW = re.compile(r"(?:^|/)(train|test)/(neg|pos)/(\d+)_(\d+)\.txt$")
_LONGEST = 1 << 20  # bytes of a review; the longest of IMDb has 14,000
_UNPACKED = 2 << 30  # bytes of an archive's files together; IMDb's, with those without a label, are a quarter of it


class Imdb(Benchmark):
    """IMDb: 25,000 film reviews to train on and 25,000 to test on, half of each good, as they stand, with their <br />.

    path              the folder aclImdb or a tar archive of it (.tar.gz, .tar.xz, …), which is read without unpacking it
    validation_share  of the training reviews, which have no validation split of their own
    split_seed        which are held out (decided by their content)
    """

    def __init__(self, path: str, validation_share: float = 0.1, split_seed: int = 0) -> None:
        splits.checked_shares(validation_share, 0.0)
        self.name = "imdb"
        self.title = "IMDb"
        self.path = path
        self.validation_share = validation_share
        self.split_seed = split_seed

    @property
    def labels(self) -> dict[str, Labels]:
        return {"imdb": Labels(_SIDES)}

    def _found(self) -> dict[str, Rows]:
        path = Path(self.path).expanduser()
        if path.is_file():
            return {split: _Archive(path, split) for split in ("train", "test")}
        if not path.exists():
            find("data.path", self.path)  # says what is near
        for folder in (path, path / "aclImdb"):
            found: dict[str, Rows] = {}
            for split in ("train", "test"):
                if all((folder / split / side).is_dir() for side in _SIDES):
                    found[split] = _Folder(folder / split)
            if "train" in found:
                return found
        raise Refusal(f"data.path={self.path} has no folders train/neg and train/pos")

    def maker(self, split: str) -> Maker:
        labels = self.labels["imdb"]

        def make(row: Row) -> Record:
            label = label_of(row, "label", labels)
            return Labelled((text_of(row, "text"),), where=row.where, label=label, id=id_of(row, ("id",)), task="imdb")

        return make


class _Folder(Rows):
    """Reviews in files of their own, neg/ID_RATING.txt and pos/ID_RATING.txt, by side and ID."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    @property
    def columns(self) -> tuple[str, ...]:
        return ("text", "label", "id")

    @cached_property
    def _files(self) -> list[tuple[str, int, Path]]:
        held = []
        for side in _SIDES:
            for path in (self._folder / side).iterdir():
                match = re.fullmatch(r"(\d+)_(\d+)\.txt", path.name)
                if match:
                    held.append((side, int(match[1]), path))
        return sorted(held)

    @cached_property
    def size(self) -> int:  # type: ignore[override]
        return sum(path.stat().st_size for _, _, path in self._files)

    def count(self) -> int:
        return len(self._files)

    def digest(self) -> str:
        """Of names, sizes and times: to read 25,000 files takes long where the disk is slow."""
        states = [(side, path.name, path.stat().st_size, path.stat().st_mtime_ns) for side, _, path in self._files]
        return caches.digest("imdb", states)

    def __iter__(self) -> Iterator[Row]:
        for side, number, path in self._files:
            held = [line for _, line in lines(find("data.path", str(path))[0], "utf-8")]
            bad = next((line for line in held if isinstance(line, Bad)), None)
            if bad is not None:
                yield Row({}, str(path), 1, bad.reason)
            else:
                text = "\n".join(str(line) for line in held)
                yield Row({"text": text, "label": side, "id": str(number)}, str(path), 1)


class _Archive(Rows):
    """Reviews of a split in a tar archive, in its order. Only what is named like a review is read, and nothing is written."""

    def __init__(self, path: Path, split: str) -> None:
        self.name = f"{path}, {split}"
        self._file = find("data.path", str(path))[0]
        self.size = self._file.size * 4
        self._path, self._split = path, split

    @property
    def columns(self) -> tuple[str, ...]:
        return ("text", "label", "id")

    def digest(self) -> str:
        return caches.digest("imdb", self._split, caches.source_digest(self._path))

    def __iter__(self) -> Iterator[Row]:
        read = 0
        try:
            # unpacked by us: tarfile takes a packed file that was cut off for one that is at its end
            with open_file(self._file) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    read += member.size
                    if read > _UNPACKED:
                        raise Refusal(f"{self._path} unpacks to more than {_UNPACKED:,} bytes: it is not IMDb")
                    match = _REVIEW.search(member.name)
                    if match is None or match[1] != self._split or not member.isreg():
                        continue
                    yield self._row(member.name, match, archive.extractfile(member), member.size)
        except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise Refusal(f"{self._path} is not a whole tar archive: {error}") from error

    def _row(self, name: str, match: re.Match[str], stream: Any, size: int) -> Row:
        where = f"{self._path}/{name}"
        if size > _LONGEST:
            return Row({}, where, 1, f"{size:,} bytes are no review")
        try:
            text = stream.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return Row({}, where, 1, f"byte 0x{error.object[error.start]:02x} is not utf-8")
        return Row({"text": text, "label": match[2], "id": match[3]}, where, 1)


_COARSE = ("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM")
_FINE = {
    "ABBR": "abb exp",
    "ENTY": "animal body color cremat currency dismed event food instru lang letter other plant product religion sport substance "
    "symbol techmeth termeq veh word",
    "DESC": "def desc manner reason",
    "HUM": "gr ind title desc",
    "LOC": "city country mount other state",
    "NUM": "code count date dist money ord other period perc speed temp volsize weight",
}
_KINDS: dict[str, tuple[str, ...]] = {
    "coarse": _COARSE,
    "fine": tuple(f"{coarse}:{fine}" for coarse in _COARSE for fine in _FINE[coarse].split()),
}


class Trec(Benchmark):
    """TREC: what does a question ask for? 5,452 to train on, 500 to test on.

    path              the folder with TREC.train and TREC.test (or train_5500.label and TREC_10.label)
    level             coarse: 6 classes (TREC-6) | fine: 50 (TREC-50)
    validation_share  of the training questions, which have no validation split of their own
    split_seed        which are held out (decided by their content)
    encoding          of the files; the original ones are ISO-8859-1
    """

    def __init__(
        self,
        path: str,
        level: Literal["coarse", "fine"] = "coarse",
        validation_share: float = 0.1,
        split_seed: int = 0,
        encoding: str = "latin-1",
    ) -> None:
        splits.checked_shares(validation_share, 0.0)
        self.name = "trec"
        self.title = f"TREC-{len(_KINDS[level])}"
        self.path = path
        self.level = level
        self.validation_share = validation_share
        self.split_seed = split_seed
        self.encoding = encoding

    @property
    def labels(self) -> dict[str, Labels]:
        return {"trec": Labels(_KINDS[self.level])}

    @property
    def settings(self) -> Sequence[Any]:
        return (self.level,)

    def _found(self) -> dict[str, Rows]:
        found: dict[str, Rows] = {}
        path = Path(self.path).expanduser()
        for split, names in (("train", ("TREC.train", "train_5500.label")), ("test", ("TREC.test", "TREC_10.label"))):
            file = file_in(path, *names)
            if file is not None:
                found[split] = _Questions(file, self.encoding)
        if "train" not in found:
            raise Refusal(f"data.path={self.path} has no TREC.train or train_5500.label")
        return found

    def maker(self, split: str) -> Maker:
        labels = self.labels["trec"]

        def make(row: Row) -> Record:
            if self.level == "coarse":
                row = Row({**row.fields, "label": row.fields["label"].partition(":")[0]}, row.source, row.number)
            return Labelled((text_of(row, "text"),), where=row.where, label=label_of(row, "label", labels), task="trec")

        return make


class _Questions(FileRows):
    """A line a question: its kind, a space, its words."""

    columns = ("label", "text")

    def __iter__(self) -> Iterator[Row]:
        for number, line in self._lines():
            if isinstance(line, Bad):
                yield self._bad(number, line)
                continue
            label, _, text = line.partition(" ")
            if ":" in label and text.strip():
                yield Row({"label": label, "text": text}, self.name, number)
            else:
                yield Row({}, self.name, number, "not a kind such as NUM:dist, a space and a question", short=True)
