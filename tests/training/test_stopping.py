from hypothesis import given
from hypothesis import strategies as st

from voxelry.training.checkpoint import Milestone
from voxelry.training.stopping import is_best, is_over

SCORES = st.lists(st.none() | st.sampled_from([0.0, 0.1, 0.5, 0.7, 0.9]), min_size=1, max_size=12)


def history(scores):
    return [Milestone(step, 1.0, score, {}, 0.0, 0.1) for step, score in enumerate(scores, start=1)]


@given(SCORES, st.integers(1, 4))
def test_patience_counts_measured_milestones_since_the_best(scores, patience):
    best, since = None, 0
    for score in scores:
        if score is None:
            continue
        if best is None or score > best:
            best, since = score, 0
        else:
            since += 1
    assert is_over(history(scores), patience) == (best is not None and since >= patience)
    assert not is_over(history(scores), None)


@given(SCORES)
def test_the_first_of_the_best_is_the_best(scores):
    marked = [is_best(history(scores[: end + 1])) for end in range(len(scores))]
    known = [score for score in scores if score is not None]
    if known:
        last = max(place for place, best in enumerate(marked) if best)
        assert last == scores.index(max(known))
    else:
        assert not any(marked)
