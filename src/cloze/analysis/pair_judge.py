"""Whether a model knows that two segments follow each other (NSP) and in which order (SOP), whatever loss trained it; and how well it
fills masks in one and the same text.

For pairs two measures, that answer different questions:

- the *head*: the trained pair head on the data of each task, also of the one that it was not trained for. This is what table 5 of
  ALBERT's paper (Lan et al. 2019, https://arxiv.org/abs/1909.11942) shows. Only a run with a pair loss has a head.
- the *probe*: a logistic regression on the frozen [CLS] vectors of the last layer, fitted on pairs of the training split: what the
  model's states hold, used or not.

Both read text in which nothing is hidden, as one segment pair, with random partners for NSP, in every run alike. Masked words (`mlm`) are
those of pairs as they stand in the text, 15 % of the tokens: the inputs that a run is validated with hold its own second halves, so
what is right there does not compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Sample, TokenizedCorpus, Vocabulary
from cloze.data.batches import batch_of
from cloze.errors import Refusal
from cloze.models.base import Bidirectional
from cloze.objectives.base import Examples
from cloze.objectives.cross_entropy import token_cross_entropy
from cloze.objectives.mlm import MaskedExamples, MaskedLM

Task = Literal["mlm", "nsp", "sop"]
PENALTY = 1.0  # of the probe's squared weights, against a sum over pairs: scikit-learn's C=1 on standardised features


@dataclass(frozen=True)
class _Pairs:
    """Labelled pairs of one split: drawn from the examples one after the other, again with other draws where there are too few."""

    builder: MaskedExamples
    examples: Examples
    root: int
    count: int

    def _drawn(self, start: int, size: int) -> tuple[NDArray[np.int64], keyed.Keys]:
        numbers = np.arange(start, min(start + size, self.count))
        return numbers % len(self.examples), keyed.keys(self.root, numbers)

    def masked(self, start: int, size: int) -> Sample:
        """Pairs start … start + size - 1, some tokens hidden."""
        return self.builder.sample(self.examples, *self._drawn(start, size))

    def batch(self, start: int, size: int) -> Sample:
        """Pairs start … start + size - 1, nothing hidden."""
        numbers, keys = self._drawn(start, size)
        inputs, _, _, pairs = self.builder.read(self.examples, numbers, keys)
        assert pairs is not None
        return Sample(inputs, {"pair": pairs.labels}, {"pair": len(numbers)})


class PairJudge:
    """Holds the pairs that models are judged on. Raises Refusal where a corpus has none.

    `pairs` is how many each split gives for each task. The pairs depend on `seed` and the corpora alone, not on the model.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        train: TokenizedCorpus,
        validation: TokenizedCorpus,
        vocabulary: Vocabulary,
        length: int,
        seed: int,
        pairs: int = 2000,
    ) -> None:
        self._data: dict[Task, dict[str, _Pairs]] = {}
        for task in tasks:
            builder = MaskedExamples(vocabulary, length, format="segment_pair", pair="none" if task == "mlm" else task)
            self._data[task] = {}
            fitted = {} if task == "mlm" else {"train": train}  # a probe
            for split, corpus in {**fitted, "validation": validation}.items():
                try:
                    examples = builder.build(corpus, seed)
                except Refusal as refusal:
                    raise Refusal(f"objective.judge={task} on the {split} split: {refusal}") from None
                self._data[task][split] = _Pairs(builder, examples, keyed.key(seed, "judge", task, split), pairs)

    def __call__(
        self,
        model: Bidirectional,
        objective: MaskedLM,
        device: torch.device | str | None = None,
        batch_size: int = 64,
    ) -> dict[str, float]:
        """Accuracies from 0 to 1 by name: judge/nsp_probe_accuracy and, where there is a pair head, judge/nsp_head_accuracy, …;
        judge/mlm_accuracy.

        The model stays in the mode (training or not) that it was in; no random number is drawn.
        """
        device = next(model.parameters()).device if device is None else device
        modes = [(module, module.training) for module in (model, objective)]
        for module, _ in modes:
            module.eval()
        scores: dict[str, float] = {}
        try:
            for task, splits in self._data.items():
                if task == "mlm":
                    scores["judge/mlm_accuracy"] = _filled(model, objective, splits["validation"], device, batch_size)
                    continue
                vectors, labels, right = _read(model, objective, splits["validation"], device, batch_size)
                if right is not None:
                    scores[f"judge/{task}_head_accuracy"] = float(right.mean())
                known, answers, _ = _read(model, objective, splits["train"], device, batch_size)
                scores[f"judge/{task}_probe_accuracy"] = probe_accuracy(known, answers, vectors, labels)
        finally:
            for module, mode in modes:
                module.train(mode)
        return scores


def _filled(
    model: Bidirectional, objective: MaskedLM, data: _Pairs, device: torch.device | str, batch_size: int
) -> float:
    """The share of the hidden tokens that the model gives the most probability."""
    right = count = 0
    with torch.inference_mode():
        for start in range(0, data.count, batch_size):
            batch = batch_of(data.masked(start, batch_size)).to(device)
            hidden = model(batch).last.index_select(0, batch.targets["at"])
            _, hit = token_cross_entropy(objective.head, hidden, model.word_embedding, batch.targets["tokens"])
            right += int(hit.sum())
            count += len(hit)
    return right / count


def _read(
    model: Bidirectional, objective: MaskedLM, data: _Pairs, device: torch.device | str, batch_size: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_] | None]:
    """[CLS] vectors (pairs, width), labels (pairs,), and where there is a pair head whether its answers are right (pairs,)."""
    vectors, labels, right = [], [], []
    with torch.inference_mode():
        for start in range(0, data.count, batch_size):
            sample = data.batch(start, batch_size)
            batch = batch_of(sample).to(device)
            states = model(batch)
            vectors.append(states.last[batch.inputs.layout.starts(states.last.device)].double().cpu().numpy())
            labels.append(sample.targets["pair"])
            if objective.pair_head is not None:
                answers = objective.pair_head(model.pool(states, batch)).argmax(-1)
                right.append((answers == batch.targets["pair"]).cpu().numpy())
    return np.concatenate(vectors), np.concatenate(labels), np.concatenate(right) if right else None


def probe_accuracy(
    known: NDArray[np.float64], answers: NDArray[np.int64], vectors: NDArray[np.float64], labels: NDArray[np.int64]
) -> float:
    """Accuracy on (vectors, labels) of a logistic regression fitted on (known, answers), both scaled by the mean and deviation of
    `known`."""
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    deviation[deviation == 0] = 1.0
    weights, bias = fit_logistic((known - mean) / deviation, answers)
    guesses = ((vectors - mean) / deviation) @ weights + bias > 0
    return float((guesses == (labels == 1)).mean())


def fit_logistic(
    features: NDArray[np.float64], labels: NDArray[np.int64], penalty: float = PENALTY, tolerance: float = 1e-8
) -> tuple[NDArray[np.float64], float]:
    """Weights (width,) and bias that minimise the sum of the cross-entropies plus penalty/2 times the squared weights.

    Newton's method with step halving: the problem is convex and small, so there is nothing to tune. features (n, width), labels (n,)
    0 or 1.
    """
    x = np.column_stack([features, np.ones(len(features))])
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 0.0  # the bias is free
    signs = np.where(labels == 1, 1.0, -1.0)
    beta = np.zeros(x.shape[1])

    def loss(beta: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0.0, -signs * (x @ beta)).sum() + 0.5 * (ridge * beta * beta).sum())

    now = loss(beta)
    for _ in range(100):
        chance = 1.0 / (1.0 + np.exp(-np.clip(x @ beta, -700, 700)))
        gradient = x.T @ (chance - (labels == 1)) + ridge * beta
        curvature: NDArray[Any] = (x * (chance * (1 - chance))[:, None]).T @ x + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (then := loss(beta - size * step)) > now and size > 1e-6:
            size /= 2
        beta = beta - size * step
        done = now - then <= tolerance * max(1.0, now)
        now = then
        if done:
            break
    return beta[:-1], float(beta[-1])
