"""Recognises model files that are not in the format `.keras`, and tells the user how to make one that is."""

import pathlib
import zipfile

import h5py

from keras_amm.cli.errors import CommandError, raising_command_error

_SAVE = "model.save('name.keras')"
_FOREIGN = {
    ".onnx": "an ONNX model",
    ".pb": "a TensorFlow graph",
    ".pt": "a PyTorch model",
    ".pth": "a PyTorch model",
    ".tflite": "a TensorFlow Lite model",
}


def require_keras_format(path: str) -> None:
    """Raise a `CommandError` unless the file is in the format `.keras`, the only one that Keras loads safely."""
    file = pathlib.Path(path)
    if file.is_file() and file.suffix == ".keras" and zipfile.is_zipfile(file):
        return
    if file.is_dir():
        raise CommandError(_describe_folder(file))
    if not file.is_file():
        raise CommandError(_describe_missing(file))
    if h5py.is_hdf5(file):
        raise CommandError(_describe_hdf5(file))
    if file.suffix in _FOREIGN:
        raise CommandError(
            f"{file} is {_FOREIGN[file.suffix]}, without Keras layers. Expected the Keras model that it was made from, "
            f"as a file that {_SAVE} wrote."
        )
    if _is_keras_archive(file):
        raise CommandError(f"{file} is a Keras model, but its name must end in .keras: rename it to {file.stem}.keras.")
    raise CommandError(f"{file} is not a Keras model: expected a file that {_SAVE} wrote.")


def _describe_folder(folder: pathlib.Path) -> str:
    if (folder / "keras_metadata.pb").is_file():
        return (
            f"{folder} is a SavedModel folder of Keras 2, which Keras 3 cannot load as a model. Load it with Keras 2, "
            f"tf_keras.models.load_model('{folder}'), build the same layers in Keras 3, copy the weights by "
            f"set_weights(get_weights()), and {_SAVE}."
        )
    if (folder / "saved_model.pb").is_file():
        return (
            f"{folder} is a TensorFlow SavedModel folder, as model.export writes it: it holds a computation, but no "
            f"Keras layers. Where the model was exported, save it also by {_SAVE}."
        )
    if (folder / "config.json").is_file() and (folder / "model.weights.h5").is_file():
        return (
            f"{folder} is the unpacked content of a Keras model. Give the .keras file that it comes from, or load the "
            f"folder with keras.models.load_model and {_SAVE}."
        )
    return f"{folder} is a folder. Expected a model file that {_SAVE} wrote."


def _describe_missing(file: pathlib.Path) -> str:
    if file.with_name(f"{file.name}.index").is_file():
        return (
            f"{file} is a TensorFlow checkpoint, which holds weights, but no layers. Build the model, load the "
            f"checkpoint into it, and {_SAVE}."
        )
    return f"There is no model {file}."


def _describe_hdf5(file: pathlib.Path) -> str:
    with raising_command_error(f"{file} cannot be read:", OSError), h5py.File(file, "r") as content:
        has_layers = "model_config" in content.attrs
    if has_layers:
        return (
            f"{file} is a Keras model in the HDF5 format. Only .keras files are loaded, since some versions of Keras "
            "run code that an HDF5 file holds. If you trust it, convert it: "
            f"keras.models.load_model('{file}', compile=False).save('{file.stem}.keras')."
        )
    return (
        f"{file} is an HDF5 file that holds weights, but no layers. Build the model, "
        f"model.load_weights('{file}'), and {_SAVE}."
    )


def _is_keras_archive(file: pathlib.Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return {"config.json", "metadata.json"} <= set(archive.namelist())
