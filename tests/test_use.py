"""What a run leaves is used: every model under every objective that fits is saved, loaded, asked for all that it can do, evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cloze
from cloze.check import built_by
from cloze.compose import choices
from cloze.data.base import TokenizedCorpus
from cloze.errors import Refusal
from cloze.evaluation import evaluate
from cloze.inference import Filled, Vectors, samples
from cloze.matrix import cells
from cloze.models.base import EncoderDecoder
from cloze.models.storage import save_model
from cloze.prepare import Prepared
from cloze.run import description
from tests.test_conformance import FROM_LABELS, batch, prepared, tried

CELLS = [cell for cell in cells() if cell.data is not None and built_by("objective")[cell.objective].trains]
OWN = {  # a family's own way of learning; what each makes of a text without being told
    "bert": ("mlm", "fill"), "roberta": ("mlm", "fill"), "albert": ("mlm_sop", "fill"), "mbert": ("mlm", "fill"),
    "xlm": ("tlm", "fill"), "electra": ("replaced_token", "replaced"), "unilm": ("unilm", "fill"),
    "xlnet": ("permutation_lm", "fill"), "gpt": ("clm", "continue"), "gpt2": ("clm", "continue"),
    "transformer_xl": ("clm_lanes", "continue"), "t5": ("span_corruption", "fill"), "t5_v1_1": ("span_corruption", "fill"),
    "switch": ("span_corruption", "fill"), "bart": ("denoise", "rewrite"), "mass": ("masked_fragment", "fill"),
    "elmo": ("bilm", "vectors"),
}  # fmt: skip


def test_every_model_has_its_own() -> None:
    assert set(OWN) == set(choices("model"))
    assert {(model, objective) for model, (objective, _) in OWN.items()} <= {(c.model, c.objective) for c in CELLS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("use")


def some(text: TokenizedCorpus, documents: int = 2) -> TokenizedCorpus:
    """The first documents of a split."""
    last = int(text.sentences[text.documents[documents]])
    sentences = np.asarray(text.sentences[: text.documents[documents] + 1])
    return TokenizedCorpus(
        np.asarray(text.tokens[:last]), np.asarray(text.word_starts[:last]), sentences,
        np.asarray(text.documents[: documents + 1]), np.asarray(text.topics[:documents]), 5 * last, 5 * last, last,
    )  # fmt: skip


def left_by(parts: Prepared, folder: Path) -> Path:
    """The model folder of a run that made no step."""
    modules = torch.nn.ModuleDict({"model": parts.model, "objective": parts.objective})
    save_model(folder / "model", modules.state_dict(), description(parts))
    parts.tokenizer.save(folder / "model", parts.checked.top.length)
    return folder / "model"


@pytest.mark.parametrize(
    ("model", "objective", "data"),
    [
        pytest.param(
            cell.model, cell.objective, cell.data,
            marks=() if OWN[cell.model][0] == cell.objective else pytest.mark.slow, id=f"{cell.model}-{cell.objective}",
        )
        for cell in CELLS
        if cell.objective not in FROM_LABELS
    ],
)  # fmt: skip
def test_a_run_is_used(model: str, objective: str, data: str, folder: Path) -> None:
    parts = prepared(folder, model, objective, data)
    table = samples(parts.model, parts.objective, parts.tokenizer, batch(parts, 0), limit=2)
    assert all(len(row) == len(table.columns) for row in table.rows)
    loaded = cloze.load(left_by(parts, folder))
    own, task = OWN[model]
    if own == objective:
        assert loaded.task == task
        assert table.rows or objective == "replaced_token"
    sentinels = bool(loaded.tokenizer.vocabulary.sentinels)
    for asked in loaded.tasks:
        blank = "Leon was a [MASK] in East." if asked == "fill" else "Leon was a carpenter."
        said = loaded.predict([blank, blank], task=asked)
        assert len(said) == 2
        if isinstance(said[0], Vectors):
            assert said[0].values.isfinite().all() and len(said[0].values) == len(said[0].tokens)
        elif isinstance(said[0], Filled):
            assert len(said[0].blanks) == 1 and len(said[0].blanks[0]) == 5
        else:
            assert said == loaded.predict([blank, blank], task=asked)
    if isinstance(loaded.model, EncoderDecoder):
        assert ("fill" in loaded.tasks) == (sentinels or objective == "masked_fragment")
    try:
        found = evaluate(loaded, some(parts.validation_text), pseudo_tokens=60)
    except Refusal as refusal:
        # no probability of a text: encoder-decoders, and a discriminator, whose generator is not what is evaluated
        assert isinstance(loaded.model, EncoderDecoder) or objective == "replaced_token", refusal
        return
    assert len(found) == (2 if model == "elmo" else 1)
    # Nothing has been learnt: about as many choices as there are tokens. XLM's embedding begins with much spread, so a state that is
    # still much like its own token's embedding takes that token for the next one.
    size = loaded.tokenizer.vocabulary.size
    assert all(size / 4 < each.perplexity < size * 8 for each in found)


SAID = {  # as `cloze predict` takes it: what is one example has tabs between its texts
    "classify": "Clara lost the lamp.\tThe lamp was lost by Clara.", "verbalise": "Clara lost the lamp.\tThe lamp was lost by Clara.",
    "tag": "Clara lost the lamp .", "choose": "Clara came in.\t\tShe sat down.\tIt was late.",
    "extractive_qa": "Who lost the lamp?\tClara lost the lamp.",
    "sequence_to_sequence": "Clara lost the lamp.",
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "objective"),
    [
        pytest.param(cell.model, cell.objective, marks=() if cell.model == "bert" else pytest.mark.slow)
        for cell in CELLS
        if cell.objective in FROM_LABELS
    ],
)
def test_a_run_that_learnt_from_labels_is_used(model: str, objective: str, folder: Path) -> None:
    parts = prepared(folder, model, objective, tried(objective)[0])
    loaded = cloze.load(left_by(parts, folder))
    assert loaded.task == "judge"
    (answer,) = loaded.predict([SAID[objective]])
    _, *texts = SAID[objective].split("\t")
    if objective in ("classify", "verbalise"):
        assert answer in ("0", "1")
    elif objective == "tag":
        assert [pair.rpartition("/")[0] for pair in str(answer).split(" ")] == SAID[objective].split()
    elif objective == "sequence_to_sequence":
        assert isinstance(answer, str)  # whatever a model of two steps writes, it ends
    else:
        assert answer in texts if objective == "choose" else str(answer) in texts[0]
    (vectors,) = loaded.predict(["Clara lost the lamp."], task="vectors")
    assert vectors.values.isfinite().all()
