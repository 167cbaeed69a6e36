"""Bits per byte of books that no model has read: left-to-right language models of several families beside counts of n-grams.

    python -m benchmarks.gutenberg                    # the table of docs/bits-per-byte.md
    python -m benchmarks.gutenberg --only gpt2 elmo   # the counts, and only these rows
    python -m benchmarks.gutenberg --steps 200        # shorter

All read the same books by the same byte-level tokenizer, trained on the same split; each model sees as many tokens as the others and is
trained by the program itself, in its own process with one thread. Then every token of the held-out books, and the end of each book, is
predicted once from what stands before it (`cloze.evaluation`). Needs ../shared/data (public-domain books, not part of the repository).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloze.data.base import TokenizedCorpus
    from cloze.data.tokenizers import Tokenizer
    from cloze.evaluation import Evaluation

ROOT = Path(__file__).resolve().parents[1]
BOOKS = Path("..") / "shared" / "data" / "lm" / "gutenberg"
HELD_OUT = 0.15  # of the books: 2 of 13, chosen by their content
VOCABULARY = 4000

ROWS = {
    "gpt2": "model=gpt2 objective=clm",
    "elmo": "model=elmo objective=bilm",
    "transformer_xl": "model=transformer_xl objective=clm_lanes",
    "xlnet": "model=xlnet objective=permutation_lm",
    "xlnet, left to right": "model=xlnet objective=permutation_lm objective.one_in=1 objective.order=left_to_right",
}


@dataclass(frozen=True)
class Books:
    """The tokenised books: what is learnt from, what is predicted, and the tokenizer's folder."""

    train: TokenizedCorpus
    held_out: TokenizedCorpus
    tokenizer: Tokenizer
    folder: Path
    words: tuple[str, ...]  # of the command that trains on them

    @classmethod
    def read(cls, path: str, work: Path) -> Books:
        """Trains the tokenizer, with the special tokens that any of the rows asks for, and tokenises."""
        from cloze.data.store import tokenized
        from cloze.data.text import TextFiles
        from cloze.data.tokenizers import ByteLevelBPE, obtain

        corpus = TextFiles(path, encoding="latin-1", documents_are="file", validation_share=HELD_OUT)
        cache = work / "cache"
        tokenizer = obtain(ByteLevelBPE(vocabulary=VOCABULARY), corpus, ("cls", "sep", "eos"), 0, cache, _quiet)
        tokenizer.save(work / "tokenizer")
        words = (
            "data=text", f"data.path={path}", "data.encoding=latin-1", "data.documents_are=file",
            f"data.validation_share={HELD_OUT}", "tokenizer=pretrained", f"tokenizer.path={work / 'tokenizer'}", f"cache_dir={cache}",
        )  # fmt: skip
        train, held_out = (tokenized(corpus, split, tokenizer, cache, say=_quiet) for split in ("train", "validation"))
        return cls(train, held_out, tokenizer, work, words)


def _quiet(line: str) -> None:
    """Says nothing."""


def counted(books: Books) -> Iterator[str]:
    """The rows of the n-gram models."""
    from cloze.analysis.ngram import KneserNey, whole_stream

    vocabulary = books.tokenizer.vocabulary
    stream = whole_stream(books.train, vocabulary)
    for order, name in ((1, "unigram"), (2, "bigram"), (5, "5-gram")):
        begun = time.perf_counter()
        found = KneserNey(stream, vocabulary.size, order).evaluate(books.held_out, vocabulary)
        yield row(f"{name}, Kneser-Ney" if order > 1 else name, found, None, time.perf_counter() - begun, "")


def trained(name: str, words: Sequence[str], books: Books, steps: int) -> Iterator[str]:
    """The rows of one model: trained by the program, then read back and evaluated as it was trained; where that was in windows that know
    nothing of each other, once more in windows that overlap by three quarters, so that each token has some text before it."""
    from cloze.evaluation import evaluate
    from cloze.folder import RunFolder
    from cloze.loading import load

    run = books.folder / name.replace(", ", "_").replace(" ", "_")
    own = [f"budget.steps={steps}", f"validation.every={max(1, steps // 4)}", f"output_dir={run}", "tracking=none"]
    command = [sys.executable, str(ROOT / "train.py"), *words, *books.words, *own]
    threads = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, cwd=ROOT, env=threads, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"failed: {done.stderr.strip().splitlines()[-1][:200]}".replace(
            "|", "or"
        )  # which would begin another cell
        yield "| " + " | ".join([name, f"`{' '.join(words)}` {reason}", *[""] * 5]) + " |"
        return
    facts = RunFolder(run).facts()
    loaded = load(run)
    shown = facts["parameters"]["model"] + facts["parameters"]["objective"], facts["seconds"], f"`{' '.join(words)}`"
    yield row(name, evaluate(loaded, books.held_out)[0], *shown)
    if (loaded.objective or {}).get("documents") == "packed":
        found = evaluate(loaded, books.held_out, stride=loaded.length // 4)[0]
        yield row(f"{name}, overlapping windows", found, *shown)


def row(name: str, found: Evaluation, parameters: int | None, seconds: float, words: str) -> str:
    """One line of the table."""
    assert found.bits_per_byte is not None and found.perplexity_per_word is not None
    cells = [
        name, words, "" if parameters is None else f"{parameters:,}", f"{found.nats / found.scored:.3f}",
        f"**{found.bits_per_byte:.3f}**", f"{found.perplexity_per_word:,.0f}", f"{seconds:.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gutenberg")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps of each model, 1,024 tokens each")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--books", default=str(BOOKS / "*.txt"), help="a glob of text files, each a book")
    given = parser.parse_args()
    if given.books == str(BOOKS / "*.txt") and not (ROOT / BOOKS).is_dir():
        print(
            f"no books at {BOOKS}: this table is of public-domain books that are not part of the repository (--books)"
        )
        return 0
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        books = Books.read(given.books, Path(folder))
        train, held_out = books.train, books.held_out
        print(
            f"{len(train)} books with {len(train.tokens):,} tokens to learn from, {given.steps:,} steps of 1,024 tokens; held out:"
        )
        print(
            f"{len(held_out)} with {len(held_out.tokens):,} tokens, {held_out.words:,} words, {held_out.bytes:,} bytes.\n"
        )
        print("| | trained by | parameters | nats a token | bits per byte | perplexity a word | seconds |")
        print("|---|---|---:|---:|---:|---:|---:|")
        for line in counted(books):
            print(line, flush=True)
        for name, words in ROWS.items():
            if given.only is None or name in given.only:
                for line in trained(name, words.split(), books, given.steps):
                    print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
