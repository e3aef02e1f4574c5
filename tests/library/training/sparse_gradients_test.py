"""Networks that look their weights up, so that gradients come in rows: against the same ones with plain weights."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import LOSS, assert_same_weights, train

_ROWS = np.random.default_rng(3).normal(size=(7, 4)).astype("float32")


class _Positions(keras.layers.Layer):
    """Adds a vector for each position, of which the table holds more than there are, and the first one twice."""

    def __init__(self, *, is_sparse, **kwargs):
        super().__init__(**kwargs)
        self.is_sparse = is_sparse
        rows = keras.initializers.Constant(_ROWS)
        if is_sparse:
            self.table = keras.layers.Embedding(*_ROWS.shape, embeddings_initializer=rows)
        else:
            self.table = self.add_weight(shape=_ROWS.shape, initializer=rows)

    def call(self, x):
        positions = np.array([0, 1, 2, 3, 0, 4])
        if self.is_sparse:
            return x + self.table(positions)
        return x + keras.ops.matmul(keras.ops.one_hot(positions, len(_ROWS), dtype=x.dtype), self.table)


def _network(*, is_sparse):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 4)),
            _Positions(is_sparse=is_sparse),
            keras.layers.Activation("tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=1)),
        ]
    )


def _data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(32, 6, 4)).astype("float32"), generator.integers(0, 3, 32).astype("int32")


def _assert_same_training(strategy=None, optimizer=None, policy="float32", tolerance=2e-5, **arguments):
    compiled = {name: arguments.pop(name) for name in ("run_eagerly", "jit_compile") if name in arguments}
    trained = []
    for is_sparse in (True, False):
        with strategy.scope() if strategy and is_sparse else contextlib.nullcontext():
            keras.config.set_dtype_policy(policy)
            try:
                network = _network(is_sparse=is_sparse)
            finally:
                keras.config.set_dtype_policy("float32")
            model = keras_amm.wrap(
                network,
                keras_amm.MarginRegularizer.from_paper("min-exp", **arguments),
                keras_amm.DeepFool(num_candidates=2),
            )
            made = optimizer() if optimizer else keras.optimizers.SGD(0.01)
            # The one to compare with is the same in every mode, and takes the least time without a graph.
            mode = compiled if is_sparse else {"run_eagerly": True}
            history = train(model, *_data(), optimizer=made, **mode)
        assert history["margin_penalty"][0] > 0
        trained.append((network, history))
    (sparse, history), (plain, wanted) = trained
    for name, values in wanted.items():
        np.testing.assert_allclose(history[name], values, rtol=max(tolerance, 1e-4), err_msg=name)
    assert_same_weights(sparse, plain, rtol=tolerance, atol=tolerance)
    moved = sparse.get_weights()[0] - _ROWS
    assert np.all(np.abs(moved[:5]).max(1) > 1e-5) and not moved[5:].any()


def _warm_up():
    return keras.optimizers.schedules.PolynomialDecay(1.0, 10, 32.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"run_eagerly": True, "gradient": "masked"},
        {"gradient": "boundary", "screening": 0.5},
        {"strength": _warm_up(), "gradient": "boundary"},
        {"run_eagerly": True, "interval": 2},
        {"jit_compile": True},
        {"jit_compile": True, "gradient": "boundary", "interval": 2},
    ],
    ids=lambda arguments: "-".join(arguments) or "default",
)
def test_kinds_of_gradients_and_modes_of_execution(arguments):
    _assert_same_training(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"gradient_accumulation_steps": 2}, {"momentum": 0.9}],
    ids=lambda arguments: "-".join(arguments),
)
def test_clipping_accumulation_and_momentum(arguments):
    _assert_same_training(
        optimizer=lambda: keras.optimizers.SGD(0.01, **arguments),
        gradient="boundary",
        run_eagerly="clipnorm" not in arguments,
    )


def test_loss_scaling():
    """The looked up rows are of half precision, whose sums differ a little."""
    inner = keras.optimizers.SGD
    _assert_same_training(
        optimizer=lambda: keras.optimizers.LossScaleOptimizer(inner(0.01), initial_scale=256.0),
        policy="mixed_float16",
        tolerance=2e-3,
        run_eagerly=True,
    )


def test_replicas(mirrored):
    _assert_same_training(strategy=mirrored)


@pytest.mark.parametrize("gradient", ["unrolled", "masked", "boundary"])
def test_margin_penalty_with_a_tape(gradient):
    found = []
    for is_sparse in (True, False):
        model = keras_amm.wrap(
            _network(is_sparse=is_sparse), keras_amm.MarginRegularizer.from_paper("min-exp", gradient=gradient)
        )
        with tf.GradientTape() as tape:
            penalty = model.margin_penalty(*_data())
        found.append([penalty, *tape.gradient(penalty, model.trainable_weights)])
    for sparse, plain in zip(*found, strict=True):
        np.testing.assert_allclose(sparse, plain, rtol=1e-5, atol=1e-6)


def test_gradients_that_are_no_numbers_are_found():
    """A NaN in a row of the table is seen, and reaches no weight."""

    @tf.custom_gradient
    def spoilt(x):
        return x, lambda upstream: upstream * float("nan")

    class Spoilt(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.table = keras.layers.Embedding(6, 4)

        def call(self, x):
            return x + spoilt(tf.convert_to_tensor(self.table(np.arange(6))))

    network = keras.Sequential([keras.Input((6, 4)), Spoilt(), keras.layers.Flatten(), keras.layers.Dense(3)])
    model = keras_amm.wrap(network, keras_amm.MarginRegularizer.from_paper("min-exp", gradient="boundary"))
    model.compile("sgd", LOSS)
    before = model.get_weights()
    with pytest.raises(ValueError, match="gradient of the margin penalty is NaN or infinite"):
        model.fit(*_data(), verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_network_that_looks_up_its_images():
    """Of a batch turned round and back, the gradients of the images come in rows, too."""

    class Turned(keras.layers.Layer):
        def call(self, x):
            return tf.gather(x, tf.range(tf.shape(x)[0]))

    x, y = _data()
    found = []
    for first in (Turned(), keras.layers.Activation("linear")):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Flatten(), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3)]
        network = keras.Sequential([keras.Input((6, 4)), first, *layers])
        model = keras_amm.wrap(network)
        with tf.GradientTape() as tape:
            penalty = model.margin_penalty(x, y)
        found.append([penalty, *tape.gradient(penalty, model.trainable_weights)])
    for rows, plain in zip(*found, strict=True):
        np.testing.assert_allclose(rows, plain, rtol=1e-5, atol=1e-6)
