"""From a checked config to everything that a run is made of: corpus, tokenizer, examples, model, objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloze.check import Checked
from cloze.data import keyed
from cloze.data.base import Corpus, TaskCorpus, TokenizedCorpus
from cloze.data.examples import indexed
from cloze.data.languages import evened, idle, numbered
from cloze.data.records import tokenized_records
from cloze.data.store import tokenized
from cloze.data.tasks.several import Several
from cloze.data.tokenizers import Tokenizer, obtain, with_sentinels
from cloze.errors import Refusal
from cloze.finetuning.ways import Finetuning
from cloze.models.base import Backbone
from cloze.models.storage import weights_sha256
from cloze.objectives.base import ExampleBuilder, Examples, Objective
from cloze.objectives.classify import mixed
from cloze.objectives.framing import RecordExamples, roles_of
from cloze.schema import Node

if TYPE_CHECKING:
    from cloze.loading import Initial

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """The parts of a run, built. Nothing has been trained and no run folder exists yet."""

    checked: Checked
    corpus: Corpus
    tokenizer: Tokenizer
    train_text: TokenizedCorpus
    validation_text: TokenizedCorpus
    builder: ExampleBuilder
    train: Examples
    validation: Examples
    model: Backbone
    objective: Objective[Any, Any]
    initial_weights: str | None  # digest of the weights that the run starts from, where it does not start from chance

    def unigram_entropy(self) -> float | None:
        """Nats per validation token for one who knows only how often each token occurs in the training text; None where no loss is of
        tokens."""
        if isinstance(self.builder, RecordExamples):
            return None
        size = self.tokenizer.vocabulary.size
        seen = _counts(self.train_text.tokens, size) + 1.0  # one more each: none is impossible
        asked = _counts(self.validation_text.tokens, size)
        return float(-(asked * np.log(seen / seen.sum())).sum() / asked.sum())

    def targets_per(self) -> dict[str, float]:
        """How many targets the validation text has for each "byte" and each "word" of it, where each of its tokens, and the end of
        each document, is one once."""
        text = self.validation_text
        if not self.objective.scores_text:
            return {}
        targets = len(text.tokens) + len(text)
        sizes = {"byte": text.bytes, "word": text.words}
        return {unit: targets / size for unit, size in sizes.items() if size}

    def entropy_floor(self) -> float | None:
        """Nats per validation token for a reader, left to right, who knows how the text was made; None where nobody does."""
        nats = None if isinstance(self.builder, RecordExamples) else self.corpus.entropy("validation")
        return None if nats is None else nats / len(self.validation_text.tokens)


def prepare(checked: Checked, initial: Initial | None = None, say: Say = print) -> Prepared:
    """Builds the parts. Raises Refusal where the data cannot serve the run."""
    top = checked.top
    corpus: Corpus = checked.nodes["data"].build()
    say(corpus.announcement)
    cache = Path(top.cache_dir)
    builder_class = checked.objective.Examples
    special_tokens, sentinels = builder_class.needs(checked.builder_settings)
    family = checked.nodes["model"].built
    learns_from_records = issubclass(builder_class, RecordExamples)
    if learns_from_records and not sentinels and initial is None:
        special_tokens = tuple(dict.fromkeys((*special_tokens, *roles_of(family), "pad")))
    if initial is not None:
        tokenizer = initial.tokenizer
        missing = [role for role in special_tokens if role not in tokenizer.vocabulary.special]
        if missing:
            raise Refusal(
                f"init={top.init}: its tokenizer has no {', '.join(missing)} token, which {checked.name} needs"
            )
        if learns_from_records and len(tokenizer.sentinels) < sentinels:  # tokens that are new at fine-tuning
            tokenizer = with_sentinels(tokenizer, sentinels)
    else:
        wanted = checked.nodes["tokenizer"].build()
        tokenizer = obtain(wanted, corpus, special_tokens, sentinels, cache, say)
    known = () if initial is None else initial.languages
    labels = corpus.labels if isinstance(corpus, TaskCorpus) else {}
    vocabulary = tokenizer.vocabulary
    builder: ExampleBuilder = Node("objective", builder_class, checked.builder_settings).build(
        vocabulary=vocabulary, length=top.length, family=family, labels=labels
    )
    train_text: TokenizedCorpus
    validation_text: TokenizedCorpus
    if isinstance(builder, RecordExamples):
        assert isinstance(corpus, TaskCorpus)
        train_text = tokenized_records(corpus, "train", tokenizer, builder.reworded, say)
        validation_text = tokenized_records(corpus, "validation", tokenizer, builder.reworded, say)
    else:
        train_text = numbered(tokenized(corpus, "train", tokenizer, cache, say=say), known)
        validation_text = tokenized(corpus, "validation", tokenizer, cache, say=say)
        validation_text = numbered(validation_text, train_text.language_names or known)
    settings = checked.builder_settings
    train = indexed(builder, train_text, keyed.key(top.seed, "examples"), settings, cache)
    if isinstance(corpus, Several):
        train = mixed(train, corpus, top.seed)
    train = evened(_some(train, top.labelled_examples, top.seed, builder), corpus.language_sampling, top.seed)
    # not the seed's business: every run of a study is judged on the same validation examples
    validation = indexed(builder.judge(), validation_text, keyed.key("validation examples"), settings, cache)
    for note in (*train.notes, *idle(train, corpus.language_sampling)):
        say(note)
    torch.manual_seed(keyed.key(top.seed, "model") >> 1)
    model: Backbone = checked.nodes["model"].build(
        vocabulary=vocabulary.size,
        length=top.length,
        pooler=checked.objective.pools(checked.settings["objective"]),
        generator=checked.objective.generates(checked.settings["objective"]),
    )
    _refuse_languages(model, train_text, validation_text, None if initial is None else f"init={top.init}")
    model.spell([tokenizer.token(number) for number in range(vocabulary.size)])
    torch.manual_seed(keyed.key(top.seed, "objective") >> 1)  # so that two objectives start from the same model
    objective: Objective[Any, Any] = Node("objective", checked.objective, checked.objective_settings).build(
        model=model, vocabulary=vocabulary, labels=labels, tokenizer=tokenizer
    )
    for name in objective.idle(model):
        model.get_parameter(name).requires_grad_(False)
    if builder.continuous and not model.remembers:
        say(
            f"model={checked.composed.choices['model']} has no memory: each window is read without what stood before it in its lane"
        )
    _judge_negatives(objective, tokenizer, train_text, say)
    digest, way = None, _way(checked, say)
    if initial is not None and not way.from_scratch:
        initial.added.install(model)
        _load(initial, model, objective, say)
        digest = weights_sha256(initial.weights)
    return Prepared(
        checked, corpus, tokenizer, train_text, validation_text, builder, train, validation, model, objective, digest
    )


def _some(train: Examples, count: int | None, seed: int, builder: ExampleBuilder) -> Examples:
    """`count` of the training examples, drawn with the seed; another seed is another draw. Raises Refusal where there are not as many."""
    if count is None:
        return train
    if not isinstance(builder, RecordExamples):
        raise Refusal(f"labelled_examples={count} has no effect: this objective learns from text without labels.")
    if count > len(train):
        raise Refusal(f"labelled_examples={count} is more than the {len(train):,} training examples that there are.")
    chosen = np.sort(keyed.permutation(keyed.key(seed, "labelled"), len(train))[:count])
    tokens = None if train.tokens is None else train.tokens[chosen]
    return replace(train, table=train.table[chosen], lengths=train.lengths[chosen], tokens=tokens)


def _way(checked: Checked, say: Say) -> Finetuning:
    """How the run trains; what may surprise is said."""
    way: Finetuning = checked.nodes["finetune"].build()
    source = checked.top.init
    if way.from_scratch:
        say(
            f"finetune.from_scratch: architecture and tokenizer are those of init={source}, the weights begin from chance"
        )
    if way.trains != "all" and (source is None or way.from_scratch):
        say(f"finetune.trains={way.trains} without weights to start from: the model stays as chance made it")
    return way


def _judge_negatives(objective: Objective[Any, Any], tokenizer: Tokenizer, text: TokenizedCorpus, say: Say) -> None:
    """A sampled softmax must leave words out, and draws them as if ids went by frequency."""
    size = tokenizer.vocabulary.size
    for module in objective.modules():
        negatives = getattr(module, "negatives", None)
        if not isinstance(negatives, int):
            continue
        if negatives >= size:
            raise Refusal(
                f"objective.negatives={negatives} are not fewer than the {size:,} tokens of the vocabulary: take objective.negatives=null, "
                "which asks them all."
            )
        counts = _counts(text.tokens, size)
        agreement = rank_agreement(counts)
        if agreement < 0.75:  # merges are about 0.5, words and unigrams above 0.95
            say(
                f"objective.negatives={negatives}: ids of this tokenizer do not go by frequency (rank correlation {agreement:.2f}), which "
                "the draws take for granted, so they are drawn more or less often than they should be; ids of tokenizer=word do"
            )


def rank_agreement(counts: NDArray[np.int64]) -> float:
    """Spearman's correlation of the tokens' frequencies with their ids, 1 where the most frequent come first; of those that occur."""
    counts = counts[counts > 0]
    if len(counts) < 2:
        return 1.0
    _, place, ties = np.unique(-counts, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties + 1) / 2)[place]  # equally frequent ones share the middle of their ranks
    return float(np.corrcoef(ranks, np.arange(len(counts)))[0, 1]) if len(ties) > 1 else 1.0


def _refuse_languages(
    model: Backbone, train: TokenizedCorpus, validation: TokenizedCorpus, initial: str | None = None
) -> None:
    """A model with a language table must have a row for each language of the text, and one that training has seen, where it looks at
    the table at all. `initial` says what the model was taken from, as a word of the command."""
    if model.languages is None or model.languages == 1:
        return
    spoken = train.language_names
    if model.languages < len(spoken):
        all_of_them = f"{len(spoken)} languages ({', '.join(spoken)})"
        if initial is None:
            raise Refusal(
                f"model.languages={model.languages} is too few: the text has {all_of_them}. Say model.languages={len(spoken)}."
            )
        raise Refusal(
            f"{initial} has a table of {model.languages} languages, which cannot grow; with the text's there would be {all_of_them}. "
            f"Train on the languages that it knows, or without init and with model.languages={len(spoken)}."
        )
    unseen = [name for name in validation.language_names if name not in spoken]
    if unseen:
        raise Refusal(
            f"the validation text is also in a language that the training text is not in ({', '.join(unseen)}): "
            "this model's table of languages has no trained row for it."
        )


def _counts(tokens: NDArray[Any], size: int, block: int = 1 << 20) -> NDArray[np.int64]:
    """How often each token occurs, counted in blocks: the array may be mapped from a file larger than memory."""
    counts = np.zeros(size, np.int64)
    for start in range(0, len(tokens), block):
        counts += np.bincount(tokens[start : start + block], minlength=size)
    return counts


def _load(initial: Initial, model: Backbone, objective: Objective[Any, Any], say: Say) -> None:
    """Copies the initial weights; what only one side has is said, never dropped silently."""
    from cloze.loading import heads

    weights = initial.weights if objective.composite else heads(initial.weights)
    for name, module in (("model", model), ("objective", objective)):
        own = module.state_dict()
        given = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
        given = {key: _grown(value, own.get(key), initial.tokenizer.vocabulary.size) for key, value in given.items()}
        fitting = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
        wrong = [key for key in given if key in own and own[key].shape != given[key].shape]
        if name == "model" and wrong:
            differing = "; ".join(f"{k}: {tuple(given[k].shape)} there, {tuple(own[k].shape)} here" for k in wrong[:3])
            raise Refusal(f"init: {len(wrong)} tensors have another shape ({differing})")
        module.load_state_dict(fitting, strict=False)
        fresh = sorted(set(own) - set(fitting))
        unused = sorted(set(given) - set(fitting))
        say(
            f"init: {len(fitting)} tensors of the {name} taken"
            + _few(", fresh here", fresh)
            + _few(", not used", unused)
        )


def _grown(given: Tensor, own: Tensor | None, before: int) -> Tensor:
    """A table with a row for each of the `before` tokens of a vocabulary that has grown since: new tokens keep the rows that they have."""
    if own is None or given.shape == own.shape or not len(given.shape):
        return given
    if len(given) != before or len(own) < before or given.shape[1:] != own.shape[1:]:
        return given
    return torch.cat([given.to(own.dtype), own[before:]])


def _few(label: str, names: list[str]) -> str:
    if not names:
        return ""
    return f"{label}: {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
