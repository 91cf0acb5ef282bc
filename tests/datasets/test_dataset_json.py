import json
from pathlib import Path

import pytest

from voxelry.datasets.manifest import load_manifest
from voxelry.errors import ManifestError

MSD = {
    "name": "Hippo Campus",
    "description": "parts",
    "reference": "somebody",
    "licence": "CC-BY-SA 4.0",
    "tensorImageSize": "3D",
    "modality": {"0": "MRI"},
    "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
    "training": [{"image": f"./imagesTr/h_{i}.nii.gz", "label": f"./labelsTr/h_{i}.nii.gz"} for i in range(5)],
    "test": ["./imagesTs/h_9.nii.gz"],
}
NNUNET = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "tumour": 1, "ignore": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def folder(root: Path, value: dict, files: list[str]) -> Path:
    for name in files:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / "dataset.json").write_text(json.dumps(value))
    return root


def msd_files() -> list[str]:
    return [entry[key] for entry in MSD["training"] for key in ("image", "label")] + MSD["test"]


@pytest.mark.parametrize("path", [".", "dataset.json"])
def test_a_decathlon_folder(path, tmp_path):
    manifest = load_manifest(folder(tmp_path, MSD, msd_files()) / path)
    assert (manifest.card.name, manifest.card.modality, manifest.card.licence) == ("Hippo-Campus", "MR", "CC-BY-SA 4.0")
    assert manifest.card.table.id2label == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert [len(manifest.split(name)) for name in ("train", "val", "test")] == [4, 1, 1]
    first = manifest.case("h_0")
    assert first.images == (tmp_path / "imagesTr/h_0.nii.gz",)
    assert first.labels == tmp_path / "labelsTr/h_0.nii.gz"
    assert manifest.case("h_9").has_labels is False


def test_several_channels_in_one_decathlon_file(tmp_path):
    manifest = load_manifest(folder(tmp_path, MSD | {"modality": {"1": "ADC", "0": "T2"}}, msd_files()))
    assert manifest.card.channels == ("T2", "ADC")
    assert len(manifest.cases[0].images) == 1


def test_an_nnunet_folder(tmp_path):
    files = [f"imagesTr/a.b_{i}_{c:04d}.nii.gz" for i in range(3) for c in range(2)] + [
        f"labelsTr/a.b_{i}.nii.gz" for i in range(3)
    ]
    files += ["imagesTs/new_0000.nii.gz", "imagesTs/new_0001.nii.gz", "imagesTr/._a.b_0_0000.nii.gz"]
    manifest = load_manifest(folder(tmp_path, NNUNET, files))
    assert [case.id for case in manifest.cases] == ["a.b_0", "a.b_1", "a.b_2", "new"]
    assert manifest.cases[0].images == (tmp_path / "imagesTr/a.b_0_0000.nii.gz", tmp_path / "imagesTr/a.b_0_0001.nii.gz")
    assert manifest.card.channels == ("T1", "T2")
    assert (manifest.card.table.names, manifest.card.table.ignore) == (("tumour",), 2)
    assert manifest.case("new").split == "test"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"labels": {}}, "neither 'channel_names'"),
        (MSD | {"labels": {"liver": "1"}}, "key 'labels'"),
        (MSD | {"modality": "MRI"}, "key 'modality' is 'MRI'"),
        (MSD | {"training": ["a.nii.gz"]}, "'training' holds 'a.nii.gz'"),
        (MSD | {"training": None}, "'training' holds None"),
        (MSD | {"test": [5]}, "'test' holds 5"),
        (MSD, "11 files of 6 cases are missing"),
        (NNUNET | {"labels": {"background": 0, "whole": [1, 2]}}, "regions"),
    ],
)
def test_wrong_dataset_files_name_the_key(value, message, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(value))
    with pytest.raises(ManifestError, match=message) as raised:
        load_manifest(tmp_path)
    assert "dataset.json" in str(raised.value)
