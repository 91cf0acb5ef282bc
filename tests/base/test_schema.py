from datetime import date
from typing import Self

import pytest
from pydantic import Field, ValidationError, model_validator

from voxelry.base.schema import Frozen, parse, parse_known
from voxelry.errors import ConfigError, ManifestError


class Loss(Frozen):
    dice_weight: float = 1.0
    smooth: float = Field(default=1e-5, gt=0)


class Part(Frozen):
    name: str
    mirror: str | None = None


class Recipe(Frozen):
    patch: tuple[int, ...] = (64, 64, 64)
    learning_rate: float
    loss: Loss | None = None
    parts: tuple[Part, ...] = ()

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.learning_rate == 13:
            raise ValueError("13 is unlucky")
        return self


def message(value: object, error: type = ConfigError) -> str:
    with pytest.raises(error) as caught:
        parse(Recipe, value, "recipe.yaml", error)
    return str(caught.value)


def test_plain_data_becomes_a_frozen_word():
    recipe = parse(Recipe, {"learning_rate": 0.1, "loss": {"smooth": 1}, "parts": [{"name": "L1"}]}, "recipe.yaml")
    assert recipe == Recipe(learning_rate=0.1, loss=Loss(smooth=1), parts=(Part(name="L1"),))
    with pytest.raises(ValidationError, match="frozen"):
        recipe.learning_rate = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"learning_rat": 1, "learning_rate": 1}, "unknown key 'learning_rat'. Did you mean 'learning_rate'?"),
        ({"learning_rate": 1, "loss": {"dice_wieght": 1}}, "unknown key 'loss.dice_wieght'. Did you mean 'dice_weight'?"),
        ({"learning_rate": 1, "parts": [{"name": "a"}, {"name": "b", "miror": "a"}]},
         "unknown key 'parts.1.miror'. Did you mean 'mirror'?"),
        ({"learning_rate": 1, "zzz": 1}, "unknown key 'zzz'. Known: learning_rate, loss, parts, patch."),
        ({}, "key 'learning_rate' is missing"),
        ({"learning_rate": "fast"}, "key 'learning_rate' is 'fast': "),
        ({"learning_rate": 1, "loss": {"smooth": 0}}, "key 'loss.smooth' is 0: a number above 0 is expected"),
        ({"learning_rate": 1, "loss": {"smooth": float("inf")}}, "key 'loss.smooth' is inf: a finite number is expected"),
        ({"learning_rate": float("nan")}, "key 'learning_rate' is nan: a finite number is expected"),
        ({"learning_rate": 13}, "recipe.yaml: 13 is unlucky"),
        ("a word", "recipe.yaml: 'a word': "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_the_nearest_right_key(value, expected):
    assert message(value).startswith("recipe.yaml: ")
    assert expected in message(value)


def test_every_mistake_is_named_at_once():
    text = message({"patch": ["a"], "los": {}})
    assert all(part in text for part in ("patch.0", "'los'. Did you mean 'loss'", "learning_rate"))


def test_of_very_many_mistakes_the_first_are_named():
    text = message({f"key{number}": 1 for number in range(500)} | {"learning_rate": 0.1})
    assert text.count("unknown key") == 20
    assert text.endswith("; and 480 more")


def test_a_date_is_shown_as_it_was_written():
    text = message({"learning_rate": 1, "parts": [{"name": date(2026, 2, 3)}]})
    assert "key 'parts.0.name' is '2026-02-03': a text is expected; write it in quotes, as '2026-02-03'" in text


def test_a_long_value_is_cut():
    text = message({"learning_rate": list(range(1000))})
    assert "[0, 1, 2" in text
    assert len(text) < 200


def test_a_long_text_in_place_of_a_list_is_cut():
    assert len(message({"patch": "x" * 100_000, "learning_rate": 0.1})) < 1200


def test_the_caller_names_the_error():
    assert "missing" in message({}, ManifestError)


def test_keys_of_a_later_version_are_left_out_and_named():
    value = {"learning_rate": 0.1, "of_tomorrow": {"a": 1}, "loss": {"smooth": 1, "more": 2}, "parts": [{"name": "L1", "x": 0}]}
    recipe, ignored = parse_known(Recipe, value, "recipe.yaml")
    assert recipe == Recipe(learning_rate=0.1, loss=Loss(smooth=1), parts=(Part(name="L1"),))
    assert sorted(ignored) == ["loss.more", "of_tomorrow", "parts.0.x"]
    assert value["of_tomorrow"] == {"a": 1}  # the data stay as they are


def test_what_is_wrong_beside_unknown_keys_is_said():
    with pytest.raises(ConfigError, match="learning_rate"):
        parse_known(Recipe, {"learning_rate": "fast", "of_tomorrow": 1}, "recipe.yaml")
