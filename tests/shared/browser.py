"""A page in a headless Chromium, over the DevTools protocol: what it asked for, what it complained about, what leaves its width."""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-port=0")
START_S, ANSWER_S = 60, 60

# Elements that stick out of the given width, unless a box around them scrolls by itself. Not innerWidth: a phone zooms out to fit the page.
WIDER = """(width => [...document.querySelectorAll('body *')].filter(e => {
  if (e.getBoundingClientRect().right <= width + 1) return false;
  for (let box = e.parentElement; box; box = box.parentElement) if (getComputedStyle(box).overflowX == 'auto') return false;
  return true;
}).map(e => e.outerHTML.slice(0, 120)))"""


@dataclass
class Look:
    """A page at one width in CSS pixels."""

    requests: list[str] = field(default_factory=list)  # addresses, blocked ones too
    complaints: list[str] = field(default_factory=list)  # console, log and exceptions
    title: str = ""
    page_width: int = 0  # what would scroll
    wider: list[str] = field(default_factory=list)
    picture: bytes = b""  # PNG


def find_browser() -> str | None:
    """The browser on PATH, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def look(page: Path, width: int) -> Look:
    """Load a local page at this width."""
    return asyncio.run(_look(page.resolve().as_uri(), width))


async def _look(address: str, width: int) -> Look:
    # The browser's children may still write while it is swept away.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            str(find_browser()), *SWITCHES, f"--user-data-dir={profile}", "about:blank", stdout=quiet, stderr=quiet
        )
        try:
            port = await asyncio.wait_for(_port(Path(profile) / "DevToolsActivePort"), START_S)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    tab = next(target for target in await answer.json() if target["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    return await asyncio.wait_for(_visit(_Tab(socket), address, width), ANSWER_S)
        finally:
            process.kill()
            await process.wait()


async def _port(file: Path) -> str:
    while not file.is_file() or not file.read_text():
        await asyncio.sleep(0.05)
    return file.read_text().split()[0]


async def _visit(tab: _Tab, address: str, width: int) -> Look:
    for domain in ("Page", "Network", "Log", "Runtime"):
        await tab.call(f"{domain}.enable")
    await tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    await tab.call("Page.navigate", url=address)
    await tab.until("Page.loadEventFired")
    seen = Look()
    seen.title = await tab.evaluate("document.title")
    seen.page_width = await tab.evaluate("document.documentElement.scrollWidth")
    seen.wider = await tab.evaluate(f"{WIDER}({width})")
    shot = await tab.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
    seen.picture = base64.b64decode(shot["data"])
    for event in tab.events:  # asked last: whatever loaded late is in it
        seen.requests += [event["params"]["request"]["url"]] if event["method"] == "Network.requestWillBeSent" else []
        if event["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            seen.complaints.append(str(event["params"]))
    return seen


class _Tab:
    """Calls and events of one tab, one at a time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == self._number:
                return dict(message["result"])
            self.events.append(message)

    async def until(self, method: str) -> None:
        while not any(event["method"] == method for event in self.events):
            self.events.append(await self._socket.receive_json())

    async def evaluate(self, expression: str) -> Any:
        return (await self.call("Runtime.evaluate", expression=expression, returnByValue=True))["result"]["value"]
