// Records go to a topic, a group reads them, one member leaves, the other goes on: with kafkajs.
//
// usage: node roundtrip.js HOST:PORT          (kafkajs knows the classic protocol alone)
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const PARTITIONS = 6, RECORDS = 3000, PATIENCE_MS = 30000;

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited ${PATIENCE_MS} ms until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function produce(kafka, topic, from, to) {
  const producer = kafka.producer();
  await producer.connect();
  for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
    const messages = [];
    for (let number = from + (compression === CompressionTypes.GZIP); number < to; number += 2) {
      messages.push({ value: String(number), partition: number % PARTITIONS, headers: { of: "kafkajs" } });
    }
    await producer.send({ topic, messages, compression, acks: -1 });
  }
  await producer.disconnect();
}

async function join(kafka, topic, groupId, seen) {
  const member = { owned: 0 };
  member.consumer = kafka.consumer({ groupId, heartbeatInterval: 300, sessionTimeout: 10000 });
  member.consumer.on(member.consumer.events.GROUP_JOIN, ({ payload }) => {
    member.owned = (payload.memberAssignment[topic] || []).length;
  });
  await member.consumer.connect();
  await member.consumer.subscribe({ topics: [topic], fromBeginning: true });
  await member.consumer.run({
    eachMessage: async ({ message }) => { seen.add(Number(message.value.toString())); },
  });
  return member;
}

async function main(address) {
  const began = Date.now();
  const kafka = new Kafka({ brokers: [address], logLevel: logLevel.NOTHING });
  const topic = `node-${began}-${process.pid}`, group = `group-of-${topic}`, seen = new Set();
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 1 }] });
  await produce(kafka, topic, 0, RECORDS);
  const one = await join(kafka, topic, group, seen);
  await until("the first member owns all", () => one.owned === PARTITIONS);
  const two = await join(kafka, topic, group, seen);
  await until("both have a half", () => one.owned === PARTITIONS / 2 && two.owned === PARTITIONS / 2);
  await until("all is read", () => seen.size === RECORDS);
  await two.consumer.disconnect();
  await until("the first member owns all again", () => one.owned === PARTITIONS);
  await produce(kafka, topic, RECORDS, 2 * RECORDS);
  await until("what came later is read", () => seen.size === 2 * RECORDS);
  await one.consumer.disconnect();
  const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
  const committed = partitions.reduce((sum, { offset }) => sum + Number(offset), 0);
  if (committed !== 2 * RECORDS) throw new Error(`offsets of ${committed} records are committed`);
  const { groups } = await admin.describeGroups([group]);
  if (groups[0].state !== "Empty") throw new Error(`the group is ${groups[0].state}`);
  await admin.disconnect();
  console.log(`kafkajs classic: ${seen.size} records, ${(Date.now() - began) / 1000} s`);
}

main(process.argv[2]).then(
  () => { console.log("kafkajs: 1 passed, 0 failed"); process.exit(0); },
  (error) => { console.log(`FAILED ${error.message}\nkafkajs: 0 passed, 1 failed`); process.exit(1); },
);
