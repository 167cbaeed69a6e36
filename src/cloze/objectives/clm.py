"""Causal language modelling: the next token, from those before it (GPT-2: Radford et al. 2019; GPT: Radford et al.
2018, https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Packed, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch, Causal
from cloze.objectives.base import ExampleBuilder, Examples, Objective, StepOutput, Term
from cloze.objectives.cross_entropy import token_cross_entropy

if TYPE_CHECKING:
    from torchmetrics import Metric


class CausalExamples(ExampleBuilder):
    """Windows of `length` tokens over the documents, each with its successor as target.

    Every document stands between two end-of-text tokens, the first of which lets its first token be predicted too.
    So, however the windows are cut, each token of the corpus is a target exactly once, and so is the end of each
    document.

    `documents=packed`: one document after the other in full windows, the end-of-text token between them (GPT-2).
    `documents=apart`: a window never holds two documents, and a document's windows begin at its start.

    An example is a row (start, end) of the stream that `_stream` reads.
    """

    special_tokens: ClassVar[tuple[str, ...]] = ("eos",)

    def __init__(self, vocabulary: Vocabulary, length: int, documents: Literal["packed", "apart"] = "packed") -> None:
        if length < 1:
            raise Refusal(f"length={length} must be at least 1 for objective=clm.")
        self.vocabulary, self.length, self.documents = vocabulary, length, documents

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        boundaries = _boundaries(corpus)
        if self.documents == "packed":
            edges = boundaries[[0, -1]]
        else:
            edges = boundaries
        table = _windows(edges, self.length)
        if not len(table):
            raise Refusal("the corpus has no tokens: objective=clm needs at least one document.")
        return Examples(corpus, table, table[:, 1] - table[:, 0])

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        rows = examples.table[indices]
        lengths = rows[:, 1] - rows[:, 0]
        ends = np.cumsum(lengths)
        # one more than the window: the last token's successor
        places = np.arange(int(lengths.sum())) + np.repeat(rows[:, 0] - (ends - lengths), lengths)
        end_of_text = self.vocabulary["eos"]
        boundaries = _boundaries(examples.corpus)
        return Sample(
            inputs=Packed(_stream(examples.corpus, boundaries, places, end_of_text), lengths),
            targets={"tokens": _stream(examples.corpus, boundaries, places + 1, end_of_text)},
            counts={"clm": len(places)},
            causal=True,
        )

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        return {"clm": int(examples.lengths[indices].sum())}

    def explain(self, sample: Sample) -> list[list[str]]:
        words = np.where(sample.inputs.tokens == self.vocabulary["eos"], "special", "")
        return [part.tolist() for part in np.split(words, np.cumsum(sample.inputs.lengths)[:-1])]


def _boundaries(corpus: TokenizedCorpus) -> NDArray[np.int64]:
    """(D+1,): where in the stream the end-of-text token before each document stands, and after the last one the
    closing one.
    """
    return corpus.sentences[corpus.documents] + np.arange(len(corpus.documents))


def _windows(edges: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """(n, 2) rows (start, end): each stretch between two edges in windows of `length`, the last one shorter where it
    must be.
    """
    sizes = np.diff(edges)
    pieces = -(-sizes // length)
    first = np.repeat(edges[:-1], pieces)
    number = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = first + number * length
    return np.stack([starts, np.minimum(starts + length, np.repeat(edges[1:], pieces))], axis=1)


def _stream(
    corpus: TokenizedCorpus, boundaries: NDArray[np.int64], places: NDArray[np.int64], end_of_text: int
) -> NDArray[np.int64]:
    """The tokens at `places` of the stream: end-of-text, document, end-of-text, document, …, end-of-text."""
    document = np.searchsorted(boundaries, places, side="right") - 1
    is_end = boundaries[document] == places
    # before place p stand the tokens of the documents and document + 1 ends; at an end itself the index is not used
    index = np.clip(places - document - 1, 0, len(corpus.tokens) - 1)
    return np.where(is_end, end_of_text, corpus.tokens[index].astype(np.int64))


class CausalLM(Objective[Causal, Text]):
    """Predicts every token from those before it, with the family's own head tied to the word embedding."""

    Examples = CausalExamples

    def __init__(self, model: Backbone, vocabulary: Vocabulary, head_rows: int = 0) -> None:
        super().__init__()
        if head_rows < 0:
            raise Refusal(
                f"objective.head_rows={head_rows} must be 0 (chosen by size) or the number of tokens at a time."
            )
        self.head = model.token_head()
        self.head_rows = head_rows

    def forward(self, model: Causal, batch: Batch) -> StepOutput:
        targets = batch.targets["tokens"]
        states = model(batch)
        total, right = token_cross_entropy(self.head, states.last, model.word_embedding, targets, self.head_rows)
        return StepOutput({"clm": Term(total, len(targets))}, {"right": right})

    def metrics(self) -> dict[str, Metric]:
        from torchmetrics import MeanMetric

        return {"accuracy": MeanMetric()}

    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        metrics["accuracy"].update(output.predictions["right"].float())
