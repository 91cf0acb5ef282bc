import io
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import trimesh

from helpers.ct_series import x_ray
from helpers.sources import SECRET_ID, TABLE, headers, labels, volume
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.dicom.objects.encapsulated_stl import write_encapsulated_stl


@pytest.mark.parametrize("kind", ["axial", "enhanced", "tilted"])
def test_an_object_for_each_label(tmp_path, dciodvfy, kind):
    source = volume(kind, tmp_path)
    made = labels(source.geometry)
    folder = write_encapsulated_stl(made, source, tmp_path / "case.stl.dcm")
    assert folder == tmp_path / "case_stl_dcm"
    objects = {}
    for file in folder.iterdir():
        assert dciodvfy(file) == []
        stored = pydicom.dcmread(file)
        objects[stored.DocumentTitle] = stored
    assert set(objects) == {label.name for label in TABLE.labels if made.mask(label.name).any()}
    header = headers(source)[0]
    assert len({stored.SeriesInstanceUID for stored in objects.values()}) == 1
    assert len({stored.SOPInstanceUID for stored in objects.values()}) == len(objects)
    for name, stored in objects.items():
        assert (stored.PatientID, stored.StudyInstanceUID) == (SECRET_ID, header.StudyInstanceUID)
        assert (stored.Modality, stored.FrameOfReferenceUID) == ("M3D", header.FrameOfReferenceUID)
        content = stored.EncapsulatedDocument[: stored.EncapsulatedDocumentLength]
        solid = trimesh.load(io.BytesIO(content), file_type="stl")
        assert solid.is_watertight
        expected = made.mask(name).sum() * source.geometry.voxel_volume
        assert solid.volume == pytest.approx(expected, rel=0.01)
        assert b"SPACE=LPS" in content[:80]


def test_attributes_are_those_that_dcmtk_writes(tmp_path):
    """Whatever dcmtk's own encapsulation of an STL has, ours has."""
    program = shutil.which("stl2dcm")
    if program is None:
        pytest.skip("stl2dcm (dcmtk) is not installed")
    source = volume("single", tmp_path)
    array = np.zeros(source.geometry.shape, np.uint8)
    array[2:5, 2:5] = 1
    made = LabelMap.of(array, source.geometry, TABLE.model_copy(update={"labels": TABLE.labels[1:2]}))
    stored = pydicom.dcmread(write_encapsulated_stl(made, source, tmp_path / "x.stl.dcm"))
    (tmp_path / "x.stl").write_bytes(stored.EncapsulatedDocument[: stored.EncapsulatedDocumentLength])
    subprocess.run([program, tmp_path / "x.stl", tmp_path / "y.dcm"], check=True, capture_output=True, timeout=60)
    theirs = pydicom.dcmread(tmp_path / "y.dcm")
    assert {element.keyword for element in theirs} - {element.keyword for element in stored} == set()
    assert stored.SOPClassUID == theirs.SOPClassUID
    assert stored.EncapsulatedDocument == theirs.EncapsulatedDocument


def test_refusals(tmp_path):
    source = volume("axial", tmp_path)
    with pytest.raises(ExportError, match="no label has a voxel"):
        write_encapsulated_stl(
            LabelMap(np.zeros((1, *source.geometry.shape), np.uint8), source.geometry, TABLE), source, tmp_path / "x.stl.dcm"
        )
    with pytest.raises(ExportError, match=r"\.stl\.dcm"):
        write_encapsulated_stl(labels(source.geometry), source, tmp_path / "x.dcm")
    picture = x_ray(tmp_path)
    with pytest.raises(ExportError, match="projection"):
        write_encapsulated_stl(LabelMap.of(np.zeros((7, 8), np.uint8), picture.geometry, TABLE), picture, tmp_path / "x.stl.dcm")
