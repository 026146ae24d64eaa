"""Whether what arrived is what was sent, field by field, plus what Laggard writes into a trace, and nothing else."""

import json
from collections import Counter

from processes import Failed

OURS = "root_cause."
STAMP = "ot=th:"


def require(what, expected, found):
    if expected != found:
        raise Failed(f"{what}: expected {json.dumps(expected, default=str)}, found {json.dumps(found, default=str)}")


def without_ours(sent, arrived):
    """The span as it was before Laggard appended its attributes and its link; what it appended must be its own."""
    body = dict(arrived.body)
    added = {}
    for field in ("attributes", "links"):
        before, after = sent.body.get(field, []), body.pop(field, [])
        added[field] = after[len(before):]
        if after[:len(before)]:
            body[field] = after[:len(before)]
    foreign = [entry["key"] for entry in added["attributes"] if not entry["key"].startswith(OURS)]
    require(f"attributes that somebody else added to {arrived.key()}", [], foreign)
    values = arrived.attributes()
    to_reference = [values["root_cause.baseline.trace_id"]] if "root_cause.baseline.trace_id" in values else []
    require(f"links that were added to {arrived.key()}", to_reference, [link["traceId"] for link in added["links"]])
    return arrived._replace(body=body)


def same(sent, arrived):
    for name, expected, found in zip(sent._fields, sent, without_ours(sent, arrived)):
        require(f"{name} of the span {sent.key()}", expected, found)


def all_arrived(sent, arrived):
    """Every span of `sent` is in `arrived` and equal to it; both by trace and span id."""
    require("spans that were lost", [], sorted(sent.keys() - arrived.keys()))
    require("spans that nobody has sent", [], sorted(arrived.keys() - sent.keys()))
    for key, span in sent.items():
        same(span, arrived[key])


def slow_traces(sent, threshold_ms):
    """The ids of the traces whose entry, the span without a parent in its trace, takes longer than the threshold."""
    known = {span_id for _, span_id in sent}
    return {trace for (trace, _), span in sent.items()
            if span.body.get("parentSpanId", "") not in known and span.duration_ms() > threshold_ms}


def verdicts(arrived):
    """The service that each analysed trace names, or why it names none."""
    said = [(trace, span.attributes()) for (trace, _), span in arrived.items()]
    return {trace: ours.get("root_cause.service") or ours.get("root_cause.explanation")
            for trace, ours in said if "root_cause.verdict" in ours}


def culprits(arrived):
    return Counter(span.service() for span in arrived.values() if "root_cause.culprit" in span.attributes())


def sampled(sent, arrived):
    """What arrived of a healthy share: whole traces, equal but for the stamp. The number of traces that were stamped."""
    require("spans that nobody has sent", [], sorted(arrived.keys() - sent.keys()))
    kept = {trace for trace, _ in arrived}
    all_arrived_of = {key: span for key, span in sent.items() if key[0] in kept}
    require("spans lost of traces that were kept", [], sorted(all_arrived_of.keys() - arrived.keys()))
    stamped = set()
    for key, span in all_arrived_of.items():
        came = arrived[key]
        state, before = came.body.get("traceState", ""), span.body.get("traceState", "")
        if state != before:
            stamp, _, rest = state.partition(",")
            require(f"the tracestate of {key}", (STAMP, before), (stamp[:len(STAMP)], rest))
            stamped.add(key[0])
            body = {name: value for name, value in came.body.items() if name != "traceState"}
            came = came._replace(body=body | ({"traceState": before} if before else {}))
        same(span, came)
    return len(stamped)


def alike(item):
    """A span, metric or log record as text without what differs between two runs of a generator: ids and the clock."""
    changing = {"traceId", "spanId", "parentSpanId"}

    def plain(value):
        if isinstance(value, list):
            return [plain(one) for one in value]
        if isinstance(value, dict):
            return {key: "" if key in changing or key.endswith("imeUnixNano") else plain(one)
                    for key, one in value.items()}
        return value

    body = plain(item.body)
    if "spanId" in item.body:
        body |= {"parentSpanId": bool(item.body.get("parentSpanId")), "endTimeUnixNano": item.duration_ms()}
        body["attributes"] = [entry for entry in body.get("attributes", []) if not entry["key"].startswith(OURS)]
        # Only Laggard adds links to what telemetrygen makes.
        body.pop("links", None)
    return json.dumps(item._replace(body=body), sort_keys=True)
