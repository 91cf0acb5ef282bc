import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.datasets.dataset_json import from_dataset_json
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


@given(st.integers(1, 30).flatmap(lambda count: st.permutations(range(count))))
def test_channels_come_in_the_order_of_their_numbers_not_of_their_digits(order):
    """Ten comes after two, whatever the order of the keys."""
    for key, value in (("modality", MSD | {"training": []}), ("channel_names", NNUNET)):
        names = {str(number): f"channel {number}" for number in order}
        data = from_dataset_json(
            {name: item for name, item in value.items() if name != "test"} | {key: names}, Path("d.json"), []
        )
        assert data["channels"] == [f"channel {number}" for number in sorted(order)]


@pytest.mark.parametrize(
    ("names", "ending", "modality", "dimensions"),
    [
        (["CT"], ".nii.gz", "CT", 3), (["ct"], ".nii.gz", "CT", 3), (["CT", "PET"], ".nii.gz", "CT", 3),
        (["PET", "CT"], ".nii.gz", "PT", 3), (["T1", "T2"], ".nrrd", "MR", 3), (["CTA"], ".nii.gz", "MR", 3),
        (["MRI"], ".mha", "MR", 3), (["xray"], ".png", "DX", 2), (["R", "G", "B"], ".png", "OT", 2),
        (["X-Ray"], "png", "DX", 2), (["grey"], ".jpg", "OT", 2), (["red", "green", "blue"], ".tif", "OT", 2),
    ],
)  # fmt: skip
def test_modality_and_axes_of_an_nnunet_set(names, ending, modality, dimensions, tmp_path):
    dotted = ending if ending.startswith(".") else f".{ending}"
    files = [f"imagesTr/a_{number:04d}{dotted}" for number in range(len(names))] + [f"labelsTr/a{dotted}"]
    folder(tmp_path, {}, files)
    value = {
        "channel_names": {str(n): name for n, name in enumerate(names)},
        "labels": {"background": 0, "x": 1},
        "file_ending": ending,
    }
    data = from_dataset_json(value, tmp_path / "dataset.json", [])
    assert (data["modality"], data["dimensions"], data["channels"]) == (modality, dimensions, names)


@pytest.mark.parametrize(
    "labels",
    [{"background": 0, "x": 1, "y": 2}, {"background": "0", "x": "1", "y": "2"}, {"0": "background", "1": "x", "2": "y"}],
)
def test_labels_of_nnunet_in_any_order_and_as_digits(labels, tmp_path):
    data = from_dataset_json(NNUNET | {"labels": labels}, tmp_path / "dataset.json", [])
    assert data["labels"] == [{"value": 1, "name": "x"}, {"value": 2, "name": "y"}]


def remarks_of(path):
    return load_manifest(path).remarks


def test_what_is_beside_the_cases_of_an_nnunet_folder_is_said(tmp_path):
    files = [f"imagesTr/{id}_{c:04d}.nii.gz" for id in ("a", "b") for c in range(2)] + ["labelsTr/a.nii.gz", "labelsTr/b.nii.gz"]
    assert remarks_of(folder(tmp_path, NNUNET | {"numTraining": 2}, files)) == ()
    folder(tmp_path, NNUNET, ["labelsTr/c.nii.gz", "labelsTr/d.nii.gz", "imagesTr/e_0000.nii", "imagesTr/f.nii.gz"])
    assert remarks_of(tmp_path) == (
        "2 images do not fit 'imagesTr/{id}_0000.nii.gz' ('imagesTr/{id}.*' takes every ending): "
        "imagesTr/e_0000.nii, imagesTr/f.nii.gz",
        "2 masks have no image: c.nii.gz, d.nii.gz",
        "numTraining is 3, there are 2 cases",
    )


def test_all_channels_in_the_file_of_the_first(tmp_path):
    colours = NNUNET | {"channel_names": {"0": "R", "1": "G", "2": "B"}, "file_ending": ".png", "numTraining": 2}
    files = [f"{kind}Tr/{id}{number}.png" for id in ("a", "b") for kind, number in (("images", "_0000"), ("labels", ""))]
    manifest = load_manifest(folder(tmp_path, colours, files))
    assert [len(case.images) for case in manifest.cases] == [1, 1]
    assert manifest.remarks == ("imagesTr/: all 3 channels are taken from _0000.png, since there is no _0001.png",)
    folder(tmp_path, colours, ["imagesTr/a_0001.png"])  # then the files of the other channels are missing
    with pytest.raises(ManifestError, match="3 files of 2 cases are missing"):
        load_manifest(tmp_path)


def test_names_without_the_number_of_the_only_channel(tmp_path):
    value = NNUNET | {"channel_names": {"0": "T1"}, "numTraining": 1}
    manifest = load_manifest(folder(tmp_path, value, ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz"]))
    assert [(case.id, case.images[0].name) for case in manifest.cases] == [("a", "a.nii.gz")]
    assert manifest.remarks == ("images in imagesTr/ have no channel number (_0000.nii.gz)",)


def test_a_decathlon_file_whose_images_are_nnunets(tmp_path):
    """nnU-Net 1 lists images without the number of the channel, which their files have."""
    value = MSD | {"modality": {"0": "T1", "1": "T2"}, "training": MSD["training"][:2], "test": [], "numTraining": 2}
    files = [f"imagesTr/h_{n}_{c:04d}.nii.gz" for n in range(2) for c in range(2)] + [f"labelsTr/h_{n}.nii.gz" for n in range(2)]
    manifest = load_manifest(folder(tmp_path, value, files))
    assert [(case.id, [file.name for file in case.images]) for case in manifest.cases] == [
        (f"h_{n}", [f"h_{n}_0000.nii.gz", f"h_{n}_0001.nii.gz"]) for n in range(2)
    ]
    assert manifest.remarks == ()


def test_images_that_a_decathlon_file_does_not_list(tmp_path):
    folder(tmp_path, MSD | {"numTraining": 20}, [*msd_files(), "imagesTr/h_7.nii.gz", "imagesTr/._h_1.nii.gz"])
    assert remarks_of(tmp_path) == ("1 image is beside those listed: h_7.nii.gz", "numTraining is 20, there are 5 cases")


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
        (NNUNET | {"labels": {"background": 0, "a": 1, "b": 1}}, "Each label needs a value of its own"),
        (NNUNET | {"labels": {"background": 0, "a": -1}}, "key 'labels'"),
        (NNUNET | {"labels": {}}, "key 'labels'"),
    ],
)
def test_wrong_dataset_files_name_the_key(value, message, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(value))
    with pytest.raises(ManifestError, match=message) as raised:
        load_manifest(tmp_path)
    assert "dataset.json" in str(raised.value)


def test_cases_that_an_nnunet_file_names(tmp_path, monkeypatch):
    """nnU-Net's key ``dataset`` names the files of each case, wherever they lie, in place of those in imagesTr."""
    monkeypatch.setenv("SCANS", str(tmp_path / "elsewhere"))
    named = {
        "p1": {"images": ["scans/x.nii.gz", "scans/y.nii.gz"], "label": "masks/x.nii.gz"},
        "p2": {"images": ["$SCANS/x.nii.gz", "scans/y.nii.gz"], "label": str(tmp_path / "masks/z.nii.gz")},
    }
    files = ["scans/x.nii.gz", "scans/y.nii.gz", "elsewhere/x.nii.gz", "masks/x.nii.gz", "masks/z.nii.gz"]
    files += [f"images{part}/{id}_{c:04d}.nii.gz" for part, id in (("Tr", "left_out"), ("Ts", "new")) for c in range(2)]
    manifest = load_manifest(folder(tmp_path, NNUNET | {"dataset": named, "numTraining": "2"}, files))
    assert [case.id for case in manifest.cases] == ["p1", "p2", "new"]
    assert manifest.case("p2").images == (tmp_path / "elsewhere/x.nii.gz", tmp_path / "scans/y.nii.gz")
    assert manifest.case("p2").labels == tmp_path / "masks/z.nii.gz"
    assert manifest.case("new").split == "test"


@pytest.mark.parametrize("entry", [None, "x.nii.gz", {"images": "x.nii.gz", "label": "y"}, {"images": ["x.nii.gz"]}])
def test_a_named_case_needs_images_and_a_label(entry, tmp_path):
    with pytest.raises(ManifestError, match=r"'dataset' holds 'p1'.*is expected"):
        from_dataset_json(NNUNET | {"dataset": {"p1": entry}}, tmp_path / "dataset.json", [])


def test_another_ending_than_that_of_the_files(tmp_path):
    files = ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"]
    folder(tmp_path, NNUNET | {"file_ending": ".nrrd"}, files)
    with pytest.raises(ManifestError, match=r"ends in '.nrrd' \('file_ending'\); there are a_0000.nii.gz, a_0001.nii.gz"):
        load_manifest(tmp_path)
