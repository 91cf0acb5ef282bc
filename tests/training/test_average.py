import pytest
import torch
from torch import nn

from voxelry.training.average import WeightAverage


class Shared(nn.Module):
    """Weights that have two names, as MONAI's DynUNet has them, and a statistic and a counter beside them."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 2)
        self.other = self.one
        self.norm = nn.BatchNorm1d(2)


def change(network, value):
    with torch.no_grad():
        for tensor in [*network.parameters(), network.norm.running_mean]:
            tensor.fill_(value)


def test_the_average_is_exponential_and_quick_at_first():
    network = Shared()
    change(network, 0.0)
    average = WeightAverage(network, 0.5)
    expected = 0.0
    for step in range(1, 9):
        change(network, float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        assert network.one.weight.detach().flatten().tolist() == pytest.approx([expected] * 6)
        assert network.norm.running_mean.tolist() == pytest.approx([expected] * 2)
    assert network.one.weight.unique() == 8
    with average.applied():
        assert network.other.bias.tolist() == pytest.approx([expected] * 2)


def test_the_networks_weights_come_back_after_an_error():
    network = Shared()
    average = WeightAverage(network, 0.9)
    change(network, 4.0)
    with pytest.raises(RuntimeError), average.applied():
        raise RuntimeError
    assert network.one.weight.unique() == 4


def test_a_state_comes_back_and_another_networks_is_refused():
    torch.manual_seed(0)
    average = WeightAverage(Shared(), 0.9)
    other = WeightAverage(Shared(), 0.9)
    other.load_state_dict(average.state_dict())
    assert all(torch.equal(other.average[name], tensor) for name, tensor in average.average.items())
    with pytest.raises(ValueError, match="other names"):
        other.load_state_dict({"weight": torch.zeros(1)})


def test_without_a_decay_there_is_none():
    network = Shared()
    average = WeightAverage(network, 0.0)
    average.update(1)
    before = network.one.weight.clone()
    with average.applied():
        assert torch.equal(network.one.weight, before)
    assert average.state_dict() == {}
