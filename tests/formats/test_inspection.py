"""Looking before reading."""

from __future__ import annotations

import copy
import time
import zipfile
from dataclasses import astuple
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.fileset import FileSet

from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import CorruptFileError, MissingFileError, ReadError, SelectionError, VoxelryError
from voxelry.formats.inspection import inspect
from voxelry.formats.reader import read, read_all
from voxelry.formats.writer import write

SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"


def rows(path):
    return {row.path.rpartition("/")[2]: row for row in inspect(path)}


def the_series(path):
    (row,) = [row for row in inspect(path) if row.format == "dicom" and row.kind == "image"]
    return row


class TestATree:
    def test_a_mixed_one(self, tmp_path, folder, plain, save_slice, make_slice):
        folder(plain, where="tree/ct")
        image = nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.int16), np.diag([1, 2, 3, 1]))
        image.to_filename(tmp_path / "tree" / "scan.nii.gz")
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "tree" / "p.png")
        (tmp_path / "tree" / "notes.txt").write_text("text")
        (tmp_path / "tree" / "claims.nii").write_text("text")
        seg = make_slice(np.zeros((6, 8), np.uint8), Modality="SEG", SOPClassUID=SEG_CLASS)
        save_slice(seg, tmp_path / "tree" / "ct" / "seg.dcm")
        found = rows(tmp_path / "tree")
        assert set(found) == {"ct", "scan.nii.gz", "p.png", "notes.txt", "claims.nii", "seg.dcm"}
        series = found["ct"]
        assert (series.format, series.modality, series.shape, series.n_files) == ("dicom", "CT", (1, 8, 6, 5), 5)
        assert series.readable
        assert series.spacing == pytest.approx((0.9, 0.7, 2.5))
        assert series.orientation == "LPS"
        assert series.syntax == ("Explicit VR Little Endian",)
        assert found["scan.nii.gz"].shape == (5, 2, 3, 4)
        assert found["p.png"].shape == (1, 4, 5)
        assert [found[name].kind for name in ("notes.txt", "claims.nii", "seg.dcm")] == ["other", "image", "labels"]
        assert "no image format" in found["notes.txt"].reason
        assert "read_labels" in found["seg.dcm"].reason
        assert {name for name, row in found.items() if row.is_failure} == {"claims.nii"}

    def test_an_image_of_another_format_called_dicom_is_what_it_is(self, tmp_path, folder, plain):
        place = folder(plain)
        nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), np.eye(4)).to_filename(place / "mask.nii")
        (place / "mask.nii").rename(place / "mask.dcm")
        assert rows(place)["mask.dcm"].readable
        assert read(place).shape == (1, 8, 6, 5)

    def test_what_else_lies_in_archives_is_no_failure(self, tmp_path, folder, plain):
        files = sorted(folder(plain).iterdir())
        with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
            for file in files:
                archive.write(file, f"ct/{file.name}")
            archive.writestr("readme.txt", "text")
        with zipfile.ZipFile(tmp_path / "papers.zip", "w") as archive:
            archive.writestr("readme.txt", "text")
        for place in (tmp_path, tmp_path / "study.zip"):
            found = rows(place)
            assert found["study.zip"].readable
            assert "not DICOM" in found["readme.txt"].reason
            assert not any(row.is_failure for row in found.values())
        assert rows(tmp_path)["papers.zip"].reason == "a zip archive without DICOM"

    def test_files_whose_series_was_stripped_are_read_from_their_folder(self, tmp_path, folder, make_series, ramp):
        folder(make_series(ramp, SeriesInstanceUID=None), where="tree/a")
        folder(make_series(ramp[:3], SeriesInstanceUID=None), where="tree/b")
        for row in inspect(tmp_path / "tree"):
            assert read(row.path, series=row.key or None).shape == row.shape
        assert {name: row.shape[-1] for name, row in rows(tmp_path / "tree").items()} == {"a": 5, "b": 3}

    def test_phases_are_listed_in_their_order(self, folder, make_series):
        series = [
            data for phase in range(12) for data in make_series(np.zeros((3, 4, 6), np.int16), TemporalPositionIdentifier=phase)
        ]
        assert [row.facts["time_point"] for row in inspect(folder(series))] == [str(phase) for phase in range(12)]

    def test_patients_who_share_uids_are_found_each_in_their_folder(self, tmp_path, folder, make_series, ramp):
        for name in ("one", "two"):
            folder(make_series(ramp, PatientID=name), where=f"tree/{name}")
        found = rows(tmp_path / "tree")
        assert {name: row.key for name, row in found.items()} == {"one": "", "two": ""}

    def test_files_without_endings_deep_down_and_patients_mixed_in_one_folder(self, folder, make_series, ramp):
        series = [
            make_series(ramp, SeriesInstanceUID=f"1.{k}", PatientID=f"SECRET{k // 2}", PatientName=f"Nobody^{k // 2}")
            for k in range(4)
        ]
        place = folder([data for one in series for data in one], [f"x/y{k % 3}/{k:07d}" for k in range(20)])
        found = inspect(place)
        assert [row.patient for row in sorted(found, key=lambda row: row.key)] == ["patient-1"] * 2 + ["patient-2"] * 2
        for row in found:
            assert row.readable
            assert read(row.path, series=row.key).shape == row.shape == (1, 8, 6, 5)

    def test_copies_in_several_folders_are_told_apart(self, tmp_path, folder, plain):
        folder(plain, where="tree/a")
        folder(copy.deepcopy(plain), where="tree/b")
        found = inspect(tmp_path / "tree")
        assert [(Path(row.path).name, row.readable, row.key) for row in found] == [("a", True, ""), ("b", True, "")]

    def test_nothing_there(self, tmp_path):
        for path in (tmp_path, tmp_path / "none"):
            with pytest.raises(MissingFileError):
                inspect(path)

    def test_progress_counts_every_file(self, tmp_path, folder, make_series):
        place = folder(make_series(np.zeros((70, 2, 2), np.int16)))
        told = []
        inspect(place, progress=lambda *call: told.append(call))
        assert told == [("reading headers", 50, 70), ("reading headers", 70, 70)]


class TestASeries:
    def test_gaps_duplicates_and_tilt_are_counted(self, tmp_path, folder, make_series, ramp):
        def row(name, slices):
            return the_series(folder(slices, where=name))

        assert row("gap", [*make_series(ramp)[:2], *make_series(ramp)[3:]]).gaps == 1
        slices = make_series(ramp)
        assert row("copy", [*slices, copy.deepcopy(slices[1])]).duplicates == 1
        for data in (tilted := make_series(ramp)):
            x, y, z = data.ImagePositionPatient
            data.ImagePositionPatient = [x, y + 0.25 * (z + 100), z]
        found = row("tilt", tilted)
        assert found.tilt == pytest.approx(np.degrees(np.arctan(0.25)), abs=1e-2)
        assert found.readable

    def test_refused_says_why_and_what_helps(self, folder, plain):
        row = the_series(folder(plain[:2] + plain[3:]))
        assert not row.readable
        assert row.is_failure
        assert "missing" in row.reason
        assert "gap" in row.reason
        assert row.shape == (1, 8, 6, 4)

    def test_echoes_have_a_row_each(self, folder, make_series, ramp):
        place = folder([data for echo in (1, 2) for data in make_series(ramp, EchoNumbers=echo)])
        found = inspect(place)
        assert [row.facts for row in found] == [{"echo": "1"}, {"echo": "2"}]
        assert [row.siblings for row in found] == [2, 2]
        for row in found:
            assert row.readable
            assert "one of 2 volumes" in row.reason
            assert read(row.path, series=row.key).shape == (1, 8, 6, 5)

    def test_two_series_in_one_folder(self, folder, plain, make_series, ramp):
        place = folder(plain + make_series(ramp, SeriesInstanceUID="1.2.3"))
        found = inspect(place)
        assert [row.readable for row in found] == [True, True]
        with pytest.raises(SelectionError):
            read(place)
        for row in found:
            assert read(row.path, series=row.key).source.series_uid == row.key

    def test_pixels_are_not_decoded(self, folder, plain):
        place = folder(plain)
        file = place / "IM002.dcm"
        file.write_bytes(file.read_bytes()[:-2])
        assert the_series(place).n_files == 5

    def test_each_file_is_opened_once(self, folder, plain, monkeypatch):
        place = folder(plain)
        opened = []
        real = Path.open
        monkeypatch.setattr(Path, "open", lambda path, *args, **more: opened.append(path.name) or real(path, *args, **more))
        assert the_series(place).readable
        assert sorted(opened) == sorted(file.name for file in place.iterdir())

    def test_a_radiograph_a_file(self, folder, make_slice):
        bare = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SliceThickness": None}
        files = [make_slice(np.zeros((4, 5), np.uint16), Modality="DX", **bare) for _ in range(2)]
        place = folder(files)
        found = inspect(place)
        assert [Path(row.path).name for row in found] == ["IM000.dcm", "IM001.dcm"]
        assert all(row.readable and not row.key and row.shape == (1, 4, 5) for row in found)
        with pytest.raises(SelectionError) as caught:
            read(place)
        assert len({*caught.value.choices}) == 2
        assert read(place, series=caught.value.choices[1]).source.files == (found[1].path,)


class TestNobodyIsNamed:
    def test_unless_asked_for(self, folder, plain):
        place = folder(plain)
        text = str([astuple(row) for row in inspect(place)])
        assert "Nobody" not in text
        assert "SECRET42" not in text
        assert [row.name for row in inspect(place, names=True)] == ["Nobody^Known (SECRET42)"]

    def test_in_an_archive(self, tmp_path, folder, plain):
        place = folder(plain)
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
            packed.write(place / "IM000.dcm", "x")
        (row,) = inspect(tmp_path / "a.zip", names=True)
        assert (row.patient, row.name) == ("patient-1", "Nobody^Known (SECRET42)")

    def test_files_without_a_patient_have_no_pseudonym(self, folder, make_series, ramp):
        assert the_series(folder(make_series(ramp, PatientID=None, PatientName=None))).patient == ""


class TestBrokenFiles:
    @pytest.mark.parametrize("length", [0, 100, 140, 300, 420])
    def test_a_truncated_slice_does_not_end_the_listing_but_its_series_is_refused(self, folder, plain, length):
        place = folder(plain)
        file = place / "IM004.dcm"
        file.write_bytes(file.read_bytes()[:length])
        found = rows(place)
        assert not found["IM004.dcm"].readable
        assert found["IM004.dcm"].is_failure
        assert not found["series"].readable
        assert "IM004.dcm" in found["series"].reason
        with pytest.raises(ReadError, match=r"IM004.dcm"):
            read(place)

    def test_another_series_is_read_where_the_broken_file_says_whose_it_is(self, folder, plain, make_series, ramp):
        other = make_series(ramp, SeriesInstanceUID="1.2.3")
        for data in other:
            data.SeriesDescription = "x" * 64
            del data.Rows, data.Columns
            data.Rows, data.Columns = 6, 8
        place = folder([*plain, *other])
        file = place / "IM009.dcm"
        raw = file.read_bytes()
        file.write_bytes(raw[: raw.index(b"\x28\x00\x10\x00US")])
        assert read(place, series=plain[0].SeriesInstanceUID).shape == (1, 8, 6, 5)
        with pytest.raises(CorruptFileError, match=r"IM009.dcm"):
            read(place, series="1.2.3")

    def test_a_page_of_text_called_dcm_may_be_a_lost_slice(self, folder, plain):
        place = folder(plain)
        (place / "IM005.dcm").write_text("<html>503 Service Unavailable</html>")
        with pytest.raises(CorruptFileError, match=r"IM005.dcm"):
            read(place)

    def test_a_header_longer_than_the_first_block(self, folder, plain):
        for data in plain:
            data.ImageComments = "c" * 9000
            data.add_new(0x00091001, "OB", b"\0" * 100_000)
        assert the_series(folder(plain)).readable

    def test_a_deflated_header_is_inflated_no_further_than_it_must_be(self, tmp_path, make_slice, save_slice):
        data = make_slice(np.zeros((2000, 2000), np.int16))
        file = save_slice(data, tmp_path / "a.dcm", pydicom.uid.DeflatedExplicitVRLittleEndian)
        (row,) = inspect(file)
        assert row.readable
        assert row.syntax == ("Deflated Explicit VR Little Endian",)
        assert read(file).array.shape == (1, 2000, 2000, 1)


class TestADicomdir:
    @pytest.fixture
    def medium(self, tmp_path, plain):
        """A disc: DICOMDIR and the files it names."""
        medium = FileSet()
        for data in plain:
            data.PatientID, data.StudyInstanceUID, data.StudyDate, data.StudyTime = "SECRET42", "1.2.9", "20200101", "120000"
            data.StudyID, data.SeriesNumber, data.AccessionNumber = "1", 1, ""
            data.file_meta = pydicom.dataset.FileMetaDataset()
            data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            medium.add(data)
        medium.write(tmp_path / "disc")
        medium._stage["t"].cleanup()  # pydicom leaves its temporary folder to the collector, which warns
        (tmp_path / "disc" / "AUTORUN.INF").write_text("[autorun]")
        (tmp_path / "disc" / "README.TXT").write_text("read me")
        return tmp_path / "disc"

    def test_by_itself_and_within_its_folder(self, medium):
        for place in (medium, medium / "DICOMDIR"):
            row = the_series(place)
            assert row.readable
            assert row.shape == read(place).shape == (1, 8, 6, 5)
        assert "DICOMDIR" not in rows(medium)
        assert not any(row.is_failure for row in inspect(medium))

    def test_a_file_it_names_is_not_there(self, medium):
        lost = sorted(path for path in medium.rglob("*") if path.is_file() and "IM" in path.name)[-1]
        lost.unlink()
        for place in (medium, medium / "DICOMDIR"):
            with pytest.raises(MissingFileError, match=rf"DICOMDIR: names 1 files.*{lost.name}"):
                read(place)
            assert not the_series(place).readable

    def test_names_in_lower_case(self, medium):
        for path in sorted(medium.rglob("*"), key=lambda path: -len(path.parts)):
            if path.name != "DICOMDIR":
                path.rename(path.with_name(path.name.lower()))
        assert read(medium / "DICOMDIR").shape == (1, 8, 6, 5)

    @pytest.mark.parametrize("name", ["DIRFILE", "DICOMDIR", "index.dcm"])
    @pytest.mark.parametrize("flat", [True, False])
    def test_files_under_other_names_are_known_by_their_instance(self, medium, name, flat):
        images = sorted(path for path in medium.rglob("*") if path.is_file() and "IM" in path.name)
        for number, path in enumerate(images):
            path.rename((medium if flat else path.parent) / f"slice{number}.ima")
        (medium / "DICOMDIR").rename(medium / name)
        for place in (medium, medium / name):
            assert read(place).shape == (1, 8, 6, 5)
            assert the_series(place).readable
        (medium if flat else path.parent).joinpath("slice2.ima").unlink()
        for place in (medium, medium / name):
            with pytest.raises(MissingFileError, match=f"{name}: names 1 files"):
                read(place)

    def test_files_beside_it_may_have_lost_their_folders_and_instances(self, medium):
        images = sorted(path for path in medium.rglob("*") if path.is_file() and "IM" in path.name)
        for path in images:
            data = pydicom.dcmread(path)
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            data.save_as(medium / f"{path.name.lower()}.dcm")
            path.unlink()
        for place in (medium, medium / "DICOMDIR"):
            assert read(place).shape == (1, 8, 6, 5)

    def test_other_files_of_the_folder_are_not_read_through_it(self, tmp_path, medium, make_series, save_slice):
        images = sorted(path for path in medium.rglob("*") if path.is_file() and "IM" in path.name)
        images[0].rename(medium / "renamed")
        for number, data in enumerate(make_series(np.zeros((3, 4, 4), np.int16), SeriesInstanceUID="1.2.3")):
            save_slice(data, medium / f"other{number}")
        assert read(medium / "DICOMDIR").shape == (1, 8, 6, 5)
        assert len(read_all(medium)) == 2

    def test_names_that_lead_elsewhere_are_not_followed(self, tmp_path, medium, plain, save_slice, monkeypatch):
        save_slice(plain[0], tmp_path / "OUTSIDE")
        monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
        monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)
        data = pydicom.dcmread(medium / "DICOMDIR")
        for record in data.DirectoryRecordSequence:
            if "ReferencedFileID" in record:
                medium.joinpath(*record.ReferencedFileID).unlink()
                record.ReferencedFileID = ["..", "OUTSIDE"]
        data.save_as(medium / "DICOMDIR")
        monkeypatch.undo()
        with pytest.raises(MissingFileError, match=r"not below its folder: \.\./OUTSIDE"):
            read(medium / "DICOMDIR")


def test_one_file(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "p.png")
    assert len(inspect(tmp_path / "p.png")) == 1
    (tmp_path / "n.txt").write_text("text")
    assert inspect(tmp_path / "n.txt")[0].is_failure


@pytest.mark.realdata
def test_readable_means_that_read_works_and_the_reverse(realdata):
    for row in inspect(realdata / "dicom"):
        try:
            volume = read(row.path, series=row.key or None)
        except VoxelryError:
            assert not row.readable
        else:
            assert row.readable or row.kind != "image"
            if row.readable and row.format not in ("png", "jpeg"):  # a grey picture stored in colour has one channel
                assert volume.shape == row.shape


@pytest.mark.realdata
def test_read_all_gives_what_is_listed(realdata):
    place = realdata / "dicom" / "dev" / "wg04_compressed"
    readable = [row for row in inspect(place) if row.readable and row.format == "dicom"]
    assert len(read_all(place)) >= len(readable)


@pytest.mark.slow
def test_ten_thousand_files_would_take_well_under_a_minute(tmp_path, make_slice, save_slice):
    data = make_slice(np.zeros((64, 64), np.int16), AcquisitionNumber=1)
    for number in range(2000):
        series, k = divmod(number, 250)
        data.SeriesInstanceUID, data.SOPInstanceUID = f"1.2.{series}", f"1.2.{series}.{k}"
        data.PatientID, data.ImagePositionPatient = f"P{series // 4}", [0, 0, 2.0 * k]
        save_slice(data, tmp_path / f"{series // 4}" / f"{series}" / f"{k}")
    start = time.process_time()
    found = inspect(tmp_path)
    assert time.process_time() - start < 8
    assert [row.n_files for row in found] == [250] * 8
    assert all(row.readable for row in found)


def test_a_pair_is_one_row_and_a_slicer_segmentation_is_a_mask(tmp_path):
    grid = Geometry.from_spacing((4, 5, 3), (1, 1, 2))
    write(LabelMap.of(np.ones(grid.shape, np.uint8), grid, LabelTable.numbered([1])), tmp_path / "a.seg.nrrd")
    nibabel.AnalyzeImage(np.zeros(grid.shape, np.int16), np.eye(4)).to_filename(tmp_path / "b.img")
    mask, pair = inspect(tmp_path)
    assert (mask.format, mask.kind, mask.shape) == ("seg-nrrd", "labels", (1, 4, 5, 3))
    assert (pair.format, pair.kind, pair.path) == ("analyze", "image", str(tmp_path / "b.hdr"))
