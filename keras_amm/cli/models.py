"""Saved models: loading them safely, and telling them apart."""

import importlib
import pathlib
import zipfile
from collections.abc import Sequence

import keras

from keras_amm.cli.errors import CommandError, first_line, raising_command_error
from keras_amm.network.classifier import require_classifier, unwrapped


def import_modules(names: Sequence[str]) -> None:
    """Import the user's modules, which register custom layers with Keras.

    Args:
        names: module names, as in an `import` statement.

    Raises:
        CommandError: there is no such module.

    Example:
    >>> keras_amm.cli.models.import_modules(["json"])
    """
    for name in names:
        with raising_command_error(f"--import={name}:", ModuleNotFoundError):
            importlib.import_module(name)


def load(path: str) -> keras.Model:
    """The classifier in a `.keras` file, loaded in safe mode and without its optimizer.

    Args:
        path: the file.

    Returns:
        The built classifier, a `keras.Model` or `AMMModel`.

    Raises:
        CommandError: the file is not a Keras model that can be loaded safely, or the model is no classifier.

    Example:
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/model.keras"
    >>> keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save(path)
    >>> keras_amm.cli.models.load(path).output_shape
    (None, 3)
    """
    if not pathlib.Path(path).is_file():
        raise CommandError(f"There is no model {path}.")
    # Other formats have no safe mode, or had none in some version of Keras.
    if not path.endswith(".keras") or not zipfile.is_zipfile(path):
        raise CommandError(f"{path} is not a Keras model: expected a file that model.save('name.keras') wrote.")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    # A damaged or foreign file may fail in any place of Keras, and in any way: nothing of ours but `from_config` runs.
    except Exception as error:
        raise CommandError(
            f"{path} cannot be loaded as a Keras model in safe mode: {type(error).__name__}: {first_line(error)} "
            "(--import=MODULE imports the module that registers custom layers; --debug shows the traceback.)"
        ) from error
    with raising_command_error(f"{path} is no classifier that has margins:", TypeError, ValueError):
        require_classifier(unwrapped(model))
    return model


def names(paths: Sequence[str]) -> list[str]:
    """Short and distinct names of files.

    Args:
        paths: the files.

    Returns:
        List of strings: the file names without their ending, or the names of folders where only these differ.

    Raises:
        CommandError: a file is given twice.

    Example:
    >>> keras_amm.cli.models.names(["runs/a/model.keras", "runs/b/model.keras"])
    ['a', 'b']
    """
    parts = [pathlib.Path(path).resolve().with_suffix("").parts[1:] for path in paths]
    if len(set(parts)) < len(parts):
        raise CommandError(f"Models to compare must be different files. Received: {', '.join(paths)}.")
    for level in range(1, 1 + min(map(len, parts))):
        alone = [part[-level] for part in parts]
        if len(set(alone)) == len(alone):
            return alone
    return ["-".join(part) for part in parts]


def input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """The shape of one image, where the model says it.

    Args:
        model: the classifier.

    Returns:
        Tuple without the batch, of integers and None; None for a subclassed model.

    Example:
    >>> keras_amm.cli.models.input_shape(keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()]))
    (4, 4, 1)
    """
    inputs = getattr(unwrapped(model), "inputs", None)
    return tuple(inputs[0].shape[1:]) if inputs else None


def num_classes(model: keras.Model) -> int | None:
    """The number of classes, where the model says it.

    Args:
        model: the classifier.

    Returns:
        int; None for a subclassed model.

    Example:
    >>> keras_amm.cli.models.num_classes(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    3
    """
    outputs = getattr(unwrapped(model), "outputs", None)
    return int(outputs[0].shape[-1]) if outputs else None
