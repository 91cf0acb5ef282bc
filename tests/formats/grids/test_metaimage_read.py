"""MetaImage, against SimpleITK, and the ways its header can be."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from voxelry.core.geometry import flip_lps_ras
from voxelry.errors import CorruptFileError, MissingFileError, UnsupportedFormatError
from voxelry.formats.grids.grid_file import COMPONENTS, NO_ORIENTATION
from voxelry.formats.reader import read, read_all, read_labels

VALUES = np.arange(24, dtype="<i2").reshape(2, 3, 4, order="F")
PLAIN = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "10 20 30", "ElementSpacing": "1 2 3", "DimSize": "2 3 4",
    "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL",
}  # fmt: skip
LPS = np.array([[1, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])


def write(path, data=None, **fields):
    header = {key: value for key, value in (PLAIN | fields).items() if value is not None}
    last = header.pop("ElementDataFile", None)
    text = "".join(f"{key} = {value}\n" for key, value in header.items()) + (f"ElementDataFile = {last}\n" if last else "")
    path.write_bytes(text.encode() + (VALUES.tobytes(order="F") if data is None else data))
    return path


def test_a_plain_file(tmp_path):
    found = read(write(tmp_path / "a.mha"))
    np.testing.assert_array_equal(found.array[0], VALUES)
    np.testing.assert_allclose(found.geometry.affine, flip_lps_ras(LPS))
    assert found.source.kind == "metaimage"
    assert found.source.remarks == ()


def test_the_header_alone_gives_shape_and_grid(tmp_path):
    path = write(tmp_path / "a.mha")
    found = read(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert found.shape == (1, 2, 3, 4)
    with pytest.raises(CorruptFileError, match="promises 48 bytes"):
        _ = found.array


def test_rows_of_the_matrix_are_the_axes_as_simpleitk_has_it(tmp_path):
    path = write(tmp_path / "a.mha", TransformMatrix="0 1 0 -1 0 0.3 0 0 1")
    found, image = read(path), sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (1, 2, 3), (1, 0, 2)):
        world = flip_lps_ras(np.array(image.TransformIndexToPhysicalPoint(index)))
        np.testing.assert_allclose(found.geometry.world(index), world)
        assert found.array[0][index] == image[index]


def test_other_names_of_the_same(tmp_path):
    fields = {"TransformMatrix": None, "Rotation": "1 0 0 0 1 0 0 0 1", "Offset": None, "Position": "10 20 30"}
    found = read(write(tmp_path / "a.mha", ElementByteOrderMSB="True", data=VALUES.astype(">i2").tobytes(order="F"), **fields))
    np.testing.assert_array_equal(found.array[0], VALUES)
    np.testing.assert_allclose(found.geometry.affine, flip_lps_ras(LPS))
    bare = read(write(tmp_path / "a.mha", TransformMatrix=None))
    assert bare.source.remarks == (NO_ORIENTATION,)


def test_voxels_in_other_files(tmp_path):
    (tmp_path / "v.raw").write_bytes(b"junk" + VALUES.tobytes(order="F"))
    for size in ("4", "-1"):
        found = read(write(tmp_path / "a.mhd", b"", HeaderSize=size, ElementDataFile="v.raw"))
        np.testing.assert_array_equal(found.array[0], VALUES)
    (tmp_path / "v.zraw").write_bytes(zlib.compress(VALUES.tobytes(order="F")))
    found = read(write(tmp_path / "b.mhd", b"", CompressedData="True", ElementDataFile="v.zraw"))
    np.testing.assert_array_equal(found.array[0], VALUES)
    (tmp_path / "v.zraw").unlink()
    with pytest.raises(MissingFileError, match=r"b\.mhd \(voxels in v\.zraw\)"):
        read(tmp_path / "b.mhd")
    for name in ("/etc/passwd", "../v.raw"):
        with pytest.raises(CorruptFileError, match="outside of its own folder"):
            read(write(tmp_path / "c.mhd", b"", ElementDataFile=name))


def test_slices_in_files(tmp_path):
    names = [f"s{index + 1:02d}.raw" for index in range(4)]
    for index, name in enumerate(names):
        (tmp_path / name).write_bytes(VALUES[:, :, index].tobytes(order="F"))
    found = read(write(tmp_path / "a.mhd", ("\n".join(names) + "\n").encode(), ElementDataFile="LIST"))
    np.testing.assert_array_equal(found.array[0], VALUES)
    found = read(write(tmp_path / "b.mhd", b"", ElementDataFile="s%02d.raw 1 4 1"))
    np.testing.assert_array_equal(found.array[0], VALUES)
    for where, list_ in (("LIST 2D", names), ("LIST 2", names), ("LIST 3D", ["all.raw"]), ("s%02d.raw", ()), ("s%02d.raw 1", ())):
        (tmp_path / "all.raw").write_bytes(VALUES.tobytes(order="F"))
        path = write(tmp_path / "c.mhd", "".join(f"{name}\n" for name in list_).encode(), ElementDataFile=where)
        np.testing.assert_array_equal(read(path).array[0], VALUES)
        if where == "LIST 2D":
            np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, VALUES)
    (tmp_path / names[0]).unlink()
    with pytest.raises(MissingFileError, match=r"a\.mhd \(voxels in s01\.raw\)"):
        _ = read(tmp_path / "a.mhd").array


@pytest.mark.parametrize(
    "where",
    ["%n%n%n%n", "%s%s%s", "s%s.raw 1 4 1", "%99999999d 1 4 1", "%d%d 1 4 1", "%*d 1 4 1", "s%02d.raw 1 1000000000 1",
     "s%02d.raw 1 4 0", "s%02d.raw 1 3 1", "s%02d.raw x 4 1", "LIST", "LIST 1D", "s%02d.raw 4 1 1", "../s%02d.raw 1 4 1"],
)  # fmt: skip
def test_a_name_is_never_a_format_string(tmp_path, where):
    """`%n` ended the interpreter, `%d` without end read for ever."""
    for index in range(4):
        (tmp_path / f"s{index + 1:02d}.raw").write_bytes(VALUES[:, :, index].tobytes(order="F"))
    with pytest.raises(CorruptFileError, match=r"a\.mhd"):
        read(write(tmp_path / "a.mhd", b"", ElementDataFile=where))


@pytest.mark.parametrize("list_", [["../secret"], ["/etc/passwd"], ["link"], ["s01.raw", "../secret"], ["folder/secret"]])
def test_voxels_are_not_read_through_links_that_leave_the_folder(tmp_path, list_):
    (tmp_path / "secret").write_bytes(bytes(1000))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "s01.raw").write_bytes(bytes(1000))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    for path in (
        write(folder / "a.mhd", "\n".join(list_).encode(), ElementDataFile="LIST"),
        write(folder / "b.mhd", b"", ElementDataFile=list_[-1]),
    ):
        with pytest.raises(CorruptFileError, match="outside of its own folder"):
            read(path)


def test_links_that_users_make_are_followed(tmp_path):
    """Within the folder; both files linked from one place; a store of git-annex."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "v.raw").write_bytes(VALUES.tobytes(order="F"))
    write(data / "a.mhd", b"", ElementDataFile="v.raw")
    farm = tmp_path / "farm"
    farm.mkdir()
    for name in ("a.mhd", "v.raw"):
        (farm / name).symlink_to(data / name)
    np.testing.assert_array_equal(read(farm / "a.mhd").array[0], VALUES)
    (data / "w.raw").symlink_to("v.raw")
    np.testing.assert_array_equal(read(write(data / "b.mhd", b"", ElementDataFile="w.raw")).array[0], VALUES)
    annex = tmp_path / "repo"
    annex.mkdir()
    for number, name in enumerate(("a.mhd", "v.raw")):
        kept = annex / ".git" / "annex" / "objects" / str(number) / name
        kept.parent.mkdir(parents=True)
        kept.write_bytes((data / name).read_bytes())
        (annex / name).symlink_to(kept)
    np.testing.assert_array_equal(read(annex / "a.mhd").array[0], VALUES)


def test_text(tmp_path):
    words = " ".join(map(str, VALUES.ravel(order="F"))).encode()
    np.testing.assert_array_equal(read(write(tmp_path / "a.mha", words, BinaryData="False")).array[0], VALUES)


def test_components_and_times(tmp_path):
    vector = sitk.GetImageFromArray(np.arange(72, dtype=np.float32).reshape(4, 3, 2, 3), isVector=True)
    sitk.WriteImage(vector, str(tmp_path / "v.mha"))
    found = read(tmp_path / "v.mha")
    np.testing.assert_array_equal(found.array, np.arange(72).reshape(4, 3, 2, 3).T)
    assert COMPONENTS in found.source.remarks
    parts = [sitk.GetImageFromArray(VALUES.T + 100 * index) for index in range(3)]
    sitk.WriteImage(sitk.JoinSeries(parts), str(tmp_path / "t.mha"), True)
    for index, part in enumerate(read_all(tmp_path / "t.mha")):
        np.testing.assert_array_equal(part.array[0], VALUES + 100 * index)


def test_pictures(tmp_path):
    path = write(tmp_path / "a.mha", bytes(6), NDims="2", DimSize="3 2", ElementSpacing="0.5 0.25", TransformMatrix="1 0 0 1",
                 Offset="0 0", ElementType="MET_UCHAR")  # fmt: skip
    found = read(path)
    assert found.shape == (1, 2, 3)
    assert found.spacing == (0.25, 0.5)
    assert read_labels(path).array.shape == (2, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"DimSize": "2 3"}, "no image of 2 to 4 axes"),
        ({"DimSize": "2 x 4"}, "are no numbers"),
        ({"NDims": "4"}, "NDims 4"),
        ({"DimSize": "2 0 4"}, "no image"),
        ({"ElementNumberOfChannels": "-3"}, "0 components"),
        ({"ElementSpacing": None}, "never assumed"),
        ({"ElementSpacing": "1 2"}, "2 spacings"),
        ({"TransformMatrix": "1 0 0 1"}, "matrix of 4"),
        ({"ElementType": "MET_OTHER"}, "MET_OTHER"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "spans no volume"),
        ({"ElementDataFile": None}, "no 'key = value'|no ElementDataFile"),
        ({"DimSize": "2048 1024 1024"}, "promises 4294967296"),
        ({"CompressedData": "True"}, "damaged"),
        ({"Offset": "nan 0 0"}, "finite"),
    ],
)
def test_bad_headers(tmp_path, fields, message):
    with pytest.raises((CorruptFileError, UnsupportedFormatError), match=message):
        _ = read(write(tmp_path / "a.mha", **fields)).array


KEYS = [key for key in PLAIN if key != "ElementDataFile"]
NEED_NDIMS = ("TransformMatrix", "Offset", "ElementSpacing", "DimSize")
"""Keys that MetaIO refuses before NDims."""


@pytest.mark.parametrize("first", [*KEYS, "Name", "ID", "Modality", "CenterOfRotation", "Of somebody"])
@pytest.mark.parametrize("form", ["{} = {}\n", "{}={}\r\n", "\t{}:  {}\n"])
def test_any_key_may_come_first(tmp_path, first, form):
    fields = {first: PLAIN.get(first, "0 0 0")} | PLAIN
    path = tmp_path / "a.mha"
    path.write_bytes("".join(form.format(*field) for field in fields.items()).encode() + VALUES.tobytes(order="F"))
    found = read(path)
    np.testing.assert_array_equal(found.array[0], VALUES)
    np.testing.assert_allclose(found.geometry.affine, flip_lps_ras(LPS))
    if first not in (*NEED_NDIMS, "CenterOfRotation"):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, VALUES)


@pytest.mark.parametrize("start", ["\n", "# by hand\n", "\ufeff", "  \n"])
def test_what_may_come_before_the_first_key(tmp_path, start):
    path = write(tmp_path / "a.mha")
    path.write_bytes(start.encode() + path.read_bytes())
    np.testing.assert_array_equal(read(path).array[0], VALUES)


@pytest.mark.parametrize("text", ["name = x\nvalue = 3\n", "title\nNDims = 3\n", "[NDims]\nNDims = 3\n", "NDims\n", ""])
def test_other_text_is_no_metaimage(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_text(text + "x" * 20)
    with pytest.raises(UnsupportedFormatError):
        read(path)


def test_letters_of_an_orientation_without_a_matrix_are_remarked_on(tmp_path):
    path = write(tmp_path / "a.mha", TransformMatrix=None, AnatomicalOrientation="RAS")
    assert read(path).source.remarks == (NO_ORIENTATION, "AnatomicalOrientation RAS not used")
    assert read(write(path, TransformMatrix=None, AnatomicalOrientation="RAI")).source.remarks == (NO_ORIENTATION,)


@pytest.mark.parametrize(("offset", "said"), [("0 0", ()), ("3 0", ("Offset not used: a picture has no position",)), (None, ())])
def test_a_picture_says_that_it_drops_a_position(tmp_path, offset, said):
    path = write(tmp_path / "a.mha", NDims="2", DimSize="6 4", ElementSpacing="2 3", Offset=offset, TransformMatrix="1 0 0 1")
    assert read(path).source.remarks == said
    assert read(path).geometry.spacing == (3, 2)


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (("Origin", "Offset", "Position"), ("1 2 3", "4 5 6", "7 8 9")),
        (("TransformMatrix", "Rotation", "Orientation"), ("0 1 0 -1 0 0 0 0 1", "1 0 0 0 -1 0 0 0 -1", "-1 0 0 0 -1 0 0 0 1")),
    ],
)
@pytest.mark.parametrize("chosen", [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1), (2, 1, 0)])
def test_names_of_one_thing_that_contradict_each_other(tmp_path, keys, values, chosen):
    first = min(chosen)
    path = write(tmp_path / "a.mha", **(dict.fromkeys(keys) | {keys[k]: values[k] for k in chosen}))
    volume = read(path)
    itk = sitk.ReadImage(str(path))
    corner = flip_lps_ras(np.array(itk.TransformIndexToPhysicalPoint((1, 2, 3))))
    np.testing.assert_allclose(volume.geometry.world(np.array([1, 2, 3])), corner)
    said = [f"{keys[k]} contradicts {keys[first]}, which counts" for k in sorted(chosen) if k != first]
    assert list(volume.source.remarks) == said
    same = write(path, **(dict.fromkeys(keys) | {keys[k]: values[first] for k in chosen}))
    assert read(same).source.remarks == ()


def test_a_key_of_two_values(tmp_path):
    path = write(tmp_path / "a.mha")
    path.write_bytes(b"ElementSpacing = 9 9 9\n" + path.read_bytes())
    volume = read(path)
    assert volume.source.remarks == ("ElementSpacing is there twice, with different values: the last counts",)
    np.testing.assert_allclose(volume.spacing, sitk.ReadImage(str(write(tmp_path / "b.mha"))).GetSpacing())
