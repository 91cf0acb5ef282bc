"""Models to move, and a cache of their own for every test."""

import pytest

from helpers.plans import tiny_model, tiny_plan
from voxelry.networks.weights import save_ensemble, save_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache, and each runs in a folder of its own."""
    place = tmp_path / "cache"
    monkeypatch.setenv("VOXELRY_MODELS", str(place))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return place


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A model folder, not to be changed."""
    folder = save_model(tiny_model(tiny_plan(2)), tmp_path_factory.mktemp("zoo") / "tiny").path
    (folder / "README.md").write_text("# A tiny model\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def both(tmp_path_factory):
    """The folder of an ensemble of two, not to be changed."""
    folder = tmp_path_factory.mktemp("zoo") / "both"
    save_ensemble([tiny_model(tiny_plan(2), seed=seed) for seed in (1, 2)], folder, training={"scores": {"mean_dice": 0.75}})
    return folder


@pytest.fixture
def starters(tmp_path, monkeypatch):
    """A folder in place of the starter models'."""
    place = tmp_path / "starters"
    for module in ("model_names", "model_row", "model_travel"):
        monkeypatch.setattr(f"voxelry.zoo.{module}.STARTERS", place)
    return place
