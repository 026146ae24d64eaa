"""Does with a rendered pod what the kubelet does: mounts its volumes, starts its containers in order, probes them, and ends them in
order within the grace period. Containers are processes in the pod's network namespace, as the rendered user; what is mounted lies
in a folder, and paths in arguments and configurations are changed to it."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request


class Failed(Exception):
    """The kubelet, or what it started, did not do what it should."""


def can_change_users():
    """Not in a user namespace with one user."""
    return os.geteuid() == 0 and int(pathlib.Path("/proc/self/uid_map").read_text().split()[2]) > 1 << 16


class Container:
    """A process with its probes."""

    def __init__(self, spec, pod):
        self.spec, self.name, self.address = spec, spec["name"], pod.place.address
        self.log = open(pod.folder / f"{self.name}.log", "ab")
        command = [*pod.place.enter, *pod.user(spec), *pod.binaries[self.name], *map(pod.replaced, spec.get("args") or [])]
        self.process = subprocess.Popen(command, env=pod.environment(spec), stdout=self.log, stderr=self.log, cwd=pod.folder)

    def is_running(self):
        return self.process.poll() is None

    def probe(self, key):
        """One look; a container without the probe passes it."""
        probe = self.spec.get(key)
        if probe is None:
            return True
        ports = {port["name"]: port["containerPort"] for port in self.spec.get("ports") or []}
        get = probe["httpGet"]
        url = f"http://{self.address}:{ports[get['port']]}{get['path']}"
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

    def terminate(self):
        """preStop, then SIGTERM."""
        time.sleep((((self.spec.get("lifecycle") or {}).get("preStop") or {}).get("sleep") or {}).get("seconds", 0))
        self.process.send_signal(signal.SIGTERM)

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


class Kubelet:
    """Keeps one pod. `binaries` has the image's command of each container and `users` its user, where it has one; `config_maps` and
    `secrets` have what can be mounted, by name, and `place` is the namespace that the pod lives in."""

    def __init__(self, pod, config_maps, secrets, binaries, folder, place, users=()):
        self.spec, self.config_maps, self.secrets, self.binaries = pod["spec"], config_maps, secrets, binaries
        self.users = dict(users)
        self.folder, self.place = pathlib.Path(folder), place
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        self.sidecars, self.containers = [], []
        mounts = {mount["mountPath"] for spec in self.all_specs() for mount in spec.get("volumeMounts") or []}
        longest_first = sorted(mounts, key=len, reverse=True)
        self.mounts = re.compile("|".join(map(re.escape, longest_first)))

    def replaced(self, text):
        """Text with the places of volumes in the folder."""
        return self.mounts.sub(lambda found: f"{self.folder}{found[0]}", text)

    def user(self, spec):
        """As whom a container runs; without the right to change users, as whoever runs this."""
        user = (spec.get("securityContext") or {}).get("runAsUser", self.users.get(spec["name"]))
        if user is None or not can_change_users():
            return []
        group = self.spec.get("securityContext", {}).get("fsGroup", user)
        return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]

    def environment(self, spec):
        """Only what is rendered."""
        found = {}
        for each in spec.get("env") or []:
            if "value" in each:
                found[each["name"]] = each["value"]
            else:
                reference = each["valueFrom"]["secretKeyRef"]
                found[each["name"]] = self.secrets[reference["name"]][reference["key"]]
        return found

    def mount(self):
        """New emptyDirs, and ConfigMaps and Secrets as they are; a claim stays. The group that owns them is that of fsGroup."""
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        for container in self.all_specs():
            for mount in container.get("volumeMounts") or []:
                place = self.folder / mount["mountPath"].lstrip("/")
                volume = volumes.get(mount["name"], {})
                if "emptyDir" in volume:
                    shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True, exist_ok=True)
                if "configMap" in volume:
                    self.put(place, volume["configMap"], self.config_maps[volume["configMap"]["name"]], 0o644)
                elif "secret" in volume:
                    self.put(place, volume["secret"], self.secrets[volume["secret"]["secretName"]], 0o644)
                elif can_change_users() and "fsGroup" in self.spec.get("securityContext", {}):
                    os.chown(place, -1, self.spec["securityContext"]["fsGroup"])
                    place.chmod(0o2775)

    def put(self, place, source, data, mode):
        items = source.get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            file = place / item["path"]
            file.write_text(self.replaced(data[item["key"]]))
            file.chmod(source.get("defaultMode", mode))
            if can_change_users():
                os.chown(file, -1, self.spec.get("securityContext", {}).get("fsGroup", -1))

    def all_specs(self):
        return (self.spec.get("initContainers") or []) + self.spec["containers"]

    def start(self):
        """Until the pod is ready. Returns the seconds from the start of its main containers to that moment."""
        self.mount()
        for spec in self.spec.get("initContainers") or []:
            container = Container(spec, self)
            if spec.get("restartPolicy") != "Always":
                container.ended(time.monotonic() + 10)
                continue
            self.sidecars.append(container)
            container.started()
        began = time.monotonic()
        self.containers = [Container(spec, self) for spec in self.spec["containers"]]
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

    def stop(self, look=lambda: None):
        """SIGTERM to the containers, and when they have ended to the sidecars in reverse, all within the grace period. `look` is called
        while it waits. Returns the seconds that it took."""
        began = time.monotonic()
        deadline = began + self.spec.get("terminationGracePeriodSeconds", 30)
        for container in self.containers:
            container.terminate()
        while any(container.is_running() for container in self.containers) and time.monotonic() < deadline:
            look()
            time.sleep(0.02)
        for container in self.containers:
            container.ended(deadline)
        for sidecar in reversed(self.sidecars):
            if not sidecar.is_running():
                raise Failed(f"{sidecar.name} ended before what it stands behind")
            sidecar.terminate()
            sidecar.ended(deadline)
        self.sidecars, self.containers = [], []
        return time.monotonic() - began

    def kill(self):
        """Ends what is left of a failure."""
        for container in self.containers + self.sidecars:
            if container.is_running():
                os.kill(container.process.pid, signal.SIGKILL)
                container.process.wait()
