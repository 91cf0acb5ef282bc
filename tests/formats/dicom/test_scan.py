"""Files of a folder that cannot be read, or are no plain scans: they hide nothing that is sound, and are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voxelry.errors import CorruptFileError, PartlyReadError, SelectionError
from voxelry.formats.dicom.dicom_reader import read_all_dicom, read_dicom
from voxelry.formats.inspection import inspect
from voxelry.formats.read_options import ReadOptions
from voxelry.formats.reader import read

SCRAPS = {
    "cut within its header": lambda raw: raw[:420],
    "cut within its meta header": lambda raw: raw[:200],
    "magic alone": lambda raw: raw[:132],
    "empty": lambda raw: b"",
    "noise after the magic": lambda raw: raw[:132] + bytes(range(256)),
}
"""What is left of a file, without its series."""


class TestAScrapWithoutASeries:
    @pytest.fixture(params=SCRAPS)
    def scrap(self, request, tmp_path, plain, save_slice):
        raw = save_slice(plain[0], tmp_path / "whole").read_bytes()

        def write(place):
            path = place / "scrap.dcm"
            path.write_bytes(SCRAPS[request.param](raw))
            return path

        return write

    @pytest.fixture
    def tree(self, tmp_path, ramp, make_series, save_slice):
        """Two series in folders of their own and two in one folder."""
        for number, where in enumerate(("a", "b", "both", "both")):
            for index, data in enumerate(make_series(ramp, SeriesInstanceUID=f"1.2.{number}")):
                save_slice(data, tmp_path / "tree" / where / f"{number}-{index}.dcm")
        return tmp_path / "tree"

    @pytest.mark.parametrize("where", [".", "a", "both"])
    def test_it_hides_nothing_that_is_sound(self, tree, scrap, where):
        scrap(tree / where)
        volumes = read_all_dicom(tree)
        assert sorted(volume.source.series_uid for volume in volumes) == ["1.2.0", "1.2.1", "1.2.2", "1.2.3"]
        for number in range(4):
            volume = read_dicom(tree, ReadOptions(series=f"1.2.{number}"))
            assert volume.shape == (1, 8, 6, 5)
            assert "left out (cannot be read): scrap.dcm" in volume.source.remarks
        assert all("left out (cannot be read): scrap.dcm" in volume.source.remarks for volume in volumes)
        assert read_dicom(tree / "b").shape == (1, 8, 6, 5)

    def test_in_the_folder_of_a_single_series_it_may_be_a_slice(self, tree, scrap):
        scrap(tree / "a")
        for reading in (read_dicom, read_all_dicom):
            with pytest.raises(CorruptFileError, match=r"scrap\.dcm"):
                reading(tree / "a")
        assert read_dicom(tree / "a", ReadOptions(series="largest")).shape == (1, 8, 6, 5)

    def test_listings_agree(self, tree, scrap):
        scrap(tree / "a")
        scrap(tree / "both")
        for row in inspect(tree):
            if row.format == "dicom":
                assert row.readable == (Path(row.path).name != "a")
                if row.readable:
                    assert read(row.path, series=row.key or None).shape == (1, 8, 6, 5)
        assert sum(Path(row.path).name == "scrap.dcm" for row in inspect(tree)) == 2


def test_a_series_of_which_nothing_can_be_read_is_reported(tmp_path, ramp, make_series, save_slice):
    for number in range(3):
        for index, data in enumerate(make_series(ramp, SeriesInstanceUID=f"1.2.{number}")):
            if number == 2:
                del data.Rows, data.Columns
            save_slice(data, tmp_path / f"{number}-{index}.dcm")
    with pytest.raises(PartlyReadError, match=r"1 of 3 volumes cannot be read: 1\.2\.2: ") as caught:
        read_all_dicom(tmp_path)
    assert [volume.source.series_uid for volume in caught.value.volumes] == ["1.2.0", "1.2.1"]


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    "image_type", [["ORIGINAL", "PRIMARY", "LOCALIZER"], "LOCALIZER", ["DERIVED", "PRIMARY", "LOCALIZER", "OTHER"]]
)
def test_localizers_are_said_to_be_localizers(tmp_path, make_slice, save_slice, modality, image_type):
    scout = make_slice(np.zeros((6, 8), np.int16), ImageType=image_type, Modality=modality, SeriesInstanceUID="1.2.3")
    save_slice(scout, tmp_path / "scout.dcm")
    save_slice(make_slice(np.zeros((6, 8), np.int16), Modality=modality), tmp_path / "slice.dcm")
    said = "localizer: a scout view to plan others by, as ImageType says"
    assert said in read_dicom(tmp_path / "scout.dcm").source.remarks
    assert said not in read_dicom(tmp_path / "slice.dcm").source.remarks
    assert [said in row.remarks for row in inspect(tmp_path)] == [True, False]
    with pytest.raises(SelectionError, match="series number \\?, localizer, 1 image"):
        read_dicom(tmp_path)


@pytest.mark.parametrize(
    ("description", "is_called"),
    [("AAHead_Scout", True), ("3-plane loc", True), ("Topogram  0.6  T20f", True), ("LOCALISER", True), ("Surview", True),
     ("AAScout", True), ("Topogramm", True), ("Lokalisator", True), ("Lokale Rekonstruktion", False),
     ("3 Plane Localizer_ND", True), ("T1 local shim", False), ("Scouting party", False), ("", False), ("blood flow", False)],
)  # fmt: skip
def test_what_is_called_a_localizer_is_said_to_be_perhaps_one(tmp_path, make_slice, save_slice, description, is_called):
    path = save_slice(make_slice(np.zeros((6, 8), np.int16), Modality="MR", SeriesDescription=description), tmp_path / "a.dcm")
    remarks = read_dicom(path).source.remarks
    assert any(remark.startswith("perhaps a localizer") for remark in remarks) == is_called
