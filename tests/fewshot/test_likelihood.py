"""Log-likelihoods of completions: against brute force, against transformers, and as probabilities."""

from __future__ import annotations

import itertools
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import cloze
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.fewshot import likelihood
from cloze.fewshot.likelihood import Query, fitted, log_likelihoods, queries
from cloze.loading import Pretrained
from cloze.models.base import Batch, Sequences, TwoDirections
from cloze.models.gpt2 import GPT2
from cloze.models.layout import Layout
from cloze.models.padding import flat
from cloze.models.storage import read_json, write_json
from tests.models.parity import scramble
from tests.pretrained import saved_run

transformers = import_module("transformers")

QUERIES = [
    Query((20, 21, 22, 23), (24,)),
    Query((20, 21, 22, 23), (25, 26, 27)),
    Query((20, 21, 22, 23), (25, 26, 28)),
    Query((30,), (31, 32), (33, 34)),
    Query((30, 40, 41, 42, 43, 44), (31, 32), (33,)),
    Query((), (31, 32, 20, 35)),
]


def loaded_run(folder: Path, family: str, **objective: Any) -> Pretrained:
    saved_run(folder, family)
    if objective:
        config = read_json(folder / "model" / "config.json")
        write_json(folder / "model" / "config.json", {**config, "objective": objective})
    return cloze.load(folder)


def logits(loaded: Pretrained, row: list[int], decoder: list[int] | None = None, prefix: int = 0) -> torch.Tensor:
    """(tokens, V) of one sequence alone."""
    inputs = flat([row], "bidirectional" if decoder is not None or not loaded.one_sided else "causal")
    if prefix:
        inputs.layout = Layout(inputs.layout.lengths, "prefix", [prefix])
    written = None if decoder is None else flat([decoder], "causal")
    if loaded.model.languages is not None:
        inputs.languages = None
    with torch.no_grad():
        states = loaded.model(Batch(inputs, {}, {}, {}, written)).last
        if isinstance(loaded.model, TwoDirections):
            states = states[:, : states.shape[1] // 2]
        assert loaded.head is not None
        return loaded.head(states, loaded.model.word_embedding).log_softmax(-1)


@pytest.mark.parametrize(
    ("family", "objective"),
    [
        ("gpt.GPT", {}),
        ("gpt2.GPT2", {}),
        ("gpt2.GPT2", {"_target_": "cloze.objectives.prefix_lm.PrefixLM"}),
        ("transformer_xl.TransformerXL", {}),
        ("xlm.XLM", {"_target_": "cloze.objectives.clm.CausalLM"}),
    ],
)
def test_left_to_right_is_what_the_model_gives_token_by_token(
    tmp_path: Path, family: str, objective: dict[str, Any]
) -> None:
    loaded = loaded_run(tmp_path, family, **objective)
    opening = [loaded.tokenizer.vocabulary["eos" if "eos" in loaded.tokenizer.vocabulary.special else "cls"]]
    whole = objective.get("_target_", "").endswith("PrefixLM")
    for query, found in zip(QUERIES, log_likelihoods(loaded, QUERIES), strict=True):
        row, total, greedy = [*opening, *query.before], 0.0, True
        context = len(row) if whole else 0
        for token in (*query.completion, *query.after):
            shares = logits(loaded, row, prefix=context)[-1]
            total += float(shares[token])
            greedy &= int(shares.argmax()) == token
            row.append(token)
        assert found.log_likelihood == pytest.approx(total, abs=1e-4)
        assert found.tokens == len(query.completion) + len(query.after)
        assert found.greedy == greedy


def test_contexts_read_once_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading, the one with what is kept of the context and the one at a single go, whichever would be chosen."""
    loaded = loaded_run(tmp_path, "gpt2.GPT2")
    ways: list[str] = []
    for name in ("read", "followed"):
        original = getattr(likelihood._Scorer, name)
        monkeypatch.setattr(
            likelihood._Scorer, name, lambda self, *a, n=name, o=original: ways.append(n) or o(self, *a)
        )
    shared = [Query(tuple(range(20, 45)), (50, other, 51)) for other in range(52, 60)]
    several = log_likelihoods(loaded, shared)
    alone = [log_likelihoods(loaded, [query])[0] for query in shared]
    assert ways == ["followed", *["read"] * len(shared)]
    for one, other in zip(several, alone, strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)
        assert one.tokens == other.tokens == 3


def test_few_at_a_time_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = {family: loaded_run(tmp_path / family, family) for family in ("gpt2.GPT2", "bert.Bert", "t5.T5")}
    before = {family: log_likelihoods(each, QUERIES) for family, each in loaded.items()}
    monkeypatch.setattr(likelihood, "TOKENS_AT_ONCE", 1)
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 1)
    monkeypatch.setattr(likelihood, "CONTEXTS_AT_ONCE", 1)
    for family, each in loaded.items():
        for one, other in zip(before[family], log_likelihoods(each, QUERIES), strict=True):
            assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)
            assert (one.tokens, one.greedy) == (other.tokens, other.greedy)


@pytest.mark.parametrize("family", ["bert.Bert", "roberta.Roberta", "albert.Albert", "unilm.UniLM"])
@pytest.mark.parametrize("masking", ["in_turn", "together"])
def test_pseudo_log_likelihood_masks_the_completion(tmp_path: Path, family: str, masking: Any) -> None:
    loaded = loaded_run(tmp_path, family)
    vocabulary = loaded.tokenizer.vocabulary
    for query, found in zip(QUERIES, log_likelihoods(loaded, QUERIES, masking), strict=True):
        row = [vocabulary["cls"], *query.before, *query.completion, *query.after, vocabulary["sep"]]
        places = range(1 + len(query.before), 1 + len(query.before) + len(query.completion))
        total = 0.0
        for place in places:
            hidden = [place] if masking == "in_turn" else places
            masked = [vocabulary["mask"] if i in hidden else token for i, token in enumerate(row)]
            total += float(logits(loaded, masked)[place, row[place]])
        assert found.log_likelihood == pytest.approx(total, abs=1e-4)
        assert found.tokens == len(query.completion)
    one = [query for query in QUERIES if len(query.completion) == 1]
    assert log_likelihoods(loaded, one, "in_turn") == log_likelihoods(loaded, one, "together")


def decoder_ways(query: Query, vocabulary: Vocabulary) -> dict[str, tuple[list[int], list[int]]]:
    """What the encoder reads and what the decoder has before the completion, said by hand for each family."""
    before, after, n = list(query.before), list(query.after), len(query.completion)
    special = vocabulary.special
    eos, mask = special["eos"], special.get("mask")
    sentinel = vocabulary.sentinels[0] if vocabulary.sentinels else None
    return {
        "t5.T5": ([*before, sentinel, *after, eos], [special["pad"], sentinel]),  # type: ignore[list-item]
        "bart.Bart": ([special.get("bos"), *before, mask, *after, eos], [eos, special.get("bos"), *before]),  # type: ignore[list-item]
        "mass.Mass": ([*before, *[mask] * n, *after, eos], [mask]),  # type: ignore[list-item]
    }


@pytest.mark.parametrize("family", ["t5.T5", "bart.Bart", "mass.Mass"])
def test_a_decoder_writes_it_as_it_has_learnt(tmp_path: Path, family: str) -> None:
    loaded = loaded_run(tmp_path, family)
    for query, found in zip(QUERIES, log_likelihoods(loaded, QUERIES), strict=True):
        read, written = decoder_ways(query, loaded.tokenizer.vocabulary)[family]
        total = 0.0
        for token in query.completion:
            total += float(_decoded(loaded, read, written, len(query.before) if family == "mass.Mass" else 0)[token])
            written = [*written, token]
        assert found.log_likelihood == pytest.approx(total, abs=1e-4)
        assert found.tokens == len(query.completion)


def _decoded(loaded: Pretrained, read: list[int], written: list[int], position: int) -> torch.Tensor:
    inputs, decoder = flat([read]), flat([written], "causal")
    decoder.positions = decoder.positions + position
    with torch.no_grad():
        states = loaded.model(Batch(inputs, {}, {}, {}, decoder)).last
        assert loaded.head is not None
        return loaded.head(states, loaded.model.word_embedding).log_softmax(-1)[-1]


def test_a_decoder_may_write_it_alone(tmp_path: Path) -> None:
    loaded = loaded_run(tmp_path, "t5.T5")
    vocabulary = loaded.tokenizer.vocabulary
    asked = [query for query in QUERIES if not query.after]
    for query, found in zip(asked, log_likelihoods(loaded, asked, decoder="plain"), strict=True):
        written, total = [vocabulary["pad"]], 0.0
        for token in query.completion:
            total += float(_decoded(loaded, [*query.before, vocabulary["eos"]], written, 0)[token])
            written = [*written, token]
        assert found.log_likelihood == pytest.approx(total, abs=1e-4)
    with pytest.raises(Refusal, match=r"objective.decoder=plain: the template must end in its \{answer\}"):
        log_likelihoods(loaded, [Query((20,), (21,), (22,))], decoder="plain")


@pytest.mark.parametrize("family", ["xlnet.XLNet", "elmo.ELMo"])
def test_other_directions(tmp_path: Path, family: str) -> None:
    """XLNet's second stream asks for one token after the other from all before; ELMo's forward half reads from left to right."""
    loaded = loaded_run(tmp_path, family)
    limit = loaded.tokenizer.vocabulary.size
    asked = [
        Query(*(tuple(token % limit for token in part) for part in (q.before, q.completion, q.after))) for q in QUERIES
    ]
    eos = loaded.tokenizer.vocabulary["eos"]
    for query, found in zip(asked, log_likelihoods(loaded, asked), strict=True):
        row, total = [eos, *query.before], 0.0
        for token in (*query.completion, *query.after):
            if family == "elmo.ELMo":
                total += float(logits(loaded, row)[-1, token])
            else:
                total += float(_second_stream(loaded, row)[token])
            row.append(token)
        assert found.log_likelihood == pytest.approx(total, abs=1e-4)


def _second_stream(loaded: Pretrained, row: list[int]) -> torch.Tensor:
    inputs = flat([[*row, 0]])
    at = torch.tensor([len(row)])
    order = torch.full((len(row) + 1,), -1).index_fill(0, at, 0)
    asked = Sequences(inputs.tokens, inputs.layout, inputs.positions, torch.zeros_like(inputs.tokens), None, order, at)
    with torch.no_grad():
        states = loaded.model(Batch(asked, {}, {}, {})).queries
        assert loaded.head is not None and states is not None
        return loaded.head(states, loaded.model.word_embedding).log_softmax(-1)[0]


# ------------------------------------------------------------------------------------------------------- transformers


def test_transformers_gpt2_gives_the_same() -> None:
    config = transformers.GPT2Config(
        vocab_size=97, n_embd=48, n_layer=3, n_head=4, n_positions=40, bos_token_id=1, eos_token_id=1
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    scramble(theirs)
    theirs.tie_weights()
    settings, weights = GPT2.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    loaded = _as_loaded(GPT2, settings, weights, 97, {"eos": 1})
    for query, found in zip(QUERIES, log_likelihoods(loaded, QUERIES), strict=True):
        row = [1, *query.before, *query.completion, *query.after]
        labels = torch.tensor([[-100] * (1 + len(query.before)) + row[1 + len(query.before) :]])
        with torch.no_grad():
            loss = theirs(torch.tensor([row]), labels=labels).loss
        assert found.log_likelihood / found.tokens == pytest.approx(-float(loss), abs=1e-5)


def test_transformers_bert_gives_the_same() -> None:
    from cloze.models.bert import Bert

    config = transformers.BertConfig(
        vocab_size=97, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=40,
    )  # fmt: skip
    theirs = transformers.BertForMaskedLM(config).eval()
    scramble(theirs)
    theirs.tie_weights()
    settings, weights = Bert.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    loaded = _as_loaded(Bert, settings, weights, 97, {"cls": 1, "sep": 2, "mask": 3})
    for query, found in zip(QUERIES, log_likelihoods(loaded, QUERIES), strict=True):
        row = [1, *query.before, *query.completion, *query.after, 2]
        first, total = 1 + len(query.before), 0.0
        for place in range(first, first + len(query.completion)):
            masked = [3 if i == place else token for i, token in enumerate(row)]
            labels = torch.tensor([[token if i == place else -100 for i, token in enumerate(row)]])
            with torch.no_grad():
                total -= float(theirs(torch.tensor([masked]), labels=labels).loss)
        assert found.log_likelihood / found.tokens == pytest.approx(total / found.tokens, abs=1e-5)


class _Spelled:
    """A tokenizer of letters, for models that need no more."""

    def __init__(self, size: int, special: dict[str, int]) -> None:
        self.vocabulary = Vocabulary(size, special)
        self.roles: dict[str, str] = {}


def _as_loaded(
    family: Any, settings: dict[str, Any], weights: dict[str, Any], size: int, special: dict[str, int]
) -> Pretrained:
    model = family(size, 30, False, **settings).eval()
    model.load_state_dict({n.removeprefix("model."): t for n, t in weights.items() if n.startswith("model.")})
    head = model.token_head().eval()
    own = {n.removeprefix("objective.head."): t for n, t in weights.items() if n.startswith("objective.head.")}
    head.load_state_dict(own)
    return Pretrained(model, _Spelled(size, special), head, 40)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ probabilities


@pytest.mark.parametrize("kind", ["gpt2", "t5", "bert"])
def test_probabilities_of_all_completions_are_one(kind: str) -> None:
    """Every completion of two tokens (of one, where a token is asked for given its neighbours) of a vocabulary of 7."""
    from cloze.models.bert import Bert
    from cloze.models.t5 import T5

    torch.manual_seed(0)
    shape: dict[str, Any] = {"layers": 2, "width": 16, "heads": 2, "inner": 24}
    family: Any = {"gpt2": GPT2, "t5": T5, "bert": Bert}[kind]
    model = family(7, 20, False, **shape, **({"head_width": 8} if kind == "t5" else {})).eval()
    head = model.token_head().eval()
    scramble(model, scale=0.5)
    special = {"pad": 0, "eos": 1, "cls": 2, "sep": 3, "mask": 4}
    loaded = Pretrained(model, _Spelled(7, special), head, 20)  # type: ignore[arg-type]
    sizes = (1,) if kind == "bert" else (1, 2)
    for size in sizes:
        for before, after in [((), ()), ((5, 6, 5), ())] + ([((5,), (6, 6))] if kind == "bert" else []):
            asked = [Query(before, tokens, after) for tokens in itertools.product(range(7), repeat=size)]
            found = log_likelihoods(loaded, asked, decoder="plain" if kind == "t5" else "as_learnt")
            assert sum(math.exp(each.log_likelihood) for each in found) == pytest.approx(1.0, abs=1e-4)
            greedy = [each.log_likelihood for each in found if each.greedy]
            assert len(greedy) == 1
            if size == 1:
                assert greedy[0] == max(each.log_likelihood for each in found)


# --------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("family", ["bert.Bert", "gpt2.GPT2", "t5.T5", "gpt.GPT", "albert.Albert"])
def test_a_query_is_the_whole_text_as_it_is_cut(tmp_path: Path, family: str) -> None:
    tokenizer = loaded_run(tmp_path, family).tokenizer
    before, options, after = "the old harbour lay ", ["in fog", "in winter", "empty"], " and nobody could see"
    made = queries(tokenizer, before, options, after)
    for query, option in zip(made, options, strict=True):
        assert [*query.before, *query.completion, *query.after] == tokenizer.encode(f"{before}{option}{after}")
        assert query.before == made[0].before
        assert tokenizer.decode([*query.before]).strip() == before.strip()
        assert tokenizer.decode([*query.completion]).strip() == option
    alone = queries(tokenizer, "", options)
    assert [list(query.completion) for query in alone] == [tokenizer.encode(option) for option in options]
    assert all(not query.before and not query.after for query in alone)


def test_a_token_across_the_border_counts_with_every_completion(tmp_path: Path) -> None:
    """`winter` may be one token: a completion of half a word is asked about from where the tokens of all part."""
    tokenizer = loaded_run(tmp_path, "gpt2.GPT2").tokenizer
    whole, other = queries(tokenizer, "before the win", ["ter", "dow"])
    assert whole.before == other.before
    assert [*whole.before, *whole.completion] == tokenizer.encode("before the winter")
    assert [*other.before, *other.completion] == tokenizer.encode("before the window")
    with pytest.raises(ValueError, match="has no token of its own"):
        queries(tokenizer, "the winter", ["", "s"])


def test_what_is_too_long_is_cut_at_its_beginning(tmp_path: Path) -> None:
    loaded = loaded_run(tmp_path, "gpt2.GPT2")
    query = Query(tuple(range(20, 40)), (50, 51), (52,))
    cut = fitted(loaded, query, 12)
    assert cut.completion == query.completion and cut.after == query.after
    assert cut.before == query.before[-len(cut.before) :] and 0 < len(cut.before) < 12
    assert fitted(loaded, query, 100) == query
    with pytest.raises(Refusal, match="a completion has 2 tokens"):
        fitted(loaded, query, 2)


def test_what_gives_no_probability_is_refused(tmp_path: Path) -> None:
    loaded = loaded_run(tmp_path / "bert", "bert.Bert")
    with pytest.raises(Refusal, match=r"objective\.decoder=plain has no effect on a Bert"):
        log_likelihoods(loaded, QUERIES, decoder="plain")
    loaded.head = None
    with pytest.raises(Refusal, match="has no token head"):
        log_likelihoods(loaded, QUERIES)
    elmo = loaded_run(tmp_path / "roberta", "roberta.Roberta")
    del elmo.tokenizer.vocabulary.special["mask"]
    with pytest.raises(Refusal, match="no mask token"):
        log_likelihoods(elmo, QUERIES)
