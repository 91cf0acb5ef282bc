"""The table of objects: numbers by brute force, empty cells, speed."""

import csv
import time
from dataclasses import replace

import numpy as np
import pytest

import voxelry as vx
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError

LESION = Label(
    value=2,
    name="lesion",
    kind="thing",
    type=Code(value="52988006", meaning="Lesion"),
    modifier=Code(value="7771000", meaning="Left"),
)
TABLE = LabelTable(labels=(Label(value=1, name="liver"), LESION, Label(value=3, name="none")))


def made():
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, 4.0, 1], [0, 0, 0, 1]])
    layers, ids = np.zeros((1, 8, 7, 5), np.uint8), np.zeros((1, 8, 7, 5), np.uint32)
    layers[0, 1:3, 1:4, 1:3] = 1
    for id, box in ((7, np.s_[4:7, 2:5, 2:4]), (300, np.s_[7, 6, 4]), (0, np.s_[5, 5, 1])):
        layers[0][box], ids[0][box] = 2, id
    return LabelMap(layers, Geometry((8, 7, 5), affine), TABLE, instances=ids)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_object_is_a_row(tmp_path):
    labels = made()
    volume = Volume(np.random.default_rng(0).normal(0, 9, (1, 8, 7, 5)).astype(np.float32), labels.geometry)
    rows = rows_of(vx.write(labels, tmp_path / "a.objects.csv", source=volume))
    assert [(row["label"], row["id"]) for row in rows] == [
        ("liver", ""),
        ("lesion", ""),
        ("lesion", "7"),
        ("lesion", "300"),
        ("none", ""),
    ]
    masks = [labels.layers[0] == 1, *((labels.layers[0] == 2) & (labels.instances[0] == id) for id in (0, 7, 300))]
    for row, mask in zip(rows, masks, strict=False):
        where = np.argwhere(mask)
        assert int(row["voxels"]) == len(where)
        assert float(row["volume_mm3"]) == pytest.approx(len(where) * 12)
        assert [float(row[f"centroid_{axis}"]) for axis in range(3)] == pytest.approx(where.mean(axis=0))
        assert [float(row[f"{name}_mm"]) for name in "xyz"] == pytest.approx(labels.geometry.world(where.mean(axis=0)).tolist())
        assert [int(row[f"first_{axis}"]) for axis in range(3)] == where.min(axis=0).tolist()
        assert [int(row[f"end_{axis}"]) for axis in range(3)] == (where.max(axis=0) + 1).tolist()
        assert float(row["mean"]) == pytest.approx(volume.array[0][mask].mean(), rel=1e-5)
        assert float(row["long_mm"]) >= float(row["short_mm"]) > 0
    assert [row["touches_border"] for row in rows] == ["0", "0", "0", "1", "0"]
    assert [row["code"] for row in rows] == ["", "52988006", "52988006", "52988006", ""]
    assert [row["modifier"] for row in rows] == ["", "7771000", "7771000", "7771000", ""]
    assert {rows[-1][name] for name in ("long_mm", "mean", "x_mm", "first_0")} == {""}
    assert rows[-1]["volume_mm3"] == "0"


def test_pictures(tmp_path):
    labels = LabelMap(made().layers[..., 2], Geometry((8, 7), None, (0.5, 0.25)), TABLE, instances=made().instances[..., 2])
    rows = rows_of(vx.write(labels, tmp_path / "a.objects.csv"))
    assert [(row["id"], row["area_mm2"]) for row in rows] == [("", "0.75"), ("7", "1.125"), ("", "0")]
    assert {"volume_mm3", "x_mm", "mean", "first_2"}.isdisjoint(rows[0])
    unknown = rows_of(vx.write(LabelMap(labels.layers, Geometry((8, 7)), TABLE), tmp_path / "b.objects.csv"))
    assert [unknown[0][name] for name in ("voxels", "area_px")] == ["6", "6"]
    unit = rows_of(vx.write(replace(labels, geometry=Geometry((8, 7), None, (1, 1))), tmp_path / "c.objects.csv"))
    assert [unknown[0][f"{name}_px"] for name in ("long", "short")] == [unit[0][f"{name}_mm"] for name in ("long", "short")]
    assert {"area_mm2", "long_mm", "short_mm"}.isdisjoint(unknown[0])
    image = Volume(np.ones((1, 8, 7)), Geometry((8, 7)))
    seen = rows_of(vx.write(LabelMap(labels.layers, Geometry((8, 7)), TABLE), tmp_path / "d.objects.csv", source=image))
    assert [seen[0][name] for name in ("mean", "area_px")] == ["1", "6"]


def test_another_ending(tmp_path):
    with pytest.raises(ExportError, match=r"\.csv"):
        vx.write(made(), tmp_path / "a.txt", format="csv")


@pytest.mark.slow
def test_70000_objects_take_seconds(tmp_path):
    ids = np.zeros((85, 85, 85), np.uint32)
    ids[::2, ::2, ::2].flat[:70_000] = np.arange(1, 70_001)
    labels = LabelMap(
        (ids > 0).astype(np.uint8)[None] * 2, Geometry.from_spacing(ids.shape, (1, 1, 1)), TABLE, instances=ids[None]
    )
    begin = time.process_time()
    rows = rows_of(vx.write(labels, tmp_path / "a.objects.csv"))
    assert time.process_time() - begin < 60
    assert len(rows) == 70_002
