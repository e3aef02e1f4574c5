"""Data sets of a few images in the files that their authors publish, prepared by tensorflow-datasets' own builders."""

import io
import pathlib
import tarfile
from unittest import mock

import numpy as np
import scipy.io
import tensorflow_datasets as tfds
from PIL import Image

SVHN_SIZES = {"train": 7, "extra": 13, "test": 6}
CIFAR100_SIZES = {"train": 20, "test": 8}
IMAGENET_SYNSETS = ("n01440764", "n01443537", "n15075141")
IMAGENET_PER_SYNSET = 8


def pixels(number: int, seed: int, size: int = 32) -> np.ndarray:
    """Random images [number, size, size, 3], uint8."""
    return np.random.default_rng(seed).integers(0, 256, (number, size, size, 3), np.uint8)


def prepare_svhn(folder: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Prepare SVHN from MATLAB files; its images and labels by split."""
    arrays = {}
    for seed, (split, size) in enumerate(SVHN_SIZES.items()):
        images, labels = pixels(size, seed), np.arange(size) % 10
        # In the files the image number comes last, and the digit 0 is called 10.
        published = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        scipy.io.savemat(folder / f"{split}_32x32.mat", {"X": np.moveaxis(images, 0, -1), "y": published})
        arrays[split] = images, labels
    _prepare("svhn_cropped", folder)
    return arrays


def prepare_cifar100(folder: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Prepare CIFAR-100 from binary files; its images and labels by split."""
    published = folder / "cifar-100-binary"
    published.mkdir()
    arrays = {}
    for seed, (split, size) in enumerate(CIFAR100_SIZES.items()):
        images, labels = pixels(size, 10 + seed), 5 * np.arange(size) % 100
        records = [
            bytes([label // 5, label]) + np.moveaxis(images[i], -1, 0).tobytes() for i, label in enumerate(labels)
        ]
        (published / f"{split}.bin").write_bytes(b"".join(records))
        arrays[split] = images, labels
    for kind, number in (("coarse", 20), ("fine", 100)):
        (published / f"{kind}_label_names.txt").write_text("".join(f"{kind}{index}\n" for index in range(number)))
    _prepare("cifar100", folder)
    return arrays


def prepare_imagenet(folder: pathlib.Path) -> None:
    """Prepare ImageNet from tar files of JPEG images of several sizes, each of one colour, its class's."""
    manual = folder / "downloads" / "manual"
    manual.mkdir(parents=True)
    with tarfile.open(manual / "ILSVRC2012_img_train.tar", "w") as train:
        for index, synset in enumerate(IMAGENET_SYNSETS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                for number in range(IMAGENET_PER_SYNSET):
                    _add(images, f"{synset}_{number}.JPEG", _jpeg(index, 300 + 10 * number, 240))
            _add(train, f"{synset}.tar", inner.getvalue())
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as validation:
        for number in range(4):
            _add(validation, f"ILSVRC2012_val_{number + 1:08d}.JPEG", _jpeg(0, 240, 300))
    _prepare("imagenet2012", folder)


def _jpeg(index: int, height: int, width: int) -> bytes:
    """An image of one channel, whose brightness rises from half on the left to one on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, index] = np.round(np.linspace(127.5, 255.0, width))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _prepare(name: str, folder: pathlib.Path) -> None:
    """Run the builder; what it asks for by address lies in the folder."""

    def fetch(manager: tfds.download.DownloadManager, addresses):
        del manager
        if isinstance(addresses, dict):
            return {key: folder / address.rpartition("/")[2] for key, address in addresses.items()}
        return folder

    manager = "tensorflow_datasets.core.download.download_manager.DownloadManager"
    with mock.patch(f"{manager}.download", fetch), mock.patch(f"{manager}.download_and_extract", fetch):
        builder = tfds.builder(name, data_dir=folder)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
