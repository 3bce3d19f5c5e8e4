"""The faults. A cell is a function that does harm to a cluster and returns when that is undone, but
for the time that healing takes. Where a leader is harmed it returns how long another took to come, in
seconds. Whoever breaks something first makes sure that it is broken."""

from collections import namedtuple

from . import disks, movements, network, processes

Cell = namedtuple("Cell", "harm needs may_lose", defaults=(None, False))

CELLS = {
    "leader": Cell(processes.leader),
    "follower": Cell(processes.follower),
    "controller": Cell(processes.controller),
    "both": Cell(processes.both),
    "all": Cell(processes.all_brokers),
    "everything": Cell(processes.everything),
    "bounce": Cell(processes.bounce),
    "zombie": Cell(processes.zombie),
    "zombie-controller": Cell(processes.zombie_controller),
    "rolling": Cell(processes.rolling),
    "wipe": Cell(processes.wipe),
    "wipe-member": Cell(processes.wipe_member),
    "torn-tail": Cell(processes.torn_tail),
    "moves": Cell(movements.moves),
    "cut-followers": Cell(network.cut_followers, "network"),
    "cut-coordinators": Cell(network.cut_coordinators, "network"),
    "lost-replies": Cell(network.lost_replies, "network"),
    "late-requests": Cell(network.late_requests, "network"),
    "cut-clients": Cell(network.cut_clients, "network"),
    "power": Cell(disks.power, "disks"),
    "power-all": Cell(disks.power_all, "disks"),
    "power-all-page-cache": Cell(disks.power_all, "disks", may_lose=True),
    "last-in-sync": Cell(disks.last_in_sync, "disks"),
    "disk-error": Cell(disks.disk_error, "disks"),
    "slow-disk": Cell(disks.slow_disk, "disks"),
    "disk-full": Cell(disks.disk_full, "disks"),
}
