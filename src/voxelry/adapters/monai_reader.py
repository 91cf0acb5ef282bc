"""voxelry's readers in a MONAI pipeline: ``LoadImaged(keys, reader=VoxelryReader())``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from numpy.typing import NDArray

from voxelry.core.volume import Volume
from voxelry.datasets.channels import read_channels


class VoxelryReader(ImageReader):  # type: ignore[misc]
    """A MONAI `ImageReader` for every format that `voxelry.read` reads, with the geometry checked.

    MONAI gets a channel-first array, ``original_channel_dim`` 0, and the RAS+ affine. MONAI's own readers for DICOM sort by
    InstanceNumber and for pictures turn rows into columns; here slices are sorted by position, and pictures stay
    ``(rows, cols)``.

    Example:
        >>> import numpy as np
        >>> import voxelry as vx
        >>> grid, table = vx.Geometry.from_spacing((4, 5, 6), (1, 1, 2)), vx.LabelTable.numbered([1])
        >>> labels = vx.LabelMap.of(np.ones((4, 5, 6), np.uint8), grid, table)
        >>> _ = vx.write(labels, "liver.nii.gz")
        >>> reader = VoxelryReader()
        >>> array, meta = reader.get_data(reader.read("liver.nii.gz"))
        >>> array.shape, meta["space"]
        ((1, 4, 5, 6), 'RAS')
    """

    def verify_suffix(self, filename: Sequence[Any] | Any) -> bool:  # noqa: ARG002
        """True: files are recognised by content, not by name."""
        return True

    def read(self, data: Sequence[Any] | Any, **kwargs: Any) -> Volume:  # noqa: ARG002
        """Read one path, or one for each channel of an image.

        Args:
            data: a path or a sequence of paths.
            kwargs: ignored.

        Raises:
            ReadError: a file cannot be read.
            GridMismatchError: the channels lie on different grids.
        """
        return read_channels([data] if isinstance(data, str | Path) else list(data))

    def get_data(self, img: Volume) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Array and metadata as MONAI expects them.

        Args:
            img: returned by `read`.

        Returns:
            ``(C, *spatial)`` float32, and ``affine``, ``original_affine``, ``spatial_shape``, ``original_channel_dim``,
            ``filename_or_obj``, ``space``.
        """
        affine = np.eye(4) if img.geometry.affine is None else np.array(img.geometry.affine)
        return img.array.astype(np.float32), {
            "affine": affine,
            "original_affine": affine.copy(),
            "spatial_shape": np.array(img.geometry.shape),
            "original_channel_dim": 0,
            "filename_or_obj": img.source.name,
            "space": "RAS",
        }
