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
# # Segment a folder of DICOM
#
# A folder as an archive exports it: patients, series, files that are no scans, and one scan with a missing slice.
# Segment what can be segmented, learn why the rest was not, and go on after an interruption.
#
# **Your own data**: put your folder where `archive` is, and the folder of your model (`runs/x/model`) where `model`
# is. Research use, not a medical device.

# %%
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import voxelry as vx
from voxelry.phantom import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

work = Path(tempfile.mkdtemp(prefix="voxelry-dicom-"))
coarse = replace(ACQUISITIONS["torso-ct"], spacing=(8.0, 8.0, 10.0))
manifest = write_phantoms(work / "data", "torso-ct", 7, val=1, test=3, acquisition=coarse)

archive = work / "archive"
shutil.copytree(work / "data" / "images" / "torso_004", archive / "anna" / "ct")
shutil.copytree(work / "data" / "images" / "torso_005", archive / "ben" / "ct")
shutil.copytree(work / "data" / "images" / "torso_006", archive / "carl" / "ct")
slices = sorted((archive / "carl" / "ct").iterdir())
slices[len(slices) // 2].unlink()  # a slice that never arrived
(archive / "README.txt").write_text("exported on Monday")

# %% [markdown]
# ## What is in it?
#
# `inspect` lists every volume of a tree without decoding a pixel; patients get pseudonyms.

# %%
rows = vx.inspect(archive)
for row in rows:
    print(f"{row.path}: {row.kind} {row.patient} {row.modality} {row.shape} {row.reason}")

# %% [markdown]
# ## A model
#
# Trained here for seconds on four synthetic scans; take yours.

# %%
recipe = work / "recipe.yaml"
recipe.write_text("""\
manifest: data/manifest.yaml
steps: 40
validations: 1
plan:
  features: [8, 16, 32]
""")
model = vx.train(recipe, work / "run").path

# %% [markdown]
# ## Segment
#
# The scan with the missing slice is refused, with the reason; the others go on. Masks are written as NIfTI and as
# DICOM SEG, which refers to the slices of its scan.

# %%
outcomes = vx.predict(model, archive, work / "masks", formats=["nifti", "dicom-seg"], workers=0)
for outcome in outcomes:
    print(outcome.id, "->", outcome.error or ", ".join(path.name for path in outcome.files.values()))
assert sum(bool(outcome.error) for outcome in outcomes) == 1

# %% [markdown]
# The same call again does only what is left: what is done stays done. So it is after a power cut, too. `vx.status`
# tells how far a run is, from any process.

# %%
again = vx.predict(model, archive, work / "masks", formats=["nifti", "dicom-seg"], workers=0)
assert sum(outcome.is_earlier for outcome in again) == 2
vx.status(work / "masks", export=work / "cases.csv").counts

# %% [markdown]
# ## Allow a repair
#
# A missing slice can be interpolated, if you say so; the mask's remarks keep it on record.

# %%
repaired = vx.predict(model, archive / "carl", work / "repaired", repair="gap", workers=0)
print(*repaired[0].remarks, sep="\n")

# %% [markdown]
# ## Look
#
# A page with failures, flags, the most doubtful scans first, and a viewer.

# %%
vx.report(work / "masks").name

# %%
scan = vx.read(archive / "anna" / "ct")
vx.plot.overlay(scan, vx.read_labels(outcomes[0].files["nifti"]), title="anna")
