"""Workers that need not import torch: forks of one process of this session that did so once.

Most of what a worker of a tiny suite does is to import libraries, which has nothing to do with what a test shows.
`Server.popen` stands in for `subprocess.Popen` in `greenprune.bench.run`: the worker is a process with a session, an
environment, a working directory and pipes of its own as ever, and runs the code that it is given, but it is a copy of a
process in which the libraries (and nothing of greenprune) are loaded. So is what it runs to look whether its network can be
loaded again.

Where it would load them otherwise it is started as usual: with another interpreter, on other cores, in another environment as
far as they read it while they load, with a GPU, and on other systems than Linux. So are the workers of suites that a test
starts as a command of its own.

As a program this file is that process; see `serve`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from typing import IO, Any

LIBRARIES = ("torch", "torch._dynamo", "torch.distributed", "torchvision", "torchmetrics", "sklearn.datasets", "pandas")

READ_WHILE_LOADING = ("CUDA", "GOMP", "HIP", "LANG", "LC_", "LD_", "MALLOC", "MKL", "NVIDIA", "OMP", "OPENBLAS")
READ_WHILE_LOADING += ("PYTHON", "TORCH")
READ_LATER = frozenset({"TORCHINDUCTOR_CACHE_DIR"})  # which PyTorch sets itself when something is compiled

subprocess_run = subprocess.run

GPU = any(os.path.exists(f"/dev/{name}") for name in ("nvidia0", "kfd", "dxg"))
AS_USUAL = GPU or sys.platform != "linux"  # the driver of a GPU does not survive a fork

LONGEST = 150_000  # bytes of a request: arguments and environment, one packet


class Preloaded:
    """What of `subprocess.Popen` the launcher uses: of a fork."""

    def __init__(self, pid: int, status: int, stdin: IO[bytes] | None, stdout: IO[bytes] | None) -> None:
        self.pid, self.stdin, self.stdout, self.returncode = pid, stdin, stdout, None
        self._status = status  # its return code comes here
        self._lock = threading.RLock()

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._lock:
            if self.returncode is None:
                if not select.select([self._status], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired("a worker", timeout or 0)
                self.returncode = int(os.read(self._status, 32) or -signal.SIGKILL)
                os.close(self._status)
            return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that is forked, started with the first worker.

    Args:
        environment: of the process, while it loads.
        running: leads to the process, if there is one.
    """

    def __init__(self, environment: dict[str, str], running: socket.socket | None = None) -> None:
        self._environment = environment
        self._socket = running
        self._lock = threading.Lock()
        self._executable, self._cores = sys.executable, cores()

    def popen(self, command: list[str], **options: Any) -> Preloaded | subprocess.Popen[bytes]:
        """As `subprocess.Popen`."""
        fed = set(options) == {"stdin", "env", "start_new_session"} and options["stdin"] == subprocess.PIPE
        piped = (
            set(options) == {"stdout", "stderr", "env", "start_new_session"} and options["stdout"] == subprocess.PIPE
        )
        if not (fed or piped) or not self._can(command, options["env"]):
            return subprocess.Popen(command, **options)
        request = json.dumps({"command": command, "env": options["env"], "folder": os.getcwd()}).encode()
        stdin, feed = os.pipe() if fed else (os.open(os.devnull, os.O_RDONLY), None)
        lines, stdout = (None, os.dup(1)) if fed else os.pipe()
        status, told = os.pipe()
        with self._lock:
            if self._socket is None:
                self._socket = self._start()
            stderr = 2 if fed else options["stderr"].fileno()
            socket.send_fds(self._socket, [request], [stdin, stdout, stderr, told])
            for fd in (stdin, stdout, told):
                os.close(fd)
            pid = int(self._socket.recv(32))
        ends = (None if fd is None else os.fdopen(fd, mode) for fd, mode in ((feed, "wb"), (lines, "rb")))
        return Preloaded(pid, status, *ends)

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """As `subprocess.run`."""
        known = options.keys() <= {"capture_output", "text", "timeout", "check", "env"} and options.get(
            "capture_output"
        )
        environment = options.get("env") or dict(os.environ)
        if not known or not options.get("text") or options.get("check") or not self._can(command, environment):
            return subprocess_run(command, **options)
        with tempfile.TemporaryFile() as stderr:
            process = self.popen(
                command, stdout=subprocess.PIPE, stderr=stderr, env=environment, start_new_session=True
            )
            assert process.stdout is not None
            with process.stdout as pipe:
                stdout = pipe.read()
            code = process.wait()
            stderr.seek(0)
            return subprocess.CompletedProcess(command, code, stdout.decode(), stderr.read().decode())

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _can(self, command: list[str], environment: dict[str, str]) -> bool:
        """Whether a process of this command would load its libraries as the server did."""
        length = sum(map(len, (*command, *environment.values())))
        if AS_USUAL or command[:3] != [self._executable, "-P", "-c"] or length > LONGEST / 2:
            return False
        if "sched_setaffinity" in command[3] and json.loads(command[5]):  # it takes its cores before it imports
            return False
        return read_while_loading(environment) == read_while_loading(self._environment) and cores() == self._cores

    def _start(self) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            command = [self._executable, "-P", __file__, str(its.fileno())]
            options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "start_new_session": True}
            subprocess.run(command, env=self._environment, pass_fds=[its.fileno()], check=True, **options)
        return ours


def read_while_loading(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_WHILE_LOADING) and name not in READ_LATER
    }


def cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def serve(requests: socket.socket) -> tuple[list[str], socket.socket]:
    """Fork for each request until nobody asks any more.

    Returns in the forks, with the command that each is to be, and with a socket to a server for the processes that it starts.
    """
    while True:
        request, received, _, _ = socket.recv_fds(requests, LONGEST, 4)
        if not request:
            os._exit(0)
        if keeper := os.fork():
            for fd in received:
                os.close(fd)
            os.waitpid(keeper, 0)
            continue
        # Waits for the worker, as its parent would. The server itself waits only until there is one.
        if os.fork():
            os._exit(0)
        pid = os.fork()
        stdin, stdout, stderr, told = received
        if pid:
            requests.send(str(pid).encode())
            for fd in (requests.fileno(), stdin, stdout, stderr):
                os.close(fd)
            os.write(told, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
            os._exit(0)
        os.setsid()
        asks, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        requests.close()
        if not os.fork():
            requests = asked
            for fd in (asks.detach(), *received):
                os.close(fd)
            continue
        asked.close()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for fd in received:
            os.close(fd)
        wanted = json.loads(request)
        os.environ.clear()
        os.environ.update(wanted["env"])
        os.chdir(wanted["folder"])
        return wanted["command"], asks


if __name__ == "__main__":
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            __import__(name)
    if os.fork():  # a child of nobody's: the tests look at the children of their process
        os._exit(0)
    (_, _, _, code, *arguments), server = serve(socket.socket(fileno=int(sys.argv[1])))
    subprocess.run = Server(dict(os.environ), server).run
    sys.argv = ["-c", *arguments]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), main.__dict__)
