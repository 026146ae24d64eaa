"""A cluster's network without a cluster: a bridge, a namespace with an address of its own for each pod, and names in /etc/hosts.
Needs namespaces of its own for network and mounts (tests/kubelet/run)."""

import atexit
import dataclasses
import fcntl
import os
import pathlib
import socket
import struct
import subprocess
import time

NODE = "10.99.0.1"


@dataclasses.dataclass
class Place:
    """Where a pod's processes run: `enter` stands before their commands."""

    address: str
    enter: list


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def loopback_up():
    with socket.socket() as any_socket:
        up_and_running = struct.pack("16sh14s", b"lo", 0x1 | 0x8 | 0x40, b"")
        fcntl.ioctl(any_socket, 0x8914, up_and_running)


class Network:
    def __init__(self, folder):
        loopback_up()
        run("ip", "link", "add", "node", "type", "bridge")
        run("ip", "address", "add", f"{NODE}/24", "dev", "node")
        run("ip", "link", "set", "node", "up")
        self.names, self.count = {"localhost": ["127.0.0.1", "::1"]}, 1
        self.hosts = pathlib.Path(folder) / "hosts"
        self.write_names()
        run("mount", "--bind", str(self.hosts), "/etc/hosts")
        # Before anything in the folder can be removed again.
        atexit.register(run, "umount", "/etc/hosts")

    def place(self, *names):
        """A pod's namespace; `names` stand for its address, each also for those that it stood for before."""
        self.count += 1
        address = f"10.99.0.{self.count}"
        own = os.readlink("/proc/self/ns/net")
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        atexit.register(holder.kill)
        while os.readlink(f"/proc/{holder.pid}/ns/net") == own:
            time.sleep(0.005)
        enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]
        run("ip", "link", "add", f"pod{self.count}", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        run("ip", "link", "set", f"pod{self.count}", "master", "node", "up")
        run(*enter, "ip", "address", "add", f"{address}/24", "dev", "eth0")
        run(*enter, "ip", "link", "set", "eth0", "up")
        run(*enter, "ip", "link", "set", "lo", "up")
        self.join(address, *names)
        return Place(address, enter)

    def leave(self, address):
        """A Service has no longer this address: its pod is not ready."""
        for addresses in self.names.values():
            while address in addresses:
                addresses.remove(address)
        self.write_names()

    def join(self, address, *names):
        for name in names:
            self.names.setdefault(name, []).append(address)
        self.write_names()

    def write_names(self):
        lines = [f"{address} {name}" for name, addresses in self.names.items() for address in addresses]
        # In place, for the file is mounted.
        self.hosts.write_text("\n".join(lines) + "\n")
