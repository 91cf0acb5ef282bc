"""The how-to page about the memory split works as it is written."""

import re
from pathlib import Path

import torch

from helpers.pages import HOW_TO, code_blocks
from voxelry.inference import memory_budget

PAGE = HOW_TO / "change-the-memory-split.md"
PACKAGE = Path(memory_budget.__file__).parents[1]


def test_the_example_runs(monkeypatch, capsys):
    monkeypatch.setattr(memory_budget, "SLABS", memory_budget.SLABS)
    (block,) = code_blocks(PAGE)
    exec(block, {"device": torch.device("cpu")})
    assert "already in use 500MiB, network 300MiB, ring buffer" in capsys.readouterr().out


def test_the_named_modules_hold_the_named_things():
    text = PAGE.read_text(encoding="utf-8")
    for name, module in re.findall(r"`(\w+)` in `((?:inference|preparation)/\w+\.py)`", text):
        assert re.search(rf"^(def |class )?{name}\b", (PACKAGE / module).read_text(encoding="utf-8"), re.MULTILINE), name
