"""MMA's protocol on a linear classifier, in closed form, and how a run goes on where it was stopped."""

import keras
import numpy as np
import pytest

import keras_amm
from benchmarks import mma_protocol
from examples.paper.data.arrays import Images

BOUNDS = (0.0, 1.0)


@pytest.fixture
def linear():
    """Two classes, of which the boundary goes through the middle of the range; the last image's label is wrong."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=4)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.set_weights([np.stack([np.zeros(4), normal], axis=1), np.array([0.0, -0.5 * normal.sum()])])
    # So near the middle that no bound matters.
    x = rng.uniform(0.4, 0.6, size=(7, 4)).astype("float32")
    lead = (x - 0.5) @ normal
    y = (lead > 0).astype("int32")
    y[-1] = 1 - y[-1]
    distances = np.abs(lead) / np.linalg.norm(normal)
    return model, Images(x, y), distances


@pytest.mark.usefixtures("eagerly")
def test_the_smallest_norm_and_zero_where_wrong(linear, tmp_path):
    model, images, distances = linear
    tight, loose = (mma_protocol.by_keras_amm(keras_amm.DeepFool(overshoot=o)) for o in (1e-3, 0.5))
    report = mma_protocol.measure(model, "net", images, BOUNDS, {"a": loose, "b": tight}, tmp_path / "net.json")
    np.testing.assert_allclose(report.margins, np.where(np.arange(7) < 6, distances, 0.0), rtol=2e-3)
    assert report.accuracy == pytest.approx(6 / 7)
    text = mma_protocol.table({"net": report}, [0.0, 10.0])
    assert "| MMA-2.0, published | 1000 | 99.3% | 2.15 | 2.22 |" in text
    assert f"| net | 7 | 85.7% | {report.margin:.2f} | {report.margin_median:.2f} | 85.7% | 0.0% | 0 |" in text


def test_a_run_goes_on(linear, tmp_path, monkeypatch):
    model, images, _ = linear
    monkeypatch.setattr(mma_protocol, "CHUNK", 3)
    calls = []

    def attack(model, x, y, bounds):
        calls.append(len(x))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return np.ones(len(x))

    path = tmp_path / "net.json"
    with pytest.raises(KeyboardInterrupt):
        mma_protocol.measure(model, "net", images, BOUNDS, {"a": attack}, path)
    assert calls == [3, 3, 1]
    report = mma_protocol.measure(model, "net", images, BOUNDS, {"a": attack}, path)
    assert calls == [3, 3, 1, 1] and report.margin == pytest.approx(6 / 7)
    # An attack that is added is the only one that runs, and where it fails, the other counts.
    failed = mma_protocol.measure(
        model, "net", images, BOUNDS, {"a": attack, "b": lambda model, x, y, b: np.full(len(x), np.inf)}, path
    )
    assert len(calls) == 4 and failed.margin == report.margin
    none = mma_protocol.measure(
        model, "net", images, BOUNDS, {"b": lambda *_: pytest.fail("It was measured already.")}, path
    )
    with pytest.raises(ValueError, match=r"images between 0 and 1\. Expected: the same --mean"):
        mma_protocol.measure(model, "net", images, (-0.5, 0.5), {"a": attack}, path)
    assert none.margin == 0.0 and "| 6 |" in mma_protocol.table({"net": none}, [1.0])
    model.set_weights([2 * w for w in model.get_weights()])
    with pytest.raises(ValueError, match="is of a model of other weights"):
        mma_protocol.measure(model, "net", images, BOUNDS, {"a": attack}, path)
