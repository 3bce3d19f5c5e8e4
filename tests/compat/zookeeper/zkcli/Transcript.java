import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.ZooKeeperMain;

/**
 * Runs zkCli's own commands from a script and prints each command, what it printed, and the watch events
 * that every session got because of it. usage: Transcript HOST:PORT SCRIPT
 *
 * A line is a command of session 1; "2> COMMAND" is one of session 2. Sessions are opened at first use.
 * What a command prints comes before the events, whichever thread was faster, and each session answers
 * a `sync` before the next command, so that an event belongs to the command that caused it.
 */
public final class Transcript {
    private static final PrintStream OUT = System.out;
    private static final Sink MAIN = new Sink();
    /** By thread, of which each session has one; the first session's has the lowest number. */
    private static final Map<Long, Sink> EVENTS = new ConcurrentSkipListMap<>();

    /** All that was printed since it was last taken. */
    private static final class Sink extends ByteArrayOutputStream {
        synchronized String take() {
            String text = toString(StandardCharsets.UTF_8);
            reset();
            return text;
        }
    }

    /** Sorts what is printed by the thread that prints it. */
    private static final class Splitter extends java.io.OutputStream {
        @Override
        public void write(int octet) {
            Thread current = Thread.currentThread();
            boolean event = current.getName().contains("EventThread");
            (event ? EVENTS.computeIfAbsent(current.getId(), id -> new Sink()) : MAIN).write(octet);
        }
    }

    /** zkCli, with one session. */
    private static final class Session extends ZooKeeperMain {
        private boolean ended;

        Session(String address) throws IOException, InterruptedException {
            super(new String[] {"-server", address});
        }

        /** Waits until this session has got everything that happened so far. */
        void catchUp() throws InterruptedException {
            if (!zk.getState().isAlive()) {
                // Nothing can be asked any more: let its last event be printed.
                Thread.sleep(ended ? 0 : 300);
                ended = true;
                return;
            }
            CountDownLatch done = new CountDownLatch(1);
            zk.sync("/", (code, path, context) -> done.countDown(), null);
            if (!done.await(30, TimeUnit.SECONDS)) {
                throw new IllegalStateException("a session got no answer for 30 s");
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream splitter = new PrintStream(new Splitter(), true, StandardCharsets.UTF_8);
        System.setOut(splitter);
        System.setErr(splitter);
        Map<Integer, Session> sessions = new TreeMap<>();
        for (String line : Files.readAllLines(Path.of(arguments[1]))) {
            if (line.isBlank() || line.startsWith("#")) {
                continue;
            }
            int number = 1;
            String command = line;
            if (line.matches("\\d> .*")) {
                number = line.charAt(0) - '0';
                command = line.substring(3);
            }
            if (!sessions.containsKey(number)) {
                sessions.put(number, new Session(arguments[0]));
                sessions.get(number).catchUp();
                MAIN.take();
                EVENTS.values().forEach(Sink::take);
            }
            OUT.println(number + "> " + command);
            try {
                sessions.get(number).executeLine(command);
            } catch (Exception error) {
                MAIN.writeBytes(("threw " + error + "\n").getBytes(StandardCharsets.UTF_8));
            }
            for (Session session : sessions.values()) {
                session.catchUp();
            }
            OUT.print(MAIN.take());
            EVENTS.values().forEach(events -> OUT.print(events.take()));
        }
        OUT.flush();
        System.exit(0);
    }
}
