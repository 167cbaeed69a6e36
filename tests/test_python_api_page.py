"""The Python of docs/python-api.md runs as it stands there, block after block, in a folder that has the runs it speaks of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloze.loading import export
from tests.pretrained import saved_run

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python-api.md"


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    for name, family in (("first", "bert.Bert"), ("gpt2", "gpt2.GPT2"), ("t5", "t5.T5")):
        saved_run(tmp_path / "outputs" / name, family)
    export(tmp_path / "outputs" / "first", tmp_path / "exported")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert "lay in fog" in capsys.readouterr().out
    assert names["states"].shape[::2] == (2, 32)  # type: ignore[attr-defined]
    assert names["logits"].shape[0] == 5  # type: ignore[attr-defined]
