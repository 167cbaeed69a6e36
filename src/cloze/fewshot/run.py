"""A run that trains nothing: a checked config and a model in, a table, score.json and run.json out."""

from __future__ import annotations

import datetime
from typing import Any

from omegaconf import OmegaConf

from cloze.check import Checked
from cloze.data.base import TaskCorpus
from cloze.errors import Refusal
from cloze.fewshot.results import Results
from cloze.fewshot.score import Scoring, length_for, written
from cloze.folder import RunFolder, is_follower, provenance
from cloze.loading import Pretrained, load
from cloze.training.voice import Voice

# what decides nothing here, by the word that it is said with
IDLE = ("optimizer", "schedule", "budget", "checkpoint", "finetune", "validation", "batch_size")


def run(checked: Checked) -> int:
    """Scores, or with `show=` prints prompts only, and returns the exit code. Raises Refusal where nothing can be scored."""
    top = checked.top
    if top.init is None:
        raise Refusal(
            "objective=score trains nothing, so it needs a trained model: init=RUN, a Hugging Face directory or name"
        )
    said = [word.lstrip("+~").partition("=")[0] for word in checked.composed.words]
    for key in said:
        if key.partition(".")[0] in IDLE or key.startswith("model."):
            raise Refusal(f"{key}=… has no effect with objective=score, which trains nothing")
    for name, value in (("resume", top.resume), ("plan", top.plan), ("audit", top.audit)):
        if value:
            raise Refusal(f"{name}={str(value).lower()} has no effect with objective=score, which trains nothing")
    hardware = checked.nodes["hardware"].build()
    hardware.prepare()
    scoring: Scoring = scoring_of(checked)
    corpus: TaskCorpus = checked.nodes["data"].build()
    if top.show:
        _show(scoring, corpus, top.seed, top.show)
        return 0
    if is_follower():
        return 0
    folder = RunFolder.take(top.output_dir, None, checked.name)
    with folder:
        try:
            loaded = load(top.init, _device(hardware.resolve(top.batch_size).accelerator), top.trusted)
            length = length_for(loaded, top.length if "length" in said else None)
            _score(checked, folder, scoring, loaded, corpus, length)
        except Refusal:
            folder.discard_if_fresh()
            raise
    return 0


def scoring_of(checked: Checked) -> Scoring:
    """The settings of a checked config as what they do."""
    return Scoring(**checked.objective_settings)


def _device(accelerator: str) -> str:
    return {"gpu": "cuda", "tpu": "xla"}.get(accelerator, accelerator)


def _score(
    checked: Checked, folder: RunFolder, scoring: Scoring, loaded: Pretrained, corpus: TaskCorpus, length: int
) -> None:
    top, voice = checked.top, Voice(folder)
    began = datetime.datetime.now(datetime.UTC)
    voice.say(corpus.announcement)
    facts: dict[str, Any] = {
        "init": top.init,
        "model": type(loaded.model).__name__,
        "objective": "Score",
        "length": length,
        "seed": top.seed,
    }
    config = OmegaConf.to_yaml(checked.composed.config)
    who = {"name": checked.name, **{key: facts[key] for key in ("model", "objective")}}
    try:
        scored = scoring.score(loaded, corpus, top.seed, length, voice.say)
        for name, text in written(scored, corpus, facts).items():
            folder.write(name, text)
    except BaseException as fault:
        if not isinstance(fault, Refusal):
            folder.write("config.yaml", config)
            folder.record("failed", reason=str(fault).strip() or type(fault).__name__, **who)
        raise
    ended = datetime.datetime.now(datetime.UTC)
    folder.write("config.yaml", config)
    folder.record(
        "done",
        reason=None,
        **who,
        began=began.isoformat(timespec="seconds"),
        ended=ended.isoformat(timespec="seconds"),
        seconds=round((ended - began).total_seconds(), 3),
        steps=0,
        metrics={f"score/{name}": value for name, value in scored.results.metrics.items()},
        data={"announcement": corpus.announcement},
        provenance={**provenance(), "words": list(checked.composed.words), "data": corpus.fingerprint()},
    )
    _print(scored.results, scored.protocol)
    voice.say(f"done: {folder.path}")


def _print(results: Results, protocol: str) -> None:
    """A table at a terminal, a line each where a program reads."""
    from rich.console import Console

    rows = [*results.rows(), ("protocol", protocol)]
    console = Console()
    if not console.is_terminal:
        for name, figure in rows:
            print(f"{name}\t{figure}")
        return
    from rich.table import Table

    table = Table(show_header=False)
    for name, figure in rows:
        table.add_row(name, figure)
    console.print(table, markup=False)


def _show(scoring: Scoring, corpus: TaskCorpus, seed: int, count: int) -> None:
    """The first prompts as the model would read them, each with its options, the right one marked."""
    prompts = scoring.prompts(corpus, seed)
    for number, each in enumerate(prompts.asked[:count]):
        print(f"--- {number + 1}")
        print(each.before + "▁" + each.after)
        for i, option in enumerate(each.options):
            print(f"  {'*' if i == each.gold else ' '} {option}")
