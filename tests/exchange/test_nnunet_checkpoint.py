import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from helpers.nnunet_results import checkpoint
from voxelry.errors import ModelError
from voxelry.exchange.nnunet_checkpoint import read_checkpoint

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture
def saved(tmp_path):
    def save(**changes):
        torch.save(checkpoint(STATE, "3d_fullres", **changes), tmp_path / "checkpoint_final.pth")
        return tmp_path / "checkpoint_final.pth"

    return save


class Runs:
    """Unpickled by the ordinary unpickler, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_weights_settings_and_numpy_scalars_are_read(saved):
    read = read_checkpoint(saved())
    assert torch.equal(read.weights["a.weight"], STATE["a.weight"])
    assert (read.configuration, read.trainer, read.mirror_axes, read.epoch) == ("3d_fullres", "nnUNetTrainer", (0, 1, 2), 3)


def test_no_mirroring_and_names_of_parallel_and_compiled_networks(saved):
    read = read_checkpoint(
        saved(inference_allowed_mirroring_axes=None, network_weights={"module._orig_mod.a": STATE["a.weight"]})
    )
    assert read.mirror_axes == ()
    assert list(read.weights) == ["a"]


@pytest.mark.parametrize("key", ["logging", "network_weights", "init_args"])
def test_code_is_named_and_never_run(saved, tmp_path, key):
    file, made = saved(**{key: {"x": Runs(tmp_path / "made")}}), tmp_path / "made"
    with pytest.raises(ModelError, match=r"checkpoint_final.pth: asks for posix.mkdir, which is code; nothing of it was run"):
        read_checkpoint(file)
    assert not made.exists()
    torch.load(file, weights_only=False)  # the code does run where it is let
    assert made.is_dir()


def test_arrays_of_objects_are_refused(saved):
    with pytest.raises(ModelError, match="_reconstruct"):
        read_checkpoint(saved(logging={"x": np.array([1, "a"], object)}))


def test_what_torch_does_not_write_is_refused(saved, tmp_path):
    file = tmp_path / "bare.pth"
    file.write_bytes(pickle.dumps(Runs(tmp_path / "made")))
    with pytest.raises(ModelError, match=r"not the archive that torch.save writes"):
        read_checkpoint(file)
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(saved()) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ModelError, match="is compressed"):
        read_checkpoint(packed)
    assert not (tmp_path / "made").exists()


def test_a_damaged_file_is_one_error(saved):
    file = saved()
    content = file.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 30):
        file.write_bytes(content[:length])
        with pytest.raises(ModelError, match="cannot be read"):
            read_checkpoint(file)
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(file.with_name("missing.pth"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"init_args": {}}, "no checkpoint of nnU-Net v2 .KeyError: 'configuration'"),
        ({"network_weights": {}}, "its network_weights are no tensors"),
        ({"network_weights": {"a": 1}}, "its network_weights are no tensors"),
        ({"inference_allowed_mirroring_axes": "xy"}, "no checkpoint of nnU-Net v2"),
    ],
)
def test_other_pickles_are_refused(saved, changes, reason):
    with pytest.raises(ModelError, match=reason):
        read_checkpoint(saved(**changes))
