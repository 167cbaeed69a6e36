"""Published scores, to stand beside one's own: percentages, with the set that they are of and where they are printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cloze.scoring.glue import ALBERT_TABLE, BERT_TABLE


@dataclass(frozen=True)
class Published:
    """A row of a table. `scores` is {task: {metric: percentage}}, as `cloze.scoring.glue` has it; `average` is what the table prints.

    `corpus` is the set that was scored: GLUE's hidden test sets and its dev sets are not comparable.
    """

    system: str
    corpus: Literal["test", "dev"]
    scores: dict[str, dict[str, float]]
    source: str
    average: float | None = None


_BERT = "https://arxiv.org/abs/1810.04805"


def _bert(system: str, figures: tuple[float, ...], average: float) -> Published:
    scores = {task: {metric: value} for (task, metric), value in zip(BERT_TABLE, figures, strict=True)}
    return Published(system, "test", scores, f"{_BERT} table 1", average)


# The table prints 71.0 for ELMo; the mean of the figures that it prints is 70.94.
GLUE_TEST: tuple[Published, ...] = (
    _bert("Pre-OpenAI SOTA", (80.6, 80.1, 66.1, 82.3, 93.2, 35.0, 81.0, 86.0, 61.7), 74.0),
    _bert("BiLSTM+ELMo+Attn", (76.4, 76.1, 64.8, 79.8, 90.4, 36.0, 73.3, 84.9, 56.8), 71.0),
    _bert("OpenAI GPT", (82.1, 81.4, 70.3, 87.4, 91.3, 45.4, 80.0, 82.3, 56.0), 75.1),
    _bert("BERT-base", (84.6, 83.4, 71.2, 90.5, 93.5, 52.1, 85.8, 88.9, 66.4), 79.6),
    _bert("BERT-large", (86.7, 85.9, 72.1, 92.7, 94.9, 60.5, 86.5, 89.3, 70.1), 82.1),
)

TRAINING_EXAMPLES = {  # as table 1 rounds them
    "mnli": 392_000,
    "qqp": 363_000,
    "qnli": 108_000,
    "sst2": 67_000,
    "cola": 8_500,
    "stsb": 5_700,
    "mrpc": 3_500,
    "rte": 2_500,
}


def _ablation(system: str, mnli: float, qnli: float, mrpc: float, sst2: float, squad: float) -> Published:
    accuracies = {"mnli": mnli, "qnli": qnli, "mrpc": mrpc, "sst2": sst2}
    scores = {task: {"accuracy": value} for task, value in accuracies.items()} | {"squad1.1": {"f1": squad}}
    return Published(system, "dev", scores, f"{_BERT} table 5")


def _size(system: str, mnli: float, mrpc: float, sst2: float) -> Published:
    scores = {task: {"accuracy": value} for task, value in (("mnli", mnli), ("mrpc", mrpc), ("sst2", sst2))}
    return Published(system, "dev", scores, f"{_BERT} table 6")


def _roberta(system: str, *figures: float) -> Published:
    # The table does not say which metrics of QQP, MRPC and STS-B these are; the published recipes choose by accuracy.
    metrics = {
        "mnli": "accuracy",
        "qnli": "accuracy",
        "qqp": "accuracy",
        "rte": "accuracy",
        "sst2": "accuracy",
        "mrpc": "accuracy",
        "cola": "matthews",
        "stsb": "correlation",
    }
    scores = {task: {metric: value} for (task, metric), value in zip(metrics.items(), figures, strict=True)}
    return Published(system, "dev", scores, "https://github.com/facebookresearch/fairseq examples/roberta/README.md")


GLUE_DEV: tuple[Published, ...] = (
    _ablation("BERT-base", 84.4, 88.4, 86.7, 92.7, 88.5),
    _ablation("BERT-base, no NSP", 83.9, 84.9, 86.5, 92.6, 87.9),
    _ablation("BERT-base, left to right, no NSP", 82.1, 84.3, 77.5, 92.1, 77.8),
    _ablation("BERT-base, left to right, no NSP, + BiLSTM", 82.1, 84.1, 75.7, 91.6, 84.9),
    _size("BERT 3 layers, width 768, 12 heads", 77.9, 79.8, 88.4),
    _size("BERT 6 layers, width 768, 3 heads", 80.6, 82.2, 90.7),
    _size("BERT 6 layers, width 768, 12 heads", 81.9, 84.8, 91.3),
    _size("BERT 12 layers, width 768, 12 heads", 84.4, 86.7, 92.9),
    _size("BERT 12 layers, width 1024, 16 heads", 85.7, 86.9, 93.3),
    _size("BERT 24 layers, width 1024, 16 heads", 86.6, 87.8, 93.7),
    _roberta("RoBERTa-base", 87.6, 92.8, 91.9, 78.7, 94.8, 90.2, 63.6, 91.2),
    _roberta("RoBERTa-large", 90.2, 94.7, 92.2, 86.6, 96.4, 90.9, 68.0, 92.4),
)


def _albert(system: str, figures: tuple[tuple[float, ...], ...], average: float) -> Published:
    scores = {
        task: dict(zip(metrics, values, strict=True))
        for (task, metrics), values in zip(ALBERT_TABLE, figures, strict=True)
    }
    return Published(system, "dev", scores, "https://arxiv.org/abs/1909.11942 table 2", average)


ALBERT_DEV: tuple[Published, ...] = (
    _albert("BERT-base", ((90.4, 83.2), (80.4, 77.6), (84.5,), (92.8,), (68.2,)), 82.3),
    _albert("BERT-large", ((92.2, 85.5), (85.0, 82.2), (86.6,), (93.0,), (73.9,)), 85.2),
    _albert("ALBERT-base", ((89.3, 82.3), (80.0, 77.1), (81.6,), (90.3,), (64.0,)), 80.1),
    _albert("ALBERT-large", ((90.6, 83.9), (82.3, 79.4), (83.5,), (91.7,), (68.5,)), 82.4),
    _albert("ALBERT-xlarge", ((92.5, 86.1), (86.1, 83.1), (86.4,), (92.4,), (74.8,)), 85.5),
    _albert("ALBERT-xxlarge", ((94.1, 88.3), (88.1, 85.1), (88.0,), (95.2,), (82.3,)), 88.7),
)
