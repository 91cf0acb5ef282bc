"""Centreline Dice (clDice) for tubes such as vessels and airways."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from voxelry.metrics.empty_policy import EmptyPolicy
from voxelry.metrics.metric_table import DEFAULT_POLICIES


def mask_cldice(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], policy: EmptyPolicy = DEFAULT_POLICIES["cldice"]
) -> float:
    """Centreline Dice, clDice (Shit et al., CVPR 2021), with the skeletons of scikit-image, as in the authors' metric.

    The harmonic mean of topology precision (the share of the prediction's skeleton inside the reference) and topology
    sensitivity (the share of the reference's skeleton inside the prediction). Not the differentiable soft clDice of their loss.

    Args:
        reference: ``(*spatial)``, 2D or 3D.
        prediction: prediction of the same shape.
        policy: the score of empty masks.

    Returns:
        0..1, no unit; NaN where there is no score, or no skeleton.
    """
    truth, guess = np.asarray(reference, dtype=bool), np.asarray(prediction, dtype=bool)
    sizes = np.array(np.count_nonzero(truth)), np.array(np.count_nonzero(guess))
    if not all(sizes):
        return float(policy.apply(np.array(np.nan), *sizes))
    precision, sensitivity = _share_inside(guess, truth), _share_inside(truth, guess)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0


def _share_inside(tube: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """The share of the tube's skeleton inside a mask; NaN where the skeleton is empty, as that of a cube may be."""
    skeleton = skeletonize(tube)
    length = np.count_nonzero(skeleton)
    return float(np.count_nonzero(skeleton & mask) / length) if length else float("nan")
