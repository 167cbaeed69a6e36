"""What objectives on labelled data have in common: a readout of the model, figures from a ledger, answers for a whole split."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import nn

from cloze.data.base import Text, TokenizedRecords
from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch
from cloze.objectives.base import Objective, StepOutput
from cloze.objectives.framing import labelled
from cloze.objectives.ledger import Figure, Ledger, Row
from cloze.objectives.readout import Layer, Pooling, Readout

if TYPE_CHECKING:
    from torchmetrics import Metric

    from cloze.objectives.base import Examples

M = TypeVar("M", bound=Backbone)
R = TypeVar("R", bound=Text)


class Supervised(Objective[M, R], Generic[M, R]):
    """A head on a readout. A subclass says what it notes of each example (`rows`), which figures come of that (`score`) and which answer
    each record gets (`answers`). The first figure is the one that a single number is wanted of."""

    task = "judge"
    perplexity_of = None  # no term is of language
    figures: tuple[str, ...]
    readout: Readout

    def __init__(self, model: Backbone, layer: Layer, pooling: Pooling, dropout: float) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise Refusal(f"objective.dropout={dropout} must lie in [0, 1).")
        self.readout = Readout(model, layer, pooling)
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def pools(cls, settings: dict[str, Any]) -> bool:
        return settings.get("pooling") == "own"

    def idle(self, model: Backbone) -> list[str]:
        return self.readout.idle(model)

    def metrics(self) -> dict[str, Metric]:
        ledger = Ledger(self.score)
        return {name: Figure(ledger, name) for name in self.figures}

    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        for figure in metrics.values():
            assert isinstance(figure, Figure)
            figure.update()
        first = next(iter(metrics.values()))
        assert isinstance(first, Figure)
        first.ledger.add(self.rows(output, batch))

    @abstractmethod
    def shown(self, output: StepOutput, batch: Batch) -> list[tuple[int, str, str]]:
        """For people, of a batch of validation: the number of a sequence, what is right and what the model says."""

    @abstractmethod
    def rows(self, output: StepOutput, batch: Batch) -> list[Row]:
        """What is noted of each example: plain things only. A row's first entry is the number of its record."""

    def told(self, model: M, output: StepOutput, batch: Batch) -> list[Row]:
        """The same of a model that has done with training, where more is asked of it then: to write a text."""
        return self.rows(output, batch)

    @abstractmethod
    def score(self, rows: list[Row]) -> dict[str, float]:
        """Figures as fractions, of the rows that have a label."""

    @abstractmethod
    def answers(self, rows: list[Row], records: Sequence[Text]) -> list[Any]:
        """The answer to each record, as `TaskCorpus.submission` takes them."""


def records_of(examples: Examples) -> TokenizedRecords:
    """The records that an index of examples was built from."""
    return labelled(examples.corpus)


def linear(width: int, outputs: int, deviation: float) -> nn.Linear:
    """A head's last layer, begun as the family begins its weights, the bias at 0."""
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=deviation)
    nn.init.zeros_(layer.bias)
    return layer
