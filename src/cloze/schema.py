"""The signature is the schema: a config node is held against the `__init__` of the class that it builds, before anything is built.

`_target_` is code, so only classes below `cloze.` (and below packages that the user names in `trusted=[…]`) are ever looked up.
"""

from __future__ import annotations

import importlib
import inspect
import math
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cloze.errors import Refusal, did_you_mean, nearest


@dataclass(frozen=True)
class Node:
    """A config node whose class has been found and whose settings fit the class's signature."""

    where: str  # its place in the config: "model"
    built: type
    settings: dict[str, Any]

    def build(self, **runtime: Any) -> Any:
        """The object: the node's settings, and those of the runtime arguments that the class asks for."""
        wanted = inspect.signature(self.built).parameters
        return self.built(**self.settings, **{name: value for name, value in runtime.items() if name in wanted})


def locate(target: object, where: str, trusted: Sequence[str] = ()) -> type:
    """The class named by a `_target_`. Raises Refusal for names outside of the trusted packages and for what is not there."""
    if not isinstance(target, str):
        raise Refusal(f"{where}._target_={target!r} must be the dotted name of a class")
    packages = ("cloze", *trusted)
    module_name, _, name = target.rpartition(".")
    if module_name.split(".")[0] not in packages:
        raise Refusal(
            f"{where}._target_={target} is not below {', '.join(f'{p}.' for p in packages)}: a target is code that would run. "
            f"If the package is yours, say so: trusted=[{target.split('.')[0]}]"
        )
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as fault:
        raise Refusal(f"{where}._target_={target} cannot be found: {fault}") from None
    if not isinstance(found, type):
        raise Refusal(f"{where}._target_={target} is not a class")
    return found


def parameters(built: type, runtime: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
    """The settings of a class: its `__init__` parameters without those that the program itself hands over."""
    given = set(runtime)
    return {name: parameter for name, parameter in inspect.signature(built).parameters.items() if name not in given}


def own(built: type, settings: dict[str, Any]) -> dict[str, Any]:
    """Of settings that several classes share, those that this one takes: a half of an objective has not all of them."""
    named = inspect.signature(built).parameters
    return {name: value for name, value in settings.items() if name in named}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree of mappings, each with its dotted place; an empty mapping is one."""
    if isinstance(node, dict) and node:
        for name, child in node.items():
            yield from leaves(child, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, node


def as_word(value: Any) -> str:
    """A plain value as the command line has it: `null`, `true`, `0.1`."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def faults(built: Sequence[type], settings: dict[str, Any], where: str, runtime: Iterable[str] = ()) -> list[str]:
    """Everything that is wrong with `settings` for the signatures of `built` (an objective has two), one sentence each."""
    accepted: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    for each in built:
        accepted |= parameters(each, runtime)
        hints |= get_type_hints(inspect.getattr_static(each, "__init__"))
    found = []
    for name, value in settings.items():
        if name not in accepted:
            guess = nearest(name, accepted)
            meant = f"; did you mean {where}.{guess}?" if guess else "."
            choices = ", ".join(sorted(accepted))
            found.append(
                f"{where}.{name} is not a setting of {built[0].__name__}{meant} It has: {choices or 'no settings'}."
            )
        elif not fits(value, hints.get(name, Any)):
            found.append(misfit(f"{where}.{name}", value, hints[name]))
    for name, parameter in accepted.items():
        if name not in settings and parameter.default is inspect.Parameter.empty:
            found.append(f"{where}.{name} is missing: {built[0].__name__} needs it ({describe(hints.get(name, Any))}).")
    return found


def misfit(where: str, value: Any, hint: Any) -> str:
    """The sentence for a value of the wrong type, or outside of a Literal."""
    words = [str(choice) for choice in _literals(hint)]
    if words and isinstance(value, str):
        return f"{where}={value} is not one of them{did_you_mean(value, words)}"
    content = next((get_args(each)[1] for each in (hint, *get_args(hint)) if get_origin(each) is dict), None)
    if content is not None and isinstance(value, dict):  # the entry that is wrong, not the whole mapping
        for key, each in value.items():
            if isinstance(key, str) and not fits(each, content):
                return misfit(f"{where}.{key}", each, content)
    return f"{where}={value!r} must be {describe(hint)}."


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain config value is of the annotated type. Whole numbers stand for floats, never truth values for numbers."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin in (list, tuple, Sequence) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return isinstance(value, list | tuple) and all(fits(each, arguments[0] if arguments else Any) for each in value)
    if origin is dict or (isinstance(origin, type) and issubclass(origin, dict)):
        key, content = arguments or (Any, Any)
        return isinstance(value, dict) and all(fits(k, key) and fits(v, content) for k, v in value.items())
    if isinstance(hint, type):
        return isinstance(value, hint)
    return True


def describe(hint: Any) -> str:
    """An annotation in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(each) for each in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(each) for each in arguments)
    if hint is None or hint is type(None):
        return "null"
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Any: "anything",
        dict: "a mapping",
    }
    if origin is not None:
        inner = f" of {_several(arguments[0])}" if arguments and origin is not dict else ""
        return ("a mapping" if origin is dict else "a list") + inner
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _several(hint: Any) -> str:
    """An annotation in words, where a list holds many such."""
    many = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts", "a mapping": "mappings"}
    said = describe(hint)
    return f"lists{said.removeprefix('a list')}" if said.startswith("a list") else many.get(said, said)


def _literals(hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return (
        [choice for each in get_args(hint) for choice in _literals(each)]
        if get_origin(hint) in (Union, types.UnionType)
        else []
    )
