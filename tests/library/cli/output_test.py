"""The files that a command writes."""

import pytest

import keras_amm
from keras_amm.measuring.measurer import Measurer
from tests.library.cli.command_line import command, saved


class TestResults:
    @pytest.fixture
    def arguments(self, folder, tmp_path, monkeypatch):
        one = keras_amm.MarginReport(norms=[1.5], signed=[1.5], predictions=[0], labels=[0], success=[True])
        monkeypatch.setattr(Measurer, "report", lambda *_: one)
        return ("margins", "one.keras", f"--dataset={folder / 'images.npz'}", "--num_images=1", f"--out={tmp_path}")

    def test_replaced_files_are_named(self, folder, arguments, tmp_path, capsys):
        (tmp_path / "one-margins.json").write_text("an older one")
        assert command(*arguments, folder=folder) == 0
        assert capsys.readouterr().out.endswith("Replaced what was there before: one-margins.json\n")
        assert saved(tmp_path / "one-margins.json").mean == 1.5

    def test_what_cannot_be_written_is_printed(self, folder, arguments, monkeypatch, capsys):
        def full(report, path):
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(keras_amm.MarginReport, "to_json", full)
        assert command(*arguments, folder=folder) == 1
        printed = capsys.readouterr()
        assert "mean margin       1.5000" in printed.out and "Wrote" not in printed.out
        assert "No space left" in printed.err and printed.err.count("\n") == 1
