"""Centreline Dice for tubes such as vessels and airways."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from voxelry.metrics.policy import DEFAULT_POLICIES, EmptyPolicy


def cldice(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], policy: EmptyPolicy = DEFAULT_POLICIES["cldice"]
) -> float:
    """Centreline Dice, clDice (Shit et al., CVPR 2021), with the skeletons of scikit-image as the authors' metric has them.

    The harmonic mean of topology precision (how much of the prediction's skeleton lies in the reference) and topology
    sensitivity (how much of the reference's skeleton lies in the prediction). Not the differentiable soft clDice of their loss.

    Args:
        reference: ``(*spatial)``, 2D or 3D.
        prediction: of the same shape.
        policy: what empty masks score.

    Returns:
        0..1, no unit; NaN where there is no score.
    """
    truth, guess = np.asarray(reference, dtype=bool), np.asarray(prediction, dtype=bool)
    sizes = np.array(np.count_nonzero(truth)), np.array(np.count_nonzero(guess))
    if not all(sizes):
        return float(policy.apply(np.array(np.nan), *sizes))
    precision, sensitivity = _share_inside(guess, truth), _share_inside(truth, guess)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0


def _share_inside(tube: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """The share of the tube's skeleton that lies in the other mask."""
    skeleton = skeletonize(tube)
    return float(np.count_nonzero(skeleton & other) / np.count_nonzero(skeleton))
