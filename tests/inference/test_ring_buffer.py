"""Regions in the ring, on compiled loops and on torch slices: the last above 0 wins, as by the full computation."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.test_engine import CPU, image, monai_logits, network, on_grid, settings_of_a_scan, streamed
from voxelry.inference.ring_buffer import HostRingBuffer
from voxelry.inference.ring_buffer_torch import DeviceRingBuffer
from voxelry.inference.slice_writer import restore_logits
from voxelry.networks.classes import layer_winners, winners

RINGS = {
    "loops": partial(HostRingBuffer, regions=True),
    "slices": lambda *given: DeviceRingBuffer(*given, CPU, True),
}
LAYERS = (2, 0, 1)
LAYERED = {
    "loops": partial(HostRingBuffer, regions=True, layers=LAYERS),
    "slices": lambda *given: DeviceRingBuffer(*given, CPU, True, layers=LAYERS),
}


def regions(dimensions, classes, seed=0):
    """Logits of regions, above and below 0; those of the background are never looked at."""
    forward, rest = network(dimensions, classes, seed), 7.0
    return lambda x: torch.cat([torch.full_like(x, rest), 3 * forward(x)[:, 1:]], 1)


def clear(values, margin=1e-4):
    """Voxels none of whose decisions is a tie."""
    return (values[1:].abs() > margin).all(0).numpy()


def certainties(shares, winner):
    """The probability of the least certain decision, voxel by voxel, in plain Python."""
    out = np.ones(winner.shape)
    for place in np.ndindex(*winner.shape):
        won, at = int(winner[place]), shares[(slice(None), *place)]
        decisions = [at[won]] if won else []
        out[place] = min([*decisions, *(1 - at[won + 1 :])], default=1)
    return out


@pytest.mark.parametrize("ring", RINGS)
@given(scan=settings_of_a_scan(), half=st.booleans())
@settings(max_examples=20, deadline=None)
def test_streamed_regions_equal_the_full_computation(ring, scan, half):
    shape, patch, target, overlap, axis, drawn = scan
    classes = max(2, drawn)
    forward, picture = regions(len(shape), classes), image(shape)
    setup = {"patch": patch, "overlap": overlap, "axis": axis, "classes": classes, "half": half, "regions": True}
    labels, _, _ = streamed(forward, picture, target, ring=RINGS[ring], **setup)
    values = on_grid(monai_logits(forward, picture, patch, overlap), target)
    kept = clear(values, 1e-2 if half else 1e-4)
    assert np.array_equal(labels[kept], winners(values[None], True)[0].numpy()[kept])
    assert kept.mean() > 0.9 or kept.size < 200


@st.composite
def restored(draw):
    shape = tuple(draw(st.integers(1, 9)) for _ in range(3))
    return draw(st.integers(2, 6)), shape, tuple(draw(st.integers(1, 20)) for _ in shape)


@given(case=restored(), bias=st.sampled_from([-2, -0.5, 0, 1]))
@settings(max_examples=60, deadline=None)
def test_where_corners_agree_nothing_else_can_win(case, bias):
    """Biases make regions that are nowhere, everywhere or scattered; smooth ones leave most cells to the shortcut."""
    classes, shape, target = case
    logits = np.random.default_rng(0).normal(size=(classes, *shape)).astype(np.float32) + bias
    values = torch.nn.functional.interpolate(torch.from_numpy(logits)[None], size=target, mode="trilinear", align_corners=False)
    labels = restore_logits(logits, target, regions=True)
    kept = clear(values[0], 1e-5)
    assert np.array_equal(labels[kept], winners(values, True)[0].numpy()[kept])


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_certainty_is_that_of_the_least_certain_decision(ring, average):
    forward, picture, patch = regions(3, 4), image((12, 11, 10)), (6, 8, 8)
    setup = {"patch": patch, "classes": 4, "ring": RINGS[ring], "regions": True, "probabilities": average == "probabilities"}
    known = forward if average == "logits" else lambda x: forward(x).sigmoid() - 0.5
    labels, confidence, made = streamed(forward, picture, (18, 11, 20), confidence="probability", **setup)
    values = on_grid(monai_logits(known, picture, patch, 0.5), (18, 11, 20))
    shares = (values.sigmoid() if average == "logits" else values + 0.5).numpy()
    kept = clear(values)
    assert np.array_equal(labels[kept], winners(values[None], True)[0].numpy()[kept])
    expected = certainties(shares, labels)
    assert np.abs(confidence / 255 - expected)[kept].max() < 0.003
    assert len(set(labels.flat)) == 4
    # on the network's own grid: mean certainty of what each region won
    own = monai_logits(known, picture, patch, 0.5)[0]
    share, winner = (own.sigmoid() if average == "logits" else own + 0.5).numpy(), winners(own[None], True)[0].numpy()
    certain = certainties(share, winner)
    for number in (1, 2, 3):
        assert made.voxel_count[number] == pytest.approx((winner == number).sum(), abs=1)
        assert made.probability_sum[number] / made.voxel_count[number] == pytest.approx(
            certain[winner == number].mean(), abs=2e-3
        )


@pytest.mark.parametrize("ring", RINGS)
def test_entropy_is_the_mean_of_those_of_the_decisions(ring):
    forward, picture, patch = regions(3, 4), image((12, 11, 10)), (6, 8, 8)
    _, confidence, _ = streamed(
        forward, picture, (18, 11, 20), confidence="entropy", patch=patch, classes=4, ring=RINGS[ring], regions=True
    )
    values = on_grid(monai_logits(forward, picture, patch, 0.5), (18, 11, 20))[1:].double()
    entropy = torch.distributions.Bernoulli(logits=values).entropy().mean(0) / np.log(2)
    assert np.abs(confidence / 255 - entropy.numpy()).max() < 0.003


def test_mirrored_copies_are_averaged_with_regions_swapped():
    forward, picture = regions(3, 4), image((9, 10, 8))
    mirror_map = (0, 2, 1, 3)
    setup = {"patch": (9, 10, 8), "classes": 4, "ring": RINGS["loops"], "regions": True, "flips": (0,), "mirror_map": mirror_map}
    labels, _, _ = streamed(forward, picture, (9, 10, 8), **setup)
    x = torch.from_numpy(picture)[None]
    values = (forward(x) + forward(x.flip(2)).flip(2)[:, list(mirror_map)]) / 2
    kept = clear(values[0])
    assert np.array_equal(labels[kept], winners(values, True)[0].numpy()[kept])


@pytest.mark.parametrize("ring", LAYERED)
@given(scan=settings_of_a_scan(), half=st.booleans())
@settings(max_examples=20, deadline=None)
def test_each_layer_is_decided_by_its_own_classes(ring, scan, half):
    shape, patch, target, overlap, axis, _ = scan
    forward, picture = regions(len(shape), 4), image(shape)
    setup = {"patch": patch, "overlap": overlap, "axis": axis, "classes": 4, "half": half, "regions": True}
    labels, _, _ = streamed(forward, picture, target, ring=LAYERED[ring], **setup)
    values = on_grid(monai_logits(forward, picture, patch, overlap), target)
    margin = 1e-2 if half else 1e-4
    kept = clear(values, margin) & ((values[1] - values[2]).abs() > margin).numpy()
    for layer, expected in zip(labels, layer_winners(values[None], LAYERS), strict=True):
        assert np.array_equal(layer[kept], expected[0].numpy()[kept])
    assert not labels[1].any()
    assert kept.mean() > 0.9 or kept.size < 200


@pytest.mark.parametrize("ring", LAYERED)
@pytest.mark.parametrize("average", ["logits", "probabilities"])
@pytest.mark.parametrize("kind", ["probability", "entropy"])
def test_the_map_of_layers_is_that_of_the_least_certain(ring, average, kind):
    forward, picture, patch = regions(3, 4), image((12, 11, 10)), (6, 8, 8)
    setup = {"patch": patch, "classes": 4, "ring": LAYERED[ring], "regions": True, "probabilities": average == "probabilities"}
    known = forward if average == "logits" else lambda x: forward(x).sigmoid() - 0.5
    _, found, made = streamed(forward, picture, (18, 11, 20), confidence=kind, **setup)

    def shares(values):
        return (values.sigmoid() if average == "logits" else values + 0.5)[1:].double().clamp(1e-9, 1 - 1e-9)

    share = shares(on_grid(monai_logits(known, picture, patch, 0.5), (18, 11, 20)))
    entropy = torch.distributions.Bernoulli(share).entropy() / np.log(2)
    highest = share[:2].amax(0)
    wanted = {
        "probability": torch.minimum(torch.maximum(highest, 1 - highest), torch.maximum(share[2], 1 - share[2])),
        "entropy": torch.maximum(entropy[:2].mean(0), entropy[2]),
    }[kind]
    assert np.abs(found / 255 - wanted.numpy()).max() < 0.003
    # on the network's own grid: mean probability of what each label won on its layer
    own = monai_logits(known, picture, patch, 0.5)
    share, planes = shares(own[0]), layer_winners(own, LAYERS)
    for number, plane in ((1, planes[0]), (2, planes[0]), (3, planes[2])):
        won = plane[0] == number
        assert made.voxel_count[number] == pytest.approx(int(won.sum()), abs=1)
        assert made.probability_sum[number] / made.voxel_count[number] == pytest.approx(
            float(share[number - 1][won].mean()), abs=2e-3
        )
