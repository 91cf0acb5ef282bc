"""NIfTI: against nibabel and SimpleITK, and every way in which a file is bad."""

from __future__ import annotations

import gzip
import struct
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.errors import CorruptFileError, LabelError, NonFiniteError, ReadError, UnsupportedFormatError, VoxelryError
from voxelry.formats.grids.nifti_read import open_nifti

OBLIQUE = np.array([[0.6, -0.8, 0, 10], [0.8, 0.6, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1.0]]) @ np.diag([1.5, 0.5, 3, 1])


def read_nifti(path):
    return open_nifti(path).volume()


def save(tmp_path, array, affine=OBLIQUE, *, name="scan.nii.gz", kind=nibabel.Nifti1Image, **fields):
    image = kind(array, affine)
    image.header.set_xyzt_units("mm")
    for key, value in fields.items():
        image.header[key] = value
    file = tmp_path / name
    image.to_filename(file)
    return file


def patch(file, offset, code, value):
    """Overwrite a header field of an uncompressed file."""
    raw = bytearray(file.read_bytes())
    struct.pack_into(code, raw, offset, value)
    file.write_bytes(raw)
    return file


@pytest.fixture
def ramp3():
    return (np.arange(3 * 4 * 5) - 7).reshape(3, 4, 5)


class TestAgainstOtherReaders:
    @pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2", ">f4"])
    def test_values_and_grid(self, tmp_path, ramp3, kind, name, dtype):
        file = save(tmp_path, np.abs(ramp3).astype(dtype), kind=kind, name=name)
        volume = read_nifti(file)
        reference = nibabel.load(file)
        np.testing.assert_array_equal(volume.array[0], reference.get_fdata())
        np.testing.assert_allclose(volume.geometry.affine, reference.affine, atol=1e-6)
        assert volume.array.dtype == (np.float32 if np.dtype(dtype).kind == "f" else np.int16)
        assert volume.array.dtype.isnative

    def test_simpleitk(self, tmp_path, ramp3):
        file = save(tmp_path, ramp3.astype(np.int16))
        image = sitk.ReadImage(str(file))
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        volume = read_nifti(file)
        assert volume.geometry.distance(Geometry(image.GetSize(), flip_lps_ras(affine))) < 1e-3
        np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image).transpose(2, 1, 0))

    @pytest.mark.parametrize(("slope", "intercept", "dtype"), [(2, -1000, np.int16), (0.5, 0, np.float32), (2000, 0, np.float32)])
    def test_scaling(self, tmp_path, ramp3, slope, intercept, dtype):
        file = save(tmp_path, ramp3.astype(np.int16), name="s.nii")
        patch(file, 112, "<f", slope)
        patch(file, 116, "<f", intercept)
        array = read_nifti(file).array
        assert array.dtype == dtype
        np.testing.assert_allclose(array[0], nibabel.load(file).get_fdata(), rtol=1e-6)


class TestAxes:
    def test_fourth_axis_becomes_channels(self, tmp_path):
        array = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
        volume = read_nifti(save(tmp_path, array))
        assert volume.shape == (5, 2, 3, 4)
        np.testing.assert_array_equal(volume.array, np.moveaxis(array, -1, 0))

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [((2, 3, 4, 1), (1, 2, 3, 4)), ((2, 3, 4, 1, 5), (5, 2, 3, 4)), ((2, 3, 1), (1, 2, 3, 1)), ((2, 3), (1, 2, 3, 1))],
    )
    def test_axes_of_length_one(self, tmp_path, shape, expected):
        array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
        volume = read_nifti(save(tmp_path, array))
        assert volume.shape == expected
        np.testing.assert_array_equal(
            volume.array.squeeze(), np.moveaxis(array, -1, 0).squeeze() if len(shape) == 5 else array.squeeze()
        )

    @pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (7,)])
    def test_other_shapes_are_refused(self, tmp_path, shape):
        with pytest.raises(UnsupportedFormatError, match="has shape"):
            read_nifti(save(tmp_path, np.zeros(shape, np.int16)))

    def test_header_first(self, tmp_path, ramp3):
        file = save(tmp_path, ramp3.astype(np.int16))
        volume = read_nifti(file)
        file.unlink()
        assert volume.shape == (1, 3, 4, 5)


class TestAffinePolicy:
    def image(self, tmp_path, ramp3, sform, qform):
        image = nibabel.Nifti1Image(ramp3.astype(np.int16), None)
        image.header.set_zooms((1.5, 0.5, 3))
        image.set_sform(OBLIQUE if sform else None, code=int(sform))
        image.set_qform(np.diag([1.5, 0.5, 3, 1]) if qform else None, code=int(qform))
        image.header["pixdim"][1:4] = (1.5, 0.5, 3)
        image.header.set_xyzt_units("mm")
        file = tmp_path / "p.nii"
        file.write_bytes(image.to_bytes())
        return file

    def test_sform_wins_and_says_so(self, tmp_path, ramp3):
        volume = read_nifti(self.image(tmp_path, ramp3, True, True))
        np.testing.assert_allclose(volume.geometry.affine, OBLIQUE, atol=1e-6)
        assert volume.source.remarks[0] == "sform used"
        assert any("qform places voxels up to" in remark for remark in volume.source.remarks)

    def test_qform_where_there_is_no_sform(self, tmp_path, ramp3):
        volume = read_nifti(self.image(tmp_path, ramp3, False, True))
        np.testing.assert_allclose(volume.geometry.affine, np.diag([1.5, 0.5, 3, 1]), atol=1e-6)
        assert volume.source.remarks == ("qform used",)

    def test_neither(self, tmp_path, ramp3):
        file = self.image(tmp_path, ramp3, False, False)
        volume = read_nifti(file)
        assert volume.spacing == (1.5, 0.5, 3.0)
        np.testing.assert_allclose(volume.geometry.affine, nibabel.load(file).affine)
        assert any("no orientation stored" in remark for remark in volume.source.remarks)

    def test_equal_forms_are_not_remarked(self, tmp_path, ramp3):
        file = save(tmp_path, ramp3.astype(np.int16), name="e.nii", qform_code=1, sform_code=1)
        assert read_nifti(file).source.remarks == ("sform used",)

    @pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("micron", 0.001), ("unknown", 1.0)])
    def test_units(self, tmp_path, ramp3, unit, factor):
        image = nibabel.Nifti1Image(ramp3.astype(np.int16), OBLIQUE)
        image.header.set_xyzt_units(unit)
        file = tmp_path / "u.nii"
        image.to_filename(file)
        volume = read_nifti(file)
        np.testing.assert_allclose(volume.geometry.affine[:3], OBLIQUE[:3] * factor, rtol=1e-6)
        assert any("converted to mm" in remark for remark in volume.source.remarks) == (factor != 1)

    @given(
        st.tuples(*[st.floats(-0.5625, 0.5625, width=32)] * 3)
        | st.sampled_from([(1, 0, 0), (0, 0, 1), (0.6, 0.8, 0), (0.7, 0.7, 0.7)]),
        st.sampled_from([0, 1, -1, -2, 7, np.nan]),
        st.tuples(*[st.floats(0.25, 4, width=32)] * 3),
        st.tuples(*[st.sampled_from([1, 1, 1, -1])] * 3),
    )
    @settings(max_examples=60)
    def test_the_qform_is_as_the_standard_says(self, quaternion, first, sizes, signs):
        """As ITK has it, which uses the standard's own code; negative sizes as nibabel."""
        image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
        header = image.header
        header["qform_code"], header["sform_code"], header["xyzt_units"], header["dim"][:4] = 1, 0, 2, (3, 4, 5, 6)
        header["vox_offset"] = header.single_vox_offset
        header["magic"] = header.single_magic
        header["scl_slope"], header["scl_inter"] = 1, 0
        header["quatern_b"], header["quatern_c"], header["quatern_d"] = quaternion
        header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = 7, 8, 9
        header["pixdim"][:4] = first, *sizes
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "q.nii"
            path.write_bytes(header.binaryblock + bytes(4 + 240))
            itk = sitk.ReadImage(str(path))
            header["pixdim"][1:4] = np.multiply(sizes, signs)
            path.write_bytes(header.binaryblock + bytes(4 + 240))
            found = read_nifti(path)
        lps = np.eye(4)
        lps[:3, :3] = np.reshape(itk.GetDirection(), (3, 3)) * itk.GetSpacing()
        lps[:3, 3] = itk.GetOrigin()
        np.testing.assert_allclose(found.geometry.affine, flip_lps_ras(lps), atol=1e-4)
        said = " ".join(found.source.remarks)
        assert ("qfac" in said) == (first not in (1, -1))
        assert ("negative pixdim" in said) == (min(signs) < 0)
        assert ("shortened" in said) == (quaternion == (0.7, 0.7, 0.7))

    def test_negative_sizes_without_any_affine_are_as_nibabel_has_them(self, tmp_path, ramp3):
        path = save(tmp_path, ramp3.astype(np.int16), None, name="a.nii")
        patch(path, 80, "<f", -3.0)
        np.testing.assert_allclose(read_nifti(path).geometry.affine, nibabel.load(path).affine)
        assert "negative pixdim: taken without the sign, as nibabel does" in read_nifti(path).source.remarks

    def test_singular_sform(self, tmp_path, ramp3):
        file = save(tmp_path, ramp3.astype(np.int16), name="z.nii")
        for offset in range(280, 328, 4):
            patch(file, offset, "<f", 0.0)
        with pytest.raises(CorruptFileError, match=r"z\.nii: .*spans no volume"):
            read_nifti(file)

    def test_singular_sform_beside_a_qform(self, tmp_path, ramp3):
        file = save(tmp_path, ramp3.astype(np.int16), name="z.nii", qform_code=1, sform_code=1)
        sound = read_nifti(file).geometry
        for offset in range(280, 328, 4):
            patch(file, offset, "<f", 0.0)
        volume = read_nifti(file)
        assert volume.geometry.distance(sound) < 1e-3
        assert volume.source.remarks[:2] == ("qform used", "the sform is invalid and was not used")


class TestBadFiles:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_non_finite(self, tmp_path, value):
        array = np.zeros((3, 4, 5), np.float32)
        array[1, 2, 3] = value
        with pytest.raises(NonFiniteError, match=r"scan\.nii\.gz: 1 of 60 .*\(0, 1, 2, 3\)"):
            _ = read_nifti(save(tmp_path, array)).array

    @pytest.mark.parametrize("keep", [0.4, 0.9, 0.999])
    def test_truncated_gzip(self, tmp_path, keep):
        noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
        file = save(tmp_path, noise)
        raw = file.read_bytes()
        file.write_bytes(raw[: int(len(raw) * keep)])
        with pytest.raises(CorruptFileError, match=r"scan\.nii\.gz"):
            _ = read_nifti(file).array

    def test_gzip_with_a_flipped_bit(self, tmp_path):
        raw = bytearray(gzip.compress(nibabel.Nifti1Image(np.zeros((20, 20, 20), np.int16), np.eye(4)).to_bytes()))
        raw[-6] ^= 1  # within the checksum
        file = tmp_path / "scan.nii.gz"
        file.write_bytes(raw)
        with pytest.raises(CorruptFileError, match="gzip"):
            _ = read_nifti(file).array

    def test_short_file(self, tmp_path, ramp3):
        file = save(tmp_path, ramp3.astype(np.int16), name="s.nii")
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(CorruptFileError, match=r"promises 472 bytes.*holds at most 462"):
            read_nifti(file)

    @pytest.mark.parametrize("name", ["s.nii", "s.nii.gz"])
    def test_absurd_size_is_refused_before_allocation(self, tmp_path, ramp3, name):
        file = save(tmp_path, ramp3.astype(np.int16), name="s.nii")
        for axis in range(3):
            patch(file, 42 + 2 * axis, "<h", 30000)
        if name.endswith("gz"):
            file = tmp_path / name
            file.write_bytes(gzip.compress((tmp_path / "s.nii").read_bytes()))
        with pytest.raises(CorruptFileError, match="the header promises 54000000"):
            read_nifti(file)

    @pytest.mark.parametrize(
        ("offset", "code", "value", "message"),
        [
            (42, "<h", -3, "dim .* is impossible"),
            (40, "<h", 9, "gzip|dim .* is impossible|single-file"),
            (70, "<h", 999, "data type code 999"),
            (108, "<f", 10.0, "vox_offset 10"),
            (108, "<f", np.nan, "vox_offset nan"),
        ],
    )
    def test_impossible_headers(self, tmp_path, ramp3, offset, code, value, message):
        file = save(tmp_path, ramp3.astype(np.int16), name="h.nii")
        with pytest.raises(ReadError, match=message):
            read_nifti(patch(file, offset, code, value))

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6))
    @example(changes=[(299, 127)])  # a signalling NaN in the sform
    def test_any_damage_to_the_header_ends_in_a_typed_error(self, tmp_path, changes):
        raw = bytearray(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), OBLIQUE).to_bytes())
        for position, value in changes:
            raw[position] = value
        file = tmp_path / "d.nii"
        file.write_bytes(raw)
        message = "d.nii"
        try:
            _ = read_nifti(file).array
        except VoxelryError as error:
            message = str(error)
        assert "d.nii" in message

    def test_complex_and_colour(self, tmp_path, ramp3):
        with pytest.raises(UnsupportedFormatError, match="complex64"):
            read_nifti(save(tmp_path, ramp3.astype(np.complex64)))
        colour = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        with pytest.raises(UnsupportedFormatError, match="no plain grey values"):
            read_nifti(save(tmp_path, colour))

    def test_not_nifti(self, tmp_path):
        file = tmp_path / "t.nii"
        file.write_text("text " * 200)
        with pytest.raises(UnsupportedFormatError, match=r"t\.nii"):
            read_nifti(file)


class TestLabels:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
    def test_whole_numbers_of_any_type(self, tmp_path, dtype):
        values = np.array([0, 1, 2, 255], dtype).reshape(2, 2, 1)
        labels, geometry, source = open_nifti(save(tmp_path, values)).labels()
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, values)
        assert geometry.shape == (2, 2, 1)
        assert source.kind == "nifti"

    def test_last_axis_of_one(self, tmp_path):
        labels, _, _ = open_nifti(save(tmp_path, np.full((2, 3, 4, 1), 300, np.int16))).labels()
        assert labels.shape == (2, 3, 4)
        assert labels.dtype == np.uint16

    @pytest.mark.parametrize(("value", "message"), [(0.5, r"fractions \(0\.5\)"), (-2, r"negative values \(-2\)")])
    def test_no_labels(self, tmp_path, value, message):
        with pytest.raises(LabelError, match=r"scan\.nii\.gz: .*" + message):
            open_nifti(save(tmp_path, np.full((2, 3, 4), value, np.float32))).labels()

    def test_channels(self, tmp_path):
        with pytest.raises(LabelError, match="this one 5"):
            open_nifti(save(tmp_path, np.zeros((2, 3, 4, 5), np.int16))).labels()


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["hippocampus", "spinal_cord", "spine_mri_waterfat"])
def test_real_files_agree_with_nibabel(realdata, folder):
    files = sorted((realdata / folder).rglob("*.nii*"))[:40]
    assert files
    for file in files:
        volume = read_nifti(file)
        reference = nibabel.load(file)
        np.testing.assert_allclose(volume.geometry.affine, reference.affine, atol=1e-4)
        np.testing.assert_allclose(volume.array[0], reference.get_fdata().squeeze(), rtol=1e-5, atol=1e-4)


@pytest.mark.realdata
def test_real_labels_in_floats(realdata):
    files = sorted((realdata / "hippocampus").rglob("*label*/*.nii.gz"))
    assert len(files) > 100
    for file in files:
        labels, _, _ = open_nifti(file).labels()
        assert labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {0, 1, 2}
