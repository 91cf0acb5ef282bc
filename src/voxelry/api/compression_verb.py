"""The public verb of compression, `voxelry.compress`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.api.training_verbs import changed_keys, check_budget, names_length, trained
from voxelry.base.notebook_progress import shows_progress
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, StepCallback, no_progress, no_step
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import UsageError
from voxelry.recipes.recipe import changed, load_config

if TYPE_CHECKING:
    from voxelry.training.compression import Compression

__all__ = ["compress"]

PathLike = str | os.PathLike[str]


@shows_progress
def compress(
    model: PathLike,
    out: PathLike,
    *,
    recipe: PathLike | None = None,
    changes: Sequence[str] = (),
    time_budget: float | None = None,
    resume: bool = False,
    root: PathLike | None = None,
    progress: ProgressCallback = no_progress,
    on_step: StepCallback = no_step,
) -> Compression:
    """Train a smaller, faster model, the student, from a model or an ensemble and the references (distillation).

    The student has the teacher's plan with half of the channels in each stage, is one network however many the teacher has, and
    mirrors nothing at inference. Both are compared on the ``val`` cases: Dice, time of a case, size.

    Args:
        model: folder of the teacher, or a name of `models`: one network or an ensemble, all of one way to prepare scans.
        out: the run's folder; the student is written to its ``model``, the comparison to ``compression.json``.
        recipe: the recipe; by default the one beside the model, as training leaves it.
        changes: ``KEY=VALUE`` changes of the recipe; ``plan.features`` and ``flips`` are the student's own.
        time_budget: seconds of preparation and training, in place of the recipe's length.
        resume: continue the run in `out`.
        root: folder that the manifest's relative paths start from.
        progress: called as ``progress(what, done, total)``.
        on_step: called at every step with its loss, pseudo-Dice and time left.

    Returns:
        The student and the comparison.

    Raises:
        UsageError: a time budget not above 0, another key of the plan, or `out` already holds a run.
        ModelError: the model cannot be used, or no recipe lies beside it.
        ConfigError: the recipe cannot be used, or the teacher's patches are others than the student's.
        ManifestError: the dataset cannot be used.
        TrainingError: training cannot start or continue.

    Example:
        >>> from pathlib import Path
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "chest-xray", 2, format="png", val=1)
        >>> recipe = (
        ...     "{manifest: data/manifest.yaml, steps: 2, validations: 1, device: cpu, "
        ...     "plan: {patch_size: [32, 32], features: [8, 16], batch_size: 1}}"
        ... )
        >>> _ = Path("recipe.yaml").write_text(recipe)
        >>> _ = voxelry.train("recipe.yaml", "run")
        >>> student = voxelry.compress("run/model", "student")
        >>> student.path.as_posix(), student.training.model.plan.network.features
        ('student/model', (4, 8))
    """
    from voxelry.api.report_verb import leave_report
    from voxelry.networks.weights import load_models
    from voxelry.training.compression import (
        TEACHER_FOLDER,
        Compression,
        compare_with_teacher,
        recorded_recipe_of,
        student_plan,
        student_recipe,
    )
    from voxelry.training.options import RunOptions
    from voxelry.training.run_files import COMPRESSION_FILE
    from voxelry.zoo.model_names import find_model

    teacher = find_model(model)
    teachers = load_models(teacher)
    keys = changed_keys(changes)
    others = sorted(key for key in keys if key.startswith("plan.") and key != "plan.features")
    if others:
        raise UsageError(f"'{others[0]}' is set, but a student keeps its teacher's plan", remedy="Set plan.features alone.")
    config = load_config(recipe or recorded_recipe_of(teacher), tuple(changes))
    if time_budget is not None:
        check_budget(time_budget)
        config = changed(config, time_budget=time_budget)
    features = config.plan.features if "plan.features" in keys else None
    plan = student_plan(teachers, features, config.flips if "flips" in keys else ())
    options = RunOptions(
        student_recipe(config, teacher, plan),
        load_manifest(config.manifest, root),
        resume=resume,
        plan=plan,
        names_length=names_length(changes, None, time_budget),
        progress=progress,
        on_step=on_step,
    )
    result = trained(options, Path(out))
    with OutputFolder(Path(out), "compress").writing([Path(out) / name for name in (COMPRESSION_FILE, TEACHER_FOLDER)]):
        comparison = compare_with_teacher(options, teachers, result, Path(out))
    leave_report(out, manifest=options.manifest, progress=progress)
    return Compression(result, comparison)
