"""Exported MONAI bundles: MONAI itself runs them where voxelry cannot be imported, and our labels come out."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

import voxelry as vx
from helpers.random_network import balance
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import CleanUp, Model, ModelCard
from voxelry.core.plan import ChannelStatistics, Fingerprint, NetworkPlan, Normalisation, Plan
from voxelry.errors import ExportError
from voxelry.exchange.agreement import TestScan
from voxelry.exchange.bundle_export import export_bundle, run_bundle, write_bundle
from voxelry.exchange.bundle_network import write_network
from voxelry.exchange.bundle_pipeline import FACTS, MirroringInferer, PrepareScand, RestoreLabelsd
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.networks.build import build_network
from voxelry.networks.weights import network_of, save_model, weights_of
from voxelry.preparation.preparation import prepare

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning")  # bundles hold TorchScript
SCHEMA = Path(__file__).parent / "meta_schema_20240725.json"


def model(tmp_path, clean_up=(), labels=("left lung", "right lung"), **changes):
    """A network with random weights that gives every label."""
    dims = changes.pop("dimensions", 3)
    network = changes.pop(
        "network", NetworkPlan(features=(4, 8, 8), strides=(((1,) * dims), *((2,) * dims,) * 2), kernels=((3,) * dims,) * 3)
    )
    channels = changes.pop("channels", ("T1",))
    plan = Plan(
        dimensions=dims,
        channels=channels,
        normalisation=changes.pop("normalisation", (Normalisation(scheme="image"),) * len(channels)),
        patch_size=changes.pop("patch_size", (16,) * dims),
        batch_size=1,
        network=network,
        **changes,
    )
    table = LabelTable(
        labels=tuple(
            Label(value=3 * n, name=name, mirror=labels[2 - n] if "lung" in name else None) for n, name in enumerate(labels, 1)
        )
    )
    fingerprint = Fingerprint(
        cases=1, modality="MR", dimensions=dims, channels=channels, shapes=((20,) * dims,) * 3, orientations={"RAS": 1},
        statistics=(ChannelStatistics(mean=100, std=40, p005=10, p995=250),) * len(channels), voxels=64,
        label_voxels=dict.fromkeys(labels, 9), spacing=None if dims == 2 else (1.0, 1.0, 2.0),
    )  # fmt: skip
    torch.manual_seed(0)
    network = build_network(plan, classes=len(labels) + 1)
    outputs = len(labels) + (not plan.regions)
    balance(network, torch.randn(1, len(channels), *plan.patch_size), outputs)
    card = ModelCard(name="random", version="0", labels=table, fingerprint=fingerprint, clean_up=clean_up)
    return save_model(Model(plan, card, weights_of(network)), tmp_path / "model")


def scan(shape=(27, 25, 14), channels=1, affine=None):
    """Lumps in a frame of zeros."""
    rng = np.random.default_rng(1)
    array = np.kron(rng.uniform(20, 220, (channels, *(-(-n // 5) for n in shape))), np.ones((1, 5, 5, 5)))
    array = array[(slice(None), *map(slice, shape))] + rng.normal(0, 8, (channels, *shape))
    array[:, :3], array[:, :, -2:] = 0, 0
    grid = vx.Geometry(shape, np.diag([1.0, 1.3, 2.0, 1]) if affine is None else affine)
    return vx.Volume(array.astype(np.float32), grid, channels, modality="MR")


FLIPPED = np.array([[0, -1.3, 0, 5], [-1.0, 0, 0, 9], [0, 0, 2.0, -3], [0, 0, 0, 1]])
"""Axes swapped, and both reversed."""


def by_transforms(saved, volume):
    """Labels by the transforms of a bundle, joined by MONAI's sliding window here."""
    from monai.bundle import ConfigParser
    from monai.data import MetaTensor

    folder = saved.path.parent / "bundle"
    folder.mkdir()
    write_bundle((saved,), folder)
    config = json.loads((folder / "configs" / "inference.json").read_text())
    text = json.dumps(config).replace("scripts.", "voxelry.exchange.")
    parser = ConfigParser(json.loads(text))
    parser["bundle_root"], parser["device"] = str(folder), "cpu"
    prepare_scan, restore = parser["preprocessing"]["transforms"][1], parser["postprocessing"]["transforms"][0]
    steps = [
        PrepareScand(**{k: v for k, v in prepare_scan.items() if k != "_target_"}),
        RestoreLabelsd(**{k: v for k, v in restore.items() if k != "_target_"}),
    ]
    affine = np.eye(4) if volume.geometry.affine is None else volume.geometry.affine
    image = MetaTensor(torch.from_numpy(volume.array.astype(np.float32)), affine=torch.tensor(affine))
    data = steps[0]({"image": image})
    np.testing.assert_allclose(np.asarray(data["image"]), prepare(volume, saved.plan).image(volume), atol=2e-5)
    network = parser.get_parsed_content("network_def").eval()
    if "load" not in config["network_def"]["_target_"]:
        network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    with torch.inference_mode():
        logits = parser.get_parsed_content("inferer")(data["image"].as_tensor()[None], network)[0]
    return np.asarray(steps[1]({"image": data["image"], "pred": logits, FACTS: data[FACTS]})["pred"])[0]


RULES = (CleanUp(label="left lung", keep_largest=True, fill_holes=True), CleanUp(label="right lung", min_mm3=9.0))
SLICEWISE = NetworkPlan(name="unet", features=(4, 8), strides=((1, 1, 1), (2, 2, 1)), kernels=((3, 3, 1),) * 2)
TWO_SCHEMES = (Normalisation(scheme="mask"), Normalisation(scheme="global", low=30, high=200, mean=100, std=40))
PLANS = {
    "resampled, mirrored, cleaned": (
        {"orientation": "RAS", "spacing": (1.2, 1.0, 2.5), "flips": (0, 2), "clean_up": RULES},
        {"affine": FLIPPED},
    ),
    "two channels, masked, a coarse axis": (
        {
            "orientation": "LPS",
            "spacing": (None, 1.0, 3.0),
            "coarse_axis": 2,
            "channels": ("T1", "T2"),
            "normalisation": TWO_SCHEMES,
        },
        {"channels": 2},
    ),
    "slices": (
        {"orientation": "RAS", "slice_axis": 2, "patch_size": (16, 16, 1), "network": SLICEWISE},
        {"shape": (20, 18, 5)},
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_its_transforms_give_our_labels(name, tmp_path):
    choices, made = PLANS[name]
    saved, volume = model(tmp_path, **choices), scan(**made)
    wanted = Predictor(saved, "cpu", PredictOptions(mixed_precision="off")).predict(volume).labels
    given = by_transforms(saved, volume)
    assert len(np.unique(wanted.array)) == 3
    assert (given == wanted.array).mean() >= 0.9995


def test_regions_and_pictures(tmp_path):
    from voxelry.networks.classes import make_regions

    table = LabelTable(labels=(Label(value=3, name="edema"), Label(value=6, name="core")))
    regions = make_regions({"whole": ["edema", "core"], "core": ["core"]}, table)
    saved = model(tmp_path, labels=("edema", "core"), dimensions=2, regions=regions, long_side=40, flips=(1,))
    rng = np.random.default_rng(0)
    picture = vx.Volume(np.kron(rng.integers(0, 255, (1, 9, 7)), np.ones((1, 7, 7))).astype(np.uint8), vx.Geometry((63, 49)))
    wanted = Predictor(saved, "cpu", PredictOptions(mixed_precision="off")).predict(picture).labels.array
    given = by_transforms(saved, picture)
    assert len(np.unique(wanted)) == 3
    assert (given == wanted).mean() >= 0.9995


def test_a_transform_with_a_fault_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(MirroringInferer, "__call__", MirroringInferer.__mro__[1].__call__)
    saved, volume = model(tmp_path, orientation="RAS", flips=(0, 1)), scan()
    wanted = Predictor(saved, "cpu", PredictOptions(mixed_precision="off")).predict(volume).labels.array
    assert (by_transforms(saved, volume) == wanted).mean() < 0.999


def test_averaged_members_become_torchscript(tmp_path):
    saved = model(tmp_path)
    other = replace(saved, weights={name: weight + 0.05 for name, weight in saved.weights.items()})
    network = write_network((saved, other), tmp_path / "bundle")
    assert network.is_script
    script = torch.jit.load(tmp_path / "bundle" / "models" / "model.ts")
    patch_BC = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        logits = [network_of(each, torch.device("cpu"))(patch_BC)[0] for each in (saved, other)]
        torch.testing.assert_close(script(patch_BC), (logits[0] + logits[1]) / 2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"configuration": "3d_cascade"}, "cascade"), ({"dimensions": 2, "spacing": (1.0, 1.0)}, "pixel size")],
)
def test_what_a_bundle_cannot_hold_is_refused(change, reason, tmp_path):
    saved = model(tmp_path)
    saved = replace(saved, plan=saved.plan.model_copy(update=change))
    with pytest.raises(ExportError, match=reason):
        export_bundle((saved,), tmp_path, tmp_path / "out", TestScan(scan()), lambda *_: None)


@pytest.fixture(scope="session")
def bundle(torso_model, tmp_path_factory):
    """The model of `torso_model` as a bundle, which MONAI ran on a scan."""
    return vx.export_model(torso_model, tmp_path_factory.mktemp("bundle") / "torso", format="bundle")


@pytest.mark.slow
def test_monai_runs_it_without_voxelry_to_our_labels(bundle):
    assert bundle.agreement.share >= 0.999
    assert bundle.agreement.labelled > 0
    needed = {"LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md"}
    assert needed <= set(bundle.files)


@pytest.mark.slow
def test_its_metadata_fits_monais_schema(bundle):
    metadata = json.loads((bundle.folder / "configs" / "metadata.json").read_text())
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({k: v for k, v in metadata.items() if k != "network_data_format"}, json.loads(SCHEMA.read_text()))


@pytest.mark.slow
def test_monai_verifies_network_and_metadata(bundle):
    line = [sys.executable, "-m", "monai.bundle", "verify_net_in_out", "network_def"]
    line += ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json"]
    done = subprocess.run(line, cwd=bundle.folder, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified with no error" in done.stdout + done.stderr


@pytest.mark.slow
def test_it_needs_no_voxelry(bundle):
    for script in (bundle.folder / "scripts").glob("*.py"):
        assert "import voxelry" not in script.read_text()
        assert "from voxelry" not in script.read_text()


@pytest.mark.slow
def test_a_bundle_that_monai_cannot_run_is_an_error(bundle, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "inference.json").write_text('{"run": ["$1 / 0"], "initialize": []}')
    with pytest.raises(ExportError, match="MONAI cannot run the bundle"):
        run_bundle(tmp_path, tmp_path, tmp_path / "out")
