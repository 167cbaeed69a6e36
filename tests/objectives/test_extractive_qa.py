"""Answers as stretches: windows, transformers' logits and loss, n-best by brute force, the null answer, whose script scores, real SQuAD."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloze.data import keyed, tokenizers
from cloze.data.base import Answer, Labels, Passage, Question
from cloze.data.records import of_records
from cloze.data.tasks.squad import Squad
from cloze.errors import Refusal
from cloze.objectives.extractive_qa import (
    NO_ANSWER,
    NOT_SAID,
    ExtractiveQA,
    QuestionExamples,
    _tokens_of,
    best_stretches,
)
from cloze.scoring.cmrc import score_cmrc
from cloze.scoring.squad import score_squad
from tests.data.corpora import Memory
from tests.data.test_records import KINDS, TEXTS, trained_tokenizers
from tests.objectives.labelled import (
    FIRST,
    NAMES,
    SIZE,
    VOCABULARY,
    batch,
    built,
    copied,
    family,
    loss,
    near,
    of_transformers,
    padded,
    tokenized,
)

ONE = {"task": Labels((), ("f1", "exact_match"))}
TWO = {"task": Labels((), ("f1", "exact_match", "no_answer_accuracy"))}
CMRC = {"task": Labels((), ("cmrc_f1", "cmrc_exact_match"))}


def passage(chance: np.random.Generator, size: int, asked: int, number: int = 0, unanswerable: float = 0.0) -> Passage:
    """A context of `size` different tokens; answers are stretches of them, or there are none."""
    words = [str(FIRST + (n * 7 + number) % (SIZE - FIRST)) for n in range(size)]
    context, questions = " ".join(words), []
    for n in range(asked):
        first = int(chance.integers(size))
        last = min(size - 1, first + int(chance.integers(6)))
        text = " ".join(words[first : last + 1])
        answers = () if chance.random() < unanswerable else (Answer(text, len(" ".join([*words[:first], ""]))),)
        question = " ".join(map(str, chance.integers(FIRST, SIZE, chance.integers(1, 12))))
        questions.append(Question(f"{number}-{n}", question, answers))
    return Passage((context,), questions=tuple(questions))


def passages(count: int = 4, seed: int = 0, unanswerable: float = 0.0) -> list[Passage]:
    chance = np.random.default_rng(seed)
    return [passage(chance, int(chance.integers(1, 60)), 3, n, unanswerable) for n in range(count)]


def examples_of(made: list[Passage], name: str = "bert.Bert", length: int = 32, **more: Any) -> Any:
    asked = {"stride": 8, "question_length": 6, "answer_length": 5, "n_best": 4, **more}
    builder = QuestionExamples(VOCABULARY, length, family(name), **asked)
    return builder, builder.build(tokenized(made), 0)


# windows


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 70), st.integers(18, 60), st.integers(1, 40), st.integers(1, 7),
    st.sampled_from(["bert.Bert", "xlnet.XLNet", "bart.Bart"]),
)  # fmt: skip
def test_windows(size: int, length: int, stride: int, asked: int, name: str) -> None:
    """They cover every token of the context, fit, and the answer is told in exactly those that hold it whole."""
    made = [passage(np.random.default_rng(size), size, 3, unanswerable=0.3)]
    builder, examples = examples_of(made, name, length, stride=stride, question_length=asked)
    texts = tokenized(made)
    assert texts.spans is not None
    indices = np.arange(len(examples))
    sample = builder.sample(examples, indices, keyed.keys(0, indices))
    assert sample.inputs.lengths.tolist() == examples.lengths.tolist() and examples.lengths.max() <= length
    assert sample.counts == {"span": len(examples)} == builder.counts(examples, indices, keyed.keys(0, indices))
    (context, context_end), *_ = texts.fields(0)
    rows = np.split(sample.inputs.tokens, np.cumsum(sample.inputs.lengths)[:-1])
    for which, question in enumerate(made[0].questions):
        windows = [n for n, row in enumerate(examples.table.tolist()) if row[1] == which]
        covered: set[int] = set()
        starts = []
        for n in windows:
            _, _, taken, begin, count, *_ = examples.table[n].tolist()
            at = int(sample.targets["window"][n])
            assert rows[n][at : at + count].tolist() == texts.tokens[context + begin : context + begin + count].tolist()
            covered |= set(range(begin, begin + count))
            starts.append(begin)
            null = int(sample.targets["null"][n])
            assert null == (len(rows[n]) - 1 if name == "xlnet.XLNet" else 0)
            told = int(sample.targets["start"][n]), int(sample.targets["end"][n])
            first, last = _tokens_of(question, texts.spans[context:context_end])
            if question.answers and begin <= first and last < begin + count:
                assert told == (at + first - begin, at + last - begin)
                said = question.answers[0].text.split()
                assert rows[n][told[0] : told[1] + 1].tolist() == [int(word) for word in said]
            else:
                assert told == (null, null)
            assert taken == min(len(question.text.split()), asked)
        assert covered == set(range(context_end - context))
        room = length - builder.frame.specials(2) - taken
        assert all(b - a == min(stride, room) for a, b in itertools.pairwise(starts))
        over = examples.table[windows, 7].tolist()
        assert over == [0] * (len(windows) - 1) + [1]
        assert all(begin + room < size for begin in starts[:-1])


def test_a_context_of_no_token_and_answers_of_none() -> None:
    made = [
        Passage(("-",), questions=(Question("a", "11"),)),
        Passage(("11 - 12",), questions=(Question("b", "11", (Answer("-", 3),)), Question("c", "13", hidden=True))),
    ]
    builder, examples = examples_of(made)
    assert examples.table[:, 4:7].tolist() == [
        [0, NO_ANSWER, NO_ANSWER],
        [2, NO_ANSWER, NO_ANSWER],
        [2, NOT_SAID, NOT_SAID],
    ]
    assert examples.notes == ("1 answers are of no token: read as not there",)
    objective = ExtractiveQA(built("bert.Bert"), VOCABULARY, TWO).eval()
    made_batch = batch(builder.judge(), examples)
    with torch.no_grad():
        output = objective(built("bert.Bert"), made_batch)
    assert output.terms["span"].count == 2
    rows = objective.rows(output, made_batch)
    assert objective.answers(rows, made)[0] == {"a": ""} and rows[0][4] == ()
    assert set(objective.score(rows)) <= set(objective.figures)


def test_several_answers_the_first_is_learnt() -> None:
    made = [Passage(("11 12 13",), questions=(Question("a", "14", (Answer("12 13", 3), Answer("11", 0))),))]
    _, examples = examples_of(made)
    assert examples.table[0, 5:7].tolist() == [1, 2]


# the model


def test_bert_for_question_answering() -> None:
    theirs, model = of_transformers(
        "BertForQuestionAnswering", "bert.Bert", hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48,
    )  # fmt: skip
    builder, examples = examples_of(passages())
    objective = ExtractiveQA(model, VOCABULARY, ONE).eval()
    copied(objective.span_head, theirs.qa_outputs.weight, theirs.qa_outputs.bias)
    whole = batch(builder, examples)
    total = 0.0
    with torch.no_grad():
        output = objective(model, whole)
        for n, length in enumerate(whole.inputs.layout.lengths):  # one by one: theirs counts padding among the places
            table = padded(batch(builder, examples, [n]))
            places = {f"{name}_positions": whole.targets[name][n : n + 1] for name in ("start", "end")}
            expected = theirs(**table, **places)
            near(output.predictions["first"][n, :length], expected.start_logits[0])
            near(output.predictions["last"][n, :length], expected.end_logits[0])
            assert torch.isneginf(output.predictions["first"][n, length:]).all()
            total += float(expected.loss)
    near(loss(output), torch.tensor(total / len(examples)))


@pytest.mark.parametrize("name", NAMES)
def test_every_family_scores_the_tokens_of_its_text(name: str) -> None:
    model = built(name)
    objective = ExtractiveQA(model, VOCABULARY, ONE).eval()
    builder, examples = examples_of(passages(2), name)
    whole = batch(builder, examples)
    with torch.no_grad():
        output = objective(model, whole)
    assert torch.isfinite(loss(output))
    given = whole.inputs if whole.decoder is None else whole.decoder
    assert output.predictions["first"].shape == (len(examples), given.layout.longest)
    assert torch.isfinite(output.predictions["first"]).sum() == len(given.tokens)


# what is said


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 14), st.integers(1, 16), st.integers(1, 40), st.integers(0, 1000), st.booleans())
def test_the_best_stretches_are_those_of_brute_force(size: int, longest: int, most: int, seed: int, ties: bool) -> None:
    chance = np.random.default_rng(seed)
    first, last = (
        (chance.integers(0, 3, size) if ties else chance.normal(size=size)).astype(np.float32) for _ in range(2)
    )
    everything = sorted(
        ((float(first[a] + last[b]), a, b) for a in range(size) for b in range(a, min(size, a + longest))),
        key=lambda each: (-each[0], each[1], each[2]),
    )
    assert best_stretches(first, last, longest, most) == everything[:most]


def row(question: str, gold: Any, null: float, *said: tuple[float, str]) -> Any:
    return (0, question, gold, null, said)


def test_the_empty_answer_by_hand() -> None:
    """The lowest null score of all windows against the best stretch of all."""
    rows = [
        row("a", ("cat",), 5.0, (2.0, "dog"), (1.0, "cow")), row("a", ("cat",), 1.0, (3.0, "cat")),
        row("b", (), 4.0, (3.5, "hen")), row("b", (), 6.0, (-1.0, "fox")),
        row("c", (), 1.5, (3.0, "ox")),
    ]  # fmt: skip
    model = built("bert.Bert")
    made = [Passage(("x",), questions=tuple(Question(n, "?") for n in "abc"))]
    for threshold, answers in ((0.0, ["cat", "", "ox"]), (0.6, ["cat", "hen", "ox"]), (-2.5, ["", "", ""])):
        objective = ExtractiveQA(model, VOCABULARY, TWO, null_threshold=threshold)
        assert objective.answers(rows, made) == [dict(zip("abc", answers, strict=True))]
    objective = ExtractiveQA(model, VOCABULARY, TWO)
    figures = objective.score(rows)
    assert figures["exact_match"] == pytest.approx(2 / 3) and figures["no_answer_accuracy"] == 0.5
    assert figures["has_answer_f1"] == 1.0 and set(figures) == set(objective.figures)
    # the margins are -2, 0.5 and -1.5: all three would be right if those above -2 were empty
    assert figures["best_f1"] == 1.0 and figures["best_f1_threshold"] == -2.0
    never = ExtractiveQA(model, VOCABULARY, TWO, unanswerable=False)
    assert never.answers(rows, made) == [{"a": "cat", "b": "hen", "c": "ox"}]
    assert never.score(rows)["no_answer_accuracy"] == 0.0  # and such data can still be scored
    plain = ExtractiveQA(model, VOCABULARY, ONE)
    assert plain.figures == ("f1", "exact_match") and plain.score(rows[:2]) == {"f1": 1.0, "exact_match": 1.0}
    asked = ExtractiveQA(model, VOCABULARY, ONE, unanswerable=True)
    assert asked.figures == objective.figures and asked.score(rows) == figures


def test_answers_of_a_test_file_may_be_empty_too() -> None:
    """The file does not say which questions have none; the task does."""
    made = [Passage(("x",), questions=(Question("a", "?", hidden=True),))]
    rows = [row("a", None, 2.0, (1.0, "cat"))]
    for labels, answer in ((TWO, ""), (ONE, "cat")):
        objective = ExtractiveQA(built("bert.Bert"), VOCABULARY, labels)
        assert objective.answers(rows, made) == [{"a": answer}]
        assert objective.score(rows) == {}


def test_chinese_answers_are_scored_by_cmrcs_rules() -> None:
    rows = [row("a", ("日本的首都", "首都"), 0.0, (1.0, "的首都东京")), row("b", ("1810年",), 0.0, (1.0, "1810年。"))]
    objective = ExtractiveQA(built("bert.Bert"), VOCABULARY, CMRC)
    gold = [("a", ["日本的首都", "首都"]), ("b", ["1810年"])]
    expected = score_cmrc(gold, {"a": "的首都东京", "b": "1810年。"})
    assert objective.figures == ("cmrc_f1", "cmrc_exact_match")
    assert objective.score(rows) == {"cmrc_f1": expected["F1"] / 100, "cmrc_exact_match": expected["EM"] / 100}
    assert 0.5 < objective.score(rows)["cmrc_f1"] < 1.0 and objective.score(rows)["cmrc_exact_match"] == 0.5


def test_the_data_say_who_scores(tmp_path: Path) -> None:
    from cloze.compose import defaults

    assert defaults("data", "cmrc")["scored_by"] == "cmrc" and defaults("data", "squad")["scored_by"] == "squad"
    file = tmp_path / "train.json"
    for version, impossible, metrics in (("1.1", "", ONE), ("v2.0", ', "is_impossible": true', TWO)):
        answers = "[]" if impossible else '[{"text": "mill", "answer_start": 4}]'
        file.write_text(
            f'{{"version": "{version}", "data": [{{"title": "t", "paragraphs": [{{"context": "The mill", "qas": '
            f'[{{"id": "1", "question": "What?", "answers": {answers}{impossible}}}]}}]}}]}}'
        )
        (labels,) = Squad(path=str(file), validation_share=0.0).labels.values()
        assert labels.metrics == metrics["task"].metrics
    (labels,) = Squad(path=str(file), validation_share=0.0, scored_by="cmrc").labels.values()
    assert labels.metrics == CMRC["task"].metrics


def test_figures_do_not_depend_on_batches_or_their_order() -> None:
    """Also where a question's windows lie in different batches; and they are the script's of the answers."""
    made = passages(5, unanswerable=0.3)
    model = built("bert.Bert")
    builder, examples = examples_of(made)
    objective = ExtractiveQA(model, VOCABULARY, TWO).eval()
    found = []
    for order, size in ((np.arange(len(examples)), 64), (np.random.default_rng(3).permutation(len(examples)), 3)):
        metrics, rows = objective.metrics(), []
        for start in range(0, len(order), size):
            each = batch(builder.judge(), examples, order[start : start + size])
            with torch.no_grad():
                output = objective(model, each)
            objective.measure(metrics, output, each)
            rows += objective.rows(output, each)
        found.append(({name: float(m.compute()) for name, m in metrics.items()}, objective.answers(rows, made)))
    assert found[0][1] == found[1][1]
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    figures, answers = found[0]
    gold = [(q.id, [answer.text for answer in q.answers]) for each in made for q in each.questions]
    expected = score_squad(gold, {name: said for each in answers for name, said in each.items()}, version="2.0")
    assert figures["f1"] == pytest.approx(expected["f1"] / 100)
    assert figures["no_answer_accuracy"] == pytest.approx(expected["NoAns_exact"] / 100)
    contexts = {q.id: each.context for each in made for q in each.questions}
    assert all(said in contexts[name] for each in answers for name, said in each.items())


def test_a_model_that_knows_the_answers_gets_all_of_them() -> None:
    """Scores that are the targets themselves: through windows and characters back to the text."""
    made = passages(6)
    builder, examples = examples_of(made, answer_length=6)
    objective = ExtractiveQA(built("bert.Bert"), VOCABULARY, ONE)
    each = batch(builder.judge(), examples)
    longest = each.inputs.layout.longest
    places = {name: torch.nn.functional.one_hot(each.targets[name], longest).float() for name in ("start", "end")}
    output: Any = type("Output", (), {"predictions": {"first": places["start"], "last": places["end"]}})
    assert objective.score(objective.rows(output, each)) == {"f1": 1.0, "exact_match": 1.0}
    shown = objective.shown(output, each)
    assert any(said == right for _, right, said in shown)


def test_refusals() -> None:
    for settings_, message in (
        ({"stride": 0}, "objective.stride=0 must be at least 1"),
        ({"n_best": -1}, "objective.n_best=-1 must be at least 1"),
        ({"question_length": 40}, r"objective.question_length=40 leaves no room .*question_length=14 or length=83"),
    ):
        with pytest.raises(Refusal, match=message):
            examples_of([], **settings_)  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="null_threshold=1 has no effect with "):
        ExtractiveQA(built("bert.Bert"), VOCABULARY, ONE, unanswerable=False, null_threshold=1.0)


# real tokenizers and texts


def test_every_word_is_found_again_by_its_characters() -> None:
    """An answer → its tokens → its characters, with every kind of tokenizer."""
    for name, tokenizer in trained_tokenizers().items():
        for text in TEXTS[:6]:
            spans = tokenizer.encode_spans([text])[3]
            place = 0
            for word in text.split():
                start = text.index(word, place)
                place = start + len(word)
                first, last = _tokens_of(Question("q", "?", (Answer(word, start),)), spans)
                assert 0 <= first <= last
                assert text[spans[first, 0] : spans[last, 1]] == word, (name, text, word)
    assert len(KINDS) == 10


@pytest.mark.data
@pytest.mark.parametrize(("kind", "share"), [("wordpiece_lower", 0.985), ("byte_bpe", 0.97), ("unigram", 0.9)])
def test_answers_of_the_real_squad_come_back(kind: str, share: float, shared_data: Path) -> None:
    """All but those that begin or end inside a token: "US" in "USA", and where pieces may hold a word and the comma behind it."""
    corpus = Squad(
        validation_path=str(shared_data / "qa/squad/dev-v1.1.json"),
        path=str(shared_data / "qa/squad/train-small-v1.1.json"),
    )
    records = [record for record in corpus.split_records("validation") if isinstance(record, Passage)][:150]
    text = Memory([[("", record.context) for record in records]])
    settings_: dict[str, Any] = {
        "wordpiece_lower": tokenizers.WordPiece(vocabulary=3000, lowercase=True),
        "byte_bpe": tokenizers.ByteLevelBPE(vocabulary=3000),
        "unigram": tokenizers.Unigram(vocabulary=2000),
    }
    roles = ("pad", "cls", "sep", "mask") if kind == "byte_bpe" else ("pad", "unk", "cls", "sep", "mask")
    made = of_records(records, settings_[kind].trained(text, roles, 0))
    same = close = count = 0
    for number, record in enumerate(records):
        (start, end), *_ = made.fields(number)
        assert made.spans is not None
        spans = made.spans[start:end]
        for question in record.questions:
            first, last = _tokens_of(question, spans)
            said, answer = record.context[spans[first, 0] : spans[last, 1]], question.answers[0].text
            count += 1
            same += said == answer
            close += answer.strip() in said
    print(f"{kind}: {same} of {count} answers come back as they are, {close} within what comes back")
    assert close == count and same / count > share
