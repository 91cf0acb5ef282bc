"""Texts that are URLs, told from paths."""

from __future__ import annotations

import os
import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(text: str | os.PathLike[str]) -> bool:
    """A text is a URL, as ``s3://bucket/scan.nii.gz``.

    Example:
        >>> is_url("s3://bucket/a"), is_url("C:/a"), is_url("a/b")
        (True, False, False)
    """
    return _URL.match(os.fspath(text)) is not None
