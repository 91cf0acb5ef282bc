"""Standardised uptake values against the closed form: activity * weight / dose decayed to the moment the activity holds for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage

from voxelry.errors import UnsupportedFormatError, UsageError
from voxelry.formats.reader import read

STORED = np.arange(1, 49, dtype=np.int16).reshape(6, 8)
WEIGHT, DOSE, HALF_LIFE = 70.0, 3.7e8, 6586.2
SLOPE = 12.5


@pytest.fixture
def pet(make_slice, save_slice, tmp_path):
    def write(tracer=None, **elements):
        item = Dataset()
        stated = {"RadionuclideTotalDose": DOSE, "RadionuclideHalfLife": HALF_LIFE, "RadiopharmaceuticalStartTime": "090000.00"}
        for keyword, value in (stated | (tracer or {})).items():
            if value is not None:
                setattr(item, keyword, value)
        data = make_slice(
            STORED,
            SOPClassUID=PositronEmissionTomographyImageStorage,
            Modality="PT",
            RescaleSlope=SLOPE,
            RescaleIntercept=0,
            Units="BQML",
            DecayCorrection="START",
            CorrectedImage=["DECY", "ATTN"],
            PatientWeight=WEIGHT,
            SeriesDate="20260301",
            SeriesTime="100000",
            AcquisitionDate="20260301",
            AcquisitionTime="101000",
            RadiopharmaceuticalInformationSequence=[item],
            WindowCenter=100,
            WindowWidth=200,
        )
        for keyword, value in elements.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)
        return save_slice(data, tmp_path / "pet.dcm")

    return write


def suv(seconds, activity=STORED * SLOPE):
    return activity * WEIGHT * 1000 / (DOSE * 2 ** (-seconds / HALF_LIFE))


def check(path, truth):
    volume = read(path, suv=True)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[0, :, :, 0].T, truth, rtol=1e-6)
    return volume


def test_activity_unless_asked(pet):
    np.testing.assert_allclose(read(pet()).array[0, :, :, 0].T, STORED * SLOPE)


def test_from_the_start_of_the_series(pet):
    volume = check(pet(), suv(3600))
    assert any(remark.startswith("SUV by body weight: 70 kg, 370 MBq, DecayCorrection START") for remark in volume.source.remarks)
    assert volume.windows[0].center == pytest.approx(suv(3600, 100.0))


def test_a_series_time_after_the_acquisition_is_not_the_start(pet):
    check(pet(SeriesTime="150000"), suv(4200))


def test_from_the_injection(pet):
    check(pet(DecayCorrection="ADMIN"), suv(0))


def test_each_image_its_own_moment(pet):
    check(pet(DecayCorrection="NONE"), suv(4200))
    decay, frame = math.log(2) / HALF_LIFE, 600.0
    mean = (1 - math.exp(-decay * frame)) / (decay * frame)
    check(pet(DecayCorrection="NONE", ActualFrameDuration=frame * 1000), suv(4200) / mean)


def test_injection_as_a_full_moment(pet):
    check(pet({"RadiopharmaceuticalStartDateTime": "20260301083000.00+0100"}), suv(5400))


def test_injection_before_midnight(pet):
    check(pet({"RadiopharmaceuticalStartTime": "233000"}, SeriesTime="003000", AcquisitionTime="004000"), suv(3600))


def test_stored_as_suv(pet):
    check(pet(Units="GML"), STORED * SLOPE)
    with pytest.raises(UnsupportedFormatError, match="SUV by LBM"):
        read(pet(Units="GML", SUVType="LBM"), suv=True)


@pytest.mark.parametrize(("tag", "truth"), [(0x00, STORED * SLOPE * 0.002), (0x09, suv(3600, STORED * SLOPE * 0.002))])
def test_counts_of_philips(pet, save_slice, tag, truth):
    import pydicom

    path = pet(Units="CNTS")
    with pytest.raises(UnsupportedFormatError, match=r"\(7053,1000\)"):
        read(path, suv=True)
    data = pydicom.dcmread(path)
    data.private_block(0x7053, "Philips PET Private PlaneGroup", create=True).add_new(tag, "DS", "0.002")
    check(save_slice(data, path), truth)


@pytest.mark.parametrize(
    ("elements", "tracer", "named"),
    [
        ({"PatientWeight": None}, {}, r"PatientWeight \(0010,1030\)"),
        ({"PatientWeight": 0}, {}, r"PatientWeight \(0010,1030\)"),
        ({}, {"RadionuclideTotalDose": None}, r"RadionuclideTotalDose \(0018,1074\)"),
        ({}, {"RadionuclideHalfLife": None}, r"RadionuclideHalfLife \(0018,1075\)"),
        ({}, {"RadiopharmaceuticalStartTime": None}, r"RadiopharmaceuticalStartTime \(0018,1072\)"),
        ({"RadiopharmaceuticalInformationSequence": None}, {}, r"RadionuclideTotalDose"),
        ({"SeriesTime": None, "AcquisitionTime": None}, {"RadiopharmaceuticalStartDateTime": "20260301090000"}, "SeriesTime"),
        ({"DecayCorrection": "NONE", "AcquisitionTime": None}, {}, r"AcquisitionTime \(0008,0032\)"),
        ({"DecayCorrection": "SOME"}, {}, r"DecayCorrection \(0054,1102\) is 'SOME'"),
        ({"Units": "PROPCPS"}, {}, "Units PROPCPS"),
        ({}, {"RadiopharmaceuticalStartDateTime": "20260301120000"}, "injected 7200 s after"),
    ],
)
def test_what_is_missing_is_named(pet, elements, tracer, named):
    with pytest.raises(UnsupportedFormatError, match=named):
        read(pet(tracer, **elements), suv=True)


def test_only_of_pet(make_slice, save_slice, tmp_path):
    with pytest.raises(UsageError, match="this is CT"):
        read(save_slice(make_slice(STORED), tmp_path / "ct.dcm"), suv=True)
