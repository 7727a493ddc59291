"""A real browser without a window: a page as it stands after its scripts have run."""

import json
import os
import re
import shutil
import subprocess
import time
from html import unescape
from itertools import count
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")


def dump(page: Path, profile: Path, fragment: str = "", wait_ms: int = 0) -> str:
    """The document after `wait_ms` of the page's own time. A page that asks the network for anything fails: there is none."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--autoplay-policy=no-user-gesture-required",
        "--proxy-server=127.0.0.1:9",
        f"--user-data-dir={profile}",
        *([f"--virtual-time-budget={wait_ms}"] if wait_ms else []),
        "--dump-dom",
        page.resolve().as_uri() + fragment,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def text_of(markup: str) -> str:
    """Without tags, for comparing."""
    return unescape(re.sub(r"<[^>]+>", " ", markup))


def live(page: Path, profile: Path, fragment: str, script: str, seconds: float) -> object:
    """What `script` evaluates to after the page has been open for so long: videos play, which `dump` does not wait for."""
    assert CHROMIUM is not None
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--autoplay-policy=no-user-gesture-required",
        "--remote-debugging-pipe",
    ]
    # The browser reads commands from descriptor 3 and answers on 4.
    shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    browser = subprocess.Popen(
        ["bash", "-c", shell, "bash", CHROMIUM, *flags, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(to_browser, from_browser),
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    numbers = count(1)
    with os.fdopen(answers, "rb") as reader:

        def ask(method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
            number = next(numbers)
            message = {"id": number, "method": method, "params": parameters} | (
                {"sessionId": session} if session else {}
            )
            os.write(commands, json.dumps(message).encode() + b"\0")
            while True:
                text = b""
                while (sign := reader.read(1)) != b"\0":
                    assert sign, "the browser has gone"
                    text += sign
                answer = json.loads(text)
                if answer.get("id") == number:
                    return dict(answer["result"])

        try:
            target = ask("Target.createTarget", url=page.resolve().as_uri() + fragment)["targetId"]
            session = str(ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
            time.sleep(seconds)
            return ask("Runtime.evaluate", session, expression=script, returnByValue=True)["result"].get(
                "value"
            )
        finally:
            os.write(commands, json.dumps({"id": next(numbers), "method": "Browser.close"}).encode() + b"\0")
            browser.wait(30)
            os.close(commands)
