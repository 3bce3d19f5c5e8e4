"""A million records of 1 kB, idempotent, over six partitions and all codecs; each comes back once.

usage: exchange.py HOST:PORT RECORDS

One topic for each codec. Every record says its topic, partition and number, so the reader can tell
a missing, a doubled, a changed and a misplaced one.
"""

import sys
import time
import uuid

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 6
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PADDING = ("abcdefghijklmnopqrstuvwxyz0123456789" * 29)[:1000]


def value_of(topic, partition, number):
    head = f"{topic}/{partition}/{number}/"
    return (head + PADDING[: 1000 - len(head)]).encode()


def create(admin, topic):
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        future.result(30)


def produce(address, topic, codec, count):
    failed = []
    producer = Producer({
        "bootstrap.servers": address,
        "enable.idempotence": True,
        "compression.type": codec,
        "linger.ms": 5,
        "queue.buffering.max.messages": 200000,
    })

    def delivered(error, _message):
        if error is not None:
            failed.append(error)

    for number in range(count):
        partition = number % PARTITIONS
        value = value_of(topic, partition, number // PARTITIONS)
        while True:
            try:
                producer.produce(topic, value, partition=partition, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(120)
    assert left == 0, f"{left} records of {topic} were not delivered"
    assert not failed, f"{len(failed)} records of {topic} failed, first: {failed[0]}"


def consume(address, topic, count):
    consumer = Consumer({
        "bootstrap.servers": address,
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    })
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    wanted = [len(range(p, count, PARTITIONS)) for p in range(PARTITIONS)]
    seen = [0] * PARTITIONS
    deadline = time.monotonic() + 120
    while seen != wanted:
        assert time.monotonic() < deadline, f"{topic}: read {seen} of {wanted}"
        for message in consumer.consume(10000, 1.0):
            assert message.error() is None, message.error()
            partition = message.partition()
            expected = seen[partition]
            assert message.offset() == expected, (topic, partition, message.offset(), expected)
            assert message.value() == value_of(topic, partition, expected), (topic, expected)
            seen[partition] += 1
    for partition, expected in enumerate(wanted):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)
        assert (low, high) == (0, expected), (topic, partition, low, high, expected)
    consumer.close()


def main():
    address, records = sys.argv[1], int(sys.argv[2])
    run = uuid.uuid4().hex[:8]
    print(f"confluent-kafka {confluent_kafka.version()}, librdkafka {confluent_kafka.libversion()[0]}")
    admin = AdminClient({"bootstrap.servers": address})
    share = records // len(CODECS)
    for codec in CODECS:
        topic = f"exchange-{run}-{codec}"
        create(admin, topic)
        began = time.monotonic()
        produce(address, topic, codec, share)
        produced = time.monotonic()
        consume(address, topic, share)
        print(f"{codec}: {share} records, produced in {produced - began:.1f} s, "
              f"consumed in {time.monotonic() - produced:.1f} s")
        for future in admin.delete_topics([topic]).values():
            future.result(30)
    print(f"confluent-kafka: {len(CODECS)} passed, 0 failed")


main()
