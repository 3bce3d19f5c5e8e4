"""Processes that die, stand still, or lose what they have."""

import os
import random
import shutil
import signal
import time

from cluster import NODES, Failed, until

PAUSE_MAX_S = 2.5


def new_leader(cluster, old):
    """Waits until another than `old` leads partition 0; returns how long that took."""
    cluster.harmed.add(old)

    def is_there():
        found = cluster.partitions()
        return bool(found) and found[0]["leader"] not in (None, old)

    return until(is_there, f"another than {old} leads")


def bring_back(*processes):
    for process in processes:
        process.kill()
    time.sleep(random.uniform(0, PAUSE_MAX_S))
    for process in processes:
        process.start()


def leader(cluster):
    """SIGKILL of the broker that leads partition 0."""
    old = cluster.leader()
    cluster.brokers[old].kill()
    took = new_leader(cluster, old)
    time.sleep(random.uniform(0, PAUSE_MAX_S))
    cluster.brokers[old].start()
    return took


def follower(cluster):
    """SIGKILL of a broker that follows it."""
    bring_back(cluster.brokers[random.choice(cluster.others(cluster.leader()))])


def controller(cluster):
    """SIGKILL of the controller."""
    bring_back(cluster.brokers[cluster.controller()])


def both(cluster):
    """SIGKILL of the broker that leads partition 0 and of a member of the coordinator."""
    bring_back(cluster.brokers[cluster.leader()], cluster.members[random.choice(NODES)])


def all_brokers(cluster):
    """SIGKILL of all brokers at once."""
    bring_back(*cluster.brokers.values())


def everything(cluster):
    """SIGKILL of all brokers and members at once."""
    bring_back(*cluster.brokers.values(), *cluster.members.values())


def bounce(cluster):
    """SIGKILL of the broker that leads partition 0, which starts again at once."""
    broker = cluster.brokers[cluster.leader()]
    broker.kill()
    broker.start()


def stand_still(cluster, node, until_then):
    """SIGSTOP of a broker until its session is over and something else holds, and CONT."""
    broker = cluster.brokers[node]
    broker.signal(signal.SIGSTOP)
    cluster.harmed.add(node)
    took = until_then()
    until(lambda: cluster.are_registered(2), "its session is over")
    time.sleep(random.uniform(0, 1))
    broker.signal(signal.SIGCONT)
    return took


def zombie(cluster):
    """SIGSTOP of the leader past its session, and CONT."""
    old = cluster.leader()
    return stand_still(cluster, old, lambda: new_leader(cluster, old))


def zombie_controller(cluster):
    """SIGSTOP of the controller past its session, while topics come and go, and CONT."""
    old = cluster.controller()

    def another_works():
        until(lambda: cluster.controller() != old, "there is another controller")
        cluster.certainly("topics", "create", "meanwhile", "--replication-factor", "2",
                          "--if-not-exists")
        cluster.certainly("topics", "delete", "meanwhile")

    stand_still(cluster, old, another_works)


def rolling(cluster):
    """SIGTERM of one broker after the other."""
    for node in NODES:
        cluster.brokers[node].terminate()
        cluster.brokers[node].start()
        cluster.heals()


def wipe(cluster):
    """SIGKILL of a broker, whose disk is empty when it comes back."""
    broker = cluster.brokers[random.choice(NODES)]
    broker.kill()
    shutil.rmtree(broker.folder)
    broker.start()


def wipe_member(cluster):
    """SIGKILL of a member of the coordinator, whose disk is empty when it comes back."""
    node = random.choice(NODES)
    member = cluster.members[node]
    member.kill()
    shutil.rmtree(member.folder)
    member.start()
    until(lambda: votes(cluster, node), f"member {node} votes again")


def votes(cluster, node):
    found = cluster.ottla_of_members("coordinator", "members")
    mine = [member for member in found or [] if member["member"] == str(node)]
    return bool(mine) and mine[0]["role"] == "voter" and mine[0]["answers"]


def torn_tail(cluster):
    """SIGKILL of the leader, and garbage behind the end of its logs, as half-written batches are."""
    broker = cluster.brokers[cluster.leader()]
    broker.kill()
    torn = 0
    for folder in os.scandir(broker.folder):
        logs = sorted(name for name in os.listdir(folder) if name.endswith(".log")) \
            if folder.is_dir() and folder.name.startswith("faults-") else []
        if logs:
            with open(os.path.join(folder, logs[-1]), "ab") as log:
                log.write(random.randbytes(random.randint(1, 4096)))
            torn += 1
    if torn == 0:
        raise Failed(f"no logs in {broker.folder}")
    broker.start()
