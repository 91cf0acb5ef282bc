import pytest
import torch
from torch import nn

from helpers.plans import SIDED, tiny_network, tiny_plan
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import Label, LabelTable
from voxelry.core.plan import Region
from voxelry.errors import ModelError
from voxelry.networks.build import build_network
from voxelry.networks.transfer import NetworkEnds, load_matching
from voxelry.networks.weights import weights_of


def table(*names):
    return LabelTable(labels=tuple(Label(value=number, name=name) for number, name in enumerate(names, start=1)))


def named(name, **changes):
    if name in ("mednext", "swinunetr"):
        stages, first = (5, 4) if name == "mednext" else (6, 12)
        widths = [first * 2**n for n in range(stages)] if name == "mednext" else [12, 12, 24, 48, 96, 192]
        return tiny_plan(
            2, network=tiny_network(2, tuple(widths), name=name), patch_size=(2 ** (stages - 1), 2**stages), **changes
        )
    return tiny_plan(2, network=tiny_network(2, name=name), **changes)


def moved(old_plan, old_table, new_plan, new_table):
    """Both networks, and what became of the tensors."""
    torch.manual_seed(0)
    old, new = build_network(old_plan, len(old_table) + 1).eval(), build_network(new_plan, len(new_table) + 1).eval()
    report = load_matching(
        new, new_plan, weights_of(old), NetworkEnds.of(old_plan, old_table), NetworkEnds.of(new_plan, new_table)
    )
    return old, new, report


@pytest.mark.parametrize("name", ["dynunet", "unet", "resenc", "segresnet", "mednext", "swinunetr"])
def test_the_same_network_is_taken_over_whole(name):
    old, new, report = moved(named(name), SIDED, named(name), SIDED)
    assert (report.adapted, report.fresh, report.unused) == ((), (), ())
    x = torch.randn(1, 1, *named(name).patch_size)
    assert torch.equal(old(x)[0], new(x)[0])


@pytest.mark.parametrize("name", ["dynunet", "resenc", "segresnet", "mednext", "swinunetr"])
def test_labels_that_both_know_keep_their_logits(name):
    before, after = table("liver", "spleen"), table("kidney", "spleen", "liver", "aorta")
    old, new, report = moved(named(name), before, named(name), after)
    x = torch.randn(1, 1, *named(name).patch_size)
    assert torch.allclose(new(x)[0][:, [0, 2, 3]], old(x)[0][:, [0, 2, 1]], atol=1e-5)
    assert report.fresh == ()
    assert report.unused == ()
    assert report.adapted


def test_a_residual_last_layer_keeps_what_both_know():
    before, after = table("liver", "spleen"), table("spleen", "liver")
    old, new, _ = moved(named("unet"), before, named("unet"), after)
    x = torch.randn(1, 1, 8, 8)
    assert torch.allclose(new(x)[0], old(x)[0][:, [0, 2, 1]], atol=1e-5)


def test_as_many_labels_of_other_names_start_anew():
    old, new, report = moved(named("dynunet"), table("liver"), named("dynunet"), table("heart"))
    old_head, new_head = old.body.output_block.conv.conv.weight, new.body.output_block.conv.conv.weight
    assert torch.equal(old_head[0], new_head[0])
    assert not torch.equal(old_head[1], new_head[1])
    assert any("output_block" in name for name in report.adapted)


@pytest.mark.parametrize("name", ["dynunet", "unet", "resenc", "segresnet", "mednext", "swinunetr"])
def test_channels_go_by_name_and_new_ones_take_the_mean(name):
    before, after = named(name, channels=("T1", "T2")), named(name, channels=("FLAIR", "T2", "T1"))
    old, new, report = moved(before, SIDED, after, SIDED)
    assert report.fresh == ()
    first = next(key for key in report.adapted if key.endswith("weight"))
    was, now = weights_of(old)[first], weights_of(new)[first]
    assert torch.equal(now[:, 1], was[:, 1])
    assert torch.equal(now[:, 2], was[:, 0])
    assert torch.allclose(now[:, 0], was.mean(1))


def test_as_many_channels_as_classes_are_not_confounded():
    before, after = named("mednext", channels=("a", "b")), named("mednext", channels=("c", "b", "a"))
    old, new, report = moved(before, table("x"), after, table("y", "x"))
    x = torch.randn(1, 2, *before.patch_size)
    y = torch.stack([torch.zeros_like(x[:, 0]), x[:, 1], x[:, 0]], 1)
    assert torch.allclose(new(y)[0][:, [0, 2]], old(x)[0], atol=1e-5)
    assert len(report.adapted) >= 3


def test_a_cascade_starts_as_the_network_it_came_from():
    old, new, _ = moved(tiny_plan(), SIDED, tiny_plan(configuration="3d_cascade"), SIDED)
    x = torch.randn(1, 1, 8, 8, 8)
    masks = torch.randint(0, 2, (1, len(SIDED), 8, 8, 8)).float()
    assert torch.allclose(new(torch.cat([x, masks], 1))[0], old(x)[0], atol=1e-5)


def test_from_labels_to_regions():
    regions = (Region(name="whole", labels=("edema", "core"), label="edema"), Region(name="core", labels=("core",), label="core"))
    labels = table("edema", "core")
    old, new, _ = moved(named("dynunet"), labels, named("dynunet", regions=regions), labels)
    x = torch.randn(1, 1, 8, 8)
    assert torch.allclose(new(x)[0][:, 2], old(x)[0][:, 2], atol=1e-5)
    assert not new(x)[0][:, 0].any()


def test_slices_of_a_volume_start_from_pictures():
    flat = tiny_network(3, strides=((1, 1, 1), (1, 2, 2), (1, 2, 2)), kernels=((1, 3, 3),) * 3)
    after = tiny_plan(3, network=flat, patch_size=(1, 8, 8), slice_axis=0)
    old, new, report = moved(tiny_plan(2), SIDED, after, SIDED)
    assert report.fresh == ()
    x = torch.randn(1, 1, 8, 8)
    assert torch.allclose(new(x[:, :, None])[0][:, :, 0], old(x)[0], atol=1e-6)


def test_what_does_not_fit_starts_anew_and_is_told():
    after = tiny_plan(2, network=tiny_network(2, (4, 8, 12)))
    _, _, report = moved(tiny_plan(2), SIDED, after, SIDED)
    assert report.loaded
    assert report.fresh
    assert set(report.fresh) <= set(report.unused)
    assert "newly initialised" in str(report)


def test_nothing_in_common_is_an_error():
    weights, plan = weights_of(nn.Linear(1, 1)), tiny_plan(2)
    network, ends = build_network(plan, 2), NetworkEnds.of(plan, table("x"))
    with pytest.raises(ModelError, match=r"none of the network's \d+ tensors fits the 2 given"):
        load_matching(network, plan, weights, ends, ends)


def test_random_numbers_are_drawn_as_without_it():
    plan = tiny_plan(2)
    network = build_network(plan, len(SIDED) + 1)
    ends = NetworkEnds.of(plan, SIDED)
    torch.manual_seed(1)
    load_matching(network, plan, weights_of(network), ends, ends)
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(3))


def test_a_head_starts_anew_beside_the_classes_and_is_taken_over_by_the_next():
    head = InstancePlan(labels=("liver",), diameter=5, border=1, erosion=1)
    with_head, labels = named("dynunet", instances=head), table("liver", "core")
    old, new, report = moved(named("dynunet"), labels, with_head, labels)
    x = torch.randn(1, 1, *with_head.patch_size)
    assert torch.allclose(new(x)[0][:, :3], old(x)[0], atol=1e-5)
    assert report.adapted
    assert report.fresh == ()
    before, after, _ = moved(with_head, labels, with_head, table("spleen", "core"))
    assert torch.allclose(after(x)[0][:, [0, 2, 3, 4, 5]], before(x)[0][:, [0, 2, 3, 4, 5]], atol=1e-5)
