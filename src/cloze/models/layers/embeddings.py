"""Word, position and segment embeddings of an encoder."""

from __future__ import annotations

from torch import Tensor, nn

from cloze.models.base import Sequences
from cloze.models.layers.dropout import drop


class Embeddings(nn.Module):
    """Sum of word, learned position and segment embeddings, normed, with dropout: (N,) tokens -> (N, width).

    `first_position` is the row of the position table that a sequence's first token takes (RoBERTa's begins at 2).
    A batch without segments is all segment 0.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        positions: int,
        segments: int,
        dropout: float,
        epsilon: float,
        first_position: int = 0,
    ) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(positions + first_position, width)
        self.segment = nn.Embedding(segments, width)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.dropout = dropout
        self.first_position = first_position

    def forward(self, sequences: Sequences) -> Tensor:
        places = sequences.positions + self.first_position if self.first_position else sequences.positions
        # a table of one segment serves every batch, also those that tell segments apart
        told_apart = sequences.segments is not None and self.segment.num_embeddings > 1
        segment = self.segment(sequences.segments) if told_apart else self.segment.weight[0]
        x = self.norm(self.word(sequences.tokens) + self.position(places) + segment)
        return drop(x, self.dropout, self.training)
