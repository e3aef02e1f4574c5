"""Saving, loading, checkpoints and backups."""

import functools
import pathlib
import pickle

import keras
import numpy as np
import pytest

import keras_amm
from tests.helpers.networks import (
    LOSS,
    assert_same_weights,
    small_data,
    small_network,
)
from tests.library.gradient.regularizer_test import farthest, squared_plus


def _model(**arguments):
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", **{"c": 1.5, "screening": 0.5, "gradient": "boundary", **arguments}
    )
    model = keras_amm.wrap(
        small_network(keras.layers.BatchNormalization()), regularizer=regularizer, attack=keras_amm.DeepFool(4, 3)
    )
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), LOSS, metrics=["accuracy"])
    return model


@pytest.mark.usefixtures("eagerly")
def test_round_trip_continues_as_if_nothing_had_happened(tmp_path):
    x, y = small_data(32)
    model = _model()
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded) is keras_amm.AMMModel
    assert loaded.regularizer.get_config() == model.regularizer.get_config()
    assert loaded.attack.get_config() == model.attack.get_config()
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
    histories = [m.fit(x, y, batch_size=16, shuffle=False, verbose=0).history for m in (model, loaded)]
    assert histories[0].keys() == histories[1].keys()
    for name in histories[0]:
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-4)
    assert_same_weights(model, loaded)
    np.testing.assert_allclose(model.optimizer.iterations, loaded.optimizer.iterations)


@pytest.mark.usefixtures("eagerly")
def test_registered_callables_and_schedules_survive(tmp_path):
    x, y = small_data(32)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 2.0)
    model = _model(strength=schedule, aggregation=farthest, shrinkage=squared_plus, screening=None)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert float(loaded.margin_penalty(x, y)) == pytest.approx(float(model.margin_penalty(x, y)), rel=1e-5)


def test_unregistered_callables_are_refused(tmp_path):
    model = _model(shrinkage=lambda t: t)
    with pytest.raises(ValueError, match="register_keras_serializable"):
        model.save(tmp_path / "m.keras")


def test_the_classifier_saves_alone(tmp_path):
    x, _ = small_data()
    model = _model()
    model.base_model.save(tmp_path / "base.keras")
    loaded = keras.models.load_model(tmp_path / "base.keras")
    assert not isinstance(loaded, keras_amm.AMMModel)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
    model.base_model.export(tmp_path / "export", verbose=False)


@pytest.mark.usefixtures("eagerly")
def test_checkpoint_and_weights(tmp_path):
    x, y = small_data(32)
    model = _model()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="loss", save_best_only=True)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[checkpoint])
    assert isinstance(keras.models.load_model(tmp_path / "best.keras"), keras_amm.AMMModel)
    model.save_weights(tmp_path / "m.weights.h5")
    other = _model()
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "m.weights.h5")
    assert_same_weights(other, model)


class _Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("eagerly")
def test_backup_and_restore(tmp_path):
    x, y = small_data(16)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    def model():
        made = keras_amm.wrap(small_network(keras.layers.BatchNormalization()))
        made.compile(keras.optimizers.SGD(0.05, momentum=0.9), LOSS)
        return made

    arguments = {"batch_size": 16, "epochs": 4, "shuffle": False, "verbose": 0}
    straight = model()
    straight.fit(x, y, **arguments)
    with pytest.raises(KeyboardInterrupt):
        model().fit(x, y, callbacks=[backup(), _Interrupt()], **arguments)
    resumed = model()
    resumed.fit(x, y, callbacks=[backup()], **arguments)
    assert_same_weights(resumed, straight)
    for one, other in zip(resumed.regularizer.running.variables, straight.regularizer.running.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
        assert np.any(np.asarray(one) != 0.0)


def test_own_functions_are_saved_by_name():
    own = keras_amm.MarginRegularizer.from_paper(
        "min-exp", aggregation=keras_amm.aggregation.min, shrinkage=keras_amm.shrinkage.exp, screening=0.3
    )
    assert own.get_config()["aggregation"] == "min"
    assert own.get_config()["shrinkage"] == "exp"


def test_unregistered_parts_are_refused():
    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 1.0

    with pytest.raises(ValueError, match="custom schedule can be saved only if"):
        keras_amm.MarginRegularizer.from_paper("min-exp", strength=Schedule()).get_config()
    with pytest.raises(ValueError, match="custom shrinkage can be saved only if"):
        keras_amm.MarginRegularizer.from_paper(
            "min-exp", shrinkage=functools.partial(keras_amm.shrinkage.exp)
        ).get_config()


def test_attacks_are_pickled():
    attack = pickle.loads(pickle.dumps(keras_amm.DeepFool(overshoot=0.1)))
    assert attack.get_config() == keras_amm.DeepFool(overshoot=0.1).get_config()


def test_a_model_saved_before_the_modules_moved():
    """Its file names modules of the package by the paths that they had, and holds its optimizer and all settings."""
    fixtures = pathlib.Path(__file__).parents[2] / "fixtures"
    with np.load(fixtures / "amm_model.npz") as file:
        expected = dict(file)
    model = keras.models.load_model(fixtures / "amm_model.keras")
    assert type(model) is keras_amm.AMMModel
    assert (model.regularizer.shrinkage, model.regularizer.gradient, model.attack.overshoot) == (
        "inv",
        "boundary",
        0.05,
    )
    assert int(model.optimizer.iterations) == expected["iterations"] == 6
    x, y = expected["x"], expected["y"]
    np.testing.assert_allclose(model.predict(x, verbose=0), expected["predictions"], rtol=1e-5)
    report = keras_amm.evaluate_margins(model, (x, y), verbose=0)
    np.testing.assert_allclose(report.norms, expected["norms"], rtol=1e-4)
    np.testing.assert_allclose(report.signed, expected["signed"], rtol=1e-4)
    normalisation = next(layer for layer in model.base_model.layers if "normalization" in layer.name)
    # Frozen, it normalises by its moving statistics, as those of a training step were when the file was made.
    normalisation.trainable = False
    np.testing.assert_allclose(model.margin_penalty(x, y), expected["penalty"], rtol=1e-4)
    normalisation.trainable = True
    model.fit(x, y, batch_size=4, verbose=0)
    assert int(model.optimizer.iterations) == 9
