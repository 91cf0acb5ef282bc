"""Deidentifier: the elements of a file by the Basic Application Level Confidentiality Profile of PS3.15 Annex E and its options.

Beyond the table: elements that the standard does not define, and those whose representation is not known or whose value cannot be
read, are removed; words of the names and numbers of people in the file are struck out of every text that stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from voxelry.base.version import version
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, text_of
from voxelry.formats.dicom.objects.unreadable_elements import drop_unreadable
from voxelry.formats.dicom.privacy.attribute_types import Path, type_of
from voxelry.formats.dicom.privacy.confidentiality_table import (
    BASIC_PROFILE,
    EDITION,
    OPTIONS,
    is_safe_vr,
    safe_private,
    table_row,
)
from voxelry.formats.dicom.privacy.descriptor_words import cleaned, identity_words, without_identity
from voxelry.formats.dicom.privacy.dummy_values import dummy
from voxelry.formats.dicom.privacy.pseudonyms import KeyedPseudonyms, shifted

_TEXTS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE"})
_PATIENT = frozenset({"PatientName", "PatientID"})
_PUBLIC_SCHEMES = frozenset("DCM SCT SRT SNM3 UCUM LN FMA RADLEX NCIt UMLS BI IBSI MDC I10 ICD10 NCDR ACR".split())
_FIRST_GROUP = 0x0008
_LONGEST_SHORT_TEXT = {"SH": 16, "AE": 16, "LO": 64, "PN": 64}
_TEMPORAL = frozenset({"DA", "TM", "DT"})
_AGE = re.compile(r"\d{3}[DWMY]")


class Deidentifier:
    """The profile with options, under one key.

    Args:
        pseudonyms: replacements of UIDs, patients and dates.
        options: names of `OPTIONS`.

    Example:
        >>> from pydicom import Dataset
        >>> from voxelry.formats.dicom.privacy import KeyedPseudonyms
        >>> data = Dataset()
        >>> data.PatientName, data.SOPInstanceUID, data.Rows = "Miller^Ann", "1.2.3", 16
        >>> Deidentifier(KeyedPseudonyms(bytes(32))).apply(data)
        >>> str(data.PatientName)[:2], data.SOPInstanceUID == "1.2.3", data.Rows, data.PatientIdentityRemoved
        ('P-', False, 16, 'YES')
    """

    def __init__(self, pseudonyms: KeyedPseudonyms, options: Collection[str] = ()) -> None:
        self.pseudonyms = pseudonyms
        self.options = frozenset(options)

    def apply(self, data: Dataset) -> None:
        """De-identify the elements of a file, in place.

        Args:
            data: every element but those of the pixels and of the file's meta information.
        """
        with quiet_pydicom():
            drop_unreadable(data)
            _Pass(self, data).run()
        data.PatientIdentityRemoved = "YES"
        data.DeidentificationMethod = [f"voxelry {version()}", f"PS3.15 {EDITION} Basic Profile"]
        data.DeidentificationMethodCodeSequence = [_code(*BASIC_PROFILE), *(_code(*OPTIONS[name]) for name in self._in_order())]
        data.LongitudinalTemporalInformationModified = (
            "MODIFIED" if "modified-dates" in self.options else "UNMODIFIED" if "full-dates" in self.options else "REMOVED"
        )

    def _in_order(self) -> list[str]:
        return [name for name in OPTIONS if name in self.options]


class _Pass:
    """One file: its patient's replacements, found before anything is changed."""

    def __init__(self, deidentifier: Deidentifier, data: Dataset) -> None:
        pseudonyms = deidentifier.pseudonyms
        self._data = data
        self._options = deidentifier.options
        self._patient = pseudonyms.patient(data)
        self._days = pseudonyms.days(data)
        self._new_uid = pseudonyms.uid
        self._sop_class = text_of(data, "SOPClassUID")
        self._identity = identity_words([text_of(data, "PatientID"), *_names(data)])

    def run(self) -> None:
        self._dataset(self._data, (), strict=False)

    def _dataset(self, data: Dataset, path: Path, *, strict: bool) -> None:
        """Every element of a data set or item; in a strict one texts that the table does not list are cleaned too."""
        blocks = _safe_blocks(data) if "safe-private" in self._options else {}
        is_public_code = text_of(data, "CodingSchemeDesignator") in _PUBLIC_SCHEMES
        for tag in list(data.keys()):
            if tag.is_private:
                if not _is_safe_private(data, tag, blocks):
                    del data[tag]
            elif tag.group < _FIRST_GROUP or tag.element == 0 or not _is_defined(tag):
                del data[tag]
            else:
                self._element(data, tag, path, strict and not is_public_code)

    def _element(self, data: Dataset, tag: BaseTag, path: Path, strict: bool) -> None:
        inner = (*path, keyword_for_tag(tag) or f"{tag:08x}")
        row = table_row(tag)
        action = "K" if row is None else row.action(self._options, type_of(self._sop_class, inner))
        if action == "X":
            del data[tag]
            return
        try:
            element = data[tag]
            value = element.value
        except PARSE_ERRORS:
            del data[tag]
            return
        if not _is_readable(element, value) or (element.VR == "UN" and action not in ("Z", "D")):
            del data[tag]
        elif element.VR == "SQ":
            self._sequence(element, action, inner, strict)
        else:
            basic = "K" if row is None else row.action((), type_of(self._sop_class, inner))
            if strict and element.VR in _TEXTS and (row is None or "descriptors" in row.options):
                action, basic = "text", "D" if row is None else basic
            self._value(data, element, action, basic)

    def _sequence(self, element: DataElement, action: str, path: Path, strict: bool) -> None:
        if action == "Z":
            element.value = []
        elif action == "D":
            element.value = dummy(element, self._new_uid)
        else:  # kept, cleaned, or with new UIDs: the profile's rules for each item
            for item in element.value:
                self._dataset(item, path, strict=strict or action == "text")

    def _value(self, data: Dataset, element: DataElement, action: str, basic: str) -> None:
        tag, vr = element.tag, element.VR
        if action in ("text", "shift"):
            replaced = self._cleaned(element) if action == "text" else self._shifted(element)
            if replaced:
                data[tag] = DataElement(tag, vr, replaced)
                return
            action = basic
        if action == "K" and not _is_in_form(element):
            action = "X" if basic == "K" else basic
        if action == "X":
            del data[tag]
        elif action == "K":
            self._strike_out(data, element)
        elif element.keyword in _PATIENT:
            data[tag] = DataElement(tag, vr, self._patient)
        elif action == "Z":
            data[tag] = DataElement(tag, vr, None)
        elif action == "U" and vr == "UI" and not element.value:
            return
        else:
            data[tag] = DataElement(tag, vr, dummy(element, self._new_uid))

    def _cleaned(self, element: DataElement) -> str:
        if element.VR not in _TEXTS | {"CS"}:
            return ""
        text = cleaned(" ".join(_texts(element)), self._identity)
        return text[: _LONGEST_SHORT_TEXT.get(element.VR, len(text))].strip()

    def _shifted(self, element: DataElement) -> list[str]:
        if element.VR not in _TEMPORAL:
            return []
        values = [shifted(text, element.VR, self._days) for text in _texts(element)]
        return values if all(values) else []

    def _strike_out(self, data: Dataset, element: DataElement) -> None:
        """Strike the names and numbers of people out of a text that stays."""
        if element.VR in _TEXTS | {"CS"} and self._identity:
            before = _texts(element)
            after = [without_identity(text, self._identity) for text in before]
            if after != before:
                data[element.tag] = DataElement(element.tag, element.VR, after)


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _names(data: Dataset) -> list[str]:
    """The names of people at the top of a data set."""
    names = []
    for tag in list(data.keys()):
        try:
            element = None if tag.is_private else data[tag]
        except PARSE_ERRORS:
            continue
        if element is not None and element.VR == "PN":
            names += _texts(element)
    return names


def _is_in_form(element: DataElement) -> bool:
    """A date, a time or an age is one: anything else may be a text that was put in its place."""
    if element.VR == "AS":
        return all(_AGE.fullmatch(text) for text in _texts(element))
    return element.VR not in _TEMPORAL or all(shifted(text, element.VR, 0) for text in _texts(element))


def _texts(element: DataElement) -> list[str]:
    """The values of an element as texts."""
    values: Any = element.value if element.VM > 1 else [element.value]
    return [str(value) for value in values if value not in (None, "")]


def _is_defined(tag: BaseTag) -> bool:
    """The standard defines the element, or one of a repeating group."""
    return dictionary_has_tag(tag) or keyword_for_tag(tag) != "" or table_row(tag) is not None


def _is_readable(element: DataElement, value: Any) -> bool:
    """A sequence has items, and no text stands where the standard demands a number or a date, as of a damaged element."""
    if element.VR == "SQ":
        return isinstance(value, Sequence)
    demanded = dictionary_VR(element.tag) if dictionary_has_tag(element.tag) else element.VR
    return element.VR not in _TEXTS or demanded in _TEXTS


def _safe_blocks(data: Dataset) -> dict[tuple[int, int], str]:
    """Group and block number of the private blocks that hold an element listed as safe -> their creator."""
    creators: dict[tuple[int, int], str] = {}
    for tag in list(data.keys()):
        if tag.is_private_creator:
            try:
                creators[tag.group, tag.element] = str(data[tag].value).strip()
            except PARSE_ERRORS:
                continue
    used = {_block(tag) for tag in list(data.keys()) if _is_listed_safe(tag, creators)}
    return {block: creator for block, creator in creators.items() if block in used}


def _block(tag: BaseTag) -> tuple[int, int]:
    return tag.group, tag.element >> 8


def _is_listed_safe(tag: BaseTag, creators: dict[tuple[int, int], str]) -> bool:
    creator = creators.get(_block(tag))
    return creator is not None and (tag.group, creator, tag.element & 0xFF) in safe_private()


def _is_safe_private(data: Dataset, tag: BaseTag, blocks: dict[tuple[int, int], str]) -> bool:
    """A private element that the standard lists as safe, of numbers or a code, or the creator of such."""
    if tag.is_private_creator:
        return (tag.group, tag.element) in blocks
    if not _is_listed_safe(tag, blocks):
        return False
    try:
        element = data[tag]
        _ = element.value
    except PARSE_ERRORS:
        return False
    return is_safe_vr(element.VR)
