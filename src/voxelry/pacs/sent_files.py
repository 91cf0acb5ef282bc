"""Files that are sent to an archive: found below files and folders, sent one by one, the status of each kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxelry.base.files import no_such_file
from voxelry.base.progress import ProgressCallback
from voxelry.errors import MissingFileError
from voxelry.formats.dicom.walk import walk
from voxelry.formats.file_content import HEAD_BYTES
from voxelry.formats.signatures import is_dicom
from voxelry.pacs.pacs_records import Pacs, SentInstance

_DIRECTORY = "DICOMDIR"


def send_files(pacs: Pacs, files: Sequence[Path], progress: ProgressCallback) -> list[SentInstance]:
    """Send files to an archive.

    Args:
        pacs: the archive.
        files: files, and folders of them; of folders what is no DICOM is left out.
        progress: called as ``progress(what, done, total)``.

    Returns:
        What became of each.

    Raises:
        PacsError: nothing could be sent.
        MissingFileError: a file is not there, or a folder holds no DICOM.
    """
    listed = [file for path in files for file in _listed(path)]
    results = []
    for number, sent in enumerate(pacs.store(listed)):
        progress("sending", number + 1, len(listed))
        results.append(sent)
    return results


def _listed(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise no_such_file(path)
    files = [file for file, _ in walk(path).files if file.name != _DIRECTORY and _begins_as_dicom(file)]
    if not files:
        raise MissingFileError(f"{path}: holds no DICOM file", remedy="Name DICOM files, or folders of them.")
    return files


def _begins_as_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_dicom(stream.read(HEAD_BYTES))
