"""Runs → arms: runs of one configuration, one a seed; which settings tell arms apart; what must be said of the grouping."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloze.deciding import LATER, decides
from cloze.report.collect import Run, find
from cloze.report.comparison import Absent, Arm
from cloze.report.studies import Study, trained, unbegun

_LABEL_KEYS = 3  # more settings than these make no name that could be read


def of_runs(runs: Sequence[Run]) -> tuple[list[Arm], list[str]]:
    """Arms of runs that belong to no study, in the order that the first run of each has, and sentences on what could mislead."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(configuration(run)), []).append(run)
    differing = differing_settings([each[0] for each in groups.values()])
    arms, remarks = [], []
    for name, group in zip(_names(list(groups.values()), differing), groups.values(), strict=True):
        kept, doubled = _one_a_seed(group)
        if doubled:
            remarks.append(f"{name}: two runs of seed {_listed(doubled)}; the one that ended last counts")
        done = [run for run in kept if run.status == "done"]
        absent = [Absent(run.seed, run.status, run.reason) for run in kept if run.status != "done"]
        if len(done) > 1:  # a figure belongs to a seed
            absent += [Absent(None, "not counted", f"{run.folder} says no seed") for run in done if run.seed is None]
            done = [run for run in done if run.seed is not None]
        arms.append(Arm(name, done, settings_of(group[0], differing), absent))
    return arms, remarks


def below(*folders: Path) -> tuple[list[Arm], list[str]]:
    """Arms of all runs below some folders, and sentences, also on runs that are not there to be read. No arms where there are no runs."""
    runs, unread = find(*folders)
    arms, remarks = of_runs(runs) if runs else ([], [])
    lost = [f"{folder} is left out: its run.json cannot be read" for folder in unread]
    return arms, [*lost, *(each for folder in folders for each in unbegun(folder)), *remarks]


def of_study(study: Study) -> tuple[list[Arm], list[str]]:
    """A study's arms as it names them, and sentences on arms whose runs are not of one configuration."""
    runs, absent = trained(study)
    differing = differing_settings([run for group in runs.values() for run in group])
    arms = [
        Arm(name, group, settings_of(group[0], differing) if group else {}, absent[name])
        for name, group in runs.items()
    ]
    return arms, _mixed(arms)


def between(arms: Sequence[Arm]) -> list[str]:
    """Sentences on what is no difference between arms, or another one than it seems."""
    return [*_same(arms), *_one_start(arms)]


def _same(arms: Sequence[Arm]) -> list[str]:
    """Sentences on arms that are not two: the same configuration, or other settings that led to bitwise the same weights."""
    keys = [{_key(configuration(run)) for run in arm.runs} for arm in arms]
    digests = [{run.seed: run.facts.get("weights_sha256") for run in arm.runs} for arm in arms]
    remarks = []
    for n, arm in enumerate(arms):
        for m, other in enumerate(arms[n + 1 :], start=n + 1):
            common = [seed for seed in digests[n] if seed in digests[m]]
            if keys[n] & keys[m]:
                remarks.append(f"{arm.name} and {other.name} resolve to the same configuration: they are one arm")
            elif common and all(digests[n][seed] and digests[n][seed] == digests[m][seed] for seed in common):
                remarks.append(
                    f"{arm.name} and {other.name} ended in bitwise the same weights: "
                    "what tells them apart had no effect on these"
                )
    return remarks


def _one_start(arms: Sequence[Arm]) -> list[str]:
    """A sentence on arms whose seeds all start from the same weights, so that their deviation is not that of pre-training."""
    found = []
    for arm in arms:
        starts = {run.identity.get("init") for run in arm.runs}
        if len(arm.runs) > 1 and len(starts) == 1 and starts != {None}:
            found.append(arm.name)
    if not found:
        return []
    return [f"{_listed(found)}: all seeds start from the same weights, so what varies is the training from there on"]


def configuration(run: Run, ancestors: int = 8) -> Mapping[str, Any]:
    """Everything that decides a run's figures but the seed, flat. Where it starts from another run's weights, that one's configuration
    stands for them as `init.…`, but for what it was judged by: the weights themselves are others in every seed. Up to so many
    `ancestors`. A run that trains nothing has no identity, and no precision: what computes its scores is the same with each."""
    found = dict(run.identity) or {k: value for k, value in run.settings.items() if decides(k) and k not in LATER}
    for key in LATER:
        if key not in found:
            found[key] = _precision(run) if key == "hardware.precision" else run.settings.get(key)
    found.pop("seed", None)
    if ancestors and found.get("init") is not None and (source := _source(run)) is not None:
        del found["init"]
        theirs = configuration(source, ancestors - 1).items()
        found |= {f"init.{key}": value for key, value in theirs if key != "validation.examples"}
    return found


def _precision(run: Run) -> Any:
    """What a run has computed in: `auto` is another one on another machine."""
    return (run.facts.get("hardware") or {}).get("precision")


def _source(run: Run) -> Run | None:
    """The run that a run's weights are from, where `init=` named a folder that still has it."""
    from cloze.folder import RunFolder

    said = run.settings.get("init")
    if not isinstance(said, str):
        return None
    folder = Path(str((run.facts.get("provenance") or {}).get("directory") or "."), said)
    facts = RunFolder(folder).facts()
    return Run(folder, facts) if facts else None


def _key(configuration: Mapping[str, Any]) -> str:
    return json.dumps(configuration, sort_keys=True, default=str)


def differing_settings(runs: Iterable[Run]) -> list[str]:
    """The settings in which runs differ, the seed left out. For data and tokenizer, of which the identity has digests, the settings that
    made them, where these tell."""
    runs = list(runs)
    found = _unlike([configuration(run) for run in runs])
    for digest in ("data", "tokenizer"):
        if digest in found:
            theirs = [{k: v for k, v in run.settings.items() if k.startswith(f"{digest}.")} for run in runs]
            at = found.index(digest)
            found[at : at + 1] = _unlike(theirs) or [digest]
    return found


def _unlike(flat: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for each in flat for key in each)
    return [key for key in keys if len({_key({"": each.get(key)}) for each in flat}) > 1]


def settings_of(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    """A run's values of some of them; None where it has no such setting."""
    found = configuration(run)
    return {key: found[key] if key in found else run.settings.get(key) for key in keys}


def _names(groups: Sequence[Sequence[Run]], differing: Sequence[str]) -> list[str]:
    """What tells the groups apart: names that the runs were given, else the words that were said, else the settings that differ."""
    given = [{run.name for run in group} for group in groups]
    if len(groups) == 1 or (all(len(names) == 1 for names in given) and len(set.union(*given)) == len(groups)):
        return [sorted(names)[0] for names in given]
    words = [_words(group) for group in groups]
    common = set.intersection(*(set(each) for each in words))
    said = [[word for word in each if word not in common] for each in words]
    settings = [
        [f"{key.rpartition('.')[2]}={_short(value)}" for key, value in settings_of(group[0], differing).items()]
        for group in groups
    ]
    for labels in (said, settings):
        joined = [", ".join(each) for each in labels]
        if len(set(joined)) == len(groups) and max(len(each) for each in labels) <= _LABEL_KEYS:
            return [label or sorted(names)[0] for label, names in zip(joined, given, strict=True)]
    return [f"{sorted(names)[0]} ({n})" for n, names in enumerate(given, start=1)]


def _words(group: Sequence[Run]) -> list[str]:
    """The words that all runs of a group were given, but for those that only say where and how a run goes."""
    every = [list((run.facts.get("provenance") or {}).get("words") or []) for run in group]
    return [
        word
        for word in every[0]
        if all(word in each for each in every)
        and decides(key := word.lstrip("+").partition("=")[0])
        and key not in ("seed", "init")
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text.rpartition(".")[2] if text.startswith("cloze.") else text


def _one_a_seed(group: Sequence[Run]) -> tuple[list[Run], list[int]]:
    """One run for each seed, the last that is done if any is, and the seeds that had several. Of what says no seed all are kept."""
    by_seed: dict[Any, list[Run]] = {}
    for run in group:
        by_seed.setdefault(run.folder if run.seed is None else run.seed, []).append(run)
    kept = [max(runs, key=lambda run: (run.status == "done", str(run.facts.get("ended")))) for runs in by_seed.values()]
    kept.sort(key=lambda run: (run.seed is None, run.seed or 0))
    return kept, sorted(seed for seed, runs in by_seed.items() if len(runs) > 1)


def _mixed(arms: Sequence[Arm]) -> list[str]:
    remarks = []
    for arm in arms:
        if len({_key(configuration(run)) for run in arm.runs}) > 1:
            keys = differing_settings(arm.runs) or ["the weights they start from"]
            remarks.append(f"{arm.name}: its runs differ in more than the seed ({_listed(keys[:4])})")
    return remarks


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)
