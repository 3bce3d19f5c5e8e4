"""Records go to a topic, a group reads them, one member leaves, the other goes on.

usage: roundtrip.py HOST:PORT classic|consumer
"""

import sys
import time
import uuid

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS, RECORDS, PATIENCE_S = 6, 3000, 30
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def produce(address, topic, first):
    failed = []
    for which, codec in enumerate(CODECS):
        producer = Producer({"bootstrap.servers": address, "compression.type": codec})
        for number in range(first + which, first + RECORDS, len(CODECS)):
            producer.produce(topic, str(number), partition=number % PARTITIONS, headers={"of": codec},
                             on_delivery=lambda error, _: failed.append(error) if error else None)
        assert producer.flush(PATIENCE_S) == 0 and not failed, f"not delivered: {failed[:3]}"


class Member:
    def __init__(self, address, topic, group, protocol):
        own = {"group.protocol": protocol}
        if protocol == "classic":
            own |= {"heartbeat.interval.ms": 300, "partition.assignment.strategy": "cooperative-sticky"}
        self.owned, self.read = set(), set()
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": group,
                                  "auto.offset.reset": "earliest", "enable.auto.commit": False, **own})
        self.consumer.subscribe([topic], on_assign=self.gain, on_revoke=self.lose, on_lost=self.lose)

    def gain(self, _, partitions):
        self.owned |= {p.partition for p in partitions}

    def lose(self, consumer, partitions):
        self.owned -= {p.partition for p in partitions}

    def poll(self):
        messages = self.consumer.consume(500, 0.05)
        for message in messages:
            assert message.error() is None, message.error()
            self.read.add(int(message.value()))
        if messages:
            self.commit()

    def commit(self):
        try:
            self.consumer.commit(asynchronous=False)
        except KafkaException:
            pass  # The group rebalances, or there is nothing new: the next commit is of later offsets.


def until(what, members, condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s until {what}"
        for member in members:
            member.poll()


def main(address, protocol):
    began, topic = time.monotonic(), f"roundtrip-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(PATIENCE_S)
    one = Member(address, topic, topic, protocol)
    until("the first member owns all", [one], lambda: len(one.owned) == PARTITIONS)
    two = Member(address, topic, topic, protocol)
    until("both have a half", [one, two], lambda: len(one.owned) == len(two.owned) == PARTITIONS // 2)
    produce(address, topic, 0)
    until("all is read", [one, two], lambda: len(one.read | two.read) == RECORDS)
    two.consumer.close()
    until("the first member owns all again", [one], lambda: len(one.owned) == PARTITIONS)
    produce(address, topic, RECORDS)
    until("what came later is read", [one], lambda: len(one.read | two.read) == 2 * RECORDS)
    one.commit()
    one.consumer.close()
    offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(topic)])[topic]
    committed = sum(p.offset for p in offsets.result(PATIENCE_S).topic_partitions)
    assert committed == 2 * RECORDS, f"offsets of {committed} records are committed"
    print(f"confluent-kafka {protocol}: {2 * RECORDS} records, {time.monotonic() - began:.1f} s")


main(*sys.argv[1:3])
