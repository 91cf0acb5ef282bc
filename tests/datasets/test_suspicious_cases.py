"""Suspicious cases: each planted fault is named, and its neighbours are not."""

from pathlib import Path

import numpy as np
import pytest

import voxelry
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.suspicious_cases import far_values

GRID = Geometry.from_spacing((40, 36, 24), (2.0, 2.0, 3.0))
TABLE = LabelTable(
    labels=(
        Label(value=1, name="kidney_left", mirror="kidney_right"),
        Label(value=2, name="kidney_right", mirror="kidney_left"),
        Label(value=3, name="liver"),
    )
)
CARD = """
name: abdomen
modality: CT
labels:
  - {value: 1, name: kidney_left, mirror: kidney_right}
  - {value: 2, name: kidney_right, mirror: kidney_left}
  - {value: 3, name: liver}
cases:
"""


def organs(rng: np.random.Generator) -> np.ndarray:
    """In RAS: the left kidney at low x, the liver to the right in front."""
    mask = np.zeros(GRID.shape, np.uint8)
    a, b, c = rng.integers(-1, 2, 3)
    mask[6 + a : 12 + a, 8:14, 6 + b : 16 + b] = 1
    mask[28 + a : 34 + a, 8:14, 6 + b : 16 + b] = 2
    mask[24:36, 18 + c : 30 + c, 8:18] = 3
    return mask


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Cases: 2 moved, 3 mirrored, 4 with sides exchanged, 5 with a small liver, 7 with great grey values, 8 without labels."""
    folder, rng = tmp_path_factory.mktemp("abdomen"), np.random.default_rng(0)
    rows = []
    for number in range(12):
        mask = organs(rng)
        image = 20 + 100.0 * (mask > 0) + rng.normal(0, 5, mask.shape)
        if number == 2:
            mask = np.roll(mask, (4, -4), (0, 1))
        elif number == 3:
            mask = np.flip(mask, 1)
        elif number == 4:
            mask = np.array([0, 2, 1, 3], np.uint8)[mask]
        elif number == 5:
            liver = mask == 3
            liver[26:28, 20:22, 10:12] = False
            mask[liver] = 0
            image = 20 + 100.0 * (mask > 0) + rng.normal(0, 5, mask.shape)
        elif number == 7:
            image = image * 40
        voxelry.write(Volume(image[None].astype(np.float32), GRID, modality="CT"), folder / f"scan_{number}.nii.gz")
        labelled = number != 8
        if labelled:
            voxelry.write(LabelMap.of(mask, GRID, TABLE), folder / f"mask_{number}.nii.gz")
        labels = f", labels: mask_{number}.nii.gz" if labelled else ""
        rows.append(
            f"  - {{id: case_{number}, images: [scan_{number}.nii.gz]{labels}, split: {'train' if labelled else 'test'}}}\n"
        )
    (folder / "card.yaml").write_text(CARD + "".join(rows))
    return folder / "card.yaml"


def test_each_planted_fault_is_named_and_nothing_else(dataset, tmp_path):
    problems = voxelry.check(dataset, report=tmp_path / "page.html")
    said: dict[str, list[str]] = {}
    for problem in problems:
        said.setdefault(problem.case, []).append(problem.message)
    assert set(said) == {"case_2", "case_3", "case_4", "case_5", "case_7"}
    assert any("may not fit" in text and "moved by (-4, 4, 0) voxels" in text for text in said["case_2"])
    assert any("mirrored along axis 1" in text for text in said["case_3"])
    assert any("'kidney_left' lies to the right of 'kidney_right'" in text for text in said["case_4"])
    assert any("the size of 'liver' is 0.096 ml" in text for text in said["case_5"])
    assert any("grey value" in text for text in said["case_7"])
    assert all(problem.kind == "note" for problem in problems)


def test_without_a_report_the_check_says_nothing_new(dataset):
    assert voxelry.check(dataset) == []


def test_values_of_several_kinds_are_not_far():
    assert far_values(np.array([1.0, 1.1, 0.9, 1.05, 9.0])).tolist() == [False, False, False, False, True]
    assert not far_values(np.full(9, 3.0)).any()
    assert not far_values(np.array([0.5, 0.5, 0.5, 0.6]), least=0.2).any()
