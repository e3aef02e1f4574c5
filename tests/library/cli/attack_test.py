"""`keras-amm attack`: the nearest decision boundary of one image."""

import keras
import numpy as np
import pytest

from tests.library.cli.command_line import assert_one_line, command
from tests.library.cli.linear_models import MEAN, SHAPE, Subclassed, closed_form, linear


class TestAttack:
    def test_closed_form(self, folder, scaled, tmp_path, capsys):
        image = folder / "images/test/class 0/003.png"
        status = command(
            "attack", "one.keras", image, f"--mean={MEAN}", "--class_names=a,b,c", f"--out={tmp_path}", folder=folder
        )
        assert status == 0
        (distance,), (before,) = closed_form(keras.models.load_model(folder / "one.keras"), scaled[3:4])
        lines = capsys.readouterr().out.splitlines()
        assert f"class before    {'abc'[before]}" in lines[1] and f"class after     {'abc'[before]}" not in lines[2]
        assert float(lines[3].split()[1]) == pytest.approx(distance, rel=2e-3)
        assert "bisected 10 times" in lines[3] and "steps           1 of at most 6" in lines[5]
        for kind in ("perturbation", "boundary"):
            assert (tmp_path / f"one-003-{kind}.png").stat().st_size > 5000

    def test_another_attack(self, folder, scaled, tmp_path, capsys):
        image = folder / "images/test/class 0/003.png"
        flags = [f"--mean={MEAN}", "--attack=fmn", f"--out={tmp_path}"]
        assert command("attack", "one.keras", image, *flags, folder=folder) == 0
        (distance,), _ = closed_form(keras.models.load_model(folder / "one.keras"), scaled[3:4])
        lines = capsys.readouterr().out.splitlines()
        assert float(lines[3].split()[1]) == pytest.approx(distance, rel=2e-3)
        assert "steps           31, by FastMinimumNorm" in lines[5]

    def test_the_distance_ends_on_the_boundary(self, folder, scaled, tmp_path, capsys):
        """Where the slope grows on the way, one linear step goes far beyond the boundary."""
        model = keras.Sequential(
            [
                keras.Input(SHAPE),
                keras.layers.Flatten(),
                keras.layers.Dense(1, activation="exponential"),
                keras.layers.Dense(2),
            ]
        )
        # exp(u) - e and 0, in which u is a coordinate of unit length.
        weights = ([[1 / 8]] * 64, [-4.0], [[1.0, 0.0]], [-np.e, 0.0])
        model.set_weights([np.array(w) for w in weights])
        model.save(tmp_path / "curved.keras")
        u = np.sum(scaled[3] + MEAN) / 8 - 4
        assert u < 1
        image = folder / "images/test/class 0/003.png"
        assert command("attack", tmp_path / "curved.keras", image, f"--out={tmp_path}", folder=folder) == 0
        # The step is 1.02 * (exp(1 - u) - 1).
        assert float(capsys.readouterr().out.splitlines()[3].split()[1]) == pytest.approx(1 - u, rel=2e-3)

    def test_images_without_channels_and_subclassed_models(self, folder, scaled, tmp_path, capsys):
        image, subclassed = folder / "images/test/class 0/003.png", Subclassed()
        subclassed.build((None, *SHAPE))
        subclassed.save(tmp_path / "subclassed.keras")
        linear(0, SHAPE[:2]).save(tmp_path / "flat.keras")
        for name, flags in (("subclassed", ["--image_size=8,8,1", "--class_names=a,b,c"]), ("flat", [])):
            path = tmp_path / f"{name}.keras"
            assert command("attack", path, image, *flags, f"--out={tmp_path}", folder=folder) == 0
            assert "8 x 8 grayscale" in capsys.readouterr().out
            assert (tmp_path / f"{name}-003-perturbation.png").is_file()
        arguments = ("attack", tmp_path / "subclassed.keras", image, "--image_size=8,8,1", "--class_names=cat")
        assert command(*arguments, f"--out={tmp_path}", folder=folder) == 1
        assert_one_line(capsys, "--class_names must name all 3 classes. Received: 1 names.")

    def test_other_size_and_colours(self, folder, tmp_path):
        keras.utils.save_img(tmp_path / "big.png", np.random.rand(20, 30, 3))
        assert command("attack", "one.keras", tmp_path / "big.png", f"--out={tmp_path}", folder=folder) == 0

    def test_no_boundary(self, folder, tmp_path, capsys):
        model = linear(0)
        model.layers[-1].set_weights([np.zeros((64, 3)), np.array([2.0, 0.0, 0.0])])
        model.save(tmp_path / "flat.keras")
        image = folder / "images/test/class 0/003.png"
        assert command("attack", tmp_path / "flat.keras", image, f"--out={tmp_path}", folder=folder) == 0
        assert "No boundary was reached" in capsys.readouterr().out
