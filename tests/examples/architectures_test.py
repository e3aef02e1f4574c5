"""The paper's networks: sizes by hand and as published, details of their structure, frozen training."""

import functools
import importlib
import itertools
import math

import keras
import numpy as np
import pytest

import keras_amm
from examples.paper import architectures
from examples.paper.architectures import build, freeze_batch_normalization

IMAGE = {"mlp-800": (28, 28, 1), "mlp-512": (28, 28, 1), "lenet-mnist": (28, 28, 1), "liunet-mnist": (28, 28, 1)}


def conv(kernel_size, inputs, filters):
    return kernel_size**2 * inputs * filters + filters


def normed(kernel_size, inputs, filters):
    """A convolution without bias, and the scale and offset that follow it."""
    return kernel_size**2 * inputs * filters + 2 * filters


def dense(inputs, units):
    return inputs * units + units


def liunet_stages(image, per_stage, *filters):
    counts = [conv(3, image, filters[0]) + 2 * filters[0]]
    for inputs, outputs in itertools.pairwise(filters):
        counts += [conv(3, inputs, outputs) + 2 * outputs]
        counts += [(per_stage - 1) * (conv(3, outputs, outputs) + 2 * outputs)]
    return sum(counts)


def resnet_cifar(n):
    stages = [2 * n * normed(3, 16, 16)]
    stages += [normed(3, c // 2, c) + (2 * n - 1) * normed(3, c, c) for c in (32, 64)]
    return normed(3, 3, 16) + sum(stages) + dense(64, 10)


def densenet_basic(n, k):
    total, channels = 9 * 3 * 16, 16
    for block in range(3):
        for _ in range(n):
            total += 2 * channels + 9 * channels * k
            channels += k
        total += 2 * channels + (channels**2 if block < 2 else 0)
    return total + dense(channels, 10)


def resnet_18_count():
    total = normed(7, 3, 64) + 4 * normed(3, 64, 64)
    for c in (128, 256, 512):
        total += normed(3, c // 2, c) + 3 * normed(3, c, c) + normed(1, c // 2, c)
    return total + dense(512, 1000)


def resnet_50_count(squeeze=0):
    total, inputs = normed(7, 3, 64), 64
    for c, n in ((64, 3), (128, 4), (256, 6), (512, 3)):
        total += normed(1, inputs, 4 * c)
        for _ in range(n):
            total += normed(1, inputs, c) + normed(3, c, c) + normed(1, c, 4 * c)
            total += dense(4 * c, 4 * c // squeeze) + dense(4 * c // squeeze, 4 * c) if squeeze else 0
            inputs = 4 * c
    return total + dense(2048, 1000)


# By name: the count by hand, and the published figure with its unit, where there is one.
COUNTS = {
    "mlp-800": (dense(784, 800) + dense(800, 800) + dense(800, 10), None),
    "mlp-512": (dense(784, 512) + dense(512, 512) + dense(512, 10), None),
    # Caffe's LeNet is quoted as 431k.
    "lenet-mnist": (conv(5, 1, 20) + conv(5, 20, 50) + dense(800, 500) + dense(500, 10), (431, 1e3)),
    "liunet-mnist": (liunet_stages(1, 3, 64, 64, 64, 64) + dense(3 * 3 * 64, 256) + dense(256, 10), None),
    "lenet": (conv(5, 3, 32) + conv(5, 32, 32) + conv(5, 32, 64) + dense(1024, 64) + dense(64, 10), None),
    # [43] has 0.97M for CIFAR-10.
    "nin": (
        conv(5, 3, 192)
        + conv(1, 192, 160)
        + conv(1, 160, 96)
        + conv(5, 96, 192)
        + 3 * conv(1, 192, 192)
        + conv(3, 192, 192)
        + conv(1, 192, 10),
        (0.97, 1e6),
    ),
    "liunet": (liunet_stages(3, 4, 64, 64, 96, 128) + dense(4 * 4 * 128, 256) + dense(256, 10), None),
    "liunet-96": (liunet_stages(3, 4, 96, 96, 192, 384) + dense(4 * 4 * 384, 512) + dense(512, 10), None),
    # [44], Table 6.
    "resnet-20": (resnet_cifar(3), (0.27, 1e6)),
    "resnet-56": (resnet_cifar(9), (0.85, 1e6)),
    # [45], Table 2.
    "densenet-40": (densenet_basic(12, 12), (1.0, 1e6)),
    # As PyTorch's model zoo counts them.
    "resnet-18": (resnet_18_count(), (11.7, 1e6)),
    "resnet-50": (resnet_50_count(), (25.6, 1e6)),
    # [48], Table 2.
    "senet-50": (resnet_50_count(squeeze=16), (28.1, 1e6)),
}


@pytest.fixture(scope="module")
def built():
    """Builds a network once for all tests that only look at it: the deep ones take a second."""
    return functools.cache(build)


def trainable(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def images(number, shape, seed=0):
    return np.random.default_rng(seed).random((number, *shape), dtype="float32") - 0.5


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_size(name, built):
    by_hand, published = COUNTS[name]
    model = built(name)
    assert trainable(model) == by_hand
    if published:
        figure, unit = published
        decimals = len(str(figure).partition(".")[2])
        assert round(by_hand / unit, decimals) == figure
    assert type(model) is keras.src.models.functional.Functional
    assert model.output_shape == (None, 1000 if by_hand > 11e6 else 10)
    # Logits: nothing bounds the output.
    assert not any(isinstance(layer, keras.layers.Softmax) for layer in model.layers)
    assert getattr(model.layers[-1], "activation", keras.activations.linear) is keras.activations.linear


@pytest.mark.parametrize("name", ["lenet", "nin", "liunet-96", "resnet-20", "densenet-40"])
def test_a_hundred_classes_widen_the_last_layer_only(name, built):
    ten, hundred = built(name), build(name, num_classes=100)
    assert hundred.output_shape == (None, 100)
    features = hundred.layers[-1 if name != "nin" else -2].kernel.shape[-2]
    assert trainable(hundred) - trainable(ten) == 90 * (features + 1)


@pytest.mark.parametrize("name", ["lenet-mnist", "liunet", "nin", "resnet-20", "senet-50"])
def test_he_initialisation(name, built):
    for layer in built(name).layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None or math.prod(kernel.shape) < 10_000:
            continue
        values = keras.ops.convert_to_numpy(kernel)
        fan_in = math.prod(kernel.shape[:-1])
        # The deviation of n normal numbers is known to about 1 / sqrt(2 n).
        assert np.std(values) == pytest.approx(math.sqrt(2.0 / fan_in), rel=5.0 / math.sqrt(2 * values.size))
        assert abs(np.mean(values)) < 5.0 * math.sqrt(2.0 / fan_in / values.size)


def test_group_normalisation_by_size_or_number(built):
    def groups(model):
        return [layer.groups for layer in model.layers if isinstance(layer, keras.layers.GroupNormalization)]

    assert groups(built("liunet-96")) == 5 * [96 // 32] + 4 * [192 // 32] + 4 * [384 // 32]
    assert groups(build("liunet-96", group_size=16)) == 5 * [6] + 4 * [12] + 4 * [24]
    assert groups(build("liunet-96", groups=16)) == 13 * [16]


def test_group_normalisation_leaves_samples_alone():
    model = build("liunet-mnist")
    x = images(4, IMAGE["liunet-mnist"])
    np.testing.assert_allclose(model(x, training=True)[:1], model(x[:1], training=False), rtol=1e-4, atol=1e-5)


def test_strided_convolution_samples_from_the_first_pixel():
    """As in Caffe and PyTorch; Keras's own padding would begin at the second."""
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, architectures.layers.centred_conv(inputs, 1, 3, strides=2))
    model.layers[-1].kernel.assign(np.eye(9)[4].reshape(3, 3, 1, 1))
    x = images(2, (6, 6, 1))
    np.testing.assert_array_equal(model(x), x[:, ::2, ::2])


def test_shortcut_pads_channels_and_takes_every_other_pixel():
    """With all residuals off, three stages only average, subsample and pad."""
    model = build("resnet-20", input_shape=(8, 8, 3))
    first, *others = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in others:
        layer.gamma.assign(keras.ops.zeros_like(layer.gamma))
    x = images(2, (8, 8, 3))
    stem = keras.ops.convert_to_numpy(keras.ops.relu(keras.Model(model.input, first.output)(x)))
    features = keras.Model(model.input, model.layers[-2].output)(x)
    assert features.shape == (2, 64)
    np.testing.assert_allclose(features[:, 24:40], stem[:, ::4, ::4].mean((1, 2)), rtol=1e-5, atol=1e-6)
    assert not np.any(features[:, :24]) and not np.any(features[:, 40:])


def test_stride_of_the_bottleneck(built):
    def strided_kernels(model):
        convs = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        return sorted(layer.kernel_size[0] for layer in convs if layer.strides[0] == 2)

    assert strided_kernels(built("resnet-50")) == [1, 1, 1, 3, 3, 3, 7]
    assert strided_kernels(build("resnet-50", stride_in_first=True)) == 6 * [1] + [7]
    assert strided_kernels(built("senet-50")) == 6 * [1] + [7]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp-800", {}),
        ("lenet-mnist", {}),
        ("liunet-mnist", {"input_shape": (20, 20, 1)}),
        ("lenet", {}),
        ("nin", {"input_shape": (16, 16, 3)}),
        ("liunet", {"input_shape": (16, 16, 3)}),
        ("resnet-20", {"depth": 8, "input_shape": (16, 16, 3)}),
        ("densenet-40", {"depth": 10, "input_shape": (16, 16, 3)}),
    ],
)
def test_margin_penalty(name, options):
    network = build(name, **options)
    # He's weights make the logits of a deep network so large that its first margins are out of EXP's reach.
    network.layers[-1].kernel.assign(0.1 * network.layers[-1].kernel) if name != "nin" else None
    freeze_batch_normalization(network)
    # Few candidates: what is tried is that each network can be differentiated twice.
    attack = keras_amm.DeepFool(num_candidates=3)
    model = keras_amm.wrap(network, keras_amm.MarginRegularizer.from_paper("min-exp"), attack)
    x = images(6, network.input_shape[1:])
    model.compile(
        keras.optimizers.SGD(1e-3, global_clipnorm=10.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # One step does not earn back the tracing of a deep graph.
        run_eagerly=True,
    )
    before = [keras.ops.convert_to_numpy(weight) for weight in network.trainable_weights]
    logs = model.train_on_batch(x, np.arange(6) % 10, return_dict=True)
    assert 0.0 < logs["margin_penalty"] <= 50.0
    assert logs["attack_success"] > 0.0
    assert all(np.all(np.isfinite(weight)) for weight in network.get_weights())
    moved = [np.any(a != b) for a, b in zip(before, network.trainable_weights, strict=True)]
    assert np.mean(moved) > 0.9


def test_frozen_batch_normalisation_is_per_sample_and_does_not_learn():
    network = build("resnet-20", depth=8, input_shape=(8, 8, 3))
    x, y = images(8, (8, 8, 3)), np.arange(8) % 10
    for _ in range(3):
        network(x, training=True)
    assert freeze_batch_normalization(network) == 7
    np.testing.assert_allclose(network(x, training=True)[:1], network(x[:1], training=False), rtol=1e-4, atol=1e-5)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    statistics = [weight for layer in norms for weight in layer.get_weights()]
    kernel = keras.ops.convert_to_numpy(network.layers[-1].kernel)
    model = keras_amm.wrap(network)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    model.fit(x, y, batch_size=8, verbose=0)
    for old, new in zip(statistics, [w for layer in norms for w in layer.get_weights()], strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.any(kernel != network.layers[-1].kernel)


def test_freezing_finds_nested_layers():
    inner = build("resnet-20", depth=8, input_shape=(8, 8, 3))
    outer = keras.Sequential([keras.Input((8, 8, 3)), inner])
    assert freeze_batch_normalization(outer) == 7
    assert not any(layer.trainable for layer in inner.layers if isinstance(layer, keras.layers.BatchNormalization))
    assert freeze_batch_normalization(build("lenet")) == 0


@pytest.mark.parametrize("name", ["liunet-mnist", "resnet-20", "densenet-40"])
def test_saves_and_loads(name, tmp_path):
    options = {"resnet-20": {"depth": 8}, "densenet-40": {"depth": 7}}.get(name, {})
    model = build(name, **options)
    x = images(2, IMAGE.get(name, (32, 32, 3)))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


def test_scripts_import_it_as_their_neighbour(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    neighbour = importlib.import_module("paper.architectures")
    assert neighbour.build("mlp-800", units=3).count_params() == dense(784, 3) + dense(3, 3) + dense(3, 10)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenet-5", {}, "Expected one of mlp-800, .*senet-50. Received: name='lenet-5'"),
        ("lenet", {"pooling": ("max", "mean", "max")}, "'max' and 'average'. Received: pooling="),
        ("liunet", {"width": 32}, r"Expected one of \[64, 96\]. Received: width=32"),
        ("liunet", {"group_size": 48}, "divisor of the stage's 64 channels. Received: group_size=48"),
        ("liunet", {"groups": 5}, "divisor of the stage's 64 channels. Received: groups=5"),
        ("resnet-20", {"depth": 21}, r"6 n \+ 2. Received: depth=21"),
        ("densenet-40", {"depth": 39}, r"3 n \+ 4. Received: depth=39"),
    ],
)
def test_errors(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)
