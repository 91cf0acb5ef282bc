"""Masks from anywhere to anywhere: values, places, names and codes arrive, and what is lost is said."""

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

import voxelry
from helpers.command import refused, run, run_json
from helpers.sources import FLAT_TABLE, TABLE, TILTED, flat_labels, headers, labels, volume
from helpers.written import FORMATS
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError, GridMismatchError, LabelError, UsageError

READABLE = ("nifti", "dicom-seg", "rtstruct", "seg-nrrd", "nrrd", "metaimage")
"""Formats of volumes that are read again."""
OF_VOLUMES = tuple(name for name, kind in FORMATS.items() if 3 in kind.axes)
OF_PICTURES = tuple(name for name, kind in FORMATS.items() if 2 in kind.axes and kind.source != "required")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """An oblique series: its volume and its folder."""
    folder = tmp_path_factory.mktemp("scan")
    return volume("oblique", folder), folder / "source-oblique"


def same(found, expected):
    for label in expected.table.labels:
        there = found.mask(label.name) if label.name in found.table.names else found.mask(label.value)
        np.testing.assert_array_equal(there, expected.mask(label.name), label.name)


# From anywhere to anywhere


@pytest.mark.parametrize("target", READABLE)
@pytest.mark.parametrize("origin", READABLE)
def test_any_volume_to_any_volume(scan, tmp_path, origin, target):
    source, series = scan
    expected = flat_labels(source.geometry)
    mask = FORMATS[origin].write(expected, tmp_path / f"in{FORMATS[origin].ending}", source)
    done = voxelry.convert(mask, tmp_path / f"out{FORMATS[target].ending}", reference=series)
    found = voxelry.read_labels(done.path, **({"reference": source} if target == "rtstruct" else {})).on_grid(source.geometry)
    assert (done.format, done.losses) == (target, ())
    values = sorted({int(value) for value in np.unique(found.layers)} - {0})
    if {origin, target} & {"nrrd", "metaimage"}:  # no names, so by value
        for value in values:
            matching = [
                one.name for one in expected.table.labels if (expected.mask(one.name) == (found.layers[0] == value)).all()
            ]
            assert len(matching) == 1
        assert len(values) == 3
    else:
        same(found, expected)
        assert found.table["lung left"].modifier.value == "7771000"
        assert found.table["liver"].type.value == "10200004"
    assert len(done.labels) == 3


@pytest.mark.parametrize("target", OF_VOLUMES)
def test_every_format_of_volumes_is_written(scan, tmp_path, target):
    source, series = scan
    mask = voxelry.write(flat_labels(source.geometry), tmp_path / "in.nii.gz")
    done = voxelry.convert(mask, tmp_path / f"out{FORMATS[target].ending}", reference=series)
    assert done.path.exists()
    assert done.labels == ("liver", "lone voxel", "lung left")
    assert bool(FORMATS[target].cannot_hold) == any("does not hold" in remark for remark in done.remarks)


@pytest.mark.parametrize("target", OF_PICTURES)
def test_every_format_of_pictures_is_written(tmp_path, target):
    picture = np.zeros((30, 40), np.uint8)
    picture[4:12, 5:30] = 1
    table = LabelTable(labels=(Label(value=1, name="lung"),))
    mask = voxelry.write(LabelMap.of(picture, Geometry((30, 40)), table), tmp_path / "in.png")
    done = voxelry.convert(mask, tmp_path / f"out{FORMATS[target].ending}")
    assert done.path.is_file()
    if target in ("png", "nifti", "nrrd", "metaimage"):
        np.testing.assert_array_equal(voxelry.read_labels(done.path).layers.squeeze(), picture)


@pytest.mark.parametrize("target", ["dicom-seg", "rtstruct", "seg-nrrd"])
def test_overlaps_survive(scan, tmp_path, target):
    source, series = scan
    mask = voxelry.write(labels(source.geometry), tmp_path / "in.seg.nrrd")
    done = voxelry.convert(mask, tmp_path / f"out{FORMATS[target].ending}", reference=series)
    found = voxelry.read_labels(done.path, **({"reference": source} if target == "rtstruct" else {}))
    same(found.on_grid(source.geometry), labels(source.geometry))
    with pytest.raises(ExportError, match="overlap"):
        voxelry.convert(mask, tmp_path / "out.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists()


def test_format_overrides_the_ending(scan, tmp_path):
    source, series = scan
    mask = voxelry.write(flat_labels(source.geometry), tmp_path / "in.nii.gz")
    voxelry.convert(mask, tmp_path / "contours.dcm", reference=series, format="rtstruct")
    assert dcmread(tmp_path / "contours.dcm").Modality == "RTSTRUCT"
    voxelry.convert(mask, tmp_path / "seg.dcm", reference=series, options={"kind": "labelmap", "compression": "rle"})
    assert dcmread(tmp_path / "seg.dcm").SegmentationType == "LABELMAP"


def test_nifti_as_itk_writes_it_lands_on_the_slices(scan, tmp_path):
    source, series = scan
    expected = flat_labels(source.geometry)
    image = sitk.ReadImage([str(file) for file in source.source.files])
    mask = sitk.GetImageFromArray(np.ascontiguousarray(expected.array.transpose(2, 1, 0)))
    mask.CopyInformation(image)
    sitk.WriteImage(sitk.Flip(mask, (True, False, True)), tmp_path / "model.nii.gz")  # another voxel order, the same place
    (tmp_path / "names.yaml").write_text("{3: liver, 1: lone voxel, 7: lung_left}")
    done = voxelry.convert(tmp_path / "model.nii.gz", tmp_path / "out.seg.dcm", reference=series, labels=tmp_path / "names.yaml")
    assert not done.losses
    found = voxelry.read_labels(done.path).on_grid(source.geometry)
    np.testing.assert_array_equal(found.mask("liver"), expected.mask("liver"))
    assert found.table["lung_left"].type.value == "39607008"  # by the catalogue
    assert found.table["lung_left"].modifier.meaning == "Left"


def test_silent_labels_are_numbered(scan, tmp_path):
    source, series = scan
    nib.save(nib.Nifti1Image(flat_labels(source.geometry).array, source.geometry.affine), tmp_path / "in.nii.gz")
    done = voxelry.convert(tmp_path / "in.nii.gz", tmp_path / "out.seg.dcm", reference=series)
    assert done.labels == ("label_1", "label_3", "label_7")


# Other grids


def test_a_mask_on_another_grid_is_resampled_and_the_loss_said(scan, tmp_path):
    source, series = scan
    expected = flat_labels(source.geometry)
    fine = source.geometry.zoomed([2 * n for n in source.geometry.shape])
    doubled = expected.array.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    mask = voxelry.write(LabelMap.of(doubled, fine, FLAT_TABLE), tmp_path / "in.nii.gz")
    done = voxelry.convert(mask, tmp_path / "out.seg.dcm", reference=series)
    same(voxelry.read_labels(done.path).on_grid(source.geometry), expected)  # whole voxels become whole voxels again
    shifted = voxelry.write(LabelMap.of(doubled, fine.cropped((1, 1, 1), fine.shape), FLAT_TABLE), tmp_path / "shifted.nii.gz")
    done = voxelry.convert(shifted, tmp_path / "shifted.seg.dcm", reference=series)
    by_name = {loss.label: loss for loss in done.losses}
    assert by_name["lung left"].dice < 1
    assert by_name["lung left"].before_mm3 == pytest.approx(expected.mask("lung left").sum() * source.geometry.voxel_volume)
    assert any("resampled" in remark for remark in done.remarks)
    assert any("lung left" in remark and "Dice" in remark for remark in done.remarks)


def test_a_part_of_the_lattice_is_placed_and_a_cut_said(scan, tmp_path):
    source, series = scan
    expected = flat_labels(source.geometry)
    grid = source.geometry.cropped((1, 2, 0), (18, 13, 9))
    mask = voxelry.write(LabelMap.of(expected.array[1:19, 2:15].copy(), grid, FLAT_TABLE), tmp_path / "in.nii.gz")
    done = voxelry.convert(mask, tmp_path / "out.nii.gz", reference=series)
    same(voxelry.read_labels(done.path).on_grid(source.geometry), expected)
    assert done.losses == ()
    beyond = source.geometry.cropped((0, 0, -3), (20, 16, 9))
    mask = voxelry.write(LabelMap.of(expected.array, beyond, FLAT_TABLE), tmp_path / "in.nii.gz")
    done = voxelry.convert(mask, tmp_path / "out.nii.gz", reference=series)
    loss = next(loss for loss in done.losses if loss.label == "liver")
    kept = expected.mask("liver")[:, :, 3:].sum() / expected.mask("liver").sum()
    assert loss.after_mm3 / loss.before_mm3 == pytest.approx(kept)


def test_masks_from_elsewhere_are_refused(scan, tmp_path):
    source, series = scan
    far = Geometry(source.geometry.shape, np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 5000)
    mask = voxelry.write(LabelMap.of(flat_labels(far).array, far, FLAT_TABLE), tmp_path / "far.nii.gz")
    with pytest.raises(GridMismatchError, match="none of its labels"):
        voxelry.convert(mask, tmp_path / "out.seg.dcm", reference=series)
    (tmp_path / "other").mkdir()
    other = volume("oblique", tmp_path / "other")  # the same place, in another patient's frame of reference
    for name in ("dicom-seg", "rtstruct"):
        mask = FORMATS[name].write(flat_labels(other.geometry), tmp_path / f"other{FORMATS[name].ending}", other)
        with pytest.raises(GridMismatchError, match="frame of reference"):
            voxelry.convert(mask, tmp_path / "out.seg.dcm", reference=series)
    assert not (tmp_path / "out.seg.dcm").exists()


# Tilted series


def test_a_tilted_series(tmp_path):
    source = volume(TILTED, tmp_path)
    series = tmp_path / f"source-{TILTED}"
    expected = flat_labels(source.geometry)
    mask = voxelry.write(expected, tmp_path / "in.nrrd")
    done = voxelry.convert(mask, tmp_path / "out.rtstruct.dcm", reference=series)
    named = {image.ReferencedSOPInstanceUID for image in _contour_images(dcmread(done.path))}
    assert named <= {header.SOPInstanceUID for header in headers(source)}
    with pytest.raises(ExportError, match=r"gantry tilt.*rtstruct\.dcm.*--repair tilt"):
        voxelry.convert(mask, tmp_path / "out.seg.dcm", reference=series)
    done = voxelry.convert(mask, tmp_path / "out.seg.dcm", reference=series, repair="tilt")
    (folder,) = done.also
    upright = voxelry.read(folder)
    assert upright.geometry.same_grid(voxelry.read(series, repair="tilt").geometry)
    np.testing.assert_array_equal(upright.array, voxelry.read(series, repair="tilt").array)
    seg = dcmread(done.path)
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == upright.source.series_uid != source.source.series_uid
    assert seg.FrameOfReferenceUID == headers(source)[0].FrameOfReferenceUID
    assert any("not to the original slices" in remark for remark in done.remarks)
    assert 0.9 < next(loss.dice for loss in done.losses) < 1
    report = voxelry.convert(
        mask, tmp_path / "out.sr.dcm", reference=series, repair="tilt"
    )  # the SEG beside it is of this series
    assert report.also == ()


def test_a_resampled_series_is_valid(tmp_path, dciodvfy, dcentvfy):
    source = volume(TILTED, tmp_path)
    mask = voxelry.write(flat_labels(source.geometry), tmp_path / "in.nrrd")
    series = tmp_path / f"source-{TILTED}"
    done = voxelry.convert(mask, tmp_path / "out.seg.dcm", reference=series, repair="tilt")
    slices = sorted(done.also[0].iterdir())
    assert dciodvfy(slices[0]) == dciodvfy(slices[-1]) == []
    assert dcentvfy(*slices, *source.source.files, done.path) == []
    first = dcmread(slices[0])
    assert (first.ImageType[0], len(first.SourceImageSequence)) == ("DERIVED", len(source.source.files))


def _contour_images(data):
    contours = [one for roi in data.ROIContourSequence for one in roi.get("ContourSequence", [])]
    return [image for one in contours for image in one.ContourImageSequence]


# Reports


def test_a_report_has_its_segmentation(scan, tmp_path):
    source, series = scan
    mask = voxelry.write(flat_labels(source.geometry), tmp_path / "in.nii.gz")
    done = voxelry.convert(mask, tmp_path / "a.sr.dcm", reference=series)
    assert done.also == (tmp_path / "a.seg.dcm",)
    again = voxelry.convert(mask, tmp_path / "a.sr.dcm", reference=series)
    assert again.also == ()
    of_seg = voxelry.convert(tmp_path / "a.seg.dcm", tmp_path / "b.sr.dcm", reference=series)
    assert of_seg.also == ()
    assert not (tmp_path / "b.seg.dcm").exists()
    changed = flat_labels(source.geometry).array.copy()
    changed[0, 0, 0] = 3
    other = voxelry.write(LabelMap.of(changed, source.geometry, FLAT_TABLE), tmp_path / "other.nii.gz")
    (tmp_path / "a.sr.dcm").unlink()
    with pytest.raises(ExportError, match="not the DICOM SEG of these labels"):
        voxelry.convert(other, tmp_path / "a.sr.dcm", reference=series)


# Folders of masks


def test_a_folder_of_masks_becomes_one_map(scan, tmp_path):
    source, series = scan
    masks = tmp_path / "organs"
    masks.mkdir()
    expected = labels(source.geometry)
    for name, file in {"liver": "liver", "lesion": "tumour", "lung left": "lung_left"}.items():
        nib.save(nib.Nifti1Image(expected.mask(name).astype(np.uint8), source.geometry.affine), masks / f"{file}.nii.gz")
    done = voxelry.convert(masks, tmp_path / "out.seg.dcm", reference=series)
    found = voxelry.read_labels(done.path).on_grid(source.geometry)
    assert set(done.labels) == {"liver", "tumour", "lung_left"}
    for name, file in {"liver": "liver", "lesion": "tumour", "lung left": "lung_left"}.items():
        np.testing.assert_array_equal(found.mask(file), expected.mask(name))
    assert found.table["lung_left"].modifier.meaning == "Left"
    two = flat_labels(source.geometry)
    voxelry.write(two, masks / "two.nii.gz")
    with pytest.raises(LabelError, match="each file is one structure"):
        voxelry.convert(masks, tmp_path / "out.seg.dcm", reference=series)
    voxelry.write(replace(two, geometry=Geometry.from_spacing(two.geometry.shape, (1, 1, 1))), masks / "two.nii.gz")
    with pytest.raises(GridMismatchError, match=r"two\.nii\.gz"):
        voxelry.convert(masks, tmp_path / "out.seg.dcm", reference=series)


# What users get wrong, and the command line


def test_mistakes(scan, tmp_path):
    source, series = scan
    mask = voxelry.write(flat_labels(source.geometry), tmp_path / "in.nii.gz")
    refused(run("convert", mask, tmp_path / "o.seg.dcm"), "--reference")
    refused(run("convert", mask, tmp_path / "o.seg"), "ending")
    refused(run("convert", mask, tmp_path / "o.nii.gz", "--format", "nitfi"), "nifti")
    refused(run("convert", mask, mask), "is the mask itself")
    refused(run("convert", tmp_path / "no.nii.gz", tmp_path / "o.nrrd"), "no.nii.gz")
    refused(run("convert", mask, tmp_path / "o.seg.dcm", "--reference", tmp_path / "nothing"), "nothing")
    refused(run("convert", mask, tmp_path / "o.seg.dcm", "--reference", mask), "DICOM")
    refused(run("convert", mask, tmp_path / "o.seg.dcm", "--reference", series, "--set", "kind"), "KEY=VALUE")
    refused(run("convert", mask, tmp_path / "o.seg.dcm", "--reference", series, "--set", "knd=labelmap"), "kind")
    refused(run("convert", tmp_path, tmp_path / "deep" / "o.seg.nrrd", "--labels", tmp_path / "none.yaml"), "none.yaml")
    refused(run("convert", tmp_path, tmp_path / "o.seg.nrrd"), "inside the folder of masks")
    refused(run("convert", series, tmp_path / "o.seg.nrrd"), "folder without mask files")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.nii.gz"]


def test_the_command(scan, tmp_path):
    source, series = scan
    mask = voxelry.write(labels(source.geometry), tmp_path / "in.seg.nrrd")
    out = tmp_path / "out.rtstruct.dcm"
    done = run_json("convert", mask, out, "--reference", series, "--set", "smooth=true")
    assert (done["path"], done["format"], set(done["labels"])) == (str(out), "rtstruct", set(TABLE.names) - {"Körper (empty)"})
    assert "smoothed" in str(dcmread(out).StructureSetROISequence[0].ROIDescription).lower()
    result = run("convert", mask, tmp_path / "out.sr.dcm", "--reference", series)
    assert "4 labels in" in result.stdout
    assert "also written" in result.stderr
    assert json.dumps(done)


def test_probabilities_need_a_threshold(scan, tmp_path):
    source, series = scan
    ramp = np.linspace(0, 1, 20, dtype=np.float32)[:, None, None] * np.ones((20, 16, 9), np.float32)
    nib.save(nib.Nifti1Image(ramp, source.geometry.affine), tmp_path / "p.nii.gz")
    with pytest.raises(LabelError):
        voxelry.convert(tmp_path / "p.nii.gz", tmp_path / "o.seg.dcm", reference=series)
    done = voxelry.convert(tmp_path / "p.nii.gz", tmp_path / "o.seg.dcm", reference=series, threshold=0.5)
    np.testing.assert_array_equal(voxelry.read_labels(done.path).on_grid(source.geometry).array, ramp >= 0.5)


def test_of_several_series_the_one_that_the_mask_names(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = volume("axial", tmp_path / "one"), volume("axial", tmp_path / "two")
    both = tmp_path / "both"
    both.mkdir()
    for number, file in enumerate([*first.source.files, *second.source.files]):
        shutil.copy(file, both / f"{number}.dcm")
    mask = voxelry.write(flat_labels(second.geometry), tmp_path / "in.seg.dcm", source=second)
    done = voxelry.convert(mask, tmp_path / "out.rtstruct.dcm", reference=both)
    named = {image.ReferencedSOPInstanceUID for image in _contour_images(dcmread(done.path))}
    assert named <= {header.SOPInstanceUID for header in headers(second)}
    plain = voxelry.write(flat_labels(second.geometry), tmp_path / "in.nii.gz")
    with pytest.raises(voxelry.VoxelryError):
        voxelry.convert(plain, tmp_path / "out.seg.dcm", reference=both)
    voxelry.convert(plain, tmp_path / "out.seg.dcm", reference=both, series=first.source.series_uid)
    with pytest.raises(UsageError):
        voxelry.convert(plain, tmp_path / "out.seg.dcm")
