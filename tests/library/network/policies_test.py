"""Half precision and quantisation: the network that is attacked is the one that `predict` runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.network.classifier import Classifier
from tests.helpers.networks import LOSS

layers = keras.layers
# Of the largest logit, that of half precision.
TOLERANCE = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


def _data(number=32):
    rng = np.random.default_rng(0)
    return rng.random((number, 8, 8, 1), dtype="float32"), np.arange(number) % 3


def _network(policy, *first):
    keras.utils.set_random_seed(0)
    policy = keras.dtype_policies.get(policy)
    spread = {"kernel_initializer": "random_normal", "bias_initializer": "random_normal", "dtype": policy}
    hidden = layers.Dense(16, "relu", **spread)
    stack = [*first, layers.Flatten(dtype=policy), hidden, layers.Dense(3, **spread)]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack])


def _quantized(mode, policy):
    model = _network(policy)
    for layer in model.layers[1:]:
        layer.quantize(mode)
    return model


def _calibrated(mode, policy):
    """As a quantisation with calibration leaves it: weights of a few bits, scales and zero points per group."""
    model = _network(policy)
    rng = np.random.default_rng(1)
    kind = keras.quantizers.GPTQConfig if mode == "gptq" else keras.quantizers.AWQConfig
    for layer in model.layers[1:]:
        layer.quantize(mode, config=kind(dataset=None, tokenizer=None, weight_bits=4, group_size=8))
        layer.quantized_kernel.assign(rng.integers(0, 256, layer.quantized_kernel.shape))
        layer.kernel_scale.assign(rng.uniform(0.01, 0.02, layer.kernel_scale.shape))
        layer.kernel_zero.assign(np.full(layer.kernel_zero.shape, 8))
        layer.g_idx.assign(np.arange(layer.g_idx.shape[0]) // 8)
        if mode == "awq":
            layer.awq_scales.assign(rng.uniform(0.5, 2.0, layer.awq_scales.shape))
        setattr(layer, f"is_{mode}_calibrated", True)
    return model


def _of_a_map(policy):
    return _network(keras.dtype_policies.DTypePolicyMap(default_policy=policy))


HALF = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")
NETWORKS = {
    **{policy: (lambda policy=policy: _network(policy)) for policy in HALF},
    **{
        f"convolution {policy}": (lambda policy=policy: _network(policy, layers.Conv2D(4, 3, dtype=policy)))
        for policy in ("mixed_bfloat16", "float16")
    },
    **{
        f"{mode} {policy}": (lambda mode=mode, policy=policy: _quantized(mode, policy))
        # Keras refuses int8 of float16.
        for mode, policy in (("int8", "float32"), ("int8", "mixed_bfloat16"), ("int4", "float32"), ("int4", "float16"))
    },
    **{
        f"{mode} {policy}": (lambda mode=mode, policy=policy: _calibrated(mode, policy))
        for mode, policy in (("gptq", "mixed_bfloat16"), ("awq", "float16"))
    },
    "map": lambda: _of_a_map("mixed_bfloat16"),
}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_logits_are_those_of_predict(name):
    model, (x, y) = NETWORKS[name](), _data()
    predicted = model.predict(x, verbose=0).astype("float32")
    weights = model.get_weights()
    attacked = np.asarray(Classifier(model)(tf.constant(x)))
    assert attacked.dtype == "float32"
    tolerance = TOLERANCE[model.layers[-1].compute_dtype] * np.abs(predicted).max()
    if name.startswith("int"):
        # Activations are rounded to the nearest of 255 steps, and half precision may take another one.
        tolerance *= 4
    np.testing.assert_allclose(attacked, predicted, rtol=0, atol=tolerance)
    report = keras_amm.evaluate_margins(model, (x, y), keras_amm.DeepFool(3), verbose=0)
    np.testing.assert_array_equal(report.predictions, attacked.argmax(axis=1))
    assert report.success.mean() > 0.7 and (report.norms > 0).any()
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.usefixtures("eagerly")
def test_margins_of_an_int8_network_are_nearly_those_before():
    x, _ = _data(16)
    whole = keras_amm.DeepFool(3).perturb(_network("float32"), x).norm
    for policy in ("float32", "mixed_bfloat16"):
        rounded = keras_amm.DeepFool(3).perturb(_quantized("int8", policy), x).norm
        np.testing.assert_allclose(np.median(rounded), np.median(whole), rtol=0.1)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_margins_of_pure_half_precision_are_those_of_the_same_weights(policy):
    x, y = _data()
    half, whole = (_network(p, layers.Conv2D(4, 3, activation="tanh", dtype=p)) for p in (policy, "float32"))
    whole.set_weights([weight.astype("float32") for weight in half.get_weights()])
    wanted, got = (keras_amm.evaluate_margins(model, (x, y), verbose=0).norms for model in (whole, half))
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("policy", "gradient", "arguments"),
    [
        ("bfloat16", "unrolled", {}),
        ("bfloat16", "boundary", {"jit_compile": True}),
        ("float16", "unrolled", {"run_eagerly": True}),
        ("float16", "masked", {"run_eagerly": True}),
    ],
    ids=str,
)
def test_pure_half_precision_trains(policy, gradient, arguments):
    x, y = _data()
    model = keras_amm.wrap(
        _network(policy, layers.Conv2D(4, 3, activation="tanh", dtype=policy)),
        keras_amm.MarginRegularizer.from_paper("min-exp", gradient=gradient),
        keras_amm.DeepFool(3, num_candidates=3),
    )
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.01), LOSS, **arguments)
    history = model.fit(x, y, batch_size=16, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values()), history
    assert history["margin_penalty"][0] > 0
    assert all(weight.dtype == policy for weight in model.trainable_weights)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_the_penalty_is_differentiated_in_the_dtype_of_the_weights(policy):
    x, y = _data()
    half, whole = (_network(p, layers.Conv2D(4, 3, activation="tanh", dtype=p)) for p in (policy, "float32"))
    whole.set_weights([weight.astype("float32") for weight in half.get_weights()])
    found = []
    for network in (half, whole):
        model = keras_amm.wrap(network)
        with tf.GradientTape() as tape:
            penalty = model.margin_penalty(x, y)
        found.append(tape.gradient(penalty, network.trainable_weights))
    for got, wanted in zip(*found, strict=True):
        assert got.dtype == policy
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(tf.cast(got, "float32"), wanted, rtol=1e-2, atol=1e-2 * scale)


def test_float8_is_refused():
    model, (x, y) = _quantized("float8", "float32"), _data()
    with pytest.raises(ValueError, match=r"float8 round their gradients.*int8 or int4.*'dense"):
        keras_amm.evaluate_margins(model, (x, y), verbose=0)
