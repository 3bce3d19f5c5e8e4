#!/usr/bin/env python3
"""Ports for servers that end and start again at the same place. As a command, prints so many: ports.py COUNT

Linux gives connections their own ports from 32768 on. A server's port must not be one of those: a connection
could take it while the server is away, even the one that a client tries to make to it.
"""

import random
import socket
import sys

FIRST, LAST = 22000, 32700
# Of its own: tests that are run again from a seed still get other ports.
RANDOM = random.SystemRandom()


def free_ports(count):
    found = []
    while len(found) < count:
        port = RANDOM.randrange(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def free_port():
    return free_ports(1)[0]


if __name__ == "__main__":
    print(*free_ports(int(sys.argv[1])))
