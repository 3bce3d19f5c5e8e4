#!/usr/bin/env python3
"""Replaces in a zkCli transcript what differs between two runs: times, zxids, session ids, ports.

Each zxid or session id becomes a name by its first appearance, in hexadecimal and decimal alike, so that
transcripts still differ where two ids are equal in one and not in the other.
"""

import re
import sys

names = {}
sizes = {}


def name(kind, value):
    key = (kind, value)
    if key not in names:
        sizes[kind] = sizes.get(kind, 0) + 1
        names[key] = f"{kind}{sizes[kind]}"
    return names[key]


def numbered(match):
    kind = "session-" if match["field"].startswith("ephemeralOwner") else "zxid-"
    value = int(match["value"], 0)
    return match["field"] + (match["value"] if value <= 0 else name(kind, value))


def sorted_where_a_set_is_printed(lines):
    """Sorts the list of getEphemerals and what whoami prints: ZooKeeper keeps both in hash sets."""
    command, held = "", []
    for line in lines:
        if re.match(r"\d> ", line):
            yield from sorted(held)
            command, held = line[3:].split()[0], []
        elif command == "getEphemerals" and line.startswith("["):
            line = "[" + ", ".join(sorted(line.strip("[]\n").split(", "))) + "]\n"
        elif command == "whoami":
            held.append(line)
            continue
        yield line
    yield from sorted(held)


for line in sorted_where_a_set_is_printed(sys.stdin):
    line = re.sub(r"\b\w{3} \w{3} \d\d [\d:]{8} \w+ (?!1970)\d{4}", "TIME", line)
    line = re.sub(
        r"(?P<field>(?:[cmp]Zxid|ephemeralOwner) = |zxid: )(?P<value>-?(?:0x)?[0-9a-f]+)", numbered, line)
    line = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", line)
    line = re.sub(r"(?<=version=)[0-9a-f]{2,}", "VERSION", line)
    line = re.sub(r"(CLI version: ).*", r"\1VERSION", line)
    print(line, end="")
