"""Attention over flat tensors: every way gives the same numbers, and those are the definition's."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from cloze.models.layers import grouped
from cloze.models.layers.attention import attend
from cloze.models.layout import Layout, Pattern, Way

LENGTHS = {
    "equal": [6, 6, 6],
    "one": [9],
    "ragged": [7, 1, 12, 7, 3, 12, 2, 12],
    "far apart": [300, 4, 290, 4, 4, 150],
}


def by_definition(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, memory: Layout | None, bias: Tensor | None, scale: float | None
) -> Tensor:
    """Softmax over what is seen, one sequence, one head and one query at a time."""
    keys = memory or layout
    out = torch.zeros_like(q)
    for b, length in enumerate(layout.lengths):
        for head in range(q.shape[1]):
            for i in range(length):
                seen = list(range(keys.lengths[b]))
                if memory is None and layout.pattern == "causal":
                    seen = list(range(i + 1))
                if memory is None and layout.pattern == "prefix":
                    assert layout.prefix is not None
                    seen = [j for j in seen if j <= i or j < layout.prefix[b]]
                rows = [keys.offsets[b] + j for j in seen]
                query = q[layout.offsets[b] + i, head]
                scores = k[rows, head] @ query * (1 / math.sqrt(len(query)) if scale is None else scale)
                if bias is not None:
                    scores = scores + bias[head, i, seen]
                out[layout.offsets[b] + i, head] = scores.softmax(0) @ v[rows, head]
    return out


def draw(layout: Layout, memory: Layout | None, heads: int = 3, width: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    rows = layout.offsets[-1], (memory or layout).offsets[-1]
    q = torch.randn(rows[0], heads, width, generator=generator)
    k, v = torch.randn(2, rows[1], heads, width, generator=generator).unbind(0)
    return q.requires_grad_(), k.clone().requires_grad_(), v.clone().requires_grad_()


def layouts(
    kind: str, pattern: Pattern | Literal["cross"], way: Way, stride: bool = False
) -> tuple[Layout, Layout | None]:
    lengths = LENGTHS[kind]
    step = max(lengths) + 2 if stride else None
    if pattern == "cross":
        others = [1 + (5 * n) % 11 for n in lengths]
        return Layout(lengths, stride=step, way=way), Layout(others, stride=14 if stride else None, way=way)
    prefix = [(n + 1) // 2 for n in lengths] if pattern == "prefix" else None
    return Layout(lengths, pattern, prefix, stride=step, way=way), None


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("pattern", ["bidirectional", "causal", "prefix", "cross"])
@pytest.mark.parametrize("kind", ["equal", "one", "ragged"])
def test_grouped_attention_is_what_the_definition_says(
    kind: str, pattern: Literal["bidirectional", "causal", "prefix", "cross"], biased: bool
) -> None:
    layout, memory = layouts(kind, pattern, "grouped")
    q, k, v = draw(layout, memory)
    bias = torch.randn(3, 14, 14, generator=torch.Generator().manual_seed(4), requires_grad=True) if biased else None
    scale = 0.7 if biased else None
    leaves = [q, k, v, *([bias] if bias is not None else [])]
    probe = torch.randn(q.shape, generator=torch.Generator().manual_seed(5))

    out = attend(q, k, v, layout, memory, bias=bias, scale=scale)
    expected = by_definition(q, k, v, layout, memory, bias, scale)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    given = torch.autograd.grad((out * probe).sum(), leaves)
    wanted = torch.autograd.grad((expected * probe).sum(), leaves)
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tile", [grouped._TILE, 1000], ids=["whole groups", "tiles"])
@pytest.mark.parametrize("kept", [grouped._KEPT, 0], ids=["kept", "recomputed"])
@pytest.mark.parametrize("stride", [False, True], ids=["real tokens", "stride"])
@pytest.mark.parametrize("pattern", ["bidirectional", "causal", "prefix", "cross"])
@pytest.mark.parametrize("kind", LENGTHS)
def test_every_way_gives_the_same(
    kind: str,
    pattern: Literal["bidirectional", "causal", "prefix", "cross"],
    stride: bool,
    kept: int,
    tile: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outputs and gradients at real tokens: nothing but rounding may differ."""
    monkeypatch.setattr(grouped, "_KEPT", kept)
    monkeypatch.setattr(grouped, "_TILE", tile)
    results = []
    for way in ("grouped", "padded"):
        layout, memory = layouts(kind, pattern, way, stride)
        q, k, v = draw(layout, memory)
        real = layout.real.flatten() if stride else torch.ones(layout.offsets[-1], dtype=torch.bool)
        probe = torch.randn(q.shape, generator=torch.Generator().manual_seed(5)) * real[:, None, None]
        out = attend(q, k, v, layout, memory)
        results.append([out[real], *torch.autograd.grad((out * probe).sum(), [q, k, v])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


def test_views_of_a_fused_projection_and_bf16() -> None:
    """Rows that are not contiguous (a fused projection's thirds), under autocast: near the single-precision result."""
    layout = Layout([40, 33, 40, 12])
    qkv = torch.randn(125, 3, 4, 16, generator=torch.Generator().manual_seed(6), requires_grad=True)
    expected = attend(*qkv.unbind(1), layout)
    (gradient,) = torch.autograd.grad(expected.square().sum(), qkv)
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(*qkv.unbind(1), layout)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.02)
    (rough,) = torch.autograd.grad(out.float().square().sum(), qkv)
    assert rough.dtype == torch.float32
    assert (rough - gradient).norm() < 0.02 * gradient.norm()


@pytest.mark.parametrize("kept", [grouped._KEPT, 0], ids=["kept", "recomputed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", ["bidirectional", "causal"])
def test_dropout_of_attention_weights(
    pattern: Pattern, dtype: torch.dtype, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that are unit vectors show the weights: dropped to 0 at the rate, else divided by what is kept; the
    gradient goes through the same mask, and the default generator's seed decides it.
    """
    monkeypatch.setattr(grouped, "_KEPT", kept)
    length, rate = 160, 0.1
    layout = Layout([length] * 6, pattern, way="grouped")
    generator = torch.Generator().manual_seed(7)
    q, k = torch.randn(2, 6 * length, 1, length, generator=generator).to(dtype).unbind(0)
    v = torch.eye(length, dtype=dtype).repeat(6, 1)[:, None].contiguous().requires_grad_()
    whole = attend(q, k, v, layout, training=True)
    torch.manual_seed(11)
    dropped = attend(q, k, v, layout, dropout=rate, training=True)
    torch.manual_seed(11)
    again = attend(q, k, v, layout, dropout=rate, training=True)
    other = attend(q, k, v, layout, dropout=rate, training=True)
    assert torch.equal(dropped, again) and not torch.equal(dropped, other)
    assert torch.equal(attend(q, k, v, layout, dropout=rate, training=False), whole)

    there = whole > 1e-6
    gone = (dropped == 0) & there
    n = int(there.sum())
    assert abs(int(gone.sum()) - n * rate) < 4 * math.sqrt(n * rate * (1 - rate))
    left = there & ~gone
    ratio = (dropped[left] / whole[left]).float()
    torch.testing.assert_close(
        ratio, torch.full_like(ratio, 1 / (1 - rate)), rtol=0, atol=1e-3 if dtype == torch.float32 else 2e-2
    )

    # d(sum of out)/d(values of key j) is the sum over queries of the dropped weights for j
    (gradient,) = torch.autograd.grad(dropped.sum(), v)
    weights = dropped.detach().float().view(6, length, length)
    sums = weights.sum(1).reshape(-1)
    torch.testing.assert_close(gradient[:, 0, 0].float(), sums, rtol=0.02, atol=0.02)


def test_dropout_gradient_of_scores_against_autograd() -> None:
    """With the mask read off the output, autograd of the plain formula gives the same gradients of queries and keys."""
    length = 24
    layout = Layout([length] * 2, way="grouped")
    generator = torch.Generator().manual_seed(8)
    q, k = (
        x.contiguous().requires_grad_() for x in torch.randn(2, 2 * length, 1, length, generator=generator).unbind(0)
    )
    v = torch.eye(length).repeat(2, 1)[:, None].contiguous()
    out = attend(q, k, v, layout, dropout=0.3, training=True)
    probe = torch.randn(out.shape, generator=generator)
    given = torch.autograd.grad((out * probe).sum(), [q, k])
    mask = (out.detach().view(2, length, length) != 0).float()
    weights = (q.view(2, length, length) @ k.view(2, length, length).transpose(1, 2) / math.sqrt(length)).softmax(-1)
    plain = weights * mask / (1 - 0.3)
    wanted = torch.autograd.grad((plain.reshape(out.shape) * probe).sum(), [q, k])
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_groups_waste_little_and_hold_everybody() -> None:
    lengths = [int(n) for n in torch.randint(1, 513, (64,), generator=torch.Generator().manual_seed(9))]
    layout = Layout(lengths)
    cut = grouped.groups(layout, layout)
    assert sorted(b for group in cut for b in group.members) == list(range(64))
    padded = sum(group.queries.count * group.queries.length**2 for group in cut)
    assert padded < 1.6 * sum(n * n for n in lengths)
    assert len(cut) < 40
    assert grouped.groups(layout, layout) is cut


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the variable-length kernels need CUDA")
@pytest.mark.parametrize("pattern", ["bidirectional", "causal", "cross"])
def test_flash_gives_the_same(pattern: Literal["bidirectional", "causal", "cross"]) -> None:
    results = []
    for way in ("flash", "padded"):
        layout, memory = layouts("far apart", pattern, way)  # type: ignore[arg-type]
        q, k, v = (x.detach().cuda().bfloat16().requires_grad_() for x in draw(layout, memory, 4, 64))
        out = attend(q, k, v, layout.to("cuda"), memory and memory.to("cuda"))
        results.append([out, *torch.autograd.grad(out.float().square().sum(), [q, k, v])])
    for a, b in zip(*results, strict=True):
        assert (a - b).float().norm() < 0.01 * b.float().norm()
