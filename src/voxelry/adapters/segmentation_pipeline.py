"""SegmentationPipeline: a Predictor that is called as Hugging Face's pipeline for image segmentation is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from voxelry.adapters.picture_tensors import grey_picture
from voxelry.adapters.prediction_forms import segmentation_answer
from voxelry.base.urls import is_url
from voxelry.core.geometry import Geometry
from voxelry.core.volume import Volume
from voxelry.errors import UsageError
from voxelry.formats.read_options import ReadOptions
from voxelry.formats.reader import read_file
from voxelry.inference.predictor import Predictor
from voxelry.metrics.segmentation_task import SegmentationTask

Segments = list[dict[str, Any]]

_GREY = ("1", "L", "LA", "La")
_NUMBERS = ("I", "I;16", "I;16B", "I;16L", "F")
"""Modes of PIL whose numbers are grey values of more than 8 bits."""

_COLOURS = 3


class SegmentationPipeline:
    """Segments pictures and volumes, and answers with a list of label, score and mask.

    Args:
        predictor: with a map of probabilities, for scores and `mask_threshold`.
        subtask: what is asked for where a call does not say.

    Attributes:
        predictor: as given.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from voxelry import load_model, train
        >>> from voxelry.adapters import SegmentationPipeline
        >>> from voxelry.phantom import coarse_acquisition, write_phantoms
        >>> coarse = coarse_acquisition("chest-xray")
        >>> manifest = write_phantoms("data", "chest-xray", 2, format="png", acquisition=coarse)
        >>> recipe = f"{{manifest: {manifest}, steps: 1, validations: 1, device: cpu}}"
        >>> from pathlib import Path
        >>> _ = Path("recipe.yaml").write_text(recipe)
        >>> model = train("recipe.yaml", "run").model
        >>> pipe = SegmentationPipeline(load_model("run/model", device="cpu", confidence="probability"))
        >>> segments = pipe(Image.open("data/images/chest_000.png"))
        >>> all(sorted(segment) == ["label", "mask", "score"] for segment in segments)
        True
    """

    def __init__(self, predictor: Predictor, subtask: SegmentationTask = "semantic") -> None:
        self.predictor = predictor
        self.subtask: SegmentationTask = subtask

    def __call__(
        self,
        inputs: Any,
        subtask: SegmentationTask | None = None,
        threshold: float = 0.0,
        mask_threshold: float = 0.0,
        overlap_mask_area_threshold: float = 0.0,
        batch_size: int | None = None,  # noqa: ARG002
    ) -> Segments | list[Segments] | Iterator[Segments]:
        """Segment one image, or several.

        Nothing is dropped by default, where transformers drops segments below a score of 0.9.

        Args:
            inputs: a PIL image; an array ``(rows, columns)`` or ``(rows, columns, 3)``; a path of any readable format; a Volume.
                Or a list or tuple of these, or any other iterable, from which one is taken when its answer is asked for.
            subtask: ``semantic``, ``instance`` or ``panoptic``; None takes what the model was trained for.
            threshold: smallest score of a segment.
            mask_threshold: smallest probability of a voxel.
            overlap_mask_area_threshold: share of its voxels that a segment must keep more of.
            batch_size: as there; it changes nothing, since patches of an image are batched as memory allows.

        Returns:
            For one image a list of segments, each with ``label`` (name), ``score`` (0..1, or None) and ``mask``, 255 inside: a
            PIL image of mode ``L`` for a picture, a ``(*spatial)`` uint8 array on the grid of the scan for a volume. For a list
            a list of these, for another iterable an iterator.

        Raises:
            UsageError: an input of another kind, a URL, an unknown subtask, or a threshold that is no share.
            ReadError: a file that cannot be read.
            ModelError: an image that the model does not take.
        """
        choices = (subtask or self.subtask, threshold, mask_threshold, overlap_mask_area_threshold)
        if isinstance(inputs, str | os.PathLike | Image.Image | np.ndarray | Volume):
            return self._answer(inputs, choices)
        if not isinstance(inputs, Iterable):
            raise _no_image(inputs)
        answers = (self._answer(each, choices) for each in inputs)
        return list(answers) if isinstance(inputs, list | tuple) else answers

    def _answer(self, image: Any, choices: tuple[SegmentationTask, float, float, float]) -> Segments:
        volume = volume_of(image)
        if len(self.predictor.model.plan.channels) == 1 and volume.channels == _COLOURS and volume.geometry.ndim == 2:
            volume = grey_picture(volume, volume.source.name)
        return segmentation_answer(self.predictor.predict(volume), *choices)


def volume_of(image: Any) -> Volume:
    """An image of any kind that a pipeline takes, as a Volume.

    Args:
        image: a path, PIL image, array of a picture, or Volume.

    Raises:
        UsageError: another kind, or an array that is no picture.
        ReadError: a file that cannot be read.
    """
    if isinstance(image, Volume):
        return image
    if isinstance(image, str | os.PathLike):
        if not os.fspath(image) or is_url(image) or os.fspath(image).startswith("data:"):
            raise UsageError(f"'{os.fspath(image)[:80]}' is no path, and URLs are not fetched", remedy="Give the path of a file.")
        return read_file(Path(image), ReadOptions())
    if isinstance(image, Image.Image):
        return _of_picture(_pixels(ImageOps.exif_transpose(image)))
    if isinstance(image, np.ndarray):
        return _of_picture(image)
    raise _no_image(image)


def _pixels(image: Image.Image) -> NDArray[Any]:
    """``(rows, columns)`` grey values, or ``(rows, columns, 3)``, as a viewer shows them."""
    if image.mode in _NUMBERS:
        return np.asarray(image)
    return np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))


def _of_picture(pixels: NDArray[Any]) -> Volume:
    """A picture of unknown pixel size.

    Raises:
        UsageError: an array of another shape or type.
    """
    is_picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == _COLOURS)
    if not is_picture or 0 in pixels.shape or pixels.dtype.kind not in "uif":
        raise UsageError(
            f"an array of shape {pixels.shape} and type {pixels.dtype}, which is no picture",
            remedy="Give (rows, columns) or (rows, columns, 3); for a scan in 3D a Volume, which has its grid, or its file.",
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise UsageError("an array with values that are not finite", remedy="Replace NaN and infinity by numbers.")
    channels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    return Volume(np.ascontiguousarray(channels), Geometry(pixels.shape[:2]), channels=len(channels))


def _no_image(value: Any) -> UsageError:
    return UsageError(f"an input of type {type(value).__name__}", remedy="Give a path, a PIL image, an array, or a Volume.")
