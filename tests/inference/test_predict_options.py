import pytest

from voxelry.errors import UsageError
from voxelry.inference.predict_options import PredictOptions, parse_memory


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GiB", 4 << 30), ("4G", 4 * 10**9), ("500MB", 500 * 10**6), ("1.5 gib", 3 << 29), ("1024", 1024), (2048, 2048)],
)
def test_amounts_of_memory(text, count):
    assert parse_memory(text) == count


@pytest.mark.parametrize("text", ["", "much", "-4GiB", "0", "4GiBs", "GiB", "4PB", "nan"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(UsageError, match="no amount of memory"):
        parse_memory(text)


def test_options_by_name():
    assert PredictOptions.of() == PredictOptions()
    assert PredictOptions.of(memory="1KiB", step=0.25, roi="body").memory == 1024


@pytest.mark.parametrize(
    ("choice", "hint"),
    [
        ({"memroy": 1}, "memory"), ({"roi": "bodi"}, "body"), ({"confidence": "entropie"}, "entropy"),
        ({"average": "x"}, "logits"), ({"step": 0.0}, "0.5"), ({"step": 1.5}, "0.5"), ({"batch": 0}, "above 0"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_the_remedy(choice, hint):
    with pytest.raises(UsageError, match=hint):
        PredictOptions.of(**choice)
