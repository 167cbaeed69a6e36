"""The LightningModule of every model under every objective. `model.*` and `objective.*` are all that its state has."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from cloze.data import keyed
from cloze.errors import RunFailure
from cloze.finetuning.course import Course
from cloze.models.base import Backbone, Batch, Memory
from cloze.objectives.base import Objective, StepOutput
from cloze.training.budget import Plan
from cloze.training.optimizers import OptimizerSettings, matrices_of
from cloze.training.ranks import gather
from cloze.training.schedules import Schedule


@dataclass
class Tally:
    """Sums since the last logged point. On a GPU they stay there: adding is cheap, reading makes the CPU wait."""

    totals: dict[str, float | Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, output: StepOutput) -> None:
        """One micro-batch's terms."""
        for name, term in output.terms.items():
            total = _exact(term.total.detach())
            self.totals[name] = self.totals.get(name, 0.0) + total
            self.counts[name] = self.counts.get(name, 0) + term.count
            self.weights[name] = term.weight

    def means(self) -> dict[str, float]:
        """Each term's mean over its targets, also where there is one, and "loss", their weighted sum."""
        terms = {name: float(total) / max(self.counts[name], 1) for name, total in self.totals.items()}
        loss = sum(self.weights[name] * mean for name, mean in terms.items())
        return {"loss": loss, **{f"loss_{name}": mean for name, mean in terms.items()}}

    def over_ranks(self) -> Tally:
        """The sums of all ranks, also where some rank has seen nothing."""
        together = Tally()
        for part in gather(
            {name: (float(total), self.counts[name], self.weights[name]) for name, total in self.totals.items()}
        ):
            for name, (total, count, weight) in part.items():
                together.totals[name] = together.totals.get(name, 0.0) + total
                together.counts[name] = together.counts.get(name, 0) + count
                together.weights[name] = weight
        return together

    def state(self) -> dict[str, list[float]]:
        """Plain, for a checkpoint."""
        return {name: [float(total), self.counts[name], self.weights[name]] for name, total in self.totals.items()}

    @classmethod
    def of(cls, state: dict[str, list[float]]) -> Tally:
        """The opposite of `state`."""
        return cls(
            {name: total for name, (total, _, _) in state.items()},
            {name: int(count) for name, (_, count, _) in state.items()},
            {name: weight for name, (_, _, weight) in state.items()},
        )


class PretrainingModule(LightningModule):
    """A model, an objective, and how they are optimised.

    The step's loss is the sum over terms of weight × total / count, the counts being those of the whole step; multiplied by the
    number of parts, so that Lightning's division by the accumulation and DDP's mean over ranks give exactly the mean over the
    whole batch, however it is cut.
    """

    def __init__(
        self,
        model: Backbone,
        objective: Objective[Any, Any],
        optimizer: OptimizerSettings,
        schedule: Schedule,
        plan: Plan,
        seed: int,
        fused: bool = True,
        course: Course | None = None,
        steps_per_epoch: int = 1,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self._course, self._steps_per_epoch, self._period = course, steps_per_epoch, -1
        self._idle: list[nn.Parameter] = []  # those that will train or have trained, and do not at this step
        if course is not None:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name in course.able)
            self.train()
        self._matrices = matrices_of(self)  # now: strategies may cut them up before there is an optimizer
        self.tally = Tally()
        self.validated: dict[str, float] = {}  # the last validation's metrics
        self.gradient_norm: Tensor | None = None  # of the last step, before clipping
        self.learning_rate = 0.0  # of the last step
        self._settings, self._schedule, self._plan, self._seed, self._fused = optimizer, schedule, plan, seed, fused
        self.seconds = 0.0  # on the run's clock, as of the last step: what a budget in minutes goes by
        self._indices: list[tuple[int, ...]] = []  # of the step's examples, for messages
        self._micro = 0  # which micro-batch of its step this one is; steps that are only measured know no trainer
        self._memories: dict[int, Memory] = {}  # what the model carries to the next step, for each micro-batch of it
        self._validation_memory: Memory | None = None
        self._overflows = 0
        self._validation = Tally()
        self._metrics: dict[str, Any] = {}
        self.targets_per: dict[
            str, float
        ] = {}  # targets of the validation text per "byte" and "word", where all of it is predicted
        self.tokenizer: Any = None  # what `predict_step` reads and writes texts with
        self.description: dict[str, Any] = {}  # what model/config.json says: it decides what `predict_step` does

    def __setattr__(self, name: str, value: Any) -> None:
        """Plain values go straight in: Lightning sets one around every hook, and torch looks each over for parameters."""
        if isinstance(value, str | float | None) and name in self.__dict__:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def train(self, mode: bool = True) -> PretrainingModule:
        """As ever; but a model that never changes is read without dropout, so that its states are the same every time."""
        super().train(mode)
        if self._course is not None and self._course.way.freezes_all:
            self.model.eval()
        return self

    # --- training ----------------------------------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout is a function of (seed, step, rank, micro-batch): what ran before, evaluations too, cannot change it."""
        self._micro = micro = batch_idx % self.trainer.accumulate_grad_batches
        if micro == 0:
            self._indices.clear()
            self._freeze(batch.step)
        self._indices.append(batch.indices)
        seed = keyed.key(self._seed, "dropout", batch.step, self.global_rank, micro) >> 1
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one micro-batch, scaled so that the step's gradient is that of the mean over the whole batch."""
        batch = _remembering(batch, self._memories.pop(self._micro, None))
        output: StepOutput = self.objective(self.model, batch)
        if output.memory is not None:
            self._memories[self._micro] = output.memory
        self.tally.add(output)
        return _loss(output, batch)

    def memory(self, parts_per_rank: int) -> Memory:
        """What the model carries to the next step, of all ranks: row b belongs to sequence b of the step. For a checkpoint."""
        own = [
            {name: tensor.detach().to("cpu") for name, tensor in self._memories.get(micro, {}).items()}
            for micro in range(parts_per_rank)
        ]
        ranks = gather(own)
        parts = [ranks[rank][micro] for micro in range(parts_per_rank) for rank in range(len(ranks))]
        whole: Memory = {}
        for name in parts[0]:
            rows = sum(len(part[name]) for part in parts)
            whole[name] = parts[0][name].new_empty(rows, *parts[0][name].shape[1:])
            for number, part in enumerate(parts):
                whole[name][number :: len(parts)] = part[name]
        return whole

    def take_memory(self, whole: Memory, parts_per_rank: int) -> None:
        """The opposite of `memory`; the step may be cut into other parts than before."""
        world, rank = self.trainer.world_size, self.trainer.global_rank
        self._memories = {
            micro: {
                name: tensor[micro * world + rank :: world * parts_per_rank].to(self.device)
                for name, tensor in whole.items()
            }
            for micro in range(parts_per_rank if whole else 0)
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer; the learning rate is set at every step, a pure function of it, so that nothing has to be restored."""
        learnt = nn.ModuleDict({"model": self.model, "objective": self.objective})
        factors = None if self._course is None else self._course.factors()
        optimizer = self._settings.build(learnt, self._fused, self._matrices, factors)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return optimizer

    def _freeze(self, step: int) -> None:
        """Lets those parameters train whose turn it is. Where several processes add up gradients, all of them go on having one, as
        these were agreed on; they are thrown away before the step."""
        if self._course is None or not self._course.changes:
            return
        period = self._course.period(step, self._steps_per_epoch)
        if period == self._period:
            return
        self._period, trained = period, self._course.trained(step, self._steps_per_epoch)
        able = [(name.replace("_fsdp_wrapped_module.", ""), each) for name, each in self.named_parameters()]
        able = [(name, parameter) for name, parameter in able if name in self._course.able]
        self._idle = [parameter for name, parameter in able if name not in trained]
        if isinstance(self.trainer.strategy, SingleDeviceStrategy):
            for name, parameter in able:
                parameter.requires_grad_(name in trained)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Sets the learning rate; parameters whose turn it is not are left out of the step."""
        for parameter in self._idle:
            parameter.grad = None
        step = self.trainer.global_step
        factor = self._schedule.factor(step, self._plan.total(step, self.seconds))
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.learning_rate = self._settings.learning_rate * factor

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Measures the gradient, stops the run where it is not a number (before the update, so no weight is lost), clips it."""
        limit = self._settings.clip_norm
        sharded = getattr(self.trainer.strategy.model, "clip_grad_norm_", None)  # FSDP: each rank has a part of it only
        if sharded is not None:
            norm = sharded(math.inf if limit is None else limit)
        else:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        value = float(norm)
        self.gradient_norm = norm
        if not math.isfinite(value):
            self._not_finite(value)
        elif sharded is None and limit is not None and value > limit:
            torch._foreach_mul_(gradients, limit / (value + 1e-6))

    def _not_finite(self, norm: float) -> None:
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self._overflows += 1
        if scaled and self._overflows < 50:
            return  # 16-mixed overflows now and then; its scaler leaves the step out and scales less
        examples = [index for part in self._indices for index in part]
        listed = ", ".join(map(str, examples[:16])) + (f" and {len(examples) - 16} more" if len(examples) > 16 else "")
        raise RunFailure(
            f"the gradient's norm is {norm} at step {self.trainer.global_step + 1} (training examples {listed}); "
            "the weights were not touched. A lower optimizer.learning_rate, a longer schedule.warmup or hardware.precision=32 may help"
        )

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """After an optimizer step the objective has its turn."""
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            self.objective.after_step(self.model, batch.step)
            if self._overflows and self.gradient_norm is not None and bool(self.gradient_norm.isfinite()):
                self._overflows = 0

    # --- validation ----------------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Fresh sums."""
        self._validation = Tally()
        self._validation_memory = None
        self._metrics = {name: metric.to(self.device) for name, metric in self.objective.metrics().items()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds one batch to the sums."""
        batch = _remembering(batch, self._validation_memory)
        output: StepOutput = self.objective(self.model, batch)
        self._validation_memory = output.memory
        self._validation.add(output)
        self.objective.measure(self._metrics, output, batch)

    def on_validation_epoch_end(self) -> None:
        """The validation's metrics over all ranks, in `validated` and, as val/…, in the trainer's `callback_metrics`."""
        tally = self._validation.over_ranks()
        means = tally.means()
        values = {f"val/{name}": value for name, value in means.items()}
        term = language_term(self.objective, tally.totals)
        if term is not None:
            values["val/perplexity"] = _exp(means[f"loss_{term}"])
            of_the_text = of_text(means[f"loss_{term}"], self.targets_per)
            values |= {f"val/{name}": value for name, value in of_the_text.items()}
        for name, metric in self._metrics.items():
            value = float(metric.compute())  # torchmetrics adds up over ranks itself
            if not math.isnan(value):  # of nothing: no example had what it is about
                values[f"val/{name}"] = value
        self.validated = values
        self._metrics = {}
        self.log_dict(values, logger=False)

    # --- the rest --------------------------------------------------------------------------------------------------------------

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on the device, copied while the device works. Texts (`predict_step`) stay what they are."""
        return batch if device.type == "cpu" or not isinstance(batch, Batch) else batch.to(device, non_blocking=True)

    def predict_step(self, batch: list[str], batch_idx: int) -> list[Any]:
        """What the model says of each text: what `cloze.load` and `predict` will, once it is saved (see `Pretrained.predict`)."""
        from cloze.loading import Pretrained

        heads = [
            part for part in self.objective.modules() if isinstance(part, Objective)
        ]  # it and those that it is made of
        head, generator_head, discriminator = (
            next((head for part in heads if (head := getattr(part, name, None)) is not None), None)
            for name in ("head", "generator_head", "discriminator_head")
        )
        length, learnt = self.description.get("length", self.model.positions or 0), self.description.get("objective")
        spoken = tuple(self.description.get("languages", ()))
        loaded = Pretrained(
            self.model, self.tokenizer, head, length, learnt, discriminator, generator_head, languages=spoken
        )
        return loaded.predict(batch)


def module_for(model: Backbone, objective: Objective[Any, Any], **settings: Any) -> PretrainingModule:
    """The module, its class named after model and objective (`BertMaskedLM`), as logs and checkpoints call it."""
    name = f"{type(model).__name__}{type(objective).__name__}"
    named = type(name, (PretrainingModule,), {"__module__": PretrainingModule.__module__})
    module: PretrainingModule = named(model, objective, **settings)
    return module


def language_term(objective: Objective[Any, Any], terms: dict[str, Any]) -> str | None:
    """The term whose exponential is the perplexity: the first one, unless the objective says another or None."""
    said: str | None = getattr(objective, "perplexity_of", "")
    return next(iter(terms), None) if said == "" else said


def of_text(nats: float, targets_per: dict[str, float]) -> dict[str, float]:
    """What `nats` a target are for the text itself, so that tokenizers can be compared."""
    found = {}
    if "byte" in targets_per:
        found["bits_per_byte"] = nats / math.log(2) * targets_per["byte"]
    if "word" in targets_per:
        found["perplexity_per_word"] = _exp(nats * targets_per["word"])
    return found


def _exp(nats: float) -> float:
    return math.exp(min(nats, 700.0))


def _exact(total: Tensor) -> float | Tensor:
    """In 64 bits, where the device has them: sums that go on after a resume are the same as those that were not cut."""
    if total.device.type == "cpu":
        return float(total)
    return total if total.device.type == "mps" else total.double()


def _remembering(batch: Batch, memory: Memory | None) -> Batch:
    """The batch with what the model carried over from the one before, where it goes on with that one. Lanes end from the last on."""
    if memory is None or not batch.continues:
        return batch
    return replace(batch, memory={name: tensor[: batch.size] for name, tensor in memory.items()})


def _loss(output: StepOutput, batch: Batch) -> Tensor:
    parts = [
        # a loss of the model's own is no sum over targets: each part of the step has one
        term.total * (term.weight * batch.parts / max(batch.step_counts.get(name, batch.parts), 1))
        for name, term in output.terms.items()
    ]
    loss = parts[0]
    for part in parts[1:]:
        loss = loss + part
    return loss
