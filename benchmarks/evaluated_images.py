"""Images of a data set as networks of the examples are evaluated on them."""

import numpy as np

from examples.paper.data import arrays
from examples.paper.data.data_sets import DATA_SETS


def load(data_set: str, split: str) -> arrays.Images:
    """The images of a split such as "test[:200]", less the mean, and resized and cropped where the paper crops."""
    # Imported here: keras-cv, which it needs, starts TensorFlow, and threads are set before that.
    from examples.paper.data.augmentation import resize_and_crop_centre

    description = DATA_SETS[data_set]
    images = arrays.load(data_set, split, description.mean)
    if description.crop != "resize":
        return images
    return arrays.Images(np.asarray(resize_and_crop_centre(images.x)), images.y)
