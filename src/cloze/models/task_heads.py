"""Heads of fine-tuned models as transformers' classes have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

# by their model_type: our objective -> their class, and where its head lies
THEIRS: dict[str, dict[str, tuple[str, str]]] = {
    prefix.lower(): {
        "Classify": (f"{prefix}ForSequenceClassification", "classifier"),
        "Tag": (f"{prefix}ForTokenClassification", "classifier"),
        "ExtractiveQA": (f"{prefix}ForQuestionAnswering", "qa_outputs"),
        "Choose": (f"{prefix}ForMultipleChoice", "classifier"),
    }
    for prefix in ("Bert", "Albert")
} | {
    "roberta": {
        "Classify": ("RobertaForSequenceClassification", "classifier.out_proj"),
        "Tag": ("RobertaForTokenClassification", "classifier"),
        "ExtractiveQA": ("RobertaForQuestionAnswering", "qa_outputs"),
        "Choose": ("RobertaForMultipleChoice", "classifier"),
    },
    "electra": {
        "Tag": ("ElectraForTokenClassification", "classifier"),
        "ExtractiveQA": ("ElectraForQuestionAnswering", "qa_outputs"),
    },
    "xlnet": {
        "Classify": ("XLNetForSequenceClassification", "logits_proj"),
        "Tag": ("XLNetForTokenClassification", "classifier"),
    },
}
_OURS = {"Tag": "tag_head", "ExtractiveQA": "span_head", "Choose": "choice_head"}
# what their heads have no place for, and what it must be
_PLAIN = {"layer": "last", "pooling": "own", "hidden": None, "frame": "own", "both_orders": False}


def with_task_head(
    model_type: str,
    objective: Mapping[str, Any] | None,
    labels: Mapping[str, Sequence[str]],
    ours: Mapping[str, Tensor],
    config: dict[str, Any],
    theirs: dict[str, Tensor],
) -> str | None:
    """Puts the head of a fine-tuned model, and what its classes are called, into `config` and `theirs`. Returns None, or, where
    transformers has no class for it, the reason why it is left out."""
    kind = str((objective or {}).get("_target_", "")).rpartition(".")[2]
    if not labels or objective is None:
        return None
    if kind in ("Verbalise", "SequenceToSequence"):
        return None  # their head is the token head
    if kind not in THEIRS.get(model_type, {}):
        return f"transformers has no class for the head that {kind} put on a {model_type}"
    unlike = [
        f"objective.{name}={objective[name]}" for name, plain in _PLAIN.items() if objective.get(name, plain) != plain
    ]
    if len(labels) > 1:
        unlike.append("several tasks")
    if unlike:
        return f"transformers' head has no place for {', '.join(unlike)}"
    ((task, names),) = labels.items()
    head = f"heads.{task}" if kind == "Classify" else _OURS[kind]
    architecture, place = THEIRS[model_type][kind]
    for part in ("weight", "bias"):
        theirs[f"{place}.{part}"] = ours[f"objective.{head}.{part}"].clone()
    if model_type == "roberta" and kind == "Classify":  # their pooler is the head's first layer
        for part in ("weight", "bias"):
            theirs[f"classifier.dense.{part}"] = theirs.pop(f"roberta.pooler.dense.{part}")
    config["architectures"] = [architecture]
    if kind in ("Classify", "Tag"):
        shown = list(names) or ["score"]
        config |= {
            "id2label": {str(n): name for n, name in enumerate(shown)},
            "label2id": {name: n for n, name in enumerate(shown)},
        }
        if not names:
            config["problem_type"] = "regression"
    return None
