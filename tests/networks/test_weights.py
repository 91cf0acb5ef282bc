import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from helpers.plans import SIDED, tiny_model, tiny_network, tiny_plan
from voxelry.base.files import read_yaml, write_yaml
from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.quality_model import LabelPopulation, Population, QualityModel
from voxelry.errors import ModelError
from voxelry.networks.build import build_network
from voxelry.networks.weights import (
    half_precision,
    load_model_folder,
    load_models,
    network_of,
    save_ensemble,
    save_model,
    weights_of,
)

CPU = torch.device("cpu")


@pytest.fixture
def saved(tmp_path):
    return save_model(tiny_model(tiny_plan()), tmp_path / "run" / "model")


@pytest.fixture
def older(saved):
    """A model's folder from before `model.json`, whose files may change."""
    (saved.path / "model.json").unlink()
    return saved


@pytest.mark.parametrize("name", ["dynunet", "unet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_saved_model_gives_identical_logits(tmp_path, dimensions, name):
    plan = tiny_plan(dimensions, network=tiny_network(dimensions, name=name))
    torch.manual_seed(1)
    layout = torch.channels_last_3d if dimensions == 3 else torch.channels_last  # as training lays tensors out
    network = build_network(plan, len(SIDED) + 1).to(memory_format=layout)
    model = tiny_model(plan)
    model = save_model(type(model)(plan, model.card, weights_of(network)), tmp_path / "m")
    assert model.path == tmp_path / "m"
    loaded = load_model_folder(tmp_path / "m")
    assert (loaded.plan, loaded.card, loaded.path) == (plan, model.card, tmp_path / "m")
    again = network_of(loaded, CPU)
    assert not again.training
    x = torch.randn(1, 1, *plan.patch_size)
    with torch.inference_mode():
        assert torch.equal(network.eval()(x)[0], again.to(memory_format=layout)(x)[0])


def test_a_model_of_pictures_of_unknown_size_comes_back(tmp_path):
    model = save_model(tiny_model(tiny_plan(2), spacing=None, spacing_range=None), tmp_path / "m")
    assert load_model_folder(tmp_path / "m").card == model.card


def test_the_folder_holds_text_and_numbers_alone(saved):
    assert sorted(file.name for file in saved.path.iterdir()) == ["card.json", "model.json", "plan.yaml", "weights.safetensors"]
    head = (saved.path / "weights.safetensors").read_bytes()[8:9]
    assert head == b"{"  # safetensors: a length, then JSON; no pickle


def test_each_tensor_is_stored_once(saved):
    network = build_network(saved.plan, len(saved.labels) + 1)
    assert sum(tensor.numel() for tensor in saved.weights.values()) == sum(weight.numel() for weight in network.parameters())


def test_saving_replaces_the_whole_folder(saved):
    (saved.path / "stale.txt").write_text("old")
    save_model(saved, saved.path)
    assert not (saved.path / "stale.txt").exists()


@pytest.mark.parametrize("name", ["card.json", "plan.yaml", "weights.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved.path / name).unlink()
    with pytest.raises(ModelError, match=rf"not a model folder \({name} missing\)"):
        load_model_folder(saved.path)


def test_the_runs_folder_points_to_its_model(saved):
    with pytest.raises(ModelError, match=f"Did you mean {saved.path}"):
        load_model_folder(saved.path.parent)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(ModelError, match=r"not a model folder"):
        load_model_folder(tmp_path / "none")


@pytest.mark.parametrize("name", ["card.json", "plan.yaml", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"{}", None])
def test_a_damaged_file_is_named(older, name, content):
    file = older.path / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3] if content is None else content)
    with pytest.raises(ModelError, match=name):
        network_of(load_model_folder(older.path), CPU)


def test_weights_of_another_network_are_refused(older):
    tree = read_yaml(older.path / "plan.yaml")
    tree["network"]["features"] = [4, 8, 12]
    write_yaml(older.path / "plan.yaml", tree)
    with pytest.raises(ModelError, match=r"the weights do not fit the plan .* differ"):
        network_of(load_model_folder(older.path), CPU)


def test_weights_of_another_label_table_are_refused(saved):
    card = saved.card.model_copy(update={"labels": LabelTable.numbered([1])})
    with pytest.raises(ModelError, match=r"do not fit the plan"):
        network_of(type(saved)(saved.plan, card, saved.weights), CPU)


def test_a_missing_or_surplus_tensor_is_refused(older):
    first = next(iter(older.weights))
    for weights in (
        {name: tensor for name, tensor in older.weights.items() if name != first},
        older.weights | {"surplus": torch.zeros(1)},
    ):
        save_file(weights, older.path / "weights.safetensors")
        with pytest.raises(ModelError, match=r"1 differ"):
            network_of(load_model_folder(older.path), CPU)


def test_a_pickle_is_not_loaded(older):
    class Harm:
        def __reduce__(self):
            return shutil.rmtree, (str(older.path),)

    torch.save(Harm(), older.path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"cannot be read"):
        load_model_folder(older.path)
    assert older.path.is_dir()


def cascade(seed=0):
    first = tiny_model(tiny_plan(configuration="3d_lowres"), seed=seed + 10)
    return replace(tiny_model(tiny_plan(configuration="3d_cascade"), seed=seed), previous=first)


def same(one, other):
    """Plan, card, weights and first stage are equal."""
    alike = (one.plan, one.card) == (other.plan, other.card) and one.weights.keys() == other.weights.keys()
    alike = alike and all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    stages = [model.previous for model in (one, other)]
    return alike and (stages == [None, None] or (None not in stages and same(*stages)))


def test_a_cascade_is_saved_and_read_with_its_first_stage(tmp_path):
    saved = save_model(cascade(), tmp_path / "m")
    loaded = load_model_folder(tmp_path / "m")
    assert same(loaded, cascade())
    assert loaded.previous.path == saved.previous.path == tmp_path / "m" / "previous"
    assert (saved.path, same(save_model(loaded, tmp_path / "m"), saved)) == (tmp_path / "m", True)  # in its own place
    assert network_of(loaded, CPU)(torch.randn(1, 4, 8, 8, 8))[0].shape == (1, 4, 8, 8, 8)


@pytest.mark.parametrize("damage", ["folder", "card.json", "plan.yaml", "weights.safetensors"])
def test_a_cascade_without_its_first_stage_is_refused_by_name(tmp_path, damage):
    save_model(cascade(), tmp_path / "m")
    home = tmp_path / "m" / "previous"
    shutil.rmtree(home) if damage == "folder" else (home / damage).unlink()
    with pytest.raises(ModelError, match="previous"):
        load_model_folder(tmp_path / "m")


def test_an_ensemble_comes_back_with_its_own_rules(tmp_path):
    own = CleanUp(label="spine", keep_largest=True)
    rules = (CleanUp(label="spine", fill_holes=True),)
    models = [tiny_model(tiny_plan(), seed=1), cascade(2)]
    models[0] = replace(models[0], card=models[0].card.model_copy(update={"clean_up": (own,)}))
    saved = save_ensemble(models, tmp_path / "e", clean_up=rules, training={"mean_dice": 0.9})
    loaded = load_models(tmp_path / "e")
    assert len(saved) == len(loaded) == 2
    for model, one, other in zip(models, saved, loaded, strict=True):
        expected = replace(model, card=model.card.model_copy(update={"clean_up": rules}))
        assert same(one, expected)
        assert same(other, expected)
        assert one.path == other.path
    assert load_model_folder(tmp_path / "e" / "member_1").card.clean_up == (own,)  # the member's own, by itself
    assert read_yaml(tmp_path / "e" / "ensemble.yaml")["training"] == {"mean_dice": 0.9}


def test_a_model_folder_is_an_ensemble_of_one(saved):
    (model,) = load_models(saved.path)
    assert same(model, saved)


def test_an_ensemble_is_whole_or_not_there(tmp_path):
    broken = tiny_model(tiny_plan())
    broken = replace(broken, weights={"a": "no tensor"})
    with pytest.raises(Exception, match=r".+"):
        save_ensemble([tiny_model(tiny_plan()), broken], tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda home: shutil.rmtree(home / "member_2"), r"member_2.model.json: is missing"),
        (lambda home: (home / "member_2" / "plan.yaml").unlink(), r"member_2: not a model folder \(plan.yaml missing\)"),
        (
            lambda home: (home / "member_1" / "weights.safetensors").write_bytes(b"no"),
            r"member_1.*2 bytes, where model.json says",
        ),
        (lambda home: (home / "ensemble.yaml").write_text("members: [", encoding="ascii"), "ensemble.yaml: .* bytes, where"),
        (lambda home: (home / "quality.json").write_text("{}"), "quality.json: is not in model.json"),
    ],
)
def test_a_damaged_ensemble_is_one_clear_error(tmp_path, damage, match):
    save_ensemble([tiny_model(tiny_plan(), seed=seed) for seed in (1, 2)], tmp_path / "e")
    damage(tmp_path / "e")
    with pytest.raises(ModelError, match=match):
        load_models(tmp_path / "e")


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda home: shutil.rmtree(home / "member_2"), r"ensemble.yaml: member 'member_2' is missing"),
        (lambda home: (home / "member_1" / "weights.safetensors").write_bytes(b"no"), r"member_1.*cannot be read"),
        (lambda home: write_yaml(home / "ensemble.yaml", {"members": ["../elsewhere"]}), "lies outside"),
        (lambda home: write_yaml(home / "ensemble.yaml", {"members": []}), "ensemble.yaml"),
        (lambda home: write_yaml(home / "ensemble.yaml", {"member": ["member_1"]}), "ensemble.yaml.*member"),
        (lambda home: (home / "ensemble.yaml").write_text("members: [", encoding="ascii"), "ensemble.yaml"),
    ],
)
def test_a_damaged_ensemble_of_an_older_version_is_one_clear_error(tmp_path, damage, match):
    save_ensemble([tiny_model(tiny_plan(), seed=seed) for seed in (1, 2)], tmp_path / "e")
    for record in (tmp_path / "e").rglob("model.json"):
        record.unlink()
    damage(tmp_path / "e")
    with pytest.raises(ModelError, match=match):
        load_models(tmp_path / "e")


def test_an_ensemble_is_no_single_model_and_the_runs_folder_points_to_it(tmp_path):
    save_ensemble([tiny_model(tiny_plan())], tmp_path / "run" / "model")
    with pytest.raises(ModelError, match="an ensemble"):
        load_model_folder(tmp_path / "run" / "model")
    with pytest.raises(ModelError, match="Did you mean"):
        load_models(tmp_path / "run")


def test_a_card_and_a_plan_from_before_cascades_are_read(older):
    tree = read_yaml(older.path / "plan.yaml")
    for name in ("configuration", "regions"):
        tree.pop(name)
    write_yaml(older.path / "plan.yaml", tree)
    assert same(load_model_folder(older.path), older)


def test_quality_control_is_kept_and_an_older_folder_has_none(saved, tmp_path):
    known = QualityModel(population=Population(cases=3, labels={"spine": LabelPopulation(present=2)}))
    assert load_model_folder(saved.path).quality is None
    save_model(replace(saved, quality=known), saved.path)
    assert load_model_folder(saved.path).quality == known
    members = save_ensemble([saved, saved], tmp_path / "both", quality=known)
    assert [model.quality for model in (*members, *load_models(tmp_path / "both"))] == [known] * 4
    save_ensemble([replace(saved, quality=known)], tmp_path / "both")
    assert load_models(tmp_path / "both")[0].quality is None  # a member's own says nothing about the ensemble


def test_damaged_quality_control_is_named(older):
    (older.path / "quality.json").write_text('{"version": 2}')
    with pytest.raises(ModelError, match=r"quality\.json.*delete this file"):
        load_model_folder(older.path)


def test_half_precision_takes_half_the_room_and_rounds_kernels_alone(tmp_path, saved):
    whole = replace(saved, weights=saved.weights | {"mean": torch.rand(8)})
    half = half_precision(whole)
    kernels = {name for name, weight in half.weights.items() if weight.dtype == torch.float16}
    assert kernels == {name for name, weight in saved.weights.items() if weight.ndim > 1}
    file = save_model(half_precision(saved), tmp_path / "half").path / "weights.safetensors"
    assert file.stat().st_size < 0.6 * (saved.path / "weights.safetensors").stat().st_size
    loaded = load_model_folder(tmp_path / "half").weights
    for name, weight in saved.weights.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], weight.half().float() if weight.ndim > 1 else weight)


def test_half_precision_changes_hardly_a_label(tmp_path):
    plan = tiny_plan(2, patch_size=(64, 64))
    model = tiny_model(plan)
    save_model(half_precision(model), tmp_path / "half")
    pixels = torch.randn(4, 1, 64, 64)
    with torch.inference_mode():
        labels, rounded = (network_of(each, CPU)(pixels)[0].argmax(1) for each in (model, load_model_folder(tmp_path / "half")))
    assert len(labels.unique()) > 1
    assert (labels == rounded).float().mean() > 0.998  # measured: 0.9992 to 0.9997, of random weights


def test_a_kernel_that_half_precision_cannot_hold_stays(saved):
    name = next(name for name, weight in saved.weights.items() if weight.ndim > 1)
    large = replace(saved, weights=saved.weights | {name: saved.weights[name] + 1e5})
    assert half_precision(large).weights[name].dtype == torch.float32


def test_half_precision_of_a_cascade_rounds_both_stages():
    first = half_precision(cascade()).previous
    assert {weight.dtype for weight in first.weights.values()} == {torch.float16, torch.float32}
