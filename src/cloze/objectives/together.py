"""Several objectives together, each with its own examples and heads: every step a weighted sum of their losses, or one of them at a
time, as XLM alternates between masked and translation language modelling (Conneau & Lample 2019, https://arxiv.org/abs/1901.07291).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cloze.data import keyed
from cloze.data.base import Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal, did_you_mean
from cloze.models.base import Backbone, Batch, TokenHead
from cloze.objectives.base import ExampleBuilder, Examples, Objective, StepOutput, Tally, Term
from cloze.objectives.framing import RecordExamples
from cloze.schema import Node, locate, own

if TYPE_CHECKING:
    from torchmetrics import Metric

Mix = Literal["sum", "alternate"]
Settings = Mapping[str, Mapping[str, Any]]


class Weight:
    """A number, or a schedule "0:1,10000:0": at these steps these values, straight lines between them, constant outside."""

    def __init__(self, name: str, said: float | str) -> None:
        where = f"objective.weights.{name}"
        try:
            points = (
                [(0, float(said))]
                if not isinstance(said, str)
                else [(int(step), float(value)) for step, value in (point.split(":") for point in said.split(","))]
            )
        except ValueError:
            raise Refusal(
                f'{where}={said!r} must be a number or a schedule of step:weight, as in "0:1,10000:0".'
            ) from None
        self.steps, self.values = [step for step, _ in points], [value for _, value in points]
        if self.steps != sorted(set(self.steps)) or self.steps[0] < 0:
            raise Refusal(f"{where}={said!r} must name steps from 0 on, each later than the one before.")
        if not all(0 <= value < math.inf for value in self.values):
            raise Refusal(f"{where}={said!r} must have weights of 0 or more.")

    def at(self, step: int) -> float:
        """The weight in a step."""
        return float(np.interp(step, self.steps, self.values))


def weights_of(of: list[str], weights: Mapping[str, float | str]) -> dict[str, Weight]:
    """Each part's weight, 1 where none is said. Raises Refusal where one cannot be, or all are 0 at some step."""
    for name in weights:
        if name not in of:
            raise Refusal(
                f"objective.weights.{name} has no effect: objective.of={of} does not name it{did_you_mean(name, of)}"
            )
    made = {name: Weight(name, weights.get(name, 1.0)) for name in of}
    for name, weight in made.items():
        if len(made) > 1 and not any(weight.values) and any(any(other.values) for other in made.values()):
            raise Refusal(
                f"objective.weights.{name}={weights[name]} is 0 at every step: {name} would never be learnt. Leave it out of objective.of."
            )
    for step in sorted({step for weight in made.values() for step in weight.steps}):
        # between two of these steps every weight is a straight line, so the sum is above 0 there too
        if not sum(weight.at(step) for weight in made.values()):
            raise Refusal(f"objective.weights are all 0 at step {step}: nothing would be learnt.")
    return made


def parts_of(of: list[str], settings: Settings) -> dict[str, tuple[type[Objective[Any, Any]], dict[str, Any]]]:
    """The class of each part, found by its `_target_`, and its settings. Raises Refusal where there is none, or one twice."""
    if not of:
        raise Refusal("objective.of=[] names no objective: objective.of=[mlm,mlm_sop], for example.")
    if len(set(of)) < len(of):
        raise Refusal(f"objective.of={of} names an objective twice: give it more weight instead.")
    found = {}
    for name in of:
        if name not in settings or "_target_" not in settings[name]:
            raise Refusal(f"objective.settings.{name} needs the objective's class: {{_target_: cloze.objectives.…}}.")
        node = dict(settings[name])
        built = locate(node.pop("_target_"), f"objective.settings.{name}")
        if not issubclass(built, Objective) or issubclass(built, Together):
            raise Refusal(f"objective.of: {name} is not an objective that can be one of several.")
        if issubclass(built.Examples, RecordExamples):
            raise Refusal(
                f"objective.of={of}: {name} learns from labelled data and cannot be one of several yet: objective={name} trains it alone. "
                "Several labelled tasks on one model are data=several."
            )
        if not built.trains:
            raise Refusal(f"objective.of={of}: {name} trains nothing: objective={name} asks a model that is there.")
        found[name] = built, node
    return found


def _built(name: str, kind: type, settings: dict[str, Any], **runtime: Any) -> Any:
    """One half of a part. What it refuses is said by the name that the setting has here."""
    try:
        return Node(name, kind, own(kind, settings)).build(**runtime)
    except Refusal as refusal:
        raise Refusal(str(refusal).replace("objective.", f"objective.settings.{name}.")) from None


class TogetherExamples(ExampleBuilder):
    """An example is one of each part, whichever of them a step asks for.

    There are as many as the part with the most has; the others go through theirs again, in an order drawn once, so that what lies
    together is not the same text. A row of the table says how many columns the table of each part has, and then has the parts' own
    rows, each with the length of its example behind it: so parts with tables of any kind lie in one index. Its language is that of the
    first part whose examples are each in one, so that sampling evens out the languages of that part.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        of: list[str],
        weights: dict[str, float | str] | None = None,
        settings: dict[str, dict[str, Any]] | None = None,
        mix: Mix = "sum",
    ) -> None:
        self.vocabulary, self.length, self.mix = vocabulary, length, mix
        self.weights = weights_of(of, weights or {})
        self.parts: dict[str, ExampleBuilder] = {
            name: _built(name, built.Examples, its, vocabulary=vocabulary, length=length)
            for name, (built, its) in parts_of(of, settings or {}).items()
        }
        for name, part in self.parts.items():
            if part.continuous:
                raise Refusal(
                    f"objective.of={of}: {name} reads text that goes on from batch to batch, so it trains alone."
                )
        self.active = tuple(of)  # which parts a sample has

    @classmethod
    def needs(cls, settings: dict[str, Any]) -> tuple[tuple[str, ...], int]:
        halves = [
            built.Examples.needs(own(built.Examples, its))
            for built, its in parts_of(settings["of"], settings.get("settings") or {}).values()
        ]
        tokens = dict.fromkeys(token for special, _ in halves for token in special)
        return tuple(tokens), max(sentinels for _, sentinels in halves)

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        built = {name: part.build(corpus, seed) for name, part in self.parts.items()}
        count = max(map(len, built.values()))
        widths = np.array([examples.table.shape[1] for examples in built.values()])
        columns, notes = [np.broadcast_to(widths, (count, len(widths)))], list[str]()
        lengths, tokens = np.zeros(count, np.int64), np.zeros(count)
        languages: NDArray[np.int64] | None = None
        total = sum(weight.at(0) for weight in self.weights.values())
        for number, (name, examples) in enumerate(built.items()):
            rows = np.arange(count) % len(examples)
            if number:
                rows = keyed.permutation(keyed.key(seed, "together", name), len(examples))[rows]
            columns += [examples.table[rows], examples.lengths[rows][:, None]]
            lengths += examples.lengths[rows]
            share = 1.0 if self.mix == "sum" else self.weights[name].at(0) / total
            tokens += share * (examples.lengths if examples.tokens is None else examples.tokens)[rows]
            notes += [f"{name}: {note}" for note in examples.notes]
            if languages is None and examples.languages is not None:
                languages = examples.languages[rows]
        return Examples(
            corpus,
            np.concatenate(columns, axis=1),
            lengths,
            tuple(notes),
            np.rint(tokens).astype(np.int64),
            languages,
        )

    def _each(
        self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys
    ) -> dict[str, tuple[ExampleBuilder, Examples, NDArray[np.int64], keyed.Keys]]:
        """For each part that this step has: its builder, its rows as an index of their own, their numbers there, their keys."""
        rows = examples.table[indices]
        found, begin = {}, len(self.parts)
        for number, (name, part) in enumerate(self.parts.items()):
            end = begin + (int(rows[0, number]) if len(rows) else 0)
            if name in self.active:
                own = Examples(examples.corpus, rows[:, begin:end], rows[:, end])
                its = keys[:, number] if keys.ndim == 2 else keys if len(self.parts) == 1 else keyed.stream(keys, name)
                found[name] = part, own, np.arange(len(rows)), its
            begin = end + 1
        return found

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        streams = {
            name: part.sample(own, numbers, its)
            for name, (part, own, numbers, its) in self._each(examples, indices, keys).items()
        }
        counts = {f"{name}/{term}": n for name, each in streams.items() for term, n in each.counts.items()}
        return Sample(next(iter(streams.values())).inputs, {}, counts, streams=streams)

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        return {
            f"{name}/{term}": count
            for name, (part, own, numbers, its) in self._each(examples, indices, keys).items()
            for term, count in part.counts(own, numbers, its).items()
        }

    def keys(self, seed: int, epoch: int, indices: NDArray[np.int64]) -> keyed.Keys:
        """(B,) where there is one part: its own. Else (B, parts), each part's as it makes them."""
        if len(self.parts) == 1:
            return next(iter(self.parts.values())).keys(seed, epoch, indices)
        each = [part.keys(keyed.key(seed, name), epoch, indices) for name, part in self.parts.items()]
        return np.stack(each, axis=1)

    def at_step(self, seed: int, step: int) -> TogetherExamples:
        """Those parts that this step's weights are above 0 for, or the one that it has drawn."""
        shares = np.array([weight.at(step) for weight in self.weights.values()])
        names = tuple(self.weights)
        if self.mix == "sum":
            active = tuple(name for name, share in zip(names, shares, strict=True) if share > 0)
        else:
            chance = float(keyed.uniform(np.array([keyed.key(seed, "together")], np.uint64), np.array([step]))[0])
            passed = np.searchsorted(np.cumsum(shares), chance * shares.sum(), side="right")
            active = (names[min(int(passed), int(np.flatnonzero(shares)[-1]))],)
        return self._with(active, self.parts)

    def judge(self) -> TogetherExamples:
        return self._with(tuple(self.parts), {name: part.judge() for name, part in self.parts.items()})

    def _with(self, active: tuple[str, ...], parts: dict[str, ExampleBuilder]) -> TogetherExamples:
        other = copy.copy(self)
        other.active, other.parts = active, parts
        return other

    def views(self, sample: Sample) -> list[tuple[str, Sample, ExampleBuilder]]:
        return [(name, each, self.parts[name]) for name, each in sample.streams.items()]

    def explain(self, sample: Sample) -> list[list[str]]:
        """Of the first part: `views` has them all."""
        _, each, part = self.views(sample)[0]
        return part.explain(each)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        return {
            f"{name}: {rate}": tally
            for name, each, part in self.views(sample)
            for rate, tally in part.tally(each).items()
        }


class Together(Objective[Backbone, Text]):
    """The sum of the parts' losses with their weights (mix=sum), or that of one part a step, drawn with its weight as its share
    (mix=alternate). What the model needs, and the text, is what every part needs.

    Terms and metrics bear the part's name: "mlm/mlm", "mlm/accuracy". Parts that use the family's token head use one together, which is
    the model's as that of a single objective is. A validation has all parts, each with the highest weight of its schedule (as shares
    where parts alternate), so that its loss means the same at every step.
    """

    Examples: ClassVar[type[ExampleBuilder]] = TogetherExamples
    composite = True
    head: TokenHead | None

    def __init__(
        self,
        model: Backbone,
        vocabulary: Vocabulary,
        of: list[str],
        weights: dict[str, float | str] | None = None,
        settings: dict[str, dict[str, Any]] | None = None,
        mix: Mix = "sum",
    ) -> None:
        super().__init__()
        self.weights, self.mix = weights_of(of, weights or {}), mix
        highest = {name: max(weight.values) for name, weight in self.weights.items()}
        total = sum(highest.values()) if mix == "alternate" else 1.0
        self.judged = {name: value / total for name, value in highest.items()}
        self.head = None
        self.parts = nn.ModuleDict()
        for name, (built, its) in parts_of(of, settings or {}).items():
            part = _built(name, built, its, model=model, vocabulary=vocabulary)
            if isinstance(part._modules.get("head"), TokenHead):
                self.head = self.head or part.head
                del part._modules["head"]
                part.__dict__["head"] = self.head  # lent: its weights are counted and stored once
            self.parts[name] = part

    @classmethod
    def made_of(cls, settings: dict[str, Any]) -> dict[str, type[Objective[Any, Any]]]:
        return {name: built for name, (built, _) in parts_of(settings["of"], settings.get("settings") or {}).items()}

    @classmethod
    def pools(cls, settings: dict[str, Any]) -> bool:
        return any(built.pools(its) for built, its in parts_of(settings["of"], settings.get("settings") or {}).values())

    @classmethod
    def generates(cls, settings: dict[str, Any]) -> bool:
        parts = parts_of(settings["of"], settings.get("settings") or {}).values()
        return any(built.generates(its) for built, its in parts)

    def _weight(self, name: str, step: int) -> float:
        if not self.training:
            return self.judged[name]
        return self.weights[name].at(step) if self.mix == "sum" else 1.0

    def forward(self, model: Backbone, batch: Batch) -> StepOutput:
        whole = StepOutput({})
        for name, stream in batch.streams.items():
            output: StepOutput = self.parts[name](model, stream)
            weight = self._weight(name, batch.step)
            for term, value in output.terms.items():
                whole.terms[f"{name}/{term}"] = Term(value.total, value.count, value.weight * weight)
            whole.predictions |= {f"{name}/{key}": value for key, value in output.predictions.items()}
        if self.training and len(batch.streams) < len(self.parts):
            # every weight gets a gradient, if of 0: processes that add theirs up would wait for one that never comes. The head that
            # parts share is among them: this step's part may be one that does not ask it
            touched = [p.sum() for module in (model, self) for p in module.parameters() if p.requires_grad]
            first = next(iter(whole.terms.values()))
            first.total = first.total + 0.0 * torch.stack(touched).sum()
        return whole

    def metrics(self) -> dict[str, Metric]:
        return {f"{name}/{key}": metric for name, part in self._parts() for key, metric in part.metrics().items()}

    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        for name, stream in batch.streams.items():
            prefix = f"{name}/"
            own = {key.removeprefix(prefix): metric for key, metric in metrics.items() if key.startswith(prefix)}
            terms = {key.removeprefix(prefix): term for key, term in output.terms.items() if key.startswith(prefix)}
            said = {key.removeprefix(prefix): v for key, v in output.predictions.items() if key.startswith(prefix)}
            self.parts[name].measure(own, StepOutput(terms, said), stream)  # type: ignore[operator]

    def verdict(
        self, model: Backbone, builder: ExampleBuilder, train: TokenizedCorpus, validation: TokenizedCorpus, seed: int
    ) -> dict[str, float]:
        assert isinstance(builder, TogetherExamples)
        return {
            f"{name}/{key}": value
            for name, part in self._parts()
            for key, value in part.verdict(model, builder.parts[name], train, validation, seed).items()
        }

    def after_step(self, model: Backbone, step: int) -> None:
        for _, part in self._parts():
            part.after_step(model, step)

    def _parts(self) -> list[tuple[str, Objective[Any, Any]]]:
        return list(self.parts.items())  # type: ignore[arg-type]
