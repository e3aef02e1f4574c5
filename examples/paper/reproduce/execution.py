"""Execute runs in processes of their own, several at a time; each continues from where it was stopped."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import IO

import filelock

from ..json_files import write_json
from ..training import run_folder
from .planning import Run
from .records import read_records


class _RunFailed(Exception):
    """A run ended without a result."""


class Executor:
    """Executes the runs that have no record yet.

    The folder of a run holds its checkpoint, its log, and a lock that keeps other executors out. Its record is written
    when the run is finished, whole or not at all.

    Args:
        records: folder of the finished runs' JSON files.
        work: folder of the runs' own folders.
        jobs: int, runs at a time at most.
        cores: int, shared among the runs.
    """

    def __init__(self, records: pathlib.Path, work: pathlib.Path, jobs: int, cores: int) -> None:
        self.records, self.work, self.jobs, self.cores = records, work, jobs, cores
        # The running processes, and the number of threads that each was given.
        self._running: dict[subprocess.Popen[bytes], int] = {}
        # The names of runs that have no process yet.
        self._waiting: set[str] = set()
        self._stopped = False
        # Held while a process is counted, started or stopped, so that no two are given the same cores.
        self._starting = threading.Lock()

    def run_all(self, runs: Sequence[Run]) -> list[str]:
        """Execute what is missing, in order. Ctrl-C stops the processes, which continue when started again.

        Args:
            runs: all that are to have a record in the end.

        Returns:
            The names of the runs that failed; they do not affect the others.

        Raises:
            KeyboardInterrupt: stopped by Ctrl-C.
            RecordError: a file among the records is not a record, or of another command.
        """
        self.records.mkdir(parents=True, exist_ok=True)
        finished = read_records(self.records, runs)
        missing = [run for run in runs if run.name not in finished]
        self._waiting = {run.name for run in missing}
        jobs = max(1, min(self.jobs, len(missing)))
        print(f"{len(runs)} runs, {len(runs) - len(missing)} of them finished; {jobs} at a time", flush=True)
        failed = []
        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(self._run, run): run for run in missing}
            try:
                for number, future in enumerate(as_completed(futures), 1):
                    name = futures[future].name
                    try:
                        outcome = future.result()
                    except (_RunFailed, OSError, ValueError) as error:
                        failed.append(name)
                        outcome = f"failed: {error}"
                    print(f"[{number}/{len(missing)}] {name}: {outcome}", flush=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise
        return failed

    def _record(self, run: Run) -> pathlib.Path:
        return self.records / f"{run.name}.json"

    def _run(self, run: Run) -> str:
        folder = self.work / run.name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(folder / "lock", timeout=0):
                # A training may go on although the executor that started it was killed.
                with run_folder.alone(folder):
                    pass
                return self._run_alone(run, folder)
        except (filelock.Timeout, run_folder.InUseError):
            return "left to the other process that is at it"
        finally:
            self._waiting.discard(run.name)

    def _run_alone(self, run: Run, folder: pathlib.Path) -> str:
        if self._record(run).exists():
            return "finished by another process"
        start = time.monotonic()
        log = folder / "log.txt"
        with log.open("ab") as output:
            code = self._wait(run, folder, output)
        if code:
            raise _RunFailed(f"exit code {code}, see {log}")
        result = json.loads((folder / "result.json").read_text())
        write_json(self._record(run), {"run": run.name, "command": run.command_line, **result})
        return f"finished, {(time.monotonic() - start) / 60:.1f} min"

    def _wait(self, run: Run, folder: pathlib.Path, output: IO[bytes]) -> int:
        with self._starting:
            if self._stopped:
                return -1
            threads = self._threads()
            names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
            # Where several runs share a GPU, none may take all its memory.
            environment = os.environ | dict.fromkeys(names, str(threads)) | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
            command = [sys.executable, *run.arguments(folder)]
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
            self._running[process] = threads
            self._waiting.discard(run.name)
        try:
            return process.wait()
        finally:
            with self._starting:
                del self._running[process]

    def _threads(self) -> int:
        """How many of the idle cores the next run gets."""
        places = min(self.jobs - len(self._running), len(self._waiting))
        return max(1, (self.cores - sum(self._running.values())) // places)

    def _stop(self) -> None:
        with self._starting:
            self._stopped = True
            for process in self._running:
                process.terminate()
