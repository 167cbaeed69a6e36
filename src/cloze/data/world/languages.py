"""Languages B and C of the generated world: the same stories, translated word by word, so that every alignment is known.

Language A is the one that stories are told in. *B* differs from it in everything but the meaning: each word has another (a bijection),
written in letters that A has none of (Armenian ones, in words that are made up); the verb stands at the end of its clause, and what is a
preposition in A follows its noun; number, tense and derivation are suffixes without exceptions (went and baked end alike). *C* has neither
spaces nor inflection: a word is one character (an ideograph, by lot), a derived or compound word two or three.

Names and number words can be the same in all languages: *anchors*, a share of them that can be chosen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

from cloze.data import keyed
from cloze.data.world import words as lists
from cloze.data.world.grammar import FRAMES, LIVING
from cloze.data.world.lexicon import Word
from cloze.data.world.morphology import again, ness, plural, verb

Language = Literal["a", "b", "c"]
LANGUAGES: tuple[Language, ...] = ("a", "b", "c")

# What the templates of stories say besides the lexicon: verbs by their base, irregular forms, and words that do not change.
_VERBS = "like dislike work ask live look stay call paint trade agree want bring take know help".split()
_IRREGULAR = {
    "was": ("be", "past"),
    "were": ("be", "past plural"),
    "been": ("be", "participle"),
    "had": ("have", "past"),
    "did": ("do", "past"),
    "stood": ("stand", "past"),
    "chose": ("choose", "past"),
    "thought": ("think", "past"),
    "travelled": ("travel", "past"),
}
_UNCHANGING = """
the a an 's not to in on for of by from with at into near after like back there too very so again then later soon some time
he she it they him her his them who that because where how and all none nobody every day days home friend birthday colour contest prize
result help do be have stand choose think travel cost ready dirty new coins box shelf rack
""".split()
_OF_TASKS = ("about",)  # what only tasks say: last of all lemmas, so that the words of the others stay what they are
_MEANS = {"days": ("day", "plural"), "coins": ("coin", "plural")}
_CONTAINERS = ("box", "shelf", "rack")  # the second half of compounds
_SUFFIXED = ("plural", "third", "past", "past plural", "participle", "gerund", "ness")

_VOWELS = "աեէըիոօ"
_CONSONANTS = "".join(chr(code) for code in range(0x561, 0x587) if chr(code) not in _VOWELS)
_FULL_STOPS = {"b": "։", "c": "。"}
_COMMAS = {"b": "՝", "c": "，"}
_IDEOGRAPHS = range(0x4E00, 0x9FA6)


class Translation(NamedTuple):
    """A sentence in another language. `sources[i]` is the number of the word of language A that `words[i]` stands for."""

    text: str
    words: tuple[str, ...]
    sources: tuple[int, ...]


class Sense(NamedTuple):
    """What a form of language A is made of: `lemma` (`other` behind it, in a compound), done `again`, with an ending's meaning."""

    lemma: str
    feature: str = ""
    again: bool = False
    other: str = ""


def translate(words: Sequence[Word], language: Language, anchors: float = 0.5) -> Translation:
    """A sentence of language A (its words with their tags) in B or C. `anchors` is the share of names and numbers that stay as they are."""
    if language == "a":
        raise ValueError("language a is the one that is translated")
    kept = anchored(anchors)
    found: list[str] = []
    sources: list[int] = []
    for number in order(words) if language == "b" else range(len(words)):
        word = words[number]
        form = word.form.lower()
        if word.tag == "PUNCT":
            parts = [(_COMMAS if form == "," else _FULL_STOPS)[language]]
        elif form in kept:
            parts = [word.form if word.tag == "PROPN" else form]
        elif language == "b":
            parts = [word_of_b(form)]
            if word.tag == "PROPN":
                parts = [_capital(parts[0])]
        else:
            parts = list(characters_of_c(form))
        found += parts
        sources += [number] * len(parts)
    if language == "c":
        # only two words in A's letters need something between them
        gaps = [" " if one.isascii() and other.isascii() else "" for one, other in pairwise(found)]
        text = "".join(part for pair in zip(found, [*gaps, ""], strict=True) for part in pair)
    else:
        found[0] = _capital(found[0])
        text = (
            " ".join(found).replace(" " + _COMMAS["b"], _COMMAS["b"]).replace(" " + _FULL_STOPS["b"], _FULL_STOPS["b"])
        )
    return Translation(text, tuple(found), tuple(sources))


def _capital(form: str) -> str:
    return form[0].upper() + form[1:]


# ------------------------------------------------------------------------------------------------------ order of B


def order(words: Sequence[Word]) -> list[int]:
    """The words' numbers as language B orders them: verbs at the end of each clause, postpositions, punctuation where it was."""
    found: list[int] = []
    clause: list[int] = []
    for number, word in enumerate(words):
        if word.tag == "PUNCT":
            found += [*_verb_last(words, clause), number]
            clause = []
            continue
        begins = word.tag == "SCONJ" or _relative(word)
        # "the loaf that had been baked | was good"
        ends = clause and _relative(words[clause[0]]) and words[clause[-1]].tag == "VERB" and word.tag == "AUX"
        if clause and (begins or ends):
            found += _verb_last(words, clause)
            clause = []
        clause.append(number)
    return found + _verb_last(words, clause)


def _relative(word: Word) -> bool:
    return word.tag == "PRON" and word.form.lower() in ("that", "who")


def _verb_last(words: Sequence[Word], clause: list[int]) -> list[int]:
    """Subject, object, verb; of several verbs the one that A has first stands last ("wanted to bake": bake to wanted)."""
    start = next((at for at, number in enumerate(clause) if words[number].tag in ("AUX", "VERB")), len(clause))
    end = start
    while end < len(clause):
        word = words[clause[end]]
        joins = word.tag in ("AUX", "VERB") or (word.tag == "PART" and word.form != "'s")
        after_verb = end > start and words[clause[end - 1]].tag == "VERB"
        if not joins or (after_verb and word.tag != "PART"):
            break
        end += 1
    return _postposed(words, clause[:start]) + _postposed(words, clause[end:]) + clause[start:end][::-1]


def _postposed(words: Sequence[Word], part: list[int]) -> list[int]:
    """What follows a preposition, then the preposition."""
    found: list[int] = []
    at = 0
    while at < len(part):
        end = at + 1
        if words[part[at]].tag == "ADP":
            head = False
            while end < len(part):
                tag = words[part[end]].tag
                if tag not in ("DET", "NUM", "ADJ", "NOUN", "PROPN", "PRON", "PART") or (
                    head and tag in ("DET", "NUM", "PRON")
                ):
                    break
                head = head or tag in ("NOUN", "PROPN")
                end += 1
            found += [*part[at + 1 : end], part[at]]
        else:
            found.append(part[at])
        at = end
    return found


# ------------------------------------------------------------------------------------------------------ words


@lru_cache(maxsize=1)
def senses() -> dict[str, Sense]:
    """Every form of language A (in lower case, compounds apart) and what it is made of. Of two analyses the plainer one counts: this is a
    dictionary of forms, so that it can be read backwards."""
    found: dict[str, Sense] = {}
    rows = [[cell.strip() for cell in line.split("|")] for line in lists.TOPICS.strip().splitlines()]
    plain = [*_UNCHANGING, *_OF_TASKS]
    plain += [
        part for row in rows for cell in row[1:4] for item in cell.split() for part in item.rstrip("*").split("_")
    ]
    plain += " ".join((lists.FEMALE_NAMES, lists.MALE_NAMES, lists.TOWNS, lists.COMPANIES)).replace("_", " ").split()
    plain += " ".join((*lists.GOOD, *lists.BAD, *lists.HAPPY, *lists.UNHAPPY)).replace("/", " ").split()
    plain += [*lists.COLOURS, *lists.NUMBERS, *lists.WEEKDAYS, *lists.TIMES]
    verbs = [base for row in rows for base in row[4].split()]
    verbs += [forms.base for frame in (*FRAMES.values(), *LIVING.values()) for forms in frame.verbs.items]
    verbs += _VERBS
    for form, (lemma, feature) in {**_MEANS, **_IRREGULAR}.items():
        found[form] = Sense(lemma, feature)
    for form in (*plain, *verbs):
        found.setdefault(form.lower(), Sense(form.lower()))
    for row in rows:
        for item in row[3].split():
            lemma = item.rstrip("*").split("_")[-1]
            found.setdefault(plural(lemma), Sense(lemma, "plural"))
    for base in verbs:
        forms = verb(base)
        for name, form, once_more in zip(forms._fields, forms, again(forms), strict=True):
            found.setdefault(form, Sense(base, "" if name == "base" else name))
            found.setdefault(once_more, Sense(base, "" if name == "base" else name, again=True))
    for adjective in lists.NESS:
        found.setdefault(ness(adjective), Sense(adjective, "ness"))
    return found


def sense_of(form: str) -> Sense:
    """What a form in lower case is made of. Raises KeyError where no story says it."""
    known = senses().get(form)
    if known is not None:
        return known
    for container in _CONTAINERS:
        if form.endswith(container) and form.removesuffix(container) in senses():
            return Sense(form.removesuffix(container), other=container)
    raise KeyError(f"languages B and C have no word for {form!r}")


@lru_cache(maxsize=1)
def lemmas() -> tuple[str, ...]:
    """All lemmas: containers first, then the words that never change, then the others by alphabet, then those of tasks."""
    first = dict.fromkeys((*_CONTAINERS, *_UNCHANGING))
    every = {sense.lemma for sense in senses().values()} - set(_OF_TASKS)
    return tuple([lemma for lemma in first if lemma in every] + sorted(every - set(first)) + list(_OF_TASKS))


def _syllables(key: int, count: int) -> str:
    letters = []
    for step in range(count):
        drawn = keyed.key(key, step)
        letters.append(_CONSONANTS[drawn % len(_CONSONANTS)] + _VOWELS[(drawn >> 16) % len(_VOWELS)])
    closing = keyed.key(key, "end")
    return "".join(letters) + (_CONSONANTS[(closing >> 8) % len(_CONSONANTS)] if closing % 3 == 0 else "")


@lru_cache(maxsize=1)
def _stems() -> tuple[dict[str, str], dict[str, str]]:
    """The stems of language B by lemma, and its suffixes by what they mean ("again" stands before the others). No two words that can be
    made of them are the same: a stem that would bring that about is drawn again."""
    suffixes: dict[str, str] = {}
    for name in ("again", *_SUFFIXED):
        turn = 0
        while (made := _syllables(keyed.key("suffix of language b", name, turn), 1)[:2]) in suffixes.values():
            turn += 1
        suffixes[name] = made
    endings = ["", *(suffixes[name] for name in _SUFFIXED)]
    endings += [suffixes["again"] + ending for ending in endings]
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for lemma in lemmas():
        turn = 0
        while True:
            count = (
                1
                if lemma in (*_UNCHANGING, *_OF_TASKS) and lemma not in _CONTAINERS
                else 2 + keyed.key("length", lemma) % 2
            )
            stem = _syllables(keyed.key("stem of language b", lemma, turn), count + (turn > 50))
            words = {stem + ending for ending in endings} | {
                stem + stems[name] for name in _CONTAINERS if name in stems
            }
            if not words & taken:
                break
            turn += 1
        stems[lemma] = stem
        taken |= words
    return stems, suffixes


@lru_cache(maxsize=8192)
def word_of_b(form: str) -> str:
    """The word of language B, in lower case, for a form of A in lower case: a bijection."""
    stems, suffixes = _stems()
    sense = sense_of(form)
    made = stems[sense.lemma] + (suffixes["again"] if sense.again else "")
    made += suffixes[sense.feature] if sense.feature else ""
    return made + (stems[sense.other] if sense.other else "")


@lru_cache(maxsize=1)
def _ideographs() -> dict[str, str]:
    chosen = keyed.permutation(keyed.key("ideographs of language c"), len(_IDEOGRAPHS)).tolist()
    stories = lemmas()[: -len(_OF_TASKS)]
    names = (*stories, "-ness", *_OF_TASKS)
    return {name: chr(_IDEOGRAPHS[number]) for name, number in zip(names, chosen, strict=False)}


@lru_cache(maxsize=8192)
def characters_of_c(form: str) -> str:
    """The one to three characters of language C for a form of A in lower case. Number and tense are not said."""
    signs = _ideographs()
    sense = sense_of(form)
    made = (signs["again"] if sense.again else "") + signs[sense.lemma]
    made += signs["-ness"] if sense.feature == "ness" else ""
    return made + (signs[sense.other] if sense.other else "")


@lru_cache(maxsize=16)
def anchored(share: float) -> frozenset[str]:
    """The forms, in lower case, that are the same in every language: that share of persons' names, towns and numbers that are no other
    word too. A larger share holds all of a smaller one."""
    names = [
        *lists.FEMALE_NAMES.split(),
        *lists.MALE_NAMES.split(),
        *lists.TOWNS.replace("_", " ").split(),
        *lists.NUMBERS,
    ]
    counted: dict[str, int] = {}
    rows = [item.rstrip("*") for line in lists.TOPICS.strip().splitlines() for item in line.split("|")[3].split()]
    common = {part for item in rows for part in item.split("_")} | set(lists.COLOURS) | set(_UNCHANGING)
    common |= set(" ".join((*lists.GOOD, *lists.BAD, *lists.HAPPY, *lists.UNHAPPY)).replace("/", " ").split())
    for name in names:
        counted.setdefault(name.lower(), len(counted))
    usable = [name for name in counted if name not in common]
    usable.sort(key=lambda form: hashlib.blake2b(form.encode(), digest_size=8).digest())
    return frozenset(usable[: round(share * len(usable))])
