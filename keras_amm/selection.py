"""Which samples of a batch the penalty counts."""

from keras import ops

from keras_amm import aggregation as aggregations
from keras_amm.typing import Tensor

# All correct samples, also where a search reaches for a part of what "avg" counts.
_ALL_CORRECT = aggregations.AggregationEntry("avg", aggregations.avg)


class Selection:
    """How `MarginRegularizer` selects samples, by its arguments of the same names."""

    _aggregation: aggregations.AggregationEntry
    is_automatic: bool
    top_fraction: float
    only_successful: bool
    misclassified: str | None

    def aggregation_of(self, num_classes: int | None) -> aggregations.AggregationEntry:
        """The aggregation for this number of classes: for two, an automatic strength counts all for `"nearest"`.

        Two classes are pulled alike in sum, and the nearest samples are often all of one class.

        Args:
            num_classes: int, or None if it is not known.

        Returns:
            An `AggregationEntry`.

        Example:
        >>> [keras_amm.MarginRegularizer().aggregation_of(number).identifier for number in (2, 10)]
        ['avg', 'nearest']
        """
        if num_classes == 2 and self.is_automatic and self._aggregation.identifier == "nearest":
            return _ALL_CORRECT
        return self._aggregation

    def select(
        self, norm: Tensor, labels: Tensor, correct: Tensor, success: Tensor, num_classes: int | None = None
    ) -> Tensor:
        """Which samples the penalty counts.

        Args:
            norm: float tensor [B].
            labels: integer tensor [B].
            correct: boolean tensor [B].
            success: boolean tensor [B].
            num_classes: int, the number of classes; None if it is not known, as if there were more than two.

        Returns:
            Boolean tensor [B]; never a sample whose attack failed, if `only_successful`.

        Example:
        >>> mask = keras_amm.MarginRegularizer(aggregation="avg").select(
        ...     np.ones(2), np.zeros(2, int), np.array([True, False]), np.array([True, False]))
        >>> np.asarray(mask)
        array([ True, False])

        Reference: Section 3.3.1.
        """
        success = success if self.only_successful else ops.ones_like(success)
        entry = self.aggregation_of(num_classes)
        mask = entry.function(norm, labels, correct, success, top_fraction=self.top_fraction)
        mask = ops.logical_and(ops.cast(mask, "bool"), success)
        if self.misclassified is None:
            return mask
        wrong = aggregations.misclassified(self.misclassified, norm, labels, correct, success, self.top_fraction)
        return ops.where(correct, mask, wrong)

    def max_selected(self, batch_size: int | Tensor, num_classes: int) -> int | Tensor:
        """The largest number of samples that `select` can return.

        Args:
            batch_size: int or scalar integer tensor.
            num_classes: int, the number of classes.

        Returns:
            An int or a scalar integer tensor.

        Example:
        >>> keras_amm.MarginRegularizer.from_paper("min-exp").max_selected(100, num_classes=10)
        20
        """
        if self.misclassified == "all":
            return batch_size
        return self.aggregation_of(num_classes).max_selected(batch_size, num_classes, self.top_fraction)
