"""Transformer-XL against the paper's equations written plainly, its recurrence, and published counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cloze.compose import compose
from cloze.data.base import Vocabulary
from cloze.errors import Refusal
from cloze.models.base import Batch, Memory
from cloze.models.layers.adaptive import AdaptiveHead
from cloze.models.layout import Layout
from cloze.models.padding import flat
from cloze.models.transformer_xl import TransformerXL
from cloze.objectives.clm import CausalLM
from cloze.objectives.cross_entropy import token_cross_entropy
from tests.models.parity import scramble

WORDS = 60
SHAPE: dict[str, Any] = {"layers": 2, "width": 24, "heads": 3, "head_width": 10, "inner": 36}
LARGEST = {"cutoffs": [20000, 40000, 200000]}


def built(length: int = 8, **settings: Any) -> TransformerXL:
    torch.manual_seed(0)
    model = TransformerXL(WORDS, length, False, **{**SHAPE, **settings}).eval()
    scramble(model)
    return model


def batch_of(rows: Tensor | list[list[int]], memory: Memory | None = None) -> Batch:
    lists = rows.tolist() if isinstance(rows, Tensor) else rows
    return Batch(flat(lists, "causal"), {}, {}, {}, continues=memory is not None, memory=memory)


def tokens(sequences: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(0, WORDS, (sequences, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("size", "vocabulary", "settings", "parameters"),
    [
        ("wt103_base", 267_735, LARGEST, 151_107_538),
        ("enwik8_base", 204, {}, 41_055_436),
        ("enwik8_large", 204, {}, 277_231_820),
    ],
)
def test_published_counts(size: str, vocabulary: int, settings: dict[str, Any], parameters: int) -> None:
    composed = dict(compose(["model=transformer_xl", f"size=transformer_xl/{size}"]).config.model)
    assert composed.pop("_target_") == "cloze.models.transformer_xl.TransformerXL"
    with torch.device("meta"):
        model = TransformerXL(vocabulary, 128, False, **{**composed, **settings})
        head = model.token_head()
    assert sum(p.numel() for p in [*model.parameters(), *head.parameters()]) == parameters


def plainly(model: TransformerXL, row: list[int], remembered: list[Tensor] | None = None) -> list[Tensor]:
    """One sequence, one query, one head and one key at a time: the equations of the paper's sections 3.2 and 3.3.

    `remembered` (M, width) for each layer. Returns the input of each layer and the output of the last, (n, width) each.
    """
    width, heads, size = SHAPE["width"], SHAPE["heads"], SHAPE["head_width"]
    x = model.word_embedding[row] * math.sqrt(width)
    states = [x]
    for number, layer in enumerate(model.layers):
        attention: Any = layer.attention
        biases: Any = model.biases[number % len(model.biases)]
        before = torch.empty(0, width) if remembered is None else remembered[number]
        context = torch.cat([before, x])
        rows = []
        for i in range(len(row)):
            together = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                query = attention.query.weight[part] @ x[i]
                scores, values = [], []
                for j in range(len(before) + i + 1):
                    distance = len(before) + i - j
                    angles = torch.tensor([distance / 10000 ** (2 * k / width) for k in range(width // 2)])
                    encoding = attention.position.weight[part] @ torch.cat([angles.sin(), angles.cos()])
                    key = attention.key_value.weight[part] @ context[j]
                    a, b = query @ key, query @ encoding
                    c, d = biases.content[part] @ key, biases.position[part] @ encoding
                    scores.append((a + b + c + d) / math.sqrt(size))
                    values.append(attention.key_value.weight[heads * size :][part] @ context[j])
                together.append(torch.stack(scores).softmax(0) @ torch.stack(values))
            rows.append(attention.output.weight @ torch.cat(together))
        norm, forward, last = layer.attention_norm, layer.feed_forward, layer.feed_forward_norm
        x = F.layer_norm(x + torch.stack(rows), (width,), norm.weight, norm.bias)
        inside = (x @ forward.inner.weight.t() + forward.inner.bias).relu()
        x = x + inside @ forward.outer.weight.t() + forward.outer.bias
        x = F.layer_norm(x, (width,), last.weight, last.bias)
        states.append(x)
    return states


@pytest.mark.parametrize("untied_biases", [False, True])
def test_it_is_the_papers_equations(untied_biases: bool) -> None:
    model = built(untied_biases=untied_biases, memory_length=5)
    first, second = tokens(1, 8), tokens(1, 4, seed=2)
    with torch.no_grad():
        begun = model(batch_of(first), every_layer=True)
        expected = plainly(model, first[0].tolist())
        for ours, theirs in zip(begun.layers, expected, strict=True):
            assert (ours - theirs).abs().max() <= 1e-5
        assert begun.memory is not None
        kept = [state[-5:] for state in expected[:-1]]
        assert (begun.memory["layers"][0] - torch.stack(kept)).abs().max() <= 1e-5
        last = model(batch_of(second, begun.memory)).last
        assert (last - plainly(model, second[0].tolist(), kept)[-1]).abs().max() <= 1e-5


def test_one_layer_reads_two_segments_as_one_long_one() -> None:
    model = built(layers=1)
    head = model.token_head()
    text, targets = tokens(3, 16), tokens(3, 16, seed=2)
    with torch.no_grad():
        whole = model(batch_of(text)).last.view(3, 16, -1)
        begun = model(batch_of(text[:, :8]))
        second = model(batch_of(text[:, 8:], begun.memory)).last.view(3, 8, -1)
        assert torch.allclose(second, whole[:, 8:], rtol=0, atol=1e-6)
        losses = [
            token_cross_entropy(head, states.flatten(0, 1), model.word_embedding, targets[:, 8:].flatten())[0]
            for states in (second, whole[:, 8:])
        ]
        assert abs(losses[0] - losses[1]) <= 1e-4 and losses[0] > 0
        alone = model(batch_of(text[:, 8:])).last.view(3, 8, -1)
        assert (alone - whole[:, 8:]).abs().max() > 1e-3


def test_no_gradient_reaches_the_memory() -> None:
    model = built().train()
    begun = model(batch_of(tokens(2, 8)))
    assert begun.memory is not None and not begun.memory["layers"].requires_grad
    leaf = {"layers": begun.memory["layers"].clone().requires_grad_()}
    model(batch_of(tokens(2, 8, 2), leaf)).last.square().sum().backward()
    assert leaf["layers"].grad is None


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_what_a_token_knows_of_grows_with_every_layer(layers: int) -> None:
    """Segments of 4 with a memory of 4: a token changes states of later segments, as many of them as there are layers."""
    model = built(4, layers=layers)
    text = tokens(1, 28)
    changed = text.clone()
    changed[0, 3] = (changed[0, 3] + 1) % WORDS

    def read(row: Tensor) -> Tensor:
        memory, states = None, []
        for start in range(0, 28, 4):
            out = model(batch_of(row[:, start : start + 4], memory))
            memory = out.memory
            states.append(out.last)
        return torch.cat(states)

    with torch.no_grad():
        differs = (read(text) - read(changed)).abs().amax(1) > 1e-9
    assert differs.nonzero().flatten().tolist() == list(range(3, 4 * layers + 4))


def test_memory_grows_to_its_length_and_is_only_of_even_sequences() -> None:
    model = built(4, memory_length=10)
    memory, seen = None, []
    with torch.no_grad():
        for part in range(4):
            out = model(batch_of(tokens(2, 4, part), memory))
            memory = out.memory
            assert memory is not None
            seen.append(memory["layers"].shape[2])
        assert seen == [4, 8, 10, 10]
        assert model(batch_of([[1, 2, 3], [4]])).memory is None
        ends = batch_of(tokens(2, 4))
        ends.goes_on = False
        assert model(ends).memory is None
        assert built(4, memory_length=0)(batch_of(tokens(2, 4))).memory is None


def test_nothing_is_seen_ahead_but_a_prefix() -> None:
    """By gradient: each state depends on what stands before it in its own sequence, and on all of the prefix, where there is one."""
    model = built()
    embedded: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.embedding.register_forward_hook(keep)
    plain = batch_of([[1, 2, 3, 4, 5], [6, 7, 8]])
    prefixed = batch_of([[1, 2, 3, 4, 5], [6, 7, 8]])
    prefixed.inputs.layout = Layout([5, 3], "prefix", [3, 1])
    for batch, seen in (
        (plain, [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [5], [5, 6], [5, 6, 7]]),
        (prefixed, [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [5], [5, 6], [5, 6, 7]]),
    ):
        for at in range(8):
            embedded.clear()
            model(batch).last[at].square().sum().backward()
            assert (embedded[0].grad.abs().sum(1) > 0).nonzero().flatten().tolist() == seen[at]  # type: ignore[union-attr]


def test_evaluation_has_its_own_memory_clamp_and_equal_lengths() -> None:
    settings: dict[str, Any] = {"memory_length": 3, "evaluation_memory_length": 6, "same_length": True, "layers": 1}
    model = built(4, **settings)
    text = tokens(1, 12)

    def reach(at: int) -> list[int]:
        """Which tokens of a long text the state of token `at` depends on."""
        embedded: list[Tensor] = []

        def keep(module: Any, inputs: Any, output: Tensor) -> None:
            output.retain_grad()
            embedded.append(output)

        handle = model.embedding.register_forward_hook(keep)
        model(batch_of(text)).last[at].square().sum().backward()
        handle.remove()
        return (embedded[0].grad.abs().sum(1) > 0).nonzero().flatten().tolist()  # type: ignore[union-attr]

    assert reach(11) == list(range(6, 12)) and reach(7) == list(range(2, 8)) and reach(2) == [0, 1, 2]
    model.train()
    assert reach(11) == list(range(12))
    assert model(batch_of(text)).memory["layers"].shape[2] == 3  # type: ignore[index]
    # all keys at a distance of 2 and more look alike: exchanging two of them changes nothing
    clamped = built(4, layers=1, clamp_length=2)
    exchanged = text[:, [2, 1, 0, *range(3, 12)]]
    with torch.no_grad():
        assert (clamped(batch_of(text)).last - clamped(batch_of(exchanged)).last)[4:].abs().max() < 1e-6
        free = built(4, layers=1)
        assert (free(batch_of(text)).last - free(batch_of(exchanged)).last)[4:].abs().max() > 1e-4


CUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "projected": {"embedding_width": 16},
    "untied": {"tied": False},
    "adaptive": {"cutoffs": [10, 25]},
    "adaptive, untied": {"cutoffs": [10, 25], "tied": False},
    "adaptive, projected": {"cutoffs": [10, 25], "embedding_width": 16},
    "adaptive, own projections": {"cutoffs": [10, 25], "embedding_width": 16, "tied_projections": False},
    "narrower": {"cutoffs": [10, 25], "div_val": 2},
    "narrower, untied": {"cutoffs": [10, 25], "div_val": 4, "tied": False, "tied_projections": False},
}


@pytest.mark.parametrize("cut", CUTS)
def test_words_are_a_distribution_and_its_loss_is_the_heads_own(cut: str) -> None:
    model = built(**CUTS[cut])
    head = model.token_head()
    scramble(head, scale=0.5)
    hidden = torch.randn(200, SHAPE["width"], generator=torch.Generator().manual_seed(3), requires_grad=True)
    targets = torch.randint(0, WORDS, (200,), generator=torch.Generator().manual_seed(4))
    logits = head(hidden, model.word_embedding)
    assert logits.shape == (200, WORDS)
    if isinstance(head, AdaptiveHead):
        assert torch.allclose(logits.exp().sum(1), torch.ones(200), atol=1e-5)
    targets[:100] = logits[:100].argmax(1)
    expected = F.cross_entropy(logits, targets, reduction="sum")
    expected.backward()
    parameters = [*model.parameters(), *head.parameters(), hidden]
    gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
    for p in parameters:
        p.grad = None
    total, right = token_cross_entropy(head, hidden, model.word_embedding, targets)
    total.backward()
    assert abs(total - expected) <= 1e-3
    assert torch.equal(right, logits.argmax(1) == targets) and 100 <= right.sum() < 200
    for p, gradient in zip(parameters, gradients, strict=True):
        assert (p.grad is None) == (gradient is None)
        assert gradient is None or (p.grad - gradient).abs().max() <= 1e-4


def test_rows_at_a_time_have_no_effect_on_an_adaptive_head() -> None:
    vocabulary = Vocabulary(WORDS, {"eos": 0})
    assert CausalLM(built(), vocabulary, head_rows=5).head_rows == 5
    with pytest.raises(Refusal, match=r"objective\.head_rows=5 has no effect with an adaptive softmax"):
        CausalLM(built(cutoffs=[10]), vocabulary, head_rows=5)


def test_narrow_tables_are_what_one_wide_table_would_be() -> None:
    """An embedding in clusters is the table of all words' projected vectors."""
    model = built(cutoffs=[10, 25], div_val=2)
    embedding = model.embedding
    assert [tuple(table.shape) for table in embedding.tables] == [(10, 24), (15, 12), (35, 6)]
    whole = torch.cat([t @ p.t() for t, p in zip(embedding.tables, embedding.projections, strict=True)])
    row = torch.randperm(WORDS, generator=torch.Generator().manual_seed(0))
    assert (embedding(row) - whole[row] * math.sqrt(24)).abs().max() <= 1e-5
    assert len(model.word_embedding) == WORDS


def test_every_parameter_is_trained_with_clusters() -> None:
    for cut in CUTS.values():
        model = built(**cut).train()
        head = model.token_head()
        rows = tokens(4, 32)
        states = model(batch_of(rows)).last
        token_cross_entropy(head, states, model.word_embedding, tokens(4, 32, 5).flatten())[0].backward()
        for name, p in [*model.named_parameters(), *head.named_parameters()]:
            assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_pool_and_depth() -> None:
    model = built(layers=3, untied_biases=True)
    batch = batch_of([[1, 2, 3], [4, 5]])
    states = model(batch)
    assert torch.equal(model.pool(states, batch), states.last[[2, 4]])
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert depths["embedding.tables.0"] == 0 and depths["biases.2.content"] == 3
    assert depths["layers.0.attention.query.weight"] == 1 and set(depths.values()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"memory_length": -1}, "model.memory_length=-1"),
        ({"memory_length": 0, "same_length": True}, "model.same_length=true needs a memory"),
        ({"clamp_length": 0}, "model.clamp_length=0"),
        ({"cutoffs": [30, 20]}, "must rise and lie between 1 and 59"),
        ({"cutoffs": [60]}, "must rise and lie between 1 and 59"),
        ({"div_val": 2}, "model.div_val=2 has no effect"),
        ({"div_val": 8, "cutoffs": [10, 20]}, "must be at least 64"),
        ({"tied_projections": False}, "model.tied_projections=false has no effect"),
        ({"heads": 0}, "model.heads=0 must be at least 1"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal) as refusal:
        TransformerXL(WORDS, 8, False, **{**SHAPE, **settings})
    assert words in str(refusal.value)
