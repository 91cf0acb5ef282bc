"""Sides: which side of the body the name of a label says."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Literal

Side = Literal["left", "right"]

_LEFT = (
    "left l lt lft lh sin sinister sinistra sinistrum links linke linker linkes linken gauche izquierdo izquierda sinistro "
    "esquerdo esquerda vänster левый левая левое"
)
_RIGHT = (
    "right r rt rgt rh dex dexter dextra dextrum rechts rechte rechter rechtes rechten droit droite derecho derecha destro "
    "destra direito direita höger правый правая правое"
)

SIDES = MappingProxyType(dict.fromkeys(_LEFT.split(), "left") | dict.fromkeys(_RIGHT.split(), "right"))
"""Word of a name in small letters -> ``left`` or ``right``: English, Latin, German and other languages, and their short forms."""

_INSIDE = re.compile(r"^(left|right)|(?<![cf])(left)$|(?<![bfpw])(right)$|([左右])")  # no cleft, bright, upright
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_CHARACTERS = {"左": "left", "右": "right"}


def side_of(name: str) -> Side | None:
    """The side that a label's name says; None for none, or for both.

    Example:
        >>> [side_of(name) for name in ("Kidney_L", "leftLung", "Niere rechts", "vertebra_L1", "left and right lung")]
        ['left', 'left', 'right', None, None]
    """
    words = [word.lower() for word in re.split(r"[\W_]+", _HUMPS.sub("_", name))]
    sides = {SIDES[word] if word in SIDES else _inside(word) for word in words} - {None}
    return sides.pop() if len(sides) == 1 else None  # type: ignore[return-value]


def _inside(word: str) -> str | None:
    match = _INSIDE.search(word)
    return None if match is None else _CHARACTERS.get(match[0], match[0])
