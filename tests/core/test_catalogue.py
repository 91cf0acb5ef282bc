"""The curated labels: every code is published, every name is found, and nothing contradicts the dataset cards."""

import csv
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr._concepts_dict import concepts

from voxelry.base.files import read_yaml
from voxelry.core.catalogue import catalogue, coded, lookup
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.errors import LabelError

ROOT = Path(__file__).parents[2]
NAMES = catalogue().names
LEFT, RIGHT = Code(value="7771000", meaning="Left"), Code(value="24028007", meaning="Right")

with (Path(__file__).parent / "published_codes.csv").open() as table:
    ELSEWHERE = {(row["code"], row["meaning"]): row["source"] for row in csv.DictReader(table)}
"""Pairs that DICOM's context groups lack, with the published table that holds them."""

with (ROOT / "src" / "voxelry" / "core" / "catalogue.csv").open() as table:
    ROWS = list(csv.DictReader(table))


def in_dicom(code: Code) -> bool:
    """Whether one of DICOM's context groups holds the pair; pydicom lists SNOMED's own full names without a group."""
    pairs = [known[code.value] for known in concepts["SCT"].values() if code.value in known]
    return any(meaning == code.meaning and groups for meaning, groups in pairs)


# ---- codes


@pytest.mark.parametrize("label", catalogue().labels, ids=NAMES)
def test_every_code_is_a_published_one_or_says_that_it_is_private(label):
    for code in (label.category, label.type, label.modifier):
        if code is None:
            continue
        if code.scheme == "99VOXELRY":
            assert code is label.type
            assert not code.value.isdigit()
            assert len(code.value) <= 16
        else:
            assert code.scheme == "SCT"
            assert in_dicom(code) or (code.value, code.meaning) in ELSEWHERE, code


def test_no_published_pair_is_kept_in_vain():
    codes = {(c.value, c.meaning) for label in catalogue().labels for c in (label.category, label.type, label.modifier) if c}
    for pair in ELSEWHERE:
        assert pair in codes
        assert not in_dicom(Code(value=pair[0], meaning=pair[1]))


def test_a_private_code_is_used_for_one_meaning():
    private = {(label.type.value, label.type.meaning) for label in catalogue().labels if label.type.scheme == "99VOXELRY"}
    assert len(private) == len({value for value, _ in private})
    assert len(private) <= 25


def test_as_many_labels_have_published_codes_as_the_documents_say():
    labels = catalogue().labels
    private = [label for label in labels if label.type.scheme == "99VOXELRY"]
    changelog = " ".join((Path(__file__).parents[2] / "CHANGELOG.md").read_text().split())
    published = len(labels) - len(private)
    assert f"{len(labels)} labels, {published} of them with published SNOMED CT codes, {len(private)} with a private" in changelog


# ---- what is in it


def expected_names():
    yield from (f"vertebra_C{n}" for n in range(1, 8))
    yield from (f"vertebra_T{n}" for n in range(1, 13))
    yield from (f"vertebra_L{n}" for n in range(1, 6))
    yield "vertebra_S1"
    levels = [f"C{n}" for n in range(2, 8)] + [f"T{n}" for n in range(1, 13)] + [f"L{n}" for n in range(1, 6)] + ["S1"]
    yield from (f"disc_{one}_{other}" for one, other in pairwise(levels))
    yield from (f"tooth_{q}{n}" for q in (1, 2, 3, 4) for n in range(1, 9))
    yield from (f"tooth_{q}{n}" for q in (5, 6, 7, 8) for n in range(1, 6))
    yield from "hippocampus_anterior hippocampus_posterior hippocampus_head hippocampus_body hippocampus_tail_left".split()
    yield from "lung_left lung_right lung_upper_lobe_left lung_middle_lobe_right lesion neoplasm".split()
    yield from "cell cell_nucleus axon myelin".split()


def test_the_structures_asked_for_are_there():
    assert len(NAMES) >= 120
    assert set(expected_names()) <= set(NAMES)


def test_every_class_of_totalsegmentator_is_found_with_its_code():
    for row in read_yaml(ROOT / "data_manifests" / "totalsegmentator_ct.yaml")["labels"]:
        assert lookup(row["name"]).type.value == row["type"]["value"], row["name"]


@pytest.mark.parametrize("card", sorted((ROOT / "data_manifests").glob("*.yaml")), ids=lambda file: file.stem)
def test_codes_written_by_hand_in_a_card_agree(card):
    """Cards may say less than the catalogue (a label without a side), and call a label by a name it does not know."""
    known = 0
    for row in read_yaml(card)["labels"]:
        label = Label.model_validate(row)
        try:
            found = lookup(label.name)
        except LabelError:
            continue
        known += 1
        assert label.type is None or (label.type, label.category, label.modifier) == (found.type, found.category, found.modifier)
    assert known or card.stem in {"spider"}


@pytest.mark.parametrize("label", [label for label in catalogue().labels if label.mirror], ids=lambda label: label.name)
def test_twins_mirror_each_other(label):
    twin = catalogue()[label.mirror]
    assert twin.mirror == label.name
    assert twin.category == label.category
    assert twin.kind == label.kind
    if label.modifier is not None:
        assert {label.modifier, twin.modifier} == {LEFT, RIGHT}
        assert twin.type == label.type
    else:
        words = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
        assert (
            " ".join(words.get(word, word) for word in label.type.meaning.split()) == twin.type.meaning or "tooth" in label.name
        )


def test_a_side_in_a_name_is_a_side_in_the_code():
    for label in catalogue().labels:
        side = next((side for side in (LEFT, RIGHT) if side.meaning.lower() in label.name.split("_")), None)
        if side is not None:
            assert label.modifier == side or side.meaning.lower() in label.type.meaning.lower(), label.name


# ---- finding


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("left kidney", "kidney_left"),
        ("kidney_left", "kidney_left"),
        ("Kidney L", "kidney_left"),
        ("Kidneys", "kidney"),
        ("Right upper lobe of the lung", "lung_upper_lobe_right"),
        ("vertebrae_L1", "vertebra_L1"),
        ("L1", "vertebra_L1"),
        ("L5/S1 disc", "disc_L5_S1"),
        ("FDI 36", "tooth_36"),
        ("permanent mandibular left first molar", "tooth_36"),
        ("tumour", "neoplasm"),
        ("nuclei", "cell_nucleus"),
        ("hippocampal head right", "hippocampus_head_right"),
        ("clavicle left", "clavicula_left"),
    ],
)
def test_names_as_people_write_them(said, meant):
    assert lookup(said).name == meant


@given(st.sampled_from(NAMES), st.randoms())
def test_case_order_and_marks_do_not_count(name, random):
    words = [word.upper() if random.random() < 0.5 else word for word in name.split("_")]
    random.shuffle(words)
    assert lookup(random.choice([" ", "-", ", ", "__"]).join(words)).name == name


def test_a_name_or_alias_means_one_structure():
    for row in ROWS:
        for name in (row["name"], *filter(None, row["aliases"].split(";"))):
            assert lookup(name).name == row["name"], name


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(LabelError, match=r"'kidny left'.*kidney_left"):
        lookup("kidny left")
    with pytest.raises(LabelError):
        lookup("")


# ---- giving codes to a table


def test_labels_without_codes_get_them_and_keep_the_rest():
    own = Code(value="1", scheme="99X", meaning="mine")
    table = LabelTable(
        labels=(
            Label(value=9, name="Kidney L", color=(1, 2, 3), kind="thing"),
            Label(value=2, name="liver", type=own),
            Label(value=3, name="something else", layer=1),
            Label(value=4, name="lesion"),
        ),
        ignore=7,
    )
    kidney, liver, other, lesion = coded(table).labels
    assert (kidney.value, kidney.name, kidney.color, kidney.kind) == (9, "Kidney L", (1, 2, 3), "thing")
    assert (kidney.type.value, kidney.modifier) == ("64033007", LEFT)
    assert liver == table.labels[1]
    assert other == table.labels[2]
    assert lesion.category.meaning == "Morphologically Abnormal Structure"
    assert lesion.color == lookup("lesion").color
    assert coded(table).ignore == 7
