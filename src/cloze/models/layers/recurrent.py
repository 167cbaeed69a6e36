"""A long short-term memory with a projection and with clipping, in several directions at once (Hochreiter and Schmidhuber 1997; the
projection: Sak et al. 2014, https://arxiv.org/abs/1402.1128).

Written out as a loop with its own gradient: torch's LSTM knows no clipping, and differentiating a loop step by step would add up a
gradient of the size of the weights at every step. Here the weights' gradients are one product over the whole sequence.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class ProjectedLSTM(nn.Module):
    """One layer in one direction: parameters as in `nn.LSTM(width, cells, proj_size=projection)`, gates in its order (input, forget,
    cell, output), with one bias instead of two. The forget gate's begins at 1, all other weights as Glorot and Bengio drew them."""

    def __init__(self, width: int, cells: int, projection: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * cells, width))
        self.weight_hh = nn.Parameter(torch.empty(4 * cells, projection))
        self.weight_hr = nn.Parameter(torch.empty(projection, cells))
        self.bias = nn.Parameter(torch.zeros(4 * cells))
        # input and state are one input to the gates
        limit = math.sqrt(6 / (width + projection + 4 * cells))
        nn.init.uniform_(self.weight_ih, -limit, limit)
        nn.init.uniform_(self.weight_hh, -limit, limit)
        nn.init.xavier_uniform_(self.weight_hr)
        nn.init.ones_(self.bias[cells : 2 * cells])


def recur(
    layers: list[ProjectedLSTM], inputs: Tensor, state: Tensor, cell: Tensor, cell_clip: float, projection_clip: float
) -> tuple[Tensor, Tensor]:
    """The same step of D layers, one for each direction, over T steps of B sequences.

    inputs (D, T, B, width), state (D, B, P) and cell (D, B, C) before the first step -> states (D, T, B, P) and, without a gradient,
    cells (D, T, B, C). Cells and states never leave ±cell_clip and ±projection_clip.
    """
    weight_ih, weight_hh, weight_hr = (
        torch.stack([getattr(layer, name) for layer in layers]) for name in ("weight_ih", "weight_hh", "weight_hr")
    )
    bias = torch.stack([layer.bias for layer in layers])
    gates = torch.baddbmm(bias[:, None], inputs.flatten(1, 2), weight_ih.transpose(1, 2))
    gates = gates.view(*inputs.shape[:3], -1)
    states, cells = _Recurrence.apply(gates, weight_hh, weight_hr, state, cell, cell_clip, projection_clip)  # type: ignore[no-untyped-call]
    return states, cells


_sigmoid_backward, _tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


class _Recurrence(torch.autograd.Function):
    """Under autocast the products are in half precision; gates, cells and states stay in single."""

    @staticmethod
    def forward(
        context: Any,
        gates: Tensor,
        weight_hh: Tensor,
        weight_hr: Tensor,
        state: Tensor,
        cell: Tensor,
        cell_clip: float,
        projection_clip: float,
    ) -> tuple[Tensor, Tensor]:
        directions, steps, sequences, _ = gates.shape
        size = weight_hr.shape[2]
        dtype, exact = gates.dtype, torch.promote_types(gates.dtype, torch.float32)
        to_gates, to_state = weight_hh.to(dtype).transpose(1, 2), weight_hr.to(dtype).transpose(1, 2)
        gates = torch.empty_like(gates, dtype=exact).copy_(gates)
        cells = cell.new_empty(directions, steps + 1, sequences, size, dtype=exact)
        states = state.new_empty(directions, steps + 1, sequences, weight_hr.shape[1], dtype=exact)
        cells[:, 0], states[:, 0] = cell, state
        with torch.autocast(gates.device.type, enabled=False):
            for t in range(steps):
                now = gates[:, t]
                now += torch.bmm(states[:, t].to(dtype), to_gates)
                now[..., : 2 * size].sigmoid_()
                now[..., 2 * size : 3 * size].tanh_()
                now[..., 3 * size :].sigmoid_()
                let_in, kept, new, let_out = now.chunk(4, -1)
                after = cells[:, t + 1]
                torch.mul(kept, cells[:, t], out=after).addcmul_(let_in, new).clamp_(-cell_clip, cell_clip)
                shown = after.tanh().mul_(let_out).to(dtype)
                states[:, t + 1] = torch.bmm(shown, to_state).clamp_(-projection_clip, projection_clip)
        context.save_for_backward(gates, weight_hh, weight_hr, states, cells)
        context.clips, context.dtype = (cell_clip, projection_clip), dtype
        told = cells[:, 1:]
        context.mark_non_differentiable(told)
        return states[:, 1:], told

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gates, weight_hh, weight_hr, states, cells = context.saved_tensors
        dtype, (cell_clip, projection_clip) = context.dtype, context.clips
        from_gates, from_state = weight_hh.to(dtype), weight_hr.to(dtype)
        steps, size = gates.shape[1], cells.shape[-1]
        of_gates = torch.empty_like(gates)
        shown = torch.empty_like(cells[:, 1:], dtype=dtype)  # what went into the projection
        of_projected = torch.empty_like(above, dtype=dtype)
        of_cell, of_state = torch.zeros_like(cells[:, 0]), torch.zeros_like(states[:, 0])
        for t in reversed(range(steps)):
            let_in, kept, new, let_out = gates[:, t].chunk(4, -1)
            of_in, of_kept, of_new, of_out = of_gates[:, t].chunk(4, -1)
            tanh = cells[:, t + 1].tanh()
            shown[:, t] = tanh * let_out
            # what was clipped does not move
            of_projected[:, t] = (above[:, t] + of_state).mul_(states[:, t + 1].abs() < projection_clip)
            of_shown = torch.bmm(of_projected[:, t], from_state).to(of_cell.dtype)
            torch.mul(of_shown, tanh, out=of_out)
            of_cell += _tanh_backward(of_shown.mul_(let_out), tanh)
            of_cell.mul_(cells[:, t + 1].abs() < cell_clip)
            torch.mul(of_cell, new, out=of_in)
            torch.mul(of_cell, cells[:, t], out=of_kept)
            torch.mul(of_cell, let_in, out=of_new)
            of_cell.mul_(kept)
            now, of_now = gates[:, t], of_gates[:, t]
            for part, derivative in (
                (slice(0, 2 * size), _sigmoid_backward),
                (slice(2 * size, 3 * size), _tanh_backward),
                (slice(3 * size, None), _sigmoid_backward),
            ):
                of_now[..., part] = derivative(of_now[..., part], now[..., part])
            of_state = torch.bmm(of_now.to(dtype), from_gates).to(of_cell.dtype)
        flat = of_gates.to(dtype).flatten(1, 2)
        of_weight_hh = torch.bmm(flat.transpose(1, 2), states[:, :-1].to(dtype).flatten(1, 2))
        of_weight_hr = torch.bmm(of_projected.flatten(1, 2).transpose(1, 2), shown.flatten(1, 2))
        of_weights = of_weight_hh.to(weight_hh.dtype), of_weight_hr.to(weight_hr.dtype)
        return flat.view(gates.shape), *of_weights, of_state, of_cell, None, None
