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
# # Compare two models
#
# Is B better than A? Score both on the same cases, test the paired differences, correct for the number of labels, and
# say how sure it is.
#
# Both models are trained for seconds on synthetic scans, B four times as long as A. Research use, not a medical
# device.
#
# **Your own data**: `vx.compare` takes two `Scores`, or two files that `voxelry evaluate --out` wrote, of any two
# models: also of masks that another program made. Put those where `scores_a` and `scores_b` are.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import voxelry as vx
from voxelry.phantom import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

work = Path(tempfile.mkdtemp(prefix="voxelry-compare-"))
coarse = replace(ACQUISITIONS["torso-ct"], spacing=(8.0, 8.0, 10.0))
manifest = write_phantoms(work / "data", "torso-ct", 13, format="nifti", val=1, test=8, acquisition=coarse)
tests = [work / "data" / "images" / f"torso_{case:03d}.nii.gz" for case in range(5, 13)]

# %%
for name, steps in (("a", 15), ("b", 60)):
    recipe = work / f"{name}.yaml"
    recipe.write_text(f"""\
manifest: data/manifest.yaml
steps: {steps}
validations: 1
plan:
  features: [8, 16, 32]
""")
    model = vx.train(recipe, work / f"run_{name}").path
    vx.predict(model, tests, work / f"masks_{name}", workers=0)

scores_a, scores_b = (vx.evaluate(manifest, work / f"masks_{name}") for name in "ab")
print(f"mean Dice: A {scores_a.mean_dice:.2f}, B {scores_b.mean_dice:.2f}")

# %% [markdown]
# ## The test
#
# Differences are paired by case and averaged within a patient. The interval is a bootstrap of patients; p comes from
# a permutation test (or Wilcoxon's) and is corrected by Holm for the number of labels. Without enough evidence there
# is no winner.

# %%
rows = vx.compare(scores_a, scores_b, metrics=["dice"])
for row in rows:
    interval = f"[{row.low:+.2f}, {row.high:+.2f}]"
    print(f"{row.label}: {row.difference:+.2f} {interval}, corrected p {row.p_corrected:.3f}, winner: {row.winner}")

# %%
vx.plot.compare(rows, names=("15 steps", "60 steps"))

# %% [markdown]
# With 8 cases a permutation test cannot give a p below 2 / 2^8 = 0.008: a small set of test cases can hide a real
# difference, and no test makes up for it. The same model against itself has no winner:

# %%
same = vx.compare(scores_b, scores_b, metrics=["dice"])
assert all(row.difference == 0 and row.winner == "neither" for row in same)

# %% [markdown]
# ## A page to send
#
# `report` of two sets of scores writes the comparison into one HTML page.

# %%
from voxelry.cohort import write_scores

write_scores(scores_a, work / "scores_a")
write_scores(scores_b, work / "scores_b")
vx.report(work / "scores_a", work / "scores_b").name
