import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A member of a group that tells what it is given and what it reads, and commits what it has told.
 *
 * usage: Member BOOTSTRAP GROUP TOPIC [config=value...]     ends when its input does
 *
 * Lines: "assigned 0 1", "revoked 0", "lost 1", "read PARTITION OFFSET VALUE", "ready", "closed".
 */
public class Member {
    public static void main(String[] args) throws Exception {
        Properties configs = new Properties();
        configs.put("bootstrap.servers", args[0]);
        configs.put("group.id", args[1]);
        configs.put("auto.offset.reset", "earliest");
        configs.put("enable.auto.commit", "false");
        configs.put("key.deserializer", StringDeserializer.class.getName());
        configs.put("value.deserializer", StringDeserializer.class.getName());
        for (int i = 3; i < args.length; i++) {
            configs.put(args[i].split("=", 2)[0], args[i].split("=", 2)[1]);
        }
        AtomicBoolean done = new AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException ignored) { }
            done.set(true);
        });
        input.setDaemon(true);
        input.start();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(configs)) {
            consumer.subscribe(List.of(args[2]), new Teller());
            say("ready");
            while (!done.get()) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                StringBuilder lines = new StringBuilder();
                for (ConsumerRecord<String, String> record : records) {
                    lines.append("read ").append(record.partition()).append(' ')
                        .append(record.offset()).append(' ').append(record.value()).append('\n');
                }
                if (lines.length() > 0) {
                    System.out.print(lines);
                    System.out.flush();
                    try {
                        consumer.commitSync();
                    } catch (KafkaException moved) {
                        say("not committed: " + moved.getClass().getSimpleName());
                    }
                }
            }
        }
        say("closed");
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static class Teller implements ConsumerRebalanceListener {
        private void say(String what, Collection<TopicPartition> partitions) {
            StringBuilder line = new StringBuilder(what);
            partitions.forEach(partition -> line.append(' ').append(partition.partition()));
            Member.say(line.toString());
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            say("assigned", partitions);
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            say("revoked", partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            say("lost", partitions);
        }
    }
}
