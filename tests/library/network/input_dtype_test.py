"""Models whose `Input` is of integers or half precision: the same margins as with an `Input` of float32."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.cli.pixels import pixels_for
from keras_amm.network.classifier import Classifier
from tests.helpers.networks import LOSS

layers = keras.layers
DTYPES = ("uint8", "int32", "float16", "bfloat16", "float64")
REGULARIZER = {"c": 2 / 255, "d": 1 / 255}


def _data(number=24):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (number, 6, 6, 1)).astype("uint8"), np.arange(number) % 3


def _body(x):
    x = layers.Conv2D(4, 3, activation="tanh")(layers.Rescaling(1 / 255)(x))
    return layers.Dense(3, kernel_initializer="random_normal")(layers.Flatten()(x))


def _functional(dtype):
    x = keras.Input((6, 6, 1), dtype=dtype)
    return keras.Model(x, _body(x))


def _sequential(dtype):
    model = _functional(dtype)
    return keras.Sequential([keras.Input((6, 6, 1), dtype=dtype), *model.layers[1:]])


def _nested(dtype):
    x = keras.Input((6, 6, 1))
    return keras.Model(x, _functional(dtype)(x))


def _model(dtype, build=_functional):
    keras.utils.set_random_seed(3)
    return build(dtype)


@functools.cache
def _float32_norms():
    return keras_amm.evaluate_margins(_model("float32"), _data(), verbose=0).norms


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("dtype", "build"),
    [*((dtype, _functional) for dtype in DTYPES), ("uint8", _sequential), ("float16", _sequential), ("uint8", _nested)],
)
def test_margins_are_those_of_a_float32_input(dtype, build):
    model, (x, y) = _model(dtype, build), _data()
    report = keras_amm.evaluate_margins(model, (x, y), verbose=0)
    assert report.success.all()
    np.testing.assert_allclose(report.norms, _float32_norms(), rtol=1e-4)
    np.testing.assert_allclose(keras_amm.DeepFool().perturb(model, x).norm, _float32_norms(), rtol=1e-4)
    # Nothing of the model has changed: predict still casts.
    if "int" in dtype:
        np.testing.assert_allclose(model(x + 0.25), model(x))


@pytest.mark.parametrize(
    ("dtype", "gradient", "arguments"),
    [
        ("uint8", "unrolled", {}),
        ("float16", "boundary", {"jit_compile": True}),
        ("uint8", "masked", {"run_eagerly": True}),
        ("float16", "unrolled", {"run_eagerly": True}),
    ],
    ids=str,
)
def test_training_is_that_with_a_float32_input(dtype, gradient, arguments):
    x, y = _data()
    logs = []
    for given, images in (("float32", x.astype("float32")), (dtype, x if dtype == "uint8" else x.astype("float32"))):
        network = _model(given)
        regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", gradient=gradient, **REGULARIZER)
        model = keras_amm.wrap(network, regularizer, keras_amm.DeepFool(3, num_candidates=3))
        # The one to compare with is the same in every mode.
        model.compile(keras.optimizers.SGD(0.1), LOSS, **({"run_eagerly": True} if given == "float32" else arguments))
        history = model.fit(images, y, batch_size=24, verbose=0, shuffle=False).history
        logs.append({name: values[0] for name, values in history.items()} | {"kernel": network.get_weights()[0]})
    wanted, got = logs
    assert wanted["margin_penalty"] > 0
    for name, values in wanted.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_penalty_is_that_of_a_float32_input(dtype):
    x, y = _data()
    wanted, got = (
        float(
            keras_amm.wrap(_model(d), keras_amm.MarginRegularizer.from_paper("min-exp", **REGULARIZER)).margin_penalty(
                x, y
            )
        )
        for d in ("float32", dtype)
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_a_coarse_input_is_not_shared_with_the_loss():
    assert Classifier(_model("float32")).is_deterministic
    for dtype in DTYPES:
        assert not Classifier(_model(dtype)).is_deterministic
        assert not Classifier(_model(dtype, _sequential)).is_deterministic


def test_images_start_as_predict_sees_them():
    """An `Input` of integers cuts what comes after the point."""
    x = _data()[0]
    np.testing.assert_array_equal(Classifier(_model("uint8")).inputs(x + 0.75), x)
    np.testing.assert_array_equal(Classifier(_model("float32")).inputs(x + 0.75), x + 0.75)


def test_the_command_line_does_not_scale_pixels_to_integers_of_0():
    x = keras.Input((6, 6, 1), dtype="uint8")
    without = keras.Model(x, layers.Dense(3)(layers.Flatten()(x)))
    for model in (without, _model("uint8"), keras_amm.wrap(without)):
        assert pixels_for(model, True, None, (0.0,)).scale == 1.0
        assert pixels_for(model, True, 0.5, (0.0,)).scale == 0.5


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "cast",
    [
        lambda: layers.Lambda(lambda x: tf.cast(tf.cast(x, "uint8"), "float32")),
        lambda: layers.Lambda(tf.round),
        lambda: layers.Embedding(256, 2),
        lambda: layers.Discretization([50, 100]),
    ],
)
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_models_that_round_within_are_told(cast, dtype):
    images, labels = _data(12)
    x = keras.Input((6, 6, 1), dtype=dtype)
    between = layers.Flatten()(layers.Activation("linear", dtype="float32")(cast()(x)))
    model = keras.Model(x, layers.Dense(3)(between))
    with pytest.warns(UserWarning, match=r"The gradient of the logits .* is zero at 12 of the 12 images.*Embedding"):
        report = keras_amm.evaluate_margins(model, (images, labels), verbose=0)
    assert not report.success.any() and not report.norms.any()
