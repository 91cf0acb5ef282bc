"""Still pictures of a case for a report: planes with each prediction, the reference dashed; they need no click and print."""

from __future__ import annotations

from voxelry.reports.case_volumes import png_base64
from voxelry.reports.overlay import overlay_picture
from voxelry.reports.run_cases import CaseImages


def case_stills(images: CaseImages) -> tuple[str, list[tuple[str, str]]]:
    """A caption, and a name and a picture (PNG as a data URL) of each prediction; of a case without one of its reference.

    Both pictures of two models show the same slices.

    Args:
        images: of the case.

    Raises:
        GridMismatchError: labels lie on another grid than the image.
        ReadError: the image cannot be decoded.
    """
    predictions = {"A" if images.other is not None else "prediction": images.prediction, "B": images.other}
    drawn = {name: labels for name, labels in predictions.items() if labels is not None}
    reference = images.reference if drawn else None
    if not drawn and images.reference is not None:
        drawn = {"reference": images.reference}
    caption = "Filled: A above, B below." if len(drawn) > 1 else "".join(f"Filled: {name}." for name in drawn)
    through = images.reference or images.prediction if len(drawn) > 1 else None
    pictures = {
        name: overlay_picture(images.volume, labels, reference=reference, through=through) for name, labels in drawn.items()
    }
    urls = [(name, f"data:image/png;base64,{png_base64(picture)}") for name, picture in pictures.items()]
    return caption + (" Dashed: reference." if reference is not None else ""), urls
