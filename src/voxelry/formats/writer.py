"""One door to every format: the ending of the path, or a name, picks the writer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, UsageError, nearest

NOTHING_ASKED: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Format:
    """A format we write.

    Attributes:
        ending: the ending a file of this format is given.
        function: the module below `voxelry.formats` and the function that writes labels, imported when first needed.
        what: its name in messages, with an article.
        also: other endings that mean it.
        axes: the numbers of spatial axes it can hold: 3, and 2 for pictures and projections.
        layers: labels may overlap.
        source: ``needed`` where it refers to the DICOM scan the labels were made on, ``taken`` where it can use the scan,
            ``grid`` where labels are laid onto the scan's grid, if there is one, and it is not needed any more.
        options: keyword arguments its function takes.
        must: those of them that have no default.
        silent: what of a label table it does not hold, in words; empty where it holds all.
        image_function: the function that writes an image, empty where the format holds labels alone.
    """

    ending: str
    function: str
    what: str
    also: tuple[str, ...] = ()
    axes: tuple[int, ...] = (3,)
    layers: bool = True
    source: str = "grid"
    options: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    silent: str = ""
    image_function: str = ""

    def write(
        self,
        labels: LabelMap | Volume,
        path: str | os.PathLike[str],
        source: Volume | None = None,
        options: Mapping[str, Any] = NOTHING_ASKED,
    ) -> Path:
        """Write labels, or an image where the format holds images.

        Args:
            labels: what to write.
            path: the file (or folder, for a series); replaced if it exists, and never left half-written.
            source: the scan the labels belong to.
            options: keyword arguments of the format's function.

        Returns:
            What was written: the path, or the folder named after it where a format needs a file for each label.

        Raises:
            ExportError: the format cannot hold this.
            UsageError: an option it does not have.
            GridMismatchError: the labels lie on another grid than `source`.
            LabelError: values that the table does not know.
        """
        for option in options:
            if option not in self.options:
                raise UsageError(f"{self.what} has no option '{option}'", remedy=nearest(option, self.options or ("none",)))
        if isinstance(labels, Volume):
            return self._write_image(labels, Path(path))
        lacking = [option for option in self.must if option not in options]
        if lacking:
            raise ExportError(f"{path}: {self.what} cannot be written without its {lacking[0]}", remedy="Give it as an option.")
        self._check(labels, path, source)
        write = _function(self.function)
        if self.source == "needed":
            written: Path = write(labels, source, path, **options)
        elif self.source == "taken":
            written = write(labels if source is None else labels.on_grid(source.geometry), path, source=source, **options)
        else:
            written = write(labels if source is None else labels.on_grid(source.geometry), path, **options)
        return written

    def _write_image(self, image: Volume, path: Path) -> Path:
        if not self.image_function:
            raise ExportError(f"{path}: {self.what} holds labels, not an image", remedy="Write images as .nii.gz.")
        written: Path = _function(self.image_function)(image, path)
        return written

    def _check(self, labels: LabelMap, path: str | os.PathLike[str], source: Volume | None) -> None:
        """Refuse what the format can never hold."""
        if labels.geometry.ndim not in self.axes:
            flat = labels.geometry.ndim == 2
            raise ExportError(
                f"{path}: {self.what} holds {'a volume' if flat else 'a picture'}, not {labels.geometry.describe()}",
                remedy="Write pictures as .png or .json." if flat else "Write volumes as .nii.gz.",
            )
        if len(labels.layers) > 1 and not self.layers:
            raise ExportError(
                f"{path}: labels overlap and lie on {len(labels.layers)} layers, {self.what} holds one",
                remedy="Write .seg.nrrd, DICOM SEG or RTSTRUCT, or each layer to a file of its own.",
            )
        if self.source == "needed" and source is None:
            raise ExportError(f"{path}: {self.what} refers to the scan it was made on", remedy="Give the DICOM scan as `source`.")


def _function(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(import_module(f"voxelry.formats.{module}"), function)


def write(
    labels: LabelMap | Volume,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    source: Volume | None = None,
) -> Path:
    """Write labels, or an image, in the format that the path's ending or `format` names.

    Args:
        labels: what to write; images go to NIfTI only.
        path: the file; replaced if it exists, and never left half-written.
        format: a name of `FORMATS`; None to go by the ending.
        source: the scan the labels belong to, which DICOM objects refer to.

    Returns:
        What was written: the path, or the folder named after it where a format needs a file for each label.

    Raises:
        ExportError: an unknown format, or one that cannot hold this.
        GridMismatchError: the labels lie on another grid than `source`.
        LabelError: values that the table does not know.
    """
    return FORMATS[format_of(path) if format is None else _known(format)].write(labels, path, source)


def format_of(path: str | os.PathLike[str]) -> str:
    """The name of the format that a path's ending means; the longest ending that fits counts.

    Raises:
        ExportError: no format has that ending.
    """
    name = Path(path).name.lower()
    endings = {ending: known for known, kind in FORMATS.items() for ending in (kind.ending, *kind.also)}
    fitting = [ending for ending in endings if name.endswith(ending)]
    if fitting:
        return endings[max(fitting, key=len)]
    raise ExportError(f"{path}: its ending names no format we write", remedy=nearest("".join(Path(name).suffixes[-2:]), endings))


def _known(name: str) -> str:
    if name not in FORMATS:
        raise ExportError(f"unknown format '{name}'", remedy=nearest(name, FORMATS))
    return name


_MADE_BY = ("algorithm", "series_description")
_FLAT, _ANY = (2,), (2, 3)
_NAMES, _CODES = "names, codes and colours", "codes and colours"

FORMATS = MappingProxyType(
    {
        "nifti": Format(
            ".nii.gz", "grids.nifti_write.write_nifti", "a NIfTI label file", also=(".nii",), axes=_ANY, layers=False,
            image_function="grids.nifti_write.write_nifti_image",
        ),
        "dicom-seg": Format(
            ".seg.dcm", "dicom.objects.seg_write.write_dicom_seg", "a DICOM SEG", also=(".dcm",), axes=_ANY, source="needed",
            options=("kind", "compression", "profile", *_MADE_BY),
        ),
        "rtstruct": Format(
            ".rtstruct.dcm", "dicom.objects.rtstruct_write.write_rtstruct", "an RTSTRUCT", source="needed",
            options=("smooth", *_MADE_BY),
        ),
        "dicom-sr": Format(
            ".sr.dcm", "dicom.objects.sr_write.write_dicom_sr", "a DICOM SR", source="needed",
            options=("segmentation", "measure", *_MADE_BY),
            must=("segmentation", "measure"),
        ),
        "secondary-capture": Format(
            ".sc", "dicom.objects.secondary_capture.write_secondary_capture", "an overlay series", axes=_ANY, source="needed",
            options=("series_description",), silent="labels, but a picture of them",
        ),
        "encapsulated-stl": Format(
            ".stl.dcm", "dicom.objects.encapsulated_stl.write_encapsulated_stl", "an encapsulated STL", source="needed",
            options=("series_description",),
        ),
        "seg-nrrd": Format(".seg.nrrd", "grids.seg_nrrd_write.write_seg_nrrd", "a Slicer segmentation"),
        "nrrd": Format(".nrrd", "grids.nrrd_write.write_nrrd", "a plain NRRD", axes=_ANY, layers=False),
        "metaimage": Format(
            ".mha", "grids.metaimage_write.write_metaimage", "a MetaImage", axes=_ANY, layers=False, silent=_NAMES
        ),
        "stl": Format(".stl", "meshes.mesh_files.write_stl", "an STL", options=("space",), silent=_CODES),
        "ply": Format(".ply", "meshes.mesh_files.write_ply", "a PLY", options=("space",), silent="codes"),
        "obj": Format(".obj", "meshes.mesh_files.write_obj", "an OBJ", options=("space",), silent="codes"),
        "glb": Format(".glb", "meshes.mesh_files.write_glb", "a GLB", options=("space",)),
        "png": Format(".png", "pictures.picture_write.write_png", "a PNG", axes=_FLAT, layers=False, silent=_NAMES),
        "coco": Format(
            ".coco.json", "pictures.coco.write_coco", "a COCO file", also=(".json",), axes=_FLAT, source="taken",
            options=("shape",),
            silent=_CODES,
        ),
        "rle": Format(".rle.json", "pictures.rle.write_rle", "an RLE file", axes=_FLAT, silent=_CODES),
        "yolo": Format(".yolo.txt", "pictures.yolo.write_yolo", "a YOLO label file", also=(".txt",), axes=_FLAT, silent=_NAMES),
    }
)  # fmt: skip
"""Name -> format: what `write`, ``voxelry predict --format`` and ``voxelry convert`` know."""
