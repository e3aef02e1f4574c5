"""Trainings that go on where they were, to the same end, and folders that hold another one."""

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
import tensorflow as tf

from paper import json_files
from paper.reproduce import planning
from paper.training import run_folder, run_records, trainer
from tests.helpers.training_settings import resolve

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]

# Graphs that run a few times are not worth optimising, and those that run once not even tracing.
QUICKLY = """
import tensorflow as tf
from paper.training import trainer

def eagerly(*arguments):
    tf.config.run_functions_eagerly(True)
    found = measure(*arguments)
    tf.config.run_functions_eagerly(False)
    return found

tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
measure, trainer.measure = trainer.measure, eagerly
"""

SCRIPT = f"""{QUICKLY}
import runpy

runpy.run_path({str(planning.EXAMPLES / "cifar100.py")!r}, run_name="__main__")
"""

SHORT = "--epochs=4 --batch_size=2 --drop_at=2 --drop_to=0.1 --eval_margins=4 --log_margins=0".split()

# What takes the least time to trace.
SHORT += ["--num_candidates=2", "--gradient=boundary"]

# The same script, which trains in a folder beside its own, and then in its own, where it is killed after the fifth of
# ten steps of the third epoch.
KILLED = (
    f"{QUICKLY}"
    """
import os, signal, sys
import keras
from paper.training import script, trainer

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (2, 4):
            print("killed after step", int(self.model.optimizer.iterations), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

def through_and_killed(settings, out, resume):
    train(settings, out.parent / "through", resume)
    trainer._loggers = lambda *arguments: [*loggers(*arguments), Kill()]
    return train(settings, out, resume)

train, loggers = trainer.train_in_steps, trainer._loggers
script.train_in_steps = through_and_killed
script.run("cifar100")
"""
)


def start(out, data_dir, script=SCRIPT):
    # One thread and one library: sums are then taken in one order, and runs can be compared to the last bit.
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(planning.EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", script, *SHORT, f"--out={out}", f"--data_dir={data_dir}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def weights(out):
    return keras.models.load_model(out / "model.keras", compile=False).get_weights()


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, data_dir):
    through, killed = tmp_path / "through", tmp_path / "killed"
    process = start(killed, data_dir, KILLED)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == -signal.SIGKILL and output.splitlines()[-1] == "killed after step 25", output
    assert len(run_records.read_history(killed / "history.csv")) == 2 and not (killed / "model.keras").exists()
    run = start(killed, data_dir)
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


def test_two_replicas_continue_as_one_device_does(tmp_path, data_dir, linear_on_replicas, eagerly):
    given = {"epochs": 2, "batch_size": 10, "learning_rate": 0.05, "drop_at": [], "data_dir": data_dir}
    given.update(num_candidates=2, gradient="boundary", augment=False)
    one, two = tmp_path / "one", tmp_path / "two"
    trainer.train(resolve("cifar100", "lenet", **{**given, "epochs": 1}), one)
    shutil.copytree(one, two)
    alone = trainer.train(resolve("cifar100", "lenet", **given), one)
    # Replicas need graphs.
    tf.config.run_functions_eagerly(False)
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


@pytest.mark.usefixtures("eagerly")
def test_a_longer_run_continues_and_a_shorter_one_is_refused(tmp_path, data_dir, linear):
    given = {"batch_size": 10, "learning_rate": 0.05, "drop_at": [], "data_dir": data_dir, "amm": False}
    given.update(augment=False)
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


@pytest.mark.usefixtures("eagerly")
def test_other_initial_weights_are_another_run(tmp_path, data_dir, linear):
    given = {"epochs": 1, "batch_size": 10, "drop_at": [], "data_dir": data_dir, "augment": False, "amm": False}
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


@pytest.mark.usefixtures("eagerly")
def test_initial_weights_may_be_moved(tmp_path, data_dir, linear):
    """They are known by their values, so that a run continues wherever their file is."""
    given = {"epochs": 1, "batch_size": 10, "drop_at": [], "data_dir": data_dir, "augment": False, "amm": False}
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


@pytest.mark.usefixtures("eagerly")
def test_what_is_finished_is_not_done_again(tmp_path, data_dir, linear, monkeypatch, capsys):
    given = {"epochs": 1, "batch_size": 10, "drop_at": [], "data_dir": data_dir, "augment": False, "amm": False}
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


@pytest.mark.usefixtures("eagerly", "linear")
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


@pytest.mark.usefixtures("eagerly")
def test_wrong_settings_leave_the_folder_free(tmp_path, data_dir, linear):
    given = {"epochs": 1, "batch_size": 10, "drop_at": [], "data_dir": data_dir, "augment": False, "amm": False}
    for wrong in ({"num_train": 21}, {"init_from": "nowhere"}, {"amm": True, "screening": 2.0}):
        with pytest.raises(trainer.SettingsError, match="Received"):
            trainer.train(resolve("cifar100", "lenet", **{**given, **wrong}), tmp_path / "run")
    assert trainer.train(resolve("cifar100", "lenet", **given), tmp_path / "run")["epochs"] == 1
