"""What of an object's pixels may tell who the patient is: burnt-in text, and faces that a volume's surface shows.

Headers alone decide: nothing looks at the pixels. What headers do not say is not known.
"""

from __future__ import annotations

import re
from typing import Any

from voxelry.formats.dicom.elements import PARSE_ERRORS, items_of, text_of, uid

TEXT, FACE = "burnt-in-text", "faces"

_TEXT_MODALITIES = frozenset("US IVUS SC OT XC GM ES OP OPT SM DOC HC".split())
_TEXT_CLASSES = ("Secondary Capture", "Ultrasound", "VL ", "Video", "Encapsulated", "Screen", "Ophthalmic Photography")
_TEXT_TYPES = frozenset({"SCREEN SAVE", "SCREENSHOT", "SECONDARY CAPTURE", "REPORT"})
_VOLUMES = frozenset({"CT", "MR", "PT", "NM"})
_FACES = re.compile(
    r"head|brain|skull|crani|face|facial|neuro|cereb|orbit|sinus|pituitar|sella|maxill|mandib|dental|jaw|temporal.?bone|\biac\b"
    r"|whole.?body|kopf|schaedel|sch.del|gehirn|hirn|gesicht|t[eê]te|cr[aâ]ne|cerveau|cabeza|cerebro|cara\b|testa\b|encefal",
    re.IGNORECASE,
)
_WHERE = ("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName", "RequestedProcedureDescription")


def pixel_risks(data: Any) -> dict[str, str]:
    """The risks of an object's pixels.

    Args:
        data: the elements of a file before its pixels.

    Returns:
        `TEXT` and `FACE`, each with the reason, where they apply.

    Example:
        >>> from pydicom import Dataset
        >>> data = Dataset()
        >>> data.Modality, data.BodyPartExamined = "CT", "HEAD"
        >>> pixel_risks(data)
        {'faces': 'a CT volume whose BodyPartExamined names a part of the head'}
    """
    risks = {TEXT: _text_reason(data), FACE: _face_reason(data)}
    return {kind: reason for kind, reason in risks.items() if reason}


def _text_reason(data: Any) -> str:
    name = uid(text_of(data, "SOPClassUID")).name
    if text_of(data, "BurnedInAnnotation").upper() == "YES":
        return "BurnedInAnnotation is YES"
    if any(word in name for word in _TEXT_CLASSES):
        return f"{name} may show text"
    if text_of(data, "Modality").upper() in _TEXT_MODALITIES:
        return f"images of modality {text_of(data, 'Modality').upper()} may show text"
    if text_of(data, "ConversionType"):
        return "a converted picture (ConversionType) may show text"
    types = {value.strip().upper() for value in text_of(data, "ImageType").split("\\")}
    return "a screenshot by its ImageType" if types & _TEXT_TYPES else ""


def _face_reason(data: Any) -> str:
    if text_of(data, "RecognizableVisualFeatures").upper() == "YES":
        return "RecognizableVisualFeatures is YES"
    modality = text_of(data, "Modality").upper()
    if modality not in _VOLUMES:
        return ""
    try:
        coded = [text_of(item, "CodeMeaning") for item in items_of(data, "AnatomicRegionSequence")]
    except PARSE_ERRORS:
        coded = []
    texts = {keyword: text_of(data, keyword) for keyword in _WHERE} | {"AnatomicRegionSequence": " ".join(coded)}
    names = [keyword for keyword, text in texts.items() if _FACES.search(text)]
    return f"a {modality} volume whose {names[0]} names a part of the head" if names else ""
