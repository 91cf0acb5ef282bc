"""The engine against MONAI's sliding window, full interpolation and argmax; on compiled loops and on torch slices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import nn
from torch.nn.functional import interpolate

from voxelry.errors import BudgetError, ModelError
from voxelry.inference import engine
from voxelry.inference.engine import REORDERED, Member, TestTimeAugmentation, stream
from voxelry.inference.forward import Batches
from voxelry.inference.linear_interpolation import Interp1d
from voxelry.inference.patches import PatchGrid, mirror_sets
from voxelry.inference.ring_buffer import HostRingBuffer
from voxelry.inference.ring_buffer_torch import DeviceRingBuffer
from voxelry.inference.slice_writer import SliceWriter
from voxelry.preparation.slice_stream import InMemorySlices

CPU = torch.device("cpu")
MODES = {2: "bilinear", 3: "trilinear"}


def network(dimensions, classes, seed=0):
    """A convolution whose logits depend on where in a patch a voxel lies, since patches are padded with 0."""
    torch.manual_seed(seed)
    kind = nn.Conv2d if dimensions == 2 else nn.Conv3d
    layer = kind(1, classes, 3, padding=1)
    return lambda x: layer(x).detach()


def image(shape, seed=1):
    return np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)


def streamed(
    forward,
    picture,
    target,
    *,
    patch,
    overlap=0.5,
    classes=3,
    ring=HostRingBuffer,
    axis=None,
    half=False,
    confidence="",
    slab=3,
    **more,
):
    """Labels (of each layer where there are several) and map on the new grid, in the network's order, with their ring."""
    weights = more.pop("weights", "gaussian")
    grid = PatchGrid.of(picture.shape[1:], patch, overlap, weights)
    if axis is not None:
        grid = PatchGrid(grid.size, grid.patch, overlap, axis, weights)
    logits = not more.get("probabilities", False)
    extra = (CPU,) if ring is DeviceRingBuffer else ()
    made = ring(classes, (grid.depth + 1, *grid.shape[1:]), grid.weights, half, logits, *extra)
    along = [Interp1d.of(n, m) for n, m in zip(grid.shape, grid.streamed(target), strict=True)]
    parts, maps = [], []
    writer = SliceWriter(
        made, tuple(along), slab, lambda new: (parts.append(new.labels), maps.append(new.confidence)), confidence
    )
    kept, progress = more.pop("kept", lambda _: True), more.pop("progress", lambda *_: None)
    batches = more.pop("batches", Batches(2))
    slices = InMemorySlices(picture, grid.axis)
    members = [Member(one, slices) for one in (forward if isinstance(forward, list) else [forward])]
    settings = {"mirrors": mirror_sets(more.pop("flips", ())), "mirror_map": tuple(range(classes)), "side_axis": 0, **more}
    for done in stream(grid, TestTimeAugmentation(members, **settings), made, writer, batches, CPU, kept):
        progress(done, grid.count)

    def back(slices):
        joined = np.concatenate(slices)
        joined = joined if len(target) == 3 else joined[:, 0]
        return joined.transpose(np.argsort(grid.order))

    layers = np.stack([back(layer) for layer in zip(*parts, strict=True)])
    return layers if len(layers) > 1 else layers[0], back(maps) if confidence else None, made


def monai_logits(forward, picture, patch, overlap, mode="gaussian"):
    return sliding_window_inference(
        torch.from_numpy(picture)[None], patch, 1, forward, overlap=overlap, mode=mode, sigma_scale=0.125
    )


def on_grid(logits, target):
    return interpolate(logits, size=tuple(target), mode=MODES[len(target)], align_corners=False)[0]


def disagreements(labels, values, margin=1e-4):
    """Voxels whose label is not the full computation's and whose two best classes are no tie; and how many ties there are."""
    wrong = labels != values.argmax(0).numpy()
    if len(values) == 1:
        return int(wrong.sum()), 0
    best = values.topk(2, 0).values
    tie = (best[0] - best[1]).numpy() < margin
    return int((wrong & ~tie).sum()), int(tie.sum())


@st.composite
def settings_of_a_scan(draw):
    dimensions = draw(st.sampled_from([2, 3, 3]))
    top = 13 if dimensions == 3 else 30
    shape = tuple(draw(st.integers(1, top)) for _ in range(dimensions))
    patch = tuple(draw(st.integers(2, 8)) for _ in range(dimensions))
    target = tuple(max(1, round(n * draw(st.sampled_from([0.4, 0.8, 1.0, 1.0, 1.5, 2.7])))) for n in shape)
    overlap = draw(st.sampled_from([0.7, 0.5, 0.25, 0.0]))
    return shape, patch, target, overlap, draw(st.integers(0, dimensions - 1)), draw(st.integers(1, 6))


@pytest.mark.parametrize("ring", [HostRingBuffer, DeviceRingBuffer])
@given(scan=settings_of_a_scan(), weights=st.sampled_from(["gaussian", "constant"]))
@settings(max_examples=60)
def test_streamed_labels_equal_the_full_computation(ring, scan, weights):
    shape, patch, target, overlap, axis, classes = scan
    forward, picture = network(len(shape), classes), image(shape)
    labels, _, _ = streamed(
        forward, picture, target, patch=patch, overlap=overlap, axis=axis, classes=classes, ring=ring, weights=weights
    )
    values = on_grid(monai_logits(forward, picture, patch, overlap, weights), target)
    wrong, ties = disagreements(labels, values)
    assert wrong == 0
    assert ties <= 0.01 * labels.size + 2


@pytest.mark.parametrize("half", [False, True])
@given(scan=settings_of_a_scan())
@settings(max_examples=30)
def test_torch_slabs_equal_compiled_loops(half, scan):
    shape, patch, target, overlap, axis, classes = scan
    setup = {"patch": patch, "overlap": overlap, "axis": axis, "classes": classes, "half": half, "flips": (0,)}
    one, confidence, host = streamed(network(len(shape), classes), image(shape), target, confidence="entropy", **setup)
    other, also, device = streamed(
        network(len(shape), classes), image(shape), target, ring=DeviceRingBuffer, confidence="entropy", **setup
    )
    apart = int((one != other).sum())
    assert apart <= (2 + 0.002 * one.size if half else 0.0005 * one.size)  # fused multiply-add rounds differently
    assert np.abs(confidence.astype(int) - also).max() <= 1
    assert host.voxel_count.sum() == pytest.approx(device.voxel_count.sum(), abs=2)
    assert host.probability_sum.sum() == pytest.approx(device.probability_sum.sum(), rel=1e-2, abs=1)


def test_half_sums_agree_but_for_near_ties():
    forward, picture = network(3, 5), image((30, 28, 26))
    labels, _, _ = streamed(forward, picture, (45, 40, 31), patch=(8, 12, 12), classes=5, half=True)
    values = on_grid(monai_logits(forward, picture, (8, 12, 12), 0.5), (45, 40, 31))
    assert disagreements(labels, values, margin=0.01)[0] == 0
    assert (labels != values.argmax(0).numpy()).mean() < 2e-3


@pytest.mark.parametrize("ring", [HostRingBuffer, DeviceRingBuffer])
def test_huge_logits_do_not_overflow_half_sums(ring):
    def loud(x):
        return torch.cat([x * 6e4, -x * 6e4, torch.zeros_like(x)], 1)

    picture = image((20, 12, 12))
    labels, _, made = streamed(loud, picture, (20, 12, 12), patch=(8, 8, 8), half=True, ring=ring, overlap=0.75)
    assert np.array_equal(labels, np.where(picture[0] > 0, 0, 1))
    assert np.isfinite(made.probability_sum).all()


def test_more_than_255_labels():
    classes = 300
    values = torch.randn(classes, generator=torch.Generator().manual_seed(3))

    def forward(x):
        return -(x - torch.linspace(-3, 3, classes).reshape(1, -1, 1, 1, 1)).abs() + 0 * values.reshape(1, -1, 1, 1, 1)

    picture = image((6, 9, 7))
    for ring in (HostRingBuffer, DeviceRingBuffer):
        labels, _, _ = streamed(forward, picture, (9, 9, 12), patch=(4, 8, 8), classes=classes, ring=ring)
        full = on_grid(monai_logits(forward, picture, (4, 8, 8), 0.5), (9, 9, 12))
        assert labels.max() > 255
        assert disagreements(labels, full)[0] == 0


@pytest.mark.parametrize("ring", [HostRingBuffer, DeviceRingBuffer])
@pytest.mark.parametrize("probabilities", [False, True])
def test_the_map_is_the_full_computations(ring, probabilities):
    forward, picture, target = network(3, 4), image((9, 12, 10)), (13, 12, 7)
    full = monai_logits((lambda x: forward(x).softmax(1)) if probabilities else forward, picture, (6, 6, 6), 0.5)
    values = on_grid(full, target)
    shares = values / values.sum(0) if probabilities else values.softmax(0)
    wanted = {"probability": shares.max(0).values, "entropy": -(shares * shares.log()).sum(0) / math.log(4)}
    for kind, share in wanted.items():
        setup = {"patch": (6, 6, 6), "classes": 4, "confidence": kind, "probabilities": probabilities, "ring": ring}
        _, confidence, _ = streamed(forward, picture, target, **setup)
        assert np.abs(confidence.astype(int) - (share * 255).round().numpy()).max() <= 1


@pytest.mark.parametrize("ring", [HostRingBuffer, DeviceRingBuffer])
@pytest.mark.parametrize("probabilities", [False, True])
def test_confidence_is_the_mean_probability_of_voxels_won(ring, probabilities):
    forward, picture = network(3, 4), image((9, 12, 10))
    full = monai_logits((lambda x: forward(x).softmax(1)) if probabilities else forward, picture, (6, 6, 6), 0.5)[0]
    shares = full if probabilities else full.softmax(0)
    best, winner = shares.max(0)
    _, _, made = streamed(forward, picture, (9, 12, 10), patch=(6, 6, 6), classes=4, probabilities=probabilities, ring=ring)
    for index in range(1, 4):
        assert made.voxel_count[index] == (winner == index).sum()
        assert made.probability_sum[index] / made.voxel_count[index] == pytest.approx(
            float(best[winner == index].mean()), rel=1e-5
        )


def test_members_and_mirrored_copies_are_averaged():
    picture, patch, target = image((14, 9, 11)), (6, 8, 8), (20, 9, 16)
    one, two = network(3, 3, 5), network(3, 3, 6)
    mirror_map = (0, 2, 1)

    def averaged(x, share):
        total = 0
        for forward in (one, two):
            for axes in mirror_sets((0, 2)):
                spatial = [axis + 2 for axis in axes]
                logits = share(forward(x.flip(spatial)).flip(spatial))
                total = total + (logits[:, list(mirror_map)] if 0 in axes else logits)
        return total / 8

    for probabilities in (False, True):
        share = (lambda x: x.softmax(1)) if probabilities else (lambda x: x)
        values = on_grid(monai_logits(lambda x, s=share: averaged(x, s), picture, patch, 0.5), target)
        for size in (1, 3, 8):
            setup = {
                "patch": patch,
                "flips": (0, 2),
                "mirror_map": mirror_map,
                "probabilities": probabilities,
                "batches": Batches(size),
            }
            labels, _, _ = streamed([one, two], picture, target, **setup)
            assert disagreements(labels, values, margin=1e-5)[0] == 0


@pytest.mark.parametrize("reordered", [1, 500, REORDERED])
@given(scan=settings_of_a_scan(), flips=st.sets(st.integers(0, 2)))
@settings(max_examples=40)
def test_mirrored_patches_come_back_upright(reordered, scan, flips):
    """Of scans smaller than a patch too, and however few slices are reordered at a time."""
    shape, patch, target, overlap, axis, classes = scan
    flips = tuple(sorted(axis for axis in flips if axis < len(shape)))
    forward, picture = network(len(shape), classes), image(shape)

    def averaged(x):
        sets = [[axis + 2 for axis in axes] for axes in mirror_sets(flips)]
        return sum(forward(x.flip(axes)).flip(axes) for axes in sets) / len(sets)

    with pytest.MonkeyPatch.context() as context:
        context.setattr(engine, "REORDERED", reordered)
        labels, _, _ = streamed(forward, picture, target, patch=patch, overlap=overlap, axis=axis, classes=classes, flips=flips)
    wrong, _ = disagreements(labels, on_grid(monai_logits(averaged, picture, patch, overlap), target))
    assert wrong == 0


class Starved:
    """A network on a device that holds `room` patches at a time."""

    def __init__(self, forward, room):
        self.forward, self.room, self.sizes = forward, room, []

    def __call__(self, patches):
        self.sizes.append(len(patches))
        if len(patches) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return self.forward(patches)


def test_out_of_memory_halves_the_batch_and_goes_on():
    forward, picture = network(3, 3), image((20, 18, 16))
    expected, _, _ = streamed(forward, picture, (20, 18, 16), patch=(8, 8, 8))
    starved, patches = Starved(forward, 3), []
    setup = {"batches": Batches(8), "progress": lambda done, count: patches.append((done, count))}
    labels, _, _ = streamed(starved, picture, (20, 18, 16), patch=(8, 8, 8), **setup)
    assert np.array_equal(labels, expected)
    assert [size for size in starved.sizes if size > 3] == [8, 4]  # never again, and nothing twice
    assert sum(size for size in starved.sizes if size <= 3) == patches[-1][1]
    assert patches[-1][0] == patches[-1][1]


def test_a_device_too_small_for_one_patch_is_refused():
    with pytest.raises(BudgetError, match="a single patch"):
        streamed(Starved(network(3, 3), 0), image((8, 8, 8)), (8, 8, 8), patch=(8, 8, 8))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_refused(value):
    def broken(x):
        return torch.cat([x, x * value], 1)

    with pytest.raises(ModelError, match="not finite"):
        streamed(broken, image((8, 8, 8)), (8, 8, 8), patch=(8, 8, 8), classes=2)


def test_patches_left_out_change_nothing_where_no_patch_was_left_out():
    forward, picture, patch = network(3, 4), image((32, 16, 16)), (8, 8, 8)
    whole, _, _ = streamed(forward, picture, (48, 16, 24), patch=patch, classes=4, axis=0)
    for ring in (HostRingBuffer, DeviceRingBuffer):
        part, _, _ = streamed(forward, picture, (48, 16, 24), patch=patch, classes=4, axis=0, kept=lambda w: w[0] < 16, ring=ring)
        assert np.array_equal(part[:23], whole[:23])  # new slice 23 lies at 15.2, its neighbours below 16 alone do not make it
        assert not part[36:].any()
        assert whole[36:].any()
