"""Scans that go through a network together get what they get alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.plans import picture, tiny_model, tiny_plan
from voxelry.core.labels import LabelTable
from voxelry.errors import BudgetError
from voxelry.inference.forward import Batches
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.inference.shared_passes import SharedPasses

SECONDS = 60


class Counted:
    """A network that doubles its patches, and keeps how many it was given at a time; it holds no more than `most`."""

    def __init__(self, most=99):
        self.most, self.batches, self.threads = most, [], set()

    def __call__(self, patches_BC):
        if len(patches_BC) > self.most:
            raise torch.OutOfMemoryError
        self.batches.append(len(patches_BC))
        self.threads.add(threading.get_ident())
        return 2 * patches_BC


def together(works):
    """What several functions of `SharedPasses` give, or raise, each in its own thread."""
    passes = SharedPasses(len(works))

    def member(work):
        try:
            return work(passes)
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            return error
        finally:
            passes.leave()

    with ThreadPoolExecutor(len(works)) as pool:
        results = [pool.submit(member, work) for work in works]
        passes.serve()
        return [result.result(SECONDS) for result in results]


def patches(count, seed=0, size=3):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=5))
def test_each_gets_its_own_whatever_the_others_ask_for(asked):
    """Property: member i wishes for batches of `asked[i]` patches, one after the other."""
    network = Counted()

    def work(member):
        def run(passes):
            given = [patches(count, 10 * member + n) for n, count in enumerate(asked[member])]
            return all(torch.equal(passes.run(network, each), 2 * each) for each in given)

        return run

    assert together([work(member) for member in range(len(asked))]) == [True] * len(asked)
    rounds = max(map(len, asked))
    assert network.batches == [sum(each[n] for each in asked if n < len(each)) for n in range(rounds)]
    assert network.threads <= {threading.get_ident()}


def test_networks_and_patches_that_differ_do_not_share():
    one, other = Counted(), Counted()
    works = [(one, patches(1)), (other, patches(1, 1)), (one, patches(2, 2)), (one, patches(1, 3, size=4))]
    results = together([lambda passes, network=network, given=given: passes.run(network, given) for network, given in works])
    assert all(torch.equal(result, 2 * given) for result, (_, given) in zip(results, works, strict=True))
    assert (sorted(one.batches), other.batches) == ([1, 3], [1])


def test_an_error_goes_to_all_who_shared_the_pass_and_to_nobody_else():
    def broken(_):
        raise ValueError("broken")

    fine = Counted()
    works = [(broken, patches(1)), (broken, patches(2)), (fine, patches(1))]
    results = together([lambda passes, network=network, given=given: passes.run(network, given) for network, given in works])
    assert [str(result) for result in results[:2]] == ["broken"] * 2
    assert torch.equal(results[2], 2 * works[2][1])


def test_a_batch_that_memory_does_not_hold_is_divided():
    network = Counted(most=2)
    given = [patches(2), patches(3, 1), patches(1, 2)]
    results = together(
        [lambda passes, each=each: torch.cat([part for _, part in Batches(4, passes).run(network, each)]) for each in given]
    )
    assert all(torch.equal(result, 2 * each) for result, each in zip(results, given, strict=True))
    assert max(network.batches) <= 2
    [error] = together([lambda passes: list(Batches(4, passes).run(Counted(most=0), patches(2)))])
    assert isinstance(error, BudgetError)


@pytest.mark.parametrize("mixed_precision", ["auto", "off"])
def test_pictures_of_any_size_get_the_labels_that_they_get_alone(mixed_precision):
    plan = tiny_plan(dimensions=2, patch_size=(32, 32), long_side=32, flips=(0, 1))
    options = PredictOptions(confidence="probability", mixed_precision=mixed_precision)
    predictor = Predictor(tiny_model(plan, LabelTable.numbered([3, 5])), "cpu", options)
    rng = np.random.default_rng(0)
    volumes = [picture(rng.normal(0, 2, (1, 24 + 9 * n, 40 - 5 * n)).astype(np.float32)) for n in range(4)]
    alone = [predictor.predict(volume) for volume in volumes]
    works = [lambda passes, volume=volume: predictor.predict(volume, passes=passes) for volume in volumes]
    for prediction, expected in zip(together(works), alone, strict=True):
        assert np.array_equal(prediction.labels.array, expected.labels.array)
        assert np.array_equal(prediction.map.array, expected.map.array)
        assert len(np.unique(expected.labels.array)) > 1


def takes(plan, shape, spacing=None):
    return Predictor(tiny_model(plan, LabelTable.numbered([3])), "cpu").takes_one_patch(shape, spacing)


def test_one_patch_is_told_by_the_grid_and_the_plan():
    size = {"dimensions": 2, "patch_size": (32, 32)}
    assert takes(tiny_plan(**size, long_side=32), (3000, 2000))
    assert not takes(tiny_plan(**size, long_side=33), (3000, 2000))
    assert takes(tiny_plan(**size), (32, 20))
    assert not takes(tiny_plan(**size), (20, 33))
    assert takes(tiny_plan(**size, spacing=(1.0, 1.0)), (64, 64), (0.5, 0.5))
    assert not takes(tiny_plan(**size, spacing=(1.0, 1.0)), (64, 64), (0.5, 0.6))
