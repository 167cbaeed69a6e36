"""Whether a model looks at the translation: words of a sentence are hidden, and guessed with and without it in sight.

    python -m cloze.analysis.translation RUN [RUN …]

Each run is asked about the same sentences of its validation split and the same hidden words, in three inputs:

- *alone*: [CLS] sentence [SEP], some of its words hidden;
- *translated*: the same, and [CLS] translation [SEP] behind it, in which nothing is hidden;
- *other*: the same, and behind it the translation of another sentence: what is gained from seeing any text of the other language.

What translated is above alone and other is due to the translation itself. Runs that differ in nothing but the seed are put together:
mean and standard deviation. (Masked against translation language models: Lample and Conneau 2019, https://arxiv.org/abs/1901.07291.)
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Corpus, Packed, Sample, TokenizedCorpus, Vocabulary
from cloze.data.batches import batch_of
from cloze.errors import Refusal, with_article
from cloze.models.base import Bidirectional, TokenHead
from cloze.objectives.corruption import beginnings, ranges, select_tokens, target_counts
from cloze.objectives.cross_entropy import token_cross_entropy
from cloze.objectives.tlm import TranslationExamples

if TYPE_CHECKING:
    from cloze.loading import Pretrained

INPUTS = ("alone", "translated", "other")
BATCH = 64


@dataclass(frozen=True)
class Score:
    """Of one kind of input: the share of hidden tokens whose first guess was right, the mean nats, and how many there were."""

    accuracy: float
    nats: float
    count: int


class TranslationProbe:
    """Sentences with hidden words, in the three inputs: the same ones for every model with the same vocabulary.

    `sentences` are at most so many sentence pairs of the corpus, `ratio` the share of a sentence's tokens that is hidden (all of these
    become [MASK]). Each sentence is asked about in one of its two languages, by lot. Raises Refusal where no sentence has a translation
    that fits.
    """

    def __init__(
        self, corpus: TokenizedCorpus, vocabulary: Vocabulary, length: int, sentences: int = 2000, ratio: float = 0.15
    ) -> None:
        self.builder = TranslationExamples(vocabulary, length, sentences=1)
        self.examples = self.builder.build(corpus, 0)
        count = min(sentences, len(self.examples))
        self.indices = keyed.permutation(keyed.key("translation probe"), len(self.examples))[:count]
        self.ratio = ratio

    def inputs(self, start: int) -> dict[str, Sample]:
        """Sentences start … start + BATCH - 1, by kind of input. "at" and "tokens" are the same words in all three."""
        indices = self.indices[start : start + BATCH]
        keys = keyed.keys(keyed.key("translation probe", "words"), indices)
        pairs, candidates, _, _ = self.builder.read(self.examples, indices, keys)
        assert pairs.segments is not None
        ours = pairs.segments == 0
        sizes = np.add.reduceat(ours, beginnings(pairs.lengths), dtype=np.int64)
        wanted = target_counts(sizes, self.ratio)
        at = select_tokens(candidates & ours, pairs.lengths, wanted, keys).at
        tokens = pairs.tokens.copy()
        tokens[at] = self.builder.vocabulary["mask"]
        masked = replace(pairs, tokens=tokens)
        here, there = np.flatnonzero(ours), np.flatnonzero(~ours)
        others = pairs.lengths - sizes
        # the second halves, each taken from the input before
        turned = np.roll(np.arange(len(sizes)), 1)
        foreign = there[ranges(beginnings(others)[turned], others[turned])]
        made = {"alone": (here, sizes), "translated": (np.arange(len(tokens)), pairs.lengths)}
        place = np.empty(len(here) + len(foreign), np.int64)
        mixed = sizes + others[turned]
        place[ranges(beginnings(mixed), sizes)] = here
        place[ranges(beginnings(mixed) + sizes, others[turned])] = foreign
        made["other"] = (place, mixed)
        hidden = np.zeros(len(tokens), bool)
        hidden[at] = True
        return {
            name: Sample(
                _taken(masked, places, lengths),
                {"at": np.flatnonzero(hidden[places]), "tokens": pairs.tokens[at]},
                {"mlm": len(at)},
            )
            for name, (places, lengths) in made.items()
        }

    def __call__(self, model: Bidirectional, head: TokenHead) -> dict[str, Score]:
        """How a model does, by kind of input. The model must be in evaluation mode."""
        device = model.word_embedding.device
        right, nats = dict.fromkeys(INPUTS, 0), dict.fromkeys(INPUTS, 0.0)
        count = 0
        for start in range(0, len(self.indices), BATCH):
            for name, sample in self.inputs(start).items():
                batch = batch_of(sample).to(device)
                with torch.no_grad():
                    hidden = model(batch).last[batch.targets["at"]]
                    total, hits = token_cross_entropy(head, hidden, model.word_embedding, batch.targets["tokens"])
                right[name] += int(hits.sum())
                nats[name] += float(total)
            count += sample.counts["mlm"]
        return {name: Score(right[name] / count, nats[name] / count, count) for name in INPUTS}


def _taken(packed: Packed, places: NDArray[np.int64], lengths: NDArray[np.int64]) -> Packed:
    """Rows `places` of the flat arrays, as sequences of `lengths`."""
    assert packed.segments is not None and packed.positions is not None
    return Packed(
        packed.tokens[places],
        lengths,
        packed.segments[places],
        packed.positions[places],
        None if packed.languages is None else packed.languages[places],
    )


def probe_run(run: Path, sentences: int = 2000) -> dict[str, Score]:
    """A finished run on the validation split of its own corpus. Raises Refusal where the run has no model or its corpus no translations."""
    from cloze.check import check
    from cloze.compose import compose
    from cloze.data.languages import numbered
    from cloze.data.store import tokenized
    from cloze.folder import RunFolder
    from cloze.loading import load

    loaded: Pretrained = load(run)
    if not isinstance(loaded.model, Bidirectional) or loaded.head is None:
        raise Refusal(f"{run}: {with_article(type(loaded.model).__name__)} does not guess hidden words from both sides")
    checked = check(compose(RunFolder(run).facts()["provenance"]["words"]))
    corpus: Corpus = checked.nodes["data"].build()
    text = tokenized(corpus, "validation", loaded.tokenizer, Path(checked.top.cache_dir), say=lambda line: None)
    text = numbered(text, loaded.languages)
    probe = TranslationProbe(text, loaded.tokenizer.vocabulary, checked.top.length, sentences)
    loaded.model.eval()
    return probe(loaded.model, loaded.head)


def table(scores: dict[str, list[dict[str, Score]]]) -> Iterator[str]:
    """Lines: for each name, the accuracies of its runs put together, mean ± standard deviation."""
    yield f"{'runs':28} {'n':>2}" + "".join(f" {name:>17}" for name in INPUTS) + f" {'translated - alone':>19}"
    for name, found in scores.items():
        columns = [[score[kind].accuracy for score in found] for kind in INPUTS]
        gained = [score["translated"].accuracy - score["alone"].accuracy for score in found]
        cells = "".join(f" {_spread(column):>17}" for column in columns)
        yield f"{name:28} {len(found):>2}{cells} {_spread(gained):>19}"
    counts = {score["alone"].count for found in scores.values() for score in found}
    yield f"accuracy on {', '.join(f'{count:,}' for count in sorted(counts))} hidden tokens of validation sentences"


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


def main(runs: Sequence[str]) -> None:
    """Prints the table of some runs; those with the same name count as one, differing in the seed. What is no run's folder is passed
    over: `sweep/*` names other files too. Raises Refusal where none is."""
    from cloze.folder import RunFolder

    scores: dict[str, list[dict[str, Score]]] = {}
    folders = [run for run in runs if (Path(run) / "run.json").is_file()]
    if not folders:
        raise Refusal(f"{' '.join(runs)}: none of these is a run's folder")
    for run in folders:
        scores.setdefault(str(RunFolder(Path(run)).facts().get("name", run)), []).append(probe_run(Path(run)))
    print("\n".join(table(scores)))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("python -m cloze.analysis.translation RUN [RUN …]")
    try:
        main(sys.argv[1:])
    except Refusal as refusal:
        sys.exit(str(refusal))
