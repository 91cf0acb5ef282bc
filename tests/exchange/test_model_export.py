"""Exported networks give PyTorch's labels: by our own engine, and by the runtimes alone."""

import json

import numpy as np
import pytest
import torch

import voxelry as vx
from helpers.command import run_json
from voxelry.errors import ExportError, UsageError
from voxelry.exchange import agreement, make_sample_scan, model_export, network_files
from voxelry.exchange.agreement import TestScan, agreement_of
from voxelry.inference.backends import file_forward
from voxelry.networks.weights import load_models, network_of, save_ensemble


@pytest.fixture(scope="session")
def exported(torso_model, tmp_path_factory):
    """The model of `torso_model` as ONNX."""
    pytest.importorskip("onnxruntime")
    return vx.export_model(torso_model, tmp_path_factory.mktemp("exported") / "onnx")


def test_onnx_runtime_alone_gives_the_logits_of_pytorch(exported, torso_model):
    runtime = pytest.importorskip("onnxruntime")
    (model,) = load_models(torso_model)
    facts = json.loads((exported.folder / "network.json").read_text())
    session = runtime.InferenceSession(exported.folder / facts["file"])
    patch = np.random.default_rng(0).normal(size=facts["input"]["shape"]).astype(np.float32)
    (logits,) = session.run([facts["output"]["name"]], {facts["input"]["name"]: patch})
    with torch.inference_mode():
        wanted = network_of(model, torch.device("cpu"))(torch.from_numpy(patch))[0].numpy()
    np.testing.assert_allclose(logits, wanted, atol=2e-4, rtol=1e-3)
    assert list(logits.shape) == facts["output"]["shape"]
    assert facts["output"]["channels"] == ["background", *model.labels.names]
    assert facts["output"]["stored_values"] == [0, *(label.value for label in model.labels.labels)]


def test_an_exported_folder_is_a_model_that_segments_alike(exported, torso, torso_model):
    scan = vx.read(min(path.parent for path in torso.rglob("*.dcm")))
    wanted = vx.load_model(torso_model, device="cpu").predict(scan).labels.array
    assert np.array_equal(vx.load_model(exported.folder, device="cpu").predict(scan).labels.array, wanted)
    assert exported.agreement.share >= 0.999
    assert exported.agreement.labelled > 0
    assert json.loads((exported.folder / "self_test.json").read_text())["share"] == exported.agreement.share


def test_the_command_tests_with_the_scan_that_is_named(torso, torso_model, tmp_path):
    pytest.importorskip("openvino")
    scan = min(path.parent for path in torso.rglob("*.dcm"))
    line = ["export", torso_model, "--format", "openvino", "--out", tmp_path / "ov", "--scan", scan]
    result = run_json(*map(str, line))
    assert {"network.xml", "network.bin", "plan.yaml", "self_test.json"} <= set(result["files"])
    assert result["agreement"]["scan"] == scan.name
    assert result["agreement"]["share"] >= 0.999
    assert file_forward(tmp_path / "ov" / "network.xml")(network_files.empty_patch(load_models(torso_model)[0])).ndim == 5


def test_every_network_of_an_ensemble_is_exported(exported, torso_model, tmp_path, monkeypatch):
    (model,) = load_models(torso_model)
    save_ensemble([model, model], tmp_path / "two")
    stored = (exported.folder / "network.onnx").read_bytes()
    monkeypatch.setattr(network_files, "onnx_bytes", lambda network, patch: stored)  # it is the same network
    twice = vx.export_model(tmp_path / "two", tmp_path / "out")
    assert {"member_1/network.onnx", "member_2/network.onnx", "ensemble.yaml"} <= set(twice.files)
    assert twice.agreement.share >= 0.999


def test_a_network_with_other_logits_is_refused_and_nothing_is_left(exported, torso_model, tmp_path, monkeypatch):
    def bent(file):
        forward = file_forward(file)
        return lambda x_BC: forward(x_BC) + 0.1 * torch.randn(x_BC.shape[2:])

    stored = (exported.folder / "network.onnx").read_bytes()
    monkeypatch.setattr(network_files, "onnx_bytes", lambda network, patch: stored)
    monkeypatch.setattr(model_export, "file_forward", bent)
    with pytest.raises(ExportError, match="other logits than PyTorch"):
        vx.export_model(torso_model, tmp_path / "bent")
    assert not list(tmp_path.rglob("*.onnx"))


def test_labels_that_differ_are_refused(torso_model):
    scan = make_sample_scan(load_models(torso_model)[0])
    labels = vx.load_model(torso_model, device="cpu").predict(scan).labels
    other = labels.array.copy()
    other.reshape(-1)[: other.size // 500] += 1  # 0.2 %
    differing = agreement_of(labels, vx.LabelMap.of(other, labels.geometry, vx.LabelTable.numbered(range(1, 9))), "a")
    assert differing.share == pytest.approx(0.998, abs=1e-4)
    with pytest.raises(ExportError, match=r"a: only 99\.8\d+% of the labels"):
        agreement.refuse_disagreement(differing, "ONNX")
    assert TestScan(scan).name == "sample scan"


def test_an_unknown_format_names_the_nearest(torso_model, tmp_path):
    with pytest.raises(UsageError, match="onnx"):
        vx.export_model(torso_model, tmp_path / "x", format="onx")


def test_what_export_did_not_write_stays(torso_model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="was not written by this command"):
        vx.export_model(torso_model, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
