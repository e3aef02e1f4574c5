"""What `fit` and `evaluate` show."""

import keras
import numpy as np
import pytest

import keras_amm
from tests.helpers.networks import (
    LOSS,
    small_data,
    small_network,
    train,
    wrap_lightly,
)


@pytest.mark.usefixtures("eagerly")
def test_batches_all_right_and_all_wrong():
    x, _ = small_data(16)
    network = small_network()
    predicted = np.argmax(network(x), axis=1)
    model = keras_amm.wrap(network, keras_amm.MarginRegularizer.from_paper("min-exp"))
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    for labels in (predicted, (predicted + 1) % 3):
        model.reset_metrics()
        logs = model.train_on_batch(x, labels, return_dict=True)
        assert np.isfinite(logs["loss"])
        assert logs["margin_penalty"] > 0
        assert (logs["margin"] > 0) == (labels is predicted)


@pytest.mark.usefixtures("eagerly")
def test_logs_are_means_over_the_epoch():
    x, y = small_data(40)
    model = keras_amm.wrap(small_network(), keras_amm.MarginRegularizer.from_paper("min-exp"))
    model.compile(keras.optimizers.SGD(0.0), LOSS, metrics=["accuracy"])
    logs = model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history
    parts = [slice(0, 16), slice(16, 32), slice(32, 40)]
    penalties = [float(model.margin_penalty(x[p], y[p])) * len(y[p]) for p in parts]
    assert logs["margin_penalty"][0] == pytest.approx(sum(penalties) / 40, rel=1e-4)
    found = keras_amm.DeepFool().perturb(model, x, y)
    correct = np.argmax(model(x), axis=1) == y
    assert logs["margin"][0] == pytest.approx(np.mean(np.where(correct & found.success, found.norm, 0.0)), rel=1e-4)
    assert logs["attack_success"][0] == pytest.approx(np.mean(found.success))
    assert logs["loss"][0] == pytest.approx(logs["cross_entropy"][0] + logs["margin_penalty"][0], rel=1e-5)


def test_validation_shows_no_margin_of_training():
    x, y = small_data()
    fit = {"validation_data": (x, y), "epochs": 1}
    history = train(wrap_lightly(small_network()), x, y, metrics=["accuracy"], fit=fit, run_eagerly=True)
    assert {name for name in history if name.startswith("val_")} == {"val_loss", "val_accuracy"}


@pytest.mark.usefixtures("eagerly")
def test_evaluate_after_fit_leaves_no_trace_in_the_next_epoch():
    x, y = small_data()
    model = wrap_lightly(small_network())
    train(model, x, y, optimizer=keras.optimizers.SGD(0.0))
    first = model.fit(x, y, verbose=0).history
    model.evaluate(x, y, verbose=0)
    second = model.fit(x, y, verbose=0).history
    assert first["margin"] == pytest.approx(second["margin"], rel=1e-3)


def test_evaluate_gives_the_classifiers_numbers():
    x, y = small_data()
    network = small_network()
    train(wrap_lightly(network), x, y, fit={"epochs": 1}, run_eagerly=True)
    network.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    wrapped = keras_amm.wrap(network)
    wrapped.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    got, wanted = wrapped.evaluate(x, y, verbose=0), network.evaluate(x, y, verbose=0)
    assert all(isinstance(value, float) for value in got)
    assert got == pytest.approx(wanted, rel=1e-5)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("max_iterations", [1, 6])
def test_the_margin_is_that_of_measuring(max_iterations):
    """Also where attacks fail: of one step, most do, and count 0."""
    x, y = small_data(48)
    attack = keras_amm.DeepFool(max_iterations, overshoot=0.0 if max_iterations == 1 else 0.02)
    model = keras_amm.wrap(small_network(), search="exact", attack=attack)
    logs = train(model, x, y, optimizer=keras.optimizers.SGD(0.0), fit={"epochs": 1})
    report = keras_amm.evaluate_margins(model, (x, y), attack, verbose=0)
    failed = report.correct & ~report.success
    assert np.any(failed) == (max_iterations == 1) and np.any(report.norms[failed] > 0) == np.any(failed)
    assert logs["margin"][0] == pytest.approx(report.margin, rel=1e-5)


@pytest.mark.parametrize(("screening", "compiled"), [(None, {"run_eagerly": True}), (0.3, {"jit_compile": True})])
def test_no_margin_is_infinite_where_the_network_has_no_gradient(screening, compiled):
    x, y = small_data(48)
    network = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    network.set_weights([np.zeros((36, 3)), np.array([2.0, 0.0, 0.0])])
    model = keras_amm.wrap(network, keras_amm.MarginRegularizer.from_paper("min-exp", screening=screening))
    with pytest.warns(UserWarning, match="gradient .* is zero at all images of 3 batches"):
        logs = train(model, x, y, optimizer=keras.optimizers.SGD(0.0), fit={"epochs": 1}, **compiled)
    with pytest.warns(UserWarning, match="gradient .* is zero at 48 of the 48 images"):
        report = keras_amm.evaluate_margins(model, (x, y), verbose=0)
    assert logs["margin"] == [0.0] == [report.margin]
    assert logs["attack_success"] == [0.0] == [report.success_rate]
    assert logs["margin_penalty"] == [0.0]
