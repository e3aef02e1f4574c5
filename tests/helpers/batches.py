"""Reading the data sets of the examples."""

import numpy as np

from paper.data import data_sets


def load(name, data_dir, **arguments):
    """A data set that is there, in batches of four unless told otherwise."""
    return data_sets.load(name, data_dir=data_dir, download=False, **{"batch_size": 4, **arguments})


def gather(batches):
    """All images and labels of a pipeline, as two arrays."""
    x, y = zip(*batches, strict=True)
    return np.concatenate(x), np.concatenate(y)
