"""The cards in data_manifests/: they load, their codes are published ones, and the data at hand fit them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.sr._concepts_dict import concepts
from scipy import ndimage

from helpers.tiny import phantoms
from voxelry.base.files import read_yaml
from voxelry.base.schema import parse
from voxelry.core.labels import ANATOMICAL_STRUCTURE, Code
from voxelry.datasets.card import Card
from voxelry.datasets.cases import parse_cases, read_table
from voxelry.datasets.check import check_manifest
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import load_manifest
from voxelry.datasets.splits import check_no_leak
from voxelry.phantom.nifti import write_nifti
from voxelry.phantom.phantom import ACQUISITIONS, CHANNELS, TABLES, make_phantom

FOLDER = Path(__file__).parents[2] / "data_manifests"
FILES = sorted(FOLDER.glob("*.yaml"))

ELSEWHERE = {
    # TotalSegmentator's totalsegmentator_snomed_mapping.csv
    "110765007": "Portal vein and splenic vein",
    "181674001": "Gluteus maximus muscle",
    "78333006": "Gluteus medius muscle",
    "75297007": "Gluteus minimus muscle",
    "244849004": "Deep muscle of back",
    "68455001": "Iliopsoas muscle",
    "65985001": "S1 vertebra",
    "48535007": "First rib",
    "78247007": "Second rib",
    "25888004": "Third rib",
    "25523003": "Fourth rib",
    "15339008": "Fifth rib",
    "59558009": "Sixth rib",
    "24915002": "Seventh rib",
    "5953002": "Eighth rib",
    "22565002": "Ninth rib",
    "77644006": "Tenth rib",
    "58830002": "Eleventh rib",
    "43993008": "Twelfth rib",
}
"""Codes that DICOM's context groups lack, with the published table that has them."""


def card_of(file: Path) -> Card:
    value = {key: item for key, item in read_yaml(file).items() if key in Card.model_fields}
    return parse(Card, value, file.name)


def codes_of(card: Card) -> set[Code]:
    found = {code for label in card.labels for code in (label.category, label.type, label.modifier) if code is not None}
    return found - {ANATOMICAL_STRUCTURE}


def is_published(code: Code) -> bool:
    if ELSEWHERE.get(code.value) == code.meaning:
        return True
    return any(known.get(code.value, ("",))[0] == code.meaning for known in concepts["SCT"].values())


def test_all_cards_are_here():
    assert {file.stem for file in FILES} == {
        "axon_sem",
        "cxr_lung",
        "cxr_lung_by4",
        "hippocampus",
        "ivdm3seg",
        "nuclei_dsb2018",
        "phantom_chest",
        "phantom_dental",
        "phantom_discs",
        "phantom_heart",
        "phantom_spine",
        "phantom_torso",
        "spider",
        "spine_waterfat",
        "totalsegmentator_ct",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_card_is_whole(file):
    card = card_of(file)
    parse_cases(read_yaml(file)["cases"], file)
    assert card.title
    assert card.description
    assert card.licence
    assert "phantom" in card.name or (card.citation and card.homepage.startswith("http"))
    assert len({label.rgb for label in card.labels}) == len(card.labels)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_codes_are_published_with_this_meaning(file):
    card = card_of(file)
    assert all(label.type is not None for label in card.labels)
    for code in codes_of(card):
        if code.scheme == "99VOXELRY":
            assert len(code.value) <= 16, "DICOM's code value (VR SH) holds 16 characters"
        else:
            assert code.scheme == "SCT"
            assert is_published(code), code


def test_the_exceptions_are_needed():
    known = {value for entry in concepts["SCT"].values() for value in entry}
    used = {code.value for file in FILES for code in codes_of(card_of(file))}
    assert not set(ELSEWHERE) & known
    assert set(ELSEWHERE) <= used


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_left_and_right_are_twins_and_coded(file):
    card = card_of(file)
    for label in card.labels:
        side = next((side for side in ("left", "right") if side in label.name.split("_")), None)
        twin = card.table[label.mirror] if label.mirror else None
        if twin is not None and label.modifier is None:  # teeth: the code says the side
            sides = [{"left", "right"} & set(one.type.meaning.lower().split()) for one in (label, twin)]
            assert sorted(map(sorted, sides)) == [["left"], ["right"]]
        elif twin is not None:
            assert side
            assert label.modifier
            assert label.modifier.meaning.lower() == side
            assert (twin.type, twin.category) == (label.type, label.category)
            assert twin.modifier != label.modifier
        elif side:
            assert label.type
            assert side in label.type.meaning.lower(), f"{label.name} has neither a twin nor a code of its side"


def test_totalsegmentator_has_its_117_classes_in_order():
    card = card_of(FOLDER / "totalsegmentator_ct.yaml")
    assert [label.value for label in card.labels] == list(range(1, 118))
    assert [card.table[value].name for value in (1, 27, 51, 92, 117)] == [
        "spleen", "vertebrae_L5", "heart", "rib_left_1", "costal_cartilages",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("torso-ct", "torso"),
        ("spine-mri", "spine"),
        ("chest-xray", "chest"),
        ("chest-xray-heart", "heart"),
        ("dental-panoramic", "dental"),
        ("spine-discs", "discs"),
    ],
)
def test_phantom_cards_say_what_the_phantoms_are(kind, name):
    manifest = load_manifest(FOLDER / f"phantom_{name}.yaml")
    assert manifest.card.table == TABLES[kind]
    assert manifest.card.channels == CHANNELS[kind]
    assert manifest.cases == ()


@pytest.mark.parametrize(
    ("kind", "name", "format"),
    [
        ("torso-ct", "torso", "nifti"),
        ("spine-mri", "spine", "nifti"),
        ("dental-panoramic", "dental", "png"),
        ("spine-discs", "discs", "nifti"),
    ],
)
def test_written_phantoms_tell_objects_apart_as_their_card_says(kind, name, format, tmp_path):
    written, card = load_manifest(phantoms(tmp_path, kind, format=format)).card, card_of(FOLDER / f"phantom_{name}.yaml")
    assert written.instances == card.instances is not None
    assert written.sequences == card.sequences


def test_the_rows_of_teeth_run_from_the_patients_right_to_the_left():
    upper, lower = card_of(FOLDER / "phantom_dental.yaml").sequences
    assert [int(name[-2:]) for name in upper.labels] == [18, 17, 16, 15, 14, 13, 12, 11, 21, 22, 23, 24, 25, 26, 27, 28]
    assert [int(name[-2:]) for name in lower.labels] == [48, 47, 46, 45, 44, 43, 42, 41, 31, 32, 33, 34, 35, 36, 37, 38]


def ivdm3seg_of_phantoms(root: Path, count: int) -> None:
    """Spine phantoms in the files of IVDM3Seg: four channels, and one value for all discs."""
    how = replace(ACQUISITIONS["spine-discs"], spacing=(2.5, 2.5, 4.0))
    for number in range(1, count + 1):
        found, id = make_phantom("spine-discs", number, how), f"{number:02d}"
        for part, channel in zip(("fat", "inn", "opp", "wat"), found.volume.array, strict=True):
            write_nifti(channel, found.volume.geometry, root / f"ivdm3seg/{id}/{id}_{part}.nii")
        write_nifti(found.labels.array, found.labels.geometry, root / f"ivdm3seg/{id}/{id}_Labels.nii")


def test_discs_of_one_value_are_objects_by_their_connected_pieces(tmp_path):
    ivdm3seg_of_phantoms(tmp_path, 3)
    manifest = load_manifest(FOLDER / "ivdm3seg.yaml", root=tmp_path)
    assert check_manifest(manifest) == []
    image, labels = load_case(manifest.cases[0], manifest)
    assert image.channels == 4
    pieces, count = ndimage.label(labels.array > 0, np.ones((3, 3, 3)))
    assert count == len(np.unique(labels.instances)) - 1 == 7
    assert all(len(np.unique(labels.instances[0][pieces == piece])) == 1 for piece in range(1, 8))


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_ivdm3seg_finds_the_public_layout(tmp_path):
    for id in ("01", "02", "16"):
        touch(*(tmp_path / f"ivdm3seg/{id}/{id}_{part}.nii" for part in ("fat", "inn", "opp", "wat", "Labels")))
    manifest = load_manifest(FOLDER / "ivdm3seg.yaml", root=tmp_path)
    assert [case.id for case in manifest.cases] == ["01", "02", "16"]
    assert [file.name for file in manifest.cases[0].images] == ["01_fat.nii", "01_inn.nii", "01_opp.nii", "01_wat.nii"]
    assert manifest.cases[0].labels == tmp_path / "ivdm3seg/01/01_Labels.nii"


def test_spider_keeps_the_series_of_a_patient_together(tmp_path):
    stems = {"1_t1": "training", "1_t2": "training", "10_t2_SPACE": "validation", "11_t1": "training"}
    for stem in stems:
        touch(tmp_path / f"spider/images/{stem}.mha", tmp_path / f"spider/masks/{stem}.mha")
    lines = [f'{stem},"[0.5, 0.5]",{subset}' for stem, subset in stems.items()]
    (tmp_path / "spider/overview.csv").write_text("\n".join(["new_file_name,PixelSpacing,subset", *lines]))
    manifest = load_manifest(FOLDER / "spider.yaml", root=tmp_path)
    assert [case.group for case in manifest.cases] == ["1", "1", "10", "11"]
    assert [case.id for case in manifest.split("val")] == ["10_t2_SPACE"]


def test_totalsegmentator_finds_one_mask_a_structure(tmp_path):
    root = tmp_path / "totalsegmentator_ct"
    names = card_of(FOLDER / "totalsegmentator_ct.yaml").table.names
    for id in ("s0000", "s0001"):
        touch(root / id / "ct.nii.gz", *(root / id / "segmentations" / f"{name}.nii.gz" for name in names))
    (root / "meta.csv").write_text("image_id;age;split\ns0000;50;train\ns0001;;test\n")
    manifest = load_manifest(FOLDER / "totalsegmentator_ct.yaml", root=tmp_path)
    assert [(case.id, case.split) for case in manifest.cases] == [("s0000", "train"), ("s0001", "test")]
    assert [name for name, _ in manifest.cases[0].masks] == list(names)
    assert all(file.is_file() for file in manifest.cases[0].label_files)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "train", "val"),
    [("hippocampus", 104, 26), ("cxr_lung", 230, 55), ("spine_waterfat", 9, 3), ("nuclei_dsb2018", 156, 39), ("axon_sem", 5, 1)],
)
def test_real_sets_have_their_cases(name, train, val, realdata):
    manifest = load_manifest(FOLDER / f"{name}.yaml", root=realdata)
    assert (len(manifest.split("train")), len(manifest.split("val"))) == (train, val)
    assert len(manifest.cases) == train + val
    check_no_leak(manifest.cases)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["hippocampus", "cxr_lung", "spine_waterfat", "nuclei_dsb2018", "axon_sem"])
def test_every_case_of_the_real_sets_is_sound(name, realdata):
    assert check_manifest(load_manifest(FOLDER / f"{name}.yaml", root=realdata), deep=True) == []


@pytest.mark.realdata
def test_the_nuclei_are_those_of_the_index(realdata):
    """Oracle: index_dev.csv, which counts the nuclei of each picture."""
    manifest = load_manifest(FOLDER / "nuclei_dsb2018.yaml", root=realdata)
    counts = {row["stem"]: int(row["n"]) for row in read_table(realdata / "nuclei_dsb2018/index_dev.csv")}
    for case in manifest.cases[::10]:
        image, labels = load_case(case, manifest)
        assert image.channels == 3
        assert len(np.unique(labels.instances)) - 1 == counts[case.id]
    statistics = check_manifest(manifest).objects["nucleus"]
    assert statistics.total == sum(counts.values())
    assert statistics.per_case == (min(counts.values()), float(np.median(list(counts.values()))), max(counts.values()))


@pytest.mark.realdata
def test_each_vertebra_is_one_object(realdata):
    problems = check_manifest(load_manifest(FOLDER / "spine_waterfat.yaml", root=realdata))
    assert {name: statistics.total for name, statistics in problems.objects.items()} == dict.fromkeys(
        ["L1", "L2", "L3", "L4", "L5"], 12
    )
