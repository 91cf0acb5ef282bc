"""Names of parameters: nnU-Net's networks and ours, which are the same networks.

nnU-Net's convolutions have biases before an instance norm, which takes them away again; where ours have none they are left out,
and what the network computes stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from voxelry.core.architectures import architecture
from voxelry.core.plan import NetworkPlan
from voxelry.errors import ModelError

Names = dict[str, str]
"""Our name of a parameter -> nnU-Net's."""

PLAIN, RESIDUAL = "dynunet", "resenc"


def parameter_names(network: NetworkPlan) -> Names:
    """Every parameter of a network.

    Args:
        network: ``dynunet`` or ``resenc``.
    """
    if network.name == PLAIN:
        return dict(_plain(len(network.features)))
    return dict(_residual(network.features, network.strides, stage_blocks(network)))


def stage_blocks(network: NetworkPlan) -> tuple[int, ...]:
    """Residual blocks of each encoder stage, those of the table of networks where the plan names none."""
    return network.blocks or architecture(network.name).stage_blocks(len(network.features))


def our_weights(theirs: Mapping[str, Tensor], network: NetworkPlan, where: str) -> dict[str, Tensor]:
    """Weights under our names, as nnU-Net has them.

    Raises:
        ModelError: a parameter is missing, or one is left over that does not cancel out.
    """
    names = parameter_names(network)
    missing = [name for name in names.values() if name not in theirs]
    known = set(names.values())
    left = [name for name in theirs if name not in known and not _is_copy(name) and not _cancels(name, known)]
    if missing or left:
        problem = f"has no {missing[0]}" if missing else f"has {left[0]} too"
        raise ModelError(
            f"{where}: its network is not the one of plans.json ({problem})",
            remedy="Networks of a trainer's own cannot be imported; plain and residual U-Nets of nnU-Net's plans can.",
        )
    return {ours: theirs[name] for ours, name in names.items()}


def _is_copy(name: str) -> bool:
    """nnU-Net registers every layer twice, and the encoder in the decoder once more."""
    return ".all_modules." in name or name.startswith("decoder.encoder.")


def _cancels(name: str, known: set[str]) -> bool:
    """Whether it is the bias of a convolution, before a norm, that ours does not have."""
    return name.endswith(".conv.bias") and name.replace(".conv.bias", ".norm.weight") in known


def _pair(ours: str, theirs: str, *tails: str) -> Iterator[tuple[str, str]]:
    for tail in tails or ("weight", "bias"):
        yield f"body.{ours}.{tail}", f"{theirs}.{tail}"


def _plain(stages: int) -> Iterator[tuple[str, str]]:
    """MONAI's DynUNet and PlainConvUNet."""
    last = stages - 1
    encoder = ["input_block", *(f"downsamples.{stage}" for stage in range(stages - 2)), "bottleneck"]
    blocks = [(name, f"encoder.stages.{stage}.0") for stage, name in enumerate(encoder)]
    blocks += [(f"upsamples.{step}.conv_block", f"decoder.stages.{step}") for step in range(last)]
    for ours, theirs in blocks:
        for number in (0, 1):
            yield from _pair(f"{ours}.conv{number + 1}.conv", f"{theirs}.convs.{number}.conv", "weight")
            yield from _pair(f"{ours}.norm{number + 1}", f"{theirs}.convs.{number}.norm")
    for step in range(last):
        yield from _pair(f"upsamples.{step}.transp_conv.conv", f"decoder.transpconvs.{step}")
        level = last - 1 - step
        head = f"deep_supervision_heads.{level - 1}" if level else "output_block"
        yield from _pair(f"{head}.conv.conv", f"decoder.seg_layers.{step}")


def _residual(features: Sequence[int], strides: Sequence[Sequence[int]], blocks: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Our residual encoder U-Net and nnU-Net's."""
    yield from _block("stem", "encoder.stem.convs.0")
    before = features[0]
    for stage, (width, stride, count) in enumerate(zip(features, strides, blocks, strict=True)):
        for number in range(count):
            ours, theirs = f"encoder.{stage}.{number}", f"encoder.stages.{stage}.blocks.{number}"
            yield from _block(f"{ours}.first", f"{theirs}.conv1")
            yield from _block(f"{ours}.second", f"{theirs}.conv2")
            if number == 0 and width != before:
                place = int(any(step != 1 for step in stride))  # behind the pooling
                yield from _pair(f"{ours}.around.{place}.conv", f"{theirs}.skip.{place}.conv", "weight")
                yield from _pair(f"{ours}.around.{place}.adn.N", f"{theirs}.skip.{place}.norm")
        before = width
    last = len(features) - 2
    for level in range(last + 1):
        yield from _pair(f"up.{level}.conv", f"decoder.transpconvs.{last - level}")
        yield from _block(f"decoder.{level}", f"decoder.stages.{last - level}.convs.0")
        yield from _pair(f"heads.{level}.conv", f"decoder.seg_layers.{last - level}")


def _block(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """A convolution with its bias, and its norm."""
    yield from _pair(f"{ours}.conv", f"{theirs}.conv")
    yield from _pair(f"{ours}.adn.N", f"{theirs}.norm")
