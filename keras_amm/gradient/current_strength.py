"""The strength of the penalty in one step of the training, as the classifier's accuracy so far allows it."""

import tensorflow as tf

from keras_amm.execution import replicas
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search.linearisation import CleanPass
from keras_amm.typing import Tensor, TensorLike

# Up to this training error all of the influence remains; the least that remains, however large the error is.
_FITS, _LEAST = 0.02, 0.1


def strength_of(regularizer: MarginRegularizer, accuracy: Tensor, num_classes: int, step: TensorLike) -> Tensor:
    """The strength in the step of this number, a scalar; of an automatic one, the influence.

    Args:
        regularizer: has the schedule, and remembers how long it has to wait.
        accuracy: scalar, that of the training so far.
        num_classes: number of classes.
        step: scalar, the number of updates so far.
    """
    strength, running = regularizer.strength_at(step), regularizer.running
    if regularizer.above_chance and running is not None:
        waits = tf.convert_to_tensor(running.accuracy) <= _clearly_above_chance(num_classes)
        strength = tf.where(waits, tf.zeros_like(strength), strength)
    return strength * share_of_influence(accuracy, num_classes) if regularizer.is_automatic else strength


def share_of_influence(accuracy: Tensor, num_classes: int) -> Tensor:
    """The part of `max_influence` that remains at this accuracy of the training, a scalar in [0, 1]."""
    share = where_training_fits(accuracy)
    return share * where_two_classes_overlap(accuracy) if num_classes == 2 else share


def scale_of_margins(regularizer: MarginRegularizer, accuracy: Tensor) -> Tensor:
    """What c and d are multiplied by, a scalar: of an automatic strength, the root of the share of its influence.

    So a pull that is harder falls more steeply: it moves the nearest images, and leaves the others to cross-entropy.
    """
    return tf.sqrt(where_training_fits(accuracy)) if regularizer.is_automatic else tf.ones(())


def where_training_fits(accuracy: Tensor) -> Tensor:
    """What remains of the influence, in [0.1, 1], at this accuracy on training images.

    Cross-entropy hardly pulls at images that are classified well. So where nearly all are, a weak penalty takes long
    to reach its margins; and where many are wrong, a strong one hinders their learning. Between these, the influence is
    in inverse proportion to the training error. Its two ends were chosen on held-out images.

    Example:
    >>> [round(float(keras_amm.gradient.current_strength.where_training_fits(tf.constant(accuracy))), 3)
    ...  for accuracy in (0.99, 0.96, 0.7)]
    [1.0, 0.5, 0.1]
    """
    error = tf.maximum(1.0 - accuracy, _FITS)
    return tf.maximum(_FITS / error, _LEAST)


def where_two_classes_overlap(accuracy: Tensor) -> Tensor:
    """What remains of the influence, in [0, 1], where two classes are told apart with this accuracy.

    Two classes have one boundary, and all misclassified images are beyond it. To push it away from the images on one
    side is to push it over images of the other, so the more of these there are, the less it is pushed. With e the part
    that is wrong, `1 - 2e` is what the labels still tell; its cube was chosen on held-out images.

    Example:
    >>> float(keras_amm.gradient.current_strength.where_two_classes_overlap(tf.constant(0.75)))
    0.125
    """
    return tf.maximum(2.0 * accuracy - 1.0, 0.0) ** 3


def accuracy_so_far(regularizer: MarginRegularizer, clean: CleanPass, y: TensorLike) -> Tensor:
    """The accuracy of the training, a scalar: while nothing is remembered, that of the batch; 1 if nothing needs it."""
    if regularizer.max_influence is None:
        return tf.ones(())
    of_batch = accuracy_of(clean, y)
    return of_batch if regularizer.running is None else regularizer.running.accuracy_or(of_batch)


def accuracy_of(clean: CleanPass, y: TensorLike) -> Tensor:
    """The fraction of the global batch that is classified correctly, a scalar."""
    labels, _ = clean.class_indices(y)
    correct = tf.equal(tf.argmax(clean.logits, axis=1, output_type=tf.int32), labels)
    return tf.reduce_mean(tf.cast(replicas.gather(correct), tf.float32))


def _clearly_above_chance(num_classes: int) -> float:
    """An accuracy that guessing among the classes hardly reaches over many batches."""
    chance = 1.0 / num_classes
    return chance + 0.1 * (1.0 - chance)
