"""The lens: what a model really sees (`show=10`), and whether the data half keeps its word (`audit=true`).

Both look at the very samples that training would get: same builder, same keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cloze.data import keyed
from cloze.data.base import Packed, Sample
from cloze.objectives.base import ExampleBuilder, Examples, Tally

STYLES = {
    "masked": "bold red",
    "replaced": "bold magenta",
    "kept": "bold green",
    "special": "dim",
    "target": "bold cyan",
}
MEANINGS = {
    "masked": "hidden",
    "replaced": "another token in its place",
    "kept": "left as it is, to be predicted all the same",
    "special": "never hidden",
    "target": "to be predicted",
}
CELLS = 18  # rows of an attention picture at most
BLOCK = 256  # examples that the audit samples at a time


class Surfaces(Protocol):
    """What the lens needs of a tokenizer."""

    def token(self, id: int) -> str:
        """A token as the vocabulary writes it."""


def show(n: int, builder: ExampleBuilder, examples: Examples, tokenizer: Surfaces, console: Console, seed: int) -> None:
    """Prints the first `n` examples of the first epoch as the model sees them. Everything can be read without colour."""
    indices = keyed.permutation(keyed.key(seed, "order", 0), len(examples))[:n]
    sample = builder.sample(examples, indices, builder.keys(seed, 0, indices))
    for title, each, part in builder.views(sample):
        if title:
            console.rule(title)
        _show(each, part.explain(each), part.asked(each), indices.tolist(), tokenizer, console)


def _show(
    sample: Sample,
    words: list[list[str]],
    asked: list[tuple[int, str]],
    indices: list[int],
    tokenizer: Surfaces,
    console: Console,
) -> None:
    starts = np.cumsum(sample.inputs.lengths) - sample.inputs.lengths
    console.print(_legend(words, _places(sample) is not None))
    for number, (example, label) in enumerate(asked):
        console.print()
        console.print(Text(f"example {indices[example]}: {_facts(sample, number)}", style="bold"))
        console.print(_tokens(sample, number, int(starts[number]), words[number], tokenizer))
        for title, line in _outputs(sample, number, tokenizer):
            console.print(Text.assemble((f"{title}: ", "bold"), line))
        if label:
            console.print(Text.assemble(("to be said: ", "bold"), label))
    console.print()
    for title, picture in _pictures(sample, min(3, len(indices))):
        console.print(Text(title, style="bold"))
        console.print(_draw(picture, console), highlight=False)


def _legend(words: list[list[str]], selected: bool) -> Text:
    used = {word for sequence in words for word in sequence if word}
    lines = [Text.assemble((word, style), f": {MEANINGS[word]}") for word, style in STYLES.items() if word in used]
    if selected:
        lines.append(Text("(in brackets): what is to be predicted, behind what stands there"))
    return Text("\n").join(lines)


def _facts(sample: Sample, number: int) -> str:
    """Lengths, segments and labels of one example."""
    facts = [f"{int(sample.inputs.lengths[number])} tokens"]
    if sample.inputs.segments is not None:
        segments = _part(sample.inputs.segments, sample.inputs, number)
        sizes = np.bincount(segments)
        present = np.flatnonzero(sizes)
        which = "" if len(present) == len(sizes) else f"{', '.join(map(str, present.tolist()))} "
        facts.append(f"segments {which}of " + " + ".join(map(str, sizes[present].tolist())))
    if "pair" in sample.targets:
        label = int(sample.targets["pair"][number])
        facts.append(f"pair label {label} ({_pair_in_words(sample, number, label)})")
    if sample.prefix is not None:
        facts.append(f"a prefix of {int(sample.prefix[number])} that all may see")
    if sample.decoder is not None:
        facts.append(f"{int(sample.decoder.lengths[number])} tokens to write")
    return ", ".join(facts)


def _pair_in_words(sample: Sample, number: int, label: int) -> str:
    pairs = sample.extra.get("pairs")
    if pairs is None:
        return "yes" if label == 0 else "no"
    first, second = (int(document) for document in pairs.documents[number])
    if first != second:
        return f"the second segment is from document {second}, the first from {first}"
    order = "follow each other" if label == 0 else "are swapped"
    return f"both segments are from document {first} and {order}"


def _part(values: NDArray[np.int64], packed: Packed, number: int) -> NDArray[np.int64]:
    """One sequence's stretch of a flat array."""
    start = int(packed.lengths[:number].sum())
    return values[start : start + int(packed.lengths[number])]


def _tokens(sample: Sample, number: int, start: int, words: list[str], tokenizer: Surfaces) -> Text:
    wanted: dict[int, int] = {}
    if (places := _places(sample)) is not None:
        wanted = dict(zip(places.tolist(), sample.targets["tokens"].tolist(), strict=True))
    tokens = _part(sample.inputs.tokens, sample.inputs, number).tolist()
    text = Text()
    for place, (token, word) in enumerate(zip(tokens, words, strict=True), start=start):
        surface = tokenizer.token(token)
        if place in wanted:
            surface += f"({tokenizer.token(wanted[place])})"
        text.append(surface, STYLES.get(word)).append(" ")
    return text


def _places(sample: Sample) -> NDArray[np.int64] | None:
    """Where in the inputs the targets belong, where only some places have one."""
    if "tokens" not in sample.targets:  # what is asked for is no token
        return None
    return sample.targets.get("at") if sample.inputs.queries is None else sample.inputs.queries


def _outputs(sample: Sample, number: int, tokenizer: Surfaces) -> list[tuple[str, str]]:
    """What a decoder reads and must write, what a model must say at each place, and in which order where it is not the text's."""
    line: Callable[[NDArray[np.int64]], str] = lambda ids: " ".join(tokenizer.token(i) for i in ids.tolist())  # noqa: E731
    if sample.decoder is not None:
        read = _part(sample.decoder.tokens, sample.decoder, number)
        if "tokens" not in sample.targets:
            return [("decoder reads", line(read))]
        written = _part(sample.targets["tokens"], sample.decoder, number)
        return [("decoder reads", line(read)), ("decoder writes", line(written))]
    if "forward_at" in sample.targets:
        return [
            (f"predicts {direction}", " ".join(_beside(sample, number, direction, tokenizer)))
            for direction in ("forward", "backward")
        ]
    start = int(sample.inputs.lengths[:number].sum())
    end = start + int(sample.inputs.lengths[number])
    if sample.inputs.queries is not None and sample.inputs.order is not None:
        queries = sample.inputs.queries
        own = np.flatnonzero((queries >= start) & (queries < end))
        own = own[np.argsort(sample.inputs.order[queries[own]], kind="stable")]
        return [("predicts, in this order", line(sample.targets["tokens"][own]))]
    if "tokens" in sample.targets and "at" not in sample.targets:
        return [("predicts", line(_part(sample.targets["tokens"], sample.inputs, number)))]
    return []


def _beside(sample: Sample, number: int, direction: str, tokenizer: Surfaces) -> list[str]:
    """What one direction predicts at each token of an example; – where there is nothing to predict."""
    wanted = dict(zip(sample.targets[f"{direction}_at"].tolist(), sample.targets[direction].tolist(), strict=True))
    start = int(sample.inputs.lengths[:number].sum())
    places = range(start, start + int(sample.inputs.lengths[number]))
    return [tokenizer.token(wanted[place]) if place in wanted else "–" for place in places]


def _pictures(sample: Sample, count: int) -> list[tuple[str, NDArray[np.bool_]]]:
    """Who sees whom, for the first `count` examples: (title, (rows, columns) bool) with a row for each token that looks."""
    inputs = sample.inputs.lengths[:count]
    prefix = None if sample.prefix is None else sample.prefix[:count]
    seen = visible(inputs, inputs, sample.causal or prefix is not None, prefix)
    examples = "first example" if count == 1 else f"first {count} examples, which lie one after the other"
    title = f"who sees whom (a row sees the marked columns) in the {examples}:"
    if "forward_at" in sample.targets:
        seen = visible(inputs, inputs, True, None)
        return [(f"from left to right, {title}", seen), ("from right to left:", seen.T)]
    if sample.inputs.order is not None:
        before = seen & in_order(sample.inputs.order[: int(inputs.sum())])
        queries = np.arange(0) if sample.inputs.queries is None else sample.inputs.queries
        queries = queries[queries < len(before)]
        return [
            (title, before | np.eye(len(before), dtype=bool)),
            (
                "what each prediction (rows, as their tokens stand in the text) sees of the tokens (columns):",
                before[queries],
            ),
        ]
    if sample.decoder is None:
        return [(title, seen)]
    outputs = sample.decoder.lengths[:count]
    return [
        (f"who sees whom in the encoder (a row sees the marked columns), {examples}:", seen),
        ("in the decoder:", visible(outputs, outputs, True, None)),
        ("what the decoder (rows) sees of the encoder (columns):", visible(outputs, inputs, False, None)),
    ]


def visible(
    rows: NDArray[np.int64], columns: NDArray[np.int64], causal: bool, prefix: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """What each token of sequences of lengths `rows` (B,) may see of those of lengths `columns` (B,), both lying one after the other.

    Only the sequence of the same number is seen; with `causal` nothing that stands behind the token, save for the first `prefix` (B,)
    tokens.
    """
    picture = np.zeros((int(rows.sum()), int(columns.sum())), bool)
    top = left = 0
    for number, (height, width) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        block = np.ones((height, width), bool)
        if causal:
            block = np.tril(block)
            block[:, : 0 if prefix is None else int(prefix[number])] = True
        picture[top : top + height, left : left + width] = block
        top, left = top + height, left + width
    return picture


def in_order(ranks: NDArray[np.int64]) -> NDArray[np.bool_]:
    """What each token may see of the others by their ranks (N,) in a factorisation order: those of lower rank, and those of rank -1,
    which are given. Tokens of other sequences are not told apart."""
    seen: NDArray[np.bool_] = (ranks < ranks[:, None]) | (ranks == -1)
    return seen


def _draw(picture: NDArray[np.bool_], console: Console) -> str:
    """The picture in at most CELLS rows and columns, two characters wide each: the token in the middle of each cell speaks for it."""
    full, empty = ("██", "· ") if console.encoding.lower().startswith("utf") else ("##", ". ")
    rows, columns = (((np.arange(min(CELLS, n)) + 0.5) * n / min(CELLS, n)).astype(int) for n in picture.shape)
    small = picture[np.ix_(rows, columns)]
    return "\n".join("".join(full if cell else empty for cell in row).rstrip() for row in small)


def count(
    builder: ExampleBuilder, examples: Examples, seed: int, tokens: int = 1_000_000
) -> tuple[dict[str, Tally], int]:
    """Tallies of the declared rates over at least `tokens` tokens of training examples, and over how many it was.

    Epoch follows epoch until there are enough. A builder whose corruption repeats itself (static masks) is not counted twice.
    """
    tallies: dict[str, Tally] = {}
    counted = epoch = 0
    first = np.arange(1)
    known: set[bytes] = set()
    while counted < tokens:
        key = builder.keys(seed, epoch, first).tobytes()
        if key in known:
            break
        known.add(key)
        order = keyed.permutation(keyed.key(seed, "order", epoch), len(examples))
        for start in range(0, len(order), BLOCK):
            indices = order[start : start + BLOCK]
            sample = builder.sample(examples, indices, builder.keys(seed, epoch, indices))
            for name, tally in builder.tally(sample).items():
                tallies[name] = tallies[name] + tally if name in tallies else tally
            for _, each, _ in builder.views(sample):
                counted += int(each.inputs.lengths.sum())
                counted += 0 if each.decoder is None else int(each.decoder.lengths.sum())
            if counted >= tokens:
                break
        epoch += 1
    return tallies, counted


def audit(builder: ExampleBuilder, examples: Examples, seed: int, tokens: int = 1_000_000) -> Table:
    """Counts a million tokens against the rates that the builder declares: declared | measured | within 3 sigma."""
    tallies, counted = count(builder, examples, seed, tokens)
    table = Table(title=f"audit: {counted:,} tokens of {len(examples):,} training examples")
    table.add_column("rate")
    for column in ("of", "declared", "measured", "within 3 sigma"):
        table.add_column(column, justify="right")
    for name, tally in tallies.items():
        if not tally.trials:
            table.add_row(name, "0", "-", "-", "never asked for")
            continue
        allowed = f"±{3 * tally.variance**0.5 / tally.trials:.5f}" if tally.variance else "exactly"
        table.add_row(
            name,
            f"{tally.trials:,}",
            f"{tally.expected / tally.trials:.5f}",
            f"{tally.seen / tally.trials:.5f}",
            Text.assemble(f"{allowed} ", ("yes", "green") if tally.holds else ("NO", "bold red")),
        )
    wrong = sum(not tally.holds for tally in tallies.values())
    table.caption = (
        f"{len(tallies) - wrong} of {len(tallies)} rates hold; by chance one in 370 lies outside"
        if tallies
        else "this objective declares no rates"
    )
    return table
