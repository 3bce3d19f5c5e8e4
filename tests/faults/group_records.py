"""What a broker wrote down about its groups: who was given which partition, in which generation.

Reads the log of `__consumer_offsets` itself, so that nothing of the broker judges the broker. A classic
group has one record for each generation, with what the leader gave to each member. In a group of the
consumer protocol each member has a record of what it owns and what it has still to give up.
"""

import glob
import os
import struct

CLASSIC, MEMBER = 2, 8


class Reader:
    """The primitive types of Kafka's protocol."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        assert self.at <= len(self.data), "a record ends too early"
        return self.data[self.at - count:self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def unsigned(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def signed(self):
        value = self.unsigned()
        return value >> 1 ^ -(value & 1)

    def text(self):
        size = self.number("h")
        return self.take(size).decode() if size >= 0 else None

    def bytes(self):
        size = self.number("i")
        return self.take(size) if size >= 0 else None

    def array(self, read):
        return [read() for _ in range(max(self.number("i"), 0))]

    def compact_array(self, read):
        return [read() for _ in range(max(self.unsigned() - 1, 0))]


def records(path):
    """The records of a segment: offset and time (ms) of their batch, key, value (None: a tombstone)."""
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at + 61 <= len(data):
        base, size = struct.unpack_from(">qi", data, at)
        if size <= 0 or at + 12 + size > len(data):
            return  # The end of what was written; the rest is room, or was cut by a crash.
        reader = Reader(data[at:at + 12 + size])
        reader.at = 21
        attributes = reader.number("h")
        assert attributes & 7 == 0, "compressed batches are not read here"
        reader.at = 35
        written_ms = reader.number("q")
        reader.at = 57
        count, is_control = reader.number("i"), attributes & 32
        for _ in range(0 if is_control else count):
            record = Reader(reader.take(reader.signed()))
            record.take(1)
            record.signed(), record.signed()
            key = record.take(record.signed())
            size_of_value = record.signed()
            yield (base, written_ms), key, record.take(size_of_value) if size_of_value >= 0 else None
        at += 12 + size


def owned_classic(assignment):
    """The partitions of an assignment (or the owned ones of what follows the topics)."""
    reader = Reader(assignment)
    if not assignment:
        return set()
    reader.number("h")
    topics = reader.array(lambda: (reader.text(), reader.array(lambda: reader.number("i"))))
    return {(topic, partition) for topic, partitions in topics for partition in partitions}


def classic(value):
    """A generation, and what it gave to whom."""
    reader = Reader(value)
    version = reader.number("h")
    assert 0 < version < 4, f"a classic group's record of version {version}"
    reader.text()
    generation = reader.number("i")
    reader.text(), reader.text()
    if version >= 2:
        reader.number("q")

    def member():
        name = reader.text()
        if version >= 3:
            reader.text()
        reader.text(), reader.text(), reader.number("i"), reader.number("i"), reader.bytes()
        return name, owned_classic(reader.bytes())
    return generation, dict(reader.array(member))


def progress(value):
    """A member's epoch, and all that nobody else may have."""
    reader = Reader(value)
    reader.number("h")
    epoch = reader.number("i")
    reader.number("i"), reader.number("b")

    def topic():
        topic = reader.take(16)
        partitions = reader.compact_array(lambda: reader.number("i"))
        for _ in range(reader.unsigned()):
            reader.unsigned()
            reader.take(reader.unsigned())
        return {(topic, partition) for partition in partitions}
    held = reader.compact_array(topic) + reader.compact_array(topic)
    return epoch, set().union(*held)


def twice(holders):
    """Partitions that two have."""
    seen, wrong = {}, []
    for member, partitions in holders.items():
        for partition in sorted(partitions, key=str):
            other = seen.setdefault(partition, member)
            if other != member:
                wrong.append(f"partition {partition[1]} is {other}'s and {member}'s")
    return wrong


def check_segment(path):
    """What must not be: a partition with two owners in one generation, a generation that goes back.

    Also what members of the consumer protocol had and then had not, while they stayed: when (ms since
    1970), who, which partition.
    """
    wrong, generations, members, decided, released = [], {}, {}, 0, []
    batch = None

    def end_of_batch():
        for group, holders in members.items():
            wrong.extend(f"{group}, offset {batch[0]}: {what}" for what in twice(holders))

    for base, key, value in records(path):
        if base != batch:
            end_of_batch()
            batch = base
        reader = Reader(key)
        kind, group = reader.number("h"), reader.text()
        if kind == CLASSIC and value is not None:
            decided += 1
            generation, given = classic(value)
            wrong.extend(f"{group}, generation {generation}: {what}" for what in twice(given))
            before, given_before = generations.get(group, (0, {}))
            if generation < before or generation == before and given != given_before:
                wrong.append(f"{group}: generation {generation} is decided after {before}")
            generations[group] = generation, given
        elif kind == MEMBER:
            decided += 1
            member, holders = reader.text(), members.setdefault(group, {})
            before = holders.pop(member, set())
            if value is not None:
                holders[member] = progress(value)[1]
                released += [(base[1], member, p[1]) for p in before - holders[member]]
    end_of_batch()
    return decided, wrong, released


def check(folder):
    """Checks all that a broker with this data folder wrote.

    How many decisions that was, what is wrong, and what members gave up (as `check_segment`).
    """
    decided, wrong, released = 0, [], []
    for path in sorted(glob.glob(os.path.join(folder, "__consumer_offsets-*", "*.log"))):
        here, found, given_up = check_segment(path)
        decided, wrong, released = decided + here, wrong + found, released + given_up
    return decided, wrong, released
