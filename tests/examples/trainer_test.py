"""The shared trainer on a tiny CIFAR-100: settings, resuming after SIGKILL, two steps, where weights come from."""

import json
import os
import shutil
import signal
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from paper.training.schedules import SCHEDULES

from paper import architectures, json_files
from paper.training import initial_weights, learning_rates, run_folder, run_records, trainer
from paper.training import settings as training_settings
from tests.helpers import tiny_data_sets

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]

DEFAULTS = {
    "groups": None, "amm": True, "init_from": None, "two_step": None, "freeze_batch_normalization": None,
    "epochs": None, "batch_size": None, "learning_rate": None, "drop_at": None, "drop_to": None, "seed": 0,
    "strength": 32.0,
    "aggregation": "min", "shrinkage": "exp", "c": 2.0, "d": 1.0, "gradient": "unrolled", "screening": None,
    "interval": 1, "only_successful": True, "num_candidates": 10, "max_iterations": 6, "validation": False,
    "num_train": 0, "num_random_labels": 0, "augment": True, "shuffle": True, "eval_margins": 0, "log_margins": 0,
    "data_dir": None,
}  # fmt: skip


def resolve(data_set, model, **given):
    return training_settings.resolve(data_set, {**DEFAULTS, "model": model, **given})


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar100")
    tiny_data_sets.prepare_cifar100(folder)
    return str(folder)


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
        assert SCHEDULES[data_set][model] == (*row, (0.1, 0.01))
    assert sum(map(len, SCHEDULES.values())) == 2 * 3 + 3 * 6 + 3
    assert {name for models in SCHEDULES.values() for name in models} == set(architectures.ARCHITECTURES)


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
    ],
)
def test_contradicting_settings(given, message):
    with pytest.raises(ValueError, match=message):
        resolve("cifar10", "lenet", **given)


def test_learning_rate_drops_where_the_epoch_begins():
    settings = resolve("cifar10", "lenet")
    schedule = learning_rates.dropping(
        settings["learning_rate"], settings["drop_at"], settings["drop_to"], steps_per_epoch=10
    )
    epochs = [0, 99, 100, 139, 140, 159]
    np.testing.assert_allclose([float(schedule(10 * e)) for e in epochs], np.repeat([5e-3, 5e-4, 5e-5], 2), rtol=1e-6)
    assert float(schedule(999)) == pytest.approx(5e-3)


EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples")
SCRIPT = [os.path.join(EXAMPLES, "cifar100.py")]
SHORT = "--epochs=4 --batch_size=2 --drop_at=2 --drop_to=0.1 --eval_margins=4 --log_margins=0".split()
# What takes the least time to trace.
SHORT += ["--num_candidates=2", "--gradient=boundary"]


# The same script, killed after the fifth of ten steps of its third epoch.
KILLED = """
import os, signal, sys
import keras
from paper.training import trainer

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (2, 4):
            print("killed after step", int(self.model.optimizer.iterations), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

record_keepers = trainer._record_keepers
trainer._record_keepers = lambda *arguments: [*record_keepers(*arguments), Kill()]
trainer.run("cifar100")
"""


def start(out, data_dir, script=SCRIPT):
    # One thread and one library: sums are then taken in one order, and runs can be compared to the last bit.
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([EXAMPLES, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, *script, *SHORT, f"--out={out}", f"--data_dir={data_dir}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def weights(out):
    return keras.models.load_model(out / "model.keras", compile=False).get_weights()


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, data_dir):
    through, killed = tmp_path / "through", tmp_path / "killed"
    process = start(killed, data_dir, ["-c", KILLED])
    output, _ = process.communicate(timeout=900)
    assert process.returncode == -signal.SIGKILL and output.splitlines()[-1] == "killed after step 25", output
    assert len(run_records.read_history(killed / "history.csv")) == 2 and not (killed / "model.keras").exists()
    runs = [start(out, data_dir) for out in (killed, through)]
    for run in runs:
        output, _ = run.communicate(timeout=900)
        assert run.returncode == 0, output
    for a, b in zip(weights(killed), weights(through), strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = (json.loads((out / "result.json").read_text()) for out in (killed, through))
    assert one["epochs"] == other["epochs"] == 4
    for name in ("error_percent", "margin_mean", "measured_on", "config", "seed", "versions"):
        assert one[name] == other[name]
    assert one["config"]["batch_size"] == 2 and one["training_images"] == 20 and one["margin_images"] == 4
    for row, same in zip(one["history"], other["history"], strict=True):
        assert row["loss"] == same["loss"] and row["margin_penalty"] == same["margin_penalty"] > 0.0
    assert any((killed / "tensorboard").rglob("events.*"))


def _linear(name, num_classes):
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes, kernel_initializer="he_normal"),
        ]
    )


@pytest.fixture
def linear(monkeypatch):
    """Networks that take little time to trace."""
    monkeypatch.setattr(trainer.architectures, "build", _linear)
    return _linear


@pytest.fixture
def linear_on_replicas(monkeypatch, mirrored, linear):
    """The same, and the one strategy of all tests."""
    monkeypatch.setattr(trainer, "_mirrored_strategy", lambda: mirrored)


def test_two_replicas_continue_as_one_device_does(tmp_path, data_dir, linear_on_replicas):
    given = {"epochs": 2, "batch_size": 10, "learning_rate": 0.05, "drop_at": [], "data_dir": data_dir}
    given.update(num_candidates=2, gradient="boundary")
    one, two = tmp_path / "one", tmp_path / "two"
    trainer.train(resolve("cifar100", "lenet", **{**given, "epochs": 1}), one)
    shutil.copytree(one, two)
    alone = trainer.train(resolve("cifar100", "lenet", **given), one)
    first = h5py.File(two / "checkpoint" / "latest.weights.h5")["base_model/layers/dense/vars/0"][:]
    together = trainer.train(resolve("cifar100", "lenet", strategy="mirrored", **given), two)
    assert alone["replicas"] == 1 and together["replicas"] == 2
    assert len((two / "history.csv").read_text().splitlines()) == 1 + 2
    assert np.abs(weights(one)[0] - first).max() > 1e-3
    for a, b in zip(weights(one), weights(two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for name in ("error_percent", "cross_entropy", "margin_mean", "epochs"):
        assert together[name] == pytest.approx(alone[name], rel=1e-4)
    for name in ("loss", "margin_penalty", "val_loss"):
        assert together["history"][1][name] == pytest.approx(alone["history"][1][name], rel=1e-4)


@pytest.mark.parametrize(("batch_size", "num_train"), [(5, 20), (4, 13)])
def test_batches_that_cannot_be_shared(tmp_path, data_dir, linear_on_replicas, batch_size, num_train):
    given = {"batch_size": batch_size, "num_train": num_train, "data_dir": data_dir, "strategy": "mirrored"}
    with pytest.raises(
        trainer.SettingsError, match=f"of the 2 devices.*batch_size={batch_size} for {num_train} training images"
    ):
        trainer.train(resolve("cifar100", "lenet", **given), tmp_path)


def test_two_steps_report_both(tmp_path, data_dir):
    settings = resolve(
        "cifar100", "lenet", two_step=True, epochs=1, batch_size=10, drop_at=[], data_dir=data_dir, gradient="boundary",
        num_candidates=2, log_margins=4,
    )  # fmt: skip
    result = trainer.train_in_steps(settings, tmp_path)
    reference = json.loads((tmp_path / "reference" / "result.json").read_text())
    assert not reference["config"]["amm"] and result["config"]["amm"]
    for name in ("error_percent", "margin_mean", "margin_images"):
        assert result["before_fine_tuning"][name] == pytest.approx(reference[name])
    assert result["margin_mean"] != reference["margin_mean"]
    assert all("val_margin" in row for row in result["history"] + reference["history"])
    for other, said in (("seed", "seed=0 there and 1 here"), ("epochs", "epochs=1 there and 2 here")):
        # A longer reference would be another, from which the second step did not begin.
        with pytest.raises(run_folder.OtherRunError, match=f"other settings: {said}"):
            trainer.train_in_steps({**settings, other: settings[other] + 1}, tmp_path)
    # Both are measured on as many images.
    fewer = trainer.train_in_steps({**settings, "eval_margins": 3}, tmp_path)
    assert fewer["margin_images"] == fewer["before_fine_tuning"]["margin_images"] == 3


def test_a_longer_run_continues_and_a_shorter_one_is_refused(tmp_path, data_dir, linear):
    given = {"batch_size": 10, "learning_rate": 0.05, "drop_at": [], "data_dir": data_dir, "amm": False}
    one, two = tmp_path / "one", tmp_path / "two"
    trainer.train(resolve("cifar100", "lenet", epochs=1, **given), one)
    # What a process leaves that is killed while it writes the next checkpoint.
    (one / "checkpoint" / "next.weights.h5").write_bytes(b"half a file")
    continued = trainer.train(resolve("cifar100", "lenet", epochs=3, **given), one)
    through = trainer.train(resolve("cifar100", "lenet", epochs=3, **given), two)
    assert continued["epochs"] == 3 and continued["cross_entropy"] == through["cross_entropy"]
    for a, b in zip(weights(one), weights(two), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(run_folder.OtherRunError, match=r"holds a run of 3 epochs already. Received: epochs=2"):
        trainer.train(resolve("cifar100", "lenet", epochs=2, **given), one)
    assert json.loads((one / "config.json").read_text())["epochs"] == 3


def test_other_initial_weights_are_another_run(tmp_path, data_dir, linear):
    given = {"epochs": 1, "batch_size": 10, "drop_at": [], "data_dir": data_dir, "amm": False}
    start = tmp_path / "start.keras"
    for seed, refused in ((0, False), (0, False), (1, True)):
        keras.utils.set_random_seed(seed)
        linear("lenet", 100).save(start)
        settings = resolve("cifar100", "lenet", init_from=str(start), **given)
        if refused:
            with pytest.raises(
                run_folder.OtherRunError, match=r"initial_weights='[0-9a-f]+' there and '[0-9a-f]+' here"
            ):
                trainer.train(settings, tmp_path / "run")
        else:
            trainer.train(settings, tmp_path / "run")


def test_initial_weights_may_be_moved(tmp_path, data_dir, linear):
    """They are known by their values, so that a run continues wherever their file is."""
    given = {"epochs": 1, "batch_size": 10, "drop_at": [], "data_dir": data_dir, "amm": False}
    for name in ("here.keras", "there.keras"):
        if name == "there.keras":
            (tmp_path / "here.keras").rename(tmp_path / name)
        else:
            linear("lenet", 100).save(tmp_path / name)
        settings = resolve("cifar100", "lenet", init_from=str(tmp_path / name), **given)
        assert trainer.train(settings, tmp_path / "run")["epochs"] == 1
    with pytest.raises(
        run_folder.OtherRunError, match=r"initial_weights='.*' there and None here, init_from='.*here.keras'"
    ):
        trainer.train({**settings, "init_from": None}, tmp_path / "run")


def test_what_is_finished_is_not_done_again(tmp_path, data_dir, linear, monkeypatch, capsys):
    given = {"epochs": 1, "batch_size": 10, "drop_at": [], "data_dir": data_dir, "amm": False}
    result = trainer.train(resolve("cifar100", "lenet", **given), tmp_path)
    said = capsys.readouterr().out.splitlines()[-1]
    made = (tmp_path / "model.keras").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "measure", None)
        assert trainer.train(resolve("cifar100", "lenet", **given), tmp_path) == json.loads(json.dumps(result))
    assert capsys.readouterr().out.splitlines() == [said] and "lenet without AMM" in said
    assert (tmp_path / "model.keras").stat().st_mtime_ns == made
    # Other images are measured, without an epoch more.
    assert trainer.train(resolve("cifar100", "lenet", **given, eval_margins=3), tmp_path)["margin_images"] == 3
    trainer.train(resolve("cifar100", "lenet", **given, eval_margins=3), tmp_path, resume=False)
    assert (tmp_path / "model.keras").stat().st_mtime_ns > made


def test_two_processes_do_not_train_in_one_folder(tmp_path, data_dir):
    settings = resolve("cifar100", "lenet", amm=False, epochs=1, batch_size=10, drop_at=[], data_dir=data_dir)
    with (
        run_folder.alone(tmp_path / "run"),
        pytest.raises(run_folder.InUseError, match=r"Another process trains in .*run: wait"),
    ):
        trainer.train(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    assert trainer.train(settings, tmp_path / "run")["epochs"] == 1


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "result.json"
    json_files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        json_files.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_wrong_settings_leave_the_folder_free(tmp_path, data_dir, linear):
    given = {"epochs": 1, "batch_size": 10, "drop_at": [], "data_dir": data_dir, "amm": False}
    for wrong in ({"num_train": 21}, {"init_from": "nowhere"}, {"amm": True, "screening": 2.0}):
        with pytest.raises(trainer.SettingsError, match="Received"):
            trainer.train(resolve("cifar100", "lenet", **{**given, **wrong}), tmp_path / "run")
    assert trainer.train(resolve("cifar100", "lenet", **given), tmp_path / "run")["epochs"] == 1


def test_images_that_are_streamed(tmp_path, monkeypatch):
    """ImageNet's, in its true format, with a network that takes little time to trace."""
    tiny_data_sets.prepare_imagenet(tmp_path)
    monkeypatch.setattr(
        trainer.architectures,
        "build",
        lambda _, num_classes: keras.Sequential(
            [
                keras.Input((224, 224, 3)),
                keras.layers.AveragePooling2D(32),
                keras.layers.Flatten(),
                keras.layers.Dense(num_classes),
            ]
        ),
    )
    given = {"two_step": False, "epochs": 2, "batch_size": 4, "drop_at": [], "num_candidates": 2}
    result = trainer.train(resolve("imagenet2012", "resnet-18", data_dir=str(tmp_path), **given), tmp_path / "run")
    number = len(tiny_data_sets.IMAGENET_SYNSETS) * tiny_data_sets.IMAGENET_PER_SYNSET
    assert result["training_images"] == number and result["margin_images"] == 4
    losses = [row["loss"] for row in result["history"]]
    assert np.isfinite([*losses, result["margin_mean"]]).all() and result["history"][0]["margin_penalty"] > 0.0


def test_fine_tuning_freezes_batch_normalisation(tmp_path):
    trained = architectures.build("resnet-20")
    norm = next(layer for layer in trained.layers if isinstance(layer, keras.layers.BatchNormalization))
    norm.moving_mean.assign(keras.ops.full((16,), 0.5))
    trained.save(tmp_path / "model.keras")
    network = trainer._network(resolve("cifar10", "resnet-20", init_from=str(tmp_path)), num_classes=10)
    for ours, theirs in zip(network.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    frozen = [layer for layer in network.layers if not layer.trainable]
    assert len(frozen) == 19 and all(isinstance(layer, keras.layers.BatchNormalization) for layer in frozen)
    # What was saved frozen can be trained whole.
    network.save(tmp_path / "model.keras")
    again = initial_weights.load_network("resnet-20", 10, str(tmp_path))
    assert all(layer.trainable for layer in again.layers)


def test_weights_from_a_file(tmp_path):
    trained = architectures.build("lenet")
    trained.save_weights(tmp_path / "lenet.weights.h5")
    loaded = initial_weights.load_network("lenet", 10, str(tmp_path / "lenet.weights.h5"))
    for ours, theirs in zip(loaded.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_groups_of_liunet(tmp_path):
    """The authors' 16 groups, from new weights and from a file, which does not say."""
    given = resolve("cifar10", "liunet", groups=16)
    network = trainer._network(given, 10)
    network.save_weights(tmp_path / "liunet.weights.h5")
    loaded = trainer._network({**given, "init_from": str(tmp_path / "liunet.weights.h5")}, 10)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(x), network(x))
    assert {layer.groups for layer in loaded.layers if isinstance(layer, keras.layers.GroupNormalization)} == {16}
    default = trainer._network(resolve("cifar10", "liunet"), 10)
    assert {layer.groups for layer in default.layers if isinstance(layer, keras.layers.GroupNormalization)} == {2, 3, 4}


def test_weights_of_another_network(tmp_path):
    architectures.build("lenet").save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"does not hold 'nin' with 10 classes: it has 10 weights.*not 18"):
        initial_weights.load_network("nin", 10, str(tmp_path))
    with pytest.raises(ValueError, match=r"'lenet' with 100 classes.*output \(None, 10\), not 10 and \(None, 100\)"):
        initial_weights.load_network("lenet", 100, str(tmp_path))
    architectures.build("lenet").save_weights(tmp_path / "lenet.weights.h5")
    for name, classes in (("nin", 10), ("mlp-800", 10), ("lenet", 100)):
        with pytest.raises(ValueError, match=f"does not hold the weights of '{name}' with {classes} classes"):
            initial_weights.load_network(name, classes, str(tmp_path / "lenet.weights.h5"))
    with pytest.raises(ValueError, match=r"resnet-18 and resnet-50 only. Received: model='senet-50'"):
        initial_weights.load_network("senet-50", 1000, "imagenet")
    with pytest.raises(ValueError, match=r"folder of a finished run, a file, or 'imagenet'. Received: '.*nothing'"):
        initial_weights.load_network("lenet", 10, str(tmp_path / "nothing"))


def test_weights_that_cannot_be_fetched(monkeypatch):
    def fail(**_):
        raise OSError("URL fetch failure")

    monkeypatch.setattr(keras.applications, "ResNet50", fail)
    with pytest.raises(ValueError, match=r"ResNet50 could not be had: OSError: URL fetch failure\n.*give a file"):
        initial_weights.load_network("resnet-50", 1000, "imagenet")
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ValueError, match="pip install keras-hub"):
        initial_weights.load_network("resnet-18", 1000, "imagenet")


def test_imagenet_is_fine_tuned_from_published_weights():
    for model in ("resnet-18", "resnet-50"):
        assert resolve("imagenet2012", model)["init_from"] == "imagenet"
        assert not resolve("imagenet2012", model)["two_step"]
        assert resolve("imagenet2012", model, init_from="mine")["init_from"] == "mine"
        assert resolve("imagenet2012", model, amm=False)["init_from"] is None
        assert resolve("imagenet2012", model, two_step=True)["init_from"] is None
    with pytest.raises(ValueError, match=r"no published weights of senet-50 .*--init_from"):
        resolve("imagenet2012", "senet-50")


def test_resnet_18_computes_what_keras_hub_does(tmp_path):
    """Its network as `resnet_18_imagenet` is made, with weights at random."""
    keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed")
    random = np.random.default_rng(0)
    backbone = keras_hub.models.ResNetBackbone(
        [64], [7], [64, 128, 256, 512], [2, 2, 2, 2], [1, 2, 2, 2], "basic_block", image_shape=(224, 224, 3)
    )
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(224, 224), scale=list(1 / 255 / deviation), offset=list(-mean / deviation)
    )
    theirs = keras_hub.models.ResNetImageClassifier(
        backbone, 1000, preprocessor=keras_hub.models.ResNetImageClassifierPreprocessor(converter)
    )
    theirs.set_weights(
        [weight if weight.ndim > 1 else random.uniform(0.5, 1.5, weight.shape) for weight in theirs.get_weights()]
    )
    pixels = random.integers(0, 256, (2, 224, 224, 3)).astype("float32")
    expected = theirs(converter(pixels)).numpy()
    theirs.save(tmp_path / "theirs.keras")
    ours = initial_weights.load_network("resnet-18", 1000, str(tmp_path / "theirs.keras"))
    found = ours(pixels / 255.0 - mean)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)
    assert np.std(expected / scale, axis=0).max() > 1e-3
    backbone.stackwise_num_blocks = [3, 4, 6, 3]
    with pytest.raises(ValueError, match=r"Expected keras-hub's ResNet-18.*Received: .*\[3, 4, 6, 3\]"):
        initial_weights.from_keras_hub(theirs)


def test_resnet_50_computes_what_keras_applications_does(tmp_path):
    theirs = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=7, classifier_activation=None)
    random = np.random.default_rng(0)
    # Statistics, scales and biases as of a trained network, all different.
    theirs.set_weights(
        [weight if weight.ndim > 1 else random.uniform(0.5, 1.5, weight.shape) for weight in theirs.get_weights()]
    )
    pixels = random.integers(0, 256, (2, 64, 64, 3)).astype("float32")
    mean = np.array([123.68, 116.779, 103.939]) / 255.0
    expected = theirs(keras.applications.resnet.preprocess_input(pixels.copy()))
    ours = initial_weights.from_keras_applications(theirs)
    found = ours(pixels / 255.0 - mean)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)
    assert np.std(expected / scale, axis=0).max() > 1e-3
    # From files, also the one that Keras publishes, which is in its older format.
    files = [tmp_path / name for name in ("theirs.keras", "theirs.weights.h5", "theirs_tf_dim_ordering_tf_kernels.h5")]
    theirs.save(files[0])
    theirs.save_weights(files[1])
    with h5py.File(files[2], "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
    for file in files:
        loaded = initial_weights.load_network("resnet-50", 7, str(file))
        for a, b in zip(loaded.get_weights(), ours.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
