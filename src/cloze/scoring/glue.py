"""The benchmarks' tasks with the metrics that they are scored by, and the averages that the literature quotes.

GLUE: https://arxiv.org/abs/1804.07461. SuperGLUE: https://arxiv.org/abs/1905.00537. CLUE: https://arxiv.org/abs/2004.05986.
FewCLUE: https://arxiv.org/abs/2107.07498. XNLI: https://arxiv.org/abs/1809.05053.

Scores are `{task: {metric: value}}`, tasks being named without their benchmark ("mrpc", "mnli_mismatched"). An average is on the scale of
what it is given, and None where one of its scores is missing: a mean over fewer tasks is another figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Task:
    """One task of a benchmark: its metrics (the first is the one that a single figure is wanted of), and its classes in order.

    No classes: where `numeric`, a number is predicted; else any label that the files have. `text`: answers are scored as texts, by
    `cloze.scoring.squad`. `columns` are what the label may be called in the header of the official file; none: the file has no header
    and the label is in column `place`, from 0.
    """

    metrics: tuple[str, ...]
    classes: tuple[str, ...] = ()
    numeric: bool = False
    text: bool = False
    columns: tuple[str, ...] = ("label",)
    place: int = 0


_YES_NO = ("0", "1")
_THREE = ("contradiction", "entailment", "neutral")
_TWO = ("entailment", "not_entailment")
_BOOLEAN = ("false", "true")
_ACCURACY = ("accuracy",)
_CHINESE = tuple(  # of CLUE and FewCLUE, and ChnSentiCorp
    "afqmc bustm c3 chid chnsenticorp cluewsc cmnli csl csldcp eprstmt iflytek ocnli tnews wsc".split()
)

TASKS: dict[str, Task] = {
    "glue/cola": Task(("matthews",), _YES_NO, columns=(), place=1),
    "glue/sst2": Task(_ACCURACY, _YES_NO),
    "glue/mrpc": Task(("f1", "accuracy"), _YES_NO, columns=("Quality",)),
    "glue/qqp": Task(("f1", "accuracy"), _YES_NO, columns=("is_duplicate",)),
    "glue/stsb": Task(("spearman", "pearson"), numeric=True, columns=("score",)),
    "glue/mnli": Task(_ACCURACY, _THREE, columns=("gold_label",)),
    "glue/mnli_mismatched": Task(_ACCURACY, _THREE, columns=("gold_label",)),
    "glue/qnli": Task(_ACCURACY, _TWO),
    "glue/rte": Task(_ACCURACY, _TWO),
    "glue/wnli": Task(_ACCURACY, _YES_NO),
    "glue/ax": Task(("matthews",), _THREE, columns=("Label", "label")),
    "superglue/boolq": Task(_ACCURACY, _BOOLEAN),
    "superglue/cb": Task(("f1_macro", "accuracy"), _THREE),
    "superglue/copa": Task(_ACCURACY, _YES_NO),
    "superglue/multirc": Task(("f1_a", "exact_match"), _YES_NO),
    "superglue/record": Task(("f1", "exact_match"), text=True),
    "superglue/rte": Task(_ACCURACY, _TWO),
    "superglue/wic": Task(_ACCURACY, _BOOLEAN),
    "superglue/wsc": Task(_ACCURACY, _BOOLEAN),
    "superglue/axb": Task(("matthews",), _TWO),
    "superglue/axg": Task(_ACCURACY, _TWO),  # its gender parity needs pairs, which a file of labels does not show
    **{f"{suite}/{name}": Task(_ACCURACY) for suite in ("clue", "fewclue") for name in _CHINESE},
    "xnli": Task(_ACCURACY, _THREE, columns=("gold_label", "label")),
}

GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")

BERT_TABLE: tuple[tuple[str, str], ...] = (  # the columns of table 1 of https://arxiv.org/abs/1810.04805, in its order
    ("mnli", "accuracy"),
    ("mnli_mismatched", "accuracy"),
    ("qqp", "f1"),
    ("qnli", "accuracy"),
    ("sst2", "accuracy"),
    ("cola", "matthews"),
    ("stsb", "spearman"),
    ("mrpc", "f1"),
    ("rte", "accuracy"),
)

ALBERT_TABLE: tuple[tuple[str, tuple[str, ...]], ...] = (  # table 2 of https://arxiv.org/abs/1909.11942, dev sets
    ("squad1.1", ("f1", "exact_match")),
    ("squad2.0", ("f1", "exact")),
    ("mnli", ("accuracy",)),
    ("sst2", ("accuracy",)),
    ("race", ("accuracy",)),
)


def _mean_of(scores: Scores, cells: Iterable[tuple[str, str]]) -> float | None:
    values = [scores.get(task, {}).get(metric) for task, metric in cells]
    found = [value for value in values if value is not None]
    return fmean(found) if found and len(found) == len(values) else None


def glue_average(scores: Scores) -> float | None:
    """The GLUE score: the mean over the nine tasks, of each the mean of its metrics; MNLI counts once, as the mean of both its sets."""
    means: list[float | None] = []
    for name in GLUE:
        sets = ("mnli", "mnli_mismatched") if name == "mnli" else (name,)
        means.append(_mean_of(scores, [(s, metric) for s in sets for metric in TASKS[f"glue/{name}"].metrics]))
    found = [mean for mean in means if mean is not None]
    return fmean(found) if len(found) == len(means) else None


def bert_average(scores: Scores) -> float | None:
    """The average of BERT's paper: the mean of the nine columns of its table 1, without WNLI.

    F1 of QQP and MRPC, Spearman of STS-B, Matthews of CoLA, accuracy else; MNLI's two sets are two columns, so MNLI counts twice.
    """
    return _mean_of(scores, BERT_TABLE)


def albert_average(scores: Scores) -> float | None:
    """The average of ALBERT's paper: SQuAD 1.1, SQuAD 2.0, MNLI, SST-2 and RACE, of each SQuAD the mean of F1 and exact match.

    Tasks "squad1.1" and "squad2.0" have the metrics that `cloze.scoring.squad` calls so, and percentages, so the others must have them too.
    """
    means = [_mean_of(scores, [(task, metric) for metric in metrics]) for task, metrics in ALBERT_TABLE]
    found = [mean for mean in means if mean is not None]
    return fmean(found) if len(found) == len(means) else None
