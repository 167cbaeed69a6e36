"""A text is written for another one: its translation, its summary (Sutskever et al. 2014, https://arxiv.org/abs/1409.3215).

An encoder-decoder reads the source and writes the target, as BART (https://arxiv.org/abs/1910.13461, section 3.4) and T5 do. A model
without an encoder has both in one sequence, source, separator, target, of which only the target is predicted: GPT-2 from left to right,
while one that can see both sides (UniLM: https://arxiv.org/abs/1905.03197, section 2.5) sees the source whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloze.data import keyed
from cloze.data.base import Packed, Sample, SourceTarget, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.inference.decoding import Decoding
from cloze.inference.reading import Speller
from cloze.models.base import Backbone, Batch, Bidirectional, EncoderDecoder, Prefixed, Writer
from cloze.objectives.base import Examples, StepOutput, Term
from cloze.objectives.corruption import by_sequence
from cloze.objectives.cross_entropy import token_cross_entropy
from cloze.objectives.framing import RecordExamples, labelled
from cloze.objectives.ledger import Row
from cloze.objectives.supervised import Supervised
from cloze.scoring.texts import score_texts

NOT_SAID = -1  # instead of a target's length


class SourceTargetExamples(RecordExamples):
    """One example a record. A row of the table: record, start and length of the source, of the target (NOT_SAID: the file has none), and
    whether all of the target is there.

    What is too long is cut at its end: the target to `target_length` tokens (None: as many as an encoder-decoder's decoder holds, half
    of what fits where one sequence holds both), the source to what is left. `prefix`: whether a model without an encoder sees the source
    whole; None: where it is one that can see both sides of a token.
    """

    reads = SourceTarget

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        family: type[Backbone],
        target_length: int | None = None,
        prefix: bool | None = None,
    ) -> None:
        super().__init__(vocabulary, length, family)
        self.two_stacks = issubclass(family, EncoderDecoder)
        if prefix is not None and self.two_stacks:
            raise Refusal(f"objective.prefix={str(prefix).lower()} has no effect: this model reads the source apart.")
        if prefix and not issubclass(family, Prefixed):
            raise Refusal(f"objective.prefix=true needs a model that {Prefixed.role}; this one {family.role}.")
        self.prefix = issubclass(family, Bidirectional) if prefix is None else prefix
        if not self.frame.closing:
            raise Refusal("the tokenizer has no token that ends a text (eos or sep): take another tokenizer")
        self.end = self.frame.closing[0]
        special = vocabulary.special
        begins = special.get(getattr(family, "begins", ""), special.get("bos", special.get("eos", 0)))
        # what stands before the target in the sequence that has it
        self.start = (begins, *self.frame.opening) if self.two_stacks else self.frame.between
        around = len(self.frame.opening) + len(self.frame.closing if self.two_stacks else self.frame.between)
        room = length - around
        most = length - len(self.start) if self.two_stacks else room - 1
        if most < 1 or room < 1:
            raise Refusal(f"length={length} is too short for a source and a target: take length={around + 2} or more.")
        if target_length is not None and not 1 <= target_length <= most:
            raise Refusal(
                f"objective.target_length={target_length} must lie in 1 … {most} with length={length}, or be null."
            )
        self.target_length = target_length or (most if self.two_stacks else room // 2)
        self.source_length = room if self.two_stacks else room - self.target_length

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        texts = labelled(corpus)
        rows = []
        for number, record in enumerate(texts.records):
            assert isinstance(record, SourceTarget)
            (source, source_end), (target, target_end) = texts.fields(number)
            size = target_end - target
            kept = NOT_SAID if record.target is None else min(size, self.target_length)
            rows.append((number, source, source_end - source, target, kept, int(kept == size)))
        table = np.array(rows, np.int64).reshape(-1, 6)
        cut = int(((table[:, 2] > self.source_length) | ((table[:, 4] >= 0) & (table[:, 5] == 0))).sum())
        table[:, 2] = np.minimum(table[:, 2], self.source_length)
        written = np.maximum(table[:, 4], 0) + len(self.start)
        read = table[:, 2] + len(self.frame.opening) + (len(self.frame.closing) if self.two_stacks else 0)
        notes = (f"{cut:,} of {len(table):,} examples are longer than length={self.length} holds: cut",) if cut else ()
        both = read + written
        return Examples(corpus, table, read if self.two_stacks else both, notes, tokens=both)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        texts, table = labelled(examples.corpus), examples.table[indices]
        opening, closing = list(self.frame.opening), list(self.frame.closing)
        read, begun, written = [], [], []
        at: list[int] = []
        wanted: list[int] = []
        first = 0
        for _, source, source_length, target, target_length, _ in table.tolist():
            given = [*opening, *texts.tokens[source : source + source_length].tolist()]
            own = texts.tokens[target : target + max(target_length, 0)].tolist()
            before = list(self.start) if self.two_stacks else [*given, *self.start]
            read.append([*given, *closing])
            begun.append(before)
            written.append([*before, *own])
            if target_length != NOT_SAID:
                at += range(first + len(before) - 1, first + len(before) + len(own))
                wanted += [*own, self.end]
            first += len(before) + len(own)
        records: list[Any] = [texts.records[number] for number in table[:, 0]]
        extra: dict[str, Any] = {"records": table[:, 0].tolist(), "references": [record.target for record in records]}
        if self.judging:
            extra |= {
                "whole": table[:, 5].astype(bool).tolist(),
                "begun": begun,
                "read": read if self.two_stacks else None,
                "prefix": [len(each) for each in begun] if self.prefix else None,
                "end": self.end,
                "most": self.target_length + 1,  # one more than a target has: to see whether it ends
            }
        targets = {
            "at": np.array(at, np.int64),
            "tokens": np.array(wanted, np.int64),
            "size": table[:, 4] + 1,  # 0: not said
        }
        counts = {"target": len(wanted)}
        if self.two_stacks:
            return Sample(_packed(read), targets, counts, _packed(written), extra=extra)
        prefix = np.array([len(each) for each in begun], np.int64) if self.prefix else None
        return Sample(_packed(written), targets, counts, causal=not self.prefix, prefix=prefix, extra=extra)

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        return {"target": int((examples.table[indices, 4] + 1).sum())}

    def asked(self, sample: Sample) -> list[tuple[int, str]]:
        return [(n, "nothing" if text is None else text) for n, text in enumerate(sample.extra["references"])]

    def explain(self, sample: Sample) -> list[list[str]]:
        words = np.where(np.isin(sample.inputs.tokens, list(self.vocabulary.special_ids)), "special", "").astype(object)
        if not self.two_stacks:
            words[np.setdiff1d(sample.targets["at"] + 1, np.cumsum(sample.inputs.lengths))] = "target"
        return by_sequence(words, sample.inputs.lengths)


def _packed(rows: Sequence[Sequence[int]]) -> Packed:
    return Packed(
        np.array([token for row in rows for token in row], np.int64), np.array([len(row) for row in rows], np.int64)
    )


class SequenceToSequence(Supervised[Writer, SourceTarget]):
    """The mean over the target's tokens, its end among them, of the cross-entropy, with the family's own head.

    While training, a validation knows the target's tokens: `token_accuracy` is the share that is the first choice after the right ones
    before, and `exact_match` the share of texts all of whose tokens are, which is what greedy decoding would write without a fault.
    At the end of a run, and for `predict`, texts are written: greedily, or with `beams`, and `length_penalty` among them.
    """

    Examples: ClassVar[type[SourceTargetExamples]] = SourceTargetExamples
    figures = ("token_accuracy", "exact_match")

    def __init__(
        self,
        model: Backbone,
        vocabulary: Vocabulary,
        tokenizer: Speller | None = None,
        beams: int = 1,
        length_penalty: float = 1.0,
    ) -> None:
        super().__init__(model, "last", "last", 0.0)
        Decoding(beams=beams, length_penalty=length_penalty)  # refuses what cannot be
        self.beams, self.length_penalty, self.tokenizer = beams, length_penalty, tokenizer
        self.head = model.token_head()

    def idle(self, model: Backbone) -> list[str]:
        return []

    def forward(self, model: Writer, batch: Batch) -> StepOutput:
        states = model(batch)
        hidden = states.last.index_select(0, batch.targets["at"])
        total, right = token_cross_entropy(self.head, hidden, model.word_embedding, batch.targets["tokens"])
        return StepOutput.of(states, {"target": Term(total, batch.counts["target"])}, {"right": right})

    def rows(self, output: StepOutput, batch: Batch) -> list[Row]:
        """For each text: record, tokens that are right and their number, whether all is right, and what was written and ought to have
        been, None where nothing was written."""
        return [
            (record, sum(right), len(right), bool(right) and all(right) and whole, None, None)
            for record, right, whole in zip(
                batch.extra["records"],
                self._parts(output.predictions["right"], batch),
                batch.extra["whole"],
                strict=True,
            )
        ]

    def told(self, model: Backbone, output: StepOutput, batch: Batch) -> list[Row]:
        from cloze.inference.generate import generate

        assert self.tokenizer is not None
        asked = batch.extra
        decoding = Decoding(tokens=asked["most"], beams=self.beams, length_penalty=self.length_penalty)
        written = generate(
            model, self.head, asked["begun"], asked["end"], decoding, inputs=asked["read"], prefix=asked["prefix"]
        )
        found: list[Row] = []
        wanted = self._parts(batch.targets["tokens"], batch)
        for row, said, tokens, reference in zip(
            self.rows(output, batch), written, wanted, asked["references"], strict=True
        ):
            exact = bool(tokens) and asked["whole"][len(found)] and said == tokens[:-1]
            found.append((*row[:3], exact, self.tokenizer.decode(said), reference))
        return found

    @staticmethod
    def _parts(values: Tensor, batch: Batch) -> list[list[int]]:
        """One value for each of the batch's targets, text by text."""
        sizes = batch.targets["size"].tolist()
        return [part.tolist() for part in torch.split(values, sizes)]

    def shown(self, output: StepOutput, batch: Batch) -> list[tuple[int, str, str]]:
        return [
            (number, batch.extra["references"][number] or "", f"{right} of {size} tokens right" if size else "")
            for number, (_, right, size, *_) in enumerate(self.rows(output, batch))
        ]

    def score(self, rows: list[Row]) -> dict[str, float]:
        known = [row for row in rows if row[2]]
        if not known:
            return {}
        found = {
            "token_accuracy": sum(row[1] for row in known) / sum(row[2] for row in known),
            "exact_match": sum(row[3] for row in known) / len(known),
        }
        if all(row[4] is not None for row in known):
            found |= score_texts([row[4] for row in known], [row[5] for row in known])
        return found

    def answers(self, rows: list[Row], records: Sequence[Text]) -> list[Any]:
        """The text that was written for each record."""
        written = {row[0]: row[4] for row in rows}
        return [written[number] for number in range(len(records))]
