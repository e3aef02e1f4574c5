"""The training of variants: what reaches it, what is trained once, resumed and refused, and what is printed."""

import dataclasses
import functools
import json
import logging
import runpy
import sys

import absl.logging
import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

import keras_amm
from paper.data import data_sets
from paper.data.data_sets import DATA_SETS, DataSet
from paper.reproduce import planning
from paper.training import fitting, run_folder
from paper.training.checkpoints import Checkpoint
from paper.training.coupled_sgd import CoupledDecaySGD
from paper.training.table_2 import TABLE_2
from paper.variants import comparison, lin, protocol, script
from paper.variants.lenet import LENET_VARIANTS
from paper.variants.lin import LIN_VARIANTS, build_mlp


def build_linear(variant):
    """A linear network, which takes little time, in place of the MLP."""
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    return keras_amm.wrap(network, lin.regularizer(variant), keras_amm.DeepFool(variant.max_iterations))


train_lin = functools.partial(protocol.train, build=build_linear)


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
        train = tf.data.Dataset.range(1).flat_map(lambda _: batches(40, 3 * tf.identity(epoch)))
        train = train.apply(tf.data.experimental.assert_cardinality(2))
        held_out = batches(30) if arguments["num_validation"] else None
        return DataSet(DATA_SETS[name], train, held_out, batches(40), 40, epoch)

    monkeypatch.setattr(data_sets, "load", load)
    return asked


def test_the_protocol_is_the_paper_s():
    """Section 4.2, and Table 2 of the appendix."""
    row, variant = TABLE_2["mnist"]["mlp-800"], protocol.Variant("")
    assert variant.learning_rate == row.learning_rate
    assert variant.l2 == CoupledDecaySGD().l2 == 1e-4


@pytest.mark.usefixtures("eagerly")
def test_what_a_variant_sets_reaches_the_training(few_images, tmp_path, monkeypatch):
    """The optimizer, the order of the images, the attack and the penalty."""
    made = {}

    def fit(model, *arguments, **settings):
        made["model"] = model
        return original(model, *arguments, **settings)

    original = keras.Model.fit
    monkeypatch.setattr(keras_amm.AMMModel, "fit", fit)
    variant = dataclasses.replace(
        LIN_VARIANTS["avg-lin.one-step"], l2=0.5, learning_rate=0.25, global_clipnorm=None, shuffle=False, c=3.0
    )
    protocol.train(variant, protocol.Training(0, 3, False, tmp_path / "latest.weights.h5"), build_mlp)
    model = made["model"]
    assert (model.optimizer.l2, model.optimizer.global_clipnorm) == (0.5, None)
    assert model.optimizer._learning_rate(0) == 0.25
    assert model.attack.max_iterations == 1
    assert (model.regularizer.c, model.regularizer.only_successful) == (3.0, False)
    assert few_images[-1]["shuffle"] is False and few_images[-1]["num_validation"] == 5_000


@pytest.mark.usefixtures("eagerly")
def test_a_variant_is_trained_once(few_images, tmp_path, capsys):
    chosen = comparison.choose(LIN_VARIANTS, ["min-lin.rate"])
    printed, written = [], []
    for _ in range(2):
        comparison.compare(chosen, train_lin, seeds=2, epochs=5, out=tmp_path)
        printed.append(capsys.readouterr().out)
        written.append({path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()})
    assert printed[0] == printed[1] and written[0] == written[1] and len(written[0]) == 2
    assert [asked["seed"] for asked in few_images] == [0, 1]
    results = [json.loads((tmp_path / f"min-lin.rate.epochs-5.seed-{seed}.json").read_text()) for seed in range(2)]
    assert all(result["form"]["learning_rate"] == 1e-2 and result["epochs"] == 5 for result in results)
    assert {(result["measured_on"], result["margin_images"]) for result in results} == {("validation", 30)}
    # A row of the class's is easily told.
    assert results[0]["error_percent"] < 50 and results[0]["margin_mean"] != results[1]["margin_mean"]
    row = printed[0].splitlines()[2].split(" | ")
    assert row[0] == "| MIN+LIN: learning rate of 1e-2, the published code's default"
    assert row[1] == ", ".join(f"{result['error_percent']:.2f}%" for result in results)


@pytest.mark.usefixtures("eagerly")
def test_on_the_test_images(few_images, tmp_path, capsys):
    """Trained on all others."""
    comparison.compare(comparison.choose(LIN_VARIANTS, ["avg-lin.ours"]), train_lin, 1, 3, tmp_path, test=True)
    assert few_images[0]["num_validation"] == 0
    result = json.loads((tmp_path / "avg-lin.ours.test.epochs-3.seed-0.json").read_text())
    assert (result["measured_on"], result["margin_images"]) == ("test", 40)
    assert "| test error |" in capsys.readouterr().out


@pytest.mark.usefixtures("eagerly")
def test_a_training_that_was_cut_off_goes_on(few_images, tmp_path, monkeypatch):
    """To the same end as without interruption, without doing again what was done."""
    chosen = comparison.choose(LIN_VARIANTS, ["min-lin.ours"])
    through = tmp_path / "through" / "latest.weights.h5"
    expected = train_lin(chosen["min-lin.ours"], protocol.Training(0, 3, False, through))

    class CutOff(Checkpoint):
        cut_off_at = 0

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == self.cut_off_at:
                raise InterruptedError

        def on_train_end(self, logs=None):
            raise InterruptedError

    begun = []

    class Counted(Checkpoint):
        def on_epoch_begin(self, epoch, logs=None):
            begun.append(epoch)

    for CutOff.cut_off_at in (1, 3):
        out = tmp_path / f"out-{CutOff.cut_off_at}"
        monkeypatch.setattr(fitting, "Checkpoint", CutOff)
        with pytest.raises(InterruptedError):
            comparison.compare(chosen, train_lin, 1, 3, out)
        begun.clear()
        monkeypatch.setattr(fitting, "Checkpoint", Counted)
        comparison.compare(chosen, train_lin, 1, 3, out)
        assert begun == list(range(CutOff.cut_off_at, 3))
        (path,) = out.iterdir()
        result = json.loads(path.read_text())
        assert result["margin_mean"] == pytest.approx(expected["margin_mean"], rel=1e-5)
        assert result["cross_entropy"] == pytest.approx(expected["cross_entropy"], rel=1e-4)


def test_choice():
    chosen = comparison.choose(LIN_VARIANTS, ["min-exp", "avg-lin.rate"])
    assert list(chosen) == ["avg-lin.rate", *(name for name in LIN_VARIANTS if name.startswith("min-exp."))]
    assert "min-exp.ours" in chosen and "min-lin.ours" not in chosen
    for names, got in ((["min-lin.r", "exp"], "exp, min-lin.r"), ([], "none")):
        with pytest.raises(ValueError, match=rf"Expected of avg-lin.ours, .*\. Received:? {got}\."):
            comparison.choose(LIN_VARIANTS, names)
    assert list(comparison.choose(LENET_VARIANTS, ["ours"])) == ["ours"]


def test_a_variant_that_has_changed(tmp_path):
    """Neither a result nor what was begun is taken for another's, and nothing is trained before that is clear."""
    variant, other = LENET_VARIANTS["ours"], LENET_VARIANTS["relu"]
    made = dataclasses.asdict(variant)
    # As if made before variants could differ in it.
    del made["pooling"]
    result = {"form": made, "error_percent": 1.0, "margin_mean": 1.0}

    def compare(train, **changes):
        chosen = {"other": other, "ours": dataclasses.replace(variant, **changes)}
        comparison.compare(chosen, train, seeds=1, epochs=3, out=tmp_path)

    def nothing(*_):
        raise AssertionError("It was trained.")

    def cut_off(*_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        compare(cut_off)
    with pytest.raises(
        comparison.OtherVariantError, match=r"filters=\[20, 50\], not \[5\]\. Remove .*other.epochs-3.seed-0, "
    ):
        comparison.compare({"other": dataclasses.replace(other, filters=(5,))}, nothing, 1, 3, tmp_path)
    (tmp_path / "ours.epochs-3.seed-0.json").write_text(json.dumps(result))
    for changes in ({"l2": 0.5}, {"pooling": "average"}):
        with pytest.raises(comparison.OtherVariantError, match=r"Remove .*ours.epochs-3.seed-0.json"):
            compare(nothing, **changes)
    compare(lambda variant, _: {**result, "form": dataclasses.asdict(variant)}, title="another title")


def test_two_processes_train_a_variant_once(tmp_path):
    chosen = {"ours": LENET_VARIANTS["ours"]}

    def train(*_):
        comparison.compare(chosen, train, 1, 3, tmp_path)

    with pytest.raises(run_folder.InUseError, match="Another process trains"):
        comparison.compare(chosen, train, 1, 3, tmp_path)


@pytest.mark.usefixtures("own_flags")
def test_command_line(monkeypatch, capsys):
    """Of the script itself, with its own flags, in this process: to start another one takes long."""
    path = planning.EXAMPLES / "lin_variants.py"
    for arguments, said in (["--variants=x"], "Received: x"), (["y"], r"Unknown arguments: ['y']"):
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        try:
            with pytest.raises(SystemExit) as error:
                runpy.run_path(str(path), run_name="__main__")
        finally:
            # The script defines them again.
            for flag in flags.FLAGS.get_flags_for_module(script.__name__):
                delattr(flags.FLAGS, flag.name)
            logging.root.removeHandler(absl.logging.get_absl_handler())
        printed = capsys.readouterr()
        assert error.value.code == 1 and said in printed.out + printed.err
