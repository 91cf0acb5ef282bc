# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # voxelry: quick start
#
# Make a few synthetic scans, read one, train a small U-Net, segment a scan it never saw, score it, and write the mask as NIfTI
# and DICOM SEG.
#
# The scans are coarse and the network is trained for seconds, so that the page runs anywhere in about half a minute: the scores
# below say that the steps work, nothing about accuracy. `voxelry demo` runs the same job with finer scans and more training.
#
# Research use, not a medical device.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

from IPython.display import Image
from pydicom import dcmread

import voxelry as vx
from voxelry.datasets.manifest import load_manifest
from voxelry.phantom.dataset import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS
from voxelry.reports.overlay import overlay_png

work = Path(tempfile.mkdtemp(prefix="voxelry-quickstart-"))

# %% [markdown]
# ## Scans
#
# Six synthetic torsos in CT, each a DICOM series in a folder of its own, with references as NIfTI and a manifest that lists the
# cases: four to train on, one to validate, one to test. Your own data need a manifest too: see `docs/reference/manifests.md`.

# %%
coarse = replace(ACQUISITIONS["torso-ct"], spacing=(8.0, 8.0, 10.0))
manifest = write_phantoms(work / "data", "torso-ct", 6, val=1, test=1, acquisition=coarse)
print(manifest.read_text())

# %% [markdown]
# `check` opens every case and lists what is wrong with it. An empty list means that every case can be used.

# %%
vx.check(manifest)

# %% [markdown]
# ## Reading
#
# `read` takes a file or the folder of one DICOM series, and tells formats apart by content. The header comes first; pixels are
# decoded when `.array` is asked for.

# %%
scan = vx.read(work / "data" / "images" / "torso_005")
print(scan.modality, scan.array.shape, scan.array.dtype)  # channel first: (C, columns, rows, slices)
print(scan.geometry.describe())
scan.geometry.affine  # voxel index -> millimetres, RAS+

# %% [markdown]
# The reference says what its values mean only if it is read with the manifest's table of labels.

# %%
table = load_manifest(manifest).card.table
reference = vx.read_labels(work / "data" / "labels" / "torso_005.nii.gz", table)
table.id2label

# %%
Image(overlay_png(scan, reference, work / "reference.png", title="torso_005: the reference"))

# %% [markdown]
# ## Training
#
# A recipe names the manifest and how long to train; whatever it leaves out is planned from the data or has a default
# (`docs/reference/recipes.md`). The run keeps the recipe, the plan with its reasons, checkpoints, and the model.

# %%
recipe = work / "recipe.yaml"
recipe.write_text("""\
manifest: data/manifest.yaml
steps: 100
validations: 4
plan:
  features: [8, 16, 32]
""")
run = vx.train(recipe, work / "run")

for reason in run.model.plan.reasons:
    print("-", reason)
for milestone in run.history:
    print(f"step {milestone.step}: loss {milestone.loss:.2f}, pseudo-Dice {milestone.pseudo_dice:.2f}")

# %% [markdown]
# ## Segmenting
#
# A model folder is loaded once and used for many scans. The mask lies on the scan's own grid, whatever the network worked on.

# %%
predictor = vx.load_model(work / "run" / "model")
prediction = predictor.predict(scan)

assert prediction.labels.geometry.same_grid(scan.geometry)
print(*prediction.flags, sep="\n")

# %%
Image(
    overlay_png(
        scan, prediction.labels, work / "prediction.png", reference=reference, title="torso_005: prediction, reference dashed"
    )
)

# %% [markdown]
# ## Scoring

# %%
scores = vx.evaluate(reference, prediction.labels)
print(f"mean Dice {scores.mean_dice:.2f}, mean IoU {scores.mean_iou:.2f} after {run.history[-1].step} steps")
scores.per_label

# %% [markdown]
# ## Writing
#
# NIfTI holds the mask and the names of the labels. A DICOM SEG refers to the instances of the scan, which is therefore given
# as its source.

# %%
nifti = vx.write(prediction.labels, work / "torso_005.nii.gz")
seg = vx.write(prediction.labels, work / "torso_005.seg.dcm", source=scan)

assert (vx.read_labels(nifti, table).array == prediction.labels.array).all()
[segment.SegmentLabel for segment in dcmread(seg).SegmentSequence]

# %% [markdown]
# Where to go from here: the README has the same steps on the command line, `docs/reference/manifests.md` describes datasets,
# `docs/reference/recipes.md` every key of a recipe.
