"""A classifier that collapses into a constant has no margin, however far an attack on it goes."""

import keras
import numpy as np
import pytest

import keras_amm
from keras_amm.callbacks import MarginLogger
from tests.library.monitoring.training import compiled

# Graphs of the same are tried by the tests of the search, of training and of `MarginLogger`.
pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 2)).astype("float32")
Y = (X[:, 0] > 0.0).astype("int32")
HIDDEN = [np.array([[1.0], [0.0]]), np.array([0.0])]
# The logits' difference is exp(x_0) - 1, whose sign is the label, or -1 - exp(x_0), which is never positive.
SENSIBLE = [*HIDDEN, np.array([[0.0, 1.0]]), np.array([0.0, -1.0])]
COLLAPSED = [*HIDDEN, np.array([[0.0, -1.0]]), np.array([0.0, -1.0])]


def classifier():
    layers = [keras.Input((2,)), keras.layers.Dense(1, "exponential"), keras.layers.Dense(2)]
    return compiled(keras.Sequential(layers), keras.optimizers.SGD(0.0))


def report_of(weights):
    model = classifier()
    model.set_weights(weights)
    return keras_amm.evaluate_margins(model, (X, Y), verbose=0)


def test_it_has_no_margin():
    sensible, collapsed = report_of(SENSIBLE), report_of(COLLAPSED)
    distance = np.mean(np.abs(X[:, 0]))
    assert distance < sensible.margin < 2.0 * distance
    assert sensible.signed_mean == pytest.approx(sensible.margin) and sensible.accuracy == 1.0
    assert collapsed.margin == collapsed.margin_median == 0.0 and collapsed.signed_mean < 0.0
    # The paper's average holds it for the better one: attacks go far, and reach nothing.
    assert collapsed.mean > 10 * sensible.mean and collapsed.success_rate == 0.0


@pytest.mark.parametrize(("monitor", "kept"), [("val_margin", SENSIBLE), ("val_paper_margin", COLLAPSED)])
def test_a_checkpoint_keeps_the_sensible_one(monitor, kept, tmp_path):
    model, path = classifier(), str(tmp_path / "best.weights.h5")
    collapse = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.set_weights(COLLAPSED if epoch else SENSIBLE)
    )
    best = keras.callbacks.ModelCheckpoint(path, monitor, mode="max", save_best_only=True, save_weights_only=True)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[collapse, MarginLogger((X, Y)), best])
    model.load_weights(path)
    np.testing.assert_array_equal(model.get_weights()[2], kept[2])


def test_the_signed_margin_falls_where_the_boundary_of_a_collapsed_classifier_is_far_but_within_reach():
    """A linear classifier that always says class 1, with its boundary at x_0 = -100."""
    model = compiled(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), keras.optimizers.SGD(0.0))
    model.set_weights([np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([0.0, 100.0])])
    history = model.fit(X, Y, verbose=0, callbacks=[MarginLogger((X, Y))]).history
    signed = 1.02 * np.where(Y == 1, 1.0, -1.0) * (X[:, 0] + 100.0)
    assert history["val_signed_margin"][0] == pytest.approx(np.mean(signed), rel=1e-3)
    assert history["val_margin"][0] > 10 * abs(history["val_signed_margin"][0])
    assert history["val_most_predicted_share"] == [1.0]


@pytest.mark.parametrize("search", ["exact", "ranks", "cheap"])
def test_training_shows_the_same(search):
    """Also where a search leaves samples out, for then their estimates count by the successes of the others."""
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", gradient="boundary", search=search)
    margins = []
    for weights in (SENSIBLE, COLLAPSED):
        network = classifier()
        network.set_weights(weights)
        model = compiled(keras_amm.wrap(network, regularizer), keras.optimizers.SGD(0.0))
        margins += model.fit(X, Y, batch_size=64, verbose=0).history["margin"]
    # A report bounds by the data what attacks overestimate, as they do of this exponential network.
    report = report_of(SENSIBLE)
    assert report.accuracy == report.success_rate == 1.0
    assert margins[0] == pytest.approx(np.mean(report.attack_norms), rel=1e-5 if search == "exact" else 0.2)
    assert margins[1] == 0.0


def test_a_linear_classifier_in_closed_form():
    """Training's margin, a report's, and geometry say the same."""
    model = compiled(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), keras.optimizers.SGD(0.0))
    model.set_weights([np.array([[-1.0, 1.0], [0.5, 0.0]]), np.array([0.25, 0.0])])
    gap = X @ [2.0, -0.5] - 0.25
    expected = np.where((gap > 0) == Y, 1.02 * np.abs(gap) / np.hypot(2.0, 0.5), 0.0)
    report = keras_amm.evaluate_margins(model, (X, Y), verbose=0)
    assert 0 < np.sum(expected == 0.0) < len(X)
    np.testing.assert_allclose(report.margins, expected, rtol=1e-4, atol=1e-6)
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", gradient="boundary")
    trained = compiled(keras_amm.wrap(model, regularizer), keras.optimizers.SGD(0.0))
    assert trained.fit(X, Y, batch_size=16, verbose=0).history["margin"][0] == pytest.approx(report.margin, rel=1e-5)
