"""JupyterLab in a headless Chromium: a real server, a real kernel, a real page."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

WAIT = 120  # seconds until something must have appeared; the machine may be busy
CHROMIUM_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1600",
)  # fmt: skip


def chromium() -> tuple[str, str] | None:
    """Return the paths of a Chromium and its driver, or None."""
    browsers = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    driver = shutil.which("chromedriver")
    return (browsers[0], driver) if browsers and driver else None


class Lab:
    """A server whose files are in `folder`, and a browser that looks at it."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.port = folder, _free_port()
        options = {
            "ServerApp.token": "", "ServerApp.password": "", "ServerApp.port": self.port, "ServerApp.root_dir": folder,
            "LabApp.expose_app_in_browser": True, "LabApp.news_url": None, "ServerApp.allow_root": True,
        }  # fmt: skip
        arguments = [f"--{name}={value}" for name, value in options.items()]
        own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
        _write_settings(Path(own["JUPYTER_CONFIG_DIR"]))
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", *arguments]
        with open(folder / "server.log", "w") as log:
            self._server = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **own, **environment}
            )
        self.wait(self._answers, "the server does not answer")
        binary, driver = chromium()
        settings = webdriver.ChromeOptions()
        settings.binary_location = binary
        for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={folder / 'chromium'}"):
            settings.add_argument(flag)
        settings.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.browser = webdriver.Chrome(settings, webdriver.ChromeService(driver))

    def close(self) -> None:
        """End browser, kernels and server."""
        self.browser.quit()
        self._server.terminate()  # and with it its kernels
        self._server.wait(60)

    def open(self, notebook: Path) -> None:
        """Show a notebook of the folder."""
        self.browser.get(f"http://localhost:{self.port}/lab/tree/{notebook.relative_to(self.folder)}?reset")
        self.wait(lambda: self.find(".jp-Notebook .jp-CodeCell"), "the notebook is not shown")
        self.wait(lambda: self._kernel_status() == "idle", "the kernel is not ready")

    def write(self, name: str, *cells: str) -> Path:
        """Write a notebook of code cells into the folder."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.folder / name
        nbformat.write(notebook, path)
        return path

    def run_all(self) -> None:
        """Start all cells, as the menu does; does not wait for them."""
        self.browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def idle(self) -> bool:
        """Whether the kernel has nothing to do, and still has not some seconds later: no cell waits."""
        for _ in range(6):
            if self._kernel_status() != "idle":
                return False
            time.sleep(0.5)
        return True

    def outputs(self, notebook: Path, kind: str) -> list[dict]:
        """Save the notebook and return its outputs of one kind."""
        before = notebook.stat().st_mtime_ns
        self.save()
        # while it is being written, it cannot be read: `wait` tries again
        saved = lambda: notebook.stat().st_mtime_ns > before and nbformat.read(notebook, 4)  # noqa: E731
        cells = self.wait(saved, "the notebook is not saved").cells
        return [output for cell in cells for output in cell.get("outputs", ()) if output.output_type == kind]

    def button(self, text: str, within: str) -> WebElement:
        """Return the button with this text, scrolled into view."""
        found = [element for element in self.find(f"{within} button") if element.text.strip() == text]
        assert found, f"no button {text!r} in {within}"
        return self.show(found[0])

    def save(self) -> None:
        """Save the notebook, as the menu does."""
        self.browser.execute_script("window.jupyterapp.commands.execute('docmanager:save')")

    def find(self, selector: str) -> list[WebElement]:
        """Return what a CSS selector finds."""
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = ".jp-Notebook") -> str:
        """Return the visible text below a selector."""
        return "\n".join(element.text for element in self.find(selector))

    def wait(self, done: Callable[[], Any], otherwise: str, seconds: float = WAIT) -> Any:
        """Return what `done()` returns as soon as it is true; AssertionError, with a screenshot, if it never is."""
        end, problem = time.monotonic() + seconds, None
        while time.monotonic() < end:
            try:
                if found := done():
                    return found
            except Exception as error:  # the page changes while it is looked at
                problem = error
            time.sleep(0.2)
        if hasattr(self, "browser"):
            self.screenshot("failed")
        raise AssertionError(f"{otherwise} ({problem}); see {self.folder}")

    def screenshot(self, name: str) -> Path:
        """Write what the browser shows; to $NNTI_SCREENSHOTS if set."""
        folder = Path(os.environ.get("NNTI_SCREENSHOTS") or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.browser.save_screenshot(str(folder / f"{name}.png"))
        return folder / f"{name}.png"

    def show(self, element: WebElement) -> WebElement:
        """Scroll to an element."""
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

    def errors(self) -> list[str]:
        """Return what the page's scripts complained about."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]

    def _kernel_status(self) -> str | None:
        kernel = "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
        return self.browser.execute_script(f"return {kernel}?.status")

    def _answers(self) -> bool:
        assert self._server.poll() is None, (self.folder / "server.log").read_text()
        return urllib.request.urlopen(f"http://localhost:{self.port}/api/status", timeout=10).status == 200


def _write_settings(config: Path) -> None:
    """Let no question about news lie over the page."""
    path = config / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    path.parent.mkdir(parents=True)
    path.write_text('{"fetchNews": "false", "checkForUpdates": false}')


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
