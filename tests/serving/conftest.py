"""Models that are served: one of X-rays, one of volumes."""

import pytest

import voxelry
from helpers.running_server import running
from helpers.tiny import phantoms, recipe
from voxelry.serving.served_model import load_served


@pytest.fixture(scope="session")
def chest(tmp_path_factory):
    """A folder with X-rays as PNG, and the run of a model that was trained on them for a second."""
    folder = phantoms(tmp_path_factory.mktemp("chest"), "chest-xray", format="png").parent
    voxelry.train(recipe(folder, plan={"patch_size": [32, 32], "features": [4, 8]}), folder / "lungs")
    return folder


@pytest.fixture(scope="session")
def models(chest, torso_model):
    """Both models, loaded: ``lungs`` and that of the torso, under the name of its run's folder."""
    return load_served([chest / "lungs" / "model", torso_model], "cpu")


@pytest.fixture(scope="session")
def volume_model(models):
    """The name of the model of volumes."""
    return list(models)[1]


@pytest.fixture(scope="session")
def picture(chest):
    """An X-ray as PNG."""
    return sorted((chest / "images").iterdir())[0]


@pytest.fixture(scope="session")
def server(models, tmp_path_factory):
    """A server without a token."""
    with running(models, tmp_path_factory.mktemp("jobs")) as server:
        yield server
