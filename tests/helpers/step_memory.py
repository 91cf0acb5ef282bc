"""The memory of a training step by the planner's own measure, to check its plans."""

from voxelry.core.architectures import REFERENCE_BATCH, architecture
from voxelry.core.plan import Plan
from voxelry.planning.design import Design


def step_memory(plan: Plan, classes: int) -> int:
    """Bytes that a training step is planned to take on a GPU in mixed precision.

    Args:
        plan: any plan.
        classes: background included.
    """
    axes = [axis for axis in range(plan.dimensions) if axis != plan.slice_axis]
    network = plan.network
    widths = network.features
    design = Design(network.name, classes, widths[0], max(widths), None, widths, network.blocks or (2,), network.options)
    strides = [[stride[axis] for axis in axes] for stride in network.strides]
    numbers = design.activations([plan.patch_size[axis] for axis in axes], strides)
    reference = architecture(network.name).gpu
    return round(plan.batch_size * numbers * reference.memory / (reference.outputs[len(axes)] * REFERENCE_BATCH[len(axes)]))
