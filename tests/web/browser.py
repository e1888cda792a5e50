"""Chromium, and the words in which the tests speak about Warren's pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

try:
    from selenium import webdriver
    from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.remote.webelement import WebElement
    from selenium.webdriver.support.ui import Select, WebDriverWait
except ImportError as error:
    raise ImportError("selenium is missing: run scripts/setup.sh web") from error

from harness.wait import SOON

#: What a page is looked at with.
PROGRAMS = ("chromium", "chromedriver")


def start(downloads: Path) -> webdriver.Chrome:
    """A browser without a window; fails, naming what is missing, where there is none."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}; run scripts/setup.sh web", pytrace=False)
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.add_argument("--window-size=1280,1000")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(SOON)
    return driver


class Pages:
    """The pages of one node, in the browser."""

    def __init__(self, driver: webdriver.Chrome, port: int) -> None:
        self.driver = driver
        self.address = f"http://127.0.0.1:{port}/"
        #: Parts of complaints in the console that a test provokes.
        self.expected: list[str] = []

    # --- going --------------------------------------------------------------------------------

    def open(self) -> None:
        """The first page in a tab that remembers nothing."""
        self.driver.get(self.address)
        self.driver.execute_script("sessionStorage.clear(); location.hash = ''")
        self.driver.refresh()

    def login(self, user: str = "guest", password: str = "guest") -> None:
        self.open()
        self.try_login(user, password)
        self.shown("header.top")

    def try_login(self, user: str, password: str) -> None:
        for name, value in (("user", user), ("password", password)):
            field = self.shown(f"input[name={name}]")
            field.clear()
            field.send_keys(value)
        self.press("Log in")

    def go(self, *parts: str) -> None:
        """The page under these parts of an address, as `go("queues", "/", "jobs")`."""
        path = "/".join(quote(part, safe="") for part in parts)
        self.run("location.hash = arguments[0]", f"#/{path}")
        self.shown("main h1")

    # --- looking ------------------------------------------------------------------------------

    def until(self, check: Callable[[], Any], what: str, timeout: float = SOON) -> Any:
        """The first true answer of `check`; parts of a page that were just replaced are no answer."""
        ignored = (StaleElementReferenceException, AssertionError)
        waiting = WebDriverWait(self.driver, timeout, 0.05, ignored_exceptions=ignored)
        try:
            return waiting.until(lambda _: check(), what)
        except WebDriverException as error:
            error.msg = f"{what}\n{self.driver.current_url}\n{self.text()[:3000]}"
            raise

    def find(self, selector: str, within: WebElement | None = None) -> list[WebElement]:
        """What is to be seen of what the selector names."""
        return self.run(
            "const [selector, within] = arguments;"
            "return [...(within ?? document).querySelectorAll(selector)].filter((e) => e.checkVisibility())",
            selector,
            within,
        )

    def labelled(self, selector: str, text: str) -> WebElement | None:
        """The one that is to be seen, can be used, and has exactly this text."""
        return self.run(
            "const [selector, text] = arguments;"
            "const fits = (e) => e.checkVisibility() && !e.disabled && e.textContent.trim() === text;"
            "return [...document.querySelectorAll(selector)].find(fits)",
            selector,
            text,
        )

    def run(self, script: str, *arguments: Any) -> Any:
        """JavaScript in the page: one call, where asking element by element takes many."""
        return self.driver.execute_script(script, *arguments)

    def shown(self, selector: str) -> WebElement:
        return self.until(lambda: self.find(selector), f"{selector} is shown")[0]

    def text(self) -> str:
        return self.run("return document.body.innerText")

    def see(self, *texts: str) -> None:
        for text in texts:
            self.until(lambda text=text: text in self.text(), f"to see: {text}")

    def gone(self, text: str) -> None:
        self.until(lambda: text not in self.text(), f"not to see any more: {text}")

    def heading(self, text: str) -> None:
        self.until(lambda: text in self.shown("main h1").text, f"the page of {text}")

    def row(self, name: str) -> list[str]:
        """The cells of the row that a link of this name is in."""
        script = (
            "const links = [...document.querySelectorAll('tbody a')];"
            "const row = links.find((e) => e.textContent === arguments[0])?.closest('tr');"
            "return row && [...row.cells].map((cell) => cell.innerText)"
        )
        return self.until(lambda: self.run(script, name), f"a row of {name}")

    def figure(self, label: str) -> str:
        """The large number over this label."""
        script = (
            "const items = [...document.querySelectorAll('.figures li')];"
            "const fits = (e) => e.querySelector('.figure-label').textContent === arguments[0];"
            "return items.find(fits)?.querySelector('.figure').textContent"
        )
        return self.until(lambda: self.run(script, label), f"the number of {label}")

    def figure_is(self, label: str, value: str) -> None:
        self.until(lambda: self.figure(label) == value, f"{label} is {value}")

    def buttons(self) -> list[str]:
        return [button.text for button in self.find("main button, main summary")]

    # --- doing --------------------------------------------------------------------------------

    def press(self, label: str, within: str = "body") -> None:
        """Presses the button, or unfolds the part, of this label."""

        def pressed() -> bool:
            button = self.labelled(f"{within} button, {within} summary", label)
            if button is not None:
                button.click()
            return button is not None

        self.until(pressed, f"a button {label} in {within}")

    def confirm(self, label: str) -> None:
        """Answers the question that is asked."""
        self.press(label, "dialog[open]")
        self.until(lambda: not self.find("dialog[open]"), "the question to be gone")

    def field(self, label: str, within: str = "body") -> WebElement:
        """The input under this label, where it is shown."""

        def found() -> WebElement | None:
            name = self.labelled(f"{within} label", label)
            return name and self.driver.find_element(By.ID, name.get_attribute("for"))

        return self.until(found, f"a field {label}")

    def fill(self, label: str, value: str, within: str = "body") -> None:
        field = self.field(label, within)
        if field.tag_name == "select":
            self.until(lambda: value in self.options(field), f"{label} offers {value}")
            Select(field).select_by_visible_text(value)
            return
        field.clear()
        field.send_keys(value)

    def filter(self, name: str) -> None:
        """Limits the list that is shown, and waits until all that was typed has been asked for."""
        self.shown("input[type=search]").send_keys(name)
        script = (
            "const asked = performance.getEntriesByType('resource').map((e) => e.name);"
            "return asked.some((e) => new URL(e).searchParams.get('name') === arguments[0])"
        )
        self.until(lambda: self.run(script, name), f"{name} to be asked for")

    @staticmethod
    def options(field: WebElement) -> list[str]:
        return [option.text for option in Select(field).options]

    def argument(self, name: str, value: str) -> None:
        """Adds one of the usual arguments."""
        self.press(name)
        field = self.until(
            lambda: self.find(f'input[aria-label$="value of {name}"]'), f"a row of {name}"
        )[-1]
        field.clear()
        field.send_keys(value)

    # --- the console --------------------------------------------------------------------------

    def complaints(self) -> list[str]:
        """What the browser has complained about and the test does not expect."""
        entries = self.driver.get_log("browser")
        messages = [entry["message"] for entry in entries if entry["level"] != "INFO"]
        return [text for text in messages if not any(part in text for part in self.expected)]
