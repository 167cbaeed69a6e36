"""How a trained model lies on disk: the `model/` directory of a run, what `init=` and `cloze.load` read.

    model.safetensors   keys "model.*" and "objective.*"; its metadata holds the format's version and the weights' digest
    config.json         {"cloze": version, "format": 1, "model": {"_target_": …, settings}, "objective": {…},
                        "vocabulary": size, "length": tokens, "languages": [names] where the text had several, and
                        "added": {"bottleneck": width, "prompt_tokens": n} of what fine-tuning added to the family's weights}
    tokenizer files     as the tokenizer saves itself

Nothing here builds a model or runs anything that a file says: reading gives tensors, numbers and words.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cloze
from cloze.errors import Refusal

FORMAT = 1  # of config.json and model.safetensors; a reader refuses a newer one
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True)
class Stored:
    """What `read_model` found: the description and every tensor, on the CPU."""

    folder: Path
    config: dict[str, Any]
    weights: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The state of "model" or "objective", without the prefix."""
        prefix = name + "."
        return {key.removeprefix(prefix): value for key, value in self.weights.items() if key.startswith(prefix)}


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Digest of weights: SHA-256 over names, dtypes, shapes and bytes, in the order of the names.

    Two runs that end in bitwise the same weights have the same digest, on whatever device they lie.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().to("cpu").contiguous()
        digest.update(f"{name}|{str(tensor.dtype).removeprefix('torch.')}|{tuple(tensor.shape)}|".encode())
        # numpy has no bfloat16, so the bytes are taken through a view of the same memory
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """`write(temporary)` makes the file; it then takes the name `path` in one step, so that no reader ever sees half
    of it.

    The temporary file lies in the same directory, because renaming is atomic only within a file system.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files that nobody else may read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some network file systems cannot sync a directory
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def write_tensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file, written atomically. Tensors are copied to the CPU; none may be missing a name of its own."""
    from safetensors.torch import save_file

    # safetensors refuses tensors that share memory: a tied table is stored under one name only, by design of our models
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in state.items()}
    write_atomically(path, lambda temporary: save_file(plain, temporary, metadata=dict(metadata)))


def write_json(path: Path, content: Any) -> None:
    """Readable JSON, written atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_model(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """Writes weights and description; returns `weights_sha256(state)`. The tokenizer is saved beside them by its owner.

    `state` has the keys "model.*" and "objective.*". `config` holds "model", "objective", "vocabulary" and
    "length"; the versions are added here. config.json is written last: a directory with one is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = weights_sha256(state)
    write_tensors(
        folder / WEIGHTS, state, {"cloze": cloze.__version__, "format": str(FORMAT), "weights_sha256": digest}
    )
    write_json(folder / CONFIG, {"cloze": cloze.__version__, "format": FORMAT, **config})
    return digest


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises Refusal where the file is missing, empty, not text, not JSON or not an object."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Refusal(f"{path} is not there") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        empty = path.stat().st_size == 0
        raise Refusal(
            f"{path} is {'empty' if empty else f'not JSON ({error})'}; expected a model's description"
        ) from None
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise Refusal(f"{path} holds a JSON {type(content).__name__}; expected an object that describes a model")
    return content


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises Refusal saying what is wrong with the file."""
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise Refusal(f"{path} is a directory; expected a safetensors file")
    try:
        size = path.stat().st_size
        if size == 0:
            raise Refusal(f"{path} is empty (0 bytes); expected a safetensors file")
        with safe_open(path, framework="pt", device="cpu") as file:
            # cloned, so that the file may be replaced or cut while the model lives
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (not a dict)
            return tensors, dict(file.metadata() or {})
    except FileNotFoundError:
        raise Refusal(f"{path} is not there") from None
    except SafetensorError as error:
        start = path.open("rb").read(256)
        # a whole file begins with the header's size in 8 bytes, of which some are 0
        what = "text" if start.isascii() and b"\x00" not in start else "damaged or cut off"
        raise Refusal(f"{path} ({size:,} bytes) is {what}, not a whole safetensors file: {error}") from None
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error}") from None


def read_model(folder: Path) -> Stored:
    """The `model/` directory of a run (or the run's directory). Raises Refusal, one message, where it is not a whole
    model of ours.
    """
    folder = model_folder(folder)
    config = read_json(folder / CONFIG)
    if "cloze" not in config:
        raise Refusal(f"{folder / CONFIG} does not describe a model of Cloze: no key 'cloze'")
    if (stored := config.get("format")) != FORMAT:
        newer = isinstance(stored, int) and stored > FORMAT
        advice = f"it was written by Cloze {config['cloze']}; upgrade to read it" if newer else "the file is damaged"
        raise Refusal(
            f"{folder / CONFIG} has format {stored}; this Cloze ({cloze.__version__}) reads {FORMAT}: {advice}"
        )
    if missing := [key for key in ("model", "objective", "vocabulary", "length") if key not in config]:
        raise Refusal(f"{folder / CONFIG} lacks {', '.join(missing)}; expected the description that a run writes")
    weights, metadata = read_tensors(folder / WEIGHTS)
    expected = metadata.get("weights_sha256")
    if expected and expected != (found := weights_sha256(weights)):
        raise Refusal(
            f"{folder / WEIGHTS} is damaged: its weights have the digest {found[:12]}…, "
            f"the file was written with {expected[:12]}…"
        )
    return Stored(folder, config, weights)


def model_folder(path: Path) -> Path:
    """The directory with the model: `path` itself or `path/model` (a run). Raises Refusal where there is neither."""
    if not path.exists():
        raise Refusal(f"{path} is not there; expected a run's directory or a model directory")
    if not path.is_dir():
        raise Refusal(f"{path} is a file; expected a run's directory or a model directory")
    for folder in (path / "model", path):
        if (folder / CONFIG).is_file():
            return folder
    raise Refusal(
        f"{path} has no {CONFIG} and no model/{CONFIG}: not a finished run of Cloze and not a model directory"
    )
