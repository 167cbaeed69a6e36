"""One run: compose → check → build → train → record. The only reader of the config; nothing below it sees one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf, open_dict

from cloze import __version__
from cloze.check import Checked, check
from cloze.compose import Composed, choices, compose, parse, target
from cloze.data.base import TaskCorpus
from cloze.deciding import deciding
from cloze.errors import Refusal, with_article
from cloze.folder import RunFolder, is_follower
from cloze.starting import refuse_architecture

if TYPE_CHECKING:
    from cloze.loading import Initial
    from cloze.prepare import Prepared
    from cloze.session import Parts


def execute(composed: Composed) -> int:
    """Does what the words ask for and returns the exit code: 0 done; everything else is raised (errors.py)."""
    if composed.config.matrix is True:
        return _matrix(composed)
    composed = _with_the_words_of_the_run_to_resume(composed)
    initial, composed = initialised(composed)
    checked = check(composed)
    if not checked.objective.trains:
        from cloze.fewshot.run import run

        return run(checked)
    if checked.top.show or checked.top.audit or checked.top.plan:
        return _look(checked, initial)
    return _train(checked, initial)


def _train(checked: Checked, initial: Initial | None) -> int:
    from cloze.prepare import prepare
    from cloze.session import train

    top = checked.top
    checked.nodes["hardware"].build().prepare()  # threads, before anything is computed
    folder = RunFolder.take(top.output_dir, top.resume, checked.name)
    with folder:
        over = folder.facts().get("status") == "done"
        try:
            prepared = prepare(checked, initial, _silent if is_follower() else print)
            train(_parts(prepared), folder)
        except Refusal:
            folder.discard_if_fresh()
            raise
        _judge(prepared, folder, over)
    return 0


def _judge(prepared: Prepared, folder: RunFolder, over: bool) -> None:
    """The scores and predictions of a run that fine-tuned, on all splits of its task. `over`: it had ended before, so that the trained
    weights are only in its folder."""
    from cloze import downstream

    if folder.follower or not downstream.is_supervised(prepared) or (over and downstream.read_scores(folder.path)):
        return
    hardware = folder.facts().get("hardware", {})
    if hardware.get("strategy") == "fsdp":
        print(f"the weights lie in pieces: cloze evaluate {folder.path} gives scores and predictions")
        return
    if over:
        prepared = again(folder.path)
    found = downstream.outcomes(prepared, precision=hardware.get("precision", "32"))
    folder.record(scores=downstream.write(found, folder.path))
    print(f"predictions: {folder.path / 'predictions'}")


def again(run: Path, words: Sequence[str] = ()) -> Prepared:
    """A finished run's model and objective with its data, or with what `words` say of other data. Raises Refusal."""
    from cloze.prepare import prepare

    recorded = RunFolder(run).facts().get("provenance", {}).get("words") or []
    now = {word.partition("=")[0] for word in words}
    left_out = ("init", "resume", "output_dir", "size", "tokenizer", "finetune", "optimizer", "schedule", "budget")
    kept = [
        word
        for word in recorded
        if (key := word.lstrip("+").partition("=")[0]).split(".")[0] not in left_out
        and key not in now
        and not ("data" in now and key.startswith("data."))
    ]
    initial, composed = initialised(compose([*kept, *words, f"init={run}"]))
    return prepare(check(composed), initial, _silent)


def _parts(prepared: Prepared) -> Parts:
    from cloze.session import CorpusFacts, Parts

    checked = prepared.checked
    top, nodes = checked.top, checked.nodes
    return Parts(
        name=checked.name,
        model=prepared.model,
        objective=prepared.objective,
        builder=prepared.builder,
        train=prepared.train,
        validation=prepared.validation,
        vocabulary=prepared.tokenizer.vocabulary,
        tokenizer=prepared.tokenizer,
        save_tokenizer=prepared.tokenizer.save,
        description=description(prepared),
        facts=CorpusFacts(
            prepared.corpus.announcement, prepared.unigram_entropy(), prepared.entropy_floor(), prepared.targets_per()
        ),
        optimizer=nodes["optimizer"].build(),
        schedule=nodes["schedule"].build(),
        budget=nodes["budget"].build(),
        hardware=nodes["hardware"].build(),
        checkpoint=nodes["checkpoint"].build(),
        tracking=nodes["tracking"].build(),
        seed=top.seed,
        batch_size=top.batch_size,
        validation_every=checked.validation.every,
        validation_examples=checked.validation.examples,
        finetuning=nodes["finetune"].build(),
        config=checked.settings,
        config_text=OmegaConf.to_yaml(checked.composed.config),
        identity=identity(prepared),
        may_differ=tuple(f"budget.{unit}" for unit in checked.settings["budget"]),
        cache=Path(top.cache_dir),
        provenance={
            "words": list(checked.composed.words),
            "data": prepared.train_text.fingerprint,
            "tokenizer": prepared.tokenizer.fingerprint,
        },
    )


def description(prepared: Prepared) -> dict[str, Any]:
    """What model/config.json says: enough to build the same objects again."""
    settings = prepared.checked.settings
    return {
        "cloze": __version__,
        "model": settings["model"],
        "objective": settings["objective"],
        "vocabulary": prepared.tokenizer.vocabulary.size,
        "length": prepared.checked.top.length,
        **({"languages": list(names)} if (names := prepared.train_text.language_names) else {}),
        **({"labels": labels} if (labels := _label_names(prepared)) else {}),
    }


def _label_names(prepared: Prepared) -> dict[str, list[str]]:
    """The classes of each task of labelled data, in the order of their numbers."""
    if not isinstance(prepared.corpus, TaskCorpus):
        return {}
    return {task: list(labels.names) for task, labels in prepared.corpus.labels.items()}


def identity(prepared: Prepared) -> dict[str, Any]:
    """Everything that decides the weights and what they are judged by, flat: a run can only be resumed as what it was.
    Data, tokenizer and the weights that it starts from are their digests."""
    checked = prepared.checked
    precision = checked.nodes["hardware"].build().resolve(checked.top.batch_size).precision
    found = deciding(checked.settings, precision)
    without = ["data", "tokenizer"]  # of which there are digests
    if checked.nodes["finetune"].build().plain:  # else a run from before there was a choice could not go on
        without.append("finetune")
    found = {key: value for key, value in found.items() if key.partition(".")[0] not in without}
    if found["labelled_examples"] is None:  # likewise
        del found["labelled_examples"]
    if prepared.corpus.language_sampling is not None:
        found["data.language_sampling"] = prepared.corpus.language_sampling
    return found | {
        "init": prepared.initial_weights,
        "data": prepared.train_text.fingerprint,
        "tokenizer": prepared.tokenizer.fingerprint,
    }


def _with_the_words_of_the_run_to_resume(composed: Composed) -> Composed:
    """`resume=RUN` alone is enough: the run's own words come back from its record, and words said now win over them."""
    resume, output_dir = composed.config.resume, composed.config.output_dir
    source = output_dir if resume == "auto" else resume
    if not isinstance(source, str):
        return composed
    recorded = RunFolder(Path(source)).facts().get("provenance", {}).get("words")
    if not recorded:
        return composed
    now = {word.partition("=")[0] for word in composed.words}
    kept = [word for word in recorded if word.partition("=")[0] not in now | {"resume", "output_dir"}]
    return compose([*kept, *composed.words])


def initialised(composed: Composed) -> tuple[Initial | None, Composed]:
    """`init=SOURCE`: architecture and tokenizer come from there; settings of the model said now win over its own."""
    source = composed.config.init
    if source is None:
        return None, composed
    if not isinstance(source, str):
        raise Refusal(f"init={source!r} must be a run's folder, a Hugging Face directory or a name")
    said = {override.key_or_group: override for override in parse(composed.words)}
    refuse_architecture(said, source)
    from cloze.environment import prepare
    from cloze.loading import initialise

    prepare()
    initial = initialise(source, list(composed.config.trusted))
    if "model" in said or "experiment" in said:
        initial = _as_chosen(initial, str(composed.choices["model"]), source, composed, "model" in said)
    model = dict(initial.settings["model"])
    model |= {key.partition(".")[2]: said[key].value() for key in said if key.startswith("model.")}
    built = str(model["_target_"])
    # what the run is called: by the choice that builds such a model, or, a class of the user's own, by its name
    family = next(
        (name for name in choices("model") if target("model", name) == built), built.rpartition(".")[2].lower()
    )
    config = composed.config.copy()
    with open_dict(config):
        config.model = OmegaConf.create(model)
    return initial, replace(composed, config=config, choices=composed.choices | {"model": family})


def _as_chosen(initial: Initial, choice: str, source: str, composed: Composed, said: bool) -> Initial:
    """What `init=` gave as the family that was chosen, where both are one to transformers; one that was `said` must be."""
    from cloze.check import built_by
    from cloze.loading import taken_as

    families, trusted = built_by("model"), list(composed.config.trusted)
    taken = taken_as(initial, families[choice], trusted)
    if taken is None and said:
        could = [name for name, family in families.items() if taken_as(initial, family, trusted) is not None]
        held = str(initial.settings["model"]["_target_"]).rpartition(".")[2]
        raise Refusal(
            f"model={choice} does not fit init={source}, which holds {with_article(held)}: leave it out, or model={'|'.join(could)}"
        )
    return taken or initial


def _matrix(composed: Composed) -> int:
    """`matrix=true`: what fits what, whether or not the run that the words describe would fit."""
    from rich.console import Console

    from cloze.matrix import show

    said = {override.key_or_group: str(override.value()) for override in parse(composed.words)}
    groups = ("model", "objective", "data")
    if beside := [key for key in said if key not in (*groups, "matrix")]:
        raise Refusal(
            f"{', '.join(beside)}: no effect with matrix=true, which goes by the choices alone: model=, objective= and data="
        )
    wanted = [(said[group],) if group in said else () for group in groups]
    show(Console(), *wanted)
    return 0


def _look(checked: Checked, initial: Initial | None) -> int:
    """`show=`, `audit=` and `plan=`: what would be trained, without training."""
    from rich.console import Console

    from cloze.prepare import prepare

    console = Console(soft_wrap=False)
    prepared = prepare(checked, initial, lambda line: console.print(line, highlight=False))
    top = checked.top
    if top.show:
        from cloze.analysis.lens import show

        show(top.show, prepared.builder, prepared.train, prepared.tokenizer, console, top.seed)
    if top.audit:
        from cloze.analysis.lens import audit

        console.print(audit(prepared.builder, prepared.train, top.seed))
    if top.plan:
        from cloze.plan import plan

        console.print(plan(prepared))
    return 0


def _silent(line: str) -> None:
    """What the ranks that only join a run say."""
