"""Words with tags, parts of speech or spans: CoNLL-U, CoNLL columns, MSRA's TSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

from cloze.data.base import NO_TAG, Labels, Record, Split, Tagged
from cloze.data.files import File, lines
from cloze.data.tasks.split_files import OnBad, SplitFiles
from cloze.data.tasks.tag_schemes import Scheme, as_iob2, scheme_of
from cloze.data.tasks.word_lines import Column, Reader, Sentence, columns, conllu, conllu_with, two_lists
from cloze.errors import Refusal, did_you_mean

Form = Literal["auto", "conllu", "columns", "tsv"]
DocumentsAre = Literal["document", "sentence"]

_ENCODINGS = ("utf-8", "latin-1", "cp1252", "iso8859-15", "gb18030", "utf-16")
_READERS: dict[str, Reader] = {"conllu": conllu, "columns": columns, "tsv": two_lists}


class Conll(SplitFiles):
    """Tagged words. A record is a document, where the file says what one is (`# newdoc`, -DOCSTART-), else a sentence.

    task              what the task is called, in metrics and files
    path              a folder or .zip archive with files of the usual names (train.txt, eng.testa, *-ud-dev.conllu), or a training file
    form              conllu | columns | tsv (header text_a, label; a space between words, and between tags); auto: told by the file
    column            of the tags: of CoNLL-U a name (upos, xpos, deprel), None: upos; else a number from 1, None: the last
    word_column       that the words are in; of columns
    scheme            iob1 | iob2 | iobes | plain (tags of single words); auto: told by the training file. Spans are read as IOB2
    documents         document | sentence: what a record is
    encoding          of the files, in Python's names (the Spanish, Dutch and German ones of CoNLL are latin-1)
    spaces            whether running text has a space between words; None: not in tsv, whose words are Chinese characters. CoNLL-U says it
    train_path, validation_path, test_path, validation_share, split_seed
                      as of all tasks in files; what is held out is documents, whole
    on_bad            refuse | drop sentences with a malformed line
    """

    reads = Tagged
    dropped_are = "sentences"

    def __init__(
        self,
        task: str = "tagging",
        path: str | None = None,
        form: Form = "auto",
        column: str | int | None = None,
        word_column: int = 1,
        scheme: Literal["auto", "iob1", "iob2", "iobes", "plain"] = "auto",
        documents: DocumentsAre = "document",
        spaces: bool | None = None,
        encoding: str = "utf-8",
        train_path: str | None = None,
        validation_path: str | None = None,
        test_path: str | None = None,
        validation_share: float | None = None,
        split_seed: int = 0,
        on_bad: OnBad = "refuse",
    ) -> None:
        official: dict[Split, tuple[str, ...]] = {
            "train": ("*-ud-train.conllu", "*.train", "wnut17train.conll", *_usual("train")),
            "validation": ("*-ud-dev.conllu", "*.testa", "emerging.dev.conll", *_usual("dev"), *_usual("valid")),
            "test": ("*-ud-test.conllu", "*.testb", "emerging.test.annotated", *_usual("test")),
        }
        super().__init__(
            official, task, path, train_path, validation_path, test_path, validation_share, split_seed, on_bad
        )
        self.form, self.column, self.word_column, self.documents_are = form, column, word_column, documents
        self._scheme_asked, self.spaces, self.encoding = scheme, spaces, encoding
        try:
            "".encode(encoding)
        except LookupError:
            raise Refusal(f"data.encoding={encoding} is not known{did_you_mean(encoding, _ENCODINGS)}") from None

    def _settings(self) -> list[Any]:
        return [
            self.form,
            self.column,
            self.word_column,
            self._scheme_asked,
            self.documents_are,
            self.spaces,
            self.encoding,
        ]

    # what there is to predict

    @property
    def labels(self) -> dict[str, Labels]:
        scheme, names = self._survey
        return {self.name: Labels(names, ("accuracy",) if scheme == "plain" else ("span_f1", "accuracy"))}

    @property
    def scheme(self) -> Scheme:
        """As asked, or as the training file has it."""
        return self._survey[0]

    @cached_property
    def _survey(self) -> tuple[Scheme, tuple[str, ...]]:
        """The scheme, and all tags of the training file as they are read, O first; without such a file, of those that are there."""
        files = [
            (split, file) for split, file in self.sources.items() if split == "train" or "train" not in self.sources
        ]
        told = [tuple(each.tags) for split, file in files for each in self._sentences(file, split) if each.tags]
        self._dropped.clear()
        if not told:
            raise Refusal(f"{files[0][1]}: no word has a tag{_column_hint(self.column)}")
        scheme: Scheme = scheme_of(told) if self._scheme_asked == "auto" else self._scheme_asked
        names = {name for tags in told for name in as_iob2(tags, scheme)} - {NO_TAG}
        if scheme != "plain":  # a kind of span that was one word long each time may be longer: CoNLL-2000's lists
            names |= {f"{letter}{name[1:]}" for name in names if name[1:2] == "-" for letter in "BI"}
        return scheme, tuple(sorted(names, key=lambda name: (name != "O", name)))

    # reading

    def _form(self, file: File) -> str:
        if self.form != "auto":
            return self.form
        if str(file).removesuffix(file.packing).lower().endswith((".conllu", ".conllx")):
            return "conllu"
        return "tsv" if "text_a" in self._header(file).split("\t") else "columns"

    def _header(self, file: File) -> str:
        line = next((text for _, text in lines(file, self.encoding)), "")
        return line if isinstance(line, str) else ""

    def _sentences(self, file: File, split: Split) -> Iterator[Sentence]:
        """As the file has them; what may have no tags is a test split."""

        def told(number: int, what: str) -> None:
            self._pass_over(file, f"{file}, line {number}: {what}")

        for sentence in _READERS[self._form(file)](file, self.encoding, self.column, self.word_column, told):
            if sentence.tags is None and split != "test":
                told(sentence.numbers[0], f"{sentence.words[0]} has no tag{_column_hint(self.column)}")
                continue
            yield sentence

    def _documents(self, file: File, split: Split) -> Iterator[list[Sentence]]:
        """The sentences of each document, tags in IOB2. Before the first mark of a document every sentence is one."""
        scheme, names = self._survey
        known = frozenset({*names, NO_TAG})
        marked = False
        document: list[Sentence] = []
        for sentence in self._sentences(file, split):
            marked = marked or sentence.begins_document
            if sentence.begins_document or not marked:
                if document:
                    yield document
                document = []
            if sentence.tags is not None:
                sentence.tags = list(as_iob2(sentence.tags, scheme))
                strange = next((n for n, tag in enumerate(sentence.tags) if tag not in known), None)
                if strange is not None:
                    tag, place = sentence.tags[strange], f"{file}, line {sentence.numbers[strange]}"
                    self._pass_over(
                        file, f"{place}: the tag {tag} is none of the training file's{did_you_mean(tag, names)}"
                    )
                    continue
            document.append(sentence)
        if document:
            yield document

    def _keyed(self, source: Any, split: Split) -> Iterator[tuple[str, Record]]:
        for key, document in self._with_keys(source, split):
            texts = [each.text or "" for each in document]
            if self.documents_are == "sentence":
                yield from ((key, _record(source, [each], [text])) for each, text in zip(document, texts, strict=True))
            else:
                yield key, _record(source, document, texts)

    def _with_keys(self, source: Any, split: Split) -> Iterator[tuple[str, list[Sentence]]]:
        """Each document and its text, which decides whether it is held out."""
        joint = "" if self.spaces is False or (self.spaces is None and self._form(source) == "tsv") else " "
        for document in self._documents(source, split):
            for sentence in document:
                sentence.text = joint.join(sentence.words) if sentence.text is None else sentence.text
            yield "\n".join(each.text or "" for each in document), document

    # predictions

    def submission(self, split: str, records: Sequence[Record], predictions: Sequence[Any]) -> dict[str, str]:
        """The split's file with the predicted tags: as the last column, where columns are (which conlleval reads), and in the place of
        the tags in CoNLL-U and TSV. `records` must be the whole split."""
        tags = [each for predicted in predictions for each in predicted]
        sentences = [sentence for record in records if isinstance(record, Tagged) for sentence in record.words]
        source, of = self._source(split)
        form = self._form(source)
        header = self._header(source)
        made = [header if "label" in header.split("\t") else "text_a\tlabel"] if form == "tsv" else []
        written = (each for doc in self._on_side(split, self._with_keys(source, of)) for each in doc)
        for sentence, words, each in zip(written, sentences, tags, strict=True):
            if tuple(sentence.words) != words:
                raise ValueError(
                    f"{source}, line {sentence.numbers[0]}: the records are not those of the {split} split"
                )
            made += self._with(sentence, list(each), form)
        ending = {"conllu": "conllu", "tsv": "tsv"}.get(form, "conll")
        return {f"{self.name}-{split}.{ending}": "\n".join(made) + "\n"}

    def _with(self, sentence: Sentence, tags: list[str], form: str) -> list[str]:
        """The lines of a sentence with other tags, and the blank one after it."""
        if len(tags) != len(sentence.words):
            raise ValueError(f"line {sentence.numbers[0]}: {len(sentence.words)} words, {len(tags)} predicted tags")
        if form == "tsv":
            return [f"{' '.join(sentence.words)}\t{' '.join(tags)}"]
        made = []
        for row, number in sentence.rows:
            if form == "conllu":
                made.append(row if number < 0 else conllu_with(row, self.column, tags[number]))
            else:
                between = "\t" if "\t" in row else " "
                made.append(f"{row.rstrip(' ')}{between}{tags[number] if number >= 0 else 'O'}" if row else row)
        return [*made, ""]


def _record(source: Any, sentences: list[Sentence], texts: list[str]) -> Tagged:
    ends = [following.begins_paragraph for following in sentences[1:]] + [False]
    first = sentences[0].numbers[0]
    return Tagged(
        tuple(text + "\n" if end else text for text, end in zip(texts, ends, strict=True)),
        where=f"{source}, line {first}",
        words=tuple(tuple(each.words) for each in sentences),
        tags=None
        if any(each.tags is None for each in sentences)
        else tuple(tuple(each.tags or ()) for each in sentences),
        id=str(first),
    )


def _usual(split: str) -> tuple[str, ...]:
    return tuple(f"{split}.{ending}" for ending in ("txt", "conllu", "conll", "tsv"))


def _column_hint(column: Column) -> str:
    return "" if column is None else f" in data.column={column}"
