"""Does a model read the labels of its demonstrations? Lists with arbitrary marks, in the generated language's words.

    python -m benchmarks.in_context --write FOLDER    train.txt and validation.txt: what reading labels can be learnt from
    python -m benchmarks.in_context --run RUN         measures a model that was trained on them

A list sorts things of two topics under two marks, `tulip red.`; which topic has which mark is drawn for each list, so that nothing but
the list says it. With true demonstrations the mark of a thing can be read off; with shuffled ones there is nothing to be read, and who
goes by them is right by chance alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import cloze
from cloze.data import keyed
from cloze.data.world.draws import Draws, Table
from cloze.data.world.lexicon import lexicon
from cloze.fewshot.comparison import Comparison
from cloze.fewshot.prompts import Asked, Demonstrations, Prompter

DOCUMENTS = {"train": 20_000, "validation": 500}
LINES = 16
KINDS = 2  # of things of each topic, so that most come more than once in a list
SHOTS = (0, 2, 4, 8, 12)
PROMPTS = 400
LONG = 64  # lines of a list that prompts are cut from


def sorting(key: int, count: int = LINES) -> list[tuple[str, str, int]]:
    """(thing, mark, number of the mark) for each of `count` lines of a list."""
    words, draws = lexicon(), Draws(key)
    topics: list[int] = []
    while len(topics) < 2:
        topics.append(draws.pick(Table([n for n in range(len(words.topics)) if n not in topics])))
    colours = [item.form for item in words.colours.items]
    marks = [draws.pick(Table(colours))]
    marks.append(draws.pick(Table([colour for colour in colours if colour not in marks])))
    things: list[list[str]] = []
    for topic in topics:
        held = [noun.one[-1].form for noun in words.topics[topic].nouns.items if len(noun.one) == 1]
        held = [thing for thing in held if not any(thing in others for others in things)]
        chosen: list[str] = []
        while len(chosen) < KINDS:
            chosen.append(draws.pick(Table([thing for thing in held if thing not in chosen])))
        things.append(chosen)
    lines = []
    for _ in range(count):
        side = draws.pick(Table((0, 1)))
        lines.append((draws.pick(Table(things[side])), marks[side], side))
    return lines


def write(folder: Path) -> None:
    """The text: a list a document, documents apart by a blank line."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in DOCUMENTS.items():
        lists = (sorting(keyed.key("sorting", split, number)) for number in range(count))
        text = "\n\n".join("\n".join(f"{thing} {mark}." for thing, mark, _ in lines) for lines in lists)
        (folder / f"{split}.txt").write_text(text + "\n", encoding="utf-8")


def prompts(shots: int, shuffle: bool) -> list[Asked]:
    """Lists with half of their lines under each mark, and a question about one of the things in them."""
    made = []
    for number in range(PROMPTS):
        lines = sorting(keyed.key("sorting", "prompts", number), LONG)
        marks = {side: mark for _, mark, side in lines}
        options = (marks[0], marks[1])
        halves = [[line for line in lines if line[2] == side][: shots // 2] for side in (0, 1)]
        pool = [Asked(f"{thing} ", options, ".", side) for half in halves for thing, _, side in half]
        thing, gold = (
            (pool[number % shots].before, pool[number % shots].gold) if shots else (f"{lines[0][0]} ", lines[0][2])
        )
        prompter = Prompter(pool, shots, number, Demonstrations("random", "same", shuffle and shots > 0, "\\n"))
        made.append(prompter.asked(Asked(thing, options, ".", gold)))
    return made


def measure(run: str) -> None:
    """Accuracy by number of demonstrations, with their own marks and with shuffled ones."""
    loaded, comparison = cloze.load(run), Comparison()  # what stands after an answer is a full stop, whatever it is
    print("shots\ttrue\tshuffled\tstandard error at 1/2")
    for shots in SHOTS:
        found = []
        for shuffle in (False, True):
            asked = prompts(shots, shuffle)
            judged = comparison.judge(loaded, asked, loaded.length)
            found.append(np.mean([one.prefers(int(each.gold or 0)) for one, each in zip(judged, asked, strict=True)]))
        print(f"{shots}\t{found[0]:.3f}\t{found[1]:.3f}\t{0.5 / len(asked) ** 0.5:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_context", description=__doc__.splitlines()[0])
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--write", type=Path, metavar="FOLDER", help="where the text is written to")
    todo.add_argument("--run", help="the run of a model that was trained on it")
    given = parser.parse_args()
    if given.write:
        write(given.write)
    else:
        measure(given.run)


if __name__ == "__main__":
    main()
