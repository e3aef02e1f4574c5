"""What a batch shows of its gradients and walks."""

import numpy as np
import tensorflow as tf

from keras_amm.search.spreads import spreads


def _spreads(scale):
    generator = np.random.default_rng(0)
    norms = scale * np.exp(generator.normal(0.3, 0.5, (2000, 3)))
    norms[:, 1:] = norms[:, :1] * np.exp(generator.normal(-0.2, 0.1, (2000, 2)))
    norms[1000:, 2] = 0.0  # not known
    first = generator.uniform(0.5, 1.0, 2000)
    growth = np.exp(generator.normal(0.4, 0.3, 2000))
    growth[1500:] = np.nan  # not finished
    arrays = (norms**2, first, first * growth, np.arange(2000) < 1500)
    return spreads(*(tf.constant(array) for array in arrays))


def test_they_are_those_of_the_batch():
    """Of logarithms; of other classes relative to the runner-up, whatever the units."""
    for scale in (1.0, 100.0):
        found = _spreads(scale)
        for spread, mean, deviation in (
            (found.runner_up, 0.3 + np.log(scale), 0.5),
            (found.other, -0.2, 0.1),
            (found.growth, 0.4, 0.3),
        ):
            np.testing.assert_allclose(spread.mean, mean, atol=0.03)
            np.testing.assert_allclose(spread.deviation, deviation, rtol=0.06)
        # A walk is a tenth of the time shorter than its first step, by a few hundredths.
        assert 0.01 < float(found.shrinkage.deviation) < 0.1 and float(found.shrinkage.mean) == 0.0


def test_without_anything_known_they_are_finite():
    nothing = tf.zeros(4)
    for spread in spreads(tf.zeros((4, 3)), nothing + np.inf, nothing + np.inf, tf.fill([4], False)):
        assert float(spread.mean) == 0.0 and 0.0 < float(spread.deviation) < 1.0
        assert float(spread.at(2.0)) > 1.0 > float(spread.at(-2.0))
