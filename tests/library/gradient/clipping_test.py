"""The limit of the penalty's gradient, as long as the loss's was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import LOSS, assert_same_weights, small_data, small_network

# What a batch adds to a running mean that begins at 0.
_SHARE = 0.02


def _new(relative_clipnorm, network=None, **arguments):
    regularizer = keras_amm.MarginRegularizer(
        max_influence=16.0, aggregation="avg", relative_clipnorm=relative_clipnorm, **arguments
    )
    model = keras_amm.wrap(network or small_network(), regularizer)
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    return model


def _flat(values):
    return np.concatenate([np.ravel(value) for value in values])


def _loss_gradient(model, x, y):
    with tf.GradientTape() as tape:
        loss = LOSS(y, model(x, training=True))
    return _flat(tape.gradient(loss, model.trainable_weights))


def _penalty_gradient(model, x, y):
    with tf.GradientTape() as tape:
        penalty = model.margin_penalty(x, y)
    gradients = tape.gradient(penalty, model.trainable_weights) if penalty > 0.0 else model.trainable_weights
    return _flat(gradients) * float(penalty > 0.0)


def _step_of(model, x, y):
    """The gradient by which SGD changed the weights in one step on a batch."""
    before = _flat(model.trainable_weights)
    model.train_on_batch(x, y)
    return (before - _flat(model.trainable_weights)) / 0.1


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(("interval", "relative_clipnorm"), [(1, 0.5), (1, 20.0), (2, 0.5)])
def test_the_penalty_is_as_long_as_the_loss_s_gradient_was(interval, relative_clipnorm):
    """Each step goes along both gradients, the penalty's cut to the longest running mean of the other's."""
    x, y = small_data()
    model = _new(relative_clipnorm, interval=interval)
    mean = longest = 0.0
    lengths = []
    for step in range(6):
        of_loss, of_penalty = _loss_gradient(model, x, y), _penalty_gradient(model, x, y)
        limit = interval * relative_clipnorm * longest
        norm = np.linalg.norm(of_penalty)
        cut = min(1.0, limit / norm) if norm > 0.0 else 1.0
        got = _step_of(model, x, y) - of_loss
        np.testing.assert_allclose(got, cut * of_penalty, atol=2e-5 + 1e-3 * cut * norm)
        lengths.append(cut)
        mean += _SHARE * (np.linalg.norm(of_loss) - mean)
        longest = max(longest, mean)
        running = model.regularizer.running
        np.testing.assert_allclose([running.loss_gradient, running.longest_loss_gradient], [mean, longest], rtol=1e-4)
        assert interval == 1 or step % 2 == 0 or norm == 0.0
    # Nothing is known in the first step; later the limit is tight or is not.
    assert lengths[0] == 0.0
    assert (lengths[4] < 1.0) == (relative_clipnorm == 0.5)


@pytest.mark.usefixtures("eagerly")
def test_without_a_limit_the_gradient_is_that_of_the_penalty():
    x, y = small_data()
    model = _new(None)
    wanted = _loss_gradient(model, x, y) + _penalty_gradient(model, x, y)
    np.testing.assert_allclose(_step_of(model, x, y), wanted, atol=1e-5)
    assert float(model.regularizer.running.loss_gradient) == 0.0
    assert keras_amm.MarginRegularizer.from_paper("min-exp").relative_clipnorm is None


@pytest.mark.usefixtures("eagerly")
def test_a_trained_network_has_no_limit():
    """How long the gradients were by which it learned is not known."""
    x, y = small_data()
    network = small_network()
    network.compile(keras.optimizers.Adam(0.01), LOSS)
    network.fit(x, y, epochs=40, verbose=0)
    assert np.mean(np.argmax(network(x), axis=1) == y) > 0.8
    model = _new(0.1, network)
    model.train_on_batch(x, y)
    wanted = _loss_gradient(model, x, y) + _penalty_gradient(model, x, y)
    np.testing.assert_allclose(_step_of(model, x, y), wanted, atol=1e-5)
    assert np.isinf(model.regularizer.running.longest_loss_gradient)


@pytest.mark.usefixtures("eagerly")
def test_the_limit_is_saved_and_resumed(tmp_path):
    x, y = small_data()
    model = _new(0.5)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.regularizer.relative_clipnorm == 0.5
    running, other = model.regularizer.running, loaded.regularizer.running
    assert float(other.loss_gradient) == float(running.loss_gradient) > 0.0
    assert float(other.longest_loss_gradient) == float(running.longest_loss_gradient) > 0.0
    for each in (model, loaded):
        each.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    assert_same_weights(model, loaded)


@pytest.mark.parametrize("compiled", [{}, {"jit_compile": True}])
def test_modes_of_execution_agree_with_batch_statistics(compiled):
    """What the penalty changes through a BatchNormalization's statistics is cut by the same factor."""
    x, y = small_data()

    def fit(**compiled):
        model = _new(0.5, small_network(keras.layers.BatchNormalization()))
        model.compile(keras.optimizers.SGD(0.1), LOSS, **compiled)
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        return model

    model, wanted = fit(**compiled), fit(run_eagerly=True)
    np.testing.assert_allclose(_flat(model.trainable_weights), _flat(wanted.trainable_weights), atol=1e-3)
    for name in ("loss_gradient", "longest_loss_gradient"):
        got, expected = (getattr(each.regularizer.running, name) for each in (model, wanted))
        np.testing.assert_allclose(got, expected, rtol=1e-2)


@pytest.mark.usefixtures("eagerly")
def test_a_loss_scale_does_not_change_the_limit():
    x, y = small_data()
    optimizers = (keras.optimizers.SGD(0.1), keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 2.0**12))
    models = []
    for optimizer in optimizers:
        models.append(_new(0.5))
        models[-1].compile(optimizer, LOSS)
        models[-1].fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert_same_weights(*models)
    norms = [model.regularizer.running.longest_loss_gradient for model in models]
    np.testing.assert_allclose(*norms, rtol=1e-4)


def test_a_gradient_that_is_not_finite_is_not_remembered():
    running = keras_amm.running.RunningStatistics()
    for norm in (1.0, float("inf"), float("nan")):
        running.update_loss_gradient(tf.constant(norm), tf.constant(False))
        running.update(tf.constant(1.0), tf.constant(0.5))
    np.testing.assert_allclose([running.loss_gradient, running.longest_loss_gradient], _SHARE, rtol=1e-5)


@pytest.mark.parametrize("wrong", [0.0, -1.0, "much"])
def test_wrong_limits(wrong):
    with pytest.raises((ValueError, TypeError), match="relative_clipnorm"):
        keras_amm.MarginRegularizer(relative_clipnorm=wrong)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("frozen", [True, False])
def test_by_default_only_networks_that_normalise_by_the_batch_are_limited(frozen):
    x, y = small_data()
    network = small_network(keras.layers.BatchNormalization())
    network.layers[1].trainable = not frozen
    steps = []
    for relative_clipnorm in ("auto", None if frozen else 1.0):
        copy = keras.models.clone_model(network)
        copy.layers[1].trainable = not frozen
        copy.set_weights(network.get_weights())
        steps.append(_step_of(_new(relative_clipnorm, copy), x, y))
    np.testing.assert_allclose(*steps, atol=1e-5)
