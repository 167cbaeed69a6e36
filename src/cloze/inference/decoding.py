"""How the next token is chosen: the likeliest, one drawn, or several ways followed at once (beams)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cloze.data import keyed
from cloze.errors import Refusal


@dataclass(frozen=True)
class Decoding:
    """Settings of everything that writes.

    At most `tokens` tokens. `temperature` 0 takes the likeliest token each time (greedy). Above 0 it draws, with randomness that is a
    function of `seed`, the text's number and the place, from the `top_k` likeliest tokens (0: all) and from the smallest set of them
    that holds `top_p` of the probability (https://arxiv.org/abs/1904.09751).

    `beams` above 1: so many beginnings are followed at once, and the text with the highest log-probability / length ** `length_penalty`
    of all that were finished is taken (https://arxiv.org/abs/1609.08144 has other penalties; this is the usual one).
    `no_repeat_ngram`: no sequence of so many tokens stands twice in a text (0: any may), its beginning counted.
    """

    tokens: int = 30
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("tokens", 1), ("top_k", 0), ("beams", 1), ("no_repeat_ngram", 0)):
            if getattr(self, name) < least:
                raise Refusal(f"{name}={getattr(self, name)} must be at least {least}.")
        if not 0 <= self.temperature < math.inf:
            raise Refusal(f"temperature={self.temperature} must be at least 0; 0 takes the likeliest token each time.")
        if not 0 < self.top_p <= 1:
            raise Refusal(f"top_p={self.top_p} must lie in (0, 1].")
        if not math.isfinite(self.length_penalty):
            raise Refusal(f"length_penalty={self.length_penalty} must be a finite number.")
        drawing = {"top_k": self.top_k != 0, "top_p": self.top_p != 1, "seed": self.seed != 0}
        if self.temperature == 0 and (idle := [name for name, said in drawing.items() if said]):
            raise Refusal(f"{idle[0]} has no effect with temperature=0, which draws nothing; try temperature=1.")
        if self.beams > 1 and self.temperature > 0:
            raise Refusal(f"temperature={self.temperature} has no effect with beams={self.beams}: beams draw nothing.")
        if self.beams == 1 and self.length_penalty != 1:
            raise Refusal(f"length_penalty={self.length_penalty} has no effect without beams; try beams=4.")

    def choose(self, logits: Tensor, texts: Sequence[int], step: int) -> list[int]:
        """The next token of each row of (B, V) logits on the CPU; `texts` are the rows' numbers, `step` counts what was written."""
        if self.temperature == 0:
            greedy: list[int] = logits.argmax(-1).tolist()
            return greedy
        # differences from the likeliest, in 64 bits: however low the temperature is, it stays a number
        below = logits.double() - logits.double().amax(-1, keepdim=True)
        ordered, tokens = (below / self.temperature).sort(dim=-1, descending=True, stable=True)
        shares = ordered.softmax(-1)
        if self.top_k:
            shares[:, self.top_k :] = 0.0
        # a token stays while those before it hold less than top_p
        shares[shares.cumsum(-1) - shares >= self.top_p * shares.sum(-1, keepdim=True)] = 0.0
        reached = shares.cumsum(-1)
        numbers = keyed.uniform(keyed.keys(keyed.key(self.seed, "decoding"), np.array(texts)), np.array([step]))
        place = torch.searchsorted(reached, torch.from_numpy(numbers)[:, None] * reached[:, -1:], right=True)
        # the last token that can be drawn, should rounding lead beyond it
        place = place.minimum((shares > 0).sum(-1, keepdim=True) - 1)
        drawn: list[int] = tokens.gather(1, place).squeeze(1).tolist()
        return drawn

    def forbid(self, logits: Tensor, rows: Sequence[Sequence[int]]) -> None:
        """Sets to minus infinity what would complete an n-gram that stands in the row already."""
        n = self.no_repeat_ngram
        if n == 0:
            return
        for number, row in enumerate(rows):
            last = tuple(row[len(row) - n + 1 :])
            again = [row[i + n - 1] for i in range(len(row) - n + 1) if tuple(row[i : i + n - 1]) == last]
            logits[number, again] = -math.inf
