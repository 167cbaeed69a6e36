"""Denoising: a text is damaged in one or several ways, and the decoder writes it as it was (BART: Lewis et al. 2019,
https://arxiv.org/abs/1910.13461).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cloze.data import keyed
from cloze.data.base import Packed, Sample, Text, TokenizedCorpus, Vocabulary
from cloze.errors import Refusal
from cloze.models.base import EncoderDecoder
from cloze.objectives import noise
from cloze.objectives.base import ExampleBuilder, Examples, Tally
from cloze.objectives.corruption import by_sequence, ranges
from cloze.objectives.every_token import EveryToken
from cloze.objectives.shares import check_share
from cloze.objectives.windows import windows


class DenoisingExamples(ExampleBuilder):
    """Texts of at most `length` tokens with the begin and end token around them, damaged for the encoder and whole for the decoder.

    The noises, all of which may be combined, in the order in which they are applied (that of BART's released code):

    - `permute`: this share of the sentences change places among themselves;
    - `infill`: this share of the words, rounded up, is hidden in spans whose lengths are drawn from a Poisson distribution of mean
      `mean_span`; each span, also one of no word, becomes one mask (`spans_become` says what else it could become);
    - `mask`: this share of the tokens become masks; `delete`: this share are taken out;
    - `insert`: as many masks as this share of the tokens are put in;
    - `rotate`: with this probability the text is turned so that it begins with some other token.

    `random` is the share of all masks that are a random token instead. The decoder begins with the end token, as BART's does.
    `documents=packed` lets a text run over the ends of documents; `apart` gives each document its own.
    Validation is always damaged by `judged_infill`, `judged_span` and `judged_permute` alone, so that arms can be compared.
    """

    special_tokens: ClassVar[tuple[str, ...]] = ("pad", "bos", "eos", "mask")

    def __init__(
        self,
        vocabulary: Vocabulary,
        length: int,
        infill: float = 0.3,
        mean_span: float = 3.0,
        spans_become: noise.Become = "one_mask",
        permute: float = 1.0,
        mask: float = 0.0,
        delete: float = 0.0,
        insert: float = 0.0,
        rotate: float = 0.0,
        random: float = 0.0,
        documents: Literal["packed", "apart"] = "apart",
        judged_infill: float = 0.3,
        judged_span: float = 3.0,
        judged_permute: float = 1.0,
    ) -> None:
        shares = {"infill": infill, "permute": permute, "mask": mask, "delete": delete, "insert": insert}
        judged = {"judged_infill": judged_infill, "judged_permute": judged_permute}
        for name, share in {**shares, "rotate": rotate, "random": random, **judged}.items():
            check_share(name, share)
        for name, span in (("mean_span", mean_span), ("judged_span", judged_span)):
            if not 1 <= span < float("inf"):
                raise Refusal(f"objective.{name}={span:g} must be at least 1 word; BART's is 3.")
        if not any((*shares.values(), rotate)):
            raise Refusal(
                "objective=denoise without any noise would learn to copy: "
                "objective.infill=0.3 is BART's, objective.permute, mask, delete, insert and rotate are others."
            )
        if not any(judged.values()):
            raise Refusal("objective.judged_infill=0 and objective.judged_permute=0: validation would ask for a copy.")
        if not infill and (mean_span, spans_become) != (3.0, "one_mask"):
            name, value = ("mean_span", f"{mean_span:g}") if mean_span != 3.0 else ("spans_become", spans_become)
            raise Refusal(f"objective.{name}={value} has no effect with objective.infill=0: only infilling has spans.")
        makes_masks = bool(mask or insert or (infill and spans_become != "nothing"))
        if random and not makes_masks:
            raise Refusal(f"objective.random={random:g} has no effect: none of these noises makes masks.")
        self.vocabulary, self.length, self.documents = vocabulary, length, documents
        self.infill, self.mean_span, self.spans_become = infill, mean_span, spans_become
        self.permute, self.mask, self.delete, self.insert, self.rotate = permute, mask, delete, insert, rotate
        self.random, self.makes_masks = random, makes_masks
        self.judged_infill, self.judged_span, self.judged_permute = judged_infill, judged_span, judged_permute
        self.text_length = length - 2  # what is left for the text; insertion makes it longer
        while self.text_length > 0 and self.text_length + self._inserted(self.text_length) > length - 2:
            self.text_length -= 1
        if self.text_length < 1:
            raise Refusal(f"length={length} is too short for objective=denoise: the begin and end token take 2.")
        self._replacements = np.setdiff1d(np.arange(vocabulary.size), list(vocabulary.special_ids))

    def _inserted(self, tokens: int) -> int:
        return int(noise.rounded_up(np.array([tokens]), self.insert)[0])

    def build(self, corpus: TokenizedCorpus, seed: int) -> Examples:
        ends = corpus.sentences[corpus.documents]
        table = windows(ends[[0, -1]] if self.documents == "packed" else ends, self.text_length)
        if not len(table):
            raise Refusal("the corpus has no tokens: objective=denoise needs at least one document.")
        lengths = table[:, 1] - table[:, 0]
        # what the encoder reads, on average: spans go over the number of words by half their mean before they are cut
        words = lengths * float(np.mean(corpus.word_starts[: 1 << 20]))
        spans = words * self.infill / self.mean_span + 0.5 if self.infill and self.spans_become == "one_mask" else 0
        hidden = 0 if self.spans_become == "masks" else lengths * self.infill
        read = np.rint(((lengths - hidden) * (1 - self.delete) + spans) * (1 + self.insert)).astype(np.int64)
        return Examples(corpus, table, lengths + 2, tokens=np.maximum(read, 0) + lengths + 4)

    def sample(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> Sample:
        corpus, rows = examples.corpus, examples.table[indices]
        lengths = rows[:, 1] - rows[:, 0]
        places = ranges(rows[:, 0], lengths)
        whole = noise.Texts.of(corpus.tokens[places].astype(np.int64), corpus.word_starts[places], lengths)
        damaged, extra = self._damaged(whole, corpus, rows, keys)
        begin, end = self.vocabulary["bos"], self.vocabulary["eos"]
        return Sample(
            inputs=Packed(*noise.framed(damaged.tokens, damaged.lengths, [begin], [end])),
            decoder=Packed(*noise.framed(whole.tokens, lengths, [end, begin], [])),
            targets={"tokens": noise.framed(whole.tokens, lengths, [begin], [end])[0]},
            counts={"denoise": int(lengths.sum()) + 2 * len(lengths)},
            extra=extra,
        )

    def _damaged(
        self, texts: noise.Texts, corpus: TokenizedCorpus, rows: NDArray[np.int64], keys: keyed.Keys
    ) -> tuple[noise.Texts, dict[str, NDArray[np.int64]]]:
        """The texts after all noises, and what these did, for the audit."""
        did: dict[str, NDArray[np.int64]] = {}
        mask = self.vocabulary["mask"]
        if self.permute:
            sizes, counts = sentences(corpus, rows)
            texts, did["order"] = noise.permute_sentences(texts, sizes, counts, self.permute, keys)
            did["sentences"] = counts
        if self.infill:
            did["words"] = np.bincount(texts.owner[texts.word_starts], minlength=len(rows))
            texts, spans = noise.infill(
                texts, self.infill, self.mean_span, self.spans_become, mask, self.text_length, keys
            )
            did |= {"drawn": spans.drawn, "sizes": spans.sizes, "hidden": spans.tokens}
        if self.mask:
            texts = noise.mask_tokens(texts, self.mask, mask, keys)
        did["masks"] = np.array([int(texts.noise.sum())])
        if self.delete:
            did["before"] = np.bincount(texts.owner[~texts.noise], minlength=len(rows))
            texts = noise.delete_tokens(texts, self.delete, keys)
        if self.insert:
            did["inserted"] = noise.rounded_up(texts.lengths, self.insert)
            texts = noise.insert_masks(texts, self.insert, mask, keys)
        if self.random:
            texts = noise.randomise(texts, self.random, mask, self._replacements, keys)
        if self.rotate:
            texts, did["first"] = noise.rotate(texts, self.rotate, keys)
        return texts, did

    def counts(self, examples: Examples, indices: NDArray[np.int64], keys: keyed.Keys) -> dict[str, int]:
        rows = examples.table[indices]
        return {"denoise": int((rows[:, 1] - rows[:, 0] + 2).sum())}

    def judge(self) -> DenoisingExamples:
        return DenoisingExamples(
            self.vocabulary,
            self.length,
            infill=self.judged_infill,
            mean_span=self.judged_span if self.judged_infill else 3.0,
            permute=self.judged_permute,
            documents=self.documents,
            judged_infill=self.judged_infill,
            judged_span=self.judged_span,
            judged_permute=self.judged_permute,
        )

    def explain(self, sample: Sample) -> list[list[str]]:
        tokens = sample.inputs.tokens
        special = np.isin(tokens, [self.vocabulary["bos"], self.vocabulary["eos"]])
        words = np.where(tokens == self.vocabulary["mask"], "masked", np.where(special, "special", ""))
        return by_sequence(words, sample.inputs.lengths)

    def tally(self, sample: Sample) -> dict[str, Tally]:
        did = sample.extra
        seen = int((sample.inputs.tokens == self.vocabulary["mask"]).sum())
        texts = len(sample.inputs.lengths)
        put_in = int(did["inserted"].sum()) if self.insert else 0
        tallies: dict[str, Tally] = {}
        if self.infill:
            budget = noise.rounded_up(did["words"], self.infill)
            tallies[f"words in spans ({self.infill:g} of each text's, rounded up)"] = Tally(
                float(budget.sum()), float(did["sizes"].sum()), int(did["words"].sum())
            )
            shares, spans = noise.poisson(self.mean_span), len(did["drawn"])
            for size in range(int(self.mean_span) + 3):
                tallies[f"spans of {size} words (Poisson of {self.mean_span:g})"] = Tally.share(
                    float(shares[size]), int((did["drawn"] == size).sum()), spans
                )
        if self.makes_masks:
            made = int(did["masks"][0]) + put_in
            what = "masks: one a span" if self.infill and self.spans_become == "one_mask" else "masks"
            tallies[f"{what}{f', {self.random:g} of them random tokens' if self.random else ''}"] = Tally.share(
                1 - self.random, seen, made
            )
        if self.delete:
            expected = noise.rounded_up(did["before"], self.delete).sum()
            left = int(sample.inputs.lengths.sum()) - 2 * texts - put_in - int(did["masks"][0])
            tallies[f"tokens deleted ({self.delete:g} of each text's, rounded up)"] = Tally(
                float(expected), float(did["before"].sum() - left), int(did["before"].sum())
            )
        if self.permute:
            moved = noise.rounded_up(did["sentences"], self.permute)
            # of any number of things in random order one stands where it stood, on average, with variance 1 (0 for a single one)
            tallies[f"sentences in their places ({self.permute:g} of each text's change theirs)"] = Tally(
                float((did["sentences"] - moved + (moved > 0)).sum()),
                float((did["order"] == np.arange(len(did["order"]))).sum()),
                int(did["sentences"].sum()),
                float((moved > 1).sum()),
            )
        if self.rotate:
            tallies["texts that are rotated"] = Tally.share(self.rotate, int((did["first"] >= 0).sum()), texts)
        return tallies


def sentences(corpus: TokenizedCorpus, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sentences, and parts of sentences, in each of `rows` (B, 2) of start and end: (S,) their tokens and (B,) how many."""
    edges = np.asarray(corpus.sentences)
    first = np.searchsorted(edges, rows[:, 0], side="right") - 1
    counts = np.searchsorted(edges, rows[:, 1], side="left") - first
    number, row = ranges(first, counts), np.repeat(np.arange(len(rows)), counts)
    starts = np.maximum(edges[number], rows[row, 0])
    return np.minimum(edges[number + 1], rows[row, 1]) - starts, counts


class Denoising(EveryToken[EncoderDecoder, Text]):
    """Cross-entropy of every token of the whole text, given its damaged copy and the tokens before it."""

    Examples = DenoisingExamples
    term = "denoise"
    task, begins = "rewrite", "eos"
