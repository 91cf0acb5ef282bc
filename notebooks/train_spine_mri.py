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
# # Train on MRI
#
# Vertebrae and discs in synthetic Dixon MRI of the lumbar spine: four channels of a sagittal slab, ten labels that
# look alike.
#
# The network is trained for seconds on coarse scans: the scores say that the steps work, nothing about accuracy.
# Research use, not a medical device.
#
# **Your own data** go where `manifest` is: `channels: [T1, T2]` and one file pattern for each channel, see
# `docs/reference/manifests.md`. Channels on other grids are brought onto a reference channel that the card names.

# %%
import tempfile
from pathlib import Path

import voxelry as vx
from voxelry.datasets import load_manifest
from voxelry.phantom import coarse_acquisition, write_phantoms

work = Path(tempfile.mkdtemp(prefix="voxelry-spine-"))
manifest = write_phantoms(
    work / "data", "spine-mri", 6, format="nifti", val=1, test=1, acquisition=coarse_acquisition("spine-mri")
)
vx.check(manifest)

# %%
dataset = load_manifest(manifest)
dataset

# %% [markdown]
# ## The plan
#
# MRI has no unit: each channel is normalised by its own mean and deviation. Thick slices are not interpolated. The
# plan says why.

# %%
fingerprint, plan = vx.plan(manifest)
for reason in plan.reasons:
    print("-", reason)

# %% [markdown]
# ## Train
#
# `estimate` tells parameters, memory and time before anything is written. On real data leave `steps` and `plan` away
# and give `time_budget: 12h`; `voxelry train --folds 5` cross-validates.

# %%
recipe = work / "recipe.yaml"
recipe.write_text("""\
manifest: data/manifest.yaml
steps: 30
validations: 1
plan:
  features: [8, 16, 32]
""")
run = vx.train(recipe, work / "run")
vx.plot.learning(work / "run")

# %% [markdown]
# ## Segment
#
# Where the card lists `sequences`, objects of a row are named anew after the network: each vertebra once, in order.
# The prediction lies on the scan's own grid, whatever the network worked on.

# %%
case = next(case for case in dataset.cases if case.split == "test")
scan, reference = vx.read(case.images[0]), vx.read_labels(case.labels, dataset.card.table)
scan

# %%
from voxelry.datasets import read_channels

prediction = vx.load_model(work / "run" / "model").predict(read_channels(case.images))
assert prediction.labels.geometry.same_grid(scan.geometry)
vx.evaluate(reference, prediction.labels)

# %%
vx.plot.overlay(scan, prediction.labels, reference=reference, plane="sagittal", title="filled: prediction, dashed: reference")
