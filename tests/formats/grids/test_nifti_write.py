import gzip
import json
import logging

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from formats.grids.test_nrrd_write import by_itk
from helpers.sources import SOURCES, TILTED, flat_labels, volume
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError
from voxelry.formats.grids.nifti_write import write_nifti, write_nifti_image

SHAPE = (4, 5, 3)
TABLE = LabelTable(labels=(Label(value=1, name="liver"), Label(value=3, name="Wirbelkörper")))


def values(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).choice(np.array([0, 1, 3], np.uint8), shape)


def grid(matrix, spacing, origin):
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(matrix) @ np.diag(spacing)
    affine[:3, 3] = origin
    return Geometry(SHAPE, affine)


@st.composite
def signed_permutations(draw):
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    matrix = np.zeros((3, 3))
    matrix[range(3), order] = signs
    spacing = draw(st.tuples(*[st.floats(0.2, 6)] * 3))
    return grid(matrix, spacing, draw(st.tuples(*[st.floats(-500, 500)] * 3)))


def itk_geometry(image):
    matrix = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, image.GetOrigin()
    return Geometry(image.GetSize(), flip_lps_ras(affine))


def check_both_readers(path, geometry, array):
    by_nibabel = nib.load(path)
    np.testing.assert_array_equal(np.asanyarray(by_nibabel.dataobj), array)
    assert geometry.distance(Geometry(SHAPE, by_nibabel.header.get_sform())) < 1e-3
    by_itk = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(by_itk).T, array)
    assert geometry.same_grid(itk_geometry(by_itk))
    return by_nibabel


@settings(max_examples=40, deadline=None)
@given(signed_permutations())
def test_any_axis_aligned_grid_is_read_back_by_others(tmp_path_factory, geometry):
    path = tmp_path_factory.mktemp("nii") / "x.nii.gz"
    write_nifti(LabelMap.of(values(), geometry, TABLE), path)
    header = check_both_readers(path, geometry, values()).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert geometry.same_grid(Geometry(SHAPE, header.get_qform()))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_oblique_anisotropic_grids(tmp_path, seed, ending):
    rotation = Rotation.random(random_state=seed).as_matrix() @ np.diag([1, 1, -1.0 if seed % 2 else 1.0])
    geometry = grid(rotation, (0.7, 0.9, 5), (-120.5, 80.25, -900))
    path = write_nifti(LabelMap.of(values(), geometry, TABLE), tmp_path / f"x{ending}")
    header = check_both_readers(path, geometry, values()).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_intent()[0] == "label"


@pytest.mark.parametrize("angle", [np.pi, np.pi - 1e-4])
def test_half_turns_keep_an_exact_sform(tmp_path, angle):
    geometry = grid(Rotation.from_rotvec(angle * np.array([0.6, 0.8, 0.0])).as_matrix(), (1, 1, 2), (-200, 100, 50))
    path = write_nifti(LabelMap.of(values(), geometry, TABLE), tmp_path / "x.nii.gz")
    check_both_readers(path, geometry, values())


def test_a_sheared_grid_has_an_sform_only_and_a_warning(tmp_path, caplog):
    matrix = np.eye(3)
    matrix[1, 2] = np.tan(np.radians(15))
    geometry = grid(matrix, (1, 1, 4), (0, 0, 0))
    with caplog.at_level(logging.WARNING):
        path = write_nifti(LabelMap.of(values(), geometry, TABLE), tmp_path / "x.nii.gz")
    assert "sheared" in caplog.text
    header = nib.load(path).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(header.get_sform(), geometry.affine, atol=1e-5)


def test_a_plain_grid_warns_of_nothing(tmp_path, caplog):
    write_nifti(LabelMap.of(values(), Geometry.from_spacing(SHAPE, (1, 1, 1)), TABLE), tmp_path / "x.nii.gz")
    assert not caplog.records


def test_the_names_are_inside(tmp_path):
    code = Code(value="10200004", meaning="Liver")
    table = LabelTable(labels=(Label(value=1, name="liver", type=code, color=(1, 2, 3)), TABLE.labels[1]), ignore=9)
    path = write_nifti(LabelMap.of(values(), Geometry.from_spacing(SHAPE, (1, 1, 1)), table), tmp_path / "x.nii.gz")
    (extension,) = nib.load(path).header.extensions
    assert extension.get_code() == 6
    text = extension.get_content()
    content = json.loads((text if isinstance(text, str) else text.decode()).rstrip("\0"))
    assert content["id2label"] == {"0": "background", "1": "liver", "3": "Wirbelkörper"}
    assert LabelTable.model_validate(content["label_table"]) == table


def test_types_follow_the_values(tmp_path):
    geometry = Geometry.from_spacing(SHAPE, (1, 1, 1))
    big = LabelTable(labels=(Label(value=1000, name="big"),))
    for array, table, kind in (
        (values().astype(np.int64), TABLE, np.uint8),
        (values().astype(np.uint8) * 0, big, np.uint16),
        (values().astype(np.uint32) * 1000, big, np.uint16),
    ):
        path = write_nifti(LabelMap.of(array, geometry, table), tmp_path / "x.nii")
        stored = nib.load(path)
        assert stored.get_data_dtype() == kind
        np.testing.assert_array_equal(np.asanyarray(stored.dataobj), array)


def test_equal_maps_give_equal_bytes(tmp_path):
    labels = LabelMap.of(values(), Geometry.from_spacing(SHAPE, (1, 1, 1)), TABLE)
    one, other = (write_nifti(labels, tmp_path / name).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert one == other
    assert gzip.decompress(one) == write_nifti(labels, tmp_path / "c.nii").read_bytes()


@pytest.mark.parametrize(("kind", "stored"), [(np.int16, np.int16), (np.float32, np.float32), (np.float64, np.float32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images(tmp_path, kind, stored, channels):
    array = (np.random.default_rng(1).normal(size=(channels, *SHAPE)) * 100).astype(kind)
    geometry = grid(np.diag([-1, 1, 1]), (1, 2, 3), (5, 6, 7))
    image = nib.load(write_nifti_image(Volume(array, geometry, channels), tmp_path / "x.nii.gz"))
    assert image.get_data_dtype() == stored
    expected = array.astype(stored)
    read = np.asanyarray(image.dataobj)
    np.testing.assert_array_equal(read, expected[0] if channels == 1 else np.moveaxis(expected, 0, -1))
    np.testing.assert_allclose(image.affine, geometry.affine, atol=1e-5)


def test_refusals_leave_nothing_behind(tmp_path):
    plain = Geometry.from_spacing(SHAPE, (1, 1, 1))
    with pytest.raises(ExportError, match="2 layers"):
        write_nifti(LabelMap(np.zeros((2, *SHAPE), np.uint8), plain, TABLE), tmp_path / "x.nii.gz")
    with pytest.raises(ExportError, match=r"-1\.\.3"):
        write_nifti(LabelMap.of(values().astype(np.int16) - (values() == 0), plain, TABLE), tmp_path / "x.nii.gz")
    with pytest.raises(ExportError, match=r"\.nii"):
        write_nifti(LabelMap.of(values(), plain, TABLE), tmp_path / "x.mha")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [*SOURCES, TILTED])
def test_every_kind_of_scan_is_read_back_by_others(tmp_path, kind):
    made = flat_labels(volume(kind, tmp_path).geometry)
    path = write_nifti(made, tmp_path / "x.nii.gz")
    image = nib.load(path)
    assert Geometry(image.shape, image.affine).same_grid(made.geometry)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), made.array)
    if kind != TILTED:
        found, geometry = by_itk(path)
        assert geometry.same_grid(made.geometry)
        np.testing.assert_array_equal(found, made.array)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 2, 1)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_large_maps_are_the_same_file_whatever_their_memory_order(tmp_path, axes, kind):
    array = (np.random.default_rng(1).integers(0, 3, (70, 66, 65)) * (1 if kind is np.uint8 else 200)).astype(kind)
    stored = np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))
    geometry = Geometry.from_spacing(array.shape, (1.0, 2.0, 3.0))
    table = LabelTable.numbered(np.unique(array))
    files = [tmp_path / "fortran.nii.gz", tmp_path / "other.nii.gz"]
    for values, file in zip((np.asfortranarray(array), stored), files, strict=True):
        write_nifti(LabelMap.of(values, geometry, table), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert np.array_equal(np.asarray(nib.load(files[1]).dataobj), array)
