import shutil

import pytest
import torch
from safetensors.torch import save_file

from plans import SIDED, tiny_model, tiny_network, tiny_plan
from voxelry.errors import ModelError
from voxelry.files import read_yaml, write_yaml
from voxelry.labels import LabelTable
from voxelry.networks.build import build_network
from voxelry.networks.weights import load_model_folder, network_of, save_model, weights_of

CPU = torch.device("cpu")


@pytest.fixture
def saved(tmp_path):
    return save_model(tiny_model(tiny_plan()), tmp_path / "run" / "model")


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
    assert sorted(file.name for file in saved.path.iterdir()) == ["card.json", "plan.yaml", "weights.safetensors"]
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
def test_a_damaged_file_is_named(saved, name, content):
    file = saved.path / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3] if content is None else content)
    with pytest.raises(ModelError, match=name):
        network_of(load_model_folder(saved.path), CPU)


def test_weights_of_another_network_are_refused(saved):
    tree = read_yaml(saved.path / "plan.yaml")
    tree["network"]["features"] = [4, 8, 12]
    write_yaml(saved.path / "plan.yaml", tree)
    with pytest.raises(ModelError, match=r"the weights do not fit the plan .* differ"):
        network_of(load_model_folder(saved.path), CPU)


def test_weights_of_another_label_table_are_refused(saved):
    card = saved.card.model_copy(update={"labels": LabelTable.numbered([1])})
    with pytest.raises(ModelError, match=r"do not fit the plan"):
        network_of(type(saved)(saved.plan, card, saved.weights), CPU)


def test_a_missing_or_surplus_tensor_is_refused(saved):
    first = next(iter(saved.weights))
    for weights in (
        {name: tensor for name, tensor in saved.weights.items() if name != first},
        saved.weights | {"surplus": torch.zeros(1)},
    ):
        save_file(weights, saved.path / "weights.safetensors")
        with pytest.raises(ModelError, match=r"1 differ"):
            network_of(load_model_folder(saved.path), CPU)


def test_a_pickle_is_not_loaded(saved):
    class Harm:
        def __reduce__(self):
            return shutil.rmtree, (str(saved.path),)

    torch.save(Harm(), saved.path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"cannot be read"):
        load_model_folder(saved.path)
    assert saved.path.is_dir()
