"""Whatever a person may write into a card, a recipe, a plan or a model file is refused in our words, not in pydantic's."""

import datetime
import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from voxelry.base.expectations import expectation
from voxelry.base.schema import Frozen, parse
from voxelry.core.model import ModelCard
from voxelry.core.plan import Fingerprint, Plan
from voxelry.datasets.card import Card
from voxelry.datasets.cases import CaseRows, FoundFiles, TableFiles
from voxelry.datasets.splits import SplitRule
from voxelry.errors import ConfigError
from voxelry.recipes.recipe import Config
from voxelry.serving.access_tokens import TokenRow
from voxelry.serving.node_settings import NodeSettings, NodeTls

FILES = (Card, CaseRows, FoundFiles, TableFiles, SplitRule, Config, Plan, Fingerprint, ModelCard, NodeSettings, TokenRow)
PYDANTIC = (
    "Input", "should", " valid ", "String ", "Tuple", "tuple", "List ", "dictionary", "Value error", "Extra inputs", "Field",
    "instance of", "constrained", "function-", "literal[", "pydantic", "type=", "unable to", "another kind",
)  # fmt: skip
"""Words of the library, and ours for a kind of error without a phrase."""

VALUES = (
    None, True, 0, -1, 7, 1.5, math.nan, math.inf, "", "x", "x" * 100, [], [1], ["a"], [[1]], [None], {}, {"a": 1}, {1: 2},
    [{"a": 1}], [{}], 10**30, [1] * 50, datetime.date(2020, 1, 1), {"per_label": 3}, {"name": 3, "value": "three"},
)  # fmt: skip

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab 1_", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2) | st.integers(0, 3), inner, max_size=3),
    max_leaves=6,
)


def types_of(kind: type[Frozen]) -> Iterator[type[Frozen]]:
    yield kind
    for inner in kind.__subclasses__():
        yield from types_of(inner)


def words_of(kind: type[Frozen], value: object) -> str:
    """The message that a value gives; empty where it is accepted."""
    try:
        parse(kind, value, "file.yaml")
    except ConfigError as error:
        return str(error)
    return ""


def in_our_words(text: str) -> bool:
    return not any(word in text for word in PYDANTIC)


def test_no_value_in_any_key_gives_words_of_the_library():
    kinds = list(dict.fromkeys(types_of(Frozen)))
    assert len(kinds) > 20
    texts = {words_of(kind, {key: value}) for kind in kinds for key in kind.model_fields for value in VALUES}
    assert len(texts) > 1000
    assert [text for text in texts if not in_our_words(text)] == []


@given(st.sampled_from([(kind, key) for kind in FILES for key in kind.model_fields]), PLAIN)
def test_a_wrong_value_is_named_by_its_key_and_nothing_else(place, value):
    kind, key = place
    text = words_of(kind, {key: value})
    assert in_our_words(text)
    if text:
        assert text.startswith("file.yaml: ")


ROW = {"id": "a", "images": ["a.nii.gz"]}
CARD = {"name": "s", "modality": "CT", "labels": [{"value": 1, "name": "liver"}]}
SLIPS = [
    (TokenRow, {"created": "yesterday"}, "key 'created' is 'yesterday': a date is expected, as 2026-01-31"),
    (NodeTls, {"certificate": 7}, "key 'certificate' is 7: the path of a file is expected"),
    (CaseRows, {"cases": [ROW | {"id": 1}]}, "key 'cases.0.id' is 1: a text is expected; write it in quotes, as '1'"),
    (CaseRows, {"cases": [ROW | {"id": True}]}, "yes, no, on and off"),
    (CaseRows, {"cases": [ROW | {"id": datetime.date(2020, 1, 2)}]}, "write it in quotes, as '2020-01-02'"),
    (CaseRows, {"cases": [ROW | {"images": "a.nii.gz"}]}, "write it in brackets, as [a.nii.gz]"),
    (CaseRows, {"cases": [ROW | {"images": []}]}, "a list of at least 1 is expected"),
    (CaseRows, {"cases": [ROW | {"split": "training"}]}, "'train', 'val' or 'test' is expected"),
    (CaseRows, {"cases": ["a.nii.gz"]}, "a mapping is expected, such as {id: ..., images: ...}"),
    (FoundFiles, {"images": ["{id}.nii"], "labels": 7}, "7: a text or a mapping is expected, such as {per_label: ...}"),
    (FoundFiles, {"images": ["{id}.nii"], "labels": {"per_lable": "x"}}, "Did you mean 'per_label'?"),
    (FoundFiles, {"images": ["{id}.nii"], "split_names": {"training": "a"}}, "key 'split_names.training' is 'training': 'train'"),
    (Card, CARD | {"labels": [{"value": 0, "name": "background"}]}, "0 is the background, which is no label; leave this one out"),
    (Card, CARD | {"labels": {"organ": 1}}, "a list is expected; write it as [{value: 1, name: organ}]"),
    (Card, CARD | {"labels": {0: "background", 1: "liver", 2: "spleen"}}, "[{value: 1, name: liver}, {value: 2, name: spleen}]"),
    (Card, CARD | {"labels": ["liver"]}, "key 'labels.0' is 'liver': a mapping is expected, such as {value: ..., name: ...}"),
    (Card, CARD | {"labels": "liver"}, "a list is expected, such as [{value: ..., name: ...}]"),
    (Card, CARD | {"labels": [{"value": "one", "name": "a"}]}, "key 'labels.0.value' is 'one': a whole number is expected"),
    (Card, CARD | {"labels": [{"value": 1.5, "name": "a"}]}, "a whole number is expected"),
    (Card, CARD | {"labels": [{"value": 1, "name": 1}]}, "write it in quotes, as '1'"),
    (Card, CARD | {"labels": [{"value": 70000, "name": "a"}]}, "a number of at most 65535 is expected"),
    (Card, CARD | {"labels": [{"value": 1, "name": "a", "color": [1, 2]}]}, "key 'labels.0.color' has too few entries"),
    (Card, CARD | {"labels": [{"name": "a"}]}, "key 'labels.0.value' is missing"),
    (Card, CARD | {"channels": "CT"}, "write it in brackets, as [CT]"),
    (Card, CARD | {"dimensions": "three"}, "2 or 3 is expected"),
    (Config, {"manifest": "m", "folds": 5.5}, "key 'folds' is 5.5: a whole number is expected"),
    (Config, {"manifest": "m", "folds": [5]}, "key 'folds' is [5]: a whole number or a text is expected"),
    (Config, {"manifest": "m", "folds": -1}, "key 'folds' is -1: a number of at least 0 is expected"),
    (Config, {"manifest": "m", "plan": "2d"}, "key 'plan' is '2d': a mapping of keys to values is expected"),
    (Config, {"manifest": "m", "device": "mps"}, "it is none that voxelry computes on. Use 'auto', 'cpu', 'cuda' or 'cuda:N'."),
    (Config, {"manifest": "m", "plan": {"memory": 8}}, "key 'plan.memory' is 8: '8' has no unit. Write 8GiB, or 8B for bytes"),
    (Config, {"manifest": "m", "plan": {"memory": [8]}}, "a text is expected"),
    (Config, {"manifest": "m", "deterministic": "maybe"}, "true or false is expected"),
    (Config, {"manifest": "m", "plan": {"spacing": [1, "a"]}}, "key 'plan.spacing.1' is 'a': a number is expected"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "words"), SLIPS)
def test_slips_of_beginners_name_the_remedy(kind, value, words):
    assert words in words_of(kind, value)


def test_what_follows_from_another_mistake_is_not_said():
    text = words_of(Card, CARD | {"labels": [{"value": 1, "name": "a", "color": "red"}]})
    assert text == "file.yaml: key 'labels.0.color' is 'red': a list is expected; write it in brackets, as [red]"


def test_a_kind_of_error_without_a_phrase_is_still_no_word_of_the_library():
    assert expectation({"type": "a kind to come", "input": 1, "msg": "Input should be valid"}, ()).startswith(
        "a value of another"
    )
    with pytest.raises(ValidationError):
        Card.model_validate({})
