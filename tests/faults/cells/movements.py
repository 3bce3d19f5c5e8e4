"""Harm while topics come and go and replicas move."""

import json
import os
import random
import tempfile

from cluster import until

from . import processes

MOVED, RECREATED, MOVED_PARTITIONS = "moved", "recreated", 6


def moves(cluster):
    """SIGKILL of the leader while replicas of another topic move and a third is made anew."""
    cluster.certainly("topics", "create", MOVED, "--partitions", str(MOVED_PARTITIONS),
                      "--replication-factor", "2", "--if-not-exists")
    cluster.certainly("topics", "create", RECREATED, "--partitions", "3", "--replication-factor",
                      "3", "--if-not-exists")
    place = random.sample((1, 2, 3), 2)
    plan = {"version": 1, "partitions": [
        {"topic": MOVED, "partition": number, "replicas": place}
        for number in range(MOVED_PARTITIONS)]}
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "plan.json")
        with open(file, "w") as text:
            json.dump(plan, text)
        cluster.certainly("topics", "reassign", "--execute", file)
        took = processes.leader(cluster)
        cluster.certainly("topics", "delete", RECREATED)
        cluster.certainly("topics", "create", RECREATED, "--partitions", "3",
                          "--replication-factor", "3", "--if-not-exists")
        until(lambda: are_done(cluster, file), "the replicas have moved")
    return took


def are_done(cluster, file):
    rows = cluster.ottla("topics", "reassign", "--verify", file)
    return bool(rows) and len(rows) == MOVED_PARTITIONS and all(
        row["progress"] == "done" for row in rows)
