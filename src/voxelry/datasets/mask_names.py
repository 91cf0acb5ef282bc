"""Masks that lie beside their images in one folder, told by names alone: ``x_seg`` beside ``x``, ``mask_7`` beside ``img_7``."""

from __future__ import annotations

import re
from collections.abc import Collection

_MASK = "segmentation|segmentations|seg|mask|masks|label|labels|labelmap|gt|groundtruth|ground_truth|annotation|roi"
_IMAGE = "image|images|img|scan|volume|vol|ct|mr|mri|t1|t1w|t1c|t1ce|t1gd|t2|t2w|flair|pet|us|xray|cxr"
_LAST = re.compile(rf"(?P<case>.+?)[-_. ](?:{_MASK})", re.IGNORECASE)
_FIRST = re.compile(rf"(?:{_MASK})[-_. ]?(?P<case>.*\d.*|.+)", re.IGNORECASE)
_BARE = re.compile(_MASK, re.IGNORECASE)
_IMAGE_FIRST = re.compile(rf"(?:(?:{_IMAGE})[-_. ]?)?(?P<case>.+)", re.IGNORECASE)
_IMAGE_LAST = re.compile(rf"(?P<case>.+?)(?:[-_. ](?:{_IMAGE}|\d{{4}}))?", re.IGNORECASE)


def masks_by_name(names: Collection[str]) -> set[str]:
    """Those of some names that say that they are masks of others.

    Args:
        names: names without endings of the files of one folder.

    Returns:
        The masks: a word for a mask at the end or the start of the name, and beside it an image of the rest of the name; or the
        word alone, and beside it any image.

    Example:
        >>> sorted(masks_by_name(["a", "a_seg", "b_0000", "b-mask", "volume-3", "segmentation-3", "only_seg"]))
        ['a_seg', 'b-mask', 'segmentation-3']
    """
    bare = {name for name in names if _BARE.fullmatch(name)}
    cases = {name: _case_of_mask(name) for name in names if name not in bare}
    images = [name for name, case in cases.items() if case is None]
    images_of_cases = {match["case"].lower() for name in images for match in _readings(name)}
    return {name for name, case in cases.items() if case is not None and case in images_of_cases} | (bare if images else set())


def _case_of_mask(name: str) -> str | None:
    """What remains of a mask's name without the word for a mask, None where there is no such word."""
    match = _LAST.fullmatch(name) or _FIRST.fullmatch(name)
    return match["case"].lower() if match else None


def _readings(name: str) -> list[re.Match[str]]:
    """The ways to read an image's name as the name of its case."""
    first, last = _IMAGE_FIRST.fullmatch(name), _IMAGE_LAST.fullmatch(name)
    return [match for match in (re.fullmatch("(?P<case>.+)", name, re.DOTALL), first, last) if match]
