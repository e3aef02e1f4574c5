"""The limit of the penalty's gradient, as long as the loss's was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.gradient import clipping
from keras_amm.search.linearisation import CleanPass
from tests.helpers.networks import LOSS, assert_same_weights, small_data, small_network

# What a batch of every fourth step adds to a running mean that begins at 0.
_SHARE = 1.0 - 0.98**4


def _new(relative_clipnorm, network=None, **arguments):
    regularizer = keras_amm.MarginRegularizer(
        max_influence=16.0, aggregation="avg", relative_clipnorm=relative_clipnorm, **arguments
    )
    model = keras_amm.wrap(network or small_network(), regularizer)
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    return model


def _flat(values):
    return np.concatenate([np.ravel(value) for value in values])


def _train(network, x, y):
    network.compile(keras.optimizers.Adam(0.03), LOSS)
    network.fit(x, y, batch_size=len(x), epochs=20, verbose=0)


def _loss_gradient(model, x, y):
    with tf.GradientTape() as tape:
        loss = LOSS(y, model(x, training=True))
    return _flat(tape.gradient(loss, model.trainable_weights))


def _penalty_gradient(model, x, y):
    with tf.GradientTape() as tape:
        penalty = model.margin_penalty(x, y)
    if penalty > 0.0:
        return _flat(tape.gradient(penalty, model.trainable_weights))
    return np.zeros_like(_flat(model.trainable_weights))


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
    for step in range(5):
        of_loss, of_penalty = _loss_gradient(model, x, y), _penalty_gradient(model, x, y)
        limit = interval * relative_clipnorm * longest
        norm = np.linalg.norm(of_penalty)
        cut = min(1.0, limit / norm) if norm > 0.0 else 1.0
        got = _step_of(model, x, y) - of_loss
        np.testing.assert_allclose(got, cut * of_penalty, atol=2e-5 + 1e-3 * cut * norm)
        lengths.append(cut)
        if step % 4 == 0:
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
    _train(network, x, y)
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
    model.fit(x, y, batch_size=16, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.regularizer.relative_clipnorm == 0.5
    running, other = model.regularizer.running, loaded.regularizer.running
    assert float(other.loss_gradient) == float(running.loss_gradient) > 0.0
    assert float(other.longest_loss_gradient) == float(running.longest_loss_gradient) > 0.0
    for each in (model, loaded):
        each.fit(x, y, batch_size=24, shuffle=False, verbose=0)
    assert_same_weights(model, loaded)


def _with_batch_normalization():
    return small_network(keras.layers.BatchNormalization())


@pytest.mark.usefixtures("eagerly")
def test_what_goes_through_the_statistics_of_the_batch_is_cut_by_the_same_factor():
    """So the penalty's step has the direction that it has without a limit, and is as much shorter as the limit is."""
    x, y = small_data()
    network, steps = _with_batch_normalization(), {}
    for limit in (0.01, 0.02, None):
        copy = _with_batch_normalization()
        copy.set_weights(network.get_weights())
        model = _new(None if limit is None else 1.0, copy)
        if limit is not None:
            # As if one batch had been seen, of a loss whose gradient was so long.
            model.regularizer.running.longest_loss_gradient.assign(limit)
        of_loss = _loss_gradient(model, x, y)
        steps[limit] = _step_of(model, x, y) - of_loss
    direction = steps[None] / np.linalg.norm(steps[None])
    for limit in (0.01, 0.02):
        np.testing.assert_allclose(steps[limit], np.linalg.norm(steps[limit]) * direction, atol=1e-5)
    assert np.linalg.norm(steps[0.02]) == pytest.approx(2.0 * np.linalg.norm(steps[0.01]), rel=1e-2)
    assert 0.0 < np.linalg.norm(steps[0.02]) < 0.5 * np.linalg.norm(steps[None])


@pytest.mark.usefixtures("eagerly")
def test_the_limit_does_not_feed_itself_through_the_statistics_of_the_batch():
    """What is remembered is the gradient of the loss alone, however long the penalty's is."""
    x, y = small_data()
    model = keras_amm.wrap(_with_batch_normalization(), max_influence=100.0, relative_clipnorm=8.0)
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    mean = longest = 0.0
    for step in range(5):
        if step % 4 == 0:
            mean += _SHARE * (np.linalg.norm(_loss_gradient(model, x, y)) - mean)
            longest = max(longest, mean)
        model.train_on_batch(x, y)
    running = model.regularizer.running
    np.testing.assert_allclose([running.loss_gradient, running.longest_loss_gradient], [mean, longest], rtol=1e-4)


@pytest.mark.parametrize("compiled", [{}, {"jit_compile": True}])
def test_modes_of_execution_agree_with_batch_statistics(compiled):
    x, y = small_data()

    def fit(**compiled):
        model = _new(0.5, _with_batch_normalization(), search="exact")
        model.compile(keras.optimizers.SGD(0.1), LOSS, **compiled)
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        return model

    model, wanted = fit(**compiled), fit(run_eagerly=True)
    np.testing.assert_allclose(_flat(model.trainable_weights), _flat(wanted.trainable_weights), atol=1e-5)
    for name in ("loss_gradient", "longest_loss_gradient"):
        got, expected = (getattr(each.regularizer.running, name) for each in (model, wanted))
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_a_loss_scale_does_not_change_the_limit():
    x, y = small_data()
    optimizers = (keras.optimizers.SGD(0.1), keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 2.0**12))
    models = []
    for optimizer in optimizers:
        models.append(_new(0.5))
        models[-1].compile(optimizer, LOSS)
        models[-1].fit(x, y, batch_size=16, shuffle=False, verbose=0)
    assert_same_weights(*models)
    norms = [model.regularizer.running.longest_loss_gradient for model in models]
    np.testing.assert_allclose(*norms, rtol=1e-4)


def test_a_gradient_that_is_not_finite_is_not_remembered():
    running = keras_amm.running.RunningStatistics()
    for norm in (1.0, float("inf"), float("nan")):
        running.update_loss_gradient(tf.constant(norm), tf.constant(False))
        running.update(tf.constant(1.0), tf.constant(0.5))
    np.testing.assert_allclose([running.loss_gradient, running.longest_loss_gradient], _SHARE, rtol=1e-5)


@pytest.mark.parametrize("wrong", [0.0, -1.0, "much", True])
def test_wrong_limits(wrong):
    with pytest.raises((ValueError, TypeError), match="relative_clipnorm"):
        keras_amm.MarginRegularizer(relative_clipnorm=wrong)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("frozen", [True, False])
def test_by_default_only_networks_that_normalise_by_the_batch_are_limited(frozen):
    x, y = small_data()
    network = _with_batch_normalization()

    def steps(relative_clipnorm):
        copy = keras.models.clone_model(network)
        copy.layers[1].trainable = not frozen
        copy.set_weights(network.get_weights())
        model = _new(relative_clipnorm, copy)
        return np.concatenate([_step_of(model, x, y) for _ in range(3)])

    got, limited, hardly_limited, unlimited = (steps(limit) for limit in ("auto", 1.0, 20.0, None))
    np.testing.assert_allclose(got, unlimited if frozen else limited, atol=1e-5)
    # The limit is tight in these steps, so that another number would be seen.
    assert np.abs(limited - hardly_limited).max() > 0.01 and np.abs(limited - unlimited).max() > 0.01


@pytest.mark.usefixtures("eagerly")
def test_the_limit_is_the_longest_mean_not_the_last():
    running = keras_amm.running.RunningStatistics()
    means, mean = [], 0.0
    for norm in (4.0, 2.0, 0.1, 0.0, 0.0):
        running.update_loss_gradient(tf.constant(norm), tf.constant(False))
        mean += _SHARE * (norm - mean)
        means.append(mean)
    assert means[-1] < max(means)
    np.testing.assert_allclose([running.loss_gradient, running.longest_loss_gradient], [mean, max(means)], rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_unfreezing_batch_normalization_of_a_trained_network_begins_without_a_limit():
    """As for a trained network that is wrapped anew: how long the gradients were while it learned is not known."""
    x, y = small_data()
    network = _with_batch_normalization()
    _train(network, x, y)
    network.layers[1].trainable = False
    model = _new("auto", network)
    model.train_on_batch(x, y)
    assert float(model.regularizer.running.longest_loss_gradient) == 0.0
    network.layers[1].trainable = True
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    model.train_on_batch(x, y)
    assert np.isinf(model.regularizer.running.longest_loss_gradient)


def _is_trained(accuracy, labels, num_classes):
    logits = tf.zeros((len(labels), num_classes))
    clean = CleanPass(tf.zeros((len(labels), 2)), logits, [], tf.GradientTape())
    return bool(clipping.is_trained(tf.constant(accuracy), clean, tf.constant(labels)))


@pytest.mark.parametrize(
    ("accuracy", "labels", "num_classes", "wanted"),
    [
        (0.5, [*range(10)] * 10, 10, False),
        (0.6, [*range(10)] * 10, 10, True),
        # To predict the larger class alone is right so often, and is not to be trained.
        (0.9, [0] * 90 + [1] * 10, 2, False),
        (0.96, [0] * 90 + [1] * 10, 2, False),
        (0.995, [0] * 90 + [1] * 10, 2, True),
        # A coin is right eight times of eight in one batch of 256, and 29 times of 32 next to never.
        (1.0, [0, 1] * 4, 2, False),
        (0.9, [0, 1] * 16, 2, True),
    ],
)
def test_what_counts_as_trained(accuracy, labels, num_classes, wanted):
    assert _is_trained(accuracy, labels, num_classes) == wanted


@pytest.mark.usefixtures("eagerly")
def test_influence_is_shown_as_far_as_the_limit_leaves_it():
    x, y = small_data()
    model = _new(1.0)
    shown = [model.train_on_batch(x, y, return_dict=True)["influence"] for _ in range(3)]
    model = _new(None)
    unlimited = [model.train_on_batch(x, y, return_dict=True)["influence"] for _ in range(3)]
    assert shown[0] == 0.0
    assert 0.0 < shown[2] < 0.5 * unlimited[2]


@pytest.mark.usefixtures("eagerly")
def test_a_regularizer_of_two_models_remembers_each_alone():
    x, y = small_data()
    regularizer = keras_amm.MarginRegularizer(c=2.0, relative_clipnorm=0.5)
    first = keras_amm.wrap(small_network(), regularizer)
    first.compile(keras.optimizers.SGD(0.1), LOSS)
    first.fit(x, y, verbose=0)
    second = keras_amm.wrap(small_network(), regularizer)
    assert first.regularizer is regularizer
    assert {**second.regularizer.get_config(), "name": None} == {**regularizer.get_config(), "name": None}
    for name in ("margin", "seen", "longest_loss_gradient"):
        assert getattr(first.regularizer.running, name) > 0.0
        assert getattr(second.regularizer.running, name) == 0.0
