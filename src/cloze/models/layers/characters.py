"""Words as characters, and a convolution that reads them (Kim et al. 2016, https://arxiv.org/abs/1508.06615; with the widths of
Jozefowicz et al. 2016, https://arxiv.org/abs/1602.02410)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

# ELMo's characters: 0 is for places without a word, 1 … 256 are the bytes, then five marks
TEXT_BEGINS, TEXT_ENDS, WORD_BEGINS, WORD_ENDS, FILLING = 257, 258, 259, 260, 261
CHARACTERS = 262
_BEGINNINGS = frozenset({"<s>", "<S>", "[BOS]"})
_ENDS = frozenset({"</s>", "</S>", "[EOS]", "<|endoftext|>"})


def spelled(words: Sequence[str | bytes], longest: int) -> NDArray[np.int16]:
    """(words, longest): each word's UTF-8 bytes between the marks of a word's beginning and end, filled up behind; of a word that is
    too long, the first `longest` - 2 bytes. The tokens that begin and end a text have a character of their own."""
    written = [word.encode("utf-8", "surrogatepass") if isinstance(word, str) else word for word in words]
    written = [word[: longest - 2] for word in written]
    lengths = np.fromiter(map(len, written), np.int64, len(written))
    table = np.full((len(written), longest), FILLING, np.int16)
    table[:, 0] = WORD_BEGINS
    at = np.arange(longest)
    table[(at >= 1) & (at <= lengths[:, None])] = np.frombuffer(b"".join(written), np.uint8).astype(np.int16) + 1
    table[np.arange(len(written)), lengths + 1] = WORD_ENDS
    for row, word in enumerate(words):
        if word in _BEGINNINGS or word in _ENDS:
            table[row] = FILLING
            table[row, :3] = WORD_BEGINS, TEXT_BEGINS if word in _BEGINNINGS else TEXT_ENDS, WORD_ENDS
    return table


def is_byte_level(vocabulary: Sequence[str]) -> bool:
    """Whether its tokens write bytes by letters of their own, as GPT-2's do: such a vocabulary has every byte."""
    return _byte_letters().keys() <= set(vocabulary)


def as_text(tokens: Sequence[str], byte_level: bool) -> list[str | bytes]:
    """What tokens stand for in the text: the bytes that byte-level tokens (Ġthe) write by other letters, a space for SentencePiece's ▁.
    Marks within a word (##ing, ing</w>) stay."""
    if not byte_level:
        return [token.replace("▁", " ") for token in tokens]
    letters = _byte_letters()
    return [
        bytes(letters[letter] for letter in token) if all(letter in letters for letter in token) else token
        for token in tokens
    ]


def _byte_letters() -> dict[str, int]:
    """The letters that byte-level tokenizers write bytes with: printable Latin-1 as it is, the others as U+0100, U+0101, …."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + number): byte for number, byte in enumerate(others)}


class Highway(nn.Module):
    """gate * relu(W x) + (1 - gate) * x (Srivastava et al. 2015, https://arxiv.org/abs/1505.00387): (N, width) -> same. The gate's
    bias begins at -2, so that most of x passes at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)
        self.transform = nn.Linear(width, width)
        for linear in (self.gate, self.transform):
            nn.init.normal_(linear.weight, std=width**-0.5)
            nn.init.zeros_(linear.bias)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        return torch.lerp(x, F.relu(self.transform(x)), gate)


class CharacterEncoder(nn.Module):
    """Characters of words -> vectors: embedding, convolutions of several widths, the highest value of each filter over the word,
    ReLU, highway layers, a projection: (N, longest) int -> (N, width).

    `filters`: (characters that a filter spans, how many filters there are).
    """

    def __init__(self, character_width: int, filters: Sequence[Sequence[int]], highways: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, character_width)
        nn.init.uniform_(self.embedding.weight, -1.0, 1.0)
        self.convolutions = nn.ModuleList(nn.Conv1d(character_width, count, span) for span, count in filters)
        for convolution in self.convolutions:
            nn.init.uniform_(convolution.weight, -0.05, 0.05)  # type: ignore[arg-type]
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        total = sum(count for _, count in filters)
        self.highways = nn.ModuleList(Highway(total) for _ in range(highways))
        self.projection = nn.Linear(total, width)
        nn.init.normal_(self.projection.weight, std=1 / math.sqrt(total))
        nn.init.zeros_(self.projection.bias)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.embedding(characters.long()).transpose(1, 2)
        x = F.relu(torch.cat([convolution(x).amax(-1) for convolution in self.convolutions], -1))
        for highway in self.highways:
            x = highway(x)
        projected: Tensor = self.projection(x)
        return projected
