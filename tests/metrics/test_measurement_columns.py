"""Rows of measurements: numpy over whole masks is the oracle."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import ibsi_phantom
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import GridMismatchError
from voxelry.metrics.measurement_columns import COLUMNS, intensity_unit, measurement_rows
from voxelry.metrics.measurements import measure_labels
from voxelry.phantom import small_phantom

TABLE = LabelTable(
    labels=(Label(value=4, name="organ"), Label(value=2, name="lesion", kind="thing"), Label(value=9, name="absent"))
)


def lesions():
    rng = np.random.default_rng(1)
    layers = rng.choice(np.array([0, 2, 4], np.uint8), (1, 9, 8, 6))
    ids = np.where(layers == 2, rng.choice(np.array([3, 70_000], np.uint32), layers.shape), 0).astype(np.uint32)
    grid = Geometry.from_spacing((9, 8, 6), (0.7, 0.9, 2.5))
    image = rng.normal(40, 9, (1, 9, 8, 6)).astype(np.float32)
    return LabelMap(layers, grid, TABLE, instances=ids), Volume(image, grid, 1, "CT")


def test_rows_by_numpy():
    labels, volume = lesions()
    rows = measurement_rows(labels, volume)
    assert [(row["label"], row["instance"], row["kind"]) for row in rows] == [
        ("organ", 0, "stuff"), ("lesion", 3, "thing"), ("lesion", 70_000, "thing"), ("absent", 0, "stuff"),
    ]  # fmt: skip
    for row, known in zip(rows, measure_labels(labels, volume), strict=True):
        assert list(row) == list(COLUMNS)
        assert all(value is None or type(value) is COLUMNS[name] for name, value in row.items())
        assert (row["voxels"], row["volume_mm3"]) == (known.voxels, known.volume_mm3)
        if known.axes is None:
            assert {row[name] for name in COLUMNS if name.startswith("intensity")} | {row["surface_mm2"]} == {None}
            continue
        mask = (labels.array == row["label_value"]) & ((labels.instances[0] == row["instance"]) | (row["instance"] == 0))
        values = volume.array[0][mask].astype(float)
        assert (row["long_axis_mm"], row["short_axis_mm"]) == (known.axes.long_mm, known.axes.short_mm)
        expected = {
            "mean": values.mean(),
            "sd": values.std(),
            "min": values.min(),
            "max": values.max(),
            "median": np.median(values),
        }
        expected |= {f"p{share:02}": np.percentile(values, share) for share in (5, 10, 25, 75, 90, 95)}
        assert {name: row[f"intensity_{name}"] for name in expected} == pytest.approx(expected, rel=1e-5)
        assert row["intensity_unit"] == "HU"
        assert (row["x_mm"], row["y_mm"], row["z_mm"]) == known.centroid_mm
        assert row["largest_diameter_mm"] >= row["long_axis_mm"] - 1e-6


def test_the_digital_phantom_as_a_label():
    grid = Geometry.from_spacing(ibsi_phantom.IMAGE.shape, ibsi_phantom.SPACING)
    labels = LabelMap.of(ibsi_phantom.mask().astype(np.uint8), grid, LabelTable.numbered([1]))
    [row] = measurement_rows(labels, Volume(ibsi_phantom.IMAGE[None], grid, 1, "MR"))
    assert row["volume_mm3"] == pytest.approx(592, abs=4)  # approximate volume [YEKZ]
    named = {name: value for name, (value, _) in ibsi_phantom.SHAPE.items()}
    assert {name: row[name] for name in named} == pytest.approx(named, rel=0.007)
    reference = {"mean": 2.15, "sd": 3.05**0.5, "min": 1, "p10": 1, "median": 1, "p90": 4, "max": 6}
    assert {name: row[f"intensity_{name}"] for name in reference} == pytest.approx(reference, abs=0.005)
    assert row["intensity_unit"] is None


@pytest.mark.parametrize("kind", ["chest-xray", "dental-panoramic"])
def test_pictures_have_areas_and_perimeters(kind):
    phantom = small_phantom(kind)
    row = next(row for row in measurement_rows(phantom.labels, phantom.volume) if row["voxels"])
    given = {name for name, value in row.items() if value is not None}
    assert {"area_mm2", "perimeter_mm", "circularity", "major_mm", "intensity_median"} <= given
    assert given.isdisjoint({"volume_mm3", "surface_mm2", "sphericity", "least_mm", "x_mm", "intensity_unit"})


def test_a_picture_of_unknown_pixel_size_has_no_millimetres():
    labels = LabelMap.of(np.eye(5, dtype=np.uint8), Geometry((5, 5)), LabelTable.numbered([1]))
    [row] = measurement_rows(labels)
    assert {name for name, value in row.items() if value is not None} == {
        "label", "label_value", "kind", "instance", "voxels", "touches_border", "circularity", "elongation",
    }  # fmt: skip


def test_units_of_intensities():
    _, volume = lesions()
    suv = Source(remarks=("SUV by body weight: 70 kg",))
    units = [intensity_unit(replace(volume, modality=name, source=source)) for name, source in
             (("CT", Source()), ("MR", Source()), ("PT", Source()), ("PT", suv))]  # fmt: skip
    assert units == ["HU", None, None, "g/ml"]


def test_another_grid_is_refused():
    labels, volume = lesions()
    shifted = replace(volume, geometry=Geometry.from_spacing((9, 8, 6), (0.7, 0.9, 2.4)))
    with pytest.raises(GridMismatchError, match="different grids"):
        measurement_rows(labels, shifted)
