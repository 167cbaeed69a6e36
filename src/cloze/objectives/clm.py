"""Causal language modelling: the next token, from those before it (GPT-2: Radford et al. 2019; GPT: Radford et al.
2018, https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed, languages
from cloze.data.base import Packed, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Causal
from cloze.objectives.base import ExampleBuilder, Examples, Tally
from cloze.objectives.corruption import by_sequence
from cloze.objectives.every_token import EveryToken
from cloze.objectives.windows import ends_of_text, stream, stream_languages, whole, windows


class CausalExamples(ExampleBuilder):
    """Windows of `length` tokens over the documents, each token with its successor as target.

    Every document stands between two end-of-text tokens, the first of which lets its first token be predicted too. So,
    however the windows are cut, each token of the corpus is a target exactly once, and so is the end of each document.

    `documents=packed`: one document after the other in full windows, the end-of-text token between them (GPT-2).
    `documents=apart`: a window never holds two documents, and a document's windows begin at its start.
    `documents=continued`: as packed, for models that remember what they have read: the windows are read in the stream's order, each
    batch's sequences going on where those of the batch before ended, so all are of one length and what is left of the stream at its
    end (less than a window) is never read.

    The table's columns: start and end in the stream (end-of-text, document, end-of-text, document, …, end-of-text), and
    the last document that begins at or before each of them.
    """

    special_tokens: ClassVar[tuple[str, ...]] = ("eos",)

    def __init__(
        self, vocabulary: Vocabulary, length: int, documents: Literal["packed", "apart", "continued"] = "packed"
    ) -> None:
        if length < 1:
            raise Refusal(f"length={length} must be at least 1 token for objective=clm.")
        self.vocabulary, self.length, self.documents = vocabulary, length, documents
        self.continuous = documents == "continued"

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        ends = ends_of_text(corpus)
        edges = ends if self.documents == "apart" else ends[[0, -1]]
        if self.documents == "packed" and corpus.languages is not None:  # a window is in one language
            edges = np.unique(np.append(edges, ends[np.flatnonzero(np.diff(languages.runs(corpus))) + 1]))
        cut = windows(edges, self.length)
        if not len(cut):
            raise Refusal("the corpus has no tokens: objective=clm needs at least one document.")
        if self.continuous:
            cut = whole(cut, self.length)
        table = np.concatenate([cut, np.searchsorted(ends, cut, side="right") - 1], axis=1)
        spoken = None if self.continuous else languages.of_documents(corpus, np.minimum(table[:, 2], len(corpus) - 1))
        return Examples(corpus, table, cut[:, 1] - cut[:, 0], languages=spoken)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        rows = examples.table[indices]
        read, spoken = stream(examples.corpus, rows, self.vocabulary["eos"]), stream_languages(examples.corpus, rows)
        lengths = rows[:, 1] - rows[:, 0]
        # each row of the stream is a window and one token more
        lasts = np.cumsum(lengths + 1) - 1
        return Sample(
            inputs=Packed(
                np.delete(read, lasts), lengths, languages=None if spoken is None else np.delete(spoken, lasts)
            ),
            targets={"tokens": np.delete(read, lasts - lengths)},
            counts={"clm": int(lengths.sum())},
            causal=True,
        )

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        return {"clm": int(examples.lengths[indices].sum())}

    def explain(self, sample: Sample) -> list[list[str]]:
        words = np.where(sample.inputs.tokens == self.vocabulary["eos"], "special", "")
        return by_sequence(words, sample.inputs.lengths)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        tokens, targets, lengths = sample.inputs.tokens, sample.targets["tokens"], sample.inputs.lengths
        follows = np.ones(len(tokens), bool)
        follows[np.cumsum(lengths) - 1] = False  # a window's last target stands behind it
        return {
            "tokens with a target": Tally(len(tokens), len(targets), len(tokens)),
            "targets that are the next token of the window": Tally(
                float(follows.sum()),
                float((targets[:-1] == tokens[1:])[follows[:-1]].sum()),
                int(follows.sum()),
            ),
        }


class CausalLM(EveryToken[Causal, Text]):
    """Predicts every token from those before it, with the family's own head tied to the word embedding."""

    Examples = CausalExamples
    term = "clm"
    task, scores_text = "continue", True
