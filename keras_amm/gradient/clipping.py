"""The clipping of the penalty's gradient, to the length that the gradient of the loss had while the network learned.

Cross-entropy hardly pulls any more at images that are learned, and its gradient gets short. The penalty goes on to pull
at the nearest images, so its gradient stays as long as `max_influence` and the network allow. With SGD at a large
learning rate such steps undo what was learned. A step as long as those by which the network learned is one that this
learning rate bears.

While a network learns, the pull of cross-entropy is near its largest, so the limit needs no unit: it follows the scale
of network, loss and images.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_amm.execution import replicas
from keras_amm.gradient.current_strength import accuracy_above_chance
from keras_amm.gradient.penalty import MarginPenalty
from keras_amm.network.batch_statistics import has_batch_statistics
from keras_amm.network.classifier import Classifier
from keras_amm.regularizer import MarginRegularizer
from keras_amm.typing import Tensor, TensorLike


def norm_of(gradients: Sequence[Tensor | None], loss_scale: TensorLike) -> Tensor:
    """The norm of the sum of all replicas' gradients, which are scaled by `loss_scale`; a scalar float32."""
    parts = replicas.summed([tf.cast(gradient, tf.float32) for gradient in gradients if gradient is not None])
    return (tf.linalg.global_norm(parts) if parts else tf.zeros(())) / tf.cast(loss_scale, tf.float32)


def norm_to_remember(
    gradients: Sequence[Tensor | None], classifier: Classifier, regularizer: MarginRegularizer, loss_scale: TensorLike
) -> Tensor | None:
    """The norm of the loss's gradient, a scalar; None where there is no limit, which it is for.

    In these gradients is also what the penalty adds through the statistics of the batch, for one way back serves both.
    """
    return None if _limit_of(regularizer, classifier.model) is None else norm_of(gradients, loss_scale)


def clipped(
    found: MarginPenalty, classifier: Classifier, regularizer: MarginRegularizer, loss_scale: TensorLike
) -> MarginPenalty:
    """The penalty with a gradient no longer than its limit, if it has one.

    That is `relative_clipnorm` times the longest running mean of the loss's. Compared is the gradient in the weights
    that does not go through the statistics of the batch; that through them is scaled down by the same factor. Nothing
    is known before the first step, so its gradient is zero.

    Args:
        found: the penalty of a batch.
        classifier: the network.
        regularizer: has the limit, and remembers the loss's gradients.
        loss_scale: scalar, by which the penalty's gradients are multiplied.
    """
    relative = _limit_of(regularizer, classifier.model)
    if relative is None or regularizer.running is None:
        return found
    limit = relative * regularizer.interval * tf.convert_to_tensor(regularizer.running.longest_loss_gradient)
    norm = norm_of(found.gradients, loss_scale)
    factor = tf.where(norm > limit, tf.math.divide_no_nan(limit, norm), 1.0)
    gradients, through_batch = (_scaled(part, factor) for part in (found.gradients, found.through_batch))
    return found._replace(gradients=gradients, through_batch=through_batch)


def _limit_of(regularizer: MarginRegularizer, network: keras.Model) -> float | None:
    """The largest norm, as a multiple of the loss's; None for none."""
    if isinstance(regularizer.relative_clipnorm, str):
        return 1.0 if has_batch_statistics(network) else None
    return regularizer.relative_clipnorm


def least_accuracy_of_trained(num_classes: int) -> float:
    """The accuracy, half way from chance to 1, above which the first batch is one of a network that is trained already.

    The loss's gradient is short from the beginning there, and how long it was is not known. So there is no limit.
    """
    return accuracy_above_chance(num_classes, 0.5)


def _scaled(gradients: Sequence[Tensor | None], factor: Tensor) -> list[Tensor | None]:
    return [gradient if gradient is None else gradient * tf.cast(factor, gradient.dtype) for gradient in gradients]
