"""What a regularizer remembers of the batches so far: margins, gradients, and how often the network is right."""

from typing import Any

import keras
from keras import ops

from keras_amm.search import gradient_norms
from keras_amm.typing import Tensor

# The share of the past that a batch leaves: fifty batches count, as many as the margins of a network need to change.
_MOMENTUM = 0.98
# How many steps there are from one measurement of the loss's gradient to the next.
LOSS_GRADIENT_INTERVAL = 4


@keras.saving.register_keras_serializable(package="keras_amm")
class RunningStatistics(keras.layers.Layer):
    """Running means over batches, as weights that are saved and resumed with the model.

    Attributes:
        margin: scalar weight, the running mean of the batches' median margins; 0 while none is known.
        accuracy: scalar weight, the running mean of the batches' accuracy, from 0 on.
        seen: scalar weight, the sum of the weights that the batches have in `accuracy`, in [0, 1]; `accuracy / seen` is
            their mean accuracy.
        loss_gradient: scalar weight, the running mean, from 0 on, of the norm of the loss's gradient; 0 while none was
            measured.
        longest_loss_gradient: scalar weight, the largest that `loss_gradient` has been; infinite in a training that
            began with a trained network.
        gradient_norms: weight, by which the best-first searches know which gradients are long; see
            `keras_amm.search.gradient_norms`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        scalar = {"shape": (), "initializer": "zeros", "trainable": False, "aggregation": "mean"}
        self.margin = self.add_weight(name="margin", **scalar)
        self.accuracy = self.add_weight(name="accuracy", **scalar)
        self.gradient_norms = self.add_weight(name="gradient_norms", **{**scalar, "shape": (gradient_norms.SIZE,)})
        self.seen = self.add_weight(name="seen", **scalar)
        self.loss_gradient = self.add_weight(name="loss_gradient", **scalar)
        self.longest_loss_gradient = self.add_weight(name="longest_loss_gradient", **scalar)
        self.built = True

    def margin_or(self, of_batch: Tensor) -> Tensor:
        """The running margin, a positive scalar; before there is one, the batch's, and without either, 1."""
        of_batch = ops.where(of_batch > 0.0, of_batch, ops.ones_like(of_batch))
        known = ops.cast(self.margin, of_batch.dtype)
        return ops.where(known > 0.0, known, of_batch)

    def accuracy_or(self, of_batch: Tensor) -> Tensor:
        """The mean accuracy of the batches so far, a scalar; before there are any, this batch's."""
        seen = self._seen()
        mean = self.accuracy / ops.where(seen > 0.0, seen, ops.ones_like(seen))
        return ops.where(seen > 0.0, ops.minimum(mean, 1.0), ops.cast(of_batch, "float32"))

    def _seen(self) -> Tensor:
        # Files from before this weight have an accuracy, of so many batches that their weights sum up to about 1.
        seen = ops.convert_to_tensor(self.seen)
        return ops.where((seen == 0.0) & (self.accuracy > 0.0), ops.ones_like(seen), seen)

    def update(self, margin: Tensor, accuracy: Tensor, of_gradients: Tensor | None = None) -> None:
        """Add a batch: scalars, its median margin, 0 for none, and its accuracy; what changes of the gradients."""
        margin, accuracy = ops.cast(margin, "float32"), ops.cast(accuracy, "float32")
        moved = _MOMENTUM * self.margin + (1.0 - _MOMENTUM) * margin
        first = ops.where(self.margin > 0.0, moved, margin)
        self.margin.assign(ops.where(margin > 0.0, first, ops.convert_to_tensor(self.margin)))
        self.seen.assign(_MOMENTUM * self._seen() + (1.0 - _MOMENTUM))
        self.accuracy.assign(_MOMENTUM * self.accuracy + (1.0 - _MOMENTUM) * accuracy)
        if of_gradients is not None:
            self.gradient_norms.assign(self.gradient_norms + of_gradients)

    def update_loss_gradient(self, norm: Tensor, is_trained: Tensor) -> None:
        """Add the norm of the loss's gradient in a batch, a scalar; `is_trained` matters for the first norm alone.

        A norm that is NaN, in steps that do not measure it, or infinite, as mixed precision has some, is left out.
        """
        norm, before = ops.cast(norm, "float32"), ops.convert_to_tensor(self.loss_gradient)
        past = _MOMENTUM**LOSS_GRADIENT_INTERVAL
        mean = ops.where(ops.isfinite(norm), past * before + (1.0 - past) * norm, before)
        longest = ops.maximum(self.longest_loss_gradient, mean)
        starts_trained = ops.logical_and(before == 0.0, is_trained)
        self.loss_gradient.assign(mean)
        self.longest_loss_gradient.assign(ops.where(starts_trained, float("inf"), longest))

    def load_own_variables(self, store: Any) -> None:
        """Read the weights; those that a file from before there were any does not have stay as they are."""
        number = len(store.keys())
        if number >= len(self.variables):
            super().load_own_variables(store)
        else:
            for index, variable in enumerate(self.variables[:number]):
                variable.assign(store[str(index)])
