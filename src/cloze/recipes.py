"""What a sentence that fine-tunes leaves out: the settings of the paper that the model is from, for the task at hand.

`python train.py init=RUN data=glue/mrpc` says neither batch size nor rate nor how long. A recipe adds these words; every word that is said
wins, and what was added is printed and recorded like words that were typed.

Where a family's paper gives no settings that could be checked, BERT's hold. Rates are for models that are 768 wide or wider. Narrower ones
take higher ones: the published miniatures of BERT, 128 to 512 wide, were best between 3e-5 and 3e-4 (Turc et al. 2019,
https://arxiv.org/abs/1908.08962); rate * (768 / width) ** 1.5, which runs through that range, is our own reading of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from cloze.compose import Composed, compose, parse
from cloze.schema import as_word, locate

LEARN_FROM_LABELS = ("classify", "tag", "choose", "extractive_qa", "verbalise", "sequence_to_sequence")  # with recipes


@dataclass(frozen=True)
class Recipe:
    """Words and where they are from. `rate` is that of a model 768 wide, None where the words say it themselves."""

    source: str
    rate: float | None
    words: dict[str, Any]


BERT = Recipe(
    "BERT's paper, appendix A.3",  # https://arxiv.org/abs/1810.04805: batch 16 or 32, rate 5e-5, 3e-5 or 2e-5, 2 to 4 epochs
    3e-5,
    {
        "batch_size": 32,
        "budget.epochs": 3,
        "schedule": "linear",
        "schedule.warmup": 0.1,
        "optimizer": "adamw",
        "optimizer.weight_decay": 0.01,
    },
)
FAMILIES = {
    # https://arxiv.org/abs/1907.11692, table 10: batch 16 or 32, rate 1e-5, 2e-5 or 3e-5
    "roberta": Recipe(
        "RoBERTa's paper, table 10", 2e-5,
        {**BERT.words, "batch_size": 16, "budget.epochs": 10, "schedule.warmup": 0.06, "optimizer.weight_decay": 0.1},
    ),
    # https://github.com/openai/finetune-transformer-lm
    "gpt": Recipe(
        "GPT's paper, section 4.1", 6.25e-5,
        {**BERT.words, "schedule.warmup": 0.002, "objective.frame": "delimited", "objective.lm_weight": 0.5},
    ),
    # https://arxiv.org/abs/1910.10683, section 3.1.2: AdaFactor at a constant rate of 0.001
    **dict.fromkeys(
        ("t5", "t5_v1_1", "switch"),
        Recipe(
            "T5's paper, section 3.1.2 (batch size and epochs: BERT's)", None,
            {"batch_size": 32, "budget.epochs": 3, "schedule": "constant", "optimizer": "adafactor", "optimizer.learning_rate": 1e-3},
        ),
    ),
}  # fmt: skip

# google-research/albert, run_glue.sh: rate, batch size, steps, warm-up steps
_ALBERT = {
    "sst2": (1e-5, 32, 20935, 1256), "mnli": (3e-5, 128, 10000, 1000), "cola": (1e-5, 16, 5336, 320), "qnli": (1e-5, 32, 33112, 1986),
    "qqp": (5e-5, 128, 14000, 1000), "rte": (3e-5, 32, 800, 200), "stsb": (2e-5, 16, 3598, 214), "mrpc": (2e-5, 32, 800, 200),
}  # fmt: skip

# What the kind of task changes: tokens of an input, and BERT's settings for SQuAD (section 4.2) and SWAG (section 4.4).
KINDS: dict[str, tuple[int, float | None, dict[str, Any]]] = {
    "classify": (128, None, {}),
    "verbalise": (128, None, {}),
    "tag": (128, None, {}),
    "extractive_qa": (384, 5e-5, {}),
    "choose": (128, 2e-5, {"batch_size": 16}),
    "sequence_to_sequence": (128, None, {}),
}
# What a way to fine-tune changes: the rate, where little trains, that of a model 768 wide too; and a schedule of its own stays.
WAYS: dict[str, tuple[str, float]] = {
    "linear_probe": ("Adam's usual rate", 1e-3),
    "bitfit": ("BitFit's paper, section 4 (1e-4 to 1e-3)", 4e-4),  # https://arxiv.org/abs/2106.10199
    "lora": ("LoRA's paper, table 9", 5e-4),  # https://arxiv.org/abs/2106.09685
    "adapters": ("the adapters' paper, section 3.1 (3e-5, 3e-4 or 3e-3)", 3e-4),  # https://arxiv.org/abs/1902.00751
    "prompt_tuning": ("no paper (theirs is 0.3, with AdaFactor)", 1e-3),
}
WITH_A_SCHEDULE = ("ulmfit",)
# The generated language's tasks (docs/world-tasks.md), whose examples are few, so that passes must be many: batch size, steps. Their rate
# is 1e-3 for the model of the default run, which is 128 wide.
WORLD_RATE = 7e-5
WORLD = {
    "unseen_words": (16, 200), "ner": (32, 100), "pos": (16, 60), "srl": (16, 60), "constituents": (16, 60),
    "cola": (32, 250), "sst2": (32, 400),
}  # fmt: skip
# Tokens for its summaries, 30 at most, where they share a sequence of 128 with their passages: half for each, as when nothing is
# said, would cut four passages in five (46 to 114 tokens); so it is one in fifty. Not with Unigram, of whose tokens a summary has up to
# 48, nor with characters, of which it has up to 146
SUMMARY = 32
LONG_KINDS = ("extractive_qa", "choose", "sequence_to_sequence")  # more than a sentence or two
LONG_CHOICES = ("race", "dream", "world/race")  # whole passages
BOTH_ORDERS = ("mrpc", "qqp", "stsb")  # GPT, section 3.3: similarity has no order


def completed(words: Sequence[str]) -> tuple[list[str], str]:
    """The words with the recipe's before them, and a line that says what was added; as they are, and "", where none is needed.

    Raises Refusal where the words cannot be composed.
    """
    overrides = {override.key_or_group: override for override in parse(words)}
    said = set(overrides)
    if not any(key == "data" or key.startswith("objective") for key in said) or said & {"experiment", "matrix"}:
        return list(words), ""
    if "resume" in said and _has_begun(overrides):  # what it began with is in its record
        return list(words), ""
    composed = compose(words)
    kind = str(composed.choices["objective"])
    if kind not in LEARN_FROM_LABELS:
        return list(words), ""
    recipe, added = _recipe(composed, kind)
    added = {key: value for key, value in added.items() if not _decided(key, said)}
    listed = " ".join(f"{key}={as_word(value)}" for key, value in added.items())
    say = "say" if ", and for" in recipe.source else "says"
    note = f"fine-tuning as {recipe.source} {say}, unless told otherwise: {listed}" if added else ""
    return [*(f"{key}={as_word(value)}" for key, value in added.items()), *words], note


def _has_begun(said: Mapping[str, Override]) -> bool:
    """Whether the run to go on with is there: `resume=auto` begins one where it is not."""
    from cloze.folder import RunFolder

    if said["resume"].value() != "auto" or "output_dir" not in said:
        return True
    folder = said["output_dir"].value()
    return isinstance(folder, str) and bool(RunFolder(Path(folder)).facts().get("provenance", {}).get("words"))


def _recipe(composed: Composed, kind: str) -> tuple[Recipe, dict[str, Any]]:
    family, data = str(composed.choices["model"]), str(composed.choices["data"])
    recipe = FAMILIES.get(family, BERT)
    longest, rate, changes = KINDS[kind]
    width, trained_length, positions = _sizes(composed)
    added = {**recipe.words, **changes}
    task = data.rpartition("/")[2]
    if kind == "classify" and family == "albert" and data == f"glue/{task}" and task in _ALBERT:
        base, batch, steps, warmup = _ALBERT[task]
        recipe = Recipe("ALBERT's run_glue.sh", base, {})
        added |= {"batch_size": batch, "budget.steps": steps, "schedule.warmup": warmup}
        del added["budget.epochs"]
    elif recipe.rate is not None and rate is not None and recipe is BERT:
        recipe = Recipe("BERT's paper, section 4", rate, recipe.words)
    if data.startswith("world/"):
        rate = None if recipe.rate is None else WORLD_RATE
        recipe = Recipe("docs/world-tasks.md", rate, recipe.words)
        if task in WORLD:
            added["batch_size"], added["budget.steps"] = WORLD[task]
            del added["budget.epochs"]
    if kind in ("tag", "extractive_qa", "sequence_to_sequence"):
        added = {key: value for key, value in added.items() if key not in ("objective.frame", "objective.lm_weight")}
    elif kind == "choose":
        added.pop("objective.lm_weight", None)
    elif family == "gpt" and task in BOTH_ORDERS:
        added["objective.both_orders"] = True
    if recipe.rate is not None:
        added["optimizer.learning_rate"] = _scaled(recipe.rate, width)
    way = str(composed.choices["finetune"])
    if way in WAYS and recipe.rate is not None:
        source, rate = WAYS[way]
        added["optimizer.learning_rate"] = _scaled(rate, width)
        recipe = replace(recipe, source=f"{recipe.source}, and for the rate {source}")
    if way in WITH_A_SCHEDULE:
        added = {key: value for key, value in added.items() if not key.startswith("schedule")}
    length = 512 if data in LONG_CHOICES else longest
    if trained_length is not None:  # rows of a position table that pre-training never read know nothing
        length = min(length, max(trained_length, 128 if kind in LONG_KINDS else 64))
    length = length if positions is None else min(length, positions)
    added["length"] = length
    if kind == "extractive_qa" and length < 384:  # the same share of the input as published
        added |= {"objective.stride": length // 3, "objective.question_length": length // 4}
    if data == "world/summary" and length == longest and not (_reads_apart(composed) or _cuts_small(composed)):
        added["objective.target_length"] = SUMMARY
    added["validation.examples"] = None
    return recipe, added


def _reads_apart(composed: Composed) -> bool:
    """Whether the model has an encoder of its own for what it reads."""
    from cloze.models.base import EncoderDecoder

    return issubclass(locate(composed.config.model._target_, "model", list(composed.config.trusted)), EncoderDecoder)


def _cuts_small(composed: Composed) -> bool:
    """Whether the tokenizer is one of Unigram's or of characters."""
    source = composed.config.init
    if not isinstance(source, str):
        return composed.choices["tokenizer"] in ("unigram", "character")
    file = _located(source) / "tokenizer.json"
    from cloze.models import storage

    described = storage.read_json(file) if file.exists() else {}
    model, cutter = described.get("model") or {}, described.get("pre_tokenizer") or {}
    return model.get("type") == "Unigram" or cutter.get("type") == "Split"  # which makes characters of a text


def _sizes(composed: Composed) -> tuple[float, int | None, int | None]:
    """Width of the model, the length that it was pre-trained at where that is known, and its positions where it has such a table."""
    source = composed.config.init
    if not isinstance(source, str):
        return _number(composed.config, "model.width", 768), None, _number(composed.config, "model.positions", None)
    folder = _located(source)
    from cloze.models import storage

    config = storage.read_json(folder / storage.CONFIG)
    if "cloze" in config:
        model, length = config.get("model"), config.get("length")
        model = model if isinstance(model, dict) else {}
        return model.get("width", 768), length if isinstance(length, int) else None, model.get("positions")
    width = next((config[key] for key in ("hidden_size", "n_embd", "d_model", "emb_dim") if key in config), 768)
    positions = next(
        (config[key] for key in ("max_position_embeddings", "n_positions", "n_ctx") if key in config), None
    )
    if isinstance(positions, int) and config.get("model_type") == "roberta":
        positions -= 2
    return width, None, positions if config.get("model_type") != "t5" else None


def _located(source: str) -> Path:
    """The folder of what a run starts from."""
    from cloze.environment import prepare

    prepare()
    from cloze.models import checkpoints

    return Path(checkpoints.located(source))


def _number(config: DictConfig, key: str, otherwise: Any) -> Any:
    value = OmegaConf.select(config, key, default=otherwise)
    return value if isinstance(value, int | float) else otherwise


def _decided(key: str, said: set[str]) -> bool:
    """Whether what is said leaves no room for a word of the recipe."""
    if key.startswith("budget."):
        return any(each.startswith("budget.") for each in said)
    if key.startswith("optimizer.") and "optimizer" in said:
        return True  # another optimizer has rates of its own
    if key.startswith("schedule.") and "schedule" in said:
        return True
    if key == "objective.target_length" and "length" in said:
        return True  # of another length half may be the better share
    return key in said


def _scaled(rate: float, width: float) -> float:
    """A published rate as it is; that of a narrower model in two digits."""
    return rate if width >= 768 else float(f"{rate * (768 / width) ** 1.5:.1e}")
