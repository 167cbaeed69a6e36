"""Switch Transformer against transformers, published counts, and what its routing promises."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Batch
from cloze.models.layout import Layout
from cloze.models.padding import flat
from cloze.models.static_shapes import pad
from cloze.models.switch import (
    Experts,
    Router,
    Routing,
    SparseFeedForward,
    Switch,
    balance_loss,
    capacity_of,
    through_experts,
    z_loss,
)
from cloze.models.t5 import FeedForward
from tests.models.parity import scramble
from tests.models.test_t5 import batch_of, padded, rows_of

transformers = import_module("transformers")

SHAPES: list[dict[str, Any]] = [
    {"num_layers": 4, "num_decoder_layers": 3, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 3},
    {"num_layers": 2, "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
]
VOCABULARY = 97


def theirs_of(shape: dict[str, Any], capacity: int = 3, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = transformers.SwitchTransformersConfig(
        vocab_size=VOCABULARY,
        d_model=48,
        d_kv=12,
        d_ff=70,
        num_heads=4,
        num_experts=5,
        expert_capacity=capacity,
        dropout_rate=0.0,
        router_jitter_noise=0.0,
        decoder_start_token_id=0,
        initializer_factor=0.3,
        **shape,
    )
    model = transformers.SwitchTransformersForConditionalGeneration(config).eval()
    scramble(model, scale=0.02)
    model.tie_weights()
    return model


def ours_of(theirs: Any) -> Switch:
    settings, weights = Switch.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    model = Switch(VOCABULARY, 30, False, **settings).eval()
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
    return model


def routed(experts: Tensor, lengths: list[int], capacity: int) -> Routing:
    """What a router does with tokens that stand for the experts that they want."""
    router = Router(int(experts.max()) + 1, int(experts.max()) + 1, capacity, 0.0)
    torch.nn.init.eye_(router.weight)
    routing: Routing = router(F.one_hot(experts).float() * 5, Layout(lengths))
    return routing


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        (["size=switch/base_8"], 449_469_696),
        (["size=switch/c_2048"], 1_571_308_972_448),
        # transformers' own default: every fourth layer
        (["size=switch/base_8", "model.sparse_every=4"], 317_312_256),
    ],
    ids=str,
)
def test_published_counts(words: list[str], parameters: int) -> None:
    settings = dict(compose(["model=switch", "objective=span_corruption", *words]).config.model)
    assert settings.pop("_target_") == "cloze.models.switch.Switch"
    with torch.device("meta"):
        model = Switch(32128, 512, False, **settings)
        head = model.token_head()
    assert sum(p.numel() for p in [*model.parameters(), *head.parameters()]) == parameters


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("capacity", [1, 3, 64])
def test_logits_and_loss_are_transformers(shape: dict[str, Any], capacity: int) -> None:
    """Tokens are dropped with the first two. Padding on the right: transformers lets padding on the left take room."""
    theirs = theirs_of(shape, capacity)
    ours = ours_of(theirs)
    inputs, targets = rows_of([5, 150, 1, 17]), rows_of([50, 3, 1, 27], seed=1)
    ids, mask = padded(inputs)
    labels, label_mask = padded(targets, fill=-100)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, labels=labels)
        states = ours(batch_of(inputs, [[0, *target[:-1]] for target in targets]))
        logits = ours.token_head()(states.last, ours.word_embedding)
    assert (logits - expected.logits[label_mask.bool()]).abs().max() <= 1e-5
    own = F.cross_entropy(logits, torch.tensor([token for target in targets for token in target]))
    assert abs(own - expected.loss) <= 1e-5
    assert states.encoder is not None
    assert (states.encoder - expected.encoder_last_hidden_state[mask.bool()]).abs().max() <= 1e-5


def test_padding_on_the_left_with_room_for_all() -> None:
    theirs = theirs_of(SHAPES[0], 500)
    ours = ours_of(theirs)
    inputs, shifted = rows_of([5, 40, 1, 17]), rows_of([20, 3, 1, 27], seed=1)
    ids, mask = padded(inputs, left=True)
    decoder_ids, decoder_mask = padded(shifted, left=True)
    with torch.no_grad():
        expected = theirs(
            ids, attention_mask=mask, decoder_input_ids=decoder_ids, decoder_attention_mask=decoder_mask
        ).logits
        states = ours(batch_of(inputs, shifted))
        logits = ours.token_head()(states.last, ours.word_embedding)
    assert (logits - expected[decoder_mask.bool()]).abs().max() <= 1e-5


def test_losses_are_transformers() -> None:
    """One sparse layer a stack, one sequence: there theirs, a mean over sequences and layers, is the paper's sum."""
    theirs = theirs_of(SHAPES[1])
    ours = ours_of(theirs)
    ids, targets = torch.tensor(rows_of([40])), rows_of([23], seed=1)
    with torch.no_grad():
        expected = theirs(ids, labels=torch.tensor(targets), output_router_logits=True)
        losses = ours(batch_of(ids.tolist(), [[0, *targets[0][:-1]]])).losses
    assert losses.keys() == {"balance", "router_z"}
    balance = 0.001 * (expected.encoder_aux_loss + expected.decoder_aux_loss)
    assert losses["balance"].item() == pytest.approx(balance.item(), rel=1e-5)
    z = 0.001 * (expected.encoder_z_loss + expected.decoder_z_loss)
    assert losses["router_z"].item() == pytest.approx(z.item(), rel=1e-5)


def test_gradients_are_transformers() -> None:
    theirs = theirs_of(SHAPES[0])
    ours = ours_of(theirs)
    inputs, targets = rows_of([15, 15]), rows_of([9, 9], seed=1)
    theirs(torch.tensor(inputs), labels=torch.tensor(targets)).loss.backward()
    states = ours(batch_of(inputs, [[0, *target[:-1]] for target in targets])).last
    logits = ours.token_head()(states, ours.word_embedding)
    F.cross_entropy(logits, torch.tensor(targets).flatten()).backward()
    zeros = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in theirs.named_parameters(remove_duplicate=True)
    }
    _, expected = Switch.from_transformers(theirs.config.to_dict(), zeros)
    gradients = {f"model.{name}": p.grad for name, p in ours.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert gradient is not None
        assert (gradient - expected[name]).abs().max() <= 2e-5, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transformers_loads_what_we_write(shape: dict[str, Any], tmp_path: Path) -> None:
    theirs = theirs_of(shape)
    settings, weights = Switch.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    # a run of ours says its capacity by the factor
    settings |= {"capacity": None, "capacity_factor": 0.5, "length": 30}
    config, state = Switch.to_transformers(settings, weights, Vocabulary(VOCABULARY, {"eos": 1, "pad": 0}))
    assert config["expert_capacity"] == 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    again, told = transformers.SwitchTransformersForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    ids, labels = torch.tensor(rows_of([20])), torch.tensor(rows_of([11], seed=1))
    with torch.no_grad():
        expected = theirs(ids, labels=labels).logits
        assert (again.eval()(ids, labels=labels).logits - expected).abs().max() <= 1e-6


# ------------------------------------------------------------------------------------------------------------- routing


@pytest.mark.parametrize("capacity", [1, 2, 7, 1000])
def test_every_token_is_dispatched_or_dropped(capacity: int) -> None:
    """Against counting by hand: the first `capacity` of each sequence that want an expert get it."""
    generator = torch.Generator().manual_seed(0)
    lengths = [50, 3, 1, 200]
    wanted = torch.randint(0, 6, (254,), generator=generator)
    routing = routed(wanted, lengths, capacity)
    assert torch.equal(routing.expert, wanted)
    kept = []
    for part in wanted.split(lengths):
        seen = [0] * 6
        for expert in part.tolist():
            kept.append(seen[expert] < capacity)
            seen[expert] += 1
    assert routing.kept.tolist() == kept
    dispatched = torch.bincount(wanted[routing.kept], minlength=6)
    assert int(dispatched.sum()) + int((~routing.kept).sum()) == 254
    assert bool((dispatched <= capacity * len(lengths)).all())


def test_a_dropped_token_goes_on_as_it_is() -> None:
    sparse = SparseFeedForward(Router(16, 4, 2, 0.0), Experts(4, 16, 24, 0.0))
    torch.nn.init.normal_(sparse.router.weight)
    sparse.experts.initialise(1.0)
    x = torch.randn(30, 16)
    fed, routing = sparse(x, Layout([10, 20]))
    assert 0 < int((~routing.kept).sum()) < 30
    assert bool((fed[~routing.kept] == 0).all()) and bool((fed[routing.kept].abs().sum(1) > 0).all())
    for row in routing.kept.nonzero().squeeze(1).tolist():
        expert = int(routing.expert[row])
        through = sparse.experts.outer[expert] @ F.relu(sparse.experts.inner[expert] @ x[row])
        assert torch.allclose(fed[row], routing.gate[row] * through, atol=1e-6)


def test_one_expert_is_a_dense_layer() -> None:
    sparse = SparseFeedForward(Router(16, 1, 1000, 0.0), Experts(1, 16, 24, 0.0))
    torch.nn.init.normal_(sparse.router.weight)
    sparse.experts.initialise(1.0)
    dense = FeedForward(16, 24, 0.0)
    dense.load_state_dict(
        {"inner.weight": sparse.experts.inner.detach()[0], "outer.weight": sparse.experts.outer.detach()[0]}
    )
    x = torch.randn(30, 16)
    fed, routing = sparse(x, Layout([10, 20]))
    assert torch.allclose(fed, dense(x), atol=1e-6)
    assert balance_loss(routing).item() == pytest.approx(1.0)


def test_the_balance_loss_is_1_where_all_is_even_and_grows_otherwise() -> None:
    even = torch.arange(400) % 8
    uniform = Routing(torch.zeros(400, 8), torch.full((400, 8), 1 / 8), even, torch.full((400,), 1 / 8), even >= 0)
    assert balance_loss(uniform).item() == pytest.approx(1.0)
    assert z_loss(uniform).item() == pytest.approx(torch.tensor(8.0).log().square().item())
    one = F.one_hot(torch.zeros(400, dtype=torch.int64), 8).float()
    collapsed = Routing(one * 50, one, torch.zeros(400, dtype=torch.int64), torch.ones(400), even >= 0)
    assert balance_loss(collapsed).item() == pytest.approx(8.0)
    # the whole model's: alpha for each of its sparse layers
    model = Switch(50, 30, False, layers=4, width=16, heads=2, head_width=8, inner=32, experts=4).eval()
    for module in model.modules():
        if isinstance(module, Router):
            torch.nn.init.zeros_(module.weight)
    losses = _losses(model)
    # with equal probabilities the first expert is chosen each time: E * sum f P = E * (1 * 1/E)
    assert losses["balance"].item() == pytest.approx(0.01 * 4)


def _losses(model: Switch) -> dict[str, Tensor]:
    tokens = [[3, 4, 5, 6, 7, 8]]
    losses: dict[str, Tensor] = model(batch_of(tokens, tokens)).losses
    return losses


def test_the_balance_loss_spreads_the_tokens() -> None:
    """Trained on nothing else, a router that begins lopsided sends every expert some."""
    torch.manual_seed(0)
    router = Router(16, 6, 1000, 0.0)
    torch.nn.init.normal_(router.weight, std=0.1)
    x = torch.randn(500, 16) + 2.0
    optimizer = torch.optim.Adam(router.parameters(), 0.01)
    busiest = []
    for _ in range(100):
        routing = router(x, Layout([500]))
        busiest.append(int(torch.bincount(routing.expert, minlength=6).max()))
        optimizer.zero_grad()
        balance_loss(routing).backward()
        optimizer.step()
    assert busiest[0] > 200 and busiest[-1] < 140


def test_routing_depends_on_the_tokens_before_and_not_on_other_sequences() -> None:
    theirs = theirs_of(SHAPES[0], 2)
    model = ours_of(theirs)
    inputs, outputs = rows_of([30, 12]), rows_of([25, 25], seed=1)
    together = model(batch_of(inputs, outputs)).last
    alone = model(batch_of(inputs[:1], outputs[:1])).last
    assert (together[:25] - alone).abs().max() <= 1e-5
    shorter = model(batch_of(inputs[:1], [outputs[0][:9]])).last
    assert (alone[:9] - shorter).abs().max() <= 1e-5


def test_rows_without_tokens_count_for_nothing() -> None:
    """Static shapes: what fills a rectangle takes no room and is in no mean."""
    model = ours_of(theirs_of(SHAPES[0], 2))
    batch = batch_of(rows_of([9, 3, 14]), rows_of([4, 10, 1], seed=1))
    assert batch.decoder is not None
    expected = model(batch)
    inputs, _ = pad(batch.inputs, 20)
    decoder, places = pad(batch.decoder, 12)
    states = model(Batch(inputs, {}, {}, {}, decoder))
    assert (states.last[places] - expected.last).abs().max() <= 1e-5
    for name, loss in expected.losses.items():
        assert states.losses[name].item() == pytest.approx(loss.item(), rel=1e-5)


def test_the_router_computes_in_32_bits_under_autocast() -> None:
    router = Router(16, 4, 100, 0.0)
    torch.nn.init.normal_(router.weight)
    x = torch.randn(30, 16)
    plain = router(x, Layout([30]))
    with torch.autocast("cpu", torch.bfloat16):
        under = router(x, Layout([30]))
        half = router(x.bfloat16(), Layout([30]))
    assert under.logits.dtype == half.logits.dtype == torch.float32
    assert torch.equal(plain.logits, under.logits)
    model = Switch(50, 30, False, layers=2, width=16, heads=2, head_width=8, inner=32, experts=4).train()
    with torch.autocast("cpu", torch.bfloat16):
        states = model(batch_of([[3, 4, 5, 6]], [[0, 3, 4]]))
    assert torch.isfinite(states.last.float()).all()


def test_jitter_is_noise_of_training_alone() -> None:
    router = Router(16, 4, 100, 0.3)
    torch.nn.init.normal_(router.weight)
    x = torch.randn(2000, 16)
    layout = Layout([2000])
    router.eval()
    assert torch.equal(router(x, layout).logits, F.linear(x, router.weight))
    router.train()
    torch.manual_seed(1)
    first = router(x, layout).logits
    torch.manual_seed(1)
    assert torch.equal(first, router(x, layout).logits)
    torch.nn.init.eye_(router.weight)
    share = router(x, layout).logits / x[:, :4]
    assert 0.7 <= share.min().item() < 0.71 and 1.29 < share.max().item() <= 1.3
    assert share.mean().item() == pytest.approx(1.0, abs=0.01)


def test_expert_dropout_is_the_experts_alone() -> None:
    experts = Experts(2, 16, 4000, 0.4).train()
    torch.nn.init.ones_(experts.inner)
    torch.nn.init.ones_(experts.outer)
    expert = torch.tensor([0, 1, 1])
    x = torch.full((3, 16), 1 / 16)
    ones, kept = torch.ones(3), torch.ones(3, dtype=torch.bool)
    through = experts(x, Routing(ones, ones, expert, ones, kept))
    assert through.mean().item() == pytest.approx(4000, rel=0.05) and through.std() > 0
    assert torch.equal(experts.eval()(x, Routing(ones, ones, expert, ones, kept)), torch.full((3, 16), 4000.0))
    assert torch.equal(
        through_experts(x, expert, ones, kept, experts.inner, experts.outer, 0.0).unique(), torch.tensor([4000.0])
    )


@pytest.mark.slow
def test_experts_stay_outside_of_compiled_programs() -> None:
    """How many tokens each gets differs from batch to batch; the states are the same, and gradients flow."""
    torch.compiler.reset()
    model = ours_of(theirs_of(SHAPES[1], 2))
    compiled = torch.compile(lambda batch: model(batch).last, backend="eager", dynamic=True)
    for seed in range(2):
        batch = batch_of(rows_of([9, 3 + seed], seed), rows_of([4, 10], seed + 5))
        expected, states = model(batch).last, compiled(batch)
        torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-5)
        for total in (expected, states):
            model.zero_grad()
            total.square().sum().backward()
            gradient = model.get_parameter("decoder.layers.1.feed_forward.experts.inner").grad
            assert gradient is not None and bool(gradient.abs().sum() > 0)
    torch.compiler.reset()


# ------------------------------------------------------------------------------------------------------------ settings


def test_the_room_of_an_expert() -> None:
    assert capacity_of(512, 8, 1.0, None) == 64 and capacity_of(64, 8, 1.25, None) == 10
    assert capacity_of(64, 100, 1.0, None) == 1 and capacity_of(64, 8, None, 7) == 7


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"capacity": 5}, r"model\.capacity_factor=1\.25 and model\.capacity=5: give one"),
        ({"capacity_factor": None}, "give one of them"),
        ({"capacity_factor": 0.0}, r"model\.capacity_factor=0 must be more than 0"),
        ({"capacity_factor": None, "capacity": 0}, r"model\.capacity=0 must be at least 1"),
        ({"experts": 0}, r"model\.experts=0 must be at least 1"),
        ({"layers": 1}, r"model\.sparse_every=2 leaves the encoder of 1 layers without a sparse one"),
        ({"decoder_layers": 1}, "leaves the decoder of 1 layers"),
        ({"sparse_every": 0}, r"model\.sparse_every=0 must be at least 1"),
        ({"decoder_sparse_every": 0}, r"model\.decoder_sparse_every=0 must be at least 1"),
        ({"expert_dropout": 1.0}, r"model\.expert_dropout=1"),
        ({"balance": -1.0}, r"model\.balance=-1\.0 must be at least 0"),
        ({"buckets": 6}, r"model\.buckets=6"),
        ({"layers": 0}, r"model\.layers=0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(Refusal, match=word):
        Switch(50, 30, False, **{"layers": 4, "width": 16, "heads": 2, "head_width": 8, "inner": 32} | settings)


def test_what_transformers_cannot_say_or_we_do_not_do_is_refused() -> None:
    theirs = theirs_of(SHAPES[0])
    for change in ({"router_bias": True}, {"dense_act_fn": "gelu"}, {"tie_word_embeddings": False}):
        with pytest.raises(Refusal, match=next(iter(change))):
            Switch.from_transformers(theirs.config.to_dict() | change, theirs.state_dict())
    settings, weights = Switch.from_transformers(theirs.config.to_dict(), theirs.state_dict())
    with pytest.raises(Refusal, match=r"model\.sparse_every=3 in 4 layers"):
        Switch.to_transformers(settings | {"length": 30, "sparse_every": 3}, weights, Vocabulary(VOCABULARY, {}))


def test_which_layers_are_sparse() -> None:
    model = Switch(50, 30, False, layers=6, decoder_layers=3, width=16, heads=2, head_width=8, inner=32, experts=2)
    sparse = [name for name, module in model.named_modules() if isinstance(module, SparseFeedForward)]
    assert sparse == [
        *(f"encoder.layers.{i}.feed_forward" for i in (1, 3, 5)),
        "decoder.layers.1.feed_forward",
    ]
    every = Switch(50, 30, False, layers=2, width=16, heads=2, head_width=8, inner=32, experts=2, sparse_every=1)
    assert sum(isinstance(module, SparseFeedForward) for module in every.modules()) == 4


def test_depth_covers_every_parameter() -> None:
    model = Switch(50, 30, False, layers=2, decoder_layers=3, width=16, heads=2, head_width=8, inner=32)
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert depths["word.weight"] == 0
    assert depths["encoder.layers.1.feed_forward.experts.inner"] == 2
    assert depths["decoder.layers.1.feed_forward.router.weight"] == 4


def test_initial_deviations() -> None:
    model = Switch(1000, 64, False, layers=2, width=256, heads=4, head_width=32, inner=512)
    state = model.state_dict()
    expected = {
        "word.weight": 1.0,
        "encoder.layers.1.feed_forward.experts.inner": (0.1 / 256) ** 0.5,
        "encoder.layers.1.feed_forward.experts.outer": (0.1 / 512) ** 0.5,
        "encoder.layers.0.feed_forward.outer.weight": (0.1 / 512) ** 0.5,
        "decoder.layers.1.feed_forward.router.weight": (0.1 / 256) ** 0.5,
        "decoder.layers.0.attention.output.weight": (0.1 / 128) ** 0.5,
    }
    for name, deviation in expected.items():
        assert state[name].std().item() == pytest.approx(deviation, rel=0.05), name
    assert state["encoder.final_norm.weight"].unique().tolist() == [1.0]


def test_losses_with_weight_0_are_not_there() -> None:
    model = Switch(50, 30, False, layers=2, width=16, heads=2, head_width=8, inner=32, router_z=0.0)
    assert _losses(model).keys() == {"balance"}
    assert model(Batch(flat([[1, 2, 3]]), {}, {}, {})).losses.keys() == {"balance"}
