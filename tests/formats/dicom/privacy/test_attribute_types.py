"""Types of attributes, against what the standard says of some."""

import pytest

from voxelry.formats.dicom.privacy.attribute_types import type_of

CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        (CT, ("StudyDate",), "2"),
        (CT, ("SOPInstanceUID",), "1"),
        (CT, ("InstitutionName",), "3"),
        (SR, ("ContentDate",), "1"),
        (SR, ("ContentSequence",), "1"),
        (CT, ("VerifyingObserverSequence",), "3"),
        (CT, ("NoSuchSequence", "StudyDate"), ""),
        ("1.2.3", ("StudyDate",), ""),
    ],
)
def test_types_are_those_of_the_standard(kind, path, expected):
    assert type_of(kind, path) == expected
