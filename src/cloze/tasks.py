"""What a trained model can be asked for. Light: the commands' help says it too."""

from __future__ import annotations

from typing import Literal

Task = Literal["fill", "continue", "rewrite", "replaced", "vectors"]
TASKS: dict[str, str] = {
    "fill": "fills each [MASK]",
    "continue": "goes on with the text",
    "rewrite": "writes the text again",
    "replaced": "tells which tokens do not belong",
    "vectors": "gives a vector for each token",
}
