"""The runs of `benchmarks.helps`: what is planned, made once, resumed and refused, and what trains as it should."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import keras_amm
from benchmarks.helps import arms, cells, data, measuring, networks, optimizers, records, rivals, trainings
from benchmarks.helps.cells import CELLS, Cell
from benchmarks.helps.records import Key
from benchmarks.helps.training_clock import TrainingClock
from examples.paper.data.arrays import Images
from paper.reproduce.planning import EXAMPLES

TINY = Cell("breast_cancer", "mlp", "adam", 32, 32, 3)


def clusters(size, seed):
    """Points [size, 4] near the corner of their class of three, which overlap a little."""
    random = np.random.default_rng(seed)
    y = np.arange(size, dtype="int32") % 3
    return Images((np.eye(4)[y] + 0.3 * random.normal(size=(size, 4))).astype("float32"), y)


@pytest.fixture
def tiny(monkeypatch, eagerly):
    """Two cells of 32 points, without graphs; what was loaded."""
    loaded = []

    def load(cell, test):
        loaded.append(test)
        return data.CellData(clusters(cell.num_train, 0), clusters(40, 2 if test else 1), 3)

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(measuring, "attack", lambda: keras_amm.DeepFool(4, refine_steps=2, from_logits=True))
    for module in (records, trainings):
        monkeypatch.setattr(module, "CELLS", {"one": TINY, "two": dataclasses.replace(TINY, optimizer="sgd")})
    return loaded


def test_cells_are_of_what_there_is():
    assert len(CELLS) >= 20 and set(cells.OF_README) <= set(CELLS)
    assert {cell.data for cell in CELLS.values()} == {"mnist", "fashion_mnist", "cifar10", "breast_cancer"}
    assert {cell.network for cell in CELLS.values()} == {*networks.FEATURES, *networks.OF_THE_PAPER}
    assert {cell.optimizer for cell in CELLS.values()} == set(optimizers.OPTIMIZERS)
    assert {cell.batch_size for cell in CELLS.values()} == {32, 100, 300}
    assert all(cell.num_train <= 55_000 for cell in CELLS.values())


def test_what_is_compared_comes_first_and_needs_nothing_that_comes_later(tiny):
    planned = trainings.plan(["two", "one"], list(arms.ARMS), [0, 1])
    assert planned[:4] == [Key(cell, arm, 0) for cell in ("one", "two") for arm in ("plain", "amm")]
    assert [key.arm for key in planned[8:16]] == ["paper", "rough", "hard", "hard-clipped"] * 2
    assert len(planned) == 48
    for position, key in enumerate(planned):
        assert all(Key(key.cell, name, key.seed) in planned[:position] for name in arms.ARMS[key.arm].needs)
    with pytest.raises(ValueError, match=r"Expected of one, two\. Received: --cells=three\."):
        trainings.plan(["three"], ["plain"], [0])


def test_records_are_made_once_and_resumed(tiny, tmp_path, monkeypatch, capsys):
    keys = trainings.plan(["one", "two"], ["plain", "amm"], [0])
    made = []

    def cut_off(key, *arguments):
        if key.cell == "two" and key.arm == "amm":
            raise KeyboardInterrupt
        made.append(key)
        return train_and_measure(key, *arguments)

    train_and_measure = trainings.train_and_measure
    with monkeypatch.context() as patch:
        patch.setattr(trainings, "train_and_measure", cut_off)
        with pytest.raises(KeyboardInterrupt):
            trainings.run(keys, tmp_path, threads=1)
    assert made == keys[:3] and len(list(tmp_path.iterdir())) == 3
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert trainings.run(keys, tmp_path, threads=1) == []
    assert "4 trainings, 3 of them have a record\n[1/1] two amm seed 0: error " in capsys.readouterr().out
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before
    plain, amm = (json.loads((tmp_path / f"one.{arm}.seed-0.json").read_text()) for arm in ("plain", "amm"))
    assert plain["epochs"] == amm["epochs"] == 3 and plain["threads"] == 1 and plain["measured_on"] == "held out"
    assert amm["settings"]["arm"]["regularizer"] == dict(arms.AMM) and amm["versions"]["keras"] == keras.__version__
    assert plain["robust_radius"] == amm["robust_radius"] == plain["margin_median"] / 2
    assert plain["signed_mean"] != amm["signed_mean"] and plain["images"] == 40
    assert plain["error_percent"] < 50 and plain["processor_seconds"] > 0 and plain["seconds"] > 0


def test_all_arms_train_and_rivals_take_their_time(tiny, tmp_path, monkeypatch):
    # One second an epoch: the clock is asked at its first batch and at its end.
    ticks = itertools.count()
    clock = types.SimpleNamespace(process_time=lambda: float(next(ticks)), perf_counter=time.perf_counter)
    monkeypatch.setattr("benchmarks.helps.training_clock.time", clock)
    keys = trainings.plan(["one"], list(arms.ARMS), [0])
    weights = tmp_path / "weights"
    tmp_path = tmp_path / "records"
    assert trainings.run(keys[:2], tmp_path, threads=1, weights=weights) == []
    # As if AMM had taken as long as four epochs of its rivals.
    path = keys[1].path(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "processor_seconds": 4.2}))
    assert trainings.run(keys, tmp_path, threads=1) == []
    found = records.read_all(tmp_path)
    assert len(keys) == len(found)
    # The gradient of so small a network is never so long that it is clipped.
    hard, clipped = (found.pop(Key("one", arm, 0)) for arm in ("hard", "hard-clipped"))
    assert clipped["signed_mean"] == hard["signed_mean"] and clipped["settings"] != hard["settings"]
    assert len({record["signed_mean"] for record in [*found.values(), hard]}) == len(keys) - 1
    epochs = {key.arm: record["epochs"] for key, record in found.items()}
    assert epochs["plain"] == epochs["amm"] == epochs["paper"] == 3
    assert {epochs[arm] for arm in arms.RIVALS} == {4}
    assert found[Key("one", "longer", 0)]["processor_seconds"] == 4.0
    # With another seed a rival trains for as many epochs, however long that takes.
    another = [Key("one", arm, 1) for arm in ("plain", "amm", "longer")]
    assert trainings.run(another[:2], tmp_path, threads=1) == []
    path = another[1].path(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "processor_seconds": 9.2}))
    assert trainings.run(another, tmp_path, threads=1) == []
    assert [records.read(key, tmp_path)["epochs"] for key in another] == [3, 3, 4]
    # On test images the same trainings, with the radius of the held-out ones: from the weights that were kept, or once
    # more where they are gone or those of another training.
    on_test = trainings.plan(["one"], ["plain", "amm", "paper"], [0], test=True)
    (weights / "one.paper.seed-0.npz").write_bytes((weights / "one.amm.seed-0.npz").read_bytes())
    trained = []
    fit = trainings.fit
    monkeypatch.setattr(trainings, "fit", lambda model, *others: trained.append(model) or fit(model, *others))
    assert trainings.run(on_test, tmp_path, 1, weights) == [] and tiny == [False] * (len(keys) + 3) + [True] * 3
    assert len(trained) == 1 and isinstance(trained[0], keras_amm.AMMModel)
    for key in on_test:
        record = records.read(key, tmp_path)
        held_out = found[key._replace(test=False)]
        assert (record["measured_on"], record["robust_radius"]) == ("test", held_out["robust_radius"])
        assert record["training_accuracy"] == held_out["training_accuracy"]
        assert record["signed_mean"] != held_out["signed_mean"]


def test_what_needs_another_record_waits_and_what_fails_stops_nothing(tiny, tmp_path, monkeypatch, capsys):
    keys = trainings.plan(["one"], ["amm", "pgd"], [0])
    assert trainings.run(keys, tmp_path, threads=1) == keys and not list(tmp_path.iterdir())
    assert "one pgd needs a held-out record of plain and amm first." in capsys.readouterr().out

    def train(key, *arguments):
        if key.cell == "one":
            raise ValueError("The loss is not finite.")
        return {"error_percent": 1.0, "margin": 1.0}

    monkeypatch.setattr(trainings, "train_and_measure", train)
    keys = trainings.plan(["one", "two"], ["plain"], [0])
    assert trainings.run(keys, tmp_path, threads=1) == keys[:1]
    assert [path.name for path in tmp_path.iterdir()] == ["two.plain.seed-0.json"]
    assert "The loss is not finite." in capsys.readouterr().err


def test_a_record_of_other_settings_is_refused(tiny, tmp_path, monkeypatch):
    key = Key("one", "plain", 0)
    trainings.run([key], tmp_path, threads=1)
    monkeypatch.setattr(records, "CELLS", {"one": dataclasses.replace(TINY, epochs=4)})
    with pytest.raises(records.RecordError, match=r"one.plain.seed-0.json was made with other settings of its cell"):
        trainings.run([key], tmp_path, threads=1)


# Command lines one after the other, as `python -m` runs them, in one process: to start one takes long. What one defines
# is gone before the next one, which may define the same flags.
COMMAND_LINES = """
import runpy, sys
from absl import flags

for module, *arguments in (line.split() for line in sys.argv[1:]):
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(f"benchmarks.helps.{module}", run_name="__main__")
    except SystemExit as error:
        print("code:", error.code, flush=True)
    for flag in flags.FLAGS.get_flags_for_module(module):
        delattr(flags.FLAGS, flag.name)
"""


def test_what_cannot_be_run(tmp_path):
    records = tmp_path / "records"
    lines = (
        "run y",
        f"run --records={records} --cells=x",
        f"run --records={records} --cells=mnist-mlp --arms=plain",
        "report --records=benchmarks",
    )
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_LINES, *lines], capture_output=True, text=True, cwd=EXAMPLES.parent,
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.count("code: ") == 4, done.stderr
    usage, unknown, not_prepared, report = done.stdout.partition("code: ")[2].split("code: ")
    assert usage.strip() == "1" and "Unknown arguments: y" in done.stdout + done.stderr
    assert "Received: --cells=x." in unknown and "TFDS_DATA_DIR" in not_prepared, done.stderr
    assert "Expected a record of one of the cells and arms. Received: benchmarks/" in report


def test_a_classifier_that_collapses_is_seen():
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="zeros")])
    network.layers[0].bias.assign([0.0, 1.0, 0.0])  # even if they look like probabilities
    with pytest.warns(UserWarning, match="gradient of the logits with respect to the image is zero at 60 of the 60"):
        found = measuring.measure(network, clusters(30, 0), clusters(60, 1), None, num_attacked=60)
    assert found["largest_predicted_share"] == 1.0 and found["largest_label_share"] == pytest.approx(1 / 3)
    assert found["attack_success"] == 0.0 and found["robust_accuracy"] <= 1 / 3
    # A third is correct and counts with 0: no attack of them succeeded.
    assert found["signed_mean"] <= 0.0 and found["error_percent"] == pytest.approx(200 / 3)


def test_pgd_stays_within_its_radius_and_raises_the_loss():
    keras.utils.set_random_seed(0)
    network = networks.build("mlp", (4,), 3)
    model = rivals.AdversarialTraining(network.inputs, network.outputs)
    model.radius = 0.25
    x, y = (tf.constant(part) for part in clusters(30, 0))
    attacked = model.attacked(x, y)
    norms = tf.norm(attacked - x, axis=1)
    assert float(tf.reduce_max(norms)) <= 0.25 * (1 + 1e-5) and float(tf.reduce_mean(norms)) > 0.24

    def losses(images):
        return keras.losses.sparse_categorical_crossentropy(y, network(images), from_logits=True)

    assert np.all(losses(attacked) > losses(x))


def test_the_jacobian_penalty_of_a_linear_network():
    """Of two classes: over random directions its mean is the squared Frobenius norm, here 4 + 9, times strength / 2."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    network.layers[0].kernel.assign([[2.0, 0.0], [0.0, 3.0]])
    model = rivals.JacobianPenalty(network.inputs, network.outputs)
    model.strength = 0.5
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.zeros((4_000, 2), "float32"), np.zeros(4_000, "int32")
    (loss,) = model.fit(x, y, batch_size=1_000, verbose=0).history["loss"]
    # Each image has a direction of its own, so the mean over 4,000 is near the expected value.
    assert loss == pytest.approx(np.log(2) + 0.25 * 13, rel=0.02)


def test_smoothed_labels():
    loss = rivals.SmoothedCrossEntropy(0.3)(tf.constant([1]), tf.constant([[0.0, 2.0, 0.0]]))
    log = 2.0 - np.log(2 + np.exp(2.0))
    assert float(loss) == pytest.approx(-(0.8 * log + 0.2 * (log - 2.0)), rel=1e-5)


@pytest.mark.parametrize(("limit", "epochs"), [(None, 9), (3.4, 3), (3.6, 4), (0.1, 2)])
def test_the_clock_stops_a_training_at_the_epoch_nearest_to_its_limit(monkeypatch, limit, epochs):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    clock = TrainingClock(2, limit)
    # One second an epoch.
    monkeypatch.setattr("benchmarks.helps.training_clock.time.process_time", lambda: float(clock.epochs))
    model.fit(np.zeros((2, 1)), np.zeros((2, 1)), epochs=9, verbose=0, callbacks=[clock])
    assert clock.epochs == epochs and clock.processor_seconds == epochs


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, (28, 28, 1)) for name in networks.OF_THE_PAPER] + [(name, (32, 32, 3)) for name in networks.FEATURES],
)
def test_networks_are_built(name, shape):
    assert networks.build(name, shape, 10)(np.zeros((2, *shape), "float32")).shape == (2, 10)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_networks_train_with_amm(name):
    """BatchNormalization, attention and trained positions included."""
    keras.utils.set_random_seed(0)
    shape = (28, 28, 1)
    network = networks.build(name, shape, 10)
    x = np.random.default_rng(0).normal(size=(10, *shape)).astype("float32")
    before = [np.array(weight) for weight in network.trainable_weights]
    model = arms.ARMS["amm"].wrap(network, arms.ARMS["amm"].settings, 1.0)
    arms.compile_model(model, Cell("mnist", name, "adamw", 10, 10, 1), {})
    model.run_eagerly = True  # two steps do not earn back the tracing of a deep graph
    logs = model.fit(x, np.arange(10), epochs=2, verbose=0).history
    assert np.isfinite(logs["loss"]).all() and logs["attack_success"][0] > 0
    assert all(np.any(old != np.array(new)) for old, new in zip(before, network.trainable_weights, strict=True))


def test_weight_decay_replaces_the_optimizer_s_own():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    decays = {}
    for arm in ("plain", "weight-decay"):
        for optimizer in optimizers.OPTIMIZERS:
            arms.compile_model(model, dataclasses.replace(TINY, optimizer=optimizer), arms.ARMS[arm].settings)
            decays[arm, optimizer] = model.optimizer.weight_decay
    assert [decays["plain", name] for name in ("sgd", "adam", "adamw")] == [None, None, 0.004]
    assert [decays["weight-decay", name] for name in ("sgd", "adam", "adamw")] == [5e-4, 0.05, 0.05]


def test_classes_are_chosen_and_thinned_out():
    y = np.tile(np.array([4, 9, 1], "int32"), 40)
    images = data.of_classes(Images(np.arange(120.0), y), (4, 9))
    assert list(images.y[:4]) == [0, 1, 0, 1] and list(images.x[:4]) == [0.0, 1.0, 3.0, 4.0]
    thinned = data.thin_out(images, (1,))
    assert np.bincount(thinned.y).tolist() == [40, 4]


def test_patients_are_apart():
    cell = CELLS["breast-cancer"]
    held_out, test = (data.load(cell, test) for test in (False, True))
    assert [len(part) for part in (held_out.train, held_out.measured, test.measured)] == [300, 150, 119]
    rows = np.concatenate([held_out.train.x, held_out.measured.x, test.measured.x])
    assert len(np.unique(rows, axis=0)) == 569 and held_out.num_classes == 2
    np.testing.assert_array_equal(held_out.train.x, test.train.x)
    np.testing.assert_allclose(held_out.train.x.std(0), 1.0, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_pair_that_is_hard_to_tell_apart():
    """T-shirts and shirts in batches of 32: AMM learns them, where the paper's setting may predict one class alone."""
    if not tfds.builder("fashion_mnist").is_prepared():
        pytest.skip("fashion_mnist is not prepared")
    cell = dataclasses.replace(CELLS["fashion-shirts"], num_train=600, epochs=4)
    images = data.load(cell)
    keras.utils.set_random_seed(0)
    network = networks.build(cell.network, images.train.x.shape[1:], images.num_classes)
    model = arms.ARMS["amm"].wrap(network, arms.ARMS["amm"].settings, None)
    arms.compile_model(model, cell, {})
    model.fit(*images.train, batch_size=cell.batch_size, epochs=cell.epochs, verbose=0)
    predictions = network.predict(images.measured.x, verbose=0).argmax(axis=1)
    share, error = measuring.largest_share(predictions), np.mean(predictions != images.measured.y)
    assert share < 0.65 and error < 0.22
