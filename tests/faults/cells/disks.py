"""Power cuts, disks that fail, stand still or are full."""

import errno
import os
import random
import signal
import time

from cluster import NODES, Failed, until

from . import processes


def process_at(cluster, place):
    kind, node = place
    return (cluster.brokers if kind == "broker" else cluster.members)[node]


def cut(cluster, places):
    """Cuts the power of processes: what they had not flushed is gone. That it was cut is proven by a
    write that fails, and by bytes that were written just before, never flushed, and are gone. (The
    empty file may stay, if a flush that was under way took its name along.)"""
    canaries = []
    for place in places:
        process_at(cluster, place).signal(signal.SIGSTOP)
        # A new name each time: ext4 flushes what takes the place of older contents.
        name = f"never-flushed-{random.getrandbits(32):x}"
        canaries.append(os.path.join(cluster.disks[place].mount_point, name))
        with open(canaries[-1], "w") as canary:
            canary.write("to be gone")
    for place in places:
        cluster.disks[place].cut()
        if not cluster.disks[place].is_off():
            raise Failed("the power was not cut")
    for place in places:
        process_at(cluster, place).kill()
    for place in places:
        cluster.disks[place].restore()
    for canary in canaries:
        if os.path.exists(canary) and os.path.getsize(canary) > 0:
            raise Failed(f"{canary} was not lost")


def power(cluster):
    """Power cut of the broker that leads partition 0."""
    old = cluster.leader()
    cut(cluster, [("broker", old)])
    took = processes.new_leader(cluster, old)
    cluster.brokers[old].start()
    return took


def power_all(cluster):
    """Power cut of all brokers and members at once."""
    places = [(kind, node) for kind in ("broker", "coordinator") for node in NODES]
    cut(cluster, places)
    for place in places:
        process_at(cluster, place).start()


def last_in_sync(cluster):
    """One follower after the other dies, then the power of the leader is cut."""
    old = cluster.leader()
    for follower in cluster.others(old):
        cluster.brokers[follower].kill()
        cluster.harmed.add(follower)
        until(lambda: all(follower not in each["isr"] for each in cluster.partitions()),
              f"{follower} is out of every ISR")
    cut(cluster, [("broker", old)])
    starts = list(NODES)
    random.shuffle(starts)
    for node in starts:
        cluster.brokers[node].start()
        time.sleep(random.uniform(0, 1))


def disk_error(cluster):
    """The leader's disk fails under it: whatever it writes from now on is an error."""
    old = cluster.leader()
    broker, disk = cluster.brokers[old], cluster.disks["broker", old]
    disk.cut()
    if not disk.is_off():
        raise Failed("the disk takes more")
    took = processes.new_leader(cluster, old)
    if broker.runs():
        broker.kill()
    disk.restore()
    broker.start()
    return took


def slow_disk(cluster):
    """Writes to the leader's disk take some seconds."""
    disk = cluster.disks["broker", cluster.leader()]
    disk.freeze()
    try:
        time.sleep(random.uniform(2, 5))
    finally:
        disk.thaw()


def disk_full(cluster):
    """The leader's disk is full for some seconds."""
    old = cluster.leader()
    ballast = os.path.join(cluster.disks["broker", old].mount_point, "ballast")
    fill(ballast)
    time.sleep(random.uniform(2, 4))
    os.remove(ballast)
    if not cluster.brokers[old].runs():
        cluster.brokers[old].start()


def fill(path):
    """Writes to a file until there is no room left."""
    block = bytes(1 << 16)
    with open(path, "wb", buffering=0) as file:
        while len(block) > 0:
            try:
                file.write(block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                block = block[:len(block) // 2]
