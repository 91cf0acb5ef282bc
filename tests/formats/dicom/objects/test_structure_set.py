"""The structures of a structure set: which contours and codes belong to which name, whatever the numbers are."""

from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence
from pydicom.tag import Tag

from helpers.structures import code, contour, image_item, structure_set
from voxelry.formats.dicom.elements import PARSE_ERRORS
from voxelry.formats.dicom.objects.structure_set import structures_of

TRIANGLE = np.array([(0.0, 0, 0), (4, 0, 0), (0, 4, 0)])
NUMBERS = st.lists(st.one_of(st.none(), st.integers(1, 3)), min_size=1, max_size=4)


def data_of(numbers, order=None):
    """Structure ``n<index>`` of each number, with one contour that begins at x = index, and its type code; listed in `order`."""
    data = Dataset()
    data.StructureSetROISequence, data.ROIContourSequence, data.RTROIObservationsSequence = [], [], []
    for index, number in enumerate(numbers):
        roi = Dataset()
        roi.ROIName, roi.ROINumber = f"n{index}", number
        data.StructureSetROISequence.append(roi)
    for index in range(len(numbers)) if order is None else order:
        drawing, observation = Dataset(), Dataset()
        drawing.ContourSequence = [contour(np.add(TRIANGLE, (index, 0, 0)))]
        observation.RTROIIdentificationCodeSequence = [code(f"C{index}", "x")]
        drawing.ReferencedROINumber = observation.ReferencedROINumber = numbers[index]
        data.ROIContourSequence.append(drawing)
        data.RTROIObservationsSequence.append(observation)
    return data


def starts_of(data):
    """Name -> where its contours begin; and the remarks."""
    structures, remarks = structures_of(data)
    starts = {
        item.label.name: item.problem or [int(outline.points[0, 0]) for outline in item.contours] for item in structures.values()
    }
    return starts, remarks


@settings(max_examples=200)
@given(NUMBERS, st.randoms(use_true_random=False))
def test_a_structure_has_its_own_contours_or_a_problem(numbers, random):
    """Whatever numbers are missing or doubled; in another order only distinct numbers tell."""
    order = list(range(len(numbers)))
    starts, remarks = starts_of(data_of(numbers, order))
    assert starts == {f"n{index}": [index] for index in order}
    distinct = None not in numbers and len(set(numbers)) == len(numbers)
    assert bool(remarks) != distinct
    random.shuffle(order)
    starts, _ = starts_of(data_of(numbers, order))
    kept = [numbers[index] for index in order] == list(numbers)
    for index, number in enumerate(numbers):
        if number is not None and numbers.count(number) == 1:
            assert starts[f"n{index}"] == [index]
        else:
            assert kept or isinstance(starts[f"n{index}"], str)


def test_two_structures_of_one_number():
    starts, remarks = starts_of(data_of([1, 1, 2]))
    assert starts == {"n0": [0], "n1": [1], "n2": [2]}
    assert remarks == ["ROI number 1 is that of 'n0' and 'n1': told apart by the order of the file"]
    structures, _ = structures_of(data_of([1, 1, 2]))
    assert [item.label.type.value for item in structures.values()] == ["C0", "C1", "C2"]
    data = data_of([1, 1, 2])
    del data.ROIContourSequence[1]
    starts, _ = starts_of(data)
    assert starts["n2"] == [2]
    assert starts["n0"] == starts["n1"]
    assert "ROI number 1 is that of 'n0' and 'n1', and the order" in starts["n0"]
    del data.ROIContourSequence[0]  # neither has a contour: nothing to mix up
    assert starts_of(data)[0] == {"n0": [], "n1": [], "n2": [2]}


def test_structures_without_contours_do_not_hide_the_order():
    data = data_of([4, 1, 1, 3])
    del data.ROIContourSequence[3], data.ROIContourSequence[0]
    assert starts_of(data)[0] == {"n0": [], "n1": [1], "n2": [2], "n3": []}


def test_one_structure_in_two_items_has_both():
    data = data_of([1, 2])
    data.ROIContourSequence[1].ReferencedROINumber = 1
    structures, _ = structures_of(data)
    assert [len(item.contours) for item in structures.values()] == [2, 0]
    assert structures[1].remarks == ("the contours of 2 items are joined",)


def test_contours_of_no_listed_structure_are_remarked():
    data = data_of([1, 2])
    data.ROIContourSequence[0].ReferencedROINumber = 9
    del data.ROIContourSequence[1].ReferencedROINumber
    data.RTROIObservationsSequence[1].ReferencedROINumber = 9
    starts, remarks = starts_of(data)
    assert starts == {"n0": [], "n1": []}
    assert remarks == [
        "1 contours of ROI number 9, which is not listed, are left out",
        "1 contours without a ROI number are left out",
        "codes of 1 structures that are not listed are left out",
    ]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_missing_number_is_told_by_the_order_of_the_others(place):
    data = data_of([3, 1, 2])
    del data.ROIContourSequence[place].ReferencedROINumber
    starts, remarks = starts_of(data)
    assert starts == {"n0": [0], "n1": [1], "n2": [2]}
    assert remarks == ["contours without a ROI number are told apart by the order of the file"]
    data = data_of([3, 1, 2])
    del data.StructureSetROISequence[place].ROINumber
    starts, remarks = starts_of(data)
    assert starts == {"n0": [0], "n1": [1], "n2": [2]}
    assert remarks == [f"'n{place}' without a ROI number: told apart by the order of the file"]


def test_a_structure_set_without_structures_is_damaged():
    data = data_of([1])
    data.StructureSetROISequence = []
    with pytest.raises(ValueError, match="lists no structure"):
        structures_of(data)


def test_several_observations_of_one_structure():
    data = data_of([1])
    plain, other = Dataset(), Dataset()
    plain.ReferencedROINumber = other.ReferencedROINumber = 1
    plain.RTROIInterpretedType = "ORGAN"
    data.RTROIObservationsSequence = [plain, *data.RTROIObservationsSequence, plain]
    structures, _ = structures_of(data)
    assert structures[1].label.type.value == "C0"
    assert not structures[1].remarks
    other.RTROIIdentificationCodeSequence = [code("D1", "y")]
    data.RTROIObservationsSequence.append(other)
    structures, _ = structures_of(data)
    assert structures[1].label.type.value == "C0"
    assert structures[1].remarks == ("2 observations with different codes: the first counts",)


def test_the_category_is_read():
    data = data_of([1, 2])
    data.RTROIObservationsSequence[0].SegmentedPropertyCategoryCodeSequence = [code("49755003", "Morphologically Abnormal")]
    first, second = structures_of(data)[0].values()
    assert (first.label.category.value, second.label.category.value) == ("49755003", "91723000")


def test_names_with_a_backslash_are_text():
    data = data_of([1])
    data.StructureSetROISequence[0].ROIName = ["GTV", "new"]
    data.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0].CodeMeaning = ["a", "b"]
    label = structures_of(data)[0][1].label
    assert (label.name, label.type.meaning) == ("GTV\\new", "a\\b")


def stored(item, keyword, value):
    """Put a value into an item as a file holds it, valid or not."""
    tag = Tag(keyword)
    item[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)


@pytest.mark.parametrize("color", [b"300\\0\\0", b"1\\2", b"red"])
def test_a_colour_that_is_none_is_left_out(color):
    data = data_of([1])
    stored(data.ROIContourSequence[0], "ROIDisplayColor", color)
    assert structures_of(data)[0][1].label.color is None


def test_contours_without_coordinates_are_left_out():
    data = data_of([1])
    empty, absent = contour(TRIANGLE), contour(TRIANGLE)
    empty.ContourData = None
    del absent.ContourData
    data.ROIContourSequence[0].ContourSequence += [empty, absent]
    [structure] = structures_of(data)[0].values()
    assert (len(structure.contours), structure.remarks) == (1, ("2 contours without coordinates are left out",))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"1\\2", "contour 2 has 2 coordinates"),
        (b"1\\2\\3\\", "is no number"),
        (b"1,5\\2\\3", "is no number"),
        (b"nan\\2\\3", "is not finite"),
    ],
)
def test_damaged_coordinates_name_structure_and_contour(value, problem):
    data, bad = data_of([1, 2]), contour(TRIANGLE)
    stored(bad, "ContourData", value)
    data.ROIContourSequence[0].ContourSequence.append(bad)
    first, second = structures_of(data)[0].values()
    assert first.problem.startswith("structure 'n0': contour 2")
    assert problem in first.problem
    assert len(second.contours) == 1


def test_what_is_told_of_the_number_of_points_is_a_hint():
    data = data_of([1])
    data.ROIContourSequence[0].ContourSequence[0].NumberOfContourPoints = 7
    [structure] = structures_of(data)[0].values()
    assert len(structure.contours[0].points) == 3
    assert structure.remarks == ("1 contours state another number of points than they have",)


def test_images_of_contours():
    data = data_of([1])
    data.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [image_item("1.2"), image_item("1.3", 4)]
    [structure] = structures_of(data)[0].values()
    assert structure.contours[0].images == (("1.2", None), ("1.3", 4))


@pytest.mark.filterwarnings("ignore:.*exceeds the size of 64 kByte")
def test_a_file_whose_writer_knew_no_vr(tmp_path):
    """Explicit VR, every element of the structure set as UN, as PS3.5 section 6.2.2 allows; beyond 64 KiB too."""
    ring = np.column_stack([np.cos(np.linspace(0, 6, 4000)), np.sin(np.linspace(0, 6, 4000)), np.zeros(4000)])
    path = structure_set(tmp_path / "rt.dcm", [("heart", (1, 2, 3), [contour(ring)]), ("lung", None, [contour(TRIANGLE)])])
    want, _ = structures_of(dcmread(path))
    data = dcmread(path)
    for keyword in ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence"):
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, True
        write_sequence(buffer, data[keyword], ["iso8859"])
        value, tag = buffer.getvalue(), data[keyword].tag
        data[tag] = RawDataElement(tag, "UN", len(value), value, 0, False, True)
    data.save_as(path)
    assert dcmread(path).get_item("ROIContourSequence").VR == "UN"
    got, _ = structures_of(dcmread(path))
    for number, structure in want.items():
        assert got[number].label == structure.label
        np.testing.assert_array_equal(got[number].contours[0].points, structure.contours[0].points)


def test_a_file_that_breaks_off_loses_nothing_unsaid(tmp_path):
    """Cut anywhere before the observations: refused, never fewer structures or contours."""
    path = structure_set(
        tmp_path / "rt.dcm", [("heart", (1, 2, 3), [contour(TRIANGLE)] * 3), ("lung", None, [contour(TRIANGLE)])]
    )
    whole = path.read_bytes()
    end = whole.index(b"\x06\x30\x80\x00SQ")
    for length in range(whole.index(b"\x06\x30\x10\x00SQ"), end, 7):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(PARSE_ERRORS):
                structures_of(dcmread(BytesIO(whole[:length])))
