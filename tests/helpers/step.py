"""Two training steps, run by test_cost.py in a process of its own: prints the peak of its memory, and the estimate."""

import gc
import json
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, interpolate, one_hot

sys.path.append(str(Path(__file__).parents[1]))

from helpers.plans import tiny_network, tiny_plan
from voxelry.core.architectures import ARCHITECTURES
from voxelry.networks.build import build_network
from voxelry.networks.cost import network_cost

CLASSES = 3


def main(name, dimensions, edge, dtype):
    torch.set_num_threads(1)
    train(tiny_plan(dimensions), torch.float32)  # what a first step takes for itself
    gc.collect()
    before = status("VmRSS")
    needs = ARCHITECTURES[name]
    stages = max(needs.fewest, 4)
    features = tuple(16 * 2**n for n in range(stages)) if needs.widths is None else needs.widths(needs.first, stages)
    plan = tiny_plan(dimensions, network=tiny_network(dimensions, features, name=name), patch_size=(edge,) * dimensions)
    network = train(plan, dtype)
    foreseen = network_cost(network, plan, CLASSES, dtype=dtype).total
    sys.stdout.write(json.dumps({"peak": status("VmHWM") - before, "foreseen": foreseen}))


def status(key):
    """Bytes of memory, as Linux counts them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def train(plan, dtype):
    layout = torch.channels_last if plan.dimensions == 2 else torch.channels_last_3d
    network = build_network(plan, CLASSES).to(memory_format=layout)
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    for _ in range(2):
        image = torch.randn(plan.batch_size, 1, *plan.patch_size).contiguous(memory_format=layout)
        classes = torch.randint(0, CLASSES, (plan.batch_size, *plan.patch_size))
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            heads = network(image)
        sum(loss(head.float(), classes) for head in heads).backward()
        optimiser.step()
        optimiser.zero_grad()
    return network


def loss(logits, classes):
    target = interpolate(classes[:, None].float(), size=logits.shape[2:], mode="nearest-exact")[:, 0].long()
    hot, shares, axes = one_hot(target, CLASSES).movedim(-1, 1).float(), logits.softmax(1), (0, *range(2, logits.ndim))
    dice = (2 * (hot * shares).sum(axes) + 1e-5) / (hot.sum(axes) + shares.sum(axes) + 1e-5)
    return cross_entropy(logits, target) - dice.mean()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), getattr(torch, sys.argv[4]))
