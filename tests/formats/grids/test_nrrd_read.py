"""NRRD, against SimpleITK and pynrrd, and the ways its header can be."""

from __future__ import annotations

import gzip

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from voxelry.core.geometry import flip_lps_ras
from voxelry.errors import CorruptFileError, MissingFileError, UnsupportedFormatError, UsageError
from voxelry.formats.grids.grid_file import COMPONENTS, NO_ORIENTATION
from voxelry.formats.reader import read, read_all, read_labels

VALUES = np.arange(24, dtype="<i2").reshape(2, 3, 4, order="F")
PLAIN = {
    "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "2 3 4",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)", "kinds": "domain domain domain", "endian": "little", "encoding": "raw",
    "space origin": "(10,20,30)",
}  # fmt: skip
LPS = np.array([[1, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])


def write(path, content=None, *, data=None, **fields):
    """A header of `PLAIN` with fields replaced, None removed; underscores stand for spaces."""
    header = PLAIN | {name.replace("_", " "): value for name, value in fields.items()}
    text = "NRRD0005\n# a comment\n" + "".join(f"{name}: {value}\n" for name, value in header.items() if value is not None)
    path.write_bytes(text.encode() + b"\n" + (VALUES.tobytes(order="F") if data is None else data))
    return path


def test_a_plain_file(tmp_path):
    found = read(write(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(found.array[0], VALUES)
    np.testing.assert_allclose(found.geometry.affine, flip_lps_ras(LPS))
    assert found.array.dtype == np.int16
    assert found.source.kind == "nrrd"
    assert found.source.remarks == ()


def test_the_header_alone_gives_shape_and_grid(tmp_path):
    path = write(tmp_path / "a.nrrd")
    found = read(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert found.shape == (1, 2, 3, 4)
    with pytest.raises(CorruptFileError, match=r"a\.nrrd: the header promises 48 bytes"):
        _ = found.array


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("LAS", (-1, 1, 1)),
        ("left-posterior-superior-time", (-1, -1, 1)),
    ],
)
def test_spaces(tmp_path, space, signs):
    found = read(write(tmp_path / "a.nrrd", space=space))
    np.testing.assert_allclose(found.geometry.affine, np.diag([*signs, 1]) @ LPS)


def test_a_space_without_anatomy_is_remarked(tmp_path):
    found = read(write(tmp_path / "a.nrrd", space=None, space_dimension="3"))
    np.testing.assert_allclose(found.geometry.affine, flip_lps_ras(LPS))
    assert NO_ORIENTATION in found.source.remarks
    alone = read(write(tmp_path / "a.nrrd", space=None, space_directions=None, space_origin=None, spacings="1 2 3"))
    assert alone.spacing == (1, 2, 3)
    assert NO_ORIENTATION in alone.source.remarks
    with pytest.raises(CorruptFileError, match=r"a\.nrrd: neither.*1 mm is never assumed"):
        read(write(tmp_path / "a.nrrd", space=None, space_directions=None, space_origin=None))


def test_units(tmp_path):
    found = read(write(tmp_path / "a.nrrd", space_units='"um" "um" "um"'))
    np.testing.assert_allclose(found.spacing, (0.001, 0.002, 0.003))
    assert "spatial units um converted to mm" in found.source.remarks


@pytest.mark.parametrize("name", ["v.raw", "v.raw.gz", "v.txt"])
def test_voxels_beside_the_header(tmp_path, name):
    encoding, content = {
        "v.raw": ("raw", b"line\n" + b"junk" + VALUES.astype(">i2").tobytes(order="F")),
        "v.raw.gz": ("gz", b"line\n" + gzip.compress(b"junk" + VALUES.astype(">i2").tobytes(order="F"))),
        "v.txt": ("ascii", b"line\njunk" + " ".join(map(str, VALUES.ravel(order="F"))).encode()),
    }[name]
    (tmp_path / name).write_bytes(content)
    fields = {"encoding": encoding, "line_skip": "1", "byte_skip": "4", "data_file": name}
    found = read(write(tmp_path / "a.nhdr", endian="big", data=b"", **fields))
    np.testing.assert_array_equal(found.array[0], VALUES)
    assert [file.rpartition("/")[2] for file in found.source.files] == ["a.nhdr", name]
    (tmp_path / name).unlink()
    with pytest.raises(MissingFileError, match=rf"a\.nhdr \(voxels in {name}\)"):
        read(tmp_path / "a.nhdr")


def test_voxels_at_the_end_of_a_file_and_slices_in_files(tmp_path):
    (tmp_path / "v.raw").write_bytes(b"a header of unknown length" + VALUES.tobytes(order="F"))
    np.testing.assert_array_equal(read(write(tmp_path / "a.nhdr", data=b"", byte_skip="-1", data_file="v.raw")).array[0], VALUES)
    for index in range(4):
        (tmp_path / f"s{index + 1:02d}.raw").write_bytes(VALUES[:, :, index].tobytes(order="F"))
    np.testing.assert_array_equal(read(write(tmp_path / "b.nhdr", data=b"", data_file="s%02d.raw 1 4 1")).array[0], VALUES)
    listed = write(tmp_path / "c.nhdr", data=b"")
    listed.write_bytes(listed.read_bytes().rstrip(b"\n") + b"\ndata file: LIST\ns01.raw\ns02.raw\ns03.raw\ns04.raw\n")
    np.testing.assert_array_equal(read(listed).array[0], VALUES)


@pytest.mark.parametrize("name", ["/etc/passwd", "../v.raw", "%999999999d.raw 1 4 1", "%s%s 1 2 1"])
def test_voxels_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(CorruptFileError, match=r"a\.nhdr"):
        read(write(tmp_path / "a.nhdr", data=b"", data_file=name))


def test_colours_first_and_times_last(tmp_path):
    values = np.arange(72, dtype="<i2").reshape(3, 2, 3, 4, order="F")
    colours = {
        "dimension": "4",
        "sizes": "3 2 3 4",
        "space_directions": "none (1,0,0) (0,2,0) (0,0,3)",
        "data": values.tobytes(order="F"),
    }
    found = read(write(tmp_path / "a.nrrd", kinds="RGB-color domain domain domain", **colours))
    np.testing.assert_array_equal(found.array, values)
    assert COMPONENTS in found.source.remarks
    with pytest.raises(UsageError, match="components of one quantity"):
        read_all(tmp_path / "a.nrrd")
    times = {
        "dimension": "4",
        "sizes": "2 3 4 3",
        "space_directions": "(1,0,0) (0,2,0) (0,0,3) none",
        "data": values.tobytes(order="F"),
    }
    path = write(tmp_path / "b.nrrd", kinds="domain domain domain time", **times)
    found = read(path)
    np.testing.assert_array_equal(found.array, np.moveaxis(values.reshape(2, 3, 4, 3, order="F"), -1, 0))
    parts = read_all(path)
    assert [part.shape for part in parts] == [(1, 2, 3, 4)] * 3
    np.testing.assert_array_equal(parts[1].array[0], found.array[1])
    assert parts[1].source.remarks[-1] == "time point 2 of 3"


def test_pictures(tmp_path):
    image = sitk.GetImageFromArray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    image.SetSpacing((0.5, 0.25))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    found = read(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(found.array, [[[0, 1, 2], [3, 4, 5]]])
    assert found.geometry.affine is None
    assert found.spacing == (0.25, 0.5)
    nrrd.write(str(tmp_path / "b.nrrd"), np.arange(6, dtype=np.uint8).reshape(3, 2))
    assert read(tmp_path / "b.nrrd").spacing is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": "2 3"}, "sizes: 2 3"),
        ({"sizes": "2 0 4"}, "sizes: 2 0 4"),
        ({"dimension": "x"}, "dimension: x"),
        ({"dimension": None}, "lacks the field 'dimension'"),
        ({"space directions": "(1,0,0) (2,0,0) (0,0,3)"}, "spans no volume"),
        ({"space directions": "(1,0) (0,1) (1,1)"}, "space directions"),
        ({"endian": None}, "lacks the field 'endian'"),
        ({"encoding": "bzip2"}, "encoding 'bzip2'"),
        ({"type": "block"}, "type 'block'"),
        ({"space origin": "(inf,1,2)"}, "finite"),
        ({"sizes": "2048 1024 1024"}, "promises 4294967296 bytes"),
        ({"kinds": "domain domain"}, "kinds: domain domain"),
    ],
)
def test_bad_headers(tmp_path, fields, message):
    with pytest.raises((CorruptFileError, UnsupportedFormatError), match=message):
        read(write(tmp_path / "a.nrrd", **fields))


def test_broken_streams(tmp_path):
    whole = write(tmp_path / "a.nrrd", encoding="gzip", data=gzip.compress(VALUES.tobytes(order="F"))).read_bytes()
    for cut in (20, 8, 3):
        (tmp_path / "a.nrrd").write_bytes(whole[:-cut])
        with pytest.raises(CorruptFileError, match=r"a\.nrrd"):
            _ = read(tmp_path / "a.nrrd").array
    (tmp_path / "a.nrrd").write_bytes(whole[:100])
    with pytest.raises(CorruptFileError, match=r"no end|no NRRD field"):
        read(tmp_path / "a.nrrd")
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\nnothing here\n\n")
    with pytest.raises(CorruptFileError, match="'nothing here' is no NRRD field"):
        read(tmp_path / "a.nrrd")
    with pytest.raises(CorruptFileError, match="no plain numbers"):
        _ = read(write(tmp_path / "a.nrrd", encoding="ascii", data=b"1 2 x " * 24)).array


@pytest.mark.realdata
def test_real_files_as_simpleitk_reads_them(realdata):
    seen = 0
    for path in [*realdata.glob("lesion_pyradiomics/*.nrrd"), *realdata.rglob("dcmqi_seg/**/*.nrrd")]:
        found, image = read(path), sitk.ReadImage(str(path))
        np.testing.assert_array_equal(found.array[0].T, sitk.GetArrayFromImage(image))
        corner = np.array(image.GetSize()) - 1
        world = flip_lps_ras(np.array(image.TransformIndexToPhysicalPoint(corner.tolist())))
        np.testing.assert_allclose(found.geometry.world(corner), world, atol=1e-3)
        if "label" in path.name or "seg" in path.name:
            assert read_labels(path).array.max() >= 1
        seen += 1
    assert seen >= 10


@pytest.mark.parametrize(
    ("first", "second"), [("sizes: 2 3 4", "Sizes: 4 3 2"), ("centers: cell cell cell", "centerings: node node node")]
)
def test_a_field_of_two_values(tmp_path, first, second):
    """Teem refuses any field that is there twice; the same value twice does no harm."""
    path = write(tmp_path / "a.nrrd")
    whole = path.read_bytes().replace(b"sizes: 2 3 4\n", b"" if first.startswith("sizes") else b"sizes: 2 3 4\n")
    path.write_bytes(whole.replace(b"# a comment", f"{first}\n{second}".encode()))
    with pytest.raises(CorruptFileError, match="twice"):
        read(path)
    path.write_bytes(whole.replace(b"# a comment", f"{first}\n{first}".encode()))
    np.testing.assert_array_equal(read(path).array[0], VALUES)
