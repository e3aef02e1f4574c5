"""Two attacks compared: networks that mask their gradients are told from those that do not."""

import json

import keras
import numpy as np
import pytest

import keras_amm
from keras_amm.cli import measuring
from tests.library.cli.command_line import command

FIRST, SECOND = keras_amm.DeepFool(), keras_amm.FastMinimumNorm(20, start=None)


@pytest.fixture(scope="module")
def trained():
    """A small network that is right about nearly all of its data, of three classes."""
    keras.utils.set_random_seed(0)
    y = np.arange(90) % 3
    x = (np.random.default_rng(0).normal(size=(90, 4)) + 4 * np.eye(3, 4)[y]).astype("float32")
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=15, verbose=0)
    return layers, x, y


@keras.saving.register_keras_serializable("report_comparison_test")
class Hot(keras.layers.Layer):
    """A softmax of the logits times a factor, as scores: its gradients are nearly 0 away from the boundary."""

    factor = 1.0

    def call(self, logits):
        return keras.ops.softmax(self.factor * logits) - 0.5


@keras.saving.register_keras_serializable("report_comparison_test")
class Stairs(keras.layers.Layer):
    """The values rounded down to multiples of a tenth."""

    def call(self, x):
        return keras.ops.floor(10 * x) / 10


@keras.saving.register_keras_serializable("report_comparison_test")
class StairsWithSlope(keras.layers.Layer):
    """The same, but its gradient is that of a wave which is not there."""

    def call(self, x):
        wave = keras.ops.sin(50 * x)
        return keras.ops.floor(10 * x) / 10 + wave - keras.ops.stop_gradient(wave)


class Hotter(Hot):
    factor = 3.0


def reports(layers, x, y, *, first=(), last=()):
    model = keras.Sequential([keras.Input((4,)), *first, *layers, *last])
    for attack in (FIRST, SECOND):
        yield keras_amm.evaluate_margins(model, (x, y), attack, verbose=0)


@pytest.mark.usefixtures("eagerly")
def test_an_honest_network(trained):
    comparison = next(one := reports(*trained)).compare(next(one))
    assert not comparison.disagree and not comparison.findings
    assert comparison.success_rates == (1.0, 1.0) and comparison.far_apart < 0.05
    assert str(comparison).startswith("The two attacks agree (second / first norm: quartiles")


@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:The gradient of the logits", "ignore:Of .* images measured")
@pytest.mark.parametrize(
    "masked",
    [{"last": [Hot()]}, {"last": [Hotter()]}, {"first": [Stairs()]}, {"first": [StairsWithSlope()]}],
    ids=["softmax", "temperature", "steps", "steps with another slope"],
)
def test_masked_gradients(trained, masked):
    first, second = reports(*trained, **masked)
    # The network predicts what the honest one does, or nearly so: its gradients alone are spoilt.
    assert first.accuracy > 0.9
    comparison = first.compare(second)
    assert comparison.disagree, comparison
    assert "do not trust these margins" in str(comparison)


def _report(norms, success=True, **changes):
    arrays = {"norms": norms, "signed": norms, "predictions": [1] * len(norms), "labels": [1] * len(norms)}
    return keras_amm.MarginReport(**{**arrays, "success": [success] * len(norms), **changes})


def test_what_is_found():
    comparison = _report([1.0, 1.0, 1.0, 4.0]).compare(_report([1.0, 0.9, 1.1, 1.0]))
    np.testing.assert_allclose(comparison.ratio, [1.0, 0.9, 1.1, 0.25], rtol=1e-6)
    assert comparison.far_apart == 0.25
    assert comparison.findings == ["for 25.0% of the images, one attack goes over twice as far as the other"]
    failed = _report([1.0]).compare(_report([0.0], success=False))
    assert failed.findings == ["the second attack succeeds for 0.0% of the images only"] and not failed.ratio.size
    assert "no image was reached by both" in str(failed)
    bounded = _report([1.0]).compare(_report([1.0], attack_norms=[2.5]))
    assert bounded.too_far == 1.0 and bounded.disagree


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [2]},
        {"predictions": [0]},
        {"attack": {"norm": "linf"}},
        {"attack": {"deviation": 0.5}},
        {"attack": {"bounds": [0.0, 1.0]}},
    ],
)
def test_reports_that_cannot_be_compared(changes):
    with pytest.raises(ValueError, match="the same images, of the same model, in the same norm"):
        _report([1.0]).compare(_report([1.0], **changes))


@pytest.fixture
def saved_linear(tmp_path):
    """A saved linear network, and the arguments that measure it."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.save(tmp_path / "linear.keras")
    np.savez(
        tmp_path / "images.npz",
        x_test=np.random.default_rng(0).integers(0, 256, (20, 2, 2), dtype="uint8"),
        y_test=np.arange(20) % 3,
    )
    return "margins", "linear.keras", f"--dataset={tmp_path / 'images.npz'}", f"--out={tmp_path}"


@pytest.mark.usefixtures("eagerly")
def test_on_the_command_line(saved_linear, tmp_path, capsys):
    assert command(*saved_linear, "--second-attack=superdeepfool", folder=tmp_path) == 0
    assert "deepfool and superdeepfool: The two attacks agree" in capsys.readouterr().out
    written = json.loads((tmp_path / "linear-margins.json").read_text())
    compared = written["second_attack"]
    assert compared["attack"]["name"] == "SuperDeepFool" and compared["success_rates"] == [1.0, 1.0]
    assert not compared["disagree"] and compared["findings"] == [] and len(compared["quartiles_of_ratio"]) == 3
    # The file is still a report.
    assert keras_amm.MarginReport.from_json(tmp_path / "linear-margins.json").attack == FIRST.get_config()


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        (["--steps=7"], 7),
        (["--attack=fmn", "--steps=6", "--max_iterations=2", "--refine_steps=3"], 6),
        (["--norm=linf", "--bounds=0,255", "--no_from_logits"], 50),
    ],
)
def test_what_a_second_attack_takes_over(saved_linear, tmp_path, flags, steps):
    if "--no_from_logits" in flags:
        layers = keras.models.load_model(tmp_path / "linear.keras").layers
        keras.Sequential([keras.Input((2, 2, 1)), *layers, keras.layers.Softmax()]).save(tmp_path / "linear.keras")
    assert command(*saved_linear, "--second-attack=fmn", *flags, folder=tmp_path) == 0
    written = json.loads((tmp_path / "linear-margins.json").read_text())
    first, second = written["attack"], written["second_attack"]["attack"]
    assert second["steps"] == steps and second["start"] is None and second["refine_steps"] == 0
    for name in ("norm", "bounds", "from_logits", "deviation"):
        assert second[name] == first[name]
    if "--attack=fmn" in flags:
        assert first["steps"] == steps and "max_iterations=2" in first["start"] and first["refine_steps"] == 3


@pytest.mark.usefixtures("eagerly")
def test_a_second_attack_that_ends_early_is_not_compared(saved_linear, tmp_path, monkeypatch, capsys):
    measure, calls = measuring.measure, []

    def measure_first_only(request):
        calls.append(request)
        return measure(request)._replace(ended_by=KeyboardInterrupt() if len(calls) == 2 else None)

    monkeypatch.setattr(measuring, "measure", measure_first_only)
    assert command(*saved_linear, "--second-attack=fmn", folder=tmp_path) == 130
    assert "The second attack ended early, and is not compared." in capsys.readouterr().out
    assert "second_attack" not in json.loads((tmp_path / "linear-margins.json").read_text())
