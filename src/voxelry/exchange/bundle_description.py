"""What an exported bundle says of itself: ``metadata.json`` and its README."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from voxelry.base.version import version
from voxelry.core.model import Model
from voxelry.exchange.bundle_network import BundleNetwork

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
"""Of the metadata; MONAI's `verify_metadata` downloads it."""


def bundle_metadata(model: Model, network: BundleNetwork) -> dict[str, Any]:
    """``metadata.json``, of MONAI's schema."""
    plan, card = model.plan, model.card
    regions = [region.name for region in plan.regions] or card.labels.names
    heads = [f"instance head {number}" for number in range(1, plan.head_channels + 1)]
    has_background = network.channels_out - len(heads) > len(regions)
    names = [*(["background"] if has_background else []), *regions, *heads]
    packages = ("nibabel", "pillow", "scipy", "pytorch-ignite", "fire")
    shared = {"spatial_shape": list(plan.patch_size), "dtype": "float32", "is_patch_data": True}
    image = {
        "type": "image",
        "format": "magnitude" if card.fingerprint.modality != "CT" else "hounsfield",
        "modality": card.fingerprint.modality,
        "num_channels": network.channels_in,
        "value_range": [],
        "channel_def": {str(number): name for number, name in enumerate(plan.channels)},
        **shared,
    }
    pred = {
        "type": "image",
        "format": "segmentation",
        "num_channels": network.channels_out,
        "value_range": [],
        "channel_def": {str(number): name for number, name in enumerate(names)},
        **shared,
    }
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by voxelry {version()}"},
        "monai_version": importlib.metadata.version("monai"),
        "pytorch_version": importlib.metadata.version("torch").partition("+")[0],
        "numpy_version": importlib.metadata.version("numpy"),
        "required_packages_version": {name: importlib.metadata.version(name) for name in packages},
        "name": card.name,
        "task": f"Segmentation of {', '.join(card.labels.names)}",
        "description": f"A {plan.network.name} for {plan.dimensions}D {card.fingerprint.modality}, exported by voxelry",
        "authors": "see docs/README.md",
        "copyright": card.licence or "not stated",
        "intended_use": "Research; not a medical device",
        "references": list(card.citation),
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }


def bundle_readme(model: Model) -> str:
    """``docs/README.md``."""
    card = model.card
    rows = "\n".join(f"| {label.value} | {label.name} |" for label in card.labels.labels)
    channels = ", ".join(model.plan.channels)
    return f"""# {card.name}

A segmentation model of {card.fingerprint.modality}, exported by voxelry {version()}. For research; not a medical device.

    python -m monai.bundle run --config_file configs/inference.json --bundle_root "$PWD" --dataset_dir SCANS --output_dir OUT

from this folder. `SCANS` holds a file for each scan ({channels}), or `<id>_0000`, `<id>_0001`... for its channels; voxelry is not
needed. `scripts/` brings scans to the network's grid and labels back, as voxelry does; `docs/self_test.json` says how far both
agree on a scan.

| value | label |
|---|---|
{rows}

Licence of the training set: {card.licence or "not stated"}. {" ".join(card.citation)}
"""
