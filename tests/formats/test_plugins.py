"""Formats of other packages, by entry points; the examples of the how-to guides are such packages."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import voxelry as vx
from voxelry.cohort.folder_search import case_id
from voxelry.cohort.inputs import find_scans
from voxelry.errors import ReadError, UsageError
from voxelry.formats import table

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
RASTER = 'RASTER\n{"shape": [2, 3, 2], "spacing": [1, 1, 2.5]}\n0 0 1 1 0 0 0 0 2 2 0 0\n'
GRID = vx.Geometry.from_spacing((3, 3, 3), (1, 1, 2))
MASK = vx.LabelMap.of(np.eye(3, dtype=np.uint8)[:, :, None] * np.ones(3, np.uint8), GRID, vx.LabelTable.numbered([1]))
ROW = 'from voxelry.formats import Format\nFORMAT = Format(name="x", title="X", noun="an X", kind="both", endings=(".x",), {})\n'


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that puts a distribution with one module and one entry point on the path."""
    caches = (table.all_formats, table._by_ending)

    def put(name, text, point="FORMAT"):
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[voxelry.formats]\n{name}_row = {name}:{point}\n")
        monkeypatch.syspath_prepend(site)
        sys.modules.pop(name, None)
        for cache in caches:
            cache.cache_clear()

    yield put
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


def example(guide):
    """The last Python example of a guide: the module of a package."""
    return re.findall(r"```python\n(.*?)```", (GUIDES / guide).read_text(encoding="utf-8"), re.DOTALL)[-1]


def test_the_reader_of_the_guide(install, tmp_path):
    install("voxelry_raster", example("add-a-reader.md"))
    scan = tmp_path / "scans" / "case 1.rst"
    scan.parent.mkdir()
    scan.write_text(RASTER)
    volume = vx.read(scan)
    assert (volume.shape, volume.geometry.spacing, volume.source.kind) == ((1, 2, 3, 2), (1.0, 1.0, 2.5), "raster")
    labels = vx.read_labels(scan)
    assert labels.table.names == ("label_1", "label_2")
    assert np.count_nonzero(labels.array == 2) == 2
    assert np.count_nonzero(vx.read_labels(scan, threshold=2).array) == 2
    (row,) = vx.inspect(scan.parent)
    assert (row.format, row.readable, row.shape) == ("raster", True, (1, 2, 3, 2))
    assert case_id(scan) == "case 1"
    assert [found.id for found in find_scans([scan.parent])] == ["case 1"]
    assert vx.evaluate(scan.parent, scan.parent).mean_dice == 1.0
    assert vx.read_labels(vx.convert(scan, tmp_path / "out.nii.gz").path).table.names == ("label_1", "label_2")


def test_the_writer_of_the_guide(install, tmp_path):
    install("voxelry_points", example("add-an-export-format.md"))
    grid = vx.Geometry.from_spacing((3, 3, 3), (1, 1, 2))
    array = np.zeros(grid.shape, np.uint8)
    array[1, 2, 1] = 1
    mask = vx.write(vx.LabelMap.of(array, grid, vx.LabelTable.numbered([1])), tmp_path / "mask.nii.gz")
    done = vx.convert(mask, tmp_path / "mask.points.csv", options={"digits": 1})
    assert done.path.read_text() == "1.0,2.0,2.0\n"
    assert "a list of points does not hold names, codes and colours" in done.remarks


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_that_name", r"format 'bad_row' of the plugin 'bad' cannot be loaded \(ModuleNotFoundError"),
        ("1 / 0", r"'bad' cannot be loaded \(ZeroDivisionError"),
        ("FORMAT = 5", r"'bad_row' of the plugin 'bad' names bad:FORMAT, which is int and no voxelry\.formats\.Format"),
        (ROW.format("").replace('"x"', '"nifti"'), r"'nifti' of the plugin 'bad' takes the name 'nifti', which .*of voxelry has"),
        (ROW.format("").replace('".x"', '".mha"'), r"'x' of the plugin 'bad' takes the ending '\.mha', which format 'metaimage'"),
        (ROW.format('within="y"'), r"'x' of the plugin 'bad' lies within 'y', which is no format"),
    ],
)
def test_a_plugin_that_does_not_fit_is_named(install, tmp_path, text, words):
    install("bad", text)
    with pytest.raises(UsageError, match=words) as raised:
        vx.read_labels(vx.write(MASK, tmp_path / "a.nii.gz"))
    assert raised.value.remedy == "Update or uninstall the plugin."


def test_two_plugins_of_one_ending(install):
    install("first", ROW.format(""))
    install("second", ROW.format("").replace('name="x"', 'name="y"'))
    with pytest.raises(
        UsageError, match=r"format 'y' of the plugin 'second' takes the ending '\.x', .* 'x' of the plugin 'first'"
    ):
        table.all_formats()


def test_a_function_of_a_plugin_that_fails_is_named(install, tmp_path):
    functions = "def known(head):\n    return head.startswith(b'X')\ndef broken(path, options):\n    return 1 / 0\n"
    install("bad", ROW.format('recognise="bad:known", read_image="bad:broken", read_labels="bad:missing"') + functions)
    (tmp_path / "a.x").write_bytes(b"X" * 600)
    with pytest.raises(ReadError, match=r"a\.x: bad:broken of the plugin 'bad' failed \(ZeroDivisionError: division by zero\)"):
        vx.read(tmp_path / "a.x")
    with pytest.raises(UsageError, match=r"'x' of the plugin 'bad' names the function bad:missing, which cannot be imported"):
        vx.read_labels(tmp_path / "a.x")
