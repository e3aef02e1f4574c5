"""Settings of every test: quiet, seeded, and doctests that need no imports."""

import gc
import importlib.metadata
import os
import random

# Before TensorFlow is imported, by whichever test comes first.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["MPLBACKEND"] = "Agg"
if tuple(map(int, importlib.metadata.version("tensorflow").split(".")[:2])) >= (2, 21):
    # The tests compile far more than they compute: machine code that is made fast, not fast code, takes a third of the
    # time. Older versions stop at flags that they do not know.
    cheap = ("backend_optimization_level=0", "cpu_parallel_codegen_split_count=1", "cpu_use_fusion_emitters=false")
    os.environ.setdefault("XLA_FLAGS", " ".join(f"--xla_{flag}" for flag in cheap))

import numpy as np
import pytest


def pytest_sessionstart(session):
    """What must be set before any other use of TensorFlow."""
    if getattr(session.config.option, "numprocesses", None):
        return  # the controller of pytest-xdist runs no tests
    import tensorflow as tf

    # For the tests of several replicas.
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    if hasattr(session.config, "workerinput"):
        # pytest-xdist runs a worker per core: threads of their own would only get in each other's way.
        tf.config.threading.set_intra_op_parallelism_threads(1)
    # Graphs that run once or twice are not worth optimising, and hiding frames of a traceback costs every call.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    tf.debugging.disable_traceback_filtering()
    _keep_kernels()


def _keep_kernels():
    """Let a new seed keep what TensorFlow has prepared to run, which it would drop, and prepare again in every test.

    Only random operations with a state of their own need to be dropped, such as those of `tf.random.normal`. No test
    relies on their numbers: Keras draws its own without.
    """
    from tensorflow.python.eager import context

    def set_global_seed(self, seed):
        self._seed, self._rng = seed, random.Random(seed)

    context.Context._set_global_seed = set_global_seed


def pytest_collection_finish(session):
    """Spare the collector what stays: looking through all that TensorFlow and Keras import takes half a second."""
    gc.collect()
    gc.freeze()
    # Tracing makes many objects, and few of them are garbage.
    gc.set_threshold(10_000, 10, 10)


def pytest_sessionfinish(session):
    """What is imported only now may ask the collector who refers to what, as hypothesis does."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _reproducible():
    """The same random numbers and printed arrays in whatever order the tests run."""
    # Not imported above: the controller of pytest-xdist loads this file too, and needs no Keras.
    import keras

    keras.utils.set_random_seed(0)
    with np.printoptions(precision=8, suppress=False, threshold=1000, linewidth=75):
        yield


@pytest.fixture(scope="session")
def mirrored():
    """Two replicas; one strategy for all tests, since those of one process would mix up their collective operations."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def eagerly():
    """Without graphs: where they are not the point, tracing them takes far longer than a few small steps."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def _names_of_examples(doctest_namespace):
    """What docstrings use without importing it."""
    import keras
    import tensorflow as tf

    import keras_amm

    doctest_namespace.update(keras=keras, keras_amm=keras_amm, np=np, tf=tf)
