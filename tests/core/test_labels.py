import numpy as np
import pytest
import skimage.color
from highdicom.color import CIELabColor
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from pydantic import ValidationError

from voxelry.core.labels import BACKGROUND, IGNORE_INDEX, Code, Label, LabelTable, id2label
from voxelry.errors import ConfigError, LabelError


def table(*values: int, ignore: int | None = None) -> LabelTable:
    return LabelTable(labels=tuple(Label(value=v, name=f"organ {v}") for v in values), ignore=ignore)


KIDNEYS = LabelTable(
    labels=(
        Label(value=5, name="kidney left", mirror="kidney right"),
        Label(value=1, name="liver"),
        Label(value=2, name="kidney right", mirror="kidney left"),
    )
)

values_of_tables = st.lists(st.integers(1, 65535), min_size=1, max_size=6, unique=True)


# ---- classes


@given(values_of_tables, st.data())
def test_classes_and_back_is_the_identity(values: list[int], data: st.DataObject):
    stored = data.draw(hnp.arrays(np.uint16, hnp.array_shapes(max_dims=3, max_side=4), elements=st.sampled_from([0, *values])))
    known = table(*values)
    classes = known.to_classes(stored, "x.nii.gz")
    assert classes.dtype == np.int16
    assert_array_equal(known.from_classes(classes), stored)
    position = {0: 0} | {value: i + 1 for i, value in enumerate(values)}
    assert classes.ravel().tolist() == [position[v] for v in stored.ravel().tolist()]


def test_class_order_is_the_tables_not_the_values():
    assert KIDNEYS.to_classes(np.array([0, 1, 2, 5]), "x").tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize(("highest", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_stored_values_take_the_smallest_type_that_holds_the_table(highest, dtype):
    stored = table(1, highest).from_classes(np.array([0, 1, 2]))
    assert stored.dtype == dtype
    assert stored.tolist() == [0, 1, highest]


def test_the_ignore_value_counts_nowhere():
    known = table(1, ignore=2)
    classes = known.to_classes(np.array([[0, 1, 2]]), "x")
    assert classes.tolist() == [[0, 1, IGNORE_INDEX]]
    with pytest.raises(LabelError, match=r"class indices -1\.\.1"):
        known.from_classes(classes)


def test_a_class_beyond_the_table_is_refused():
    with pytest.raises(LabelError, match=r"0\.\.2 are not all in 0\.\.1"):
        table(7).from_classes(np.array([0, 1, 2]))


def test_an_empty_array_has_no_values_to_refuse():
    assert table(1).from_classes(table(1).to_classes(np.zeros((0, 3), np.uint8), "x")).shape == (0, 3)


def test_unknown_values_name_the_file_the_values_and_the_known_ones():
    with pytest.raises(LabelError, match=r"case_7\.nii\.gz: label values 3, 9 .*known: \[0, 1, 2\].*dataset card"):
        table(1, 2).to_classes(np.array([0, 3, 9, 1, 3]), "case_7.nii.gz")


def test_a_long_list_of_unknown_values_is_cut():
    with pytest.raises(LabelError, match=r"2, 3, 4, 5, 6, 7, 8, 9 \.\.\. are not"):
        table(1).check_values(range(40), "x")


# ---- names


def test_labels_are_found_by_value_and_by_name():
    assert KIDNEYS[5] is KIDNEYS["kidney left"]
    assert KIDNEYS.names == ("kidney left", "liver", "kidney right")
    assert KIDNEYS.id2label == {0: "background", 5: "kidney left", 1: "liver", 2: "kidney right"}
    assert len(KIDNEYS) == 3


def test_an_unknown_name_hints_at_the_nearest():
    with pytest.raises(LabelError, match="Did you mean 'liver'"):
        KIDNEYS["livr"]
    with pytest.raises(LabelError, match=r"Known values: \[0, 1, 2, 5\]"):
        KIDNEYS[9]


def test_a_value_on_two_layers_is_never_guessed():
    layered = LabelTable(labels=(Label(value=1, name="lung"), Label(value=1, name="nodule", layer=1)))
    assert layered.layers == 2
    assert layered["nodule"].layer == 1
    with pytest.raises(LabelError, match="lung, nodule"):
        layered[1]


def test_numbered_names_values_nobody_named():
    assert LabelTable.numbered(np.array([3, 0, 1, 3])).id2label == {0: "background", 1: "label_1", 3: "label_3"}
    assert LabelTable.numbered([0]).layers == 1


# ---- mirror twins


def test_mirrored_classes_swap_the_twins_and_twice_is_the_identity():
    swap = KIDNEYS.mirror_classes()
    assert swap == (0, 3, 2, 1)
    assert tuple(swap[c] for c in swap) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "labels",
    [
        (Label(value=1, name="a", mirror="b"), Label(value=2, name="b")),
        (Label(value=1, name="a", mirror="nobody"),),
        (Label(value=1, name="a", mirror="b"), Label(value=2, name="b", mirror="c"), Label(value=3, name="c", mirror="b")),
    ],
)
def test_a_twin_that_does_not_answer_is_refused(labels):
    with pytest.raises(ValidationError, match="mirror"):
        LabelTable(labels=labels)


# ---- what is refused, and colours


def test_names_and_values_stand_once():
    with pytest.raises(ValidationError, match="name a occurs twice"):
        LabelTable(labels=(Label(value=1, name="a"), Label(value=2, name="a")))
    with pytest.raises(ValidationError, match="value 1 on layer 0 occurs twice"):
        LabelTable(labels=(Label(value=1, name="a"), Label(value=1, name="b")))
    with pytest.raises(ValidationError, match="both a label and the ignore value"):
        table(1, 2, ignore=2)


@pytest.mark.parametrize(
    "wrong", [{"value": 0}, {"value": 65536}, {"name": ""}, {"color": (0, 0, 256)}, {"color": (-1, 0, 0)}, {"kind": "blob"}]
)
def test_a_label_out_of_range_is_refused(wrong):
    with pytest.raises(ValidationError):
        Label(**({"value": 1, "name": "a"} | wrong))


def test_a_colour_is_the_labels_own_or_one_of_the_palette():
    assert Label(value=3, name="a", color=(1, 2, 3)).rgb == (1, 2, 3)
    colours = [Label(value=v, name="a").rgb for v in range(1, 15)]
    assert len(set(colours)) == 14
    assert Label(value=15, name="a").rgb == colours[0]


def test_codes_default_to_snomed_and_an_anatomical_structure():
    assert Label(value=1, name="a").category == Code(value="91723000", scheme="SCT", meaning="Anatomical Structure")


@given(values_of_tables)
def test_a_table_survives_json(values: list[int]):
    known = table(*values)
    assert LabelTable.model_validate_json(known.model_dump_json()) == known


# ---- colour and tracking


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_cielab_is_what_independent_conversions_give(rgb):
    stored = np.array(Label(value=1, name="a", color=rgb).cielab)
    assert stored.min() >= 0
    assert stored.max() <= 65535
    expected = skimage.color.rgb2lab(np.array(rgb) / 255, illuminant="D65")
    np.testing.assert_allclose(stored / 65535 * [100, 255, 255] - [0, 128, 128], expected, atol=0.03)
    np.testing.assert_allclose(stored, CIELabColor.from_rgb(*rgb).value, atol=8)


def test_white_and_black_are_exact():
    assert Label(value=1, name="a", color=(255, 255, 255)).cielab == (65535, 32896, 32896)
    assert Label(value=1, name="a", color=(0, 0, 0)).cielab == (0, 32896, 32896)


@pytest.mark.parametrize("wrong", ["", "1.2.x", "lesion", "1" * 65])
def test_a_tracking_uid_is_a_uid(wrong):
    assert Label(value=1, name="a", tracking_uid="1.2.3").tracking_uid == "1.2.3"
    with pytest.raises(ValidationError):
        Label(value=1, name="a", tracking_uid=wrong)


# ---- id2label, as configurations of models have it


@given(values_of_tables)
def test_id2label_out_and_in_is_the_identity(values):
    known = table(*sorted(values))
    assert LabelTable.from_id2label(id2label(known)) == known
    assert LabelTable.from_id2label({str(value): name for value, name in id2label(known).items()}) == known


def test_id2label_is_a_copy():
    names = id2label(KIDNEYS)
    names.clear()
    assert id2label(KIDNEYS) == {0: "background", 1: "liver", 2: "kidney right", 5: "kidney left"}


@pytest.mark.parametrize("zero", [*BACKGROUND, "Background", None])
def test_value_0_is_the_background_or_missing(zero):
    names = {1: "nucleus"} if zero is None else {0: zero, 1: "nucleus"}
    assert LabelTable.from_id2label(names).names == ("nucleus",)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ({0: "wall", 1: "sky"}, LabelError, "value 0 is 'wall', but 0 is the background"),
        ({1: "a", "1": "b"}, LabelError, "stands twice"),
        ({"one": "a"}, LabelError, "'one' is no stored value"),
        ({-1: "a"}, LabelError, "-1 is no stored value"),
        ({True: "a"}, LabelError, "True is no stored value"),
        ({1.0: "a"}, LabelError, "1.0 is no stored value"),
        ({70000: "a"}, ConfigError, "70000: a number of at most 65535"),
        ({1: ""}, ConfigError, "at least 1 characters"),
        ({1: "a", 2: "a"}, ConfigError, "name"),
        ({1: 5}, ConfigError, "5: a text is expected"),
    ],
)
def test_a_bad_id2label_is_an_error(names, error, message):
    with pytest.raises(error, match=message):
        LabelTable.from_id2label(names)
