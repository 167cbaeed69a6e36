"""Draws docs/loss-curve.svg from a run: `python docs/figures.py RUN`. Needs matplotlib, which nothing else here does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt


def main(run: Path) -> None:
    """Training and validation loss over steps, between the unigram entropy and the entropy floor."""
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    points = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    plt.rcParams.update({"svg.hashsalt": "cloze", "svg.fonttype": "none", "font.size": 11})
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for name, colour, label in (("train/loss", "#9ecae1", "training"), ("val/loss", "#08519c", "validation")):
        chosen = [(point["step"], point[name]) for point in points if name in point]
        axes.plot(*zip(*chosen, strict=True), color=colour, linewidth=2 if name == "val/loss" else 1, label=label)
    for key, style in (("unigram_entropy", "--"), ("entropy_floor", ":")):
        value = facts["data"][key]
        if value is not None:
            axes.axhline(value, color="#636363", linestyle=style, linewidth=1)
            axes.text(
                facts["steps"], value, f"{key.replace('_', ' ')} {value:.2f} ", ha="right", va="bottom", color="#636363"
            )
    axes.set(xlabel="optimizer steps", ylabel="loss, nats a hidden token", ylim=(0, None), xlim=(0, facts["steps"]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center right")
    figure.savefig(Path(__file__).parent / "loss-curve.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
