"""Two processes on the loopback address against one, on the same global batches."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import worker

WORKER = pathlib.Path(__file__).parents[2] / "helpers" / "worker.py"
PATIENCE = 240


def _free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _start(folder, *arguments, cluster, index):
    task = {"type": "worker", "index": index}
    config = json.dumps({"cluster": {"worker": cluster}, "task": task})
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parent.parent), "TF_CONFIG": config}
    with open(folder / f"output_{index}.txt", "w") as output:
        return subprocess.Popen(
            [sys.executable, WORKER, folder, *arguments], env=environment, stdout=output, stderr=subprocess.STDOUT
        )


def _start_two(folder, *arguments):
    cluster = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    return [_start(folder, *arguments, cluster=cluster, index=index) for index in range(2)]


def _finish(folder, processes):
    try:
        codes = [process.wait(PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * len(codes), "\n".join(file.read_text()[-2000:] for file in folder.glob("output_*.txt"))


def _weights(folder, rank):
    with np.load(folder / f"weights_{rank}.npz") as file:
        return [file[name] for name in file.files]


def _logs(folder, rank):
    return json.loads((folder / f"logs_{rank}.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    worker.main(folder)
    return folder


def _assert_equal(folder, alone):
    for rank in range(2):
        for got, wanted in zip(_weights(folder, rank), _weights(alone, None), strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_two_workers_give_the_update_of_one_even_when_one_was_killed(tmp_path, alone):
    """After the kill, both resume from their backups of the first epoch."""
    first, second = _start_two(tmp_path, "crash")
    try:
        assert second.wait(PATIENCE) == 3
    finally:
        # whoever starts the workers ends those that are left, which wait for the lost one
        first.kill()
        second.kill()
        first.wait()
    assert not list(tmp_path.glob("weights_*"))
    _finish(tmp_path, _start_two(tmp_path))
    _assert_equal(tmp_path, alone)
    logs, wanted = _logs(tmp_path, 0), _logs(alone, None)
    assert logs.keys() == wanted.keys()
    assert _logs(tmp_path, 1) == logs
    for name, values in wanted.items():
        # Only epochs after the backup.
        np.testing.assert_allclose(logs[name], values[1:], rtol=1e-4, err_msg=name)
