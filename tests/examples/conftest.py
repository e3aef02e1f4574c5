"""Tiny data sets, networks that take little time to trace, and runs that are no trainings.

Fixtures import what they need themselves: pytest loads this file before TensorFlow has been set up for the tests.
"""

import pytest


@pytest.fixture(scope="session")
def svhn(tmp_path_factory):
    """A tiny SVHN: its folder, and its images and labels by split."""
    from tests.helpers import tiny_data_sets

    folder = tmp_path_factory.mktemp("svhn")
    return str(folder), tiny_data_sets.prepare_svhn(folder)


@pytest.fixture(scope="session")
def cifar100(tmp_path_factory):
    """A tiny CIFAR-100: its folder, and its images and labels by split."""
    from tests.helpers import tiny_data_sets

    folder = tmp_path_factory.mktemp("cifar100")
    return str(folder), tiny_data_sets.prepare_cifar100(folder)


@pytest.fixture(scope="session")
def data_dir(cifar100):
    """The folder of the tiny CIFAR-100."""
    return cifar100[0]


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory):
    """The folder of a tiny ImageNet."""
    from tests.helpers import tiny_data_sets

    folder = tmp_path_factory.mktemp("imagenet")
    tiny_data_sets.prepare_imagenet(folder)
    return str(folder)


@pytest.fixture
def linear(monkeypatch):
    """Linear classifiers in place of all architectures."""
    import keras

    from paper import architectures

    def build(name, num_classes):
        dense = keras.layers.Dense(num_classes, kernel_initializer="he_normal")
        return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), dense])

    monkeypatch.setattr(architectures, "build", build)
    return build


@pytest.fixture
def linear_on_replicas(monkeypatch, mirrored, linear):
    """The same, and the one strategy of all tests."""
    from paper.training import trainer

    monkeypatch.setattr(trainer, "_mirrored_strategy", lambda: mirrored)


@pytest.fixture
def own_flags():
    """No flags but absl's own, as in a new process; afterwards those that were there before are there again."""
    from absl import flags

    others = {
        module: list(defined)
        for module, defined in flags.FLAGS.flags_by_module_dict().items()
        if not module.startswith("absl")
    }
    _remove_flags(others)
    yield
    flags.FLAGS.unparse_flags()
    _remove_flags(module for module in flags.FLAGS.flags_by_module_dict() if not module.startswith("absl"))
    for module, defined in others.items():
        for flag in defined:
            flags.FLAGS[flag.name] = flag
            flags.FLAGS.register_flag_by_module(module, flag)


def _remove_flags(modules):
    from absl import flags

    for module in list(modules):
        for flag in list(flags.FLAGS.flags_by_module_dict().get(module, ())):
            for name in {flag.name, flag.short_name} - {None}:
                delattr(flags.FLAGS, name)


SCRIPT = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "threads").write_text(os.environ["OMP_NUM_THREADS"])
(folder / "starts").open("a").write("x")
if sys.argv[2] == "wait":
    time.sleep(60)
if sys.argv[2] == "together":
    # Until all have begun.
    while len(list(folder.parent.glob("*/starts"))) < len(list(folder.parent.iterdir())):
        time.sleep(0.02)
    time.sleep(0.5)
if sys.argv[2] == "fail":
    raise SystemExit("no luck")
if sys.argv[2] != "nothing":
    (folder / "result.json").write_text(json.dumps({"seed": 0, "training_seconds": 1.0}))
"""


@pytest.fixture
def executor(tmp_path):
    """Runs two processes at a time."""
    from paper.reproduce import execution

    return execution.Executor(tmp_path / "records", tmp_path / "work", jobs=2, cores=2)


@pytest.fixture
def make_run(tmp_path):
    """A function of a run's name and of what it does: a run of the script above."""
    from paper.reproduce import planning

    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return lambda name, outcome="ok": planning.Run(name, (str(script), "{folder}", outcome))
