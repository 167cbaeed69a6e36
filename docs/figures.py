"""Draws a run's learning curve: `python docs/figures.py RUN docs/models/NAME.svg`. Needs matplotlib, which nothing else here does.

Metrics named behind that are drawn instead of the losses: `python docs/figures.py RUN PICTURE val/loss_generator val/auc`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt


def main(run: Path, picture: Path, named: list[str]) -> None:
    """Training and validation loss over steps, between the unigram entropy and the entropy floor where they are known.

    A run with several loss terms has a line for the validation of each.
    """
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    points = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    terms = sorted({name for point in points for name in point if name.startswith("val/loss_")})
    lines = [("train/loss", "#9ecae1", "training"), ("val/loss", "#08519c", "validation")]
    if len(terms) > 1:
        colours = ("#a63603", "#31a354", "#756bb1", "#636363")
        lines += [(name, colour, name.removeprefix("val/loss_")) for name, colour in zip(terms, colours, strict=False)]
    if named:
        colours = ("#08519c", "#a63603", "#31a354", "#756bb1")
        lines = [
            (name, colour, name.removeprefix("val/").replace("_", " "))
            for name, colour in zip(named, colours, strict=False)
        ]
    plt.rcParams.update({"svg.hashsalt": "cloze", "svg.fonttype": "none", "font.size": 11})
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for name, colour, label in lines:
        chosen = [(point["step"], point[name]) for point in points if name in point]
        axes.plot(*zip(*chosen, strict=True), color=colour, linewidth=1 if name == "train/loss" else 2, label=label)
    for key, style in (("unigram_entropy", "--"), ("entropy_floor", ":")):
        value = facts["data"][key]
        if value is not None:
            axes.axhline(value, color="#636363", linestyle=style, linewidth=1)
            # beside the plot, where no curve runs through it
            label, beside = f"{key.replace('_', chr(10))}\n{value:.2f}", axes.get_yaxis_transform()
            axes.text(1.01, value, label, transform=beside, ha="left", va="bottom", color="#636363", fontsize=9)
    axes.set(
        xlabel="optimizer steps",
        ylabel="validation" if named else "loss, nats a target",
        ylim=(0, None),
        xlim=(0, facts["steps"]),
    )
    axes.spines[["top", "right"]].set_visible(False)
    # losses begin high and end low: above them, on the right, there is room
    axes.legend(frameon=False, loc="center right" if named else "upper right")
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
