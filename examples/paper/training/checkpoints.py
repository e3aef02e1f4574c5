"""The checkpoint of a training run: one file, which is whole even if the process is killed while it is written.

Keras's `BackupAndRestore` writes the weights and the number of the epoch one after the other. A process that is killed
between the two repeats an epoch on the newer weights, and one that is killed within either may fail to start again.
"""

import pathlib
from typing import Any

import keras


class Checkpoint(keras.callbacks.Callback):
    """Saves the weights of model and optimizer after every epoch, in place of those of the epoch before.

    Args:
        path: path of a file `.weights.h5`.
    """

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save to another file, and rename it when it is whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name("next.weights.h5")
        self.model.save_weights(new, overwrite=True)
        new.replace(self.path)


def restore(model: keras.Model, path: pathlib.Path, steps_per_epoch: int) -> int:
    """Continue from a checkpoint, if there is one.

    Args:
        model: compiled `keras.Model`; gets the weights.
        path: path of the file.
        steps_per_epoch: int.

    Returns:
        The number of epochs done.
    """
    if not path.exists():
        return 0
    # The optimizer's variables must exist before they can be loaded.
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations)) // steps_per_epoch
