"""The translation probe: its inputs, an oracle that reads translations, and runs put together. The experiment itself is slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cloze.analysis.translation import INPUTS, Score, TranslationProbe, main, probe_run, table
from cloze.cli import _guarded, _train
from cloze.errors import Refusal
from cloze.models.base import Batch, Bidirectional, HiddenStates, TokenHead
from tests.objectives.corpora import SPECIAL, numbered_corpus, random_corpus, sequences
from tests.objectives.test_tlm import doubled, words

SHIFT = 1000


@pytest.fixture(scope="module")
def probe() -> TranslationProbe:
    corpus = doubled(random_corpus(20_000, sentence=(3, 14), unknown=0.01), SHIFT)
    return TranslationProbe(corpus, words(), 40, sentences=500)


def test_the_same_words_are_hidden_in_all_three_inputs(probe: TranslationProbe) -> None:
    asked = 0
    for start in (0, 64, 448):
        samples = probe.inputs(start)
        assert tuple(samples) == INPUTS
        rows = {name: sequences(s.inputs.tokens, s.inputs.lengths) for name, s in samples.items()}
        languages = {
            name: sequences(s.inputs.languages, s.inputs.lengths)  # type: ignore[arg-type]
            for name, s in samples.items()
        }
        for name, sample in samples.items():
            assert (sample.targets["tokens"] == samples["alone"].targets["tokens"]).all()
            at = sample.targets["at"]
            assert (sample.inputs.tokens[at] == SPECIAL["mask"]).all()
            assert (sample.inputs.tokens == SPECIAL["mask"]).sum() == len(at), name
            assert sample.inputs.languages is not None and sample.inputs.segments is not None
            assert (sample.inputs.segments[at] == 0).all()
        asked += len(samples["alone"].targets["at"])
        truth = samples["alone"].inputs.tokens.copy()
        truth[samples["alone"].targets["at"]] = samples["alone"].targets["tokens"]
        whole = sequences(truth, samples["alone"].inputs.lengths)
        for number, alone in enumerate(rows["alone"]):
            n = len(alone)
            for name in ("translated", "other"):
                assert (rows[name][number][:n] == alone).all()
                assert (languages[name][number][:n] == languages["alone"][number][0]).all()
            here = languages["alone"][number][0]
            theirs = rows["translated"][number][n:]
            shift = (theirs >= 5) * (SHIFT if here == 1 else -SHIFT)
            assert (theirs + shift == whole[number]).all()  # nothing is hidden there
            assert (rows["other"][number][n:] == rows["translated"][number - 1][len(rows["alone"][number - 1]) :]).all()
    assert asked > 150
    assert {int(part[0]) for part in languages["alone"]} == {0, 1}


class Reader(Bidirectional):
    """Guesses a hidden word from the word of the other half at the same place: right where that is its translation."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.eye(2 * SHIFT))

    @property
    def word_embedding(self) -> Tensor:
        return self.embedding

    def token_head(self) -> TokenHead:
        return TokenHead()

    def depth(self, parameter_name: str) -> int:
        return 0

    def forward(self, batch: Batch, every_layer: bool = False) -> HiddenStates:
        inputs = batch.inputs
        guesses = inputs.tokens.clone()
        start = 0
        for n in inputs.layout.lengths:
            half = inputs.segments[start : start + n].tolist().count(0)  # type: ignore[index]
            for place in range(half):
                if half + place < n:
                    other = int(inputs.tokens[start + half + place])
                    guesses[start + place] = other + (SHIFT if other < SHIFT else -SHIFT)
            start += n
        return HiddenStates(torch.nn.functional.one_hot(guesses, 2 * SHIFT).float() * 30)


def test_who_reads_the_translation_is_right_where_it_is_there(probe: TranslationProbe) -> None:
    model = Reader()
    scores = probe(model, model.token_head())
    assert scores["translated"].accuracy == 1.0 and scores["translated"].nats < 1e-3
    assert scores["alone"].accuracy == 0.0 and scores["other"].accuracy < 0.05
    assert len({score.count for score in scores.values()}) == 1
    again = TranslationProbe(probe.examples.corpus, words(), 40, sentences=500)
    assert again(model, model.token_head()) == scores


def test_a_corpus_without_translations_is_refused() -> None:
    with pytest.raises(Refusal, match="needs sentences with translations"):
        TranslationProbe(numbered_corpus([[3, 4]])[0], words(), 40)


def test_the_table() -> None:
    def of(*accuracies: float) -> dict[str, Score]:
        return {name: Score(a, 1.0, 1234) for name, a in zip(INPUTS, accuracies, strict=True)}

    lines = list(table({"xlm-tlm": [of(0.3, 0.8, 0.25), of(0.4, 0.9, 0.25)], "xlm-mlm": [of(0.4, 0.3, 0.2)]}))
    assert lines[1].split() == "xlm-tlm 2 0.350 ± 0.071 0.850 ± 0.071 0.250 ± 0.000 0.500 ± 0.000".split()
    assert lines[2].split() == "xlm-mlm 1 0.400 0.300 0.200 -0.100".split()
    assert "1,234 hidden tokens" in lines[3]


def trained(folder: Path, objective: str, steps: int, *more: str) -> Path:
    run = folder / objective
    words_: list[Any] = [
        "model=xlm", f"objective={objective}", f"budget.steps={steps}", "data.anchors=0", "model.dropout=0",
        "model.attention_dropout=0", "objective.mask_ratio=0.3", "tracking=none", "hardware.threads=1", "validation.every=10000",
        f"output_dir={run}", f"cache_dir={folder / 'cache'}", *more,
    ]  # fmt: skip
    assert _guarded(_train, words_) == 0
    return run


def test_a_run_is_asked_on_its_own_validation_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path, "tlm", 2, "data.documents=60", "data.validation_documents=10", "tokenizer.vocabulary=500")
    scores = probe_run(run, sentences=40)
    assert scores == probe_run(run, sentences=40)
    capsys.readouterr()
    main([str(run), str(tmp_path / "cache")])
    assert "xlm-tlm-world_parallel" in capsys.readouterr().out
    with pytest.raises(Refusal, match="none of these is a run's folder"):
        main([str(tmp_path / "cache")])
    assert scores["alone"].count > 20 and all(np.isfinite(score.nats) for score in scores.values())


@pytest.mark.exhaustive
def test_a_translation_model_uses_the_translation_and_a_masked_one_does_not(tmp_path: Path) -> None:
    """The direction of docs/models/xlm.md's experiment, in small."""
    small = ("data.topics=4", "data.documents=2000", "data.validation_documents=100", "optimizer.learning_rate=2e-3")
    masked, translating = (probe_run(trained(tmp_path, name, 500, *small), 400) for name in ("mlm", "tlm"))
    assert translating["translated"].accuracy > masked["translated"].accuracy + 0.15
    assert translating["translated"].accuracy > masked["alone"].accuracy + 0.05
    assert translating["translated"].accuracy > translating["alone"].accuracy + 0.15
    assert translating["translated"].accuracy > translating["other"].accuracy + 0.15
    assert masked["translated"].accuracy < masked["alone"].accuracy + 0.02
