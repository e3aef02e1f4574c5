"""evaluate_margins against closed forms, and over every kind of data it takes."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.margins import evaluate_margins
from keras_amm.measuring import measurer
from keras_amm.measuring.measurer import Measurer
from tests.library.measuring.problems import (
    CLASSES,
    INPUTS,
    Batches,
    assert_same,
    closed_form,
    data_of,
    linear,
    weights_of,
)


@pytest.fixture(scope="module")
def problem():
    """A classifier, images and labels. Not to be changed: one model means one compilation."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((INPUTS,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(CLASSES, "softmax")]
    )
    return model, *data_of()


@pytest.mark.usefixtures("eagerly")
class TestClosedForm:
    @pytest.mark.parametrize("num_classes", [2, 4, 12])
    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_linear(self, num_classes, activation):
        x, y = data_of(num_classes)
        weights, bias = weights_of(num_classes)
        predictions, distances = closed_form(x, weights, bias)
        attack = keras_amm.DeepFool(num_candidates=num_classes, overshoot=0.05)
        report = evaluate_margins(linear(weights, bias, activation), (x, y), attack, verbose=0)
        np.testing.assert_array_equal(report.predictions, predictions)
        np.testing.assert_allclose(report.norms, 1.05 * distances, rtol=1e-4)
        assert report.success.all()
        assert report.mean == pytest.approx(1.05 * distances.mean(), rel=1e-4)
        assert report.accuracy == np.mean(predictions == y)

    def test_refinement_finds_the_boundary(self):
        x, y = data_of()
        weights, bias = weights_of()
        attack = keras_amm.DeepFool(overshoot=0.05, refine_steps=20)
        report = evaluate_margins(linear(weights, bias), (x, y), attack, verbose=0)
        np.testing.assert_allclose(report.norms, closed_form(x, weights, bias)[1], rtol=1e-4)

    def test_signed_binary(self):
        x, y = data_of(2)
        weights, bias = weights_of(2)
        predictions, distances = closed_form(x, weights, bias)
        sign = np.where(predictions == y, 1.0, -1.0)
        assert set(sign) == {1.0, -1.0}
        report = evaluate_margins(linear(weights, bias), (x, y), verbose=0)
        np.testing.assert_allclose(report.signed, 1.02 * sign * distances, rtol=1e-4)

    def test_signed_is_the_distance_to_the_label(self, problem):
        model, x, y = problem
        report = evaluate_margins(model, (x, y), verbose=0)
        right = report.predictions == y
        assert 0 < right.sum() < len(y)
        np.testing.assert_array_equal(report.signed[right], report.norms[right])
        towards = keras_amm.DeepFool().perturb(model, x[~right], y[~right]).norm.numpy()
        np.testing.assert_allclose(report.signed[~right], -towards, rtol=1e-5)
        # The label is no nearer than the nearest other class, up to the overshoot of several steps.
        assert np.all(-report.signed[~right] >= 0.9 * report.norms[~right])

    def test_failed_attacks_keep_how_far_they_went(self):
        x, y = data_of()
        weights, bias = weights_of()
        attack = keras_amm.DeepFool(max_iterations=1, overshoot=0.0)
        curved = keras.Sequential([linear(weights, bias), keras.layers.Lambda(lambda t: tf.nn.softplus(t - 3.0))])
        curved(x)
        report = evaluate_margins(curved, (x, y), attack, verbose=0)
        assert not report.success.all()
        assert np.all(np.isfinite(report.norms)) and np.all(report.norms > 0)

    def test_constant_network(self):
        x, y = data_of()
        with pytest.warns(UserWarning, match="gradient .* is zero"):
            report = evaluate_margins(linear(np.zeros((INPUTS, CLASSES)), np.arange(4.0)), (x, y), verbose=0)
        np.testing.assert_array_equal(report.norms, 0.0)
        np.testing.assert_array_equal(report.signed, 0.0)
        assert not report.success.any()
        assert report.robust_accuracy(0.0) == report.accuracy


class TestData:
    def test_forms_agree(self, problem):
        model, x, y = problem
        expected = evaluate_margins(model, (x, y), verbose=0)
        single = tf.data.Dataset.from_tensor_slices((x, y))
        forms = {
            "lists": [x.tolist(), y.tolist()],
            "tensors": (tf.constant(x), tf.constant(y)),
            "float64": (x.astype("float64"), y.astype("float64")),
            "weighted": (x, y, np.zeros(len(y))),
            "column": (x, y[:, None]),
            "one-hot": (x, np.eye(CLASSES)[y]),
            "smoothed": (x, 0.9 * np.eye(CLASSES)[y] + 0.1 / CLASSES),
            "batched": single.batch(16),
            "one batch": single.batch(len(y)),
            "unbatched": single,
            "unbatched one-hot": tf.data.Dataset.from_tensor_slices((x, np.eye(CLASSES)[y])),
            "unbatched weighted": tf.data.Dataset.from_tensor_slices((x, y, np.ones(len(y)))),
            "unknown cardinality": single.filter(lambda x, y: True).batch(16),
            "empty batches": single.batch(16).concatenate(single.take(0).batch(1)),
            "PyDataset": Batches(x, y, 16),
        }
        for name, form in forms.items():
            for batch_size in (None, 7):
                try:
                    assert_same(evaluate_margins(model, form, batch_size=batch_size, verbose=0), expected)
                except AssertionError as error:
                    raise AssertionError(f"{name}, batch_size={batch_size}: {error}") from error

    def test_named_tuples_with_a_length_of_their_own(self, problem):
        model, x, y = problem

        class Images(tuple):
            def __len__(self):
                return len(y)

        assert_same(evaluate_margins(model, Images((x, y)), verbose=0), evaluate_margins(model, (x, y), verbose=0))

    @pytest.mark.usefixtures("eagerly")
    def test_images_of_bytes(self):
        rng = np.random.default_rng(0)
        x = rng.integers(256, size=(20, 4, 4, 1)).astype("uint8")
        model = keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                keras.layers.Rescaling(1 / 255, name="to_unit"),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        report = evaluate_margins(model, (x, np.arange(20) % 3), verbose=0)
        weights, bias = model.get_weights()
        predictions, distances = closed_form(x.reshape(20, 16), weights / 255, bias)
        np.testing.assert_array_equal(report.predictions, predictions)
        np.testing.assert_allclose(report.norms, 1.02 * distances, rtol=1e-3)
        assert "before the model's own rescaling (to_unit)" in report.units
        assert "to_unit" in report.summary()

    @pytest.mark.parametrize(("batch_size", "sizes"), [(None, [32, 18]), (20, [20, 12, 18]), (100, [32, 18])])
    def test_batch_size_bounds_a_datasets_batches(self, problem, monkeypatch, batch_size, sizes):
        model, x, y = problem
        seen = spy_on_sizes(monkeypatch)
        evaluate_margins(model, tf.data.Dataset.from_tensor_slices((x, y)).batch(32), batch_size=batch_size, verbose=0)
        assert seen == sizes

    def test_batch_size_of_arrays(self, problem, monkeypatch):
        model, x, y = problem
        seen = spy_on_sizes(monkeypatch)
        evaluate_margins(model, (np.tile(x, (4, 1)), np.tile(y, 4)), verbose=0)
        evaluate_margins(model, (x, y), batch_size=20, verbose=0)
        assert seen == [128, 72, 20, 20, 10]

    def test_subclassed_model(self, problem):
        inner, x, y = problem

        class Model(keras.Model):
            def __init__(self):
                super().__init__()
                self.inner = inner

            def call(self, x):
                return self.inner(x)

        model = Model()
        model(x)
        for form in (
            (x, y),
            tf.data.Dataset.from_tensor_slices((x, y)),
            tf.data.Dataset.from_tensor_slices((x, y)).batch(9),
        ):
            assert_same(evaluate_margins(model, form, verbose=0), evaluate_margins(inner, (x, y), verbose=0))

    def test_model_that_remembers_the_batch_it_was_built_by(self):
        """Its input_shape says that it takes ten images; Keras's own predict and evaluate take any number."""
        weights, bias = weights_of()
        x, y = data_of()
        layer = keras.layers.Dense(CLASSES)
        model = keras.Sequential([layer])
        model(x[:10])
        layer.set_weights([weights, bias])
        assert model.input_shape == (10, INPUTS)
        _, norms = closed_form(x, weights, bias)
        np.testing.assert_allclose(evaluate_margins(model, (x, y), verbose=0).norms, 1.02 * norms, rtol=1e-4)

    @pytest.mark.usefixtures("eagerly")
    @pytest.mark.parametrize(("takes", "given"), [((INPUTS,), (INPUTS, 1)), ((INPUTS, 1), (INPUTS,))])
    def test_channel_axis_of_one(self, takes, given):
        """Keras's models take such images with or without it."""
        weights, bias = weights_of()
        x, y = data_of()
        layer = keras.layers.Dense(CLASSES)
        model = keras.Sequential([keras.Input(takes), keras.layers.Flatten(), layer])
        layer.set_weights([weights, bias])
        _, norms = closed_form(x, weights, bias)
        report = evaluate_margins(model, (x.reshape(-1, *given), y), verbose=0)
        np.testing.assert_allclose(report.norms, 1.02 * norms, rtol=1e-4)

    def test_eager(self, problem):
        model, x, y = problem
        expected = evaluate_margins(model, (x, y), verbose=0)
        tf.config.run_functions_eagerly(True)
        try:
            assert_same(evaluate_margins(model, (x, y), verbose=0), expected)
        finally:
            tf.config.run_functions_eagerly(False)


class TestModelAndAttack:
    def test_amm_model_is_its_classifier(self, problem):
        model, x, y = problem
        wrapped = keras_amm.wrap(model, attack=keras_amm.DeepFool(max_iterations=1, overshoot=3.0))
        report = evaluate_margins(wrapped, (x, y), verbose=0)
        assert_same(report, evaluate_margins(model, (x, y), verbose=0))
        assert report.model_name == model.name
        assert report.attack == keras_amm.DeepFool().get_config()

    def test_amm_model_says_whether_outputs_are_logits(self, problem):
        _, x, y = problem
        model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(CLASSES)])
        wrapped = keras_amm.wrap(model, attack=keras_amm.DeepFool(from_logits=True))
        assert evaluate_margins(wrapped, (x, y), verbose=0).attack["from_logits"] is True

    @pytest.mark.usefixtures("eagerly")
    def test_another_attack_takes_the_units_of_an_amm_model(self, problem):
        _, x, y = problem
        model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(CLASSES)])
        own = keras_amm.DeepFool(from_logits=True, deviation=0.3)
        attack = keras_amm.DeepFool(refine_steps=3)
        pixels = evaluate_margins(keras_amm.wrap(model, attack=own), (x, y), attack, verbose=0)
        images = evaluate_margins(model, (x, y), attack, verbose=0)
        np.testing.assert_allclose(pixels.norms, 0.3 * images.norms, rtol=1e-4)
        assert pixels.attack["from_logits"] is True and attack.deviation is None
        # One that says in which units it measures keeps them.
        attack = keras_amm.DeepFool(refine_steps=3, deviation=1.0)
        kept = evaluate_margins(keras_amm.wrap(model, attack=own), (x, y), attack, verbose=0)
        np.testing.assert_allclose(kept.norms, images.norms, rtol=1e-4)

    def test_leaves_weights_alone(self, problem):
        model, x, y = problem
        before = [w.copy() for w in model.get_weights()]
        evaluate_margins(model, (x, y), verbose=0)
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.usefixtures("eagerly")
    def test_attack_is_used(self, problem):
        model, x, y = problem
        small, large = (
            evaluate_margins(model, (x, y), keras_amm.DeepFool(overshoot=overshoot), verbose=0)
            for overshoot in (0.02, 0.5)
        )
        assert large.mean > 1.2 * small.mean
        assert large.attack["overshoot"] == 0.5

    def test_new_weights_count(self, problem):
        model, x, y = problem
        before, weights = evaluate_margins(model, (x, y), verbose=0), model.get_weights()
        try:
            model.set_weights([-w for w in weights])
            after = evaluate_margins(model, (x, y), verbose=0)
        finally:
            model.set_weights(weights)
        assert not np.allclose(before.norms, after.norms)

    @pytest.mark.usefixtures("eagerly")
    def test_dropout_is_off(self, problem):
        _, x, y = problem
        model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dropout(0.5), keras.layers.Dense(CLASSES)])
        one, other = (evaluate_margins(model, (x, y), verbose=0) for _ in range(2))
        np.testing.assert_array_equal(one.norms, other.norms)

    def test_traced_once_and_forgotten_with_the_model(self):
        x, y = data_of()
        weights, bias = weights_of()
        model = linear(weights, bias)
        for _ in range(2):
            evaluate_margins(model, (x, y), batch_size=20, verbose=0)
        # Of the search, and of that towards the labels.
        functions = [function for _, function in measurer._compiled._entries[model].values()]
        assert [function.experimental_get_tracing_count() for function in functions] == [1, 1]
        before = len(measurer._compiled._entries)
        del model, functions
        gc.collect()
        assert len(measurer._compiled._entries) < before


class TestProgress:
    def test_bar(self, problem, capsys):
        model, x, y = problem
        report = evaluate_margins(model, (x, y), batch_size=16)
        shown = capsys.readouterr().out
        assert "4/4" in shown
        assert f"margin: {report.margin:.4f}" in shown

    def test_one_line(self, problem, capsys):
        model, x, y = problem
        single = tf.data.Dataset.from_tensor_slices((x, y))
        for form in (single.batch(16), single.filter(lambda x, y: True).batch(16)):
            report = evaluate_margins(model, form, verbose=2)
            shown = capsys.readouterr().out
            assert len(shown.strip().splitlines()) == 1
            assert shown.startswith("4/4") and f"margin: {report.margin:.4f}" in shown

    def test_silence(self, problem, capsys):
        model, x, y = problem
        evaluate_margins(model, (x, y), verbose=0)
        assert capsys.readouterr().out == ""


def spy_on_sizes(monkeypatch):
    seen = []
    add = Measurer.add

    def spy(measurer, x, y):
        seen.append(len(x))
        add(measurer, x, y)

    monkeypatch.setattr(Measurer, "add", spy)
    return seen
