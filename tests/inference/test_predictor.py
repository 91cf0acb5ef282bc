import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from helpers.plans import SIDED, picture, tiny_model, tiny_plan
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.label_sequence import LabelSequence
from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp, Model
from voxelry.core.plan import Normalisation
from voxelry.core.volume import Source, Volume
from voxelry.errors import BudgetError, ModelError
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor

OFF = PredictOptions(mixed_precision="off")
ORGAN = LabelTable.numbered([7])
AFFINE = np.array([[0.9, 0.0, 0.1, -20], [0.1, 1.1, 0.0, 8], [0.0, -0.1, 2.0, 3], [0, 0, 0, 1.0]])


class Threshold(nn.Module):
    """Class 1 where the (not normalised) grey value is above 100, with a margin that grows with it."""

    def forward(self, x):
        return [torch.cat([torch.zeros_like(x), (x - 100) / 50], 1)]


def threshold(plan, **changes):
    predictor = Predictor(tiny_model(plan, ORGAN, **changes), "cpu", OFF)
    predictor.networks[:] = [Threshold()]
    return predictor


def scan(shape=(18, 15, 12), seed=0):
    rng = np.random.default_rng(seed)
    array = rng.integers(20, 60, shape).astype(np.int16)
    array[5:12, 4:9, 3:8] = rng.integers(150, 300, (7, 5, 5))
    return Volume(
        array[None], Geometry(shape, AFFINE), source=Source(kind="dicom", instances=tuple(("1.2", i + 1) for i in range(3)))
    )


def speckled(shape, grey):
    """Grey values of 1 above and below a median."""
    return (np.arange(np.prod(shape)) % 3 + grey - 1).astype(np.int16).reshape(1, *shape)


def every_order():
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            yield Reindex(order, flips)


def test_labels_lie_on_the_scans_own_grid():
    volume = scan()
    prediction = threshold(tiny_plan()).predict(volume)
    assert np.array_equal(prediction.labels.array, np.where(volume.array[0] > 100, 7, 0))
    assert prediction.labels.geometry is volume.geometry
    assert prediction.labels.source is volume.source
    assert prediction.labels.table == ORGAN


@pytest.mark.parametrize("spacing", [None, (1.3, 1.0, 1.6)])
def test_stored_order_does_not_matter(spacing):
    predictor, volume = threshold(tiny_plan(spacing=spacing)), scan()
    expected = predictor.predict(volume).labels
    assert expected.array.any()
    for change in every_order():
        labels = predictor.predict(volume.reindexed(change)).labels
        assert labels.geometry.same_grid(volume.geometry.reindexed(change))
        assert np.array_equal(labels.on_grid(volume.geometry).array, expected.array)


def test_a_random_network_does_not_see_the_stored_order_either():
    predictor, volume = Predictor(tiny_model(tiny_plan()), "cpu", PredictOptions(mixed_precision="off")), scan()
    expected = predictor.predict(volume).labels
    assert len(np.unique(expected.array)) > 1
    for change in list(every_order())[::7]:
        assert np.array_equal(predictor.predict(volume.reindexed(change)).labels.on_grid(volume.geometry).array, expected.array)


def test_resampled_labels_stay_in_place():
    volume = scan((40, 36, 20))
    labels = threshold(tiny_plan(spacing=(1.5, 1.5, 1.5))).predict(volume).labels
    inside, truth = labels.array > 0, volume.array[0] > 100
    apart = volume.geometry.world(np.argwhere(inside).mean(0)) - volume.geometry.world(np.argwhere(truth).mean(0))
    assert np.linalg.norm(apart) < 0.5
    assert 2 * (inside & truth).sum() / (inside.sum() + truth.sum()) > 0.85


def test_confidence_is_the_mean_probability_of_the_voxels_won():
    volume = scan()
    (name,) = ORGAN.names
    won = volume.array[0][volume.array[0] > 100].astype(float)
    expected = (1 / (1 + np.exp(-(won - 100) / 50))).mean()
    assert threshold(tiny_plan()).predict(volume).confidence == {name: pytest.approx(expected, abs=1e-5)}


def test_confidence_of_many_classes_lies_between_one_over_k_and_one():
    confidence = Predictor(tiny_model(tiny_plan(), seed=3), "cpu").predict(scan()).confidence
    assert list(confidence) == list(SIDED.names)
    assert any(value is not None for value in confidence.values())
    assert all(value is None or 0.25 <= value <= 1 for value in confidence.values())


def test_a_label_that_is_nowhere_has_no_confidence():
    volume = Volume(speckled((9, 9, 9), 30), Geometry((9, 9, 9), np.eye(4)))
    prediction = threshold(tiny_plan()).predict(volume)
    assert prediction.confidence == {"label_7": None}
    assert not prediction.labels.array.any()
    assert prediction.flags == ()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", [0, -1])
def test_a_label_at_any_border_is_flagged(axis, end):
    volume = scan()
    assert not any("border" in flag for flag in threshold(tiny_plan()).predict(volume).flags)
    cut = [slice(None)] * 4
    cut[axis + 1] = slice((5, 4, 3)[axis], None) if end == 0 else slice(None, (12, 9, 8)[axis])
    touching = volume.array[tuple(cut)]
    flags = threshold(tiny_plan()).predict(Volume(touching, Geometry(touching.shape[1:], AFFINE))).flags
    assert "label_7 reaches the border of the scan" in flags


def test_a_single_slice_has_no_border_along_its_depth():
    volume = scan()
    single = Volume(volume.array[..., 5:6], Geometry((18, 15, 1), AFFINE))
    assert not any("border" in flag for flag in threshold(tiny_plan()).predict(single).flags)


def test_spacings_unlike_the_training_set_are_flagged_along_ras_axes():
    plan = tiny_plan(orientation="SAR")
    predictor = threshold(plan, spacing_range=((0.8, 0.8, 2.0), (1.0, 1.0, 3.0)))

    def flags(spacing, change):
        grid = Geometry.from_spacing((9, 9, 9), spacing)
        return predictor.predict(Volume(speckled((9, 9, 9), 30), grid).reindexed(change)).flags

    for change in (Reindex((0, 1, 2), (False,) * 3), Reindex((2, 0, 1), (True, False, True))):
        assert flags((1.0, 1.0, 2.5), change) == ()
        assert flags((1.4, 0.6, 4.4), change) == ()
        assert flags((1.0, 1.0, 5.0), change) == ("spacing unlike the training set: 5 mm (trained on 2 to 3)",)
        assert flags((0.5, 1.0, 2.0), change) == ("spacing unlike the training set: 0.5 mm (trained on 0.8 to 1)",)


def test_pictures():
    array = np.full((1, 30, 20), 30, np.uint8)
    array[0, 8:20, 4:12] = 200
    plan = tiny_plan(2, long_side=15)
    predictor = threshold(plan, spacing=None, spacing_range=None)
    labels = predictor.predict(picture(array)).labels
    assert np.array_equal(labels.array > 0, array[0] > 100)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (30, 3, 1)])
def test_scans_smaller_than_a_patch(shape):
    volume = Volume(np.full((1, *shape), 200, np.int16), Geometry(shape, AFFINE))
    assert (threshold(tiny_plan()).predict(volume).labels.array == 7).all()


def test_channels_and_axes_must_fit():
    predictor = Predictor(tiny_model(tiny_plan(channels=("water", "fat"))), "cpu")
    with pytest.raises(ModelError, match=r"1 channels, the plan has 2 \(water, fat\)"):
        predictor.predict(scan())
    with pytest.raises(ModelError, match="a picture"):
        predictor.predict(picture(np.ones((2, 9, 9))))


def test_one_predictor_in_two_threads():
    predictor = Predictor(tiny_model(tiny_plan(flips=(0,))), "cpu")
    volumes = [scan(seed=seed) for seed in range(6)]
    alone = [predictor.predict(volume).labels.array for volume in volumes]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda volume: predictor.predict(volume).labels.array, volumes))
    assert all(np.array_equal(one, two) for one, two in zip(alone, together, strict=True))
    assert not all(np.array_equal(alone[0], other) for other in alone[1:])


def member(seed, **changes):
    return tiny_model(tiny_plan(spacing=(1.3, 1.0, 1.6), **changes), seed=seed)


def test_an_ensemble_averages_logits_of_its_members():
    models, volume = [member(1), member(2)], scan()
    joined = Predictor(models, "cpu", OFF)

    def mean(x):
        return [(joined.networks[0](x)[0] + joined.networks[1](x)[0]) / 2]

    single = Predictor(models[0], "cpu", OFF)
    single.networks[:] = [torch.nn.Identity()]
    single.networks[0].forward = mean
    expected, found = single.predict(volume).labels.array, joined.predict(volume).labels.array
    assert (expected != found).mean() < 1e-3
    assert (found != Predictor(models[0], "cpu", OFF).predict(volume).labels.array).any()


def test_members_with_other_grey_scales_see_their_own():
    scaled = Normalisation(scheme="global", low=-1e9, high=1e9, mean=0.0, std=2.0)
    one, two = tiny_plan(), tiny_plan(normalisation=(scaled,))
    predictor = Predictor([tiny_model(one, ORGAN), tiny_model(two, ORGAN)], "cpu", OFF)
    seen = []

    class Look(nn.Module):
        def forward(self, x):
            seen.append(float(x.max()))
            return Threshold()(x)

    predictor.networks[:] = [Look(), Look()]
    volume = scan()
    predictor.predict(volume)
    top = float(volume.array.max())
    assert sorted(set(seen))[-1] == top
    own = seen[len(seen) % 2 :]  # before, memory was measured on a patch of zeros
    assert all(second == first / 2 for first, second in zip(own[::2], own[1::2], strict=True))


@pytest.mark.parametrize("changes", [{"channels": ("T2",)}, {"channels": ("T1", "T2")}])
def test_members_that_take_other_scans_or_mean_other_labels_are_refused(changes):
    other = tiny_model(tiny_plan(**changes))
    with pytest.raises(ModelError, match=f"differ in {next(iter(changes))}"):
        Predictor([member(1), other], "cpu")
    with pytest.raises(ModelError, match="labels"):
        Predictor([tiny_model(tiny_plan()), tiny_model(tiny_plan(), ORGAN)], "cpu")


@pytest.mark.parametrize("kind", ["probability", "entropy"])
def test_the_map_lies_on_the_scans_own_grid(kind):
    volume = scan()
    options = PredictOptions(mixed_precision="off", confidence=kind)
    predictor = Predictor(tiny_model(tiny_plan(), ORGAN), "cpu", options)
    predictor.networks[:] = [Threshold()]
    for change in list(every_order())[::11]:
        turned = volume.reindexed(change)
        found = predictor.predict(turned).map
        share = 1 / (1 + np.exp(-(turned.array.astype(float) - 100) / 50))
        best = np.maximum(share, 1 - share)
        wanted = best if kind == "probability" else -(share * np.log(share) + (1 - share) * np.log(1 - share)) / np.log(2)
        assert found.array.dtype == np.uint8
        assert found.geometry.same_grid(turned.geometry)
        assert np.abs(found.array - 255 * wanted).max() <= 1


@pytest.mark.parametrize(("kind", "certain"), [("probability", 255), ("entropy", 0)])
def test_outside_the_box_of_content_the_background_is_certain(kind, certain):
    array = np.zeros((20, 18, 16), np.int16)
    array[5:15, 4:14, 3:13] = 90  # an undecided network: nowhere certain inside
    volume = Volume(array[None], Geometry((20, 18, 16), AFFINE))
    predictor = Predictor(tiny_model(tiny_plan(), ORGAN), "cpu", PredictOptions(mixed_precision="off", confidence=kind))
    predictor.networks[:] = [Threshold()]
    for change in list(every_order())[::13]:
        turned = volume.reindexed(change)
        values = predictor.predict(turned).map.array[0]
        outside = turned.array[0] == 0
        assert outside.any()
        assert (values[outside] == certain).all()
        assert (values[~outside] != certain).all()


def test_flips_and_steps_can_be_chosen():
    volume = scan()
    mirrored = tiny_model(tiny_plan(flips=(1, 2)))
    plain = Predictor(tiny_model(tiny_plan()), "cpu", OFF).predict(volume).labels.array
    off = Predictor(mirrored, "cpu", PredictOptions(mixed_precision="off", flips=False)).predict(volume).labels.array
    assert np.array_equal(off, plain)
    assert (Predictor(mirrored, "cpu", OFF).predict(volume).labels.array != plain).any()
    counts = []
    for overlap in (0.5, 0.0):
        options = PredictOptions(mixed_precision="off", overlap=overlap)
        seen = []
        Predictor(mirrored, "cpu", options).predict(volume, lambda *call, seen=seen: seen.append(call))
        what, done, count = seen[-1]
        assert (what, done) == ("patches", count)
        counts.append(count)
    assert counts[1] < counts[0]


def test_a_budget_too_small_is_refused_before_any_patch():
    predictor = Predictor(tiny_model(tiny_plan()), "cpu", PredictOptions(memory=10 << 20))
    with pytest.raises(BudgetError, match="too small"):
        predictor.predict(scan(), lambda *_: pytest.fail("a patch was run"))


def test_clean_up_rules_of_the_model_are_kept_to():
    model = tiny_model(tiny_plan(), ORGAN)
    rule = CleanUp(label="label_7", keep_largest=True)
    model = Model(model.plan, model.card.model_copy(update={"clean_up": (rule,)}), model.weights)
    volume = scan()
    volume.array[0, 1, 1, 1] = 250
    predictor = Predictor(model, "cpu", OFF)
    predictor.networks[:] = [Threshold()]
    labels = predictor.predict(volume).labels.array
    assert labels[1, 1, 1] == 0
    assert labels[6, 5, 4] == 7


def test_more_than_255_labels_and_one_class_alone():
    many = LabelTable.numbered(range(1, 301))
    plan = tiny_plan()
    labels = Predictor(tiny_model(plan, many), "cpu", OFF).predict(scan()).labels.array
    assert labels.dtype == np.uint16
    none = Predictor(tiny_model(plan, LabelTable(labels=())), "cpu", OFF).predict(scan())
    assert not none.labels.array.any()
    assert none.confidence == {}


def test_scans_unlike_the_training_set():
    ranges = {
        "extent_range": ((9.0, 9.0, 9.0), (12.0, 12.0, 12.0)), "grey_range": ((20.0, 40.0),), "tilt": 2.0,
        "spacing_range": ((0.5,) * 3, (3.0,) * 3), "orientations": {"RAS": 3},
    }  # fmt: skip
    fitting = Volume(speckled((10, 10, 10), 30), Geometry.from_spacing((10, 10, 10), (1, 1, 1)))
    predictor = threshold(tiny_plan(), **ranges)

    def flags(volume, using=predictor):
        return [flag for flag in using.predict(volume).flags if "border" not in flag]

    assert flags(fitting) == []
    large = Volume(speckled((10, 10, 30), 30), Geometry.from_spacing((10, 10, 30), (1, 1, 1)))
    assert flags(large) == ["size unlike the training set: 30 mm (trained on 9 to 12)"]
    bright = Volume(speckled((10, 10, 10), 90), fitting.geometry)
    assert flags(bright) == ["grey values of T1 unlike the training set: median 90 (trained on 20 to 40)"]
    relative = threshold(tiny_plan(normalisation=(Normalisation(scheme="image"),)), **ranges)
    assert flags(bright, relative) == []  # brought to a common scale anyway
    turn, affine = np.deg2rad(30), np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    assert flags(Volume(fitting.array, Geometry((10, 10, 10), affine))) == [
        "more oblique than the training set: 30 degrees (trained on up to 2)"
    ]
    stored = threshold(tiny_plan(orientation=None), **ranges)
    turned = fitting.reindexed(Reindex((1, 0, 2), (True, False, False)))
    assert flags(turned, stored) == [f"orientation unlike the training set: {turned.geometry.orientation} (trained on RAS)"]


@pytest.mark.parametrize(
    ("array", "flag"),
    [
        (np.full((10, 10, 10), 7, np.float32), "blank scan: every voxel has the same grey value (7)"),
        (np.zeros((10, 10, 10), np.uint8), "blank scan: every voxel has the same grey value (0)"),
        (np.full((10, 10, 10), -1024, np.int16), "blank scan: every voxel has the same grey value (-1024)"),
        (np.full((10, 10, 10), 1e-9, np.float32), "blank scan: every voxel has the same grey value (1e-09)"),
        (np.where(np.arange(1000).reshape(10, 10, 10) == 555, 9, 7), "almost blank scan: 99.90% of the voxels have the same"),
        (np.arange(1000).reshape(10, 10, 10) // 500, "the voxels hold two grey values only, as those of a mask"),
        (np.arange(1000).reshape(10, 10, 10) // 500 * 255, "the voxels hold two grey values only, as those of a mask"),
        (np.arange(1000).reshape(10, 10, 10) // 334, ""),
        (np.where(np.arange(1000).reshape(10, 10, 10) < 5, 9, 7) + (np.arange(1000).reshape(10, 10, 10) == 0), ""),
    ],
)
def test_blank_scans_are_flagged(array, flag):
    volume = Volume(array[None], Geometry.from_spacing((10, 10, 10), (1, 1, 1)))
    flags = [line for line in threshold(tiny_plan()).predict(volume).flags if "blank" in line or "two grey" in line]
    assert len(flags) == bool(flag)
    assert all(line.startswith(flag) for line in flags)


def test_the_blank_channel_of_several_is_named():
    plan = tiny_plan(channels=("T1", "T2"), normalisation=(Normalisation(scheme="image"),) * 2)
    arrays = np.stack([np.arange(1000).reshape(10, 10, 10), np.full((10, 10, 10), 7)]).astype(np.float32)
    volume = Volume(arrays, Geometry.from_spacing((10, 10, 10), (1, 1, 1)), channels=2)
    flags = Predictor(tiny_model(plan), "cpu", OFF).predict(volume).flags
    assert "blank scan: every voxel of T2 has the same grey value (7)" in flags
    assert not any("T1" in flag for flag in flags)


@pytest.mark.parametrize(("names", "mirrors"), [(("left", "right"), [(), (1,)]), (("organ", "lesion"), [(), (0,), (1,), (0, 1)])])
def test_a_model_is_not_mirrored_from_side_to_side_where_labels_have_no_twins(names, mirrors, caplog):
    table = LabelTable.model_validate({"labels": [{"value": value, "name": name} for value, name in enumerate(names, 1)]})
    with caplog.at_level(logging.WARNING):
        (ensemble,) = Predictor(tiny_model(tiny_plan(flips=(0, 1)), table), "cpu", OFF).segmenter.ensembles
    assert sorted(map(sorted, ensemble.mirrors)) == sorted(map(sorted, mirrors))
    assert ("not mirrored from side to side: labels without a mirror twin (left, right)" in caplog.text) == ("left" in names)


@pytest.mark.parametrize("order", ["C", "F"])
def test_labels_have_the_scans_order_in_memory_so_that_writing_them_turns_nothing(order):
    volume = scan()
    turned = Volume(np.asarray(volume.array, order=order), volume.geometry, source=volume.source)
    model = tiny_model(tiny_plan(spacing=(1.3, 1.0, 1.6)), ORGAN)
    made, expected = (Predictor(model, "cpu", OFF).predict(one).labels.array for one in (turned, volume))
    assert made.flags.f_contiguous == (order == "F")
    assert np.array_equal(made, expected)


def test_a_device_without_room_for_the_ring_leaves_it_to_the_host(monkeypatch):
    from voxelry.inference import segmenter as module

    def refuse(*args, device=None, **options):
        if device is not None:
            raise torch.OutOfMemoryError("no room")
        return module_ring(*args, **options)

    module_ring = module.make_ring_buffer
    monkeypatch.setattr(module, "make_ring_buffer", refuse)
    predictor, volume = Predictor(tiny_model(tiny_plan(), ORGAN), "cpu", OFF), scan()
    expected = predictor.predict(volume).labels.array
    chosen = module.split_memory
    monkeypatch.setattr(
        module, "split_memory",
        lambda load, options, device, ring_on_device=True: replace(chosen(load, options, device), ring_on_device=ring_on_device),
    )  # fmt: skip
    assert np.array_equal(predictor.predict(volume).labels.array, expected)


def test_rows_of_labels_are_named_before_clean_up_and_said():
    array = np.zeros((12, 12, 40), np.int16)
    for number, grey in enumerate((1, 2, 2)):  # three bodies, the last called as the second
        array[4:8, 4:8, 4 + 12 * number : 8 + 12 * number] = grey
    volume = Volume(array[None], Geometry(array.shape, np.diag([1.0, 1.0, -1.0, 1.0])))
    table = LabelTable.numbered([3, 5, 9])
    row = LabelSequence(name="row", labels=table.names, direction=(0.0, 0.0, -1.0))
    model = tiny_model(tiny_plan(sequences=(row,)), table)
    rules = tuple(CleanUp(label=name, keep_largest=True) for name in table.names)
    predictor = Predictor(replace(model, card=model.card.model_copy(update={"clean_up": rules})), "cpu", OFF)
    predictor.networks[:] = [Steps()]
    prediction = predictor.predict(volume)
    assert [int(prediction.labels.array[5, 5, z]) for z in (5, 17, 29)] == [3, 5, 9]
    assert prediction.rows[0].names == table.names
    assert "row: names were corrected by their order (33% of the voxels): label_9 was predicted as label_5" in prediction.flags


class Steps(nn.Module):
    """Class n where the (not normalised) grey value is n, of four."""

    def forward(self, x):
        return [10.0 * torch.cat([-((x - value) ** 2) for value in range(4)], 1)]


def test_segments_have_the_score_of_the_map_or_of_their_label():
    volume = scan()
    plain = threshold(tiny_plan()).predict(volume)
    asked = Predictor(tiny_model(tiny_plan(), ORGAN), "cpu", replace(OFF, confidence="probability"))
    asked.networks[:] = [Threshold()]
    prediction = asked.predict(volume)
    assert (plain.has_probability, prediction.has_probability) == (False, True)
    [label], [segment] = plain.segments_info, prediction.segments_info
    assert label.score == plain.confidence[ORGAN.names[0]]
    mask = prediction.labels.mask(7)
    assert segment.score == pytest.approx(prediction.map.array[0][mask].mean() / 255)
    assert segment.voxels == np.count_nonzero(mask)


def test_a_grey_picture_is_repeated_for_a_model_of_colours():
    """As files are read for the model: from Python the same labels, and the same remark."""
    model = tiny_model(tiny_plan(2, channels=("red", "green", "blue"), normalisation=(Normalisation(scheme="image"),) * 3))
    grey = np.random.default_rng(0).integers(0, 255, (1, 20, 22)).astype(np.uint8)
    volumes = picture(grey), picture(np.repeat(grey, 3, axis=0))
    labels, expected = (Predictor(model, "cpu", OFF).predict(volume).labels for volume in volumes)
    assert np.array_equal(labels.array, expected.array)
    assert "a grey picture among pictures in colour" in labels.source.remarks[-1]
    with pytest.raises(ModelError, match="2 channels"):
        Predictor(model, "cpu", OFF).predict(picture(grey.repeat(2, axis=0)))
