"""What a Collector has received: the file that its file exporter writes, a line of OTLP/JSON a request."""

import json
from typing import NamedTuple

from processes import Failed

KINDS = [
    ("resourceSpans", "scopeSpans", "spans"),
    ("resourceMetrics", "scopeMetrics", "metrics"),
    ("resourceLogs", "scopeLogs", "logRecords"),
]


class Item(NamedTuple):
    """A span, a metric or a log record with everything that it belongs to."""

    resource: dict
    resource_schema: str
    scope: dict
    scope_schema: str
    body: dict

    def key(self):
        return self.body["traceId"], self.body["spanId"]

    def attributes(self):
        return {entry["key"]: next(iter(entry["value"].values()), None) for entry in self.body.get("attributes", [])}

    def service(self):
        values = {entry["key"]: entry["value"] for entry in self.resource.get("attributes", [])}
        return values.get("service.name", {}).get("stringValue")

    def duration_ms(self):
        return (int(self.body["endTimeUnixNano"]) - int(self.body["startTimeUnixNano"])) / 1e6


class Recording:
    """The part of a file that was written since the recording was made."""

    def __init__(self, path):
        self.path = path
        self.start = path.stat().st_size if path.exists() else 0

    def items(self):
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.start)
            # The last line may be half written.
            whole = file.read().rpartition(b"\n")[0]
        return [item for line in whole.splitlines() for item in flatten(json.loads(line))]

    def spans(self):
        """By trace and span id; every span may have come only once."""
        spans = {}
        for item in self.items():
            if item.key() in spans:
                raise Failed(f"span {item.key()} came twice to {self.path.name}")
            spans[item.key()] = item
        return spans


def flatten(request):
    for resources, scopes, items in KINDS:
        for resource in request.get(resources, []):
            for scope in resource.get(scopes, []):
                for body in scope.get(items, []):
                    yield Item(resource.get("resource", {}), resource.get("schemaUrl", ""), scope.get("scope", {}),
                               scope.get("schemaUrl", ""), body)
