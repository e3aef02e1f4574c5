"""How walks of the best-first search end, and what they leave behind."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_amm
from keras_amm.network.classifier import Classifier
from keras_amm.search import best_first, gradient_norms
from keras_amm.search.bounds import Reach
from keras_amm.search.linearisation import clean_pass
from keras_amm.search.walks import Progress
from keras_amm.search.work_list import Wanted
from tests.helpers import oracle, zoo
from tests.helpers.penalty_results import EAGER, GRAPH, XLA, assert_same, results

ALL = Wanted(top=None, one_per_label=False, wrong=True, unit=None)
EVERYTHING = Reach(*[float("inf")] * 3, short=0.0, few=0.0)


def _zoo(name):
    keras.utils.set_random_seed(3)
    model, x = zoo.build(name), zoo.images(20, seed=1)
    return model, x, np.argmax(oracle.logits_of(model)(x), axis=1).astype("int32")


def _paths(model, x, y, reach, attack=None, wanted=ALL, table=None):
    attack = attack or keras_amm.DeepFool()
    classifier = Classifier(model)
    return best_first.search(
        classifier,
        clean_pass(classifier, tf.constant(x)),
        tf.constant(y),
        wanted,
        reach,
        max_iterations=attack.max_iterations,
        num_candidates=attack.num_candidates,
        overshoot=attack.overshoot,
        table=table,
    )


# Under XLA a round takes only a part of the items, so that some walks are further by then.
@pytest.mark.parametrize("mode", [EAGER, GRAPH])
def test_a_few_walks_end_with_their_next_step(monkeypatch, mode):
    """If as many as there are samples are few, and each has one boundary, all take DeepFool's first step."""
    monkeypatch.setitem(best_first.REACHES, "ranks", EVERYTHING._replace(few=1.0))
    arguments = {"aggregation": "avg", "misclassified": "none"}
    model, x, y = _zoo("tanh_mlp")
    attacks = (keras_amm.DeepFool(steps, num_candidates=2) for steps in (6, 1))
    got, wanted = (
        results(model, x, y, mode=mode, attack=attack, search=search, **arguments)
        for attack, search in zip(attacks, ("ranks", "exact"), strict=True)
    )
    counts = got["correct"]
    assert counts.sum() > 10
    np.testing.assert_array_equal(got["selected"], counts)
    np.testing.assert_allclose(got["norm"][counts], wanted["norm"][counts], rtol=1e-4)


@pytest.mark.parametrize("search", ["ranks", "cheap"])
@pytest.mark.parametrize("gradient", ["unrolled", "boundary"])
def test_a_gradient_that_is_nan_where_a_walk_ends_is_not_needed(search, gradient):
    """The square root has no gradient at 0, where some of these walks arrive."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((6,)), layers.Lambda(lambda x: ops.sqrt(ops.relu(x))), layers.Dense(3)])
    x = np.random.default_rng(0).uniform(0.2, 1.0, (16, 6)).astype("float32")
    y = np.argmax(model(x), axis=1).astype("int32")
    wanted = results(model, x, y, search="exact", gradient=gradient, top_fraction=1.0)
    ends = _paths(model, x, y, best_first.REACHES["ranks"])
    assert wanted["success"].all() and not np.isfinite(ends.normal).all()
    assert_same(results(model, x, y, search=search, gradient=gradient, top_fraction=1.0), wanted, tolerance=1e-3)


def test_a_walk_is_close_if_its_steps_have_halved_the_distance_on_average():
    """From a first distance of 8: before any step, after two good and two short ones, at no boundary, not begun."""
    infinity = float("inf")
    first, distance = tf.constant([8.0, 8.0, 8.0, 8.0, infinity]), tf.constant([8.0, 1.5, 4.0, infinity, infinity])
    steps, rest = tf.constant([0.0, 2.0, 2.0, 1.0, 0.0]), tf.zeros(5)
    distance = tf.minimum(distance, distance.dtype.max)
    progress = Progress(norm=first, first=first, distance=distance, squared=rest, steps=steps, outcome=rest)
    np.testing.assert_array_equal(progress.is_close, [True, True, False, False, False])


@pytest.mark.parametrize("reach", best_first.REACHES.values(), ids=best_first.REACHES)
def test_a_walk_that_creeps_on_is_near_nothing(reach):
    """Newton's steps towards the root that exp(-x) does not have are all equal, so each is shorter beside the walk."""
    inputs = keras.Input((1,))
    outputs = layers.Lambda(lambda x: ops.concatenate([ops.zeros_like(x), -ops.exp(-x)], axis=1))(inputs)
    path = _paths(
        keras.Model(inputs, outputs), np.zeros((3, 1), "float32"), np.zeros(3, "int32"), reach, keras_amm.DeepFool(40)
    )
    assert not path.success.numpy().any()


@pytest.mark.parametrize("name", ["softplus_mlp", "max_pool_cnn"])
def test_the_cheap_search_follows_misclassified_samples_to_their_end(name):
    model, x, y = _zoo(name)
    cheap, exact = (
        results(model, x, (y + 1) % zoo.CLASSES, search=search, aggregation="avg", misclassified="all")
        for search in ("cheap", "exact")
    )
    assert not exact["correct"].any() and exact["success"].mean() > 0.5
    both = cheap["success"] & exact["success"]
    np.testing.assert_array_equal(cheap["success"], exact["success"])
    np.testing.assert_allclose(cheap["norm"][both], exact["norm"][both], rtol=1e-4)


@pytest.mark.parametrize("name", ["tanh_mlp", "max_pool_cnn", "residual"])
def test_where_all_samples_count_the_cheap_search_hardly_changes_their_margins(name):
    """It leaves out boundaries that are hardly the nearest, and does not look where short last steps lead."""
    model, x, y = _zoo(name)
    cheap, exact = (
        results(model, x, y, search=search, aggregation="avg", misclassified="none") for search in ("cheap", "exact")
    )
    assert cheap["success"].all() and cheap["selected"].all()
    np.testing.assert_allclose(cheap["norm"].mean(), exact["norm"].mean(), rtol=2e-3)
    np.testing.assert_allclose(cheap["norm"], exact["norm"], rtol=0.05)


@pytest.mark.parametrize(
    ("name", "gradient", "mode"),
    [("softplus_mlp", "unrolled", EAGER), ("max_pool_cnn", "boundary", GRAPH), ("max_pool_cnn", "boundary", XLA)],
)
def test_short_last_steps_are_taken_without_another_look(monkeypatch, name, gradient, mode):
    """They end nearly where DeepFool does, for they start near their boundaries."""
    monkeypatch.setitem(best_first.REACHES, "ranks", EVERYTHING._replace(short=0.2))
    arguments = {"aggregation": "avg", "gradient": gradient, "misclassified": "none"}
    got, wanted = (
        results(*_zoo(name), mode=mode, search="ranks", **arguments),
        results(*_zoo(name), search="exact", **arguments),
    )
    counts = wanted["selected"]
    np.testing.assert_array_equal(got["selected"], counts)
    assert got["success"][counts].all() and got["searched"][counts].all()
    changed = np.abs(got["norm"] / wanted["norm"] - 1.0)[counts] > 1e-4
    assert changed.any()
    np.testing.assert_allclose(got["norm"][counts], wanted["norm"][counts], rtol=0.03)
    a, b = (np.concatenate([np.ravel(part) for part in found["gradients"]]) for found in (got, wanted))
    assert a @ b >= 0.99 * np.linalg.norm(a) * np.linalg.norm(b)


@pytest.mark.parametrize("search", ["ranks", "cheap"])
def test_a_class_that_is_nearer_only_after_the_first_step(search):
    """The first step is towards a class whose logit stops growing, so that another one is the nearest."""
    inputs = keras.Input((2,))

    def logits(x):
        u, v = x[:, :1], x[:, 1:]
        return ops.concatenate([0.0 * u, ops.relu(u + 1.0) - ops.relu(u - 0.5) - 2.0, v - 1.2], axis=1)

    model = keras.Model(inputs, layers.Lambda(logits)(inputs))
    x = np.array([[0.0, 0.01], [-0.9, -0.6], *[[-0.9, -2.0]] * 4], "float32")
    y = np.zeros(6, "int32")
    arguments = {"aggregation": "nearest", "top_fraction": 0.2, "gradient": "boundary"}
    wanted = results(model, x, y, search="exact", **arguments)
    assert wanted["selected"].any()
    got = results(model, x, y, search=search, **arguments)
    np.testing.assert_array_equal(got["selected"], wanted["selected"])


def test_what_is_remembered_of_gradients_changes_no_norm_that_is_searched_in_full():
    model, x, y = _zoo("tanh_mlp")
    table = tf.constant(np.random.default_rng(0).normal(0.0, 0.5, gradient_norms.SIZE).astype("float32"))
    first, other = (_paths(model, x, y, EVERYTHING, table=t) for t in (None, table))
    np.testing.assert_allclose(first.norm, other.norm, rtol=0.02)
    np.testing.assert_array_equal(first.success, other.success)


def test_misclassified_samples_are_not_remembered():
    """Their walks may have been in other classes since."""
    model, x, y = _zoo("relu_mlp")
    path = _paths(model, x, (y + 1) % zoo.CLASSES, best_first.REACHES["ranks"])
    assert path.success.numpy().any() and not np.any(path.gradient_norms)
