"""Still pictures of a case: which labels are drawn, and that two models are cut at the same place."""

import base64
import io

import numpy as np
from PIL import Image

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.reports.case_stills import case_stills
from voxelry.reports.run_cases import CaseImages

GRID = Geometry.from_spacing((24, 20, 16), (2, 2, 2), (0, 0, 0))
TABLE = LabelTable(labels=(Label(value=1, name="liver", color=(230, 30, 30)),))


def labels(low: int, high: int) -> LabelMap:
    """A box at the patient's right (high x in RAS), between two axial slices."""
    array = np.zeros(GRID.shape, np.uint8)
    array[14:22, 6:14, low:high] = 1
    return LabelMap.of(array, GRID, TABLE)


def red(picture: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(picture.partition("base64,")[2])))
    pixels = np.asarray(image.convert("RGB")).astype(int)[:-60]  # without the legend
    return pixels[..., 0] - pixels[..., 1:].max(axis=-1) > 60


def columns(mask: np.ndarray, panel: int) -> float:
    """The mean column of a panel (of three), as a share of its width."""
    third = mask.shape[1] // 3
    return float(np.nonzero(mask[:, panel * third : (panel + 1) * third])[1].mean() / third)


IMAGE = Volume(np.full((1, *GRID.shape), 100, np.int16), GRID, modality="MR")


def test_the_prediction_is_on_its_side():
    caption, [(name, picture)] = case_stills(CaseImages(IMAGE, labels(4, 12), labels(5, 12)))
    assert (name, caption) == ("prediction", "Filled: prediction. Dashed: reference.")
    assert columns(red(picture), 0) < 0.5  # axial: the patient's right is at the left
    assert columns(red(picture), 1) < 0.5  # coronal


def test_two_models_are_cut_through_the_reference():
    caption, stills = case_stills(CaseImages(IMAGE, labels(1, 3), labels(8, 12), labels(8, 12)))
    assert [name for name, _ in stills] == ["A", "B"]
    assert caption.startswith("Filled: A above, B below.")
    first, second = (red(picture) for _, picture in stills)
    third = first.shape[1] // 3
    assert not first[:, :third].any()  # A labels other axial slices
    assert second[:, :third].any()


def test_a_case_without_prediction_shows_its_reference_and_one_without_labels_nothing():
    caption, [(name, picture)] = case_stills(CaseImages(IMAGE, reference=labels(4, 12)))
    assert (name, caption) == ("reference", "Filled: reference.")
    assert red(picture).any()
    assert case_stills(CaseImages(IMAGE)) == ("", [])


def test_a_missing_first_model_leaves_the_second():
    images = CaseImages(IMAGE, other=labels(4, 12))
    assert [name for name, _ in case_stills(images)[1]] == ["B"]
