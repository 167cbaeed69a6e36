"""Finding and reading checkpoints of others: Hugging Face directories and hub names, safetensors or PyTorch files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cloze.errors import Refusal
from cloze.models import storage

PYTORCH = "pytorch_model.bin"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def located(source: str) -> Path:
    """The directory with the model's config.json: of a run, a Hugging Face or sentence-transformers directory, or, where
    there is no such path, of a download by that name from the hub. Raises Refusal.
    """
    path = Path(source).expanduser()
    if path.exists():
        return _sentence_transformer(path) or storage.model_folder(path)
    looks_like_a_path = source.startswith((".", "/", "~")) or (len(path.parts) > 1 and Path(path.parts[0]).exists())
    if looks_like_a_path or not _HUB_NAME.fullmatch(source):
        raise Refusal(
            f"{source} is not there; expected a run's directory, a Hugging Face directory or a name on its hub"
        )
    return _downloaded(source)


def _sentence_transformer(path: Path) -> Path | None:
    """Its older directories keep the Transformer in a subdirectory that modules.json names."""
    if not (path / "modules.json").is_file() or (path / storage.CONFIG).is_file():
        return None
    for folder in sorted(path.glob("*Transformer*")):
        if (folder / storage.CONFIG).is_file():
            return folder
    return None


def _downloaded(name: str) -> Path:
    """A snapshot of a model on the Hugging Face hub, from its cache where the network is not to be had."""
    from huggingface_hub import snapshot_download

    small = ["*.json", "*.txt", "*.model"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*small, "model*.safetensors"]))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*small, "pytorch_model*.bin"]))
    except Exception as error:  # the library raises its own, the network's and the file system's
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Refusal(
            f"{name} is neither a directory here nor to be had from the Hugging Face hub: {reason}. "
            "Without a network, give the path of a directory."
        ) from None
    return folder


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a Hugging Face directory, in one file or several, on the CPU. Raises Refusal."""
    for name, read in ((storage.WEIGHTS, _safetensors), (PYTORCH, read_pytorch)):
        if (folder / name).exists():
            return read(folder / name)
        if (folder / f"{name}.index.json").exists():
            return _several(folder, name, read)
    raise Refusal(f"{folder} has a {storage.CONFIG} but neither {storage.WEIGHTS} nor {PYTORCH}")


def _safetensors(path: Path) -> dict[str, Tensor]:
    return storage.read_tensors(path)[0]


def _several(folder: Path, name: str, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The files that an index names. Only files of the directory itself are read."""
    index = storage.read_json(folder / f"{name}.index.json").get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(part, str) for part in index.values()):
        raise Refusal(f"{folder / name}.index.json has no weight_map: it does not say which file holds what")
    tensors: dict[str, Tensor] = {}
    for part in sorted(set(index.values())):
        if Path(part).name != part:
            raise Refusal(f"{folder / name}.index.json names {part}, which is not a file of this directory")
        tensors |= read(folder / part)
    return tensors


def read_pytorch(path: Path) -> dict[str, Tensor]:
    """A state dict that torch.save wrote. Nothing but tensors is unpickled. Raises Refusal saying what is wrong."""
    size = path.stat().st_size
    if size == 0:
        raise Refusal(f"{path} is empty (0 bytes); expected weights that torch.save wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling, zip and file errors of many kinds
        start = path.open("rb").read(64)
        if start.startswith(b"PK"):
            what = "cut off or damaged"
        elif start.isascii() and start[:1] != b"\x80":
            what = "text"
        else:
            what = "not weights alone, or damaged"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Refusal(f"{path} ({size:,} bytes) is {what}; expected weights that torch.save wrote ({reason})") from None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise Refusal(f"{path} holds a {type(content).__name__} that is not names and tensors; expected a state dict")
    return {str(name): tensor for name, tensor in content.items()}
