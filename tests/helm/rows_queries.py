"""Rows T30 and T31: alerts and the dashboard, by Prometheus itself and by a scrape of the program."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import promql_parser
import yaml

import rendering as r
from rows import row

TESTS = pathlib.Path(__file__).parent / "alerts.test.yaml"


def expressions(c):
    """Every query of the alerts and of the dashboard, with where it is."""
    for rule in yaml.safe_load((c.chart / "alerts.yaml").read_text())["rules"]:
        yield rule["alert"], rule["expr"]
    for panel in json.loads((c.chart / "dashboards/laggard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@row("T30", "every query is PromQL; alerts fire when they should (promtool), and say what to do")
def queries(c):
    for where, query in expressions(c):
        try:
            promql_parser.parse(query)
        except ValueError as error:
            raise AssertionError(f"{where}: {error}") from error
    spec = r.one(c.ci("observability"), "PrometheusRule")["spec"]
    rules = spec["groups"][0]["rules"]
    assert len(rules) == 5 and all({"summary", "description"} <= rule["annotations"].keys() for rule in rules)
    assert all(rule["labels"].get("severity") in ("critical", "warning") and rule["labels"]["team"] == "platform" for rule in rules)
    promtool(c, spec)
    board = r.one([each for each in c.ci("observability") if each["metadata"]["name"].endswith("-dashboards")], "ConfigMap")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1" and json.loads(board["data"]["laggard.json"])["panels"]


def promtool(c, spec):
    """What Prometheus says of the rendered rules, and whether they fire as alerts.test.yaml has it."""
    binary = next(pathlib.Path(c.helm).resolve().parents[1].glob("promtool/promtool-*"))

    def run(folder, *arguments):
        done = subprocess.run([binary, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"promtool {' '.join(arguments)}: {done.stdout}{done.stderr}"

    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder) / "rules.yaml"
        rules.write_text(yaml.safe_dump(spec))
        run(folder, "check", "rules", "--lint-fatal", "rules.yaml")
        for group in spec["groups"]:
            bare = [{key: value for key, value in rule.items() if key != "annotations"} for rule in group["rules"]]
            group = {**group, "rules": bare}
            if group["name"] == "laggard":
                rules.write_text(yaml.safe_dump({"groups": [group]}))
        shutil.copy(TESTS, folder)
        run(folder, "test", "rules", TESTS.name)


@row("T31", "every metric and label of a query is in a scrape of the program")
def metrics(c):
    import scrape

    series = scrape.of(c.laggard)
    for where, query in expressions(c):
        for name, selector in re.findall(r"\b((?:laggard|process)_[a-z_]+)(\{[^}]*\})?", query):
            assert name in series, f"{where}: {name}"
            for label, operator, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector):
                known = {labels.get(label) for labels in series[name]}
                missing = set(value.split("|")) - known
                assert not missing, f"{where}: {name} has no {label} {missing}, but {known}"
        for labels in re.findall(r"by \(([^)]*)\)", query):
            names = set(re.findall(r"\b(laggard_[a-z_]+)", query))
            known = {label for name in names for each in series[name] for label in each} | {"namespace", "pod", "instance"}
            wanted = {label.strip() for label in labels.split(",")}
            assert wanted <= known | {"le"}, f"{where}: {wanted - known}"
