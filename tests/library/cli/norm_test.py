"""`--norm`: margins by the largest change of a pixel."""

import keras
import numpy as np

import keras_amm
from tests.library.cli.command_line import assert_one_line, command, saved
from tests.library.cli.linear_models import MEAN


def test_the_largest_change_of_a_pixel(folder, scaled, tmp_path, capsys):
    data, mean = f"--dataset={folder / 'images.npz'}", f"--mean={MEAN}"
    assert command("margins", "one.keras", data, mean, "--norm=linf", f"--out={tmp_path}", folder=folder) == 0
    report = saved(tmp_path / "one-margins.json")
    # In closed form, of a linear classifier.
    model = keras.models.load_model(folder / "one.keras")
    kernel, _ = model.get_weights()
    logits = np.asarray(model(scaled))
    own = logits.argmax(axis=1)
    gaps = logits.max(axis=1, keepdims=True) - logits
    normals = np.abs(kernel.T[own][:, None] - kernel.T[None]).sum(axis=2)
    gaps[np.arange(len(own)), own] = np.inf
    wanted = (gaps / np.where(normals > 0, normals, 1.0)).min(axis=1)
    np.testing.assert_allclose(report.norms, 1.02 * wanted, rtol=1e-3)
    assert report.norm_name == "linf" and "linf, in the units" in capsys.readouterr().out
    # A model that was trained in one norm, beside one of the other.
    keras_amm.wrap(model, attack=keras_amm.DeepFool(norm="linf")).save(tmp_path / "trained.keras")
    arguments = ("compare", "one.keras", tmp_path / "trained.keras", data, mean, f"--out={tmp_path}")
    assert command(*arguments, folder=folder) == 1
    assert_one_line(capsys, "Margins in different norms cannot be compared: one l2, trained linf")
    assert command(*arguments, "--norm=l2", folder=folder) == 0
