"""Rules for empty masks: the score of a label that the reference, the prediction or both lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MISSING = float("nan")
"""No score: NaN in arrays, None in plain data. It enters no mean and is counted."""


@dataclass(frozen=True)
class EmptyPolicy:
    """The score of a label that a mask lacks; `MISSING` for none, None for the value of the metric's formula.

    Attributes:
        both: neither the reference nor the prediction has the label.
        only_reference: the reference has it, the prediction does not.
        only_prediction: the prediction has it, the reference does not.

    Example:
        >>> import numpy as np
        >>> policy = EmptyPolicy(both=1.0, only_reference=0.0, only_prediction=0.0)
        >>> reference_voxels, prediction_voxels = [10, 10, 0], [10, 0, 0]
        >>> policy.apply(np.array([0.9, np.nan, np.nan]), reference_voxels, prediction_voxels).tolist()
        [0.9, 0.0, 1.0]
    """

    both: float | None = MISSING
    only_reference: float | None = None
    only_prediction: float | None = None

    def apply(self, values: NDArray[np.float64], reference: Any, prediction: Any) -> NDArray[np.float64]:
        """Replace the scores of labels that a mask lacks.

        Args:
            values: ``(...)`` values of the formula.
            reference: ``(...)`` size of each label in the reference, 0 where it is empty.
            prediction: ``(...)`` its size in the prediction.

        Returns:
            A new float64 array of the same shape.
        """
        import numpy as np  # late, since the table of metrics, which the command line reads, holds policies

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
