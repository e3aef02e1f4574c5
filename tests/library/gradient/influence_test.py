"""The penalty without units: bounds on the pull, automatic strength, normalisation, and what is remembered."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.gradient import influence
from keras_amm.gradient.current_strength import pull_of_cross_entropy
from keras_amm.gradient.penalty import find_penalty
from keras_amm.network.classifier import Classifier
from keras_amm.network.labels import label_smoothing_of
from keras_amm.search.linearisation import clean_pass
from tests.helpers.networks import LOSS, assert_same_weights, small_data, small_network

KERNEL = np.array([[1.0, -1.0], [0.5, 0.0], [0.0, 2.0]], "float32")
BIAS = np.array([0.3, -0.2], "float32")
X = np.array([[1.0, 2.0, -1.0], [0.4, -1.0, 0.6], [2.0, 1.0, 0.3]], "float32")


def linear(scale=1.0):
    """Of three classes, for two have a rule of their own; the third is far from all inputs."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    kernel, bias = np.pad(KERNEL, ((0, 0), (0, 1))), np.append(BIAS, -100.0)
    model.set_weights([scale * kernel, scale * bias])
    return model


def linear_of_two_classes(scale=1.0):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.set_weights([scale * KERNEL, scale * BIAS])
    return model


def gradient_of(model, x, y, *, accuracy=None, **arguments):
    """The penalty and its gradient in kernel and bias, where the training's accuracy was this so far."""
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", **{"aggregation": "avg", **arguments})
    wrapped = keras_amm.wrap(model, regularizer=regularizer, attack=keras_amm.DeepFool(2, overshoot=1e-4))
    # Without a bound nothing is remembered, and no accuracy matters.
    if accuracy is not None and wrapped.regularizer.running is not None:
        wrapped.regularizer.running.accuracy.assign(accuracy)
        wrapped.regularizer.running.seen.assign(1.0)
    with tf.GradientTape() as tape:
        penalty = wrapped.margin_penalty(x, y)
    return float(penalty), [g.numpy() for g in tape.gradient(penalty, model.trainable_variables)]


def pulls(model, x, y, **arguments):
    """The pull on each sample's difference of the two logits, in units of 1/B: one sample at a time, from the bias."""
    found = []
    for i in range(len(x)):
        _, (_, bias) = gradient_of(model, x[i : i + 1], y[i : i + 1], **arguments)
        found.append(bias[0])
    return np.array(found)


@pytest.mark.parametrize("gradient", ["boundary", "masked", "unrolled"])
def test_the_bound_clips_the_pull(gradient):
    """Equation 6 pulls with `lambda c exp(-c N) / ||w||`, for a linear classifier in closed form."""
    model, w = linear(0.01), 0.01 * (KERNEL[:, 0] - KERNEL[:, 1])
    g = X @ w + 0.01 * 0.5
    y = (g < 0).astype("int32")
    norms = np.abs(g) / np.linalg.norm(w)
    free = 3.0 * 2.0 * np.exp(-2.0 * norms) / np.linalg.norm(w)
    limit = float(np.sort(free)[1])
    # For one sample, the cross-entropy's largest pull is 1.
    for bound in (None, limit):
        wanted = -np.sign(g) * np.minimum(free, bound or np.inf)
        got = pulls(model, X, y, strength=3.0, c=2.0, gradient=gradient, max_influence=bound)
        np.testing.assert_allclose(got, wanted, rtol=2e-3)


@pytest.mark.parametrize("gradient", ["boundary", "unrolled"])
def test_the_shares_at_the_cap_and_at_the_bound(gradient):
    """One of four is wrong, and so far that it is at the cap; of the others the nearer two are pulled by the bound."""
    w = KERNEL[:, 0] - KERNEL[:, 1]
    along = w / np.linalg.norm(w)
    signed = np.array([0.2, 0.4, 1.2, 1.5])
    x = (np.outer(signed, along) - 0.5 * along / np.linalg.norm(w)).astype("float32")
    free = 32.0 * 2.0 * np.exp(-2.0 * signed[:3]) / np.linalg.norm(w)
    assert 32.0 * np.exp(1.5) > 50.0
    settings = {"aggregation": "avg", "c": 2.0, "gradient": gradient}
    model = keras_amm.wrap(
        linear(), keras_amm.MarginRegularizer.from_paper("min-exp", max_influence=free[1:].mean(), **settings)
    )
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    # Else a bound would follow the training error.
    model.regularizer.running.accuracy.assign(1.0)
    model.regularizer.running.seen.assign(1.0)
    logs = model.train_on_batch(x, np.array([0, 0, 0, 1]), return_dict=True)
    assert (logs["at_cap"], logs["at_bound"]) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({}, set()),
        ({"strength": 1.0}, {"at_cap", "at_bound"}),
        ({"strength": 1.0, "max_influence": None}, {"at_cap"}),
        ({"strength": 1.0, "shrinkage": "lin"}, {"at_bound"}),
    ],
)
def test_where_the_shares_are_shown(arguments, shown):
    names = [metric.name for metric in keras_amm.wrap(linear(), **arguments).metrics]
    assert shown == {"at_cap", "at_bound"} & set(names)


def test_a_regularizer_that_is_changed_later_can_train():
    """`fit` goes on to show the metrics of the first one."""
    x, y = small_data()
    model = keras_amm.wrap(small_network())
    model.regularizer.strength = 1.0
    model.compile(keras.optimizers.SGD(0.01), LOSS)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert "at_cap" not in logs and logs["margin_penalty"] > 0.0


@pytest.mark.parametrize(
    ("gradient", "shrinkage", "steepness"),
    [
        ("boundary", "exp", lambda t: np.exp(t)),
        ("masked", "exp", lambda t: np.exp(t)),
        ("unrolled", "inv", lambda t: 1 / (1 - t) ** 2),
    ],
)
def test_an_automatic_strength_pulls_without_units(gradient, shrinkage, steepness):
    """A correct sample is pulled by `max_influence * R'(-c N)`, whatever the scale of the logits below large ones."""
    for scale in (1.0, 1e-3):
        w = scale * (KERNEL[:, 0] - KERNEL[:, 1])
        g = X @ w + scale * 0.5
        norms = np.abs(g) / np.linalg.norm(w)
        wanted = -np.sign(g) * 0.3 * steepness(-1.5 * norms)
        got = pulls(
            linear(scale), X, (g < 0).astype("int32"), strength="auto", max_influence=0.3, c=1.5,
            shrinkage=shrinkage, gradient=gradient,
        )  # fmt: skip
        np.testing.assert_allclose(got, wanted, rtol=2e-3)


@pytest.mark.parametrize("gradient", ["boundary", "masked", "unrolled"])
def test_an_automatic_strength_fades_where_logits_are_large(gradient):
    """By the square of the limit over the logits, so that these do not grow without end."""
    y = (X @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5 < 0).astype("int32")
    # The median of the differences of the logits, and of a linear network how they change over the median margin.
    median = np.median(np.abs(X @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5))
    settings = {"strength": "auto", "max_influence": 0.3, "c": 1.0, "normalize": "median", "gradient": gradient}

    def bias_gradient(scale):
        return gradient_of(linear(scale), X, y, **settings)[1][1]

    small, *others = (bias_gradient(scale * influence._LARGE_LOGITS / median) for scale in (0.01, 0.99, 2.0, 50.0))
    # The limit that the pages name.
    assert influence._LARGE_LOGITS == 30.0
    for got, share in zip(others, (1.0, 1 / 4.0, 1 / 2500.0), strict=True):
        np.testing.assert_allclose(got, share * small, rtol=5e-3)


def test_each_sample_fades_by_its_own_slope():
    """Of three classes, towards boundaries of different slopes, right and wrong, with and without a loss scale."""
    kernel, bias = np.array([[60.0, 50.0, 0.0], [0.0, 15.0, -60.0]]), np.array([0.0, 0.0, 5.0])
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    network.set_weights([kernel, bias])
    x = np.array([[-0.8, -1.3], [-0.2, 0.4], [1.1, 0.1], [-0.6, -0.8], [0.7, 1.6]], "float32")
    logits = x @ kernel + bias
    source = np.argmax(logits, axis=1)
    y = np.where(np.arange(5) == 4, 2, source)
    # To each class: how far its boundary is, and how steep.
    slopes = np.linalg.norm(kernel[:, None, :] - kernel[:, source, None], axis=0)
    distances = (logits[np.arange(5), source, None] - logits) / np.where(slopes > 0.0, slopes, 1.0)
    distances[np.arange(5), source] = np.inf
    # A wrong sample goes to its label.
    target = np.where(y == source, np.argmin(distances, axis=1), y)
    norm, slope = distances[np.arange(5), target], slopes[np.arange(5), target]
    # Of an even number, the median is the lower of the two in the middle.
    median = np.sort(norm[:4])[1]
    fade = np.minimum(influence._LARGE_LOGITS / (median * slope), 1.0) ** 2
    assert len(np.unique(target)) == 3 and fade[2] == 1.0 and fade[[0, 1, 3, 4]].max() < 0.5
    pull = np.where(y == source, -np.exp(-norm), 1.0) * 0.3 * fade / 5
    wanted = np.zeros(3)
    np.add.at(wanted, source, pull)
    np.add.at(wanted, target, -pull)
    settings = {
        "search": "exact",
        "normalize": None,
        "c": 1.0,
        "top_fraction": 1.0,
        "max_influence": 0.3,
        "misclassified": "all",
    }
    wrapped = keras_amm.wrap(
        network, keras_amm.MarginRegularizer(**settings), attack=keras_amm.DeepFool(overshoot=1e-4)
    )
    wrapped.regularizer.running.accuracy.assign(1.0)
    wrapped.regularizer.running.seen.assign(1.0)
    classifier = wrapped.attack.classifier(network)
    clean, weights = clean_pass(classifier, tf.constant(x)), network.trainable_variables
    for scale in (1.0, 1024.0):
        found = find_penalty(
            classifier, wrapped.attack, wrapped.regularizer, clean, y, weights, step=0, loss_scale=scale
        )
        np.testing.assert_allclose(found.gradients[1] / scale, wanted, rtol=5e-3, atol=1e-5)


def test_wrong_samples_are_pulled_by_no_more_than_the_influence():
    y = (X @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5 > 0).astype("int32")
    got = pulls(linear(), X, y, accuracy=1.0, strength="auto", max_influence=0.3, gradient="boundary")
    np.testing.assert_allclose(np.abs(got), 0.3, rtol=2e-3)
    # They are pulled towards their label: class 1 where the first logit is larger.
    assert np.all(np.sign(got) == np.where(y == 1, 1.0, -1.0))


def test_the_pull_has_no_units():
    """Pixels in other units, with c in the network's own margins: the same gradient in the bias."""
    y = (X @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5 < 0).astype("int32")
    settings = {"strength": "auto", "max_influence": 0.3, "c": 1.0, "normalize": "median", "gradient": "boundary"}
    _, (_, here) = gradient_of(linear(), X, y, **settings)
    other = linear()
    kernel, bias = other.get_weights()
    other.set_weights([kernel / 255.0, bias])
    _, (_, there) = gradient_of(other, 255.0 * X, y, **settings)
    np.testing.assert_allclose(there, here, rtol=2e-3)
    value, _ = gradient_of(other, 255.0 * X, y, **settings)
    norms = np.abs(X @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5)
    np.testing.assert_allclose(value, 0.3 * np.mean(np.exp(-norms / np.sort(norms)[1])), rtol=2e-3)


@pytest.mark.parametrize(
    ("shrinkage", "value", "steepness"),
    [
        ("lin", lambda n, c: -c * n, lambda n, c: np.ones_like(n)),
        ("exp", lambda n, c: np.exp(-c * n), lambda n, c: np.exp(-c * n)),
        ("inv", lambda n, c: 1 / (1 + c * n), lambda n, c: 1 / (1 + c * n) ** 2),
        ("hinge", lambda n, c: np.maximum(c - n, 0), lambda n, c: (n < c).astype(float)),
    ],
)
@pytest.mark.parametrize("normalize", ["median", None, "input"])
def test_c_falls_with_the_root_of_the_influence(shrinkage, value, steepness, normalize):
    """At a training error of 4%, in the unit of `normalize`, for a linear classifier in closed form."""
    w = KERNEL[:, 0] - KERNEL[:, 1]
    g = X @ w + 0.5
    norms = np.abs(g) / np.linalg.norm(w)
    units = {"median": np.median(norms), None: 1.0, "input": np.linalg.norm(X, axis=1)}
    margins = norms / units[normalize]
    arguments = {"normalize": normalize, "shrinkage": shrinkage, "max_influence": 2.0, "c": 1.5, "gradient": "boundary"}
    got, (_, bias) = gradient_of(linear(), X, (g < 0).astype("int32"), accuracy=0.96, strength="auto", **arguments)
    np.testing.assert_allclose(got, 2.0 * 0.25 * np.mean(value(margins, 1.5 * 0.5)), rtol=2e-3)
    pull = -np.sign(g) * 2.0 * 0.25 * steepness(margins, 1.5 * 0.5)
    np.testing.assert_allclose(bias[0], np.mean(pull), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("shrinkage", ["lin", "exp", "inv", "hinge"])
def test_misclassified_samples_count_as_if_at_the_boundary(shrinkage):
    """However far they are, and whatever d is, if the strength is automatic."""
    w = KERNEL[:, 0] - KERNEL[:, 1]
    y = (X @ w + 0.5 > 0).astype("int32")
    settings = {"shrinkage": shrinkage, "max_influence": 2.0, "c": 1.5, "misclassified": "all", "gradient": "boundary"}
    for d in (1e-3, 1e3):
        arguments = {"accuracy": 1.0, "strength": "auto", "d": d, **settings}
        value, _ = gradient_of(linear(), X, y, **arguments)
        at_the_boundary = {"lin": 0.0, "exp": 1.0, "inv": 1.0, "hinge": 1.5}[shrinkage]
        np.testing.assert_allclose(value, 2.0 * at_the_boundary, rtol=2e-3)
        np.testing.assert_allclose(np.abs(pulls(linear(), X, y, **arguments)), 2.0, rtol=2e-3)


def test_an_aggregation_sees_norms_in_their_unit_whatever_the_training_error():
    seen = []

    def aggregation(norm, labels, correct, success, *, top_fraction):
        seen.append(norm.numpy())
        return success

    y = (X @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5 < 0).astype("int32")
    for accuracy in (1.0, 0.9):
        gradient_of(linear(), X, y, accuracy=accuracy, strength="auto", max_influence=1.0, aggregation=aggregation)
    np.testing.assert_allclose(*seen)


def test_normalized_by_the_input():
    """Equation 5 of Deep Defense: the norm over that of the image."""
    w = KERNEL[:, 0] - KERNEL[:, 1]
    g = X @ w + 0.5
    ratio = np.abs(g) / np.linalg.norm(w) / np.linalg.norm(X, axis=1)
    value, _ = gradient_of(linear(), X, (g < 0).astype("int32"), strength=2.0, c=3.0, normalize="input")
    np.testing.assert_allclose(value, 2.0 * np.mean(np.exp(-3.0 * ratio)), rtol=2e-3)


def test_bounded_is_odd_and_monotone():
    bounded = influence.Bounded(tf.constant(0.5))
    factor, slope = tf.constant([-4.0, -0.1, 0.1, 4.0]), tf.constant([2.0, 1.0, 1.0, 2.0])
    np.testing.assert_allclose(bounded(factor, slope), [-0.5, -0.1, 0.1, 0.5])
    assert float(bounded.num_clipped) == 2.0


@pytest.mark.parametrize(("compiled", "gradient"), [({}, "boundary"), ({"jit_compile": True}, "unrolled")])
def test_modes_of_execution_agree(compiled, gradient):
    x, y = small_data(32)

    def network():
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Flatten(), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)]
        return keras.Sequential([keras.Input((6, 6, 1)), *layers])

    def fit(**compiled):
        regularizer = keras_amm.MarginRegularizer.from_paper(
            "min-exp", strength="auto", aggregation="nearest", c=1.0, top_fraction=0.5, gradient=gradient,
            misclassified="farthest", normalize="median", max_influence=2.0, warmup_steps=2,
        )  # fmt: skip
        model = keras_amm.wrap(network(), regularizer, keras_amm.DeepFool(3, 3))
        # A training error that rises from 2%, so that misclassified samples count at first, and then no more.
        model.regularizer.running.accuracy.assign(0.98)
        model.regularizer.running.seen.assign(1.0)
        model.compile(keras.optimizers.SGD(0.05), LOSS, **compiled)
        return model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history, model.regularizer.running

    (history, running), (wanted, other) = fit(**compiled), fit(run_eagerly=True)
    for name, values in wanted.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-2, atol=1e-5, err_msg=name)
    assert float(running.margin) > 0 and float(running.accuracy) > 0
    np.testing.assert_allclose(running.margin, other.margin, rtol=1e-2)


@pytest.mark.usefixtures("eagerly")
def test_what_is_remembered_is_saved_and_resumed(tmp_path):
    x, y = small_data(32)
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", strength="auto", max_influence=0.3, normalize="median", gradient="boundary"
    )
    model = keras_amm.wrap(small_network(), regularizer)
    model.compile(keras.optimizers.SGD(0.05), LOSS)
    model.fit(x, y, batch_size=16, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(model.regularizer.running.variables, loaded.regularizer.running.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(loaded.regularizer.running.margin) > 0
    histories = [m.fit(x, y, batch_size=16, shuffle=False, verbose=0).history for m in (model, loaded)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("is_better", [False, True])
def test_no_penalty_before_the_classifier_is_better_than_chance(is_better):
    x, _ = small_data()
    classifier = small_network()
    y = np.random.default_rng(0).integers(0, 3, len(x))
    if is_better:
        y = np.argmax(classifier.predict(x, verbose=0), axis=1)
    model = keras_amm.wrap(classifier, keras_amm.MarginRegularizer.from_paper("min-exp", above_chance=True))
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    # A mean over many batches has to tell: it begins at 0.
    penalties = model.fit(x, y, batch_size=16, epochs=10, verbose=0).history["margin_penalty"]
    assert penalties[0] == 0.0 and (penalties[-1] > 0.0) == is_better


def test_the_penalty_hardly_depends_on_the_size_of_the_batch():
    """Of a linear classifier that has 7.5% wrong, with the right running values: within 6% from batches of 32 on."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(480, 4)).astype("float32")
    kernel = generator.normal(size=(4, 3)).astype("float32")
    y = np.argmax(x @ kernel + 0.3 * generator.normal(size=(480, 3)), axis=1)

    def penalty_in_batches_of(size):
        classifier = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        classifier.set_weights([kernel, np.zeros(3)])
        model = keras_amm.wrap(classifier)
        report = keras_amm.evaluate_margins(classifier, (x, y), verbose=0)
        assert report.error == pytest.approx(0.075)
        running = model.regularizer.running
        running.accuracy.assign(1.0 - report.error)
        running.margin.assign(np.median(report.margins[report.margins > 0.0]))
        running.seen.assign(1.0)
        model.compile(keras.optimizers.SGD(0.0), LOSS)
        (penalty,) = model.fit(x, y, batch_size=size, verbose=0).history["margin_penalty"]
        return penalty

    of_all = penalty_in_batches_of(480)
    assert penalty_in_batches_of(32) == pytest.approx(of_all, rel=0.06)
    # A third of eight is no whole number: two of them count.
    assert penalty_in_batches_of(8) == pytest.approx(0.75 * of_all, rel=0.1)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:The images are scaled within the model")
def test_pixels_up_to_255_that_are_scaled_within_the_model_train_as_those_up_to_1():
    x, y = small_data(64)
    trained = []
    for scale in (1.0, 255.0):
        keras.utils.set_random_seed(2)
        layers = [keras.layers.Rescaling(1.0 / scale), keras.layers.Flatten(), keras.layers.Dense(8, "relu")]
        model = keras_amm.wrap(keras.Sequential([keras.Input(x.shape[1:]), *layers, keras.layers.Dense(3)]))
        model.compile(keras.optimizers.SGD(0.1), LOSS)
        history = model.fit(scale * x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
        trained.append((model, history))
    (of_one, history), (of_255, of_larger) = trained
    assert min(history["margin_penalty"]) > 0.0
    np.testing.assert_allclose(of_larger["margin"], 255.0 * np.array(history["margin"]), rtol=1e-3)
    assert_same_weights(of_one.base_model, of_255.base_model, rtol=1e-3, atol=1e-4)


def _two_classes(error, scale=1.0):
    """A linear classifier of two classes, with inputs and labels of which it has this part wrong."""
    x = np.random.default_rng(1).normal(size=(40, 3)).astype("float32")
    model = linear_of_two_classes(scale)
    y = np.argmax(model(x), axis=1).astype("int32")
    wrong = round(error * len(y))
    y[:wrong] = 1 - y[:wrong]
    return model, x, y


def _share_of_two(model, x, y, error):
    """By the mean of 1 - p, from the logits' difference z: 1 - p is 1 / (1 + exp(z)) towards the label."""
    logits = np.asarray(model(x), dtype="float64")
    towards = logits[np.arange(len(y)), y] - logits[np.arange(len(y)), 1 - y]
    return np.mean(1.0 / (1.0 + np.exp(towards))) * max(1.0 - 2.0 * error, 0.0) ** 3


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("error", "scale"), [*((error, 1.0) for error in (0.0, 0.05, 0.1, 0.3, 0.5, 0.8)), (0.0, 30.0), (0.1, 30.0)]
)
def test_two_classes_are_pulled_as_cross_entropy_pulls_and_less_where_they_overlap(error, scale):
    """In proportion to the mean pull of cross-entropy, times the cube of what the labels tell, which c falls with."""
    arguments = {"strength": "auto", "max_influence": 0.5, "misclassified": "none", "gradient": "boundary"}
    model, x, y = _two_classes(error, scale)
    regularizer = keras_amm.MarginRegularizer(normalize=None, c=1.0, **arguments)
    wrapped = keras_amm.wrap(model, regularizer, keras_amm.DeepFool(5))
    wrapped.compile(keras.optimizers.SGD(0.0), LOSS)
    before = [float(wrapped.margin_penalty(x, y)) for _ in range(2)]
    # Now by what is remembered of three batches.
    wrapped.fit(np.tile(x, (3, 1)), np.tile(y, 3), batch_size=40, shuffle=False, verbose=0)
    running = wrapped.regularizer.running
    np.testing.assert_allclose(running.accuracy_or(0.123), 1.0 - error, rtol=1e-5)
    after = float(wrapped.margin_penalty(x, y))
    remaining = _share_of_two(model, x, y, error)
    norms = np.abs(x @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5) / np.linalg.norm(KERNEL[:, 0] - KERNEL[:, 1])
    # The class that is pulled harder in sum is pulled no harder than the other.
    correct = np.argmax(model(x), axis=1) == y
    c = 1.0 - 0.5 * max(1.0 - 2.0 * error, 0.0) ** 3
    weaker = min(np.exp(-c * norms[correct & (y == label)]).sum() for label in (0, 1))
    wanted = 0.5 * remaining * 2.0 * weaker / len(x)
    np.testing.assert_allclose([*before, after], wanted, rtol=2e-2)


@pytest.mark.parametrize(
    ("search", "gradient", "aggregation", "scale"),
    [
        ("exact", "boundary", "nearest", 1.0),
        ("exact", "unrolled", "nearest", 1.0),
        ("cheap", "unrolled", "nearest", 1.0),
        ("ranks", "boundary", "nearest", 1.0),
        ("cheap", "boundary", keras_amm.aggregation.nearest, 1.0),
        ("rough", "boundary", "nearest", 1.0),
        # The size of the logits matters through the pull of cross-entropy alone.
        ("cheap", "boundary", "nearest", 50.0),
    ],
)
@pytest.mark.parametrize("larger", [0, 1])
def test_both_of_two_classes_are_pulled_alike(larger, search, gradient, aggregation, scale):
    """Of a linear classifier, by the points on its boundary and pulls in closed form; in sum they leave the bias."""
    w, x = KERNEL[:, 0] - KERNEL[:, 1], np.random.default_rng(2).normal(size=(200, 3)).astype("float32")
    g = x @ w + 0.5
    x = np.concatenate([x[(g > 0) == (larger == 0)][:9], x[(g > 0) == (larger == 1)][:2]])
    g = x @ w + 0.5
    y = (g < 0).astype("int32")
    norms = np.abs(g) / np.linalg.norm(w)
    strengths = np.exp(-1.5 * norms / np.median(norms))
    sums = np.array([strengths[y == label].sum() for label in (0, 1)])
    model = linear_of_two_classes(scale)
    assert scale == 1.0 or scale * np.median(np.abs(g)) > 1.1 * influence._LARGE_LOGITS
    pull = -np.sign(g) * strengths * (sums.min() / sums)[y] * 0.5 * _share_of_two(model, x, y, 0.0) / len(x)
    # All count, though the aggregation would count the nearest of one of them only.
    _, (kernel, bias) = gradient_of(
        model, x, y, strength="auto", max_influence=0.5, c=3.0, normalize="median",
        aggregation=aggregation, top_fraction=0.1, gradient=gradient, search=search,
        screening=0.1 if search == "exact" else None,
    )  # fmt: skip
    of_kernel = pull @ (x - (g / np.dot(w, w))[:, None] * w)
    # With large logits all of it is small.
    small = min(1e-6, 1e-5 * np.abs(of_kernel).max())
    np.testing.assert_allclose(kernel, np.stack([of_kernel, -of_kernel], axis=1), rtol=2e-3, atol=small)
    np.testing.assert_allclose(bias, 0.0, atol=min(1e-7, small))


def test_the_hinge_of_two_classes_wants_the_whole_margin():
    """Of two points nearer than c and farther than half of it, which a halved c would not reach."""
    w = KERNEL[:, 0] - KERNEL[:, 1]
    norms = np.array([0.6, 0.9])
    x = (np.array([[1.0], [-1.0]]) * norms[:, None] * w / np.linalg.norm(w) - 0.5 * w / np.dot(w, w)).astype("float32")
    y, model = np.array([0, 1]), linear_of_two_classes()
    arguments = {"shrinkage": "hinge", "c": 1.0, "normalize": None, "gradient": "boundary", "aggregation": "nearest"}
    value, _ = gradient_of(model, x, y, strength="auto", max_influence=0.5, **arguments)
    np.testing.assert_allclose(value, 0.5 * _share_of_two(model, x, y, 0.0) * np.mean(1.0 - norms), rtol=2e-3)


@pytest.mark.usefixtures("eagerly")
def test_fit_shows_the_influence_of_two_classes():
    model, x, y = _two_classes(0.1)
    wrapped = keras_amm.wrap(model, max_influence=1.5)
    wrapped.compile(keras.optimizers.SGD(0.0), LOSS)
    influence = wrapped.train_on_batch(x, y, return_dict=True)["influence"]
    assert influence == pytest.approx(1.5 * _share_of_two(model, x, y, 0.1), rel=1e-4)


@pytest.mark.parametrize("form", ["indices", "one-hot", "smoothed", "one unit"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 4.0, 30.0, 1e4])
def test_the_pull_of_cross_entropy(scale, form):
    """Of two points at distances of 1 and 2, with the second on the wrong side or on the right one: `max(t - p, 0)`."""
    x = np.array([[1.0], [2.0]], "float32")
    two, one = (keras.Sequential([keras.Input((1,)), keras.layers.Dense(units)]) for units in (2, 1))
    two.set_weights([np.array([[-0.5 * scale, 0.5 * scale]]), np.zeros(2)])
    one.set_weights([np.array([[scale]]), np.zeros(1)])
    classifier = Classifier(one if form == "one unit" else two)
    for labels, z in (([1, 1], [scale, 2.0 * scale]), ([1, 0], [scale, -2.0 * scale])):
        y = np.array(labels)
        y = {"one-hot": np.eye(2)[y], "smoothed": 0.8 * np.eye(2)[y] + 0.1}.get(form, y)
        clean = clean_pass(classifier, tf.constant(x))
        target, of_other = 0.9 if form == "smoothed" else 1.0, np.exp(-np.logaddexp(0.0, np.array(z)))
        for label_smoothing in (0.0, 0.2):
            missing = of_other - (1.0 - ((1.0 - label_smoothing) * target + label_smoothing / 2))
            wanted = np.mean(np.maximum(missing, 0.0))
            rounding = 2e-30 if label_smoothing == 0.0 and target == 1.0 else 1e-7
            got = pull_of_cross_entropy(clean, y, label_smoothing)
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=rounding)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("soft", [False, True])
def test_smoothed_labels_of_two_classes_are_no_reason_to_pull_harder(soft):
    """The loss's own smoothing, or labels that are smoothed already: the influence is that of `t - p`."""
    model, x, y = _two_classes(0.1)
    one_hot = np.eye(2, dtype="float32")[y]
    wrapped = keras_amm.wrap(model, max_influence=1.5)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.0 if soft else 0.2)
    wrapped.compile(keras.optimizers.SGD(0.0), loss)
    labels = 0.8 * one_hot + 0.1 if soft else one_hot
    influence = wrapped.train_on_batch(x, labels, return_dict=True)["influence"]
    probability = keras.ops.softmax(model(x)).numpy()[np.arange(len(y)), y]
    wanted = 1.5 * np.mean(np.maximum(0.9 - probability, 0.0)) * 0.8**3
    assert influence == pytest.approx(wanted, rel=1e-4)
    assert wanted < 0.9 * 1.5 * _share_of_two(model, x, y, 0.1)


def test_the_smoothing_of_what_compile_takes_as_a_loss():
    loss = keras.losses.BinaryCrossentropy(label_smoothing=0.1)
    of_another_kind = keras.losses.Hinge()
    of_another_kind.label_smoothing = tf.constant(0.1)
    for given, wanted in ((loss, 0.1), ([loss], 0.1), ({"output": loss}, 0.1), (None, 0.0), ("hinge", 0.0),
                          (of_another_kind, 0.0), ([loss, loss], 0.0)):  # fmt: skip
        assert label_smoothing_of(given) == wanted

    class WithItsOwnLoss(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(y_pred)

    model = keras_amm.wrap(WithItsOwnLoss([keras.Input((3,)), keras.layers.Dense(2)]))
    model.compile("sgd", loss)
    assert model._compiled_loss() is None


@pytest.mark.usefixtures("eagerly")
def test_a_network_that_is_sure_of_two_classes_is_still_measured():
    model, x, y = _two_classes(0.0, scale=1e6)
    wrapped = keras_amm.wrap(model, warmup_steps=1)
    wrapped.compile(keras.optimizers.SGD(0.0), LOSS)
    history = wrapped.fit(x, y, epochs=2, batch_size=40, verbose=0).history
    assert history["margin"][1] > 0.0 and history["attack_success"][1] == 1.0


def test_a_batch_of_one_class_only_is_not_pulled_where_there_are_two():
    model, x, y = _two_classes(0.0)
    of_one = y == 0
    penalty, gradients = gradient_of(model, x[of_one], y[of_one], strength="auto", max_influence=0.5)
    assert penalty == 0.0
    assert not any(np.any(gradient) for gradient in gradients)
    # A strength that is a number is the paper's penalty, bounded only.
    _, (_, bias) = gradient_of(model, x[of_one], y[of_one], strength=1e4, max_penalty=1e9, max_influence=0.5)
    np.testing.assert_allclose(np.abs(bias), 0.5 * 0.1, rtol=2e-3)


def test_one_unit_is_pulled_as_two_logits_are():
    two, x, y = _two_classes(0.2)
    one = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    one.set_weights([KERNEL[:, 1:] - KERNEL[:, :1], BIAS[1:] - BIAS[:1]])
    wanted, got = (
        keras_amm.wrap(model, keras_amm.MarginRegularizer(aggregation="avg")).margin_penalty(x, y)
        for model in (two, one)
    )
    assert float(wanted) > 0.0
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


def _share(error):
    return 1.0 if error <= 0.01 else max(0.01 / error, 0.1)


@pytest.mark.usefixtures("eagerly")
def test_the_fewer_training_images_are_wrong_the_harder_is_the_pull():
    x, y = small_data()
    regularizer = keras_amm.MarginRegularizer(
        aggregation="avg", normalize=None, max_influence=1.5, c=2.0, misclassified="none"
    )
    model = keras_amm.wrap(small_network(), regularizer)
    model.regularizer.running.seen.assign(0.5)
    correct = np.argmax(model(x), axis=1) == y
    norms = keras_amm.evaluate_margins(model.base_model, (x, y), keras_amm.DeepFool(), verbose=0).norms[correct]
    for error in (0.0, 0.01, 0.02, 0.05, 0.3, 1.0):
        model.regularizer.running.accuracy.assign(0.5 * (1.0 - error))
        share = _share(error)
        wanted = 1.5 * share * np.exp(-2.0 * np.sqrt(share) * norms).sum() / len(x)
        np.testing.assert_allclose(model.margin_penalty(x, y), wanted, rtol=2e-2, err_msg=str(error))


@pytest.mark.parametrize(
    ("error", "part"), [(0.0, 1.0), (0.002, 1.0), (0.004, 2 / 3), (0.01, 1 / 4), (0.02, 1 / 9), (0.1, 0.0), (0.5, 0.0)]
)
@pytest.mark.parametrize("search", ["exact", "cheap"])
def test_misclassified_samples_are_pulled_the_harder_the_fewer_they_are(error, part, search):
    """By no more than a correct sample at the boundary; where many are wrong they are not counted."""
    y = (X @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5 > 0).astype("int32")
    arguments = {"max_influence": 1.5, "misclassified": "farthest", "gradient": "boundary", "search": search}
    got = pulls(linear(), X, y, accuracy=1.0 - error, strength="auto", **arguments)
    wanted = 1.5 * _share(error) * part
    np.testing.assert_allclose(np.abs(got), wanted, rtol=2e-3, atol=1e-6)
    assert np.all(np.sign(got) == (0.0 if wanted == 0.0 else np.where(y == 1, 1.0, -1.0)))


@pytest.mark.parametrize(("accuracy", "are_searched"), [(0.5, False), (0.99, True)])
def test_misclassified_samples_that_do_not_count_are_not_searched(accuracy, are_searched):
    x, y = small_data()
    wrapped = keras_amm.wrap(small_network(), keras_amm.MarginRegularizer(aggregation="avg", misclassified="all"))
    wrapped.regularizer.running.accuracy.assign(accuracy)
    wrapped.regularizer.running.seen.assign(1.0)
    classifier = wrapped.attack.classifier(wrapped.base_model)
    clean = clean_pass(classifier, tf.constant(x))
    found = find_penalty(
        classifier, wrapped.attack, wrapped.regularizer, clean, y, wrapped.trainable_weights, step=0, loss_scale=1.0
    )
    num_correct = np.sum(np.argmax(clean.logits, axis=1) == y)
    assert found.statistics.num_searched == (len(x) if are_searched else num_correct)


def test_before_anything_is_remembered_the_batch_tells_how_many_are_wrong():
    x, y = small_data()
    model = small_network()
    wrapped = keras_amm.wrap(model, keras_amm.MarginRegularizer(aggregation="avg", normalize=None))
    correct = np.argmax(model(x), axis=1) == y
    assert 0 < correct.mean() < 0.9
    report = keras_amm.evaluate_margins(model, (x, y), keras_amm.DeepFool(), verbose=0)
    wanted = 0.4 * np.exp(-3.0 * np.sqrt(0.1) * report.norms[correct]).sum() / len(x)
    np.testing.assert_allclose(wrapped.margin_penalty(x, y), wanted, rtol=2e-2)


@pytest.mark.parametrize("accuracy", [1.0, 0.95])
def test_the_bound_of_a_numeric_strength_follows_the_training_error_too(accuracy):
    model = linear(0.01)
    y = (X @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5 < 0).astype("int32")
    strong = {"strength": 1e4, "max_penalty": 1e9, "max_influence": 0.5, "gradient": "boundary"}
    got = pulls(model, X, y, accuracy=accuracy, **strong)
    wanted = 0.5 if accuracy == 1.0 else 0.5 * 0.01 / 0.05
    np.testing.assert_allclose(np.abs(got), wanted, rtol=2e-3)


@pytest.mark.parametrize("error", [0.0, 0.1, 0.5])
def test_the_bound_of_a_numeric_strength_with_two_classes(error):
    model, x, y = _two_classes(error)
    strong = {"strength": 1e4, "max_penalty": 1e9, "max_influence": 0.5, "gradient": "boundary"}
    got = pulls(model, x[:3], y[:3], accuracy=1.0 - error, **strong)
    np.testing.assert_allclose(np.abs(got), 0.5 * 0.1 * (1.0 - 2.0 * error) ** 3, rtol=2e-3, atol=1e-7)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("strength", ["auto", 8.0])
@pytest.mark.parametrize("error", [0.0, 0.02, 0.5])
def test_fit_shows_the_influence(strength, error):
    """Of an automatic strength it also grows over the first steps; without a bound there is none."""
    x, y = small_data()
    warmup = 4 if strength == "auto" else 0
    model = keras_amm.wrap(
        small_network(), strength=strength, max_influence=1.5, warmup_steps=warmup, gradient="unrolled"
    )
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    for step in range(4 if warmup else 1):
        running = model.regularizer.running
        running.seen.assign(1.0)
        running.accuracy.assign(1.0 - error)
        model.reset_metrics()
        logs = model.train_on_batch(x, y, return_dict=True)
        if warmup and step == 0:
            assert np.isnan(logs["influence"])
        else:
            wanted = 1.5 * _share(error) * (step / 4 if warmup else 1.0)
            assert logs["influence"] == pytest.approx(wanted, rel=1e-5)
    unbounded = keras_amm.wrap(small_network(), strength=8.0, max_influence=None)
    unbounded.compile("sgd", LOSS)
    assert "influence" not in unbounded.train_on_batch(x, y, return_dict=True)


def test_a_numeric_strength_is_else_that_of_equation_6_whatever_the_training_error():
    y = (X @ (KERNEL[:, 0] - KERNEL[:, 1]) + 0.5 > 0).astype("int32")
    for labels in (y, 1 - y):
        arguments = {"accuracy": 0.9, "strength": 3.0, "c": 2.0, "gradient": "boundary"}
        wanted, got = (gradient_of(linear(), X, labels, max_influence=b, **arguments) for b in (None, 1e3))
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
        np.testing.assert_allclose(got[1][1], wanted[1][1], rtol=1e-5)


@pytest.mark.parametrize("rule", ["all", "farthest", "none"])
def test_which_misclassified_samples_count(rule):
    norm = np.array([0.5, 0.2, 0.9, 0.4, 0.8], "float32")
    labels = np.array([0, 0, 0, 1, 1])
    correct = np.array([True, True, False, False, False])
    for aggregation in ("avg", "min", "nearest"):
        regularizer = keras_amm.MarginRegularizer.from_paper(
            "min-exp", aggregation=aggregation, misclassified=rule, top_fraction=0.4
        )
        mask = np.asarray(regularizer.select(norm, labels, correct, np.ones(5, bool)))
        wanted = {"all": [True, True, True], "farthest": [True, False, True], "none": [False, False, False]}[rule]
        assert mask[2:].tolist() == wanted
        assert mask[:2].tolist() == ([False, True] if aggregation == "min" else [True, True])
        assert mask.sum() <= regularizer.max_selected(5, 2)


@pytest.mark.parametrize(
    ("name", "row"),
    {"avg-lin": (1, 4, 4), "avg-inv": (32, 4, 2), "avg-exp": (32, 2, 2),
     "min-lin": (1, 0.5, 4), "min-inv": (32, 1, 0.5), "min-exp": (32, 2, 1)}.items(),
)  # fmt: skip
def test_rows_of_the_paper(name, row):
    regularizer = keras_amm.MarginRegularizer.from_paper(name)
    assert (regularizer.strength, regularizer.c, regularizer.d) == row
    assert (regularizer.aggregation, regularizer.shrinkage) == tuple(name.split("-"))
    assert regularizer.max_influence is None and regularizer.normalize is None and regularizer.gradient == "unrolled"
    assert keras_amm.MarginRegularizer.from_paper(name, gradient="boundary").gradient == "boundary"


def test_wrong_arguments():
    for arguments, message in (
        ({"strength": "auto"}, "with `max_influence`"),
        ({"strength": "much", "max_influence": 1.0}, "'auto'"),
        ({"max_influence": 0.0}, "max_influence=0.0"),
        ({"normalize": "mean"}, "normalize='mean'"),
        ({"misclassified": "near"}, "misclassified='near'"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_amm.MarginRegularizer.from_paper("min-exp", **arguments)
    with pytest.raises(ValueError, match="min-cube"):
        keras_amm.MarginRegularizer.from_paper("min-cube")
