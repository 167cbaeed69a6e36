"""Trained models for use: in a notebook (`cloze.load`), as a start (`init=`), for other libraries (`cloze export`).

A source is a run of ours (its directory or its model/ directory), a Hugging Face directory, or a name on the Hugging
Face hub. From none of them is code ever run: classes are looked up below `cloze.` only, weights are read from safetensors
or with `weights_only=True`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from cloze import inference, models
from cloze.errors import Refusal, did_you_mean, with_article
from cloze.finetuning.added import Added
from cloze.inference.judge import Judge
from cloze.inference.predict import language_of
from cloze.models import checkpoints, storage
from cloze.models.base import Backbone, Batch, Bidirectional, Causal, Discriminator, EncoderDecoder, TokenHead
from cloze.models.conversion import Portable
from cloze.models.layout import Pattern
from cloze.models.padding import from_padded, real_places, to_padded
from cloze.models.task_heads import with_task_head
from cloze.schema import Node, faults, locate

if TYPE_CHECKING:
    from cloze.data.tokenizers import Tokenizer

RUNTIME = ("vocabulary", "length", "pooler", "generator")
TOKENIZER_CONFIG = "tokenizer_config.json"
LEFT_TO_RIGHT = "cloze.objectives.clm.CausalLM"  # what checkpoints of others that say so were trained under


@dataclass(frozen=True)
class Initial:
    """What a run may start from.

    `settings` {"model": {"_target_": …, its settings}}; `weights` with the keys "model.*" and "objective.*", in 32 bits
    on the CPU; the tokenizer, whose vocabulary is as large as the embedding; the longest sequence it was made for;
    the settings of the objective that a run of ours was trained under, the names of its text's languages, what fine-tuning has
    added to the family's own weights, and the classes of each task that it learnt from labels (none: a number).
    """

    settings: dict[str, Any]
    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    length: int
    objective: dict[str, Any] | None = None
    languages: tuple[str, ...] = ()
    added: Added = field(default_factory=Added)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Pretrained:
    """A model with its tokenizer, ready for use; `head` is its token head, None where the checkpoint had none.

    `length` is the longest sequence that `encode` makes: what the run was trained with, or the position table's size.
    `objective` are the settings of what a run of ours was trained under, None for checkpoints of others. `discriminator`: the head
    that tells replaced tokens, for models that learnt it; `generator_head`: that of such a model's generator, which fills blanks.
    `languages` are the names of those that the run's text had, in the order of their numbers.
    """

    model: Backbone
    tokenizer: Tokenizer
    head: TokenHead | None
    length: int
    objective: dict[str, Any] | None = None
    discriminator: nn.Module | None = None
    generator_head: TokenHead | None = None
    languages: tuple[str, ...] = ()
    judge: Judge | None = None

    def to(self, device: torch.device | str) -> Pretrained:
        """The same on another device."""
        fine_tuned = None if self.judge is None else self.judge.objective
        for module in (self.model, self.head, self.discriminator, self.generator_head, fine_tuned):
            if module is not None:
                module.to(device)
        return self

    def hidden_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        langs: Tensor | None = None,
    ) -> Tensor:
        """States of the last layer: (B, L) ids in, (B, L, width) out, zeros where `attention_mask` is 0.

        An encoder-decoder gives the decoder's states where there are `decoder_input_ids`, else the encoder's. Positions
        count from each sequence's first real token, so padding may stand on either side. `langs` (B, L) are the numbers of the
        tokens' languages, for models that tell them apart; without it no embedding of a language is added, as in transformers.
        Raises ValueError where the tensors do not fit each other or the model.
        """
        for name, ids in (("input_ids", input_ids), ("decoder_input_ids", decoder_input_ids)):
            size = self.tokenizer.vocabulary.size
            if ids is not None and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < size:
                raise ValueError(f"{name} must lie in 0 … {size - 1}, the model's vocabulary")
        pattern: Pattern = "causal" if self.one_sided else "bidirectional"
        inputs = from_padded(input_ids, attention_mask, token_type_ids, pattern)
        real, decoder = real_places(input_ids, attention_mask), None
        if langs is not None:
            count = self.model.languages
            if count is None:
                raise ValueError(f"langs: {with_article(type(self.model).__name__)} does not tell languages apart")
            if langs.shape != input_ids.shape or not 0 <= int(langs.min()) <= int(langs.max()) < count:
                raise ValueError(f"langs must have the shape of input_ids and lie in 0 … {count - 1}")
            inputs.languages = langs[real]
        most, longest = self.model.positions, max(inputs.layout.lengths, default=0)
        if most is not None and longest > most:
            raise ValueError(f"input_ids: a sequence has {longest} tokens, the model has positions for {most}")
        if decoder_input_ids is not None:
            if not isinstance(self.model, EncoderDecoder):
                raise ValueError(f"decoder_input_ids: {with_article(type(self.model).__name__)} has no decoder")
            decoder = from_padded(decoder_input_ids, pattern="causal")
            real = real_places(decoder_input_ids, None)
        with inference.judging(self.model):
            batch = Batch(inputs, {}, {}, {}, decoder).to(inference.device_of(self.model))
            states = self.model(batch).last
        return to_padded(states, real.to(states.device))

    def encode(
        self, texts: str | Sequence[str], pairs: Sequence[str] | None = None, language: str | int | None = None
    ) -> dict[str, Tensor]:
        """Padded tensors for `hidden_states(**…)`: `input_ids`, `attention_mask` and, for encoders, `token_type_ids`.

        A model that tells languages apart gets `langs` too: all in `language`, a name or a number; where nothing is said, in the
        first language of the model's text, or in none where that had no names.

        Special tokens stand where the model expects them; `pairs` are second texts, for encoders. What is longer than
        `length` is cut off at the end (of the longer one of two).
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if pairs is not None and (not isinstance(self.model, Bidirectional) or len(pairs) != len(texts)):
            raise ValueError("pairs: as many as texts, and for encoders only")
        rows, kinds = [], []
        for number, text in enumerate(texts):
            row, kind = self._enclosed(text, None if pairs is None else pairs[number])
            rows.append(row)
            kinds.append(kind)
        if language is not None and self.model.languages is None:
            name = with_article(type(self.model).__name__)
            raise Refusal(f"language={language} has no effect on {name}: it does not tell languages apart.")
        device, longest = inference.device_of(self.model), max(map(len, rows), default=0)
        pad = self.tokenizer.vocabulary.special.get("pad", 0)
        tensors = {
            "input_ids": [row + [pad] * (longest - len(row)) for row in rows],
            "attention_mask": [[1] * len(row) + [0] * (longest - len(row)) for row in rows],
        }
        if isinstance(self.model, Bidirectional):
            tensors["token_type_ids"] = [kind + [0] * (longest - len(kind)) for kind in kinds]
        if self.model.languages is not None and self.model.languages > 1:
            spoken = language_of(language, self.languages, self.model.languages)
            if spoken is not None:
                tensors["langs"] = [[spoken] * longest for _ in rows]
        return {name: torch.tensor(table, dtype=torch.int64, device=device) for name, table in tensors.items()}

    def _enclosed(self, text: str, second: str | None) -> tuple[list[int], list[int]]:
        """Ids with the special tokens around them, and the segment of each."""
        vocabulary = self.tokenizer.vocabulary
        first = self.tokenizer.encode(text, special=True)
        if second is None:
            row = inference.enclose(self.model, first, vocabulary, self.length, queries=self.queries)
            if not row and "eos" not in vocabulary.special:
                raise ValueError("texts: one is empty, and this tokenizer has no token that could stand for it")
            return row or [vocabulary["eos"]], self._segments(len(row), 0)
        other = self.tokenizer.encode(second, special=True)
        around = inference.enclose(self.model, [], vocabulary, queries=self.queries)
        between = [vocabulary["sep"]] if "sep" in vocabulary.special else []
        while len(around) + len(first) + len(other) + len(between) > self.length:
            (first if len(first) >= len(other) else other).pop()
        opening = inference.enclose(self.model, [], vocabulary, before=True, queries=self.queries)
        head, tail = [*opening, *first, *between], [*other, *around[len(opening) :]]
        return head + tail, self._segments(len(head), len(tail))

    def _segments(self, first: int, second: int) -> list[int]:
        """0 for the first text, 1 for the second; a [CLS] at the end is a segment of its own, XLNet's third."""
        segments = [0] * first + [1] * second
        if (
            inference.frame_of(self.model, self.queries)[1][-1:] == ("cls",)
            and "cls" in self.tokenizer.vocabulary.special
            and segments
        ):
            segments[-1] = 2
        return segments

    @property
    def one_sided(self) -> bool:
        """Whether a token sees only what stands before it: by the family's role or, where that is open, by what it was trained for."""
        learnt = inference.task_learnt(
            self.objective
        )  # what it cannot do any more without its head, its states still go by
        return isinstance(self.model, Causal) and (
            not isinstance(self.model, Bidirectional) or "continue" in (learnt, self.task)
        )

    @property
    def queries(self) -> bool:
        """Whether a model with two streams is asked by its second one: it was trained so, or nobody knows how."""
        return inference.queries_learnt(self.objective)

    @property
    def tasks(self) -> tuple[inference.Task, ...]:
        """What `predict` can be asked for."""
        heads = (self.head or self.generator_head) is not None, self.discriminator is not None
        learnt = inference.task_learnt(self.objective)
        judges = self.judge is not None
        return inference.tasks_of(self.model, self.tokenizer.vocabulary, *heads, learnt, self.queries, judges)

    @property
    def task(self) -> inference.Task:
        """What `predict` does without being told: what the model was trained for, or else what its role suggests."""
        return inference.task_of(self.tasks, inference.task_learnt(self.objective))

    def predict(self, texts: str | Sequence[str], task: inference.Task | None = None, **settings: Any) -> list[Any]:
        """What the model says of each text.

        `task` is one of `tasks`; without it, what the model was trained for:

        "judge"     a fine-tuned model returns what it was taught to say: a class, a number, tags, an answer, a choice
        "fill"      an encoder fills each [MASK] and returns `Filled`s with its guesses (`k=` of them); an encoder-decoder
                    returns the text with its sentinels (<extra_id_0>, or [MASK] for the next one) replaced
        "continue"  returns how the text goes on
        "rewrite"   an encoder-decoder returns the text as it writes it again, its [MASK]s filled
        "replaced"  an ELECTRA returns `Doubted`s: how probable it is of each token that it does not belong
        "vectors"   returns `Vectors` (`layer=`: its number, "last", "all" or "mix")

        What writes takes the settings of `cloze.inference.Decoding`: `tokens=`, `temperature=`, `top_k=`, `top_p=`, `beams=`,
        `seed=` … (greedy by default). A model that tells languages apart takes `language=`, a name or a number, as `encode` does.
        Raises Refusal for what the model cannot do and settings that its task does not have.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        return inference.predict(self, texts, task, settings)


def load(source: str | Path, device: torch.device | str = "cpu", trusted: Sequence[str] = ()) -> Pretrained:
    """A trained model with its tokenizer, from a run of ours, a Hugging Face directory or a name on the hub.

    `trusted` names packages of your own whose model classes may be built. Raises Refusal where the source cannot be
    read, saying what it is and what was expected.
    """
    initial = initialise(source, trusted)
    initial = dataclasses.replace(initial, weights=heads(initial.weights))
    node = dict(initial.settings["model"])
    model = _built(_family(node.pop("_target_"), trusted), node, initial)
    model.load_state_dict(_part(initial.weights, "model."))
    head, given = model.token_head(), _part(initial.weights, "objective.head.")
    has_head = given.keys() >= head.state_dict().keys()
    if has_head:
        head.load_state_dict({name: given[name] for name in head.state_dict()})
    loaded = Pretrained(model.eval(), initial.tokenizer, head.eval() if has_head else None, initial.length)
    loaded.languages = initial.languages
    loaded.objective, loaded.discriminator = initial.objective, _discriminator(model, initial)
    loaded.judge = Judge.of(
        model,
        initial.tokenizer,
        initial.length,
        initial.objective,
        initial.labels,
        _part(initial.weights, "objective."),
    )
    generator = getattr(model, "generator", None)
    weights = _part(initial.weights, "objective.generator_head.")
    if isinstance(generator, Backbone) and weights:
        loaded.generator_head = generator.token_head().eval()
        loaded.generator_head.load_state_dict(weights)
    return loaded.to(device)


def initialise(source: str | Path, trusted: Sequence[str] = ()) -> Initial:
    """Settings, weights and tokenizer of a run of ours, a Hugging Face directory or a name on the hub.

    Raises Refusal, one message, where the source is missing, damaged, newer than this Cloze or of an unknown kind, or
    where its parts do not fit each other.
    """
    folder = checkpoints.located(str(source))
    config = storage.read_json(folder / storage.CONFIG)
    initial = _from_run(folder, trusted) if "cloze" in config else _from_transformers(folder, config)
    _refuse_unfit(folder, initial, trusted)
    return initial


def taken_as(initial: Initial, wanted: type[Backbone], trusted: Sequence[str] = ()) -> Initial | None:
    """The same weights as a model of another family that is one to transformers (a BERT as a UniLM); None where it is not."""
    node = dict(initial.settings["model"])
    own = _family(node.pop("_target_"), trusted)
    if wanted is own:
        return initial
    if not (issubclass(own, Portable) and issubclass(wanted, Portable)) or own.model_type != wanted.model_type:
        return None
    if initial.added != Added():  # transformers, by way of which the weights go, has none of it
        return None
    complete = {**_defaults(own), **node}
    config, theirs = own.to_transformers(complete, heads(initial.weights), initial.tokenizer.vocabulary)
    settings, weights = wanted.from_transformers(config, theirs)
    target = f"{wanted.__module__}.{wanted.__qualname__}"
    return dataclasses.replace(initial, settings={"model": {"_target_": target, **settings}}, weights=weights)


def heads(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of several objectives together (`objective.parts.NAME.*`) by the names that they have under one objective
    (`objective.*`); those that more than one part has keep theirs, as nobody could say which is meant."""
    found: dict[str, list[str]] = {}
    for name in weights:
        part = re.fullmatch(r"objective\.parts\.[^.]+\.(.+)", name)
        found.setdefault(f"objective.{part[1]}" if part else name, []).append(name)
    return {plain if len(names) == 1 else name: weights[name] for plain, names in found.items() for name in names}


def export(run: str | Path, directory: str | Path) -> list[str]:
    """Writes a Hugging Face directory that transformers' Auto classes load, to the same outputs.

    What transformers keeps as a second model (ELECTRA's generator) stands in a folder of its own in it; the head of a fine-tuned model is
    that of transformers' class for its task, where it has one. `directory` must not exist or be empty. Returns what had to be left out, a
    sentence each. Raises Refusal where the run cannot be read or its family is not one that transformers has.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise Refusal(f"{directory} exists already; name a directory that does not, or an empty one")
    stored = storage.read_model(Path(run))
    initial = _from_run(stored.folder, (), stored)
    node = dict(initial.settings["model"])
    family = _family(node.pop("_target_"), ())
    if not issubclass(family, Portable):
        known = ", ".join(sorted(families()))
        raise Refusal(f"{run}: transformers has no model like {family.__name__}; exported can be: {known}")
    if initial.added != Added():
        what = "adapters" if initial.added.bottleneck else "a trained prompt"
        raise Refusal(
            f"{run}: it has {what}, for which transformers' class has no place. What finetune=lora trained can be exported."
        )
    tokenizer, held = initial.tokenizer, heads(initial.weights)
    complete = {**_defaults(family), **node, "length": initial.length}
    config, weights = family.to_transformers(complete, held, tokenizer.vocabulary)
    left_out = with_task_head(family.model_type, initial.objective, initial.labels, held, config, weights)
    one_sided = inference.task_learnt(initial.objective) == "continue"
    made = {".": ({**config, **family.remarks(one_sided, initial.languages)}, weights)}
    made |= family.companions(complete, held, tokenizer.vocabulary)
    try:
        for name, (config, weights) in made.items():
            folder = directory / name
            folder.mkdir(parents=True, exist_ok=True)
            tokenizer.save(folder, initial.length)
            if complete.get("segments", 1) > 1 or family.closing[-1:] == (
                "cls",
            ):  # else their tokenizer would not tell the two texts of a pair apart
                names = storage.read_json(folder / TOKENIZER_CONFIG)
                names["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
                storage.write_json(folder / TOKENIZER_CONFIG, names)
            storage.write_tensors(folder / storage.WEIGHTS, weights, {"format": "pt"})
            storage.write_json(folder / storage.CONFIG, {**config, "dtype": "float32"})
    except OSError as error:
        raise Refusal(f"{directory} cannot be written: {error.strerror or error}") from None
    return [] if left_out is None else [f"the head is left out: {left_out}"]


@cache
def families() -> dict[str, type[Portable]]:
    """The families that Hugging Face knows too, by its `model_type`: every one that a file of cloze.models defines.

    One that inherits another's `model_type` (UniLM is a BERT to transformers) does not take its place.
    """
    found: dict[str, type[Portable]] = {}
    for module in pkgutil.iter_modules(models.__path__):
        loaded = importlib.import_module(f"{models.__name__}.{module.name}")
        for _, kind in inspect.getmembers(loaded, inspect.isclass):
            here = kind.__module__ == loaded.__name__ and not inspect.isabstract(kind)
            if here and issubclass(kind, Portable) and issubclass(kind, Backbone) and "model_type" in vars(kind):
                found |= dict.fromkeys((kind.model_type, *kind.other_types), kind)
    return found


def _from_run(folder: Path, trusted: Sequence[str], stored: storage.Stored | None = None) -> Initial:
    from cloze.data.tokenizers import Tokenizer

    stored = stored or storage.read_model(folder)
    node = dict(stored.config["model"])
    family = _family(node.get("_target_"), trusted)
    _refuse_settings(folder, family, node)
    tokenizer = _as_large(Tokenizer.load(folder), int(stored.config["vocabulary"]), folder)
    length, objective = int(stored.config["length"]), stored.config.get("objective")
    learnt, languages = objective if isinstance(objective, dict) else None, stored.config.get("languages") or ()
    added = _added(folder, stored.config.get("added") or {})
    said = stored.config.get("labels")
    labels = {str(task): tuple(map(str, names)) for task, names in said.items()} if isinstance(said, dict) else {}
    return Initial(
        {"model": node}, stored.weights, tokenizer, length, learnt, tuple(map(str, languages)), added, labels
    )


def _added(folder: Path, said: object) -> Added:
    if not isinstance(said, dict) or faults([Added], said, "added") or min(said.values(), default=1) < 1:
        raise Refusal(
            f"{folder / storage.CONFIG} has added={said!r}; expected the sizes of bottleneck and prompt_tokens"
        )
    return Added(**said)


def _from_transformers(folder: Path, config: Mapping[str, Any]) -> Initial:
    from cloze.data.tokenizers import Tokenizer

    known = families()
    model_type = config.get("model_type")
    if model_type not in known:
        hint = did_you_mean(str(model_type), known)
        raise Refusal(
            f"{folder / storage.CONFIG} describes a model of type {model_type!r}, which Cloze does not read{hint}"
        )
    family = known[model_type]
    weights = {name: _in_32_bits(tensor) for name, tensor in checkpoints.read_weights(folder).items()}
    try:
        settings, ours = family.from_transformers(config, weights)
    except Refusal as refusal:
        raise Refusal(f"{folder}: {refusal}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(f"{folder / storage.CONFIG} is not a whole description of a {model_type}: {error!r}") from None
    _refuse_settings(folder, family, settings)
    target = f"{family.__module__}.{family.__qualname__}"
    embedding = config.get("vocab_size")
    if not isinstance(embedding, int):
        raise Refusal(f"{folder / storage.CONFIG} has vocab_size={embedding!r}; expected a whole number")
    tokenizer = _as_large(Tokenizer.load(folder), embedding, folder)
    one_sided, languages = family.remarked(config)
    learnt = {"_target_": LEFT_TO_RIGHT} if one_sided else None
    longest = int(settings.get("positions", 512))
    return Initial({"model": {"_target_": target, **settings}}, ours, tokenizer, longest, learnt, languages)


def _refuse_settings(folder: Path, family: type, settings: Mapping[str, Any]) -> None:
    """A description is held against the class's signature, as a run's words are."""
    if wrong := faults([family], {k: v for k, v in settings.items() if k != "_target_"}, "model", RUNTIME):
        raise Refusal(f"{folder / storage.CONFIG} does not fit {family.__name__}: {wrong[0]}")


def _in_32_bits(tensor: Tensor) -> Tensor:
    """Published weights are often stored in 16 bits; what is trained on has 32."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _as_large(tokenizer: Tokenizer, size: int, folder: Path) -> Tokenizer:
    """The tokenizer with a vocabulary as large as the embedding, whose last rows may be padding that no text uses."""
    vocabulary = tokenizer.vocabulary
    if vocabulary.size > size:
        raise Refusal(
            f"{folder}: the tokenizer has {vocabulary.size:,} tokens, the model's embedding {size:,} rows; "
            "they do not belong together"
        )
    tokenizer.vocabulary = dataclasses.replace(vocabulary, size=size)
    return tokenizer


def _family(target: object, trusted: Sequence[str]) -> type[Backbone]:
    found = locate(target, "model", trusted)
    if not issubclass(found, Backbone):
        raise Refusal(f"model._target_={target} is not a model")
    return found


def _defaults(family: type) -> dict[str, Any]:
    """Settings that a class has by itself: a description written before one was added lacks it."""
    parameters = inspect.signature(family).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _built(family: type[Backbone], settings: dict[str, Any], initial: Initial) -> Backbone:
    runtime = {"vocabulary": initial.tokenizer.vocabulary.size, "length": initial.length} | {
        part: any(name.startswith(f"model.{part}.") for name in initial.weights) for part in ("pooler", "generator")
    }
    model = cast(Backbone, Node("model", family, settings).build(**runtime))
    initial.added.install(model)
    return model


def _discriminator(model: Backbone, initial: Initial) -> nn.Module | None:
    """The head that tells replaced tokens, where the weights have one."""
    weights = _part(initial.weights, "objective.discriminator_head.")
    if not weights or not isinstance(model, Discriminator):
        return None
    from cloze.objectives.replaced_token import DiscriminatorHead

    head = DiscriminatorHead(model.width, model.activation, model.initializer_range)
    head.load_state_dict(weights)
    return head.eval()


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _refuse_unfit(folder: Path, initial: Initial, trusted: Sequence[str]) -> None:
    """Compares the weights with what the description would build (nothing is allocated), before anybody relies on them."""
    node = dict(initial.settings["model"])
    with torch.device("meta"):
        expected = _built(_family(node.pop("_target_"), trusted), node, initial).state_dict()
    given = _part(initial.weights, "model.")
    differing = [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    differing += [f"{name} is missing" for name in expected if name not in given]
    differing += [f"{name} is not part of such a model" for name in given if name not in expected]
    if differing:
        more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
        raise Refusal(
            f"{folder}: the weights are not those of the model that {storage.CONFIG} describes: "
            f"{'; '.join(differing[:3])}{more}"
        )
    numbers = {name for name, tensor in expected.items() if tensor.is_floating_point()}  # ELMo's spellings are none
    if broken := [name for name in given if name in numbers and re.search(r"float", str(given[name].dtype)) is None]:
        raise Refusal(f"{folder}: {broken[0]} holds {given[broken[0]].dtype}; expected floating-point weights")
