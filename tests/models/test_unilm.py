"""UniLM is BERT under the pattern that each sequence of a batch brings: against transformers' BERT with 4-D masks."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor

import cloze
from cloze.check import check
from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.loading import export, families
from cloze.models.base import Batch, Sequences
from cloze.models.bert import Bert
from cloze.models.layout import Layout, Way
from cloze.models.unilm import UniLM
from cloze.objectives.unilm import Mixed
from cloze.run import initialised
from tests.models.parity import scramble
from tests.pretrained import FAMILIES, saved_run

transformers = import_module("transformers")

WORDS, LENGTH = 60, 24
SHAPE = {"layers": 3, "width": 48, "heads": 4, "inner": 80}
# in one batch: bidirectional, left to right, right to left, sequence to sequence, and a sequence of one token
LENGTHS = [9, 24, 17, 13, 1]
PATTERNS = ["bidirectional", "left", "right", 6, "left"]


def mixed(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Padded tokens, segments and (B, 1, L, L) who sees whom, written out pattern by pattern."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(LENGTHS), max(LENGTHS)
    tokens = torch.randint(0, WORDS, shape, generator=generator)
    segments = torch.randint(0, 6, shape, generator=generator)
    seen = torch.zeros(shape[0], 1, shape[1], shape[1], dtype=torch.bool)
    for row, (n, pattern) in enumerate(zip(LENGTHS, PATTERNS, strict=True)):
        for query in range(n):
            for key in range(n):
                seen[row, 0, query, key] = {"bidirectional": True, "left": key <= query, "right": key >= query}.get(
                    str(pattern), isinstance(pattern, int) and (key < pattern or key <= query)
                )
    for row, n in enumerate(LENGTHS):
        seen[row, 0, n:, 0] = True  # padding must see something, or its softmax is no number
    return tokens, segments, seen


def laid_out(tokens: Tensor, segments: Tensor, way: Way | None = None) -> tuple[Batch, Tensor]:
    """The same batch as UniLM reads it, and where each of its rows stands in the padded one."""
    rows, columns, prefix = [], [], []
    for row, (n, pattern) in enumerate(zip(LENGTHS, PATTERNS, strict=True)):
        rows += [row] * n
        columns += range(n)[:: -1 if pattern == "right" else 1]
        prefix.append(pattern if isinstance(pattern, int) else n if pattern == "bidirectional" else 0)
    place = torch.tensor(rows), torch.tensor(columns)
    layout = Layout(LENGTHS, "prefix", prefix, way=way)
    return Batch(Sequences(tokens[place], layout, place[1], segments[place]), {}, {}, {}), place[0] * max(
        LENGTHS
    ) + place[1]


@pytest.mark.parametrize("way", [None, "padded"])
def test_four_patterns_in_one_batch(way: Way | None) -> None:
    config = transformers.BertConfig(
        vocab_size=WORDS, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=80,
        max_position_embeddings=30, type_vocab_size=6,
    )  # fmt: skip
    theirs = transformers.BertForMaskedLM(config).eval()
    scramble(theirs)
    settings, weights = UniLM.from_transformers(json.loads(config.to_json_string()), theirs.state_dict())
    model = UniLM(WORDS, LENGTH, False, **settings).eval()
    model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    head = model.token_head().eval()
    head.load_state_dict({k.removeprefix("objective.head."): v for k, v in weights.items() if "objective.head" in k})

    tokens, segments, seen = mixed()
    batch, places = laid_out(tokens, segments, way)
    with torch.no_grad():
        states = model(batch, every_layer=True)
        expected = theirs(tokens, attention_mask=seen, token_type_ids=segments, output_hidden_states=True)
        logits = head(states.last, model.word_embedding)
    for ours, layer in zip(states.layers, expected.hidden_states, strict=True):
        assert (ours - layer.flatten(0, 1)[places]).abs().max() <= 1e-5
    assert (logits - expected.logits.flatten(0, 1)[places]).abs().max() <= 1e-5

    config_back, back = UniLM.to_transformers(settings, weights, Vocabulary(WORDS, {"pad": 0}))
    assert config_back["model_type"] == "bert" and config_back["architectures"] == ["BertForMaskedLM"]
    for name, tensor in back.items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize("pattern", ["bidirectional", "causal"])
def test_a_batch_of_one_pattern_is_the_same_as_a_prefix_that_says_it(pattern: str) -> None:
    model = UniLM(WORDS, LENGTH, False, **SHAPE).eval()
    scramble(model)
    tokens = torch.randint(0, WORDS, (30,), generator=torch.Generator().manual_seed(1))
    positions = torch.cat([torch.arange(18), torch.arange(12)])
    prefix = [18, 12] if pattern == "bidirectional" else [0, 0]
    with torch.no_grad():
        one, two = (
            model(Batch(Sequences(tokens, layout, positions), {}, {}, {})).last
            for layout in (Layout([18, 12], pattern), Layout([18, 12], "prefix", prefix))  # type: ignore[arg-type]
        )
    assert (one - two).abs().max() <= 1e-5


def test_a_berts_two_segments_become_six() -> None:
    """Left to right, right to left and the source begin as BERT's first segment, the target as its second."""
    config = transformers.BertConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    theirs = transformers.BertForMaskedLM(config)
    given = json.loads(config.to_json_string())
    settings, weights = UniLM.from_transformers(given, theirs.state_dict())
    assert settings["segments"] == 6
    table, grown = theirs.bert.embeddings.token_type_embeddings.weight, weights["model.embeddings.segment.weight"]
    assert torch.equal(grown, torch.stack([table[i] for i in (0, 1, 0, 0, 0, 1)]))
    UniLM(WORDS, 20, False, **settings).load_state_dict(
        {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
    )


def test_a_directory_of_type_bert_stays_berts(tmp_path: Path) -> None:
    """Exported, a UniLM is a BERT with six segments, and gives the same states as one that sees both sides."""
    assert families()["bert"] is Bert
    saved_run(tmp_path / "run", "unilm.UniLM")
    assert "segments" not in FAMILIES["unilm.UniLM"]
    export(tmp_path / "run", tmp_path / "exported")
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "exported").eval()
    assert type(theirs).__name__ == "BertForMaskedLM" and theirs.config.type_vocab_size == 6
    loaded = cloze.load(tmp_path / "run")
    encoded = loaded.encode(["the old harbour", "nobody knew what he said"])
    with torch.no_grad():
        expected = theirs(**encoded, output_hidden_states=True).hidden_states[-1]
    real = encoded["attention_mask"].bool()
    assert (loaded.hidden_states(**encoded) - expected)[real].abs().max() <= 1e-5
    assert isinstance(cloze.load(tmp_path / "exported").model, Bert)


def test_a_run_can_begin_from_a_bert(tmp_path: Path) -> None:
    """`init=` with `model=unilm`: from a run of ours and from a directory of transformers; a GPT-2 is none."""
    bert = saved_run(tmp_path / "run", "bert.Bert")
    export(tmp_path / "run", tmp_path / "exported")
    for source, word in (("run", "model=unilm"), ("exported", "model=unilm"), ("run", "experiment=unilm_large")):
        initial, composed = initialised(compose([word, "length=32", f"init={tmp_path / source}"]))
        assert initial is not None and check(composed).objective is Mixed  # what model=unilm learns by itself
        node = initial.settings["model"]
        assert node["_target_"] == "cloze.models.unilm.UniLM" and node["segments"] == 6
        assert torch.equal(initial.weights["model.embeddings.word.weight"], bert.word_embedding)
        assert initial.weights["model.embeddings.segment.weight"].shape[0] == 6
        assert "objective.head.bias" in initial.weights
    with pytest.raises(
        Refusal, match=r"model=gpt2 does not fit init=.*, which holds a Bert: leave it out, or model=bert.*unilm"
    ):
        initialised(compose(["model=gpt2", f"init={tmp_path / 'run'}"]))


def test_published_sizes_are_berts() -> None:
    """A UniLM-large of BERT-large's cased vocabulary: BERT's count and four segments more."""
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in family(28_996, 512, True, 24, 1024, 16, 4096).parameters())
            for family in (Bert, UniLM)
        ]
    assert counts == [333_579_264, 333_583_360]  # BERT-large cased as released, and 4 x 1,024 more
