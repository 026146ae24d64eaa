"""What every row of the chart's tests works with, and the list of rows."""

import functools
import pathlib
import subprocess
import tempfile

import rendering as r

ROWS = []


class Context:
    """What the rows work with."""

    def __init__(self, helms, laggard, chart=r.CHART, bless=False):
        self.helms, self.laggard, self.chart, self.bless = helms, laggard, chart, bless

    @property
    def helm(self):
        return self.helms[-1]

    @property
    def collector(self):
        """A real Collector, where tests/peers/build-collector has built one; otherwise None."""
        binary = pathlib.Path(self.helm).resolve().parents[2] / "peers/collector"
        return binary if binary.exists() else None

    def each(self, kube="1.36.0"):
        """Every Helm with every values file, rendered."""
        for helm in self.helms:
            for file in r.ci_files(self.chart):
                yield file.stem.removesuffix("-values"), r.objects(helm, "-f", str(file), chart=self.chart, kube=kube)

    def rendered(self, *arguments, **where):
        return r.objects(self.helm, *arguments, chart=self.chart, **where)

    def ci(self, name):
        return self.rendered("-f", str(self.chart / f"ci/{name}-values.yaml"))


def row(number, title):
    def register(function):
        ROWS.append((number, title, function))
        return function

    return register


def none(found):
    found = list(found)
    assert not found, "\n    ".join(map(str, found[:20]))


def validate(c, text, variables=()):
    """What `laggard validate` says; empty when it is right."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([c.laggard, "validate", "--config", file.name], capture_output=True, text=True, env=dict(variables), check=False)
    assert done.returncode in (0, 64), done
    return "\n".join(done.stderr.splitlines())


def refused_by_collector(c, text):
    """What a real Collector says against its configuration."""
    return [] if c.collector is None else collector_says(c.collector, text)


@functools.cache
def collector_says(binary, text):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([binary, "validate", f"--config={file.name}"], capture_output=True, text=True, check=False)
    return (done.stderr.splitlines() or ["is refused"]) if done.returncode else []


def variables(container):
    """The environment of a container, with a value for each Secret's."""
    return {each["name"]: each.get("value", "secret") for each in container.get("env") or []}
