"""The best-first search against the one of every sample."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.gradient import penalty, searching
from keras_amm.network.classifier import Classifier
from keras_amm.search import best_first
from keras_amm.search.bounds import Reach
from keras_amm.search.linearisation import clean_pass
from tests.helpers import oracle, zoo
from tests.helpers.penalty_results import EAGER, GRAPH, XLA, assert_same, results

EVERYTHING = Reach(*[float("inf")] * 3, short=0.0, few=0.0)


@pytest.fixture
def _everything(monkeypatch):
    """Bounds that exclude nothing."""
    monkeypatch.setitem(best_first.REACHES, "ranks", EVERYTHING)


def _zoo(name, number=20):
    keras.utils.set_random_seed(3)
    model = zoo.build(name)
    x = zoo.images(number, seed=1)
    y = np.argmax(oracle.logits_of(model)(x), axis=1).astype("int32")
    y[::4] = (y[::4] + 1) % zoo.CLASSES
    return model, x, y


@functools.cache
def _exact(name, **regularizer):
    """What the exact search finds for a network of the zoo."""
    return results(*_zoo(name), search="exact", **regularizer)


@pytest.mark.usefixtures("_everything")
# One network for each way in which images are linearised; `loop_test` has the whole zoo.
@pytest.mark.parametrize("name", ["relu_mlp", "tanh_mlp", "max_pool_cnn", "group_norm_cnn", "softmax_head", "nested"])
def test_without_bounds_it_is_the_exact_search(name):
    got, wanted = results(*_zoo(name), search="ranks"), _exact(name)
    assert wanted["selected"].sum() >= 3
    assert_same(got, wanted)
    np.testing.assert_array_equal(got["success"], wanted["success"])
    assert got["searched"].all()
    for a, b in zip(got["statistics"], wanted["statistics"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.usefixtures("_everything")
@pytest.mark.parametrize(
    ("aggregation", "gradient", "mode"),
    [
        ("nearest", "masked", GRAPH),
        ("avg", "boundary", EAGER),
        ("avg", "unrolled", EAGER),
        ("min", "masked", EAGER),
        ("nearest", "unrolled", EAGER),
    ],
)
def test_without_bounds_all_kinds_of_gradients_and_aggregations(aggregation, gradient, mode):
    arguments = {"aggregation": aggregation, "gradient": gradient}
    got = results(*_zoo("softplus_mlp"), mode=mode, search="ranks", **arguments)
    assert_same(got, _exact("softplus_mlp", **arguments))


@pytest.mark.usefixtures("_everything")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("softplus_mlp", {"aggregation": "avg", "gradient": "masked"}),
        ("max_pool_cnn", {"aggregation": "nearest", "gradient": "boundary"}),
    ],
)
def test_without_bounds_under_xla(name, arguments):
    got = results(*_zoo(name), mode=XLA, search="ranks", **arguments)
    assert_same(got, _exact(name, **arguments), tolerance=1e-3)


@pytest.mark.usefixtures("_everything")
# Those above are of all that are misclassified. Only whether any may be selected makes a difference to the search.
@pytest.mark.parametrize(("aggregation", "misclassified"), [("min", "farthest"), ("min", "none"), ("avg", "none")])
def test_without_bounds_the_misclassified(aggregation, misclassified):
    arguments = {"aggregation": aggregation, "misclassified": misclassified}
    got, wanted = results(*_zoo("relu_mlp"), search="ranks", **arguments), _exact("relu_mlp", **arguments)
    assert_same(got, wanted)
    # Those of which none may be selected are not searched at all.
    np.testing.assert_array_equal(got["searched"], got["correct"] | (misclassified != "none"))


@pytest.mark.usefixtures("_everything")
@pytest.mark.parametrize("normalize", ["input", "median"])
def test_without_bounds_in_other_units(normalize):
    model, x, y = _zoo("relu_mlp")
    x *= np.linspace(0.3, 3.0, len(x), dtype="float32")[:, None, None, None]
    y = np.argmax(oracle.logits_of(model)(x), axis=1).astype("int32")
    got, wanted = (results(model, x, y, search=search, normalize=normalize) for search in ("ranks", "exact"))
    assert_same(got, wanted)


@pytest.mark.usefixtures("_everything")
@pytest.mark.parametrize("attack", [{"max_iterations": 1}, {"num_candidates": 2}, {"overshoot": 0.0}])
def test_other_attacks(attack):
    setting = _zoo("tanh_mlp")
    got, wanted = (
        results(*setting, attack=keras_amm.DeepFool(**attack), search=search, gradient="boundary")
        for search in ("ranks", "exact")
    )
    assert attack != {"max_iterations": 1} or not wanted["success"].all()
    assert_same(got, wanted)
    np.testing.assert_array_equal(got["success"], wanted["success"])


@pytest.mark.parametrize(("mode", "search"), [(GRAPH, "ranks"), (XLA, "rough")])
def test_a_batch_of_unknown_size(mode, search):
    """By the bounds of use, of which XLA computes what is needed in smaller rounds."""
    model, x, y = _zoo("relu_mlp")
    signature = [tf.TensorSpec([None, *zoo.SHAPE]), tf.TensorSpec([None], tf.int32)]
    unknown = results(model, x, y, mode, signature=signature, search=search)
    known = results(model, x, y, mode, search=search)
    assert_same(unknown, known, tolerance=1e-3)


@pytest.mark.parametrize(("mode", "search"), [(EAGER, "ranks"), (EAGER, "cheap"), (XLA, "cheap"), (XLA, "rough")])
def test_a_binary_classifier(mode, search):
    """Two classes and one candidate; linear, so that the first step is the margin and every bound is exact."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    x = keras.ops.convert_to_numpy(keras.random.normal((30, 6), seed=4))
    y = (np.arange(30) % 2).astype("int32")
    wanted = results(model, x, y, search="exact")
    assert_same(results(model, x, y, mode, search=search), wanted, tolerance=1e-3)


@pytest.mark.parametrize("search", ["ranks", "rough"])
def test_float64(search):
    keras.config.set_dtype_policy("float64")
    try:
        model, x, y = _zoo("relu_mlp")
    finally:
        keras.config.set_dtype_policy("float32")
    found = results(model, x.astype("float64"), y, mode=GRAPH, search=search)
    assert found["value"].dtype == found["norm"].dtype == np.float64


@pytest.mark.parametrize(
    ("search", "aggregation", "gradient"),
    [
        ("exact", "min", "unrolled"),
        ("exact", "avg", "boundary"),
        ("ranks", "min", "boundary"),
        ("ranks", "avg", "unrolled"),
        ("cheap", "min", "unrolled"),
        ("cheap", "avg", "boundary"),
        ("rough", "nearest", "boundary"),
    ],
)
def test_samples_without_a_gradient_fail(search, aggregation, gradient):
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((4,)), keras.layers.ReLU(), keras.layers.Dense(3)])
    kernel = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    model.set_weights([kernel, np.array([0.5, 0.25, 0.0], "float32")])
    x = np.abs(np.random.default_rng(1).standard_normal((12, 4))).astype("float32")
    x[:4] *= -1.0  # no gradient
    y = np.argmax(model(x), axis=1).astype("int32")
    y[5] = (y[5] + 1) % 3
    found = results(model, x, y, search=search, aggregation=aggregation, gradient=gradient)
    assert not found["success"][:4].any() and not found["selected"][:4].any()
    assert np.isfinite(found["value"]) and np.isfinite(found["statistics"].sum_of_margins)
    for gradient in found["gradients"]:
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("gradient", ["unrolled", "masked", "boundary"])
def test_an_image_at_a_boundary(gradient):
    """Its two largest logits are equal: its margin is 0, and its gradient that of the distance there."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.set_weights([np.array([[1, -1, 0], [0, 0, 1]], "float32"), np.zeros(3, "float32")])
    x, y = np.array([[0.0, -1.0], [3.0, 0.5], [-2.0, 0.2]], "float32"), np.array([0, 0, 1], "int32")
    wanted = results(model, x, y, search="exact", gradient=gradient)
    assert wanted["selected"][0] and wanted["norm"][0] == 0.0
    for search in ("ranks", "cheap", "rough"):
        assert_same(results(model, x, y, search=search, gradient=gradient), wanted)


@pytest.fixture(scope="module")
def trained():
    """A small network, trained on ten classes that overlap, and its data."""
    keras.utils.set_random_seed(6)
    generator = np.random.default_rng(6)
    y = generator.integers(0, 10, 3000).astype("int32")
    x = (generator.standard_normal((10, 30))[y] + generator.standard_normal((3000, 30))).astype("float32")
    model = keras.Sequential([keras.Input((30,)), *(keras.layers.Dense(u, "relu") for u in (48, 48))])
    model.add(keras.layers.Dense(10))
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=100, epochs=4, verbose=0)
    return model, x, y


def _searches(model, **regularizer):
    """The search and the selection of a batch, as a compiled function."""
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", strength=1.0, shrinkage="lin", c=1.0, d=1.0, **regularizer
    )

    @tf.function(autograph=False)
    def of_batch(x, y):
        classifier = Classifier(model)
        clean = clean_pass(classifier, x)
        path = searching.search(classifier, keras_amm.DeepFool(), regularizer, clean, y)
        now = penalty.strength_in_step(regularizer, clean, y, 0)
        _, _, selected, median = penalty._penalize(classifier, regularizer, path, y, now)
        return selected, path.searched, median

    return of_batch


def test_where_all_samples_count_the_rough_search_leaves_out_the_farthest(trained):
    model, x, _ = trained
    labels = np.argmax(model.predict(x[:100], verbose=0), axis=1).astype("int32")
    rough, exact = (
        results(model, x[:100], labels, GRAPH, search=search, aggregation="avg") for search in ("rough", "exact")
    )
    assert exact["selected"].sum() >= 95 and 70 <= rough["selected"].sum() < 80
    np.testing.assert_array_equal(rough["selected"], rough["searched"])
    assert exact["norm"][~rough["selected"]].min() > np.median(exact["norm"])


def test_an_aggregation_of_ones_own_loses_no_sample_by_the_rough_search(trained):
    model, x, _ = trained
    labels = np.argmax(model.predict(x[:100], verbose=0), axis=1).astype("int32")

    def farthest(norm, labels, correct, success, top_fraction):
        del labels, top_fraction
        norm = tf.where(correct & success, norm, -1.0)
        return norm >= tf.math.top_k(norm, 5).values[-1]

    assert results(model, x[:100], labels, GRAPH, search="rough", aggregation=farthest)["selected"].sum() == 5


def test_the_selection_is_nearly_that_of_the_exact_search_at_a_fraction_of_the_work(trained, monkeypatch):
    model, x, y = trained
    rows = tf.Variable(0)

    def counted(classifier, points, evaluate=best_first.evaluate):
        rows.assign_add(tf.shape(points)[0])
        return evaluate(classifier, points)

    monkeypatch.setattr(best_first, "evaluate", counted)
    for aggregation in ("min", "nearest"):
        exact = _searches(model, aggregation=aggregation)
        batches = [(x[first : first + 100], y[first : first + 100]) for first in range(0, len(x), 100)]
        wanted_of = [exact(*batch) for batch in batches]
        means = []
        for search, at_least in (("ranks", 0.98), ("cheap", 0.9), ("rough", 0.8)):
            fast = _searches(model, aggregation=aggregation, search=search)
            same, work, medians = [], [], []
            for batch, (wanted, _, exact_median) in zip(batches, wanted_of, strict=True):
                rows.assign(0)
                selected, searched, median = fast(*batch)
                work.append(int(rows))
                assert not np.any(selected & ~searched)
                same.append(np.sum(selected & wanted) / np.sum(selected | wanted))
                medians.append(float(median / exact_median))
            assert np.mean(same) >= at_least, (aggregation, search)
            means.append(np.mean(work))
            assert 0.9 < np.mean(medians) < 1.1
        # The exact search begins with a gradient of each of a hundred images towards nine classes.
        assert 450 > means[0] > means[1] > means[2], (aggregation, means)
