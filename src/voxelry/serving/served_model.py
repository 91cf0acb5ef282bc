"""ServedModel: a warm Predictor for each device under the name that clients call it by; segmenting one received file with it."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelry.base.device import choose_device
from voxelry.base.failures import read_failures
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.cohort.cohort_run import gpus
from voxelry.cohort.task_files import default_task
from voxelry.core.volume import Volume
from voxelry.errors import CorruptFileError, UnsupportedFormatError, UsageError, VoxelryError
from voxelry.formats.detection import detect
from voxelry.formats.dicom.archive import is_zip_file
from voxelry.formats.read_options import ReadOptions
from voxelry.formats.reader import read_file
from voxelry.inference.predict_options import PROBABILITY, PredictOptions
from voxelry.inference.predictor import Prediction, Predictor
from voxelry.metrics.segmentation_task import SegmentationTask
from voxelry.networks.weights import load_models
from voxelry.serving.device_queue import Turn
from voxelry.serving.serve_limits import ServeLimits

_LARGEST_PICTURE = 2**26
"""Pixels of a picture; radiographs have up to 2**24."""


_SMALL_PICTURE = 2**22
"""Pixels of a picture of which several may be in memory at once."""
_ALONE = Turn()


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A warm model.

    Attributes:
        id: its name in addresses.
        predictors: a Predictor of each device, with a map of probabilities, which scores and thresholds need.
    """

    id: str
    predictors: tuple[Predictor, ...]

    @property
    def predictor(self) -> Predictor:
        """That of the first device."""
        return self.predictors[0]

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices."""
        return tuple(str(predictor.device) for predictor in self.predictors)

    @property
    def task(self) -> SegmentationTask:
        """What it was trained for."""
        return default_task(self.predictor.model.plan)

    def describe(self) -> dict[str, Any]:
        """What a client may know of it, as plain values."""
        model = self.predictor.model
        return {
            "id": self.id,
            "name": model.card.name,
            "version": model.card.version,
            "licence": model.card.licence,
            "task": self.task,
            "dimensions": model.plan.dimensions,
            "channels": list(model.plan.channels),
            "labels": [
                {"id": label.value, "name": label.name, "kind": label.kind, "color": "#{:02x}{:02x}{:02x}".format(*label.rgb)}
                for label in model.labels.labels
            ],
            "device": ", ".join(self.devices),
        }

    def segment(
        self,
        file: Path,
        limits: ServeLimits,
        series: str | None = None,
        progress: ProgressCallback = no_progress,
        turn: Turn = _ALONE,
    ) -> tuple[Volume, Prediction]:
        """Read a file and segment it.

        Args:
            file: what was received.
            limits: what is taken at most.
            series: which volume of several.
            progress: called as patches are done; what it raises ends the work.
            turn: the device that computes it, and the scans that it shares passes with.

        Raises:
            VoxelryError: it cannot be read, is too large, or does not fit the model.
        """
        volume = read_scan(file, limits, series)
        return volume, self.predictors[turn.device].predict(volume, progress, turn.passes)

    def is_small(self, file: Path) -> bool:
        """Whether a file is a small picture that takes one patch, by its header: several may have their turn together.

        Args:
            file: what was received; one that cannot be read is not small.
        """
        if self.predictor.model.plan.dimensions != 2 or is_zip_file(file):
            return False
        try:
            with read_failures("the scan"):
                row = detect(file)
                if row.read_header:
                    shape, spacing = row.call(row.read_header, file).shape[1:], None
                else:
                    geometry = read_file(file).geometry
                    shape, spacing = geometry.shape, geometry.spacing
        except VoxelryError:
            return False
        return len(shape) == 2 and math.prod(shape) <= _SMALL_PICTURE and self.predictor.takes_one_patch(shape, spacing)


def load_served(paths: Sequence[Path], device: str, network: str | None = None) -> dict[str, ServedModel]:
    """Load models under their names: of a folder ``model`` that of the run it lies in, else its own.

    Args:
        paths: model folders.
        device: ``auto`` and ``cuda`` for every GPU, ``cpu``, or GPUs by name: ``cuda:0,cuda:1``.
        network: import path of a network of the user's own.

    Raises:
        ModelError: one cannot be used.
        UsageError: two of one name, or none; a device that is not there.
    """
    served: dict[str, ServedModel] = {}
    devices, options = served_devices(device), PredictOptions(confidence=PROBABILITY)
    for path in paths:
        place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link to another name
        id = place.parent.name if place.name == "model" and place.parent.name else place.name
        if id in served:
            raise UsageError(f"two models are called '{id}'", remedy="Rename the folder of one.")
        loaded = load_models(path, network)
        served[id] = ServedModel(id, tuple(Predictor(loaded, name, options) for name in devices))
    if not served:
        raise UsageError("no model to serve", remedy="Name the folder 'model' that train wrote.")
    return served


def served_devices(names: str) -> list[str]:
    """The devices that are served on, each once.

    Args:
        names: as `load_served` takes them.

    Raises:
        UsageError: one is named twice, or is not there.
    """
    devices = [device for name in names.split(",") for device in gpus(name.strip()) or [name.strip()]]
    if len(set(devices)) < len(devices):
        raise UsageError(f"device '{names}' names one twice", remedy="Name each GPU once, as in cuda:0,cuda:1.")
    for device in devices:
        choose_device(device)
    return devices


def read_scan(file: Path, limits: ServeLimits, series: str | None = None) -> Volume:
    """Read a received file, headers first, so that nothing large is decoded before its size is known.

    Args:
        file: the file.
        limits: what is taken at most.
        series: which volume of several.

    Raises:
        VoxelryError: it cannot be read, or is too large.
    """
    with read_failures("the scan"):
        if is_zip_file(file):
            _check_archive(file, limits)
        else:
            row = detect(file)
            if row.read_header:
                _check_size(row.call(row.read_header, file).shape, limits)
        volume = read_file(file, ReadOptions(series=series))
    _check_size(volume.shape, limits)
    return volume


def _check_archive(file: Path, limits: ServeLimits) -> None:
    """Refuse an archive that unpacks to too much, by what it states; no member gives more than it states."""
    try:
        with zipfile.ZipFile(file) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CorruptFileError(f"the zip archive is damaged ({error})", remedy="Make it again.") from error
    if total > limits.unpacked:
        raise UnsupportedFormatError(
            f"the zip archive unpacks to {total} bytes, more than the {limits.unpacked} taken here",
            remedy="Send one series alone.",
        )


def _check_size(shape: tuple[int, ...], limits: ServeLimits) -> None:
    voxels = 1
    for count in shape:
        voxels *= count
    most = limits.voxels if len(shape) > 3 else min(_LARGEST_PICTURE, limits.voxels)
    if voxels > most:
        raise UnsupportedFormatError(f"the scan has {voxels} voxels, more than the {most} taken here", remedy="Crop it.")
