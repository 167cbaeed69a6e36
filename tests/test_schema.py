"""The signature is the schema: types, Literals, missing and unknown settings, and what may be built at all."""

from __future__ import annotations

from typing import Literal

import pytest

from cloze.errors import Refusal
from cloze.schema import faults, fits, locate, misfit


class Thing:
    def __init__(
        self,
        width: int,
        rate: float = 0.1,
        kind: Literal["soft", "hard"] = "soft",
        names: list[str] | None = None,
        table: dict[str, float] | None = None,
        *,
        given: object = None,
    ) -> None: ...


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (3, int, True), (3.0, int, False), (True, int, False), (3, float, True), (True, float, False), ("3", float, False),
        (float("nan"), float, False), (None, int | None, True), ("x", int | None, False), ("soft", Literal["soft", "hard"], True),
        ("sof", Literal["soft", "hard"], False), (True, Literal[1], False), ([1, 2], list[int], True), ([1, "2"], list[int], False),
        ({"a": 1}, dict[str, float], True), ({"a": "x"}, dict[str, float], False), (["a"], list[str] | None, True), (1, bool, False),
    ],
)  # fmt: skip
def test_what_fits_an_annotation(value: object, hint: object, right: bool) -> None:
    assert fits(value, hint) is right


def test_every_fault_is_told_at_once_each_with_its_place() -> None:
    found = faults([Thing], {"widht": 3, "rate": "fast", "kind": "sotf"}, "thing", ["given"])
    text = "\n".join(found)
    assert len(found) == 4
    assert "did you mean thing.width?" in text
    assert "thing.rate='fast' must be a number" in text
    assert "did you mean soft?" in text
    assert "thing.width is missing" in text


def test_what_the_program_hands_over_is_no_setting() -> None:
    assert "thing.given is not a setting" in faults([Thing], {"width": 1, "given": 2}, "thing", ["given"])[0]
    assert faults([Thing], {"width": 1}, "thing", ["given"]) == []


@pytest.mark.parametrize(
    "target", ["os.system", "builtins.open", "subprocess.Popen", "torch.load", "cloze_evil.Model", "Model", 7, None]
)
def test_only_classes_of_trusted_packages_are_looked_up(target: object) -> None:
    with pytest.raises(Refusal):
        locate(target, "model")


def test_a_package_of_the_users_own_can_be_trusted() -> None:
    assert locate("fractions.Fraction", "model", ["fractions"]).__name__ == "Fraction"
    with pytest.raises(Refusal, match="is not a class"):
        locate("cloze.schema.locate", "model")


@pytest.mark.parametrize(
    ("value", "hint", "said"),
    [
        (3, list[str], "there=3 must be a list of texts."),
        (3, list[list[int]], "there=3 must be a list of lists of whole numbers."),
        ({"mlm": 3, "clm": {}}, dict[str, dict[str, int]], "there.mlm=3 must be a mapping."),
        ({"mlm": {"a": "b"}}, dict[str, dict[str, int]] | None, "there.mlm.a='b' must be a whole number."),
        (3, dict[str, int] | None, "there=3 must be a mapping or null."),
    ],
)
def test_a_misfit_names_what_is_wrong(value: object, hint: object, said: str) -> None:
    assert misfit("there", value, hint) == said
