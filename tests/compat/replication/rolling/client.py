"""A producer with acks=all and a group's consumer, with confluent-kafka, until standard input ends.

usage: client.py BOOTSTRAP TOPIC      prints "ready", then "acknowledged N read N errors N"
"""

import sys
import threading
import time

from confluent_kafka import Consumer, Producer

PATIENCE_S = 60
bootstrap, topic = sys.argv[1:3]
errors, acknowledged, read = [], set(), set()
stopped = threading.Event()


def note(error):
    errors.append(str(error))
    print(f"error: {error}", file=sys.stderr, flush=True)


def delivered(error, message):
    if error is None:
        acknowledged.add(message.value())
    else:
        note(error)


def produce():
    producer, number = Producer({"bootstrap.servers": bootstrap, "acks": "all"}), 0
    while not stopped.is_set():
        producer.produce(topic, f"{number}".encode(), on_delivery=delivered)
        number += 1
        producer.poll(0.002)
    if producer.flush(PATIENCE_S) > 0:
        note("records without an outcome")


def main():
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": f"{topic}-readers", "auto.offset.reset": "earliest",
        # An application that is told of every broker that goes could not say what is an error.
        "error_cb": lambda error: note(error) if error.fatal() else None})
    consumer.subscribe([topic])
    producing = threading.Thread(target=produce)
    producing.start()
    threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
    end = None
    while end is None or (time.monotonic() < end and not acknowledged <= read):
        message = consumer.poll(0.2)
        if message is not None and message.error():
            note(message.error())
        elif message is not None:
            if not read:
                print("ready", flush=True)
            read.add(message.value())
        if end is None and stopped.is_set():
            producing.join()
            end = time.monotonic() + PATIENCE_S
    consumer.close()
    print(f"acknowledged {len(acknowledged)} read {len(acknowledged & read)} errors {len(errors)}")


main()
