import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads partition 0 from the start with `client.rack`, and tells how many bytes each broker sent.
 *
 * usage: FromFollower BOOTSTRAP TOPIC RACK RECORDS     prints "NODE BYTES" a line, then "read N"
 */
public class FromFollower {
    public static void main(String[] args) {
        Properties configs = new Properties();
        configs.put("bootstrap.servers", args[0]);
        configs.put("client.rack", args[2]);
        configs.put("key.deserializer", ByteArrayDeserializer.class.getName());
        configs.put("value.deserializer", ByteArrayDeserializer.class.getName());
        int wanted = Integer.parseInt(args[3]);
        int read = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(configs)) {
            TopicPartition partition = new TopicPartition(args[1], 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = System.nanoTime() + Duration.ofSeconds(40).toNanos();
            while (read < wanted && System.nanoTime() < end) {
                read += consumer.poll(Duration.ofMillis(200)).count();
            }
            TreeMap<String, Double> bytes = new TreeMap<>();
            consumer.metrics().forEach((name, metric) -> {
                if (name.group().equals("consumer-node-metrics")
                    && name.name().equals("incoming-byte-total")) {
                    bytes.put(name.tags().get("node-id"), (Double) metric.metricValue());
                }
            });
            bytes.forEach((node, count) ->
                System.out.println(node.replace("node-", "") + " " + count.longValue()));
        }
        System.out.println("read " + read);
    }
}
