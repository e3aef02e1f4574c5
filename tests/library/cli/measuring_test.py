"""Measuring from the command line: progress, and what becomes of an interruption."""

import itertools
import sys

import keras
import numpy as np
import pytest

import keras_amm
from keras_amm.cli import images, measuring
from keras_amm.cli.loading import Request
from keras_amm.cli.pixels import Pixels
from keras_amm.measuring.measurer import Measurer
from tests.library.cli.command_line import command, saved
from tests.library.cli.linear_models import NUM_IMAGES, SHAPE, linear


class TestInterruption:
    """Whatever ends a measurement, what was measured is written."""

    @pytest.mark.parametrize(
        ("models", "error", "status"),
        [
            (["one.keras", "two.keras"], KeyboardInterrupt(), 130),
            (["one.keras"], ValueError("bad label"), 1),
            (["one.keras"], RuntimeError("a bug"), None),
        ],
    )
    def test_keeps_what_was_measured(self, folder, models, error, status, monkeypatch, tmp_path, capsys):
        calls, add = itertools.count(), Measurer.add

        def failing(measurer, x, y):
            # In the fourth batch, and there with the last model.
            if next(calls) == 4 * len(models) - 1:
                raise error
            add(measurer, x, y)

        monkeypatch.setattr(Measurer, "add", failing)
        data = f"--dataset={folder / 'images.npz'}"
        arguments = ["compare" if len(models) > 1 else "margins", *models, data, "--batch_size=4", f"--out={tmp_path}"]
        if status is None:
            with pytest.raises(RuntimeError, match="a bug"):
                command(*arguments, folder=folder)
        else:
            assert command(*arguments, folder=folder) == status
        monkeypatch.setattr(Measurer, "add", add)
        with np.load(folder / "images.npz") as arrays:
            x, y = arrays["x_test"][:12] / np.float32(255.0), arrays["y_test"][:12]
        for model in models:
            part = saved(tmp_path / f"{model.removesuffix('.keras')}-margins.json")
            attack = keras_amm.DeepFool.from_config(part.attack)
            expected = keras_amm.evaluate_margins(keras.models.load_model(folder / model), (x, y), attack, verbose=0)
            np.testing.assert_allclose(part.norms, expected.norms, rtol=1e-4)
            np.testing.assert_allclose(part.signed, expected.signed, rtol=1e-4)
        printed = capsys.readouterr()
        assert "12 of 40 images" in printed.out and "ended early" in printed.out
        assert (printed.err == "") == (status is None)

    def test_while_the_last_misclassified_images_are_attacked(self, folder, monkeypatch, tmp_path, capsys):
        search_labels, failures = Measurer._search_labels, iter([KeyboardInterrupt()])

        def interrupted(measurer, unsigned):
            for failure in failures:
                raise failure
            search_labels(measurer, unsigned)

        monkeypatch.setattr(Measurer, "_search_labels", interrupted)
        data = f"--dataset={folder / 'images.npz'}"
        assert command("margins", "one.keras", data, f"--out={tmp_path}", folder=folder) == 130
        report = saved(tmp_path / "one-margins.json")
        assert len(report) == NUM_IMAGES
        assert np.any(~report.correct) and np.all(report.signed[~report.correct] < 0)
        assert "ended early" in capsys.readouterr().out

    def test_before_anything_was_measured(self, folder, monkeypatch, tmp_path, capsys):
        def interrupted(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(Measurer, "add", interrupted)
        data = f"--dataset={folder / 'images.npz'}"
        assert command("margins", "one.keras", data, f"--out={tmp_path}", folder=folder) == 130
        assert capsys.readouterr().err == "keras-amm: stopped.\n" and not list(tmp_path.iterdir())


def test_progress_is_shown(monkeypatch, capsys):
    models = {"one": linear(0)}

    def measure():
        x = np.random.default_rng(0).normal(size=(NUM_IMAGES, *SHAPE))
        noise = images.Images((x, np.arange(NUM_IMAGES) % 3), NUM_IMAGES, False, "noise")
        measuring.measure(Request(models, noise, Pixels(1.0, (0.0,)), {"one": keras_amm.DeepFool()}, batch_size=20))
        return capsys.readouterr()

    monkeypatch.setattr(measuring, "_SECONDS_BETWEEN_LINES", 0.0)
    assert measure() == ("", "20 of 40 images\n40 of 40 images\n")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "40/40" in measure().err
