"""The learning half of objectives that predict every token that the model writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch, HiddenStates, TokenHead
from cloze.objectives.base import M, Objective, R, StepOutput, Term
from cloze.objectives.cross_entropy import token_cross_entropy

if TYPE_CHECKING:
    from torchmetrics import Metric


class EveryToken(Objective[M, R]):
    """Cross-entropy of `targets["tokens"]`, one for each hidden state, with the family's own head.

    Where `targets["at"]` names rows, one for each of these.
    """

    term: ClassVar[str]  # the loss's name

    def __init__(self, model: Backbone, vocabulary: Vocabulary, head_rows: int = 0) -> None:
        super().__init__()
        if head_rows < 0:
            raise Refusal(
                f"objective.head_rows={head_rows} must be 0 (chosen by size) or the number of tokens at a time."
            )
        self.head = model.token_head()
        if head_rows and type(self.head).cross_entropy is not TokenHead.cross_entropy:
            raise Refusal(
                f"objective.head_rows={head_rows} has no effect with an adaptive softmax, which never makes all logits."
            )
        self.head_rows = head_rows

    def forward(self, model: M, batch: Batch) -> StepOutput:
        targets = batch.targets["tokens"]
        states = model(batch)
        hidden = self.asked(states, batch)
        total, right = token_cross_entropy(self.head, hidden, model.word_embedding, targets, self.head_rows)
        return StepOutput.of(states, {self.term: Term(total, len(targets))}, {"right": right})

    def asked(self, states: HiddenStates, batch: Batch) -> Tensor:
        """(M, width): the states that predict the targets."""
        return states.last.index_select(0, batch.targets["at"]) if "at" in batch.targets else states.last

    def metrics(self) -> dict[str, Metric]:
        from torchmetrics import MeanMetric

        return {"accuracy": MeanMetric()}

    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        metrics["accuracy"].update(output.predictions["right"].float())
