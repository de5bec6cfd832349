"""QnnProcess: the process that QNN sessions live in, started when it is needed and again when it ended."""

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

_WORKER = Path(__file__).with_name("qnn_worker.py")
_SHOWN = 300  # characters of the last line that a process wrote before it ended


class QnnFailure(Exception):
    """What a request ended with: an error of ONNX Runtime, or the end of the process."""


class QnnProcess:
    """A running worker; one is shared by all sessions."""

    _current: "QnnProcess | None" = None
    _starting = threading.Lock()

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        self._forgotten: list[int] = []
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # -P: the worker's folder, which holds an onnxruntime.py of ours, is not where it looks for packages
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        self._asking = threading.Lock()

    @classmethod
    def shared(cls) -> "QnnProcess":
        """Return the running worker, after starting one if there is none."""
        with cls._starting:
            if cls._current is None or not cls._current.is_alive:
                cls._current = cls()
            return cls._current

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ask(self, kind: str, *arguments: object) -> Any:
        """Return the answer to a request.

        Raises:
            QnnFailure: If it failed, or ended the process.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._asking:
            try:
                closed = [self._forgotten.pop() for _ in range(len(self._forgotten))]
                pickle.dump((closed, kind, arguments), self._process.stdin)
                self._process.stdin.flush()
                succeeded, answer = pickle.load(self._process.stdout)
            except (EOFError, OSError, pickle.UnpicklingError) as error:
                self._process.wait()
                raise QnnFailure(f"the QNN backend ended its process: {self._last_words()}") from error
        if not succeeded:
            raise QnnFailure(answer)
        return answer

    def forget(self, number: int) -> None:
        """Let go of a session, with the next request: garbage may be collected in the midst of one."""
        self._forgotten.append(number)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[-_SHOWN:] if lines else f"exit code {self._process.returncode}"
