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
from tests.library.cli.linear_models import NUM_IMAGES, SHAPE, Subclassed, linear


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
            measured = np.sort(
                images.open_images(images.ImageOptions(str(folder / "images.npz")), linear(0)).order[:12]
            )
            x, y = arrays["x_test"][measured] / np.float32(255.0), arrays["y_test"][measured]
        for model in models:
            part = saved(tmp_path / f"{model.removesuffix('.keras')}-margins.json")
            attack = keras_amm.DeepFool.from_config(part.attack)
            expected = keras_amm.evaluate_margins(keras.models.load_model(folder / model), (x, y), attack, verbose=0)
            np.testing.assert_allclose(part.norms, expected.norms, rtol=1e-4)
            np.testing.assert_allclose(part.signed, expected.signed, rtol=1e-4)
        printed = capsys.readouterr()
        assert "12 of 40 images" in printed.out and "ended early" in printed.out
        assert ", ".join(f"{np.sum(y == k)} of class {k}" for k in range(3)) in printed.out and set(y) == {0, 1, 2}
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


def noise(seed=0):
    x = np.random.default_rng(seed).normal(size=(NUM_IMAGES, *SHAPE))
    return images.Images((x, np.arange(NUM_IMAGES) % 3), NUM_IMAGES, False, "noise")


def measure_noise(*names):
    models = {name: linear(seed) for seed, name in enumerate(names)}
    attacks = dict.fromkeys(names, keras_amm.DeepFool())
    return measuring.measure(Request(models, noise(), Pixels(1.0, (0.0,)), attacks, batch_size=20))


class TestProgress:
    """The numbers shown are named: they are mean margins of the images so far."""

    @pytest.mark.parametrize(
        ("names", "titles"),
        [(["one"], ["mean margin"]), (["one", "two"], ["mean margin of one", "mean margin of two"])],
    )
    def test_in_a_log(self, names, titles, monkeypatch, capsys):
        monkeypatch.setattr(measuring, "_SECONDS_BETWEEN_LINES", 0.0)
        reports = measure_noise(*names).reports.values()
        printed = capsys.readouterr()
        assert printed.out == ""
        expected = [
            f"{number} of 40 images: "
            + ", ".join(
                f"{title} {np.mean(report.margins[:number]):.4f}" for title, report in zip(titles, reports, strict=True)
            )
            for number in (20, 40)
        ]
        assert printed.err.splitlines() == expected

    def test_in_a_log_of_short_work(self, capsys):
        measure_noise("one")
        assert capsys.readouterr() == ("", "")

    def test_on_a_terminal(self, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        mean = measure_noise("one").reports["one"].margin
        printed = capsys.readouterr()
        assert "40/40" in printed.err and f"mean margin: {mean:.4f}" in printed.err and printed.out == ""


class TestCountsOfClasses:
    def test_few_classes(self):
        assert measure_noise("one").classes == "14 of class 0, 13 of class 1, 13 of class 2"

    def test_classes_without_images_and_names(self):
        images_of_two = noise()._replace(class_names=["cat", "dog", "owl", "elk"], number=None)
        images_of_two.data[1][:] = np.arange(NUM_IMAGES) % 2
        model = linear(0, classes=4)
        request = Request({"one": model}, images_of_two, Pixels(1.0, (0.0,)), {"one": keras_amm.DeepFool()}, 40)
        assert measuring.measure(request).classes == "20 of cat, 20 of dog, 0 of owl, 0 of elk"

    def test_fewer_names_than_classes_of_a_model_and_more_than_it_tells(self):
        named = noise()._replace(class_names=["cat", "dog", "owl"])
        named.data[1][:] = 0
        models = {"one": linear(0), "two": linear(1, classes=4)}
        request = Request(models, named, Pixels(1.0, (0.0,)), dict.fromkeys(models, keras_amm.DeepFool()), 40)
        assert measuring.measure(request).classes == "40 of cat, 0 of dog, 0 of owl, 0 of class 3"
        subclassed = Subclassed()
        subclassed.build((None, *SHAPE))
        request = Request({"one": subclassed}, named, Pixels(1.0, (0.0,)), {"one": keras_amm.DeepFool()}, 40)
        assert measuring.measure(request).classes == "40 of cat, 0 of dog, 0 of owl"

    def test_many_classes(self):
        many = noise()
        many.data[1][:] = np.minimum(np.arange(NUM_IMAGES), 29)
        request = Request(
            {"one": linear(0, classes=30)}, many, Pixels(1.0, (0.0,)), {"one": keras_amm.DeepFool()}, batch_size=40
        )
        assert measuring.measure(request).classes == "1 to 11 of each of 30 classes"
