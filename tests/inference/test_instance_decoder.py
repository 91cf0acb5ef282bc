"""Objects from fields: equal to scikit-image's maxima and watershed and to cc3d, and the same whatever the layout."""

from itertools import product

import cc3d
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
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
from voxelry.inference.instance_decoder import InstanceDecoder
from voxelry.inference.layer_decoding import decode_instances, decode_layers
from voxelry.inference.object_scale import median_diameter
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.inference.ring_buffer import HostRingBuffer, levels_of
from voxelry.inference.ring_buffer_torch import DeviceRingBuffer
from voxelry.inference.smoothing_kernels import smooth, taps

SHAPES = [(6, 6, 6), (5, 7, 6), (15, 15), (1, 15, 16), (3, 8, 9), (14, 1, 16), (1, 1, 200), (1, 1, 1), (12, 20)]


def decoded(classes, levels, things, persistence=0.1, smallest=0.0, order="C", slab=None, smoothing=(), min_peak=None):
    """Ids and classes."""
    own, ids = np.array(classes, order=order), np.array(levels, np.uint32, order=order)
    decoder = InstanceDecoder(own, ids, things, persistence, smallest, smoothing, min_peak)
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


def maxima(height, inside):
    return local_maxima(np.pad(height, 1, constant_values=-2000), footprint=np.ones((3,) * inside.ndim))[
        (slice(1, -1),) * inside.ndim
    ] & (inside)


def peaks_oracle(inside, level, least):
    """scikit-image's watershed from every maximum; those whose height above their saddle is less than `least` join others.

    Which persist is what its reconstruction says (h-maxima); the others join what they touch at the highest saddle first.
    """
    around, height = np.ones((3,) * inside.ndim), np.where(inside, level, -1000).astype(float)
    seeds, _ = ndimage.label(maxima(height, inside), around)
    basins = watershed(-height, seeds, mask=inside, connectivity=around)
    lowered = np.where(inside, height - least + 1, -1000)
    kept, count = ndimage.label(maxima(reconstruction(lowered, height, footprint=around), inside), around)
    persists = {basins.flat[np.where(kept == number, height, -9999).argmax()] for number in range(1, count + 1)}
    saddles = {}
    for step in product((-1, 0, 1), repeat=inside.ndim):
        if step <= (0,) * inside.ndim:
            continue
        here = tuple(slice(max(0, -k), n - max(0, k)) for k, n in zip(step, inside.shape, strict=True))
        there = tuple(slice(max(0, k), n - max(0, -k)) for k, n in zip(step, inside.shape, strict=True))
        pairs = np.stack([basins[here].ravel(), basins[there].ravel()])
        pairs, heights = np.sort(pairs, axis=0), np.minimum(height[here], height[there]).ravel()
        for one, other, saddle in zip(*pairs, heights, strict=True):
            if 0 < one < other:
                saddles[one, other] = max(saddle, saddles.get((one, other), -1))
    joined = {number: {number} for number in range(basins.max() + 1)}
    for (one, other), _ in sorted(saddles.items(), key=lambda item: (-item[1], item[0])):
        if joined[one] is not joined[other] and not (joined[one] & persists and joined[other] & persists):
            both = joined[one] | joined[other]
            joined |= dict.fromkeys(both, both)
    return by_first_voxel(np.array([min(joined[number]) for number in range(basins.max() + 1)])[basins])


@st.composite
def fields_without_ties(draw):
    """Foreground and levels, of which no two are equal."""
    shape = draw(st.sampled_from(SHAPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    level = (rng.permutation(254)[: np.prod(shape)] + 1).reshape(shape)
    return rng.random(shape) < draw(st.floats(0, 1)), level


@given(fields_without_ties(), st.integers(1, 120), st.sampled_from("CF"), st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_without_ties_it_is_scikit_images_persistent_maxima(fields, least, order, slab):
    inside, level = fields
    ids, _, _ = decoded(inside.astype(np.uint8), level, [1], least / 126, order=order, slab=slab)
    assert np.array_equal(ids, peaks_oracle(inside, level, least))


@given(st.integers(0, 2**32), st.sampled_from([(9, 8, 40), (20, 70), (70, 20)]), st.floats(0, 0.3), st.sampled_from("CF"))
@settings(max_examples=40, deadline=None)
def test_background_that_no_object_needs_is_not_smoothed_and_changes_nothing(seed, shape, share, order):
    rng, deviations = np.random.default_rng(seed), [0.9, 1.3, 2.1][: len(shape)]
    inside = ndimage.binary_dilation(rng.random(shape) < share / 20, iterations=2).astype(np.uint8)
    levels = np.array(rng.integers(2, 255, shape), np.uint32)
    whole = levels.copy()
    smooth(whole, [taps(deviation) for deviation in deviations])
    ids, *_ = decoded(inside, levels, [1], 0.05, order=order, slab=3, smoothing=deviations)
    assert np.array_equal(ids, decoded(inside, whole, [1], 0.05)[0])


@given(st.integers(0, 2**32), st.sampled_from([(9, 8, 7), (20, 31)]), st.integers(2, 40), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_with_ties_there_are_as_many_objects_as_persistent_maxima(seed, shape, levels, slab):
    """Plateaus at the top, on the slope and at saddles."""
    rng = np.random.default_rng(seed)
    inside, level, least = rng.random(shape) < 0.8, rng.integers(1, levels, shape), int(rng.integers(1, 5))
    ids, _, _ = decoded(inside.astype(np.uint8), level, [1], least / 126, slab=slab)
    height = np.where(inside, level, -1000).astype(float)
    around = np.ones((3,) * inside.ndim)
    lowered = np.where(inside, height - least + 1, -1000)
    assert ids.max() == ndimage.label(maxima(reconstruction(lowered, height, footprint=around), inside), around)[1]
    assert np.array_equal(ids > 0, inside)
    assert all(ndimage.label(ids == number, around)[1] == 1 for number in range(1, ids.max() + 1))


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
    _, distance = fields_of(objects, seed)
    fields = np.round((np.clip(distance, -1, 1) + 1) * (2**levels - 1) / 2.1) + 1
    smoothing = [0.0, 0.7, 1.3][: len(shape)]
    classes = ((objects > 0) * (1 + rng.integers(0, 2, shape))).astype(np.uint8)
    chosen = {"smallest": 5, "smoothing": smoothing, "min_peak": float(rng.uniform(-1, 0.9))}
    expected = decoded(classes, fields, [1, 2], **chosen)
    for _ in range(4):
        again = decoded(classes, fields, [1, 2], order="CF"[rng.integers(2)], slab=int(rng.integers(1, 30)), **chosen)
        assert all(np.array_equal(one, other) for one, other in zip(again, expected, strict=True))


@given(st.integers(0, 2**32), st.integers(0, 47))
@settings(max_examples=40, deadline=None)
def test_the_order_and_direction_of_axes_change_no_object(seed, turn):
    """Of smooth fields, whose saddles differ."""
    rng = np.random.default_rng(seed)
    height = ndimage.gaussian_filter(rng.normal(size=(9, 10, 11)), 1.5)
    level = np.argsort(np.argsort(height.ravel())).reshape(height.shape) * 252 // height.size + 1
    inside, order = level > 90, np.roll(np.arange(3), turn)
    flips = tuple(slice(None, None, -1 if turn >> axis & 1 else 1) for axis in range(3))
    moved = [array.transpose(order)[flips] for array in (inside.astype(np.uint8), level)]
    ids, _, _ = decoded(*moved, [1])
    back = by_first_voxel(ids[flips].transpose(np.argsort(order)))
    expected = decoded(inside.astype(np.uint8), level, [1])[0]
    assert back.max() == expected.max()
    shared = np.zeros((back.max() + 1, back.max() + 1), int)
    np.add.at(shared, (back, expected.astype(int)), 1)
    assert (
        min(shared.max(axis=0).sum(), shared.max(axis=1).sum()) > 0.9 * back.size
    )  # fronts that meet on one level, tied saddles


# ---- cases


def test_touching_objects_are_parted_half_way():
    level = np.array([[1, 9, 5, 5, 5, 5, 9, 1]])
    ids, _, _ = decoded(np.ones((1, 8), np.uint8), level, [1], 4 / 126)
    assert ids.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]]


def test_an_object_has_one_class_by_vote():
    classes = np.array([[2, 2, 3, 0, 3, 2, 3, 1]], np.uint8)
    ids, own, _ = decoded(classes, np.full(classes.shape, 5), [2, 3])
    assert ids.tolist() == [[1, 1, 1, 0, 2, 2, 2, 0]]
    assert own.tolist() == [[2, 2, 2, 0, 3, 3, 3, 1]]


def test_an_object_within_another_stays_apart():
    """The inner one lies on higher ground beyond a valley."""
    y, x = np.mgrid[:21, :21]
    r = np.hypot(y - 10, x - 10)
    level = np.where(r < 4, 200 - 10 * r, np.where(r < 5, 20, 120 - np.abs(r - 8) * 30)).astype(int).clip(1)
    ids, _, _ = decoded((r < 10.5).astype(np.uint8), level, [1], 0.3)
    assert ids.max() == 2
    assert (ids[r < 3.5] == 2).all()
    assert (ids[(r > 5.5) & (r < 10.5)] == 1).all()


def test_peaks_that_hardly_stand_above_their_saddle_join_what_they_touch_there():
    """The third peak is lower than the second by its saddle, and touches it alone; the fourth stands high enough."""
    level = np.array([[90, 20, 80, 70, 75, 30, 60, 10]])
    row = np.ones((1, 8), np.uint8)
    assert decoded(row, level, [1], 10 / 126)[0].tolist() == [[1, 1, 2, 2, 2, 2, 3, 3]]
    assert decoded(row, level, [1], 5 / 126)[0].tolist() == [[1, 1, 2, 2, 3, 3, 4, 4]]
    assert decoded(row, level, [1], 31 / 126)[0].tolist() == [[1, 1, 2, 2, 2, 2, 2, 2]]


def test_smoothing_takes_the_noise_off_a_field_and_not_off_its_neighbours():
    """Two discs that touch, with noise of a tenth of their depth."""
    y, x = np.mgrid[:30, :60]
    depth = np.maximum(1 - np.hypot(y - 15, x - 17) / 14, 1 - np.hypot(y - 15, x - 43) / 14)
    level = np.round(128 + 126 * (depth + np.random.default_rng(0).normal(scale=0.1, size=depth.shape)).clip(-1, 1))
    inside = (depth > 0).astype(np.uint8)
    assert decoded(inside, level, [1], 0.1)[0].max() > 10
    ids, _, _ = decoded(inside, level, [1], 0.1, smoothing=(1.5, 1.5))
    assert ids.max() == 2
    assert (ids[:, :29][inside[:, :29] > 0] == 1).mean() > 0.98


def test_objects_of_one_voxel():
    classes = np.array([[1, 0, 1, 0, 0, 1, 1]], np.uint8)
    ids, _, _ = decoded(classes, np.ones((1, 7)), [1])
    assert ids.tolist() == [[1, 0, 2, 0, 0, 3, 3]]


@given(st.integers(0, 2**32), st.sampled_from([(9, 8, 7), (20, 31), (1, 30, 4)]), st.integers(1, 9), st.booleans())
@settings(max_examples=60, deadline=None)
def test_foreground_that_stands_high_nowhere_is_dropped(seed, shape, slab, smoothed):
    """By the distance before smoothing: pieces of any shape, against their components."""
    rng = np.random.default_rng(seed)
    classes, level = (rng.random(shape) < 0.2).astype(np.uint8), rng.integers(60, 200, shape)
    smoothing = (0.9,) * len(shape) if smoothed else ()
    ids, own, _ = decoded(classes, level, [1], 3, slab=slab, smoothing=smoothing, min_peak=0.3)
    pieces, count = ndimage.label(classes, np.ones((3,) * len(shape)))
    high = [number for number in range(1, count + 1) if level[pieces == number].max() >= 128 + 0.3 * 126]
    assert np.array_equal(ids, by_first_voxel(np.where(np.isin(pieces, high), pieces, 0)))
    assert np.array_equal(own, ids > 0)


@pytest.mark.parametrize("radius", [4, 12])
def test_objects_of_another_size_than_in_training_are_told_apart(radius):
    """Noise is smoothed away in large objects, and small ones do not run together."""
    size = 12 * radius
    y, x = np.mgrid[:size, :size]
    discs = [(cy, cx) for cy in range(radius, size, 2 * radius) for cx in range(radius, size, 2 * radius)]
    depth = np.max([1 - np.hypot(y - cy, x - cx) / radius for cy, cx in discs], axis=0)
    level = levels_of((depth + np.random.default_rng(0).normal(scale=0.02, size=depth.shape)).clip(-1, 1).astype(np.float32))
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"),))
    plan = InstancePlan(labels=("cell",), diameter=14)
    stored = (depth > 0).astype(np.uint8)
    ids, remarks = decode_instances(stored, np.array(level, np.uint32), table, plan, Geometry((size, size), None, None))
    assert (ids.max(), remarks) == (len(discs), ())


def test_faint_foreground_is_said_and_one_voxel_is_enough():
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"),))
    stored, levels = np.zeros((12, 12), np.uint8), np.full((12, 12), 20, np.uint32)
    stored[1:5, 1:5], levels[1:5, 1:5] = 1, 150
    stored[8, 8], levels[8, 8] = 1, 250
    ids, remarks = decode_instances(
        stored, levels, table, InstancePlan(labels=("cell",), diameter=10), Geometry((12, 12), None, None)
    )
    assert (ids.sum(), ids[8, 8], stored.sum()) == (1, 1, 1)
    assert remarks == ("1 piece of foreground dropped whose distance stays below 0.3",)


def test_objects_below_the_smallest_are_dropped_and_counted():
    classes = np.array([[1, 1, 0, 1, 0, 1, 1, 1]], np.uint8)
    ids, own, dropped = decoded(classes, np.zeros((1, 8), np.uint32), [1], None, smallest=2)
    assert (ids.tolist(), own.tolist(), dropped) == ([[1, 1, 0, 0, 0, 2, 2, 2]], [[1, 1, 0, 0, 0, 1, 1, 1]], 1)


@pytest.mark.parametrize("persistence", [0.1, None])
def test_no_objects(persistence):
    ids, own, _ = decoded(np.full((5, 6, 7), 2, np.uint16), np.full((5, 6, 7), 200), [1], persistence, smoothing=(1.0, 1.0, 1.0))
    assert not ids.any()
    assert (own == 2).all()


@pytest.mark.parametrize("persistence", [0.1, None])
def test_seventy_thousand_objects(persistence):
    classes = np.zeros((84, 84, 84), np.uint8)
    classes[::2, ::2, ::2] = 1
    ids, _, _ = decoded(classes, classes, [1], persistence)
    assert ids.max() == 42**3 > 70_000
    assert np.array_equal(ids[classes > 0], np.arange(1, 42**3 + 1))


def test_more_peaks_than_a_piece_may_have(monkeypatch):
    monkeypatch.setattr(module, "MOST_LABELS", 3)
    row = np.ones((1, 9), np.uint8)
    with pytest.raises(ModelError, match=r"5 peaks in one piece.*instances.smoothing"):
        decoded(row, 9 - np.arange(9)[None] % 2, [1])


@pytest.mark.parametrize("things", [[1, 700], [700]])
def test_classes_beyond_a_byte(things):
    classes = np.array([[1, 0, 700, 700, 0, 701]], np.uint16)
    ids, own, _ = decoded(classes, np.zeros((1, 6), np.uint32), things, None)
    assert ids.tolist() == ([[1, 0, 2, 2, 0, 0]] if len(things) == 2 else [[0, 0, 1, 1, 0, 0]])
    assert np.array_equal(own, classes)


def test_quantisation():
    """Distances to 1/126, beyond -1 and 1 cut off."""
    distances = np.random.default_rng(0).uniform(-1.2, 1.2, (3, 4, 50)).astype(np.float32)
    levels = levels_of(distances)
    assert np.abs((levels - 128.0) / 126 - distances.clip(-1, 1)).max() <= 0.5 / 126 + 1e-6
    assert (levels.min(), levels.max()) == (2, 254)


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


def on_torch(classes, shape, weights, *, half, logits, device=None, regions=False, distance=False, layers=()):
    """A ring buffer of torch tensors, as a GPU has it."""
    return DeviceRingBuffer(classes, shape, weights, half, logits, torch.device("cpu"), regions, distance)


def test_a_scans_objects_are_those_of_its_fields(pointwise):
    """The engine against its decoder on the fields themselves; and classes by the vote of an object's voxels."""
    ids = ellipsoids((40, 36, 30), 40, (3, 7))
    plan = InstancePlan(labels=("cell", "germ"), diameter=8, persistence=0.2, smoothing=0.1)
    volume = pointwise_scan(ids, spacing=(1.0, 1.0, 1.5))
    labels = Predictor(pointwise_model(instances=plan), "cpu", PredictOptions(mixed_precision="off")).predict(volume).labels
    winners = volume.array[:4].argmax(0)
    levels, spacing = levels_of(fields_of(ids)[1]), (1.0, 1.0, 1.5)
    deviation = 0.1 * min(24, median_diameter(winners, levels, [2, 3], spacing))
    smoothing = [deviation / step for step in spacing]
    expected, _, _ = decoded(winners.astype(np.uint8), levels, [2, 3], 0.2, smoothing=smoothing, min_peak=plan.min_peak)
    assert (expected == labels.instances[0]).mean() > 0.9999
    assert labels.instances.max() > 20
    assert np.array_equal(labels.instances[0] > 0, winners >= 2)
    assert np.array_equal(labels.array == 4, winners == 1)
    for number in range(1, expected.max() + 1):
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


GRID = Geometry.from_spacing((12, 10, 8), (1, 1, 1))


def layered_cells(shape=(12, 10, 8)):
    """Two layers of scattered things, ``(2, *shape)`` stored values, and their table."""
    random = np.random.default_rng(0)
    layers = (random.random((2, *shape)) < 0.15).astype(np.uint8) * np.reshape([1, 2], (2, 1, 1, 1)).astype(np.uint8)
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"), Label(value=2, name="germ", kind="thing", layer=1)))
    return layers, table


def test_ids_are_unique_over_layers():
    layers, table = layered_cells()
    ids, _ = decode_layers(
        layers.copy(), None, table, InstancePlan(labels=("cell", "germ"), diameter=2, decoder="components"), GRID
    )
    counts = [ndimage.label(layer, np.ones((3, 3, 3))) for layer in layers]
    assert len(np.unique(ids[0])) - 1 == counts[0][1]
    assert sorted(set(np.unique(ids)) - {0}) == list(range(1, counts[0][1] + counts[1][1] + 1))
    assert np.array_equal(ids > 0, layers > 0)
    for layer, (parts, _) in zip(ids, counts, strict=True):
        assert len(np.unique(np.stack([layer.ravel(), parts.ravel()]), axis=1).T) == parts.max() + 1


def test_one_layer_of_things_leaves_the_other_without_ids():
    layers, table = layered_cells()
    ids, _ = decode_layers(layers.copy(), None, table, InstancePlan(labels=("germ",), diameter=2, decoder="components"), GRID)
    assert not ids[0].any()
    assert np.array_equal(ids[1] > 0, layers[1] > 0)


def test_one_head_cannot_tell_apart_objects_on_several_layers():
    layers, table = layered_cells()
    plan = InstancePlan(labels=("cell", "germ"), diameter=2)
    with pytest.raises(ModelError, match=r"objects on several layers \(cell, germ\)"):
        decode_layers(layers, np.zeros(layers.shape[1:], np.uint32), table, plan, GRID)


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
        lambda classes, shape, weights, **more: HostRingBuffer(classes, shape, weights, True, True, distance=more["distance"]),
    )  # fmt: skip
    half = Predictor(pointwise_model(), "cpu", options).predict(volume).labels
    assert abs(int(half.instances.max()) - int(whole.instances.max())) <= 2
    assert ((half.instances > 0) != (whole.instances > 0)).mean() < 1e-3
