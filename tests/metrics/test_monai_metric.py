import numpy as np
import pytest
import torch
from monai.metrics import CumulativeIterationMetric

from voxelry.errors import GridMismatchError, LabelError
from voxelry.metrics.monai_metric import OverlapMetric
from voxelry.metrics.overlap import confusion
from voxelry.metrics.scores import Scores


def batch(seed):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 3, (2, 1, 6, 7))), torch.from_numpy(rng.integers(0, 3, (2, 1, 6, 7)))


def one_hot(classes):
    return torch.nn.functional.one_hot(classes[:, 0], 3).movedim(-1, 1).float()


def test_it_accumulates_as_scores_of_all_images_do():
    metric = OverlapMetric(("a", "b"))
    assert isinstance(metric, CumulativeIterationMetric)
    for seed in (0, 1):
        metric(*batch(seed))
    images = [(p[0].numpy(), y[0].numpy()) for seed in (0, 1) for p, y in zip(*batch(seed), strict=True)]
    expected = Scores(tuple("0123"), ("a", "b"), np.array([confusion(y, p, 3) for p, y in images]))
    assert metric.aggregate().item() == expected.mean_dice
    assert metric.scores().to_dict() == expected.to_dict()
    metric.reset()
    metric(*batch(1))
    assert len(metric.scores().cases) == 2


def test_one_hot_and_indices_are_the_same():
    p, y = batch(3)
    results = [metric(a, b) for metric in [OverlapMetric(("a", "b"))] for a in (p, one_hot(p)) for b in (y, one_hot(y))]
    assert all(torch.equal(result, results[0]) for result in results)


def test_it_is_monais_dice_where_every_label_occurs():
    from monai.metrics import DiceMetric

    p, y = batch(5)
    mine, monais = OverlapMetric(("a", "b")), DiceMetric(include_background=False)
    mine(p, y)
    monais(one_hot(p), one_hot(y))
    assert mine.aggregate().item() == pytest.approx(monais.aggregate().item(), abs=1e-6)


def test_nothing_seen_is_no_score():
    metric = OverlapMetric(("a",))
    assert torch.isnan(metric.aggregate())


def test_bad_batches():
    metric = OverlapMetric(("a", "b"))
    p, y = batch(0)
    with pytest.raises(LabelError, match="2 channels"):
        metric(p.repeat(1, 2, 1, 1), y)
    with pytest.raises(LabelError, match="whole"):
        metric(p + 0.5, y)
    with pytest.raises(GridMismatchError):
        metric(p)
