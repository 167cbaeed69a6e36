"""XLNet against transformers, both ways, and by gradient: what each stream may depend on."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Batch, Memory, Sequences
from cloze.models.layout import Layout
from cloze.models.padding import flat
from cloze.models.static_shapes import pad
from cloze.models.xlnet import XLNet
from tests.models.parity import scramble

transformers = import_module("transformers")

WORDS = 80
SHAPES: list[dict[str, Any]] = [
    {"d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 40},
    {"d_model": 24, "n_layer": 2, "n_head": 1, "d_inner": 72, "ff_activation": "relu", "clamp_len": 5},
    {"d_model": 36, "n_layer": 1, "n_head": 6, "d_inner": 20, "layer_norm_eps": 1e-3},
]
OURS: dict[str, Any] = {"layers": 2, "width": 32, "heads": 4, "inner": 48}


def theirs_of(shape: dict[str, Any]) -> Any:
    model = transformers.XLNetLMHeadModel(transformers.XLNetConfig(vocab_size=WORDS, **shape)).eval()
    scramble(model)
    model.tie_weights()
    return model


def ours_of(theirs: Any) -> tuple[XLNet, Any]:
    settings, weights = XLNet.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    model = XLNet(WORDS, 16, False, **settings).eval()
    model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    head = model.token_head()
    head.load_state_dict({"bias": weights["objective.head.bias"]})
    return model, head


def random_orders(lengths: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks: some tokens given, the others in a random order; queries: two thirds of those. And segments."""
    generator = torch.Generator().manual_seed(seed)
    ranks, asked, segments = [], [], []
    for n in lengths:
        rank = torch.randperm(n, generator=generator)
        rank[torch.rand(n, generator=generator) < 0.5] = -1
        rank[0] = -1  # transformers lets a query that sees nothing look at everything
        ranks.append(rank)
        asked.append((rank >= 0) & (torch.rand(n, generator=generator) < 0.7))
        segments.append(torch.sort(torch.randint(0, 3, (n,), generator=generator)).values)
    return torch.cat(ranks), torch.cat(asked).nonzero().flatten(), torch.cat(segments)


def batch_of(lengths: list[int], seed: int = 0, segmented: bool = True, memory: Memory | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed + 100)
    inputs = flat([torch.randint(0, WORDS, (n,), generator=generator).tolist() for n in lengths])
    order, queries, segments = random_orders(lengths, seed)
    inputs.order, inputs.queries = order, queries
    inputs.segments = segments if segmented else None
    return Batch(inputs, {}, {}, {}, memory=memory)


def for_theirs(batch: Batch) -> dict[str, Tensor]:
    """The batch as XLNetLMHeadModel takes it: padded, with perm_mask and target_mapping; perm_mask by the rule, pair by pair."""
    inputs, lengths = batch.inputs, batch.inputs.layout.lengths
    assert inputs.order is not None and inputs.queries is not None
    size, longest = len(lengths), max(lengths)
    ids, mask = torch.zeros(size, longest, dtype=torch.int64), torch.zeros(size, longest)
    kinds, hidden = torch.zeros_like(ids), torch.ones(size, longest, longest)
    asked: list[list[int]] = []
    for b, n in enumerate(lengths):
        rows = slice(inputs.layout.offsets[b], inputs.layout.offsets[b] + n)
        ids[b, :n], mask[b, :n] = inputs.tokens[rows], 1.0
        if inputs.segments is not None:
            kinds[b, :n] = inputs.segments[rows]
        rank = inputs.order[rows].tolist()
        for i in range(n):
            for j in range(n):
                hidden[b, i, j] = float(not (rank[j] == -1 or rank[j] < rank[i]))
        asked.append([q - rows.start for q in inputs.queries.tolist() if rows.start <= q < rows.stop])
    mapping = torch.zeros(size, max(map(len, asked)), longest)
    for b, places in enumerate(asked):
        for p, place in enumerate(places):
            mapping[b, p, place] = 1.0
    given = {"input_ids": ids, "attention_mask": mask, "perm_mask": hidden, "target_mapping": mapping}
    return given | ({} if inputs.segments is None else {"token_type_ids": kinds})


def rows_of(padded: Tensor, counts: list[int]) -> Tensor:
    return torch.cat([padded[b, :n] for b, n in enumerate(counts)])


def counts_of(batch: Batch) -> list[int]:
    assert batch.inputs.queries is not None
    offsets = batch.inputs.layout.offsets
    return [sum(a <= q < b for q in batch.inputs.queries.tolist()) for a, b in pairwise(offsets)]


@pytest.mark.parametrize(("size", "parameters"), [("base", 116_750_336), ("large", 360_300_800)])
def test_published_counts(size: str, parameters: int) -> None:
    settings = dict(compose(["model=xlnet", f"size=xlnet/{size}"]).config.model)
    assert settings.pop("_target_") == "cloze.models.xlnet.XLNet"
    with torch.device("meta"):
        model = XLNet(32000, 128, False, **settings)
        head = model.token_head()
    assert sum(p.numel() for p in [*model.parameters(), *head.parameters()]) == parameters


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("segmented", [True, False])
def test_both_streams_are_transformers(shape: dict[str, Any], segmented: bool, seed: int) -> None:
    theirs = theirs_of(shape)
    ours, head = ours_of(theirs)
    batch = batch_of([11, 16, 2, 7], seed, segmented)
    given = for_theirs(batch)
    with torch.no_grad():
        states = ours(batch, every_layer=True)
        expected = theirs(**given, output_hidden_states=True)
        logits = head(states.queries, ours.word_embedding)
        assert (logits - rows_of(expected.logits, counts_of(batch))).abs().max() <= 1e-5
        content = expected.hidden_states[::2]  # theirs gives both streams' in turn
        assert len(states.layers) == len(content) == shape["n_layer"] + 1
        for layer, hidden in zip(states.layers, content, strict=True):
            assert (layer - rows_of(hidden, [11, 16, 2, 7])).abs().max() <= 1e-5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_stream_is_transformers(shape: dict[str, Any]) -> None:
    """Without an order every token sees every other, as in fine-tuning."""
    theirs = theirs_of(shape)
    ours, head = ours_of(theirs)
    batch = batch_of([9, 16, 1])
    given = for_theirs(batch)
    batch.inputs.order = batch.inputs.queries = None
    with torch.no_grad():
        states = ours(batch)
        expected = theirs(given["input_ids"], given["attention_mask"], token_type_ids=given["token_type_ids"]).logits
        assert states.queries is None
        assert (head(states.last, ours.word_embedding) - rows_of(expected, [9, 16, 1])).abs().max() <= 1e-5


def test_what_it_remembers_is_transformers() -> None:
    theirs = theirs_of(SHAPES[0] | {"mem_len": 10})
    ours, head = ours_of(theirs)
    assert ours.memory_length == 10
    memory, mems = None, None
    for seed in range(3):
        batch = batch_of([8, 8], seed, memory=memory)
        with torch.no_grad():
            states = ours(batch)
            expected = theirs(**for_theirs(batch), mems=mems, use_mems=True)
        assert (
            head(states.queries, ours.word_embedding) - rows_of(expected.logits, counts_of(batch))
        ).abs().max() <= 1e-5
        memory, mems = states.memory, expected.mems
        assert memory is not None and memory["layers"].shape == (2, 3, min(8 * (seed + 1), 10), 32)
        assert (memory["layers"] - torch.stack(mems).permute(2, 0, 1, 3)).abs().max() <= 1e-5


def test_loss_and_gradients_are_transformers() -> None:
    theirs = theirs_of(SHAPES[0] | {"dropout": 0.0}).train()
    ours, head = ours_of(theirs)
    batch = batch_of([10, 10, 10])
    given = for_theirs(batch)
    logits = rows_of(theirs(**given).logits, counts_of(batch))
    assert batch.inputs.queries is not None
    targets = batch.inputs.tokens[batch.inputs.queries]
    torch.nn.functional.cross_entropy(logits, targets).backward()
    states = ours.train()(batch).queries
    torch.nn.functional.cross_entropy(head(states, ours.word_embedding), targets).backward()
    gradients = {f"model.{name}": p.grad for name, p in ours.named_parameters()}
    gradients["objective.head.bias"] = head.bias.grad
    expected = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    _, known = XLNet.from_transformers(theirs.config.to_dict(), expected)
    assert gradients.keys() == known.keys()
    for name, gradient in gradients.items():
        assert gradient is not None and (gradient - known[name]).abs().max() <= 1e-5, name
        assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transformers_loads_what_we_write(shape: dict[str, Any]) -> None:
    theirs = theirs_of(shape)
    settings, weights = XLNet.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    config, state = XLNet.to_transformers(settings, weights, Vocabulary(WORDS, {"pad": 0}))
    again = transformers.XLNetLMHeadModel(transformers.XLNetConfig(**config))
    missing = again.load_state_dict(state, strict=False)
    assert missing.missing_keys == ["lm_loss.weight"] and not missing.unexpected_keys  # tied
    again.tie_weights()
    given = for_theirs(batch_of([12, 5]))
    with torch.no_grad():
        assert (again.eval()(**given).logits - theirs(**given).logits).abs().max() <= 1e-5


def test_a_bare_model_is_read_and_written() -> None:
    theirs = transformers.XLNetModel(transformers.XLNetConfig(vocab_size=WORDS, **SHAPES[0])).eval()
    settings, weights = XLNet.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    config, state = XLNet.to_transformers(settings, weights, Vocabulary(WORDS, {}))
    assert config["architectures"] == ["XLNetModel"]
    assert state.keys() == theirs.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.state_dict().items())


def test_the_pooled_vector_is_transformers() -> None:
    config = transformers.XLNetConfig(vocab_size=WORDS, **SHAPES[0], num_labels=3)
    theirs = transformers.XLNetForSequenceClassification(config).eval()
    scramble(theirs)
    settings, weights = XLNet.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    ours = XLNet(WORDS, 16, True, **settings).eval()
    ours.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
    batch = batch_of([9, 9])
    given = for_theirs(batch)
    batch.inputs.order = batch.inputs.queries = None
    with torch.no_grad():
        pooled = ours.pool(ours(batch), batch)
        expected = theirs(given["input_ids"], token_type_ids=given["token_type_ids"]).logits
        assert (theirs.logits_proj(pooled) - expected).abs().max() <= 1e-5


def reached(model: XLNet, batch: Batch, stream: str, row: int) -> list[int]:
    """The rows of the flat tokens whose embeddings a state depends on."""
    embedded: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    handle = model.word.register_forward_hook(keep)
    states = model(batch)
    chosen = states.queries if stream == "query" else states.last
    assert chosen is not None
    chosen[row].square().sum().backward()
    handle.remove()
    return (embedded[0].grad.abs().sum(1) > 0).nonzero().flatten().tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(5))
def test_each_stream_depends_on_exactly_what_the_order_permits(seed: int) -> None:
    """One layer: the permitted set itself. Two: the same, as what is permitted to those that are seen is a part of it."""
    torch.manual_seed(seed)
    lengths = [9, 6]
    batch = batch_of(lengths, seed)
    order, queries = batch.inputs.order, batch.inputs.queries
    assert order is not None and queries is not None
    for layers in (1, 2):
        model = XLNet(WORDS, 16, False, **{**OURS, "layers": layers}).eval()
        scramble(model)
        for b, start in enumerate(batch.inputs.layout.offsets[:-1]):
            rows = range(start, start + lengths[b])
            for i in rows:
                permitted = {j for j in rows if order[j] == -1 or order[j] < order[i]}
                assert reached(model, batch, "content", i) == sorted(permitted | {i})
                if i in queries.tolist():
                    assert i not in permitted
                    assert reached(model, batch, "query", queries.tolist().index(i)) == sorted(permitted)


def test_a_query_that_sees_nothing_knows_nothing() -> None:
    """Not even that: transformers' would look at all tokens, the hidden ones too."""
    model = XLNet(WORDS, 16, False, **OURS).eval()
    scramble(model)
    batch = batch_of([5, 4])
    batch.inputs.order = torch.tensor([0, 1, 2, 3, 4, 2, 0, 1, 3])
    batch.inputs.queries = torch.arange(9)
    states = model(batch).queries
    assert states is not None and torch.isfinite(states).all()
    assert reached(model, batch, "query", 0) == [] and reached(model, batch, "query", 6) == []
    assert torch.allclose(states[0], states[6], atol=1e-6)
    assert reached(model, batch, "query", 3) == [0, 1, 2]
    model.zero_grad()
    model(batch).queries.square().sum().backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_no_gradient_reaches_the_memory() -> None:
    model = XLNet(WORDS, 8, False, **OURS).train()
    memory = model(batch_of([8, 8])).memory
    assert memory is not None and not memory["layers"].requires_grad
    leaf = {"layers": memory["layers"].clone().requires_grad_()}
    states = model(batch_of([8, 8], memory=leaf)).queries
    states.square().sum().backward()  # type: ignore[union-attr]
    assert leaf["layers"].grad is None


def test_every_layout_gives_the_same() -> None:
    model = XLNet(WORDS, 16, False, **OURS).eval()
    scramble(model)
    batch = batch_of([9, 3, 12, 2])
    expected = model(batch)
    padded, places = pad(batch.inputs, 14)
    states = model(Batch(padded, {}, {}, {}))
    assert (states.last[places] - expected.last).abs().max() <= 1e-5
    assert (states.queries - expected.queries).abs().max() <= 1e-5


def test_a_sequence_without_queries_and_a_batch_without_any() -> None:
    model = XLNet(WORDS, 16, False, **OURS).eval()
    batch = batch_of([6, 5, 4])
    batch.inputs.order = torch.full((15,), -1)
    batch.inputs.order[7] = 0
    batch.inputs.queries = torch.tensor([7])
    alone = Sequences(
        batch.inputs.tokens[6:11], Layout([5]), torch.arange(5), batch.inputs.segments[6:11],  # type: ignore[index]
        order=batch.inputs.order[6:11], queries=torch.tensor([1]),
    )  # fmt: skip
    one, many = model(Batch(alone, {}, {}, {})).queries, model(batch).queries
    assert one is not None and many is not None and (one - many).abs().max() <= 1e-6
    batch.inputs.queries = torch.empty(0, dtype=torch.int64)
    assert model(batch).queries.shape == (0, 32)  # type: ignore[union-attr]


def test_depth_and_initial_deviations() -> None:
    model = XLNet(1000, 16, True, layers=3, width=64, heads=4, inner=128)
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert depths["word.weight"] == depths["mask"] == 0 and depths["pooler.weight"] == 4
    assert depths["biases.2.segment"] == depths["layers.2.attention.segments"] == 3 and set(depths.values()) == set(
        range(5)
    )
    for parameter in (model.word.weight, model.layers[1].attention.query.weight, model.layers[1].attention.segments):  # type: ignore[union-attr]
        assert parameter.std().item() == pytest.approx(0.02, rel=0.15)  # type: ignore[operator,union-attr]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"heads": 5}, "model.heads=5 must divide model.width=32; the nearest that does is model.heads=4"),
        ({"memory_length": -2}, "model.memory_length=-2"),
        ({"clamp_length": 0}, "model.clamp_length=0"),
        ({"layers": 0}, "model.layers=0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal) as refusal:
        XLNet(WORDS, 16, False, **{**OURS, **settings})
    assert words in str(refusal.value)


@pytest.mark.parametrize("setting", [{"attn_type": "uni"}, {"bi_data": True}, {"same_length": True}])
def test_what_it_does_not_do_is_refused(setting: dict[str, Any]) -> None:
    theirs = theirs_of(SHAPES[0])
    with pytest.raises(Refusal, match=next(iter(setting))):
        XLNet.from_transformers(theirs.config.to_dict() | setting, theirs.state_dict())
