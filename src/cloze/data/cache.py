"""Folders that are built once and then only read: content-addressed, never half there.

A folder is built in a private temporary folder beside its place, flushed to disk, given a manifest (sizes and digests of its
files), and renamed. So whoever finds the name finds the whole. Builders of the same thing wait for one another where the file
system has locks; where it has none, both build and the loser discards. What a killed builder left is swept by the next.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from cloze.errors import Refusal, RunFailure

MANIFEST = "manifest.json"

_WHOLE = 64 << 20  # files up to this size are digested whole,
_BLOCKS, _BLOCK = 1024, 64 << 10  # larger ones by this many evenly spaced blocks
_REMEMBERED = 1 << 20  # bytes from which on it is quicker to look up a source's digest than to read it
_SETTLED = 2.0  # seconds after which a change is sure to change a file's time as well
_STALE = 7 * 24 * 3600.0  # seconds after which another machine's temporary folder is nobody's

_memory: ContextVar[Path | None] = ContextVar("_memory", default=None)


def digest(*parts: Any) -> str:
    """Hexadecimal digest of things that JSON can hold: what content-addressed names are made of."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def remembering(cache: Path) -> Iterator[None]:
    """Inside, `source_digest` remembers in this cache what it has read."""
    token = _memory.set(cache / "digests")
    try:
        yield
    finally:
        _memory.reset(token)


def source_digest(path: Path) -> str:
    """Digest of all bytes of a user's file. It is read again only where its size, times or inode are others than they were.

    Raises OSError.
    """
    memory = _memory.get()
    status = path.stat()
    known = None
    # one that was written a moment ago could be written again in the same tick of its clock
    if memory is not None and status.st_size >= _REMEMBERED and time.time() - status.st_mtime > _SETTLED:
        identity = [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        known = memory / digest("source", *identity)
        with contextlib.suppress(OSError, ValueError):
            found = known.read_text(encoding="ascii")
            if len(found) == 32:
                return found
    with path.open("rb") as file:
        read = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    if known is not None:
        with contextlib.suppress(OSError):  # it is read again next time
            known.parent.mkdir(parents=True, exist_ok=True)
            temporary = known.with_name(f"{known.name}.{os.getpid()}.{secrets.token_hex(4)}")
            temporary.write_text(read, encoding="ascii")
            temporary.replace(known)
    return read


def file_digest(path: Path) -> str:
    """Digest of a file that we wrote: of its size and bytes; of 1,024 evenly spaced blocks of it where it is larger than 64 MiB.

    That finds what was cut or damaged, not what somebody changed: for a user's files there is `source_digest`.
    """
    size = path.stat().st_size
    state = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        if size <= _WHOLE:
            while block := file.read(1 << 20):
                state.update(block)
        else:
            for number in range(_BLOCKS):
                file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                state.update(file.read(_BLOCK))
    return state.hexdigest()


def obtain(folder: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The manifest of `folder`, which `build(temporary folder)` fills if it is not there or damaged.

    `build` returns facts to keep in the manifest. Raises Refusal where the cache cannot be written, RunFailure where the disk is full.
    """
    if (manifest := verified(folder)) is not None:
        return manifest
    parent = folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _lock(parent / f".{folder.name}.lock") as locked:
            _sweep(parent, folder.name, locked)
            if (manifest := verified(folder)) is not None:
                return manifest
            temporary = parent / f".{folder.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
            temporary.mkdir()
            try:
                facts = build(temporary)
                _seal(temporary, facts)
                _publish(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailure(f"no space left on the disk of {parent}: free some, or give another cache_dir=") from error
        raise Refusal(f"{parent} cannot be written ({error.strerror or error}); give another cache_dir=") from error
    manifest = verified(folder)
    if manifest is None:
        raise RunFailure(f"{folder} does not read back as it was written: is the disk sound?")
    return manifest


def verified(folder: Path) -> dict[str, Any] | None:
    """The manifest, where all files that it lists are there with their sizes and digests."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        for name, (size, expected) in manifest["files"].items():
            path = folder / name
            if path.stat().st_size != size or file_digest(path) != expected:
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest


def _seal(folder: Path, facts: dict[str, Any]) -> None:
    """Flushes all files to the disk and writes the manifest, the mark of completeness, last."""
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.name] = [path.stat().st_size, file_digest(path)]
    with (folder / MANIFEST).open("w", encoding="utf-8") as manifest:
        json.dump({**facts, "files": files}, manifest, indent=1)
        manifest.flush()
        os.fsync(manifest.fileno())
    _flush_folder(folder)


def _publish(temporary: Path, folder: Path) -> None:
    """Renames into place. Where another builder was first, its result stands; a damaged one is replaced."""
    for _ in range(3):
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EACCES) or not folder.exists():
                raise
            if verified(folder) is not None:
                return
            damaged = temporary.with_name(temporary.name + ".damaged")
            with contextlib.suppress(FileNotFoundError):  # another one was as quick
                folder.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        else:
            _flush_folder(folder.parent)
            return


def _flush_folder(folder: Path) -> None:
    """Makes names durable (POSIX only: elsewhere folders cannot be opened)."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(parent: Path, own: str, locked: bool) -> None:
    """Removes temporary folders whose builder is dead: where there are locks, because nobody holds that of the thing being built."""
    for path in parent.glob(".*.*.*.*"):
        if not path.is_dir():
            continue
        _, name, rest = path.name.removesuffix(".damaged").split(".", 2)
        host, pid = rest.rpartition(".")[0].rpartition(".")[::2]
        dead = False
        if locked:
            dead = name == own or _is_free(parent / f".{name}.lock")
        elif host == socket.gethostname() and pid.isdigit():
            dead = int(pid) != os.getpid() and not _alive(int(pid))
        else:
            with contextlib.suppress(OSError):
                dead = time.time() - path.stat().st_mtime > _STALE
        if dead:
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Holds a lock that dies with its holder. Yields False where the file system or the platform has none."""
    with path.open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            locked = True
        except (ImportError, OSError):
            locked = False
        yield locked


def _is_free(path: Path) -> bool:
    """Whether nobody holds a lock, on a platform that has locks."""
    import fcntl

    try:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
