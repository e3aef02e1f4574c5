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
from keras_amm.execution.gradients import weight_gradients
from keras_amm.gradient.current_strength import accuracy_above_chance
from keras_amm.gradient.penalty import MarginPenalty
from keras_amm.network.batch_statistics import has_batch_statistics
from keras_amm.network.classifier import Classifier
from keras_amm.regularizer import MarginRegularizer
from keras_amm.running import LOSS_GRADIENT_INTERVAL
from keras_amm.search.linearisation import CleanPass
from keras_amm.typing import Tensor, TensorLike, Variable


def norm_of(gradients: Sequence[Tensor | None], loss_scale: TensorLike) -> Tensor:
    """The norm of the sum of all replicas' gradients, which are scaled by `loss_scale`; a scalar float32."""
    parts = replicas.summed([tf.cast(gradient, tf.float32) for gradient in gradients if gradient is not None])
    return (tf.linalg.global_norm(parts) if parts else tf.zeros(())) / tf.cast(loss_scale, tf.float32)


def norm_to_remember(
    tape: tf.GradientTape,
    scaled_loss: Tensor,
    weights: list[Variable],
    regularizer: MarginRegularizer,
    network: keras.Model,
    step: TensorLike,
    loss_scale: TensorLike,
) -> Tensor | None:
    """The norm of the loss's gradient, a scalar, NaN in the steps in which it is not measured; None without a limit.

    The gradient of the update will not do: the penalty's part through the statistics of the batch is in it. A limit
    that was raised by what it allows would run away. To know the loss's alone takes a way back of its own, and how long
    it is changes slowly, so one step in `LOSS_GRADIENT_INTERVAL` measures it.
    """
    if regularizer.running is None or _limit_of(regularizer, network) is None:
        return None
    is_first = tf.convert_to_tensor(regularizer.running.loss_gradient) == 0.0
    is_due = is_first | (tf.convert_to_tensor(step) % LOSS_GRADIENT_INTERVAL == 0)

    def measured() -> Tensor:
        return norm_of(weight_gradients(tape, scaled_loss, weights), loss_scale)

    def not_measured() -> Tensor:
        return tf.constant(float("nan"))

    if replicas.are_several():
        # They cannot exchange numbers within a branch.
        return tf.where(is_due, measured(), not_measured())
    return tf.cond(is_due, measured, not_measured)


def clipped(
    found: MarginPenalty, classifier: Classifier, regularizer: MarginRegularizer, loss_scale: TensorLike
) -> MarginPenalty:
    """The penalty with a gradient no longer than its limit, if it has one.

    That is `relative_clipnorm` times the longest running mean of the loss's. What is compared is the gradient without
    the part that goes through the statistics of the batch, which is known only after the way back that the loss shares;
    it is scaled by the same factor, and so is the influence that is shown. Nothing is known before the first step, so
    its gradient is zero.

    Args:
        found: the penalty of a batch.
        classifier: the network.
        regularizer: has the limit, and remembers the loss's gradients.
        loss_scale: scalar, by which the penalty's gradients are multiplied.
    """
    relative = _limit_of(regularizer, classifier.model)
    # `prepare` made `running`, which type checkers do not know.
    if relative is None or regularizer.running is None:
        return found
    limit = relative * regularizer.interval * tf.convert_to_tensor(regularizer.running.longest_loss_gradient)
    norm = norm_of(found.gradients, loss_scale)
    factor = tf.where(norm > limit, tf.math.divide_no_nan(limit, norm), 1.0)
    gradients, through_batch = (_scaled(part, factor) for part in (found.gradients, found.through_batch))
    shown = found.statistics._replace(sum_of_influences=found.statistics.sum_of_influences * factor)
    return found._replace(gradients=gradients, through_batch=through_batch, statistics=shown)


def _limit_of(regularizer: MarginRegularizer, network: keras.Model) -> float | None:
    """The largest norm, as a multiple of the loss's; None for none."""
    if isinstance(regularizer.relative_clipnorm, str):
        return 1.0 if has_batch_statistics(network) else None
    return regularizer.relative_clipnorm


def is_trained(accuracy: Tensor, clean: CleanPass, y: TensorLike) -> Tensor:
    """Whether a network with this accuracy on batches like this one is trained already; a scalar boolean.

    The loss's gradient is short from the beginning there, and how long it was is not known. So there is no limit. The
    accuracy has to be more than half way from chance to 1, and above chance by three standard deviations, for a small
    batch may be right by luck. Chance is also to predict the largest class of the batch for every image.

    Args:
        accuracy: scalar float tensor.
        clean: the network's pass over the batch.
        y: the batch's labels, in any of Keras's forms.
    """
    num_classes = clean.logits.shape[1]
    labels = replicas.gather(clean.class_indices(y)[0])
    largest_class = tf.reduce_max(tf.reduce_mean(tf.one_hot(labels, num_classes), axis=0))
    chance = tf.maximum(largest_class, 1.0 / num_classes)
    deviation = tf.sqrt(chance * (1.0 - chance) / tf.cast(tf.size(labels), tf.float32))
    return accuracy > tf.maximum(accuracy_above_chance(chance, 0.5), chance + 3.0 * deviation)


def _scaled(gradients: Sequence[Tensor | None], factor: Tensor) -> list[Tensor | None]:
    return [gradient if gradient is None else gradient * tf.cast(factor, gradient.dtype) for gradient in gradients]
