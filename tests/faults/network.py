"""A network of its own for the nodes of a test: a namespace for each, on one bridge, so that any two
can be cut off from each other, in one direction or in both. Needs root and iproute2; packets are
dropped by nftables where it is there, else by routes that lead nowhere. Without them all nodes are on
the loopback, where nothing can be cut."""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from ports import free_port

NUMBERS = {"coordinator": 10, "broker": 20}
ONE_AFTER_THE_OTHER = itertools.count()
HOST = ("host", 0)


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Loopback:
    can_be_cut = False

    def __init__(self):
        self.ports = {}

    def address(self, kind, node, port):
        found = self.ports.setdefault((kind, node, port), free_port())
        return f"127.0.0.1:{found}"

    def command(self, _place, command):
        return command

    def close(self):
        pass


class Namespaces:
    can_be_cut = True

    def __init__(self, places):
        self.subnet = f"10.{64 + os.getpid() // 250 % 60}.{os.getpid() % 250}"
        # Another name each time: the kernel takes a while to forget what was deleted.
        self.name = f"o{os.getpid()}x{next(ONE_AFTER_THE_OTHER)}"
        self.has_nft = shutil.which("nft") is not None
        self.places = places
        run("ip", "link", "add", self.name, "type", "bridge")
        run("ip", "address", "add", f"{self.subnet}.254/24", "dev", self.name)
        run("ip", "link", "set", self.name, "up")
        for place in places:
            space, link = self.space(place), f"{self.name}p{NUMBERS[place[0]] + place[1]}"
            run("ip", "netns", "add", space)
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", link, "master", self.name, "up")
            run("ip", "-n", space, "address", "add", f"{self.ip(place)}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")

    def space(self, place):
        return f"{self.name}-{place[0]}-{place[1]}"

    def ip(self, place):
        return f"{self.subnet}.{254 if place == HOST else NUMBERS[place[0]] + place[1]}"

    def address(self, kind, node, port):
        return f"{self.ip((kind, node))}:{port}"

    def command(self, place, command):
        return ["ip", "netns", "exec", self.space(place), *command]

    def drop(self, senders, receiver):
        """What senders say does not reach the receiver any more."""
        space = self.space(receiver)
        if not self.has_nft:
            for sender in senders:
                run("ip", "-n", self.space(sender), "route", "replace", "blackhole",
                    f"{self.ip(receiver)}/32")
            return
        addresses = ", ".join(self.ip(sender) for sender in senders)
        rules = f"""add table ip faults
            add chain ip faults input {{ type filter hook input priority 0; }}
            add rule ip faults input ip saddr {{ {addresses} }} drop"""
        run("ip", "netns", "exec", space, "nft", rules)

    def cut(self, place, others):
        """A place and others do not hear each other any more."""
        self.drop(others, place)
        for other in others:
            if other != HOST:
                self.drop([place], other)

    def is_heard(self, sender, receiver, port):
        """Whether a connection can be made."""
        target = f"/dev/tcp/{self.ip(receiver)}/{port}"
        tried = subprocess.run(
            self.command(sender, ["timeout", "1", "bash", "-c", f"exec 3<>{target}"]),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return tried.returncode == 0

    def heal(self):
        for place in self.places:
            space = self.space(place)
            subprocess.run(["ip", "netns", "exec", space, "nft", "delete table ip faults"]
                           if self.has_nft else
                           ["ip", "-n", space, "route", "flush", "type", "blackhole"],
                           stderr=subprocess.DEVNULL, check=False)

    def close(self):
        for place in self.places:
            subprocess.run(["ip", "netns", "delete", self.space(place)], check=False)
        subprocess.run(["ip", "link", "delete", self.name], check=False)


def best(places):
    """Namespaces where they can be made, else the loopback."""
    if os.geteuid() == 0 and shutil.which("ip") is not None:
        with contextlib.suppress(subprocess.CalledProcessError):
            return Namespaces(places)
    return Loopback()
