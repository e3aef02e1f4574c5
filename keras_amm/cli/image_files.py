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
_SEED = 0


def read_image(path: str, size: tuple[int, int], colours: str) -> np.ndarray:
    """An image file, read as `keras.utils.image_dataset_from_directory` does.

    Args:
        path: the file.
        size: (height, width) to resize it to.
        colours: "grayscale", "rgb" or "rgba".

    Returns:
        Float32 array [height, width, channels] of pixels 0..255.

    Raises:
        CommandError: there is no such file, or it is no image.

    Example:
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/black.png"
    >>> keras.utils.save_img(path, np.zeros((4, 4, 3)))
    >>> keras_amm.cli.image_files.read_image(path, (2, 2), "grayscale").shape
    (2, 2, 1)
    """
    with raising_command_error(f"{path} cannot be read:", OSError):
        content = pathlib.Path(path).read_bytes()
    try:
        image = tf.io.decode_image(content, channels=_CHANNELS[colours], expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise CommandError(f"{path} is not an image, or damaged: expected a PNG, JPEG, GIF or BMP file.") from error
    resized: np.ndarray = tf.image.resize(image, size).numpy()
    return resized


class ImageFiles:
    """Image files as an array of images that is read when it is sliced.

    Args:
        files: the files.
        size: (height, width) to resize them to.
        colours: "grayscale", "rgb" or "rgba".

    Example:
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/black.png"
    >>> keras.utils.save_img(path, np.zeros((4, 4, 3)))
    >>> keras_amm.cli.image_files.ImageFiles([path, path], (4, 4), "rgb")[0:2].shape
    (2, 4, 4, 3)
    """

    def __init__(self, files: Sequence[str], size: tuple[int, int], colours: str) -> None:
        self.files = files
        self.size = size
        self.colours = colours

    def __getitem__(self, part: slice) -> np.ndarray:
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(lambda file: read_image(file, self.size, self.colours), self.files[part])))


def find_files(
    root: pathlib.Path, class_names: list[str] | None, number: int | None
) -> tuple[list[str], np.ndarray, list[str]]:
    """The image files in the folders of the classes.

    Args:
        root: the folder that holds one folder per class.
        class_names: list of strings, the folders in the order of the classes; None for all, sorted.
        number: int, how many files are wanted, at random and always the same; None for all, class by class.

    Returns:
        The files, their labels (an integer array of that length), and the names of the classes.

    Raises:
        CommandError: there are no images, or no such folders.

    Example:
    >>> import pathlib, tempfile
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("cat", "dog"):
    ...     (root / name).mkdir()
    ...     keras.utils.save_img(root / name / "1.png", np.zeros((4, 4, 3)))
    >>> files, labels, names = keras_amm.cli.image_files.find_files(root, ["dog", "cat"], None)
    >>> [pathlib.Path(file).parent.name for file in files], labels, names
    (['dog', 'cat'], array([0, 1]), ['dog', 'cat'])
    """
    folders = _subfolders(root)
    if class_names and (len(set(class_names)) < len(class_names) or not set(class_names) <= set(folders)):
        raise CommandError(
            f"--class_names must name folders of {root}, each once, in the order of the model's outputs. Received: "
            f"{','.join(class_names)}; there are {listed(folders)}."
        )
    with raising_command_error(f"{root} is not a folder of images, with a folder for each class:", ValueError, OSError):
        # Keras knows what files it can read; reading is left to `ImageFiles`, which can tell which file is damaged.
        found = keras.utils.image_dataset_from_directory(
            root, class_names=class_names, batch_size=None, shuffle=number is not None, seed=_SEED, verbose=False
        )
    files = found.file_paths[:number]
    index = {name: k for k, name in enumerate(found.class_names)}
    labels = np.array([index[pathlib.Path(file).relative_to(root).parts[0]] for file in files])
    return files, labels, found.class_names


def class_root(folder: pathlib.Path, split: str | None, class_names: list[str] | None) -> pathlib.Path:
    """The folder that holds one folder per class: the one given, or that of a split in it.

    Args:
        folder: the folder given.
        split: string, the split asked for; None for "test" where there are splits.
        class_names: list of strings, the folders that are classes; None if unknown.

    Returns:
        Its path.

    Raises:
        CommandError: there is no such split, or there are no folders.

    Example:
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "test" / "cat").mkdir(parents=True)
    >>> keras_amm.cli.image_files.class_root(folder, None, None).name
    'test'
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


def _subfolders(folder: pathlib.Path) -> list[str]:
    """The names of the folders in it; hidden ones are not for users."""
    with raising_command_error(f"{folder} cannot be read:", OSError), os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _has_images(folder: pathlib.Path) -> bool:
    endings = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
    with raising_command_error(f"{folder} cannot be read:", OSError), os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(endings) and entry.is_file() for entry in entries)


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first five of them.

    Args:
        names: the names.

    Returns:
        String.

    Example:
    >>> keras_amm.cli.image_files.listed(["cat", "dog"])
    'cat, dog'
    """
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
