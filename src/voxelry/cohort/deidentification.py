"""De-identified copies of many DICOM files, in a folder that names nobody: what is held back, left out and failed is listed.

Copies lie under new names, ``patient/study/series/instance.dcm``, since old ones often name patients. A run that was
interrupted goes on: a copy that is there, of this key and these options, is not made again.
"""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset

from voxelry.base.files import no_such_file, read_json, write_json
from voxelry.base.output_folder import RECORD, OutputFolder
from voxelry.base.progress import ProgressCallback
from voxelry.base.version import version
from voxelry.cohort.scan_names import LeftOut
from voxelry.errors import MissingFileError, UsageError, VoxelryError, nearest
from voxelry.formats.dicom.archive import is_zip_file
from voxelry.formats.dicom.elements import text_of
from voxelry.formats.dicom.privacy.confidentiality_table import EDITION, OPTIONS
from voxelry.formats.dicom.privacy.deidentified_file import is_dicom_file, write_deidentified
from voxelry.formats.dicom.privacy.deidentifier import Deidentifier
from voxelry.formats.dicom.privacy.identifying_pixels import FACE, TEXT, pixel_risks
from voxelry.formats.dicom.privacy.pseudonyms import KeyedPseudonyms, read_key
from voxelry.formats.dicom.walk import walk

SETTINGS_FILE = "deidentification.json"
"""Says in the folder of copies how they were made; it holds nothing of what they were made from."""

ACCEPTED = (TEXT, FACE)


@dataclass
class DeidentifiedFiles:
    """What became of some files.

    Attributes:
        written: original -> copy, of this run or an earlier one.
        held: files whose pixels may tell who the patient is, with the reason; no copy is written.
        left_out: files that are not DICOM, second copies of one instance, archives.
        failed: files that cannot be read or written, and folders that cannot be opened, with the reason.
    """

    written: dict[Path, Path] = field(default_factory=dict)
    held: list[LeftOut] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    failed: list[LeftOut] = field(default_factory=list)


def deidentify_files(
    inputs: Sequence[Path],
    out: Path,
    key: Path | None,
    options: Sequence[str],
    accept: Sequence[str],
    progress: ProgressCallback,
) -> DeidentifiedFiles:
    """Write de-identified copies of DICOM files; see `voxelry.deidentify`."""
    _check_names("option", options, tuple(OPTIONS))
    _check_names("accepted risk", accept, ACCEPTED)
    if {"full-dates", "modified-dates"} <= set(options):
        raise UsageError("full-dates and modified-dates: dates are either kept or moved", remedy="Choose one of them.")
    result = DeidentifiedFiles()
    _check_places(inputs, out)
    files = _files(inputs, result)
    if not (files or result.failed):
        raise MissingFileError(f"{inputs[0]}: holds no file", remedy="Name DICOM files, or folders of them.")
    key = _key_file(out, key)
    pseudonyms = KeyedPseudonyms(read_key(key))
    outputs = OutputFolder(out, "deidentify")
    with outputs.locked():
        _settle(outputs, pseudonyms, options)
        run = _CopyRun(outputs, Deidentifier(pseudonyms, options), frozenset(accept), result)
        for number, file in enumerate(files):
            progress("de-identifying", number, len(files))
            run.add(file)
        progress("de-identifying", len(files), len(files))
    return result


def key_beside(out: Path) -> Path:
    """The key file of a folder of copies, where none is named: beside the folder, so that it is not given away with it."""
    return out.resolve().with_name(f"{out.resolve().name}.key")


@dataclass(frozen=True)
class _CopyRun:
    outputs: OutputFolder
    deidentifier: Deidentifier
    accept: frozenset[str]
    result: DeidentifiedFiles
    sources: dict[Path, Path] = field(default_factory=dict)

    def add(self, file: Path) -> None:
        """De-identify a file, or list it with the reason why not."""
        try:
            if not is_dicom_file(file):
                reason = "an archive, whose inside is not searched: unpack it" if is_zip_file(file) else "not DICOM"
                self.result.left_out.append(LeftOut(file, reason))
                return
            target = write_deidentified(file, self.deidentifier, lambda data: self._place(file, data))
            if target is not None:
                self.result.written[file] = target
        except VoxelryError as error:
            self.result.failed.append(LeftOut(file, str(error)))

    def _place(self, file: Path, data: Dataset) -> Path | None:
        """Where the copy goes; None where it is there already or is not to be written."""
        risks = {kind: reason for kind, reason in pixel_risks(data).items() if kind not in self.accept}
        if risks:
            self.result.held.append(LeftOut(file, "; ".join(f"{kind}: {reason}" for kind, reason in risks.items())))
            return None
        target = self._target(data)
        first = self.sources.setdefault(target, file)
        if first != file:
            if filecmp.cmp(first, file, shallow=False):
                self.result.left_out.append(LeftOut(file, "a second copy of another file"))
                return None
            raise UsageError(f"{file}: has the SOPInstanceUID of {first} and another content", remedy="Keep one of them.")
        if self.outputs.has(target) and target.stat().st_mtime_ns >= file.stat().st_mtime_ns:
            self.result.written[file] = target
            return None
        self.outputs.check(target)
        self.outputs.claim([target])
        return target

    def _target(self, data: Dataset) -> Path:
        """The place of a copy by the new names of patient, study, series and instance."""
        pseudonyms = self.deidentifier.pseudonyms
        keeps = "uids" in self.deidentifier.options
        uids = [text_of(data, keyword) for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        study, series, instance = (_safe(uid if keeps else pseudonyms.uid(uid)) for uid in uids)
        return self.outputs.folder / pseudonyms.patient(data) / study / series / f"{instance}.dcm"


def _safe(uid: str) -> str:
    """A UID as a name; whatever a damaged one holds beside digits and dots is left out."""
    return "".join(letter for letter in uid if letter.isdigit() or letter == ".").strip(".") or "none"


def _check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"no {what} {name!r}", remedy=nearest(name, known))


def _check_places(inputs: Sequence[Path], out: Path) -> None:
    for path in inputs:
        if not path.exists():
            raise no_such_file(path)
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{out}: lies in the input {path}, beside what names patients", remedy="Write elsewhere.")
        if path.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{path}: lies in the output {out}", remedy="Write elsewhere.")


def _key_file(out: Path, key: Path | None) -> Path:
    chosen = key_beside(out) if key is None else key
    if chosen.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"{chosen}: a key in the folder of copies would be given away with them", remedy="Keep it elsewhere.")
    return chosen


def _files(inputs: Sequence[Path], result: DeidentifiedFiles) -> list[Path]:
    files: dict[Path, None] = {}
    for path in inputs:
        if not path.is_dir():
            files[path] = None
            continue
        tree = walk(path)
        files.update(dict.fromkeys(file for file, _ in tree.files))
        result.failed += [LeftOut(place, str(error)) for place, error in tree.problems]
    return list(files)


def _settle(outputs: OutputFolder, pseudonyms: KeyedPseudonyms, options: Sequence[str]) -> None:
    """Say in the folder how copies are made; refuse one whose copies were made otherwise, or that holds anything else.

    Raises:
        UsageError: it is such a folder.
    """
    path = outputs.folder / SETTINGS_FILE
    settings: dict[str, Any] = {
        "voxelry": version(),
        "profile": f"PS3.15 {EDITION} Basic Application Level Confidentiality Profile",
        "options": [name for name in OPTIONS if name in options],
        "key": pseudonyms.check,
    }
    if path.is_file():
        former = read_json(path)
        for name, value in settings.items():
            if former.get(name) != value:
                raise UsageError(
                    f"{outputs.folder}: its copies were made with another {name}", remedy="Write into a new folder, or use that."
                )
    elif any(entry.name != RECORD for entry in outputs.folder.iterdir()):
        raise UsageError(f"{outputs.folder}: is not empty, and was not made by this command", remedy="Name a new folder.")
    else:
        with outputs.writing([path]):
            write_json(path, settings)
