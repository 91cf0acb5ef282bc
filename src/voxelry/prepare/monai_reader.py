"""Our readers inside any MONAI pipeline: ``LoadImaged(keys, reader=VoxelryReader())``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from numpy.typing import NDArray

from voxelry.read.reader import read
from voxelry.volume import Volume


class VoxelryReader(ImageReader):  # type: ignore[misc]
    """MONAI `ImageReader` that reads whatever `voxelry.read` reads, geometry checked.

    MONAI gets a channel-first array, ``original_channel_dim`` 0, and the RAS+ affine. MONAI's own readers for DICOM sort by
    InstanceNumber and for pictures turn rows into columns; here positions decide, and pictures stay ``(rows, cols)``.
    """

    def verify_suffix(self, filename: Sequence[Any] | Any) -> bool:  # noqa: ARG002
        """True: files are recognised by content, not by name."""
        return True

    def read(self, data: Sequence[Any] | Any, **kwargs: Any) -> Volume | list[Volume]:  # noqa: ARG002
        """Read one path, or several.

        Args:
            data: a path or a sequence of paths.
            kwargs: none are known.

        Raises:
            ReadError: a file cannot be read.
        """
        paths = [data] if isinstance(data, str | Path) else list(data)
        volumes = [read(path) for path in paths]
        return volumes if len(volumes) > 1 else volumes[0]

    def get_data(self, img: Volume | list[Volume]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Array and metadata as MONAI wants them.

        Args:
            img: what `read` returned; several volumes are joined along the channels.

        Returns:
            ``(C, *spatial)`` float32, and ``affine``, ``original_affine``, ``spatial_shape``, ``original_channel_dim``,
            ``filename_or_obj``, ``space``.
        """
        volumes = img if isinstance(img, list) else [img]
        geometry = volumes[0].geometry
        affine = np.eye(4) if geometry.affine is None else np.array(geometry.affine)
        array = np.concatenate([volume.array for volume in volumes]).astype(np.float32)
        return array, {
            "affine": affine,
            "original_affine": affine.copy(),
            "spatial_shape": np.array(geometry.shape),
            "original_channel_dim": 0,
            "filename_or_obj": volumes[0].source.name,
            "space": "RAS",
        }
