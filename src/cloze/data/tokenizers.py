"""Tokenizers: trained on a corpus or loaded, always with the special tokens that the objective asks for.

The work is done by the `tokenizers` library; what is saved is its `tokenizer.json`, which `transformers` loads. Special tokens
are asked for by *role* (pad unk cls sep mask bos eos); how a role is written is each kind's own habit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import re
import time
import unicodedata
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cloze.data import cache as caches
from cloze.data import keyed, recent
from cloze.data.base import Corpus, Text, Vocabulary
from cloze.data.merges import learn_merges
from cloze.errors import Refusal

if TYPE_CHECKING:
    import tokenizers

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
_LINES = re.compile(r"(?<=\n)(?=[^\n])")  # borders of lines; empty ones stay with the line before
FORMAT = 1  # of what is cached: part of its address

_BERT = {
    "pad": "[PAD]",
    "unk": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
    "bos": "[BOS]",
    "eos": "[EOS]",
}
_ROBERTA = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"}
_ALBERT = {
    "pad": "<pad>",
    "unk": "<unk>",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
    "bos": "<s>",
    "eos": "</s>",
}
_STANDS_IN = {"cls": "bos", "bos": "cls", "sep": "eos", "eos": "sep"}  # in a loaded tokenizer that has only the other

Say = Callable[[str], object]

_log = logging.getLogger("cloze")


class Tokenizer:
    """A ready tokenizer: text to ids and back. Picklable.

    `roles` gives the surface of each special token ({"cls": "[CLS]"}), `sentinels` those of T5's, in order.
    """

    def __init__(self, backend: tokenizers.Tokenizer, roles: dict[str, str], sentinels: Sequence[str] = ()) -> None:
        backend.no_padding()
        backend.no_truncation()
        _take_the_space_before(backend, {*sentinels, *([roles["mask"]] if "mask" in roles else [])})
        self._backend = backend
        self.roles = dict(roles)
        self.sentinels = tuple(sentinels)
        ids = backend.get_vocab(with_added_tokens=True)
        self.vocabulary = Vocabulary(
            size=max(ids.values()) + 1,
            special={role: ids[surface] for role, surface in self.roles.items()},
            sentinels=tuple(ids[surface] for surface in self.sentinels),
        )
        self._forbidden = np.zeros(self.vocabulary.size, np.bool_)
        if "unk" in self.roles:
            self._forbidden[list(self.vocabulary.special_ids - {self.vocabulary["unk"]})] = True
        self._word_begins, self._word_ends, self._prefix = _word_marks(backend, ids, self.vocabulary.size)
        self._words = _Words(backend) if _reads_words_alone(backend) else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (self._backend.to_str(), self.roles, self.sentinels)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of everything that decides the ids."""
        text = self._backend.to_str() + json.dumps([self.roles, self.sentinels], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return self.vocabulary.size

    def encode_flat(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.bool_], NDArray[np.int64]]:
        """Many sentences at once: all ids (N,), whether each begins a word (N,), and the number of ids of each text.

        No special token is added, and none is recognised: a "[MASK]" that stands in the text is ordinary text. Each text is read
        as standing after a space, so that the first word of a sentence is the same token there as elsewhere.
        """
        if self._prefix:
            texts = [self._prefix + text for text in texts]
        ids, lengths = _ids_of(self._backend, texts) if self._words is None else self._words.ids_of(texts)
        if self._forbidden[ids].any():  # some models find a special token's letters in ordinary text
            ids[self._forbidden[ids]] = self.vocabulary["unk"]
        if self._word_ends is None:
            starts = self._word_begins[ids]
        else:
            starts = np.ones(len(ids), np.bool_)
            starts[1:] = self._word_ends[ids[:-1]]
        starts[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        return ids, starts, lengths

    def encode_batch(self, texts: Sequence[str]) -> list[tuple[NDArray[np.uint32], NDArray[np.bool_]]]:
        """(ids, whether each begins a word) of each text: as `encode_flat`."""
        ids, starts, lengths = self.encode_flat(texts)
        cuts = np.cumsum(lengths)[:-1]
        return list(zip(np.split(ids, cuts), np.split(starts, cuts), strict=True)) if len(texts) else []

    def encode_spans(
        self, texts: Sequence[str]
    ) -> tuple[NDArray[np.uint32], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int32]]:
        """As `encode_flat`, and (N, 2) the characters start … end - 1 of its text that each token stands for, without outer spaces.

        An accent that is a character of its own is its letter's, also where the normaliser drops it.
        """
        ids, starts, lengths = self.encode_flat(texts)
        shift = len(self._prefix)
        spaces = {self.id(mark) for mark in ("Ġ", "▁")}
        self._backend.encode_special_tokens = True
        spans = []
        for text, encoding in zip(
            texts,
            self._backend.encode_batch([self._prefix + text for text in texts], add_special_tokens=False),
            strict=True,
        ):
            places = [(max(start - shift, 0), max(end - shift, 0)) for start, end in encoding.offsets]
            following = [*(start for start, _ in places[1:]), len(text)]
            if encoding.ids and encoding.ids[0] in spaces and not text.startswith(("Ġ", "▁")):
                places[0] = 0, 0  # the space that a text is read after is not in it
            for (start, end), next_start in zip(places, following, strict=False):
                while start < end and text[start].isspace():
                    start += 1
                while end > start and text[end - 1].isspace():
                    end -= 1
                while start < end < next_start and unicodedata.combining(text[end]):
                    end += 1
                spans.append((start, end))
        return ids, starts, lengths, np.array(spans, np.int32).reshape(-1, 2)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of one text, without special tokens around it; `special` recognises those written in it ("Paris is [MASK]").

        Where the tokenizer itself begins a text with a space, each line begins with one, as each sentence of a corpus does. With a
        published tokenizer that does not (GPT-2's, RoBERTa's) only the text begins with one, as the published weights expect of lines; a
        model that was trained here with such a tokenizer has seen one before each sentence (`encode_flat`) and meets lines without it.
        """
        self._backend.encode_special_tokens = not special
        lines = [text] if self._prefix else _LINES.split(text)
        encodings = self._backend.encode_batch([self._prefix + line for line in lines], add_special_tokens=False)
        return [id for encoding in encodings for id in encoding.ids]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of some ids, without the space that every sentence begins with, and every line where `encode` puts one there."""
        text: str = self._backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)
        return (text if self._prefix else text.replace("\n ", "\n")).removeprefix(" ")

    def words(self, text: str) -> list[str]:
        """The pieces that the text is cut into before the vocabulary is looked at: words and punctuation, for a tokenizer of words."""
        normalizer, cutter = self._backend.normalizer, self._backend.pre_tokenizer
        text = text if normalizer is None else normalizer.normalize_str(text)
        return [text] if cutter is None else [piece for piece, _ in cutter.pre_tokenize_str(text)]

    def token(self, id: int) -> str:
        """The token as the vocabulary writes it ("##ing", "Ġthe")."""
        surface = self._backend.id_to_token(int(id))
        return f"<{id}>" if surface is None else surface

    def id(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it, if it is there."""
        return self._backend.token_to_id(token)

    def save(self, directory: Path | str, length: int | None = None) -> None:
        """Writes what `transformers.AutoTokenizer.from_pretrained(directory)` and `Tokenizer.load` read."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._backend.save(str(directory / "tokenizer.json"))
        names: dict[str, Any] = {f"{role}_token": self.roles[role] for role in ROLES if role in self.roles}
        if self.sentinels:
            names["additional_special_tokens"] = list(self.sentinels)
        config = {**names, "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        if length is not None:
            config["model_max_length"] = length
        _write_json(directory / "special_tokens_map.json", names)
        _write_json(directory / "tokenizer_config.json", config)

    @classmethod
    def load(cls, directory: Path | str) -> Tokenizer:
        """From a folder with a tokenizer.json (ours or any of Hugging Face's) or a vocab.txt. Raises Refusal."""
        return _loaded(Path(directory), lowercase=None)


def _ids_of(backend: tokenizers.Tokenizer, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """All ids (N,), and the number of ids of each text."""
    backend.encode_special_tokens = True
    lists = [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    return np.fromiter(itertools.chain.from_iterable(lists), np.uint32, int(lengths.sum())), lengths


def _reads_words_alone(backend: tokenizers.Tokenizer) -> bool:
    """Whether what stands between two spaces becomes the same ids wherever it stands: so with BERT's normaliser and pre-tokenizer,
    which look at single characters, where no token that was added is looked for in the text."""
    described = json.loads(backend.to_str())
    before = described.get("pre_tokenizer") or {}
    steps = [step["type"] for step in before.get("pretokenizers", [before]) if step]
    return (
        described["model"]["type"] in ("WordPiece", "BPE", "WordLevel")
        and (described.get("normalizer") or {}).get("type") == "BertNormalizer"
        and steps in (["BertPreTokenizer"], ["BertPreTokenizer", "FixedLength"])
        and all(token["special"] for token in described.get("added_tokens", ()))
    )


class _Words:
    """The ids of each word (what stands between spaces), looked up once for all its places: text repeats its words.

    When the table holds more than `KEPT` words or `CHARACTERS` it is begun anew.
    """

    KEPT, CHARACTERS = 200_000, 8_000_000

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._forget()

    def _forget(self) -> None:
        self._number: dict[str, int] = {}
        self._characters = 0
        self._ids = np.empty(0, np.uint32)  # of one word after the other
        self._lengths = np.empty(0, np.int64)

    def ids_of(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """As `_ids_of`."""
        if not texts:
            return np.empty(0, np.uint32), np.empty(0, np.int64)
        words = " ".join(texts).split(" ")
        if len(self._number) > self.KEPT or self._characters > self.CHARACTERS:
            self._forget()
        new = [word for word in dict.fromkeys(words) if word not in self._number]
        if new:
            ids, lengths = _ids_of(self._backend, new)
            self._number.update(zip(new, itertools.count(len(self._number)), strict=False))
            self._characters += sum(map(len, new))
            self._ids = np.concatenate((self._ids, ids))
            self._lengths = np.concatenate((self._lengths, lengths))
        numbers = np.fromiter(map(self._number.__getitem__, words), np.int64, len(words))
        lengths = self._lengths[numbers]
        ends = np.cumsum(lengths)
        places = np.repeat((np.cumsum(self._lengths) - self._lengths)[numbers] - (ends - lengths), lengths)
        places += np.arange(len(places))
        last = np.cumsum(np.fromiter((text.count(" ") + 1 for text in texts), np.int64, len(texts))) - 1  # of each text
        return self._ids[places], np.diff(ends[last], prepend=0)


def _revive(text: str, roles: dict[str, str], sentinels: tuple[str, ...]) -> Tokenizer:
    import tokenizers

    return Tokenizer(tokenizers.Tokenizer.from_str(text), roles, sentinels)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# ------------------------------------------------------------------------------------------------- where words begin


def _kinds(part: Any) -> set[str]:
    """The types named anywhere in one component of a tokenizer.json."""
    if isinstance(part, dict):
        return {str(part.get("type"))}.union(*(_kinds(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(_kinds(value) for value in part))
    return set()


def _word_marks(
    backend: tokenizers.Tokenizer, ids: dict[str, int], size: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None, str]:
    """For each id whether it begins a word; or, where a mark stands at words' ends, whether it ends one; and the text to put before
    a sentence so that its first word is read like one after a space."""
    described = json.loads(backend.to_str())
    model, before = described["model"], described.get("pre_tokenizer")
    kinds = _kinds(before) | _kinds(described.get("normalizer"))
    begins = np.ones(size, np.bool_)
    added = {token["content"] for token in described.get("added_tokens", ())}
    prefix = ""
    suffix = model.get("end_of_word_suffix")
    if model["type"] == "WordPiece":
        continuing = model.get("continuing_subword_prefix") or "##"
        for token, number in ids.items():
            begins[number] = not token.startswith(continuing)
    elif suffix:
        unknown = model.get("unk_token")
        ends = np.zeros(size, np.bool_)
        for token, number in ids.items():
            ends[number] = token.endswith(suffix) or token in added or token == unknown
        return begins, ends, prefix
    elif "ByteLevel" in kinds:
        for token, number in ids.items():
            begins[number] = token[:1] in ("Ġ", "Ċ", "ĉ", "č") or token in added
        pre = backend.pre_tokenizer
        if pre is not None and pre.pre_tokenize_str("a")[0][0][:1] != "Ġ":
            prefix = " "
    elif any(token.startswith("▁") for token in ids) and "BertPreTokenizer" not in kinds:
        for token, number in ids.items():
            begins[number] = token[:1] in ("▁", "\n") or token in added or _is_ideograph(token)
    return begins, None, prefix


def _take_the_space_before(backend: tokenizers.Tokenizer, blanks: set[str]) -> None:
    """Byte-level tokens hold the space before their word, so what stands for such tokens does too, as RoBERTa's mask does: a space that
    was left before a blank would be a token of its own, which no model has seen there."""
    import tokenizers

    described = json.loads(backend.to_str()) if blanks else {}
    if "ByteLevel" not in _kinds(described.get("pre_tokenizer")):
        return
    alone = [token for token in described["added_tokens"] if token["content"] in blanks and not token["lstrip"]]
    kept = ("single_word", "rstrip", "normalized")
    backend.add_special_tokens(
        [tokenizers.AddedToken(each["content"], lstrip=True, **{name: each[name] for name in kept}) for each in alone]
    )


def _is_ideograph(token: str) -> bool:
    return len(token) == 1 and ("\u4e00" <= token <= "\u9fff" or "\u3400" <= token <= "\u4dbf")


# ------------------------------------------------------------------------------------------------------- the settings


class Settings(ABC):
    """What `tokenizer=` chooses: how a tokenizer comes about."""

    @abstractmethod
    def obtain(
        self, corpus: Corpus, special_tokens: Sequence[str], sentinels: int, cache: Path, say: Say = _log.info
    ) -> Tokenizer:
        """The tokenizer for a corpus and an objective's special tokens."""


class Trained(Settings):
    """A kind of tokenizer that is trained on the corpus's training split."""

    surfaces: ClassVar[dict[str, str]] = _BERT
    needs_unknown: ClassVar[bool] = True

    def __init__(self, vocabulary: int, lowercase: bool, max_word: int, sample: int) -> None:
        _at_least("vocabulary", vocabulary, 1)
        _at_least("max_word", max_word, 1)
        _at_least("sample", sample, 1)
        self.vocabulary = vocabulary
        self.lowercase = lowercase
        self.max_word = max_word
        self.sample = sample

    @abstractmethod
    def train(self, texts: Sampled, special: list[str]) -> tokenizers.Tokenizer:
        """Trains on a sample of sentences; `special` are the first ids."""

    def obtain(
        self, corpus: Corpus, special_tokens: Sequence[str], sentinels: int, cache: Path, say: Say = _log.info
    ) -> Tokenizer:
        import tokenizers

        roles = _in_order({"pad", *(("unk",) if self.needs_unknown else ()), *special_tokens})
        with caches.remembering(cache):
            text = corpus.fingerprint()
        address = caches.digest(
            "tokenizer", FORMAT, tokenizers.__version__, type(self).__name__, vars(self), roles, sentinels, text
        )
        folder = cache / "tokenizers" / address

        def build(temporary: Path) -> dict[str, Any]:
            started = time.perf_counter()
            tokenizer = self.trained(corpus, roles, sentinels)
            tokenizer.save(temporary)
            fewer = f" of the {self.vocabulary:,} asked for" if len(tokenizer) < self.vocabulary else ""
            seconds = time.perf_counter() - started
            say(f"trained the tokenizer: {type(self).__name__}, {len(tokenizer):,} tokens{fewer}, in {seconds:.1f} s")
            return {"vocabulary": len(tokenizer)}

        caches.obtain(folder, build)
        return Tokenizer.load(folder)

    def trained(self, corpus: Corpus, roles: Sequence[str], sentinels: int) -> Tokenizer:
        """A new tokenizer. Raises Refusal where the corpus has no text or the vocabulary is too small for its characters."""
        surfaces = {role: self.surfaces[role] for role in roles}
        extra = [f"<extra_id_{number}>" for number in range(sentinels)]
        special = list(dict.fromkeys([*surfaces.values(), *extra]))
        texts = Sampled(corpus, self.sample)
        if not texts.characters:
            raise Refusal("the training split holds no text to train a tokenizer on")
        backend = self.train(texts, special)
        size = backend.get_vocab_size()
        if size > self.vocabulary:
            raise Refusal(
                f"tokenizer.vocabulary={self.vocabulary} is too small: {len(special)} special tokens and the characters of this "
                f"corpus need at least {size}"
            )
        backend.post_processor = _template(surfaces, backend, sentinels)
        return Tokenizer(backend, surfaces, extra)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise Refusal(f"tokenizer.{name}={value} must be at least {least}")


def _in_order(roles: Iterable[str]) -> list[str]:
    asked = set(roles)
    unknown = asked.difference(ROLES)
    if unknown:
        raise ValueError(f"no such role of a special token: {', '.join(sorted(unknown))}; roles: {', '.join(ROLES)}")
    return [role for role in ROLES if role in asked]


class Sampled:
    """Sentences to train on, `characters` at most: of a larger corpus, parts drawn from all over it, the last one from its
    beginning (a packed file, a table or one in UTF-16 is a single part). Kept compressed in memory.

    Of words without end (longer than `LONG` characters), which take long to learn nothing from, only so many characters are kept.
    """

    LONG, KEPT = 1000, 50_000

    def __init__(self, corpus: Corpus, characters: int) -> None:
        self._batches: list[bytes] = []
        self.characters = 0
        left = characters
        self._long_left = self.KEPT
        batch: list[str] = []
        parts = corpus.parts("train")
        order = keyed.permutation(keyed.key("tokenizer"), len(parts))
        for record in itertools.chain.from_iterable(recent.kept(corpus, parts[int(number)]) for number in order):
            assert isinstance(record, Text)
            sentences = [sentence for document in record.documents for sentence in document.sentences]
            batch.extend(sentences)
            more = sum(map(len, sentences))
            self.characters += more
            left -= more
            if len(batch) >= 4096 or left <= 0:
                self._keep(batch)
                batch = []
            if left <= 0:
                break
        self._keep(batch)

    def _keep(self, batch: list[str]) -> None:
        if max(map(len, batch), default=0) > self.LONG:
            batch = [re.sub(rf"\S{{{self.LONG + 1},}}", self._shorten, text) for text in batch]
        self._batches.append(zlib.compress("\0".join(batch).encode(), 1))

    def _shorten(self, match: re.Match[str]) -> str:
        kept = match[0][: self._long_left]
        self._long_left -= len(kept)
        return kept

    def __iter__(self) -> Iterator[list[str]]:
        for batch in self._batches:
            yield zlib.decompress(batch).decode().split("\0")

    def words(self, backend: tokenizers.Tokenizer) -> Counter[str]:
        """How often each word occurs, as the tokenizer's normaliser and pre-tokenizer cut them."""
        spaced: Counter[str] = Counter()
        for batch in self._batches:
            spaced.update(zlib.decompress(batch).decode().replace("\0", " ").split())
        normalise = backend.normalizer.normalize_str
        cut = backend.pre_tokenizer.pre_tokenize_str
        words: Counter[str] = Counter()
        for text, count in spaced.items():
            for word, _ in cut(normalise(text)):
                words[word] += count
        return words


def _learn(
    words: Counter[str], settings: _Merging, special: list[str], prefix: str, suffix: str
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges. A word's inner characters carry the prefix, its last one the suffix."""
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    ranked = sorted(characters, key=lambda character: (-characters[character], character))
    alphabet = set(ranked[: settings.alphabet])

    def spelled(word: str) -> list[str]:
        return [prefix * (at > 0) + character + suffix * (at == len(word) - 1) for at, character in enumerate(word)]

    known = [(spelled(word), count) for word, count in words.items() if alphabet.issuperset(word)]
    surfaces = [*special, *sorted(alphabet.union(*(spelling for spelling, _ in known)).difference(special))]
    if len(surfaces) > settings.vocabulary:
        raise Refusal(
            f"tokenizer.vocabulary={settings.vocabulary} is too small: {len(special)} special tokens and the characters of this corpus "
            f"need at least {len(surfaces)} (tokenizer.alphabet={settings.alphabet} says how many different ones are kept)"
        )
    number = {surface: symbol for symbol, surface in enumerate(surfaces)}
    spellings: Counter[tuple[int, ...]] = Counter()
    for spelling, count in known:
        spellings[tuple(number[piece] for piece in spelling)] += count
    written, pairs = learn_merges(
        spellings, surfaces, prefix, settings.vocabulary - len(surfaces), settings.min_frequency
    )
    return {surface: symbol for symbol, surface in enumerate(written)}, [(written[a], written[b]) for a, b in pairs]


def _template(surfaces: dict[str, str], backend: tokenizers.Tokenizer, sentinels: int) -> Any:
    """What Hugging Face adds around texts: BERT's [CLS] A [SEP] B [SEP]; XLNet's A [SEP] B [SEP] [CLS]; BART's <s> A </s>; T5's
    A </s>; nothing for others."""
    from tokenizers.processors import TemplateProcessing

    def number(surface: str) -> tuple[str, int]:
        id = backend.token_to_id(surface)
        assert id is not None
        return surface, id

    if "cls" in surfaces and "sep" in surfaces:
        cls, sep = surfaces["cls"], surfaces["sep"]
        if "eos" in surfaces and "mask" not in surfaces:  # what permutation language modelling asks for
            return TemplateProcessing(
                single=f"$A {sep} {cls}:2",
                pair=f"$A {sep} $B:1 {sep}:1 {cls}:2",
                special_tokens=[number(cls), number(sep)],
            )
        return TemplateProcessing(
            single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=[number(cls), number(sep)]
        )
    if {"bos", "eos", "mask"} <= surfaces.keys():
        bos, eos = surfaces["bos"], surfaces["eos"]
        return TemplateProcessing(
            single=f"{bos} $A {eos}", pair=f"{bos} $A {eos} {eos} $B {eos}", special_tokens=[number(bos), number(eos)]
        )
    if sentinels and "eos" in surfaces:
        eos = surfaces["eos"]
        return TemplateProcessing(single=f"$A {eos}", pair=f"$A {eos} $B {eos}", special_tokens=[number(eos)])
    return backend.post_processor


class _Merging(Trained):
    """What WordPiece and BPE share: pieces are joined from the characters of words, pair by pair."""

    def __init__(
        self,
        vocabulary: int = 8000,
        lowercase: bool = True,
        max_word: int = 100,
        min_frequency: int = 2,
        alphabet: int = 1000,
        sample: int = 300_000_000,
    ) -> None:
        super().__init__(vocabulary, lowercase, max_word, sample)
        _at_least("min_frequency", min_frequency, 0)
        _at_least("alphabet", alphabet, 1)
        self.min_frequency = min_frequency
        self.alphabet = alphabet


class WordPiece(_Merging):
    """BERT's: words and punctuation apart, greedy longest pieces, continuing pieces begin with ## (https://arxiv.org/abs/1810.04805)."""

    def train(self, texts: Sampled, special: list[str]) -> tokenizers.Tokenizer:
        import tokenizers
        from tokenizers import decoders, models, normalizers, pre_tokenizers

        backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        words = texts.words(backend)
        for word in [word for word in words if len(word) > self.max_word]:
            del words[word]  # [UNK] whatever is learnt from them
        vocabulary, _ = _learn(words, self, special, prefix="##", suffix="")
        backend.model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=self.max_word)
        backend.add_special_tokens(special)
        backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
        return backend


class BPE(_Merging):
    """Byte pair encoding of characters within words, the last piece of a word marked </w> (https://arxiv.org/abs/1508.07909)."""

    surfaces = _ROBERTA

    def train(self, texts: Sampled, special: list[str]) -> tokenizers.Tokenizer:
        import tokenizers
        from tokenizers import decoders, models, normalizers, pre_tokenizers

        backend = tokenizers.Tokenizer(models.BPE())
        backend.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.FixedLength(self.max_word)]
        )
        vocabulary, merges = _learn(texts.words(backend), self, special, prefix="", suffix="</w>")
        backend.model = models.BPE(vocabulary, merges, unk_token="<unk>", end_of_word_suffix="</w>")
        backend.add_special_tokens(special)
        backend.decoder = decoders.BPEDecoder(suffix="</w>")
        return backend


class Word(Trained):
    """One token a word, punctuation apart: the most frequent words of the text, as language models had them before there were pieces
    (ELMo: https://arxiv.org/abs/1802.05365). Ids go by frequency, words equally frequent by the alphabet; other words are [UNK]."""

    def __init__(
        self,
        vocabulary: int = 8000,
        lowercase: bool = False,
        max_word: int = 100,
        min_frequency: int = 2,
        sample: int = 300_000_000,
    ) -> None:
        super().__init__(vocabulary, lowercase, max_word, sample)
        _at_least("min_frequency", min_frequency, 1)
        self.min_frequency = min_frequency

    def train(self, texts: Sampled, special: list[str]) -> tokenizers.Tokenizer:
        import tokenizers
        from tokenizers import decoders, models, normalizers, pre_tokenizers

        if self.vocabulary <= len(special):
            raise Refusal(
                f"tokenizer.vocabulary={self.vocabulary} is too small: {len(special)} special tokens and one word need at least "
                f"{len(special) + 1}"
            )
        backend = tokenizers.Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        words = texts.words(backend)
        known = [word for word, count in words.items() if count >= self.min_frequency and len(word) <= self.max_word]
        ranked = sorted(set(known).difference(special), key=lambda word: (-words[word], word))
        kept = [*special, *ranked[: self.vocabulary - len(special)]]
        backend.model = models.WordLevel({word: number for number, word in enumerate(kept)}, unk_token="[UNK]")
        backend.add_special_tokens(special)
        # no word begins so, for # is a word of its own: the decoder only takes away the spaces before punctuation
        backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
        return backend


class ByteLevelBPE(Trained):
    """GPT-2's: byte pair encoding of UTF-8 bytes, nothing is unknown; a word's token holds the space before it
    (https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)."""

    surfaces = _ROBERTA
    needs_unknown = False

    def __init__(
        self,
        vocabulary: int = 8000,
        lowercase: bool = False,
        max_word: int = 100,
        min_frequency: int = 2,
        sample: int = 300_000_000,
    ) -> None:
        super().__init__(vocabulary, lowercase, max_word, sample)
        _at_least("min_frequency", min_frequency, 0)
        self.min_frequency = min_frequency

    def train(self, texts: Sampled, special: list[str]) -> tokenizers.Tokenizer:
        import tokenizers
        from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

        backend = tokenizers.Tokenizer(models.BPE())
        if self.lowercase:
            backend.normalizer = normalizers.Lowercase()
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.FixedLength(self.max_word)]
        )
        backend.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=self.vocabulary,
                min_frequency=self.min_frequency,
                initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                special_tokens=special,
                show_progress=False,
            ),
        )
        backend.decoder = decoders.ByteLevel()
        return backend


class Unigram(Trained):
    """SentencePiece's unigram language model, as ALBERT, XLNet and T5 use it: ▁ stands for the space (https://arxiv.org/abs/1804.10959)."""

    surfaces = _ALBERT

    def __init__(
        self,
        vocabulary: int = 8000,
        lowercase: bool = False,
        max_word: int = 100,
        max_piece: int = 16,
        sample: int = 10_000_000,
    ) -> None:
        super().__init__(vocabulary, lowercase, max_word, sample)
        _at_least("max_piece", max_piece, 1)
        self.max_piece = max_piece

    def train(self, texts: Sampled, special: list[str]) -> tokenizers.Tokenizer:
        import tokenizers
        from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

        backend = tokenizers.Tokenizer(models.Unigram())
        steps = [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        backend.normalizer = normalizers.Sequence([*steps, normalizers.Lowercase()] if self.lowercase else steps)
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
                pre_tokenizers.FixedLength(self.max_word),
            ]
        )
        trainer = trainers.UnigramTrainer(
            vocab_size=self.vocabulary,
            max_piece_length=self.max_piece,
            special_tokens=special,
            unk_token="<unk>",
            show_progress=False,
        )
        try:
            backend.train_from_iterator(texts, trainer)
        except Exception as error:  # the library's only kind
            least = len(special) + len(set().union(*texts.words(backend)))
            if least <= self.vocabulary:
                raise
            raise Refusal(
                f"tokenizer.vocabulary={self.vocabulary} is too small: {len(special)} special tokens and the characters of this corpus "
                f"need at least {least}"
            ) from error
        backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
        return backend


class Character(Trained):
    """One token a character; ▁ stands for the space."""

    def __init__(
        self,
        vocabulary: int = 8000,
        lowercase: bool = False,
        min_frequency: int = 1,
        sample: int = 300_000_000,
    ) -> None:
        super().__init__(vocabulary, lowercase, 1, sample)
        _at_least("min_frequency", min_frequency, 0)
        self.min_frequency = min_frequency

    def train(self, texts: Sampled, special: list[str]) -> tokenizers.Tokenizer:
        import tokenizers
        from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

        if self.vocabulary <= len(special):
            raise Refusal(
                f"tokenizer.vocabulary={self.vocabulary} is too small: {len(special)} special tokens and one "
                f"character need at least {len(special) + 1}"
            )
        backend = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
        steps: list[Any] = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps] if self.lowercase else steps)
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        backend.train_from_iterator(
            texts,
            trainers.WordLevelTrainer(
                vocab_size=self.vocabulary,
                min_frequency=self.min_frequency,
                special_tokens=special,
                show_progress=False,
            ),
        )
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
        return backend


class Pretrained(Settings):
    """A tokenizer that exists: a tokenizer.json, a vocab.txt (WordPiece), a Hugging Face folder or name."""

    def __init__(self, path: str, lowercase: bool | None = None) -> None:
        self.path = path
        self.lowercase = lowercase

    def obtain(
        self, corpus: Corpus, special_tokens: Sequence[str], sentinels: int, cache: Path, say: Say = _log.info
    ) -> Tokenizer:
        path = Path(self.path).expanduser()
        loaded = _loaded(path, self.lowercase) if path.exists() else _from_hub(self.path, self.lowercase)
        return adapted(loaded, special_tokens, sentinels, self.path)


def adapted(tokenizer: Tokenizer, special_tokens: Sequence[str], sentinels: int, name: str) -> Tokenizer:
    """The same tokenizer, checked to have what an objective needs. Raises Refusal naming what is missing."""
    roles = dict(tokenizer.roles)
    for role in _in_order(special_tokens):
        surface = roles.get(role) or roles.get(_STANDS_IN.get(role, ""))
        if surface is None:
            raise Refusal(
                f"the tokenizer {name} has no {role} token ({_BERT[role]}), which this objective needs; it has "
                + (", ".join(f"{other} {surface}" for other, surface in sorted(roles.items())) or "no special token")
            )
        roles[role] = surface
    if len(tokenizer.sentinels) < sentinels:
        raise Refusal(
            f"the tokenizer {name} has {len(tokenizer.sentinels)} sentinels <extra_id_…>; this objective needs {sentinels}"
        )
    return Tokenizer(tokenizer._backend, roles, tokenizer.sentinels)


def with_sentinels(tokenizer: Tokenizer, count: int) -> Tokenizer:
    """The same tokenizer with `count` sentinels: those that it lacks are new tokens behind all others."""
    import tokenizers

    surfaces = [f"<extra_id_{number}>" for number in range(count)]
    backend = tokenizers.Tokenizer.from_str(tokenizer._backend.to_str())
    backend.add_special_tokens([tokenizers.AddedToken(surface, special=True) for surface in surfaces])
    made = Tokenizer(backend, tokenizer.roles, [*tokenizer.sentinels, *surfaces[len(tokenizer.sentinels) :]])
    size = max(made.vocabulary.size, tokenizer.vocabulary.size)  # an embedding may have more rows than there are tokens
    made.vocabulary = dataclasses.replace(made.vocabulary, size=size)
    return made


def _loaded(path: Path, lowercase: bool | None) -> Tokenizer:
    """From a file or a folder."""
    if path.is_file():
        folder, file = path.parent, path
    else:
        folder = path
        file = next((path / name for name in ("tokenizer.json", "vocab.txt") if (path / name).is_file()), path)
        if file == path:
            if not path.is_dir():
                raise Refusal(f"tokenizer.path={path} not found")
            return _from_hub(str(path), lowercase)
    known = {**_read_json(folder / "tokenizer_config.json"), **_read_json(folder / "special_tokens_map.json")}
    if file.suffix == ".txt":
        if lowercase is None:
            lowercase = bool(known.get("do_lower_case", True))
        backend = _from_vocabulary_file(file, lowercase)
    else:
        _no_case_of_its_own(lowercase, str(file))
        backend = _from_json(file)
    return _with_roles(backend, known)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Refusal(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise Refusal(f"{path} is not a JSON object")
    return value


def _from_json(file: Path) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exceptions
        raise Refusal(f"{file} is not a tokenizer.json: {error}") from error


def _from_vocabulary_file(file: Path, lowercase: bool) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    try:
        words = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{file} is not a vocabulary (one token a line, UTF-8): {error}") from error
    if words[-1] == "":
        words.pop()
    vocabulary = {word.rstrip("\r"): number for number, word in enumerate(words)}
    if "[UNK]" not in vocabulary:
        raise Refusal(f"{file} is not a WordPiece vocabulary: it has no [UNK]")
    if len(vocabulary) < len(words):
        raise Refusal(f"{file} has {len(words) - len(vocabulary)} tokens twice")
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    special = [surface for surface in _BERT.values() if surface in vocabulary]
    backend.add_special_tokens(special)
    surfaces = {role: surface for role, surface in _BERT.items() if surface in vocabulary}
    backend.post_processor = _template(surfaces, backend, 0)
    return backend


def _no_case_of_its_own(lowercase: bool | None, name: str) -> None:
    if lowercase is not None:
        raise Refusal(
            f"tokenizer.lowercase={str(lowercase).lower()} has no effect on {name}, which says itself what it does with "
            "capitals; it is for a vocab.txt: leave it out"
        )


def _from_hub(name: str, lowercase: bool | None) -> Tokenizer:
    """By Hugging Face's own means: a name, or a folder with files of another kind."""
    _no_case_of_its_own(lowercase, name)
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # it raises many kinds
        reason = str(error).strip().splitlines()
        raise Refusal(
            f"tokenizer.path={name}: neither a file nor a folder here, nor to be had by that name ({reason[0] if reason else error})"
        ) from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise Refusal(f"tokenizer.path={name}: {type(loaded).__name__} has no fast form (tokenizer.json)")
    names = {f"{role}_token": getattr(loaded, f"{role}_token", None) for role in ROLES}
    return _with_roles(backend, names)


def _with_roles(backend: tokenizers.Tokenizer, names: dict[str, Any]) -> Tokenizer:
    """Roles from a special tokens map; where there is none, from how special tokens are usually written."""
    ids = backend.get_vocab(with_added_tokens=True)
    roles: dict[str, str] = {}
    for role in ROLES:
        surface = names.get(f"{role}_token")
        if isinstance(surface, dict):
            surface = surface.get("content")
        if isinstance(surface, str) and surface in ids:
            roles[role] = surface
    if not roles:
        for role in ROLES:
            for habit in (_BERT, _ROBERTA):
                if habit[role] in ids:
                    roles.setdefault(role, habit[role])
    sentinels = list(
        itertools.takewhile(lambda surface: surface in ids, (f"<extra_id_{n}>" for n in itertools.count()))
    )
    return Tokenizer(backend, roles, sentinels)


def obtain(
    settings: Settings,
    corpus: Corpus,
    special_tokens: Sequence[str],
    sentinels: int,
    cache: Path,
    say: Say = _log.info,
) -> Tokenizer:
    """The tokenizer that `settings` describe, for this corpus and an objective's special tokens (by role).

    `say` gets a line for the user where it was trained now.
    """
    return settings.obtain(corpus, special_tokens, sentinels, cache, say)
