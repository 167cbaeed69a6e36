"""The judge of NSP and SOP: its regression against scikit-learn's, its verdict on models whose knowledge is known."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cloze.analysis.pair_judge import PairJudge, fit_logistic, probe_accuracy
from cloze.data.base import TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.folder import RunFolder
from cloze.models.base import Batch, Bidirectional, HiddenStates, TokenHead
from cloze.models.bert import Bert
from cloze.objectives.mlm import MaskedLM
from cloze.session import train
from tests.objectives.corpora import numbered_corpus, random_corpus, vocabulary
from tests.training import jobs


def test_the_regression_is_scikit_learns() -> None:
    linear_model = import_module("sklearn.linear_model")
    generator = np.random.default_rng(0)
    for width, count in ((1, 50), (20, 300), (40, 30)):
        x = generator.normal(size=(count, width))
        y = (x[:, 0] + generator.normal(size=count) > 0.3).astype(np.int64)
        reference = linear_model.LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(x, y)
        weights, bias = fit_logistic(x, y)
        assert np.allclose(weights, reference.coef_[0], atol=1e-4)
        assert bias == pytest.approx(float(reference.intercept_[0]), abs=1e-4)


def test_the_regression_stands_separable_and_constant_features() -> None:
    x = np.column_stack([np.linspace(-1000, 1000, 100), np.zeros(100)])
    y = (x[:, 0] > 0).astype(np.int64)
    assert probe_accuracy(x, y, x, y) == 1.0
    assert fit_logistic(x, y)[0][1] == 0


class NoHead(TokenHead):
    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        return hidden @ embedding.t()


class Knowing(Bidirectional):
    """Reads from tokens that are numbered through what it is told to know, and puts it on [CLS]."""

    def __init__(self, knows: str) -> None:
        super().__init__()
        self.knows = knows
        self.width = 3
        self.word = nn.Parameter(torch.zeros(1, 3))

    @property
    def word_embedding(self) -> Tensor:
        return self.word

    def token_head(self) -> TokenHead:
        return NoHead()

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        inputs = batch.inputs
        assert inputs.segments is not None
        last = torch.zeros(len(inputs.tokens), 3)
        for start, n in zip(inputs.layout.starts().tolist(), inputs.layout.lengths, strict=True):
            tokens, segments = inputs.tokens[start : start + n], inputs.segments[start : start + n]
            assert 4 not in tokens, "something is hidden"
            first, second = tokens[(segments == 0) & (tokens > 4)], tokens[(segments == 1) & (tokens > 4)]
            backwards = float(second[0] < first[0])
            elsewhere = float((second[0] - first[-1]).abs() > 300)
            last[start] = torch.tensor(
                {"order": [backwards, 0.3, 0], "topic": [0, 0.3, elsewhere]}.get(self.knows, [0.0] * 3)
            )
        return HiddenStates(last)

    def depth(self, parameter_name: str) -> int:
        return 0

    def pool(self, states: HiddenStates, batch: Batch) -> Tensor:
        return states.last[batch.inputs.layout.starts()]


@pytest.fixture(scope="module")
def numbered() -> tuple[TokenizedCorpus, Vocabulary]:
    """Documents of about 200 tokens, numbered through: what is of one document is near in number."""
    generator = np.random.default_rng(0)
    return numbered_corpus([generator.integers(3, 20, 18).tolist() for _ in range(150)])


@pytest.mark.parametrize(
    ("knows", "low", "high"),
    [("order", "nsp", "sop"), ("topic", "sop", "nsp")],
)
def test_a_model_is_found_to_know_what_it_knows(
    numbered: tuple[TokenizedCorpus, Vocabulary], knows: str, low: str, high: str
) -> None:
    corpus, words = numbered
    model = Knowing(knows)
    scores = PairJudge(["nsp", "sop"], corpus, corpus, words, 100, 0, pairs=600)(model, MaskedLM(model, words))
    assert set(scores) == {"judge/nsp_probe_accuracy", "judge/sop_probe_accuracy"}, (
        "there is no head without a pair loss"
    )
    assert scores[f"judge/{high}_probe_accuracy"] > 0.97
    # a random partner stands before or behind: knowing the order answers half of the negatives
    assert scores[f"judge/{low}_probe_accuracy"] < (0.8 if knows == "order" else 0.58)


def test_the_trained_head_is_asked_both_tasks(numbered: tuple[TokenizedCorpus, Vocabulary]) -> None:
    corpus, words = numbered
    model = Knowing("order")
    objective = MaskedLM(model, words, pair="sop")
    assert objective.pair_head is not None
    with torch.no_grad():
        objective.pair_head.weight.copy_(torch.tensor([[-1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]))
    scores = PairJudge(["nsp", "sop"], corpus, corpus, words, 100, 0, pairs=600)(model, objective)
    assert scores["judge/sop_head_accuracy"] > 0.97
    # positives are in order: right; of the negatives half are behind the first segment: wrong
    assert 0.68 < scores["judge/nsp_head_accuracy"] < 0.82


def test_an_ignorant_model_is_at_chance(numbered: tuple[TokenizedCorpus, Vocabulary]) -> None:
    corpus, words = numbered
    model = Knowing("nothing")
    scores = PairJudge(["sop"], corpus, corpus, words, 100, 0, pairs=2000)(model, MaskedLM(model, words))
    assert scores["judge/sop_probe_accuracy"] == pytest.approx(0.5, abs=0.05)


def test_words_are_masked_in_pairs_as_the_text_has_them(numbered: tuple[TokenizedCorpus, Vocabulary]) -> None:
    """Also beside tasks whose pairs are of other documents, or swapped."""
    corpus, words = numbered
    judge = PairJudge(["nsp", "mlm", "sop"], corpus, corpus, words, 100, 0, pairs=600)
    pairs = judge._data["mlm"]["validation"].masked(0, 600).extra["pairs"]
    second = pairs.sizes[:, 1] > 0
    assert second.mean() > 0.9
    assert (pairs.documents[:, 0] == pairs.documents[:, 1])[second].all()
    assert (pairs.starts[:, 0] + pairs.sizes[:, 0] <= pairs.starts[:, 1])[second].all()


def test_a_model_that_always_says_one_word_is_right_as_often_as_it_stands_in_the_text() -> None:
    corpus, words = random_corpus(30_000, size=12), vocabulary(12)
    model = Bert(12, 48, pooler=True, layers=1, width=16, heads=2, inner=16)
    objective = MaskedLM(model, words, pair="sop")
    with torch.no_grad():
        objective.head.bias[7] = 1e3  # type: ignore[index]
    found = PairJudge(["mlm"], corpus, corpus, words, 48, 0, pairs=500)(model, objective)
    share = float((corpus.tokens == 7).mean())
    hidden = 500 * 0.15 * 40
    assert found["judge/mlm_accuracy"] == pytest.approx(share, abs=4 * (share * (1 - share) / hidden) ** 0.5)


def test_judging_leaves_the_run_as_it_was() -> None:
    corpus, words = random_corpus(4000, size=99), vocabulary(99)
    torch.manual_seed(0)
    model = Bert(99, 48, pooler=True, layers=1, width=16, heads=2, inner=16)
    objective = MaskedLM(model, words, pair="nsp")
    model.train()
    objective.eval()
    before = torch.get_rng_state()
    asked = PairJudge(["nsp", "sop"], corpus, corpus, words, 48, seed=1, pairs=150)
    first, second = asked(model, objective), asked(model, objective, batch_size=7)
    assert (torch.get_rng_state() == before).all()
    assert model.training
    assert not objective.training
    assert first == pytest.approx(second, abs=0.02)
    assert set(first) == {f"judge/{task}_{way}_accuracy" for task in ("nsp", "sop") for way in ("head", "probe")}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_corpus_that_has_no_pairs_is_refused_beforehand() -> None:
    good, alone = random_corpus(2000), random_corpus(500, document=(1, 1))
    with pytest.raises(Refusal, match=r"objective\.judge=sop on the validation split: .* at least 2 sentences"):
        PairJudge(["sop"], good, alone, vocabulary(), 64, 0)
    with pytest.raises(Refusal, match=r"objective\.judge=nsp on the train split: .* the corpus has 1"):
        PairJudge(["nsp"], TokenizedCorpus.of([[[7], [8]]]), good, vocabulary(), 64, 0)


def test_a_run_is_judged_at_its_end_and_its_weights_are_the_same(tmp_path: Path) -> None:
    digests = []
    for name, asked in (("plain", ()), ("judged", ("mlm", "nsp", "sop"))):
        made = jobs.parts(objective="mlm_sop", steps=4)
        made.objective.judge = asked  # type: ignore[assignment]
        folder = RunFolder.take(tmp_path / name, None, "test")
        facts = train(made, folder)
        digests.append(facts["weights_sha256"])
        scores = {name: value for name, value in facts["metrics"].items() if name.startswith("judge/")}
        assert len(scores) == (5 if asked else 0)
        if asked:
            last = list(folder.points())[-1]
            assert {name: last[name] for name in scores} == scores
            assert last["step"] == 4
    assert digests[0] == digests[1]
