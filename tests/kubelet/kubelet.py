"""Does with a rendered pod what the kubelet does: starts its containers in order, probes them, and ends them in order within
the grace period. Containers are processes of this network namespace, so that ports are those that were rendered; what is
mounted lies in a folder, and paths in arguments and configurations are changed to it."""

import os
import pathlib
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request


class Failed(Exception):
    """The kubelet, or what it started, did not do what it should."""


class Container:
    """A process with its probes."""

    def __init__(self, spec, binary, folder, log):
        self.spec, self.name = spec, spec["name"]
        self.log = open(log, "ab")
        arguments = [replaced(argument, folder) for argument in spec.get("args") or []]
        environment = {each["name"]: each["value"] for each in spec.get("env") or [] if "value" in each}
        self.process = subprocess.Popen([binary, *arguments], env=environment, stdout=self.log, stderr=self.log, cwd=folder)

    def is_running(self):
        return self.process.poll() is None

    def probe(self, key):
        """One look; a container without the probe passes it."""
        probe = self.spec.get(key)
        if probe is None:
            return True
        ports = {port["name"]: port["containerPort"] for port in self.spec.get("ports") or []}
        get = probe["httpGet"]
        url = f"http://127.0.0.1:{ports[get['port']]}{get['path']}"
        try:
            with urllib.request.urlopen(url, timeout=probe.get("timeoutSeconds", 1)) as answer:
                return 200 <= answer.status < 400
        except (urllib.error.URLError, OSError):
            return False

    def started(self):
        """Waits for the startup probe as it is rendered, but looks more often, so that starting can be timed."""
        probe = self.spec.get("startupProbe") or {}
        end = time.monotonic() + probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        while not self.probe("startupProbe"):
            if not self.is_running():
                raise Failed(f"{self.name} ended with {self.process.returncode} before it had started")
            if time.monotonic() > end:
                raise Failed(f"{self.name} did not start within what its startup probe allows")
            time.sleep(0.005)

    def ended(self, deadline):
        """Waits for the end until the grace period is over; then it is killed."""
        try:
            self.process.wait(max(deadline - time.monotonic(), 0.001))
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise Failed(f"{self.name} had to be killed: the grace period was over") from None
        if self.process.returncode != 0:
            raise Failed(f"{self.name} ended with {self.process.returncode}")


def replaced(text, folder):
    """Text with the places of volumes in `folder`."""
    for place in ("/etc/laggard", "/etc/collector", "/var/lib/laggard"):
        text = text.replace(place, f"{folder}{place}")
    return text


class Kubelet:
    """Keeps one pod of a rendered StatefulSet."""

    def __init__(self, pod, config_maps, binaries, folder):
        self.spec, self.config_maps, self.binaries = pod["spec"], config_maps, binaries
        self.folder = pathlib.Path(folder)
        self.sidecars, self.containers = [], []

    def mount(self):
        """New emptyDirs, and ConfigMaps as they are; the claim stays."""
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        for container in self.all_specs():
            for mount in container.get("volumeMounts") or []:
                place = self.folder / mount["mountPath"].lstrip("/")
                volume = volumes.get(mount["name"], {})
                if "configMap" in volume:
                    data = self.config_maps[volume["configMap"]["name"]]
                    items = volume["configMap"].get("items") or [{"key": key, "path": key} for key in data]
                    place.mkdir(parents=True, exist_ok=True)
                    for item in items:
                        (place / item["path"]).write_text(replaced(data[item["key"]], self.folder))
                elif "emptyDir" in volume:
                    shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True, exist_ok=True)

    def all_specs(self):
        return (self.spec.get("initContainers") or []) + self.spec["containers"]

    def run(self, spec):
        return Container(spec, self.binaries[spec["name"]], self.folder, self.folder / f"{spec['name']}.log")

    def start(self):
        """Until the pod is ready. Returns the seconds from the start of its main containers to that moment."""
        self.mount()
        for spec in self.spec.get("initContainers") or []:
            if spec.get("restartPolicy") != "Always":
                raise Failed(f"{spec['name']} would block the pod's start")
            self.sidecars.append(self.run(spec))
            self.sidecars[-1].started()
        began = time.monotonic()
        self.containers = [self.run(spec) for spec in self.spec["containers"]]
        for container in self.containers:
            container.started()
        while not all(container.probe("readinessProbe") for container in self.containers):
            time.sleep(0.005)
        return time.monotonic() - began

    def check(self):
        """Liveness, as often as it is asked for."""
        for container in self.sidecars + self.containers:
            if not container.is_running() or not container.probe("livenessProbe"):
                raise Failed(f"{container.name} is not alive")

    def stop(self, look):
        """SIGTERM to the containers, and when they have ended to the sidecars in reverse, all within the grace period. `look` is called
        while it waits. Returns the seconds that it took."""
        began = time.monotonic()
        deadline = began + self.spec["terminationGracePeriodSeconds"]
        for container in self.containers:
            container.process.send_signal(signal.SIGTERM)
        while any(container.is_running() for container in self.containers) and time.monotonic() < deadline:
            look()
            time.sleep(0.02)
        for container in self.containers:
            container.ended(deadline)
        for sidecar in reversed(self.sidecars):
            if not sidecar.is_running():
                raise Failed(f"{sidecar.name} ended before what it stands behind")
            sidecar.process.send_signal(signal.SIGTERM)
            sidecar.ended(deadline)
        self.sidecars, self.containers = [], []
        return time.monotonic() - began

    def kill(self):
        """Ends what is left of a failure."""
        for container in self.containers + self.sidecars:
            if container.is_running():
                os.kill(container.process.pid, signal.SIGKILL)
                container.process.wait()
