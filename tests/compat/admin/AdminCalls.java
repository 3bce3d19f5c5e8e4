// What the calls of Kafka's Admin come to, as lines that can be compared.
//
//   dump BOOTSTRAP                  a line for each call: its name, a tab, what came of it
//   compare KAFKA OTTLA ALLOWED     two dumps; differences must be named, with a reason, in ALLOWED
//
// The cluster must be fresh, of one broker with the number 1 and two log directories. What is chance
// (ids, times, addresses, folders) is left out of the lines.

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.ConfigResource.Type;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.*;

public class AdminCalls {
    static final String T = "admin-calls";
    static final TopicPartition P0 = new TopicPartition(T, 0);
    static final TopicPartition NOWHERE = new TopicPartition("nowhere", 7);
    static String bootstrap;
    static Admin admin;

    public static void main(String[] args) throws Exception {
        if (args.length == 2 && args[0].equals("dump")) {
            bootstrap = args[1];
            try (Admin opened = Admin.create(Map.of("bootstrap.servers", bootstrap,
                    "default.api.timeout.ms", "15000", "request.timeout.ms", "10000"))) {
                admin = opened;
                topics();
                records();
                configs();
                replicas();
                cluster();
                groups();
                notForEveryone();
                end();
            }
        } else if (args.length == 4 && args[0].equals("compare")) {
            System.exit(compare(Path.of(args[1]), Path.of(args[2]), Path.of(args[3])) ? 0 : 1);
        } else {
            System.err.println("usage: dump BOOTSTRAP | compare KAFKA OTTLA ALLOWED");
            System.exit(2);
        }
    }

    interface Call {
        Object make() throws Exception;
    }

    static void tell(String name, Call call) {
        System.out.println(name + "\t" + outcome(call).replaceAll("\\s+", " "));
    }

    static String outcome(Call call) {
        try {
            return String.valueOf(call.make());
        } catch (Exception failed) {
            Throwable cause = failed instanceof ExecutionException ? failed.getCause() : failed;
            if (cause instanceof org.apache.kafka.common.errors.TimeoutException) {
                return "TimeoutException"; // its message counts attempts
            }
            return cause.getClass().getSimpleName() + ": " + cause.getMessage();
        }
    }

    static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(30, TimeUnit.SECONDS);
    }

    static <K, V> String each(Map<K, KafkaFuture<V>> futures) {
        return new TreeMap<>(futures.entrySet().stream().collect(Collectors.toMap(
            entry -> String.valueOf(entry.getKey()), entry -> outcome(() -> get(entry.getValue()))))).toString();
    }

    static void waitFor(String what, Call condition) throws Exception {
        for (long end = System.nanoTime() + 30_000_000_000L; !Boolean.TRUE.equals(condition.make()); Thread.sleep(50)) {
            if (System.nanoTime() > end) {
                throw new IllegalStateException("waited in vain for 30 seconds: " + what);
            }
        }
    }

    static Object sorted(Set<?> operations) {
        return operations == null ? null : operations.stream().map(String::valueOf).sorted().toList();
    }

    static String described(TopicDescription topic) {
        return topic.name() + " internal=" + topic.isInternal() + " operations=" + sorted(topic.authorizedOperations())
            + " " + topic.partitions().stream().map(p -> p.partition() + ":leader=" + p.leader().id() + ",replicas="
                + p.replicas().size() + ",isr=" + p.isr().size() + ",elr=" + p.elr() + ",last=" + p.lastKnownElr())
                .toList();
    }

    static void topics() {
        // The records are of 2023: retention by time would delete them at the first check, 30 s after the start.
        tell("createTopics", () -> {
            CreateTopicsResult result = admin.createTopics(List.of(new NewTopic(T, 2, (short) 1)
                .configs(Map.of("retention.ms", "-1"))));
            return get(result.numPartitions(T)) + " " + get(result.replicationFactor(T)) + " "
                + get(result.config(T)).get("retention.ms").value();
        });
        tell("createTopics again", () -> get(admin.createTopics(List.of(new NewTopic(T, 1, (short) 1))).all()));
        tell("createTopics, refused", () -> each(admin.createTopics(List.of(new NewTopic("bad name", 1, (short) 1),
            new NewTopic("x1", 0, (short) 1), new NewTopic("x2", 1, (short) 3),
            new NewTopic("x3", Map.of(0, List.of(9))), new NewTopic("x4", Map.of(1, List.of(1))),
            new NewTopic("x5", 1, (short) 1).configs(Map.of("no.such.config", "1")),
            new NewTopic("x6", 1, (short) 1).configs(Map.of("retention.ms", "x")))).values()));
        tell("createTopics, validate only", () -> get(admin.createTopics(List.of(new NewTopic("x7", 1, (short) 1)),
            new CreateTopicsOptions().validateOnly(true)).all()));
        tell("createPartitions", () -> get(admin.createPartitions(Map.of(T, NewPartitions.increaseTo(3))).all()));
        tell("createPartitions, refused", () -> each(admin.createPartitions(Map.of(T, NewPartitions.increaseTo(1),
            "nowhere", NewPartitions.increaseTo(2))).values()));
        tell("createPartitions, as many", () -> each(admin.createPartitions(
            Map.of(T, NewPartitions.increaseTo(3))).values()));
        tell("createPartitions, assigned to nobody", () -> each(admin.createPartitions(
            Map.of(T, NewPartitions.increaseTo(4, List.of(List.of(9))))).values()));
        tell("listTopics", () -> get(admin.listTopics().listings()).stream()
            .map(topic -> topic.name() + " " + topic.isInternal()).sorted().toList());
        tell("describeTopics", () -> described(get(admin.describeTopics(List.of(T),
            new DescribeTopicsOptions().includeAuthorizedOperations(true)).allTopicNames()).get(T)));
        tell("describeTopics, refused", () -> each(admin.describeTopics(List.of("nowhere", "bad name")).topicNameValues()));
    }

    static void records() throws Exception {
        Map<String, Object> properties = Map.of("bootstrap.servers", bootstrap);
        try (Producer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < 10; number++) {
                producer.send(new ProducerRecord<>(T, 0, 1_700_000_000_000L + number, "k", "v" + number)).get();
            }
        }
        Map<String, OffsetSpec> specs = new TreeMap<>(Map.of("earliest", OffsetSpec.earliest(), "latest",
            OffsetSpec.latest(), "max", OffsetSpec.maxTimestamp(), "time", OffsetSpec.forTimestamp(1_700_000_000_004L),
            "late", OffsetSpec.forTimestamp(1_800_000_000_000L), "earliest local", OffsetSpec.earliestLocal(),
            "latest tiered", OffsetSpec.latestTiered(), "pending upload", OffsetSpec.earliestPendingUpload()));
        specs.forEach((name, spec) -> tell("listOffsets, " + name, () -> {
            ListOffsetsResult.ListOffsetsResultInfo info = get(admin.listOffsets(Map.of(P0, spec)).partitionResult(P0));
            return info.offset() + " " + info.timestamp() + " " + info.leaderEpoch();
        }));
        tell("listOffsets, read committed", () -> get(admin.listOffsets(Map.of(P0, OffsetSpec.latest()),
            new ListOffsetsOptions(IsolationLevel.READ_COMMITTED)).partitionResult(P0)).offset());
        tell("listOffsets, refused", () -> get(admin.listOffsets(Map.of(NOWHERE, OffsetSpec.latest()),
            new ListOffsetsOptions(IsolationLevel.READ_UNCOMMITTED)).partitionResult(NOWHERE)));
        tell("describeProducers", () -> get(admin.describeProducers(List.of(P0)).partitionResult(P0)).activeProducers()
            .stream().map(p -> p.producerEpoch() + " " + p.lastSequence() + " " + p.lastTimestamp() + " "
                + p.coordinatorEpoch() + " " + p.currentTransactionStartOffset()).toList());
        tell("describeProducers, refused", () -> get(admin.describeProducers(List.of(NOWHERE)).all()));
        tell("deleteRecords", () -> get(admin.deleteRecords(Map.of(P0, RecordsToDelete.beforeOffset(3)))
            .lowWatermarks().get(P0)).lowWatermark());
        tell("deleteRecords, refused", () -> each(admin.deleteRecords(Map.of(P0, RecordsToDelete.beforeOffset(99))).lowWatermarks()));
        tell("deleteRecords, nowhere", () -> each(admin.deleteRecords(Map.of(NOWHERE, RecordsToDelete.beforeOffset(9))).lowWatermarks()));
    }

    static final ConfigResource TOPIC = new ConfigResource(Type.TOPIC, T);
    static final ConfigResource BROKER = new ConfigResource(Type.BROKER, "1");
    static final ConfigResource GROUP = new ConfigResource(Type.GROUP, "admin-group");
    static final ConfigResource METRICS = new ConfigResource(Type.CLIENT_METRICS, "admin-metrics");

    static String alter(ConfigResource resource, OpType op, String key, String value) {
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry(key, value), op);
        return each(admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).values());
    }

    static String configsOf(ConfigResource resource, String... keys) throws Exception {
        Config config = get(admin.describeConfigs(List.of(resource)).values().get(resource));
        Set<String> wanted = Set.of(keys);
        return config.entries().stream().filter(entry -> wanted.isEmpty() || wanted.contains(entry.name()))
            .map(entry -> entry.name() + "=" + entry.value() + "@" + entry.source() + ":" + entry.type()).sorted().toList().toString();
    }

    static void configs() throws Exception {
        tell("alter topic", () -> alter(TOPIC, OpType.SET, "segment.bytes", "1048576"));
        tell("alter topic, refused", () -> alter(TOPIC, OpType.SET, "segment.bytes", "x"));
        tell("alter topic, unknown key", () -> alter(TOPIC, OpType.SET, "no.such.key", "1"));
        tell("alter topic, append to no list", () -> alter(TOPIC, OpType.APPEND, "segment.bytes", "1"));
        tell("alter nowhere", () -> alter(new ConfigResource(Type.TOPIC, "nowhere"), OpType.SET, "segment.bytes", "1048576"));
        tell("alter broker", () -> alter(BROKER, OpType.SET, "log.cleaner.threads", "2"));
        tell("alter broker, read-only", () -> alter(BROKER, OpType.SET, "log.dirs", "/x"));
        tell("alter broker that is not there", () -> alter(new ConfigResource(Type.BROKER, "77"), OpType.SET, "log.cleaner.threads", "2"));
        tell("alter group", () -> alter(GROUP, OpType.SET, "consumer.session.timeout.ms", "50000"));
        tell("alter group, refused", () -> alter(GROUP, OpType.SET, "consumer.session.timeout.ms", "1"));
        tell("alter group, unknown key", () -> alter(GROUP, OpType.SET, "no.such.key", "1"));
        tell("alter client metrics", () -> alter(METRICS, OpType.SET, "metrics", "org.apache.kafka.producer."));
        tell("alter client metrics, interval", () -> alter(METRICS, OpType.SET, "interval.ms", "60000"));
        tell("alter client metrics, match", () -> alter(METRICS, OpType.SET, "match", "client_id=a.*"));
        tell("alter client metrics, interval refused", () -> alter(METRICS, OpType.SET, "interval.ms", "5"));
        tell("alter client metrics, match refused", () -> alter(METRICS, OpType.SET, "match", "a=b"));
        tell("alter client metrics, unknown key", () -> alter(METRICS, OpType.SET, "no.such.key", "1"));
        tell("alter client metrics, no name", () -> alter(new ConfigResource(Type.CLIENT_METRICS, ""), OpType.SET, "metrics", "a"));
        Thread.sleep(1000);
        tell("describe topic", () -> configsOf(TOPIC, "segment.bytes", "retention.ms", "cleanup.policy"));
        tell("describe broker", () -> configsOf(BROKER, "log.cleaner.threads"));
        tell("describe group", () -> configsOf(GROUP, "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"));
        tell("describe client metrics", () -> configsOf(METRICS));
        tell("describe client metrics that are not there", () -> configsOf(new ConfigResource(Type.CLIENT_METRICS, "none")));
        tell("describe nowhere", () -> configsOf(new ConfigResource(Type.TOPIC, "nowhere")));
        for (Type type : List.of(Type.TOPIC, Type.BROKER, Type.GROUP, Type.CLIENT_METRICS, Type.BROKER_LOGGER)) {
            tell("listConfigResources " + type, () -> get(admin.listConfigResources(Set.of(type),
                new ListConfigResourcesOptions()).all()).stream().map(ConfigResource::name).sorted().toList());
        }
        tell("delete client metrics", () -> alter(METRICS, OpType.DELETE, "metrics", "")
            + alter(METRICS, OpType.DELETE, "interval.ms", "") + alter(METRICS, OpType.DELETE, "match", ""));
        tell("delete broker's", () -> alter(BROKER, OpType.DELETE, "log.cleaner.threads", ""));
    }

    static String placed() throws Exception {
        List<String> lines = new ArrayList<>();
        get(admin.describeLogDirs(List.of(1)).descriptions().get(1)).forEach((path, dir) -> dir.replicaInfos().forEach(
            (partition, replica) -> {
                if (partition.topic().equals(T)) {
                    lines.add(partition + " size>0=" + (replica.size() > 0) + " lag=" + replica.offsetLag() + " future=" + replica.isFuture());
                }
            }));
        return lines.stream().sorted().toList().toString();
    }

    static void replicas() throws Exception {
        tell("describeLogDirs", AdminCalls::placed);
        tell("describeLogDirs, volumes", () -> get(admin.describeLogDirs(List.of(1)).descriptions().get(1)).values().stream()
            .map(dir -> "error=" + dir.error() + " total=" + (dir.totalBytes().getAsLong() > 0) + " usable="
                + (dir.usableBytes().getAsLong() > 0)).toList());
        TopicPartitionReplica replica = new TopicPartitionReplica(T, 0, 1);
        List<String> dirs = get(admin.describeLogDirs(List.of(1)).descriptions().get(1)).keySet().stream().sorted().toList();
        tell("alterReplicaLogDirs, refused", () -> each(admin.alterReplicaLogDirs(Map.of(replica, "/no/such/dir",
            new TopicPartitionReplica("nowhere", 7, 1), dirs.get(0))).values()));
        String at = get(admin.describeReplicaLogDirs(List.of(replica)).all()).get(replica).getCurrentReplicaLogDir();
        String other = dirs.stream().filter(dir -> !dir.equals(at)).findFirst().orElse(at);
        tell("alterReplicaLogDirs, where it is", () -> each(admin.alterReplicaLogDirs(Map.of(replica, at)).values()));
        tell("alterReplicaLogDirs", () -> each(admin.alterReplicaLogDirs(Map.of(replica, other)).values()));
        tell("alterReplicaLogDirs, its end", () -> {
            waitFor("the replica to be in its new directory", () -> {
                var now = get(admin.describeReplicaLogDirs(List.of(replica)).all()).get(replica);
                return other.equals(now.getCurrentReplicaLogDir()) && now.getFutureReplicaLogDir() == null;
            });
            return "moved";
        });
        tell("describeLogDirs after it", AdminCalls::placed);
        tell("listOffsets after it", () -> get(admin.listOffsets(Map.of(P0, OffsetSpec.latest())).partitionResult(P0)).offset());
        tell("listOffsets after it, earliest", () -> get(admin.listOffsets(Map.of(P0, OffsetSpec.earliest())).partitionResult(P0)).offset());
        tell("describeReplicaLogDirs, nowhere", () -> get(admin.describeReplicaLogDirs(
            List.of(new TopicPartitionReplica("nowhere", 7, 1))).all()).values());
        for (ElectionType type : ElectionType.values()) {
            tell("electLeaders " + type, () -> get(admin.electLeaders(type, Set.of(P0, NOWHERE)).partitions()).entrySet().stream()
                .map(entry -> entry.getKey() + "=" + entry.getValue().map(e -> e.getClass().getSimpleName()).orElse("done")).sorted().toList());
            tell("electLeaders of all, " + type, () -> get(admin.electLeaders(type, null).partitions()));
        }
        tell("alterPartitionReassignments, refused", () -> each(admin.alterPartitionReassignments(Map.of(
            P0, Optional.of(new NewPartitionReassignment(List.of(9))),
            NOWHERE, Optional.of(new NewPartitionReassignment(List.of(1))))).values()));
        tell("alterPartitionReassignments, same", () -> each(admin.alterPartitionReassignments(Map.of(
            P0, Optional.of(new NewPartitionReassignment(List.of(1))))).values()));
        tell("alterPartitionReassignments, cancel", () -> each(admin.alterPartitionReassignments(Map.of(P0, Optional.empty())).values()));
        tell("listPartitionReassignments", () -> get(admin.listPartitionReassignments().reassignments()));
    }

    static String update(String name, int level, FeatureUpdate.UpgradeType type) {
        return each(admin.updateFeatures(Map.of(name, new FeatureUpdate((short) level, type)),
            new UpdateFeaturesOptions()).values()).replaceAll("controller \\d+", "controller N");
    }

    static void cluster() {
        tell("describeCluster", () -> {
            DescribeClusterResult result = admin.describeCluster(new DescribeClusterOptions()
                .includeAuthorizedOperations(true).includeFencedBrokers(true));
            return get(result.nodes()).stream().map(node -> node.id() + " rack=" + node.rack() + " fenced=" + node.isFenced()).toList()
                + " controller=" + get(result.controller()).id() + " operations=" + sorted(get(result.authorizedOperations()))
                + " id=" + (get(result.clusterId()).length() == 22);
        });
        for (String feature : List.of("group.version", "eligible.leader.replicas.version", "transaction.version", "metadata.version",
                "kraft.version", "share.version", "streams.version")) {
            tell("describeFeatures " + feature, () -> {
                FeatureMetadata features = get(admin.describeFeatures().featureMetadata());
                return "finalized=" + features.finalizedFeatures().get(feature) + " supported=" + features.supportedFeatures().get(feature);
            });
        }
        tell("describeFeatures, epoch", () -> get(admin.describeFeatures().featureMetadata()).finalizedFeaturesEpoch().isPresent());
        tell("updateFeatures, same", () -> update("group.version", 1, FeatureUpdate.UpgradeType.UPGRADE));
        tell("updateFeatures, too high", () -> update("group.version", 9, FeatureUpdate.UpgradeType.UPGRADE));
        tell("updateFeatures, unknown", () -> update("no.such.feature", 1, FeatureUpdate.UpgradeType.UPGRADE));
        tell("updateFeatures, down", () -> update("group.version", 0, FeatureUpdate.UpgradeType.SAFE_DOWNGRADE));
        tell("describeFeatures, down", () -> {
            Thread.sleep(1000);
            return get(admin.describeFeatures().featureMetadata()).finalizedFeatures().get("group.version");
        });
        tell("updateFeatures, up", () -> update("group.version", 1, FeatureUpdate.UpgradeType.UPGRADE));
        tell("describeMetadataQuorum", () -> {
            QuorumInfo quorum = get(admin.describeMetadataQuorum().quorumInfo());
            return "leader=" + quorum.leaderId() + " epoch>0=" + (quorum.leaderEpoch() > 0) + " offset>0=" + (quorum.highWatermark() > 0)
                + " voters=" + quorum.voters().stream().map(voter -> voter.replicaId() + " end>0=" + (voter.logEndOffset() > 0)
                    + " fetched=" + voter.lastFetchTimestamp().isPresent()).toList()
                + " observers=" + quorum.observers().size() + " nodes=" + quorum.nodes().keySet();
        });
        tell("unregisterBroker that is not there", () -> get(admin.unregisterBroker(77).all()));
        tell("clientInstanceId", () -> admin.clientInstanceId(Duration.ofSeconds(5)) != null);
    }

    static Consumer<String, String> member(String group, String protocol) {
        Map<String, Object> properties = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", group, "group.protocol",
            protocol, "auto.offset.reset", "earliest", "enable.auto.commit", "false", "client.id", "member"));
        Consumer<String, String> consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(T));
        return consumer;
    }

    static String described(ConsumerGroupDescription group) {
        return group.groupId() + " " + group.type() + " " + group.groupState() + " simple=" + group.isSimpleConsumerGroup() + " assignor="
            + group.partitionAssignor() + " operations=" + sorted(group.authorizedOperations()) + " epochs=" + group.groupEpoch().isPresent()
            + "," + group.targetAssignmentEpoch().isPresent() + " members=" + group.members().stream()
                .map(member -> member.clientId() + " " + member.groupInstanceId() + " "
                    + member.assignment().topicPartitions().stream().map(String::valueOf).sorted().toList()
                    + " target=" + member.targetAssignment().map(t -> t.topicPartitions().size())
                    + " epoch=" + member.memberEpoch().isPresent() + " upgraded=" + member.upgraded()).toList();
    }

    static void groups() throws Exception {
        for (String protocol : List.of("classic", "consumer")) {
            String group = "group-" + protocol;
            try (Consumer<String, String> consumer = member(group, protocol)) {
                int[] seen = {0};
                waitFor("records in " + group, () -> (seen[0] += consumer.poll(Duration.ofMillis(200)).count()) >= 7);
                consumer.commitSync(Map.of(P0, new OffsetAndMetadata(5, Optional.of(0), "a note")));
                tell(protocol + ": describeConsumerGroups", () -> described(get(admin.describeConsumerGroups(List.of(group)).all()).get(group)));
                tell(protocol + ": deleteConsumerGroups, in use", () -> each(admin.deleteConsumerGroups(List.of(group)).deletedGroups()));
                tell(protocol + ": deleteConsumerGroupOffsets, in use", () -> get(admin.deleteConsumerGroupOffsets(group, Set.of(P0)).partitionResult(P0)));
                tell(protocol + ": alterConsumerGroupOffsets, in use", () -> get(admin.alterConsumerGroupOffsets(group,
                    Map.of(P0, new OffsetAndMetadata(1))).all()));
                tell(protocol + ": describeClassicGroups", () -> {
                    ClassicGroupDescription classic = get(admin.describeClassicGroups(List.of(group)).all()).get(group);
                    return classic.protocol() + " " + classic.protocolData() + " " + classic.state() + " " + classic.members().size();
                });
                tell(protocol + ": removeMembersFromConsumerGroup, nobody", () -> get(admin.removeMembersFromConsumerGroup(group,
                    new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("nobody")))).all()));
                tell(protocol + ": removeMembersFromConsumerGroup, all", () -> get(admin.removeMembersFromConsumerGroup(group,
                    new RemoveMembersFromConsumerGroupOptions()).all()));
                tell(protocol + ": describeConsumerGroups, members removed", () -> get(admin.describeConsumerGroups(List.of(group))
                    .all()).get(group).members().size());
            }
            tell(protocol + ": listConsumerGroupOffsets", () -> get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()));
        }
        waitFor("the groups to be empty", () -> get(admin.describeConsumerGroups(List.of("group-classic", "group-consumer")).all())
            .values().stream().allMatch(group -> group.groupState() == GroupState.EMPTY));
        tell("listGroups", () -> get(admin.listGroups().all()).stream().map(group -> group.groupId() + " " + group.type() + " "
            + group.protocol() + " " + group.groupState()).sorted().toList());
        tell("listGroups, classic", () -> get(admin.listGroups(new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))).all()).stream()
            .map(GroupListing::groupId).sorted().toList());
        tell("listGroups, stable", () -> get(admin.listGroups(new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE))).all()));
        tell("describeConsumerGroups, nowhere", () -> each(admin.describeConsumerGroups(List.of("no-group")).describedGroups()));
        tell("describeConsumerGroups, empty", () -> described(get(admin.describeConsumerGroups(List.of("group-classic"),
            new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).all()).get("group-classic")));
        tell("listConsumerGroupOffsets, nowhere", () -> get(admin.listConsumerGroupOffsets("no-group").partitionsToOffsetAndMetadata()));
        tell("alterConsumerGroupOffsets", () -> get(admin.alterConsumerGroupOffsets("group-classic",
            Map.of(P0, new OffsetAndMetadata(4, Optional.empty(), "moved"))).all()));
        tell("alterConsumerGroupOffsets, nowhere", () -> get(admin.alterConsumerGroupOffsets("group-classic",
            Map.of(NOWHERE, new OffsetAndMetadata(4))).partitionResult(NOWHERE)));
        tell("alterConsumerGroupOffsets, new group", () -> get(admin.alterConsumerGroupOffsets("group-new",
            Map.of(P0, new OffsetAndMetadata(2))).all()));
        tell("listConsumerGroupOffsets after it", () -> get(admin.listConsumerGroupOffsets("group-classic").partitionsToOffsetAndMetadata()));
        tell("deleteConsumerGroupOffsets", () -> get(admin.deleteConsumerGroupOffsets("group-classic", Set.of(P0)).partitionResult(P0)));
        tell("deleteConsumerGroupOffsets, nowhere", () -> get(admin.deleteConsumerGroupOffsets("no-group", Set.of(P0)).partitionResult(P0)));
        tell("removeMembersFromConsumerGroup", () -> get(admin.removeMembersFromConsumerGroup("group-classic",
            new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("nobody")))).all()));
        tell("deleteConsumerGroups", () -> each(admin.deleteConsumerGroups(List.of("group-classic", "group-consumer", "group-new", "no-group")).deletedGroups()));
    }

    // What a Kafka has that is configured for it: access lists, quotas, credentials, transactions.
    static void notForEveryone() throws Exception {
        tell("describeAcls", () -> get(admin.describeAcls(AclBindingFilter.ANY).values()));
        tell("createAcls", () -> each(admin.createAcls(List.of(new AclBinding(new ResourcePattern(ResourceType.TOPIC, "x", PatternType.LITERAL),
            new AccessControlEntry("User:a", "*", AclOperation.READ, AclPermissionType.ALLOW)))).values()));
        tell("deleteAcls", () -> get(admin.deleteAcls(List.of(AclBindingFilter.ANY)).all()));
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of("client-id", "c"));
        tell("alterClientQuotas", () -> each(admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity,
            List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e9))))).values()));
        tell("alterClientQuotas, refused", () -> each(admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity,
            List.of(new ClientQuotaAlteration.Op("no_such_quota", 1.0))))).values()));
        // The controller has them; the broker that is asked hears of it a moment later.
        waitFor("the quotas", () -> !get(admin.describeClientQuotas(ClientQuotaFilter.all()).entities()).isEmpty());
        tell("describeClientQuotas", () -> get(admin.describeClientQuotas(ClientQuotaFilter.all()).entities()));
        tell("describeUserScramCredentials", () -> get(admin.describeUserScramCredentials().all()));
        tell("describeDelegationToken", () -> get(admin.describeDelegationToken().delegationTokens()));
        tell("listTransactions", () -> get(admin.listTransactions().all()));
        tell("describeTransactions", () -> each(Map.of("x", admin.describeTransactions(List.of("x")).description("x"))));
        tell("describeShareGroups", () -> each(admin.describeShareGroups(List.of("x")).describedGroups()));
        tell("describeStreamsGroups", () -> each(admin.describeStreamsGroups(List.of("x")).describedGroups()));
        tell("addRaftVoter", () -> get(admin.addRaftVoter(9, Uuid.ZERO_UUID, Set.of(new RaftVoterEndpoint("X", "localhost", 1))).all()));
        tell("removeRaftVoter", () -> get(admin.removeRaftVoter(9, Uuid.ZERO_UUID).all()));
    }

    static void end() {
        tell("deleteTopics", () -> get(admin.deleteTopics(List.of(T)).all()));
        tell("deleteTopics, refused", () -> each(admin.deleteTopics(List.of("nowhere")).topicNameValues()));
        tell("deleteTopics, id", () -> each(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(new Uuid(7, 7)))).topicIdValues()));
    }

    // ALLOWED holds lines: call, reason; separated by tabs. Each must be seen, but for those with "?".
    static boolean compare(Path kafka, Path ottla, Path allowed) throws Exception {
        Map<String, String> theirs = read(kafka);
        Map<String, String> ours = read(ottla);
        Map<String, String> reasons = new TreeMap<>();
        for (String line : Files.readAllLines(allowed)) {
            if (!line.isBlank() && !line.startsWith("#")) {
                String[] fields = line.split("\t+", 2);
                if (fields.length < 2 || fields[1].isBlank()) {
                    throw new IllegalStateException(allowed + ": without a reason: " + line);
                }
                reasons.put(fields[0], fields[1]);
            }
        }
        Set<String> names = new TreeSet<>(theirs.keySet());
        names.addAll(ours.keySet());
        int equal = 0, explained = 0, refused = 0;
        for (String name : names) {
            String optional = name + "?";
            if (Objects.equals(theirs.get(name), ours.get(name))) {
                equal++;
                if (reasons.containsKey(name)) {
                    refused++;
                    System.out.println("allowed but not seen: " + name);
                }
            } else if (reasons.containsKey(name) || reasons.containsKey(optional)) {
                explained++;
            } else {
                refused++;
                System.out.println(name + "\n    Kafka: " + theirs.get(name) + "\n    Ottla: " + ours.get(name));
            }
        }
        System.out.printf("%d calls equal, %d allowed differences, %d not allowed%n", equal, explained, refused);
        return refused == 0;
    }

    static Map<String, String> read(Path path) throws Exception {
        try (Stream<String> lines = Files.lines(path)) {
            return lines.map(line -> line.split("\t", 2)).filter(line -> line.length == 2)
                .collect(Collectors.toMap(line -> line[0], line -> line[1], (a, b) -> b, TreeMap::new));
        }
    }
}
