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
# # Follow lesions over dates
#
# One patient, three dates. Between them the patient lies elsewhere, lesions grow, shrink, vanish and come.
# `follow_up` registers the scans, matches the lesions, and gives each a number that stays.
#
# **Your own data**: a folder of scans and one of masks of the same names (`<patient>_<date>.nii.gz`), or DICOM, whose
# headers name patient and date; put them where `scans` and `masks` are. `voxelry predict` makes the masks. Research
# use, not a medical device.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

import voxelry as vx
from voxelry.phantom import dated_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

work = Path(tempfile.mkdtemp(prefix="voxelry-follow-up-"))
scans, masks = work / "scans", work / "masks"
coarse = replace(ACQUISITIONS["torso-ct"], spacing=(6.0, 6.0, 7.5))
dated, courses = dated_phantoms(3, dates=3, acquisition=coarse, fates=("grow", "shrink", "vanish", "come"))
for each, day in zip(dated, ("2026-01-05", "2026-04-07", "2026-07-10"), strict=True):
    vx.write(each.phantom.volume, scans / f"anna_{day}.nii.gz")
    vx.write(each.phantom.labels, masks / f"anna_{day}.nii.gz")
[course.fate for course in courses]

# %%
vx.plot.overlay(dated[0].phantom.volume, dated[0].phantom.labels, plane="axial", title="first date")

# %% [markdown]
# ## Follow
#
# `transform="affine"` is the default; a rigid one is enough for a phantom that does not breathe.

# %%
[course] = vx.follow_up(scans, work / "course", masks=masks, transform="rigid")
assert not course.error
for change in course.summary["changes"]:
    print(change["change"], change["lesions_before"], "->", change["lesions_after"])

# %% [markdown]
# ## The table
#
# A row for each lesion at each date; `lesion` is the number that stays, `change` says what happened since the date
# before.

# %%
table = pl.read_parquet(work / "course" / "follow_up.parquet")
lesions = table.filter(pl.col("lesion").is_not_null())
lesions.select("date", "days", "lesion", "change", "volume_mm3", "volume_change", "long_axis_mm")

# %%
figure, axes = plt.subplots(figsize=(5, 3))
for (number,), rows in lesions.group_by("lesion", maintain_order=True):
    axes.plot(rows["days"], rows["volume_mm3"] / 1000, "o-", label=f"lesion {number}")
axes.set(xlabel="days", ylabel="volume (ml)")
axes.legend()

# %% [markdown]
# Beside the table: the masks with the numbers of lesions as ids. Of DICOM scans they are DICOM SEG with one tracking
# UID a lesion, and an SR of all dates goes into the study of the latest (`docs/how-to/follow-up.md`).

# %%
sorted(path.relative_to(work / "course").as_posix() for path in (work / "course").rglob("*.nii.gz"))
