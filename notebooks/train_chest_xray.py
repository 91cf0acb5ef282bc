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
# # Train on chest X-rays
#
# Lungs in synthetic chest radiographs: describe a dataset, plan, train, look at the curves, score the test cases.
#
# The network is trained for seconds on a few pictures: the scores say that the steps work, nothing about accuracy.
# Research use, not a medical device.
#
# **Your own data** go where `manifest` is: a YAML file that names pictures (DICOM, PNG, TIFF...) and masks, see
# `docs/reference/manifests.md`. Everything else on this page stays.

# %%
import tempfile
from pathlib import Path

import voxelry as vx
from voxelry.phantom import coarse_acquisition, write_phantoms

work = Path(tempfile.mkdtemp(prefix="voxelry-chest-"))
manifest = write_phantoms(
    work / "data", "chest-xray", 8, format="png", val=1, test=3, acquisition=coarse_acquisition("chest-xray")
)
print(manifest.read_text()[:900])

# %% [markdown]
# ## Check
#
# `check` opens every case: shapes, values that the card does not name, empty masks, one picture in two splits. No
# line means no problem.

# %%
vx.check(manifest)

# %% [markdown]
# Radiographs know their pixel size or do not: 1 mm is never assumed. Polarity (is bone bright?) is read from DICOM;
# of a PNG it can be stated by `vx.read(path, polarity=...)`.

# %%
picture = vx.read(work / "data" / "images" / "chest_000.png")
picture

# %% [markdown]
# ## Plan and train
#
# What the recipe leaves out is planned. On real radiographs leave `plan` and `steps` away and give `time_budget: 2h`:
# the planner takes nnU-Net's rules on a GPU and smaller networks on a CPU.

# %%
recipe = work / "recipe.yaml"
recipe.write_text("""\
manifest: data/manifest.yaml
steps: 50
validations: 2
plan:
  features: [8, 16, 32]
""")
run = vx.train(recipe, work / "run")
for reason in run.model.plan.reasons:
    print("-", reason)

# %%
vx.plot.learning(work / "run")

# %% [markdown]
# ## Segment the test cases and score them

# %%
outcomes = vx.predict(
    work / "run" / "model",
    [work / "data" / "images" / f"chest_{case:03d}.png" for case in range(5, 8)],
    work / "masks",
    workers=0,
)
assert not any(outcome.error for outcome in outcomes)
scores = vx.evaluate(manifest, work / "masks", metrics=["surface_pixels"])
scores

# %%
vx.plot.scores(scores, metric="dice")

# %%
from voxelry.datasets import load_manifest

table = load_manifest(manifest).card.table
picture = vx.read(work / "data" / "images" / "chest_005.png")
mask = vx.read_labels(work / "masks" / "chest_005.nii.gz")
reference = vx.read_labels(work / "data" / "labels" / "chest_005.png", table)
vx.plot.contours(picture, mask, reference=reference, title="chest_005: prediction, reference dashed")

# %% [markdown]
# ## One page of the run
#
# `report` writes curves, scores and a viewer into one HTML page, which opens by double click.

# %%
vx.report(work / "run", masks=work / "masks").name
