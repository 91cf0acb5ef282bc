"""BundlePredictor: runs the pipeline of a bundle that the caller trusts, as it is: its expressions and scripts are executed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxelry.base.device import choose_device
from voxelry.core.geometry import Geometry
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ModelError
from voxelry.exchange.bundle_config import BundleConfig, read_config
from voxelry.exchange.bundle_export import write_scan
from voxelry.exchange.bundle_import import opened_bundle, read_state, trusted_parser
from voxelry.exchange.bundle_mapping import label_table, weights_path


class BundlePredictor:
    """Segments scans by a bundle's own preprocessing, inferer and postprocessing.

    Args:
        bundle: a bundle's folder.
        trust: that the bundle's code may run; must be True.
        device: ``auto``, ``cpu``, ``cuda``...

    Raises:
        ModelError: the bundle is not trusted, or is none.

    Example:
        >>> import voxelry
        >>> from voxelry.exchange import BundlePredictor
        >>> try:
        ...     BundlePredictor("bundle", trust=False)
        ... except voxelry.VoxelryError as error:
        ...     print(error.remedy)
        Give trust=True if you trust its author, or import it by voxelry.import_model, which runs nothing.
    """

    def __init__(self, bundle: str | Path, *, trust: bool, device: str = "auto") -> None:
        if not trust:
            raise ModelError(
                f"{bundle}: a bundle's own pipeline is code",
                remedy="Give trust=True if you trust its author, or import it by voxelry.import_model, which runs nothing.",
            )
        with opened_bundle(Path(bundle)) as folder:
            config, metadata = read_config(folder, "inference"), read_config(folder, "metadata")
            if config is None or metadata is None:
                raise ModelError(f"{bundle}: no MONAI bundle (configs/inference.json and configs/metadata.json)")
            parser = trusted_parser(folder, _without_saving(config))
            self._device = choose_device(device)
            parser["device"] = str(self._device)
            self._prepare = parser.get_parsed_content("preprocessing")
            self._inferer = parser.get_parsed_content("inferer")
            self._restore = parser.get_parsed_content("postprocessing")
            self._network = parser.get_parsed_content("network_def")
            self._network.load_state_dict(read_state(folder / weights_path(config)))
        self._network = self._network.to(self._device).eval()
        outputs = metadata.tree["network_data_format"]["outputs"]["pred"]["num_channels"]
        self._tables = [label_table(metadata.tree, int(outputs), is_layered) for is_layered in (False, True)]

    def predict(self, volume: Volume) -> LabelMap:
        """Labels on the scan's own grid.

        Args:
            volume: with the bundle's channels.

        Raises:
            ModelError: the pipeline gives something else than labels on the scan's grid.
        """
        with tempfile.TemporaryDirectory(prefix="voxelry-") as place:
            write_scan(volume, Path(place) / "scan")
            files = sorted(str(path) for path in (Path(place) / "scan").iterdir())
            data = self._prepare({"image": files if len(files) > 1 else files[0]})
            with torch.inference_mode():
                data["pred"] = self._inferer(data["image"][None].to(self._device), self._network)[0].cpu()
            labels = self._restore(data)["pred"]
        array = np.rint(np.asarray(labels)).astype(np.uint16)
        table = self._tables[len(array) > 1]
        if len(array) > 1:
            array = array[-len(table) :] * np.arange(1, len(table) + 1, dtype=np.uint16).reshape(-1, *(1,) * (array.ndim - 1))
        shape = array.shape[1:]
        grid = volume.geometry if volume.geometry.affine is None else Geometry(shape, np.asarray(labels.affine, dtype=np.float64))
        if len(shape) != volume.geometry.ndim or (volume.geometry.affine is None and shape != volume.geometry.shape):
            raise ModelError(f"the bundle gives labels of shape {array.shape}, the scan's is {volume.geometry.shape}")
        return LabelMap(array, grid, table, volume.source).on_grid(volume.geometry)


def _without_saving(config: BundleConfig) -> Mapping[str, Any]:
    """The configuration without the transforms that write files."""
    after = config.raw("postprocessing")
    if not isinstance(after, Mapping) or not isinstance(after.get("transforms"), list):
        return config.tree
    kept = [step for step in after["transforms"] if "SaveImage" not in str(step.get("_target_"))]
    return {**config.tree, "postprocessing": {**after, "transforms": kept}}
