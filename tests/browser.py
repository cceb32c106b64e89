"""A real browser for tests: headless Chromium over the pipe of its DevTools protocol."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from conftest import HANG

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)


class Browser:
    """Chromium over the pipe of its DevTools protocol: messages of JSON that end in a zero byte."""

    def __init__(self, profile: Path) -> None:
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (from_us, to_us)]  # clear of 3 and 4, the protocol's
        script = f'exec 3<&{ends[0]} 4>&{ends[1]}; exec "$@"'
        command = ["bash", "-c", script, "bash", CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, pass_fds=ends, stdout=quiet, stderr=quiet)
        for end in (from_us, to_us, *ends):
            os.close(end)
        self.writer, self.reader = os.fdopen(to_browser, "wb"), os.fdopen(from_browser, "rb")
        self.number, self.session, self.buffer, self.errors = 0, None, b"", []

    @contextlib.contextmanager
    def page(self) -> Iterator[None]:
        """One empty page in a context of its own: what other pages stored is not there. Its errors are in `errors`."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.errors = []
        try:
            for domain in ("Page", "Runtime", "Log"):
                self.send(f"{domain}.enable")
            yield
        finally:
            self.session = None
            self.send("Target.disposeBrowserContext", browserContextId=context)

    def send(self, method: str, **parameters: object) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.writer.write(json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        self.writer.flush()
        while True:
            found = self._receive()
            if found.get("id") == self.number:
                assert "error" not in found, found
                return found["result"]
            own = self.session is not None and found.get("sessionId") == self.session
            if own and found.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(found["params"])

    def _receive(self) -> dict:
        while b"\0" not in self.buffer:
            some = self.reader.read1(1 << 16)
            assert some, "the browser ended"
            self.buffer += some
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def run(self, script: str) -> object:
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = HANG) -> None:
        """Wait until an expression of the page's is true, but not for ever."""
        look = f"() => {{ if ({condition}) {{ clearInterval(timer); done(true) }} }}"
        late = f"setTimeout(() => {{ clearInterval(timer); done(false) }}, {seconds * 1000})"
        found = self.run(f"new Promise(done => {{ const timer = setInterval({look}, 20); {late} }})")
        assert found, f"in vain for {condition}"

    def open(self, address: str, ready: str = "document.querySelector('figure')") -> None:
        self.send("Page.navigate", url=address)
        self.until(f"document.readyState === 'complete' && {ready}")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, **({"text": key} if len(key) == 1 else {}))

    def close(self) -> None:
        with contextlib.suppress(AssertionError, BrokenPipeError, OSError):
            self.session = None
            self.send("Browser.close")
        self.process.wait(timeout=HANG)
        self.writer.close()
        self.reader.close()
