"""BERT-base on one CUDA GPU in bf16: that every layout agrees, then tokens/s and MFU, ours and transformers' in turn.

PYTHONPATH=src python -m benchmarks.gpu [--lengths 128 512] [--tokens 65536] [--rounds 20]

Needs torch and transformers, nothing else. MFU counts useful work only (real tokens, the head at masked ones) over the
790 TFLOP/s that a large bf16 product reaches on an H200; `--peak` says otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import steps, texts
from cloze.data.base import Vocabulary
from cloze.models.base import Batch
from cloze.models.bert import Bert
from cloze.models.layers.attention import attend
from cloze.models.layout import Layout, Pattern, Way
from cloze.objectives.mlm import MaskedLM
from cloze.training.optimizers import AdamW

Step = Callable[[], torch.Tensor]


# --- correctness ------------------------------------------------------------------------------------------------------


def check_attention() -> None:
    """Outputs and gradients of each way against single precision's, on ragged lengths."""
    lengths, others = [300, 4, 512, 64, 1, 511, 64, 129], [7, 200, 64, 512, 1, 33, 64, 300]
    for kind in ("bidirectional", "causal", "prefix", "cross"):
        results: dict[str, list[torch.Tensor]] = {}
        ways: list[tuple[str, Way | None, torch.dtype]] = [
            ("exact", "padded", torch.float32),
            ("grouped", "grouped", torch.bfloat16),
            ("padded", "padded", torch.bfloat16),
            ("flash", "flash", torch.bfloat16),
            ("usual", None, torch.bfloat16),
        ]
        for name, way, dtype in ways:
            torch.manual_seed(0)
            pattern: Pattern = "bidirectional" if kind == "cross" else kind  # type: ignore[assignment]
            prefix = [(n + 1) // 2 for n in lengths]
            # grouped attention indexes with tensors of the CPU: it is the CPU's way, and is compared there
            device = "cpu" if way == "grouped" else "cuda"
            layout = Layout(lengths, pattern, prefix, way=way).to(device)
            memory = Layout(others, way=way).to(device) if kind == "cross" else None
            drawn = [torch.randn(sum(ns), 12, 64) for ns in (lengths, others if memory else lengths)]
            q, k, v = (x.to(device, dtype).requires_grad_() for x in (drawn[0], drawn[1], drawn[1].flip(0)))
            out = attend(q, k, v, layout, memory)
            probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)
            results[name] = [
                x.detach().float().cpu() for x in (out, *torch.autograd.grad((out * probe).sum(), [q, k, v]))
            ]
        exact = results.pop("exact")
        for name, found in results.items():
            worst = max(float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))
            print(
                f"attention, {kind}, {name}: relative error {worst:.1e} {'ok' if worst < 2e-2 else 'WRONG'}", flush=True
            )


def check_dropout() -> None:
    """Flash attention's dropout: the right share, the right scale, decided by the seed."""
    layout = Layout([128] * 16).to("cuda")
    q, k = torch.randn(2, 2048, 4, 128, device="cuda", dtype=torch.bfloat16).unbind(0)
    v = torch.eye(128, device="cuda", dtype=torch.bfloat16).repeat(16, 1)[:, None].expand(-1, 4, -1).contiguous()
    whole = attend(q, k, v, layout).float()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(attend(q, k, v, layout, dropout=0.1, training=True).float())
    there = whole > 1e-5
    gone = (found[0] == 0) & there
    kept = there & ~gone
    share, scale = float(gone.sum() / there.sum()), float((found[0][kept] / whole[kept]).mean())
    right = abs(share - 0.1) < 2e-3 and abs(scale - 1 / 0.9) < 5e-3
    right = right and torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    print(f"flash dropout 0.1: share {share:.4f}, scale {scale:.4f} {'ok' if right else 'WRONG'}", flush=True)


def check_model() -> None:
    """A whole BERT against transformers', fp32 and bf16, and its static-shape batch against its flat one."""
    import transformers

    from cloze.models.static_shapes import pad

    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=1000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4)
    config.intermediate_size = 1024
    reference = transformers.BertModel(config, add_pooling_layer=False).cuda().eval()
    settings, weights = Bert.from_transformers(config.to_dict(), reference.state_dict())
    model = Bert(1000, 512, False, **settings).cuda().eval()
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
    case = steps.Case("bert", "tiny", 512, 8, (None, None))
    rows = [np.random.default_rng(n).integers(10, 1000, n) for n in (300, 4, 512, 64, 17, 511, 64, 129)]
    fields = {name: field.cuda() for name, field in steps.padded(case, rows).items() if name != "labels"}
    batch = steps.flat(case, rows).to("cuda")
    static, places = pad(batch.inputs, 512)
    with torch.no_grad():
        expected = reference(**fields).last_hidden_state[fields["attention_mask"].bool()]
        for name, half in (("fp32", False), ("bf16", True)):
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                found = model(batch).last.float()
                shaped = model(Batch(static, {}, {}, {})).last.float()[places]
            limit = 5e-2 if half else 2e-4
            for kind, states in (("flat", found), ("static", shaped)):
                error = float((states - expected).norm() / expected.norm())
                print(
                    f"BERT, {name}, {kind}: relative error {error:.1e} {'ok' if error < limit else 'WRONG'}", flush=True
                )


# --- speed ------------------------------------------------------------------------------------------------------------


def ours(case: steps.Case, compiled: bool) -> Callable[[steps.Lengths], Step]:
    """Our step; compiled with sizes left open, so that one program serves batches of any number of tokens."""
    torch.manual_seed(0)
    words = Vocabulary(steps.VOCABULARY["bert"], {"pad": 0, "cls": 1, "sep": 2, "mask": 3})
    with torch.device("cuda"):
        model = Bert(words.size, case.length, False)
        objective = MaskedLM(model, words)
    module = nn.ModuleDict({"model": model, "objective": objective}).train()

    def loss_of(batch: Batch) -> torch.Tensor:
        (term,) = objective(model, batch).terms.values()
        return term.total / term.count

    return stepper(
        module,
        torch.compile(loss_of, dynamic=True) if compiled else loss_of,
        lambda rows: steps.flat(case, rows).to("cuda"),
        AdamW().build(module),
    )


def theirs(case: steps.Case, compiled: bool) -> Callable[[steps.Lengths], Step]:
    """transformers' step with SDPA, padded to the longest of the batch."""
    import transformers

    torch.manual_seed(0)
    with torch.device("cuda"):
        model = transformers.BertForMaskedLM(transformers.BertConfig(attn_implementation="sdpa")).train()
    run = torch.compile(model) if compiled else model
    return stepper(
        model,
        lambda fields: run(**fields).loss,
        lambda rows: {name: field.cuda() for name, field in steps.padded(case, rows).items()},
        torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True),
    )


def stepper(
    module: nn.Module, loss_of: Callable[[Any], torch.Tensor], lay_out: Callable[[steps.Lengths], Any], optimizer: Any
) -> Callable[[steps.Lengths], Step]:
    """Forward, backward, clipping and AdamW under bf16 autocast; batches are on the device before the time is taken."""
    parameters = list(module.parameters())

    def prepare(rows: steps.Lengths) -> Step:
        batch = lay_out(rows)

        def run() -> torch.Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                loss = loss_of(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss.detach()

        return run

    return prepare


def pieces(length: int, batch: int, count: int) -> list[steps.Lengths]:
    """Batches of documents cut into pieces of at most `length`: full ones, and what is left of each."""
    found = steps.cut(texts.tokenised(steps.VOCABULARY["bert"])[1], length)
    chosen = np.random.default_rng(1).choice(len(found), (count, batch))
    return [[found[i] for i in row] for row in chosen]


def measure(length: int, batch: int, rounds: int, warm: int, peak: float) -> None:
    """All four in turn on the same batches; a variant that fails is reported and left out."""
    case = steps.Case("bert", "base", length, batch, (None, None))
    given = pieces(length, batch, rounds)
    real = statistics.mean(sum(map(len, rows)) for rows in given)
    work = statistics.mean(steps.flops(case, [len(text) for text in rows]) for rows in given)
    makers = {
        "hf": lambda: theirs(case, False),
        "hf, compiled": lambda: theirs(case, True),
        "ours": lambda: ours(case, False),
        "ours, compiled": lambda: ours(case, True),
    }
    variants: dict[str, Callable[[steps.Lengths], Step]] = {}
    for name, make in makers.items():
        try:
            began = time.perf_counter()
            prepare = make()
            losses = [float(prepare(given[i % rounds])()) for i in range(warm)]
            torch.cuda.synchronize()
            taken = time.perf_counter() - began
            print(f"{name}: ready in {taken:.0f} s, loss {losses[0]:.3f} -> {losses[-1]:.3f}", flush=True)
            variants[name] = prepare
        except Exception:
            print(f"{name}: failed\n{traceback.format_exc(limit=-4)}", flush=True)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for rows in given:
        for name, prepare in variants.items():
            run = prepare(rows)
            torch.cuda.synchronize()
            began = time.perf_counter()
            run()
            torch.cuda.synchronize()
            times[name].append(time.perf_counter() - began)
    full = real / (batch * length)
    print(
        f"\n| BERT-base, length {length}, {batch} sequences ({full:.0%} full) | ms | real tokens/s | MFU | over hf compiled |"
    )
    print("|---|---|---|---|---|")
    base = statistics.median(times["hf, compiled"]) if "hf, compiled" in times else float("nan")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(
            f"| {name} | {1000 * median:.1f} | {real / median:,.0f} | {work / median / peak:.1%} | {base / median:.2f} |",
            flush=True,
        )
    print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB\n", flush=True)


def main() -> None:
    """Checks, then measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="*", default=[128, 512])
    parser.add_argument("--tokens", type=int, default=1 << 16, help="places in a batch: sequences times length")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warm", type=int, default=6, help="steps before measuring: programs are compiled in them")
    parser.add_argument("--peak", type=float, default=790e12, help="FLOP/s of a large bf16 product")
    parser.add_argument("--no-checks", action="store_true")
    given = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    if not given.no_checks:
        for check in (check_attention, check_dropout, check_model):
            try:
                check()
            except Exception:
                print(f"{check.__name__}: failed\n{traceback.format_exc(limit=-4)}", flush=True)
    for length in given.lengths:
        torch.compiler.reset()
        torch.cuda.empty_cache()
        measure(length, given.tokens // length, given.rounds, given.warm, given.peak)


if __name__ == "__main__":
    main()
