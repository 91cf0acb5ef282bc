import math

from voxelry.training.find_best_configuration import ConfigurationComparison, candidate_name, candidates


def test_every_configuration_and_every_two_are_compared():
    assert [candidate_name(one) for one in candidates(["2d", "3d", "3d_lowres"])] == [
        "2d", "3d", "3d_lowres", "2d+3d", "2d+3d_lowres", "3d+3d_lowres",
    ]  # fmt: skip
    assert candidates(["3d"]) == [("3d",)]


def test_the_best_mean_dice_is_chosen_and_of_equals_the_first():
    assert ConfigurationComparison({("2d",): 0.7, ("3d",): 0.9, ("2d", "3d"): 0.8}).best == ("3d",)
    assert ConfigurationComparison({("2d",): 0.7, ("3d",): 0.9, ("2d", "3d"): 0.91}).best == ("2d", "3d")
    assert ConfigurationComparison({("2d",): 0.9, ("3d",): 0.9, ("2d", "3d"): 0.9 + 1e-9}).best == ("2d",)


def test_a_candidate_without_any_score_is_not_chosen():
    choice = ConfigurationComparison({("2d",): math.nan, ("3d",): 0.0})
    assert choice.best == ("3d",)
    assert choice.record() == {"chosen": "3d", "mean_dice": {"2d": None, "3d": 0.0}}
