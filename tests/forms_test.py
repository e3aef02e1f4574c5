"""Other forms of LeNet's and LIN's trainings: the networks, the penalties, and what is trained and printed."""

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from paper import architectures
from paper.data.arrays import MNIST_MEAN
from paper.data.data_sets import DATA_SETS, DataSet
from paper.reproduce import experiments
from paper.training import run_folder, schedules
from paper.training.checkpoints import Checkpoint
from paper.training.coupled_sgd import CoupledDecaySGD
from paper.variants import forms
from paper.variants import lenet as lenet_forms
from paper.variants import lin as lin_forms


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


train_lin = functools.partial(forms.fit, build=lin_forms.build)
ROWS = [experiments.AVG_LIN, experiments.MIN_LIN, experiments.AVG_EXP, experiments.MIN_EXP]
DIFFERENCES = {
    "ours": {},
    "rate": {"learning_rate": 1e-2},
    "selected": {"divisor": "selected"},
    "no-decay": {"l2": 0.0},
    "more-decay": {"l2": 5e-4},
    "untruncated": {"initialisation": "msra-untruncated"},
    "pytorch": {"initialisation": "pytorch"},
    "fixed-batches": {"shuffle": False},
    "deviation": {"scale": 1 / 0.3081},
    "deviation-unit": {"scale": 1 / 0.3081, "unit": 0.3081},
    "no-mean": {"mean": 0.0},
    "steps": {"max_iterations": 5},
    "one-step": {"max_iterations": 1, "only_successful": False, "screening": None},
    "unclipped": {"global_clipnorm": None},
    "unscreened": {"screening": None},
    **{f"c-{c}": {"c": c} for c in (0.5, 1.0, 2.0, 4.0)},
}


@pytest.mark.parametrize("arm", ROWS, ids=lambda arm: arm.name)
def test_settings_of_lin(arm):
    """Each form is Table 1's row but for what its name says; only MIN can be screened."""
    ours = lin_forms.FORMS[f"{arm.name}.ours"]
    config = lin_forms.regularizer(ours).get_config()
    assert {name: config[name] for name in arm.settings} == dict(arm.settings)
    assert config["screening"] == (0.3 if arm.settings["aggregation"] == "min" else None)
    for name, form in forms.choose(lin_forms.FORMS, [arm.name]).items():
        differences = DIFFERENCES[name.partition(".")[2]]
        assert dataclasses.replace(form, title=ours.title) == dataclasses.replace(ours, **differences), name


def test_the_protocol_is_the_paper_s():
    """Section 4.2, and Table 2 of the appendix."""
    schedule, form = schedules.SCHEDULES["mnist"]["mlp-800"], forms.Form("")
    assert form.learning_rate == schedule.learning_rate
    assert form.l2 == CoupledDecaySGD().l2 == 1e-4


def test_what_a_form_sets_reaches_the_training(few_images, monkeypatch):
    """The optimizer, the order of the images, the attack and the penalty."""
    made = {}

    def fit(model, *arguments, **settings):
        made["model"] = model
        return original(model, *arguments, **settings)

    original = keras.Model.fit
    monkeypatch.setattr(lin_forms.keras_amm.AMMModel, "fit", fit)
    form = dataclasses.replace(
        lin_forms.FORMS["avg-lin.one-step"], l2=0.5, learning_rate=0.25, global_clipnorm=None, shuffle=False, c=3.0
    )
    train_lin(form, forms.Training(seed=0, epochs=3))
    model = made["model"]
    assert (model.optimizer.l2, model.optimizer.global_clipnorm) == (0.5, None)
    assert model.optimizer._learning_rate(0) == 0.25
    assert model.attack.max_iterations == 1
    assert (model.regularizer.c, model.regularizer.only_successful) == (3.0, False)
    assert few_images[-1]["shuffle"] is False and few_images[-1]["num_validation"] == 5_000


def test_initialisations_of_lin():
    """Only what is not truncated has weights beyond twice and a bit the deviation."""
    for name, truncated in (("ours", True), ("untruncated", False)):
        keras.utils.set_random_seed(0)
        kernel = lin_forms.build(lin_forms.FORMS[f"avg-lin.{name}"]).get_weights()[0]
        assert np.std(kernel) == pytest.approx(np.sqrt(2 / 784), rel=0.01)
        assert (np.abs(kernel).max() < 2.4 * np.std(kernel)) == truncated


def test_averaged_penalty():
    """-c times the mean norm of the correct samples that count, and d times that of the wrong ones."""
    norm = tf.constant([1.0, 2.0, 3.0, 5.0, 7.0])
    correct, success = np.array([True, True, True, False, False]), np.array([True, True, False, True, True])
    for arm, c, labels, expected in (
        ("avg-lin", 4.0, [0, 1, 2, 3, 4], [-2.0, -2.0, 0.0, 2.0, 2.0]),
        # The nearest correct and the farthest wrong one of a label count.
        ("min-lin", 0.5, [0, 0, 2, 3, 3], [-0.5, 0.0, 0.0, 0.0, 4.0]),
    ):
        regularizer = lin_forms.regularizer(lin_forms.FORMS[f"{arm}.selected"])
        with tf.GradientTape() as tape:
            tape.watch(norm)
            penalty = regularizer(norm, np.array(labels), correct, success)
        np.testing.assert_allclose(tape.gradient(penalty, norm), expected)
        assert float(penalty) == pytest.approx(np.dot(expected, norm))
        # Without wrong ones, and without correct ones, nothing is divided by zero.
        assert float(regularizer(norm[:1], np.zeros(1, int), correct[:1], success[:1])) == pytest.approx(-c)
        assert float(regularizer(norm[4:], np.zeros(1, int), correct[4:], success[4:])) == pytest.approx(28.0)


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
    """Images of one bright row, the class's, in place of MNIST, in another order in every epoch; what was asked for."""
    asked = []

    def batches(size, turn=0):
        y = np.arange(size, dtype="int32") % 10
        x = np.zeros((size, 28, 28, 1), "float32")
        x[np.arange(size), y] = 1.0
        turn = tf.cast(turn, tf.int32)
        return tf.data.Dataset.from_tensors((tf.roll(x, turn, 0), tf.roll(y, turn, 0))).unbatch().batch(20)

    def load(name, batch_size, seed, **arguments):
        asked.append({"seed": seed, **arguments})
        epoch = tf.Variable(0)
        train = tf.data.Dataset.range(1).flat_map(lambda _: batches(60, 3 * tf.identity(epoch)))
        train = train.apply(tf.data.experimental.assert_cardinality(3))
        held_out = batches(30) if arguments["num_validation"] else None
        return DataSet(DATA_SETS[name], train, held_out, batches(40), 60, epoch)

    monkeypatch.setattr(forms.data_sets, "load", load)
    return asked


def test_a_form_is_trained_once(few_images, tmp_path, capsys):
    chosen = forms.choose(lin_forms.FORMS, ["min-lin.selected", "min-lin.rate"])
    printed, written = [], []
    for _ in range(2):
        forms.compare(chosen, train_lin, seeds=2, epochs=5, out=tmp_path)
        printed.append(capsys.readouterr().out)
        written.append({path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()})
    assert printed[0] == printed[1] and written[0] == written[1] and len(written[0]) == 4
    assert [asked["seed"] for asked in few_images] == [0, 1, 0, 1]
    results = [json.loads((tmp_path / f"min-lin.rate.epochs-5.seed-{seed}.json").read_text()) for seed in range(2)]
    assert all(result["form"]["learning_rate"] == 1e-2 and result["epochs"] == 5 for result in results)
    assert {(result["measured_on"], result["margin_images"]) for result in results} == {("validation", 30)}
    # A row of the class's is easily told.
    assert results[0]["error_percent"] < 50 and results[0]["margin_mean"] != results[1]["margin_mean"]
    row = printed[0].splitlines()[2].split(" | ")
    assert row[0] == "| MIN+LIN: learning rate of 1e-2, the published code's default"
    assert row[1] == ", ".join(f"{result['error_percent']:.2f}%" for result in results)


def test_on_the_test_images(few_images, tmp_path, capsys):
    """Trained on all others."""
    forms.compare(forms.choose(lin_forms.FORMS, ["avg-lin.ours"]), train_lin, 1, 3, tmp_path, test=True)
    assert few_images[0]["num_validation"] == 0
    result = json.loads((tmp_path / "avg-lin.ours.test.epochs-3.seed-0.json").read_text())
    assert (result["measured_on"], result["margin_images"]) == ("test", 40)
    assert "| test error |" in capsys.readouterr().out


@pytest.mark.parametrize("cut_off_at", [2, 5])
def test_a_training_that_was_cut_off_goes_on(few_images, tmp_path, monkeypatch, cut_off_at):
    """To the same end as without interruption, without doing again what was done."""
    chosen = forms.choose(lin_forms.FORMS, ["min-lin.ours"])
    expected = train_lin(chosen["min-lin.ours"], forms.Training(seed=0, epochs=5))

    class CutOff(Checkpoint):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == cut_off_at:
                raise InterruptedError

        def on_train_end(self, logs=None):
            raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(forms, "Checkpoint", CutOff)
        with pytest.raises(InterruptedError):
            forms.compare(chosen, train_lin, 1, 5, tmp_path)
    begun = []

    class Counted(Checkpoint):
        def on_epoch_begin(self, epoch, logs=None):
            begun.append(epoch)

    monkeypatch.setattr(forms, "Checkpoint", Counted)
    forms.compare(chosen, train_lin, 1, 5, tmp_path)
    assert begun == list(range(cut_off_at, 5))
    (path,) = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert result["margin_mean"] == pytest.approx(expected["margin_mean"], rel=1e-5)
    assert result["cross_entropy"] == pytest.approx(expected["cross_entropy"], rel=1e-4)


def test_choice():
    chosen = forms.choose(lin_forms.FORMS, ["min-exp", "avg-lin.rate"])
    assert list(chosen) == ["avg-lin.rate", "min-exp.ours", "min-exp.selected"]
    for names, got in ((["min-lin.r", "exp"], "exp, min-lin.r"), ([], "none")):
        with pytest.raises(ValueError, match=rf"Expected of avg-lin.ours, .*\. Received:? {got}\."):
            forms.choose(lin_forms.FORMS, names)
    assert list(forms.choose(lenet_forms.FORMS, ["ours"])) == ["ours"]


def test_a_form_that_has_changed(tmp_path):
    """Neither a result nor what was begun is taken for another form's, and nothing is trained before that is clear."""
    form, other = lenet_forms.FORMS["ours"], lenet_forms.FORMS["relu"]
    made = dataclasses.asdict(form)
    # As if made before forms could differ in it.
    del made["pooling"]
    result = {"form": made, "error_percent": 1.0, "margin_mean": 1.0}

    def compare(train, **changes):
        chosen = {"other": other, "ours": dataclasses.replace(form, **changes)}
        forms.compare(chosen, train, seeds=1, epochs=3, out=tmp_path)

    def nothing(*_):
        raise AssertionError("It was trained.")

    def cut_off(*_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        compare(cut_off)
    with pytest.raises(forms.OtherFormError, match=r"filters=\[20, 50\], not \[5\]\. Remove .*other.epochs-3.seed-0, "):
        forms.compare({"other": dataclasses.replace(other, filters=(5,))}, nothing, 1, 3, tmp_path)
    (tmp_path / "ours.epochs-3.seed-0.json").write_text(json.dumps(result))
    for changes in ({"l2": 0.5}, {"pooling": "average"}):
        with pytest.raises(forms.OtherFormError, match=r"Remove .*ours.epochs-3.seed-0.json"):
            compare(nothing, **changes)
    compare(lambda form, _: {**result, "form": dataclasses.asdict(form)}, title="another title")


def test_two_processes_train_a_form_once(tmp_path):
    chosen = {"ours": lenet_forms.FORMS["ours"]}

    def train(*_):
        forms.compare(chosen, train, 1, 3, tmp_path)

    with pytest.raises(run_folder.InUseError, match="Another process trains"):
        forms.compare(chosen, train, 1, 3, tmp_path)


@pytest.mark.parametrize(("arguments", "message"), [(["--forms=x"], "Received: x"), (["y"], "Unknown arguments")])
def test_command_line(arguments, message):
    script = pathlib.Path(__file__).parents[1] / "examples" / "lin_variants.py"
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stdout + done.stderr
