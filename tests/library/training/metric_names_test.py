"""What the margin's metrics are called: a user's metric keeps its name, and no other loss is called cross-entropy."""

import csv

import keras
import numpy as np
import pytest

import keras_amm
from keras_amm.gradient.metric_names import is_cross_entropy
from tests.helpers.networks import LOSS, small_data, small_network, wrap_lightly

_OURS = ["cross_entropy", "margin_penalty", "margin", "attack_success", "boundary_cosine", "at_cap"]


@keras.saving.register_keras_serializable("metric_names_test")
class Gap(keras.metrics.Mean):
    """The mean gap of the two largest logits, as a metric of y and y_pred."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        largest = keras.ops.top_k(y_pred, 2)[0]
        return super().update_state(largest[:, 0] - largest[:, 1], sample_weight=sample_weight)


def _gaps():
    return [Gap(name=name) for name in _OURS]


def _fit(model, metrics):
    x, y = small_data(40)
    if metrics is not None:
        model.compile(keras.optimizers.SGD(0.01), LOSS, metrics=metrics)
    return model.fit(x, y, validation_data=(x[:20], y[:20]), batch_size=20, epochs=2, shuffle=False, verbose=0).history


@pytest.mark.usefixtures("eagerly")
def test_a_metric_of_the_user_keeps_its_name():
    plain, model = small_network(), wrap_lightly(small_network())
    history = _fit(model, _gaps())
    unlike = wrap_lightly(small_network())
    wanted = _fit(unlike, [Gap(name=f"gap_{name}") for name in _OURS])
    for name in _OURS:
        np.testing.assert_allclose(history[name], wanted[f"gap_{name}"], rtol=1e-5)
        np.testing.assert_allclose(history[f"val_{name}"], wanted[f"val_gap_{name}"], rtol=1e-5)
        np.testing.assert_allclose(history[f"amm_{name}"], wanted[name], rtol=1e-5)
    assert set(history) == {"loss", "val_loss", *_OURS, *(f"{p}_{name}" for name in _OURS for p in ("val", "amm"))}
    x, y = small_data()
    plain.set_weights(model.base_model.get_weights())
    plain.compile(keras.optimizers.SGD(0.0), LOSS, metrics=_gaps())
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain.evaluate(x, y, verbose=0), rel=1e-5)
    assert list(model.evaluate(x, y, return_dict=True, verbose=0)) == list(
        plain.evaluate(x, y, return_dict=True, verbose=0)
    )
    assert len(model.train_on_batch(x, y)) == 1 + 2 * len(_OURS)
    assert len(set(model.metrics_names)) == len(model.metrics_names)


@pytest.mark.usefixtures("eagerly")
def test_a_metric_that_the_classifier_holds_keeps_its_name():
    class Holding(keras.Sequential):
        def __init__(self, *args):
            super().__init__(*args)
            self.held = keras.metrics.Mean(name="margin")

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            self.held.update_state(7.0)
            return super().compute_metrics(x, y, y_pred, sample_weight)

    layers = [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    history = _fit(wrap_lightly(Holding(layers)), [])
    assert history["margin"] == history["val_margin"] == [7.0, 7.0]
    assert "val_amm_margin" not in history and history["amm_margin"][0] != 7.0


def test_compiled_anew_without_that_metric_the_names_are_the_usual_ones():
    model = wrap_lightly(small_network())
    assert "amm_margin" in _fit(model, [Gap(name="margin")])
    assert "amm_margin" not in _fit(model, ["accuracy"])


@pytest.mark.usefixtures("eagerly")
def test_csv_logger_has_a_column_for_each(tmp_path):
    x, y = small_data(16)
    model = wrap_lightly(small_network())
    model.compile("sgd", LOSS, metrics=[Gap(name="margin")])
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = model.fit(x, y, validation_data=(x, y), epochs=2, callbacks=[log], verbose=0).history
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert set(rows[0]) == {"epoch", *history}
    for name in ("margin", "amm_margin", "val_margin"):
        assert [float(row[name]) for row in rows] == pytest.approx(history[name], rel=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_a_loaded_model_goes_on_with_the_same_names(tmp_path):
    model = wrap_lightly(small_network())
    _fit(model, [Gap(name="margin")])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    wanted, got = _fit(model, None), _fit(loaded, None)
    assert set(got) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-4, err_msg=name)


@keras.saving.register_keras_serializable("metric_names_test")
class Smoothed(keras.losses.SparseCategoricalCrossentropy):
    pass


def _own_loss(y, y_pred):
    return keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "SparseCategoricalCrossentropy",
        "crossentropy",
        "CE",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.BinaryCrossentropy(),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        Smoothed(),
        {"logits": LOSS},
        [LOSS],
        {"logits": "categorical_crossentropy"},
    ],
)
def test_cross_entropies(loss):
    assert is_cross_entropy(loss)


@pytest.mark.parametrize(
    "loss",
    [
        None,
        "categorical_hinge",
        keras.losses.MeanSquaredError(),
        keras.losses.CategoricalFocalCrossentropy(),
        keras.losses.squared_hinge,
        _own_loss,
        "no_such_loss",
        {"logits": "mse"},
        [LOSS, "mse"],
        [],
    ],
)
def test_other_losses(loss):
    assert not is_cross_entropy(loss)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (LOSS, "cross_entropy"),
        ("categorical_hinge", "classification_loss"),
        (keras.losses.categorical_crossentropy, "cross_entropy"),
        (keras.losses.CategoricalHinge(), "classification_loss"),
    ],
)
def test_the_loss_is_called_what_it_is(loss, name, tmp_path):
    x, y = small_data(16)
    y = y if loss is LOSS else np.eye(3, dtype="float32")[y]
    model = wrap_lightly(small_network(head="softmax" if callable(loss) and loss is not LOSS else None))
    model.compile(keras.optimizers.SGD(0.0), loss)
    assert name in model.metrics_names
    model.save(tmp_path / "model.keras")
    for each in (model, keras.models.load_model(tmp_path / "model.keras")):
        logs = each.fit(x, y, verbose=0).history
        assert set(logs) == {"loss", name, *_OURS[1:]}
        evaluated = each.evaluate(x, y, verbose=0)
        assert logs[name][0] == pytest.approx(evaluated, rel=1e-4)
        assert logs["loss"][0] == pytest.approx(logs[name][0] + logs["margin_penalty"][0], rel=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_the_logger_gives_way_to_a_metric_of_the_model():
    x, y = small_data()
    model = wrap_lightly(small_network())
    model.compile(keras.optimizers.SGD(0.0), LOSS, metrics=[Gap(name="margin")])
    logger = keras_amm.callbacks.MarginLogger((x, y))
    history = model.fit(x, y, validation_data=(x, y), epochs=2, callbacks=[logger], verbose=0).history
    gap = model.evaluate(x, y, verbose=0, return_dict=True)["margin"]
    np.testing.assert_allclose(history["val_margin"], gap, rtol=1e-5)
    np.testing.assert_allclose(history["val_amm_margin"], logger.report.margin, rtol=1e-5)
