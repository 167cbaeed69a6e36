"""What an objective is: one file with two halves.

The *data half* (`ExampleBuilder`: numpy, no parameters, picklable) says how a corpus becomes examples and how an example is
corrupted this time. The *learning half* (`Objective`: a torch module) has the heads, the loss and the metrics. Settings of both
stand in one config file; each setting goes to the half (or halves) whose `__init__` names it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args, get_origin

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cloze.data import keyed
from cloze.data.base import Record, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.models.base import Backbone, Batch, HiddenStates, Memory

if TYPE_CHECKING:
    from torchmetrics import Metric

M = TypeVar("M", bound=Backbone)
R = TypeVar("R", bound=Record)


@dataclass
class Examples:
    """The index of examples: what to read where, no corruption in it. `ExampleBuilder.build` makes it; `cloze.data.examples` keeps
    that of a large corpus.

    `table` (n, columns) int64 means what the builder says it means; `lengths` (n,) is each example's length in tokens with its
    special tokens, near enough to sort by. `notes` are sentences for the log ("12 of 50 documents have one sentence: skipped").
    `tokens` (n,) is what each example counts for in a budget of tokens, where that is not its length: a decoder's come on top.
    `languages` (n,) is the language of each example, where the corpus has several and an example is in one of them.
    """

    corpus: TokenizedCorpus
    table: NDArray[np.int64]
    lengths: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    tokens: NDArray[np.int64] | None = None
    languages: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def total_tokens(self) -> int:
        """Tokens of one pass over all examples, encoder and decoder together: what runs count, and budgets are in."""
        return int((self.lengths if self.tokens is None else self.tokens).sum())


@dataclass(frozen=True)
class Tally:
    """One figure that a data half declares, and what a sample showed of it: sums over trials, so that tallies add up.

    A trial is, say, a selected token, which was masked or not: `expected` 0.8 of each, `variance` 0.8 * 0.2 of each. Where nothing is
    left to chance the variance is 0, and what was seen must be what was expected.
    """

    expected: float
    seen: float
    trials: int
    variance: float = 0.0

    @classmethod
    def share(cls, probability: float, seen: float, trials: int) -> Tally:
        """Yes-or-no trials that should come out yes with `probability`."""
        return cls(probability * trials, float(seen), trials, probability * (1 - probability) * trials)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.expected + other.expected,
            self.seen + other.seen,
            self.trials + other.trials,
            self.variance + other.variance,
        )

    @property
    def holds(self) -> bool:
        """Whether what was seen lies within three standard deviations of what is declared."""
        return abs(self.seen - self.expected) <= 3 * math.sqrt(self.variance) + 1e-9 * max(1.0, abs(self.expected))


class ExampleBuilder(ABC):
    """The data half of an objective. Its settings are its `__init__` parameters after `vocabulary` and `length`.

    `continuous`: text goes on from batch to batch. The examples then lie in reading order, all of the same length, and are dealt to the
    batch's sequences in lanes: lane b of the next step begins where lane b of this one ended.
    """

    special_tokens: ClassVar[tuple[str, ...]] = ()  # roles of the special tokens that the tokenizer must have
    sentinels: ClassVar[int] = 0  # how many <extra_id_…> tokens
    continuous: bool = False
    reads: ClassVar[type[Record]] = Text

    vocabulary: Vocabulary
    length: int

    @abstractmethod
    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        """The examples of a split. Chance only through `seed`. Raises Refusal where the corpus cannot serve this objective."""

    @abstractmethod
    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        """Examples `indices` (B,) as they look this time, in this order: every draw is a function of its `keys` (B,) alone."""

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        """What `sample(…).counts` would be, where possible without sampling: a step's mean is over all its ranks and parts."""
        return self.sample(examples, indices, keys).counts

    @classmethod
    def needs(cls, settings: dict[str, Any]) -> tuple[tuple[str, ...], int]:
        """The special tokens (by role) and the number of sentinels that a run with these settings asks the tokenizer for."""
        return cls.special_tokens, cls.sentinels

    def at_step(self, seed: int, step: int) -> ExampleBuilder:
        """The builder of a training step, for what changes as steps go by. The index of examples is the same."""
        return self

    def keys(self, seed: int, epoch: int, indices: NDArray[np.int64]) -> keyed.Keys:
        """The keys of training examples in an epoch. Static corruption returns the same ones for several epochs."""
        return keyed.keys(keyed.key(seed, "train", epoch), indices)

    def judge(self) -> ExampleBuilder:
        """The builder that validation uses: corrupts at the fixed rate that all arms of a study are judged at."""
        return self

    def explain(self, sample: Sample) -> list[list[str]]:
        """For the lens: for each sequence of `inputs`, a word for each token, "" where there is nothing to say.

        The words that the lens colours: masked, replaced, kept, special, target.
        """
        return [["" for _ in range(int(n))] for n in sample.inputs.lengths]

    def asked(self, sample: Sample) -> list[tuple[int, str]]:
        """For the lens: for each sequence of `inputs`, which example of the sample it belongs to, and what is to be said of it as a whole
        ("" where nothing is)."""
        return [(number, "") for number in range(len(sample.inputs.lengths))]

    def views(self, sample: Sample) -> list[tuple[str, Sample, ExampleBuilder]]:
        """For the lens: what there is to look at in a sample, with a title each, and the builder that explains it."""
        return [("", sample, self)]

    def tally(self, sample: Sample) -> dict[str, Tally]:
        """For the audit: each rate that this builder declares, by name, and what `sample` (one of its own) shows of it."""
        return {}


@dataclass
class Term:
    """One part of the loss: the sum over its targets, and how many they are."""

    total: Tensor  # scalar
    count: int
    weight: float = 1.0


@dataclass
class StepOutput:
    """What `Objective.forward` returns.

    `terms` by name ("mlm", "pair"); the step's loss is the sum over terms of weight * total / count, with the counts of the whole
    step (all ranks, all parts). `predictions` is what `Objective.measure` needs, detached.
    """

    terms: dict[str, Term]
    predictions: dict[str, Tensor] = field(default_factory=dict)
    memory: Memory | None = None  # what the model carries to the next batch

    @classmethod
    def of(
        cls, states: HiddenStates, terms: dict[str, Term], predictions: dict[str, Tensor] | None = None
    ) -> StepOutput:
        """The objective's terms with what the model itself adds: its own losses (each a mean over this micro-batch), its memory."""
        own = {name: Term(loss, 1) for name, loss in states.losses.items()}
        return cls(terms | own, predictions or {}, states.memory)


class Objective(nn.Module, ABC, Generic[M, R]):
    """The learning half. `class MaskedLM(Objective[Bidirectional, Text])`: the base class is the contract.

    `__init__(self, model, vocabulary, **settings)` looks at the model to size its heads and does not keep it.

    How a model that learnt this is used: `task` is what it is for (one of `cloze.tasks.TASKS`; None: what its role suggests), `begins`
    the role of the token that its decoder begins with (None: the family's own), `prefixes` whether a text that it goes on with is seen
    whole, `queries` whether tokens are predicted by the second stream of a model that has two. `scores_text`: each token of the text,
    and each document's end, is once a target of the term that the perplexity is of.
    """

    Examples: ClassVar[type[ExampleBuilder]]
    task: ClassVar[str | None] = None
    begins: ClassVar[str | None] = None
    prefixes: ClassVar[bool] = False
    queries: ClassVar[bool] = False
    scores_text: ClassVar[bool] = False
    model_role: ClassVar[type[Backbone]]
    record: ClassVar[type[Record]]
    trains: ClassVar[bool] = True  # False: the model is only asked, nothing is learnt
    composite: ClassVar[bool] = False  # made of others, whose settings stand below its own `settings`

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Objective):
                role, record = get_args(base)
                if not isinstance(role, TypeVar):
                    cls.model_role, cls.record = role, record

    @classmethod
    def made_of(cls, settings: dict[str, Any]) -> dict[str, type[Objective[Any, Any]]]:
        """The objectives that this one is made of, by name; none where it is itself all there is."""
        return {}

    @classmethod
    def teaches(cls, settings: dict[str, Any]) -> str | None:
        """The task that a model trained with these settings is for: `task`, unless they decide."""
        return cls.task

    @classmethod
    def pools(cls, settings: dict[str, Any]) -> bool:
        """Whether a run with these settings reads the model's pooled vector (else the model is built without a pooler)."""
        return False

    @classmethod
    def generates(cls, settings: dict[str, Any]) -> bool:
        """Whether a run with these settings needs the model's generator (else a model that may have one is built without it)."""
        return False

    def idle(self, model: M) -> list[str]:
        """Names of the model's parameters that no loss of this objective depends on: they are not trained."""
        return []

    @abstractmethod
    def forward(self, model: M, batch: Batch) -> StepOutput:
        """One micro-batch."""

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Fresh torchmetrics by name ("accuracy"). The loss of each term and the perplexity are logged without being asked for."""

    @abstractmethod
    def measure(self, metrics: dict[str, Metric], output: StepOutput, batch: Batch) -> None:
        """Updates `metrics` with one batch."""

    def verdict(
        self, model: M, builder: ExampleBuilder, train: TokenizedCorpus, validation: TokenizedCorpus, seed: int
    ) -> dict[str, float]:
        """What is asked of the finished model once, by name ("judge/…"); the run's metrics have it.

        Every rank calls it, and none may draw a random number or change a weight.
        """
        return {}

    def after_step(self, model: M, step: int) -> None:
        """Called after every optimizer step: moving averages, schedules of the objective's own."""
