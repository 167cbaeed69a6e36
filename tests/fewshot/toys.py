"""Models whose probabilities can be worked out by hand, and a tokenizer of words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cloze.data.base import Vocabulary
from cloze.loading import Pretrained
from cloze.models.base import Batch, Causal, HiddenStates, TokenHead

WORDS = [
    "<s>",
    "<?>",
    "good",
    "bad",
    "very",
    "film",
    "tale",
    "dull",
    "bright",
    "Answer",
    ":",
    "Review",
    ".",
    "a",
    "b",
    "c",
    "\n",
]


class Bigram(Causal):
    """What comes next depends on the last token alone: `table` (V, V) holds the logits. With equal rows it is a unigram model."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)
        self.width = len(table)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        return HiddenStates(self.table[batch.inputs.tokens])

    @property
    def word_embedding(self) -> Tensor:
        return torch.eye(len(self.table))

    def token_head(self) -> TokenHead:
        return TokenHead()

    def depth(self, parameter_name: str) -> int:
        return 0


class Words:
    """A word is a token; unknown ones are `<?>`."""

    def __init__(self) -> None:
        self.vocabulary = Vocabulary(len(WORDS), {"eos": 0, "unk": 1})
        self.roles = {"eos": "<s>", "unk": "<?>"}

    def encode(self, text: str, special: bool = False) -> list[int]:
        for mark in (":", ".", "\n"):
            text = text.replace(mark, f" {mark} ")
        return [WORDS.index(word) if word in WORDS else 1 for word in text.split(" ") if word]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        return " ".join(WORDS[token] for token in ids)

    def token(self, id: int) -> str:
        return WORDS[id]


def unigram(seed: int = 0) -> Pretrained:
    logits = torch.randn(len(WORDS), generator=torch.Generator().manual_seed(seed))
    return toy(logits.expand(len(WORDS), -1).clone())


def bigram(seed: int = 0) -> Pretrained:
    return toy(torch.randn(len(WORDS), len(WORDS), generator=torch.Generator().manual_seed(seed)))


def toy(table: Tensor) -> Pretrained:
    model = Bigram(table)
    return Pretrained(model, Words(), model.token_head(), 1000)  # type: ignore[arg-type]


def log_probabilities(loaded: Pretrained) -> Tensor:
    """(V, V): row a, column b: log p(b | a)."""
    table: Tensor = loaded.model.table.detach()  # type: ignore[assignment,operator,union-attr]
    return table.log_softmax(-1)


class Copier(Causal):
    """What comes next is what stood behind the last token the last time that it stood in the text: induction, made by hand. Where it did
    not stand there before, everything is equally probable."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(len(WORDS)))
        self.width = len(WORDS)

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        tokens, logits = batch.inputs.tokens.tolist(), []
        offsets = batch.inputs.layout.offsets
        for start, end in itertools.pairwise(offsets):
            row = tokens[start:end]
            for place, token in enumerate(row):
                before = [i for i in range(place) if row[i] == token]
                copied = torch.zeros(len(WORDS)) if not before else 5.0 * torch.eye(len(WORDS))[row[before[-1] + 1]]
                logits.append(copied + self.nothing)
        return HiddenStates(torch.stack(logits))

    @property
    def word_embedding(self) -> Tensor:
        return torch.eye(len(WORDS))

    def token_head(self) -> TokenHead:
        return TokenHead()

    def depth(self, parameter_name: str) -> int:
        return 0


def copier() -> Pretrained:
    model = Copier()
    return Pretrained(model, Words(), model.token_head(), 1000)  # type: ignore[arg-type]
