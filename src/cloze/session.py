"""One training session: the built parts and a run folder in, a trained model and its facts out. It reads no config."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cloze.deciding import LATER
from cloze.errors import Preempted, Refusal, RunFailure, did_you_mean
from cloze.folder import RunFolder, provenance
from cloze.training import checkpoints

if TYPE_CHECKING:
    from pytorch_lightning import Trainer
    from pytorch_lightning.loggers import Logger
    from torch import Tensor

    from cloze.data.base import Vocabulary
    from cloze.data.module import DataModule
    from cloze.finetuning.ways import Finetuning
    from cloze.models.base import Backbone
    from cloze.objectives.base import ExampleBuilder, Examples, Objective
    from cloze.tracking.base import TrackedRun, Tracking
    from cloze.training.budget import Budget
    from cloze.training.checkpoints import Checkpointing
    from cloze.training.hardware import Hardware
    from cloze.training.module import PretrainingModule
    from cloze.training.optimizers import OptimizerSettings
    from cloze.training.schedules import Schedule
    from cloze.training.voice import Voice


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of the validation text: lines of reference for the loss. Nats a token; None where not known."""

    announcement: str
    unigram_entropy: float | None = None
    entropy_floor: float | None = None
    targets_per: dict[str, float] = field(
        default_factory=dict
    )  # "byte", "word": where the objective's targets are the whole text


@dataclass(frozen=True)
class Parts:
    """Everything that a run is made of, built and checked.

    `config` is the composed run as plain containers (for trackers and records), `config_text` the same as YAML. `identity` holds,
    flat and plain, what decides the weights and what they are judged by (cloze.deciding; digests of data and tokenizer):
    a resumed run must have the same, save for the keys in `may_differ`.
    `description` is what `models.storage.save_model` writes; `save_tokenizer` puts the tokenizer into a folder.
    """

    name: str
    model: Backbone
    objective: Objective[Any, Any]
    builder: ExampleBuilder
    train: Examples
    validation: Examples
    vocabulary: Vocabulary
    tokenizer: Any
    save_tokenizer: Callable[[Path], object]
    description: dict[str, Any]
    facts: CorpusFacts
    optimizer: OptimizerSettings
    schedule: Schedule
    budget: Budget
    hardware: Hardware
    checkpoint: Checkpointing
    tracking: Tracking
    seed: int
    batch_size: int
    validation_every: int = 250
    validation_examples: int | None = 512
    log_every: int = 10  # optimizer steps between two points of metrics.jsonl
    finetuning: Finetuning | None = (
        None  # which weights train, how fast and from when on; None: all, alike, from the first step on
    )
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    may_differ: tuple[str, ...] = ()
    cache: Path | None = None
    provenance: dict[str, Any] = field(default_factory=dict)  # added to run.json: fingerprints of data and tokenizer


def train(parts: Parts, folder: RunFolder) -> dict[str, Any]:
    """Trains to the end of the budget, from the newest valid checkpoint where `folder.resumed`; returns what run.json then says.

    Raises Refusal (the folder or the checkpoint cannot be used, the run to go on with is another one), RunFailure (the loss is not
    a number, the disk is full) or Preempted (a signal; a checkpoint has been saved). In each case run.json says so.
    """
    from cloze.training.voice import Voice

    voice = Voice(folder)
    with folder, voice.only():
        return _Session(parts, folder, voice).run()


class _Session:
    def __init__(self, parts: Parts, folder: RunFolder, voice: Voice) -> None:
        import torch

        from cloze.data import keyed
        from cloze.finetuning.course import Course
        from cloze.finetuning.ways import Finetuning
        from cloze.training.optimizers import refuse_pieces

        self.parts, self.folder, self.voice = parts, folder, voice
        self.resolved = parts.hardware.resolve(parts.batch_size)
        refuse_pieces(parts.optimizer, self.resolved.strategy)
        way = parts.finetuning or Finetuning()
        torch.manual_seed(keyed.key(parts.seed, "finetune") >> 1)
        Course.install(way, parts.model)
        self.course = Course(way, parts.model, parts.objective)
        self.course.refuse(self.resolved.strategy, parts.hardware.layout, parts.builder.continuous)
        self.steps_per_epoch = max(1, len(parts.train) // parts.batch_size)
        self.flops_per_token = self._flops_per_token()
        self.plan = parts.budget.plan(
            len(parts.train), float(parts.train.total_tokens), parts.batch_size, lambda: self.flops_per_token or 0.0
        )
        self.data: DataModule
        self.threads_before: int | None = None  # a resumed run adds up in the same order as before
        self.digest = ""  # of the final weights
        self.columns: tuple[str, ...] = ()
        self.rows: tuple[tuple[str, ...], ...] = ()

    # --- the whole -----------------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Everything, in order."""
        folder, before = self.folder, self.folder.facts()
        self._refuse_a_best_that_is_not_measured()
        checkpoint = self._checkpoint_to_resume(before)
        if folder.resumed:
            self.threads_before = before.get("hardware", {}).get("threads")
        if checkpoint is not None and self._is_over(before):
            self.voice.say(f"{folder.path} has trained its {before['steps']:,} steps already")
            return before
        if not folder.follower:
            self._begin(before, checkpoint)
        try:
            facts = self._fit(checkpoint)
        except BaseException as fault:
            self._record_end(fault)
            raise
        return facts

    def _fit(self, checkpoint: Path | None) -> dict[str, Any]:
        from pytorch_lightning import Trainer

        from cloze.data.module import DataModule
        from cloze.tracking.local import LocalLogger
        from cloze.training.callbacks.conductor import Conductor, Rhythm, micro_batches_done
        from cloze.training.callbacks.display import Display
        from cloze.training.checkpoint_io import SafeCheckpointIO
        from cloze.training.hardware import lightning_settings
        from cloze.training.module import module_for
        from cloze.training.signals import AtOnce, Signals

        parts, folder, resolved, plan = self.parts, self.folder, self.resolved, self.plan
        module = module_for(
            parts.model, parts.objective, optimizer=parts.optimizer, schedule=parts.schedule, plan=plan, seed=parts.seed,
            fused=resolved.precision != "16-mixed", course=self.course, steps_per_epoch=self.steps_per_epoch,
        )  # fmt: skip
        module.tokenizer, module.targets_per = parts.tokenizer, parts.facts.targets_per
        module.description = parts.description
        loggers = [] if folder.follower else [LocalLogger(folder), *parts.tracking.loggers(self._tracked(module))]
        settings = lightning_settings(parts.hardware, resolved)
        with Signals() as signals:
            conductor = Conductor(
                folder, plan, Rhythm(parts.validation_every, parts.log_every), parts.checkpoint, signals,
                resolved.cut.parts_per_rank, {"identity": json.dumps(parts.identity, default=str, sort_keys=True)},
                self._sampler(loggers), None if folder.follower else self._keep_model,
                lambda: parts.objective.verdict(
                    parts.model, parts.builder, parts.train.corpus, parts.validation.corpus, parts.seed
                ),
            )  # fmt: skip
            references = {"unigram": parts.facts.unigram_entropy, "floor": parts.facts.entropy_floor}
            display = Display(
                conductor, plan, self.voice, {name: value for name, value in references.items() if value is not None}
            )
            trainer = Trainer(
                **{**settings, "plugins": [*settings.get("plugins", []), SafeCheckpointIO()]}, logger=loggers,
                callbacks=[conductor, display], max_epochs=1, max_steps=-1, num_sanity_val_steps=0, log_every_n_steps=0,
                val_check_interval=2**40, check_val_every_n_epoch=None, use_distributed_sampler=False,
                enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
                default_root_dir=str(folder.path),
            )  # fmt: skip
            cut = resolved.cut
            self.data = DataModule(
                parts.train, parts.validation, parts.builder, batch_size=parts.batch_size, parts_per_rank=cut.parts_per_rank,
                rank=trainer.global_rank, world=cut.world, workers=resolved.workers, seed=parts.seed,
                start=lambda: micro_batches_done(trainer),
                steps=plan.steps or 2**31, validation_examples=parts.validation_examples,
            )  # fmt: skip
            self.data.allow_zero_length_dataloader_with_multiple_devices = True
            self._take_threads(module)
            if parts.hardware.layout == "padded":
                from cloze.training.static import make_static

                make_static(parts.model, parts.builder.length)
            if parts.hardware.compile:
                parts.model.compile(dynamic=True)
            try:
                trainer.fit(module, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
            except AtOnce as stop:
                raise Preempted(
                    stop.number, f"{stop}; the newest checkpoint is what resume=auto goes on from"
                ) from None
            finally:
                display.close()
                _end_ranks(trainer, failed=trainer.state.status.value != "finished")
        if folder.follower:
            return {}
        progress = conductor.progress
        facts = folder.record(
            "done", reason=None, steps=progress.step, tokens=progress.tokens, seconds=round(progress.seconds, 3),
            metrics=progress.metrics, best={"step": progress.best_step, "value": progress.best_value},
            weights_sha256=self.digest, ended=_now(),
        )  # fmt: skip
        self._say_the_end(facts)
        return facts

    # --- before --------------------------------------------------------------------------------------------------------------

    def _flops_per_token(self) -> float | None:
        """Of this run: as its record has it, so that a resumed one has the same end; else counted. None where nobody asks, or where it
        cannot be counted (then the first step says why). Raises RunFailure where the budget goes by it."""
        from cloze.training.flops import per_token

        parts, needed = self.parts, self.parts.budget.flops is not None
        recorded = self.folder.facts().get("flops_per_token") if self.folder.resumed else None
        if recorded or (self.folder.follower and not needed):
            return recorded
        try:
            return per_token(
                parts.model, parts.objective, parts.builder, parts.train, batch_size=parts.batch_size, seed=parts.seed,
                micro_batches=self.resolved.cut.parts_per_rank * self.resolved.cut.world, trained=self.course.able,
                frozen=self.course.way.freezes_all,
            )  # fmt: skip
        except Exception as fault:
            if needed:
                raise RunFailure(f"budget.flops: a step cannot be counted ({type(fault).__name__}: {fault})") from fault
            self.folder.note(f"FLOPs not counted: {type(fault).__name__}: {fault}")
            return None

    def _refuse_a_best_that_is_not_measured(self) -> None:
        """Under a name that no validation reports, nothing would ever be the best and nothing be said of it."""
        from cloze.training.module import language_term, of_text

        parts, best = self.parts, self.parts.checkpoint.best
        if best is None or not len(parts.validation):
            return
        index, judge = np.zeros(1, np.int64), parts.builder.judge()
        terms = judge.counts(parts.validation, index, judge.keys(parts.seed, 0, index))
        names = {"loss", *(f"loss_{term}" for term in terms), *parts.objective.metrics()}
        if language_term(parts.objective, terms) is not None:
            names |= {"perplexity", *of_text(0.0, parts.facts.targets_per)}
        measured = {f"val/{name}" for name in names}
        if best not in measured:
            raise Refusal(
                f"checkpoint.best={best} is nothing that validation measures in this run{did_you_mean(best, measured)}"
            )

    def _checkpoint_to_resume(self, before: dict[str, Any]) -> Path | None:
        """The newest valid checkpoint of the run to go on with. Raises Refusal where that was another run."""
        if not self.folder.resumed:
            return None
        now = self.resolved.precision
        precision = before.get("hardware", {}).get("precision", now)
        if precision != now:
            there, here = (name.replace("32-true", "32") for name in (precision, now))
            raise Refusal(
                f"{self.folder.path} is another run than this one: hardware.precision ({there} there, {here} here); "
                f"hardware.precision={there} goes on with it"
            )
        identity = _plain(self.parts.identity)
        recorded = dict(before.get("identity") or {})
        unsaid = {key: identity[key] for key in LATER if key in identity and key not in recorded}  # the record is older
        if "validation.examples" in unsaid:
            from cloze.report.collect import Run

            then = Run(self.folder.path, before).settings
            unsaid["validation.examples"] = then.get("validation.examples", unsaid["validation.examples"])
        recorded |= unsaid
        _refuse_another_run(recorded, identity, self.parts.may_differ, self.folder.path)
        path, faults = checkpoints.newest_valid(self.folder.checkpoints)
        for fault in faults:
            self.voice.warn(fault)
        if path is None:
            self.voice.say(f"{self.folder.path} has no checkpoint yet: it begins at step 0")
            return None
        done = checkpoints.step_of(path)
        if self.plan.steps is not None and done > self.plan.steps:
            raise Refusal(
                f"{self.folder.path} has done {done:,} steps already; this budget ends at {self.plan.steps:,}"
            )
        self.voice.say(f"goes on from {path}")
        return path

    def _is_over(self, before: dict[str, Any]) -> bool:
        """Whether the run is done, for this budget too, and its model is there."""
        from cloze.models.storage import CONFIG

        done = before.get("status") == "done" and (self.folder.model / CONFIG).exists()
        return done and self.plan.over(before.get("steps", 0), before.get("seconds", 0.0))

    def _begin(self, before: dict[str, Any], checkpoint: Path | None) -> None:
        """The folder's first files, and whether it can take what is to come."""
        parts, folder = self.parts, self.folder
        size = _checkpoint_size(parts)
        folder.probe(size)
        checkpoints.sweep(folder.path)
        checkpoints.sweep(folder.checkpoints)
        done = -1 if checkpoint is None else checkpoints.step_of(checkpoint)
        for path in checkpoints.all_checkpoints(folder.checkpoints):
            if checkpoints.step_of(path) > done:  # damaged; left there, it would count as one of those that are kept
                checkpoints.remove(path)
                self.voice.say(f"{path} is taken away: it cannot be used")
        if checkpoint is None:
            folder.rewind({})
        folder.write("config.yaml", parts.config_text)
        attempt = {
            "began": _now(), "host": socket.gethostname(), "process": os.getpid(),
            "from_step": 0 if checkpoint is None else checkpoints.step_of(checkpoint),
        }  # fmt: skip
        cut = self.resolved.cut
        folder.record(
            "running", reason=None, name=parts.name, model=type(parts.model).__name__,
            objective=type(parts.objective).__name__, began=before.get("began") or attempt["began"],
            attempts=[*before.get("attempts", []), attempt],
            parameters={"model": _count(parts.model), "objective": _count(parts.objective), "trained": self._trained()},
            data={"announcement": parts.facts.announcement, "unigram_entropy": parts.facts.unigram_entropy,
                  "entropy_floor": parts.facts.entropy_floor, "train_examples": len(parts.train),
                  "validation_examples": len(parts.validation)},
            budget={"steps": self.plan.steps, "seconds": self.plan.seconds}, flops_per_token=self.flops_per_token,
            hardware={"accelerator": self.resolved.accelerator, "world": cut.world, "strategy": self.resolved.strategy,
                      "precision": self.resolved.precision, "micro_batch": cut.micro_batch,
                      "parts_per_rank": cut.parts_per_rank, "workers": self.resolved.workers,
                      **({} if self.threads_before is None else {"threads": self.threads_before})},
            identity=_plain(parts.identity), provenance={**provenance(), **parts.provenance},
        )  # fmt: skip
        total, trained = _count(parts.model) + _count(parts.objective), self._trained()
        some = "" if trained == total else f", {trained:,} of them train"
        self.voice.say(f"run folder: {_short(folder.path)}")
        self.voice.say(
            f"{type(parts.model).__name__}{type(parts.objective).__name__}: {total:,} parameters{some} · {len(parts.train):,} examples · "
            f"batches of {parts.batch_size} · {self._budget_in_words()} · {self.resolved.accelerator} × {cut.world}, "
            f"{self.resolved.precision}"
        )

        if remark := self.course.remark(self.plan.steps, self.steps_per_epoch):
            self.voice.say(remark)

    def _trained(self) -> int:
        """How many parameters train at some step."""
        named = [("model", self.parts.model), ("objective", self.parts.objective)]
        every = {f"{part}.{name}": p.numel() for part, module in named for name, p in module.named_parameters()}
        return sum(every[name] for name in self.course.able)

    def _budget_in_words(self) -> str:
        return f"{self.plan.steps:,} steps" if self.plan.steps else f"{(self.plan.seconds or 0) / 60:g} minutes"

    def _tracked(self, module: PretrainingModule) -> TrackedRun:
        from cloze.tracking.base import TrackedRun, group_of

        parts = self.parts
        return TrackedRun(
            name=parts.name, folder=self.folder.path, config=parts.config, group=group_of(parts.name, parts.identity),
            tags=(type(module).__name__, *parts.name.split("-")),
        )  # fmt: skip

    def _take_threads(self, module: PretrainingModule) -> None:
        """CPU threads: said, or asked for by the environment, or measured."""
        import torch

        from cloze.training import threads

        asked = self.parts.hardware.threads
        chosen = asked if isinstance(asked, int) else self.threads_before or threads.chosen_outside()
        if chosen is None and self.resolved.accelerator == "cpu" and self.resolved.world == 1:
            batch = self.data.training[0]
            precision = self.resolved.precision

            def step() -> None:
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
                    loss = module.training_step(batch, 0)
                loss.backward()  # type: ignore[no-untyped-call]

            shape = {
                key: value for key, value in self.parts.identity.items() if key.startswith(("model.", "objective."))
            }
            key = json.dumps(
                [shape, batch.size, max(batch.inputs.layout.lengths), precision], default=str, sort_keys=True
            )
            chosen, sentence = threads.calibrate(step, key, self.parts.cache)
            module.zero_grad(set_to_none=True)
            module.tally = type(module.tally)()
            self.voice.say(sentence)
        elif chosen is None and self.resolved.accelerator == "cpu":
            from cloze.training.hardware import cores

            chosen = max(1, cores() // self.resolved.devices)
        if chosen is not None:
            torch.set_num_threads(chosen)
            self.folder.record(hardware={**self.folder.facts().get("hardware", {}), "threads": chosen})

    def _keep_model(self, weights: dict[str, Tensor]) -> None:
        """Writes model/: plain weights, whatever they were made of in training, and what was added to the family's own."""
        from cloze.finetuning.added import Added
        from cloze.finetuning.low_rank import merged
        from cloze.models.storage import save_model

        model = self.parts.model
        self.parts.save_tokenizer(self.folder.model)
        description = {**self.parts.description, **Added.of(model).description}
        self.digest = save_model(self.folder.model, merged(model, weights), description)

    def _sampler(self, loggers: Sequence[Logger]) -> Callable[[PretrainingModule, int], None] | None:
        """What writes decoded samples at every validation; None where the model is in pieces."""
        if self.folder.follower or self.resolved.strategy == "fsdp":
            return None

        def sample(module: PretrainingModule, step: int) -> None:
            try:
                attempt(module, step)
            except RunFailure:
                raise
            except Exception as fault:  # a run of days does not end for a table
                self.voice.warn(f"no samples at step {step}: {type(fault).__name__}: {fault}")
                self.folder.note("".join(traceback.format_exception(fault)))

        def attempt(module: PretrainingModule, step: int) -> None:
            from cloze.inference import samples

            table = samples(
                self.parts.model, self.parts.objective, self.parts.tokenizer, self.data.validation[0].to(module.device)
            )
            if not table.rows:
                return
            self.columns, self.rows = table.columns, table.rows
            self.folder.append(
                "samples.txt", f"step {step}\n" + "".join("\t".join(row) + "\n" for row in table.rows) + "\n"
            )
            for logger in loggers:
                if (log_samples := getattr(logger, "log_samples", None)) is not None:
                    log_samples(table.columns, table.rows, step)

        return sample

    # --- after ---------------------------------------------------------------------------------------------------------------

    def _record_end(self, fault: BaseException) -> None:
        """run.json and log.txt say how it ended. What a user cannot mend becomes a RunFailure of one line."""
        folder = self.folder
        stopped = isinstance(fault, Preempted | KeyboardInterrupt)
        reason = str(fault).strip() or type(fault).__name__
        if folder.follower:
            if isinstance(fault, Preempted):
                fault.exit_code = 0  # so that the launcher does not kill rank 0 before it has written this down
            return
        with contextlib.suppress(RunFailure):
            folder.record("preempted" if stopped else "failed", reason=reason, ended=_now())
        if not isinstance(fault, Preempted | Refusal):
            folder.note("".join(traceback.format_exception(fault)))
        if isinstance(fault, Exception) and not isinstance(fault, Preempted | Refusal | RunFailure):
            first = reason.splitlines()[0]
            raise RunFailure(f"{type(fault).__name__}: {first} (the traceback is in {folder.log})") from fault

    def _say_the_end(self, facts: dict[str, Any]) -> None:
        from cloze.training.module import language_term

        metrics, known = facts["metrics"], self.parts.facts
        beside = [
            f"{name} {value:.3f}"
            for name, value in (("unigram entropy", known.unigram_entropy), ("entropy floor", known.entropy_floor))
            if value is not None
        ]
        if "val/loss" in metrics:
            prefix = "val/loss_"
            terms = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
            words = f"validation loss {metrics['val/loss']:.3f}"
            term = language_term(self.parts.objective, terms)
            if term is not None and len(terms) > 1:  # entropies are of language: what is held against them is, too
                words += f", that of {term} {terms[term]:.3f}"
            self.voice.say(words + (f" ({', '.join(beside)})" if beside and term is not None else ""))
        judged = [
            f"{name.removeprefix('judge/')} {value:.3f}" for name, value in metrics.items() if name.startswith("judge/")
        ]
        if judged:
            self.voice.say(f"judged: {', '.join(judged)}")
        if self.rows:
            from rich.console import Console
            from rich.table import Table

            table = Table(*self.columns)
            for row in self.rows:
                table.add_row(*row)
            Console(markup=False).print(table)
        self.voice.say(f"done: {facts['steps']:,} steps in {facts['seconds']:.0f} s · {_short(self.folder.path)}")


def _refuse_another_run(before: dict[str, Any], now: dict[str, Any], may_differ: Sequence[str], path: Path) -> None:
    differing = [
        f"{key} ({before.get(key, 'not set')} there, {now.get(key, 'not set')} here)"
        for key in sorted({*before, *now})
        if before.get(key, _ABSENT) != now.get(key, _ABSENT) and key not in may_differ
    ]
    if differing:
        raise Refusal(f"{path} is another run than this one: {', '.join(differing)}")


_ABSENT = object()


def _end_ranks(trainer: Trainer, failed: bool) -> None:
    """Waits for the processes that this one launched, and ends those that do not end."""
    import subprocess

    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    for process in getattr(trainer.strategy.launcher, "procs", None) or []:
        try:
            process.wait(timeout=3 if failed else 60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _checkpoint_size(parts: Parts) -> int:
    """Bytes, near enough: weights and two moments, in 32 bits."""
    return 12 * (_count(parts.model) + _count(parts.objective)) + 100_000


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """As it will be when read back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
