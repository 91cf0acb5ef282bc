"""The how-to page about adding a network works as it is written."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import voxelry as vx
from helpers.plans import tiny_fingerprint, tiny_plan
from helpers.tiny import phantoms, recipe
from voxelry.core.architectures import ARCHITECTURES, Architecture
from voxelry.networks.build import build_network
from voxelry.planning.planner import make_plan
from voxelry.recipes.settings import PlanSettings

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-network.md"
MODULE, ROW = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def tinynet(monkeypatch):
    """The page's module and row."""
    module = ModuleType("voxelry.networks.tinynet")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(MODULE, str(PAGE), "exec"), vars(module))
    rows = {}
    exec(compile(ROW, str(PAGE), "exec"), {"ARCHITECTURES": rows, "Architecture": Architecture})
    for name, row in rows.items():
        monkeypatch.setitem(ARCHITECTURES, name, row)
    return module


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_planner_and_the_builder_know_the_row(tinynet, dimensions):
    plan = make_plan(tiny_fingerprint(dimensions), PlanSettings(network="tinynet"))
    assert plan.network.name == "tinynet"
    assert plan.network.deep_supervision == 0
    network = build_network(plan, 3)
    assert isinstance(network.body, tinynet.TinyNet)
    assert network(torch.zeros(1, 1, *plan.patch_size))[0].shape == (1, 3, *plan.patch_size)


@pytest.mark.usefixtures("tinynet")
def test_it_is_trained_and_predicts(tmp_path):
    phantoms(tmp_path)
    vx.train(recipe(tmp_path, plan={"network": "tinynet", "patch_size": [16, 16, 16]}), tmp_path / "run")
    scan = vx.read(tmp_path / "images" / "torso_003")
    labels = vx.load_model(tmp_path / "run" / "model").predict(scan).labels
    assert labels.geometry.shape == scan.geometry.shape


def test_the_same_class_by_import_path(tmp_path, monkeypatch):
    (tmp_path / "my_tinynet.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    network = tiny_plan().network.model_copy(update={"name": "my_tinynet:TinyNet", "options": {"width": 4}})
    assert build_network(tiny_plan(network=network), 3)(torch.zeros(1, 1, 8, 8, 8))[0].shape == (1, 3, 8, 8, 8)
