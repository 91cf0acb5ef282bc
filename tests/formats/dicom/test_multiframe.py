"""Enhanced multi-frame files as planes: each frame at its own place, with its own rescale, in whatever order it is stored."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, EnhancedCTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian

from voxelry.errors import CorruptFileError, ReadError, SeriesError
from voxelry.formats.dicom.pixels.decode import decode_slices
from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.reader import read, read_all

VALUES = (np.arange(5 * 4 * 6, dtype=np.int16) * 7 - 300).reshape(5, 4, 6)
STEP = 2.5


def item(**elements):
    data = Dataset()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


def enhanced(make_slice, order=range(5), lines=((1, 0),) * 5, shared_rescale=None, **elements):
    """A multi-frame file whose frame k holds slice ``order[k]``; the top of the data set has no position."""
    frames = []
    for number in order:
        groups = Dataset()
        groups.PlanePositionSequence = [item(ImagePositionPatient=[-30.0, 20.0, -100.0 + STEP * number])]
        groups.FrameContentSequence = [item(StackID="1", InStackPositionNumber=int(number) + 1, FrameAcquisitionNumber=1)]
        if shared_rescale is None:
            slope, intercept = lines[number]
            groups.PixelValueTransformationSequence = [item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")]
        frames.append(groups)
    shared = Dataset()
    shared.PlaneOrientationSequence = [item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    shared.PixelMeasuresSequence = [item(PixelSpacing=[0.7, 0.9], SliceThickness=STEP)]
    shared.FrameVOILUTSequence = [item(WindowCenter=40, WindowWidth=400)]
    if shared_rescale is not None:
        slope, intercept = shared_rescale
        shared.PixelValueTransformationSequence = [item(RescaleSlope=slope, RescaleIntercept=intercept)]
    bare = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"))
    return make_slice(
        VALUES[list(order)],
        NumberOfFrames=len(frames),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
        **bare | {"SOPClassUID": EnhancedCTImageStorage} | elements,
    )


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 0, 4, 1, 2), (4, 3, 2, 1, 0)])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_shuffled_frames_lie_where_they_say(make_slice, save_slice, tmp_path, order, syntax):
    volume = read(save_slice(enhanced(make_slice, order), tmp_path / "a.dcm", syntax))
    assert volume.shape == (1, 6, 4, 5)
    for number in range(5):
        corner = np.array([0, 0, number, 1])
        world = volume.geometry.affine @ corner
        np.testing.assert_allclose(world[:3] * (-1, -1, 1), (-30, 20, -100 + STEP * number))
        np.testing.assert_array_equal(volume.array[0, :, :, number].T, VALUES[number])
    assert volume.spacing == pytest.approx((0.9, 0.7, STEP))
    uid = volume.source.instances[0][0]
    assert volume.source.instances == tuple((uid, order.index(number) + 1) for number in range(5))
    assert volume.windows[0].center == 40


def test_rescale_of_each_frame(make_slice, save_slice, tmp_path):
    lines = ((1, 0), (2, -5), (0.5, 0), (1, 100), (3, 1))
    volume = read(save_slice(enhanced(make_slice, (2, 0, 4, 1, 3), lines), tmp_path / "a.dcm"))
    for number, (slope, intercept) in enumerate(lines):
        np.testing.assert_allclose(volume.array[0, :, :, number].T, VALUES[number] * slope + intercept)


def test_shared_rescale_as_simpleitk(make_slice, save_slice, tmp_path):
    path = save_slice(enhanced(make_slice, shared_rescale=(2, -1024)), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(path).array[0].T, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


def test_missing_frame_is_refused(make_slice, save_slice, tmp_path):
    with pytest.raises(SeriesError):
        read(save_slice(enhanced(make_slice, (0, 1, 3, 4)), tmp_path / "a.dcm"))


def test_as_many_groups_as_frames(make_slice, save_slice, tmp_path):
    data = enhanced(make_slice)
    data.NumberOfFrames = 4
    with pytest.raises(CorruptFileError, match=r"4 frames, but 5 items"):
        read_planes(save_slice(data, tmp_path / "a.dcm"))


def test_cut_in_the_last_frame(make_slice, save_slice, tmp_path):
    path = save_slice(enhanced(make_slice), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFileError):
        decode_slices(read_planes(path))


def test_compressed_frames_in_any_order(make_slice, save_slice, tmp_path):
    import jpeg_ls

    order = (3, 0, 4, 1, 2)
    data = enhanced(make_slice, order)
    frames = [
        bytes(
            jpeg_ls.encode_buffer(
                VALUES[number].view(np.uint16).tobytes(),
                rows=4,
                columns=6,
                samples_per_pixel=1,
                bits_stored=16,
                interleave_mode=0,
            )
        )
        for number in order
    ]
    data.PixelData = encapsulate(frames)
    data["PixelData"].VR = "OB"
    volume = read(save_slice(data, tmp_path / "a.dcm", uids.JPEGLSLossless))
    np.testing.assert_array_equal(volume.array[0].T, VALUES)


def test_facts_of_a_frame(make_slice, save_slice, tmp_path):
    data = enhanced(make_slice, SOPClassUID=EnhancedMRImageStorage, Modality="MR")
    for number, groups in enumerate(data.PerFrameFunctionalGroupsSequence):
        groups.MREchoSequence = [item(EffectiveEchoTime=10.0 * (number % 2 + 1))]
        groups.MRDiffusionSequence = [item(DiffusionBValue=1000.0 * (number % 2))]
        groups.MRImageFrameTypeSequence = [item(FrameType=["ORIGINAL", "PRIMARY", "M"])]
    planes = read_planes(save_slice(data, tmp_path / "a.dcm"))
    facts = [dict(plane.facts) for plane in planes]
    assert [float(one["EchoTime"]) for one in facts] == [10, 20, 10, 20, 10]
    assert [float(one["DiffusionBValue"]) for one in facts] == [0, 1000, 0, 1000, 0]
    assert planes[0].image_type == ("ORIGINAL", "PRIMARY", "M")
    assert [plane.frame for plane in planes] == [1, 2, 3, 4, 5]


def test_a_frame_whose_slope_is_no_number_is_refused(make_slice, save_slice, tmp_path):
    path = save_slice(enhanced(make_slice, lines=((1, 0),) * 3 + ((1.25, 0), (1, 0))), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"1.25", b"1,25"))
    with pytest.raises(CorruptFileError, match="RescaleSlope"):
        read(path)


def test_a_file_for_each_time_point_that_only_their_numbers_tell_apart(make_slice, save_slice, tmp_path):
    for number in (1, 2, 10):
        data = enhanced(make_slice, InstanceNumber=number, SOPInstanceUID=f"1.2.{number}")
        data.PixelData = np.full(VALUES.shape, number, np.int16).tobytes()
        save_slice(data, tmp_path / f"{number}.dcm")
    assert [set(np.unique(volume.array)) for volume in read_all(tmp_path)] == [{1}, {2}, {10}]


def test_frames_without_positions(make_slice, save_slice, tmp_path):
    data = make_slice(VALUES, NumberOfFrames=5)
    path = save_slice(data, tmp_path / "a.dcm")
    with pytest.raises(ReadError):
        read(path)


@pytest.mark.realdata
def test_real_enhanced_files_as_simpleitk(realdata):
    files = [
        *realdata.rglob("mf.dcm"),
        *(realdata / "dicom" / "dev" / "dicom2nifti").rglob("philips_enhanced/anatomical/001/*.dcm"),
    ]
    assert files
    for file in files:
        volume = read(file)
        other = sitk.ReadImage(str(file))
        values = sitk.GetArrayFromImage(other)
        assert volume.array[0].T.shape == values.shape
        same = np.allclose(volume.array[0].T, values, rtol=1e-6)
        turned = np.allclose(volume.array[0].T[::-1], values, rtol=1e-6)
        assert same or turned
