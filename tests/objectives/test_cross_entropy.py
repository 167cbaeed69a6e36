"""The head's loss piece by piece is the loss at once, gradients too; and its memory is bounded."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cloze.models.layers.heads import TiedHead, TransformedHead
from cloze.objectives.cross_entropy import token_cross_entropy


def problem(rows: int = 37, width: int = 12, words: int = 50) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator, dtype=torch.float64, requires_grad=True)
    embedding = torch.randn(words, width, generator=generator, dtype=torch.float64, requires_grad=True)
    return hidden, embedding, torch.randint(0, words, (rows,), generator=generator)


@pytest.mark.parametrize("rows", [1, 10, 36, 37, 100])
@pytest.mark.parametrize("transformed", [False, True])
def test_pieces_give_the_same_loss_and_gradients(rows: int, transformed: bool) -> None:
    hidden, embedding, targets = problem()
    head = (TransformedHead(12, 12, 50, "gelu", 1e-12, 0.5) if transformed else TiedHead(0.3)).double()
    leaves = [hidden, embedding, *head.parameters()]
    logits = head(hidden, embedding)
    expected = F.cross_entropy(logits, targets, reduction="sum")
    expected_gradients = torch.autograd.grad(expected * 0.7, leaves)
    total, right = token_cross_entropy(head, hidden, embedding, targets, rows)
    gradients = torch.autograd.grad(total * 0.7, leaves)
    assert torch.allclose(total.double(), expected, rtol=1e-6)
    assert torch.equal(right, logits.argmax(-1) == targets)
    for own, other in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(own, other, atol=1e-6)


def test_pieces_without_gradients_and_with_a_frozen_table() -> None:
    hidden, embedding, targets = problem()
    head = TiedHead()
    with torch.no_grad():
        expected = F.cross_entropy(head(hidden, embedding), targets, reduction="sum")
        total, _ = token_cross_entropy(head, hidden, embedding, targets, 5)
    assert torch.allclose(total.double(), expected, rtol=1e-6) and not total.requires_grad
    frozen = embedding.detach()
    total, _ = token_cross_entropy(head, hidden, frozen, targets, 5)
    (own,) = torch.autograd.grad(total, [hidden])
    (other,) = torch.autograd.grad(F.cross_entropy(head(hidden, frozen), targets, reduction="sum"), [hidden])
    assert torch.allclose(own, other, atol=1e-6)


def test_gradients_add_up_when_the_table_is_used_twice() -> None:
    """The embedding is the model's input too: both uses must reach its gradient."""
    _, embedding, targets = problem()
    table = torch.nn.Parameter(embedding.detach())
    ids = torch.arange(37) % 50
    total, _ = token_cross_entropy(TiedHead(), F.embedding(ids, table), table, targets, 8)
    total.backward()
    own = table.grad
    table.grad = None
    F.cross_entropy(F.linear(F.embedding(ids, table), table), targets, reduction="sum").backward()
    assert own is not None and table.grad is not None
    assert torch.allclose(own, table.grad, atol=1e-6)


def test_only_a_piece_of_the_logits_exists() -> None:
    """The largest tensor that the head makes is rows * vocabulary, counted on the meta device's stand-in: the head itself."""
    seen: list[int] = []

    class Watched(TiedHead):
        def forward(self, hidden: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
            logits = super().forward(hidden, embedding)
            seen.append(logits.numel())
            return logits

    hidden, embedding, targets = problem(rows=100)
    total, _ = token_cross_entropy(Watched(), hidden, embedding, targets, 16)
    total.backward()
    assert max(seen) == 16 * 50 and sum(seen) == 100 * 50  # nothing is computed twice


def test_mixed_precision_stays_close() -> None:
    hidden, embedding, targets = (t.float() if t.is_floating_point() else t for t in problem(rows=64))
    hidden, embedding = hidden.detach().requires_grad_(), embedding.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        whole, _ = token_cross_entropy(TiedHead(), hidden, embedding, targets, 64)
        pieces, _ = token_cross_entropy(TiedHead(), hidden, embedding, targets, 10)
    assert pieces.dtype == torch.float32
    assert torch.allclose(whole, pieces, rtol=1e-4)
    one, other = torch.autograd.grad(whole, [hidden])[0], torch.autograd.grad(pieces, [hidden])[0]
    assert torch.allclose(one, other, atol=0.05, rtol=0.05)


def test_half_precision_logits_have_the_loss_and_gradient_of_single_precision() -> None:
    """A target of probability 0.9991, which bf16 rounds to 1, still has a loss and a gradient."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 2, generator=generator).bfloat16()
    hidden[:, 0], hidden[:, 1] = 7.0, hidden[:, 1] / 8
    hidden = hidden.float().requires_grad_()
    table = torch.eye(2).requires_grad_()
    targets = (torch.arange(300) % 10 == 9).long()
    total, right = token_cross_entropy(TiedHead(), hidden, table, targets)  # fp32
    with torch.autocast("cpu", torch.bfloat16):
        half, half_right = token_cross_entropy(TiedHead(), hidden, table, targets)
    assert half.item() == pytest.approx(total.item(), rel=1e-5)
    assert torch.equal(right, half_right) and right.sum() == 270
    (own,), (other,) = torch.autograd.grad(half, [hidden]), torch.autograd.grad(total, [hidden])
    assert (other.abs() > 1e-4).all()
    assert torch.allclose(own, other, rtol=0.01)


def test_of_equal_logits_the_first_is_the_choice() -> None:
    hidden, table = torch.ones(2, 3), torch.ones(5, 3, requires_grad=True)
    for targets, expected in (([0, 3], [True, False]), ([0, 0], [True, True])):
        _, right = token_cross_entropy(TiedHead(), hidden, table, torch.tensor(targets))
        assert right.tolist() == expected


def test_a_target_that_is_all_but_impossible_has_its_whole_loss() -> None:
    hidden, table = torch.tensor([[200.0]]), torch.tensor([[1.0], [-1.0]], requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = token_cross_entropy(TiedHead(), hidden, table, torch.tensor([1]))
    assert total.item() == 400.0
