"""Two hidden words that depend on each other: what a masked language model cannot say of them and a permutation language model can.

The text has sentences such as "they flew to new york on monday". Both words of the name are hidden. A masked language model gives
each word's distribution, and of both together nothing but the product p(new) · p(york), as if one had nothing to do with the other;
however well it is trained, it holds "new francisco" for as probable as p(new) · p(francisco). A permutation language model predicts
one word, then the other with the first in sight: p(new) · p(york | new), in either order (XLNet: Yang et al. 2019,
https://arxiv.org/abs/1906.08237, sections 2.1 and 2.6).

`python -m cloze.analysis.independence` trains both on the same sentences and prints what they say.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cloze.data import keyed
from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.data.batches import batch_of
from cloze.inference.reading import judging
from cloze.models.base import Batch, Bidirectional, TokenHead
from cloze.models.bert import Bert
from cloze.models.padding import flat
from cloze.models.xlnet import XLNet
from cloze.objectives.base import ExampleBuilder, Objective
from cloze.objectives.mlm import MaskedExamples, MaskedLM
from cloze.objectives.permutation_lm import PermutationExamples, PermutationLM

if TYPE_CHECKING:
    from rich.table import Table

Pair = tuple[str, str]
Joint = dict[Pair, float]  # how probable each first word with each second word is

NAMES: Joint = {("new", "york"): 0.35, ("new", "delhi"): 0.15, ("san", "francisco"): 0.3, ("san", "diego"): 0.2}
WHO = ("they", "we", "she", "he", "anna", "ivan")
HOW = ("flew", "drove", "moved", "went")
WHEN = ("monday", "tuesday", "friday", "sunday")
SPECIAL = ("pad", "unk", "cls", "sep", "mask", "eos")
FIRSTS, SECONDS = (tuple(dict.fromkeys(words)) for words in zip(*NAMES, strict=True))
WORDS = (*SPECIAL, *WHO, *HOW, "to", *FIRSTS, *SECONDS, "on", *WHEN)
NUMBER = {word: number for number, word in enumerate(WORDS)}
VOCABULARY = Vocabulary(len(WORDS), {role: NUMBER[role] for role in SPECIAL})
SHAPE: dict[str, Any] = {"layers": 2, "width": 32, "heads": 2, "inner": 64, "dropout": 0.0, "attention_dropout": 0.0}
LENGTH, PLACE = 12, 3  # tokens of an example; which word of a sentence begins the name


@dataclass(frozen=True)
class Lesson:
    """What was measured: joint distributions of the name's two words, means over all sentences.

    forward, backward  the permutation model's, first word first and second word first
    masked             the masked model's product
    conditional        the masked model's p(second | first), the first word being in sight
    """

    forward: Joint
    backward: Joint
    masked: Joint
    conditional: Joint

    @property
    def truth(self) -> Joint:
        """In the text."""
        return {pair: NAMES.get(pair, 0.0) for pair in itertools.product(FIRSTS, SECONDS)}

    @property
    def product(self) -> Joint:
        """The best that any product of two distributions can be: that of the text's own two."""
        first = {word: sum(p for (a, _), p in NAMES.items() if a == word) for word in FIRSTS}
        second = {word: sum(p for (_, b), p in NAMES.items() if b == word) for word in SECONDS}
        return {(a, b): first[a] * second[b] for a, b in itertools.product(FIRSTS, SECONDS)}

    def nats(self, joint: Mapping[Pair, float]) -> float:
        """What both words cost a reader with this distribution, on average over the text."""
        return -sum(p * math.log(joint[pair]) for pair, p in NAMES.items())


def text(sentences: int, seed: int) -> TokenizedCorpus:
    """Sentences whose words are drawn independently of each other, but for those of the name."""
    generator = np.random.default_rng(seed)
    names = list(NAMES)
    drawn = generator.choice(len(names), sentences, p=list(NAMES.values()))
    who, how, when = (generator.choice(words, sentences) for words in (WHO, HOW, WHEN))
    return TokenizedCorpus.of(
        [[sentence(w, h, names[name], n)] for w, h, name, n in zip(who, how, drawn, when, strict=True)]
    )


def sentence(who: str, how: str, name: Pair, when: str) -> list[int]:
    """Its tokens."""
    return [NUMBER[word] for word in (who, how, "to", *name, "on", when)]


def train(
    model: Bidirectional,
    objective: Objective[Any, Any],
    builder: ExampleBuilder,
    corpus: TokenizedCorpus,
    steps: int,
    seed: int,
) -> None:
    """A plain loop: 64 sentences a step, Adam, a rate that falls to 0."""
    examples = builder.build(corpus, seed)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 4e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for step in range(steps):
        indices = keyed.permutation(keyed.key(seed, step), len(examples))[:64]
        batch = batch_of(builder.sample(examples, indices, builder.keys(seed, step, indices)))
        term = next(iter(objective(model, batch).terms.values()))
        optimizer.zero_grad()
        (term.total / term.count).backward()
        optimizer.step()
        schedule.step()


def measure(steps: int = 500, seed: int = 1) -> Lesson:
    """Trains both models, each with its objective as runs have it, and asks them about every sentence there can be."""
    corpus = text(4000, seed)
    torch.manual_seed(seed)
    permutation = XLNet(len(WORDS), LENGTH, False, initializer_range=0.1, **SHAPE)
    ordered = PermutationLM(permutation, VOCABULARY)
    train(
        permutation,
        ordered,
        PermutationExamples(VOCABULARY, LENGTH, 3, "token", documents="apart"),
        corpus,
        steps,
        seed,
    )
    bert = Bert(len(WORDS), LENGTH, False, initializer_range=0.1, **SHAPE)
    masking = MaskedLM(bert, VOCABULARY)
    train(
        bert, masking, MaskedExamples(VOCABULARY, LENGTH, mask_ratio=0.3, format="doc_sentences"), corpus, steps, seed
    )
    with judging(permutation, ordered, bert, masking):
        return Lesson(
            _in_order(permutation, ordered.head, forward=True),
            _in_order(permutation, ordered.head, forward=False),
            *_masked(bert, masking.head),
        )


def _asked(words: Pair, enclosed: Callable[[list[int]], list[int]]) -> list[list[int]]:
    return [enclosed(sentence(who, how, words, when)) for who, how, when in itertools.product(WHO, HOW, WHEN)]


def _in_order(model: XLNet, head: TokenHead, forward: bool) -> Joint:
    """One word of the name from the sentence without the name, the other one from the sentence with the first."""
    one, other = (FIRSTS, SECONDS) if forward else (SECONDS, FIRSTS)
    places = (PLACE, PLACE + 1) if forward else (PLACE + 1, PLACE)

    def shares(words: Pair, asked: int) -> Tensor:
        """(V,) of the word at a place, which the other one of the name sees or not as the order says."""
        # as in training: end-of-text before a sentence and behind it, then [SEP] and [CLS], which is in a segment of its own
        after = [NUMBER["eos"], NUMBER["sep"], NUMBER["cls"]]
        inputs = flat(_asked(words, lambda row: [NUMBER["eos"], *row, *after]))
        starts = inputs.layout.starts() + 1
        inputs.order = torch.full_like(inputs.tokens, -1)
        inputs.order[starts + places[0]], inputs.order[starts + places[1]] = 0, 1
        inputs.segments = torch.zeros_like(inputs.tokens)
        inputs.segments[inputs.layout.lasts] = 2
        # [SEP] and [CLS] come last in the order
        inputs.order[inputs.layout.lasts - 1], inputs.order[inputs.layout.lasts] = 2, 3
        inputs.queries = starts + asked
        states = model(Batch(inputs, {}, {}, {})).queries
        assert states is not None
        distribution: Tensor = head(states, model.word_embedding).softmax(-1)
        return distribution

    joint: Joint = {}
    for a in one:
        filled = (
            (a, other[0]) if forward else (other[0], a)
        )  # what stands in the place of the other word is not looked at
        before, behind = shares(filled, places[0])[:, NUMBER[a]], shares(filled, places[1])
        for b in other:
            joint[(a, b) if forward else (b, a)] = float((before * behind[:, NUMBER[b]]).mean())
    return joint


def _masked(model: Bert, head: TokenHead) -> tuple[Joint, Joint]:
    """The product of both words' probabilities, both hidden; and the second word's where the first is in sight."""

    def shares(words: Pair, asked: int) -> Tensor:
        inputs = flat(_asked(words, lambda row: [NUMBER["cls"], *row, NUMBER["sep"]]))
        states = model(Batch(inputs, {}, {}, {})).last[inputs.layout.starts() + 1 + asked]
        distribution: Tensor = head(states, model.word_embedding).softmax(-1)
        return distribution

    first, second = shares(("mask", "mask"), PLACE), shares(("mask", "mask"), PLACE + 1)
    product, conditional = {}, {}
    for a in FIRSTS:
        known = shares((a, "mask"), PLACE + 1)
        for b in SECONDS:
            product[a, b] = float((first[:, NUMBER[a]] * second[:, NUMBER[b]]).mean())
            conditional[a, b] = float(known[:, NUMBER[b]].mean())
    return product, conditional


def table(lesson: Lesson) -> Table:
    """A row for each pair of words, and what they cost."""
    from rich.table import Table

    columns = {
        "in the\ntext": lesson.truth,
        "permutation,\nfirst first": lesson.forward,
        "permutation,\nsecond first": lesson.backward,
        "masked,\nproduct": lesson.masked,
        "the best\nproduct": lesson.product,
    }
    made = Table(title="How probable are two hidden words together?")
    made.add_column("words", no_wrap=True)
    for name in columns:
        made.add_column(name, justify="right", no_wrap=True)
    for pair in lesson.truth:
        made.add_row(" ".join(pair), *(f"{joint[pair]:.3f}" for joint in columns.values()))
    made.add_section()
    made.add_row("nats for both", *(f"{lesson.nats(joint):.3f}" for joint in columns.values()))
    return made


def main() -> None:
    """The command."""
    from rich.console import Console

    parser = argparse.ArgumentParser(
        description="Two hidden words that depend on each other, as two objectives see them."
    )
    parser.add_argument("--steps", type=int, default=500, help="of training, of each model")
    parser.add_argument("--seed", type=int, default=1)
    settings = parser.parse_args()
    lesson = measure(settings.steps, settings.seed)
    console = Console()
    console.print(table(lesson))
    known = lesson.conditional["new", "york"]
    console.print(f"The masked model knows what follows a word that it sees: p(york | new) = {known:.3f}.")


if __name__ == "__main__":
    main()
