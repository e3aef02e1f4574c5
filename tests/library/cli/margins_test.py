"""`keras-amm margins`, on linear classifiers whose margins are known in closed form."""

import keras
import numpy as np
import pytest

import keras_amm
from tests.library.cli.command_line import command, saved
from tests.library.cli.linear_models import MEAN, SHAPE, closed_form, linear


class TestMargins:
    @pytest.mark.parametrize("dataset", ["images.npz", "images"])
    def test_closed_form(self, folder, scaled, dataset, tmp_path, capsys):
        data = f"--dataset={folder / dataset}"
        status = command("margins", "one.keras", data, f"--mean={MEAN}", f"--out={tmp_path}", folder=folder)
        assert status == 0
        report = saved(tmp_path / "one-margins.json")
        distances, predictions = closed_form(keras.models.load_model(folder / "one.keras"), scaled)
        np.testing.assert_allclose(report.norms, 1.02 * distances, rtol=2e-3)
        np.testing.assert_array_equal(report.predictions, predictions)
        np.testing.assert_array_equal(report.labels, np.load(folder / "images.npz")["y_test"])
        printed = capsys.readouterr().out
        assert report.summary().splitlines()[1] in printed and "Margins of one on 40 images" in printed
        assert "1/255 * pixels - 0.25" in printed and str(tmp_path / "one-margins.png") in printed
        assert (tmp_path / "one-margins.png").stat().st_size > 5000

    def test_floating_point_pixels_and_settings_of_the_attack(self, folder, tmp_path, capsys):
        settings = ["--overshoot=0.5", "--max_iterations=9", "--num_candidates=3", "--refine_steps=1", "--from_logits"]
        data = [f"--dataset={folder / 'images.npz'}", "--split=none"]
        assert command("margins", "one.keras", *data, *settings, f"--out={tmp_path}", folder=folder) == 0
        report = saved(tmp_path / "one-margins.json")
        assert report.attack == keras_amm.DeepFool(9, 3, 0.5, 1, True).get_config()
        distances, _ = closed_form(keras.models.load_model(folder / "one.keras"), np.load(folder / "images.npz")["x"])
        # Half of 1.5 is less than 1: the first bisection step stays where it was.
        np.testing.assert_allclose(report.norms, 1.5 * distances, rtol=2e-3)
        assert "(x, y); pixels\n" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("flags", "attack"),
        [
            (["--attack=fmn", "--steps=12", "--bounds=0,255"], keras_amm.FastMinimumNorm),
            (["--attack=superdeepfool", "--max_iterations=9"], keras_amm.SuperDeepFool),
        ],
    )
    def test_other_attacks(self, folder, scaled, tmp_path, capsys, flags, attack):
        data = [f"--dataset={folder / 'images.npz'}", f"--mean={MEAN}"]
        assert command("margins", "one.keras", *data, *flags, f"--out={tmp_path}", folder=folder) == 0
        report = saved(tmp_path / "one-margins.json")
        assert report.attack["name"] == attack.__name__
        distances, _ = closed_form(keras.models.load_model(folder / "one.keras"), scaled)
        # Within bounds, the nearest point is somewhat farther.
        assert np.all(report.norms > 0.999 * distances) and np.median(report.norms / distances) < 1.02
        printed = capsys.readouterr().out
        assert f"name={attack.__name__}" in printed
        if attack is keras_amm.FastMinimumNorm:
            # As the model takes the pixels.
            assert report.attack["steps"] == 12 and report.attack["bounds"] == [[-MEAN], [1 - MEAN]]
            assert "start=DeepFool(max_iterations=6" in printed
        else:
            assert report.attack["max_iterations"] == 9 and report.attack["refine_steps"] == 10

    def test_data_set_by_name(self, folder, tmp_path, monkeypatch, capsys):
        tfds = pytest.importorskip("tensorflow_datasets")
        images = np.random.default_rng(0).integers(0, 256, (9, *SHAPE), dtype="uint8")

        class TinyDigits(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = {"image": tfds.features.Image(shape=SHAPE), "label": tfds.features.ClassLabel(num_classes=3)}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
                )

            def _split_generators(self, dl_manager):
                return {"test": self._generate_examples()}

            def _generate_examples(self):
                yield from ((i, {"image": image, "label": i % 3}) for i, image in enumerate(images))

        monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
        arguments = ["margins", "one.keras", "--dataset=tiny_digits", f"--out={tmp_path}", "--split=test[:7]"]
        assert command(*arguments, folder=folder) == 1
        assert "'tiny_digits' is not prepared" in capsys.readouterr().err
        assert command(*arguments, "--download", folder=folder) == 0
        report = saved(tmp_path / "one-margins.json")
        everything = 1.02 * closed_form(keras.models.load_model(folder / "one.keras"), images / 255.0)[0]
        # Preparing has shuffled them.
        assert len(report) == 7
        assert all(np.min(np.abs(everything - norm)) < 2e-3 * norm for norm in report.norms)
        assert len(np.unique(report.norms)) == 7
        assert command(*arguments[:3], "--split=train", folder=folder) == 1
        assert "Unknown split" in capsys.readouterr().err

    def test_an_amm_model(self, folder, tmp_path):
        model = keras_amm.wrap(linear(0))
        model.compile("sgd", "mse")
        model.save(tmp_path / "amm.keras")
        data = f"--dataset={folder / 'images.npz'}"
        for path in (tmp_path / "amm.keras", "one.keras"):
            assert command("margins", path, data, f"--out={tmp_path}", folder=folder) == 0
        np.testing.assert_allclose(
            saved(tmp_path / "amm-margins.json").norms, saved(tmp_path / "one-margins.json").norms, rtol=1e-5
        )
