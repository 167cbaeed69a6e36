"""`matrix=true`, and the page that shows it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from rich.console import Console

from cloze import cli
from cloze.check import built_by
from cloze.compose import brought_objective, choices
from cloze.data.base import Text
from cloze.matrix import cells, markdown, show

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_every_pair_has_a_cell() -> None:
    found = cells()
    assert len(found) == len(choices("model")) * len(choices("objective"))
    by_name = {(cell.model, cell.objective): cell for cell in found}
    assert (
        by_name["bert", "mlm"].data == by_name["gpt2", "clm"].data == by_name["t5", "span_corruption"].data == "world"
    )
    refused = by_name["gpt2", "mlm"]
    assert refused.data is None
    assert refused.reason == "the objective needs a model that sees both sides of every token"
    assert "model=gpt2 is one that sees only what stands before a token. With objective=mlm: model=" in refused.sentence
    assert all((cell.data is None) == bool(cell.sentence) for cell in found)


def test_data_that_need_no_file_are_named() -> None:
    named = {cell.objective: cell.data for cell in cells(["unilm"])}
    usual = {each: "world" for each in named if built_by("objective")[each].record is Text}
    assert {each: data for each, data in named.items() if data and each in usual}.items() <= usual.items()
    assert named["tlm"] == "world_parallel"
    for objective in ("classify", "verbalise", "tag", "choose", "extractive_qa", "score"):
        data = named[objective]
        assert data is not None and data.startswith("world/")
        assert brought_objective(data) in (objective, "classify" if objective == "verbalise" else objective)


def test_the_kinds_of_records_are_told() -> None:
    page = markdown()
    assert "- tag: tagged records, data=conll2000|" in page
    assert "- extractive_qa: passage records, data=cmrc|squad|superglue/record|world/{squad,squad2}." in page
    assert "- tlm: parallel records, data=parallel|world_parallel." in page
    assert max(map(len, page.splitlines())) < 500


def test_the_page_shows_the_program() -> None:
    spec = importlib.util.spec_from_file_location("matrix_page", DOCS / "matrix.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (DOCS / "matrix.md").read_text(encoding="utf-8")
    assert "| objective | data |" in page
    assert page == script.renewed(page), "docs/matrix.md is stale: python docs/matrix.py writes it anew"


def test_the_command_prints_a_line_a_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._guarded(cli._train, ["matrix=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(cells())
    assert "model=bert\tobjective=mlm\truns on data=world" in lines
    assert (
        cli._guarded(cli._train, ["matrix=true", "model=gpt2"]) == 0
    )  # which objective=mlm, the usual one, does not fit
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(choices("objective")) and all(line.startswith("model=gpt2\t") for line in lines)
    assert any("With objective=mlm: model=" in line for line in lines)
    assert cli._guarded(cli._train, ["matrix=true", "model=gpt2", "objective=clm"]) == 0
    assert capsys.readouterr().out == "model=gpt2\tobjective=clm\truns on data=world\n"


def test_a_wrong_word_is_refused_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._guarded(cli._train, ["matrix=true", "model=gtp2"]) == 2
    assert "model=gtp2 is not there; did you mean gpt2?" in capsys.readouterr().err
    assert cli._guarded(cli._train, ["matrix=yes please"]) == 2
    assert "matrix='yes please' must be true or false" in capsys.readouterr().err


def test_only_on_the_data_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._guarded(cli._train, ["matrix=true", "model=xlm", "data=text"]) == 0
    lines = dict(line.split("\t")[1:] for line in capsys.readouterr().out.splitlines())
    assert lines["objective=mlm"] == "runs on data=text"
    assert lines["objective=tlm"].startswith("objective=tlm learns from parallel records; data=text has text records")


@pytest.mark.parametrize("word", ["objective.of=[clm,prefix_lm]", "seed=3", "size=base"])
def test_other_words_have_no_effect_and_are_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["objective=together"] if word.startswith("objective.of") else []
    assert cli._guarded(cli._train, ["matrix=true", *words, word]) == 2
    key = word.partition("=")[0]
    assert f"{key}: no effect with matrix=true" in capsys.readouterr().err


def test_what_several_objectives_are_made_of_can_change() -> None:
    (cell,) = cells(["gpt2"], ["together"])
    assert cell.reason.startswith(
        "the objective (of mlm, unless objective.of says others) needs a model that sees both sides"
    )


def test_a_table_at_a_terminal() -> None:
    console = Console(force_terminal=True, width=400, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    show(console)
    table = console.export_text()
    assert "span_corruption" in table and "a  the objective needs a model" in table
    show(console, ["gpt2"])
    assert "With objective=mlm: model=" in console.export_text()
