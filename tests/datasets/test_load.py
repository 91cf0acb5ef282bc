import logging
from pathlib import Path

import numpy as np
import pytest

from helpers.scans import AFFINE, SHAPE, blob, image, manifest, save
from voxelry.base.files import read_yaml
from voxelry.datasets.card import Card
from voxelry.datasets.cases import Case
from voxelry.datasets.check import check_case
from voxelry.datasets.load import load_case, load_labels
from voxelry.errors import GridMismatchError, LabelError, ManifestError
from voxelry.formats.reader import read_labels


def test_image_and_labels_come_as_stored(tmp_path):
    case = Case("a", (save(tmp_path / "a.nii.gz", image()),), labels=save(tmp_path / "l.nii.gz", blob()))
    volume, labels = load_case(case, manifest(tmp_path, case))
    np.testing.assert_array_equal(volume.array[0], image())
    np.testing.assert_array_equal(labels.array, blob())
    assert labels.geometry is volume.geometry
    assert labels.table.names == ("liver", "spleen")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flip", [0, 1, 2, None])
def test_labels_in_another_axis_order_are_reindexed(order, flip, tmp_path):
    """Oracle: numpy does the same to array and affine, so that every voxel keeps its place."""
    stored, affine = np.transpose(blob(), order), AFFINE.copy()
    affine[:, :3] = AFFINE[:, list(order)]
    if flip is not None:
        affine[:, 3] += affine[:, flip] * (stored.shape[flip] - 1)
        affine[:, flip] *= -1
        stored = np.flip(stored, flip)
    affine[:3, 3] += 1e-8
    case = Case("a", (save(tmp_path / "a.nii.gz", image()),), labels=save(tmp_path / "l.nii.gz", stored.copy(), affine))
    _, labels = load_case(case, manifest(tmp_path, case))
    np.testing.assert_array_equal(labels.array, blob())


def test_float_labels_and_a_case_without_labels(tmp_path):
    file = save(tmp_path / "a.nii.gz", image())
    floats = Case("a", (file,), labels=save(tmp_path / "l.nii.gz", blob().astype(np.float32)))
    bare = Case("b", (file,))
    both = manifest(tmp_path, floats, bare)
    np.testing.assert_array_equal(load_case(floats, both)[1].array, blob())
    assert load_case(bare, both)[1] is None


def test_a_channel_a_file(tmp_path):
    files = tuple(save(tmp_path / f"{i}.nii.gz", image(i)) for i in range(3))
    case = Case("a", files)
    volume, _ = load_case(case, manifest(tmp_path, case, channels=["x", "y", "z"]))
    np.testing.assert_array_equal(volume.array, np.stack([image(i) for i in range(3)]))
    with pytest.raises(ManifestError, match=r"case 'a' .*3 channels, the card names 1 \(image\)"):
        load_case(case, manifest(tmp_path, case))


def test_channels_on_other_grids_are_laid_onto_the_one_the_card_names(tmp_path):
    """A field that is linear in the patient's coordinates is the same field on every grid; labels lie on the reference's."""
    fine = np.diag([0.5, 1.0, 1.5, 1.0])
    fine[:3, 3] = AFFINE[:3, 3]
    affines, shapes = (AFFINE, fine), ((12, 13, 11), (24, 26, 22))

    def field(affine, shape):
        return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T @ (1, 2, 3) + affine[:3, 3] @ (1, 2, 3)

    fields = [field(*one).astype(np.float32) for one in zip(affines, shapes, strict=True)]
    files = tuple(save(tmp_path / f"{k}.nii.gz", fields[k], affines[k]) for k in range(2))
    for reference, other in ((0, 1), (1, 0)):
        labels = np.zeros(shapes[reference], np.uint8)
        labels[1:3, 2:4, 1] = 3
        case = Case("a", files, labels=save(tmp_path / "l.nii.gz", labels, affines[reference]))
        named = manifest(tmp_path, case, channels=["coarse", "fine"], reference_channel=("coarse", "fine")[reference])
        volume, found = load_case(case, named)
        np.testing.assert_array_equal(found.array, labels)
        np.testing.assert_array_equal(volume.array[reference], fields[reference])
        inner = (slice(5 + 5 * reference, -5 - 5 * reference),) * 3  # a spline rings at a field's end
        np.testing.assert_allclose(volume.array[other][inner], fields[reference][inner], atol=0.02)
        assert check_case(case, named) == []
    (problem,) = check_case(case, manifest(tmp_path, case, channels=["coarse", "fine"]))
    assert "`reference_channel`" in problem.message


def test_the_wrong_number_of_axes(tmp_path):
    case = Case("a", (save(tmp_path / "a.nii.gz", image()),))
    with pytest.raises(ManifestError, match="3 spatial axes, the card states 2"):
        load_case(case, manifest(tmp_path, case, dimensions=2))


def test_another_grid_and_unknown_values_are_refused(tmp_path):
    file = save(tmp_path / "a.nii.gz", image())
    moved = AFFINE.copy()
    moved[0, 3] += 0.1
    shifted = Case("a", (file,), labels=save(tmp_path / "moved.nii.gz", blob(), moved))
    unknown = Case("b", (file,), labels=save(tmp_path / "five.nii.gz", blob() * 5))
    both = manifest(tmp_path, shifted, unknown)
    with pytest.raises(GridMismatchError, match=r"moved\.nii\.gz"):
        load_case(shifted, both)
    with pytest.raises(LabelError, match=r"five\.nii\.gz: label values 5, 15 are not"):
        load_case(unknown, both)


def one_mask_a_label(tmp_path, *masks) -> Case:
    names = ("liver", "spleen")
    files = tuple((name, save(tmp_path / f"{name}.nii.gz", mask)) for name, mask in zip(names, masks, strict=True))
    return Case("a", (save(tmp_path / "a.nii.gz", image()),), masks=files)


def test_masks_one_file_a_label_become_one_map(tmp_path, caplog):
    case = one_mask_a_label(tmp_path, (blob() == 1).astype(np.uint8) * 255, (blob() == 3).astype(np.float64))
    _, labels = load_case(case, manifest(tmp_path, case))
    np.testing.assert_array_equal(labels.array, blob())
    assert not caplog.records


def test_where_masks_overlap_the_later_label_wins_and_it_is_said(tmp_path, caplog):
    first, second = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    first[:3], second[2:] = 1, 1
    case = one_mask_a_label(tmp_path, first, second)
    with caplog.at_level(logging.WARNING):
        _, labels = load_case(case, manifest(tmp_path, case))
    np.testing.assert_array_equal(labels.array, np.where(second, 3, first))
    assert f"{SHAPE[1] * SHAPE[2]} voxels" in caplog.text


def test_masks_on_layers_of_their_own_survive_whole(tmp_path, caplog):
    first, second = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    first[:3], second[2:] = 1, 1
    case = one_mask_a_label(tmp_path, first, second)
    labels = [{"value": 1, "name": "liver"}, {"value": 1, "name": "spleen", "layer": 1}]
    _, loaded = load_case(case, manifest(tmp_path, case, labels=labels))
    np.testing.assert_array_equal(loaded.layers, np.stack([first, second]))
    assert not caplog.records


@pytest.mark.realdata
def test_117_mask_files_of_a_real_ct_equal_the_map_their_maker_wrote(realdata):
    """Oracle: the same segmentation, stored by TotalSegmentator as one file with all labels."""
    value = read_yaml(Path(__file__).parents[2] / "data_manifests" / "totalsegmentator_ct.yaml")
    card = Card.model_validate({key: value[key] for key in value if key in Card.model_fields})
    table = card.table
    folder = realdata / "ct_totalsegmentator"
    whole = read_labels(folder / "example_seg_fast.nii.gz", table)
    case = Case("a", (), masks=tuple((name, folder / "example_seg_fast" / f"{name}.nii.gz") for name in table.names))
    merged = load_labels(case, card, whole.geometry)
    assert len(np.unique(whole.array)) > 30
    np.testing.assert_array_equal(merged.array, whole.array)


@pytest.mark.parametrize("kind", ["seg", "rtstruct", "seg.nrrd"])
def test_a_hospitals_own_annotations_on_a_dicom_series(tmp_path, kind):
    """Contours, a SEG and a Slicer segmentation of one box, beside the series they were made on."""
    from dataclasses import replace

    import nrrd

    from helpers.structures import drawn, structure_set
    from voxelry.core.geometry import flip_lps_ras
    from voxelry.core.labels import Label, LabelTable
    from voxelry.core.volume import LabelMap
    from voxelry.formats.dicom.objects.seg_write import write_dicom_seg
    from voxelry.formats.reader import read
    from voxelry.phantom.dicom import write_dicom
    from voxelry.phantom.phantom import ACQUISITIONS, make_phantom

    phantom = make_phantom("torso-ct", 1, replace(ACQUISITIONS["torso-ct"], spacing=(32.0, 32.0, 40.0)))
    folder = write_dicom(phantom, tmp_path / "series")[0]
    scan = read(folder)
    box = np.zeros(scan.geometry.shape, np.uint8)
    box[2:5, 3:7, 1:3] = 2
    liver, spleen = Label(value=1, name="liver"), Label(value=2, name="spleen")
    if kind == "seg":
        path = write_dicom_seg(LabelMap.of(box, scan.geometry, LabelTable(labels=(liver, spleen))), scan, tmp_path / "a.dcm")
    elif kind == "rtstruct":
        corners = [(1.5, 2.5), (4.5, 2.5), (4.5, 6.5), (1.5, 6.5)]
        rois = [("SPLEEN", None, [drawn(scan, corners, place) for place in (1, 2)]), ("couch", None, [])]
        path = structure_set(tmp_path / "a.dcm", rois, series=scan.source.series_uid, frame="")
    else:
        lps = flip_lps_ras(scan.geometry.cropped((1, 2, 0), (5, 6, 4)).affine)
        header = {"space": "LPS", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3], "Segment0_ID": "s"}
        header |= {"Segment0_Name": "spleen", "Segment0_LabelValue": "2", "Segment0_Layer": "0"}
        path = tmp_path / "a.seg.nrrd"
        nrrd.write(str(path), box[1:6, 2:8, :4], header)
    case = Case("a", (folder,), labels=path)
    volume, labels = load_case(case, manifest(tmp_path, case))
    assert labels.geometry is volume.geometry
    np.testing.assert_array_equal(labels.mask("spleen"), box == 2)
