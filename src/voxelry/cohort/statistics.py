"""Statistics of a cohort: bootstrap intervals by patient, paired tests, and Holm's correction. Missing values are left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 2000
POOLED_RESAMPLES = 500
"""Sets drawn for the interval of a metric of a whole set, each of which ranks all objects anew."""
PERMUTATIONS = 10_000
EXACT_UP_TO = 13
"""Patients up to which every sign pattern is tried (2 ** 13 = 8192, fewer than `PERMUTATIONS`)."""


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes:
        mean: mean of the values that are not missing; NaN if all are.
        low: the 2.5th percentile of the resampled means.
        high: the 97.5th percentile.
        n: number of values.
        missing: number of missing values.
    """

    mean: float
    low: float
    high: float
    n: int
    missing: int


def bootstrap(values: Values, groups: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean and its 95 % percentile interval (Efron 1979), drawing patients, not cases.

    Cases of one patient are alike, so whole patients are drawn with replacement. With one patient there is no interval (NaN).

    Args:
        values: ``(N,)`` float64, NaN where missing.
        groups: the patient of each.
        resamples: number of means to draw.
        seed: the same seed gives the same interval.

    Example:
        >>> import numpy as np
        >>> from voxelry.cohort import bootstrap
        >>> interval = bootstrap(np.array([0.8, 0.9, np.nan, 1.0]), ["anna", "anna", "ben", "ben"])
        >>> round(interval.mean, 3), interval.n, interval.missing
        (0.9, 3, 1)
    """
    known = ~np.isnan(values)
    count = int(known.sum())
    if not count:
        return Interval(float("nan"), float("nan"), float("nan"), 0, len(values))
    sums, sizes = _per_group(values[known], [group for group, here in zip(groups, known, strict=True) if here])
    mean = float(values[known].mean())
    if len(sums) == 1:
        return Interval(mean, float("nan"), float("nan"), count, len(values) - count)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    low, high = np.percentile(drawn @ sums / (drawn @ sizes), (2.5, 97.5))
    return Interval(mean, float(low), float(high), count, len(values) - count)


def bootstrap_weights(groups: Sequence[str], resamples: int, seed: int = 0) -> Iterator[Values]:
    """``(N,)`` how often each case counts in each set drawn by patient, as in `bootstrap`; none with one patient.

    Example:
        >>> from voxelry.cohort import bootstrap_weights
        >>> [weights.sum().item() for weights in bootstrap_weights(["anna", "ben"], 3)]
        [2.0, 2.0, 2.0]
    """
    names, index = np.unique(np.array(groups, dtype=str), return_inverse=True)
    if len(names) > 1:
        rng = np.random.default_rng(seed)
        for drawn in rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples):
            yield drawn[index].astype(np.float64)


def patient_means(values: Values, groups: Sequence[str]) -> Values:
    """``(G,)`` the mean of each patient's values, the missing left out; the unit that the tests compare."""
    known = ~np.isnan(values)
    sums, sizes = _per_group(values[known], [group for group, here in zip(groups, known, strict=True) if here])
    means: Values = sums / sizes
    return means


def permutation_test(differences: Values, seed: int = 0) -> float:
    """Two-sided p of paired differences by flipping their signs (Fisher 1935), the statistic being their mean.

    Exact up to `EXACT_UP_TO` differences; else of `PERMUTATIONS` random patterns, the observed one counted (Phipson and Smyth
    2010), so p is never 0.

    Args:
        differences: ``(N,)`` one a patient, none missing.
        seed: seed of the random patterns.

    Returns:
        p, or NaN without differences.

    Example:
        >>> import numpy as np
        >>> from voxelry.cohort import permutation_test
        >>> permutation_test(np.array([0.1, 0.2, 0.3, 0.1]))
        0.125
    """
    count = len(differences)
    if not count:
        return float("nan")
    observed = abs(differences.sum()) * (1 - 1e-12)
    if count <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
        return float((np.abs(signs @ differences) >= observed).mean())
    rng = np.random.default_rng(seed)
    signs = rng.choice((-1.0, 1.0), size=(PERMUTATIONS, count))
    return float((1 + (np.abs(signs @ differences) >= observed).sum()) / (1 + PERMUTATIONS))


def wilcoxon_test(differences: Values) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945), zeros left out; 1 if all are zero, NaN without differences.

    Example:
        >>> import numpy as np
        >>> from voxelry.cohort import wilcoxon_test
        >>> wilcoxon_test(np.zeros(5))
        1.0
    """
    if not len(differences):
        return float("nan")
    from scipy import stats  # 33 MB and a second, which no other function here needs

    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(p: Values) -> Values:
    """P values corrected for their number (Holm 1979); NaN stays NaN and is not counted.

    Example:
        >>> import numpy as np
        >>> from voxelry.cohort import holm
        >>> holm(np.array([0.01, 0.5])).tolist()
        [0.02, 0.5]
    """
    corrected = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected


def _per_group(values: Values, groups: Sequence[str]) -> tuple[Values, Values]:
    """The sum and the number of each group's values."""
    names, index = np.unique(np.array(groups, dtype=str), return_inverse=True)
    sums = np.bincount(index, values, minlength=len(names)).astype(np.float64)
    return sums, np.bincount(index, minlength=len(names)).astype(np.float64)
