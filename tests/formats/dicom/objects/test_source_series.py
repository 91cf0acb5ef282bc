from dataclasses import replace

import numpy as np
import pytest

from helpers import sources
from helpers.ct_series import SECRET, ct_series, with_source, x_ray
from voxelry.errors import ExportError
from voxelry.formats.dicom.objects.source_series import source_series


@pytest.mark.parametrize("kind", [*sources.SOURCES, sources.TILTED])
def test_every_slice_has_a_header_of_its_own_where_the_grid_has_it(kind, tmp_path):
    scan = sources.volume(kind, tmp_path)
    series = source_series(scan, "out.dcm")
    stored = {header.SOPInstanceUID for header in sources.headers(scan)}
    assert {reference.sop_instance for reference in series.instances} == stored
    assert series.is_classic == (kind != "enhanced")
    for k, (header, reference) in enumerate(zip(series.headers, series.references, strict=True)):
        place = np.array(header.ImagePositionPatient, float) * [-1, -1, 1]
        np.testing.assert_allclose(place, scan.geometry.world((0, 0, k)), atol=1e-6)
        assert (reference.sop_instance, reference.frame or 1) == scan.source.instances[k]
        assert float(header.SpacingBetweenSlices) == pytest.approx(scan.geometry.spacing[2])
        assert "PerFrameFunctionalGroupsSequence" not in header
    assert series.headers[0].PatientID == sources.SECRET_ID


def test_the_order_of_the_files_does_not_matter(tmp_path):
    scan = ct_series(tmp_path)
    shuffled = with_source(scan, files=scan.source.files[::-1])
    assert source_series(shuffled, "out.dcm").references == source_series(scan, "out.dcm").references


def test_slices_that_were_never_stored(tmp_path):
    scan = sources.volume("oblique", tmp_path)
    instances = (None, *scan.source.instances[1:])
    mended = replace(scan, source=replace(scan.source, instances=instances, repairs=("interpolated",)))
    series = source_series(mended, "out.dcm")
    assert [reference is None for reference in series.references] == [True] + [False] * 8
    assert len(series.instances) == 9
    place = np.array(series.headers[0].ImagePositionPatient, float) * [-1, -1, 1]
    np.testing.assert_allclose(place, scan.geometry.world((0, 0, 0)), atol=1e-6)
    assert len({tuple(header.ImagePositionPatient) for header in series.headers}) == 9
    with pytest.raises(ExportError, match="8 of the scan's 9 slices"):
        source_series(replace(scan, source=replace(scan.source, instances=instances)), "out.dcm")


def test_tiles_of_a_mosaic_have_a_place_and_no_image_of_their_own(tmp_path):
    """A mosaic is one image with all slices side by side: its pixels are not the slices' pixels."""
    scan = ct_series(tmp_path, slices=1)
    uid = scan.source.instances[0][0]
    grid = replace(scan.geometry, shape=(4, 3, 4))
    tiled = replace(
        scan, pixels=np.zeros((1, 4, 3, 4), np.int16), geometry=grid, source=replace(scan.source, instances=((uid, 1),) * 4)
    )
    series = source_series(tiled, "out.dcm")
    assert series.references == (None,) * 4
    assert [reference.sop_instance for reference in series.instances] == [uid]
    assert {(header.Rows, header.Columns) for header in series.headers} == {(3, 4)}


def test_a_projection_has_no_place(tmp_path):
    series = source_series(x_ray(tmp_path), "out.dcm")
    assert series.is_classic
    assert "ImagePositionPatient" not in series.headers[0]


def test_headers_are_not_changed_through_one_another(tmp_path):
    scan = sources.volume("enhanced", tmp_path)
    first, second, *_ = source_series(scan, "out.dcm").headers
    assert first.ImagePositionPatient != second.ImagePositionPatient
    assert first.SOPInstanceUID == second.SOPInstanceUID == scan.source.instances[0][0]


def test_a_frame_that_lies_elsewhere_is_refused(tmp_path):
    scan = sources.volume("enhanced", tmp_path)
    instances = (*scan.source.instances[1:], scan.source.instances[0])
    with pytest.raises(ExportError, match=r"lies .* mm from slice 0") as caught:
        source_series(replace(scan, source=replace(scan.source, instances=instances)), "out.dcm")
    assert SECRET not in str(caught.value)
