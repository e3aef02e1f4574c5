"""`stride`: the penalty of every n-th sample, in turn, is over the steps that of all."""

import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.gradient.penalty import _rows_in_turn
from tests.helpers.networks import LOSS, assert_trained, linear_classifier, small_data, small_network, train

SIZE, CLASSES = 5, 3
ATTACKS = {"deepfool": keras_amm.DeepFool(), "fmn": keras_amm.FastMinimumNorm(5, start=None)}


@pytest.mark.parametrize(
    ("batch_size", "stride", "rows"),
    [
        (6, 2, [[0, 2, 4], [1, 3, 5], [0, 2, 4]]),
        # As many at each step; which one is left out is left to the order of the images.
        (5, 2, [[0, 2], [1, 3], [0, 2]]),
        (7, 3, [[0, 3], [1, 4], [2, 5]]),
        (1, 2, [[0], [0], [0]]),
        (2, 3, [[0], [1], [0]]),
    ],
)
def test_rows_in_turn(batch_size, stride, rows):
    for of_size in (batch_size, tf.constant(batch_size)):
        assert [_rows_in_turn(of_size, stride, step).numpy().tolist() for step in range(3)] == rows


def _penalties(stride, steps, *, attack="deepfool", compiled=False, **settings):
    """Of a linear classifier, the penalty at each step and its gradient."""
    network, *_, x = linear_classifier(SIZE, CLASSES)
    labels = np.arange(len(x)) % CLASSES
    regularizer = keras_amm.MarginRegularizer.from_paper("avg-exp", stride=stride, gradient="boundary", **settings)
    model = keras_amm.wrap(network, regularizer, attack=ATTACKS[attack])
    model.compile("sgd", LOSS)
    model.optimizer.build(model.trainable_variables)

    def penalty():
        with tf.GradientTape() as tape:
            value = model.margin_penalty(x, labels)
        return value, *tape.gradient(value, model.trainable_weights)

    if compiled:
        penalty = tf.function(penalty, jit_compile=True)
    found = []
    for step in range(steps):
        model.optimizer.iterations.assign(step)
        found.append([np.asarray(part) for part in penalty()])
    return found


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("search", ["exact", "ranks"])
def test_the_mean_over_the_steps_is_the_penalty_of_all(attack, search):
    [of_all] = _penalties(1, 1, attack=attack, search=search)
    in_turn = _penalties(2, 2, attack=attack, search=search)
    assert not np.allclose(in_turn[0][0], in_turn[1][0])
    for whole, *parts in zip(of_all, *in_turn, strict=True):
        np.testing.assert_allclose(np.mean(parts, axis=0), whole, rtol=1e-4, atol=1e-5)


def test_compiled_by_xla_it_is_the_same():
    for search in ("exact", "cheap"):
        eager, compiled = (_penalties(2, 2, search=search, compiled=compiled) for compiled in (False, True))
        for first, second in zip(eager, compiled, strict=True):
            for part, other in zip(first, second, strict=True):
                np.testing.assert_allclose(part, other, rtol=1e-4, atol=1e-5)


def test_small_and_odd_batches():
    x, y = small_data(7)
    model = keras_amm.wrap(small_network(), keras_amm.MarginRegularizer(stride=3))
    assert_trained(train(model, x, y, run_eagerly=True))
    assert np.isfinite(model.margin_penalty(x[:1], y[:1]))


def test_a_model_saved_before_looks_at_every_sample():
    config = keras_amm.MarginRegularizer(stride=2).get_config()
    assert config.pop("stride") == 2
    assert keras_amm.MarginRegularizer.from_config(config).stride == 1


@pytest.mark.parametrize("stride", [0, 1.5, None])
def test_bad_arguments(stride):
    with pytest.raises(ValueError, match="`stride`"):
        keras_amm.MarginRegularizer(stride=stride)
