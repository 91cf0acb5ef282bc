"""The public verb that takes in models of other tools, `voxelry.import_model`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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
    folder: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    folds: Sequence[str | int] = (),
    orientation: str | None = None,
    labels: PathLike | Mapping[int, str] | None = None,
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
        folder: what the other tool wrote; several folders of nnU-Net are parts of one model, which each give some of its labels.
        out: the model folder to write; it must not exist.
        folds: of nnU-Net, names of the folds, as ``0`` or ``all``; all numbered ones where empty, or else ``all``.
        orientation: axis codes that every training scan had, such as ``RAS``, if scans to come may be stored otherwise. None
            takes scans as they are stored, as nnU-Net does. Of nnU-Net alone.
        labels: of several parts value -> name of all labels, or a JSON or YAML file of it; parts give labels by name. Where two
            parts give a voxel a label, the later folder's counts.
        trust: let MONAI run the expressions of a bundle that the import needs.

    Returns:
        The models, as `voxelry.networks.load_models` gives them.

    Raises:
        UsageError: an unknown kind, an option of another kind, `out` exists, or several folders without `labels`.
        ModelError: nothing that can be imported; it says why.

    Example:
        >>> from pathlib import Path
        >>> import voxelry
        >>> from voxelry.core import Model, ModelCard
        >>> from voxelry.exchange.nnunet_export import write_results
        >>> from voxelry.networks import build_network
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.planning import make_fingerprint, make_plan
        >>> from voxelry.recipes import PlanSettings
        >>> scan, labels = small_phantom().volume, small_phantom().labels
        >>> fingerprint = make_fingerprint([lambda: (scan, labels)], ("CT",), "CT", labels.table)
        >>> plan = make_plan(fingerprint, PlanSettings(features=(4, 8, 8))).model_copy(update={"instances": None})
        >>> card = ModelCard(name="torso", version="0", labels=labels.table, fingerprint=fingerprint)
        >>> network = build_network(plan, classes=len(labels.table) + 1)
        >>> weights = {name: weight.detach() for name, weight in network.named_parameters()}
        >>> folder = write_results([Model(plan, card, weights)], Path("results"))  # as nnU-Net writes it
        >>> folder.name
        'nnUNetTrainer__nnUNetPlans__3d_fullres'
        >>> [model] = voxelry.import_model("nnunet", folder, "imported")
        >>> len(model.labels) == len(labels.table), model.plan.convention
        (True, 'nnunet')
    """
    from voxelry.exchange.bundle_import import import_bundle
    from voxelry.exchange.nnunet_import import import_results
    from voxelry.exchange.nnunet_parts import import_parts
    from voxelry.networks.weights import save_ensemble, save_model

    if kind not in KINDS:
        raise UsageError(f"no kind '{kind}' of models to import", remedy=nearest(kind, KINDS))
    target = Path(out)
    if target.exists():
        raise UsageError(f"{target}: is there already", remedy="Name a new folder, or remove this one.")
    folders = [Path(folder)] if isinstance(folder, str | os.PathLike) else [Path(each) for each in folder]
    if labels is None and len(folders) != 1:
        raise UsageError(f"{len(folders)} folders without labels", remedy="Give labels: the value and name of each of the whole.")
    if kind == "bundle":
        if folds or orientation or labels is not None:
            raise UsageError("folds, labels or an orientation beside a bundle, which has its own", remedy="Leave them out.")
        models = import_bundle(folders[0], trust)
    else:
        if trust:
            raise UsageError("trust beside nnU-Net's files, in which nothing is run", remedy="Leave it out.")
        names = list(dict.fromkeys(map(str, [folds] if isinstance(folds, int | str) else folds)))
        if labels is None:
            models = import_results(folders[0], names, orientation)
        else:
            models = import_parts(folders, labels if isinstance(labels, Mapping) else Path(labels), names, orientation)
    return (save_model(models[0], target),) if len(models) == 1 else save_ensemble(models, target)
