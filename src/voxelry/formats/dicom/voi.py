"""VOI windows: the display windows stored with an image (DICOM PS3.3 section C.11.2). They are kept, and never applied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from voxelry.core.volume import Window
from voxelry.formats.dicom.elements import text_of

WINDOW_TAGS = ("WindowCenter", "WindowWidth", "VOILUTFunction", "WindowCenterWidthExplanation")
"""The elements that `windows_of` reads."""

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def windows_of(data: Any) -> tuple[Window, ...]:
    """The windows of a data set, or of an item of a Frame VOI LUT Sequence, without unreadable ones."""
    centers, widths = _list(data, "WindowCenter"), _list(data, "WindowWidth")
    function = (_list(data, "VOILUTFunction") or ["LINEAR"])[0].upper()
    names = _list(data, "WindowCenterWidthExplanation")
    windows = []
    for index, (center, width) in enumerate(zip(centers, widths, strict=False)):
        try:
            window = Window(float(center), float(width), function if function in _FUNCTIONS else "LINEAR")
        except ValueError:
            continue
        if window.width > 0 and abs(window.center) + window.width < float("inf"):
            windows.append(replace(window, name=names[index].strip() if index < len(names) else ""))
    return tuple(windows)


def rescaled_windows(windows: tuple[Window, ...], slope: float, intercept: float = 0.0) -> tuple[Window, ...]:
    """The windows of an image after its values were changed to ``slope * value + intercept``."""
    return tuple(replace(w, center=w.center * slope + intercept, width=w.width * abs(slope)) for w in windows)


def _list(data: Any, keyword: str) -> list[str]:
    text = text_of(data, keyword)
    return text.split("\\") if text else []
