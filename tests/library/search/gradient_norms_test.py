"""What is remembered of the norms of gradients, by the classes that they lead from and to."""

import keras
import numpy as np
import tensorflow as tf

import keras_amm
from keras_amm.search import gradient_norms

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# The norms of gradients between five classes.
OF_PAIRS = np.exp(np.random.default_rng(0).normal(0.0, 0.4, (5, 5)))


def _batches(number, scale=1.0, known=0.5):
    """Predictions, candidates, and squared norms of which a part is known: those of pairs, times those of images."""
    generator = np.random.default_rng(1)
    for _ in range(number):
        prediction = generator.integers(0, 5, 60)
        candidates = np.array([generator.permutation(np.delete(np.arange(5), c))[:3] for c in prediction])
        norms = OF_PAIRS[prediction[:, None], candidates] * np.exp(generator.normal(0.0, 0.2, (60, 1))) * scale
        norms *= generator.random(norms.shape) < known
        yield *(tf.constant(a, tf.int32) for a in (prediction, candidates)), tf.constant(norms**2, tf.float32)


def _learned(batches):
    table = tf.zeros([gradient_norms.SIZE])
    for batch in batches:
        table += gradient_norms.change(table, *batch)
    prediction = tf.repeat(tf.range(5), 4)
    others = tf.constant([[c] for s in range(5) for c in range(5) if c != s])
    expected = gradient_norms.expected(table, prediction, others)[:, 0]
    return expected.numpy(), OF_PAIRS[prediction, others[:, 0]], table


def test_the_norms_of_pairs_are_learned_up_to_a_factor_from_those_that_are_known():
    expected, norms, _ = _learned(_batches(100))
    ratio = expected / norms
    assert np.std(np.log(ratio)) < 0.04 < np.std(np.log(norms))


def test_the_unit_of_the_logits_does_not_matter():
    (one, _, _), (other, _, _) = _learned(_batches(20)), _learned(_batches(20, scale=1e3))
    np.testing.assert_allclose(one / one[0], other / other[0], rtol=1e-3)


def test_where_nothing_is_known_nothing_is_expected():
    assert not np.any(_learned(_batches(3, known=0.0))[2])
    prediction, candidates, squared = next(_batches(1))
    table = gradient_norms.change(tf.zeros([gradient_norms.SIZE]), prediction, candidates, squared)
    unseen = tf.fill([60], 7)
    np.testing.assert_array_equal(gradient_norms.expected(table, unseen, candidates), np.ones((60, 3)))


def test_more_classes_than_entries_share_them():
    table = gradient_norms.change(
        tf.zeros([gradient_norms.SIZE]),
        tf.constant([5000, 1]),
        tf.constant([[70_000, 3], [2, 4]]),
        tf.constant([[1.0, 16.0], [1.0, 1.0]]),
    )
    assert np.isfinite(table).all() and np.count_nonzero(table) == 4


def test_a_gradient_that_is_not_finite_is_not_remembered():
    prediction, candidates, squared = next(_batches(1))
    without, table = (
        gradient_norms.change(
            tf.zeros([gradient_norms.SIZE]), prediction, candidates, tf.concat([[values], squared[1:]], 0)
        )
        for values in ([0.0, 0.0, 0.0], [np.nan, np.inf, 0.0])
    )
    np.testing.assert_array_equal(table, without)


def _linear():
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(6)])
    kernel = np.random.default_rng(1).standard_normal((20, 6)) * np.linspace(0.3, 2.0, 6)
    model.set_weights([kernel, np.zeros(6)])
    return model, kernel


def test_training_learns_the_norms_of_a_linear_classifier():
    """There the gradient between two classes is the difference of their columns, whatever the image."""
    model, kernel = _linear()
    x = np.random.default_rng(2).standard_normal((3000, 20)).astype("float32")
    y = np.argmax(x @ kernel, axis=1)
    # A schedule decides by `tf.cond` whether there is a penalty.
    wrapped = keras_amm.wrap(model, warmup_steps=1)
    wrapped.compile(keras.optimizers.SGD(0.0), LOSS)
    wrapped.fit(x, y, batch_size=100, epochs=5, verbose=0)
    table = wrapped.regularizer.running.gradient_norms.numpy().reshape(128, 128)[:6, :6]
    norms = np.linalg.norm(kernel[:, :, None] - kernel[:, None], axis=0)
    seen = table != 0.0
    assert seen.sum() >= 20
    left = np.log(norms[seen]) - table[seen]
    assert np.std(left) < 0.3 * np.std(np.log(norms[seen]))


def test_files_from_before_it_was_remembered_are_read():
    running = keras_amm.wrap(_linear()[0]).regularizer.running
    running.gradient_norms.assign(np.ones(gradient_norms.SIZE))
    running.load_own_variables({"0": np.float32(0.7), "1": np.float32(0.9)})
    assert float(running.margin) == np.float32(0.7) and float(running.accuracy) == np.float32(0.9)
    assert np.all(running.gradient_norms == 1.0)
    # Of how many batches the accuracy is, such files do not say.
    running.update(0.7, 0.4)
    np.testing.assert_allclose(running.accuracy_or(0.1), 0.98 * 0.9 + 0.02 * 0.4, rtol=1e-6)
    running.load_own_variables({})
    assert float(running.margin) == np.float32(0.7)
