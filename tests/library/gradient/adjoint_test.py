"""Second-order gradients against replay, finite differences, and each other across execution modes."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers import oracle, zoo

CONFIGURATION = {"strength": 4.0, "aggregation": "avg", "shrinkage": "exp", "c": 1.0, "d": 1.0}


def _setting(name, number=12, attack=None, **arguments):
    keras.utils.set_random_seed(3)
    model = zoo.build(name)
    x = zoo.images(number, seed=1)
    y = np.argmax(oracle.logits_of(model)(x), axis=1)
    y[::5] = (y[::5] + 1) % zoo.CLASSES
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", **{**CONFIGURATION, **arguments})
    return keras_amm.wrap(model, regularizer, attack), x, y


def _value_and_gradient(model, x, y):
    with tf.GradientTape() as tape:
        penalty = model.margin_penalty(x, y)
    return penalty, tape.gradient(penalty, model.trainable_variables, unconnected_gradients="zero")


def _flat(gradients):
    return np.concatenate([np.ravel(g) for g in gradients])


def _relative(got, wanted):
    got, wanted = _flat(got), _flat(wanted)
    return np.linalg.norm(got - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("name", "aggregation"),
    [(name, ("avg", "min")[number % 2]) for number, name in enumerate([*zoo.NAMES, "tanh_cnn"])],
)
def test_equals_replay(name, aggregation):
    model, x, y = _setting(name, aggregation=aggregation)
    got, gradients = _value_and_gradient(model, x, y)
    with tf.GradientTape() as tape:
        wanted = oracle.penalty(
            oracle.logits_of(model.base_model, batch=x), x, y, **{**CONFIGURATION, "aggregation": aggregation}
        )
    replayed = tape.gradient(wanted, model.trainable_variables, unconnected_gradients="zero")
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    assert _relative(gradients, replayed) < 5e-4


def test_masked_equals_replay_with_constant_gradients():
    model, x, y = _setting("tanh_mlp", gradient="masked")
    _, gradients = _value_and_gradient(model, x, y)
    with tf.GradientTape() as tape:
        wanted = oracle.penalty(oracle.logits_of(model.base_model), x, y, **CONFIGURATION, masked=True)
    replayed = tape.gradient(wanted, model.trainable_variables, unconnected_gradients="zero")
    assert _relative(gradients, replayed) < 5e-4


@pytest.mark.parametrize("name", ["linear", "tanh_mlp", "softplus_mlp", "tanh_cnn", *zoo.CURVED])
def test_equals_finite_differences(name):
    """In float64, along a random direction in weight space, on smooth networks.

    A maximum has kinks where two pixels are equal: a random direction of this length leads across none.
    """
    keras.config.set_dtype_policy("float64")
    try:
        keras.utils.set_random_seed(3)
        model = zoo.build(name)
        x = zoo.images(8, seed=1).astype("float64")
    finally:
        keras.config.set_dtype_policy("float32")
    y = np.argmax(model(x), axis=1)
    y[0] = (y[0] + 1) % zoo.CLASSES
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", **CONFIGURATION)
    wrapped = keras_amm.wrap(model, regularizer=regularizer, attack=keras_amm.DeepFool(3 if name in zoo.CURVED else 6))
    _, gradients = _value_and_gradient(wrapped, x, y)
    weights = [variable.numpy() for variable in model.trainable_variables]
    generator = np.random.default_rng(0)
    direction = [generator.standard_normal(w.shape) for w in weights]
    values = []
    for sign in (1.0, -1.0):
        for variable, w, d in zip(model.trainable_variables, weights, direction, strict=True):
            variable.assign(w + sign * 1e-6 * d)
        values.append(float(wrapped.margin_penalty(x, y)))
    slope = sum(np.vdot(g, d) for g, d in zip(gradients, direction, strict=True))
    np.testing.assert_allclose((values[0] - values[1]) / 2e-6, slope, rtol=1e-4)


# One network for each way of computing that a graph or XLA could get wrong; compiling the whole zoo takes minutes.
@pytest.mark.parametrize(
    ("name", "gradient", "jit_compile"),
    [
        ("max_pool_cnn", "unrolled", True),
        ("group_norm_cnn", "unrolled", True),
        ("softmax_head", "unrolled", True),
        ("batch_norm_cnn", "unrolled", False),
        ("nested", "unrolled", False),
        ("softplus_mlp", "masked", False),
        ("tanh_mlp", "boundary", False),
    ],
)
def test_eager_graph_and_xla_agree(name, gradient, jit_compile):
    model, x, y = _setting(name, attack=keras_amm.DeepFool(3), gradient=gradient)
    wanted, gradients = _value_and_gradient(model, x, y)
    compiled = tf.function(lambda x, y: _value_and_gradient(model, x, y), jit_compile=jit_compile)
    got, found = compiled(tf.constant(x), tf.constant(y))
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    assert _relative(found, gradients) < 1e-4


def test_graph_of_unknown_batch_size():
    """A graph drops the rows that do not count, and XLA masks them."""
    model, x, y = _setting("softplus_mlp", attack=keras_amm.DeepFool(3), aggregation="min")
    wanted, gradients = _value_and_gradient(model, x, y)
    signature = [tf.TensorSpec([None, *zoo.SHAPE]), tf.TensorSpec([None], tf.int64)]
    for jit_compile in (False, True):
        compiled = tf.function(
            lambda x, y: _value_and_gradient(model, x, y), input_signature=signature, jit_compile=jit_compile
        )
        got, found = compiled(tf.constant(x), tf.constant(y))
        np.testing.assert_allclose(got, wanted, rtol=1e-4)
        assert _relative(found, gradients) < 1e-4


def test_hessian_matters_on_smooth_networks():
    """Without the curvature of the network the gradient would differ: the check above has teeth."""
    model, x, y = _setting("tanh_mlp")
    with_hessian = _value_and_gradient(model, x, y)[1]
    classifier_class = keras_amm.network.classifier.Classifier
    assert not classifier_class(model).is_piecewise_linear
    original = classifier_class.__init__

    def pretend(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.is_piecewise_linear = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier_class, "__init__", pretend)
        without = _value_and_gradient(model, x, y)[1]
    assert _relative(without, with_hessian) > 1e-3


def test_an_activation_without_a_name_is_not_taken_for_linear():
    x, y = np.random.default_rng(0).normal(size=(12, 5)).astype("float32"), np.arange(12) % 3
    gelu = functools.partial(keras.activations.gelu, approximate=True)
    networks = [
        keras.Sequential([keras.Input((5,)), keras.layers.Dense(8, activation), keras.layers.Dense(3)])
        for activation in (gelu, lambda z: gelu(z))
    ]
    networks[1].set_weights(networks[0].get_weights())
    gradients = []
    for network in networks:
        model = keras_amm.wrap(
            network,
            regularizer=keras_amm.MarginRegularizer.from_paper(
                "min-exp", strength=1.0, aggregation="avg", shrinkage="lin"
            ),
        )
        with tf.GradientTape() as tape:
            penalty = model.margin_penalty(x, y)
        gradients.append(tape.gradient(penalty, network.trainable_variables)[0])
    np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-5)
