import inspect
import pickle
import re

import pytest

from voxelry import errors
from voxelry.errors import GridMismatchError, VoxelryError, nearest

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, VoxelryError) and kind.__module__ == errors.__name__
}


def drawn_tree() -> dict[str, str | None]:
    """Each class of the module docstring's drawing -> its parent there."""
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^([ │├└─]{4,})(\w+Error)\b", line)
        if not found:
            continue
        depth = len(found[1])
        above = [item for item in above if item[0] < depth]
        parents[found[2]] = above[-1][1] if above else None
        above.append((depth, found[2]))
    return parents


def test_the_tree_drawn_is_the_tree_there_is():
    real = {name: None if kind is VoxelryError else kind.__base__.__name__ for name, kind in CLASSES.items()}
    assert drawn_tree() == real


@pytest.mark.parametrize("kind", CLASSES.values())
def test_an_error_survives_pickling_between_processes(kind):
    error = kind("x.nii is 3 mm off", remedy="Resample it.")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (str(back), back.problem, back.remedy) == (str(error), error.problem, error.remedy)


@pytest.mark.parametrize(
    ("problem", "remedy", "text"),
    [("wrong", "", "wrong"), ("wrong", "Do that.", "wrong. Do that."), ("wrong.", "Do that.", "wrong. Do that.")],
)
def test_the_message_is_the_problem_and_the_remedy(problem, remedy, text):
    assert str(GridMismatchError(problem, remedy=remedy)) == text


def test_every_error_says_what_it_is():
    assert all(kind.__doc__ for kind in CLASSES.values())


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("lerning_rate", "Did you mean 'learning_rate'?"),
        ("PATCH", "Did you mean 'patch'?"),
        ("qqq", "Known: learning_rate, patch."),
    ],
)
def test_nearest_names_the_close_word_or_all_of_them(word, hint):
    assert nearest(word, {"patch", "learning_rate"}) == hint
