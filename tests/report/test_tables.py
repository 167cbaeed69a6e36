"""How a comparison reads: the same numbers wherever they stand, texts that no format takes for its own."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from cloze.report import markup, tables, terminal
from cloze.report.comparison import Arm, Comparison, compare
from cloze.report.page import page
from tests.report.folders import job, write_study

ACCURACY = {
    "plain": {1: 0.8123456, 2: 0.8345678, 3: 0.8012345, 4: 0.8223344},
    "with_heads|2": {1: 0.9123456, 2: 0.9145678, 3: 0.9012345, 4: 0.9323344},
    "small & <b>quick</b>": {1: 0.7623456, 2: 0.8345679, 3: 0.7912345},
}
HOSTILE = "</script><script>alert(1)</script> & | \\ _x_ `y` $z$ 100% {a} #1 ~ ^"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three arms, two metrics, a seed that failed."""
    arms = {
        arm: {seed: {"val/accuracy": value, "val/loss": 3.0 - value} for seed, value in seeds.items()}
        for arm, seeds in ACCURACY.items()
    }
    metrics = [
        {"key": "val/accuracy", "title": "accuracy", "higher_is_better": True},
        {"key": "val/loss", "title": "loss", "higher_is_better": False, "unit": "nats"},
    ]
    folder = tmp_path_factory.mktemp("studies") / "heads"
    names = dict(zip(ACCURACY, ("plain", "heads", "small"), strict=True))
    write_study(folder, {names[arm]: seeds for arm, seeds in arms.items()}, metrics=metrics)
    facts = json.loads((folder / "study.json").read_text())
    facts["arms"] = {arm: [] for arm in arms}
    told = {short: arm for arm, short in names.items()}
    facts["jobs"] = [each | {"arm": told[each["arm"]]} for each in facts["jobs"]]
    facts["jobs"].append(job("small & <b>quick</b>", 4, status="failed") | {"folder": "runs/none", "reason": HOSTILE})
    facts["baseline"] = "plain"
    facts["published"] = {"columns": ["MNLI"], "rows": {"paper's": [84.5]}, "note": "of the test set"}
    (folder / "study.json").write_text(json.dumps(facts))
    return compare(folder)


def numbers_of(text: str) -> list[float]:
    """All numbers of a text, a typographic minus being one."""
    return [float(each.replace("−", "-").replace(",", "")) for each in re.findall(r"[−-]?\d[\d,]*\.?\d*", text)]


def agree(shown: str, exact: float) -> bool:
    """Whether a shown number is the exact one, rounded to as many digits as it has."""
    digits = len(shown.partition(".")[2])
    return abs(float(shown.replace("−", "-")) - exact) <= 0.5000001 * 10**-digits


def exact_figures(comparison: Comparison) -> dict[tuple[str, str, str], float]:
    """Of the CSV file: {(metric, arm, figure): value}, without the single seeds."""
    rows = csv.DictReader(io.StringIO(tables.csv(comparison)))
    return {(r["metric"], r["arm"], r["figure"]): float(r["value"]) for r in rows if r["value"] and not r["seed"]}


def cells_of(comparison: Comparison, texts: dict[tuple[str, str], str]) -> Iterator[tuple[str, float]]:
    """Each number of shown cells ({(metric, arm): text}) beside the exact one of the CSV file."""
    exact = exact_figures(comparison)
    for (metric, arm), text in texts.items():
        found = re.findall(r"[−+]?\d+\.\d+", text)
        names = ["mean", "deviation", "low", "high"]
        wanted = [exact[metric, arm, name] for name in names]
        if arm != comparison.baseline:
            half = (exact[metric, arm, "difference.high"] - exact[metric, arm, "difference.low"]) / 2
            wanted += [exact[metric, arm, "difference.mean"], half]
            p = exact[metric, arm, "difference.p_holm"]
            if p < 0.001:
                assert "p<0.001" in text
                found = found[:-1]
            else:
                wanted.append(p)
        assert len(found) == len(wanted), text
        yield from zip(found, wanted, strict=True)


def test_every_table_shows_the_numbers_of_the_csv_file(comparison: Comparison) -> None:
    keys = [metric.key for metric in comparison.metrics]
    shown = {(cell.key, arm.name): " ".join(cell.lines) for arm, cells in tables.matrix(comparison) for cell in cells}
    assert len(shown) == 6
    assert all(agree(*pair) for pair in cells_of(comparison, shown))
    lines = markup.markdown(comparison).splitlines()
    for arm in comparison.arms:
        row = next(line for line in lines if line.startswith(f"| {markup.escape_markdown(arm.name)} "))
        cells = re.split(r"(?<!\\)\|", row)[3:5]
        assert [numbers_of(cell) for cell in cells] == [numbers_of(shown[key, arm.name]) for key in keys]
    console = Console(width=160, force_terminal=True, file=io.StringIO(), record=True)
    terminal.show(comparison, console)
    said = console.export_text()
    assert all(line in said for _, cells in tables.matrix(comparison) for cell in cells for line in cell.lines)
    for remark in comparison.remarks:
        assert " ".join(remark.split()) in " ".join(said.split())


def test_the_page_shows_them_too(comparison: Comparison) -> None:
    html = page(comparison)
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]
    assert data["comparison"] == json.loads(tables.json(comparison))
    texts = {}
    for row in re.findall(r"<tr data-arm=.*?</tr>", html, re.DOTALL):
        arm = re.search(r'<tr data-arm="(.*?)">', row)[1]  # type: ignore[index]
        arm = arm.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        for metric, sort, text in re.findall(r'<td data-metric="(.*?)" data-sort="(.*?)">(.*?)</td>', row, re.DOTALL):
            texts[metric, arm] = re.sub(r"<.*?>", " ", text).replace("&lt;", "<")
            assert float(sort) == comparison.cells[metric][arm].summary.mean  # type: ignore[union-attr]
    assert len(texts) == 6
    assert all(agree(*pair) for pair in cells_of(comparison, texts))


def test_every_figure_is_that_of_the_csv_file(comparison: Comparison) -> None:
    names = [
        "n", "mean", "deviation", "low", "high", "difference.mean", "difference.low", "difference.high", "difference.p",
        "difference.p_holm", "difference.p_permutation", "difference.p_reachable", "difference.bootstrap_low",
        "difference.bootstrap_high", "difference.effect",
        "difference.detectable",
    ]  # fmt: skip
    exact, titles = exact_figures(comparison), {metric.title: metric.key for metric in comparison.metrics}
    compared = 0
    for title, arm, *cells in tables.details(comparison):
        assert len(cells) == len(names)
        for name, text in zip(names, cells, strict=True):
            value = exact.get((titles[title], arm, name))
            if value is None:
                assert text == "–" and arm == comparison.baseline
            elif text == "<0.001":
                assert value < 0.001
            else:
                assert agree(text.removeprefix("+"), value), (title, arm, name)
            compared += value is not None
    assert compared == 2 * (2 * len(names) + 5)


def test_latex_has_the_numbers_of_the_csv_file(comparison: Comparison) -> None:
    exact, (_, second, *_) = exact_figures(comparison), markup.latex(comparison).split("\\midrule\n")[1:]
    rows = [line.removesuffix(r" \\").split(" & ") for line in second.split("\\bottomrule")[0].splitlines()]
    keyed = [(metric, arm) for metric in comparison.metrics for arm in comparison.arms]
    for (metric, arm), (title, name, *shown) in zip(keyed, rows, strict=True):
        assert (title, name) == (metric.title, markup.escape_latex(arm.name))
        text = " ".join(shown).replace("$-$", "−").replace(r"$\pm$", "±").replace(r"\textless{}", "<")
        assert all(agree(*pair) for pair in cells_of(comparison, {(metric.key, arm.name): text}))
    assert exact and len(rows) == 6


def test_json_and_csv_have_all_digits(comparison: Comparison) -> None:
    content = json.loads(tables.json(comparison))
    for arm, seeds in ACCURACY.items():
        values = content["cells"]["val/accuracy"][arm]["summary"]["values"]
        assert values == {str(seed): value for seed, value in seeds.items()}
    rows = list(csv.DictReader(io.StringIO(tables.csv(comparison))))
    single = {
        (r["arm"], int(r["seed"])): float(r["value"])
        for r in rows
        if r["figure"] == "value" and r["metric"] == "val/accuracy"
    }
    assert single == {(arm, seed): value for arm, seeds in ACCURACY.items() for seed, value in seeds.items()}
    for metric, cells in content["cells"].items():
        for arm, cell in cells.items():
            for name in ("mean", "deviation", "low", "high"):
                assert exact_figures(comparison)[metric, arm, name] == cell["summary"][name]
    assert [r["note"] for r in rows if r["figure"] == "absent"] == [f"failed: {HOSTILE}"]


def test_the_best_is_marked_by_the_good_side(comparison: Comparison) -> None:
    best = {(cell.key, arm.name) for arm, cells in tables.matrix(comparison) for cell in cells if cell.best}
    assert best == {("val/accuracy", "with_heads|2"), ("val/loss", "with_heads|2")}
    alone = replace(
        comparison, arms=comparison.arms[:1], cells={k: {"plain": v["plain"]} for k, v in comparison.cells.items()}
    )
    assert not any(cell.best for _, cells in tables.matrix(alone) for cell in cells)


def test_a_seed_that_failed_is_named_everywhere(comparison: Comparison) -> None:
    sentence = next(each for each in comparison.remarks if "failed" in each)
    assert HOSTILE in sentence
    console = Console(width=500, force_terminal=True, file=io.StringIO(), record=True)
    terminal.show(comparison, console)
    assert sentence in console.export_text()
    assert markup.escape_markdown(sentence) in markup.markdown(comparison)
    assert markup.escape_latex(sentence) in markup.latex(comparison)
    html = page(comparison)
    assert "seed 4 failed" in html and "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script>alert(1)" not in html


def test_markdown_takes_no_text_for_its_own(comparison: Comparison) -> None:
    text = markup.markdown(comparison)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table
    assert markup.escape_markdown("a|b *c* _d_ <i> [t](y) `z` &lt; ![q](r)") == (
        r"a\|b \*c\* \_d\_ \<i> [t\](y) \`z\` \&lt; \!\[q\](r)"
    )
    assert (
        markup.escape_markdown("mask_ratio=0.15, p<0.001 [0.1, 0.2]\nR&D") == "mask_ratio=0.15, p<0.001 [0.1, 0.2] R&D"
    )
    for line in ("# x", "> x", "- x", "+ x", "1. x", "- [ ] x"):
        assert re.match(r"\\|\d\\", markup.escape_markdown(line))


def test_latex_takes_no_text_for_its_own(comparison: Comparison) -> None:
    text = markup.latex(comparison)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert r"with\_heads\textbar{}2" in text and r"\textless{}b\textgreater{}" in text and r"\textbf{0.915" in text
    plain = re.sub(r"\\(?:[&%#_{}$\\]|[a-zA-Z]+(?:\{\})?)", "", "\n".join(text.splitlines()[1:]))  # without commands
    assert not re.search(r"[#_^~<>|\"\\]", plain), plain
    for table in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        rows = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert markup.escape_latex("50 % of {a}_b^c & ~$x$ #1 \\ [2]") == (
        r"50 \% of \{a\}\_b\textasciicircum{}c \& \textasciitilde{}\$x\$ \#1 \textbackslash{} {[}2{]}"
    )


def test_a_narrow_terminal_has_several_tables(comparison: Comparison) -> None:
    assert len(list(terminal.tables_of(comparison, 300))) == 1
    assert len(list(terminal.tables_of(comparison, 60))) == 2
    for width in (60, 300):
        console = Console(width=width, force_terminal=True, file=io.StringIO(), record=True)
        terminal.show(comparison, console)
        assert max(map(len, console.export_text().splitlines())) <= width


def test_what_the_paper_printed_stands_beside_ours(comparison: Comparison) -> None:
    html = page(comparison)
    assert "84.5" in html and "of the test set" in html and "paper&#39;s" in html
    assert "84.5" in markup.markdown(comparison)
    assert 'id="published"' not in page(replace(comparison, published={}))


def test_arms_without_figures_have_a_table_too() -> None:
    empty = Comparison("nothing", [Arm("a", []), Arm("b", [])], [], "a", {})
    assert "| a " in markup.markdown(empty)
    assert "No run has a figure" in page(empty)
    assert tables.csv(empty).count("\n") == 1
    assert json.loads(tables.json(empty))["arms"][1]["name"] == "b"
    terminal.show(empty, Console(width=80, force_terminal=True, file=io.StringIO()))


def test_the_paper_is_named_and_only_an_address_is_a_link(comparison: Comparison) -> None:
    paper = {"title": "Lan et al. 2019", "url": "https://arxiv.org/abs/1909.11942"}
    named = replace(comparison, paper=paper)
    assert '<a href="https://arxiv.org/abs/1909.11942" rel="noreferrer">Lan et al. 2019</a>' in page(named)
    assert "Lan et al. 2019, https://arxiv.org/abs/1909.11942" in markup.markdown(named)
    assert json.loads(tables.json(named))["paper"] == paper
    assert (
        "javascript:"
        not in page(replace(comparison, paper={"title": "x", "url": "javascript:alert(1)"})).partition("<main")[0]
    )


def test_a_setting_that_json_does_not_know(comparison: Comparison) -> None:
    arms = [
        replace(arm, differs={"objective.rate": float(value)})
        for arm, value in zip(comparison.arms, ("nan", "inf", "1"), strict=True)
    ]
    odd = replace(comparison, arms=arms)
    content = json.loads(tables.json(odd), parse_constant=lambda name: pytest.fail(name))
    assert [arm["differs"]["objective.rate"] for arm in content["arms"]] == ["nan", "inf", 1.0]
    assert "inf" in page(odd)
