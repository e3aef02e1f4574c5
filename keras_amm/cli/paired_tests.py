"""Paired tests of two reports on the same images."""

from typing import NamedTuple

import numpy as np

from keras_amm.report import MarginReport


class PairedTests(NamedTuple):
    """How a second model differs from a first on the same images.

    Attributes:
        larger: the fraction of images whose margin is larger with the second model; margins as in
            `MarginReport.margins`, 0 where a model misclassifies the image or its attack failed.
        median_difference: the median of the second model's margin minus the first's.
        wilcoxon_p: two-sided p-value of the Wilcoxon signed-rank test of differences symmetric about 0.
        first_wrong: how many images only the first model misclassifies.
        second_wrong: how many images only the second model misclassifies.
        mcnemar_p: two-sided p-value of the exact McNemar test of equal error rates.
    """

    larger: float
    median_difference: float
    wilcoxon_p: float
    first_wrong: int
    second_wrong: int
    mcnemar_p: float


def paired_tests(first: MarginReport, second: MarginReport) -> PairedTests:
    """Test whether margins and errors of two models differ by more than the choice of images explains.

    Both reports are of the same images in the same order. The images are the sample, so the tests say nothing about
    models that are trained again from another seed.

    Example:
    >>> first = keras_amm.MarginReport(norms=[0.5, 0.25, 1.0], signed=[0.5, 0.25, 1.0], predictions=[1, 2, 0],
    ...     labels=[1, 1, 1], success=[True] * 3)
    >>> second = keras_amm.MarginReport(norms=[1.5, 0.75, 1.25], signed=[1.5, 0.75, 1.25], predictions=[1, 1, 1],
    ...     labels=[1, 1, 1], success=[True] * 3)
    >>> tests = keras_amm.cli.paired_tests.paired_tests(first, second)
    >>> tests.larger, tests.median_difference, tests.wilcoxon_p, tests.first_wrong, tests.mcnemar_p
    (1.0, 1.0, 0.25, 2, 0.5)

    Reference: Wilcoxon, "Individual comparisons by ranking methods" (1945); McNemar, "Note on the sampling error of
    the difference between correlated proportions" (1947).
    """
    from scipy import stats

    if not np.array_equal(first.labels, second.labels):
        raise ValueError(
            "Paired tests need reports of the same images, in the same order. "
            f"Received: {len(first)} and {len(second)} images, with different labels."
        )
    difference = second.margins.astype("float64") - first.margins.astype("float64")
    difference = difference[np.isfinite(difference)]
    changed = bool(np.any(difference != 0.0))
    first_wrong = int(np.sum(~first.correct & second.correct))
    second_wrong = int(np.sum(first.correct & ~second.correct))
    disagreeing = first_wrong + second_wrong
    return PairedTests(
        larger=float(np.mean(difference > 0.0)) if difference.size else float("nan"),
        median_difference=float(np.median(difference)) if difference.size else float("nan"),
        # SciPy cannot rank differences that are all zero. There is no evidence of a difference then.
        wilcoxon_p=float(stats.wilcoxon(difference).pvalue) if changed else 1.0,
        first_wrong=first_wrong,
        second_wrong=second_wrong,
        mcnemar_p=float(stats.binomtest(first_wrong, disagreeing, 0.5).pvalue) if disagreeing else 1.0,
    )
