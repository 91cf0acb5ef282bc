"""The how-to page about the overlap works as it is written."""

import yaml

import voxelry as vx
from helpers.pages import HOW_TO, code_blocks
from helpers.plans import tiny_model, tiny_plan
from voxelry.core.patch import DEFAULT_OVERLAP
from voxelry.networks.weights import save_model
from voxelry.planning.planner import make_plan
from voxelry.recipes.recipe import Config

PAGE = HOW_TO / "change-the-overlap.md"


def test_the_examples_run(tmp_path, monkeypatch):
    save_model(tiny_model(tiny_plan()), tmp_path / "run" / "model")
    monkeypatch.chdir(tmp_path)
    names = {"vx": vx}
    for block in code_blocks(PAGE):
        exec(block, names)
    predictor = names["predictor"]
    assert predictor.options.overlap == 0.25


def test_a_recipes_overlap_and_the_default():
    (recipe,) = code_blocks(PAGE, "yaml")
    assert Config(manifest="x.yaml", steps=1, **yaml.safe_load(recipe)).overlap == 0.25
    assert Config(manifest="x.yaml", steps=1).overlap == tiny_plan().overlap == DEFAULT_OVERLAP
    assert make_plan.__defaults__ is not None
    assert DEFAULT_OVERLAP in make_plan.__defaults__
