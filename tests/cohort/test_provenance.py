"""Who drew a mask survives a conversion."""

import numpy as np
import pytest
from pydicom import dcmread

import voxelry as vx
from helpers.sources import labels as labels_on
from helpers.sources import volume
from voxelry.cohort.provenance import algorithm_of
from voxelry.formats.dicom.objects.rtstruct_write import write_rtstruct
from voxelry.formats.dicom.objects.seg_write import write_dicom_seg
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm


@pytest.fixture
def scan(tmp_path):
    return volume("axial", tmp_path)


@pytest.mark.parametrize(
    "made", [Algorithm("other", "3", "automatic"), Algorithm("assist", "1", "semiautomatic"), Algorithm(kind="manual")]
)
@pytest.mark.parametrize(("write", "ending"), [(write_dicom_seg, ".seg.dcm"), (write_rtstruct, ".rtstruct.dcm")])
def test_what_a_file_says_goes_along(scan, tmp_path, made, write, ending):
    mask = tmp_path / f"mask{ending}"
    write(labels_on(scan.geometry), scan, mask, algorithm=made)
    found = algorithm_of(mask)
    assert found.kind == made.kind
    if ending == ".seg.dcm" and made.kind != "manual":
        assert found.name == made.name
    done = vx.convert(mask, tmp_path / "out.seg.dcm", reference=tmp_path / "source-axial")
    assert {item.SegmentAlgorithmType for item in dcmread(done.path).SegmentSequence} == {made.kind.upper()}


def test_a_caller_may_say_it(scan, tmp_path):
    mask = tmp_path / "mask.seg.nrrd"
    vx.write(labels_on(scan.geometry), mask)
    for given, wanted in (("manual", "MANUAL"), ("nnU-Net", "AUTOMATIC")):
        out = tmp_path / f"{given}.seg.dcm"
        vx.convert(mask, out, reference=tmp_path / "source-axial", options={"algorithm": given})
        segment = dcmread(out).SegmentSequence[0]
        assert segment.SegmentAlgorithmType == wanted
        assert segment.get("SegmentAlgorithmName", "manual") == given


def test_a_file_that_says_nothing(tmp_path):
    from voxelry.core.geometry import Geometry
    from voxelry.core.labels import LabelTable
    from voxelry.core.volume import LabelMap

    mask = tmp_path / "mask.nii.gz"
    vx.write(LabelMap.of(np.ones((2, 3, 4), np.uint8), Geometry((2, 3, 4), np.eye(4)), LabelTable.numbered([1])), mask)
    assert algorithm_of(mask) is None
    assert algorithm_of(tmp_path) is None
