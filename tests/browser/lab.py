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
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1600",
)  # fmt: skip
NEWS = "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"


def chromium() -> tuple[str, str] | None:
    """Return the paths of a Chromium and its driver, or None."""
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Lab:
    """A server whose files are in `folder`, and a browser that looks at it."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            self.folder, self.address = folder, f"http://localhost:{probe.getsockname()[1]}"
        own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
        news = Path(own["JUPYTER_CONFIG_DIR"], NEWS)
        news.parent.mkdir(parents=True)
        news.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # no question lies over the page
        options = {
            "ServerApp.token": "", "ServerApp.password": "", "ServerApp.port": self.address.rsplit(":")[-1],
            "ServerApp.root_dir": folder, "ServerApp.allow_root": True, "LabApp.expose_app_in_browser": True,
        }  # fmt: skip
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", *(f"--{key}={options[key]}" for key in options)]
        with open(folder / "server.log", "w") as log:
            environment = {**os.environ, **own, **environment}
            self._server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
        self.wait(lambda: urllib.request.urlopen(f"{self.address}/api/status", timeout=10), "the server is silent")
        settings = webdriver.ChromeOptions()
        settings.binary_location, driver = chromium()
        for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={folder / 'chromium'}"):
            settings.add_argument(flag)
        settings.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.browser = webdriver.Chrome(settings, webdriver.ChromeService(driver))

    def close(self) -> None:
        """End browser, kernels and server."""
        self.browser.quit()
        self._server.terminate()  # and with it its kernels
        self._server.wait(60)

    def run(self, name: str, *cells: str) -> Path:
        """Write a notebook of code cells into the folder and run it."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / name)
        return self.open(self.folder / name)

    def open(self, notebook: Path) -> Path:
        """Show a notebook of the folder and start all of its cells, as the menu does; does not wait for them."""
        self.browser.get(f"{self.address}/lab/tree/{notebook.relative_to(self.folder)}?reset")
        self.wait(lambda: self.find(".jp-Notebook .jp-CodeCell"), "the notebook is not shown")
        self.wait(lambda: self._status() == "idle", "the kernel is not ready")
        self.command("notebook:run-all-cells")
        return notebook

    def command(self, name: str) -> None:
        """Do what a menu entry does."""
        self.browser.execute_script(f"window.jupyterapp.commands.execute('{name}')")

    def idle(self) -> bool:
        """Whether the kernel has nothing to do, and still has not some seconds later: no cell waits."""
        return all(self._status() == "idle" and time.sleep(0.5) is None for _ in range(6))

    def saved(self, notebook: Path) -> nbformat.NotebookNode:
        """Save the notebook and return what was written."""
        before = notebook.stat().st_mtime_ns
        self.command("docmanager:save")
        # while it is being written it cannot be read: `wait` tries again
        read = lambda: notebook.stat().st_mtime_ns > before and nbformat.read(notebook, 4)  # noqa: E731
        return self.wait(read, "the notebook is not saved")

    def find(self, selector: str) -> list[WebElement]:
        """Return what a CSS selector finds."""
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Return the visible text below a selector."""
        return "\n".join(element.text for element in self.find(selector))

    def button(self, text: str, within: str) -> WebElement:
        """Return the button with this text, scrolled into view."""
        return self.show(next(button for button in self.find(f"{within} button") if button.text.strip() == text))

    def show(self, element: WebElement) -> WebElement:
        """Scroll to an element."""
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

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

    def wait_for(self, text: str, within: str, seconds: float = WAIT) -> None:
        """Wait until a text is visible below a selector."""
        self.wait(lambda: text in self.text(within), f"'{text}' is not shown in {within}", seconds)

    def screenshot(self, name: str) -> None:
        """Write what the browser shows; to $NNTI_SCREENSHOTS if set."""
        folder = Path(os.environ.get("NNTI_SCREENSHOTS") or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.browser.save_screenshot(str(folder / f"{name}.png"))

    def _status(self) -> str | None:
        kernel = "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
        return self.browser.execute_script(f"return {kernel}?.status")
