"""Other forms of LeNet's and LIN's trainings: the networks, the penalties, and what is trained and printed."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import architectures
import experiments
import forms
import keras_amm
import lenet_forms
import lin_forms
from checkpoints import Checkpoint
from data_sets import DATA_SETS, DataSet
from image_data import MNIST_MEAN


def test_forms_of_lenet():
    """Where nothing differs it is `lenet-mnist`; pixels are scaled within the network."""
    ours, expected = lenet_forms.build(lenet_forms.FORMS["ours"]), architectures.build("lenet-mnist")
    ours.set_weights(expected.get_weights())
    pixels = np.random.default_rng(0).random((5, 28, 28, 1), "float32")
    x = pixels - MNIST_MEAN
    np.testing.assert_allclose(ours(x), expected(x), rtol=1e-5, atol=1e-6)
    for name, inner in (("deviation", x / 0.3081), ("no-mean", pixels)):
        other = lenet_forms.build(lenet_forms.FORMS[name])
        other.set_weights(expected.get_weights())
        np.testing.assert_allclose(other(x), expected(inner), rtol=1e-4, atol=1e-5)


def test_initialisations_of_lenet():
    """Deviations of the kernels: sqrt(2 / n), n from the inputs or the outputs of a unit."""

    def deviations(name):
        keras.utils.set_random_seed(0)
        return [np.std(w) for w in lenet_forms.build(lenet_forms.FORMS[name]).get_weights() if w.ndim > 1]

    fan_in, fan_out = np.array([25, 20 * 25, 800, 500]), np.array([20 * 25, 50 * 25, 500, 10])
    np.testing.assert_allclose(deviations("ours"), np.sqrt(2 / fan_in), rtol=0.1)
    np.testing.assert_allclose(deviations("fan-out"), np.sqrt(2 / fan_out), rtol=0.1)
    np.testing.assert_allclose(deviations("pytorch"), np.sqrt(1 / 3 / fan_in), rtol=0.1)
    mixed = np.array([*fan_in[:2], *fan_out[2:]])
    np.testing.assert_allclose(deviations("fan-out-dense"), np.sqrt(2 / mixed), rtol=0.1)
    mixed = np.array([*fan_out[:2], *fan_in[2:]])
    np.testing.assert_allclose(deviations("fan-out-convolutions"), np.sqrt(2 / mixed), rtol=0.1)


def test_network_of_lin():
    """Where nothing differs it is `mlp-800`."""
    ours, expected = lin_forms.build(lin_forms.FORMS["avg-lin.ours"]), architectures.build("mlp-800")
    ours.set_weights(expected.get_weights())
    x = np.random.default_rng(0).random((5, 28, 28, 1), "float32") - MNIST_MEAN
    np.testing.assert_allclose(ours(x), expected(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arm", [experiments.AVG_LIN, experiments.MIN_LIN], ids=lambda arm: arm.name)
def test_settings_of_lin(arm):
    """Each form is Table 1's row but for what it names; only MIN can be screened."""
    ours = lin_forms.FORMS[f"{arm.name}.ours"]
    config = lin_forms.regularizer(ours).get_config()
    assert {name: config[name] for name in arm.settings} == dict(arm.settings)
    assert config["screening"] == (0.3 if arm is experiments.MIN_LIN else None)
    for name, form in lin_forms.FORMS.items():
        if form.arm == arm.name and form is not ours:
            differing = {key for key, value in dataclasses.asdict(form).items() if value != getattr(ours, key)}
            together = {"deviation-unit": {"scale", "unit"}, "one-step": {"max_iterations", "only_successful"}}
            expected = together.get(name.partition(".")[2])
            assert differing - {"title", "screening"} == expected if expected else len(differing) == 2, name


def test_averaged_penalty():
    """-c times the mean norm of the correct samples that count, and d times that of the wrong ones."""
    regularizer = lin_forms.regularizer(lin_forms.FORMS["avg-lin.selected"])
    norm = np.array([1.0, 2.0, 3.0, 5.0, 7.0], "float32")
    correct, success = np.array([True, True, True, False, False]), np.array([True, True, False, True, True])
    labels = np.arange(5)
    assert float(regularizer(norm, labels, correct, success)) == pytest.approx(-4 * 1.5 + 4 * 6.0)
    # Without wrong ones nothing is divided by zero.
    assert float(regularizer(norm[:2], labels[:2], correct[:2], success[:2])) == pytest.approx(-4 * 1.5)


def test_margins_in_units_of_the_deviation():
    """The penalty is that of the same network whose images are divided by the deviation themselves."""
    form = lin_forms.FORMS["avg-lin.deviation-unit"]
    inside = lin_forms.build(form)
    outside = keras_amm.wrap(
        architectures.build("mlp-800"), regularizer=lin_forms.regularizer(lin_forms.FORMS["avg-lin.ours"])
    )
    outside.set_weights(inside.get_weights())
    random = np.random.default_rng(0)
    x, y = random.random((20, 28, 28, 1), "float32"), random.integers(0, 10, 20)
    penalties = []
    for model, images in ((inside, x), (outside, x / 0.3081)):
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        penalties.append(model.train_on_batch(images, y, return_dict=True)["margin_penalty"])
    np.testing.assert_allclose(*penalties, rtol=1e-3)


@pytest.fixture
def few_images(monkeypatch):
    """Images of one bright row, the class's, in place of MNIST."""

    def load(name, batch_size, seed, num_validation, shuffle):
        y = np.arange(60, dtype="int32") % 10
        x = np.zeros((60, 28, 28, 1), "float32")
        x[np.arange(60), y] = 1.0
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
        return DataSet(DATA_SETS[name], batches, batches, batches, len(x), tf.Variable(0))

    monkeypatch.setattr(forms.data_sets, "load", load)


def test_a_form_is_trained_once(few_images, tmp_path, capsys):
    chosen = {name: lin_forms.FORMS[name] for name in ("min-lin.selected", "min-lin.rate")}
    printed, written = [], []
    for _ in range(2):
        forms.compare(chosen, lin_forms.train, seeds=2, epochs=5, out=tmp_path)
        printed.append(capsys.readouterr().out)
        written.append({path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()})
    assert printed[0] == printed[1] and written[0] == written[1] and len(written[0]) == 4
    results = [json.loads((tmp_path / f"min-lin.rate.epochs-5.seed-{seed}.json").read_text()) for seed in range(2)]
    assert all(result["form"]["learning_rate"] == 1e-2 and result["epochs"] == 5 for result in results)
    # A row of the class's is easily told.
    assert results[0]["error_percent"] < 50 and results[0]["margin_mean"] != results[1]["margin_mean"]
    row = printed[0].splitlines()[-1].split(" | ")
    assert row[0] == "| MIN+LIN: learning rate of 1e-2, the published code's default"
    assert row[1] == ", ".join(f"{result['error_percent']:.2f}%" for result in results)


def test_a_training_that_was_cut_off_goes_on(few_images, tmp_path):
    """To the same end as without interruption."""
    form = lin_forms.FORMS["min-lin.ours"]
    expected = lin_forms.train(form, forms.Training(seed=0, epochs=5))
    checkpoint = tmp_path / "latest.weights.h5"

    class CutOff(Checkpoint):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "Checkpoint", CutOff)
        with pytest.raises(InterruptedError):
            lin_forms.train(form, forms.Training(0, 5, checkpoint=checkpoint))
    result = lin_forms.train(form, forms.Training(0, 5, checkpoint=checkpoint))
    assert result["margin_mean"] == pytest.approx(expected["margin_mean"], rel=1e-5)


def test_choice():
    chosen = forms.choose(lin_forms.FORMS, ["min-exp", "avg-lin.rate"])
    assert list(chosen) == ["avg-lin.rate", "min-exp.ours", "min-exp.selected", "min-exp.one-step"]
    with pytest.raises(ValueError, match=r"Expected of avg-lin.ours, .*\. Received: exp, min-lin.r\."):
        forms.choose(lin_forms.FORMS, ["min-lin.r", "exp"])
    assert list(forms.choose(lenet_forms.FORMS, ["ours"])) == ["ours"]


def test_a_form_that_has_changed(tmp_path):
    form = lenet_forms.FORMS["ours"]
    made = dataclasses.asdict(form)
    # As if made before forms could differ in it.
    del made["pooling"]
    result = {"form": made, "error_percent": 1.0, "margin_mean": 1.0}

    def compare(**changes):
        forms.compare({"ours": dataclasses.replace(form, **changes)}, lambda *_: result, 1, 3, tmp_path)

    for _ in range(2):
        compare(title="another title")
    for changes in ({"l2": 0.5}, {"pooling": "average"}):
        with pytest.raises(forms.OtherFormError, match="Remove it"):
            compare(**changes)
