#!/usr/bin/env python3
"""Takes members of a coordinator ensemble away under load, and looks for what they acknowledged.

usage: ensemble.py kill    --coordinator COMMAND [--rounds 30]  the leader, by SIGKILL
       ensemble.py pause   --coordinator COMMAND [--rounds 5]   the leader, by SIGSTOP past all sessions
       ensemble.py all     --coordinator COMMAND [--rounds 5]   all members at once, by SIGKILL
       ensemble.py power   --coordinator COMMAND [--rounds 6]   power cuts, of the leader and of all in turn
       ensemble.py rolling --coordinator COMMAND [--rounds 3]   one after the other, by SIGTERM, the leader last
       options: [--checker COMMAND] [--history FILE] [--seed N] [--keep-log FILE]

Three members run as processes with a `zoo.cfg`. Clients of kazoo work on them all the time:

- registers: nodes that are set (with and without a version) and read after a `sync`;
- sequences: sequential nodes;
- ephemerals: sessions that make nodes and end, by closing or by falling silent.

What was asked and answered is written down as a history, which `--checker` judges (`tests/harness/
history`): registers must be linearizable, no acknowledged node may be missing, no node of a session
that is over may be left on any member. In the end all members must show the same tree. `rolling`
allows a client one broken connection for each member that is started anew, on which its session goes
on, and nothing else. `power` cuts the power of a member's file system (FS_IOC_SHUTDOWN of a small ext4
on a loop device); it needs root and loop devices; without them it says so and exits with 77.
"""

import argparse
import collections
import contextlib
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError, ConnectionLoss, KazooException, NoNodeError, NodeExistsError)
from kazoo.handlers.threading import KazooTimeoutError

import power_cut

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from ports import free_ports

MEMBERS, REGISTERS, REGISTER_CLIENTS, SEQUENCE_CLIENTS = 3, 5, 4, 2
TICK_MS, SESSION_TIMEOUT_S, OPERATION_TIMEOUT_S = 500, 4.0, 20
ROUNDS = {"kill": 30, "pause": 5, "all": 5, "power": 6, "rolling": 3}


class Member:
    """One process of the ensemble, in a folder, on ports that stay the same from start to start."""

    def __init__(self, number, folder, log):
        self.number, self.folder, self.log = number, folder, log
        self.client_port, self.peer_port, self.election_port = free_ports(3)
        self.process = None

    def configure(self, binary, members):
        self.binary = binary
        data = os.path.join(self.folder, "data")
        os.makedirs(data, exist_ok=True)
        with open(os.path.join(data, "myid"), "w") as myid:
            myid.write(str(self.number))
        lines = [f"tickTime={TICK_MS}", "initLimit=20", "syncLimit=10", f"dataDir={data}",
                 "clientPortAddress=127.0.0.1", f"clientPort={self.client_port}",
                 "4lw.commands.whitelist=*", "admin.enableServer=false", "maxClientCnxns=0"]
        lines += [f"server.{m.number}=127.0.0.1:{m.peer_port}:{m.election_port}" for m in members]
        self.zoo_cfg = os.path.join(self.folder, "zoo.cfg")
        with open(self.zoo_cfg, "w") as file:
            file.write("\n".join(lines) + "\n")

    def start(self):
        self.process = subprocess.Popen(
            [*self.binary.split(), self.zoo_cfg], stdout=self.log, stderr=self.log)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def mode(self):
        """What it says it is; none if it does not answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.client_port), 1) as connection:
                connection.settimeout(1)
                connection.sendall(b"srvr")
                answer = b""
                while part := connection.recv(4096):
                    answer += part
        except OSError:
            return None
        modes = [line.split(b": ")[1] for line in answer.splitlines() if line.startswith(b"Mode")]
        return modes[0].decode().strip() if modes else None


class Ensemble:
    def __init__(self, binary, folders, log):
        self.members = [Member(n + 1, folder, log) for n, folder in enumerate(folders)]
        for member in self.members:
            member.configure(binary, self.members)
        # A power cut shall take what a member wrote, not its configuration.
        os.sync()

    def start(self):
        for member in self.members:
            member.start()
        return self.leader()

    def leader(self, patience_s=60):
        """Waits for one that leads."""
        deadline = time.monotonic() + patience_s
        while True:
            for member in self.members:
                assert member.process.poll() is None, f"member {member.number} ended by itself"
                if member.mode() == "leader":
                    return member
            assert time.monotonic() < deadline, "nobody leads"
            time.sleep(0.02)

    def hosts(self):
        return ",".join(f"127.0.0.1:{member.client_port}" for member in self.members)

    def end(self):
        for member in self.members:
            if member.process is not None and member.process.poll() is None:
                member.kill()


class Load(threading.Thread):
    """A client that asks one thing after the other until it is told to stop."""

    def __init__(self, hosts, number):
        super().__init__(daemon=True)
        self.hosts, self.number, self.stopping = hosts, number, threading.Event()
        self.random = random.Random(number)
        self.acknowledged, self.unknown, self.error = 0, 0, None
        self.sessions, self.failures = 0, collections.Counter()
        self.client, self.session = None, None

    def connect(self):
        """A client with a session: the one that there is goes on with it on another member."""
        if self.client is not None and not self.reconnects():
            self.failures["no reconnect"] += 1
            self.drop()
        while self.client is None:
            client = KazooClient(self.hosts, timeout=SESSION_TIMEOUT_S, randomize_hosts=True,
                                 connection_retry={"max_tries": -1, "delay": 0.02, "max_delay": 0.2})
            try:
                client.start(OPERATION_TIMEOUT_S)
            except KazooTimeoutError:
                self.failures["no session"] += 1
                client.stop()
                client.close()
                continue
            self.client = client
        if self.session != self.client.client_id[0]:
            self.session = self.client.client_id[0]
            self.sessions += 1
        return self.client

    def reconnects(self):
        deadline = time.monotonic() + OPERATION_TIMEOUT_S
        while not self.client.connected and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.client.connected

    def drop(self):
        if self.client is not None:
            client, self.client = self.client, None
            try:
                client.stop()
                client.close()
            except KazooException:
                pass

    def run(self):
        try:
            while not self.stopping.is_set():
                self.once()
        except Exception as error:  # noqa: BLE001: told to whoever waits for the thread
            logging.exception("client %s", self.number)
            self.error = error
        finally:
            self.drop()

    def ask(self, call):
        """Asks, and tells what came of it: ("ok", result), ("refused", error) or ("unknown", error)."""
        try:
            answer = call().get(timeout=OPERATION_TIMEOUT_S)
        except (BadVersionError, NoNodeError, NodeExistsError) as error:
            return "refused", error
        except (KazooException, KazooTimeoutError) as error:
            self.unknown += 1
            self.failures[type(error).__name__] += 1
            if not isinstance(error, ConnectionLoss):
                self.drop()
            return "unknown", error
        self.acknowledged += 1
        return "ok", answer


class Registers(Load):
    """Sets and reads nodes; writes down what was asked and answered."""

    def __init__(self, hosts, number, history):
        super().__init__(hosts, number)
        self.history, self.value, self.versions, self.process = history, 0, {}, number * 1000000

    def once(self):
        path = f"/registers/{self.random.randrange(REGISTERS)}"
        kind = self.random.choice(["get", "set", "set", "compare_and_set"])
        client = self.connect()
        self.value += 1
        value = f"{self.number}-{self.value}"
        entry = {"process": self.process, "key": path, "op": "get" if kind == "get" else "set",
                 "start_ns": time.monotonic_ns()}
        if kind == "get":
            # Both are on their way together: the read is answered after the sync.
            client.sync_async(path)
            outcome, answer = self.ask(lambda: client.get_async(path))
            if outcome == "ok":
                data, stat = answer
                entry["value"], entry["version"] = data.decode(), stat.version
                self.versions[path] = stat.version
        else:
            expected = self.versions.get(path, 0) if kind == "compare_and_set" else -1
            entry["value"], entry["expected_version"] = value, expected
            outcome, answer = self.ask(lambda: client.set_async(path, value.encode(), expected))
            if outcome == "ok":
                entry["version"] = self.versions[path] = answer.version
            elif outcome == "refused":
                self.versions.pop(path, None)
        entry["outcome"], entry["end_ns"] = outcome, time.monotonic_ns()
        self.history.add(entry)
        if outcome == "unknown":
            # Whoever does not know what came of his question asks no more; someone else goes on.
            self.process += 1


class History:
    def __init__(self):
        self.lock, self.entries = threading.Lock(), []

    def add(self, entry):
        with self.lock:
            self.entries.append(entry)

    def write(self, path):
        with open(path, "w") as file:
            for entry in self.entries:
                file.write(json.dumps(entry) + "\n")

    def gaps_s(self, times):
        """For each fault, the longest time in which no write was acknowledged, until the next one."""
        ends = sorted(entry["end_ns"] for entry in self.entries
                      if entry.get("outcome") == "ok" and entry["op"] in ("set", "create_sequential"))
        gaps = []
        for begin, end in zip(times, [*times[1:], ends[-1]]):
            within = [(b - a) / 1e9 for a, b in zip(ends, ends[1:]) if b > begin and a < end]
            gaps.append(max(within, default=0.0))
        return sorted(gaps)


class Sequences(Load):
    """Makes sequential nodes."""

    def __init__(self, hosts, number, history):
        super().__init__(hosts, number)
        self.history = history

    def once(self):
        client = self.connect()
        entry = {"process": self.number, "key": "/sequences", "op": "create_sequential",
                 "start_ns": time.monotonic_ns()}
        entry["outcome"], path = self.ask(
            lambda: client.create_async("/sequences/n-", str(self.number).encode(), sequence=True))
        entry["end_ns"] = time.monotonic_ns()
        if entry["outcome"] == "ok":
            entry["number"] = int(path[-10:])
        self.history.add(entry)


class Ephemerals(Load):
    """Opens sessions with nodes of their own, and ends them in one of several ways."""

    def __init__(self, hosts, number, history):
        super().__init__(hosts, number)
        self.history, self.over, self.living, self.count = history, [], [], 0

    def once(self):
        # Each time a session of its own.
        self.client = None
        client = self.connect()
        session, self.client = client.client_id[0], None
        is_known = True
        for _ in range(3):
            self.count += 1
            path = f"/ephemerals/{self.number}-{self.count}"
            outcome, _ = self.ask(lambda: client.create_async(path, b"", ephemeral=True))
            self.history.add({"key": path, "op": "create_ephemeral", "session": session,
                              "outcome": outcome})
            is_known = is_known and outcome == "ok"
        way = self.random.choice(["close", "silence", "live"])
        if way == "live" and is_known and len(self.living) < 5:
            self.living.append((client, session))
            return
        if way == "silence":
            # Its connection breaks and nobody comes back.
            client._stopped.set()
            with contextlib.suppress(OSError, AttributeError):
                client._connection._socket.shutdown(socket.SHUT_RDWR)
        else:
            client.stop()
            client.close()
        self.over.append(session)

    def finish(self):
        """Tells which sessions live; one that was lost on the way does not."""
        for client, session in self.living:
            lives = client.connected and client.client_id[0] == session
            self.history.add({"key": str(session), "op": "session", "session": session,
                              "lives": lives})
        for session in self.over:
            self.history.add({"key": str(session), "op": "session", "session": session,
                              "lives": False})


def tree_of(client, path="/"):
    """All nodes below a path with their data and stat."""
    data, stat = client.get(path)
    nodes = {path: (data, tuple(stat))}
    for name in sorted(client.get_children(path)):
        nodes.update(tree_of(client, f"{path.rstrip('/')}/{name}"))
    return nodes


def look_at_the_end(ensemble, history, loads):
    """What is there in the end: the nodes of silent sessions go with their timeout, but not later."""
    living = sum(len(load.living) for load in loads)
    deadline = time.monotonic() + SESSION_TIMEOUT_S + 10
    for member in ensemble.members:
        client = KazooClient(f"127.0.0.1:{member.client_port}")
        client.start(OPERATION_TIMEOUT_S)
        while True:
            client.sync("/ephemerals")
            names = client.get_children("/ephemerals")
            if len(names) <= 3 * living or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        history.add({"key": f"member {member.number}", "op": "ephemerals",
                     "paths": [f"/ephemerals/{name}" for name in names]})
        numbers = [int(name[-10:]) for name in client.get_children("/sequences")]
        history.add({"key": "/sequences", "op": "numbers", "numbers": numbers})
        client.stop()
        client.close()


def compare_members(ensemble):
    """All members show the same tree."""
    trees = []
    for member in ensemble.members:
        client = KazooClient(f"127.0.0.1:{member.client_port}")
        client.start(OPERATION_TIMEOUT_S)
        client.sync("/")
        tree = tree_of(client)
        # ZooKeeper's members each keep this node for themselves.
        del tree["/zookeeper/config"]
        trees.append(tree)
        client.stop()
        client.close()
    first = trees[0]
    for tree in trees[1:]:
        if tree != first:
            paths = [path for path in set(first) | set(tree) if first.get(path) != tree.get(path)]
            return [f"members show different nodes at {sorted(paths)[:3]}"]
    return []


class Faults:
    """What is done to the ensemble in a round."""

    def __init__(self, ensemble, disks):
        self.ensemble, self.disks, self.restarts = ensemble, disks, 0
        self.times = []

    def kill(self, _round):
        leader = self.ensemble.leader()
        leader.kill()
        others = [member for member in self.ensemble.members if member is not leader]
        wait_for(others, ("leader",))
        leader.start()

    def pause(self, _round):
        leader = self.ensemble.leader()
        leader.signal(signal.SIGSTOP)
        others = [member for member in self.ensemble.members if member is not leader]
        wait_for(others, ("leader",))
        # Longer than any session lives without a word.
        time.sleep(SESSION_TIMEOUT_S + 1)
        leader.signal(signal.SIGCONT)

    def all(self, _round):
        for member in self.ensemble.members:
            member.signal(signal.SIGKILL)
        for member in self.ensemble.members:
            member.process.wait()
        self.ensemble.start()

    def rolling(self, _round):
        leader = self.ensemble.leader()
        for member in sorted(self.ensemble.members, key=lambda member: member is leader):
            member.signal(signal.SIGTERM)
            assert member.process.wait(30) == 0, f"member {member.number} did not stop cleanly"
            member.start()
            wait_for([member], ("leader", "follower"))
            self.restarts += 1

    def power(self, number):
        victims = [self.ensemble.leader()] if number % 2 == 0 else self.ensemble.members
        for member in victims:
            member.signal(signal.SIGSTOP)
        for member in victims:
            self.disks[member.number - 1].cut()
        for member in victims:
            member.kill()
        for member in victims:
            self.disks[member.number - 1].restore()
            member.start()


def wait_for(members, modes):
    """Until one of the members is one of these."""
    deadline = time.monotonic() + 60
    while not any(member.mode() in modes for member in members):
        assert time.monotonic() < deadline, f"none of {modes}"
        time.sleep(0.01)


def more_than_reconnects(loads, restarts):
    """What clients noticed of members started anew, beside a broken connection each time."""
    problems = []
    for load in loads:
        others = {name: count for name, count in load.failures.items() if name != "ConnectionLoss"}
        if others or load.failures["ConnectionLoss"] > restarts:
            problems.append(f"client {load.number}: {dict(load.failures)} in {restarts} restarts")
        if load.sessions > 1 and not isinstance(load, Ephemerals):
            problems.append(f"client {load.number} needed {load.sessions} sessions")
    return problems


def run_rounds(faults, loads, plan):
    kind, rounds, chance = plan
    for number in range(rounds):
        before, patience = [load.acknowledged for load in loads], time.monotonic() + 60
        # A round without progress of each client would prove nothing.
        while any(load.acknowledged < count + 3 for load, count in zip(loads, before)):
            stuck = [load.number for load, count in zip(loads, before)
                     if load.acknowledged < count + 3]
            assert time.monotonic() < patience, f"clients {stuck} make no progress"
            for load in loads:
                assert load.error is None, f"client {load.number}: {load.error}"
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        faults.times.append(time.monotonic_ns())
        getattr(faults, kind)(number)
    faults.ensemble.leader()


def prepare(ensemble):
    client = KazooClient(ensemble.hosts())
    client.start(OPERATION_TIMEOUT_S)
    for path in ("/registers", "/sequences", "/ephemerals"):
        client.create(path)
    for number in range(REGISTERS):
        client.create(f"/registers/{number}", b"")
    client.stop()
    client.close()


def go_through_it(ensemble, faults, plan, arguments):
    ensemble.start()
    prepare(ensemble)
    hosts, history = ensemble.hosts(), History()
    registers = [Registers(hosts, number + 1, history) for number in range(REGISTER_CLIENTS)]
    sequences = [Sequences(hosts, 100 + number, history) for number in range(SEQUENCE_CLIENTS)]
    ephemerals = [Ephemerals(hosts, 200, history)]
    loads = registers + sequences + ephemerals
    for load in loads:
        load.start()
    run_rounds(faults, loads, plan)
    for load in loads:
        load.stopping.set()
    for load in loads:
        load.join()
    problems = [f"client {load.number}: {load.error}" for load in loads if load.error]
    for load in ephemerals:
        load.finish()
    look_at_the_end(ensemble, history, ephemerals)
    for load in ephemerals:
        for client, _ in load.living:
            client.stop()
            client.close()
    problems += compare_members(ensemble)
    if plan[0] == "rolling":
        problems += more_than_reconnects(loads, faults.restarts)
    history.write(arguments.history)
    gaps = history.gaps_s(faults.times)
    print(f"asked {len(history.entries)}, acknowledged {sum(l.acknowledged for l in loads)}, unknown "
          f"{sum(l.unknown for l in loads)}; longest without an acknowledged write: median "
          f"{gaps[len(gaps) // 2]:.2f} s, worst {gaps[-1]:.2f} s", flush=True)
    if subprocess.run([*arguments.checker.split(), arguments.history]).returncode != 0:
        problems.append("the history cannot have been")
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fault", choices=list(ROUNDS))
    parser.add_argument("--coordinator", required=True,
                        help="the command that serves; the path of a zoo.cfg is appended")
    parser.add_argument("--checker", default="cargo dev history",
                        help="the command that judges a history; its path is appended")
    parser.add_argument("--history", help="where to write the history")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep-log", help="write the members' output to this file")
    arguments = parser.parse_args()
    if arguments.fault == "power":
        power_cut.skip_unless_possible()
    # Lost connections are what this is about.
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    rounds = arguments.rounds or ROUNDS[arguments.fault]
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print(f"{arguments.fault}: {rounds} rounds, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ensemble-") as base:
        arguments.history = arguments.history or os.path.join(base, "history")
        log = open(arguments.keep_log or os.path.join(base, "members.out"), "w")
        folders = [os.path.join(base, f"member-{n + 1}") for n in range(MEMBERS)]
        for folder in folders:
            os.mkdir(folder)
        disks = []
        if arguments.fault == "power":
            disks = [power_cut.Disk(folder, 512 << 20) for folder in folders]
            folders = [disk.mount_point for disk in disks]
        ensemble = Ensemble(arguments.coordinator, folders, log)
        try:
            plan = (arguments.fault, rounds, random.Random(seed))
            problems = go_through_it(ensemble, Faults(ensemble, disks), plan, arguments)
        finally:
            ensemble.end()
            for disk in disks:
                disk.close()
    for problem in problems:
        print(problem)
    print(f"{arguments.fault}: FAILED" if problems else f"{arguments.fault}: {rounds} passed, 0 failed")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
