import json

import pytest
import torch

from helpers.nnunet_network import nnunet_logits
from helpers.plans import IDENTITY, SIDED, tiny_model, tiny_network, tiny_plan
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.plan import Region
from voxelry.errors import ExportError
from voxelry.exchange.model_export import export_folder
from voxelry.exchange.nnunet_checkpoint import read_checkpoint
from voxelry.exchange.nnunet_export import write_results
from voxelry.exchange.nnunet_import import import_results
from voxelry.networks.weights import network_of, save_model

CPU = torch.device("cpu")
KERNELS = ((3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3))
STRIDES = ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 1, 2))


def network(flat, **changes):
    cut = (lambda sizes: (*sizes[:2], 1)) if flat else (lambda sizes: sizes)
    parts = {"kernels": tuple(map(cut, KERNELS)), "strides": tuple(map(cut, STRIDES)), "deep_supervision": 1}
    return tiny_network(3, (4, 6, 8, 8), **(parts | changes))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "changes",
    [{}, {"options": {"trans_bias": True, "own_kernels": True}}, {"name": "resenc", "blocks": (1, 2, 1, 1)}, {"name": "resenc"}],
)
def test_nnunets_network_gives_our_logits(tmp_path, flat, changes):
    """Decoder kernels that nnU-Net does not have are its own padded; heads and biases that ours does not have are 0."""
    patch, axis = (16, 16, 1) if flat else (16, 16, 8), 2 if flat else None
    plan = tiny_plan(
        network=network(flat, **changes), patch_size=patch, slice_axis=axis, spacing=(1, 1, None if flat else 2), flips=(0, 1)
    )
    model = tiny_model(plan)
    folder = write_results([model], tmp_path)
    arguments = next(iter(json.loads((folder / "plans.json").read_text())["configurations"].values()))["architecture"][
        "arch_kwargs"
    ]
    stored = torch.randn(1, 1, *patch)
    read = stored.permute(0, 1, 4, 3, 2)
    state = read_checkpoint(folder / "fold_0/checkpoint_final.pth").weights
    theirs = nnunet_logits(read[:, :, 0] if flat else read, dict(state), arguments)
    with torch.inference_mode():
        ours = network_of(model, CPU)(stored)[0].permute(0, 1, 4, 3, 2)
    assert torch.allclose(ours[:, :, 0] if flat else ours, theirs, atol=1e-5)
    [back] = import_results(folder)
    assert (back.plan.patch_size, back.plan.spacing, back.plan.flips) == (plan.patch_size, plan.spacing, plan.flips)
    assert (back.plan.orientation, back.plan.slice_axis, back.labels.names) == ("RAS", axis, SIDED.names)


def test_regions_come_back(tmp_path):
    names = SIDED.names
    regions = (
        Region(name="all", labels=names, label=names[0]),
        *(Region(name=name, labels=(name,), label=name) for name in names[1:]),
    )
    folder = write_results([tiny_model(tiny_plan(regions=regions))], tmp_path)
    [back] = import_results(folder)
    assert [region.name for region in back.plan.regions] == ["all", *names[1:]]
    assert len(back.plan.regions[0].labels) == 3


def test_the_verb_writes_a_folder_after_a_self_test(tmp_path):
    save_model(tiny_model(tiny_plan(spacing=(1, 1, 1))), tmp_path / "model")
    exported = export_folder(tmp_path / "model", tmp_path / "out", "nnunet")
    assert exported.agreement.share == 1
    assert "nnUNetTrainer__nnUNetPlans__3d_fullres/fold_0/checkpoint_final.pth" in exported.files


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": tiny_network(3, name="unet")}, "no network 'unet'"),
        ({"orientation": "LPS"}, "no orientation LPS"),
        ({"instances": InstancePlan(labels=("spine",), decoder="components", diameter=1)}, "no objects told apart"),
        ({"spacing": (1, 1, None)}, "no spacing along some"),
    ],
)  # fmt: skip
def test_what_nnunet_does_not_have_is_refused(tmp_path, changes, reason):
    with pytest.raises(ExportError, match=reason):
        write_results([tiny_model(tiny_plan(normalisation=(IDENTITY,), **changes))], tmp_path)
