import pytest
import torch

from helpers.training_cases import loop
from voxelry.training.determinism import arithmetic, random_states, restore_random_states

CPU = torch.device("cpu")


def flags():
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


def test_the_flags_hold_within_the_block_alone():
    before = flags()
    with arithmetic(CPU, True):
        assert flags() == (True, True, False)
    assert flags() == before
    with pytest.raises(ZeroDivisionError), arithmetic(CPU, True):
        raise ZeroDivisionError
    assert flags() == before
    with arithmetic(torch.device("cuda"), False):
        assert flags() == (False, False, True)
    with arithmetic(CPU, False):
        assert flags() == before


def test_random_states_come_back():
    states = random_states(CPU)
    drawn = torch.rand(4)
    restore_random_states(states, CPU)
    assert torch.equal(torch.rand(4), drawn)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_deterministic_run_repeats_itself(tmp_path, dimensions):
    seen = []
    for name in ("a", "b"):
        run = loop(tmp_path / name, dimensions, steps=5, deterministic=True)
        during = []
        run.run(lambda progress, during=during: during.append((torch.are_deterministic_algorithms_enabled(), progress.loss)))
        seen.append(during)
    assert seen[0] == seen[1]
    assert all(on for on, _ in seen[0])
    assert not torch.are_deterministic_algorithms_enabled()
