"""Masked sequence to sequence: the encoder reads a text with a fragment hidden, the decoder writes the fragment and sees nothing else
of the text (MASS: Song et al. 2019, https://arxiv.org/abs/1905.02450).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Packed, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, EncoderDecoder
from cloze.objectives.base import ExampleBuilder, Examples, Tally
from cloze.objectives.corruption import KEPT, MASKED, REPLACED, Selection, beginnings, by_sequence, corrupt, ranges
from cloze.objectives.every_token import EveryToken
from cloze.objectives.noise import framed
from cloze.objectives.shares import check_fates, check_share
from cloze.objectives.windows import windows

Integers = NDArray[np.int64]


def fragment_sizes(lengths: Integers, share: float) -> Integers:
    """Tokens of the fragment of each text: the number nearest to a share of the text's, at least 1."""
    sizes: Integers = np.clip(np.rint(lengths * share), 1, lengths).astype(np.int64)
    return sizes


def fragment_starts(lengths: Integers, sizes: Integers, at_start: float, at_end: float, keys: keyed.Keys) -> Integers:
    """Where the fragment of each text begins: at the text's start with probability `at_start`, so that it ends with the text with
    probability `at_end`, and else anywhere, every place equally likely.
    """
    last = lengths - sizes
    draw = keyed.uniform(keyed.stream(keys, "where"), np.zeros(1, np.int64))
    anywhere = keyed.integers(keyed.stream(keys, "start"), np.zeros(1, np.int64), last + 1)
    return np.where(draw < at_start, 0, np.where(draw < at_start + at_end, last, anywhere))


class FragmentExamples(ExampleBuilder):
    """Texts of at most `length` tokens with the end token behind them, which is one of the text's tokens here.

    A share of each text's consecutive tokens is hidden from the encoder: of those tokens shares `mask`, `random` and `keep` become a
    mask, a random token, and stay. The decoder reads a mask and then the fragment without its last token, each at the position of the
    token that it has to write; it reads nothing else. (The released code begins with the token before the fragment instead.)

    `texts` says what is one text: a `sentence`, the tokens of one document (`apart`), or of several, one after the other (`packed`).
    With `block`, every so many tokens of the text have a fragment of their own, of a share of them rounded down, anywhere among them
    (the published model for summarisation: 64).
    Validation always hides the share `judged_share` in one fragment, 80 % masked and 10 % random, so that arms can be compared.
    """

    special_tokens: ClassVar[tuple[str, ...]] = ("pad", "eos", "mask")

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        share: float = 0.5,
        at_start: float = 0.2,
        at_end: float = 0.2,
        mask: float = 0.8,
        random: float = 0.1,
        keep: float = 0.1,
        block: int = 0,
        texts: Literal["sentence", "apart", "packed"] = "sentence",
        judged_share: float = 0.5,
    ) -> None:
        check_share("share", share, lowest_excluded=True)
        check_share("judged_share", judged_share, lowest_excluded=True)
        check_share("at_start", at_start)
        check_share("at_end", at_end)
        check_fates(mask, random, keep)
        if at_start + at_end > 1:
            raise Refusal(
                f"objective.at_start={at_start:g} and objective.at_end={at_end:g} are shares of the texts: together at most 1."
            )
        if block < 0:
            raise Refusal(
                f"objective.block={block} must be 0 (one fragment a text) or a number of tokens; MASS has 64."
            )
        if block and (at_start, at_end) != (0.2, 0.2):
            raise Refusal(
                f"objective.at_start={at_start:g} and objective.at_end={at_end:g} have no effect with objective.block={block}: "
                "in a block a fragment may stand anywhere."
            )
        if block >= length:
            raise Refusal(
                f"objective.block={block} must be less than length={length}: no text is longer, so each would be one block. "
                "Take objective.block=0 for one fragment a text."
            )
        if block and int(block * share) < 1:
            raise Refusal(f"objective.block={block} with objective.share={share:g} hides no token of a block.")
        self.vocabulary, self.length, self.texts = vocabulary, length, texts
        self.share, self.at_start, self.at_end, self.block = share, at_start, at_end, block
        self.mask, self.random, self.keep, self.judged_share = mask, random, keep, judged_share
        self._ordinary = np.setdiff1d(np.arange(vocabulary.size), list(vocabulary.special_ids))

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        ends = corpus.sentences[corpus.documents]
        edges = {"sentence": np.asarray(corpus.sentences), "apart": ends, "packed": ends[[0, -1]]}[self.texts]
        table = windows(edges, self.length - 1)
        if not len(table):
            raise Refusal("the corpus has no tokens: objective=masked_fragment needs at least one document.")
        lengths = table[:, 1] - table[:, 0] + 1
        return Examples(corpus, table, lengths, tokens=lengths + self._hidden_counts(lengths))

    def _hidden_counts(self, lengths: Integers) -> Integers:
        """How many tokens of each text are hidden."""
        if not self.block:
            return fragment_sizes(lengths, self.share)
        blocks, rest = np.divmod(lengths, self.block)
        inside = blocks * int(self.block * self.share) + np.floor(rest * self.share).astype(np.int64)
        counts: Integers = np.maximum(inside, 1)  # a text of less than one block may be too short for its share
        return counts

    def _hidden(self, lengths: Integers, keys: keyed.Keys) -> tuple[NDArray[np.bool_], Integers]:
        """(N,) which tokens are hidden, and (B,) where the first fragment of each text begins."""
        hidden = np.zeros(int(lengths.sum()), bool)
        starts = beginnings(lengths)
        if not self.block:
            sizes = fragment_sizes(lengths, self.share)
            first = fragment_starts(lengths, sizes, self.at_start, self.at_end, keys)
            hidden[ranges(starts + first, sizes)] = True
            return hidden, first
        count = -(-lengths // self.block)
        text = np.repeat(np.arange(len(lengths)), count)
        number = ranges(np.zeros_like(count), count)
        sizes = np.minimum(lengths[text] - number * self.block, self.block)
        taken = np.floor(sizes * self.share).astype(np.int64)
        taken[(number == 0) & (lengths[text] < self.block)] = np.maximum(taken, 1)[
            (number == 0) & (lengths[text] < self.block)
        ]
        within = keyed.integers(keyed.stream(keys, "start")[text], number, sizes - taken + 1)
        hidden[ranges(starts[text] + number * self.block + within, taken)] = True
        return hidden, within[number == 0]

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        rows = examples.table[indices]
        raw = rows[:, 1] - rows[:, 0]
        text = examples.corpus.tokens[ranges(rows[:, 0], raw)].astype(np.int64)
        tokens, lengths = framed(text, raw, [], [self.vocabulary["eos"]])
        hidden, first = self._hidden(lengths, keys)
        at = np.flatnonzero(hidden)
        selection = Selection(at, at, np.empty(0, np.int64), np.zeros_like(lengths))
        shown, actions = corrupt(
            tokens, lengths, selection, keys, self.vocabulary["mask"], self.mask, self.random, self._ordinary
        )
        owner = np.repeat(np.arange(len(lengths)), lengths)[at]
        # a fragment's first token is not preceded by a hidden one of the same text
        goes_on = np.zeros(len(at), bool)
        goes_on[1:] = (np.diff(at) == 1) & (np.diff(owner) == 0)
        return Sample(
            inputs=Packed(shown, lengths),
            decoder=Packed(
                np.where(goes_on, tokens[at - 1], self.vocabulary["mask"]),
                np.bincount(owner, minlength=len(lengths)),
                positions=at - beginnings(lengths)[owner],
            ),
            targets={"tokens": tokens[at]},
            counts={"masked_fragment": len(at)},
            extra={"at": at, "actions": actions, "first": first},
        )

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        rows = examples.table[indices]
        return {"masked_fragment": int(self._hidden_counts(rows[:, 1] - rows[:, 0] + 1).sum())}

    def judge(self) -> FragmentExamples:
        return FragmentExamples(
            self.vocabulary, self.length, self.judged_share, texts=self.texts, judged_share=self.judged_share
        )

    def explain(self, sample: Sample) -> list[list[str]]:
        words = np.full(len(sample.inputs.tokens), "", dtype=object)
        words[sample.inputs.tokens == self.vocabulary["eos"]] = "special"
        words[sample.extra["at"]] = np.array(["masked", "replaced", "kept"], dtype=object)[sample.extra["actions"]]
        return by_sequence(words, sample.inputs.lengths)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        lengths, actions, first = sample.inputs.lengths, sample.extra["actions"], sample.extra["first"]
        assert sample.decoder is not None
        hidden = sample.decoder.lengths
        tallies = {
            f"hidden tokens (a share of {self.share:g} of each {'block' if self.block else 'text'})": Tally(
                float(self._hidden_counts(lengths).sum()), float(hidden.sum()), int(lengths.sum())
            )
        }
        if not self.block:
            places = lengths - hidden + 1
            for name, seen, own, other in (
                ("start", first == 0, self.at_start, self.at_end),
                ("end", first == places - 1, self.at_end, self.at_start),
            ):
                # it may stand there by chance too, and where there is one place only that is both
                chance = own + (1 - own - other) / places + other * (places == 1)
                tallies[f"fragments at the {name} of their text"] = Tally(
                    float(chance.sum()), float(seen.sum()), len(lengths), float((chance * (1 - chance)).sum())
                )
        for name, action, share in (
            ("masked", MASKED, self.mask), ("random", REPLACED, self.random), ("kept", KEPT, self.keep),
        ):  # fmt: skip
            tallies[f"hidden tokens that are {name}"] = Tally.share(share, int((actions == action).sum()), len(actions))
        return tallies


class MaskedFragment(EveryToken[EncoderDecoder, Text]):
    """Cross-entropy of every token of the fragment, given the rest of the text and the fragment's tokens before it."""

    Examples = FragmentExamples
    term = "masked_fragment"
    task, begins = "fill", "mask"

    def __init__(self, model: Backbone, vocabulary: Vocabulary, block: int = 0, head_rows: int = 0) -> None:
        super().__init__(model, vocabulary, head_rows)
        if block and model.positions is None:
            raise Refusal(
                f"objective.block={block} needs a model that has a position table: several fragments lie one after the other in the "
                f"decoder, and a {type(model).__name__} could not tell how far apart they are. With objective.block=0 there is one."
            )
