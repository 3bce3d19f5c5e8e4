"""Links that are cut."""

import random
import socket
import time

from network import HOST

from cluster import BROKER_PORT, CLIENT_PORT, NODES, Failed, until

from . import processes

MEMBERS = [("coordinator", node) for node in NODES]


def led_by(cluster, node):
    return [each for each in cluster.partitions() if each["leader"] == node]


def cut_followers(cluster):
    """The leader hears no follower, but the coordinators; it is alone in its ISRs, then dies."""
    old = cluster.leader()
    followers = [("broker", node) for node in cluster.others(old)]
    cluster.network.cut(("broker", old), followers)
    for follower in followers:
        if cluster.network.is_heard(follower, ("broker", old), BROKER_PORT):
            raise Failed("the followers were not cut off")
    cluster.harmed.update(cluster.others(old))

    def is_alone():
        led = led_by(cluster, old)
        return bool(led) and all(each["isr"] == [old] for each in led)

    until(is_alone, "the leader is alone in its ISRs")
    time.sleep(random.uniform(0, 1))
    cluster.brokers[old].kill()
    cluster.network.heal()
    cluster.harmed.clear()
    took = processes.new_leader(cluster, old)
    cluster.brokers[old].start()
    return took


def cut_coordinators(cluster):
    """The leader hears no coordinator, but the followers and clients, past its session."""
    old = cluster.leader()
    began = time.monotonic()
    cluster.network.cut(("broker", old), MEMBERS)
    processes.new_leader(cluster, old)
    took = time.monotonic() - began
    if any(cluster.network.is_heard(("broker", old), member, CLIENT_PORT) for member in MEMBERS):
        raise Failed("the coordinators were not cut off")
    time.sleep(random.uniform(0, 2))
    cluster.network.heal()
    return took


def follower_comes_back(cluster, old):
    """Kills a follower, and starts it again once it is out of every ISR, so that leaders write ISRs."""
    follower = random.choice(cluster.others(old))
    broker = cluster.brokers[follower]
    broker.kill()
    cluster.harmed.add(follower)
    until(lambda: all(follower not in each["isr"] for each in cluster.partitions()),
          "the follower is out of every ISR")
    broker.start()
    time.sleep(random.uniform(0, 0.5))


def lost_replies(cluster):
    """What the coordinators answer the leader is lost while it takes a follower into its ISRs."""
    old = cluster.leader()
    follower_comes_back(cluster, old)
    cluster.network.drop(MEMBERS, ("broker", old))
    if any(cluster.network.is_heard(("broker", old), member, CLIENT_PORT) for member in MEMBERS):
        raise Failed("the replies were not dropped")
    time.sleep(random.uniform(0, 3))
    cluster.network.heal()


def late_requests(cluster):
    """What the leader asks the coordinators while it takes a follower into its ISRs arrives late, and
    perhaps when its session is over."""
    old = cluster.leader()
    follower_comes_back(cluster, old)
    for member in MEMBERS:
        cluster.network.drop([("broker", old)], member)
    if any(cluster.network.is_heard(("broker", old), member, CLIENT_PORT) for member in MEMBERS):
        raise Failed("the requests were not held up")
    time.sleep(random.uniform(0, 5))
    # What was sent meanwhile is sent again by TCP, and arrives.
    cluster.network.heal()


def cut_clients(cluster):
    """The leader does not hear its clients, but the coordinators and followers."""
    old = cluster.leader()
    cluster.harmed.add(old)
    cluster.network.cut(("broker", old), [HOST])
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((cluster.network.ip(("broker", old)), BROKER_PORT)) == 0:
            raise Failed("the clients were not cut off")
    time.sleep(random.uniform(1, 8))
    cluster.network.heal()
    cluster.harmed.clear()
