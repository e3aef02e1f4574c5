"""SGD with weight decay as PyTorch means it."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_amm_examples")
class CoupledDecaySGD(keras.optimizers.SGD):
    """SGD whose weight decay is part of the gradient, on every variable, biases too.

    Gradients are clipped first, then `l2 * variable` is added, then comes momentum:
    the order of PyTorch's `clip_grad_norm_` followed by `torch.optim.SGD(weight_decay=l2)`.
    Keras's own `weight_decay` is decoupled: it bypasses the momentum, so that with
    momentum 0.9 it is a tenth as strong.

    Under `tf.distribute` the gradient of the global batch is clipped, where Keras clips
    each replica's part of it: so replicas make the update of one device.

    At a constant learning rate the updates are PyTorch's. Where the rate changes
    they differ for some ten steps: Keras keeps the learning rate inside the
    momentum (`v = mu v - lr g; p += v`), PyTorch outside (`v = mu v + g; p -= lr v`),
    so after a drop Keras's momentum still contains steps at the old rate.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: float in [0, 1].
        l2: float >= 0, the weight decay: what a variable is multiplied by before it is added to its gradient.
        **kwargs: arguments of `keras.optimizers.SGD`, such as `global_clipnorm`.
    """

    def __init__(self, learning_rate: Any = 5e-3, momentum: float = 0.9, l2: float = 1e-4, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, momentum=momentum, **kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable, given its clipped gradient."""
        gradient = keras.ops.cast(gradient, variable.dtype) + self.l2 * keras.ops.convert_to_tensor(variable)
        super().update_step(gradient, variable, learning_rate)

    def _clip_gradients(self, gradients: list[Any]) -> list[Any]:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas == 1 or tf.distribute.in_cross_replica_context():
            return super()._clip_gradients(gradients)
        total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        # Keras sums what the replicas return.
        return [gradient / replicas for gradient in super()._clip_gradients(total)]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation."""
        return {**super().get_config(), "l2": self.l2}
