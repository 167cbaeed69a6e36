"""What a trained model can be asked for. Light: the commands' help says it too."""

from __future__ import annotations

from typing import Literal

Task = Literal["judge", "fill", "continue", "rewrite", "replaced", "vectors"]
TASKS: dict[str, str] = {
    "judge": "says what it was fine-tuned to say: a class, tags, an answer, a choice, a text",
    "fill": "fills each [MASK]",
    "continue": "goes on with the text",
    "rewrite": "writes the text again",
    "replaced": "tells which tokens do not belong",
    "vectors": "gives a vector for each token",
}
