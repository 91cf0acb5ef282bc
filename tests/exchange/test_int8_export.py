"""int8: calibrated on training cases, measured on others, refused where it costs too much."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import voxelry as vx
from voxelry.errors import ExportError, UsageError
from voxelry.exchange import int8_export
from voxelry.exchange.int8_export import CASES, PATCHES, export_int8
from voxelry.exchange.model_export import INT8
from voxelry.inference.backends import file_forward
from voxelry.networks.weights import load_models


@pytest.mark.slow
def test_the_network_becomes_int8_and_its_dice_is_measured(torso, torso_model, tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    monkeypatch.setattr(int8_export, "LARGEST_LOSS", 1.0)  # the model is no good
    exported = vx.export_model(torso_model, tmp_path / "int8", format=INT8, calibration=torso / "manifest.yaml")
    facts = json.loads((exported.folder / "self_test.json").read_text())
    assert 'element_type="i8"' in (exported.folder / "network.xml").read_text()
    assert (exported.folder / "network.bin").stat().st_size < 0.6 * (exported.folder / "weights.safetensors").stat().st_size
    assert facts["cases"] == 1
    assert facts["calibration"] <= CASES * PATCHES
    case = next(case for case in load_manifest(torso) if case.split == "val")
    wanted = vx.load_model(torso_model, device="cpu", mixed_precision="off").predict(vx.read(case.images[0])).labels
    measured = vx.metrics.dice(vx.read_labels(case.labels).on_grid(wanted.geometry), wanted)
    for name, (before, _) in facts["dice"].items():
        assert before == pytest.approx(measured[name], abs=1e-6)
    assert facts["loss"] == pytest.approx(np.mean([before - after for before, after in facts["dice"].values()]))
    assert set(facts["seconds"]) >= {"pytorch", "openvino float32", "int8"}
    assert file_forward(exported.folder / "network.xml") is not None
    monkeypatch.setattr(int8_export, "LARGEST_LOSS", -1.0)
    with pytest.raises(ExportError, match="of mean Dice on 1 validation cases"):
        vx.export_model(torso_model, tmp_path / "again", format=INT8, calibration=torso / "manifest.yaml")
    assert not (tmp_path / "again").exists()


def load_manifest(folder):
    from voxelry.datasets.manifest import load_manifest

    return load_manifest(folder / "manifest.yaml").cases


def test_a_card_belongs_to_int8(torso, torso_model, tmp_path):
    with pytest.raises(UsageError, match="without a card to calibrate on"):
        vx.export_model(torso_model, tmp_path / "a", format=INT8)
    with pytest.raises(UsageError, match="with a card to calibrate on"):
        vx.export_model(torso_model, tmp_path / "a", format="onnx", calibration=torso / "manifest.yaml")


def test_an_ensemble_is_refused(torso, torso_model, tmp_path):
    (model,) = load_models(torso_model)
    with pytest.raises(ExportError, match="calibrated for one network"):
        export_int8([model, model], torso_model, tmp_path / "a", torso / "manifest.yaml", lambda *_: None)


@pytest.mark.slow
def test_nncf_reports_nothing_to_its_makers():
    """In a process of its own: where pytest is imported NNCF is silent anyway."""
    pytest.importorskip("nncf")
    line = (
        "from voxelry.exchange.int8_export import silent_nncf; silent_nncf(); "
        "from nncf.telemetry import decorator, wrapper; print(isinstance(decorator.telemetry, wrapper.NNCFTelemetry))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("NNCF_CI", "NNCF_DEV")}
    answer = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, env=environment, check=True)
    assert answer.stdout.split() == ["False"]
