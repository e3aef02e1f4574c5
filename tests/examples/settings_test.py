"""The settings of a training: Table 2 of the paper, and what contradicts itself."""

import json
import math

import keras
import numpy as np
import pytest

import keras_amm
from paper import architectures
from paper.training import learning_rates, run_folder, starting_network
from paper.training.table_2 import TABLE_2
from tests.helpers.training_settings import resolve


def test_table_2():
    """A sample of its rows, typed from the paper."""
    rows = {
        ("mnist", "mlp-800"): (100, 100, 5e-3, (50, 80), True),
        ("cifar10", "lenet"): (100, 160, 5e-3, (100, 140), True),
        ("cifar100", "densenet-40"): (128, 400, 1e-2, (250, 350), False),
        ("svhn_cropped", "resnet-56"): (128, 100, 5e-3, (50, 80), False),
        ("imagenet2012", "senet-50"): (32, 20, 1e-2, (10, 15), False),
    }
    for (data_set, model), row in rows.items():
        assert TABLE_2[data_set][model] == (*row, (0.1, 0.01))
    assert sum(map(len, TABLE_2.values())) == 2 * 4 + 3 * 6 + 3
    assert {name for models in TABLE_2.values() for name in models} == set(architectures.ARCHITECTURES)


def test_settings_are_table_2_unless_given():
    settings = resolve("cifar10", "resnet-20", epochs=7, drop_at=["3"], drop_to=["0.5"])
    assert settings["batch_size"] == 128 and settings["learning_rate"] == 1e-2
    assert settings["epochs"] == 7 and settings["drop_at"] == [3] and settings["drop_to"] == [0.5]
    assert settings["two_step"] and settings["freeze_batch_normalization"]
    assert not resolve("cifar10", "lenet")["two_step"]
    reference = resolve("cifar10", "resnet-20", amm=False)
    assert not reference["two_step"] and not reference["freeze_batch_normalization"]
    tuned = resolve("cifar10", "resnet-20", init_from="somewhere")
    assert not tuned["two_step"] and tuned["freeze_batch_normalization"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"drop_at": ["1", "2"], "drop_to": ["0.1"]}, r"a factor for each epoch.*drop_at=\[1, 2\], drop_to=\[0.1\]"),
        ({"drop_at": ["1", "x"]}, "Expected integers in --drop_at. Received: 1,x"),
        ({"drop_at": ["2", "1"]}, r"rising epochs, from 1 on.*drop_at=\[2, 1\]"),
        ({"drop_at": ["0"]}, r"rising epochs, from 1 on.*drop_at=\[0\]"),
        ({"drop_at": ["1"], "drop_to": ["0.1", "0.01"]}, r"a factor for each.*drop_to=\[0.1, 0.01\]"),
        ({"groups": 16}, "--groups is for LiuNet. Received: model='lenet'"),
        ({"two_step": True, "init_from": "somewhere"}, "neither with --init_from nor --noamm"),
        ({"two_step": True, "amm": False}, "neither with --init_from nor --noamm"),
        (
            {"penalty": "default", "strength": 64.0, "gradient": "masked"},
            "takes --max_influence alone. Received: strength=64.0, gradient=masked",
        ),
    ],
)
def test_contradicting_settings(given, message):
    with pytest.raises(ValueError, match=message):
        resolve("cifar10", "lenet", **given)


def test_which_misclassified_samples_count():
    """The authors' rule, unless another is given; runs that were made before it could be given had theirs."""
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(10)])
    for rule in (None, "all", "farthest", "none"):
        settings = resolve("mnist", "mlp-800", misclassified=rule)
        assert starting_network.wrap_for_margin(network, settings).regularizer.misclassified == rule


def test_the_default_penalty_is_the_librarys():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = starting_network.wrap_for_margin(network, resolve("mnist", "mlp-800", penalty="default"))
    expected = keras_amm.MarginRegularizer(name=model.regularizer.name).get_config()
    assert model.regularizer.get_config() == expected
    for penalty in ("default", "paper"):
        settings = resolve("mnist", "mlp-800", penalty=penalty, max_influence=16.0)
        assert starting_network.wrap_for_margin(network, settings).regularizer.max_influence == 16.0
    of_paper = starting_network.wrap_for_margin(network, resolve("mnist", "mlp-800")).regularizer
    assert (of_paper.aggregation, of_paper.strength, of_paper.c) == ("min", 32.0, 2.0)
    assert run_folder.LATER_SETTINGS["misclassified"] is None


def test_the_default_penalty_is_recorded_and_compared(tmp_path):
    """It may change from version to version, and then the training is another one."""
    settings = resolve("cifar10", "lenet", penalty="default", max_influence=2.0)
    config = settings["penalty_config"]
    assert config["strength"] == "auto" and config["max_influence"] == 2.0
    assert resolve("cifar10", "lenet")["penalty_config"] is None
    before = {**settings, "penalty_config": {**config, "c": 1.0}}
    (tmp_path / "config.json").write_text(json.dumps(before))
    with pytest.raises(run_folder.OtherRunError, match="penalty_config"):
        run_folder.refuse_other_settings(tmp_path, settings)
    run_folder.refuse_other_settings(tmp_path, before)


def test_a_noise_that_fades_over_the_epochs_fixes_their_number(tmp_path):
    for method, said in (("dlsvm", "epochs=3 there and 6 here"), ("crn", None)):
        before, after = (resolve("mnist", "mlp-800", method=method, epochs=epochs, drop_at=[]) for epochs in (3, 6))
        (tmp_path / "config.json").write_text(json.dumps(before))
        if said is None:
            run_folder.refuse_other_settings(tmp_path, after)
            continue
        with pytest.raises(run_folder.OtherRunError, match=said):
            run_folder.refuse_other_settings(tmp_path, after)


def test_classification_loss():
    scores, label = np.array([[2.0, 0.5]], "float32"), np.array([0])
    # log(1 + exp(0.5 - 2)), and the square of what the second score is above -1.
    for loss, expected in (("cross-entropy", math.log1p(math.exp(-1.5))), ("squared-hinge", 1.5**2)):
        settings = resolve("mnist", "mlp-800", loss=loss)
        found = starting_network.loss_of(settings, starting_network.method_of(settings))
        assert float(found(label, scores)) == pytest.approx(expected)
    settings = resolve("mnist", "mlp-800", method="dlsvm", method_settings=["strength=2"])
    method = starting_network.method_of(settings)
    assert float(starting_network.loss_of(settings, method)(label, scores)) == pytest.approx(2 * 1.5**2)
    assert run_folder.LATER_SETTINGS["loss"] == "cross-entropy"
    with pytest.raises(ValueError, match=r"A method has its own loss. Received: method='mma', loss='squared-hinge'"):
        resolve("mnist", "mlp-800", method="mma", loss="squared-hinge")


def test_learning_rate_drops_where_the_epoch_begins():
    settings = resolve("cifar10", "lenet")
    schedule = learning_rates.dropping(
        settings["learning_rate"], settings["drop_at"], settings["drop_to"], steps_per_epoch=10
    )
    epochs = [0, 99, 100, 139, 140, 159]
    np.testing.assert_allclose([float(schedule(10 * e)) for e in epochs], np.repeat([5e-3, 5e-4, 5e-5], 2), rtol=1e-6)
    assert float(schedule(999)) == pytest.approx(5e-3)


def test_imagenet_is_fine_tuned_from_published_weights():
    for model in ("resnet-18", "resnet-50"):
        assert resolve("imagenet2012", model)["init_from"] == "imagenet"
        assert not resolve("imagenet2012", model)["two_step"]
        assert resolve("imagenet2012", model, init_from="mine")["init_from"] == "mine"
        assert resolve("imagenet2012", model, amm=False)["init_from"] is None
        assert resolve("imagenet2012", model, two_step=True)["init_from"] is None
    with pytest.raises(ValueError, match=r"no published weights of senet-50 .*--init_from"):
        resolve("imagenet2012", "senet-50")
