"""The penalty of given norms, against Equation 6 written out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_amm


@keras.saving.register_keras_serializable(package="keras_amm_tests")
def squared_plus(t):
    return keras.ops.square(keras.ops.relu(t + 3.0))


@keras.saving.register_keras_serializable(package="keras_amm_tests")
def farthest(norm, labels, correct, success, *, top_fraction):
    return keras.ops.logical_and(success, norm >= keras.ops.max(norm))


BATCH = {
    "norm": np.array([0.5, 0.2, 1.0, 0.3, 2.0, 0.1], "float32"),
    "labels": np.array([0, 0, 1, 1, 2, 2]),
    "correct": np.array([True, True, True, False, False, True]),
    "success": np.array([True, True, True, True, True, False]),
}


def _penalty(**arguments):
    return float(keras_amm.MarginRegularizer(**arguments)(**BATCH))


def test_average_exponential():
    right = np.exp(-2.0 * np.array([0.5, 0.2, 1.0]))
    wrong = np.minimum(np.exp(1.0 * np.array([0.3, 2.0])) * 4.0, 50.0)
    wanted = (4.0 * right.sum() + wrong.sum()) / 6
    assert _penalty(strength=4.0, aggregation="avg", c=2.0, d=1.0) == pytest.approx(wanted, rel=1e-6)


def test_average_linear_is_not_capped():
    wanted = (-4.0 * 1.7 + 400.0 * 2.3) / 6
    assert _penalty(strength=1.0, aggregation="avg", shrinkage="lin", c=4.0, d=400.0) == pytest.approx(wanted, rel=1e-6)


def test_hinge():
    wanted = (np.maximum(0, 0.6 - np.array([0.5, 0.2, 1.0])).sum() + (0.6 + np.array([0.3, 2.0])).sum()) / 6
    assert _penalty(strength=1.0, aggregation="avg", shrinkage="hinge", c=0.6, d=9.0) == pytest.approx(wanted, rel=1e-6)


def test_wrong_norms_are_capped_as_the_authors_cap_them():
    one = {"labels": np.array([0]), "correct": np.array([False]), "success": np.array([True])}
    huge = np.array([1e4], "float32")
    assert float(keras_amm.MarginRegularizer(32.0, "avg", "exp", 2.0, 1.0)(huge, **one)) == 50.0
    assert float(keras_amm.MarginRegularizer(32.0, "avg", "inv", 1.0, 0.5)(huge, **one)) == pytest.approx(
        50.0, rel=1e-5
    )
    near = np.array([0.2], "float32")
    assert float(keras_amm.MarginRegularizer(32.0, "avg", "exp", 2.0, 1.0)(near, **one)) == pytest.approx(
        32.0 * np.exp(0.2), rel=1e-5
    )


def test_minimum_selects_the_nearest_of_each_class():
    mask = keras_amm.aggregation.min(**BATCH, top_fraction=0.4)
    # two correct ones may count: 0.2 (label 0) and 0.5, which is not its label's nearest;
    # of the wrong ones the largest of each label, both among the two largest
    np.testing.assert_array_equal(mask, [False, True, False, True, True, False])


def _reference_min(norm, labels, correct, success, top_fraction):
    """Section 3.3.1 in words."""
    chosen = np.zeros(len(norm), bool)
    top = max(1, int(len(norm) * top_fraction))
    for side, sign in ((correct, 1.0), (~correct, -1.0)):
        index = np.flatnonzero(side & success)
        ranked = index[np.argsort(sign * norm[index], kind="stable")]
        seen = set()
        for place, i in enumerate(ranked):
            if labels[i] not in seen and place < top:
                chosen[i] = True
            seen.add(labels[i])
    return chosen


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_minimum_equals_its_description(data):
    number = data.draw(st.integers(1, 40))
    norm = np.array(data.draw(st.lists(st.integers(0, 12), min_size=number, max_size=number)), "float32")
    labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=number, max_size=number)))
    correct = np.array(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)))
    success = np.array(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)))
    fraction = data.draw(st.sampled_from([0.05, 0.2, 0.3, 0.7, 1.0]))
    got = keras_amm.aggregation.min(norm, labels, correct, success, top_fraction=fraction)
    np.testing.assert_array_equal(got, _reference_min(norm, labels, correct, success, fraction))
    bound = keras_amm.MarginRegularizer(top_fraction=fraction).max_selected(number, num_classes=5)
    assert np.sum(got) <= bound
    if np.any(correct & success):
        assert np.any(np.asarray(got) & correct)


@pytest.mark.parametrize("size", [1, 5, 10, 15, 100, 1000])
@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.3, 0.7, 1.0])
def test_the_number_selected_is_the_same_for_a_static_and_a_dynamic_batch(size, fraction):
    static = keras_amm.aggregation.num_selected_per_side(size, fraction)
    assert static == int(keras_amm.aggregation.num_selected_per_side(tf.constant(size), fraction))
    assert static == max(1, int(size * fraction))


@pytest.mark.parametrize("name", ["lin", "exp", "inv", "hinge"])
def test_shrinkages(name):
    """One test for all: increasing, finite gradient at 0 and at the caps, the same in every mode and dtype."""
    function = keras_amm.shrinkage.get(name)
    assert keras_amm.shrinkage.get(function) is function
    t = np.linspace(-5.0, 0.99, 50).astype("float32")
    values = np.asarray(function(t))
    assert np.all(np.diff(values) >= 0)
    for mode in (None, False, True):
        run = function if mode is None else tf.function(function, jit_compile=mode)
        np.testing.assert_allclose(run(tf.constant(t)), values, rtol=1e-5)
    assert function(tf.constant(t, tf.float64)).dtype == tf.float64
    regularizer = keras_amm.MarginRegularizer(32.0, "avg", name)
    for norm in (0.0, 0.447, 0.94, 50.0, 1e6):
        x = tf.constant([norm, norm])
        with tf.GradientTape() as tape:
            tape.watch(x)
            penalty = regularizer(x, np.array([0, 1]), np.array([True, False]), np.array([True, True]))
        assert np.isfinite(penalty)
        assert np.all(np.isfinite(tape.gradient(penalty, x)))


def test_shrinkage_values():
    np.testing.assert_allclose(keras_amm.shrinkage.inv(np.float32(-1.0)), 0.5)
    np.testing.assert_allclose(keras_amm.shrinkage.exp(np.float32(1.0)), np.e, rtol=1e-6)
    np.testing.assert_allclose(keras_amm.shrinkage.hinge(np.float32(-1.0), threshold=1.5), 0.5)
    assert float(keras_amm.shrinkage.lin(np.float32(-1.0))) == -1.0


def test_callables():
    got = _penalty(strength=1.0, aggregation=farthest, shrinkage=squared_plus, d=1.0)
    assert got == pytest.approx(25.0 / 6)


def test_a_callable_never_selects_failures():
    everything = keras_amm.MarginRegularizer(1.0, lambda norm, *_, top_fraction: norm > -1, "lin", c=1.0, d=1.0)
    assert float(everything(**BATCH)) == pytest.approx((-1.7 + 2.3) / 6)


def test_scheduled_strength():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([10], [0.0, 3.0])
    regularizer = keras_amm.MarginRegularizer(schedule, "avg", "lin", c=1.0, d=1.0)
    assert float(regularizer(**BATCH, step=5)) == 0.0
    assert float(regularizer(**BATCH, step=11)) == pytest.approx(3.0 * 0.6 / 6)
    assert not regularizer.is_off
    assert keras_amm.MarginRegularizer(0.0).is_off


def test_an_interval_keeps_the_mean_penalty():
    every, third = (keras_amm.MarginRegularizer(3.0, "avg", interval=interval) for interval in (1, 3))
    penalties = [float(third(**BATCH, step=step)) for step in range(6)]
    assert [penalty > 0 for penalty in penalties] == [True, False, False] * 2
    assert np.mean(penalties) == pytest.approx(float(every(**BATCH)))
    assert not third.is_off and keras_amm.MarginRegularizer(0.0, interval=3).is_off


@pytest.mark.parametrize(
    "arguments",
    [
        {"strength": -1.0},
        {"strength": float("nan")},
        {"c": 0.0},
        {"d": -2.0},
        {"top_fraction": 0.0},
        {"top_fraction": 1.5},
        {"max_penalty": 0.0},
        {"gradient": "exact"},
        {"aggregation": "median"},
        {"shrinkage": "cube"},
        {"screening": 0.0},
        {"screening": 2.0},
        {"screening": 0.5, "aggregation": "avg"},
        {"gradient": "boundary", "only_successful": False},
        {"interval": 0},
        {"interval": 1.5},
    ],
)
def test_bad_arguments(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"Received: {name}={value!r}".replace(".", r"\.")):
        keras_amm.MarginRegularizer(**arguments)


def test_config_round_trip():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 100, 32.0)
    for regularizer in (
        keras_amm.MarginRegularizer(3.0, "avg", "inv", 1.5, 0.5, 0.4, 30.0, "masked"),
        keras_amm.MarginRegularizer(schedule, farthest, squared_plus, screening=None, name="mine"),
        keras_amm.MarginRegularizer(screening=0.3, gradient="boundary"),
        keras_amm.MarginRegularizer(aggregation="avg", only_successful=False),
        keras_amm.MarginRegularizer(schedule, interval=25),
    ):
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(regularizer))
        assert copy.get_config() == regularizer.get_config()
        assert float(copy(**BATCH, step=50)) == float(regularizer(**BATCH, step=50))


def test_unregistered_callables_are_refused():
    with pytest.raises(ValueError, match="register_keras_serializable"):
        keras_amm.MarginRegularizer(shrinkage=lambda t: t).get_config()
    with pytest.raises(ValueError, match="register_keras_serializable"):
        keras_amm.MarginRegularizer(aggregation=lambda *a, **k: a[0]).get_config()
