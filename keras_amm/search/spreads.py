"""What a batch shows of its own gradients and walks, by which the best-first search judges what it has not computed.

Three quantities are spread over a small range on any one network, and over different ranges on different networks: the
norms of the gradients towards the runner-up, those towards other classes relative to it, and how much longer a walk
becomes than its first step. Each is a mean and a deviation of logarithms, from a weak prior and all that the batch has
computed so far. So no constant has the units of the images or of the logits.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_amm.typing import Tensor

# As many samples as the prior deviations count for.
_PRIOR_WEIGHT = 4.0
_RUNNER_UP, _OTHER, _GROWTH, _SHRINKAGE = 0.15, 0.15, 0.1, 0.01


class Spread(NamedTuple):
    """Mean and standard deviation of a logarithm, scalar float tensors."""

    mean: Tensor
    deviation: Tensor

    def at(self, deviations: float) -> Tensor:
        """The quantity so many standard deviations above its mean (below, if negative)."""
        return tf.exp(self.mean + deviations * self.deviation)


class Spreads(NamedTuple):
    """What a batch shows so far.

    Attributes:
        runner_up: norms of the gradients towards the runner-up.
        other: norms of the gradients towards further classes, in units of the sample's own towards the runner-up.
        growth: norms of finished walks in units of their first step.
        shrinkage: the same, where more than 1 counts as 1; its mean is taken for 1.
    """

    runner_up: Spread
    other: Spread
    growth: Spread
    shrinkage: Spread


def spreads(squared: Tensor, first: Tensor, norm: Tensor, finished: Tensor) -> Spreads:
    """The spreads of B samples with k candidate classes.

    Args:
        squared: float [B, k], squared norms of the gradients; 0 where they are not known. Candidate 0 is the runner-up.
        first: float [B], the length of the walk's first step.
        norm: float [B], the norm found.
        finished: boolean [B], the walks that succeeded.
    """
    known = (squared > 0.0) & (squared < float("inf"))
    logs = 0.5 * tf.math.log(tf.where(known, squared, 1.0))
    moved = finished & (first > 0.0) & (norm > 0.0)
    growth = tf.math.log(tf.where(moved, norm, 1.0) / tf.where(moved, first, 1.0))
    return Spreads(
        runner_up=_spread(logs[:, 0], known[:, 0], _RUNNER_UP),
        other=_spread(logs[:, 1:] - logs[:, :1], known[:, 1:] & known[:, :1], _OTHER),
        growth=_spread(growth, moved, _GROWTH),
        shrinkage=_spread(tf.minimum(growth, 0.0), moved, _SHRINKAGE, centred=True),
    )


def _spread(logs: Tensor, counts: Tensor, prior: float, *, centred: bool = False) -> Spread:
    """Mean and deviation of the logarithms that count; `centred` takes the mean for zero."""
    counts = tf.cast(counts, logs.dtype)
    number = tf.reduce_sum(counts)
    mean = tf.zeros((), logs.dtype) if centred else tf.math.divide_no_nan(tf.reduce_sum(counts * logs), number)
    squares = tf.reduce_sum(counts * tf.square(logs - mean))
    return Spread(mean, tf.sqrt((_PRIOR_WEIGHT * prior**2 + squares) / (_PRIOR_WEIGHT + number)))
