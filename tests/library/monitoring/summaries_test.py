"""MarginLogger: what it writes for TensorBoard."""

import copy

import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.callbacks import MarginLogger
from keras_amm.measuring.measurer import Measurer
from keras_amm.monitoring.tensorboard import MarginSummaries
from tests.library.monitoring.training import X, Y, compiled, data_of, events, fit, linear, tensors

NAMES = ["ant", "bee", "cat", "dog"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The log directory of a training on small pictures, the last report, and what it is of."""
    x, y = data_of(60, (5, 5, 3), seed=7)
    model = compiled(linear((5, 5, 3)))
    log_dir = tmp_path_factory.mktemp("logs")
    logger = MarginLogger((x, y), log_dir, class_names=NAMES, num_images=4, radii=[0.5])
    model.fit(x, y, epochs=2, verbose=0, callbacks=[logger])
    return log_dir, logger.report, model, x, y


class TestSummaries:
    def test_all_are_there_at_every_epoch(self, written):
        log_dir, *_ = written
        tags = {
            f"margin/{name}"
            for name in (
                "mean median signed_mean paper_mean robust_accuracy_0.5 attack_success accuracy seconds correct "
                "misclassified most_predicted_share"
            ).split()
        }
        tags |= {f"margin_by_class/{name}" for name in NAMES}
        assert set(events(log_dir).Tags()["tensors"]) == tags | {"robust_accuracy", "smallest_margins"}
        assert all(tensors(log_dir, tag)[0] == [0, 1] for tag in tags)

    def test_the_norm_is_named(self, written, tmp_path):
        log_dir, report, *_ = written
        of_linf = copy.copy(report)
        of_linf.attack = {**report.attack, "norm": "linf"}
        summaries = MarginSummaries(tmp_path, radii=[0.5])
        summaries.write(of_linf, None, 0)
        summaries.close()
        tags = {f"margin/{name}" for name in ("paper_mean", "robust_accuracy_0.5", "correct", "misclassified")}
        for tag in tags | {"robust_accuracy"}:
            assert "l2" in events(log_dir).SummaryMetadata(tag).summary_description
            described = events(tmp_path).SummaryMetadata(tag).summary_description
            assert "linf" in described and "l2" not in described

    def test_scalars(self, written):
        log_dir, report, *_ = written
        for tag, name in (("mean", "margin"), ("median", "margin_median"), ("paper_mean", "mean")):
            assert tensors(log_dir, f"margin/{tag}")[1][-1] == pytest.approx(getattr(report, name))
        for name in ("signed_mean", "accuracy", "seconds", "most_predicted_share"):
            assert tensors(log_dir, f"margin/{name}")[1][-1] == pytest.approx(getattr(report, name))
        assert tensors(log_dir, "margin/robust_accuracy_0.5")[1][-1] == pytest.approx(report.robust_accuracy(0.5))
        assert tensors(log_dir, "margin/attack_success")[1][-1] == report.success_rate

    def test_class_means_add_up_to_the_mean(self, written):
        log_dir, report, *_ = written
        means = [tensors(log_dir, f"margin_by_class/{name}")[1][-1] for name in NAMES]
        counts = np.bincount(report.labels)
        assert np.sum(means * counts) / np.sum(counts) == pytest.approx(report.margin, rel=1e-5)
        assert means[2] == pytest.approx(np.mean(report.margins[report.labels == 2]), rel=1e-5)

    def test_histograms_are_apart(self, written):
        log_dir, report, *_ = written
        for name, mask in (("correct", report.correct), ("misclassified", ~report.correct)):
            edges_and_counts = tensors(log_dir, f"margin/{name}")[1][-1]
            # Of misclassified images, the distance to the label.
            distances = np.abs(report.signed[mask])
            counts, _ = np.histogram(distances, bins=len(edges_and_counts))
            assert np.sum(edges_and_counts[:, 2]) == np.sum(mask) > 0
            assert np.max(np.abs(edges_and_counts[:, 2] - counts)) <= 1  # edges in another precision
            assert edges_and_counts[0, 0] == pytest.approx(np.min(distances))
            assert edges_and_counts[-1, 1] == pytest.approx(np.max(distances))

    @pytest.mark.parametrize("tag", ["robust_accuracy", "smallest_margins"])
    def test_images_are_pictures(self, written, tag):
        width, height, *pngs = tensors(written[0], tag)[1][-1]
        pixels = tf.io.decode_png(pngs[0]).numpy()
        assert pixels.shape[:2] == (int(height), int(width)) and len(pngs) == 1
        assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 20

    def test_the_images_shown_are_those_of_the_smallest_margins(self, written):
        _, report, model, x, y = written
        measurer = Measurer(model, num_nearest=4)
        for start in range(0, 60, 20):
            measurer.add(x[start : start + 20], y[start : start + 20])
        found = measurer.nearest()
        order = np.argsort(report.norms)[:4]
        np.testing.assert_array_equal(found.images, x[order])
        np.testing.assert_array_equal(found.labels, y[order])
        np.testing.assert_allclose(np.linalg.norm(found.deltas.reshape(4, -1), axis=1), report.norms[order], rtol=1e-5)
        predicted = [np.argmax(model(images), axis=1) for images in (found.images, found.images + found.deltas)]
        np.testing.assert_array_equal(found.predictions, predicted[0])
        np.testing.assert_array_equal(found.perturbed, predicted[1])
        assert np.all(found.predictions != found.perturbed)

    @pytest.mark.parametrize(("step_freq", "expected"), [(None, ["epoch 1", "epoch 0"]), (5, ["step 10", "step 5"])])
    def test_curves_are_named_as_the_axis_counts(self, step_freq, expected, tmp_path, monkeypatch):
        drawn = []
        draw = keras_amm.plots.robust_accuracy
        monkeypatch.setattr(keras_amm.plots, "robust_accuracy", lambda reports: drawn.append(reports) or draw(reports))
        fit(MarginLogger((X, Y), tmp_path, step_freq=step_freq))
        assert [*drawn[-1]] == expected and tensors(tmp_path, "robust_accuracy")[0][-1] == int(expected[0].split()[1])

    def test_vectors_have_no_pictures(self, tmp_path):
        fit(MarginLogger((X, Y), tmp_path), epochs=1)
        assert "smallest_margins" not in events(tmp_path).Tags()["tensors"]
