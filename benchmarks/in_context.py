"""Does a model read the labels of its demonstrations? Sorted lists, as `data=world data.demonstrations=…` has them among its documents.

    python train.py model=gpt2 size=mini data=world data.demonstrations=0.5 … output_dir=RUN    (docs/few-shot.md has the whole command)
    python -m benchmarks.in_context RUN

A list sorts things of two topics by two colours, `rose red.`; which topic has which colour is drawn for each list, so that nothing but
the list says it. With true demonstrations the colour of a thing can be read off; with shuffled ones there is nothing to be read, and who
goes by them is right by chance alone.
"""

from __future__ import annotations

import argparse

import numpy as np

import cloze
from cloze.data import keyed
from cloze.data.world.demonstrations import Phrase, sorting
from cloze.data.world.draws import Draws
from cloze.data.world.lexicon import lexicon
from cloze.fewshot.comparison import Comparison
from cloze.fewshot.prompts import Asked, Demonstrations, Prompter

SHOTS = (0, 2, 4, 8, 12)
PROMPTS = 1000
LONG = 64  # lines of a list that prompts are cut from


def prompts(shots: int, shuffle: bool) -> list[Asked]:
    """Lists with half of their lines under each colour, and a question about one of the things in them."""
    made = []
    for number in range(PROMPTS):
        lines = sorting(lexicon(), Draws(keyed.key("sorting", "prompts", number)), LONG, topics=2, things=2)
        colours = sorted({_said(line.right) for line in lines})
        solved = [(_said(line.left), colours.index(_said(line.right))) for line in lines]
        halves = [[one for one in solved if one[1] == side][: shots // 2] for side in (0, 1)]
        pool = [Asked(f"{thing} ", tuple(colours), ".", side) for half in halves for thing, side in half]
        asked = pool[number % shots] if shots else Asked(f"{solved[0][0]} ", tuple(colours), ".", solved[0][1])
        prompter = Prompter(pool, shots, number, Demonstrations("random", "same", shuffle and shots > 0, "\\n"))
        made.append(prompter.asked(asked))
    return made


def _said(phrase: Phrase) -> str:
    return " ".join(word.form for word in phrase)


def main() -> None:
    """Accuracy by number of demonstrations, with their own labels and with shuffled ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_context", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="the run of a model that was trained on lists among other documents")
    loaded, comparison = cloze.load(parser.parse_args().run), Comparison()
    print("shots\ttrue\tshuffled\tstandard error at 1/2")
    for shots in SHOTS:
        found = []
        for shuffle in (False, True):
            asked = prompts(shots, shuffle)
            judged = comparison.judge(loaded, asked, loaded.length)
            found.append(np.mean([one.prefers(int(each.gold or 0)) for one, each in zip(judged, asked, strict=True)]))
        print(f"{shots}\t{found[0]:.3f}\t{found[1]:.3f}\t{0.5 / len(asked) ** 0.5:.3f}", flush=True)


if __name__ == "__main__":
    main()
