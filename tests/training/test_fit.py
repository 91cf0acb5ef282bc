"""What is looked at between preparation and the first step."""

import gzip
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from helpers.kidneys import config, kidneys, run
from voxelry.datasets.cases import Case
from voxelry.errors import SplitLeakError
from voxelry.training.fit import FEW_STEPS, _warn_of_few_steps


@pytest.fixture
def manifest(tmp_path):
    return kidneys(tmp_path)


def copied(manifest, how):
    """The set, with the first training image among the validation cases as well, in another file."""
    case = manifest.cases[0]
    file = manifest.root / "copy.nii.gz"
    if how == "compressed anew":
        file.write_bytes(gzip.compress(gzip.decompress(case.images[0].read_bytes()), 1))
    else:
        stored = nibabel.load(case.images[0])
        nibabel.save(nibabel.Nifti1Image(np.asarray(stored.dataobj).astype(np.float32), stored.affine), file)
    shutil.copy(case.labels, manifest.root / "copy_seg.nii.gz")
    copy = Case("copy", (file,), labels=manifest.root / "copy_seg.nii.gz", group="copy", split="val")
    return replace(manifest, cases=(*manifest.cases, copy))


@pytest.mark.parametrize("how", ["compressed anew", "as floats"])
def test_an_image_that_is_learnt_is_not_validated_on(how, manifest, tmp_path):
    with pytest.raises(SplitLeakError, match=r"'case0' \(training\) and 'copy' \(validation\) are the same image\. Delete one"):
        run(copied(manifest, how), tmp_path / "run", config(steps=1))
    assert not (tmp_path / "run" / "model").exists()


def test_a_time_budget_that_preparation_uses_up_is_warned_of(manifest, tmp_path, caplog):
    run(manifest, tmp_path / "run", config(steps=None, time_budget=1e-3, validations=1))
    assert "the time budget of 0.001 s is over before training begins: reading and preparing took" in caplog.text
    caplog.clear()
    run(manifest, tmp_path / "other", config(steps=2, validations=1))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("budget", "steps", "asked", "is_warned"),
    [
        (60.0, FEW_STEPS - 1, None, True), (60.0, 2, 40, True), (60.0, FEW_STEPS, None, False), (60.0, 3, 3, False),
        (60.0, 1, None, False), (None, 3, 3, False), (60.0, 400, 500, False),
    ],
)  # fmt: skip
def test_a_time_budget_of_few_steps_is_warned_of(budget, steps, asked, is_warned, caplog):
    """One step has a warning of its own, before it is trained."""
    _warn_of_few_steps(config(steps=asked, time_budget=budget, epochs=None if asked or budget else 1), steps, asked)
    assert (f"only {steps} steps fitted the time budget of 60 s" in caplog.text) == is_warned == bool(caplog.text)
