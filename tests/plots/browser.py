"""Headless Chromium over its debugging pipe (two file descriptors and JSON): no driver and no package needed."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

LIMIT_S = 60.0


def find_chromium() -> str | None:
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Browser:
    """One page. `events` holds everything that the browser has said, in its order."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, from_us = os.pipe()
        from_browser, to_us = os.pipe()
        # High numbers first, so that 3 and 4, where the browser expects its pipes, can't be either of them.
        commands, answers = (fcntl.fcntl(end, fcntl.F_DUPFD, 50) for end in (to_browser, to_us))

        def place_pipes() -> None:
            os.dup2(commands, 3)
            os.dup2(answers, 4)

        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}",
            "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, pass_fds=(3, 4), preexec_fn=place_pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        os.close(to_browser)
        os.close(to_us)
        self._write, self._read = from_us, from_browser
        self._numbers, self._rest = itertools.count(1), b""
        self.events: list[dict[str, Any]] = []
        targets = self.ask("Target.getTargets", session=None)["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        self._session = self.ask("Target.attachToTarget", session=None, targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, session: str | None = "this page", **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come meanwhile are kept."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]

    def open(self, path: Path) -> None:
        """Open a file and wait until all of it is there."""
        self.ask("Page.navigate", url=path.resolve().as_uri())
        end_s = time.monotonic() + LIMIT_S
        while self.run("document.readyState + location.protocol") != "completefile:":
            if time.monotonic() > end_s:
                raise TimeoutError(f"{path} did not load")
            time.sleep(0.05)

    def run(self, javascript: str) -> Any:
        """The value of an expression (a promise is awaited)."""
        found = self.ask("Runtime.evaluate", expression=javascript, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait_for(self, javascript: str) -> bool:
        """Until the expression is true; False where it never becomes so."""
        end_s = time.monotonic() + LIMIT_S
        while time.monotonic() < end_s:
            if self.run(f"Boolean({javascript})"):
                return True
            time.sleep(0.05)
        return False

    def dark(self, on: bool) -> None:
        value = "dark" if on else "light"
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def screenshot(self, path: Path, width: int = 1200, height: int = 1000) -> Path:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **metrics)
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]))
        return path

    def close(self) -> None:
        try:
            self.ask("Browser.close", session=None)
            self._process.wait(timeout=20)
        except (OSError, EOFError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], LIMIT_S)
            if not ready:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._read, 1 << 16)
            if not data:
                raise EOFError("the browser has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        found = json.loads(line)
        if "method" in found:
            self.events.append(found)
        return found
