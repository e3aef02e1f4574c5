"""Replaced functions and properties: alone, nested, with several threads at once, and all gone afterwards."""

import concurrent.futures
import inspect
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.models.functional import Functional

from keras_amm.network.classifier import Classifier
from keras_amm.network.kernels.half_precision import float32_properties
from keras_amm.network.kernels.input_dtype import uncast_functional, uncast_sequential
from keras_amm.network.kernels.moments import twice_differentiable_moments
from keras_amm.network.kernels.replaced import replaced

PLACES = [(tf.nn, name) for name in ("max_pool", "convolution", "moments")] + [
    (keras.Layer, name) for name in float32_properties
]
PLACES += [(Functional, name) for name in uncast_functional] + [(keras.Sequential, name) for name in uncast_sequential]
WAIT = 60


def _originals():
    return [inspect.getattr_static(*place) for place in PLACES]


@pytest.fixture(autouse=True)
def _leaves_nothing_behind():
    before = _originals()
    yield
    assert all(now is then for now, then in zip(_originals(), before, strict=True))


class Meeting(keras.layers.Layer):
    """Calls what the test has set, in the middle of the network's pass."""

    then = staticmethod(lambda: None)

    def call(self, x):
        self.then()
        return x


def _model(dtype, seed=0):
    """A network with every replaced function on either side of the place where threads meet."""
    keras.utils.set_random_seed(seed)

    def block():
        return [
            keras.layers.Conv2D(4, 3, padding="same", dtype=dtype),
            keras.layers.GroupNormalization(2, dtype=dtype),
            keras.layers.Activation("tanh", dtype=dtype),
            keras.layers.MaxPooling2D(dtype=dtype),
        ]

    meeting, head = Meeting(dtype=dtype), keras.layers.Dense(3, dtype=dtype)
    model = keras.Sequential([keras.Input((8, 8, 1)), *block(), meeting, *block(), keras.layers.Flatten(), head])
    return model, meeting


def _images():
    return tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8, 1)), tf.float32)


def _derivatives(model, x):
    """Logits, their gradient and a second derivative, as the attack takes them: traced anew by each call."""

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                logits = Classifier(model, from_logits=True)(x)
                total = tf.reduce_sum(tf.sin(logits))
            gradient = inner.gradient(total, x)
            along = tf.reduce_sum(gradient**2)
        return logits, gradient, *outer.gradient(along, model.trainable_variables)

    return [part.numpy() for part in run(x)]


def _in_threads(*functions):
    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(2 * WAIT) for future in [pool.submit(function) for function in functions]]


def test_two_threads_that_trace_at_once():
    models = [_model("mixed_bfloat16", seed) for seed in (0, 1)]
    x = _images()
    wanted = [_derivatives(model, x) for model, _ in models]

    # Both are inside, then the first to enter is the first to leave, and the second goes on without it.
    first_is_inside, second_is_inside, first_has_left = (threading.Event() for _ in range(3))
    models[0][1].then = lambda: (first_is_inside.set(), second_is_inside.wait(WAIT))
    models[1][1].then = lambda: (second_is_inside.set(), first_has_left.wait(WAIT))

    def first():
        found = _derivatives(models[0][0], x)
        first_has_left.set()
        return found

    def second():
        first_is_inside.wait(WAIT)
        return _derivatives(models[1][0], x)

    got = _in_threads(first, second)
    assert second_is_inside.is_set()
    for of_thread, alone in zip(got, wanted, strict=True):
        for a, b in zip(of_thread, alone, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_two_threads_that_trace_the_same_model():
    model, meeting = _model("mixed_bfloat16")
    x = _images()
    wanted = _derivatives(model, x)
    meeting.then = threading.Barrier(2, timeout=WAIT).wait
    for got in _in_threads(*2 * [lambda: _derivatives(model, x)]):
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_another_thread_uses_the_model_as_it_is():
    model, meeting = _model("mixed_bfloat16")
    x = _images()
    wanted = model(x)
    entered, done = threading.Event(), threading.Event()
    attacker = threading.get_ident()

    def wait_if_attacked():
        if threading.get_ident() == attacker:
            entered.set()
            assert done.wait(WAIT)

    meeting.then = wait_if_attacked

    def plain():
        assert entered.wait(WAIT)
        policies = [(layer.dtype_policy.name, layer.compute_dtype, layer.variable_dtype) for layer in model.layers]
        output = model(x)
        done.set()
        return policies, output

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(plain)
        logits = Classifier(model)(x)
    policies, output = future.result(WAIT)
    assert logits.dtype == tf.float32
    assert set(policies[:4]) == {("mixed_bfloat16", "bfloat16", "float32")}
    assert output.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(output, tf.float32), tf.cast(wanted, tf.float32))


@pytest.mark.parametrize(("owner", "name"), PLACES)
def test_the_innermost_block_counts_and_an_error_ends_it(owner, name):
    def use():
        if owner is keras.Layer:
            return getattr(keras.layers.Dense(1), name)
        if owner is keras.Sequential:
            return getattr(keras.Sequential(), name)
        return getattr(owner, name)()

    with replaced(owner, **{name: lambda *_: "outer"}):
        with replaced(owner, **{name: lambda *_: "inner"}):
            assert use() == "inner"
        with pytest.raises(ZeroDivisionError), replaced(owner, **{name: lambda *_: 1 / 0}):
            use()
        assert use() == "outer"
        with replaced(tf.nn, relu=lambda x: x):
            assert use() == "outer"


def test_what_others_replace_meanwhile_stays_theirs(monkeypatch):
    x = tf.constant([1.0, 3.0])
    with replaced(tf.nn, moments=twice_differentiable_moments):
        within = tf.nn.moments
        monkeypatch.setattr(tf.nn, "moments", lambda *_: "theirs")
    assert tf.nn.moments(x, [0]) == "theirs"
    # A function that was kept from within the block is the original outside of it.
    np.testing.assert_allclose(within(x, [0]), [2.0, 1.0])
    monkeypatch.undo()
    with replaced(tf.nn, moments=lambda *_: "ours"):
        assert tf.nn.moments(x, [0]) == "ours"
    np.testing.assert_allclose(tf.nn.moments(x, [0]), [2.0, 1.0])
    # What they put back passes every call on; for the tests that follow, it goes too.
    tf.nn.moments = within.__wrapped__


def test_a_property_can_still_be_set():
    layer = keras.layers.Dense(1, dtype="mixed_bfloat16")
    with replaced(keras.Layer, **float32_properties):
        assert layer.compute_dtype == "float32"
        layer.dtype_policy = "mixed_float16"
    assert layer.compute_dtype == "float16"
