"""Reads the cases of a run: image, predictions and reference, of the dataset or from the files that the run names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from voxelry.cohort.fetched_scan import FetchedScan
from voxelry.cohort.inputs import find_scans
from voxelry.cohort.pairs import masks_in
from voxelry.cohort.predicted_files import read_objects
from voxelry.cohort.remote_files import is_place
from voxelry.cohort.scan_names import Scan
from voxelry.core.geometry import Geometry
from voxelry.core.model import CleanUp
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.channels import read_channels
from voxelry.datasets.load import load_image, load_labels
from voxelry.datasets.manifest import Manifest
from voxelry.formats.dicom.archive import archive_of
from voxelry.formats.reader import read_labels
from voxelry.reports.run_record import RunCase, RunRecord
from voxelry.training.run_files import MODEL_FOLDER

_REMEDY = "Its labels are shown on black; voxelry report RUN --data FOLDER shows the scan of a folder."


@dataclass(frozen=True, eq=False)
class CaseImages:
    """What there is to look at of a case.

    Attributes:
        volume: the image; black where there is none.
        prediction: a model's labels, or None.
        reference: the right labels, or None.
        other: the labels of a second model, or None.
        note: why the image is black; empty where it is there.
    """

    volume: Volume
    prediction: LabelMap | None = None
    reference: LabelMap | None = None
    other: LabelMap | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class RunCases:
    """The cases of a run, which are read one by one.

    Attributes:
        record: what the run left behind.
        manifest: the dataset, or None.
        scans: a folder of scans, where there is no dataset, or None.
    """

    record: RunRecord
    manifest: Manifest | None = None
    scans: Path | None = None

    def with_images(self) -> RunRecord:
        """The record, each case with the files of its scan, by the dataset or the folder of scans where there is one."""
        if self.manifest is not None:
            images = {case.id: tuple(map(Path, case.images)) for case in self.manifest.cases}
        elif self.scans is not None:
            images = {scan.id: tuple(map(Path, scan.images)) for scan in find_scans([self.scans])}
        else:
            return self.record
        cases = tuple(replace(case, images=images.get(case.id, case.images)) for case in self.record.cases)
        return replace(self.record, cases=cases)

    def read(self, case: RunCase) -> CaseImages:
        """Image, predictions and reference of a case; labels without an image are shown on black.

        Args:
            case: with a mask or images.

        Raises:
            ReadError: a file cannot be read.
        """
        own, card = self._known.get(case.id), None if self.manifest is None else self.manifest.card
        if own is not None and card is not None:
            volume = load_image(own, card)
            volume = replace(volume, modality=volume.modality or card.modality)
            reference = load_labels(own, card, volume.geometry) if own.has_labels else None
            first, second = (self._mask(case, mask, volume.geometry) for mask in (case.mask, case.other))
            return CaseImages(volume, first, reference, second)
        reference = read_labels(self._references[case.id]) if case.id in self._references else None
        first, second = (self._mask(case, mask, None) for mask in (case.mask, case.other))
        shown = first or second or reference
        note = _unreadable(case)
        if shown is None or not note:
            with FetchedScan(Scan(case.id, case.images)) as scan:  # of an archive
                volume = read_channels(scan.images, case.options)
                _ = volume.array  # before what was unpacked is removed
            return CaseImages(volume, first, reference, second)
        black = Volume(partial(np.zeros, (1, *shown.geometry.shape), np.uint8), shown.geometry)
        return CaseImages(black, first, reference, second, f"{note} {_REMEDY}")

    @cached_property
    def _known(self) -> dict[str, Case]:
        return {} if self.manifest is None else {case.id: case for case in self.manifest.cases}

    @cached_property
    def _references(self) -> dict[str, Path]:
        """The references of a run whose data are a folder of them, or the only one."""
        data = self.record.data if self.manifest is None else None
        if data is None:
            return {}
        return {id: files[0] for id, files in masks_in(data).items()} if data.is_dir() else {self.record.cases[0].id: data}

    @cached_property
    def _rules(self) -> tuple[CleanUp, ...]:
        """What the run's model does to its predictions in the end; those that training stores are from before."""
        from voxelry.networks.weights import is_model_folder, read_cards

        folder = self.record.folder / MODEL_FOLDER
        return read_cards(folder)[1].clean_up if is_model_folder(folder) else ()

    def _mask(self, case: RunCase, mask: Path | None, geometry: Geometry | None) -> LabelMap | None:
        table = None if self.manifest is None else self.manifest.card.table
        if mask is None:
            return None
        if table is not None and geometry is not None and mask.suffix == ".npz":
            from voxelry.inference.cleanup import clean
            from voxelry.training.predictions import StoredPredictions

            return clean(StoredPredictions(mask.parent, table).load(case.id, geometry), self._rules)
        return read_objects(mask, partial(read_labels, mask), table)


def _unreadable(case: RunCase) -> str:
    """Why the scan of a case cannot be read, in a sentence; empty where it can."""
    if not case.images:
        return "Which scan this was is not known."
    if any(map(is_place, case.images)):
        return "The scan lies at a URL, from which it is not fetched again."
    return "" if all(path.exists() or archive_of(path) is not None for path in case.images) else "The scan is not where it was."
