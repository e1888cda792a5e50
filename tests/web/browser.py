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


def xpath_text(text: str) -> str:
    """`text` as a string of XPath, which knows no escapes."""
    if "'" not in text:
        return f"'{text}'"
    parts = ', "\'", '.join(f"'{part}'" for part in text.split("'"))
    return f"concat({parts})"


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
        self.driver.execute_script("location.hash = arguments[0]", f"#/{path}")
        self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, "main h1"), f"page {path}")

    # --- looking ------------------------------------------------------------------------------

    def until(self, check: Callable[[], Any], what: str, timeout: float = SOON) -> Any:
        """The first true answer of `check`; parts of a page that were just replaced are no answer."""
        ignored = (StaleElementReferenceException, AssertionError)
        waiting = WebDriverWait(self.driver, timeout, 0.05, ignored_exceptions=ignored)
        try:
            return waiting.until(lambda _: check(), what)
        except WebDriverException as error:
            text = self.driver.find_element(By.TAG_NAME, "body").text
            error.msg = f"{what}\n{self.driver.current_url}\n{text[:3000]}"
            raise

    def find(self, selector: str, within: WebElement | None = None) -> list[WebElement]:
        found = (within or self.driver).find_elements(By.CSS_SELECTOR, selector)
        return [element for element in found if element.is_displayed()]

    def shown(self, selector: str) -> WebElement:
        return self.until(lambda: self.find(selector), f"{selector} is shown")[0]

    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "body").text

    def see(self, *texts: str) -> None:
        for text in texts:
            self.until(lambda text=text: text in self.text(), f"to see: {text}")

    def gone(self, text: str) -> None:
        self.until(lambda: text not in self.text(), f"not to see any more: {text}")

    def heading(self, text: str) -> None:
        self.until(lambda: text in self.shown("main h1").text, f"the page of {text}")

    def row(self, name: str) -> list[str]:
        """The cells of the row that a link of this name is in."""

        def cells() -> list[str]:
            path = f"//tbody/tr[.//a[text()={xpath_text(name)}]]"
            rows = self.driver.find_elements(By.XPATH, path)
            return [cell.text for cell in rows[0].find_elements(By.TAG_NAME, "td")] if rows else []

        return self.until(cells, f"a row of {name}")

    def figure(self, label: str) -> str:
        """The large number over this label."""

        def number() -> str:
            for item in self.find(".figures li"):
                if self.find(".figure-label", item)[0].text == label:
                    return self.find(".figure", item)[0].text
            return ""

        return self.until(number, f"the number of {label}")

    def figure_is(self, label: str, value: str) -> None:
        self.until(lambda: self.figure(label) == value, f"{label} is {value}")

    def buttons(self) -> list[str]:
        return [button.text for button in self.find("main button, main summary") if button.text]

    # --- doing --------------------------------------------------------------------------------

    def press(self, label: str, within: str = "body") -> None:
        """Presses the button, or unfolds the part, of this label."""

        def pressed() -> bool:
            for button in self.find(f"{within} button, {within} summary"):
                if button.text.strip() == label and button.is_enabled():
                    button.click()
                    return True
            return False

        self.until(pressed, f"a button {label} in {within}")

    def confirm(self, label: str) -> None:
        """Answers the question that is asked."""
        self.press(label, "dialog[open]")
        self.until(lambda: not self.find("dialog[open]"), "the question to be gone")

    def field(self, label: str, within: str = "body") -> WebElement:
        """The input under this label, where it is shown."""

        def found() -> WebElement | None:
            for element in self.find(f"{within} label"):
                if element.text.strip() == label:
                    return self.driver.find_element(By.ID, element.get_attribute("for"))
            return None

        return self.until(found, f"a field {label}")

    def fill(self, label: str, value: str, within: str = "body") -> None:
        field = self.field(label, within)
        if field.tag_name == "select":
            self.until(lambda: value in self.options(field), f"{label} offers {value}")
            Select(field).select_by_visible_text(value)
            return
        field.clear()
        field.send_keys(value)

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
