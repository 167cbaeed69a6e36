"""Cross-entropy over a vocabulary without ever holding all logits: what makes a dense head of 50,000 words fit in
memory.

A head over N tokens and V words makes N * V logits, their softmax and their gradient. Here the head runs over a few
rows at a time and each piece's gradient is taken at once, so only a piece's logits exist; nothing is computed twice.
Same sums, another order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cloze.models.base import TokenHead

PIECE = 1 << 25  # logits that may exist at a time (128 MiB in fp32): more than any cache, so larger pieces gain nothing


def token_cross_entropy(
    head: TokenHead, hidden: Tensor, embedding: Tensor, targets: Tensor, rows: int = 0
) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies in nats, and whether each target is the head's first choice.

    hidden (M, width), embedding (V, E), targets (M,) int64 -> scalar, (M,) bool. `rows` is how many rows go through
    the head at a time; 0 chooses: all at once where the logits are few, else as many as `PIECE` holds.
    """
    rows = rows or max(1, PIECE // embedding.shape[0])
    if len(hidden) <= rows:
        return cross_entropy(head(hidden, embedding), targets)
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    total, right = _Pieces.apply(  # type: ignore[no-untyped-call]
        head, targets, rows, hidden, embedding, *parameters
    )
    return total, right


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies in nats (fp32), and whether each target is the first choice: (M, V), (M,) -> scalar, (M,).

    While gradients are asked for on a CPU, half-precision logits are never copied to single precision: the softmax is
    taken as it is, which is all that the gradient needs. A tie then counts as right.
    """
    if logits.device.type == "cpu" and logits.requires_grad and torch.is_grad_enabled():
        total, right = _Training.apply(logits, targets)  # type: ignore[no-untyped-call]
        return total, right
    # topk finds the same as argmax, in a quarter of the time in bf16
    right = logits.detach().topk(1).indices.squeeze(-1) == targets
    return F.cross_entropy(logits.float(), targets, reduction="sum"), right


class _Training(torch.autograd.Function):
    """The loss, with its gradient taken at once: softmax minus one at the target, in the logits' own precision."""

    @staticmethod
    def forward(context: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        place = targets.unsqueeze(-1)
        highest = logits.amax(-1, keepdim=True)
        chosen = logits.gather(-1, place)
        gradient = torch.softmax(logits, -1)
        # log of the sum of exponentials, by way of the largest probability: that one never underflows
        normaliser = highest.float() - gradient.amax(-1, keepdim=True).float().log()
        total = (normaliser - chosen.float()).sum()
        gradient.scatter_add_(-1, place, torch.full_like(chosen, -1))
        right = (chosen == highest).squeeze(-1)
        context.save_for_backward(gradient)
        context.mark_non_differentiable(right)
        return total, right

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (gradient,) = context.saved_tensors
        return gradient * above.to(gradient.dtype), None


class _Pieces(torch.autograd.Function):
    """Loss and gradients piece by piece. The gradients are of the sum; backward only multiplies by what comes from
    above.
    """

    @staticmethod
    def forward(
        context: Any,
        head: TokenHead,
        targets: Tensor,
        rows: int,
        hidden: Tensor,
        embedding: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        wanted = any(context.needs_input_grad)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        right = torch.empty(len(targets), dtype=torch.bool, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if wanted else None
        shared = [embedding.detach().requires_grad_(embedding.requires_grad and wanted), *parameters]
        shared_gradients = [torch.zeros_like(tensor) for tensor in shared] if wanted else []
        for start in range(0, len(hidden), rows):
            piece = slice(start, start + rows)
            with torch.set_grad_enabled(wanted):
                states = hidden[piece].detach().requires_grad_(wanted)
                loss, right[piece] = cross_entropy(head(states, shared[0]), targets[piece])
            total += loss.detach()
            if hidden_gradient is not None:
                asked = [states, *(tensor for tensor in shared if tensor.requires_grad)]
                gradients = list(torch.autograd.grad(loss, asked))
                hidden_gradient[piece] = gradients.pop(0)
                for tensor, gradient in zip(shared, shared_gradients, strict=True):
                    if tensor.requires_grad:
                        gradient += gradients.pop(0)
        context.mark_non_differentiable(right)
        if hidden_gradient is not None:
            context.save_for_backward(hidden_gradient, *shared_gradients)
        return total, right

    @staticmethod
    def backward(context: Any, above: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        needed = context.needs_input_grad[3:]
        gradients = [
            gradient * above if wanted else None for gradient, wanted in zip(context.saved_tensors, needed, strict=True)
        ]
        return (None, None, None, *gradients)
