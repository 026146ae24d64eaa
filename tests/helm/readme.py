"""The table of values in the chart's README, from values.yaml and its comments."""

import yaml

BEGIN, END = "<!-- values: made by tests/helm/run --bless -->", "<!-- end of values -->"


def build(readme, values):
    """The README with the table in its place."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + "\n" + table(values) + END + rest.split(END)[1]


def table(values):
    """A row for each top-level key, with the comment above it."""
    defaults = yaml.safe_load(values)
    rows, comment = ["| key | default | |", "|---|---|---|"], []
    for line in values.splitlines():
        if line.startswith("#"):
            comment.append(line[1:].strip())
        elif line and not line.startswith(" "):
            key = line.split(":")[0]
            rows.append(f"| `{key}` | {shown(defaults[key])} | {' '.join(comment)} |")
            comment = []
        elif not line:
            comment = []
    return "\n".join(rows).replace("{{ }}", "`{{ }}`") + "\n"


def shown(value):
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).removesuffix("...\n").strip()
    return "in values.yaml" if len(text) > 90 else f"`{text}`"
