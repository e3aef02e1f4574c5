"""What every shrinkage must satisfy: a new entry of the table is tested by its being there."""

import json

import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm import shrinkage

MAX_PENALTY = 50.0
C, D = 2.0, 1.5
# None at all, little, the default, and more than the cap.
STRENGTHS = (0.0, 1e-3, 32.0, 80.0)


@pytest.fixture(params=shrinkage.ENTRIES, ids=lambda entry: entry.identifier)
def entry(request):
    return request.param


def _penalty(entry, norm, correct, strength):
    strength = tf.cast(strength, norm.dtype)
    return entry.penalty_per_sample(norm, correct, strength, c=C, d=D, max_penalty=MAX_PENALTY)


def _with_gradient(entry, norm, correct, strength):
    with tf.GradientTape() as tape:
        tape.watch(norm)
        penalty = _penalty(entry, norm, correct, strength)
    return penalty, tape.gradient(penalty, norm)


def _norms(entry, strength):
    """From 0 on, among them the caps of norm and penalty and their neighbours."""
    caps = [1e-30, 1.0 / D, C, np.log(max(MAX_PENALTY / max(strength, 1e-7), 1.0)) / D]
    if entry.wrong_norm_cap is not None:
        caps.append(float(entry.wrong_norm_cap(tf.constant(strength), D, MAX_PENALTY)))
    caps = np.array([cap for cap in caps if cap >= 0.0], "float32")
    beside = [np.nextafter(caps, np.float32(0.0)), caps, np.nextafter(caps, np.float32("inf"))]
    return np.unique(np.concatenate([np.linspace(0.0, 3.0, 31, dtype="float32"), *beside, [50.0, 1e6]])).astype(
        "float32"
    )


def test_is_public_and_found_by_name_and_function(entry):
    assert entry.identifier in shrinkage.__all__
    assert getattr(shrinkage, entry.identifier) is entry.function
    assert shrinkage.get(entry.identifier) is entry.function
    assert shrinkage.get(entry.function) is entry.function
    assert shrinkage.find_entry(entry.function) is shrinkage.find_entry(entry.identifier) is entry


def test_name_survives_saving(entry):
    for given in (entry.identifier, entry.function):
        regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", shrinkage=given)
        assert regularizer.shrinkage == entry.identifier
        config = json.loads(json.dumps(regularizer.get_config()))
        assert config["shrinkage"] == entry.identifier
        assert keras_amm.MarginRegularizer.from_config(config).get_config() == regularizer.get_config()


def test_is_increasing(entry):
    values = np.asarray(entry.function(np.linspace(-5.0, 5.0, 201, dtype="float32")))
    assert np.all(np.diff(values) >= 0.0)
    assert values[-1] > values[0]


@pytest.mark.parametrize("strength", STRENGTHS)
def test_penalty_falls_with_margins_of_correct_samples_and_grows_with_those_of_wrong_ones(entry, strength):
    norm = tf.constant(_norms(entry, strength))
    right, wrong = (np.asarray(_penalty(entry, norm, tf.fill(norm.shape, side), strength)) for side in (True, False))
    assert np.all(np.diff(right) <= 0.0) and np.all(np.diff(wrong) >= 0.0)
    if strength:
        assert right[0] > right[-1]
        assert (wrong[-1] <= MAX_PENALTY) == entry.is_capped
    else:
        np.testing.assert_array_equal([right, wrong], 0.0)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_gradient_is_finite_and_ends_at_the_caps(entry, strength):
    norm = tf.constant(_norms(entry, strength))
    for side in (True, False):
        penalty, gradient = (
            np.asarray(part) for part in _with_gradient(entry, norm, tf.fill(norm.shape, side), strength)
        )
        assert np.all(np.isfinite(penalty)) and np.all(np.isfinite(gradient))
        if not side and entry.wrong_norm_cap is not None:
            beyond = norm > entry.wrong_norm_cap(tf.constant(strength), D, MAX_PENALTY)
            assert np.any(beyond)
            np.testing.assert_array_equal(gradient[beyond], 0.0)
            assert len(np.unique(penalty[beyond])) == 1


def test_is_the_same_eagerly_in_a_graph_and_under_xla(entry):
    norm = tf.constant(np.repeat(_norms(entry, 32.0), 2))
    correct = tf.constant(np.arange(len(norm)) % 2 == 0)

    def run(norm):
        return _with_gradient(entry, norm, correct, 32.0)

    penalty, gradient = run(norm)
    graph = tf.function(run, jit_compile=False)(norm)
    np.testing.assert_allclose(graph, (penalty, gradient), rtol=1e-5)
    compiled = tf.function(run, jit_compile=True)(norm)
    np.testing.assert_allclose(compiled[0], penalty, rtol=1e-5)
    # Right at a cap, the last bit decides on which side of it a sample is.
    values = np.asarray(norm)
    away = np.array([np.sum(np.abs(values - value) < 1e-5 * max(value, 1.0)) == 2 for value in values])
    assert np.count_nonzero(away) > 30
    assert np.all(np.isfinite(compiled[1]))
    np.testing.assert_allclose(compiled[1][away], gradient[away], rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_keeps_the_dtype(entry, dtype):
    t = tf.constant([-2.0, -0.5, 0.5], dtype)
    assert entry.function(t).dtype == dtype
    penalty, gradient = _with_gradient(entry, tf.constant([0.5, 1.0], dtype), tf.constant([True, False]), 4.0)
    assert penalty.dtype == gradient.dtype == dtype
    exact, _ = _with_gradient(entry, tf.constant([0.5, 1.0], "float64"), tf.constant([True, False]), 4.0)
    np.testing.assert_allclose(tf.cast(penalty, "float64"), exact, rtol=2e-2 if "16" in dtype else 1e-6)


def test_a_callable_is_capped_and_scaled_as_equation_6_says():
    entry = shrinkage.find_entry(lambda t: t)
    assert callable(entry.identifier) and entry.identifier is entry.function
    norm, correct = tf.constant([3.0, 3.0, 1e6]), tf.constant([True, False, False])
    np.testing.assert_allclose(_penalty(entry, norm, correct, 4.0), [-4.0 * C * 3.0, 4.0 * D * 3.0, MAX_PENALTY])


def test_values():
    np.testing.assert_allclose(keras_amm.shrinkage.inv(np.float32(-1.0)), 0.5)
    np.testing.assert_allclose(keras_amm.shrinkage.exp(np.float32(1.0)), np.e, rtol=1e-6)
    np.testing.assert_allclose(keras_amm.shrinkage.hinge(np.float32(-1.0), threshold=1.5), 0.5)
    assert float(keras_amm.shrinkage.lin(np.float32(-1.0))) == -1.0


def test_an_unknown_name_is_answered_with_all_that_are_known():
    names = sorted(entry.identifier for entry in shrinkage.ENTRIES)
    for unknown in ("cube", 3, None, ["exp"], np.ones(2)):
        with pytest.raises(ValueError, match="must be one of") as error:
            shrinkage.get(unknown)
        assert f"`shrinkage` must be one of {names} or a callable" in str(error.value)
        assert str(error.value).endswith(f"Received: shrinkage={unknown!r}.")
