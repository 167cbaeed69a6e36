"""No objective to train: a task is scored as it is, zero- or few-shot (`cloze.fewshot`). Here are its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Record, Sample, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.fewshot.comparison import Normalise
from cloze.fewshot.likelihood import Decoder, Masking
from cloze.fewshot.score import Answerable, Scoring
from cloze.models.base import Backbone, Batch
from cloze.objectives.base import ExampleBuilder, Examples, Objective, StepOutput

if TYPE_CHECKING:
    from torchmetrics import Metric


def _refuse() -> NoReturn:
    raise Refusal("objective=score trains nothing, alone or together with others.")


class NoExamples(ExampleBuilder):
    """There is nothing to learn from."""

    reads: ClassVar[type[Record]] = Answerable

    def __init__(self, vocabulary: Vocabulary, length: int) -> None:
        self.vocabulary, self.length = vocabulary, length

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        _refuse()

    def sample(self, examples: Examples, indices: NDArray[Any], keys: keyed.Keys) -> Sample:
        _refuse()


class Score(Objective[Backbone, Answerable]):
    """The settings of `cloze.fewshot.score.Scoring`, under which nothing is trained."""

    Examples = NoExamples
    trains = False

    def __init__(
        self,
        model: Backbone,
        vocabulary: Vocabulary,
        template: str | None = None,
        words: dict[Any, str] | None = None,
        description: str | None = None,
        shots: int = 0,
        demonstrations: dict[str, Any] | None = None,
        normalise: Normalise = "none",
        content_free: str = "Answer:",
        masking: Masking = "in_turn",
        decoder: Decoder = "as_learnt",
        split: str | None = None,
        demonstrate_from: str = "train",
        examples: int | None = None,
    ) -> None:
        super().__init__()
        self.scoring = Scoring(
            template, words, description, shots, demonstrations, normalise, content_free, masking, decoder, split,
            demonstrate_from, examples,
        )  # fmt: skip

    def forward(self, model: Backbone, batch: Batch) -> StepOutput:
        _refuse()

    def metrics(self) -> dict[str, Metric]:
        return {}

    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        _refuse()
