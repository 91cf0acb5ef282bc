"""Model folders as voxelry 0.1.0 wrote them, letter by letter, still load."""

import pytest
import torch
from safetensors.torch import save_file

from voxelry.networks.build import build_network
from voxelry.networks.weights import load_models, network_of, weights_of
from voxelry.planning.plan_file import load_plan

PLAN = """\
dimensions: 3
channels:
- CT
configuration: 3d
orientation: RAS
spacing:
- 16.0
- 16.0
- 20.0
image_order: 3
normalisation:
- scheme: global
  low: -111.22
  high: 237.22000000000003
  mean: 78.61617458279846
  std: 59.62092743914502
patch_size:
- 24
- 20
- 12
batch_size: 2
network:
  name: {name}
  features: [4, 8, 16]
  strides: [[1, 1, 1], [2, 2, 2], [2, 2, 1]]
  kernels: [[3, 3, 3], [3, 3, 3], [3, 3, 3]]
  blocks: {blocks}
  deep_supervision: 1
  options: {{}}
regions: []
overlap: 0.5
flips: []
reasons:
- A window has 24 x 20 x 12 voxels (the median case has 24 x 20 x 12), which is the whole median case within the
  96000 voxels that a CPU affords; its edges are multiples of 4 x 4 x 2, the network's strides.
"""

CARD = """\
{"name": "phantom-torso-ct", "version": "0.1.0", "labels": {"labels": [{"value": 1, "name": "liver", "category":
{"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}, "type": {"value": "10200004", "scheme":
"SCT", "meaning": "Liver"}, "color": [178, 84, 60], "kind": "stuff", "layer": 0}]}, "fingerprint": {"cases": 2,
"modality": "CT", "dimensions": 3, "channels": ["CT"], "shapes": [[24, 20, 12], [24, 20, 12], [24, 20, 12]], "spacing":
[16.0, 16.0, 20.0], "spacing_range": [[16.0, 16.0, 20.0], [16.0, 16.0, 20.0]], "orientations": {"LPS": 2}, "statistics":
[{"mean": 78.61617458279846, "std": 59.62092743914502, "p005": -111.22, "p995": 237.22}], "voxels": 11520,
"label_voxels": {"liver": 503}, "content": 1.0, "extent_range": [[384.0, 320.0, 240.0], [384.0, 320.0, 240.0]],
"grey_range": [[-570.0, -567.0]], "tilt": 0.0, "spacing_fine": [16.0, 16.0, 20.0], "content_shape": [24.0, 20.0, 12.0],
"content_extent": [[384.0, 320.0, 240.0], [384.0, 320.0, 240.0]]}, "licence": "CC0-1.0", "citation": [], "training":
{"steps": 10, "seconds": 45.7, "device": "cpu", "computed_in": "bfloat16", "seed": 0, "parameters": 287671, "cases": 2,
"pseudo_dice": 0.06, "clean_up": {"cases": 1, "mean_dice": {"liver": {"before": 0.2, "after": 0.39}}}, "mean_dice":
0.09}, "clean_up": [{"label": "liver", "keep_largest": true, "fill_holes": false}]}
"""

ENSEMBLE = """\
members:
- member_1
- member_2
clean_up:
- label: liver
  keep_largest: false
  fill_holes: true
training: {}
"""

WEIGHTS = {
    "dynunet": (36, "body.input_block.norm2.bias", "body.upsamples.1.transp_conv.conv.weight"),
    "unet": (44, "body.model.0.conv.unit0.adn.N.bias", "body.model.2.1.conv.unit0.conv.weight"),
    "resenc": (90, "body.decoder.0.adn.N.bias", "body.encoder.2.0.around.1.conv.weight", "body.up.1.conv.weight"),
    "segresnet": (51, "body.encoder.conv_init.weight", "body.encoder.layers.2.blocks.0.norm2.bias"),
}
"""Network -> how many tensors a model of three stages holds, and names of some."""
BLOCKS = {"resenc": [1, 3, 4], "segresnet": [1, 2, 2]}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_model_folder_of_an_earlier_version(tmp_path, name):
    (tmp_path / "plan.yaml").write_text(PLAN.format(name=name, blocks=BLOCKS.get(name, [])))
    (tmp_path / "card.json").write_text(CARD)
    weights = weights_of(build_network(load_plan(tmp_path / "plan.yaml"), 2))
    count, *names = WEIGHTS[name]
    assert len(weights) == count
    assert {*names} <= {*weights}
    save_file(weights, tmp_path / "weights.safetensors")
    (model,) = load_models(tmp_path)
    assert model.plan.patch_size == (24, 20, 12)
    assert (model.labels.names, model.card.clean_up[0].keep_largest) == (("liver",), True)
    assert network_of(model, torch.device("cpu"))(torch.zeros(1, 1, 24, 20, 12))[0].shape == (1, 2, 24, 20, 12)


def test_an_ensembles_folder_of_an_earlier_version(tmp_path):
    for member in ("member_1", "member_2"):
        folder = tmp_path / member
        folder.mkdir()
        (folder / "plan.yaml").write_text(PLAN.format(name="unet", blocks=[]))
        (folder / "card.json").write_text(CARD)
        save_file(weights_of(build_network(load_plan(folder / "plan.yaml"), 2)), folder / "weights.safetensors")
    (tmp_path / "ensemble.yaml").write_text(ENSEMBLE)
    assert [model.card.clean_up[0].fill_holes for model in load_models(tmp_path)] == [True, True]
