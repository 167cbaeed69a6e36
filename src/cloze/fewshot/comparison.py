"""Which of several completions a model holds to be the likeliest, by one of four measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cloze.errors import Refusal
from cloze.fewshot.likelihood import Decoder, Likelihood, Masking, fitted, log_likelihoods, queries
from cloze.fewshot.prompts import Asked

if TYPE_CHECKING:
    from cloze.loading import Pretrained

Normalise = Literal["none", "token", "character", "calibrated"]
AT_ONCE = 64  # examples whose completions are asked about together


@dataclass(frozen=True)
class Judged:
    """What a model says of an example's options: the log-likelihood of each, what was compared, and which came out first."""

    likelihoods: tuple[Likelihood, ...]
    scores: tuple[float, ...]
    cut: bool = False  # the beginning of the text did not fit

    @property
    def choice(self) -> int:
        """The option with the highest score; the first of several."""
        return int(np.argmax(self.scores))

    def prefers(self, option: int) -> bool:
        """Whether an option has a higher score than every other: where two are even, neither is preferred."""
        return all(self.scores[option] > score for i, score in enumerate(self.scores) if i != option)


@dataclass(frozen=True)
class Comparison:
    """How completions are compared.

    `normalise`: "none" compares log p(completion | prompt); "token" and "character" its mean over the completion's tokens or characters,
    for completions of different length; "calibrated" log p(completion | prompt) - log p(completion | `content_free`), which takes
    out how probable a completion is whatever is asked (https://arxiv.org/abs/2005.14165, section 2.4). `masking` and `decoder`: see
    `log_likelihoods`.
    """

    normalise: Normalise = "none"
    content_free: str = "Answer:"
    masking: Masking = "in_turn"
    decoder: Decoder = "as_learnt"

    def judge(self, loaded: Pretrained, asked: Sequence[Asked], length: int) -> list[Judged]:
        """What the model says of each example. A text of more than `length` tokens loses its beginning. Raises Refusal where a completion
        has no token, or where the model gives none a probability."""
        found: list[Judged] = []
        base: dict[tuple[str, ...], tuple[float, ...]] = {}
        for start in range(0, len(asked), AT_ONCE):
            few = asked[start : start + AT_ONCE]
            likelihoods = self._of(loaded, few, length)
            if self.normalise == "calibrated":
                new = {each.options: self._without_content(each) for each in few if each.options not in base}
                for options, (said, _) in zip(new, self._of(loaded, list(new.values()), length), strict=True):
                    base[options] = tuple(each.log_likelihood for each in said)
            for each, (said, cut) in zip(few, likelihoods, strict=True):
                found.append(Judged(said, self._scores(each, said, base.get(each.options, ())), cut))
        return found

    def _of(self, loaded: Pretrained, few: Sequence[Asked], length: int) -> list[tuple[tuple[Likelihood, ...], bool]]:
        made = []
        for each in few:
            try:
                whole = queries(loaded.tokenizer, each.before, each.options, each.after)
            except ValueError as fault:
                raise Refusal(f"a completion cannot be asked about: {fault}.") from None
            made.append((whole, [fitted(loaded, query, length) for query in whole]))
        flat = log_likelihoods(loaded, [q for _, fit in made for q in fit], self.masking, self.decoder)
        results, at = [], 0
        for whole, fit in made:
            results.append((tuple(flat[at : at + len(fit)]), whole != fit))
            at += len(fit)
        return results

    def _without_content(self, each: Asked) -> Asked:
        """The completions behind a text that says nothing, with the white space that stands before them in the example."""
        space = each.before[len(each.before.rstrip()) :]
        return Asked(f"{self.content_free}{space}", each.options, each.after)

    def _scores(self, each: Asked, said: Sequence[Likelihood], base: Sequence[float]) -> tuple[float, ...]:
        totals = [likelihood.log_likelihood for likelihood in said]
        if self.normalise == "token":
            return tuple(total / one.tokens for total, one in zip(totals, said, strict=True))
        if self.normalise == "character":
            return tuple(
                total / len(f"{option}{each.after}".strip()) for total, option in zip(totals, each.options, strict=True)
            )
        if self.normalise == "calibrated":
            return tuple(total - one for total, one in zip(totals, base, strict=True))
        return tuple(totals)


def refuse_alike(loaded: Pretrained, words: Sequence[str]) -> None:
    """Raises Refusal where two classes' words are the same to the tokenizer, as two that it does not know are: no model could choose."""
    rows = [loaded.tokenizer.encode(word) for word in words]
    for number, row in enumerate(rows):
        if row in rows[:number]:
            names = " ".join(loaded.tokenizer.token(token) for token in row)
            raise Refusal(
                f"{words[rows.index(row)]!r} and {words[number]!r}, which stand for two classes, are the same to this model's tokenizer "
                f"({names}): say other words, objective.words={{class: word}}."
            )
