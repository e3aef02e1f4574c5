"""Makes mnist_subset.npz, the part of MNIST that the quickstart trains on.

    python examples/paper/data/make_mnist_subset.py

takes the first 5,000 training and 2,000 test images of MNIST, in the order of
tensorflow-datasets' records (mnist/3.0.1), pixels and labels unchanged. Needs
MNIST as prepared by tensorflow-datasets (`TFDS_DATA_DIR` names the folder).
"""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

NUM_TRAIN = 5_000
NUM_TEST = 2_000


def main() -> None:
    """Write the file beside this script."""
    arrays = {}
    for name, size in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        images, labels = tfds.as_numpy(
            tfds.load("mnist:3.0.1", split=f"{name}[:{size}]", as_supervised=True, batch_size=-1, download=False)
        )
        arrays[f"{name}_images"] = images[..., 0].astype("uint8")
        arrays[f"{name}_labels"] = labels.astype("uint8")
    path = pathlib.Path(__file__).with_name("mnist_subset.npz")
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size:,} bytes")
    for name, array in arrays.items():
        print(f"  {name} {array.shape} {array.dtype}")


if __name__ == "__main__":
    main()
