import numpy as np

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.volume import LabelMap
from voxelry.training.clean_up_choice import CleanUpChoice

TABLE = LabelTable(labels=(Label(value=1, name="liver"), Label(value=2, name="lesions"), Label(value=5, name="bone")))


def case(speck: bool, hole: bool, two: bool):
    """A reference and a prediction: a speck beside the liver, a hole in the bone, two lesions that are both real."""
    truth = np.zeros((24, 24, 24), np.uint8)
    truth[2:10, 2:10, 2:10] = 1
    truth[14:16, 2:4, 2:4] = 2
    if two:
        truth[20:22, 20:22, 20:22] = 2
    truth[12:22, 10:18, 8:18] = 5
    guess = truth.copy()
    if speck:
        guess[0, 22, 0] = 1
    if hole:
        guess[15, 14, 12] = 0
    return [LabelMap.of(array, Geometry.from_spacing(truth.shape, (1.5, 1.5, 1.5)), TABLE) for array in (truth, guess)]


def test_each_label_gets_the_rule_that_helps_it():
    choice = CleanUpChoice(TABLE, 3)
    for number in range(3):
        choice.add(*case(speck=number == 1, hole=number == 2, two=True))
    liver, bone = choice.rules()
    assert liver == CleanUp(label="liver", keep_largest=True)
    assert bone == CleanUp(label="bone", fill_holes=True)  # the lesions would lose one of two
    record = choice.record()
    assert record["cases"] == 3
    assert set(record["mean_dice"]) == {"liver", "bone"}
    assert record["mean_dice"]["liver"]["after"] == 1.0 > record["mean_dice"]["liver"]["before"]


def test_a_perfect_prediction_gets_no_rule():
    choice = CleanUpChoice(TABLE, 3)
    choice.add(*case(speck=False, hole=False, two=False))
    assert choice.rules() == ()
    assert choice.record() == {"cases": 1, "mean_dice": {}}


def test_without_cases_there_are_no_rules():
    assert CleanUpChoice(TABLE, 2).rules() == ()


def test_a_label_that_should_be_absent_counts_as_right_once_it_is():
    truth, guess = (np.zeros((9, 9, 9), np.uint8) for _ in range(2))
    guess[4, 4, 4] = 2
    choice = CleanUpChoice(TABLE, 3)
    choice.add(*(LabelMap.of(array, Geometry.from_spacing((9, 9, 9), (1, 1, 1)), TABLE) for array in (truth, guess)))
    assert choice.rules() == (CleanUp(label="lesions", min_mm3=10.0),)


def test_pictures_are_not_judged_by_area():
    assert not any("min_mm3" in rule for rule in CleanUpChoice(TABLE, 2).candidates)


def test_mirror_twins_get_one_rule_that_is_best_for_both_together():
    twins = LabelTable(
        labels=(
            Label(value=1, name="kidney_left", mirror="kidney_right"),
            Label(value=2, name="kidney_right", mirror="kidney_left"),
            Label(value=5, name="liver"),
        )
    )
    truth = np.zeros((24, 24, 24), np.uint8)
    truth[2:10, 2:10, 2:10], truth[14:22, 2:10, 2:10], truth[2:22, 14:22, 12:22] = 1, 2, 5
    guess = truth.copy()
    guess[0, 22, 0] = 1  # a speck of the left kidney alone
    maps = [LabelMap.of(array, Geometry.from_spacing(truth.shape, (1.5, 1.5, 1.5)), twins) for array in (truth, guess)]
    choice = CleanUpChoice(twins, 3)
    choice.add(*maps)
    assert choice.rules() == tuple(CleanUp(label=name, keep_largest=True) for name in ("kidney_left", "kidney_right"))
    # a rule that helps one twin less than it costs the other is given to neither
    truth[14:22, 2:10, 2:10] = 0
    truth[14:16, 2:4, 2:4], truth[20:22, 20:22, 2:4] = 2, 2
    guess = truth.copy()
    guess[0, 22, 0] = 1
    choice = CleanUpChoice(twins, 3)
    choice.add(*(LabelMap.of(array, maps[0].geometry, twins) for array in (truth, guess)))
    rules = choice.rules()
    assert [rule.label for rule in rules] == ["kidney_left", "kidney_right"]
    assert not any(rule.keep_largest for rule in rules)
    assert {rule.min_mm3 for rule in rules} == {10.0}


def test_a_label_of_several_objects_never_keeps_its_largest_alone():
    truth = np.zeros((24, 24), np.uint8)
    truth[2:10, 2:10], truth[14:16, 14:16] = 2, 2
    guess = np.where(np.indices(truth.shape).sum(0) < 24, truth, 0).astype(np.uint8)
    guess[20:23, 2:5] = 2  # spurious: without it, and the small one that is missed, Dice is higher
    ids = np.where(truth, 1 + (np.indices(truth.shape)[0] > 12), 0).astype(np.uint32)
    grid = Geometry((24, 24))
    for numbers, rules in ((None, (CleanUp(label="lesions", keep_largest=True),)), (ids[None], ())):
        choice = CleanUpChoice(TABLE, 2)
        choice.add(LabelMap(truth[None], grid, TABLE, instances=numbers), LabelMap.of(guess, grid, TABLE))
        assert choice.rules() == rules
