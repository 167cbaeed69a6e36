"""Hardware: everything that may change speed and memory and, but for how the precision rounds, never what is learnt."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Literal

import torch

from cloze.errors import Refusal

Accelerator = Literal["cpu", "gpu", "mps", "tpu"]
Precision = Literal["auto", 32, "bf16-mixed", "16-mixed", "bf16-true"]


@dataclass(frozen=True)
class Cut:
    """How one optimizer step's examples are cut: `world` ranks, each with `parts_per_rank` micro-batches of `micro_batch`."""

    batch_size: int
    world: int
    micro_batch: int
    parts_per_rank: int


@dataclass(frozen=True)
class Resolved:
    """The machine that a run has got, every "auto" decided save for the threads (those are measured: training/threads.py)."""

    accelerator: Accelerator
    devices: int
    nodes: int
    strategy: Literal["single", "ddp", "fsdp"]
    precision: str  # as Lightning names it
    workers: int
    cut: Cut

    @property
    def world(self) -> int:
        """How many processes train."""
        return self.devices * self.nodes


@dataclass(frozen=True)
class Hardware:
    """Settings of conf/hardware: the choices differ only in their defaults."""

    accelerator: Literal["auto", "cpu", "gpu", "mps", "tpu"] = "auto"
    devices: Literal["auto"] | int = "auto"
    nodes: int = 1
    strategy: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    precision: Precision = "auto"
    micro_batch: int | None = None
    workers: Literal["auto"] | int = "auto"
    threads: Literal["auto"] | int = "auto"
    compile: bool = False
    layout: Literal["packed", "padded"] = "packed"
    deterministic: bool = False
    timeout: float = 600.0

    def __post_init__(self) -> None:
        for name, least in (("devices", 1), ("nodes", 1), ("micro_batch", 1), ("workers", 0), ("threads", 1)):
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                raise Refusal(f"hardware.{name}={value} must be at least {least}")
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise Refusal(f"hardware.timeout={self.timeout} must be above 0 seconds")
        devices = self.devices if isinstance(self.devices, int) else 1
        if self.strategy == "single" and devices * self.nodes > 1:
            raise Refusal(
                f"hardware.strategy=single takes one device; hardware.devices={self.devices} and "
                f"hardware.nodes={self.nodes} need hardware.strategy=ddp or fsdp"
            )

    def prepare(self) -> None:
        """Takes the threads that are asked for, before anything is computed; "auto" is measured later, on the model."""
        if isinstance(self.threads, int):
            torch.set_num_threads(self.threads)

    def resolve(self, batch_size: int) -> Resolved:
        """Every "auto" decided for this machine. Raises Refusal where it cannot do what was asked for."""
        accelerator = self._accelerator()
        here = _count(accelerator)
        devices = self.devices if isinstance(self.devices, int) else (1 if accelerator in ("cpu", "mps") else here)
        if devices > here:
            things = {"cpu": "cores", "gpu": "GPUs", "mps": "device", "tpu": "TPU cores"}[accelerator]
            raise Refusal(f"hardware.devices={devices}: this machine has {here} {things}")
        world = devices * self.nodes
        strategy = self.strategy if self.strategy != "auto" else ("ddp" if world > 1 else "single")
        if strategy == "fsdp" and accelerator != "gpu":
            raise Refusal(f"hardware.strategy=fsdp needs GPUs; on {accelerator} take hardware.strategy=ddp")
        if strategy == "ddp" and accelerator == "mps":
            raise Refusal("hardware.strategy=ddp: there is one mps device; take hardware.strategy=single")
        precision = self.precision if self.precision != "auto" else best_precision(accelerator)
        if precision == "16-mixed" and accelerator == "cpu":
            raise Refusal("hardware.precision=16-mixed needs a GPU; on the CPU take bf16-mixed or 32")
        workers = self.workers if isinstance(self.workers, int) else _workers(accelerator, devices)
        return Resolved(
            accelerator, devices, self.nodes, strategy, "32-true" if precision == 32 else str(precision), workers,
            self.cut(batch_size, world),
        )  # fmt: skip

    def cut(self, batch_size: int, world: int) -> Cut:
        """How a step's examples are shared out. Raises Refusal where they do not come out even."""
        micro = self.micro_batch or batch_size // world
        if micro == 0 or batch_size % (world * micro):
            divisors = [n for n in range(1, batch_size // world + 1) if batch_size % (world * n) == 0]
            advice = (
                f"hardware.micro_batch={min(divisors, key=lambda n: abs(n - micro))} would"
                if divisors
                else f"batch_size={max(1, round(batch_size / world)) * world} would"
            )
            raise Refusal(
                f"batch_size={batch_size} cannot be cut for {world} devices into micro-batches of {micro} "
                f"(hardware.micro_batch): {batch_size} is not a multiple of {world} × {micro}; {advice}"
            )
        return Cut(batch_size, world, micro, batch_size // (world * micro))

    def _accelerator(self) -> Accelerator:
        asked = self.accelerator
        if asked == "auto":
            return "gpu" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        if asked == "gpu" and not torch.cuda.is_available():
            raise Refusal(
                f"hardware.accelerator=gpu: torch {torch.__version__} sees no GPU here; hardware=auto takes what there is"
            )
        if asked == "mps" and not torch.backends.mps.is_available():
            raise Refusal("hardware.accelerator=mps: there is no Apple GPU here; hardware=auto takes what there is")
        if asked == "tpu" and not _has_tpu():
            raise Refusal(
                "hardware.accelerator=tpu: torch_xla is not installed or sees no TPU; hardware=auto takes what there is"
            )
        return asked


def best_precision(accelerator: str) -> Literal[32, "bf16-mixed"]:
    """bf16 where the machine computes in it natively, else 32."""
    if accelerator == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else 32
    if accelerator == "tpu":
        return "bf16-mixed"
    return "bf16-mixed" if accelerator == "cpu" and _cpu_has_bf16() else 32


def _cpu_has_bf16() -> bool:
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(ask() for ask in asked if ask is not None)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(accelerator: str) -> int:
    if accelerator == "gpu":
        return torch.cuda.device_count()
    if accelerator == "tpu":
        import torch_xla  # type: ignore[import-not-found,import-untyped,unused-ignore]

        return int(torch_xla.device_count())
    return 1 if accelerator == "mps" else cores()


def _workers(accelerator: str, devices: int) -> int:
    """Beside a GPU the CPU's cores are free for the data; on the CPU they are not, and the data path hardly needs them."""
    return 0 if accelerator in ("cpu", "mps") else max(1, min(4, cores() // (2 * devices)))


def _has_tpu() -> bool:
    import importlib.util

    return importlib.util.find_spec("torch_xla") is not None


def lightning_settings(hardware: Hardware, resolved: Resolved) -> dict[str, Any]:
    """The same as arguments of Lightning's Trainer."""
    import datetime

    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy

    timeout = datetime.timedelta(seconds=hardware.timeout)
    strategy: Any = "auto"
    if resolved.strategy == "ddp":
        backend = "gloo" if resolved.accelerator == "cpu" else None
        strategy = DDPStrategy(process_group_backend=backend, timeout=timeout, gradient_as_bucket_view=True)
    elif resolved.strategy == "fsdp":
        strategy = FSDPStrategy(state_dict_type="full", timeout=timeout)
    settings: dict[str, Any] = {
        "accelerator": resolved.accelerator, "devices": resolved.devices, "num_nodes": resolved.nodes,
        "strategy": strategy, "precision": resolved.precision, "accumulate_grad_batches": resolved.cut.parts_per_rank,
        "deterministic": hardware.deterministic,
    }  # fmt: skip
    if (
        resolved.precision in ("16-mixed", "bf16-mixed")
        and resolved.strategy != "fsdp"
        and resolved.accelerator != "tpu"
    ):
        from cloze.training.precision import CachedMixedPrecision

        device = {"gpu": "cuda"}.get(resolved.accelerator, resolved.accelerator)
        del settings["precision"]
        settings["plugins"] = [CachedMixedPrecision(resolved.precision, device)]  # type: ignore[arg-type]
    if SLURMEnvironment.detect():
        # Lightning's own requeueing saves inside a signal handler; ours saves at the next step, and `sbatch --requeue` requeues
        settings.setdefault("plugins", []).append(SLURMEnvironment(auto_requeue=False))
    return settings
