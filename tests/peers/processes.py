"""Starts programs on free ports of the loopback interface, waits for them, and ends what it has started."""

import signal
import socket
import subprocess
import time
from pathlib import Path

PATIENCE = 60  # seconds; the machine may be busy with other things


class Failed(Exception):
    """Something that a peer, or Laggard, should have done and did not."""


def wait_for(what, condition):
    """The first true answer of `condition`, which is asked twenty times a second."""
    end = time.monotonic() + PATIENCE
    while not (answer := condition()):
        if time.monotonic() > end:
            raise Failed(f"{what} did not happen within {PATIENCE} s")
        time.sleep(0.05)
    return answer


def free_port():
    """A port that nobody listens on now. Another process can take it in between; then the row fails and says so."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A server that is ended with the block it is used in."""

    def __init__(self, command, log, listens_on):
        self.command, self.log, self.listens_on = [str(word) for word in command], Path(log), listens_on

    def __enter__(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            for port in self.listens_on:
                wait_for(f"{self.log.stem} listening on {port}", lambda port=port: self._listens(port))
        except BaseException:
            self.__exit__()
            raise
        return self

    def _listens(self, port):
        if self.process.poll() is not None:
            raise Failed(f"{self.log.stem} ended with {self.process.returncode}:\n{self.last_lines()}")
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    def end(self):
        """Asks it to end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{self.log.stem} did not end within {PATIENCE} s") from None

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def last_lines(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def run(command):
    """What a program that ends by itself has printed."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as late:
        said = (late.stderr or b"").decode(errors="replace")
        raise Failed(f"{command[0]} did not end within {PATIENCE} s: {said[-500:]}") from None
    if done.returncode != 0:
        raise Failed(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout
