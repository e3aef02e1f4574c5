"""How hard the penalty pulls on the logits of a sample, and the bound on it.

At the boundary point, a change of the logit difference g by one changes the margin by `1 / slope`, with
`slope = <grad_x g, delta / norm>`. So a penalty whose derivative in the norm is `factor` pulls the sample's logits by
`factor / slope`. Cross-entropy pulls them by at most `1 / B`. The first has units, those of the pixels and the logits,
and grows without bound where the network is flat; measured by the second, nothing has.
"""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from keras_amm.typing import Tensor

# `(factor [K], slope [K]) -> pull [K]`, negative where the margin is to grow.
Pull: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def unbounded(factor: Tensor, slope: Tensor) -> Tensor:
    """The pull of Equation 6 itself, [K]; zero where the slope is."""
    return tf.math.divide_no_nan(factor, slope)


def bounded(limit: Tensor) -> Pull:
    """The pull of Equation 6, at most `limit`, a scalar."""
    return lambda factor, slope: tf.clip_by_value(unbounded(factor, slope), -limit, limit)


def given(factor: Tensor, slope: Tensor) -> Tensor:
    """The factor itself, [K], where it is the pull already."""
    del slope
    return factor
