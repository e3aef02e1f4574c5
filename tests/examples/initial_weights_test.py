"""Where the weights come from that a training starts from: new ones, a run, a file, published ones."""

import functools
import sys

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from paper import architectures
from paper.training import initial_weights, starting_network
from tests.helpers.training_settings import resolve


def test_fine_tuning_freezes_batch_normalisation(tmp_path):
    trained = architectures.build("resnet-20")
    norm = next(layer for layer in trained.layers if isinstance(layer, keras.layers.BatchNormalization))
    norm.moving_mean.assign(keras.ops.full((16,), 0.5))
    trained.save(tmp_path / "model.keras")
    network = starting_network.initial_network(resolve("cifar10", "resnet-20", init_from=str(tmp_path)), num_classes=10)
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
    network = starting_network.initial_network(given, 10)
    network.save_weights(tmp_path / "liunet.weights.h5")
    loaded = starting_network.initial_network({**given, "init_from": str(tmp_path / "liunet.weights.h5")}, 10)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(x), network(x))
    assert {layer.groups for layer in loaded.layers if isinstance(layer, keras.layers.GroupNormalization)} == {16}
    default = starting_network.initial_network(resolve("cifar10", "liunet"), 10)
    assert {layer.groups for layer in default.layers if isinstance(layer, keras.layers.GroupNormalization)} == {2, 3, 4}


def test_groups_that_a_whole_model_has_not(tmp_path):
    network = starting_network.initial_network(resolve("cifar10", "liunet", groups=16), 10)
    network.save(tmp_path / "model.keras")
    assert initial_weights.load_network("liunet", 10, str(tmp_path), groups=16).count_params() == network.count_params()
    for options in ({}, {"groups": 8}):
        with pytest.raises(ValueError, match=r"pass --groups as it was trained. Expected: .* Received: .16, 16"):
            initial_weights.load_network("liunet", 10, str(tmp_path), **options)


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


def test_resnet_50_computes_what_keras_applications_does(tmp_path, monkeypatch):
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
    wanted = ours.get_weights()
    # To build a network takes a second: those of one shape are one, whose weights are gone before the next file.
    monkeypatch.setattr(architectures, "build", functools.cache(architectures.build))
    for file in files:
        loaded = initial_weights.load_network("resnet-50", 7, str(file))
        for a, b in zip(loaded.get_weights(), wanted, strict=True):
            np.testing.assert_array_equal(a, b)
        loaded.set_weights([np.zeros_like(weight) for weight in wanted])
