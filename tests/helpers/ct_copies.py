"""Copies of a DICOM series under new UIDs, and their slices pushed to a node by several associations at once."""

import random
import threading
from pathlib import Path

import pynetdicom
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from voxelry.pacs.pacs_address import parse_address

SECONDS = 120


def copies(series: Path, folder: Path, count: int, slices: int | None = None) -> dict[str, list[Path]]:
    """SeriesInstanceUID -> files of copies of a series, each in a study of its own.

    Args:
        series: folder of its files.
        folder: where the copies go.
        count: how many.
        slices: of each the first ones; None for all.
    """
    originals = [dcmread(file) for file in sorted(series.iterdir())][:slices]
    folder.mkdir(exist_ok=True)
    made: dict[str, list[Path]] = {}
    for number in range(count):
        study, uid, frame = generate_uid(), generate_uid(), generate_uid()
        for index, data in enumerate(originals):
            data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, uid, frame
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            data.PatientID = f"P{number}"
            file = folder / f"{number:03d}-{index:03d}.dcm"
            data.save_as(file, enforce_file_format=True)
            made.setdefault(str(uid), []).append(file)
    return made


def push(address: str, files: list[Path], associations: int, title: str = "SENDER") -> list[int]:
    """Send files in random order by several associations at once; the statuses.

    Args:
        address: of the node.
        files: of CT slices.
        associations: how many.
        title: AE title of the sender.
    """
    node = parse_address(address)
    shuffled = list(files)
    random.Random(0).shuffle(shuffled)
    statuses: list[int] = []

    def send(share: list[Path]) -> None:
        entity = pynetdicom.AE(title)
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = entity.associate(node.host, node.port, ae_title=node.ae_title)
        assert association.is_established
        try:
            statuses.extend(association.send_c_store(file).get("Status", -1) for file in share)
        finally:
            association.release()

    threads = [threading.Thread(target=send, args=(shuffled[number::associations],)) for number in range(associations)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS * 10)
    return statuses


def referenced(seg: Dataset) -> tuple[str, set[str]]:
    """The series that a SEG refers to, and the instances of it."""
    [item] = seg.ReferencedSeriesSequence
    return str(item.SeriesInstanceUID), {str(each.ReferencedSOPInstanceUID) for each in item.ReferencedInstanceSequence}
