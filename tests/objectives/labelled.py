"""Labelled records whose tokens are numbers, and small models of every family to read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch

from cloze.data import keyed
from cloze.data.base import Record, TokenizedRecords, Vocabulary
from cloze.data.batches import batch_of
from cloze.data.records import of_records
from cloze.models.base import Backbone, Batch
from cloze.objectives.base import ExampleBuilder, Examples
from cloze.schema import locate
from tests.models.parity import scramble
from tests.pretrained import FAMILIES, LENGTH

PAD, UNK, CLS, SEP, MASK, BOS, EOS = range(7)
START, DELIMITER, EXTRACT = SENTINELS = (7, 8, 9)
FIRST, SIZE = 10, 80  # ordinary tokens are FIRST … SIZE - 1
VOCABULARY = Vocabulary(
    SIZE, {"pad": PAD, "unk": UNK, "cls": CLS, "sep": SEP, "mask": MASK, "bos": BOS, "eos": EOS}, SENTINELS
)
NAMES = list(FAMILIES)


class Numbers:
    """A tokenizer of texts that are numbers: "12 13" is two words, "12+13" one of two tokens, "-" no token at all."""

    vocabulary = VOCABULARY
    fingerprint = "numbers"

    def encode_flat(self, texts: Sequence[str]) -> tuple[Any, Any, Any]:
        return self.encode_spans(texts)[:3]

    def encode_spans(self, texts: Sequence[str]) -> tuple[Any, Any, Any, Any]:
        ids, starts, lengths, spans = [], [], [], []
        for text in texts:
            before = len(ids)
            at = 0
            for word in text.split(" "):
                for number, piece in enumerate(word.split("+")):
                    if piece not in ("", "-"):
                        ids.append(int(piece))
                        starts.append(number == 0)
                        spans.append((at, at + len(piece)))
                    at += len(piece) + 1
            lengths.append(len(ids) - before)
        return np.array(ids, np.uint32), np.array(starts, bool), np.array(lengths), np.array(spans).reshape(-1, 2)

    def encode(self, text: str, special: bool = False) -> list[int]:
        return [int(n) for n in self.encode_flat([text])[0]]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        return " ".join(str(i) for i in ids)

    def token(self, id: int) -> str:
        return str(id)


def words(chance: np.random.Generator, least: int, most: int) -> str:
    """A text of `least` to `most` ordinary tokens."""
    return " ".join(map(str, chance.integers(FIRST, SIZE, chance.integers(least, most + 1))))


def tokenized(records: Sequence[Record]) -> TokenizedRecords:
    return of_records(records, Numbers())  # type: ignore[arg-type]


def family(name: str) -> type[Backbone]:
    found: type[Backbone] = locate(f"cloze.models.{name}", "model")
    return found


def built(name: str, pooler: bool = False, vocabulary: int = SIZE, **changed: Any) -> Backbone:
    """A small model whose every parameter is random, without dropout."""
    torch.manual_seed(0)
    model: Backbone = family(name)(vocabulary, LENGTH, pooler, **{**FAMILIES[name], **changed}).eval()  # type: ignore[call-arg]
    scramble(model)
    return model


def batch(builder: ExampleBuilder, examples: Examples, indices: Sequence[int] | None = None) -> Batch:
    """Some examples, all where nothing is said, as they are validated."""
    chosen = np.arange(len(examples)) if indices is None else np.asarray(indices, np.int64)
    sample = builder.sample(examples, chosen, keyed.keys(0, chosen))
    return batch_of(sample, indices=chosen.tolist())


def loss(output: Any) -> torch.Tensor:
    """The weighted means of an output's terms."""
    total: torch.Tensor = sum(term.weight * term.total / max(term.count, 1) for term in output.terms.values())
    return total


def of_transformers(architecture: str, name: str, **config: Any) -> tuple[Any, Backbone]:
    """A small model of transformers with a head, its parameters random, and ours with the same weights below the head."""
    transformers = import_module("transformers")
    their_config = getattr(transformers, f"{architecture.split('For')[0].removesuffix('LMHeadModel')}Config")(
        vocab_size=SIZE, pad_token_id=PAD, eos_token_id=EOS, **config
    )
    torch.manual_seed(0)
    reference = getattr(transformers, architecture)(their_config).eval()
    scramble(reference)
    kind: Any = family(name)
    settings, weights = kind.from_transformers(json.loads(their_config.to_json_string()), reference.state_dict())
    model = kind(SIZE, LENGTH, "model.pooler.weight" in weights, **settings).eval()
    model.load_state_dict({key[6:]: tensor for key, tensor in weights.items() if key.startswith("model.")})
    return reference, model


def padded(made: Batch, left: bool = False) -> dict[str, torch.Tensor]:
    """A batch's inputs as transformers takes them, with the padding behind or before."""
    lengths = made.inputs.layout.lengths
    assert made.inputs.segments is not None
    columns = {"input_ids": made.inputs.tokens, "token_type_ids": made.inputs.segments}
    longest = max(lengths)
    tables = {name: torch.zeros(len(lengths), longest, dtype=torch.int64) for name in (*columns, "attention_mask")}
    for number, length in enumerate(lengths):
        place = slice(longest - length, longest) if left else slice(length)
        tables["attention_mask"][number, place] = 1
        for name, values in columns.items():
            tables[name][number, place] = values.split(lengths)[number]
    return tables


def copied(layer: Any, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    """The weights of one of their heads into one of ours."""
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.zeros_like(layer.bias) if bias is None else bias)


def near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """The agreement that is asked of logits and losses."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
