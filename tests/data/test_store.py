"""The token store: what is in it, that it does not depend on who built it, and that no killed builder leaves a wrong one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloze.data import cache as caches
from cloze.data import recent, store
from cloze.data.base import Text, TokenizedCorpus
from cloze.data.store import opened, tokenized
from cloze.data.text import TextFiles
from cloze.data.tokenizers import BPE, Tokenizer, WordPiece
from cloze.errors import Refusal, RunFailure
from tests.data.corpora import Memory, memory

ROOT = Path(__file__).parents[2]
ARRAYS = ("tokens", "word_starts", "sentences", "documents", "topics")


@pytest.fixture(scope="module")
def corpus() -> Memory:
    return memory(parts=7, documents=20)


@pytest.fixture(scope="module")
def tokenizer(corpus: Memory) -> Tokenizer:
    return WordPiece(vocabulary=300).trained(corpus, ["pad", "unk", "cls"], 0)


def same(one: TokenizedCorpus, other: TokenizedCorpus) -> bool:
    counts = [(each.characters, each.bytes, each.words) for each in (one, other)]
    return counts[0] == counts[1] and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)


def test_it_holds_the_corpus(corpus: Memory, tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = tokenized(corpus, "train", tokenizer, tmp_path)
    records = list(corpus.records("train"))
    assert len(found) == len(records) == 140
    for number, record in enumerate(records):
        assert isinstance(record, Text)
        first, last = found.documents[number : number + 2]
        bounds = found.sentences[first : last + 1]
        ids = [found.tokens[a:b].tolist() for a, b in pairwise(bounds)]
        assert ids == [tokenizer.encode(sentence) for sentence in record.sentences]
    texts = [record.text for record in records if isinstance(record, Text)]
    assert found.characters == sum(map(len, texts))
    assert found.bytes == sum(len(text.encode()) for text in texts)
    assert found.words == sum(len(text.split()) for text in texts)
    names = [record.topic for record in records if isinstance(record, Text)]
    topics = json.loads((found.folder or tmp_path).joinpath("topics.json").read_text())
    assert [topics[number] if number >= 0 else "" for number in found.topics] == names
    assert found.tokens.dtype == np.uint16 and not found.tokens.flags.writeable


@pytest.mark.parametrize("batch", [1, 40, 1 << 19])
def test_batches_make_no_difference(
    corpus: Memory, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    expected = tokenized(corpus, "train", tokenizer, tmp_path / "one")
    monkeypatch.setattr(store, "_BATCH", batch)
    assert same(tokenized(corpus, "train", tokenizer, tmp_path / "two"), expected)


def test_processes_make_no_difference(corpus: Memory, tokenizer: Tokenizer, tmp_path: Path) -> None:
    expected = tokenized(corpus, "train", tokenizer, tmp_path / "one", workers=0)
    assert same(tokenized(corpus, "train", tokenizer, tmp_path / "two", workers=2), expected)


def test_what_has_no_token_is_left_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = [("", "\u200b"), ("a", "A b."), ("b", "\u200b\nC d.\n\u200b"), ("c", "\u200b")]
    found = tokenized(Memory([texts, [("c", "\u200b")], []]), "train", tokenizer, tmp_path)
    assert len(found) == 2 and len(found.sentences) == 3 and found.topics.tolist() == [0, 1]
    with pytest.raises(Refusal, match="the validation split of this corpus holds no text"):
        tokenized(Memory([[("", "\u200b")], []]), "validation", tokenizer, tmp_path)
    assert not list((tmp_path / "tokens").glob(".*.*.*"))


def test_tokenised_once_for_each_tokenizer_split_and_text(
    corpus: Memory, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tokenized(corpus, "train", tokenizer, tmp_path)
    tokenized(corpus, "validation", tokenizer, tmp_path)
    tokenized(corpus, "train", BPE(vocabulary=300).trained(corpus, ["pad", "unk"], 0), tmp_path)
    tokenized(memory(seed=1), "train", tokenizer, tmp_path)
    assert len([path for path in (tmp_path / "tokens").iterdir() if path.is_dir()]) == 4
    monkeypatch.setattr(store, "_build", None)
    assert same(tokenized(corpus, "train", tokenizer, tmp_path), expected)


class Generated(Memory):
    generated = True

    def read(self, part: int) -> Iterator[Text]:
        self.reads_of = [*getattr(self, "reads_of", []), part]
        return super().read(part)


def test_what_is_generated_for_the_tokenizer_is_not_generated_again(
    corpus: Memory, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated = Generated(corpus.documents)
    WordPiece(vocabulary=300).trained(generated, ["pad", "unk", "cls"], 0)
    expected = tokenized(corpus, "train", tokenizer, tmp_path / "one", workers=0)
    assert same(tokenized(generated, "train", tokenizer, tmp_path / "two", workers=0), expected)
    assert sorted(generated.reads_of) == list(range(7))
    assert generated not in recent._parts
    monkeypatch.setattr(recent, "KEPT", 1)  # no room: made again
    WordPiece(vocabulary=300).trained(generated, ["pad", "unk", "cls"], 0)
    assert same(tokenized(generated, "train", tokenizer, tmp_path / "three", workers=0), expected)
    assert len(generated.reads_of) == 3 * 7


def test_it_travels_as_the_name_of_its_folder(corpus: Memory, tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = tokenized(corpus, "train", tokenizer, tmp_path)
    sent = pickle.dumps(found)
    assert len(sent) < 500 and same(pickle.loads(sent), found)
    small = TokenizedCorpus.of([[[1, 2]]])
    assert same(pickle.loads(pickle.dumps(small)), small)
    with pytest.raises(RunFailure, match="not a whole token store"):
        opened(tmp_path)


# ------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", ["cut", "bit", "missing", "manifest", "no manifest", "a file"])
def test_a_damaged_store_is_built_anew(corpus: Memory, tokenizer: Tokenizer, tmp_path: Path, damage: str) -> None:
    found = tokenized(corpus, "train", tokenizer, tmp_path)
    folder = found.folder
    assert folder is not None
    expected = pickle.dumps([np.array(getattr(found, name)) for name in ARRAYS])
    tokens = folder / "tokens.npy"
    content = tokens.read_bytes()
    if damage == "cut":
        tokens.write_bytes(content[:-5])
    elif damage == "bit":
        tokens.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    elif damage == "missing":
        tokens.unlink()
    elif damage == "manifest":
        (folder / "manifest.json").write_text('{"files": {')
    elif damage == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("in the way")
    again = tokenized(corpus, "train", tokenizer, tmp_path)
    assert pickle.dumps([np.array(getattr(again, name)) for name in ARRAYS]) == expected


def test_an_id_beyond_the_vocabulary_is_found_on_opening(corpus: Memory, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tokenized(corpus, "train", tokenizer, tmp_path).folder
    assert folder is not None
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "max_id": 300}))
    with pytest.raises(RunFailure, match="holds token 300, the vocabulary only 300"):
        tokenized(corpus, "train", tokenizer, tmp_path)


def test_no_space_and_no_permission(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunFailure, match="no space left on the disk"):
        caches.obtain(tmp_path / "cache" / "x", build)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".x.lock"]
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match=r"cannot be written .* give another cache_dir="):
        caches.obtain(tmp_path / "file" / "x", build)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.ENAMETOOLONG])
def test_whatever_keeps_the_cache_from_being_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:  # as mkdir below /proc does
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(Refusal, match=rf"cannot be written \({os.strerror(number)}\); give another cache_dir="):
        caches.obtain(tmp_path / "cache" / "x", lambda folder: {})


def test_large_files_are_digested_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_WHOLE", 1000)
    monkeypatch.setattr(caches, "_BLOCK", 16)
    path = tmp_path / "x"
    path.write_bytes(bytes(100_000))
    before = caches.file_digest(path)
    for place in (0, 99_999):
        path.write_bytes(bytes(place) + b"\1" + bytes(99_999 - place))
        assert caches.file_digest(path) != before
    path.write_bytes(bytes(100_001))
    assert caches.file_digest(path) != before


def test_a_source_is_read_whole_and_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, old = tmp_path / "x.txt", time.time() - 100
    path.write_bytes(b"A line.\n" * 200_000)
    os.utime(path, (old, old))
    with caches.remembering(tmp_path):
        first = caches.source_digest(path)
        with path.open("r+b") as file:
            file.seek(800_030)
            file.write(b"another")
        os.utime(path, (old + 1, old + 1))
        second = caches.source_digest(path)
        assert second != first
        with monkeypatch.context() as patch:
            patch.setattr("hashlib.file_digest", None)
            assert caches.source_digest(path) == second
        path.write_bytes(b"A line.\n" * 200_000)
        assert caches.source_digest(path) == first  # and, just written, not remembered:
    assert len(list((tmp_path / "digests").iterdir())) == 2


def test_no_change_of_a_users_file_goes_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_WHOLE", 1000)
    monkeypatch.setattr(caches, "_BLOCK", 1)
    path = tmp_path / "x.txt"
    path.write_bytes(b"A line.\n" * 10_000)
    before = TextFiles(str(path)).fingerprint()
    path.write_bytes(b"A line.\n" * 5000 + b"A lime.\n" + b"A line.\n" * 4999)
    assert TextFiles(str(path)).fingerprint() != before


# -------------------------------------------------------------------------------------------- builders at once

BUILDER = """
import sys
from pathlib import Path
from tests.data.corpora import memory
from cloze.data import cache
from cloze.data.store import tokenized
from cloze.data.tokenizers import Tokenizer
if sys.argv[3] == "without locks":
    import fcntl
    def refuse(*_): raise OSError("no locks here")
    fcntl.flock = refuse
print("ready", flush=True)
sys.stdin.readline()
workers = int(sys.argv[4]) if len(sys.argv) > 4 else 0
found = tokenized(memory(parts=60, documents=20), "train", Tokenizer.load(sys.argv[1]), Path(sys.argv[2]), workers=workers)
print(len(found), int(found.tokens.sum()), int(found.sentences.sum()), flush=True)
"""


def builder(tmp_path: Path, cache: Path, locks: str, workers: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "tokenizer"), str(cache), locks, str(workers)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def together(processes: list[subprocess.Popen[str]]) -> None:
    """Lets them begin at the same moment, once all have imported what they need."""
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.mark.parametrize("locks", ["with locks", "without locks"])
def test_builders_at_once_and_one_killed(tokenizer: Tokenizer, tmp_path: Path, locks: str) -> None:
    """In each round three build the same store; one of them is killed at a random moment."""
    tokenizer.save(tmp_path / "tokenizer")
    expected = tokenized(memory(parts=60, documents=20), "train", tokenizer, tmp_path / "expected", workers=0)
    said = f"{len(expected)} {int(expected.tokens.sum())} {int(expected.sentences.sum())}\n"
    chance = random.Random(locks)
    cache = tmp_path / "cache"
    for _ in range(3):
        processes = [builder(tmp_path, cache, locks) for _ in range(3)]
        together(processes)
        time.sleep(chance.uniform(0, 0.25))
        with contextlib.suppress(ProcessLookupError):
            os.kill(processes[0].pid, signal.SIGKILL)
        for process in processes[1:]:
            assert process.communicate()[0] == said and process.returncode == 0
        processes[0].communicate()
        stored = tokenized(memory(parts=60, documents=20), "train", tokenizer, cache, workers=0)
        assert same(stored, expected)
        assert stored.folder is not None
        for path in stored.folder.iterdir():
            path.unlink()
        stored.folder.rmdir()
    tokenized(memory(parts=60, documents=20), "train", tokenizer, cache, workers=0)
    left = [path for path in (cache / "tokens").iterdir() if path.is_dir()]
    assert len(left) == 1  # what the killed ones left has been swept


def test_a_worker_killed_while_tokenising(
    tokenizer: Tokenizer, corpus: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent finishes alone."""
    expected = tokenized(corpus, "train", tokenizer, tmp_path / "one", workers=0)
    from concurrent.futures import process as pools

    class Breaking(pools.ProcessPoolExecutor):
        submitted = 0

        def submit(self, *arguments: Any, **more: Any) -> Any:
            Breaking.submitted += 1
            future = super().submit(*arguments, **more)
            if Breaking.submitted == 3:
                future.result()
                for each in list((self._processes or {}).values()):
                    each.kill()
            return future

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", Breaking)
    assert same(tokenized(corpus, "train", tokenizer, tmp_path / "two", workers=2), expected)
    assert Breaking.submitted >= 3


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see what processes are left")
def test_a_killed_builder_leaves_no_process(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    parent = builder(tmp_path, tmp_path / "cache", "with locks", workers=2)
    together([parent])
    children: list[int] = []
    while len(children) < 3 and parent.poll() is None:  # two, and the one that minds shared resources
        with contextlib.suppress(FileNotFoundError):
            children = [int(n) for n in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        time.sleep(0.005)
    parent.kill()
    parent.wait()
    assert len(children) == 3
    deadline = time.monotonic() + 20
    while (left := [pid for pid in children if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False
