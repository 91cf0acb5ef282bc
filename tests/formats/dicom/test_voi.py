"""VOI windows as stored."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from voxelry.core.volume import Window
from voxelry.formats.dicom.voi import rescaled_windows, windows_of


def test_several_with_names():
    data = Dataset()
    data.WindowCenter, data.WindowWidth = [40, -600], [400, 1500.5]
    data.WindowCenterWidthExplanation = ["SOFT", "LUNG"]
    data.VOILUTFunction = "LINEAR_EXACT"
    assert windows_of(data) == (Window(40, 400, "LINEAR_EXACT", "SOFT"), Window(-600, 1500.5, "LINEAR_EXACT", "LUNG"))


@pytest.mark.parametrize(
    ("center", "width", "count"), [(40, 0, 0), (40, -1, 0), (40, None, 0), ([1, 2], [3], 1), ([1, 2], [0, 3], 1)]
)
def test_unusable_ones_are_left_out(center, width, count):
    data = Dataset()
    data.WindowCenter = center
    if width is not None:
        data.WindowWidth = width
    data.VOILUTFunction = "ODD"
    found = windows_of(data)
    assert len(found) == count
    assert all(window.function == "LINEAR" for window in found)


def test_rescaled():
    assert rescaled_windows((Window(10, 4, "SIGMOID", "A"),), -2, 100) == (Window(80, 8, "SIGMOID", "A"),)
