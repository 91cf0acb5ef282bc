"""Warnings of labels that never meet, against a count by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxelry.metrics.overlap import confusion
from voxelry.metrics.scores import Scores
from voxelry.metrics.shared_labels import label_warnings

MAPS = hnp.arrays(np.uint8, (2, 6), elements=st.integers(0, 3))


def scores_of(pairs, labels=("a", "b", "c")):
    matrices = [confusion(truth, guess, len(labels) + 1) for truth, guess in pairs]
    return Scores(tuple(f"c{n}" for n in range(len(pairs))), labels, np.array(matrices))


@given(st.lists(MAPS, min_size=1, max_size=4))
def test_cases_are_named_whose_labels_never_meet(pairs):
    expected = []
    for number, (truth, guess) in enumerate(pairs):
        both = truth.any() and guess.any()
        met = ((truth == guess) & (truth > 0)).any()
        shared = set(truth[truth > 0].tolist()) & set(guess[guess > 0].tolist())
        if both and not met and (not shared or ((truth > 0) & (guess > 0)).any()):
            expected.append(f"c{number} (")
    sentences = label_warnings(scores_of(pairs))
    assert len(sentences) == bool(expected)
    for number in range(len(pairs)):
        assert (f"c{number} (" in "".join(sentences)) == (f"c{number} (" in expected)


def test_the_foreground_says_whether_only_values_differ():
    truth = np.array([0, 1, 1, 2])
    (sentence,) = label_warnings(scores_of([(truth, np.array([0, 2, 2, 3])), (truth, truth)]))
    assert sentence.startswith("1 of 2 cases have no voxel of a label in common")
    assert "c0 (a, b in the reference, b, c in the prediction)" in sentence
    assert "Dice of 1.000" in sentence


def test_a_number_that_no_reference_has_is_named():
    truth = np.array([0, 1, 1, 0])
    numbers = ("label_1", "label_2", "label_255")
    assert label_warnings(scores_of([(truth, np.array([0, 1, 3, 0]))], numbers)) == [
        "in predictions but in no reference, so they score 0: label_255"
    ]
    assert label_warnings(scores_of([(truth, np.array([0, 1, 3, 0]))])) == []  # a manifest knows that label
    assert label_warnings(scores_of([(truth, truth * 0)], numbers)) == []


def test_numbers_that_are_exchanged_may_be_ids():
    truth = np.repeat([0, 1, 2, 3, 4, 5], 10)
    guess = np.repeat([0, 1, 3, 4, 5, 2], 10)  # label 1 meets itself
    numbers = tuple(f"label_{n}" for n in range(1, 6))
    (sentence,) = label_warnings(scores_of([(truth, guess), (truth, truth)], numbers))
    assert sentence.startswith("in 1 of 2 cases most labels lie where the prediction has another number (c0)")
    assert "Dice of 1.000" in sentence
    assert sentence.endswith("(`instances: mask_ids`)")
    assert label_warnings(scores_of([(truth, guess)], tuple("abcde"))) == []  # of labels with names it is a prediction
    wrong = np.random.default_rng(0).permutation(guess)
    assert label_warnings(scores_of([(truth, wrong)], numbers)) == []  # of no use, but no exchange


def test_many_numbers_are_not_all_listed():
    truth = np.arange(60) // 2
    (sentence,) = label_warnings(
        scores_of([(truth, np.where(truth > 0, truth % 29 + 1, 0))], tuple(f"label_{n}" for n in range(1, 30)))
    )
    assert "label_5 and 24 more in the reference" in sentence
    assert sentence.endswith("(`instances: mask_ids`)")
