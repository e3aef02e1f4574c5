"""The penalty of given norms, against Equation 6 written out."""

import keras
import numpy as np
import pytest

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
    return float(keras_amm.MarginRegularizer.from_paper("min-exp", **arguments)(**BATCH))


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
    assert (
        float(
            keras_amm.MarginRegularizer.from_paper(
                "min-exp", strength=32.0, aggregation="avg", shrinkage="exp", c=2.0, d=1.0
            )(huge, **one)
        )
        == 50.0
    )
    assert float(
        keras_amm.MarginRegularizer.from_paper(
            "min-exp", strength=32.0, aggregation="avg", shrinkage="inv", c=1.0, d=0.5
        )(huge, **one)
    ) == pytest.approx(50.0, rel=1e-5)
    near = np.array([0.2], "float32")
    assert float(
        keras_amm.MarginRegularizer.from_paper(
            "min-exp", strength=32.0, aggregation="avg", shrinkage="exp", c=2.0, d=1.0
        )(near, **one)
    ) == pytest.approx(32.0 * np.exp(0.2), rel=1e-5)


def test_callables():
    got = _penalty(strength=1.0, aggregation=farthest, shrinkage=squared_plus, d=1.0)
    assert got == pytest.approx(25.0 / 6)


def test_a_callable_never_selects_failures():
    everything = keras_amm.MarginRegularizer.from_paper(
        "min-exp", strength=1.0, aggregation=lambda norm, *_, top_fraction: norm > -1, shrinkage="lin", c=1.0, d=1.0
    )
    assert float(everything(**BATCH)) == pytest.approx((-1.7 + 2.3) / 6)


def test_scheduled_strength():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([10], [0.0, 3.0])
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", strength=schedule, aggregation="avg", shrinkage="lin", c=1.0, d=1.0
    )
    assert float(regularizer(**BATCH, step=5)) == 0.0
    assert float(regularizer(**BATCH, step=11)) == pytest.approx(3.0 * 0.6 / 6)
    assert not regularizer.is_off
    assert keras_amm.MarginRegularizer.from_paper("min-exp", strength=0.0).is_off


def test_an_interval_keeps_the_mean_penalty():
    every, third = (
        keras_amm.MarginRegularizer.from_paper("min-exp", strength=3.0, aggregation="avg", interval=interval)
        for interval in (1, 3)
    )
    penalties = [float(third(**BATCH, step=step)) for step in range(6)]
    assert [penalty > 0 for penalty in penalties] == [True, False, False] * 2
    assert np.mean(penalties) == pytest.approx(float(every(**BATCH)))
    assert not third.is_off and keras_amm.MarginRegularizer.from_paper("min-exp", strength=0.0, interval=3).is_off


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
        {"search": "fast"},
        {"screening": 0.5, "search": "ranks"},
        {"gradient": "unrolled", "search": "cheap", "only_successful": False},
        {"interval": 0},
        {"interval": 1.5},
    ],
)
def test_bad_arguments(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"Received: {name}={value!r}".replace(".", r"\.")):
        keras_amm.MarginRegularizer.from_paper("min-exp", **arguments)


def test_config_round_trip():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 100, 32.0)
    for regularizer in (
        keras_amm.MarginRegularizer.from_paper(
            "min-exp",
            strength=3.0,
            aggregation="avg",
            shrinkage="inv",
            c=1.5,
            d=0.5,
            top_fraction=0.4,
            max_penalty=30.0,
            gradient="masked",
        ),
        keras_amm.MarginRegularizer.from_paper(
            "min-exp", strength=schedule, aggregation=farthest, shrinkage=squared_plus, screening=None, name="mine"
        ),
        keras_amm.MarginRegularizer.from_paper("min-exp", screening=0.3, gradient="boundary"),
        keras_amm.MarginRegularizer.from_paper("min-exp", aggregation="avg", only_successful=False),
        keras_amm.MarginRegularizer.from_paper("min-exp", strength=schedule, interval=25),
        keras_amm.MarginRegularizer.from_paper("min-exp", search="ranks"),
    ):
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(regularizer))
        assert copy.get_config() == regularizer.get_config()
        assert float(copy(**BATCH, step=50)) == float(regularizer(**BATCH, step=50))


def test_unregistered_callables_are_refused():
    with pytest.raises(ValueError, match="register_keras_serializable"):
        keras_amm.MarginRegularizer.from_paper("min-exp", shrinkage=lambda t: t).get_config()
    with pytest.raises(ValueError, match="register_keras_serializable"):
        keras_amm.MarginRegularizer.from_paper("min-exp", aggregation=lambda *a, **k: a[0]).get_config()


def test_a_configuration_that_was_saved_before_an_argument_existed_keeps_its_meaning():
    config = keras_amm.MarginRegularizer.from_paper("min-exp", c=3.0).get_config()
    later = {"misclassified", "normalize", "max_influence", "warmup_steps", "above_chance", "search"}
    old = {name: value for name, value in config.items() if name not in later}
    assert later < config.keys() and keras_amm.MarginRegularizer.from_config(old).get_config() == config


def test_the_papers_penalty_depends_on_no_default():
    of_paper = keras_amm.MarginRegularizer.from_paper("avg-inv").get_config()
    assert of_paper["normalize"] is of_paper["max_influence"] is None and of_paper["misclassified"] is None
    assert (of_paper["top_fraction"], of_paper["gradient"], of_paper["search"]) == (0.2, "unrolled", "exact")
    default = keras_amm.MarginRegularizer().get_config()
    assert default["strength"] == "auto" and default["normalize"] == "median" and default["max_influence"] > 0
