#!/usr/bin/env python3
"""Opens the page of `laggard compare --format html` in a headless browser and uses it as people do.

    tests/browser/check.py target/debug/laggard

Needs Chromium or Chrome; says SKIPPED where there is none. Talks to it over a pipe, without any package.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FILES = Path(__file__).resolve().parent.parent / "files"
NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
WIDTHS = [320, 390, 768, 1024, 1280, 1920]
HOSTILE = "<img src=x onerror=alert(1)>\"'<script>alert(1)</script></style>"

# Every text on the page with too little contrast to what lies behind it, as WCAG 2.2 computes it.
CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${walk.currentNode.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad;
})()"""

# In pixels: where the bars of a line begin and end, relative to its lane.
BARS = """[...document.querySelectorAll('.lanes li')].map((line) => {
  const lane = line.querySelector('.lane').getBoundingClientRect();
  const bar = (which) => {
    const box = line.querySelector(`rect.${which}.wait`)?.getBoundingClientRect();
    return box && [(box.left - lane.left) / lane.width, (box.right - lane.left) / lane.width];
  };
  return {name: line.querySelector('.name').textContent, fast: bar('fast'), slow: bar('slow'),
          join: line.querySelectorAll('path.join').length, culprit: line.getAttribute('aria-current')};
})"""

# Labels of the axis that lie over each other or beyond the section.
LABELS = """(() => {
  const section = document.querySelector('#waterfall').getBoundingClientRect();
  const boxes = [...document.querySelectorAll('.ticks span')].filter((label) => label.checkVisibility())
    .map((label) => label.getBoundingClientRect());
  return boxes.filter((box, i) => box.right > section.right || (i && box.left < boxes[i - 1].right + 3)).length;
})()"""


class Browser:
    """One tab of a headless browser."""

    def __init__(self, program, profile):
        to_browser, ours = os.pipe()
        theirs, from_browser = os.pipe()
        # The protocol's pipe is on descriptors 3 and 4.
        line = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe",
                 "--disable-background-networking", f"--user-data-dir={profile}"]
        # Bash, for descriptors may have two digits.
        self.process = subprocess.Popen(["bash", "-c", line, "bash", program, *flags], stderr=subprocess.DEVNULL,
                                        pass_fds=[to_browser, from_browser])
        os.close(to_browser)
        os.close(from_browser)
        self.out, self.answers = os.fdopen(ours, "wb", 0), os.fdopen(theirs, "rb")
        self.count, self.session, self.events = 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Network", "Log", "Runtime"]:
            self.call(f"{domain}.enable")

    def receive(self):
        message = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            if not byte:
                sys.exit("the browser has ended")
            message += byte
        return json.loads(message)

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, path):
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def seen(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]

    def ask(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key, text=""):
        code = {"Tab": 9, "Enter": 13, " ": 32}[key]
        key = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def show(self, width, scheme="light"):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                  mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def close(self):
        self.call("Browser.close")
        self.process.wait()


def check(what, is_right, found=""):
    if not is_right:
        sys.exit(f"FAILED: {what} {found}")
    print(f"ok: {what}")


def page(laggard, directory, change=lambda text: text):
    for name in ["fast", "slow"]:
        text = (FILES / f"{name}.jaeger.json").read_text()
        (directory / f"{name}.json").write_text(change(text))
    html = subprocess.run([laggard, "compare", directory / "fast.json", directory / "slow.json", "--format", "html"],
                          check=True, stdout=subprocess.PIPE).stdout
    path = directory / "page.html"
    path.write_bytes(html)
    return path


def look(browser):
    requests = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
    foreign = [url for url in requests[1:] if not url.startswith("data:")]
    check("it loads nothing but itself", not foreign, foreign)
    said = browser.seen("Log.entryAdded") + browser.seen("Runtime.consoleAPICalled")
    check("the browser has nothing to complain of", not said, said)

    for width in WIDTHS:
        browser.show(width)
        wide = browser.ask("document.documentElement.scrollWidth") - width
        check(f"nothing is cut off at {width} pixels", wide <= 0, f"{wide} pixels")
        check("the axis can be read", browser.ask(LABELS) == 0, browser.ask(LABELS))
    for scheme in ["light", "dark"]:
        browser.show(1280, scheme)
        low = browser.ask(CONTRAST)
        check(f"every text stands out in {scheme}", low == [], low)
    light, dark = [(browser.show(1280, scheme), browser.ask("getComputedStyle(document.body).backgroundColor"))[1]
                   for scheme in ["light", "dark"]]
    check("light and dark differ", light != dark, light)

    browser.show(1280)
    lines = browser.ask(BARS)
    root, pre_processor, inference = lines
    close = lambda a, b: abs(a - b) < 0.01
    check("the slow trace spans the axis", close(root["slow"][0], 0) and close(root["slow"][1], 1), root)
    check("the fast one lies on the same axis", close(root["fast"][1], 476.1 / 1207.384), root)
    check("a later call begins later", close(inference["slow"][0], 771.6 / 1207.384), inference)
    check("both halves of each line are joined", all(line["join"] == 1 for line in lines), lines)
    check("one line is the culprit's", [line["culprit"] for line in lines] == [None, "true", None], lines)
    check("it is the pre-processor's", "pre-processor" in pre_processor["name"], lines)


def use_the_keyboard(browser):
    focus = "document.activeElement.matches('{}')"
    browser.press("Tab")
    check("the first stop skips to the waterfall", browser.ask(focus.format(".skip")))
    browser.press("Enter", "\r")
    check("it does", browser.ask("location.hash") == "#waterfall")
    browser.press("Tab")
    check("the next stop is the filter", browser.ask(focus.format("#only")))
    browser.press(" ", " ")
    hidden = "[...document.querySelectorAll('.lanes li')].filter((line) => !line.checkVisibility()).length"
    check("which hides what took as long as before", browser.ask(hidden) == 1, browser.ask(hidden))
    browser.press(" ", " ")
    check("and shows it again", browser.ask(hidden) == 0)
    for line in range(3):
        browser.press("Tab")
        check(f"line {line + 1} is reached", browser.ask(
            f"document.activeElement === document.querySelectorAll('.lanes summary')[{line}]"))
        browser.press("Enter", "\r")
        check("and opens", browser.ask("document.activeElement.parentElement.open"))
    check("what it shows can be read", browser.ask(CONTRAST) == [], browser.ask(CONTRAST))
    browser.show(320)
    wide = browser.ask("document.documentElement.scrollWidth") - 320
    check("an open line fits on a phone", wide <= 0, f"{wide} pixels")


def attack(browser):
    elements = browser.ask("document.querySelectorAll('script, img, iframe, object, embed, link:not([rel=icon])').length")
    check("names with markup make no elements", elements == 0, elements)
    handlers = browser.ask("[...document.querySelectorAll('*')].filter((e) => [...e.attributes]"
                           ".some((a) => a.name.startsWith('on'))).length")
    check("nor handlers", handlers == 0, handlers)
    check("and are shown as they are", browser.ask(f"document.querySelector('h1').textContent")
          == f"pre-processor{HOSTILE} made it slow", browser.ask("document.querySelector('h1').textContent"))
    check("nothing opened a dialog", not browser.seen("Page.javascriptDialogOpening"))
    for width in [320, 1280]:
        browser.show(width)
        wide = browser.ask("document.documentElement.scrollWidth") - width
        check(f"long names are broken at {width} pixels", wide <= 0, f"{wide} pixels")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    laggard = sys.argv[1]
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        print("\n*** SKIPPED: the page was not looked at, for there is no Chromium here ***\n")
        return
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        browser = Browser(program, directory / "profile")
        browser.show(1280)
        # People who read a page from a stranger may have scripts turned off.
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(page(laggard, directory))
        look(browser)
        browser.open(page(laggard, directory))
        use_the_keyboard(browser)
        escaped = json.dumps(f"pre-processor{HOSTILE}")[1:-1]
        long = json.dumps("x" * 150 + HOSTILE)[1:-1]
        browser.open(page(laggard, directory, lambda text: text.replace("pre-processor", escaped)
                          .replace("preprocess-request", long).replace("File saved", long)))
        attack(browser)
        browser.close()
    print("all checks of the page passed")


main()
