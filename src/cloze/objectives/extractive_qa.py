"""The answer as a stretch of the text: two vectors, one for where it begins and one for where it ends (BERT on SQuAD,
https://arxiv.org/abs/1810.04805, sections 4.2 and 4.3).

A passage that is too long is read in windows that overlap. In a window without the answer the right stretch is the null token ([CLS]), as
for a question that has no answer at all. Of all windows of a question the best stretches by the sum of their two scores are kept (n-best);
where questions may have no answer, the empty one wins if the null token's score exceeds the best stretch's by more than a threshold.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cloze.data import keyed
from cloze.data.base import Labels, Passage, Question, Sample, Text, TokenizedCorpus, TokenizedRecords, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Backbone, Batch
from cloze.objectives.base import Examples, StepOutput, Term
from cloze.objectives.framing import RecordExamples, labelled, lay_out
from cloze.objectives.ledger import Row
from cloze.objectives.readout import Layer, layout_of
from cloze.objectives.supervised import Supervised, linear
from cloze.scoring.cmrc import score_cmrc
from cloze.scoring.squad import score_squad

# our names of the scripts' figures
OF_VERSION_1 = {"f1": "f1", "exact_match": "exact_match"}
OF_VERSION_2 = {
    "f1": "f1", "exact_match": "exact", "has_answer_f1": "HasAns_f1", "has_answer_exact_match": "HasAns_exact",
    "no_answer_accuracy": "NoAns_exact",
}  # fmt: skip
OF_CMRC = {"cmrc_f1": "F1", "cmrc_exact_match": "EM"}
NO_ANSWER, NOT_SAID = -1, -2  # instead of the place of an answer's first token


class QuestionExamples(RecordExamples):
    """One example a window of a passage for each question.

    A row of the table: record, question, length of the question, first token of the window (in the passage) and their number, first and
    last token of the answer in the passage (NO_ANSWER: none in this window; NOT_SAID: the file does not say), whether it is the
    question's last.
    `stride` is how many tokens after the beginning of one window the next one begins; `question_length` the most tokens of a question.
    """

    reads = Passage

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        family: type[Backbone],
        stride: int = 128,
        question_length: int = 64,
        answer_length: int = 30,
        n_best: int = 20,
    ) -> None:
        super().__init__(vocabulary, length, family)
        for name, value in (
            ("stride", stride),
            ("question_length", question_length),
            ("answer_length", answer_length),
            ("n_best", n_best),
        ):
            if value < 1:
                raise Refusal(f"objective.{name}={value} must be at least 1.")
        least = question_length + 1
        if self.room(2, 2) < least:
            most = self.room(2, 2) // 2
            raise Refusal(
                f"objective.question_length={question_length} leaves no room for the passage with length={length}; "
                f"take objective.question_length={most} or length={self.frame.specials(2) + 2 * question_length}."
            )
        self.stride, self.question_length = stride, question_length
        self.answer_length, self.n_best = answer_length, n_best

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        texts = labelled(corpus)
        assert texts.spans is not None
        rows, lost = [], 0
        for number, record in enumerate(texts.records):
            assert isinstance(record, Passage)
            (context, context_end), *questions = texts.fields(number)
            spans = texts.spans[context:context_end]
            size = context_end - context
            for which, question in enumerate(record.questions):
                asked = min(questions[which][1] - questions[which][0], self.question_length)
                first, last = _tokens_of(question, spans)
                lost += first == NO_ANSWER and bool(question.answers)
                room = self.length - self.frame.specials(2) - asked
                begin = 0
                while True:
                    count = min(size - begin, room)
                    inside = begin <= first and last < begin + count
                    answer = (first, last) if first < 0 or inside else (NO_ANSWER, NO_ANSWER)
                    over = begin + count >= size
                    rows.append((number, which, asked, begin, count, *answer, int(over)))
                    if over:
                        break
                    begin += min(self.stride, room)
        table = np.array(rows, np.int64).reshape(-1, 8)
        notes = [f"{lost:,} answers are of no token: read as not there"] if lost else []
        if len(table) > (asked_in_all := int(table[:, 7].sum())):
            notes.append(f"{asked_in_all:,} questions in {len(table):,} windows")
        return Examples(corpus, table, table[:, 2] + table[:, 4] + self.frame.specials(2), tuple(notes))

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        texts, table = labelled(examples.corpus), examples.table[indices]
        assert texts.spans is not None
        sequences = []
        for number, which, asked, begin, count, *_ in table.tolist():
            fields = texts.fields(number)
            question, context = fields[1 + which][0], fields[0][0]
            sequences.append(
                [texts.tokens[question : question + asked], texts.tokens[context + begin : context + begin + count]]
            )
        laid = lay_out(self.frame, sequences)
        starts = np.array([places[1] for places in laid.starts], np.int64)  # of the window, in the batch's rows
        ends = np.cumsum(laid.inputs.lengths)
        beginnings = ends - laid.inputs.lengths
        null = beginnings if self.frame.null == 0 else ends - 1
        targets = {"null": null - beginnings, "window": starts - beginnings, "size": table[:, 4].copy()}
        for name, column in (("start", 5), ("end", 6)):
            place = starts - beginnings + table[:, column] - table[:, 3]
            targets[name] = np.where(
                table[:, column] == NO_ANSWER, targets["null"], np.where(table[:, column] == NOT_SAID, -1, place)
            )
        extra: dict[str, Any] = {}
        if self.judging:
            extra["windows"] = [self._window(texts, row) for row in table.tolist()]
            extra["limits"] = self.answer_length, self.n_best
        count = int((table[:, 5] != NOT_SAID).sum())
        return Sample(laid.inputs, targets, {"span": count}, laid.decoder, extra=extra)

    @staticmethod
    def _window(texts: TokenizedRecords, row: list[int]) -> tuple[int, Question, str, NDArray[np.int32]]:
        """(record, question, context, characters of each of the window's tokens)."""
        number, which, _, begin, count, *_ = row
        record = texts.records[number]
        assert isinstance(record, Passage) and texts.spans is not None
        context = texts.fields(number)[0][0]
        return number, record.questions[which], record.context, texts.spans[context + begin : context + begin + count]

    def asked(self, sample: Sample) -> list[tuple[int, str]]:
        found = []
        for number, (start, end, null) in enumerate(
            zip(*(sample.targets[name].tolist() for name in ("start", "end", "null")), strict=True)
        ):
            answer = f"tokens {start} to {end}" if start != null else "no answer in this window"
            found.append((number, "nothing" if start < 0 else answer))
        return found

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        return {"span": int((examples.table[indices, 5] != NOT_SAID).sum())}


def _tokens_of(question: Question, spans: NDArray[np.int32]) -> tuple[int, int]:
    """First and last token of a question's first answer; NO_ANSWER where no token has a character of it."""
    if question.hidden:
        return NOT_SAID, NOT_SAID
    if not question.answers:
        return NO_ANSWER, NO_ANSWER
    answer = question.answers[0]
    first = int(np.searchsorted(spans[:, 1], answer.start, side="right"))
    last = int(np.searchsorted(spans[:, 0], answer.start + len(answer.text), side="left")) - 1
    return (first, last) if first <= last else (NO_ANSWER, NO_ANSWER)


class ExtractiveQA(Supervised[Backbone, Passage]):
    """The mean over windows of half the cross-entropies of the answer's first and last token, each over all tokens of the window.

    `null_threshold`: the empty answer is given where its score is more than so much above the best stretch's, if the task, or
    `unanswerable=true`, says that there may be none. The task's metrics say who scores: the scripts of SQuAD 1.1, of 2.0 (where there is
    one of questions without an answer), or CMRC's.
    """

    Examples: ClassVar[type[QuestionExamples]] = QuestionExamples

    def __init__(
        self,
        model: Backbone,
        vocabulary: Vocabulary,
        labels: Mapping[str, Labels],
        layer: Layer = "last",
        dropout: float = 0.0,
        unanswerable: bool | None = None,
        null_threshold: float = 0.0,
    ) -> None:
        super().__init__(model, layer, "last", dropout)
        if unanswerable is False and null_threshold != 0.0:
            raise Refusal(
                f"objective.null_threshold={null_threshold:g} has no effect with objective.unanswerable=false."
            )
        (task,) = labels.values()
        of_version_2 = "no_answer_accuracy" in task.metrics
        self.unanswerable = of_version_2 if unanswerable is None else unanswerable
        self.null_threshold = null_threshold
        self.span_head = linear(model.width, 2, model.initializer_range)
        self.figures = tuple(OF_CMRC) if set(task.metrics) & set(OF_CMRC) else tuple(OF_VERSION_1)
        if self.figures == tuple(OF_VERSION_1) and (of_version_2 or self.unanswerable):
            self.figures = (*OF_VERSION_2, "best_f1", "best_f1_threshold")

    def forward(self, model: Backbone, batch: Batch) -> StepOutput:
        states = self.readout.states(model, batch)
        scores = self.span_head(self.dropout(states.last)).float()
        layout = layout_of(batch)
        real = layout.real.to(scores.device)
        table = scores[layout.rows.to(scores.device)].view(len(layout.lengths), layout.longest, 2)
        table = table.masked_fill(~real[:, :, None], -torch.inf)
        first, last = table[..., 0], table[..., 1]
        total: Tensor = sum(
            F.cross_entropy(each, batch.targets[name], reduction="sum", ignore_index=-1)
            for each, name in ((first, "start"), (last, "end"))
        )  # type: ignore[assignment]
        predictions = {"first": first.detach(), "last": last.detach()}
        return StepOutput.of(states, {"span": Term(total / 2, batch.counts["span"])}, predictions)

    def rows(self, output: StepOutput, batch: Batch) -> list[Row]:
        """For each window: record, question's id, gold answers (None: not said), the null token's score, the best stretches."""
        firsts, lasts = (output.predictions[name].cpu().numpy() for name in ("first", "last"))
        longest, most = batch.extra["limits"]
        nulls, begins = batch.targets["null"].tolist(), batch.targets["window"].tolist()
        found = []
        for i, (record, question, context, spans) in enumerate(batch.extra["windows"]):
            window = slice(begins[i], begins[i] + len(spans))
            stretches = best_stretches(firsts[i, window], lasts[i, window], longest, most)
            said = [(score, context[spans[a, 0] : spans[b, 1]]) for score, a, b in stretches]
            gold = None if question.hidden else tuple(answer.text for answer in question.answers)
            null = float(firsts[i, nulls[i]] + lasts[i, nulls[i]])
            found.append((record, question.id, gold, null, tuple(said)))
        return found

    def shown(self, output: StepOutput, batch: Batch) -> list[tuple[int, str, str]]:
        found = []
        for number, (_, _, gold, null, said) in enumerate(self.rows(output, batch)):
            best = said[0] if said else (-np.inf, "")
            right = "" if gold is None else (gold[0] if gold else "no answer")
            empty = self.unanswerable and null - best[0] > self.null_threshold
            found.append((number, right, "no answer" if empty else best[1]))
        return found

    def _decided(self, rows: list[Row], unanswerable: bool) -> tuple[dict[str, str], dict[str, float]]:
        """The answer to each question, and by how much the empty one's score exceeds the best stretch's."""
        answers, margins = {}, {}
        for question, windows in itertools.groupby(
            sorted(rows, key=lambda row: str(row[1])), key=lambda row: str(row[1])
        ):
            own = list(windows)
            best = max((stretch for row in own for stretch in row[4]), default=(-np.inf, ""))
            null = min(row[3] for row in own)
            margins[question] = float(null - best[0])
            empty = unanswerable and margins[question] > self.null_threshold
            answers[question] = "" if empty else best[1]
        return answers, margins

    def score(self, rows: list[Row]) -> dict[str, float]:
        known = [row for row in rows if row[2] is not None]
        if not known:
            return {}
        gold = {str(row[1]): list(row[2]) for row in known}
        answers, margins = self._decided(known, self.unanswerable)
        if self.figures == tuple(OF_CMRC):
            figures = score_cmrc(list(gold.items()), answers)
            return {ours: figures[theirs] / 100 for ours, theirs in OF_CMRC.items()}
        if self.figures == tuple(OF_VERSION_1):
            figures = score_squad(list(gold.items()), answers, version="1.1")
            return {ours: figures[theirs] / 100 for ours, theirs in OF_VERSION_1.items()}
        figures = score_squad(list(gold.items()), answers, version="2.0")
        # the best threshold is one on the stretches that would be said if there were none
        said, _ = self._decided(known, False)
        best = score_squad(list(gold.items()), said, margins, version="2.0")
        found = {ours: figures[theirs] / 100 for ours, theirs in OF_VERSION_2.items() if theirs in figures}
        return found | {"best_f1": best["best_f1"] / 100, "best_f1_threshold": best["best_f1_thresh"]}

    def answers(self, rows: list[Row], records: Sequence[Text]) -> list[Any]:
        """For each passage {question's id: answer}."""
        decided, _ = self._decided(rows, self.unanswerable)
        found = []
        for record in records:
            assert isinstance(record, Passage)
            found.append({question.id: decided[question.id] for question in record.questions})
        return found


def best_stretches(
    first: NDArray[np.float32], last: NDArray[np.float32], longest: int, most: int
) -> list[tuple[float, int, int]]:
    """(score, first token, last token) of the `most` best of all stretches of at most `longest` tokens, by the sum of the two scores; the
    best first, of equal ones the first and shortest."""
    if not len(first):
        return []
    longest = min(longest, len(first))
    behind = np.concatenate([last, np.full(longest - 1, -np.inf, last.dtype)])
    # row a: stretches from a of 1, 2, … tokens
    sums = (first[:, None] + np.lib.stride_tricks.sliding_window_view(behind, longest)).ravel()
    most = min(most, len(first) * longest - longest * (longest - 1) // 2)
    good = np.flatnonzero(sums >= np.partition(sums, -most)[-most])
    order = good[np.argsort(-sums[good], kind="stable")][:most]
    return [(float(sums[place]), int(place // longest), int(place // longest + place % longest)) for place in order]
