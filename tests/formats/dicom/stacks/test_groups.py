"""Which planes form a volume: a series that is one stays one, and several in one series are told apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxelry.errors import DuplicateSlicesError, MissingSlicesError, SelectionError, SeriesError
from voxelry.formats.dicom.scan import scan_headers
from voxelry.formats.dicom.stacks.groups import group_planes
from voxelry.formats.inspection import inspect
from voxelry.formats.reader import read, read_all

Slices = list[Any]
SHAPE = (4, 6)


@pytest.fixture
def stack(make_series) -> Callable[..., Slices]:
    """`count` slices of one grey value, each with its own SOPInstanceUID; keywords may be functions of the slice's number."""

    def make(value: int, count: int = 6, start: float = 0.0, step: float = 2.5, **elements: Any) -> Slices:
        fixed = {name: what for name, what in elements.items() if not callable(what)}
        slices = make_series(np.full((count, *SHAPE), value, np.int16), origin=(0, 0, start), step=step, **fixed)
        for index, data in enumerate(slices):
            for name, what in elements.items():
                if callable(what):
                    setattr(data, name, what(index))
        return slices

    return make


def planes(place):
    return group_planes(scan_headers(place).planes)


def values(place) -> list[set[int]]:
    """Grey values of each volume: one each, where volumes were not mixed."""
    return [set(np.unique(volume.array).tolist()) for volume in read_all(place)]


class TestOneStaysOne:
    @pytest.mark.parametrize(
        "elements",
        [
            {"AcquisitionNumber": lambda k: k + 1},
            {"AcquisitionNumber": lambda k: k // 3},
            {"ContentTime": lambda k: f"12000{k}", "AcquisitionTime": lambda k: f"12000{k}", "TriggerTime": lambda k: 10.0 * k},
            {"EchoTime": lambda k: 10 + 1e-5 * k, "ImageType": lambda k: ["ORIGINAL", "PRIMARY", "AXIAL", str(k % 2)]},
            {"ImageOrientationPatient": lambda k: [1, 2e-6 * k, 0, 0, 1, 0], "PixelSpacing": lambda k: [0.7, 0.9 + 1e-6 * k]},
            {"SliceThickness": lambda k: 1 + k, "KVP": lambda k: 100 + 20 * (k % 2)},
        ],
    )
    def test_facts_that_change_from_slice_to_slice(self, folder, stack, elements):
        place = folder(stack(1, **elements))
        assert len(planes(place)) == 1
        assert read(place).shape == (1, 6, 4, 6)

    def test_a_tilted_series(self, folder, stack):
        place = folder(stack(1, AcquisitionNumber=lambda k: k, ImagePositionPatient=lambda k: [0, 0.6 * k, 2.5 * k]))
        (group,) = planes(place)
        assert len(group.planes) == 6

    def test_a_missing_slice_is_not_hidden_by_parting(self, folder, stack):
        slices = stack(1, AcquisitionNumber=lambda k: k)
        assert len(planes(folder(slices[:2] + slices[3:]))) == 1

    def test_an_exact_copy_is_a_duplicate_and_no_phase(self, folder, stack):
        slices = stack(1, InstanceNumber=lambda k: k + 1)
        place = folder([*slices, copy.deepcopy(slices[3])])
        (group,) = planes(place)
        assert len(group.planes) == 7
        with pytest.raises(DuplicateSlicesError):
            read(place)


class TestSeveralAreToldApart:
    @pytest.mark.parametrize(
        ("name", "keyword", "marks"),
        [
            ("echo", "EchoNumbers", (1, 2)),
            ("echo_time", "EchoTime", (4.6, 9.2)),
            ("b", "DiffusionBValue", (0.0, 1000.0)),
            ("time_point", "TemporalPositionIdentifier", (1, 2)),
            ("acquisition", "AcquisitionNumber", (1, 2)),
            ("inversion_time", "InversionTime", (100, 900)),
            ("kernel", "ConvolutionKernel", ("B30", "B70")),
            ("thickness", "SliceThickness", (2.5, 5.0)),
            ("phase", "ContentTime", ("120000", "120130")),
            ("phase", "TriggerTime", (0, 40)),
        ],
    )
    def test_by_one_fact(self, folder, stack, name, keyword, marks):
        place = folder([data for value, mark in enumerate(marks) for data in stack(value, **{keyword: mark})])
        groups = planes(place)
        assert [list(group.facts) for group in groups] == [[name]] * 2
        assert values(place) == [{0}, {1}]
        chosen = read(place, series=f"{name}={groups[1].facts[name]}")
        assert set(np.unique(chosen.array)) == {1}

    def test_by_image_type_as_magnitude_and_phase(self, folder, stack):
        kinds = ["M", "P"]
        place = folder([d for k, kind in enumerate(kinds) for d in stack(k, ImageType=["ORIGINAL", "PRIMARY", kind])])
        assert values(place) == [{0}, {1}]

    def test_by_two_facts(self, folder, stack):
        marks = [(echo, time) for echo in (1, 2) for time in (1, 2, 3)]
        place = folder(
            [d for k, (echo, time) in enumerate(marks) for d in stack(k, EchoNumbers=echo, TemporalPositionIdentifier=time)]
        )
        assert [group.facts for group in planes(place)] == [{"echo": str(e), "time_point": str(t)} for e, t in marks]
        assert values(place) == [{k} for k in range(6)]
        assert set(np.unique(read(place, series="echo=2,time_point=3").array)) == {5}

    @pytest.mark.parametrize("keyword", ["TriggerTime", "AcquisitionTime", "ContentTime"])
    def test_by_the_order_of_times_that_no_volume_shares(self, folder, stack, keyword):
        def times(phase: int) -> Callable[[int], Any]:
            return lambda k: 40.0 * phase + 0.3 * k if keyword == "TriggerTime" else f"1200{10 * phase + k:02d}"

        place = folder([d for phase in range(3) for d in stack(phase, **{keyword: times(phase)})])
        groups = planes(place)
        assert [group.facts for group in groups] == [{"phase": str(k)} for k in (1, 2, 3)]
        assert keyword in groups[0].remarks[0]
        assert values(place) == [{0}, {1}, {2}]

    @pytest.mark.parametrize("interleaved", [False, True])
    def test_by_instance_number_where_nothing_else_tells(self, folder, stack, interleaved):
        place = folder(
            [
                d
                for phase in range(3)
                for d in stack(phase, InstanceNumber=lambda k, p=phase: k * 3 + p if interleaved else p * 6 + k)
            ]
        )
        assert values(place) == [{0}, {1}, {2}]
        assert "InstanceNumber" in read_all(place)[0].source.remarks[0]

    def test_images_at_one_place_are_no_phases_by_their_numbers_alone(self, folder, stack):
        place = folder(stack(1, InstanceNumber=lambda k: k, ImagePositionPatient=lambda k: [0, 0, 0]))
        with pytest.raises(DuplicateSlicesError, match=r"all 6 images lie at one position.*positions are lost"):
            read(place)

    def test_phases_within_echoes(self, folder, stack):
        place = folder(
            [
                d
                for echo in (1, 2)
                for phase in range(2)
                for d in stack(2 * echo + phase, EchoNumbers=echo, TriggerTime=lambda k, p=phase: 50.0 * p + 0.1 * k)
            ]
        )
        assert sorted(map(min, values(place))) == [2, 3, 4, 5]
        assert all(len(found) == 1 for found in values(place))

    def test_stations_that_overlap(self, folder, stack):
        place = folder([*stack(1, 8, 0, AcquisitionNumber=1), *stack(2, 8, 15.0, AcquisitionNumber=2)])
        assert values(place) == [{1}, {2}]

    def test_stations_interleaved_unevenly(self, folder, stack):
        place = folder([*stack(1, 6, 0, AcquisitionNumber=1), *stack(2, 6, 0.9, AcquisitionNumber=2)])
        assert values(place) == [{1}, {2}]

    def test_phases_of_different_reach(self, folder, stack):
        place = folder([*stack(1, 4, 0, AcquisitionNumber=1), *stack(2, 9, -5, AcquisitionNumber=2)])
        assert [volume.shape[-1] for volume in read_all(place)] == [4, 9]

    def test_stacks_side_by_side(self, folder, stack):
        place = folder([*stack(1), *stack(2, ImagePositionPatient=lambda k: [200, 0, 2.5 * k])])
        assert values(place) == [{1}, {2}]

    def test_frames_of_reference_never_merge(self, folder, stack):
        slices = stack(1)
        for data in slices[3:]:
            data.FrameOfReferenceUID = "1.2.3"
        place = folder(slices)
        assert [volume.shape[-1] for volume in read_all(place)] == [3, 3]
        with pytest.raises(SelectionError):
            read(place)

    def test_patients_of_one_series_uid_never_merge(self, folder, stack):
        place = folder([*stack(1), *stack(2, PatientID="OTHER7")])
        groups = planes(place)
        assert len({group.key for group in groups}) == 2
        assert values(place) == [{1}, {2}]
        assert {min(np.unique(read(place, series=group.key).array)) for group in groups} == {1, 2}

    def test_one_patient_whose_name_ends_in_empty_components(self, folder, stack):
        assert len(planes(folder(stack(1, PatientName=lambda k: "Nobody^Known" + "^" * (k % 3))))) == 1

    def test_a_phase_that_lacks_a_slice_is_a_phase_of_its_own(self, folder, stack):
        phases = [stack(value, AcquisitionTime=f"12{value:02d}00") for value in range(3)]
        place = folder([*phases[0], *phases[1][:2], *phases[1][3:], *phases[2]])
        assert [len(group.planes) for group in planes(place)] == [6, 5, 6]
        assert set(np.unique(read(place, series="phase=3").array)) == {2}
        with pytest.raises(MissingSlicesError):
            read(place, series="phase=2")

    def test_copies_of_a_series_in_several_folders(self, tmp_path, folder, stack):
        slices = stack(1)
        folder(slices, where="tree/a")
        folder(copy.deepcopy(slices), where="tree/b")
        groups = planes(tmp_path / "tree")
        assert [group.facts for group in groups] == [{"folder": "a"}, {"folder": "b"}]

    def test_a_few_copies_beside_the_whole(self, tmp_path, folder, stack):
        slices = stack(1)
        folder(slices, where="tree/a")
        folder(copy.deepcopy(slices[:2]), where="tree/b")
        assert sorted(len(group.planes) for group in planes(tmp_path / "tree")) == [2, 6]

    def test_a_series_spread_over_folders_is_one(self, tmp_path, folder, stack):
        slices = stack(1)
        folder(slices[:3], where="tree/a")
        folder(slices[3:], where="tree/b")
        assert len(planes(tmp_path / "tree")) == 1


class TestScreenshots:
    @pytest.fixture
    def reports(self, make_slice) -> Slices:
        """A dose report in colour, and a grey page, as they come with a CT; neither has a place."""
        bare = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None, "SliceThickness": None}
        colour = make_slice(np.zeros(SHAPE, np.uint8), **bare, PhotometricInterpretation="RGB", SamplesPerPixel=3)
        colour.PixelData = bytes(3 * SHAPE[0] * SHAPE[1])
        page = make_slice(
            np.zeros(SHAPE, np.int16), **bare, SeriesInstanceUID="1.2.9", ImageType=["DERIVED", "SECONDARY", "OTHER"]
        )
        return [colour, page]

    def test_beside_a_scan_they_are_left_out_with_a_remark(self, folder, stack, reports):
        place = folder([*stack(1), *reports])
        assert read(place).shape == (1, 6, 4, 6)
        assert any("secondary captures" in remark and "IM006.dcm, IM007.dcm" in remark for remark in read(place).source.remarks)
        assert len(read_all(place)) == 1
        kinds = {row.path.rpartition("/")[2]: (row.kind, row.is_failure) for row in inspect(place)}
        assert kinds == {"series": ("image", False), "IM006.dcm": ("object", False), "IM007.dcm": ("object", False)}

    def test_alone_they_are_refused(self, folder, reports):
        with pytest.raises(SeriesError, match="colour"):
            read(folder(reports[:1]))

    def test_slices_that_lost_their_place_are_no_screenshots(self, folder, stack, reports):
        lost = stack(2, SeriesInstanceUID="1.2.3", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
        for data in lost:
            del data.ImagePositionPatient, data.ImageOrientationPatient
        with pytest.raises(SelectionError, match="2 volumes"):
            read(folder([*stack(1), *lost]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    marks=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=5, unique=True),
    order=st.randoms(use_true_random=False),
    jitter=st.floats(0, 2e-3),
)
def test_any_mixture_of_echoes_phases_and_acquisitions(tmp_path_factory, stack, save_slice, marks, order, jitter):
    """Every plane is in one group, and no group mixes volumes."""
    place = tmp_path_factory.mktemp("mixture")
    slices = []
    for value, (echo, time, acquisition) in enumerate(marks):
        elements = {"EchoNumbers": echo, "TemporalPositionIdentifier": time, "AcquisitionNumber": acquisition}
        slices += stack(value, 4, ImagePositionPatient=lambda k: [0, 0, 2.5 * k + jitter * (k % 2)], **elements)
    order.shuffle(slices)
    for index, data in enumerate(slices):
        data.SOPInstanceUID = pydicom.uid.generate_uid()
        save_slice(data, place / f"{index}")
    assert sum(len(group.planes) for group in planes(place)) == len(slices)
    assert sorted(map(min, values(place))) == list(range(len(marks)))
    assert all(len(found) == 1 for found in values(place))
    assert all(row.readable for row in inspect(place))
