"""VOI windows: how the maker of an image means it to be displayed (DICOM PS3.3 section C.11.2). Kept, never applied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from voxelry.core.volume import Window
from voxelry.formats.dicom.elements import text_of

WINDOW_TAGS = ("WindowCenter", "WindowWidth", "VOILUTFunction", "WindowCenterWidthExplanation")
"""The elements that `windows_of` looks at."""

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def windows_of(data: Any) -> tuple[Window, ...]:
    """The windows that a data set, or an item of a Frame VOI LUT Sequence, states; unreadable ones are left out."""
    centers, widths = _list(data, "WindowCenter"), _list(data, "WindowWidth")
    function = (_list(data, "VOILUTFunction") or ["LINEAR"])[0].upper()
    names = _list(data, "WindowCenterWidthExplanation")
    found = []
    for index, (center, width) in enumerate(zip(centers, widths, strict=False)):
        try:
            window = Window(float(center), float(width), function if function in _FUNCTIONS else "LINEAR")
        except ValueError:
            continue
        if window.width > 0 and abs(window.center) + window.width < float("inf"):
            found.append(replace(window, name=names[index].strip() if index < len(names) else ""))
    return tuple(found)


def rescaled_windows(windows: tuple[Window, ...], slope: float, intercept: float = 0.0) -> tuple[Window, ...]:
    """The windows of an image whose values became ``slope * value + intercept``."""
    return tuple(replace(one, center=one.center * slope + intercept, width=one.width * abs(slope)) for one in windows)


def _list(data: Any, keyword: str) -> list[str]:
    text = text_of(data, keyword)
    return text.split("\\") if text else []
