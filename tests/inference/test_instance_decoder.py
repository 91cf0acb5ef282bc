"""Objects from fields: equal to scikit-image's watershed and to cc3d, and the same whatever the layout."""

import cc3d
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from helpers.instance_fields import CELLS, Pointwise, ellipsoids, fields_of, pointwise_model, pointwise_scan
from helpers.plans import tiny_model, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import Volume
from voxelry.errors import ModelError
from voxelry.inference import instance_decoder as module
from voxelry.inference import memory_budget, plan_ensemble, segmenter
from voxelry.inference.head_kernels import CORE_UNIT
from voxelry.inference.instance_decoder import InstanceDecoder, decode_layers
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.inference.ring_buffer import HostRingBuffer, packed_head
from voxelry.inference.ring_buffer_torch import DeviceRingBuffer

SHAPES = [(6, 6, 6), (5, 7, 6), (15, 15), (1, 15, 16), (3, 8, 9), (14, 1, 16), (1, 1, 200), (1, 1, 1), (12, 20)]


def packed(core, level):
    """What leaves the engine, of a core's probability and a level of 1..254."""
    return (np.where(core, 200, 50) * CORE_UNIT + level).astype(np.uint32)


def decoded(classes, fields, things, threshold=0.5, smallest=0.0, order="C", slab=None):
    """Ids and classes."""
    own, ids = (np.array(array, order=order) for array in (classes, fields))
    decoder = InstanceDecoder(own, ids, things, threshold, smallest)
    count = decoder.run(slab)
    assert count == ids.max(initial=0)
    return ids, own, decoder.dropped


def by_first_voxel(ids):
    """Ids as 1..n in the order of their first voxels."""
    values, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    numbers = np.zeros(len(values), np.int64)
    objects = np.flatnonzero(values)
    numbers[objects[np.argsort(first[objects])]] = np.arange(1, len(objects) + 1)
    return numbers[inverse].reshape(ids.shape)


def watershed_oracle(inside, core, level):
    """scikit-image's watershed from connected cores; what it does not reach is an object of its own."""
    around = np.ones((3,) * inside.ndim)
    seeds, _ = ndimage.label(core & inside, around)
    ids = watershed(-level.astype(int), seeds, mask=inside, connectivity=around)
    rest, _ = ndimage.label(inside & (ids == 0), around)
    return np.where(rest > 0, rest + ids.max(), ids)


@st.composite
def fields_without_ties(draw):
    """Foreground, cores and levels, of which no two are equal."""
    shape = draw(st.sampled_from(SHAPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    level = (rng.permutation(254)[: np.prod(shape)] + 1).reshape(shape)
    inside, core = rng.random(shape) < draw(st.floats(0, 1)), rng.random(shape) < draw(st.floats(0, 0.5))
    return inside, core, level


@given(fields_without_ties(), st.sampled_from("CF"), st.integers(1, 8))
@settings(max_examples=300, deadline=None)
def test_without_ties_it_is_scikit_images_watershed(fields, order, slab):
    inside, core, level = fields
    ids, _, _ = decoded(inside.astype(np.uint8), packed(core, level), [1], order=order, slab=slab)
    assert np.array_equal(ids, by_first_voxel(watershed_oracle(inside, core, level)))


@given(
    st.integers(0, 2**32),
    st.sampled_from([(9, 8, 7), (20, 31), (1, 30, 4)]),
    st.floats(0.05, 1),
    st.sampled_from("CF"),
    st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_without_a_head_objects_are_the_components_of_each_label(seed, shape, share, order, slab):
    rng = np.random.default_rng(seed)
    classes = (rng.integers(1, 4, shape) * (rng.random(shape) < share)).astype(np.uint8)
    ids, own, dropped = decoded(classes, np.zeros(shape, np.uint32), [1, 3], None, order=order, slab=slab)
    things = np.where(classes == 2, 0, classes)
    assert np.array_equal(ids, by_first_voxel(cc3d.connected_components(things, connectivity=26 if len(shape) == 3 else 8)))
    assert np.array_equal(own, classes)
    assert dropped == 0


@given(st.integers(0, 2**32), st.sampled_from([(20, 21, 22), (60, 70), (30, 4, 40)]), st.integers(1, 7))
@settings(max_examples=20, deadline=None)
def test_the_layout_changes_nothing(seed, shape, levels):
    """Fields full of ties, in both orders of memory, in slabs of any size."""
    rng = np.random.default_rng(seed)
    objects = ellipsoids(shape, 30, (2, 7), seed)
    core, distance = fields_of(objects, seed)
    fields = packed(core > 0, np.round((np.clip(distance, -1, 1) + 1) * (2**levels - 1) / 2.1) + 1)
    classes = ((objects > 0) * (1 + rng.integers(0, 2, shape))).astype(np.uint8)
    expected = decoded(classes, fields, [1, 2], smallest=5)
    for _ in range(4):
        again = decoded(classes, fields, [1, 2], smallest=5, order="CF"[rng.integers(2)], slab=int(rng.integers(1, 30)))
        assert all(np.array_equal(one, other) for one, other in zip(again, expected, strict=True))


@given(fields_without_ties(), st.integers(0, 47))
@settings(max_examples=100, deadline=None)
def test_without_ties_the_order_and_direction_of_axes_change_no_object(fields, turn):
    inside, core, level = fields
    order = np.roll(np.arange(inside.ndim), turn)
    flips = tuple(slice(None, None, -1 if turn >> axis & 1 else 1) for axis in range(inside.ndim))
    moved = [array.transpose(order)[flips] for array in (inside.astype(np.uint8), packed(core, level))]
    ids, _, _ = decoded(*moved, [1])
    back = ids[flips].transpose(np.argsort(order))
    assert np.array_equal(by_first_voxel(back), by_first_voxel(watershed_oracle(inside, core, level)))


# ---- cases


def test_touching_objects_are_parted_half_way():
    level = np.array([[1, 9, 5, 5, 5, 5, 9, 1]])
    ids, _, _ = decoded(np.ones((1, 8), np.uint8), packed(level == 9, level), [1])
    assert ids.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]]


def test_an_object_has_one_class_by_vote():
    classes = np.array([[2, 2, 3, 0, 3, 2, 3, 1]], np.uint8)
    level = np.full(classes.shape, 5)
    ids, own, _ = decoded(classes, packed(np.isin(np.arange(8), [1, 5]), level), [2, 3])
    assert ids.tolist() == [[1, 1, 1, 0, 2, 2, 2, 0]]
    assert own.tolist() == [[2, 2, 2, 0, 3, 3, 3, 1]]


def test_an_object_within_another_stays_apart():
    """The inner one has a core of its own, and lies on higher ground beyond a valley."""
    y, x = np.mgrid[:21, :21]
    r = np.hypot(y - 10, x - 10)
    level = np.where(r < 4, 200 - 10 * r, np.where(r < 5, 20, 120 - np.abs(r - 8) * 30)).astype(int).clip(1)
    core = (r < 2) | (np.abs(r - 8) < 1)
    ids, _, _ = decoded((r < 10.5).astype(np.uint8), packed(core, level), [1])
    assert ids.max() == 2
    assert (ids[r < 3.5] == 2).all()
    assert (ids[(r > 5.5) & (r < 10.5)] == 1).all()


def test_objects_of_one_voxel_and_without_a_core():
    classes = np.array([[1, 0, 1, 0, 0, 1, 1]], np.uint8)
    ids, _, _ = decoded(classes, packed(np.array([[1, 0, 0, 0, 1, 0, 0]]) > 0, np.ones((1, 7))), [1])
    assert ids.tolist() == [[1, 0, 2, 0, 0, 3, 3]]


def test_objects_below_the_smallest_are_dropped_and_counted():
    classes = np.array([[1, 1, 0, 1, 0, 1, 1, 1]], np.uint8)
    ids, own, dropped = decoded(classes, np.zeros((1, 8), np.uint32), [1], None, smallest=2)
    assert (ids.tolist(), own.tolist(), dropped) == ([[1, 1, 0, 0, 0, 2, 2, 2]], [[1, 1, 0, 0, 0, 1, 1, 1]], 1)


@pytest.mark.parametrize("threshold", [0.5, None])
def test_no_objects(threshold):
    ids, own, _ = decoded(np.full((5, 6, 7), 2, np.uint16), np.full((5, 6, 7), 60000, np.uint32), [1], threshold)
    assert not ids.any()
    assert (own == 2).all()


@pytest.mark.parametrize("threshold", [0.5, None])
def test_seventy_thousand_objects(threshold):
    classes = np.zeros((84, 84, 84), np.uint8)
    classes[::2, ::2, ::2] = 1
    ids, _, _ = decoded(classes, packed(classes > 0, classes), [1], threshold)
    assert ids.max() == 42**3 > 70_000
    assert np.array_equal(ids[classes > 0], np.arange(1, 42**3 + 1))


def test_more_cores_than_a_piece_may_have(monkeypatch):
    monkeypatch.setattr(module, "MOST_LABELS", 3)
    row = np.ones((1, 9), np.uint8)
    with pytest.raises(ModelError, match=r"5 objects in one piece.*core_threshold"):
        decoded(row, packed(np.arange(9)[None] % 2 == 0, row), [1])


@pytest.mark.parametrize("things", [[1, 700], [700]])
def test_classes_beyond_a_byte(things):
    classes = np.array([[1, 0, 700, 700, 0, 701]], np.uint16)
    ids, own, _ = decoded(classes, np.zeros((1, 6), np.uint32), things, None)
    assert ids.tolist() == ([[1, 0, 2, 2, 0, 0]] if len(things) == 2 else [[0, 0, 1, 1, 0, 0]])
    assert np.array_equal(own, classes)


def test_quantisation():
    """Core probabilities to 1/255, distances to 1/126, beyond -1 and 1 cut off."""
    rng = np.random.default_rng(0)
    sums = np.stack([rng.uniform(-0.1, 1.1, (3, 4, 50)), rng.uniform(-1.2, 1.2, (3, 4, 50))]).astype(np.float32)
    got = packed_head(sums)
    assert np.abs(got // CORE_UNIT / 255 - sums[0].clip(0, 1)).max() <= 0.5 / 255 + 1e-6
    assert np.abs((got % CORE_UNIT - 128.0) / 126 - sums[1].clip(-1, 1)).max() <= 0.5 / 126 + 1e-6
    assert (got % CORE_UNIT).min() == 2


# ---- through the whole engine


@pytest.fixture
def pointwise(monkeypatch):
    """Networks that return their input, so that patches, overlap and mirrors change nothing but rounding."""
    monkeypatch.setattr(plan_ensemble, "network_of", lambda *_: Pointwise().eval())


def layouts(dimensions, count, seed=0):
    """Settings of plans and predictions at random."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        patch = tuple(int(n) for n in 4 * rng.integers(2, 11, dimensions))
        flips = tuple(np.flatnonzero(rng.random(dimensions) < 0.3).tolist())
        options = {
            "overlap": float(rng.choice([0, 0.25, 0.5])),
            "weights": str(rng.choice(["gaussian", "constant"])),
            "batch": int(rng.integers(1, 4)),
            "memory": [None, 3 << 30][number % 2],
        }
        yield {"patch_size": patch, "flips": flips}, options


@pytest.mark.parametrize(
    "ids", [ellipsoids((40, 36, 30), 40, (3, 7)), ellipsoids((90, 100), 60, (3, 8))], ids=["volume", "picture"]
)
def test_twenty_layouts_of_the_engine_give_one_partition(pointwise, monkeypatch, ids):
    volume, results = pointwise_scan(ids), []
    for number, (plan, options) in enumerate(layouts(ids.ndim, 20)):
        with monkeypatch.context() as patched:
            if number % 3 == 2:
                patched.setattr(segmenter, "make_ring_buffer", on_torch)
            if number % 3 == 1:
                patched.setattr(memory_budget, "SLABS", (1 + number,))
            chosen = PredictOptions(mixed_precision="off", **options)
            results.append(Predictor(pointwise_model(ids.ndim, **plan), "cpu", chosen).predict(volume).labels)
    assert all(np.array_equal(labels.instances, results[0].instances) for labels in results)
    assert all(np.array_equal(labels.array, results[0].array) for labels in results)
    assert results[0].instances.dtype == np.uint32
    assert results[0].instances.max() > 30


def on_torch(classes, shape, weights, *, half, logits, device=None, regions=False, head=0, layers=()):
    """A ring buffer of torch tensors, as a GPU has it."""
    return DeviceRingBuffer(classes, shape, weights, half, logits, torch.device("cpu"), regions, head)


def test_a_scans_objects_are_those_of_its_fields(pointwise):
    """The engine against the fields themselves; and scikit-image, which chooses otherwise where fronts meet at one level."""
    ids = ellipsoids((40, 36, 30), 40, (3, 7))
    labels = Predictor(pointwise_model(), "cpu", PredictOptions(mixed_precision="off")).predict(pointwise_scan(ids)).labels
    core, distance = fields_of(ids)
    winners = pointwise_scan(ids).array[:4].argmax(0)
    level = np.floor(distance.clip(-1, 1) * 126 + 0.5) + 128
    oracle = watershed_oracle(winners >= 2, core >= 0, level)
    assert labels.instances.max() == oracle.max()
    assert (by_first_voxel(oracle) == labels.instances[0]).mean() > 0.97
    fields = packed_head(np.stack([1 / (1 + np.exp(-core)), distance]).astype(np.float32))
    expected, _, _ = decoded(winners.astype(np.uint8), fields.astype(np.uint32), [2, 3])
    assert (expected == labels.instances[0]).mean() > 0.9999
    assert np.array_equal(labels.instances[0] > 0, winners >= 2)
    assert np.array_equal(labels.array == 4, winners == 1)
    for number in range(1, oracle.max() + 1):
        assert len(np.unique(labels.array[labels.instances[0] == number])) == 1


def test_models_of_two_plans_are_averaged(pointwise):
    ids = ellipsoids((40, 36, 30), 40, (3, 7))
    volume, options = pointwise_scan(ids), PredictOptions(mixed_precision="off", average="probabilities")
    one, other = pointwise_model(), pointwise_model(patch_size=(16, 8, 8))
    alone, both = (Predictor(models, "cpu", options).predict(volume).labels for models in (one, [one, other]))
    assert (alone.instances != both.instances).mean() < 1e-3
    assert both.instances.max() == alone.instances.max()


def test_models_that_tell_other_objects_apart_are_not_averaged(pointwise):
    other = pointwise_model(instances=InstancePlan(labels=("cell",), diameter=8))
    with pytest.raises(ModelError, match="differ in instances"):
        Predictor([pointwise_model(), other], "cpu")


@pytest.mark.parametrize("things", [("cell", "germ"), ()])
def test_a_semantic_model_gives_components_when_asked(things):
    """Of the things of its table, or of all labels where there are none."""
    kinds = [label.model_copy(update={"kind": "thing" if label.name in things else "stuff"}) for label in CELLS.labels]
    table = LabelTable(labels=tuple(kinds))
    volume = Volume(
        np.random.default_rng(0).normal(size=(1, 20, 22, 24)).astype(np.float32), Geometry.from_spacing((20, 22, 24), (1, 1, 1))
    )
    model = tiny_model(tiny_plan(), table)
    assert Predictor(model, "cpu").predict(volume).labels.instances is None
    labels = Predictor(model, "cpu", PredictOptions(instances=True)).predict(volume).labels
    wanted = np.where(np.isin(labels.array, [table[name].value for name in things or table.names]), labels.array, 0)
    assert np.array_equal(labels.instances[0], by_first_voxel(cc3d.connected_components(wanted, connectivity=26)))


def test_a_plan_may_be_left_semantic(pointwise):
    volume = pointwise_scan(ellipsoids((20, 20, 20), 5, (3, 6)))
    assert Predictor(pointwise_model(), "cpu", PredictOptions(instances=False)).predict(volume).labels.instances is None


def test_small_objects_are_dropped_by_volume_and_said(pointwise):
    ids = ellipsoids((40, 36, 30), 40, (3, 7))
    plan = InstancePlan(labels=("cell", "germ"), diameter=8, smallest=300)
    volume = pointwise_scan(ids, spacing=(1.0, 1.0, 2.5))
    kept = Predictor(pointwise_model(instances=plan), "cpu", PredictOptions(mixed_precision="off")).predict(volume)
    sizes = np.bincount(kept.labels.instances.ravel())
    assert sizes[1:].min() * 2.5 >= 300
    assert any(flag.endswith("objects smaller than 300 mm^3 dropped") for flag in kept.flags)


def test_a_plan_that_names_an_unknown_label(pointwise):
    plan = InstancePlan(labels=("cel",), diameter=8)
    with pytest.raises(ModelError, match=r"the plan name 'cel', which is no label.*cell"):
        Predictor(pointwise_model(instances=plan), "cpu").predict(pointwise_scan(ellipsoids((20, 20, 20), 5, (3, 6))))


def layered_cells(shape=(12, 10, 8)):
    """Two layers of scattered things, ``(2, *shape)`` stored values, and their table."""
    random = np.random.default_rng(0)
    layers = (random.random((2, *shape)) < 0.15).astype(np.uint8) * np.reshape([1, 2], (2, 1, 1, 1)).astype(np.uint8)
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"), Label(value=2, name="germ", kind="thing", layer=1)))
    return layers, table


def test_ids_are_unique_over_layers():
    layers, table = layered_cells()
    ids, _ = decode_layers(
        layers.copy(), None, table, InstancePlan(labels=("cell", "germ"), diameter=2, decoder="components"), None
    )
    counts = [ndimage.label(layer, np.ones((3, 3, 3))) for layer in layers]
    assert len(np.unique(ids[0])) - 1 == counts[0][1]
    assert sorted(set(np.unique(ids)) - {0}) == list(range(1, counts[0][1] + counts[1][1] + 1))
    assert np.array_equal(ids > 0, layers > 0)
    for layer, (parts, _) in zip(ids, counts, strict=True):
        assert len(np.unique(np.stack([layer.ravel(), parts.ravel()]), axis=1).T) == parts.max() + 1


def test_one_layer_of_things_leaves_the_other_without_ids():
    layers, table = layered_cells()
    ids, _ = decode_layers(layers.copy(), None, table, InstancePlan(labels=("germ",), diameter=2, decoder="components"), None)
    assert not ids[0].any()
    assert np.array_equal(ids[1] > 0, layers[1] > 0)


def test_one_head_cannot_tell_apart_objects_on_several_layers():
    layers, table = layered_cells()
    plan = InstancePlan(labels=("cell", "germ"), diameter=2)
    with pytest.raises(ModelError, match=r"objects on several layers \(cell, germ\)"):
        decode_layers(layers, np.zeros(layers.shape[1:], np.uint32), table, plan, None)


@pytest.mark.parametrize("options", [{"roi": "coarse"}, {"roi": "body"}, {"backend": "onnxruntime"}, {"confidence": "entropy"}])
def test_no_choice_about_prediction_takes_the_head_for_classes(options):
    """A trained-like network with a head: labels are those of its classes, and the same objects come out."""
    if "backend" in options:
        pytest.importorskip("onnxruntime")
    plan = InstancePlan(labels=("cell", "germ"), diameter=8)
    model = tiny_model(tiny_plan(instances=plan), CELLS)
    scan = np.random.default_rng(0).normal(size=(1, 24, 22, 20)).astype(np.float32)
    volume = Volume(scan, Geometry.from_spacing(scan.shape[1:], (1.0, 1.0, 1.0)))
    expected = Predictor(model, "cpu", PredictOptions(mixed_precision="off")).predict(volume)
    other = Predictor(model, "cpu", PredictOptions(mixed_precision="off", **options)).predict(volume)
    assert (expected.labels.array != other.labels.array).mean() < 1e-3
    assert (expected.labels.instances != other.labels.instances).mean() < 0.02
    assert set(np.unique(other.labels.array)) <= {0, 2, 4, 7}


def test_half_sums_change_few_voxels(pointwise, monkeypatch):
    volume = pointwise_scan(ellipsoids((40, 36, 30), 40, (3, 7)))
    options = PredictOptions(mixed_precision="off")
    whole = Predictor(pointwise_model(), "cpu", options).predict(volume).labels
    monkeypatch.setattr(
        segmenter, "make_ring_buffer",
        lambda classes, shape, weights, **more: HostRingBuffer(classes, shape, weights, True, True, head=more["head"]),
    )  # fmt: skip
    half = Predictor(pointwise_model(), "cpu", options).predict(volume).labels
    assert abs(int(half.instances.max()) - int(whole.instances.max())) <= 2
    assert ((half.instances > 0) != (whole.instances > 0)).mean() < 1e-3
