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

# logits that may exist at a time on a CPU (128 MiB in fp32): more than any cache, so larger pieces gain nothing;
# elsewhere 16 times as many, so that a device is kept busy
PIECE = 1 << 25
BLOCK = 1 << 18  # logits whose softmax is taken in single precision at a time: 1 MiB, what a core's second cache holds


def token_cross_entropy(
    head: TokenHead, hidden: Tensor, embedding: Tensor, targets: Tensor, rows: int = 0
) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies in nats (fp32), and whether each target is the head's first choice.

    hidden (M, width), embedding (V, E), targets (M,) int64 -> scalar, (M,) bool. `rows` is how many rows go through
    the head at a time; 0 chooses: all at once where the logits are few, else as many as `PIECE` holds.
    """
    own = head.cross_entropy(hidden, embedding, targets)
    if own is not None:
        return own
    rows = rows or max(1, PIECE * (1 if hidden.device.type == "cpu" else 16) // embedding.shape[0])
    if hidden.device.type == "cpu" and torch.is_grad_enabled() and type(head).forward is TokenHead.forward:
        features, table = head.features(hidden), head.table(embedding)
        if features.requires_grad or table.requires_grad:
            total, right = eagerly(_Products, features, table, head.bias, targets, rows)
            return total, right
    if len(hidden) <= rows:
        return _cross_entropy(head(hidden, embedding), targets)
    if head.table(embedding) is not embedding:
        embedding = embedding.detach()  # the head does without it
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    total, right = eagerly(_Pieces, head, targets, rows, hidden, embedding, *parameters)
    return total, right


def eagerly(function: type[torch.autograd.Function], *arguments: Any) -> tuple[Tensor, Tensor]:
    """`function.apply`, out of a compiler's sight: gradients taken in a forward pass are not for compilers."""
    if torch.compiler.is_compiling():
        from cloze import uncompiled

        out: tuple[Tensor, Tensor] = uncompiled.eagerly(function, *arguments)
        return out
    total, right = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return total, right


def _cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    # on a CPU topk finds the first choice in a quarter of argmax's time (bf16)
    first = logits.detach().topk(1).indices.squeeze(-1) if logits.device.type == "cpu" else logits.detach().argmax(-1)
    right = first == targets
    return F.cross_entropy(logits.float(), targets, reduction="sum"), right


class _Products(torch.autograd.Function):
    """The loss of logits features @ embedding.T + bias, on a CPU: (M, E), (V, E), (V,), (M,) -> scalar, (M,).

    The softmax, less one at the target, is all that the gradients need. It takes the place of the logits, and the
    gradients are taken at once, so that only one piece's logits exist, once. It is taken in single precision at least,
    a block that fits into the cache at a time, so that half-precision logits are never copied as a whole.
    """

    @staticmethod
    def forward(
        context: Any, features: Tensor, embedding: Tensor, bias: Tensor | None, targets: Tensor, rows: int
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
        x, table = features.to(dtype), embedding.to(dtype)
        offset = None if bias is None else bias.to(dtype)
        wants = context.needs_input_grad
        of_features = torch.empty_like(x) if wants[0] else None
        of_table: Tensor | None = None
        of_bias = torch.zeros(len(table)) if wants[2] else None
        total = torch.zeros((), dtype=torch.promote_types(dtype, torch.float32))
        right = torch.empty(len(x), dtype=torch.bool)
        with torch.autocast("cpu", enabled=False):
            for start in range(0, len(x), rows):
                piece = slice(start, start + rows)
                gradient = _linear(x[piece], table, offset)
                loss, right[piece] = _to_gradient(gradient, targets[piece])
                total += loss
                if of_features is not None:
                    torch.mm(gradient, table, out=of_features[piece])
                if wants[1]:
                    # with few rows of x this way round is faster by a third; turning the sum around pays for several pieces
                    part = torch.mm(x[piece].t(), gradient) if len(x) > rows else torch.mm(gradient.t(), x)
                    of_table = part if of_table is None else of_table.to(total.dtype).add_(part)
                if of_bias is not None:
                    of_bias += torch.mm(gradient.new_ones(1, len(gradient)), gradient).squeeze(0)
        if of_table is not None and len(x) > rows:
            of_table = of_table.t().contiguous()
        context.save_for_backward(of_features, of_table, of_bias)
        context.dtypes = [None if tensor is None else tensor.dtype for tensor in (features, embedding, bias)]
        context.mark_non_differentiable(right)
        return total, right

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [
            None if gradient is None else gradient.to(dtype) * above.to(dtype)
            for gradient, dtype in zip(context.saved_tensors, context.dtypes, strict=True)
        ]
        return (*gradients, None, None)


def _to_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Turns logits (M, V) into the gradient of the summed cross-entropy, in place; returns (the sum, (M,) right or not)."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    total = torch.zeros((), dtype=exact)
    right = torch.zeros(len(logits), dtype=torch.bool)
    rows = max(1, BLOCK // logits.shape[1])
    for start in range(0, len(logits), rows):
        block, wanted = logits[start : start + rows], targets[start : start + rows]
        place = torch.arange(len(block)), wanted
        chosen, highest = block[place], block.amax(-1)
        # where the target's logit is the highest, and only there, it matters which of equal ones is the first
        maybe = torch.nonzero(chosen == highest).squeeze(1)
        right[start + maybe] = block[maybe].argmax(-1) == wanted[maybe]
        softmax = block.softmax(-1, dtype=exact)
        # by way of the highest logit, whose probability is not too small for its logarithm
        total -= (chosen.to(exact) - highest.to(exact) + softmax.amax(-1).log()).sum()
        softmax.index_put_(place, softmax[place] - 1)  # scatter_ would copy all of it
        block.copy_(softmax)
    return total, right


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear; with a bias in bf16 by oneDNN's own operator, which adds it on the way instead of writing it out first."""
    if bias is not None and x.dtype == torch.bfloat16 and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out
    return F.linear(x, weight, bias)


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
                loss, right[piece] = _cross_entropy(head(states, shared[0]), targets[piece])
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
