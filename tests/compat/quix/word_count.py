"""Quix Streams counts words: lines in one topic, counts in another, state in a changelog topic.

usage: word_count.py HOST:PORT
Counts, stops, and goes on with another application of the same name and an empty state folder, which
has to take its state from the changelog topic.
"""

import collections
import random
import sys
import tempfile
import time
import uuid

import quixstreams
from confluent_kafka import Consumer, Producer
from quixstreams import Application

WORDS = "the quick brown fox jumps over the lazy dog and runs away".split()
LINES, PATIENCE_S = 500, 60


def write(address, topic, count, chance, wanted):
    producer = Producer({"bootstrap.servers": address})
    for _ in range(count):
        line = chance.choices(WORDS, k=6)
        wanted.update(line)
        producer.produce(topic, " ".join(line), key=line[0])
    assert producer.flush(PATIENCE_S) == 0, "lines were not delivered"


def count_words(address, name, lines, counts):
    """Counts until there is nothing more to read."""
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=address, consumer_group=name, auto_offset_reset="earliest", state_dir=folder,
            processing_guarantee="at-least-once", commit_interval=0.5, loglevel="WARNING")
        source = app.topic(lines, value_deserializer="str", key_deserializer="str")
        sink = app.topic(counts, value_serializer="int", key_serializer="str")

        def count(_, state):
            total = state.get("total", 0) + 1
            state.set("total", total)
            return total

        words = app.dataframe(source).apply(lambda line: line.split(), expand=True)
        words.group_by(lambda word: word, name="word", value_deserializer="json").apply(
            count, stateful=True).to_topic(sink)
        app.run(timeout=8)


def read_counts(address, topic):
    consumer = Consumer({"bootstrap.servers": address, "group.id": uuid.uuid4().hex,
                         "auto.offset.reset": "earliest", "enable.partition.eof": True})
    consumer.subscribe([topic])
    latest, deadline, is_at_end = {}, time.monotonic() + PATIENCE_S, False
    while not is_at_end:
        assert time.monotonic() < deadline, f"read {latest} in {PATIENCE_S} s"
        message = consumer.poll(1)
        if message is None:
            continue
        is_at_end = message.error() is not None and message.error().name() == "_PARTITION_EOF"
        if message.error() is None:
            word = message.key().decode()
            latest[word] = max(latest.get(word, 0), int.from_bytes(message.value(), signed=True))
    consumer.close()
    return latest


def main(address):
    began, name = time.monotonic(), f"words-{uuid.uuid4().hex[:8]}"
    lines, counts = f"{name}-lines", f"{name}-counts"
    chance, wanted = random.Random(7), collections.Counter()
    for run in (1, 2):
        write(address, lines, LINES, chance, wanted)
        count_words(address, name, lines, counts)
        told = read_counts(address, counts)
        assert told == dict(wanted), f"run {run}: {told} is not {dict(wanted)}"
    print(f"Quix Streams {quixstreams.__version__}: {2 * LINES} lines, {sum(wanted.values())} words, "
          f"{time.monotonic() - began:.1f} s")
    print("Quix Streams: 2 passed, 0 failed")


main(sys.argv[1])
