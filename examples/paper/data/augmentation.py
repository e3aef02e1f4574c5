"""The paper's augmentation (Sections 4.1.2 and 4.1.3) on keras-cv, as a function of a seed.

keras-cv's layers draw from a generator of their own, whose state a resumed run has not, and
take `seed=0` for no seed. Here the random numbers are drawn by stateless functions, and the layers
are told what to do: the same seed gives the same images, in any order and any process.
"""

from typing import Any

import keras_cv
import tensorflow as tf

CROP_SIZE, RESIZED = 32, 36
IMAGENET_SIZE = 224
# The side of the central crop, as a fraction of the image's shorter side: the authors' code crops 224 of 256 pixels.
CENTRE_FRACTION = 224 / 256
AREA = (0.08, 1.0)
ASPECT_RATIO = (3 / 4, 4 / 3)
# As many as torchvision tries before it takes the centre.
ATTEMPTS = 10

_RESIZE = keras_cv.layers.Resizing(RESIZED, RESIZED)
_CROP = keras_cv.layers.RandomCrop(CROP_SIZE, CROP_SIZE)
_FLIP = keras_cv.layers.RandomFlip("horizontal", rate=0.5)


def resize_and_crop(images: Any, seed: Any) -> Any:
    """Resize to 36x36 and crop 32x32 at random, each image for itself (Section 4.1.2).

    Args:
        images: tensor [B, height, width, channels].
        seed: int tensor [2].

    Returns:
        float32 tensor [B, 32, 32, channels].
    """
    corners = tf.random.stateless_uniform([tf.shape(images)[0], 2], seed, 0, RESIZED - CROP_SIZE + 1, tf.int32)
    # Whole pixels: between them the layer would skip a row or column here and there.
    corners = tf.cast(corners, tf.float32) / (RESIZED - CROP_SIZE)
    return _CROP.augment_images(_RESIZE(images), {"tops": corners[:, :1], "lefts": corners[:, 1:]})


def resize_and_crop_centre(images: Any) -> Any:
    """What `resize_and_crop` does, at the centre: for evaluation at the scale of the training.

    Args:
        images: tensor [B, height, width, channels].

    Returns:
        float32 tensor [B, 32, 32, channels].
    """
    margin = (RESIZED - CROP_SIZE) // 2
    return _RESIZE(images)[:, margin : margin + CROP_SIZE, margin : margin + CROP_SIZE]


def flip(images: Any, seed: Any) -> Any:
    """Mirror each image left to right with probability 0.5.

    Args:
        images: tensor [B, height, width, channels].
        seed: int tensor [2].

    Returns:
        Tensor [B, height, width, channels].
    """
    draws = tf.random.stateless_uniform([tf.shape(images)[0], 1], seed)
    transformations = {"flip_horizontals": draws, "flip_verticals": tf.zeros_like(draws)}
    return _FLIP.augment_images(images, transformations)


def crop_area(image: Any, seed: Any) -> Any:
    """A random patch resized to 224x224 (Section 4.1.3): 8 to 100% of the area, aspect ratio 3/4 to 4/3.

    Area and aspect ratio are uniform; a patch that does not fit is drawn again. Not keras-cv's
    `RandomCropAndResize`, whose aspect ratio is relative to the image's and which shrinks
    without antialiasing.

    Args:
        image: tensor [height, width, channels].
        seed: int tensor [2].

    Returns:
        float32 tensor [224, 224, channels].
    """
    height, width = _size(image)
    seeds = tf.random.split(seed, 3)
    area = height * width * tf.random.stateless_uniform([ATTEMPTS], seeds[0], *AREA)
    aspect = tf.random.stateless_uniform([ATTEMPTS], seeds[1], *ASPECT_RATIO)
    sizes = tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], axis=1)))
    fits = tf.reduce_all((sizes <= [height, width]) & (sizes >= 1.0), axis=1)
    chosen = tf.argmax(fits)
    size = tf.where(fits[chosen], sizes[chosen], tf.repeat(tf.minimum(height, width), 2))
    free = tf.stack([height, width]) - size
    corner = tf.floor(tf.random.stateless_uniform([2], seeds[2]) * (free + 1.0))
    corner = tf.where(fits[chosen], corner, tf.floor(free / 2.0))
    return _cut_and_resize(image, corner, size)


def crop_centre(image: Any) -> Any:
    """The central square, 7/8 of the shorter side, resized to 224x224: for evaluation.

    The authors' code resizes the shorter side to 256 and crops 224; this is the same in one step.

    Args:
        image: tensor [height, width, channels].

    Returns:
        float32 tensor [224, 224, channels].
    """
    height, width = _size(image)
    side = tf.round(CENTRE_FRACTION * tf.minimum(height, width))
    corner = tf.floor((tf.stack([height, width]) - side) / 2.0)
    return _cut_and_resize(image, corner, tf.stack([side, side]))


def _size(image: Any) -> tuple[Any, Any]:
    shape = tf.cast(tf.shape(image), tf.float32)
    return shape[0], shape[1]


def _cut_and_resize(image: Any, corner: Any, size: Any) -> Any:
    (top, left), (height, width) = (tf.unstack(tf.cast(pair, tf.int32)) for pair in (corner, size))
    patch = tf.image.crop_to_bounding_box(image, top, left, height, width)
    return tf.image.resize(patch, (IMAGENET_SIZE, IMAGENET_SIZE), antialias=True)
