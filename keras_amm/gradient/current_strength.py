"""The strength of the penalty in one step of the training, as the classifier's accuracy so far allows it."""

from typing import NamedTuple

import tensorflow as tf

from keras_amm import shrinkage as shrinkages
from keras_amm.execution import replicas
from keras_amm.network.labels import target_probabilities
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search.linearisation import CleanPass
from keras_amm.typing import Tensor, TensorLike

# Up to this training error all of the influence remains; the least that remains, however large the error is.
_FITS, _LEAST = 0.01, 0.1
# What c is multiplied by for two classes that do not overlap, chosen on held-out images and by cross-validation.
_SCALE_OF_TWO = 0.5
_SMALLEST = 1e-30
# The part of the influence by which misclassified samples are pulled at a training error of 1%: of the default
# `max_influence`, 4.0, as much as cross-entropy's largest pull.
_OF_MISCLASSIFIED = 0.25


class CurrentStrength(NamedTuple):
    """How strong the penalty is in one step; scalar tensors, but for the number of classes.

    Attributes:
        strength: lambda of Equation 6, or the influence of an automatic strength; 0 in steps without a penalty.
        max_influence: the bound on each sample's pull; 0 if there is none.
        of_misclassified: the part of an automatic strength that pulls misclassified samples; 1 where it is a number.
        scale: what c is multiplied by.
        num_classes: int, the number of classes.
    """

    strength: Tensor
    max_influence: Tensor
    of_misclassified: Tensor
    scale: Tensor
    num_classes: int

    @property
    def counts_misclassified(self) -> Tensor:
        """Whether misclassified samples count, if the regularizer selects them; a scalar boolean."""
        return self.of_misclassified > 0.0


def strength_in_step(
    regularizer: MarginRegularizer, clean: CleanPass, y: TensorLike, step: TensorLike, label_smoothing: float = 0.0
) -> CurrentStrength:
    """How strong the penalty is in the step of this number.

    With an automatic strength, the pull on the nearest samples gets harder and steeper as training fits: it moves the
    nearest images, and leaves the others to cross-entropy. Misclassified samples are left to cross-entropy where many
    are wrong, since to pull them costs margin. Where training fits, a hard pull on the correct ones would keep the few
    that are wrong from being learned, so they are pulled towards their labels, the harder the fewer they are. With two
    classes they are not pulled: they are all beyond the one boundary.

    With two classes the pull is in proportion to cross-entropy's own: where training fits, that hardly pulls any more,
    and a weak pull still widens the margins, while one that does not follow it costs errors on small tables. Where the
    classes overlap, it is weaker and falls more steeply, and the bound of a strength that is a number falls.

    Args:
        regularizer: has the schedule, and remembers the accuracy.
        clean: the network's pass over the batch, whose accuracy stands for that of the training while none is known.
        y: the batch's labels, in any of Keras's forms.
        step: scalar, the number of updates so far.
        label_smoothing: by how much the loss smooths the labels.
    """
    num_classes, one = clean.logits.shape[1], tf.ones(())
    strength = _scheduled_strength(regularizer, num_classes, step)
    if regularizer.max_influence is None:
        return CurrentStrength(strength, tf.zeros(()), one, one, num_classes)
    accuracy = accuracy_of(clean, y)
    if regularizer.running is not None:
        accuracy = regularizer.running.accuracy_or(accuracy)
    if num_classes == 2:
        share = where_two_classes_overlap(accuracy)
        # Of the hinge c is no steepness, but the margin that is wanted.
        is_hinge = shrinkages.find_entry(regularizer.shrinkage).identifier == "hinge"
        scale = one if is_hinge else one + (_SCALE_OF_TWO - one) * share
        of_misclassified = tf.zeros(())
        share *= pull_of_cross_entropy(clean, y, label_smoothing) if regularizer.is_automatic else _LEAST
    else:
        share = where_training_fits(accuracy)
        scale = tf.sqrt(share)
        of_misclassified = part_of_misclassified(accuracy)
    max_influence = regularizer.max_influence * share
    if not regularizer.is_automatic:
        return CurrentStrength(strength, max_influence, one, one, num_classes)
    return CurrentStrength(strength * share, max_influence, of_misclassified, scale, num_classes)


def _scheduled_strength(regularizer: MarginRegularizer, num_classes: int, step: TensorLike) -> Tensor:
    strength, running = regularizer.strength_at(step), regularizer.running
    if regularizer.above_chance and running is not None:
        # Guessing hardly reaches a tenth of the way over many batches.
        waits = tf.convert_to_tensor(running.accuracy) <= accuracy_above_chance(1.0 / num_classes, 0.1)
        strength = tf.where(waits, tf.zeros_like(strength), strength)
    return strength


def where_training_fits(accuracy: Tensor) -> Tensor:
    """What remains of the influence, in [0.1, 1], at this accuracy on training images.

    Cross-entropy hardly pulls at images that are classified well. So where nearly all are, a weak penalty takes long
    to reach its margins; and where many are wrong, a strong one hinders their learning. Between these, the influence is
    in inverse proportion to the training error. Its two ends were chosen on held-out images.

    Example:
    >>> [round(float(keras_amm.gradient.current_strength.where_training_fits(tf.constant(accuracy))), 3)
    ...  for accuracy in (0.99, 0.98, 0.7)]
    [1.0, 0.5, 0.1]
    """
    error = tf.maximum(1.0 - accuracy, _FITS)
    return tf.maximum(_FITS / error, _LEAST)


def part_of_misclassified(accuracy: Tensor) -> Tensor:
    """The part of an automatic influence, in [0, 1], that pulls misclassified samples of more than two classes.

    It is 0 where 10% and more are misclassified, a quarter at 1%, and 1 below about 0.27%, where they are pulled as
    hard as a correct sample at the boundary. Between the last two, all that are wrong pull together about as hard,
    however few they are.

    Example:
    >>> [round(float(keras_amm.gradient.current_strength.part_of_misclassified(tf.constant(accuracy))), 3)
    ...  for accuracy in (0.999, 0.99, 0.98, 0.7)]
    [1.0, 0.25, 0.111, 0.0]
    """
    inverse = _FITS / tf.maximum(1.0 - accuracy, _SMALLEST)
    return tf.clip_by_value(_OF_MISCLASSIFIED * (inverse - _LEAST) / (1.0 - _LEAST), 0.0, 1.0)


def where_two_classes_overlap(accuracy: Tensor) -> Tensor:
    """What remains of an influence, in [0, 1], where two classes are told apart with this accuracy.

    Two classes have one boundary, and all misclassified images are beyond it. To push it away from the images on one
    side is to push it over images of the other, so the more of these there are, the less it is pushed. With e the part
    that is wrong, `1 - 2e` is what the labels still tell; its cube was chosen on held-out images.

    Example:
    >>> float(keras_amm.gradient.current_strength.where_two_classes_overlap(tf.constant(0.75)))
    0.125
    """
    return tf.maximum(2.0 * accuracy - 1.0, 0.0) ** 3


def accuracy_of(clean: CleanPass, y: TensorLike) -> Tensor:
    """The fraction of the global batch that is classified correctly, a scalar."""
    labels, _ = clean.class_indices(y)
    correct = tf.equal(tf.argmax(clean.logits, axis=1, output_type=tf.int32), labels)
    return tf.reduce_mean(tf.cast(replicas.gather(correct), tf.float32))


def pull_of_cross_entropy(clean: CleanPass, y: TensorLike, label_smoothing: float = 0.0) -> Tensor:
    """How hard cross-entropy pulls the samples of this global batch of two classes to their labels, in (0, 1].

    That is the mean of `t - p`, where p is the probability of the label and t the one that the loss wants: 1, or less
    with smoothed labels. Where p is above t, cross-entropy pulls away from the label, which counts as 0.
    """
    labels, _ = clean.class_indices(y)
    logits = tf.cast(clean.logits, tf.float32)
    from_first = logits[:, 1] - logits[:, 0]
    # As a sigmoid, for 1 - p would lose all digits where p is nearly 1.
    of_other = tf.sigmoid(tf.where(labels == 1, -from_first, from_first))
    wanted = 1.0 - target_probabilities(y, label_smoothing)
    pull = tf.reduce_mean(replicas.gather(tf.maximum(of_other - wanted, 0.0)))
    # A strength of 0 turns off the search, whose checks tell of logits that are NaN, and which measures the margins.
    return tf.where(pull > 0.0, pull, _SMALLEST)


def accuracy_above_chance(chance: TensorLike, part: float) -> TensorLike:
    """The accuracy that is this part of the way from that of guessing, `chance`, to 1.

    Example:
    >>> keras_amm.gradient.current_strength.accuracy_above_chance(0.5, 0.5)
    0.75
    """
    return chance + part * (1.0 - chance)
