"""Runs in processes of their own, as many at a time as the machine has cores, each from where it stopped."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import filelock

import records as finished
from json_files import write_json
from planning import Run


class Executor:
    """Runs what has no record yet.

    A run's folder holds its checkpoint, its log and a lock that other executors respect;
    its record is written when it is finished, whole or not at all.

    Args:
        records: folder of the finished runs' JSON files.
        work: folder of the runs' own folders.
        jobs: int, runs at a time at most.
        cores: int, shared among the runs.
    """

    def __init__(self, records: pathlib.Path, work: pathlib.Path, jobs: int, cores: int) -> None:
        self.records, self.work, self.jobs, self.cores = records, work, jobs, cores
        self.threads = 1
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        # Between the look at `_stopped` and the entry in `_running` nothing may be stopped.
        self._starting = threading.Lock()

    def run_all(self, runs: Sequence[Run]) -> list[str]:
        """Run what is missing, in order. Ctrl-C stops the processes, which continue when started again.

        Args:
            runs: what is to be there in the end.

        Returns:
            The names of runs that failed; the others are not affected.

        Raises:
            KeyboardInterrupt: stopped by Ctrl-C.
            RecordError: a file among the records is none, or of another command.
        """
        self.records.mkdir(parents=True, exist_ok=True)
        there = finished.read(self.records, runs)
        missing = [run for run in runs if run.name not in there]
        jobs = max(1, min(self.jobs, len(missing)))
        self.threads = max(1, self.cores // jobs)
        print(f"{len(runs)} runs, {len(runs) - len(missing)} of them finished; {jobs} at a time", flush=True)
        failed = []
        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(self._run, run): run for run in missing}
            try:
                for number, future in enumerate(as_completed(futures), 1):
                    name, outcome = futures[future].name, future.result()
                    print(f"[{number}/{len(missing)}] {name}: {outcome}", flush=True)
                    failed += [name] if outcome.startswith("failed") else []
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise
        return failed

    def _record(self, run: Run) -> pathlib.Path:
        return self.records / f"{run.name}.json"

    def _run(self, run: Run) -> str:
        folder = self.work / run.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(folder / "lock", timeout=0):
                return self._run_alone(run, folder)
        except filelock.Timeout:
            return "left to the other process that is at it"
        except (OSError, ValueError) as error:
            return f"failed: {error}"

    def _run_alone(self, run: Run, folder: pathlib.Path) -> str:
        if self._record(run).exists():
            return "finished by another process"
        start = time.monotonic()
        log = folder / "log.txt"
        with log.open("ab") as output:
            code = self._wait([sys.executable, *run.arguments(folder)], output)
        if code:
            return f"failed with exit code {code}, see {log}"
        result = json.loads((folder / "result.json").read_text())
        write_json(self._record(run), {"run": run.name, "command": run.command_line, **result})
        return f"finished, {(time.monotonic() - start) / 60:.1f} min"

    def _wait(self, command: list[str], output: object) -> int:
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        # Where several runs share a GPU, none may take all its memory.
        environment = os.environ | dict.fromkeys(names, str(self.threads)) | {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        with self._starting:
            if self._stopped:
                return -1
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)  # type: ignore[call-overload]
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._starting:
                self._running.discard(process)

    def _stop(self) -> None:
        with self._starting:
            self._stopped = True
            for process in self._running:
                process.terminate()
