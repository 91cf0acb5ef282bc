"""Networks of random weights that give every class."""

import torch


def balance(network, patch_BC, classes):
    """Shift the last bias so that the logits of each class have median 0 on a patch."""
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.shape == (classes,)]
    last = [parameter for name, parameter in named if "output_block" in name] or [parameter for _, parameter in named]
    with torch.inference_mode():
        logits = network.eval()(patch_BC)
    finest = logits[0] if isinstance(logits, list) else logits
    with torch.no_grad():
        last[-1] -= finest[:, -classes:].clone().transpose(0, 1).flatten(1).median(1).values
    return network
