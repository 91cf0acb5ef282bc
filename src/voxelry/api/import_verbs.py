"""The public verb that takes in models of other tools, `voxelry.import_model`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.errors import UsageError, nearest

if TYPE_CHECKING:
    from voxelry.core.model import Model

__all__ = ["import_model"]

PathLike = str | os.PathLike[str]

KINDS = ("nnunet", "bundle")
"""Tools whose models can be imported."""


def import_model(
    kind: str,
    folder: PathLike,
    out: PathLike,
    *,
    folds: Sequence[str | int] = (),
    orientation: str | None = None,
    trust: bool = False,
) -> tuple[Model, ...]:
    """Make a model folder of a model that another tool trained; nothing in its files is run, unless you trust them.

    ``nnunet`` takes a results folder of nnU-Net v2 (``TRAINER__PLANS__CONFIGURATION``): one configuration with all its folds,
    which become an ensemble; the second stage of a cascade brings its first stage, whose folder lies beside. The model segments
    as nnU-Net does: the same labels on at least 99.9 % of the voxels.

    ``bundle`` takes a MONAI Bundle, a folder or a zip archive: its network, preprocessing, inferer and postprocessing become a
    plan; the card lists what differs. One that asks for code is refused.

    Args:
        kind: ``nnunet`` or ``bundle``.
        folder: what the other tool wrote.
        out: the model folder to write; it must not exist.
        folds: of nnU-Net, names of the folds, as ``0`` or ``all``; all numbered ones where empty, or else ``all``.
        orientation: axis codes that every training scan had, such as ``RAS``, if scans to come may be stored otherwise. None
            takes scans as they are stored, as nnU-Net does. Of nnU-Net alone.
        trust: let MONAI run the expressions of a bundle that the import needs.

    Returns:
        The models, as `voxelry.networks.load_models` gives them.

    Raises:
        UsageError: an unknown kind, an option of another kind, or `out` exists.
        ModelError: nothing that can be imported; it says why.

    Example:
        >>> from pathlib import Path
        >>> import voxelry
        >>> from voxelry.exchange.nnunet_export import write_results
        >>> from voxelry.networks import load_models
        >>> from voxelry.phantom import coarse_acquisition, write_phantoms
        >>> coarse = coarse_acquisition("torso-ct")
        >>> manifest = write_phantoms("phantoms", "torso-ct", 2, format="nifti", val=1, acquisition=coarse)
        >>> recipe = Path("recipe.yaml")
        >>> _ = recipe.write_text(f"{{manifest: {manifest}, steps: 1, validations: 1, device: cpu}}")
        >>> _ = voxelry.train(recipe, "run")
        >>> folder = write_results(load_models("run/model"), Path("results"))  # as nnU-Net writes it
        >>> folder.name
        'nnUNetTrainer__nnUNetPlans__3d_fullres'
        >>> [model] = voxelry.import_model("nnunet", folder, "imported")
        >>> len(model.labels), model.plan.convention
        (6, 'nnunet')
    """
    from voxelry.exchange.bundle_import import import_bundle
    from voxelry.exchange.nnunet_import import import_results
    from voxelry.networks.weights import save_ensemble, save_model

    if kind not in KINDS:
        raise UsageError(f"no kind '{kind}' of models to import", remedy=nearest(kind, KINDS))
    target = Path(out)
    if target.exists():
        raise UsageError(f"{target}: is there already", remedy="Name a new folder, or remove this one.")
    if kind == "bundle":
        if folds or orientation:
            raise UsageError("folds or an orientation beside a bundle, which has its own", remedy="Leave them out.")
        models = import_bundle(Path(folder), trust)
    else:
        if trust:
            raise UsageError("trust beside nnU-Net's files, in which nothing is run", remedy="Leave it out.")
        models = import_results(Path(folder), [str(fold) for fold in folds], orientation)
    return (save_model(models[0], target),) if len(models) == 1 else save_ensemble(models, target)
