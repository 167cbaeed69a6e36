"""Vocabularies cut by frequency: rare words have their own softmax, entered through one class of the frequent words' (Grave et al.
2017, https://arxiv.org/abs/1609.04309), and may have narrower vectors (Baevski and Auli 2018, https://arxiv.org/abs/1809.10853).

Token ids must rise as frequency falls, as those of `tokenizer=word` do.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloze.models.base import TokenHead


class AdaptiveEmbedding(nn.Module):
    """Word vectors times the root of the width: (N,) tokens -> (N, width).

    With `div_val` 1 there is one table (V, embedding_width), projected where that is not the width. Else each cluster of the
    vocabulary has a table of its own, `div_val` times narrower than the one before, and its own projection.
    """

    def __init__(self, vocabulary: int, width: int, embedding_width: int, cutoffs: list[int], div_val: int) -> None:
        super().__init__()
        self.vocabulary, self.width, self.div_val = vocabulary, width, div_val
        self.edges = (0, *cutoffs, vocabulary)
        clusters = [vocabulary] if div_val == 1 else [b - a for a, b in pairwise(self.edges)]
        widths = [embedding_width // div_val**i for i in range(len(clusters))]
        self.tables = nn.ParameterList(torch.empty(n, e) for n, e in zip(clusters, widths, strict=True))
        projected = div_val > 1 or embedding_width != width
        self.projections = nn.ParameterList(torch.empty(width, e) for e in widths if projected)

    def forward(self, tokens: Tensor) -> Tensor:
        scale = self.width**0.5
        if len(self.tables) == 1:
            vectors = F.embedding(tokens, self.tables[0])
            vectors = F.linear(vectors, self.projections[0]) if len(self.projections) else vectors
            scaled: Tensor = vectors.to(self.tables[0].dtype) * scale
            return scaled
        cluster = clusters_of(tokens, self.edges)
        places, parts = [], []
        for i, (table, projection) in enumerate(zip(self.tables, self.projections, strict=True)):
            here = torch.nonzero(cluster == i).squeeze(1)
            places.append(here)
            parts.append(F.linear(F.embedding(tokens[here] - self.edges[i], table), projection))
        # in full precision, also where a projection has made fewer bits of it: it is what all layers add to
        joined = torch.cat(parts).to(self.tables[0].dtype) * scale
        return torch.empty_like(joined).index_copy(0, torch.cat(places), joined)


def clusters_of(tokens: Tensor, edges: tuple[int, ...]) -> Tensor:
    """The cluster of each token: 0 for the frequent ones."""
    return torch.bucketize(tokens, torch.tensor(edges[1:-1], device=tokens.device, dtype=tokens.dtype), right=True)


class AdaptiveHead(TokenHead):
    """The loss costs the frequent words' logits at every token, and those of one cluster where the target lies in it.

    `tied`: the words' vectors are the embedding's. `tied_projections`: so are the projections, but for the frequent words' own.
    Without cutoffs this is a plain softmax over all words.
    """

    def __init__(self, embedding: AdaptiveEmbedding, tied: bool, tied_projections: bool, deviation: float) -> None:
        super().__init__()
        self._lent = (
            embedding,
        )  # in a tuple, as it is no part of this module: tables of several widths are no one tensor
        self.edges, self.tied = embedding.edges, tied
        tails = len(self.edges) - 2
        first = embedding.tables[0]
        self.bias = nn.Parameter(first.new_zeros(embedding.vocabulary))
        self.clusters = nn.Parameter(first.new_empty(tails, first.shape[1])) if tails else None
        self.cluster_bias = nn.Parameter(first.new_zeros(tails)) if tails else None
        self.tables = None if tied else nn.ParameterList(torch.empty_like(table) for table in embedding.tables)
        own = {i: embedding.projections[i % len(embedding.projections)] for i in self._own(tied_projections)}
        self.projections = nn.ParameterDict({str(i): torch.empty_like(given) for i, given in own.items()})
        for parameter in (self.clusters, *(self.tables or ())):
            if parameter is not None:
                nn.init.normal_(parameter, std=deviation)
        for parameter in self.projections.values():
            nn.init.normal_(parameter, std=deviation / 2)

    def _own(self, tied_projections: bool) -> list[int]:
        """The clusters whose projection is the head's own."""
        if not len(self._lent[0].projections):
            return []
        return [0] if tied_projections else list(range(len(self.edges) - 1))

    def _vectors(self, cluster: int, embedding: Tensor) -> Tensor:
        """(n, E): the vectors of a cluster's words."""
        several = self.tables if self.tables is not None else self._lent[0].tables
        if len(several) > 1:
            return cast(Tensor, several[cluster])
        table = several[0] if self.tables is not None else embedding
        return table[self.edges[cluster] : self.edges[cluster + 1]]

    def _projected(self, hidden: Tensor, cluster: int) -> Tensor:
        """(M, width) -> (M, E) in the width of a cluster's vectors."""
        given = self._lent[0].projections
        if not len(given):
            return hidden
        own = self.projections[str(cluster)] if str(cluster) in self.projections else given[cluster % len(given)]
        return F.linear(hidden, own.t())

    def _shares(self, hidden: Tensor, embedding: Tensor, cluster: int) -> Tensor:
        """(M, n) log-probabilities within a cluster; in the first one the other clusters stand behind the words."""
        assert self.bias is not None
        vectors = self._vectors(cluster, embedding)
        bias = self.bias[self.edges[cluster] : self.edges[cluster + 1]]
        if cluster == 0 and self.clusters is not None and self.cluster_bias is not None:
            vectors, bias = torch.cat([vectors, self.clusters]), torch.cat([bias, self.cluster_bias])
        logits: Tensor = F.linear(self._projected(hidden, cluster), vectors, bias)
        return F.log_softmax(logits.float(), dim=-1)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(M, V) log-probabilities of all words."""
        frequent = self._shares(hidden, embedding, 0)
        words = self.edges[1]
        parts = [frequent[:, :words]]
        for i in range(1, len(self.edges) - 1):
            parts.append(self._shares(hidden, embedding, i) + frequent[:, words + i - 1, None])
        return torch.cat(parts, dim=1)

    def cross_entropy(self, hidden: Tensor, embedding: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The sum in nats and (M,) whether each target is the likeliest of all words."""
        frequent = self._shares(hidden, embedding, 0)
        words = self.edges[1]
        cluster = clusters_of(targets, self.edges)
        entered = torch.where(cluster == 0, targets, words + cluster - 1)
        chosen = frequent.gather(1, entered[:, None]).squeeze(1)
        rivals = frequent.detach()[:, :words].amax(-1)  # the likeliest other word, as far as it matters
        total = chosen.sum()
        own = chosen.detach().clone()
        for i in range(1, len(self.edges) - 1):
            here = torch.nonzero(cluster == i).squeeze(1)
            shares = self._shares(hidden[here], embedding, i)
            inside = shares.gather(1, (targets[here] - self.edges[i])[:, None]).squeeze(1)
            total = total + inside.sum()
            own[here] += inside.detach()
            rivals[here] = torch.maximum(rivals[here], shares.detach().amax(-1) + chosen.detach()[here])
        with torch.no_grad():
            for i in range(1, len(self.edges) - 1):
                # a cluster that is less likely as a whole than the target has no word that is likelier
                door = frequent[:, words + i - 1]
                here = torch.nonzero((cluster != i) & (door > own) & (own >= rivals)).squeeze(1)
                best = self._shares(hidden[here], embedding, i).amax(-1) + door[here]
                rivals[here] = torch.maximum(rivals[here], best)
        return -total, own >= rivals
