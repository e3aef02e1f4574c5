"""One worker of `multi_worker_test`: trains, and writes its weights and logs."""

import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_amm


class Crash(keras.callbacks.Callback):
    """The end of a process in mid-epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if int(tf.convert_to_tensor(self.model.optimizer.iterations)) == 4:
            os._exit(3)


def main(folder, crashes=False):
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"] if "TF_CONFIG" in os.environ else None
    strategy = tf.distribute.get_strategy() if rank is None else tf.distribute.MultiWorkerMirroredStrategy()
    keras.utils.set_random_seed(1)
    with strategy.scope():
        network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
        model = keras_amm.wrap(
            network, keras_amm.MarginRegularizer(search="exact"), keras_amm.DeepFool(num_candidates=2)
        )
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(48, 5)).astype("float32"), generator.integers(0, 3, 48)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    callbacks = [keras.callbacks.BackupAndRestore(os.path.join(folder, f"backup_{rank}"))]
    if crashes and rank == 1:
        callbacks.append(Crash())
    # Each worker takes its share of every batch.
    history = model.fit(data, epochs=3, verbose=0, callbacks=callbacks, validation_data=data)
    np.savez(os.path.join(folder, f"weights_{rank}.npz"), *model.get_weights())
    with open(os.path.join(folder, f"logs_{rank}.json"), "w") as file:
        json.dump(history.history, file)


if __name__ == "__main__":
    main(sys.argv[1], crashes=sys.argv[2:] == ["crash"])
