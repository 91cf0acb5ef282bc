import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voxelry.base.malloc import installed_memory
from voxelry.base.memory import Footprint
from voxelry.errors import BudgetError
from voxelry.inference import memory_budget
from voxelry.inference.engine import DEVICE_REORDERED, REORDERED, reorder_bytes
from voxelry.inference.memory_budget import SPARE, ScanFootprint, candidates, host_limit, resident_memory, split_memory
from voxelry.inference.patches import PatchGrid
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.ring_buffer import HostRingBuffer, ring_bytes
from voxelry.recipes.settings import parse_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MIB = 1 << 20
SCAN = ScanFootprint(
    (PatchGrid.of((256, 256, 667), (128, 128, 64), 0.5),),
    classes=105,
    host=Footprint({"already in use": 900 * MIB, "Python and torch": SPARE, "prepared slices": 175 * MIB, "labels": 262 * MIB}),
    new_slice=Footprint({"new slices": MIB}),
    patch=Footprint({"network": 600 * MIB}),
)


def test_float32_sums_are_preferred_where_they_fit():
    assert not split_memory(SCAN, PredictOptions(memory=8 << 30), CPU).half
    split = split_memory(SCAN, PredictOptions(memory=3 << 30), CPU)
    assert split.half
    assert split.host.total <= 3 << 30


def test_what_cannot_fit_is_refused_with_the_smallest_budget_that_would():
    with pytest.raises(BudgetError, match=r"1024MiB is too small for 105 classes.*ring buffer 8\d\dMiB") as caught:
        split_memory(SCAN, PredictOptions(memory=1 << 30), CPU)
    needed = caught.value.needed
    assert split_memory(SCAN, PredictOptions(memory=needed), CPU).slab == 1
    with pytest.raises(BudgetError):
        split_memory(SCAN, PredictOptions(memory=needed - 1), CPU)
    named = parse_memory(str(caught.value).split("--memory ")[1].split(",")[0])
    assert needed <= named < needed + MIB


def test_a_refusal_names_every_part_largest_first():
    with pytest.raises(BudgetError) as caught:
        split_memory(SCAN, PredictOptions(memory=1 << 30), CPU)
    names = ("already in use", "ring buffer", "network", "labels", "prepared slices", "Python and torch", "logits", "new slices")
    places = [str(caught.value).index(f"{name} ") for name in names]
    assert places == sorted(places)


def test_from_14_to_105_classes_only_ring_and_patch_grow():
    few = dataclasses.replace(SCAN, classes=14, patch=Footprint({"network": 200 * MIB}))
    budget = PredictOptions(memory=8 << 30)
    many_host, few_host = (split_memory(scan, budget, CPU).host for scan in (SCAN, few))
    assert many_host.total - few_host.total == SCAN.ring(False).total - few.ring(False).total + 400 * MIB
    changed = {name for name in many_host.parts if many_host[name] != few_host[name]}
    assert changed == {"ring buffer", "network"}


def test_the_numbers_are_those_of_the_sums_that_are_kept():
    assert (reorder_bytes(False), reorder_bytes(True)) == (6 * 4 * REORDERED, 6 * 4 * DEVICE_REORDERED)
    shape = (9, 20, 30)
    for half in (False, True):
        ring = HostRingBuffer(5, shape, None, half, logits=True)
        held = ring.sums.nbytes + ring.weights.nbytes + ring.winners.nbytes
        assert held <= ring_bytes(5, shape, half) <= held + 2 * ring.winners.size


def test_a_gpu_takes_many_patches_before_precise_sums_and_the_ring_only_where_it_fits():
    large = split_memory(SCAN, PredictOptions(memory=16 << 30, device_memory=40 << 30), GPU)
    assert (large.batch, large.ring_on_device) == (8, True)
    small = split_memory(SCAN, PredictOptions(memory=16 << 30, device_memory=800 * MIB), GPU)
    assert (small.batch, small.ring_on_device) == (1, False)
    again = split_memory(SCAN, PredictOptions(memory=16 << 30, device_memory=40 << 30), GPU, ring_on_device=False)
    assert (again.batch, again.ring_on_device) == (8, False)
    with pytest.raises(BudgetError, match=r"cannot hold one patch: 792MiB .*network 600MiB, logits in streaming order 192MiB"):
        split_memory(SCAN, PredictOptions(device_memory=100 * MIB), GPU)


def test_candidates_come_from_the_best_to_the_smallest():
    splits = list(candidates(SCAN, PredictOptions(), None, False))
    assert [split.slab for split in splits] == sorted((split.slab for split in splits), reverse=True)
    assert splits[-1].host.total == min(split.host.total for split in splits)
    assert {split.batch for split in candidates(SCAN, PredictOptions(batch=3), 40 << 30, True)} == {3, 1}


@given(st.integers(1, 64 << 10))
def test_the_default_budget_is_a_share_of_the_machine_and_never_more_than_it_has(mebibytes):
    installed = mebibytes * MIB
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_budget, "installed_memory", lambda: installed)
        assert host_limit(PredictOptions()) == installed * 3 // 4
        assert host_limit(PredictOptions(memory=5 * MIB)) == 5 * MIB
        least = min(split.host.total for split in candidates(SCAN, PredictOptions(), None, True))
        if least > installed * 3 // 4:
            with pytest.raises(BudgetError):
                split_memory(SCAN, PredictOptions(), CPU)
        else:
            assert split_memory(SCAN, PredictOptions(), CPU).host.total <= installed * 3 // 4


def test_the_process_and_the_machine_know_their_memory():
    assert 50 * MIB < resident_memory() < installed_memory()
