"""Tokens per second of one core from tokens on disk to the tensors of a batch, and from text to tokens: ours and Hugging Face's in turn.

Theirs is what the masked language modelling examples do: `datasets.map` tokenises and cuts into pieces once, then a DataLoader
shuffles and `DataCollatorForLanguageModeling` pads and masks. Both see the same documents, tokenizer, length and batch size.

python -m benchmarks.data_path
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a core's worth of each

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.texts import documents
from cloze.data.base import Corpus, Split, Text
from cloze.data.batches import TrainingBatches
from cloze.data.sentences import sentences_of
from cloze.data.store import tokenized
from cloze.data.tokenizers import Tokenizer, WordPiece, obtain
from cloze.objectives.mlm import MaskedExamples

TOKENS = 4096  # of a batch
ROUNDS = 7
BATCHES = 60  # of a round


class Documents(Corpus):
    """Documents in memory."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    announcement = ""

    def fingerprint(self) -> str:
        return "benchmark"

    def parts(self, split: Split) -> list[int]:
        return [0]

    def read(self, part: int) -> Iterator[Text]:
        for text in self.texts:
            yield Text(sentences_of(text.split("\n")))


def their_preparation(texts: list[str], tokenizer: Any, length: int, folder: Path) -> Any:
    """The rows of `datasets.map`: pieces of documents with [CLS] and [SEP]."""
    from datasets import Dataset

    def tokenise(rows: dict[str, list[str]]) -> dict[str, list[Any]]:
        return {"ids": tokenizer(rows["text"], add_special_tokens=False)["input_ids"]}

    def cut(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        room = length - 2
        pieces = [ids[at : at + room] for ids in rows["ids"] for at in range(0, len(ids), room)]
        return {"input_ids": [[tokenizer.cls_token_id, *piece, tokenizer.sep_token_id] for piece in pieces]}

    data = Dataset.from_dict({"text": texts})
    data = data.map(tokenise, batched=True, remove_columns=["text"], cache_file_name=str(folder / "ids.arrow"))
    return data.map(cut, batched=True, remove_columns=["ids"], cache_file_name=str(folder / f"{length}.arrow"))


def our_round(batches: TrainingBatches, start: int) -> float:
    begin, tokens = time.process_time(), 0
    for number in range(start, start + BATCHES):
        tokens += batches[number].real_tokens
    return tokens / (time.process_time() - begin)


def their_round(loader: Any) -> float:
    begin, tokens = time.process_time(), 0
    for _, batch in zip(range(BATCHES), loader, strict=False):
        tokens += int(batch["attention_mask"].sum())
    return tokens / (time.process_time() - begin)


def main() -> None:
    """Prints the tables."""
    from datasets import disable_progress_bars
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    disable_progress_bars()
    torch.set_num_threads(1)
    name, texts = documents()
    corpus = Documents(texts)
    print(f"## Data path, one core, {name}\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tokenizer: Tokenizer = obtain(WordPiece(), corpus, ("cls", "sep", "mask"), 0, folder)
        tokenizer.save(folder / "tokenizer")
        theirs = AutoTokenizer.from_pretrained(folder / "tokenizer")
        begin = time.process_time()
        text = tokenized(corpus, "train", tokenizer, folder, workers=0)
        ours = len(text.tokens) / (time.process_time() - begin)
        begin = time.process_time()
        rows = {length: their_preparation(texts, theirs, length, folder) for length in (128,)}
        other = len(text.tokens) / (time.process_time() - begin)
        rows[512] = their_preparation(texts, theirs, 512, folder)
        print(
            "| from tokens on disk to a batch (masked 15 %) | ours, M tokens/s | datasets + collator | ratio | at least |"
        )
        print("|---|---|---|---|---|")
        for length in (128, 512):
            builder = MaskedExamples(tokenizer.vocabulary, length)
            size = TOKENS // length
            batches = TrainingBatches(builder.build(text, 0), builder, batch_size=size, seed=0)
            collator = DataCollatorForLanguageModeling(theirs, mlm_probability=0.15)
            loader = DataLoader(cast(Any, rows[length]), batch_size=size, shuffle=True, collate_fn=collator)
            our_round(batches, 0), their_round(loader)  # warm
            pairs = [(our_round(batches, n * BATCHES), their_round(loader)) for n in range(ROUNDS)]
            mine, their = (statistics.median(pair[side] for pair in pairs) / 1e6 for side in (0, 1))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"| length {length}, batch {size} | {mine:.1f} | {their:.2f} | {ratio:.1f} | 10 |")
        print("\n| from text to tokens on disk, once | ours, M tokens/s | datasets.map | ratio |")
        print("|---|---|---|---|")
        print(
            f"| with sentences and documents kept (theirs: pieces of 128) | {ours / 1e6:.2f} | {other / 1e6:.2f} | {ours / other:.1f} |"
        )


if __name__ == "__main__":
    main()
