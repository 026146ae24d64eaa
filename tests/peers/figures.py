"""The counters of Laggard's admin port, and the identity that they keep."""

import re
import urllib.request
from collections import defaultdict

from processes import Failed, wait_for

SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Figures:
    def __init__(self, text):
        self.series = defaultdict(list)
        for line in text.splitlines():
            if not line.startswith("#") and (sample := SAMPLE.fullmatch(line)):
                labels = dict(LABEL.findall(sample["labels"] or ""))
                self.series["laggard_" + sample["name"].removeprefix("laggard_")].append((labels, float(sample["value"])))

    def sum(self, name, **labels):
        """The sum of a metric's series that have these labels."""
        if name not in self.series:
            raise Failed(f"/metrics has no {name}")
        return sum(int(value) for found, value in self.series[name] if labels.items() <= found.items())

    def pending(self):
        return self.sum("laggard_held_spans") + self.sum("laggard_queued_spans")


def read(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return Figures(answer.read().decode())


def settled(port):
    """The figures once nothing is held or queued. What was accepted must then have been sent or dropped for a reason."""
    figures = wait_for("an empty store and queue", lambda: (now := read(port)).pending() == 0 and now)
    accepted = figures.sum("laggard_receiver_accepted_spans_total")
    sent = figures.sum("laggard_exporter_sent_spans_total")
    dropped = figures.sum("laggard_dropped_spans_total")
    if accepted != sent + dropped:
        raise Failed(f"the identity of spans: {accepted} accepted, {sent} sent, {dropped} dropped")
    return figures
