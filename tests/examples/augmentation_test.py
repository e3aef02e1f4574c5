"""Patches of large images: their sizes, and the centre against Pillow."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from paper.data import augmentation


def ramps(height, width):
    """An image whose two channels say where a pixel is, in pixels."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([rows, columns], axis=-1)


@pytest.mark.parametrize(("height", "width"), [(400, 500), (600, 300)])
def test_areas_and_aspect_ratios(height, width):
    image = tf.constant(ramps(height, width))
    crop = tf.function(augmentation.crop_area)
    boxes = []
    for seed in range(300):
        patch = crop(image, tf.constant([seed, 7])).numpy()
        assert patch.shape == (224, 224, 2)
        # The slope in the middle is untouched by the edges: pixels of the image per pixel of the patch.
        size = 224 * (patch[150, 150] - patch[50, 50]) / 100
        boxes.append([*size, *(patch[112, 112] - size / 2)])
    heights, widths, tops, lefts = np.array(boxes).T
    area, aspect = heights * widths / (height * width), widths / heights
    assert 0.075 < area.min() < 0.12 and area.max() < 1.005
    assert 0.73 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.36
    # How often areas are small, and aspect ratios below 1, by rejection in NumPy; the deviation of 300 draws is 0.03.
    draws = np.random.default_rng(0).uniform((0.08, 3 / 4), (1.0, 4 / 3), (100_000, 2))
    sides = np.sqrt(height * width * draws[:, :1] * np.stack([1 / draws[:, 1], draws[:, 1]], axis=1))
    accepted = draws[np.all(sides <= [height, width], axis=1)]
    assert np.mean(area < 0.31) == pytest.approx(np.mean(accepted[:, 0] < 0.31), abs=0.1)
    assert np.mean(aspect < 1.0) == pytest.approx(np.mean(accepted[:, 1] < 1.0), abs=0.1)
    assert tops.min() > -2 and np.max(tops + heights) < height + 2 and np.std(tops) > 20
    assert lefts.min() > -2 and np.max(lefts + widths) < width + 2 and np.std(lefts) > 20
    assert np.any(area > 0.7 * min(1.0, height / width * 4 / 3, width / height * 4 / 3))


def test_an_image_too_narrow_for_any_patch_gives_its_centre():
    patch = augmentation.crop_area(tf.constant(ramps(1000, 40)), tf.constant([0, 0])).numpy()
    assert patch[112, 112, 0] == pytest.approx(500, abs=3) and patch[112, 112, 1] == pytest.approx(20, abs=1)
    assert np.ptp(patch[..., 0]) == pytest.approx(40, abs=2)


@pytest.mark.parametrize(("height", "width"), [(400, 500), (512, 300), (200, 224)])
def test_centre_crop_is_resizing_to_256_and_cropping_224(height, width):
    smooth = 127.5 + 60 * np.sin(ramps(height, width) @ [[0.02, 0.05, 0.03], [0.04, 0.01, 0.03]])
    image = smooth.astype(np.uint8)
    scale = 256 / min(height, width)
    large = Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (large.width - 224) // 2, (large.height - 224) // 2
    expected = np.asarray(large.crop((left, top, left + 224, top + 224)), np.float32)
    found = augmentation.crop_centre(tf.constant(image)).numpy()
    # Corners in whole pixels differ by a pixel at most: here 3 grey levels.
    np.testing.assert_allclose(found, expected, atol=4.5)
