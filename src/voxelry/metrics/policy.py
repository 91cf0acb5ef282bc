"""What a metric says where a mask is empty: a value, "missing", or what its formula gives. Named here, for every metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING = float("nan")
"""No score: NaN in arrays, None in plain data. It enters no mean and is counted."""


@dataclass(frozen=True)
class EmptyPolicy:
    """The score of a label that a mask lacks; `MISSING` for none, None for whatever the metric's formula gives.

    Attributes:
        both: neither the reference nor the prediction has the label.
        only_reference: the reference has it, the prediction missed it.
        only_prediction: the prediction has it, the reference does not.
    """

    both: float | None = MISSING
    only_reference: float | None = None
    only_prediction: float | None = None

    def apply(self, values: NDArray[np.float64], reference: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.float64]:
        """Scores with this policy in force.

        Args:
            values: ``(...)`` what the formula gives.
            reference: ``(...)`` size of each label in the reference, 0 where it is empty.
            prediction: ``(...)`` its size in the prediction.

        Returns:
            A new float64 array of the same shape.
        """
        result = np.array(values, dtype=np.float64)
        has_reference, has_prediction = np.asarray(reference) > 0, np.asarray(prediction) > 0
        for value, where in (
            (self.both, ~has_reference & ~has_prediction),
            (self.only_reference, has_reference & ~has_prediction),
            (self.only_prediction, ~has_reference & has_prediction),
        ):
            if value is not None:
                result[where] = value
        return result


_OVERLAP = EmptyPolicy(both=MISSING, only_reference=0.0, only_prediction=0.0)
_DISTANCE = EmptyPolicy(both=MISSING, only_reference=MISSING, only_prediction=MISSING)

DEFAULT_POLICIES: Mapping[str, EmptyPolicy] = MappingProxyType(
    {
        "dice": _OVERLAP,
        "iou": _OVERLAP,
        "boundary_iou": _OVERLAP,
        "cldice": _OVERLAP,
        "nsd": _OVERLAP,
        "precision": EmptyPolicy(both=MISSING, only_reference=MISSING, only_prediction=0.0),
        "recall": EmptyPolicy(both=MISSING, only_reference=0.0, only_prediction=MISSING),
        "specificity": EmptyPolicy(both=None),
        "fpr": EmptyPolicy(both=None),
        "volume_error": EmptyPolicy(both=MISSING, only_reference=-1.0, only_prediction=MISSING),
        "volume_error_mm3": EmptyPolicy(both=None),
        "hd": _DISTANCE,
        "hd95": _DISTANCE,
        "assd": _DISTANCE,
        "masd": _DISTANCE,
        "msd_to_prediction": _DISTANCE,
        "msd_to_reference": _DISTANCE,
    }
)
"""The default of each metric. A distance to nothing is missing, never 0 and never a number that enters a mean unseen."""
