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
        logits = head(hidden, embedding)
        with torch.no_grad():
            right = logits.argmax(-1) == targets
        return F.cross_entropy(logits.float(), targets, reduction="sum"), right
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    total, right = _Pieces.apply(  # type: ignore[no-untyped-call]
        head, targets, rows, hidden, embedding, *parameters
    )
    return total, right


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
                logits = head(states, shared[0])
                loss = F.cross_entropy(logits.float(), targets[piece], reduction="sum")
            right[piece] = logits.detach().argmax(-1) == targets[piece]
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
