import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from voxelry.base.plain_data import DEEPEST, parse_json, parse_yaml

words = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=5)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_sound_texts_are_read_as_the_libraries_read_them(value):
    assert parse_json(json.dumps(value)) == value
    assert parse_yaml(yaml.safe_dump(value)) == value


@given(st.lists(plain, min_size=1, max_size=4))
def test_what_stands_twice_may_be_an_alias(values):
    twice = {"a": values, "b": values, "c": [values, values]}
    assert parse_yaml(yaml.safe_dump(twice)) == twice


def laughs(levels: int, width: int = 10) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 492, "levels"),
        ("[" * 100 + "]" * 100, "more than 64 levels"),
        ("{a: " * 100 + "1" + "}" * 100, "more than 64 levels"),
        ("- " * 5000 + "x", "levels"),
        ("[" * 100_000, "levels"),
        ("\n".join("  " * n + "a:" for n in range(900)), "levels"),
        (laughs(10), "aliases of aliases"),
        (laughs(30, 2), "aliases of aliases"),
        ("a: &a [*a]", "holds it"),
        ("a: &a {b: *a}", "holds it"),
        ("&a a: &b {c: &d [*b]}", "holds it"),
        ("a: &a {x: 1}\nb: {<<: [" + ", ".join(["*a"] * 30_000) + "]}", "aliases"),
        ("a: 1\na: 2", "occurs twice"),
        ("? {a: 1}\n: 2", "unhashable"),
        ("!!set [1]", "."),
        ("!!omap {a: 1}", "."),
        ("!!int x", "."),
        ("!!binary 'a'", "."),
        ('"\\ud800"', "surrogate"),
        ("!!timestamp x", "."),
        ("a: " + "1" * 5000, "digits"),
        ("\x00", "."),
    ],
)
def test_a_hostile_yaml_is_one_error(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 994 + "]" * 994, "levels"),
        ("[" * 100_000, "levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "more than 64 levels"),
        ('{"a":' * 100_000, "levels"),
        ("1" * 5000, "digits"),
        ('{"a": 1, "a": 2}', "key 'a' occurs twice"),
        ('{"x": [{"b": 1, "c": 2, "b": 1}]}', "key 'b' occurs twice"),
        ("", "Expecting value"),
        ('{"\\ud800": 1}', "surrogate"),
        ('["\\udfff"]', "surrogate"),
        ('"\\ud80', "escape"),
    ],
)
def test_a_hostile_json_is_one_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_the_deepest_that_is_read():
    for text in ("[" * DEEPEST + "]" * DEEPEST, "[" * (DEEPEST - 1) + "{}" + "]" * (DEEPEST - 1)):
        assert parse_json(text) == parse_yaml(text)
