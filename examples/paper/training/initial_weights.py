"""Networks to fine-tune: an earlier run's, a file's, or ImageNet's from `keras.applications` and keras-hub."""

import contextlib
import importlib
import pathlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from .. import architectures

# keras.applications takes pixels of 0..255, blue first; ours are in [0, 1], red first.
_BLUE_FIRST = [2, 1, 0]
_SCALE = 255.0
# The networks with published ImageNet weights, and whose these are.
PUBLISHED = {"resnet-18": "keras-hub's resnet_18_imagenet", "resnet-50": "keras.applications.ResNet50"}


def load_network(name: str, num_classes: int, source: str, **options: Any) -> keras.Model:
    """A trained network.

    A file `.keras` holds the whole network. A file `.weights.h5` holds weights only, which are loaded into the network
    that `architectures.build` makes: the options must be those that it was trained with.

    Args:
        name: str, one of `architectures.ARCHITECTURES`.
        num_classes: int, the number of its logits.
        source: str, one of
            - the folder of a finished run,
            - a file `.keras` or `.weights.h5` of this network,
            - for resnet-50, such a file of `keras.applications.ResNet50`, or the `.h5` that Keras publishes,
            - for resnet-18, a file `.keras` of keras-hub's ResNet-18,
            - `imagenet`: the weights that these two publish, which are downloaded.
        **options: further arguments of `architectures.build`, those that it was trained with.

    Returns:
        `keras.Model`, all of it trainable.

    Raises:
        ValueError: there is no such source, or it is of another network.
    """
    if source == "imagenet":
        return _published(name)
    path = pathlib.Path(source)
    if path.is_dir():
        path /= "model.keras"
    if not path.is_file():
        raise ValueError(f"Expected the folder of a finished run, a file, or 'imagenet'. Received: {source!r}.")
    if path.suffix == ".h5":
        return _with_weights(name, num_classes, path, options)
    network = architectures.build(name, num_classes, **options)
    if name == "resnet-18":
        # Keras can load keras-hub's classes once it is imported.
        with contextlib.suppress(ImportError):
            importlib.import_module("keras_hub")
    trained = keras.models.load_model(path, compile=False)
    trained = getattr(trained, "base_model", trained)
    if name == "resnet-50" and _is_keras_applications(trained):
        trained = from_keras_applications(trained)
    elif name == "resnet-18" and hasattr(trained, "backbone"):
        trained = from_keras_hub(trained)
    expected, found = ([weight.shape for weight in model.get_weights()] for model in (network, trained))
    if expected != found or trained.output_shape != network.output_shape:
        raise ValueError(
            f"{path} does not hold {name!r} with {num_classes} classes: it has {len(found)} weights and output "
            f"{trained.output_shape}, not {len(expected)} and {network.output_shape}, or weights of other shapes."
        )
    wanted, own = (_groups(model) for model in (network, trained))
    if wanted != own:
        raise ValueError(
            f"The groups of the normalisations of {path} are others: pass --groups as it was trained. "
            f"Expected: {wanted}. Received: {own}."
        )
    # It is returned itself, instead of a new network with its weights: so it keeps options that leave no trace in the
    # weights, such as pooling.
    for layer in trained._flatten_layers():
        layer.trainable = True
    return trained


def _groups(network: keras.Model) -> list[int]:
    """The numbers of groups of its normalisations, which its weights do not show."""
    return [layer.groups for layer in network.layers if isinstance(layer, keras.layers.GroupNormalization)]


def _published(name: str) -> keras.Model:
    """A network with published weights of ImageNet."""
    if name not in PUBLISHED:
        raise ValueError(
            f"There are published weights of {' and '.join(PUBLISHED)} only. Received: model={name!r}. "
            "Give a file .keras or .weights.h5."
        )
    try:
        if name == "resnet-50":
            return from_keras_applications(keras.applications.ResNet50(weights="imagenet"))
        keras_hub = importlib.import_module("keras_hub")
        return from_keras_hub(keras_hub.models.ImageClassifier.from_preset("resnet_18_imagenet"))
    except ImportError as error:
        raise ValueError(f"The weights of {name} come from keras-hub: pip install keras-hub. {error}") from error
    except Exception as error:
        # Downloads fail with many kinds of error, and the remedy is the same for all.
        raise ValueError(
            f"The weights of {PUBLISHED[name]} could not be had: {type(error).__name__}: {error}\n"
            "Where there is no network, give a file: the documentation on the paper's networks says which."
        ) from error


def _with_weights(name: str, num_classes: int, path: pathlib.Path, options: dict[str, Any]) -> keras.Model:
    """The network with the weights of a file."""
    networks = [architectures.build(name, num_classes, **options)]
    if name == "resnet-50":
        networks.append(keras.applications.ResNet50(weights=None, classes=num_classes))
    for network in networks:
        try:
            with warnings.catch_warnings():
                # Keras warns of parts that only newer versions save; where layers are missing it raises an error.
                warnings.filterwarnings("ignore", "Skipping nested container")
                network.load_weights(path)
        # What Keras raises for a file of another network.
        except (ValueError, KeyError):
            continue
        return from_keras_applications(network) if _is_keras_applications(network) else network
    raise ValueError(f"{path} does not hold the weights of {name!r} with {num_classes} classes.")


def _is_keras_applications(network: keras.Model) -> bool:
    return any(layer.name == "conv1_conv" for layer in network.layers)


def from_keras_applications(trained: keras.Model) -> keras.Model:
    """Our ResNet-50 with the weights of `keras.applications.ResNet50`.

    Both compute the same, up to rounding, if the same mean is subtracted from the pixels. Theirs differs in four
    things. Its stride is in the first convolution of a bottleneck, as ours has it with `stride_in_first`. It has biases
    before normalisations, which go into our moving means, and another epsilon, which goes into our moving variances.
    Its pixels have another scale and order of channels, which go into our first kernel.

    Args:
        trained: `keras.applications.ResNet50`, with its top; its softmax is dropped.

    Returns:
        `keras.Model`, images in [0, 1] less the mean, red first, to logits.
    """
    dense = trained.layers[-1]
    network = architectures.build("resnet-50", dense.units, input_shape=trained.input_shape[1:], stride_in_first=True)
    _copy_weights(network, trained, dense, lambda kernel: _SCALE * kernel[:, :, _BLUE_FIRST])
    return network


def from_keras_hub(trained: Any) -> keras.Model:
    """Our ResNet-18 with the weights of keras-hub's.

    Both compute the same, up to rounding, if the same mean is subtracted from the pixels. Theirs divides pixels by a
    deviation too, which goes into our first kernel.

    Args:
        trained: `keras_hub.models.ResNetImageClassifier` of basic blocks, with its preprocessor.

    Returns:
        `keras.Model`, images in [0, 1] less the mean to logits.

    Raises:
        ValueError: it is not a ResNet-18.
    """
    found = getattr(trained.backbone, "block_type", None), list(getattr(trained.backbone, "stackwise_num_blocks", []))
    if found != ("basic_block", [2, 2, 2, 2]):
        raise ValueError(
            "Expected keras-hub's ResNet-18, of basic blocks, 2, 2, 2 and 2. "
            f"Received: {type(trained.backbone).__name__}, block_type={found[0]!r}, stackwise_num_blocks={found[1]}."
        )
    converter = trained.preprocessor.image_converter
    scale = np.broadcast_to(np.asarray(converter.scale, np.float32), 3)
    network = architectures.build("resnet-18", trained.num_classes)
    _copy_weights(network, trained.backbone, trained.output_dense, lambda kernel: _SCALE * scale[:, None] * kernel)
    return network


def _copy_weights(
    network: keras.Model, trained: keras.Model, dense: keras.layers.Dense, adapt: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Copy the weights of a network with the same blocks into ours; `adapt` changes the first kernel."""
    for index, (ours, theirs) in enumerate(
        zip(_normalized_convolutions(network), _normalized_convolutions(trained), strict=True)
    ):
        kernel, *biases = theirs[0].get_weights()
        gamma, beta, mean, variance = theirs[1].get_weights()
        ours[0].set_weights([kernel if index else adapt(kernel)])
        variance += np.float32(theirs[1].epsilon - ours[1].epsilon)
        ours[1].set_weights([gamma, beta, mean - sum(biases), variance])
    network.layers[-1].set_weights(dense.get_weights())


def _normalized_convolutions(model: keras.Model) -> list[tuple[Any, Any]]:
    """Each convolution with its normalisation, block by block; a shortcut's is the last of its block."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return sorted(
        ((norm.input._keras_history.operation, norm) for norm in norms), key=lambda pair: _order(pair[0].name)
    )


def _order(name: str) -> tuple[bool, list[int]]:
    """What to sort convolutions by: the numbers in their names.

    Ours are conv2d_1, conv2d_2 and so on. keras.applications has conv1_conv and then conv2_block1_1_conv, keras-hub
    conv1_conv and then stack0_block0_1_conv; in both the last number of a shortcut is 0.
    """
    *block, number = (int(number) for number in re.findall(r"\d+", name))
    return name.startswith("stack"), [*block, number or 9]
