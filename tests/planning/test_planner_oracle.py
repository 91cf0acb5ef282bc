"""Plans against nnU-Net's own, which `benchmarks/planner_oracle.py` asked for (`nnunet_plans.json` says of which version)."""

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.plans import tiny_fingerprint
from voxelry.core.plan import ChannelStatistics
from voxelry.datasets.manifest import load_manifest
from voxelry.planning.planner import configurations, make_plan
from voxelry.recipes.settings import PlanSettings
from voxelry.training.setup import dataset_fingerprint, labelled_cases

KNOWN = json.loads((Path(__file__).parent / "nnunet_plans.json").read_text())
NAMES = {"2d": "2d", "3d_fullres": "3d", "3d_lowres": "3d_lowres", "3d_cascade_fullres": "3d_cascade"}
SETTINGS = {
    "plain": {"memory": "8GB"},
    "plain24": {"memory": "24GB"},
    "M": {"memory": "8GB", "network": "resenc", "preset": "M"},
    "L": {"memory": "24GB", "network": "resenc", "preset": "L"},
    "XL": {"memory": "40GB", "network": "resenc", "preset": "XL"},
}


def numbers(values):
    return tuple(float(value) for value in values)


def fingerprint_of(known):
    """Ours of a set whose cases are listed in nnU-Net's order of axes, z first."""
    shapes, spacings = (np.array(known[name], dtype=float)[:, ::-1] for name in ("shapes", "spacings"))
    extents, middle = np.sort(shapes * spacings, axis=0), len(shapes) // 2
    return tiny_fingerprint(
        cases=known["cases"],
        modality="CT",
        channels=tuple(f"channel {one}" for one in range(known["channels"])),
        statistics=(ChannelStatistics(mean=0.0, std=1.0, p005=-1.0, p995=1.0),) * known["channels"],
        label_voxels={f"label {one}": 1 for one in range(known["labels"])},
        shapes=tuple(tuple(round(float(n)) for n in row) for row in (shapes.min(0), np.median(shapes, 0), shapes.max(0))),
        spacing=numbers(np.median(spacings, 0)),
        spacing_range=(numbers(spacings.min(0)), numbers(spacings.max(0))),
        spacing_fine=numbers(np.percentile(spacings, 10, 0)),
        content_shape=numbers(np.median(shapes, 0)),
        content_extent=(numbers(extents[(len(shapes) - 1) // 2]), numbers(extents[middle])),
    )


def in_their_order(values, transpose, slices):
    moved = [values[2 - axis] for axis in transpose]
    return moved[1:] if slices else moved


def digits(rows, transpose, slices):
    return " ".join("".join(str(one) for one in in_their_order(row, transpose, slices)) for row in rows)


@pytest.mark.parametrize("asked", sorted(KNOWN["plans"]))
def test_plans_are_nnunets(asked):
    name, kind = asked.split("/")
    theirs = dict(KNOWN["plans"][asked])
    seen, transpose = fingerprint_of(KNOWN["sets"][name]), theirs.pop("transpose")
    assert set(configurations(seen, PlanSettings(**SETTINGS[kind]))) == {NAMES[one] for one in theirs}
    for configuration, told in theirs.items():
        if not told:  # nnU-Net's cascade takes what 3d_fullres has
            told = theirs["3d_fullres"]
        slices = configuration == "2d"
        plan = make_plan(seen, PlanSettings(configuration=NAMES[configuration], **SETTINGS[kind]))
        spacing = in_their_order(plan.spacing, transpose, slices)
        assert plan.configuration == NAMES[configuration]
        assert spacing == pytest.approx(told["spacing"], abs=1e-4)  # theirs adds 1e-5 where slices become as fine as pixels
        assert in_their_order(plan.patch_size, transpose, slices) == told["patch"]
        assert plan.batch_size == told["batch"]
        assert digits(plan.network.strides, transpose, slices) == told["strides"]
        assert digits(plan.network.kernels, transpose, slices) == told["kernels"]
        assert list(plan.network.features) == told["features"]
        assert list(plan.network.blocks) == told["blocks"]
        assert (plan.slice_axis is not None) == slices


def test_hippocampus_at_8_gb_is_planned_as_the_published_plan():
    seen = fingerprint_of(KNOWN["sets"]["hippocampus"])
    plan = make_plan(seen, PlanSettings(memory="8GB"))
    assert seen.cases == 130
    assert (plan.configuration, plan.patch_size, plan.batch_size) == ("3d", (40, 56, 40), 4)
    assert plan.network.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert plan.network.features == (32, 64, 128, 256)
    assert configurations(seen, PlanSettings(memory="8GB")) == ("3d", "2d")  # no cascade
    assert any("4 cover about 5% of the dataset's 7.96 million voxels" in reason for reason in plan.reasons)


@pytest.mark.realdata
def test_hippocampus_is_seen_and_planned_as_nnunet_does(realdata):
    manifest = load_manifest("data_manifests/hippocampus.yaml", realdata)
    seen = dataset_fingerprint(manifest, labelled_cases(manifest, "train", "val"), lambda *_: None)
    known = fingerprint_of(KNOWN["sets"]["hippocampus"])
    for name in ("cases", "spacing", "content_shape", "content_extent", "spacing_fine"):
        assert getattr(seen, name) == getattr(known, name), name
    plan = make_plan(seen, PlanSettings(memory="8GB"))
    assert (plan.patch_size, plan.batch_size, len(plan.network.features)) == ((40, 56, 40), 4, 4)
