"""Lightning's way to checkpoint files, leading to ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import CheckpointIO

from cloze.training import checkpoints


class SafeCheckpointIO(CheckpointIO):
    """Writes beside, syncs, renames, then writes the manifest; reads with `weights_only=True` and nothing else."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """As `checkpoints.save`."""
        checkpoints.save(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """As `checkpoints.load`, whatever the arguments say."""
        return checkpoints.load(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """As `checkpoints.remove`."""
        checkpoints.remove(Path(path))
