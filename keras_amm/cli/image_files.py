"""Image files: reading them, and finding the classes in folders of them."""

import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from keras_amm.cli.errors import CommandError, raising_command_error

_CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
_IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def read_image(path: str, size: tuple[int, int], colours: str) -> np.ndarray:
    """An image file as float32 pixels 0..255 [height, width, channels], resized to `size` (height, width).

    Args:
        path: the file; a `CommandError` names it if it cannot be read.
        size: height and width.
        colours: "grayscale", "rgb" or "rgba".
    """
    with raising_command_error(f"{path} cannot be read:", OSError):
        content = pathlib.Path(path).read_bytes()
    try:
        image = tf.io.decode_image(content, channels=_CHANNELS[colours], expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise CommandError(f"{path} is not an image, or damaged: expected a PNG, JPEG, GIF or BMP file.") from error
    # As keras.utils.image_dataset_from_directory resizes.
    resized: np.ndarray = tf.image.resize(image, size).numpy()
    return resized


class ImageFiles:
    """Image files that are used like an array of images: a slice or an array of indices reads only those files."""

    def __init__(self, files: Sequence[str], size: tuple[int, int], colours: str) -> None:
        self.files = np.asarray(files)
        self.size = size
        self.colours = colours

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(lambda file: read_image(file, self.size, self.colours), self.files[part])))


def find_files(root: pathlib.Path, class_names: list[str] | None) -> tuple[list[str], np.ndarray, list[str]]:
    """The image files in the folders of the classes: the files, class by class, their labels, and the class names.

    Args:
        root: the folder that holds one folder per class.
        class_names: the folders in the order of the classes; None for all of them, sorted.
    """
    folders = _subfolders(root)
    if class_names and (len(set(class_names)) < len(class_names) or not set(class_names) <= set(folders)):
        raise CommandError(
            f"--class_names must name folders of {root}, each once, in the order of the model's outputs. Received: "
            f"{','.join(class_names)}; there are {listed(folders)}."
        )
    with raising_command_error(f"{root} is not a folder of images, with a folder for each class:", ValueError, OSError):
        # Keras knows which files it can read. It does not read them here: `ImageFiles` can tell which file is damaged.
        found = keras.utils.image_dataset_from_directory(
            root, class_names=class_names, batch_size=None, shuffle=False, verbose=False
        )
    index = {name: k for k, name in enumerate(found.class_names)}
    labels = np.array([index[pathlib.Path(file).relative_to(root).parts[0]] for file in found.file_paths])
    return found.file_paths, labels, found.class_names


def class_root(folder: pathlib.Path, split: str | None, class_names: list[str] | None) -> pathlib.Path:
    """The folder that holds one folder per class: `folder` itself, or that of a split in it.

    Args:
        folder: the folder that the user has given.
        split: the split asked for; None for "test" where there are splits.
        class_names: the folders that are classes; None if unknown.
    """
    folders = _subfolders(folder)
    if not folders:
        found = "holds images, but no folders" if _has_images(folder) else "is not a folder of images"
        raise CommandError(f"{folder} {found}: expected a folder for each class, as in {folder}/cat/1.png.")
    of_split = folder / (split or "test")
    if of_split.name in folders and _subfolders(of_split):
        return of_split
    splits = [name for name in folders if _subfolders(folder / name) and not _has_images(folder / name)]
    are_splits = len(splits) == len(folders)
    if split:
        mend = f"Say --split={splits[0]}" if are_splits else "Leave --split out, if these are the classes"
        raise CommandError(
            f"{folder} has no split {split!r} with a folder for each class; it holds {listed(folders)}. {mend}."
        )
    if are_splits and not (class_names and set(class_names) <= set(folders)):
        raise CommandError(
            f"{folder} has no split 'test', and its folders hold folders, as splits do: {listed(folders)}. "
            f"Say --split={splits[0]}; or, if these are the classes, --class_names={','.join(folders[:2])},..."
        )
    return folder


def listed(names: Sequence[str]) -> str:
    """The first five names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _subfolders(folder: pathlib.Path) -> list[str]:
    """The sorted names of the folders in a folder, without hidden ones."""
    with raising_command_error(f"{folder} cannot be read:", OSError), os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _has_images(folder: pathlib.Path) -> bool:
    with raising_command_error(f"{folder} cannot be read:", OSError), os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(_IMAGE_SUFFIXES) and entry.is_file() for entry in entries)
