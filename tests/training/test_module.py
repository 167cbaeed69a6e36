"""What a validation leaves."""

from __future__ import annotations

import pytest

from cloze.data.base import Vocabulary
from cloze.models.bert import Bert
from cloze.objectives.mlm import MaskedLM
from cloze.training.budget import Plan
from cloze.training.module import module_for
from cloze.training.optimizers import AdamW
from cloze.training.schedules import Constant


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_what_no_example_has_is_left_out(weight: float) -> None:
    """As the accuracy of one of UniLM's patterns, where no validation example has it: 0 of 0 is no figure."""
    model = Bert(20, 16, False, layers=1, width=16, heads=2, inner=16)
    objective = MaskedLM(model, Vocabulary(20, {"pad": 0, "mask": 1}))
    module = module_for(model, objective, optimizer=AdamW(), schedule=Constant(), plan=Plan(steps=1), seed=0)
    module.on_validation_epoch_start()
    (name, metric), *_ = module._metrics.items()
    module._metrics = {name: metric}
    metric.update(1.0, weight)
    module.on_validation_epoch_end()
    assert module.validated.get(f"val/{name}") == (1.0 if weight else None)
    assert (f"val/{name}" in module.validated) == bool(weight)
