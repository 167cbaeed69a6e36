"""What figures are called, which side is the good one, and which of them runs are compared by where nobody says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cloze.errors import Refusal, did_you_mean
from cloze.report.comparison import Arm, Metric

_LOWER = ("loss", "perplexity", "bits_per_byte", "perplexity_per_word", "error")
_HIGHER = (
    "accuracy", "f1", "f1_macro", "precision", "recall", "auc", "matthews", "pearson", "spearman", "exact", "exact_match",
    "em", "bleu", "rouge", "rouge1", "rouge2", "rougel", "tokens_per_second", "span_f1",
)  # fmt: skip
_TITLES = {
    "bits_per_byte": "bits per byte",
    "perplexity_per_word": "perplexity per word",
    "f1": "F1",
    "auc": "AUC",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
}
_PLACES = {"val": "validation", "train": "training"}


def described(key: str) -> Metric:
    """A figure by its key in `Run.figures`: its title, and whether higher is better as far as its name says."""
    evaluation, _, rest = key.rpartition(":")
    place, *inner = rest.split("/")
    name = inner[-1] if inner else place
    title = " ".join(_TITLES.get(part, part.replace("_", " ")) for part in (*inner[:-1], name))
    if name.startswith("loss_"):
        title = f"loss ({name.removeprefix('loss_')})"
    if place == "val" or place == "train":
        title = f"{_PLACES[place]} {title}"
    if evaluation:
        title = f"{evaluation} {title}"
    loss = name == "loss" or name.startswith("loss_")
    return Metric(key, title, _direction(name), "nats" if loss else "")


def chosen(keys: Sequence[str], known: Iterable[str], told: Iterable[Metric] = ()) -> list[Metric]:
    """The figures that a user names, `val/loss` or, of one whose good side its name does not say, `val/thing=higher` or `=lower`.
    Those that the study tells of are as it `told`.

    Raises Refusal for one that no run has, or that is named twice.
    """
    known, study = list(known), {metric.key: metric for metric in told}
    found: list[Metric] = []
    for word in keys:
        key, _, side = word.partition("=")
        if key not in known:
            raise Refusal(f"metric {key}: no run has it{did_you_mean(key, known)}")
        if side not in ("", "higher", "lower"):
            raise Refusal(f"metric {word}: after the = stands which side is better, higher or lower")
        if any(key == each.key for each in found):
            raise Refusal(f"metric {key} is named twice")
        metric = study.get(key) or described(key)
        found.append(Metric(key, metric.title, side == "higher", metric.unit) if side else metric)
    return found


def usual(arms: Iterable[Arm]) -> tuple[list[Metric], list[str]]:
    """The figures that all arms have, in one of their runs at least, and whose good side is known, the validation's loss first; and a
    sentence where that is left out, because it is not of the same terms in all of them."""
    runs = [[run.figures for run in arm.runs] for arm in arms if arm.runs]
    if not runs:
        return [], []
    figures = [dict.fromkeys(key for each in of_arm for key in each) for of_arm in runs]
    common = [key for key in figures[0] if all(key in each for each in figures[1:])]
    terms = {frozenset(key for key in each if key.startswith("val/loss_")) for each in figures}
    said = []
    if len(terms) > 1 and "val/loss" in common:
        common.remove("val/loss")
        said = ["val/loss is left out: it is the sum of other terms in some arms, so it cannot be compared"]
    places = ("val/", "judge/", "score/")
    found = [described(key) for key in common if key.rpartition(":")[2].startswith(places)]
    kept = [metric for metric in found if metric.higher_is_better is not None]
    return sorted(kept, key=lambda metric: _rank(metric.key, places)), said  # stable: else as the run's record has them


def _rank(key: str, places: Sequence[str]) -> tuple[int, int]:
    name = key.rpartition("/")[2]
    place = next((n for n, each in enumerate(places) if key.startswith(each)), len(places))
    kind = 0 if name == "loss" else 1 if name.startswith("loss_") else 2
    return place, kind


def _direction(name: str) -> bool | None:
    words = name.split("_")
    if any(name == each or name.startswith(f"{each}_") for each in _LOWER):
        return False
    if any(name == each or words[-1] == each or words[0] == each for each in _HIGHER):
        return True
    return None
