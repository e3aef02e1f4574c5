"""Networks without a gradient, whose margins cannot be known: the warning, wherever margins are measured."""

import warnings

import keras
import numpy as np
import pytest

import keras_amm
from tests.library.cli.command_line import command
from tests.library.measuring.problems import CLASSES, INPUTS, data_of, weights_of

X, Y = data_of()


@keras.saving.register_keras_serializable(package="tests")
class Rounded(keras.layers.Layer):
    def call(self, x):
        return keras.ops.cast(keras.ops.cast(64 * x, "int32"), "float32") / 64


def rounding():
    model = keras.Sequential([keras.Input((INPUTS,)), Rounded(), keras.layers.Dense(CLASSES)])
    model.set_weights([*weights_of()])
    return model


def test_a_cast_within_the_network():
    with pytest.warns(UserWarning, match="zero at 50 of the 50 images measured.*a cast to integers") as caught:
        report = keras_amm.evaluate_margins(rounding(), (X, Y), verbose=0)
    assert report.mean == report.success_rate == 0.0
    # It points at the line above.
    assert caught[0].filename == __file__


def test_every_measurement_of_a_training_says_so_once():
    model = rounding()
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.warns(UserWarning, match="zero at") as caught:
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[keras_amm.callbacks.MarginLogger((X, Y))])
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2 and all("zero at 50 of the 50 images" in message for message in messages)


@pytest.mark.parametrize(("dead", "warns"), [(24, False), (25, True)])
def test_half_of_the_images(dead, warns):
    """A unit that is dead at some images."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "relu"), keras.layers.Dense(2)])
    model.set_weights([np.ones((1, 1)), np.zeros(1), np.array([[1.0, -1.0]]), np.array([-1.0, 0.5])])
    x = np.where(np.arange(50) < dead, -1.0, 1.0)[:, None]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keras_amm.evaluate_margins(model, (x, np.zeros(50)), verbose=0)
    assert [f"{dead} of the 50 images" in str(warning.message) for warning in caught] == [True] * warns


def test_zero_weights_at_a_boundary_are_no_reason():
    """There the margin is known: it is 0."""
    model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(CLASSES, kernel_initializer="zeros")])
    report = keras_amm.evaluate_margins(model, (X, Y), verbose=0)
    assert report.mean == 0.0 and report.success_rate == 1.0


def test_on_the_command_line(tmp_path, capsys):
    keras.Sequential([keras.Input((2, 2, 1)), Rounded(), keras.layers.Flatten(), keras.layers.Dense(3)]).save(
        tmp_path / "rounding.keras"
    )
    out = f"--out={tmp_path}"
    images = np.random.default_rng(0).integers(0, 256, (8, 2, 2), dtype="uint8")
    np.savez(tmp_path / "images.npz", x_test=images, y_test=np.arange(8) % 3)
    assert command("margins", "rounding.keras", f"--dataset={tmp_path / 'images.npz'}", out, folder=tmp_path) == 0
    assert "rounding: The gradient" in (error := capsys.readouterr().err) and "8 of the 8 images" in error
    keras.utils.save_img(tmp_path / "image.png", images[0][..., None], scale=False)
    assert command("attack", "rounding.keras", "image.png", out, folder=tmp_path) == 0
    assert "is zero at this image" in capsys.readouterr().out
