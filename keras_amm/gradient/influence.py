"""How hard the penalty pulls on the logits of a sample, and the bound on it.

At the boundary point, a change of the logit difference g by one changes the margin by `1 / slope`, with
`slope = <grad_x g, delta / norm>`. So a penalty whose derivative in the norm is `factor` pulls the sample's logits by
`factor / slope`. Cross-entropy pulls them by at most `1 / B`. The first has units, those of the pixels and the logits,
and grows without bound where the network is flat; measured by the second, it has none, until it fades where logits are
large.
"""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from keras_amm import shrinkage as shrinkages
from keras_amm.gradient.current_strength import CurrentStrength
from keras_amm.regularizer import MarginRegularizer
from keras_amm.typing import Tensor

# `(factor [K], slope [K]) -> pull [K]`, negative where the margin is to grow.
Pull: TypeAlias = Callable[[Tensor, Tensor], Tensor]
# Where a label's logit is larger than the others by 17, its probability rounds to 1 in float32, and cross-entropy no
# longer pulls at all. Chosen by LeNet on held-out images of MNIST. An MLP at a learning rate of 0.1 has logits as
# large, too, and its margin gets smaller by 2%.
_LARGE_LOGITS = 30.0


def unbounded(factor: Tensor, slope: Tensor) -> Tensor:
    """The pull of Equation 6 itself, [K]; zero where the slope is."""
    return tf.math.divide_no_nan(factor, slope)


class Bounded:
    """The pull of Equation 6, at most `limit`, a scalar. It counts the samples for which it would be more."""

    def __init__(self, limit: Tensor) -> None:
        self._limit = limit
        self.num_clipped: Tensor = tf.zeros(())

    def __call__(self, factor: Tensor, slope: Tensor) -> Tensor:
        """The pull, [K]; it is called once."""
        pull = unbounded(factor, slope)
        self.num_clipped = tf.reduce_sum(tf.cast(tf.abs(pull) > self._limit, tf.float32))
        return tf.clip_by_value(pull, -self._limit, self._limit)


def given(factor: Tensor, slope: Tensor) -> Tensor:
    """The factor itself, [K], where it is the pull already."""
    del slope
    return factor


def fading(margin: Tensor) -> Pull:
    """The factor, which is the pull already; where logits are large, less.

    To grow all logits moves no boundary. But the larger they are, the more a pull of the same size changes the weights,
    so that with SGD logits can grow without end. The pull of Equation 6 falls in inverse proportion to the slope. That
    was not enough for LeNet at a large learning rate, so this one falls with the square.

    Args:
        margin: scalar, the batch's median margin. Over it the logits of a sample would change by `margin * slope`, by
            the slope at its boundary point; where that is more than `_LARGE_LOGITS`, they are large.
    """

    def pull(factor: Tensor, slope: Tensor) -> Tensor:
        # A margin can be infinite where the slope is zero.
        change = tf.math.multiply_no_nan(margin, tf.abs(slope))
        return factor * (_LARGE_LOGITS / tf.maximum(change, _LARGE_LOGITS)) ** 2

    return pull


def automatic(
    regularizer: MarginRegularizer,
    margin: Tensor,
    labels: Tensor,
    correct: Tensor,
    selected: Tensor,
    now: CurrentStrength,
) -> tuple[Tensor, Tensor]:
    """The penalty of an automatic strength, and the pull of each sample, [B]; negative for correct samples.

    The pull is `influence * R'(t) / B`, R' counted up to 1, before it fades. With two classes, the pulls on both
    are equal in sum. A misclassified sample counts as one at the boundary, however far it is, and by the part
    `of_misclassified`: R grows so fast there that a mislabelled image could outweigh the batch.
    """
    shrinkage = shrinkages.find_entry(regularizer.shrinkage)
    margin = tf.where(correct, margin, tf.zeros_like(margin))
    t = shrinkage.argument(margin, correct, regularizer.c * tf.cast(now.scale, margin.dtype), regularizer.d)
    with tf.GradientTape() as tape:
        tape.watch(t)
        each = shrinkage.function(t)
    steepness = tf.clip_by_value(tape.gradient(each, t), 0.0, 1.0)
    influence = regularizer.interval * now.strength * tf.where(correct, 1.0, now.of_misclassified)
    share = tf.cast(influence, t.dtype) / tf.cast(tf.size(t), t.dtype)
    if now.num_classes == 2:
        share *= _balance(tf.where(selected, share * steepness, tf.zeros_like(t)), labels)
    value = tf.reduce_sum(tf.where(selected, share * each, tf.zeros_like(each)))
    return value, share * tf.where(correct, -steepness, steepness)


def _balance(strength: Tensor, labels: Tensor) -> Tensor:
    """By what the strengths [B] of pulls are multiplied, [B], so that their sums over the samples of two labels agree.

    The multipliers of a support vector machine's samples meet this condition. Without it the boundary is pushed out of
    the denser class into the other one. The larger sum becomes the smaller one, so no sample is pulled harder. Where a
    label has no sample, all become 0.
    """
    is_first = labels == 0
    first, second = (tf.reduce_sum(tf.where(mine, strength, tf.zeros_like(strength))) for mine in (is_first, ~is_first))
    smaller = tf.minimum(first, second)
    return tf.where(is_first, tf.math.divide_no_nan(smaller, first), tf.math.divide_no_nan(smaller, second))
