"""`keras-amm compare`: files and sentences, and its paired tests against brute force."""

import itertools
import json
import math

import numpy as np
import pytest

import keras_amm
from keras_amm.cli.paired_tests import paired_tests
from tests.library.cli.command_line import command, saved


class TestCompare:
    def test_side_by_side(self, folder, tmp_path, capsys):
        data = f"--dataset={folder / 'images.npz'}"
        assert command("compare", "one.keras", "two.keras", data, f"--out={tmp_path}", folder=folder) == 0
        one, two = (saved(tmp_path / f"{name}-margins.json") for name in ("one", "two"))
        content = json.loads((tmp_path / "comparison.json").read_text())
        assert content["first"] == "one" and content["models"]["two"]["mean"] == pytest.approx(two.mean)
        assert content["tests"]["two"]["larger"] == pytest.approx(np.mean(two.margins > one.margins))
        printed = capsys.readouterr().out
        assert "two against one" in printed and "Wilcoxon signed-rank" in printed and "exact McNemar" in printed
        assert content["models"]["two"]["margin"] == pytest.approx(two.margin)
        assert content["models"]["two"]["robust_accuracy"] == two.robust_accuracy(content["radii"]).tolist()
        assert len(content["radii"]) == 3 and all(f"at radius {radius:g}" in printed for radius in content["radii"])
        assert f"{one.margin:.4f}" in printed and f"{two.accuracy:.2%}" in printed
        for name in ("comparison-margins.png", "comparison-robust-accuracy.png"):
            assert (tmp_path / name).stat().st_size > 5000

    def test_radii(self, folder, tmp_path, capsys):
        data = [f"--dataset={folder / 'images.npz'}", "--num_images=20", "--radii", "0.25", "1/2"]
        assert command("compare", "one.keras", "two.keras", *data, f"--out={tmp_path}", folder=folder) == 0
        content = json.loads((tmp_path / "comparison.json").read_text())
        assert content["radii"] == [0.25, 0.5]
        one = saved(tmp_path / "one-margins.json")
        printed = capsys.readouterr().out
        assert "at radius 0.25  at radius 0.5  mean margin" in printed
        assert content["models"]["one"]["robust_accuracy"] == [np.mean(one.margins > radius) for radius in (0.25, 0.5)]


class TestPairedTests:
    def test_against_brute_force(self):
        rng = np.random.default_rng(3)
        norms = rng.uniform(size=(2, 9))
        predictions = np.array([[0, 0, 0, 0, 0, 0, 1, 0, 1], [1, 1, 1, 0, 0, 0, 1, 1, 0]])
        first, second = (
            keras_amm.MarginReport(norms=n, signed=n, predictions=p, labels=[1] * 9, success=[True] * 9)
            for n, p in zip(norms, predictions, strict=True)
        )
        found = paired_tests(first, second)
        # Misclassified images have margin 0; the two that both models get wrong tell nothing, and are left out.
        difference = np.where(predictions[1] == 1, norms[1], 0.0) - np.where(predictions[0] == 1, norms[0], 0.0)
        difference = difference.astype("float32").astype("float64")
        ranks = np.argsort(np.argsort(np.abs(difference)))
        ranks = ranks + 1 - np.sum(difference == 0.0)
        ranks, signs_seen = ranks[difference != 0.0], np.sign(difference[difference != 0.0])
        observed = np.sum(ranks * signs_seen)
        signs = np.array(list(itertools.product((-1, 1), repeat=len(ranks))))
        assert found.wilcoxon_p == pytest.approx(np.mean(np.abs(signs @ ranks) >= abs(observed)))
        assert (found.first_wrong, found.second_wrong) == (4, 1)
        assert found.mcnemar_p == pytest.approx(2 * sum(math.comb(5, k) for k in (0, 1)) / 2**5)
        assert found.larger == np.mean(difference > 0) and found.median_difference == np.median(difference)

    def test_equal_models(self):
        report = keras_amm.MarginReport(norms=[1.0], signed=[1.0], predictions=[0], labels=[0], success=[True])
        assert paired_tests(report, report) == (0.0, 0.0, 1.0, 0, 0, 1.0)

    def test_other_images(self):
        one, other = (
            keras_amm.MarginReport(norms=[1.0], signed=[1.0], predictions=[0], labels=[k], success=[True])
            for k in (0, 1)
        )
        with pytest.raises(ValueError, match="the same images"):
            paired_tests(one, other)
