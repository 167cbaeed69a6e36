"""Does a model read what its demonstrations say? Words that have two answers, and demonstrations that decide which is meant.

    python train.py model=gpt2 size=mini data=world data.demonstrations=0.5 … output_dir=RUN    (docs/few-shot.md has the whole command)
    python -m benchmarks.in_context RUN

The world's lists show one relation each: `loaf => loaves`, or `bake => baked`. A few words are things and deeds, so `comb =>` may go on as
`combs` or as `combed`, and nothing but the demonstrations says which. Each word is asked about under both relations, with the same other
such words as demonstrations: with their answers under the relation that is asked for, and with half of their answers under the other one.
Who reads the answers is right with the former, and right by chance alone with the latter.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np

import cloze
from cloze.data import keyed
from cloze.data.world.demonstrations import ARROW, RELATIONS
from cloze.data.world.draws import Draws, Table
from cloze.data.world.lexicon import Word, lexicon
from cloze.errors import Refusal
from cloze.fewshot.comparison import Comparison
from cloze.fewshot.prompts import Asked, Demonstrations, Prompter

ASKED = ("past", "plural")
SHOTS = (0, 2, 4, 6)
DRAWS = 40  # of demonstrations, for each word and relation


def two_answers() -> Mapping[str, tuple[str, ...]]:
    """The words that have an answer under each relation, and these answers."""
    held = [{_said(left): _said(right) for left, right in RELATIONS[name](lexicon())} for name in ASKED]
    return {word: tuple(each[word] for each in held) for word in held[0] if all(word in each for each in held)}


def prompts(shots: int, shuffle: bool) -> list[Asked]:
    """Each word under each relation, behind demonstrations that are others for each draw."""
    answers, made = two_answers(), []
    for number in range(DRAWS):
        for word in answers:
            draws = Draws(keyed.key("in context", word, number))
            others: list[str] = []
            while len(others) < shots:
                others.append(draws.pick(Table([one for one in answers if one not in (word, *others)])))
            for side in range(len(ASKED)):
                sides = [place % 2 if shuffle else side for place in range(shots)]
                pool = [_question(one, answers[one], its) for one, its in zip(others, sides, strict=True)]
                prompter = Prompter(pool, shots, number, Demonstrations("random", "same", False, "\\n"))
                made.append(prompter.asked(_question(word, answers[word], side)))
    return made


def _question(word: str, answers: tuple[str, ...], side: int) -> Asked:
    return Asked(f"{word} {ARROW.form} ", answers, ".", side)


def _said(phrase: tuple[Word, ...]) -> str:
    return " ".join(word.form for word in phrase)


def main() -> None:
    """Accuracy by number of demonstrations, with their own answers and with shuffled ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_context", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="the run of a model that was trained on lists among other documents")
    try:
        loaded, comparison = cloze.load(parser.parse_args().run), Comparison()
    except Refusal as refusal:
        parser.error(str(refusal))
    print(f"words: {', '.join(two_answers())}")
    print("shots\ttrue\tshuffled\tprompts")
    for shots in SHOTS:
        found = []
        for shuffle in (False, True):
            asked = prompts(shots, shuffle)
            judged = comparison.judge(loaded, asked, loaded.length)
            found.append(np.mean([one.prefers(int(each.gold or 0)) for one, each in zip(judged, asked, strict=True)]))
        print(f"{shots}\t{found[0]:.3f}\t{found[1]:.3f}\t{len(asked)}", flush=True)


if __name__ == "__main__":
    main()
