"""Cross-entropy over a few words instead of a vocabulary of a million: the target against words drawn by chance, each logit less the
logarithm of how often its word is drawn (Jean et al. 2015, https://arxiv.org/abs/1412.2007).

Frequent words are drawn more often: ids are taken to go by frequency, and word k is drawn with a probability in proportion to
log((k + 2) / (k + 1)), about that of Zipf's law. No word is drawn twice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cloze.models.base import TokenHead


def rate(words: Tensor, vocabulary: int) -> Tensor:
    """The probability of each word in a draw of one."""
    return torch.log1p(1 / (words.to(torch.float64) + 1)) / math.log(vocabulary + 1)


def draw(vocabulary: int, count: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """(count,) different words, and the time that they took.

    Every word comes after a time that is exponential with its own rate, and the first `count` are taken: the same as drawing one after
    the other without putting back. The time is that of the first word that is not among them: a word has come by then with the
    probability 1 - exp(-rate * time). It is infinite where all words are taken.
    """
    rates = rate(torch.arange(vocabulary, device=device), vocabulary)
    times, words = (torch.empty_like(rates).exponential_() / rates).topk(min(count + 1, vocabulary), largest=False)
    if count >= vocabulary:
        return words, times.new_full((), math.inf)
    return words[:count], times[count]


def sampled_cross_entropy(
    head: TokenHead, hidden: Tensor, embedding: Tensor, targets: Tensor, negatives: int
) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies of each target against `negatives` words, in nats, and whether the target is the first choice among
    them: (M, width), (V, E), (M,) -> scalar, (M,). The head's logits must be features @ table.T + bias."""
    features, table = head.features(hidden), head.table(embedding)
    words, time = draw(len(table), negatives, hidden.device)

    def correction(of: Tensor) -> Tensor:
        return torch.log(-torch.expm1(-rate(of, len(table)) * time)).float()

    others = F.linear(features, table[words]).float() - correction(words)
    own = (features * table[targets]).sum(-1).float() - correction(targets)
    if head.bias is not None:
        others, own = others + head.bias[words], own + head.bias[targets]
    others = others.masked_fill(words == targets[:, None], -math.inf)
    logits = torch.cat([own[:, None], others], 1)
    right = logits.detach().argmax(1) == 0
    return F.cross_entropy(logits, torch.zeros_like(targets), reduction="sum"), right
