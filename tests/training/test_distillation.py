import numpy as np
import pytest
import torch

from helpers.plans import SIDED, tiny_model, tiny_network, tiny_plan
from helpers.training_cases import loop
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import Label, LabelTable
from voxelry.core.plan import Region
from voxelry.errors import ConfigError
from voxelry.networks.weights import network_of
from voxelry.recipes.recipe import Config
from voxelry.recipes.settings import LossSettings
from voxelry.training.distillation import SMOOTH, Teacher, distillation_loss

CPU = torch.device("cpu")
SETTINGS = LossSettings()
HEAD = InstancePlan(labels=(SIDED.names[0],), diameter=5, border=1, erosion=1)


def teacher(plan, *members, student=None, table=SIDED):
    return Teacher(members, student or plan, table, CPU, torch.float32, seed=3)


def by_hand(student, taught):
    """Divergence and Dice semimetric of softmax, voxel by voxel in NumPy."""
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (student.numpy(), taught.numpy()))
    divergence = (q * np.log(q / p)).sum(1).mean()
    axes = (0, *range(2, p.ndim))
    apart = np.abs(p - q).sum(axes)[1:] / ((p + q).sum(axes)[1:] + SMOOTH)
    return divergence + apart.mean()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_loss_against_numpy(dimensions):
    student, taught = (torch.randn(2, 4, *(5, 6, 7)[:dimensions], dtype=torch.float64) for _ in range(2))
    loss = distillation_loss(student, taught, SETTINGS, tiny_plan(dimensions), 4)
    assert loss.item() == pytest.approx(by_hand(student, taught), rel=1e-5)


@pytest.mark.parametrize(
    "changes", [{}, {"regions": (Region(name="kidneys", label=SIDED.names[0], labels=SIDED.names[:2]),)}, {"instances": HEAD}]
)
def test_the_loss_is_zero_and_least_where_student_and_teacher_agree(changes):
    plan = tiny_plan(2, **changes)
    classes = 2 if plan.regions else 4
    taught = torch.randn(2, classes + (3 if plan.instances else 0), 9, 8)
    same = taught.clone().requires_grad_(True)
    loss = distillation_loss(same, taught, SETTINGS, plan, classes)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    for seed in range(5):
        torch.manual_seed(seed)
        assert distillation_loss(taught + 0.05 * torch.randn_like(taught), taught, SETTINGS, plan, classes) > 1e-5


def test_a_step_towards_the_gradient_brings_the_student_nearer():
    plan, taught = tiny_plan(2, instances=HEAD), torch.randn(1, 7, 6, 6)
    student = torch.randn(1, 7, 6, 6, requires_grad=True)
    before = (student - taught).abs().mean().item()
    for _ in range(300):
        (gradient,) = torch.autograd.grad(distillation_loss(student, taught, SETTINGS, plan, 4), student)
        student = (student - 20 * gradient).detach().requires_grad_(True)
    assert (student - taught).softmax(1).isfinite().all()
    assert (student - taught).abs().mean().item() < 0.6 * before


def expected(model, image, axes, twins):
    along = [axis + 2 for axis in axes]
    with torch.no_grad():
        logits = network_of(model, CPU)(image.flip(along))[0].flip(along)
    return logits[:, twins] if model.plan.side_axis in axes else logits


def test_each_answer_is_one_pass_of_one_member_and_all_passes_occur():
    plans = [tiny_plan(2, flips=(0, 1)), tiny_plan(2)]
    members = [tiny_model(plan, seed=seed) for seed, plan in enumerate(plans)]
    image = torch.randn(1, 1, 16, 16)
    passes = [(0, ()), (0, (0,)), (0, (1,)), (0, (0, 1)), (1, ())]
    wanted = [expected(members[number], image, axes, [0, 2, 1, 3]) for number, axes in passes]
    taught = teacher(plans[0], *members)
    seen = []
    for step in range(60):
        answer = taught(image, step, 0)
        seen += [number for number, one in enumerate(wanted) if torch.allclose(one, answer, atol=1e-5)]
        assert not answer.requires_grad
    assert len(seen) == 60
    assert set(seen) == set(range(len(passes)))
    assert 20 < seen.count(4) < 40  # each member is asked as often as the other


def test_the_same_step_gets_the_same_answer():
    plan = tiny_plan(2, flips=(0,))
    members, image = [tiny_model(plan, seed=seed) for seed in range(3)], torch.randn(2, 1, 16, 16)
    one, other = teacher(plan, *members), teacher(plan, *members)
    for step in (4, 2, 9):
        assert torch.equal(one(image, step, 1), other(image, step, 1))


def test_a_student_may_have_another_network():
    plan = tiny_plan(2)
    narrow = plan.model_copy(update={"network": tiny_network(2, (4, 4, 4)), "flips": (), "overlap": 0.25, "batch_size": 1})
    assert teacher(plan, tiny_model(plan), student=narrow)(torch.zeros(1, 1, 8, 8), 0).shape == (1, 4, 8, 8)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"spacing": (2.0, 2.0)}, "spacing"),
        ({"long_side": 64}, "long_side"),
        ({"instances": HEAD}, "instances"),
        ({"regions": (Region(name="kidneys", label=SIDED.names[0], labels=SIDED.names[:2]),)}, "regions"),
    ],
)
def test_a_teacher_of_other_patches_is_refused(changes, word):
    plan = tiny_plan(2)
    with pytest.raises(ConfigError, match=word):
        teacher(plan, tiny_model(plan), student=tiny_plan(2, **changes))


def test_a_teacher_of_other_labels_is_refused():
    plan, other = tiny_plan(2), LabelTable(labels=(Label(value=1, name="liver"),))
    with pytest.raises(ConfigError, match="labels are not those of the data"):
        teacher(plan, tiny_model(plan), table=other)


def test_a_teacher_beside_folds_is_refused():
    with pytest.raises(ValueError, match="would hold out"):
        Config(manifest="m.yaml", steps=1, teacher="model", folds=3)


def test_the_share_of_the_teacher_in_the_loss(tmp_path):
    run = loop(tmp_path, 2, steps=1)
    image, classes = next(run.loader.batches(0))
    alone = run._gradients(image, classes, 0).item()
    run.teacher = lambda image, *number: torch.zeros_like(run.network(image)[0])
    with torch.no_grad():
        learnt = distillation_loss(run.network(image)[0], run.teacher(image), run.config.loss, run.plan, run.classes).item()
    assert run._gradients(image, classes, 0).item() == pytest.approx(0.5 * alone + 0.5 * learnt, rel=1e-4)
