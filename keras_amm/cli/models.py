"""Saved models: loading them safely, and telling them apart."""

import importlib
import pathlib
from collections.abc import Sequence

import keras

from keras_amm.cli.errors import CommandError, first_line, raising_command_error
from keras_amm.cli.model_formats import require_keras_format
from keras_amm.network.inputs import require_classifier, unwrapped


def import_modules(names: Sequence[str]) -> None:
    """Import the user's modules, which register custom layers with Keras."""
    for name in names:
        with raising_command_error(f"--import={name}:", ModuleNotFoundError):
            importlib.import_module(name)


def load(path: str) -> keras.Model:
    """The built classifier in a `.keras` file, loaded in safe mode and without its optimizer."""
    require_keras_format(path)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    # A damaged file may fail anywhere in Keras, and in any way. Of this library only `from_config` runs here.
    except Exception as error:
        raise CommandError(
            f"{path} cannot be loaded as a Keras model in safe mode: {type(error).__name__}: {first_line(error)} "
            "(--import=MODULE imports the module that registers custom layers; --debug shows the traceback.)"
        ) from error
    with raising_command_error(f"{path} is no classifier that has margins:", TypeError, ValueError):
        require_classifier(unwrapped(model))
    return model


def names(paths: Sequence[str]) -> list[str]:
    """Short and distinct names of files: those of the files themselves, or of their folders where only these differ.

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
    """The shape of one image, with None for axes of any size; None for a subclassed model, which does not say it."""
    inputs = getattr(unwrapped(model), "inputs", None)
    return tuple(inputs[0].shape[1:]) if inputs else None


def num_classes(model: keras.Model) -> int | None:
    """The number of classes; None for a subclassed model, which does not say it."""
    outputs = getattr(unwrapped(model), "outputs", None)
    # A single unit is the probability of the second of two classes.
    return max(2, int(outputs[0].shape[-1])) if outputs else None
