"""The table of `benchmarks/step_cost.py --all`: what it plans, measures once, and calls sound."""

import json
import subprocess

import pytest

from benchmarks import every_architecture
from examples.paper import architectures
from paper.training.table_2 import TABLE_2

ROW = {
    "images": "MNIST", "batch_size": 100, "plain_steps": 5, "plain_accuracy": 0.75, "losses": [4.0, 2.0, 1.0, 2.0],
    "first_loss": 3.0, "last_loss": 1.5, "penalties": [2.0, 0.5, 0.25, 1.0], "amm_seconds": [1.0, 3.0, 4.0],
    "rough_seconds": [1.0, 2.0, 2.0], "plain_seconds": [0.5, 1.0, 1.0], "amm_peak_bytes": 2_000_000_000,
}  # fmt: skip


@pytest.fixture
def processes(monkeypatch):
    """Figures without measuring; which processes were started."""
    started = []

    def measure(network, variant):
        started.append((network, variant))
        if network == "nin":
            raise subprocess.CalledProcessError(1, "python", stderr="out of memory")
        return ROW if variant == "amm" else {"plain_peak_bytes": 500_000_000}

    monkeypatch.setattr(every_architecture, "_in_its_own_process", measure)
    return started


def test_every_architecture_is_planned():
    assert set(every_architecture.PLANS) == set(architectures.ARCHITECTURES)
    for network, plan in every_architecture.PLANS.items():
        assert network in TABLE_2[plan.data_set] and plan.passes > 1


def test_what_was_measured_is_not_measured_again(tmp_path, processes, capsys):
    out = tmp_path / "rows.jsonl"
    assert not every_architecture.run(out, ["mlp-800", "nin"])
    assert processes == [("mlp-800", "amm"), ("mlp-800", "plain"), ("nin", "amm")]
    assert "nin could not be measured:\nout of memory" in capsys.readouterr().err
    assert every_architecture.run(out, ["lenet", "mlp-800"])
    assert processes[3:] == [("lenet", "amm"), ("lenet", "plain")]
    *_, head, rule, first, second = capsys.readouterr().out.splitlines()
    assert head.count("|") == rule.count("|") == first.count("|") and second.startswith("| lenet |")
    cells = [cell.strip() for cell in first.split("|")[1:-1]]
    assert cells == ["mlp-800", "MNIST", "100", "5 (75%)", "4", "3.00 → 1.50", "0.25 to 2.00", "1", "3",
                     "3.0 [2.5, 3.5]", "2.0 [2.0, 2.0]", "0.47", "1.86"]  # fmt: skip
    assert [json.loads(line)["network"] for line in out.read_text().splitlines()] == ["mlp-800", "lenet"]


@pytest.mark.parametrize("change", [{"last_loss": 3.0}, {"penalties": [float("nan")]}, {"losses": [float("inf")]}])
def test_what_is_not_sound(change):
    assert every_architecture.is_sound(ROW) and not every_architecture.is_sound({**ROW, **change})


def test_images_of_a_batch_are_real_ones_in_the_size_of_the_network():
    images = every_architecture._Images("mnist", 100)
    x, y = images.batch(3)
    again, _ = images.batch(53)  # 5,000 images are 50 batches
    assert x.shape == (100, 28, 28, 1) and images.name == "MNIST" and set(y.numpy()) == set(range(10))
    assert (x.numpy() == again.numpy()).all() and x.numpy().min() < 0 < x.numpy().max() < 1
