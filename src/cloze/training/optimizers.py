"""Optimizers: settings objects that `build` a torch optimizer for a module, with no decay on norms and biases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cloze.errors import Refusal

Factors = Mapping[str, float]  # of learning rates, by the parameters' names


@dataclass(frozen=True)
class OptimizerSettings(ABC):
    """What every optimizer's settings have in common. `clip_norm` bounds the gradient's norm before the step; None does not."""

    learning_rate: float
    weight_decay: float
    clip_norm: float | None

    whole_matrices: ClassVar[bool] = False  # whether an update looks at a matrix as a whole

    def __post_init__(self) -> None:
        _need("learning_rate", self.learning_rate, self.learning_rate > 0, "be above 0")
        _need("weight_decay", self.weight_decay, self.weight_decay >= 0, "not be below 0")
        if self.clip_norm is not None:
            _need("clip_norm", self.clip_norm, self.clip_norm > 0, "be above 0, or null for no clipping")

    @abstractmethod
    def build(
        self,
        module: nn.Module,
        fused: bool = True,
        matrices: Collection[str] | None = None,
        factors: Factors | None = None,
    ) -> torch.optim.Optimizer:
        """The optimizer of the module's trainable parameters. `fused=False` where gradients are scaled (16-mixed).

        `matrices` are the names of the parameters that had two dimensions and more before they were cut up (`matrices_of`).
        `factors` says what a parameter's learning rate is multiplied by, by its name, where that is not 1.
        """

    def _groups(
        self, module: nn.Module, matrices: Collection[str] | None, factors: Factors | None
    ) -> list[dict[str, Any]]:
        return decay_groups(module, self.weight_decay, matrices, self.learning_rate, factors)


@dataclass(frozen=True)
class AdamW(OptimizerSettings):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101), torch's fused kernel."""

    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        _need_moments(self.beta1, self.beta2, self.epsilon)

    def build(
        self,
        module: nn.Module,
        fused: bool = True,
        matrices: Collection[str] | None = None,
        factors: Factors | None = None,
    ) -> torch.optim.Optimizer:
        groups = self._groups(module, matrices, factors)
        fused = fused and all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in module.parameters())
        return torch.optim.AdamW(
            groups, lr=self.learning_rate, betas=(self.beta1, self.beta2), eps=self.epsilon, fused=fused
        )


@dataclass(frozen=True)
class LAMB(OptimizerSettings):
    """Layer-wise adaptive moments for large batches (You et al. 2020, https://arxiv.org/abs/1904.00962, algorithm 2)."""

    whole_matrices: ClassVar[bool] = True

    learning_rate: float = 1.76e-3
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    bias_correction: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _need_moments(self.beta1, self.beta2, self.epsilon)

    def build(
        self,
        module: nn.Module,
        fused: bool = True,
        matrices: Collection[str] | None = None,
        factors: Factors | None = None,
    ) -> torch.optim.Optimizer:
        groups = self._groups(module, matrices, factors)
        for group, adapted in zip(groups, cycle((True, False)), strict=False):
            group["adapted"] = adapted
        return Lamb(groups, self.learning_rate, (self.beta1, self.beta2), self.epsilon, self.bias_correction)


@dataclass(frozen=True)
class Adafactor(OptimizerSettings):
    """Factored second moments, updates scaled by each matrix's own size (Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235).

    transformers' implementation, the learning rate given from outside. T5's rate, 1 / sqrt(max(step, 10,000)), is
    learning_rate=0.01 with schedule=inverse_square_root schedule.rise=flat.
    """

    whole_matrices: ClassVar[bool] = True

    learning_rate: float = 0.01
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_update: float = 1.0
    decay_exponent: float = 0.8
    beta1: float | None = None
    scale_parameter: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _need("clip_update", self.clip_update, self.clip_update > 0, "be above 0")
        _need("decay_exponent", self.decay_exponent, 0 < self.decay_exponent <= 1, "lie in (0, 1]")
        if self.beta1 is not None:
            _need("beta1", self.beta1, 0 <= self.beta1 < 1, "lie in [0, 1), or be null for no first moment")

    def build(
        self,
        module: nn.Module,
        fused: bool = True,
        matrices: Collection[str] | None = None,
        factors: Factors | None = None,
    ) -> torch.optim.Optimizer:
        from transformers.optimization import Adafactor as Implementation

        optimizer: torch.optim.Optimizer = Implementation(  # type: ignore[no-untyped-call]
            self._groups(module, matrices, factors), lr=self.learning_rate, clip_threshold=self.clip_update,
            decay_rate=-self.decay_exponent, beta1=self.beta1, scale_parameter=self.scale_parameter, relative_step=False,
        )  # fmt: skip
        return optimizer


@dataclass(frozen=True)
class Adagrad(OptimizerSettings):
    """Each weight's step goes by the root of the sum of all its squared gradients (Duchi et al. 2011,
    https://jmlr.org/papers/v12/duchi11a.html): ELMo's optimizer. The sum begins at `initial_sum`, so that first steps are not too long.
    Weight decay is added to the gradient.
    """

    learning_rate: float = 0.2
    weight_decay: float = 0.0
    clip_norm: float | None = 10.0
    initial_sum: float = 1.0
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        _need("initial_sum", self.initial_sum, self.initial_sum >= 0, "not be below 0")
        _need("epsilon", self.epsilon, self.epsilon > 0, "be above 0")

    def build(
        self,
        module: nn.Module,
        fused: bool = True,
        matrices: Collection[str] | None = None,
        factors: Factors | None = None,
    ) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(
            self._groups(module, matrices, factors), lr=self.learning_rate, eps=self.epsilon,
            initial_accumulator_value=self.initial_sum,
        )  # fmt: skip


def matrices_of(module: nn.Module) -> frozenset[str]:
    """Names of the parameters with two dimensions or more: to be asked before FSDP makes flat pieces of them."""
    return frozenset(_plain(name) for name, p in module.named_parameters(remove_duplicate=False) if p.ndim >= 2)


def decay_groups(
    module: nn.Module,
    weight_decay: float,
    matrices: Collection[str] | None = None,
    learning_rate: float | None = None,
    factors: Factors | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups in twos: what decays, and what does not (norms and biases: everything with fewer than two dimensions).

    Two groups are all there are, unless `factors` gives some parameters another rate than the optimizer's `learning_rate`: each such
    rate has two of its own, the highest first, with `lr` in them. `matrices` as in `OptimizerSettings.build`; None: as the parameters
    are now. Parameters that are not trained are left out; tied ones stand once.
    """
    names = matrices_of(module) if matrices is None else matrices
    trained = [(_plain(name), parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    rate = {name: (factors or {}).get(name, 1.0) for name, _ in trained}
    groups: list[dict[str, Any]] = []
    for factor in sorted({1.0, *rate.values()}, reverse=True):
        own = {} if factor == 1 or learning_rate is None else {"lr": learning_rate * factor}
        here = [(name, parameter) for name, parameter in trained if rate[name] == factor]
        groups += [
            {"params": [p for name, p in here if name in names], "weight_decay": weight_decay, **own},
            {"params": [p for name, p in here if name not in names], "weight_decay": 0.0, **own},
        ]
    return groups


def refuse_pieces(optimizer: OptimizerSettings, strategy: str) -> None:
    """Raises Refusal where an optimizer that looks at whole matrices would be given pieces of them."""
    if strategy == "fsdp" and optimizer.whole_matrices:
        raise Refusal(
            f"optimizer={type(optimizer).__name__.lower()} scales each matrix's update by the whole matrix, and "
            "hardware.strategy=fsdp cuts matrices into pieces; take optimizer=adamw or hardware.strategy=ddp"
        )


def _plain(name: str) -> str:
    """A parameter's name without what FSDP writes into it."""
    return name.replace("_fsdp_wrapped_module.", "")


class Lamb(torch.optim.Optimizer):
    """LAMB's update. A group with `adapted` False (norms, biases) takes Adam's step, without the trust ratio."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        bias_correction: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "adapted": True,
                    "bias_correction": bias_correction}  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; returns what the closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(group, parameters)
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter].update(
                    step=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter)
                )
            self.state[parameter]["step"] += 1
        first = [self.state[parameter]["first"] for parameter in parameters]
        second = [self.state[parameter]["second"] for parameter in parameters]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)

        steps = [self.state[parameter]["step"] for parameter in parameters]
        corrected = group["bias_correction"]
        updates = torch._foreach_div(second, [1 - beta2**step if corrected else 1.0 for step in steps])
        torch._foreach_sqrt_(updates)
        torch._foreach_add_(updates, group["eps"])
        numerators = torch._foreach_div(first, [1 - beta1**step if corrected else 1.0 for step in steps])
        updates = torch._foreach_div(numerators, updates)
        if group["weight_decay"]:
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        if group["adapted"]:
            sizes, lengths = torch._foreach_norm(parameters), torch._foreach_norm(updates)
            ratios = [
                torch.where((size > 0) & (length > 0), size / length, torch.ones_like(size))
                for size, length in zip(sizes, lengths, strict=True)
            ]
            torch._foreach_mul_(updates, ratios)
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])


def _need(name: str, value: object, holds: bool, what: str) -> None:
    if not holds:
        raise Refusal(f"optimizer.{name}={value} must {what}")


def _need_moments(beta1: float, beta2: float, epsilon: float) -> None:
    _need("beta1", beta1, 0 <= beta1 < 1, "lie in [0, 1)")
    _need("beta2", beta2, 0 <= beta2 < 1, "lie in [0, 1)")
    _need("epsilon", epsilon, epsilon > 0, "be above 0")
