"""Bundles become models: those of the model zoo's form by what they say, our own as they were; code in them never runs."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import voxelry as vx
from helpers.command import refused, run, run_json
from helpers.random_network import balance
from voxelry.errors import CorruptFileError, MissingFileError, ModelError
from voxelry.exchange import BundlePredictor, import_bundle
from voxelry.exchange.bundle_export import write_bundle
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.networks.weights import load_models, save_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:NvImgCodec"),  # of a reader that MONAI tries beside the others
    pytest.mark.filterwarnings("ignore:monai.transforms:FutureWarning"),  # of defaults, which bundles of the zoo leave to MONAI
    pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning"),
]
UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8, 8],
    "strides": [2, 2],
    "num_res_units": 2,
    "norm": "batch",
}
SEGRESNET = {
    "_target_": "monai.networks.nets.SegResNet",
    "blocks_down": [1, 1, 1],
    "blocks_up": [1, 1],
    "init_filters": 8,
    "in_channels": 1,
    "out_channels": 2,
    "dropout_prob": 0.2,
}
LOADER = {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'", "load_dict": {"model": "@network"}}
INVERT = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False}


INFERER = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.5, "mode": "gaussian"}


def before(*steps):
    return {"preprocessing": {"_target_": "Compose", "transforms": [step | {"keys": "image"} for step in steps]}}


def after(*steps):
    return {"postprocessing": {"_target_": "Compose", "transforms": [step | {"keys": "pred"} for step in steps]}}


SIGMOID = {"_target_": "Activationsd", "sigmoid": True}
STEPS = before({"_target_": "Orientationd", "axcodes": "RAS"})["preprocessing"]
DOUBLING = {"a0": "xx", "inferer": INFERER | {"roi_size": "@a29"}} | {f"a{n}": f"$@a{n - 1} + @a{n - 1}" for n in range(1, 30)}
"""A billion characters in thirty lines."""


def zoo_bundle(folder, network=UNET, spacing=(1.5, 1.5, 3.0), metadata=(), **changes):
    """A bundle as the model zoo writes them, of random weights, and its network."""
    from monai.bundle import ConfigParser

    before = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": list(spacing or ()), "mode": "bilinear"},
        {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True},
        {"_target_": "EnsureTyped", "keys": "@image_key"},
    ]
    config = {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "highres": True,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [step for step in before if step.get("pixdim") != []]},
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [16, 16, 16],
            "sw_batch_size": 4,
            "overlap": "$0.5 if @highres else 0.25",
            "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                INVERT,
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_dtype": "$numpy.float32"},
            ],
        },
        "handlers": [LOADER],
        "initialize": ["$monai.utils.set_determinism(seed=123)", "$setattr(torch.backends.cudnn, 'benchmark', True)"],
        "run": ["$@evaluator.run()"],
    } | changes  # fmt: skip
    described = {"image": {"modality": "CT", "num_channels": 1, "channel_def": {"0": "image"}}}
    classes = {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "spleen"}}}
    about = {
        "version": "0.5.1",
        "name": "spleen",
        "task": "spleen",
        "network_data_format": {"inputs": described, "outputs": classes},
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text(json.dumps(about | dict(metadata)))
    if isinstance(network, dict):
        torch.manual_seed(0)
        module = ConfigParser({"net": network}).get_parsed_content("net")
        balance(module, torch.randn(1, 1, 16, 16, 16), 2)
        torch.save(module.state_dict(), folder / "models" / "model.pt")
    return folder


def scan(spacing=(1.5, 1.5, 3.0)):
    rng = np.random.default_rng(3)
    array = np.kron(rng.uniform(-80, 180, (1, 5, 5, 4)), np.ones((1, 5, 5, 5))) + rng.normal(0, 9, (1, 25, 25, 20))
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1])
    return vx.Volume(array.astype(np.float32), vx.Geometry((25, 25, 20), affine), modality="CT")


def labels_of(models, volume):
    return Predictor(models, "cpu", PredictOptions(mixed_precision="off")).predict(volume).labels


@pytest.mark.parametrize("network", [UNET, SEGRESNET], ids=["UNet", "SegResNet"])
def test_it_gives_the_labels_of_the_bundles_own_pipeline(network, tmp_path):
    bundle, volume = zoo_bundle(tmp_path / "spleen", network), scan()
    wanted = BundlePredictor(bundle, trust=True, device="cpu").predict(volume)
    (model,) = import_bundle(bundle)
    saved = save_model(model, tmp_path / "model")
    given = labels_of(load_models(saved.path), volume)
    assert 0.02 < (wanted.array > 0).mean() < 0.98
    assert (given.array == wanted.array).mean() >= 0.999
    assert given.table.names == wanted.table.names == ("spleen",)
    assert model.plan.overlap == 0.5
    assert model.card.training["imported"]["version"] == "0.5.1"


def test_on_another_grid_it_comes_near(tmp_path):
    bundle, volume = zoo_bundle(tmp_path / "spleen", spacing=(2.0, 2.0, 2.5)), scan()
    wanted = BundlePredictor(bundle, trust=True, device="cpu").predict(volume).array
    (model,) = import_bundle(bundle)
    given = labels_of(model, volume).array
    assert 2 * (given & wanted).sum() / (given.sum() + wanted.sum()) > 0.8
    assert any("aligned at the edges" in line for line in model.card.training["imported"]["differences"])


def test_ours_to_a_bundle_and_back(torso, torso_model, tmp_path):
    (model,) = load_models(torso_model)
    write_bundle((model,), tmp_path / "bundle")
    (back,) = import_bundle(tmp_path / "bundle")
    assert back.plan == model.plan
    assert back.card == model.card
    assert back.weights.keys() == model.weights.keys()
    assert all(torch.equal(back.weights[name], weight) for name, weight in model.weights.items())


def test_averaged_members_come_back_one_by_one(torso_model, tmp_path):
    (model,) = load_models(torso_model)
    write_bundle((model, model), tmp_path / "bundle")
    back = import_bundle(tmp_path / "bundle")
    assert len(back) == 2
    assert all(torch.equal(back[1].weights[name], weight) for name, weight in model.weights.items())


MARK = "pathlib.Path('ran').touch()"
CODE = {
    "an expression that calls": {"initialize": ["$__import__('pathlib').Path('ran').touch()"]},
    "import os": {"imports": ["$import os"]},
    "os.system": {"imports": ["$import os", "$os.system('touch ran')"]},
    "an attribute that starts a call": {"datalist": "$sorted([1], key=os.system)"},
    "another module": {"imports": ["$import subprocess"]},
    "the bundle's scripts": {"imports": ["$import scripts"]},
    "eval": {"dataset_dir": f"$eval(\"{MARK}\")"},
    "a way around": {"dataset_dir": "$().__class__.__base__.__subclasses__()"},
    "several statements": {"run": ["$import os; os.system('touch ran')"]},
    "a component that is code": {"dataset": {"_target_": "os.system", "command": "touch ran"}},
    "torch.load": {"dataset": {"_target_": "torch.load", "f": "x.pt"}},
    "a macro": {"dataset": "%configs/other.json::dataset"},
    "the network": {"network_def": "$torch.hub.load('a/b', 'c')"},
    "a network by script": {"network_def": UNET | {"_target_": "scripts.net.Net"}},
    "a number of the network": {"network_def": UNET | {"in_channels": "$len(os.listdir('/'))"}},
    "a reference to itself": {"inferer": "@inferer"},
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_code_is_refused_and_never_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = dict(CODE[name])
    bundle = zoo_bundle(tmp_path / "bad", UNET)
    file = bundle / "configs" / "inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ModelError, match=r"inference\.json"):
        import_bundle(bundle)
    assert not Path("ran").exists()


class Bomb:
    def __reduce__(self):
        return exec, (f"import pathlib; {MARK}",)


def test_a_checkpoint_with_code_is_refused_and_never_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = zoo_bundle(tmp_path / "bad")
    torch.save({"model": Bomb()}, bundle / "models" / "model.pt")
    with pytest.raises(ModelError, match=r"asks for builtins\.exec, which is code; nothing of it was run"):
        import_bundle(bundle)
    (bundle / "models" / "model.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match="asks for more than numbers"):
        import_bundle(bundle)
    assert not Path("ran").exists()
    (bundle / "models" / "model.pt").write_bytes(b"words")
    with pytest.raises((ModelError, CorruptFileError)):
        import_bundle(bundle)


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:\\outside.txt"])
def test_an_archive_that_would_write_elsewhere_is_refused(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(CorruptFileError, match="would lie outside the archive"):
        import_bundle(tmp_path / "bad.zip")
    assert not list(tmp_path.parent.glob("outside.txt"))


def test_an_archive_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("models/model.pt")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(CorruptFileError, match="is a link"):
        import_bundle(tmp_path / "bad.zip")


def test_an_archive_is_a_bundle(tmp_path):
    bundle = zoo_bundle(tmp_path / "spleen")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(bundle.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    (tmp_path / "spleen.zip").write_bytes(buffer.getvalue())
    (model,) = import_bundle(tmp_path / "spleen.zip")
    assert model.card.name == "spleen"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network_def": UNET | {"_target_": "VNet"}}, "network_def is a VNet, which no plan has"),
        ({"network_def": UNET | {"chanels": [4]}}, "takes no 'chanels'"),
        ({"inferer": {"_target_": "SimpleInferer"}}, "inferer is a SimpleInferer"),
        ({"preprocessing": {"transforms": [{"_target_": "HistogramNormalized", "keys": "image"}]}}, "HistogramNormalize"),
        ({"network_def": UNET | {"channels": [4, 8, 16]}}, "weights of another network"),
        (
            {"network_def": UNET | {"channels": [4096, 4096, 4096]}},
            r"model\.pt: \d+ weights, where a network .* has over 16777216",
        ),
        ({"network_def": UNET | {"channels": [-4, 8, 8]}}, r"network_def: features\.0: a number above 0 is expected"),
        ({"network_def": UNET | {"spatial_dims": "x"}}, "network_def: cannot be used .*'x'"),
        ({"network_def": UNET | {"act": "nope"}}, "bundle: .*act='nope'"),
        ({"inferer": INFERER | {"roi_size": [-1, -1, -1]}}, r"roi_size \[-1, -1, -1\], where a plan has a number of voxels"),
        ({"inferer": INFERER | {"roi_size": None}}, "roi_size None"),
        ({"inferer": INFERER | {"roi_size": [16, 16]}}, "roi_size"),
        ({"inferer": INFERER | {"roi_size": [17, 16, 16]}}, r"inference\.json: patch_size .* is not divisible"),
        ({"inferer": INFERER | {"overlap": 1.0}}, "overlap: a number below 1 is expected"),
        ({"inferer": {"_target_": "SliceInferer", "roi_size": [16, 16]}}, "inferer is a SliceInferer"),
        (before({"_target_": "Orientationd", "axcodes": "XYZ"}), "orientation 'XYZ' is none"),
        (before({"_target_": "Spacingd"}), "preprocessing has Spacing, whose arguments cannot be used .*pixdim"),
        (before({"_target_": "ScaleIntensityRanged", "a_min": "x", "a_max": 1, "b_min": 0, "b_max": 1}), "'x'"),
        (before({"_target_": "ScaleIntensityd", "minv": -1}), "another range"),
        ({"preprocessing": 3}, "preprocessing is no list of transforms"),
        (after({"_target_": "AsDiscreted", "threshold": 0.3}), "decides at 0.3"),
        (after({"_target_": "AsDiscreted", "threshold": 0.5}), "decides at 0.5 of logits"),
        (after({"_target_": "Activationsd", "softmax": True}, {"_target_": "AsDiscreted", "threshold": 0.5}), "of softmax"),
        (after({"_target_": "KeepLargestConnectedComponentd", "num_components": 2}), "keeps 2 components"),
        (after({"_target_": "KeepLargestConnectedComponentd", "independent": False}), "takes several labels as one"),
        (after({"_target_": "KeepLargestConnectedComponentd", "applied_labels": "x"}), "applied_labels 'x' are no values"),
        ({"checkpointloader": LOADER | {"load_path": "$@bundle_root + '/models/../../model.pt'"}}, "outside the bundle"),
        (DOUBLING, "is code, which is not run|more than 20000 values"),
    ],
)
def test_what_no_plan_holds_is_refused(change, reason, tmp_path):
    bundle = zoo_bundle(tmp_path / "bundle")
    file = bundle / "configs" / "inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match=reason):
        import_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "names", "is_layered"),
    [
        (after(SIGMOID, {"_target_": "AsDiscreted", "argmax": True}), ("spleen",), False),
        (after(SIGMOID, {"_target_": "AsDiscreted", "threshold": 0.5}), ("background", "spleen"), True),
        (after({"_target_": "AsDiscreted", "argmax": True, "threshold": 0.5}), ("spleen",), False),
    ],
)  # fmt: skip
def test_what_decides_labels(change, names, is_layered, tmp_path):
    """MONAI takes the largest of the sigmoids where it is told to, and then classes exclude one another."""
    bundle = zoo_bundle(tmp_path / "bundle")
    file = bundle / "configs" / "inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    (model,) = import_bundle(bundle)
    assert (model.labels.names, bool(model.plan.regions)) == (names, is_layered)


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        (before({"_target_": "Orientationd", "axcodes": ["L", "P", "S"]}), "orientation", "LPS"),
        (before({"_target_": "Spacingd", "pixdim": [1, 2]}), "spacing", (1.0, 2.0, 2.0)),  # MONAI repeats the last
        (before({"_target_": "ScaleIntensityd"}), "scheme", "range"),
        (before({"_target_": "NormalizeIntensityd", "subtrahend": 4, "divisor": 0}), "std", 1.0),  # as MONAI divides
        ({"preprocessing": "@steps", "steps": STEPS}, "orientation", "RAS"),
        ({"imports": ["$import numpy as np"], "dtype": "$np.float32"}, "dimensions", 3),
    ],
)  # fmt: skip
def test_other_ways_to_say_it(change, field, value, tmp_path):
    bundle = zoo_bundle(tmp_path / "bundle")
    file = bundle / "configs" / "inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    plan = import_bundle(bundle)[0].plan
    assert getattr(plan if hasattr(plan, field) else plan.normalisation[0], field) == value


def test_channels_named_by_a_list_and_one_reference(tmp_path):
    bundle = zoo_bundle(tmp_path / "bundle")
    file = bundle / "configs" / "metadata.json"
    metadata = json.loads(file.read_text())
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = ["background", "organ"]
    file.write_text(json.dumps(metadata | {"references": "A paper"}))
    (model,) = import_bundle(bundle)
    assert (model.labels.names, model.card.citation) == (("organ",), ("A paper",))


def test_scaling_to_0_and_1_is_monais(tmp_path):
    """ScaleIntensity beside the plan's own scheme, by the labels of a network of random weights."""
    bundle, volume = zoo_bundle(tmp_path / "bundle"), scan()
    file = bundle / "configs" / "inference.json"
    config = json.loads(file.read_text())
    steps = config["preprocessing"]["transforms"]
    config["preprocessing"]["transforms"] = [
        {"_target_": "ScaleIntensityd", "keys": "image"} if step["_target_"] == "ScaleIntensityRanged" else step for step in steps
    ]
    file.write_text(json.dumps(config))
    theirs = BundlePredictor(bundle, trust=True, device="cpu").predict(volume)
    assert 0.01 < (theirs.array > 0).mean() < 0.99
    assert (labels_of(import_bundle(bundle), volume).array == theirs.array).mean() >= 0.999


def test_damaged_and_packed_checkpoints(tmp_path):
    bundle = zoo_bundle(tmp_path / "bundle")
    file = bundle / "models" / "model.pt"
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-30], b"", b"PK"):
        file.write_bytes(content)
        with pytest.raises((CorruptFileError, ModelError), match=r"model\.pt: (no checkpoint|asks for)") as raised:
            import_bundle(bundle)
        assert "weights_only" not in str(raised.value)  # PyTorch advises to read it unsafely
    with zipfile.ZipFile(io.BytesIO(whole)) as plain, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(CorruptFileError, match="is compressed"):
        import_bundle(bundle)


def test_an_archive_with_a_file_beside_the_bundles_folder(tmp_path):
    bundle = zoo_bundle(tmp_path / "spleen")
    with zipfile.ZipFile(tmp_path / "spleen.zip", "w") as archive:
        archive.writestr("README.txt", "x")
        for path in sorted(bundle.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    assert import_bundle(tmp_path / "spleen.zip")[0].card.name == "spleen"


def test_with_trust_expressions_of_needed_parts_are_run(tmp_path):
    network = UNET | {"in_channels": "$int(math.sqrt(1))"}
    bundle = zoo_bundle(tmp_path / "bundle")
    file = bundle / "configs" / "inference.json"
    config = json.loads(file.read_text()) | {"network_def": network}
    config["imports"].append("$import math")
    file.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="--trust"):
        import_bundle(bundle)
    (model,) = import_bundle(bundle, trust=True)
    assert model.plan.channels == ("image",)


def test_what_is_no_bundle_says_so(tmp_path):
    with pytest.raises(MissingFileError):
        import_bundle(tmp_path / "nothing")
    with pytest.raises(ModelError, match="no MONAI bundle"):
        import_bundle(tmp_path)


def test_the_command_makes_a_model_folder(tmp_path):
    bundle = zoo_bundle(tmp_path / "spleen")
    facts = run_json("import", "bundle", bundle, "--out", tmp_path / "model")
    assert facts["labels"] == ["spleen"]
    assert load_models(tmp_path / "model")[0].plan.patch_size == (16, 16, 16)
    refused(run("import", "bundle", bundle, "--out", tmp_path / "other", "--orientation", "RAS"), "beside a bundle")
    file = bundle / "configs" / "inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dataset_dir": "$open('x').read()"}))
    refused(run("import", "bundle", bundle, "--out", tmp_path / "other"), "dataset_dir is code, which is not run", "--trust")
    assert not (tmp_path / "other").exists()
