"""Restarts three brokers and three coordinators one after the other, three times, while clients write
and read.

usage: rolling.py BINARIES NAME=COMMAND…      COMMAND is run with BOOTSTRAP and TOPIC (see client.py)
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../../faults"))
import network  # noqa: E402
from cluster import NODES, TOPIC, Cluster, Failed, until  # noqa: E402

CLIENT_PATIENCE_S, ROUNDS = 150, 3


def are_whole(cluster, topics):
    found = [cluster.ottla("topics", "describe", topic) for topic in topics]
    return all(found) and all(
        len(partition["isr"]) == 3 for topic in found for partition in topic[0]["partitions"])


def restart_all(cluster, topics):
    for node in NODES:
        cluster.brokers[node].terminate()
        cluster.brokers[node].start()
        cluster.heals()
        until(lambda: are_whole(cluster, topics), "every ISR is whole")
        print(f"broker {node} was restarted", flush=True)
    for node in NODES:
        cluster.members[node].terminate()
        cluster.members[node].start()
        until(lambda: votes(cluster, node), f"member {node} answers")
        cluster.heals()
        print(f"coordinator {node} was restarted", flush=True)


def votes(cluster, node):
    found = cluster.ottla_of_members("coordinator", "members")
    return any(member["member"] == str(node) and member["answers"] for member in found or [])


def outcome(name, client):
    """What a client says in the end, and whether that is good."""
    try:
        said, _ = client.communicate(timeout=CLIENT_PATIENCE_S)
    except subprocess.TimeoutExpired:
        client.kill()
        return f"{name}: does not end", False
    last = (said.strip().splitlines() or [""])[-1]
    words = last.split()
    is_good = len(words) == 6 and int(words[1]) > 0 and words[1] == words[3] and words[5] == "0"
    return f"{name}: {last}", is_good


def main():
    binaries, clients, passed = sys.argv[1], {}, 0
    with tempfile.TemporaryDirectory(prefix="rolling-") as base:
        cluster = Cluster(binaries, base, network.Loopback(), {})
        try:
            cluster.start()
            until(lambda: cluster.are_registered(3), "all brokers are there")
            for topic in [TOPIC, *(argument.split("=")[0] for argument in sys.argv[2:])]:
                cluster.certainly("topics", "create", topic, "--partitions", "12", "--if-not-exists",
                                  "--replication-factor", "3", "--config", "min.insync.replicas=2")
            for argument in sys.argv[2:]:
                name, command = argument.split("=", 1)
                clients[name] = subprocess.Popen(
                    [*shlex.split(command), cluster.bootstrap(), name],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for name, client in clients.items():
                if client.stdout.readline().strip() != "ready":
                    raise Failed(f"{name} did not begin")
            for _ in range(ROUNDS):
                restart_all(cluster, list(clients))
            time.sleep(2)
            for name, client in clients.items():
                said, is_good = outcome(name, client)
                print(said, flush=True)
                passed += is_good
        except Failed as failed:
            print(f"FAILED: {failed}")
        finally:
            for client in clients.values():
                client.kill()
            cluster.stop()
    print(f"rolling: {passed} passed, {len(sys.argv) - 2 - passed} failed")
    sys.exit(passed != len(sys.argv) - 2)


main()
