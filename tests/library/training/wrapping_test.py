"""What `wrap` takes from its arguments and from a compiled classifier."""

import keras
import numpy as np
import pytest

import keras_amm
from tests.helpers.networks import LOSS, Subclassed, assert_same_weights, small_data, small_network

SETTINGS = {"strength": 4.0, "gradient": "boundary"}


class Count(keras.metrics.Metric):
    """How many times `unit` samples it has seen; its configuration lacks the unit."""

    def __init__(self, unit=1.0, **kwargs):
        super().__init__(**kwargs)
        self.unit = unit
        self.number = self.add_weight(name="number", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.number.assign_add(keras.ops.cast(keras.ops.shape(y_pred)[0], "float32"))

    def result(self):
        return self.number / self.unit


class CountOfOne(Count):
    """One whose configuration is complete."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


def fit(model, **arguments):
    x, y = small_data()
    return model.fit(x, y, **{"batch_size": 24, "shuffle": False, "verbose": 0, **arguments}).history


class TestSettings:
    def test_they_make_the_regularizer(self):
        model = keras_amm.wrap(small_network(), strength=8.0, shrinkage="lin", max_influence=1.0)
        wanted = keras_amm.MarginRegularizer(8.0, shrinkage="lin", max_influence=1.0, name="a")
        got = {**model.regularizer.get_config(), "name": "a"}
        assert got == wanted.get_config()
        assert keras_amm.model.wrap is keras_amm.wrap

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"strenght": 8}, r"'strenght' is none of them\. Did you mean 'strength'\? Received: strenght=8\."),
            ({"gradients": "boundary"}, r"Did you mean 'gradient'\? Received: gradients='boundary'\."),
            ({"overshoot": 0.1}, r"It is one of DeepFool: attack=keras_amm\.DeepFool\(overshoot=0\.1\)\."),
            ({"xyz": 1}, r"They are strength, aggregation, .*Received: xyz=1\."),
        ],
    )
    def test_unknown(self, settings, message):
        with pytest.raises(TypeError, match=message):
            keras_amm.wrap(small_network(), strength=8, **settings)

    def test_out_of_range_or_twice(self):
        with pytest.raises(ValueError, match="`strength` must be"):
            keras_amm.wrap(small_network(), strength=-1.0)
        with pytest.raises(ValueError, match=r"but not both\. Received: regularizer=.* and \{'c': 1\.0\}"):
            keras_amm.wrap(small_network(), regularizer=keras_amm.MarginRegularizer(), c=1.0)


@pytest.mark.usefixtures("eagerly")
class TestCompiled:
    def test_as_if_compiled_by_hand(self):
        """After an epoch of plain training with momentum, both go on alike, and the optimizer goes on counting."""
        arguments = {
            "loss": LOSS,
            "metrics": ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")],
            "weighted_metrics": [keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="weighted")],
            "loss_weights": 0.5,
            "steps_per_execution": 2,
            "jit_compile": False,
        }
        logs, models = [], []
        for by_hand in (True, False):
            classifier = small_network()
            classifier.compile(keras.optimizers.Adam(0.01), **arguments)
            fit(classifier)
            model = keras_amm.wrap(classifier, **SETTINGS)
            if by_hand:
                model.compile(classifier.optimizer, **arguments)
            assert model.compiled and model.optimizer is classifier.optimizer and model.steps_per_execution == 2
            logs.append(fit(model, sample_weight=np.linspace(0.0, 1.0, 48)))
            models.append(model)
        assert logs[0].keys() == logs[1].keys() >= {"accuracy", "top", "weighted", "margin"}
        for name, values in logs[0].items():
            np.testing.assert_allclose(values, logs[1][name], rtol=1e-5, err_msg=name)
        assert_same_weights(*models)
        assert int(models[1].optimizer.iterations) == 4

    def test_momentum_goes_on(self):
        """With the strength at zero, two epochs of which the second is the wrapped model's are two plain epochs."""
        plain, classifier = (small_network() for _ in range(2))
        for model in (plain, classifier):
            model.compile(keras.optimizers.SGD(0.02, momentum=0.9), LOSS)
        fit(plain, epochs=2)
        fit(classifier)
        fit(keras_amm.wrap(classifier, strength=0.0))
        assert_same_weights(classifier, plain, rtol=1e-6, atol=1e-7)

    def test_metrics_count_once(self):
        classifier, x = small_network(), small_data()
        metrics = [CountOfOne(name="number"), Count(2.0, name="pairs")]
        classifier.compile("sgd", LOSS, metrics=metrics, run_eagerly=True)
        assert fit(classifier)["number"] == [48.0]
        model = keras_amm.wrap(classifier, **SETTINGS)
        assert model.run_eagerly
        history = fit(model, validation_data=x)
        assert history["number"] == history["val_number"] == [48.0]
        assert history["pairs"] == history["val_pairs"] == [24.0]
        assert [metric.name for metric in model.metrics].count("compile_metrics") == 1

    def test_a_classifier_that_is_used_afterwards_counts_once(self):
        classifier = small_network()
        classifier.compile("sgd", LOSS, metrics=[CountOfOne(name="number")], run_eagerly=True)
        fit(keras_amm.wrap(classifier, **SETTINGS))
        assert fit(classifier)["number"] == [48.0]

    @pytest.mark.parametrize("is_scaled", [True, False])
    def test_the_scale_of_the_loss(self, is_scaled):
        policy = keras.config.dtype_policy()
        try:
            keras.config.set_dtype_policy("mixed_float16")
            classifier = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
            classifier.compile("sgd", LOSS, auto_scale_loss=is_scaled)
            model = keras_amm.wrap(classifier, **SETTINGS)
            fit(model)
        finally:
            keras.config.set_dtype_policy(policy)
        assert model.optimizer is classifier.optimizer
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == is_scaled
        assert int(getattr(model.optimizer, "inner_optimizer", model.optimizer).iterations) == 2

    def test_compiling_again_overrules(self):
        classifier = small_network()
        classifier.compile("adam", LOSS)
        model = keras_amm.wrap(classifier, **SETTINGS)
        model.compile(keras.optimizers.SGD(0.0), LOSS)
        before = classifier.get_weights()
        fit(model)
        assert int(classifier.optimizer.iterations) == 0
        for old, new in zip(before, classifier.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_compiling_again_keeps_no_metric_of_the_classifier(self):
        classifier = small_network()
        classifier.compile("adam", "mse", metrics=["mae"])
        model = keras_amm.wrap(classifier, **SETTINGS)
        model.compile("sgd", LOSS)
        assert "mae" not in fit(model) and "cross_entropy" in fit(model)
        model = keras_amm.wrap(classifier, **SETTINGS)
        model.compile("sgd")
        assert model.loss is None

    def test_not_compiled(self):
        assert not keras_amm.wrap(small_network()).compiled

    def test_classifiers_that_build_themselves(self):
        x, y = small_data()
        subclassed, sequential = Subclassed(), keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
        subclassed(x[:1])
        for classifier in (subclassed, sequential):
            classifier.compile("sgd", LOSS)
            model = keras_amm.wrap(classifier, **SETTINGS)
            assert np.isfinite(model.fit(x, y, verbose=0).history["loss"][0])

    def test_saved_and_loaded_the_optimizer_is_shared_again(self, tmp_path):
        classifier = small_network()
        classifier.compile(keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"])
        fit(classifier)
        model = keras_amm.wrap(classifier, **SETTINGS)
        fit(model)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert loaded.optimizer is loaded.base_model.optimizer and int(loaded.optimizer.iterations) == 4
        assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
        logs = [fit(each) for each in (model, loaded)]
        assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-5)
        assert_same_weights(model, loaded)

    def test_layers_made_trainable_since(self):
        classifier = small_network()
        classifier.layers[0].trainable = False
        classifier.compile("adam", LOSS)
        fit(classifier)
        classifier.layers[0].trainable = True
        model = keras_amm.wrap(classifier, **SETTINGS)
        assert not model.compiled
        with pytest.raises(ValueError, match="compile"):
            fit(model)
        model.compile("adam", LOSS)
        fit(model)

    def test_layers_frozen_since(self):
        classifier = small_network()
        classifier.compile("adam", LOSS)
        fit(classifier)
        classifier.layers[0].trainable = False
        frozen = classifier.layers[0].get_weights()
        model = keras_amm.wrap(classifier, **SETTINGS)
        fit(model)
        assert int(model.optimizer.iterations) == 4
        np.testing.assert_array_equal(classifier.layers[0].get_weights()[0], frozen[0])

    def test_a_warm_up_that_is_over(self):
        classifier = small_network()
        classifier.compile("sgd", LOSS)
        keras_amm.wrap(classifier, **SETTINGS, warmup_steps=2)
        fit(classifier)
        with pytest.warns(UserWarning, match=r"no warm-up: warmup_steps=2 .* has made 2"):
            keras_amm.wrap(classifier, **SETTINGS, warmup_steps=2)
