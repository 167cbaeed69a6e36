"""One training step, ours and transformers': forward, backward, clipping, AdamW, on the same batches.

python -m benchmarks.steps [bert] [t5] [gpt2] [--threads N] [--rounds N]

Two references. `hf` is transformers' model as its example scripts train it (fp32, SDPA, padded to the longest of the batch,
fused AdamW), in a process of its own that nothing of ours has set up; for a causal model, whose batches have no padding,
under bf16 autocast. `hf bf16` is under bf16 autocast in our process, with our allocator and thread settings. All take turns
on the same batches; the figures are medians, and the ratios are medians of the ratios in a turn. With one thread CPU time is
measured, so that other work on the machine hardly counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.texts import tokenised

if TYPE_CHECKING:
    import torch

    from cloze.models.base import Batch

BF16_PEAK = (
    490e9  # multiply-adds of a large product in bf16, FLOP/s a core, measured on the machine of the published figures
)
Lengths = list[NDArray[np.int64]]


@dataclass(frozen=True)
class Case:
    """A model and the shape of its batches. `goal`: the least ratio over `hf`, over `hf bf16` (None: not asked)."""

    family: str
    size: str
    length: int
    batch: int
    goal: tuple[float | None, float | None]

    @property
    def name(self) -> str:
        return f"{self.family} {self.size}, {self.length}, {self.batch}"


CASES = [
    Case("bert", "tiny", 128, 32, (6.0, 3.0)),
    Case("bert", "tiny", 512, 8, (6.0, 3.0)),
    Case("bert", "mini", 128, 32, (4.5, 2.0)),
    Case("bert", "mini", 512, 8, (4.5, 2.0)),
    Case("bert", "base", 128, 16, (3.5, 1.25)),
    Case("bert", "base", 512, 4, (3.5, 1.25)),
    Case("t5", "mini", 512, 8, (None, 1.4)),
    Case("gpt2", "tiny", 512, 8, (1.4, None)),
    Case("gpt2", "mini", 1024, 4, (1.4, None)),
    Case("gpt2", "base", 512, 2, (1.1, None)),
]
SIZES = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "base": (12, 768, 12)}  # layers, width, heads
VOCABULARY = {"bert": 30522, "t5": 32128, "gpt2": 50257}
IGNORED = -100  # transformers' label of a token that is no target


def batches(case: Case, count: int) -> tuple[str, list[Lengths]]:
    """Batches of documents in random order; a causal model's are full, cut from one stream."""
    name, texts = tokenised(VOCABULARY[case.family])
    generator = np.random.default_rng(1)
    if case.family == "gpt2":
        stream = np.concatenate(texts)
        starts = generator.integers(0, len(stream) - case.length, (count, case.batch))
        return name, [[stream[s : s + case.length] for s in row] for row in starts]
    pieces = cut(texts, case.length)
    chosen = generator.choice(len(pieces), (count, case.batch))
    return name, [[pieces[i] for i in row] for row in chosen]


def cut(texts: Lengths, length: int) -> Lengths:
    """Documents of at least `length` tokens in pieces of that many: full ones and, from 16 tokens on, what is left of each.

    About three quarters full then, as documents laid out one by one are; shorter ones would flatter us.
    """
    long = [text for text in texts if len(text) >= length]
    pieces = [text[start : start + length] for text in long for start in range(0, len(text), length)]
    return [piece for piece in pieces if len(piece) >= 16]


def spans(size: int) -> int:
    """Tokens of T5's target for an input of this many: 15 % of the text in spans of 3, a sentinel each, and the end."""
    return max(2, round(size * 114 / 512))


Prepare = Callable[
    [Lengths], Callable[[], None]
]  # a batch is laid out first, as a data loader does it; then the step runs


# --- theirs -----------------------------------------------------------------------------------------------------------


def theirs(case: Case, half: bool) -> Prepare:
    """transformers' step, batches padded to their longest."""
    import torch
    import transformers

    torch.manual_seed(0)
    layers, width, heads = SIZES[case.size]
    vocabulary = VOCABULARY[case.family]
    model: Any
    if case.family == "bert":
        shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
        config = transformers.BertConfig(vocab_size=vocabulary, intermediate_size=4 * width, **shape)
        model = transformers.BertForMaskedLM(config)
    elif case.family == "t5":
        shape = {"d_model": width, "d_kv": 64, "d_ff": 4 * width, "num_layers": layers, "num_heads": heads}
        model = transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=vocabulary, decoder_start_token_id=0, **shape)
        )
    else:
        shape = {"n_embd": width, "n_layer": layers, "n_head": heads}
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=vocabulary, n_positions=max(512, case.length), **shape)
        )
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def prepare(texts: Lengths) -> Callable[[], None]:
        fields = padded(case, texts)

        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = model(**fields).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return run

    return prepare


def padded(case: Case, texts: Lengths) -> dict[str, torch.Tensor]:
    """A batch as transformers' collators make it."""
    import torch

    def rectangle(rows: Lengths, fill: int) -> torch.Tensor:
        out = np.full((len(rows), max(map(len, rows))), fill)
        for row, text in zip(out, rows, strict=True):
            row[: len(text)] = text
        return torch.from_numpy(out)

    if case.family == "gpt2":
        tokens = rectangle(texts, 0)
        return {"input_ids": tokens, "labels": tokens}
    fields = {"input_ids": rectangle(texts, 0), "attention_mask": rectangle([np.ones_like(text) for text in texts], 0)}
    if case.family == "t5":
        return fields | {"labels": rectangle([text[: spans(len(text))] for text in texts], IGNORED)}
    labels = rectangle(texts, IGNORED)
    places = torch.cat([torch.from_numpy(at) + row * labels.shape[1] for row, at in enumerate(map(masked, texts))])
    chosen = torch.zeros(labels.numel(), dtype=torch.bool).index_fill_(0, places, True).view_as(labels)
    return fields | {"labels": labels.where(chosen, IGNORED), "token_type_ids": torch.zeros_like(labels)}


def masked(text: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of 15 % of a text's tokens, the same for both sides."""
    return np.sort(np.random.default_rng(len(text)).permutation(len(text))[: max(1, round(0.15 * len(text)))])


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(case: Case) -> Prepare:
    """Our step: real tokens only, the head at targets only, bf16 autocast; the objective's own forward."""
    import torch
    from torch import nn

    from cloze.data.base import Vocabulary
    from cloze.training.optimizers import AdamW

    torch.manual_seed(0)
    layers, width, heads = SIZES[case.size]
    shape = {"layers": layers, "width": width, "heads": heads, "inner": 4 * width}
    words = Vocabulary(VOCABULARY[case.family], {"pad": 0, "cls": 1, "sep": 2, "mask": 3, "eos": 4, "bos": 5})
    model: Any
    objective: Any
    if case.family == "bert":
        from cloze.models.bert import Bert
        from cloze.objectives.mlm import MaskedLM

        model = Bert(words.size, case.length, False, **shape)
        objective = MaskedLM(model, words)
    elif case.family == "t5":
        from cloze.models.t5 import T5
        from cloze.objectives.span_corruption import SpanCorruption

        model = T5(words.size, case.length, False, head_width=64, **shape)
        objective = SpanCorruption(model, words)
    else:
        from cloze.models.gpt2 import GPT2
        from cloze.objectives.clm import CausalLM

        model = GPT2(words.size, case.length, False, **shape)
        objective = CausalLM(model, words)
    module = nn.ModuleDict({"model": model, "objective": objective}).train()
    optimizer = AdamW().build(module)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def prepare(texts: Lengths) -> Callable[[], None]:
        batch = flat(case, texts)

        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                (term,) = objective(model, batch).terms.values()
                loss = term.total / term.count
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return run

    return prepare


def flat(case: Case, texts: Lengths) -> Batch:
    """The same batch as ours is: flat tensors of real tokens, with the same targets."""
    import torch

    from cloze.models.base import Batch, Sequences
    from cloze.models.layout import Layout, Pattern

    def sequences(rows: Lengths, pattern: Pattern = "bidirectional") -> Sequences:
        lengths = [len(row) for row in rows]
        tokens, positions = np.concatenate(rows), np.concatenate([np.arange(n) for n in lengths])
        return Sequences(torch.from_numpy(tokens), Layout(lengths, pattern), torch.from_numpy(positions))

    if case.family == "bert":
        starts = np.cumsum([0, *map(len, texts)])
        at = torch.from_numpy(
            np.concatenate([start + masked(text) for start, text in zip(starts, texts, strict=False)])
        )
        inputs = sequences(texts)
        return Batch(inputs, {"at": at, "tokens": inputs.tokens[at]}, {}, {})
    if case.family == "t5":
        outputs = [text[: spans(len(text))] for text in texts]
        decoder = sequences([np.concatenate([[0], row[:-1]]) for row in outputs], "causal")
        targets = {"tokens": torch.from_numpy(np.concatenate(outputs))}
        return Batch(sequences(texts), targets, {}, {}, decoder=decoder)
    inputs = sequences([text[:-1] for text in texts], "causal")
    return Batch(inputs, {"tokens": torch.from_numpy(np.concatenate([text[1:] for text in texts]))}, {}, {})


# --- taking turns -----------------------------------------------------------------------------------------------------


def timed(run: Callable[[], None], threads: int) -> float:
    """Seconds: of CPU time with one thread, else by the clock."""
    clock = time.process_time if threads == 1 else time.perf_counter
    began = clock()
    run()
    return clock() - began


def child(case: Case, threads: int, count: int) -> None:
    """The process of `hf` as shipped: for each number read, steps on that batch and prints the seconds it took."""
    import torch

    torch.set_num_threads(threads)
    prepare, given = theirs(case, half=case.family == "gpt2"), batches(case, count)[1]
    print("ready", flush=True)
    for line in sys.stdin:
        print(timed(prepare(given[int(line)]), threads), flush=True)


class Child:
    """That process, seen from here."""

    def __init__(self, case: Case, threads: int, count: int) -> None:
        ours_only = ("OMP_WAIT_POLICY", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
        environment = {name: value for name, value in os.environ.items() if name not in ours_only}
        words = ["--child", str(CASES.index(case)), "--threads", str(threads), "--rounds", str(count)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.steps", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process of hf as shipped ended")
        return line

    def step(self, number: int) -> float:
        assert self.process.stdin is not None
        print(number, file=self.process.stdin, flush=True)
        return float(self._line())

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(case: Case, threads: int, rounds: int) -> dict[str, float]:
    """Medians in seconds of each, and of the ratios in each turn; the first two turns are for warming up."""
    count = rounds + 2
    given = batches(case, count)[1]
    sides = {"hf bf16": theirs(case, half=True), "ours": ours(case)}
    shipped = Child(case, threads, count)
    times: dict[str, list[float]] = {"hf": [], "hf bf16": [], "ours": []}
    try:
        for turn in range(count):
            taken = {"hf": shipped.step(turn)}
            for name, prepare in sides.items():
                taken[name] = timed(prepare(given[turn]), threads)
            if turn >= 2:
                for name, seconds in taken.items():
                    times[name].append(seconds)
    finally:
        shipped.end()
    result = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name in ("hf", "hf bf16"):
        pairs = zip(times[name], times["ours"], strict=True)
        result[f"ours / {name}"] = statistics.median(theirs_took / ours_took for theirs_took, ours_took in pairs)
    lengths = [len(text) for texts in given[2:] for text in texts]
    full = statistics.mean(sum(map(len, texts)) / (len(texts) * max(map(len, texts))) for texts in given[2:])
    result["full"] = full
    result["mfu"] = flops(case, lengths) / rounds / (statistics.median(times["ours"]) * BF16_PEAK * threads)
    return result


def flops(case: Case, lengths: list[int]) -> float:
    """Useful FLOPs of forward and backward: real tokens, the head at targets; 6 a parameter and token, attention besides."""
    layers, width, _ = SIZES[case.size]
    vocabulary = VOCABULARY[case.family]
    total = 0.0
    for n in lengths:
        if case.family == "bert":
            total += 6 * n * layers * 12 * width**2 + 12 * layers * n * n * width
            total += 6 * max(1, round(0.15 * n)) * (width * vocabulary + width**2)
        elif case.family == "t5":
            m = spans(n)
            inner = SIZES[case.size][2] * 64
            total += 6 * layers * (n * (4 * inner + 8 * width) + m * (6 * inner + 8 * width) + n * 2 * inner) * width
            total += 12 * layers * inner * (n * n + m * m / 2 + n * m) + 6 * m * width * vocabulary
        else:
            total += 6 * n * (layers * 12 * width**2 + width * vocabulary) + 6 * layers * n * n * width
    return total


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="families or sizes or family/size/length; none: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--rounds", type=int, default=0, help="turns that are measured; 0: as many as the model's size allows"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(CASES[given.child], given.threads, given.rounds)  # as shipped: without `prepare`
        return
    from cloze.environment import prepare

    prepare()
    import torch

    torch.set_num_threads(given.threads)
    cases = [case for case in CASES if not given.words or wanted(case, given.words)]
    if not given.json:
        print(f"## One training step, {given.threads} thread{'s' * (given.threads > 1)}, {batches(CASES[0], 1)[0]}\n")
        print("| model, length, batch (full) | hf | hf bf16 | ours | ours / hf (goal) | ours / hf bf16 (goal) | MFU |")
        print("|---|---|---|---|---|---|---|", flush=True)
    for case in cases:
        rounds = given.rounds or {"tiny": 21, "mini": 11, "base": 5}[case.size]
        found = compare(case, given.threads, rounds)
        if given.json:
            print(json.dumps({"case": case.name, "threads": given.threads, **found}), flush=True)
            continue
        took = [f"{1000 * found[name]:.0f} ms" for name in ("hf", "hf bf16", "ours")]
        ratios = [
            f"{found[f'ours / {name}']:.2f}" + (f" (≥{goal:g})" if goal else "")
            for name, goal in zip(("hf", "hf bf16"), case.goal, strict=True)
        ]
        print(f"| {case.name} ({found['full']:.0%}) | {' | '.join(took + ratios)} | {found['mfu']:.0%} |", flush=True)


def wanted(case: Case, words: list[str]) -> bool:
    """Whether some word's parts (`bert/tiny/512`) are all the case's."""
    own = {case.family, case.size, str(case.length)}
    return any(set(word.split("/")) <= own for word in words)


if __name__ == "__main__":
    main()
