from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm, describe, property_type
from voxelry.formats.file_segments import Segment, segment_numbers, segments_of

NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=64)
SHAPE = (5, 4, 3)
TABLE = LabelTable(
    labels=(
        Label(value=9, name="liver"),
        Label(value=2, name="lesion", kind="thing"),
        Label(value=4, name="spleen"),
        Label(value=2, name="nodule", kind="thing", layer=1),
    ),
    ignore=7,
)


def labels(seed=0, instances=True):
    rng = np.random.default_rng(seed)
    layers = rng.choice(np.array([0, 2, 7, 9], np.uint16), (2, *SHAPE))
    layers[1] = np.where(layers[1] == 2, 2, 0)
    ids = np.where(layers == 2, rng.choice(np.array([0, 3, 70000], np.uint32), layers.shape), 0) if instances else None
    if instances:
        ids[1] += ids[1] > 0  # an id belongs to one label
    return LabelMap(layers, Geometry.from_spacing(SHAPE, (1, 1, 1)), TABLE, instances=ids)


def test_numbers_by_brute_force():
    made = labels()
    segments = segments_of(made)
    numbers = segment_numbers(made, segments)
    for layer, place in ((layer, place) for layer in range(2) for place in np.ndindex(SHAPE)):
        value, instance = int(made.layers[layer][place]), int(made.instances[layer][place])
        fitting = [
            s.number
            for s in segments
            if s.label.layer == layer and s.label.value == value and (s.label.kind == "stuff" or s.instance == instance)
        ]
        assert numbers[layer][place] == (fitting[0] if fitting else 0)


def test_one_segment_a_label_and_one_an_instance_of_a_thing():
    named = [(s.number, s.name, s.instance, s.present) for s in segments_of(labels())]
    assert named == [
        (1, "liver", 0, True),
        (2, "lesion", 0, True),
        (3, "lesion 3", 3, True),
        (4, "lesion 70000", 70000, True),
        (5, "spleen", 0, False),
        (6, "nodule", 0, True),
        (7, "nodule 4", 4, True),
        (8, "nodule 70001", 70001, True),
    ]
    assert [s.name for s in segments_of(labels(), absent=False)] == [name for _, name, _, present in named if present]
    assert [s.name for s in segments_of(labels(instances=False))] == ["liver", "lesion", "spleen", "nodule"]


def test_without_any_voxel_the_first_label_stays():
    made = labels()
    empty = replace(made, layers=np.zeros_like(made.layers), instances=None)
    assert [(s.name, s.present) for s in segments_of(empty, absent=False)] == [("liver", False)]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8, np.int64])
def test_any_integer_type(dtype):
    made = labels(instances=False)
    turned = replace(made, layers=made.layers.astype(dtype))
    np.testing.assert_array_equal(
        segment_numbers(turned, segments_of(turned)), segment_numbers(made, segments_of(made)), strict=True
    )


def test_names_find_their_codes_in_the_catalogue():
    liver, lesion, *_ = segments_of(labels())
    assert liver.label.type.value == "10200004"
    assert lesion.label.category.meaning == "Morphologically Abnormal Structure"


def test_a_long_name_leaves_room_for_the_number():
    array, ids = np.ones((1, 2, 2, 2), np.uint8), np.full((1, 2, 2, 2), 12, np.uint32)
    table = LabelTable(labels=(Label(value=1, name="x" * 64, kind="thing"),))
    (segment,) = segments_of(LabelMap(array, Geometry.from_spacing((2, 2, 2), (1, 1, 1)), table, instances=ids))
    assert segment.name == "x" * 61 + " 12"


@given(
    st.lists(st.sampled_from(["A\\B", "A/B", "A/B 2", "lesion", "lesion 1", "lesion 2", "x" * 64, "x" * 62 + " 1"]), unique=True)
)
def test_no_two_segments_have_one_name(names):
    """Nor does a label that is absent change the names of the others, by which a report finds them."""
    array = np.repeat(np.arange(1, len(names) + 1, dtype=np.uint8), 2).reshape(1, -1, 1, 1)
    if not names:
        return
    ids = np.tile(np.array([1, 2], np.uint32), len(names)).reshape(array.shape)
    table = LabelTable(
        labels=tuple(Label(value=v, name=name, kind="thing" if name == "lesion" else "stuff") for v, name in enumerate(names, 1))
    )
    of = LabelMap(array, Geometry.from_spacing(array.shape[1:], (1, 1, 1)), table, instances=ids)
    segments = segments_of(of)
    assert len({segment.name for segment in segments}) == len(segments)
    assert all(len(segment.name) <= 64 for segment in segments)
    fewer = replace(of, layers=np.where(array == 1, 0, array), instances=np.where(array == 1, 0, ids))
    present = {(segment.label.name, segment.instance): segment.name for segment in segments}
    for segment in segments_of(fewer, absent=False):
        if segment.present and names[0] != "lesion":
            assert segment.name == present[segment.label.name, segment.instance]


@given(NAMES, NAMES)
def test_private_codes_fit_dicom_and_tell_names_apart(one, other):
    first, second = (property_type(Label(value=1, name=name)) for name in (one, other))
    assert len(first.value) <= 16
    assert first.scheme == "99VOXELRY"
    assert first.value == property_type(Label(value=2, name=one)).value
    if one.casefold() != other.casefold() and one.isalnum() and other.isalnum():
        assert first.value != second.value


def test_readable_where_short():
    assert property_type(Label(value=1, name="lung")).value == "LUNG"
    assert property_type(Label(value=1, name="disc L5-S1")).value == "DISC_L5_S1"


def test_signs_tell_private_codes_apart():
    values = [
        property_type(Label(value=1, name=name)).value for name in ("PTV", "PTV+", "PTV-", "PTV++", "(PTV)", "P/TV", "P TV")
    ]
    assert len(set(values)) == len(values)


def test_a_known_code_is_kept():
    code = Code(value="10200004", meaning="Liver")
    assert property_type(Label(value=1, name="liver", type=code)) is code


def test_a_named_finding_keeps_its_tracking():
    label = Label(value=1, name="lesion", tracking_id="target 1", tracking_uid="1.2.3")
    whole, single = (
        describe(Segment(1, "lesion", label), Algorithm()),
        describe(Segment(2, "lesion 5", label, instance=5), Algorithm()),
    )
    assert (whole.TrackingID, whole.TrackingUID) == ("target 1", "1.2.3")
    assert single.TrackingID == "lesion 5"
    assert single.TrackingUID != "1.2.3"


@pytest.mark.parametrize("kind", ["automatic", "semiautomatic", "manual"])
def test_who_drew_it(kind):
    made = describe(Segment(1, "liver", Label(value=1, name="liver")), Algorithm("net", "3", kind))
    assert made.SegmentAlgorithmType == kind.upper()
    assert ("SegmentAlgorithmName" in made) == (kind != "manual")
    assert ("SegmentationAlgorithmIdentificationSequence" in made) == (kind != "manual")
    assert made.RecommendedDisplayCIELabValue == list(Label(value=1, name="liver").cielab)


def test_a_model_is_an_algorithm():
    class Card:
        name, version = "torso\\organs", "1.2"

    assert Algorithm.of(Card()) == Algorithm("torso/organs", "1.2")
