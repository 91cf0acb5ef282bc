import pytest

from voxelry.errors import UsageError
from voxelry.inference.predict_options import PredictOptions, parse_memory


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GiB", 4 << 30), ("4G", 4 * 10**9), ("500MB", 500 * 10**6), ("1.5 gib", 3 << 29), ("1024B", 1024), (2048, 2048)],
)
def test_amounts_of_memory(text, count):
    assert parse_memory(text) == count


@pytest.mark.parametrize("text", ["", "much", "-4GiB", "0", "4GiBs", "GiB", "4PB", "nan"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(UsageError, match="no amount of memory"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["4", "1024", " 4 ", "1.5", "900000000"])
def test_text_without_a_unit_is_refused(text):
    with pytest.raises(UsageError, match=f"'{text}' has no unit. Write {text.strip()}GiB, or {text.strip()}B for bytes"):
        PredictOptions.of(memory=text)


def test_options_by_name():
    assert PredictOptions.of() == PredictOptions()
    assert PredictOptions.of(memory="1KiB", overlap=0.75, roi="body").memory == 1024


@pytest.mark.parametrize(
    ("choice", "hint"),
    [
        ({"memroy": 1}, "memory"), ({"roi": "bodi"}, "body"), ({"confidence": "entropie"}, "entropy"),
        ({"average": "x"}, "logits"), ({"overlap": 1.0}, "0.5"), ({"overlap": -0.5}, "0.5"), ({"batch": 0}, "above 0"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_the_remedy(choice, hint):
    with pytest.raises(UsageError, match=hint):
        PredictOptions.of(**choice)


@pytest.mark.parametrize(("step", "overlap"), [(0.5, 0.5), (1.0, 0.0), (0.3, 0.7), (0.25, 0.75)])
def test_the_former_step_still_works_and_names_the_overlap(step, overlap, caplog):
    assert PredictOptions.of(step=step).overlap == overlap
    assert [record.getMessage() for record in caplog.records] == [f"'step' {step:g} is now 'overlap' {overlap:g}, its complement"]


@pytest.mark.parametrize(
    ("choices", "hint"),
    [({"step": 0.0}, "overlap"), ({"step": 1.5}, "overlap"), ({"step": 0.3, "overlap": 0.5}, "overlap of 0.7")],
)
def test_a_step_that_cannot_be_read_is_refused_with_the_new_word(choices, hint):
    with pytest.raises(UsageError, match=hint):
        PredictOptions.of(**choices)
