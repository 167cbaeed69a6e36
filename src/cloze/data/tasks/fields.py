"""A JSON file and what stands in it: parsed strictly, and told by line, column and field where it is not what it must be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from cloze.data.files import File, beginning, open_file
from cloze.errors import Refusal

T = TypeVar("T")

_WORDS = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}


class Fault(ValueError):
    """What is wrong with one value, row or record of a file: who reads the file adds where it stands, and refuses or drops it."""


def whole_json(file: File) -> Any:
    """The one JSON value that a file holds. Raises Refusal with line and column where it is malformed."""
    beginning(file)
    with open_file(file) as stream:
        raw = stream.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Refusal(
            f"{file}, line {line}, byte {error.start}: byte 0x{raw[error.start]:02x} is not UTF-8, which JSON is written in"
        ) from error
    if not text.strip():
        raise Refusal(f"{file} is empty")
    try:
        return _parsed(text)
    except json.JSONDecodeError as error:
        more = "; this looks like JSON lines: one JSON value is wanted" if error.msg == "Extra data" else ""
        raise Refusal(
            f"{file}, line {error.lineno}, column {error.colno}: not JSON ({error.msg.lower()}){more}"
        ) from error
    except Fault as fault:
        raise Refusal(f"{file}: {fault}") from fault


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError as error:
        raise Fault("nested too deeply to be data") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each of whose names stands there once: of two values, none is known to be meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Fault(f"an object has {shown(twice)} twice")
    return found


def _no_number(constant: str) -> Any:
    raise Fault(f"{constant} is not a JSON value")


def field(row: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """A field that must be there. Raises Fault where it is not, or is of another type, or cannot be written as UTF-8."""
    if name not in row:
        raise Fault(f"there is no `{name}`; there are {', '.join(map(str, row)) or 'no fields'}")
    return checked(row[name], name, kind)


def texts(row: Mapping[str, Any], name: str, count: int | None = None) -> tuple[str, ...]:
    """A field that is a list of texts, `count` of them where that is given. Raises Fault as `field` does."""
    found = tuple(checked(each, f"{name}[{n}]", str) for n, each in enumerate(field(row, name, list)))
    if count is not None and len(found) != count:
        raise Fault(f"`{name}` must be {count} texts, not {len(found)}")
    return found


def checked(value: Any, name: str, kind: type[T]) -> T:
    """The value, where it is of the type; text without NUL characters. Truth values are not numbers. Raises Fault."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Fault(f"`{name}` must be {_WORDS.get(kind, kind.__name__)}, not {shown(value)}")
    found: T = value
    if isinstance(value, str):
        _check_text(value, name)
    return found


def _check_text(text: str, name: str) -> None:
    if "\0" in text:
        raise Fault(f"`{name}` holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Fault(f"`{name}` holds half of a character: {text[error.start]!a}") from error


def shown(value: Any, longest: int = 40) -> str:
    """A value as a message quotes it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= longest else text[: longest - 1] + "…"
