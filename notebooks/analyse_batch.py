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
# # Analyse a batch
#
# After `predict`: the table of measurements, plots, agreement with references, and which cases to look at first.
#
# **Your own data**: everything below the model needs only the output folder of `vx.predict` (or `voxelry predict`);
# put yours where `masks` is. The model here was trained for seconds, so its volumes are rough. Research use, not a
# medical device.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl

import voxelry as vx
from voxelry.phantom import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

work = Path(tempfile.mkdtemp(prefix="voxelry-batch-"))
coarse = replace(ACQUISITIONS["torso-ct"], spacing=(8.0, 8.0, 10.0))
manifest = write_phantoms(work / "data", "torso-ct", 11, format="nifti", val=1, test=6, acquisition=coarse)
recipe = work / "recipe.yaml"
recipe.write_text("""\
manifest: data/manifest.yaml
steps: 50
validations: 1
plan:
  features: [8, 16, 32]
""")
model = vx.train(recipe, work / "run").path

# %%
masks = work / "masks"
tests = [work / "data" / "images" / f"torso_{case:03d}.nii.gz" for case in range(5, 11)]
outcomes = vx.predict(model, tests, masks, workers=0)
sorted(path.name for path in masks.iterdir() if not path.name.startswith("."))

# %% [markdown]
# ## The table
#
# `measurements.parquet` (and `.csv`) has a row for each label and instance of each case: volume, shape, intensities,
# place. Units are in the names of the columns.

# %%
table = pl.read_parquet(masks / "measurements.parquet")
table.select("case", "label", "volume_mm3", "sphericity", "intensity_median", "intensity_unit", "touches_border").head(8)

# %%
(
    table.group_by("label", maintain_order=True).agg(
        cases=pl.col("volume_mm3").count(),
        median_ml=(pl.col("volume_mm3") / 1000).median().round(1),
        least_ml=(pl.col("volume_mm3") / 1000).min().round(1),
        largest_ml=(pl.col("volume_mm3") / 1000).max().round(1),
        median_hu=pl.col("intensity_median").median(),
    )
)

# %%
vx.plot.volumes([vx.read_labels(masks / f"{outcome.id}.nii.gz") for outcome in outcomes])

# %% [markdown]
# ## Outliers
#
# A volume far from the median of its label, by the median absolute deviation: with few cases a hint, no verdict.

# %%
deviation = (pl.col("volume_mm3") - pl.col("volume_mm3").median()).abs()
(
    table.filter(pl.col("volume_mm3") > 0)
    .with_columns(score=(deviation / deviation.median().clip(lower_bound=1)).over("label"))
    .sort("score", descending=True)
    .select("case", "label", "volume_mm3", "score")
    .head(5)
)

# %% [markdown]
# ## Agreement with references
#
# Where there are references: scores of each case and label, and how volumes agree (Bland and Altman).

# %%
scores = vx.evaluate(manifest, masks)
vx.plot.scores(scores)

# %%
from voxelry.datasets import load_manifest

names = load_manifest(manifest).card.table


def liver_ml(folder: Path, labels: vx.LabelTable | None = None) -> list[float]:
    maps = [vx.read_labels(folder / f"{outcome.id}.nii.gz", labels) for outcome in outcomes]
    return [next(row.volume_mm3 for row in vx.measure_labels(each) if row.label.name == "liver") / 1000 for each in maps]


vx.plot.bland_altman(liver_ml(work / "data" / "labels", names), liver_ml(masks), unit="ml")

# %% [markdown]
# ## Quality without references
#
# Each case has a predicted Dice and, in words, what is unlike the training cases. `qc` sorts by doubt, and writes
# `review.csv` and contact sheets beside the masks.

# %%
for case in vx.qc(masks):
    print(f"{case.id}: doubt {case.doubt:.2f}", *case.flags, sep="\n    ")

# %%
from IPython.display import Image

Image(masks / "qc" / "sheet_001.png")
