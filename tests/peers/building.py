"""Builds the peers from their lock files into a folder, once: what has not changed is used again."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent


class Peer:
    """A program to build: what it needs on this machine, the commands that make it, and the files that it is made from.

    The commands run in the folder of the sources; `{out}` in them is the folder to build into.
    """

    def __init__(self, name, needs, commands, made_from="**/*", environment=None):
        self.name, self.needs, self.commands = name, needs, commands
        self.made_from, self.environment = made_from, environment or {}

    def prepare(self, peers):
        """The folder with what was built; None where the machine lacks what is needed, which is said."""
        missing = [tool for tool in self.needs if not shutil.which(tool)]
        if missing:
            print(f"\n*** SKIPPED: the rows of {self.name}, for there is no {' and no '.join(missing)} here ***\n", flush=True)
            return None
        out, stamp = peers / self.name, peers / f"{self.name}.built-from"
        state = self._state()
        if stamp.exists() and stamp.read_text() == state:
            return out
        print(f"building {self.name}", flush=True)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        for command in self.commands:
            command = [word.replace("{out}", str(out)) for word in command]
            # A second try, for registries now and then do not answer.
            if self._run(command).returncode != 0 and (again := self._run(command)).returncode != 0:
                sys.exit(f"FAILED: building {self.name}: {' '.join(command)} ended with {again.returncode}")
        stamp.write_text(state)
        return out

    def _run(self, command):
        return subprocess.run(command, cwd=SOURCES / self.name, env=os.environ | self.environment, check=False)

    def _state(self):
        """Changes with what it is made from, any command, and the tools, told apart by where they are and their age."""
        state = hashlib.sha256(repr(self.commands).encode())
        for tool in self.needs:
            path = Path(shutil.which(tool)).resolve()
            state.update(f"{path} {path.stat().st_mtime_ns}".encode())
        for path in sorted((SOURCES / self.name).glob(self.made_from)):
            if path.is_file():
                state.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
        return state.hexdigest()


# Without C and symbols, so that they build anywhere and are small; go.sum pins what is downloaded.
GO = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"}


def go_program(name, package):
    return Peer(name, ["go"], [["go", "build", "-ldflags=-s -w", "-o", f"{{out}}/{name}", package]], environment=GO)


PEERS = {peer.name: peer for peer in [
    go_program("go", "."),
    go_program("jaeger", "github.com/jaegertracing/jaeger/cmd/all-in-one"),
    go_program("telemetrygen", "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen"),
    Peer("python", ["python3", "pip3"], [
        ["python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", "{out}", "--requirement",
         "requirements.txt"],
    ], made_from="requirements.txt"),
    Peer("javascript", ["node", "npm"], [
        ["cp", "package.json", "package-lock.json", "{out}"],
        ["npm", "ci", "--prefix", "{out}", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
    ], made_from="package*.json"),
    Peer("java", ["java", "javac", "mvn"], [
        ["mvn", "--quiet", "--batch-mode", "-Dpeer.directory={out}", "compile", "dependency:copy-dependencies"],
    ]),
]}
