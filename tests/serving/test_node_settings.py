"""The file of the DICOM node: routes, callers, and mistakes that are named."""

import pytest
from pydicom import Dataset

from voxelry.base.files import write_yaml
from voxelry.errors import ConfigError, UsageError
from voxelry.serving.node_settings import NodeSettings, read_node_settings

PLAIN = {
    "callers": [{"ae_title": "PACS", "address": "10.1.0.0/16"}, {"ae_title": "CT1", "address": "192.168.1.7"}],
    "routes": [
        {"modality": "CT", "description": "*chest*", "model": "lungs", "to": "dicom://PACS@10.1.0.3:104"},
        {"body_part": "abd?men", "model": "liver", "formats": ["dicom-sr"], "to": "https://pacs/dicom-web"},
    ],
}


def header(**elements):
    data = Dataset()
    for name, value in elements.items():
        setattr(data, name, value)
    return data


def test_the_first_route_that_fits_takes_a_series(tmp_path):
    write_yaml(tmp_path / "node.yaml", {**PLAIN, "tls": {"certificate": "own.pem"}})
    settings = read_node_settings(tmp_path / "node.yaml", ("lungs", "liver"))
    assert settings.tls.certificate == tmp_path / "own.pem"
    assert settings.route_of(header(Modality="CT", SeriesDescription="Thin CHEST 1mm")).model == "lungs"
    assert settings.route_of(header(Modality="MR", SeriesDescription="chest", BodyPartExamined="ABDOMEN")).model == "liver"
    assert settings.route_of(header(Modality="MR", SeriesDescription="chest")) is None
    assert settings.route_of(header()) is None


@pytest.mark.parametrize(
    ("title", "address", "admitted", "known"),
    [
        ("PACS", "10.1.200.1", True, True),
        ("PACS", "::ffff:10.1.200.1", True, True),
        ("CT1", "192.168.1.7", True, True),
        ("CT1", "10.1.0.1", False, True),
        ("PACS", "10.2.0.1", False, False),
        ("pacs", "10.1.0.1", False, True),
        ("PACS", "::1", False, False),
    ],
)
def test_a_caller_needs_title_and_address(title, address, admitted, known):
    settings = NodeSettings(**PLAIN)
    assert (settings.admits(title, address), settings.knows(address)) == (admitted, known)


WRONG = {
    "model": ({"routes": [{"model": "lung", "to": "https://pacs/d"}]}, "lungs"),
    "address": ({"routes": [{"model": "lungs", "to": "pacs:104"}]}, "no address"),
    "format": ({"routes": [{"model": "lungs", "to": "https://pacs/d", "formats": ["nifti"]}]}, "no DICOM format"),
    "network": ({"callers": [{"ae_title": "A", "address": "10.1"}]}, "address"),
    "nobody": ({"callers": []}, "callers"),
    "key": ({"quite": 5}, "quiet"),
    "title": ({"ae_title": "A TITLE THAT IS LONG"}, "AE title"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named(mistake, tmp_path):
    change, words = WRONG[mistake]
    write_yaml(tmp_path / "node.yaml", {**PLAIN, **change})
    with pytest.raises((ConfigError, UsageError), match=words):
        read_node_settings(tmp_path / "node.yaml", ("lungs", "liver"))
