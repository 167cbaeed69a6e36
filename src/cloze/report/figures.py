"""What a page draws and lists of a comparison's runs, as plain data: curves, settings against figures, samples, provenance.

Curves are thinned for the page; every figure that is judged comes from the `Comparison` itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloze.report.collect import Run, is_number
from cloze.report.comparison import Arm, Comparison
from cloze.schema import as_word

POINTS = 1000  # of a line; more cannot be told apart on a screen
DIGITS = 6  # of a point of a curve
_HEAD = ("step", "tokens", "seconds")


def curves(arm: Arm, points: int = POINTS) -> tuple[list[dict[str, Any]], bool]:
    """The runs of an arm with their curves, and whether points were left out.

    A run is {name, folder, seed, status, rate, grids, curves}: `grids` are the points' {step, tokens, seconds}, `curves` is
    {metric: [grid, [value, …]]}, `rate` FLOPs a token or None. An evaluation's metrics have its name before them, and a
    grid says its own run's rate. All runs of an arm keep the same steps, so that a mean over seeds can be
    taken point by point.
    """
    kept, thinned = _kept_steps(arm.runs, points)
    return [_run(run, kept) for run in arm.runs], thinned


def _kept_steps(runs: Sequence[Run], points: int) -> tuple[dict[str, set[float]], bool]:
    """Of each metric the steps that are drawn: all, or evenly many of them with the first and the last."""
    steps: dict[str, set[float]] = {}
    for run in runs:
        for before, source in _sources(run):
            for point in source.points:
                for metric in _metrics_of(point):
                    steps.setdefault(before + metric, set()).add(float(point["step"]))
    kept = {metric: set(thin(sorted(found), points)) for metric, found in steps.items()}
    return kept, any(len(kept[metric]) < len(found) for metric, found in steps.items())


def thin(values: Sequence[float], most: int) -> list[float]:
    """At most so many of the values, evenly, with the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(n * (len(values) - 1) / (most - 1))] for n in range(most)]


def _metrics_of(point: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(point.get("step"), int | float):
        for key, value in point.items():
            if key not in _HEAD and is_number(value):
                yield key


def _sources(run: Run) -> Iterator[tuple[str, Run]]:
    """A run and its evaluations, each with what stands before the names of its metrics."""
    yield "", run
    for name, evaluation in run.evaluations.items():
        yield f"{name}:", evaluation


def _run(run: Run, kept: Mapping[str, set[float]]) -> dict[str, Any]:
    heads: list[dict[str, Any]] = []
    lines: dict[str, tuple[int, list[Any]]] = {}
    for before, source in _sources(run):
        found: dict[str, dict[float, Mapping[str, Any]]] = {}
        for point in source.points:
            for metric in _metrics_of(point):
                if float(point["step"]) in kept[before + metric]:
                    found.setdefault(metric, {})[float(point["step"])] = point  # a step logged twice: the later one
        grids: dict[tuple[float, ...], int] = {}
        for metric, at in found.items():
            if tuple(at) not in grids:
                grids[tuple(at)] = len(heads)
                head = {key: [_rounded(point.get(key), 12) for point in at.values()] for key in _HEAD}
                heads.append({**head, "rate": source.facts.get("flops_per_token")})
            values = [_rounded(point[metric], DIGITS) for point in at.values()]
            lines[before + metric] = (grids[tuple(at)], values)
    return {
        "name": run.name,
        "folder": str(run.folder),
        "seed": run.seed,
        "status": run.status,
        "rate": run.facts.get("flops_per_token"),
        "grids": heads,
        "curves": lines,
    }


def metrics_in(runs: Iterable[Mapping[str, Any]], first: Sequence[str]) -> list[str]:
    """All metrics that have points: those with several, which make a line, before those of the end alone; of either the `first` ones, then
    validation's, then the rest."""
    found: dict[str, int] = {}
    for run in runs:
        for metric, (_, values) in run["curves"].items():
            found[metric] = max(found.get(metric, 0), len(values))
    order = {key: n for n, key in enumerate(first)}
    kinds = ("val/loss", "val/", "judge/", "train/loss", "train/")

    def place(metric: str) -> tuple[bool, int, int, str]:
        kind = next((n for n, start in enumerate(kinds) if metric.startswith(start)), len(kinds))
        return found[metric] < 2, order.get(metric, len(order)), kind, metric

    return sorted(found, key=place)


def parallel(comparison: Comparison, most: int = 10) -> dict[str, Any]:
    """The settings that differ, and the figures, as upright axes, and a line for each run of each arm.

    {axes: [{title, ticks: [[place, label], …]}], lines: [{arm, seed, places}], left_out}; places run from 0 to 1, None where a run has
    no such figure. Empty lines where nothing differs.
    """
    keys = list(dict.fromkeys(key for arm in comparison.arms for key in arm.differs))
    metrics = comparison.metrics[:3]
    shown = keys[: max(1, most - len(metrics))]
    seeds = {arm.name: _seeds(comparison, arm) for arm in comparison.arms}
    rows = [(arm, seed) for arm in comparison.arms for seed in seeds[arm.name]]
    axes, columns = [], []
    left_out = [*keys[len(shown) :], *(metric.title for metric in comparison.metrics[len(metrics) :])]
    for key in shown:
        places, ticks = _axis([arm.differs.get(key) for arm, _ in rows])
        axes.append({"title": key, "ticks": ticks})
        columns.append(places)
    for metric in metrics:
        cells = comparison.cells.get(metric.key, {})
        values = [
            cell.summary.values.get(seed) if (cell := cells.get(arm.name)) and cell.summary else None
            for arm, seed in rows
        ]
        places, ticks = _numeric_axis(values)
        axes.append({"title": metric.title, "ticks": ticks})
        columns.append(places)
    lines = [
        {"arm": arm.name, "seed": seed, "places": list(places)}
        for (arm, seed), *places in zip(rows, *columns, strict=True)
    ]
    return {"axes": axes, "lines": lines if keys and len(rows) > 1 else [], "left_out": left_out}


def _seeds(comparison: Comparison, arm: Arm) -> list[int]:
    found: set[int] = set()
    for metric in comparison.metrics:
        cell = comparison.cells.get(metric.key, {}).get(arm.name)
        if cell and cell.summary:
            found |= set(cell.summary.values)
    return sorted(found)


def _axis(values: Sequence[Any]) -> tuple[list[float | None], list[tuple[float, str]]]:
    if all(map(is_number, values)):
        return _numeric_axis(values)
    names = {
        readable(value): short(value) for value in values
    }  # what reads alike where it is cut has a place of its own
    place = {name: (n + 0.5) / len(names) for n, name in enumerate(names)}
    return [place[readable(value)] for value in values], [(at, names[name]) for name, at in place.items()]


def _numeric_axis(values: Sequence[float | None]) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Evenly, or by the logarithm where the values span more than a factor of twenty."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    if not there:
        return [None] * len(values), []
    low, high = min(there), max(there)
    scale = math.log if low > 0 and high / low > 20 else float

    def place(value: float) -> float:
        return 0.5 if high == low else (scale(value) - scale(low)) / (scale(high) - scale(low))

    distinct = sorted(set(there))
    ticks = distinct if len(distinct) <= 6 else [low, high]
    spaced: list[float] = []
    for value in ticks:  # labels that would lie on each other are left out, the highest never
        while spaced and value == high and place(value) - place(spaced[-1]) < 0.06:
            spaced.pop()
        if not spaced or place(value) - place(spaced[-1]) >= 0.06:
            spaced.append(value)
    places = [None if value is None or not math.isfinite(value) else place(value) for value in values]
    return places, [(place(value), f"{value:.4g}") for value in spaced]


def differences(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The settings that differ, a row each: the key and its value in every arm."""
    keys = sorted({key for arm in comparison.arms for key in arm.differs})
    absent = object()
    rows = [
        [key, *("–" if (v := arm.differs.get(key, absent)) is absent else readable(v) for arm in comparison.arms)]
        for key in keys
    ]
    return ["setting", *(arm.name for arm in comparison.arms)], rows


def samples(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The last samples of each arm's first seed side by side: [{steps: {arm: step}, head, rows}], one table where the arms were asked
    the same, else one for each of them."""
    read = {arm.name: found for arm in arms if (found := _last_samples(arm))}
    tables: list[dict[str, Any]] = []
    for name, (step, seed, rows) in read.items():
        asked = [tuple(row[:2]) for row in rows]
        for table in tables:
            if table["asked"] == asked:
                break
        else:
            table = {"asked": asked, "arms": {}, "said": []}
            tables.append(table)
        table["arms"][name] = {"step": step, "seed": seed}
        table["said"].append([row[2] if len(row) > 2 else "" for row in rows])
    return [
        {
            "arms": table["arms"],
            "rows": [[*asked, *said] for asked, *said in zip(table["asked"], *table["said"], strict=True)],
        }
        for table in tables
    ]


def _last_samples(arm: Arm) -> tuple[str, int | None, list[list[str]]] | None:
    for run in sorted(arm.runs, key=lambda run: (run.seed is None, run.seed or 0)):
        if (found := last_block(run.folder / "samples.txt")) is not None:
            return found[0], run.seed, found[1]
    return None


def last_block(file: Path) -> tuple[str, list[list[str]]] | None:
    """The step and the rows of the last whole block of a samples.txt: "step N", a line of tab-separated words for each sequence, an empty
    line. None where there is none."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for block in reversed(text.split("\n\n")[:-1]):  # what follows the last empty line is not yet whole
        head, *rows = block.strip("\n").split("\n")
        if head.startswith("step ") and rows:
            return head.removeprefix("step "), [[cell.strip() for cell in row.split("\t")] for row in rows]
    return None


def log_tail(run: Run, lines: int = 100) -> list[str]:
    """The last lines of a run's log.txt."""
    try:
        text = (run.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]


def provenance(arm: Arm) -> dict[str, list[str]]:
    """Where an arm's runs come from: of each fact the distinct values over its runs, in order. Of the command once what differs only in
    seed and folder."""
    found: dict[str, dict[str, None]] = {}
    for run in arm.runs:
        for key, value in _provenance(run, len(arm.runs) > 1):
            if value not in ("", "None"):
                found.setdefault(key, {})[value] = None
    return {key: list(values) for key, values in found.items()}


def _provenance(run: Run, several: bool) -> Iterator[tuple[str, str]]:
    facts: Mapping[str, Any] = run.facts.get("provenance") or {}
    machine, versions, git = (facts.get(key) or {} for key in ("machine", "versions", "git"))
    hardware, parameters = (run.facts.get(key) or {} for key in ("hardware", "parameters"))
    words = [str(word) for word in facts.get("command") or ()]
    varies = ("seed=", "output_dir=", "init=") if several else ()
    yield "command", " ".join(next((f"{each}…" for each in varies if word.startswith(each)), word) for word in words)
    yield "folder", str(run.folder)
    yield "git commit", f"{str(git.get('commit'))[:12]}{', with changes' if git.get('changed') else ''}" if git else ""
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    told = (machine.get("host"), machine.get("processor"), f"{machine.get('cores')} cores", machine.get("system"))
    yield "machine", ", ".join(str(each) for each in told if each) if machine else ""
    kinds = (hardware.get("accelerator"), hardware.get("strategy"), hardware.get("precision"))
    processes = f"{hardware.get('world')} × {hardware.get('threads')} threads"
    yield "hardware", ", ".join([*(str(each) for each in kinds if each), processes]) if hardware else ""
    yield "data", str((run.facts.get("data") or {}).get("announcement") or "")
    yield "data fingerprint", str(facts.get("data") or "")
    if parameters.get("model") is not None:
        yield "parameters", f"{parameters['model']:,} in the model, {parameters.get('objective') or 0:,} in heads"
    yield "began", str(run.facts.get("began") or "")
    yield "ended", str(run.facts.get("ended") or "")
    yield "weights", str(run.facts.get("weights_sha256") or "")[:16]


def readable(value: Any) -> str:
    """A setting's value as a word has it, but for digits and lengths that nobody reads."""
    if isinstance(value, float) and len(repr(value)) > 12:  # 0.1 + 0.2 is 0.3 to who reads it
        return f"{value:.10g}"
    if isinstance(value, dict):  # what a run starts from, spelt out
        value = ", ".join(f"{key}={readable(each)}" for key, each in value.items())
        return value if len(value) <= 200 else f"{value[:199]}…"
    return as_word(value)


def short(value: Any, most: int = 24) -> str:
    """The same, cut; the last part of a class's name tells it apart."""
    word = readable(value)
    word = word.rsplit(".", 1)[-1] if word.startswith("cloze.") else word
    return word if len(word) <= most else word[: most - 1] + "…"


def _rounded(value: Any, digits: int) -> float | int | None:
    if not is_number(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{digits}g}")
