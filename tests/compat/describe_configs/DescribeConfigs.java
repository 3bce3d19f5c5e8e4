// What DescribeConfigs answers, as lines that can be compared.
//
//   dump BOOTSTRAP                  a section for each of several states of a topic and a broker
//   compare KAFKA OTTLA ALLOWED     two dumps; differences must be named, with a reason, in ALLOWED
//
// A line is: section, key, value, source, type, read-only?, sensitive?, synonyms; separated by tabs.

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.ConfigResource.Type;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

public class DescribeConfigs {
    static final String[] FIELDS =
        {"section", "key", "value", "source", "type", "read-only", "sensitive", "synonyms"};

    public static void main(String[] args) throws Exception {
        if (args.length == 2 && args[0].equals("dump")) {
            dump(args[1]);
        } else if (args.length == 4 && args[0].equals("compare")) {
            System.exit(compare(Path.of(args[1]), Path.of(args[2]), Path.of(args[3])) ? 0 : 1);
        } else {
            System.err.println("usage: dump BOOTSTRAP | compare KAFKA OTTLA ALLOWED");
            System.exit(2);
        }
    }

    static Admin admin;

    static void dump(String bootstrap) throws Exception {
        try (Admin opened = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin = opened;
            String id = admin.describeCluster().nodes().get().iterator().next().idString();
            ConfigResource plain = new ConfigResource(Type.TOPIC, "describe-configs");
            ConfigResource set = new ConfigResource(Type.TOPIC, "describe-configs-set");
            ConfigResource broker = new ConfigResource(Type.BROKER, id);
            ConfigResource all = new ConfigResource(Type.BROKER, "");
            create(plain.name(), Map.of());
            create(set.name(), Map.of("segment.bytes", "1048576", "cleanup.policy", "compact,delete",
                "retention.ms", " 5000", "min.cleanable.dirty.ratio", "1"));

            print("topic", plain);
            print("topic with settings", set);
            print("broker", broker);

            alter(set, OpType.SUBTRACT, "cleanup.policy", "delete");
            alter(set, OpType.APPEND, "leader.replication.throttled.replicas", "0:1");
            alter(all, OpType.SET, "log.retention.ms", "3600000");
            alter(all, OpType.SET, "log.cleaner.min.cleanable.ratio", "0.25");
            alter(broker, OpType.SET, "log.retention.ms", "7200000");
            alter(broker, OpType.APPEND, "log.cleanup.policy", "compact");
            alter(broker, OpType.SET, "leader.replication.throttled.rate", "1000");
            alter(broker, OpType.SET, "listener.name.plaintext.ssl.keystore.type", "PEM");
            print("topic, changed", plain);
            print("topic with settings, changed", set);
            print("broker, changed", broker);
            print("all brokers, changed", all);

            alter(all, OpType.DELETE, "log.retention.ms", "");
            alter(all, OpType.DELETE, "log.cleaner.min.cleanable.ratio", "");
            alter(broker, OpType.DELETE, "log.retention.ms", "");
            alter(broker, OpType.DELETE, "log.cleanup.policy", "");
            alter(broker, OpType.DELETE, "leader.replication.throttled.rate", "");
            alter(broker, OpType.DELETE, "listener.name.plaintext.ssl.keystore.type", "");
            print("topic, changed back", plain);
            admin.deleteTopics(List.of(plain.name(), set.name())).all().get();
        }
    }

    static void create(String topic, Map<String, String> configs) throws Exception {
        try {
            admin.deleteTopics(List.of(topic)).all().get();
            waitFor(() -> !admin.listTopics().names().get().contains(topic));
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof UnknownTopicOrPartitionException)) {
                throw error;
            }
        }
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(configs))).all().get();
        waitFor(() -> admin.listTopics().names().get().contains(topic));
    }

    // A change is not seen at once: waits until the resource tells another value or source.
    static void alter(ConfigResource resource, OpType op, String key, String value) throws Exception {
        String before = line("", entry(resource, key));
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry(key, value), op);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
        waitFor(() -> !line("", entry(resource, key)).equals(before));
    }

    static Optional<ConfigEntry> entry(ConfigResource resource, String key) throws Exception {
        return Optional.ofNullable(describe(resource).get(key));
    }

    static Config describe(ConfigResource resource) throws Exception {
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true);
        return admin.describeConfigs(List.of(resource), options).all().get().get(resource);
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static void waitFor(Condition condition) throws Exception {
        for (long end = System.nanoTime() + 20_000_000_000L; !condition.holds(); Thread.sleep(20)) {
            if (System.nanoTime() > end) {
                throw new IllegalStateException("a change was not seen within 20 seconds");
            }
        }
    }

    static void print(String section, ConfigResource resource) throws Exception {
        TreeMap<String, String> lines = new TreeMap<>();
        for (ConfigEntry entry : describe(resource).entries()) {
            lines.put(entry.name(), line(section, Optional.of(entry)));
        }
        lines.values().forEach(System.out::println);
    }

    static String line(String section, Optional<ConfigEntry> found) {
        return found.map(entry -> String.join("\t", section, entry.name(), String.valueOf(entry.value()),
            entry.source().name(), entry.type().name(), String.valueOf(entry.isReadOnly()),
            String.valueOf(entry.isSensitive()), entry.synonyms().stream()
                .map(synonym -> synonym.name() + "=" + synonym.value() + "@" + synonym.source())
                .collect(Collectors.joining(" ; ")))).orElse("");
    }

    // ALLOWED holds lines: key, fields or "missing" or "added", reason; separated by tabs. A rule must
    // apply to some difference, unless its key ends with a question mark.
    static boolean compare(Path kafka, Path ottla, Path allowed) throws Exception {
        Map<String, String[]> theirs = read(kafka);
        Map<String, String[]> ours = read(ottla);
        List<String[]> rules = new ArrayList<>();
        for (String line : Files.readAllLines(allowed)) {
            if (!line.isBlank() && !line.startsWith("#")) {
                rules.add(line.split("\t+", 3));
                if (rules.get(rules.size() - 1).length < 3) {
                    throw new IllegalStateException(allowed + ": without a reason: " + line);
                }
            }
        }
        Set<String[]> used = new LinkedHashSet<>();
        List<String> refused = new ArrayList<>();
        Set<String> names = new TreeSet<>(theirs.keySet());
        names.addAll(ours.keySet());
        int equal = 0;
        for (String name : names) {
            Map<String, String> differences = differences(theirs.get(name), ours.get(name));
            equal += differences.isEmpty() ? 1 : 0;
            String key = name.split("\t")[1];
            differences.forEach((field, text) -> {
                Optional<String[]> rule = rules.stream()
                    .filter(each -> each[0].replace("?", "").equals(key))
                    .filter(each -> List.of(each[1].split(",")).contains(field))
                    .findFirst();
                rule.ifPresentOrElse(used::add,
                    () -> refused.add(name.replace("\t", ": ") + ": " + field + ": " + text));
            });
        }
        refused.forEach(System.out::println);
        rules.stream().filter(rule -> !rule[0].endsWith("?") && !used.contains(rule))
            .forEach(rule -> refused.add("allowed but not seen: " + rule[0] + " " + rule[1]));
        refused.stream().filter(text -> text.startsWith("allowed")).forEach(System.out::println);
        System.out.printf("%d lines equal, %d allowed differences, %d not allowed%n",
            equal, names.size() - equal, refused.size());
        return refused.isEmpty();
    }

    static Map<String, String> differences(String[] theirs, String[] ours) {
        if (theirs == null) {
            return Map.of("added", "not in Kafka: " + String.join(" ", ours));
        }
        if (ours == null) {
            return Map.of("missing", "only in Kafka: " + String.join(" ", theirs));
        }
        Map<String, String> differences = new TreeMap<>();
        for (int field = 2; field < FIELDS.length; field++) {
            if (!theirs[field].equals(ours[field])) {
                differences.put(FIELDS[field], "Kafka " + theirs[field] + ", Ottla " + ours[field]);
            }
        }
        return differences;
    }

    static Map<String, String[]> read(Path path) throws Exception {
        Map<String, String[]> lines = new TreeMap<>();
        for (String line : Files.readAllLines(path)) {
            String[] fields = line.split("\t", -1);
            if (fields.length != FIELDS.length) {
                throw new IllegalStateException(path + ": not a line of a dump: " + line);
            }
            lines.put(fields[0] + "\t" + fields[1], fields);
        }
        return lines;
    }
}
