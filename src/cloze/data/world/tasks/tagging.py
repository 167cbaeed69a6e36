"""Part-of-speech and entity tagging, from whole documents: CoNLL-U and the four columns of CoNLL-2003.

Entities: PER (people's names), LOC (places), ORG (companies), OBJ (things), TIME. The labelled training documents leave out the
reserved tenth of the lexicon, which validation and test documents use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cloze.data import keyed
from cloze.data.world.documents import Document, Style, tell
from cloze.data.world.grammar import Sentence
from cloze.data.world.lexicon import Word, lexicon
from cloze.data.world.tasks.scene import Fold

PARTS_OF_SPEECH = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "VERB"
)  # fmt: skip
ENTITIES = ("LOC", "OBJ", "ORG", "PER", "TIME")
ENTITY_TAGS = ("O", *(f"{mark}-{entity}" for entity in ENTITIES for mark in "BI"))


def document(fold: Fold, number: int, seed: int = 1, task: str = "tagging") -> Document:
    """A labelled document: of the language, but of none of the corpus's splits."""
    words = lexicon(cast_overlap=0.5, without_reserved=fold == "train")
    return tell(words, keyed.key(seed, "world tasks", task, fold, number), Style())


def entity_tags(words: Sequence[Word]) -> list[str]:
    """IOB2 labels: B-LOC I-LOC O."""
    tags, before = [], ""
    for word in words:
        tags.append("O" if not word.entity else f"{'I' if word.entity == before else 'B'}-{word.entity}")
        before = word.entity
    return tags


def conllu(documents: Iterator[tuple[str, Document]]) -> Iterator[str]:
    """CoNLL-U lines; lemma, features and dependencies are not given (`_`)."""
    for name, made in documents:
        yield f"# newdoc id = {name}\n"
        for number, sentence in enumerate(made.sentences, 1):
            yield f"# sent_id = {name}-{number}\n# text = {sentence.text}\n"
            for index, word in enumerate(sentence.words, 1):
                after = sentence.words[index].form if index < len(sentence.words) else ""
                misc = "SpaceAfter=No" if after in (",", ".", "'s") else "_"
                yield "\t".join((str(index), word.form, "_", word.tag, "_", "_", "_", "_", "_", misc)) + "\n"
            yield "\n"


def conll2003(documents: Iterator[tuple[str, Document]]) -> Iterator[str]:
    """Token, part of speech, chunk (`_`: not given), entity; a blank line after each sentence."""
    for _, made in documents:
        yield "-DOCSTART- -X- -X- O\n\n"
        for sentence in made.sentences:
            yield from (
                f"{word.form} {word.tag} _ {tag}\n"
                for word, tag in zip(sentence.words, entity_tags(sentence.words), strict=True)
            )
            yield "\n"


def plain(sentence: Sentence) -> tuple[str, ...]:
    """A sentence's words without their tags."""
    return tuple(word.form for word in sentence.words)


def reserved_in(sentence: Sentence, reserved: frozenset[str]) -> bool:
    """Whether a sentence has a word that labelled training data never shows."""
    return any(word.form in reserved for word in sentence.words)
