import json

import numpy as np
import pytest
import torch

from helpers.nnunet_network import nnunet_logits
from helpers.nnunet_results import architecture, checkpoint, configuration, dataset, plans, write_results
from voxelry.api.import_verbs import import_model
from voxelry.core.geometry import Geometry
from voxelry.core.volume import Volume
from voxelry.errors import ModelError, UsageError
from voxelry.exchange.nnunet_import import import_results
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.networks.weights import load_models, network_of

CPU = torch.device("cpu")
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}


def cascade(folder, second=("0",)):
    """Both stages; the weights of the first are those of a network of one channel."""
    both = plans({
        "3d_fullres": configuration(),
        "3d_lowres": configuration(next_stage="3d_cascade_fullres", spacing=[4.0, 2.0, 2.0]),
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    })  # fmt: skip
    write_results(folder, "3d_lowres", plan=both)
    return write_results(folder, "3d_cascade_fullres", plan=both, inputs=3, folds=second)[0]


@pytest.mark.parametrize("forward", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("axes", [2, 3])
def test_logits_are_those_of_nnunets_network(tmp_path, axes, residual, forward):
    own = configuration(axes, architecture=architecture(axes, residual))
    folder, [state] = write_results(tmp_path, plan=plans({"3d_fullres": own}, transpose_forward=forward), mirrored=(0,))
    [model] = import_results(folder)
    stored = torch.randn(1, 1, *model.plan.patch_size)
    read = stored.permute(0, 1, 4, 3, 2).permute(0, 1, *(2 + axis for axis in forward))  # (z, y, x), transposed
    assert list(read.shape[-axes:]) == own["patch_size"]
    theirs = nnunet_logits(read if axes == 3 else read[:, :, 0], state, own["architecture"]["arch_kwargs"])
    with torch.inference_mode():
        ours = network_of(model, CPU)(stored)[0].permute(0, 1, 4, 3, 2).permute(0, 1, *(2 + axis for axis in forward))
    assert torch.allclose(ours if axes == 3 else ours[:, :, 0], theirs, atol=1e-4)
    assert model.plan.flips == (2 - forward[3 - axes],)
    spacing = [model.plan.spacing[2 - axis] for axis in forward]
    assert spacing == [2.0, 1.0, 1.0] if axes == 3 else spacing[1:] == [1.0, 1.0] and spacing[0] is None


def test_labels_record_and_convention(tmp_path):
    folder, _ = write_results(tmp_path, card=dataset(labels={"background": 0, "b": 2, "a": 1, "ignore": 3}, licence="CC0"))
    [model] = import_results(folder)
    assert model.labels.id2label == {0: "background", 1: "a", 2: "b"}
    assert model.plan.convention == "nnunet"
    assert model.card.training | {"fold": "0", "trainer": "nnUNetTrainer", "configuration": "3d_fullres"} == model.card.training
    assert (model.card.licence, model.card.fingerprint.cases, model.plan.orientation) == ("CC0", 4, None)


def test_folds_become_an_ensemble(tmp_path):
    folder, states = write_results(tmp_path, folds=("0", "10", "2", "all"))
    models = import_model("nnunet", folder, tmp_path / "model")
    assert [model.card.training["fold"] for model in models] == ["0", "2", "10"]
    assert torch.equal(models[2].weights["body.output_block.conv.conv.bias"], states[1]["decoder.seg_layers.2.bias"])
    assert len(load_models(tmp_path / "model")) == 3
    assert [model.card.training["fold"] for model in import_results(folder, ["all"])] == ["all"]
    with pytest.raises(ModelError, match=r"fold 7 is missing. Folds that are there: 0, 10, 2, all"):
        import_results(folder, ["7"])


def test_without_a_final_checkpoint_the_best_is_taken(tmp_path, caplog):
    folder, _ = write_results(tmp_path)
    (folder / "fold_0/checkpoint_final.pth").rename(folder / "fold_0/checkpoint_best.pth")
    assert len(import_results(folder)) == 1
    assert "no checkpoint_final.pth, taking checkpoint_best.pth" in caplog.text
    (folder / "fold_0/checkpoint_best.pth").unlink()
    with pytest.raises(ModelError, match="no fold with a checkpoint"):
        import_results(folder)


def test_a_cascade_brings_its_first_stage(tmp_path):
    folder = cascade(tmp_path)
    [model] = import_model("nnunet", folder, tmp_path / "model")
    assert model.plan.configuration == "3d_cascade"
    assert model.previous is not None
    assert model.previous.plan.configuration == "3d_lowres"
    volume = Volume(
        np.random.default_rng(0).normal(size=(1, 24, 20, 12)).astype(np.float32), Geometry.from_spacing((24, 20, 12), (1, 1, 2))
    )
    [loaded] = load_models(tmp_path / "model")
    labels = Predictor(loaded, "cpu", PredictOptions(mixed_precision="off")).predict(volume).labels
    assert set(np.unique(labels.array)) <= {0, 1, 2}


def test_a_cascade_without_its_first_stage_is_refused(tmp_path):
    with pytest.raises(ModelError, match="fold 1 of the cascade's first stage is missing"):
        import_results(cascade(tmp_path, second=("1",)))


def test_regions_give_the_value_of_the_last(tmp_path):
    folder, _ = write_results(tmp_path, card=dataset(**REGIONS), classes=2)
    [model] = import_results(folder)
    assert [(region.name, region.labels, region.label) for region in model.plan.regions] == [
        ("whole", ("whole", "core"), "whole"), ("core", ("core",), "core"),
    ]  # fmt: skip
    logits = network_of(model, CPU)(torch.randn(1, 1, *model.plan.patch_size))[0]
    assert logits.shape[1] == 3
    assert not logits[:, 0].any()


def test_mirrored_sides_stay(tmp_path):
    """nnU-Net mirrors along every axis that it was trained with, whatever the names of labels say."""
    [model] = import_results(write_results(tmp_path)[0])
    predictor = Predictor(model, "cpu", PredictOptions(mixed_precision="off"))
    assert len(predictor.segmenter.ensembles[0].mirrors) == 8
    assert predictor.segmenter.ensembles[0].mirror_map == (0, 1, 2)


def test_older_plans_describe_the_network_by_other_names(tmp_path):
    own = configuration()
    arguments = own.pop("architecture")["arch_kwargs"]
    own |= {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": [2] * 4, "n_conv_per_stage_decoder": [2] * 3, "conv_kernel_sizes": arguments["kernel_sizes"],
        "pool_op_kernel_sizes": arguments["strides"], "num_pool_per_axis": [2, 2, 3],
    }  # fmt: skip
    new = plans({"3d_fullres": configuration(architecture=architecture(features_per_stage=[4, 8, 8, 8]))})
    folder, _ = write_results(tmp_path, plan=new)
    [expected] = import_results(folder)
    for key in ("resampling_fn_data", "resampling_fn_probabilities"):
        own.pop(key)
        own.pop(f"{key}_kwargs")
    old = plans({"3d_fullres": own})
    old["foreground_intensity_properties_by_modality"] = old.pop("foreground_intensity_properties_per_channel")
    (folder / "plans.json").write_text(json.dumps(old))
    [model] = import_results(folder)
    assert model.plan == expected.plan


def test_orientation_is_the_readers_or_the_users(tmp_path):
    folder, _ = write_results(
        tmp_path / "a", plan=plans({"3d_fullres": configuration()}, image_reader_writer="NibabelIOWithReorient")
    )
    assert import_results(folder)[0].plan.orientation == "RAS"
    folder, _ = write_results(tmp_path / "b")
    assert import_results(folder, orientation="LPS")[0].plan.orientation == "LPS"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normalization_schemes": ["MyNormalization"]}, "normalisation MyNormalization of channel 0 is not known"),
        ({"resampling_fn_data": "resample_torch_simple"}, "it resamples by resample_torch_simple"),
        ({"resampling_fn_data_kwargs": {"force_separate_z": True}}, "it resamples with .*force_separate_z"),
        ({"architecture": architecture(n_conv_per_stage=[1, 2, 2, 2])}, r"PlainConvUNet with n_conv_per_stage \[1, 2, 2, 2\]"),
        ({"architecture": architecture(norm_op="torch.nn.modules.batchnorm.BatchNorm3d")}, "PlainConvUNet with norm_op"),
        ({"architecture": architecture() | {"network_class_name": "x.Primus"}}, "network x.Primus"),
        ({"inherits_from": "3d_fullres"}, "inherits from itself"),
        ({"inherits_from": "3d_fulres"}, "no configuration '3d_fulres'"),
        ({"patch_size": "x"}, "patch_size"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(tmp_path, changes, reason):
    folder, _ = write_results(tmp_path)
    (folder / "plans.json").write_text(json.dumps(plans({"3d_fullres": configuration() | changes})))
    with pytest.raises(ModelError, match=reason):
        import_results(folder)


def test_a_network_of_a_trainers_own_is_refused(tmp_path):
    folder, [state] = write_results(tmp_path)
    for changed, reason in (
        ({k: v for k, v in state.items() if k != "decoder.transpconvs.0.bias"}, "has no decoder.transpconvs.0.bias"),
        (state | {"attention.weight": torch.zeros(2)}, "has attention.weight too"),
        (state | {"decoder.seg_layers.2.bias": torch.zeros(5)}, "the weights do not fit the plan"),
    ):
        torch.save(checkpoint(changed, "3d_fullres"), folder / "fold_0/checkpoint_final.pth")
        with pytest.raises(ModelError, match=reason):
            import_results(folder)


def test_mistakes_are_explained(tmp_path):
    folder, _ = write_results(tmp_path / "Dataset007_Tiny")
    with pytest.raises(ModelError, match=r"plans.json is missing.*Give one of its folders, such as .*nnUNetPlans__3d_fullres"):
        import_results(folder.parent)
    with pytest.raises(UsageError, match=r"no kind 'nnunett' of models to import.*nnunet"):
        import_model("nnunett", folder, tmp_path / "model")
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        import_model("nnunet", folder, tmp_path / "there")


@pytest.mark.parametrize(
    "card",
    [
        dataset(regions_class_order=[2, 1]),  # which nnU-Net reads only where there are regions
        dataset(labels={"background": [0], "left part": [1], "right part": [2]}),
    ],
)
def test_labels_without_regions_keep_their_names(tmp_path, card):
    folder, _ = write_results(tmp_path, card=card)
    [model] = import_results(folder)
    assert [(label.value, label.name) for label in model.labels.labels] == [(1, "left part"), (2, "right part")]
    assert model.plan.regions == ()


WRONG = [None, -1, 0, "x", [], {}, [1], 10**12, 1.5, True, float("nan")]


def places(tree, start=()):
    """Every place of a JSON tree."""
    yield start
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(value, (*start, key))


def changed(tree, place, value):
    copy = json.loads(json.dumps(tree))
    node = copy
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return copy


@pytest.mark.parametrize("file", [pytest.param("plans.json", marks=pytest.mark.slow), "dataset.json"])
def test_every_wrong_value_is_one_error_or_harmless(tmp_path, file):
    """Each value of the files in turn replaced by values of other kinds; what is refused names the folder."""
    folder, _ = write_results(tmp_path)
    content = json.loads((folder / file).read_text())
    errors = []
    for place in list(places(content))[1:]:
        for value in WRONG:
            (folder / file).write_text(json.dumps(changed(content, place, value)))
            try:
                import_results(folder)
            except ModelError as error:
                errors.append(str(error))
    assert len(errors) > 50
    assert [error for error in errors if str(folder) not in error] == []


@pytest.mark.parametrize("axes", [(5,), (0, 0), (-1,), (0, 1, 2, 3)])
def test_mirrored_axes_that_the_network_has_not(tmp_path, axes):
    folder, _ = write_results(tmp_path, mirrored=axes)
    with pytest.raises(ModelError, match="mirrors along axes"):
        import_results(folder)


def test_one_fold_by_its_number(tmp_path):
    folder, _ = write_results(tmp_path, folds=("0", "1"))
    assert len(import_model("nnunet", folder, tmp_path / "model", folds=0)) == 1
    assert len(import_model("nnunet", folder, tmp_path / "other", folds=["1", 1])) == 1
