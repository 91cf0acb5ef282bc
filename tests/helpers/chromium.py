"""A headless Chromium, driven over its own protocol (CDP): opens a page, chooses files, waits, takes pictures of it."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import websocket

PROGRAM = "chromium"
SECONDS = 120
FLAGS = (
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1200,900", "--remote-debugging-port=0",
)  # fmt: skip


def lacking() -> str:
    """Why there is no browser here, empty where there is one."""
    return "" if shutil.which(PROGRAM) else "the browser Chromium is not installed"


class Browser:
    """A browser with one page.

    Args:
        folder: an empty folder for its profile and downloads.
    """

    def __init__(self, folder: Path) -> None:
        self.downloads = folder / "downloads"
        profile = folder / "profile"
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port = self._port(profile / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=SECONDS) as answer:
            target = next(each for each in json.load(answer) if each["type"] == "page")
        self._socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=SECONDS, suppress_origin=True)
        self._number = 0
        self.messages: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def _port(self, file: Path) -> str:
        end = time.monotonic() + SECONDS
        while not (file.is_file() and file.read_text()):
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.05)
        return file.read_text().splitlines()[0]

    def call(self, method: str, **parameters):
        """Call a method of the protocol; what the page logs and asks for meanwhile goes to `messages`, `requests`."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.messages.append(json.dumps(message["params"]))
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def open(self, url: str) -> None:
        """Open an address."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str):
        """The value of an expression of the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.value(expression):
            assert time.monotonic() < end, f"{expression} is not true: {self.value('document.body.innerText')} {self.messages}"
            time.sleep(0.05)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files, or a folder, in an input of the page, as a user does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def screenshot(self, file: Path) -> Path:
        """The page as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return file

    def close(self) -> None:
        """End the browser."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(SECONDS)
