"""Every element of the standard's table, at the top of a file and in a sequence, with each option: what is left of its value.

The expectation is a second reading of the table: this file reads the data itself and knows nothing of how it is applied.
"""

import copy
import csv
import io
from datetime import date, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.tag import Tag

from voxelry.formats.dicom.privacy import Deidentifier, KeyedPseudonyms, confidentiality_table

CT = "1.2.840.10008.5.1.4.1.1.2"
MARK = "zqxmark"
NUMBERS = {"DS": "1.5", "IS": "3", "US": 7, "SS": -7, "UL": 7, "SL": -7, "FL": 1.5, "FD": 2.5}
DAYS = (date(2024, 3, 1), 29)
OPTIONS = [
    "uids",
    "device",
    "institution",
    "characteristics",
    "full-dates",
    "modified-dates",
    "descriptors",
    "structured-content",
]
PSEUDONYMS = KeyedPseudonyms(bytes(range(32)))
NEST = "SharedFunctionalGroupsSequence"


def table():
    with Path(confidentiality_table.__file__).with_suffix(".csv").open() as file:
        return {int(row["tag"].replace("x", "0"), 16): row for row in csv.DictReader(file) if row["tag"] != "private"}


TABLE = table()


def vr_of(tag):
    """The representation; a text for elements that are newer than pydicom."""
    known = {0x50000000: "OW", 0x60003000: "OW"}.get(tag)
    return known or (dictionary_VR(tag).split(" or ")[0] if dictionary_has_tag(tag) else "LO")


def value_of(tag, number):
    """A value of its own for every element, marked where it can be."""
    vr = vr_of(tag)
    if vr == "SQ":
        item = Dataset()
        item.PatientName, item.ReferencedSOPInstanceUID, item.StudyDate = f"Qqperson{number}^Ann", f"1.2.9.{number}", "20240301"
        item.RequestedProcedureDescription = f"{MARK} seq {number}"
        return [item]
    texts = {
        "UI": f"1.2.9.9.{number}", "DA": "20240301", "DT": "20240301101112.5", "TM": "101112", "AS": "042Y",
        "PN": f"Qqperson{number}^Ann", "OB": b"zqxmark!", "OW": b"zqxmark!", "UN": b"zqxmark!", "CS": f"ZQX{number}",
        "AE": f"ZQXMARK{number}", "UR": f"urn:{MARK}{number}",
    }  # fmt: skip
    return texts.get(vr, NUMBERS.get(vr, f"{MARK}{number % 100} liver"))


def full():
    """A data set with every element of the table, and every one again in an item."""
    data, item = Dataset(), Dataset()
    for number, tag in enumerate(TABLE):
        if tag >> 16 < 8:
            continue
        for where, many in ((data, number), (item, number + 10000)):
            where.add(DataElement(tag, vr_of(tag), value_of(tag, many)))
    data.SOPClassUID, data.Rows, item.Columns = CT, 16, 16
    data.PatientID = item.PatientID = "QQPERSON-4711"
    for where in (data, item):
        where.private_block(0x0011, "ZQXMARKER", create=True).add_new(1, "LO", f"{MARK} private")
    setattr(data, NEST, [item])
    return data


FULL = full()


def expected(row, options):
    """The code of the table for an element, of the option that speaks, else of the profile; C as the option that cleans."""
    chosen = {option: row[option] for option in OPTIONS if option in options and row[option]}
    if "modified-dates" in chosen:
        return "shift"
    if "K" in chosen.values():
        return "K"
    return "clean" if chosen else row["basic"]


def matches(code, before, after, days):
    """Whether what is left of an element is what a code of the table allows."""
    allowed = {"X": after is None, "U": False, "U*": False, "Z": False, "D": False, "K": False, "shift": False, "clean": False}
    if after is not None and before.VR == "SQ":
        allowed["Z"] = len(after.value) == 0
        allowed["D"] = len(after.value) == 1
        is_replaced = len(after.value) == 1 and after.value[0].get("ReferencedSOPInstanceUID") is not None
        allowed["U*"] = allowed["K"] = allowed["clean"] = is_replaced
    elif after is not None:
        is_patient = before.keyword in ("PatientName", "PatientID") and str(after.value).startswith("P-")
        allowed["Z"] = after.is_empty or is_patient
        allowed["D"] = not after.is_empty and (after.value != before.value) and MARK not in repr(after.value)
        allowed["U"] = before.VR == "UI" and after.value == PSEUDONYMS.uid(before.value)
        allowed["K"] = after.value == before.value
        allowed["clean"] = after.value == "liver"
        if before.VR in ("DA", "DT"):
            moved = (DAYS[0] - timedelta(days)).strftime("%Y%m%d")
            allowed["shift"] = after.value == moved + before.value[8:]
        else:
            allowed["shift"] = before.VR == "TM" and after.value == before.value
    return any(allowed[action] for action in code.split("/"))


@pytest.mark.parametrize("options", [[], *([option] for option in OPTIONS), OPTIONS[:4] + OPTIONS[5:]], ids="+".join)
def test_every_element_of_the_table_is_treated_as_the_table_says(options):
    data = copy.deepcopy(FULL)
    days = PSEUDONYMS.days(data)
    Deidentifier(PSEUDONYMS, options).apply(data)
    [item], [before_item] = data[NEST].value, FULL[NEST].value
    wrong = []
    for before, after, where in ((FULL, data, "top"), (before_item, item, "item")):
        for tag, row in TABLE.items():
            if tag >> 16 < 8:
                assert tag not in after
                continue
            code, left = expected(row, options), after.get(tag)
            is_enough = matches(code, before[tag], left, days)
            if code in ("clean", "shift") and not is_enough:  # what cannot be cleaned is treated as the profile says
                is_enough = vr_of(tag) in ("OB", "AE", "CS", "SH", "UI") and matches(row["basic"], before[tag], left, days)
            if not is_enough:
                wrong.append((where, row["tag"], row["name"], code, repr(left)[:80]))
    assert not wrong
    assert (data.Rows, item.Columns) == (16, 16)
    assert not [element.tag for element in data.iterall() if element.tag.is_private]


def test_no_mark_is_left_in_the_bytes():
    data = copy.deepcopy(FULL)
    Deidentifier(PSEUDONYMS, ["modified-dates", "descriptors", "structured-content"]).apply(data)
    written = io.BytesIO()
    dcmwrite(written, data, implicit_vr=False, little_endian=True)
    content = written.getvalue().lower()
    assert b"liver" in content
    for mark in (b"zqx", b"qqperson", b"1.2.9.", b"20240301"):
        assert mark not in content


def test_the_file_says_what_was_done():
    data = copy.deepcopy(FULL)
    Deidentifier(PSEUDONYMS, ["modified-dates", "device"]).apply(data)
    assert data.PatientIdentityRemoved == "YES"
    assert data.LongitudinalTemporalInformationModified == "MODIFIED"
    said = [(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning) for item in data.DeidentificationMethodCodeSequence]
    assert said == [
        ("113100", "DCM", "Basic Application Confidentiality Profile"),
        ("113109", "DCM", "Retain Device Identity Option"),
        ("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ]


@pytest.mark.parametrize(("option", "said"), [(None, "REMOVED"), ("full-dates", "UNMODIFIED"), ("modified-dates", "MODIFIED")])
def test_dates_are_said_to_be_removed_kept_or_moved(option, said):
    data = Dataset()
    Deidentifier(PSEUDONYMS, [option] if option else []).apply(data)
    assert data.LongitudinalTemporalInformationModified == said


def test_safe_private_elements_stay_with_their_creator():
    data = Dataset()
    siemens = data.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    siemens.add_new(0x0C, "IS", "1000")
    siemens.add_new(0x08, "CS", "MILLER")
    data.private_block(0x0021, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "1")
    data.private_block(0x0099, "NQHeader", create=True).add_new(0x05, "LT", "Miller")
    kept = copy.deepcopy(data)
    Deidentifier(PSEUDONYMS, ["safe-private"]).apply(kept)
    assert [element.tag for element in kept if element.tag.is_private] == [Tag(0x00190010), Tag(0x0019100C)]
    Deidentifier(PSEUDONYMS).apply(data)
    assert not [element.tag for element in data if element.tag.is_private]


def test_a_kept_text_loses_the_words_of_people():
    data = Dataset()
    data.PatientName, data.PatientID = "Miller^Ann", "MRN-4711"
    data.ManufacturerModelName, data.Manufacturer = "Scanner of miller 4711", "ACME"
    data.NameOfPhysiciansReadingStudy, data.ConvolutionKernel = "Strange^Hugo", "STRANGE B30"
    Deidentifier(PSEUDONYMS).apply(data)
    assert (data.ManufacturerModelName, data.Manufacturer, data.ConvolutionKernel) == ("Scanner of X X", "ACME", "X B30")


def test_unknown_elements_go():
    data = Dataset()
    data.add(DataElement(0x00091000 + 0x10000, "LO", "Miller"))  # group 10, which the standard does not define there
    data.add(DataElement(0x0028FFF0, "UN", b"Miller"))
    data.add(DataElement(0x00080000, "UL", 12))
    data.Columns = 5
    Deidentifier(PSEUDONYMS).apply(data)
    assert [keyword_for_tag(tag) for tag in list(data.keys()) if tag.group in (8, 0x28) and tag != 0x00280303] == ["Columns"]
    assert 0x000A1000 not in data


def test_a_report_keeps_numbers_and_codes_and_loses_texts():
    def item(kind, **elements):
        made, name = Dataset(), Dataset()
        name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "121071", "DCM", "Finding"
        made.ValueType, made.RelationshipType, made.ConceptNameCodeSequence = kind, "CONTAINS", [name]
        for keyword, value in elements.items():
            setattr(made, keyword, value)
        return made

    measured, local = Dataset(), Dataset()
    measured.NumericValue = "12.5"
    local.CodeValue, local.CodingSchemeDesignator, local.CodeMeaning = "17", "99MILLER", "Room of Miller"
    data = Dataset()
    data.PatientName = "Qqperson^Ann"
    data.ContentSequence = [
        item("TEXT", TextValue="seen by Dr. Miller, liver lesion"),
        item("NUM", MeasuredValueSequence=[measured]),
        item("PNAME", PersonName="Miller^Hugo"),
        item("CODE", ConceptCodeSequence=[local]),
        item("UIDREF", UID="1.2.9.5"),
    ]
    Deidentifier(PSEUDONYMS, ["structured-content"]).apply(data)
    text, number, person, code, reference = data.ContentSequence
    assert text.TextValue == "liver lesion"
    assert number.MeasuredValueSequence[0].NumericValue == 12.5
    assert person.PersonName == "REMOVED"
    assert "miller" not in str(code.ConceptCodeSequence[0].CodeMeaning).lower()
    assert PSEUDONYMS.uid("1.2.9.5") == reference.UID
    assert text.ConceptNameCodeSequence[0].CodeMeaning == "Finding"


def test_damaged_elements_go(tmp_path):
    from helpers.ct_series import ct_series, raw_element

    def damage(header, k):
        header[Tag("SliceThickness")] = raw_element("SliceThickness", b"Miller")

    volume = ct_series(tmp_path, slices=1, change=damage)
    data = dcmread(volume.source.files[0])
    data.PatientName = "Miller^Ann"
    data["PatientAge"] = DataElement("PatientAge", "AS", "Strange", validation_mode=config.IGNORE)
    data["StudyDate"] = DataElement("StudyDate", "DA", "Strange", validation_mode=config.IGNORE)
    data["BodyPartExamined"] = DataElement("BodyPartExamined", "CS", "of miller", validation_mode=config.IGNORE)
    Deidentifier(PSEUDONYMS, ["characteristics", "full-dates"]).apply(data)
    assert "SliceThickness" not in data
    assert "PatientAge" not in data
    assert (data.StudyDate, data.BodyPartExamined, data.Rows) == (None, "of X", 7)
