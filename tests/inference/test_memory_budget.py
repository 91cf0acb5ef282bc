import dataclasses

import pytest
import torch

from voxelry.base.malloc import installed_memory
from voxelry.errors import BudgetError
from voxelry.inference.memory_budget import Load, choose, resident_memory
from voxelry.inference.patches import Layout
from voxelry.inference.predict_options import PredictOptions
from voxelry.recipes.settings import parse_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MIB = 1 << 20
LOAD = Load(
    (Layout.of((256, 256, 667), (128, 128, 64), 0.5),), classes=105, image=175 * MIB, labels=262 * MIB, plane=MIB,
    window=600 * MIB, resident=900 * MIB,
)  # fmt: skip


def test_float32_sums_are_preferred_where_they_fit():
    assert not choose(LOAD, PredictOptions(memory=8 << 30), CPU).half
    choice = choose(LOAD, PredictOptions(memory=3 << 30), CPU)
    assert choice.half
    assert choice.needed <= 3 << 30


def test_what_cannot_fit_is_refused_with_the_smallest_budget_that_would():
    with pytest.raises(BudgetError, match=r"1024MiB is too small for 105 classes.*ring 8\d\dMiB") as caught:
        choose(LOAD, PredictOptions(memory=1 << 30), CPU)
    needed = caught.value.needed
    assert choose(LOAD, PredictOptions(memory=needed), CPU).slab == 1
    with pytest.raises(BudgetError):
        choose(LOAD, PredictOptions(memory=needed - 1), CPU)
    told = parse_memory(str(caught.value).split("--memory ")[1].split(",")[0])
    assert needed <= told < needed + MIB


def test_from_14_to_105_classes_only_ring_and_window_grow():
    few = dataclasses.replace(LOAD, classes=14, window=200 * MIB)
    budget = PredictOptions(memory=8 << 30)
    grown = choose(LOAD, budget, CPU).needed - choose(few, budget, CPU).needed
    assert grown == LOAD.ring(False) - few.ring(False) + 400 * MIB


def test_a_gpu_takes_many_windows_before_precise_sums_and_the_ring_only_where_it_fits():
    large = choose(LOAD, PredictOptions(memory=16 << 30, device_memory=40 << 30), GPU)
    assert (large.batch, large.ring_on_device) == (8, True)
    small = choose(LOAD, PredictOptions(memory=16 << 30, device_memory=800 * MIB), GPU)
    assert (small.batch, small.ring_on_device) == (1, False)
    again = choose(LOAD, PredictOptions(memory=16 << 30, device_memory=40 << 30), GPU, ring_on_device=False)
    assert (again.batch, again.ring_on_device) == (8, False)
    with pytest.raises(BudgetError, match="cannot hold one window"):
        choose(LOAD, PredictOptions(device_memory=100 * MIB), GPU)


def test_the_process_and_the_machine_know_their_memory():
    assert 50 * MIB < resident_memory() < installed_memory()
