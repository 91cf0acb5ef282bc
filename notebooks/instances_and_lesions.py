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
# # Instances and lesions
#
# Lesions are countable: each has an id, a size, a place. Count and measure them, look at them, and score a prediction
# lesion by lesion.
#
# **Your own data**: put your scan where `scan` is and your mask where `mask` is; `voxelry predict --task panoptic`
# writes masks with ids. Research use, not a medical device.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

import voxelry as vx
from voxelry.metrics import measurement_rows
from voxelry.phantom import dated_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

LESION = 6
finer = replace(ACQUISITIONS["torso-ct"], spacing=(5.0, 5.0, 6.0))
work = Path(tempfile.mkdtemp(prefix="voxelry-lesions-"))
[examination], _ = dated_phantoms(3, dates=1, acquisition=finer, fates=("stay", "grow", "shrink", "stay"))
phantom = examination.phantom
scan = phantom.volume
mask = vx.write(replace(phantom.labels, instances=None), work / "mask.nii.gz")

# %% [markdown]
# ## Ids
#
# In the table of labels a lesion is of kind `thing`: countable. The mask has no ids, so its connected components are
# the lesions; a mask with ids, or a map of ids beside it, is read as it is.

# %%
reference = vx.read_labels(mask, phantom.labels.table, instances="components")
[(label.name, label.kind) for label in reference.table.labels]

# %%
lesions = [segment for segment in vx.segments_info(reference) if segment.label.name == "liver_lesion"]
for lesion in lesions:
    print(f"{lesion.id}: {lesion.volume_mm3 / 1000:.1f} ml at {[round(mm) for mm in lesion.centroid_mm]} mm")

# %%
vx.plot.instances(scan, reference)

# %% [markdown]
# ## Measures
#
# A row for each lesion: volume, RECIST axes, shape, intensities in HU.

# %%
rows = pl.DataFrame([row for row in measurement_rows(reference, scan) if row["label"] == "liver_lesion"])
rows.select("instance", "volume_mm3", "long_axis_mm", "short_axis_mm", "sphericity", "intensity_mean", "intensity_unit")

# %% [markdown]
# ## Scoring lesion by lesion
#
# A prediction that misses the smallest lesion and invents one in the spleen. The Dice of all lesions' voxels hardly
# moves: counting shows what happened.

# %%
smallest = min(lesions, key=lambda lesion: lesion.voxels)
array = reference.array.copy()
array[reference.instances[0] == smallest.id] = 1  # liver, where the lesion was
spleen = np.argwhere(array == 2)
middle = spleen[len(spleen) // 2]
array[tuple(slice(at - 1, at + 1) for at in middle)] = LESION
predicted_file = vx.write(replace(reference, layers=array[None], instances=None), work / "prediction.nii.gz")
predicted = vx.read_labels(predicted_file, reference.table, instances="components")

scores = vx.evaluate(reference, predicted, metrics=["overlap", "instances"])
column = scores.labels.index("liver_lesion")
print(f"Dice of the voxels: {scores.dice[0, column]:.2f}")
for name, values in scores.measures.items():
    if np.isfinite(values[0, column]):
        print(f"{name}: {values[0, column]:.3g}")

# %%
assert scores.measures["instance_fp"][0, column] == 1
assert scores.measures["instance_fn"][0, column] == 1
