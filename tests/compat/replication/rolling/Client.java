import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A producer with default settings and a group's consumer, with Kafka's own client, until standard input
 * ends.
 *
 * usage: Client BOOTSTRAP TOPIC      prints "ready", then "acknowledged N read N errors N"
 */
public class Client {
    static final Duration PATIENCE = Duration.ofSeconds(60);
    static final AtomicInteger errors = new AtomicInteger();
    static final Set<String> acknowledged = ConcurrentHashMap.newKeySet();
    static final AtomicBoolean stopped = new AtomicBoolean();

    static void note(Exception error) {
        errors.incrementAndGet();
        System.err.println("error: " + error);
    }

    static void produce(String bootstrap, String topic) {
        Properties configs = new Properties();
        configs.put("bootstrap.servers", bootstrap);
        configs.put("key.serializer", StringSerializer.class.getName());
        configs.put("value.serializer", StringSerializer.class.getName());
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(configs)) {
            for (int number = 0; !stopped.get(); number++) {
                String value = Integer.toString(number);
                producer.send(new ProducerRecord<>(topic, value), (metadata, error) -> {
                    if (error == null) {
                        acknowledged.add(value);
                    } else {
                        note(error);
                    }
                });
                Thread.sleep(2);
            }
        } catch (Exception error) {
            note(error);
        }
    }

    public static void main(String[] args) throws Exception {
        Thread producing = new Thread(() -> produce(args[0], args[1]));
        producing.start();
        Thread input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException error) {
                note(error);
            }
            stopped.set(true);
        });
        input.setDaemon(true);
        input.start();
        Properties configs = new Properties();
        configs.put("bootstrap.servers", args[0]);
        configs.put("group.id", args[1] + "-readers");
        configs.put("auto.offset.reset", "earliest");
        configs.put("key.deserializer", StringDeserializer.class.getName());
        configs.put("value.deserializer", StringDeserializer.class.getName());
        Set<String> read = ConcurrentHashMap.newKeySet();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(configs)) {
            consumer.subscribe(List.of(args[1]));
            long end = Long.MAX_VALUE;
            while (System.nanoTime() < end && !(end < Long.MAX_VALUE && read.containsAll(acknowledged))) {
                try {
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                        if (read.isEmpty()) {
                            System.out.println("ready");
                        }
                        read.add(record.value());
                    }
                } catch (Exception error) {
                    note(error);
                }
                if (end == Long.MAX_VALUE && stopped.get()) {
                    producing.join();
                    end = System.nanoTime() + PATIENCE.toNanos();
                }
            }
        }
        read.retainAll(acknowledged);
        System.out.println("acknowledged " + acknowledged.size() + " read " + read.size() + " errors "
            + errors.get());
    }
}
