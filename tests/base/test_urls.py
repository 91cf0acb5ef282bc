"""What is a URL and what a path."""

import pytest

from voxelry.base.urls import is_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://b/a", True),
        ("HTTPS://h/a", True),
        ("C:/a", False),
        ("C://a", False),
        ("a/b", False),
        ("/a://b", False),
        ("", False),
    ],
)
def test_what_is_a_url(text: str, expected: bool) -> None:
    assert is_url(text) == expected
