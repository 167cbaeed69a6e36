"""The token store: a split of a corpus, tokenised once, as memory-mapped arrays that every later run opens at once.

A store's address is the digest of everything that decides its content (corpus, split, tokenizer, format), so nothing is ever out
of date, and its content does not depend on how many processes built it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cloze.data import cache as caches
from cloze.data import recent
from cloze.data.base import Corpus, Record, Split, Text, TokenizedCorpus
from cloze.data.tokenizers import Tokenizer
from cloze.errors import Refusal, RunFailure

FORMAT = 1

_BATCH = 1 << 19  # characters that are handed to the tokenizer at once
_PATIENCE = 4.0  # seconds of work left from which on other processes are worth starting

_log = logging.getLogger("cloze")


def tokenized(
    corpus: Corpus,
    split: Split,
    tokenizer: Tokenizer,
    cache: Path,
    workers: int | None = None,
    say: Callable[[str], object] = _log.info,
) -> TokenizedCorpus:
    """A split as memory-mapped arrays, from the cache or built now.

    `workers` processes build it; None starts as many as there are cores where the work is worth it, 0 and 1 start none.
    `say` gets a line or two for the user: what was passed over, and, where it was built now, how long that took.
    Raises Refusal where the corpus is missing, malformed or the split is empty.
    """
    with caches.remembering(cache):
        corpus_digest, tokenizer_digest = corpus.fingerprint(), tokenizer.fingerprint
    folder = cache / "tokens" / caches.digest("tokens", FORMAT, corpus_digest, split, tokenizer_digest)

    def build(temporary: Path) -> dict[str, Any]:
        started = time.perf_counter()
        facts = _build(corpus, split, tokenizer, temporary, workers, say)
        seconds = time.perf_counter() - started
        say(
            f"tokenised {split}: {facts['documents']:,} documents, {facts['tokens']:,} tokens, {facts['words']:,} words in {seconds:.1f} s"
        )
        return {"format": FORMAT, "split": split, "corpus": corpus_digest, "tokenizer": tokenizer_digest, **facts}

    facts = caches.obtain(folder, build)
    recent.forget(corpus)
    for note in facts["notes"]:
        say(f"{split}: {note}")
    opened = _open(folder, facts)
    if facts["max_id"] >= tokenizer.vocabulary.size:
        raise RunFailure(
            f"{folder} holds token {facts['max_id']}, the vocabulary only {tokenizer.vocabulary.size}; delete that folder"
        )
    return opened


def opened(folder: Path, languages: Sequence[str] = ()) -> TokenizedCorpus:
    """A store that is there, by its folder, its languages numbered as in `languages`. Raises RunFailure where it is not whole."""
    from cloze.data.languages import numbered

    facts = caches.verified(folder)
    if facts is None:
        raise RunFailure(f"{folder} is not a whole token store")
    return numbered(_open(folder, facts), languages)


def _open(folder: Path, facts: dict[str, Any]) -> TokenizedCorpus:
    arrays: dict[str, Any] = {}
    for name in ("tokens", "word_starts", "sentences", "documents", "topics", *_MULTILINGUAL):
        if name in _MULTILINGUAL and f"{name}.npy" not in facts["files"]:
            continue
        arrays[name] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))  # as plain arrays: views are cheaper
    return TokenizedCorpus(
        **arrays,
        language_names=tuple(facts.get("languages", ())),
        characters=facts["characters"],
        bytes=facts["bytes"],
        words=facts["words"],
        fingerprint=folder.name,
        folder=folder,
    )


# ------------------------------------------------------------------------------------------------------ one part


@dataclass
class _Shard:
    """What one part came to. Its arrays lie in raw files beside one another."""

    path: Path
    tokens: int = 0
    sentences: int = 0
    documents: int = 0
    characters: int = 0
    bytes: int = 0
    words: int = 0
    max_id: int = -1
    topics: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    linked: bool = False  # some sentence translates another


_RAW = {"tokens": None, "word_starts": np.bool_, "sentences": np.uint32, "documents": np.uint32, "topics": np.int32}
_MULTILINGUAL = ("languages", "translations")  # arrays that only corpora have which need them


def _token_type(tokenizer: Tokenizer) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if tokenizer.vocabulary.size <= 1 << 16 else np.uint32


def _tokenize(corpus: Corpus, tokenizer: Tokenizer, part: Any, path: Path) -> _Shard:
    """Tokenises one part into raw files path.tokens, path.word_starts, …; lengths, not offsets, for sentences and documents."""
    shard = _Shard(path)
    numbers: dict[str, int] = {}  # of topics
    tongues = _Tongues()
    dtype = _token_type(tokenizer)
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(path.with_suffix(f".{name}").open("wb")) for name in _RAW}
        carried, last = 0, ""  # how many sentences of the document that the last batch left open, and its topic
        for texts, owners, topics in _batches(tongues.documents(recent.taken(corpus, part))):
            ids, starts, lengths = tokenizer.encode_flat(texts)
            joined = "".join(texts)
            spaces = sum(not text.endswith("\n") for text in texts) - (
                len(topics) - 1
            )  # as `Text.text` joins sentences
            shard.characters += len(joined) + spaces
            shard.bytes += (len(joined) if joined.isascii() else len(joined.encode())) + spaces
            shard.words += sum(len(text.split()) for text in texts)
            kept = lengths > 0
            counts = np.bincount(owners[kept], minlength=len(topics))
            counts[0] += carried
            carried = int(counts[-1])
            # every document but the last is whole; the last may go on in the next batch
            _close(shard, files, numbers, counts[:-1], topics[:-1])
            last = topics[-1]
            shard.tokens += len(ids)
            shard.sentences += int(kept.sum())
            tongues.kept.append(kept)
            shard.max_id = max(shard.max_id, int(ids.max()) if len(ids) else -1)
            files["tokens"].write(ids.astype(dtype).tobytes())
            files["word_starts"].write(starts.tobytes())
            files["sentences"].write(lengths[kept].astype(np.uint32).tobytes())
        if carried:
            _close(shard, files, numbers, np.array([carried]), [last])
    shard.topics = list(numbers)
    shard.notes = corpus.notes()
    tongues.write(shard)
    return shard


class _Tongues:
    """What a part's documents say of languages: each document's own, and which sentence translates which.

    Documents in several languages are put in order by language, some dozens at a time: what reads on over the end of a document goes on
    in the same language, and hardly ever comes upon the translation of what it has read.
    """

    TOGETHER = 1 << 16  # characters that are put in order at a time

    def __init__(self) -> None:
        self.kept: list[NDArray[np.bool_]] = []  # which sentences have tokens, by batch
        self._numbers: dict[str, int] = {}  # of languages
        self._languages: list[int] = []  # of each document, those without a token and all
        self._sizes: list[int] = []  # of each document, in sentences
        self._pairs: list[tuple[int, int]] = []  # documents that translate one another

    def documents(self, records: Iterable[Record]) -> Iterator[Text]:
        """The documents of some records, none without a sentence."""
        waiting: dict[str, list[tuple[Text, int]]] = {}  # by language, each with the number of its record
        size = number = 0
        for record in records:
            assert isinstance(record, Text)
            if not record.sentences:
                continue
            documents = record.documents
            if len(documents) == 1 and not record.language and not waiting:
                yield self._noted(record)
                continue
            number += 1
            for document in documents:
                waiting.setdefault(document.language, []).append((document, number))
                size += sum(map(len, document.sentences))
            if size >= self.TOGETHER:
                yield from self._ordered(waiting)
                waiting, size = {}, 0
        yield from self._ordered(waiting)

    def _noted(self, document: Text) -> Text:
        self._languages.append(self._numbers.setdefault(document.language, len(self._numbers)))
        self._sizes.append(len(document.sentences))
        return document

    def _ordered(self, waiting: dict[str, list[tuple[Text, int]]]) -> Iterator[Text]:
        seen: dict[int, int] = {}  # record: the document that it became
        for documents in waiting.values():
            for document, number in documents:
                if number in seen:
                    self._pairs.append((seen[number], len(self._sizes)))
                seen[number] = len(self._sizes)
                yield self._noted(document)

    def write(self, shard: _Shard) -> None:
        """The part's raw files, where there is anything to say. Translations are counted from the part's first sentence."""
        if list(self._numbers) in ([], [""]):
            return
        shard.languages, shard.linked = list(self._numbers), bool(self._pairs)
        kept = np.concatenate(self.kept)
        sizes = np.array(self._sizes)
        starts = np.cumsum(sizes) - sizes
        there = np.add.reduceat(kept, starts, dtype=np.int64) > 0
        np.array(self._languages, np.int32)[there].tofile(shard.path.with_suffix(".languages"))
        if self._pairs:
            partners = np.full(len(kept), -1)
            for one, other in self._pairs:
                ours, theirs, places = starts[one], starts[other], np.arange(sizes[one])
                partners[ours + places], partners[theirs + places] = theirs + places, ours + places
            numbers = np.where(kept, np.cumsum(kept) - 1, -1)
            partners = np.where(partners < 0, -1, numbers[partners])
            partners[kept].astype(np.int64).tofile(shard.path.with_suffix(".translations"))


def _close(
    shard: _Shard, files: Mapping[str, IO[bytes]], numbers: dict[str, int], counts: NDArray[Any], topics: Sequence[str]
) -> None:
    """Writes down whole documents: how many sentences each has (those with none are left out) and its topic."""
    known = [
        numbers.setdefault(topic, len(numbers)) if topic else -1
        for topic, count in zip(topics, counts, strict=True)
        if count
    ]
    shard.documents += len(known)
    files["documents"].write(counts[counts > 0].astype(np.uint32).tobytes())
    files["topics"].write(np.array(known, np.int32).tobytes())


def _batches(records: Iterable[Any]) -> Iterator[tuple[list[str], NDArray[np.int64], list[str]]]:
    """Sentences in batches, the document that each belongs to (0 = the first of the batch), and these documents' topics.

    A batch's first document is the one that the batch before ended in, so that a document may be longer than a batch.
    """
    texts: list[str] = []
    owners: list[int] = []
    topics: list[str] = [""]
    size = 0
    for record in records:
        assert isinstance(record, Text)
        if not record.sentences:
            continue
        topics.append(record.topic)
        for sentence in record.sentences:
            texts.append(sentence)
            owners.append(len(topics) - 1)
            size += len(sentence)
            if size >= _BATCH:
                yield texts, np.array(owners), topics
                texts, owners, topics, size = [], [], [record.topic], 0
    if texts:
        yield texts, np.array(owners, dtype=np.int64), topics


# ------------------------------------------------------------------------------------------------------ all parts


def _build(
    corpus: Corpus, split: Split, tokenizer: Tokenizer, folder: Path, workers: int | None, say: Callable[[str], object]
) -> dict[str, Any]:
    parts = corpus.parts(split)
    corpus.notes()  # what was passed over in looking for the parts is said again by those who read them
    shards: list[_Shard] = []
    raw = folder / "raw"
    raw.mkdir()
    with _progress(f"tokenising {split}", len(parts), say) as advance:
        for shard in _shards(corpus, tokenizer, parts, raw, workers):
            shards.append(shard)
            advance(shard.tokens)
    facts: dict[str, Any] = {
        name: sum(getattr(shard, name) for shard in shards)
        for name in ("tokens", "sentences", "documents", "characters", "bytes", "words")
    }
    if facts["tokens"] == 0:
        raise Refusal(f"the {split} split of this corpus holds no text")
    _merge(shards, folder, _token_type(tokenizer), facts)
    facts |= _merge_tongues(shards, folder, facts)
    raw.rmdir()
    notes = [note for shard in shards for note in shard.notes]
    if len(notes) > 10:
        notes = [*notes[:10], f"… and {len(notes) - 10} more such notes"]
    return {**facts, "max_id": max(shard.max_id for shard in shards), "notes": notes}


def _shards(
    corpus: Corpus, tokenizer: Tokenizer, parts: Sequence[Any], raw: Path, workers: int | None
) -> Iterator[_Shard]:
    """The shards in the order of the parts, made here or, where it pays or is asked for, by other processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(cores if workers is None else workers, len(parts))
    if type(corpus).__module__ == "__main__":
        processes = 1  # other processes could not find its class
    started = time.perf_counter()
    done = 0
    while done < len(parts):
        if processes > 1:
            spent = time.perf_counter() - started
            if workers is not None or (
                done and spent / done * (len(parts) - done) > _PATIENCE and spent > _PATIENCE / 4
            ):
                for shard in _elsewhere(corpus, tokenizer, parts, raw, range(done, len(parts)), processes):
                    yield shard
                    done += 1
                processes = 1  # where they broke down, the rest is made here
                continue
        yield _tokenize(corpus, tokenizer, parts[done], raw / str(done))
        done += 1


_worker: tuple[Corpus, Tokenizer, Path]


def _start_worker(corpus: Corpus, tokenizer: Tokenizer, raw: Path) -> None:
    global _worker
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process a core is parallel enough
    _worker = (corpus, tokenizer, raw)


def _leave_with_parent() -> None:
    """A pool's processes wait for work for ever when the one that started them is killed: these end with it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(number: int, part: Any) -> _Shard:
    corpus, tokenizer, raw = _worker
    return _tokenize(corpus, tokenizer, part, raw / str(number))


def _elsewhere(
    corpus: Corpus, tokenizer: Tokenizer, parts: Sequence[Any], raw: Path, numbers: range, processes: int
) -> Iterator[_Shard]:
    """Shards from a pool of processes, in order. Ends early, with a line in the log, where the pool breaks down."""
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # fresh processes: a copy of this one could copy locks that its threads hold
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(corpus, tokenizer, raw)
    )
    try:
        waiting: list[Future[_Shard]] = []
        left = iter(numbers)
        for number in itertools.islice(left, 4 * processes):
            with _main_left_alone():
                waiting.append(pool.submit(_work, number, parts[number]))
        while waiting:
            shard = waiting.pop(0).result()
            for number in itertools.islice(left, 1):
                with _main_left_alone():
                    waiting.append(pool.submit(_work, number, parts[number]))
            yield shard
    except BrokenProcessPool:
        _log.warning("a process that tokenised died (out of memory?); going on in one process")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _main_left_alone() -> Iterator[None]:
    """Processes started here do not import the program's main file, which may lack a guard and would then run once more in each."""
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__}
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(kept)


def _merge(shards: list[_Shard], folder: Path, dtype: type[np.unsignedinteger[Any]], facts: dict[str, int]) -> None:
    """Joins the shards' raw files to the arrays of the store, a file at a time, and removes them."""
    topics: dict[str, int] = {}
    counts = {"tokens": facts["tokens"], "word_starts": facts["tokens"], "sentences": facts["sentences"] + 1}
    counts |= {"documents": facts["documents"] + 1, "topics": facts["documents"]}
    for name, raw_type in _RAW.items():
        stored = (
            np.dtype(dtype)
            if name == "tokens"
            else np.dtype(np.int64)
            if name in ("sentences", "documents")
            else np.dtype(raw_type)
        )
        with (folder / f"{name}.npy").open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(stored), "fortran_order": False, "shape": (counts[name],)}
            np.lib.format.write_array_header_1_0(file, header)
            total = 0
            if stored == np.int64:
                file.write(np.zeros(1, np.int64).tobytes())
            for shard in shards:
                path = shard.path.with_suffix(f".{name}")
                renumbered = (
                    [topics.setdefault(topic, len(topics)) for topic in shard.topics] if name == "topics" else []
                )
                with path.open("rb") as raw:
                    while block := raw.read(1 << 22):
                        if name in ("sentences", "documents"):
                            ends = np.cumsum(np.frombuffer(block, np.uint32), dtype=np.int64) + total
                            total = int(ends[-1])
                            block = ends.tobytes()
                        elif name == "topics" and renumbered:
                            old = np.frombuffer(block, np.int32)
                            block = (
                                np.where(old < 0, -1, np.array(renumbered, np.int32)[old]).astype(np.int32).tobytes()
                            )
                        file.write(block)
                path.unlink()
    (folder / "topics.json").write_text(json.dumps(list(topics), ensure_ascii=False), encoding="utf-8")


def _merge_tongues(shards: list[_Shard], folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The arrays of languages and translations, where a shard has any; gives what the manifest says of them."""
    if not any(shard.languages for shard in shards):
        return {}
    numbers: dict[str, int] = {}
    languages, translations = [], []
    sentences = 0
    for shard in shards:
        path = shard.path.with_suffix(".languages")
        if shard.languages:
            renumbered = np.array([numbers.setdefault(name, len(numbers)) for name in shard.languages], np.int32)
            languages.append(renumbered[np.fromfile(path, np.int32)])
            path.unlink()
        elif shard.documents:
            languages.append(np.full(shard.documents, numbers.setdefault("", len(numbers)), np.int32))
        links = np.full(shard.sentences, -1, np.int64)
        if shard.linked:
            path = shard.path.with_suffix(".translations")
            links = np.fromfile(path, np.int64)
            links[links >= 0] += sentences
            path.unlink()
        translations.append(links)
        sentences += shard.sentences
    np.save(folder / "languages.npy", np.concatenate(languages))
    if any(shard.linked for shard in shards):
        np.save(folder / "translations.npy", np.concatenate(translations))
    return {"languages": list(numbers)}


@contextlib.contextmanager
def _progress(what: str, total: int, say: Callable[[str], object]) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; elsewhere a line in the log every ten seconds. Yields what to call with each part's tokens."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[tokens]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(what, total=total, tokens="")
            tokens = 0

            def advance(more: int) -> None:
                nonlocal tokens
                tokens += more
                progress.update(task, advance=1, tokens=f"{tokens / 1e6:.1f} M tokens")

            yield advance
    else:
        done, tokens, said = 0, 0, time.perf_counter()

        def advance(more: int) -> None:
            nonlocal done, tokens, said
            done, tokens = done + 1, tokens + more
            if time.perf_counter() - said >= 10:
                said = time.perf_counter()
                say(f"{what}: {done} of {total} parts, {tokens / 1e6:.1f} M tokens")

        yield advance
