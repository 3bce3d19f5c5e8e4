"""Three coordinators, three brokers and a load, as processes."""

import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

NODES = (1, 2, 3)
TOPIC, PARTITIONS = "faults", 12
SESSION_TIMEOUT_MS, LAG_TIME_MS, PATIENCE_S = 2000, 3000, 90
LOAD_PATIENCE_S = 180
CLIENT_PORT, PEER_PORT, BROKER_PORT = 2181, 2881, 9092


class Failed(Exception):
    """What does not hold, in words."""


def until(condition, what, patience_s=PATIENCE_S, pause_s=0.1):
    """Waits; returns how long it took, in seconds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience_s:
            raise Failed(f"waited {patience_s} s in vain until {what}")
        time.sleep(pause_s)
    return time.monotonic() - began


class Process:
    """A server that is started, harmed and started again."""

    def __init__(self, name, command, folder, log):
        self.name, self.command, self.folder, self.log = name, command, folder, log
        self.process = None

    def start(self):
        assert not self.runs(), f"{self.name} runs"
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self):
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not end") from None

    def terminate(self):
        self.signal(signal.SIGTERM)
        self.wait()
        if self.process.returncode != 0:
            raise Failed(f"{self.name} ended with {self.process.returncode}")

    def runs(self):
        return self.process is not None and self.process.poll() is None


class Cluster:
    def __init__(self, binaries, base, network, disks):
        self.binaries, self.network, self.disks = binaries, network, disks
        self.log_path = os.path.join(base, "servers.log")
        self.log = open(self.log_path, "ab")
        self.members, self.brokers = {}, {}
        # Brokers that cannot be asked, since what they know may be old.
        self.harmed = set()
        members = ",".join(
            f"{node}={network.address('coordinator', node, PEER_PORT)}" for node in NODES)
        key = os.path.join(base, "coordinator.properties")
        with open(key, "w") as file:
            file.write("peer.key=of a test\n")
        self.coordinators = ",".join(
            network.address("coordinator", node, CLIENT_PORT) for node in NODES)
        for node in NODES:
            folder = self.folder_of("coordinator", node, base)
            self.members[node] = Process(f"coordinator {node}", network.command(
                ("coordinator", node), [
                    f"{binaries}/ottla-coordinator", "serve", "--id", str(node), "--dir", folder,
                    "--config", key, "--members", members,
                    "--listen", network.address("coordinator", node, CLIENT_PORT),
                ]), folder, self.log)
            folder = self.folder_of("broker", node, base)
            self.brokers[node] = Process(f"broker {node}", network.command(("broker", node), [
                f"{binaries}/ottla-broker", "serve", "--id", str(node), "--dir", folder,
                "--listen", self.address(node), "--coordinators", self.coordinators,
                "--override", f"coordinator.session.timeout.ms={SESSION_TIMEOUT_MS}",
                "--override", f"replica.lag.time.max.ms={LAG_TIME_MS}",
            ]), folder, self.log)

    def folder_of(self, kind, node, base):
        disk = self.disks.get((kind, node))
        return os.path.join(disk.mount_point if disk else base, f"{kind}-{node}")

    def address(self, node):
        return self.network.address("broker", node, BROKER_PORT)

    def bootstrap(self):
        return ",".join(self.address(node) for node in NODES if node not in self.harmed)

    def start(self):
        for process in [*self.members.values(), *self.brokers.values()]:
            process.start()

    def stop(self):
        for process in [*self.brokers.values(), *self.members.values()]:
            if process.runs():
                process.signal(signal.SIGCONT)
                process.kill()

    def ottla(self, *command):
        """What a command prints as JSON; `None` if it failed."""
        return self.run([*command, "-b", self.bootstrap()])

    def ottla_of_members(self, *command):
        """The same for a command that asks the coordinators."""
        return self.run([*command, "-c", self.coordinators])

    def run(self, command):
        try:
            done = subprocess.run([f"{self.binaries}/ottla", *command, "--json"],
                                  capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return None
        if done.returncode != 0:
            return None
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def certainly(self, *command):
        """The same for what must succeed, perhaps not at once."""
        until(lambda: self.ottla(*command) is not None, f"`ottla {' '.join(command)}` succeeds",
              patience_s=30)

    def partitions(self):
        found = self.ottla("topics", "describe", TOPIC)
        return found[0]["partitions"] if found else []

    def leader(self):
        """The broker that leads partition 0."""
        leader = None

        def is_known():
            nonlocal leader
            found = self.partitions()
            leader = found[0]["leader"] if found else None
            return leader in self.brokers

        until(is_known, "somebody leads partition 0")
        return leader

    def others(self, node):
        return [other for other in NODES if other != node]

    def controller(self):
        controller = None

        def is_known():
            nonlocal controller
            found = self.ottla("cluster", "describe")
            controller = found[0]["controller"] if found else None
            return controller in self.brokers

        until(is_known, "there is a controller")
        return controller

    def is_whole(self):
        found = self.partitions()
        return len(found) == PARTITIONS and all(
            len(partition["isr"]) == 3 and partition["leader"] is not None for partition in found)

    def are_registered(self, count):
        found = self.ottla("cluster", "describe")
        return bool(found) and len(found[0]["brokers"]) == count

    def heals(self):
        """Waits until nothing is to be seen of the harm any more."""
        self.harmed.clear()
        try:
            return until(lambda: self.are_registered(3) and self.is_whole(), "every ISR is whole")
        except Failed as failed:
            raise Failed(f"{failed}; {self.ended()}") from None

    def ended(self):
        """Which processes have ended by themselves, and what was said last that is no news."""
        ended = [process.name for process in [*self.members.values(), *self.brokers.values()]
                 if not process.runs()]
        with open(self.log_path, errors="replace") as log:
            said = [line.strip() for line in log if re.search(r"^ottla-\w+: | ERROR ", line)]
        return f"ended: {', '.join(ended) or 'no process'}; said last: {said[-3:]}"

    def complaints(self):
        """What servers must never say."""
        with open(self.log_path, errors="replace") as log:
            return [line.strip() for line in log if re.search(r"panicked|overflowed its stack", line)]

    def logs_of(self, node):
        """A digest of each partition's log on a broker."""
        digests = []
        for number in range(PARTITIONS):
            folder = os.path.join(self.brokers[node].folder, f"{TOPIC}-{number}")
            digest = hashlib.sha256()
            for name in sorted(name for name in os.listdir(folder) if name.endswith(".log")):
                with open(os.path.join(folder, name), "rb") as file:
                    digest.update(file.read())
            digests.append(digest.hexdigest())
        return digests

    def differing(self):
        """How many partitions differ between replicas. The brokers are stopped."""
        logs = [self.logs_of(node) for node in NODES]
        return sum(len(set(partition)) > 1 for partition in zip(*logs))


class Load:
    """Writers and readers: `load/main.rs`."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.process = subprocess.Popen([
            f"{cluster.binaries}/replication-load", "--bootstrap-server", cluster.bootstrap(),
            "--topic", TOPIC, "--partitions", str(PARTITIONS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=cluster.log, text=True)

    def say(self, word):
        try:
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"the load ended before `{word}`") from None
        # An answer is one line, and only one is under way: none can wait in a buffer.
        if not select.select([self.process.stdout], [], [], LOAD_PATIENCE_S)[0]:
            raise Failed(f"waited {LOAD_PATIENCE_S} s in vain for the load's answer to `{word}`")
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"the load has ended, with status {self.process.wait()}")
        return json.loads(line)

    def goes_on(self):
        """Waits until every partition has acknowledged something from now on: what brokers tell of
        themselves may be from before the harm. Returns how long that took, in seconds."""
        self.say("pulse")
        silent = {}

        def are_all():
            nonlocal silent
            # One that was alive may be silent a moment later; what counts is all of one time.
            silent = self.say("pulse")["silent"]
            return not silent

        try:
            return until(are_all, "every partition acknowledges records", pause_s=0.5)
        except Failed as failed:
            told = [each for each in self.cluster.partitions() if str(each["partition"]) in silent]
            raise Failed(f"{failed}; silent, and why writers gave up last: {silent}; "
                         f"what brokers tell: {told}; {self.cluster.ended()}") from None

    def end(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
