"""`--deviation`: pixels divided by it, and margins in the units before the division."""

import keras
import numpy as np
import pytest

import keras_amm
from tests.library.cli.command_line import assert_one_line, command, saved
from tests.library.cli.linear_models import MEAN, closed_form

PIXELS = (f"--mean={MEAN}", "--deviation=0.5")


@pytest.fixture
def data(folder):
    return f"--dataset={folder / 'images.npz'}"


def test_margins(folder, scaled, data, tmp_path, capsys):
    assert command("margins", "one.keras", data, *PIXELS, f"--out={tmp_path}", folder=folder) == 0
    report = saved(tmp_path / "one-margins.json")
    # Of a linear classifier, distances are half as long in units that are twice as long.
    distances, predictions = closed_form(keras.models.load_model(folder / "one.keras"), scaled / 0.5)
    np.testing.assert_array_equal(report.predictions, predictions)
    np.testing.assert_allclose(report.norms, 1.02 * 0.5 * distances, rtol=1e-4)
    printed = capsys.readouterr().out
    assert "(1/255 * pixels - 0.25) / 0.5" in printed and "pixel units" in printed


def test_attack(folder, scaled, tmp_path, capsys):
    image = folder / "images/test/class 0/003.png"
    assert command("attack", "one.keras", image, *PIXELS, f"--out={tmp_path}", folder=folder) == 0
    (distance,), _ = closed_form(keras.models.load_model(folder / "one.keras"), scaled[3:4] / 0.5)
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[3].split()[1]) == pytest.approx(0.5 * distance, rel=2e-3)
    assert "the pixels before their division" in lines[3]
    assert command("attack", "one.keras", image, "--deviation=0", f"--out={tmp_path}", folder=folder) == 1
    assert_one_line(capsys, "`deviation` must be a positive number")


def test_the_deviation_that_a_model_was_trained_with_holds_for_all(folder, scaled, tmp_path, capsys):
    """They are of the images, which are the same for all models; here they are divided already."""
    data = f"--dataset={tmp_path / 'divided.npz'}"
    np.savez(tmp_path / "divided.npz", x_test=scaled / 0.5, y_test=np.load(folder / "images.npz")["y_test"])
    for name, deviation in (("half", 0.5), ("third", 1 / 3)):
        model = keras_amm.wrap(
            keras.models.load_model(folder / "one.keras"), attack=keras_amm.DeepFool(deviation=deviation)
        )
        model.save(tmp_path / f"{name}.keras")
    arguments = ("compare", "one.keras", tmp_path / "half.keras", data, f"--out={tmp_path}")
    assert command(*arguments, folder=folder) == 0
    one, half = (saved(tmp_path / f"{name}-margins.json") for name in ("one", "half"))
    np.testing.assert_allclose(one.norms, half.norms, rtol=1e-6)
    assert one.attack["deviation"] == half.attack["deviation"] == 0.5
    capsys.readouterr()
    assert command("compare", tmp_path / "third.keras", *arguments[2:], folder=folder) == 1
    assert_one_line(capsys, "divided by different deviations cannot be compared")


def test_images_that_nothing_has_divided_are_refused(folder, data, scaled, tmp_path, capsys):
    """A model that was wrapped with a deviation takes divided images, which 8-bit ones are not."""
    network = keras.models.load_model(folder / "one.keras")
    path = tmp_path / "wrapped.keras"
    keras_amm.wrap(network, attack=keras_amm.DeepFool(deviation=0.5)).save(path)
    image = folder / "images/test/class 0/003.png"
    for arguments in (("margins", path, data), ("attack", path, image)):
        assert command(*arguments, f"--mean={MEAN}", f"--out={tmp_path}", folder=folder) == 1
        assert_one_line(capsys, "Add --deviation=0.5, and --mean if a mean was subtracted")
    assert command("margins", path, data, *PIXELS, f"--out={tmp_path}", folder=folder) == 0
    distances, _ = closed_form(network, scaled / 0.5)
    np.testing.assert_allclose(saved(tmp_path / "wrapped-margins.json").norms, 1.02 * 0.5 * distances, rtol=1e-4)
