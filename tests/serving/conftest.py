"""Models that are served: one of X-rays, one of volumes, both untrained."""

import pytest
import torch

import voxelry
from helpers.running_server import running
from helpers.tiny import phantoms
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import Model, ModelCard
from voxelry.networks.build import build_network
from voxelry.networks.weights import save_model
from voxelry.phantom.phantom import small_phantom
from voxelry.planning.fingerprint import make_fingerprint
from voxelry.planning.planner import make_plan
from voxelry.recipes.settings import PlanSettings
from voxelry.serving.served_model import load_served

TABLE = LabelTable(labels=(Label(value=1, name="lung_left"), Label(value=2, name="nodule", kind="thing")))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """X-rays as PNG."""
    return sorted((phantoms(tmp_path_factory.mktemp("chest"), "chest-xray", format="png").parent / "images").iterdir())


@pytest.fixture(scope="session")
def picture(pictures):
    """An X-ray as PNG."""
    return pictures[0]


def untrained(folder, scan, table, channel, settings):
    """The folder of a model with random weights: it works, and is no good."""
    fingerprint = make_fingerprint([lambda: (scan, None)], (channel,), scan.modality, table)
    plan = make_plan(fingerprint, settings)
    torch.manual_seed(0)
    weights = {name: weight.detach() for name, weight in build_network(plan, classes=len(table) + 1).named_parameters()}
    card = ModelCard(name=folder.name, version="0", labels=table, fingerprint=fingerprint)
    return save_model(Model(plan, card, weights), folder).path


@pytest.fixture(scope="session")
def lungs(picture, tmp_path_factory):
    """The folder of a model of X-rays."""
    settings = PlanSettings(patch_size=(32, 32), features=(4, 8))
    return untrained(tmp_path_factory.mktemp("models") / "lungs", voxelry.read(picture), TABLE, "X-ray", settings)


@pytest.fixture(scope="session")
def models(lungs, torso, tmp_path_factory):
    """Two models, loaded: of X-rays, and of volumes like those of `torso`, which lies in the folder of a run."""
    scan = voxelry.read(sorted((torso / "images").iterdir())[0])
    settings = PlanSettings(features=(4, 8))
    organs = untrained(tmp_path_factory.mktemp("organs") / "model", scan, small_phantom().labels.table, "CT", settings)
    return load_served([lungs, organs], "cpu")


@pytest.fixture(scope="session")
def volume_model(models):
    """The name of the model of volumes."""
    return list(models)[1]


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    """A server without a token, which takes any number of requests a second."""
    with running(models, tmp_path_factory.mktemp("jobs"), rate=1e6, burst=1e6) as server:
        yield server
