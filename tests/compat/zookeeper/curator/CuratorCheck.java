import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.CuratorEvent;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.x.async.AsyncCuratorFramework;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/** Curator's framework and recipes against one server or ensemble. usage: CuratorCheck HOST:PORT[,...] */
public final class CuratorCheck {
    private static final long PATIENCE_S = 20;
    private static final String ROOT = "/curator-" + System.nanoTime();
    private static String address;
    private static int passed;
    private static int failed;

    private interface Check {
        void run(CuratorFramework client) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        address = arguments[0];
        check("create, read, change and delete", CuratorCheck::crud);
        check("create modes", CuratorCheck::createModes);
        check("protected creation", CuratorCheck::protectedCreation);
        check("operations in the background", CuratorCheck::background);
        check("access control", CuratorCheck::accessControl);
        check("transactions", CuratorCheck::transactions);
        check("namespace and chroot", CuratorCheck::namespace);
        check("persistent watches", CuratorCheck::watches);
        check("ensemble configuration", CuratorCheck::configuration);
        check("reconnection keeps session and watches", CuratorCheck::reconnection);
        check("LeaderLatch", CuratorCheck::leaderLatch);
        check("LeaderSelector", CuratorCheck::leaderSelector);
        check("InterProcessMutex", CuratorCheck::mutex);
        check("InterProcessReadWriteLock", CuratorCheck::readWriteLock);
        check("InterProcessSemaphoreV2", CuratorCheck::semaphore);
        check("PersistentNode", CuratorCheck::persistentNode);
        check("GroupMember", CuratorCheck::groupMember);
        check("CuratorCache", CuratorCheck::cache);
        check("TreeCache", CuratorCheck::treeCache);
        check("DistributedAtomicLong", CuratorCheck::atomicLong);
        check("SharedCount", CuratorCheck::sharedCount);
        check("barriers", CuratorCheck::barriers);
        check("SimpleDistributedQueue", CuratorCheck::queue);
        check("asynchronous client", CuratorCheck::asynchronous);
        System.out.println("curator: " + passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    private static void check(String name, Check check) {
        try (CuratorFramework client = connect(address)) {
            check.run(client);
            passed++;
        } catch (Throwable problem) {
            failed++;
            System.out.println("FAILED " + name + ": " + problem);
            Arrays.stream(problem.getStackTrace())
                    .filter(frame -> frame.getClassName().startsWith("CuratorCheck"))
                    .forEach(frame -> System.out.println("    at " + frame));
        }
    }

    private static CuratorFramework connect(String to) throws Exception {
        return started(CuratorFrameworkFactory.newClient(to, 10_000, 10_000, new ExponentialBackoffRetry(50, 5)));
    }

    private static CuratorFramework started(CuratorFramework client) throws Exception {
        client.start();
        require(client.blockUntilConnected((int) PATIENCE_S, TimeUnit.SECONDS), "connected");
        return client;
    }

    private static void require(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void equal(Object got, Object wanted, String what) {
        require(got == null ? wanted == null : got.equals(wanted), what + ": got " + got + ", wanted " + wanted);
    }

    private static void eventually(String what, Callable<Boolean> holds) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!holds.call()) {
            require(System.nanoTime() < deadline, what);
            Thread.sleep(10);
        }
    }

    private static <E extends Exception> void refused(Class<E> wanted, Callable<?> attempt) {
        try {
            attempt.call();
        } catch (Exception error) {
            require(wanted.isInstance(error), "refused with " + wanted.getSimpleName() + ", but got " + error);
            return;
        }
        throw new AssertionError("should be refused with " + wanted.getSimpleName());
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] data) {
        return new String(data, StandardCharsets.UTF_8);
    }

    private static <T> T taken(BlockingQueue<T> queue, String what) throws InterruptedException {
        T item = queue.poll(PATIENCE_S, TimeUnit.SECONDS);
        require(item != null, what + " did not come");
        return item;
    }

    /** Ends the client's session at the server, as if it had expired. */
    private static void endSession(CuratorFramework client) throws Exception {
        ZooKeeper own = client.getZookeeperClient().getZooKeeper();
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper other = new ZooKeeper(address, 10_000, event -> connected.countDown(), own.getSessionId(), own.getSessionPasswd());
        require(connected.await(PATIENCE_S, TimeUnit.SECONDS), "a second connection of the session");
        other.close();
    }

    private static void crud(CuratorFramework client) throws Exception {
        String path = ROOT + "/crud/a/b";
        client.create().creatingParentsIfNeeded().forPath(path, bytes("one"));
        refused(KeeperException.NodeExistsException.class, () -> client.create().forPath(path));
        Stat stat = new Stat();
        equal(text(client.getData().storingStatIn(stat).forPath(path)), "one", "data");
        equal(client.setData().withVersion(stat.getVersion()).forPath(path, bytes("two")).getVersion(), 1, "version");
        refused(KeeperException.BadVersionException.class,
                () -> client.setData().withVersion(stat.getVersion()).forPath(path, bytes("stale")));
        client.create().orSetData().forPath(path, bytes("three"));
        equal(text(client.getData().forPath(path)), "three", "data set by orSetData");
        client.setData().compressed().forPath(path, new byte[100_000]);
        equal(client.getData().decompressed().forPath(path).length, 100_000, "length of compressed data");
        equal(client.getChildren().forPath(ROOT + "/crud"), List.of("a"), "children");
        refused(KeeperException.NotEmptyException.class, () -> client.delete().forPath(ROOT + "/crud"));
        client.delete().guaranteed().deletingChildrenIfNeeded().forPath(ROOT + "/crud");
        equal(client.checkExists().forPath(ROOT + "/crud"), null, "a deleted node's stat");
        client.delete().quietly().forPath(ROOT + "/crud");
        client.sync().forPath(ROOT);
        byte[] large = new byte[900_000];
        Arrays.fill(large, (byte) 7);
        client.create().forPath(ROOT + "/large", large);
        require(Arrays.equals(client.getData().forPath(ROOT + "/large"), large), "900,000 bytes come back");
    }

    private static void createModes(CuratorFramework client) throws Exception {
        String parent = ROOT + "/modes";
        client.create().creatingParentContainersIfNeeded().forPath(parent + "/container/child");
        String first = client.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath(parent + "/s-");
        String second = client.create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(parent + "/s-");
        equal(first, parent + "/s-0000000001", "the first sequential node");
        equal(second, parent + "/s-0000000002", "the second");
        Stat stat = new Stat();
        String timed = client.create().withTtl(100_000).storingStatIn(stat)
                .withMode(CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL).forPath(parent + "/ttl-", bytes("x"));
        equal(timed, parent + "/ttl-0000000003", "a node with a time to live");
        equal(stat.getEphemeralOwner(), 0L, "the owner of a node with a time to live");
        try (CuratorFramework other = connect(address)) {
            Stat own = new Stat();
            other.create().storingStatIn(own).withMode(CreateMode.EPHEMERAL).forPath(parent + "/gone");
            equal(own.getEphemeralOwner(), other.getZookeeperClient().getZooKeeper().getSessionId(), "the owner");
            refused(KeeperException.NoChildrenForEphemeralsException.class,
                    () -> other.create().forPath(parent + "/gone/child"));
        }
        equal(client.checkExists().forPath(parent + "/gone"), null, "an ephemeral node of a closed session");
    }

    private static void protectedCreation(CuratorFramework client) throws Exception {
        String path = client.create().creatingParentsIfNeeded().withProtection()
                .withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(ROOT + "/protected/node-");
        require(path.matches(ROOT + "/protected/_c_[0-9a-f-]+-node-0000000000"), path);
    }

    private static void background(CuratorFramework client) throws Exception {
        BlockingQueue<CuratorEvent> events = new LinkedBlockingQueue<>();
        client.create().creatingParentsIfNeeded().forPath(ROOT + "/background");
        for (int i = 0; i < 200; i++) {
            client.create().inBackground((c, event) -> events.add(event)).forPath(ROOT + "/background/" + i, bytes("x"));
        }
        for (int i = 0; i < 200; i++) {
            CuratorEvent event = taken(events, "an answer in the background");
            equal(event.getResultCode(), 0, "result");
            equal(event.getPath(), ROOT + "/background/" + i, "the order of answers");
        }
        client.getChildren().inBackground((c, event) -> events.add(event)).forPath(ROOT + "/background");
        equal(taken(events, "children").getChildren().size(), 200, "children");
        client.getData().inBackground((c, event) -> events.add(event)).forPath(ROOT + "/missing");
        equal(taken(events, "an error").getResultCode(), KeeperException.Code.NONODE.intValue(), "result");
    }

    private static void accessControl(CuratorFramework client) throws Exception {
        String digest = DigestAuthenticationProvider.generateDigest("user:secret");
        List<ACL> acl = List.of(new ACL(ZooDefs.Perms.ALL, new Id("digest", digest)));
        String path = ROOT + "/acl";
        client.create().creatingParentsIfNeeded().withACL(acl).forPath(path, bytes("x"));
        refused(KeeperException.NoAuthException.class, () -> client.getData().forPath(path));
        try (CuratorFramework user = started(CuratorFrameworkFactory.builder().connectString(address)
                .retryPolicy(new ExponentialBackoffRetry(50, 5)).authorization("digest", bytes("user:secret")).build())) {
            equal(text(user.getData().forPath(path)), "x", "data");
            equal(user.getACL().forPath(path), acl, "the list");
            user.create().withACL(ZooDefs.Ids.CREATOR_ALL_ACL).forPath(path + "/own");
            equal(user.getACL().forPath(path + "/own"), acl, "the creator's list");
            user.setACL().withVersion(0).withACL(ZooDefs.Ids.READ_ACL_UNSAFE).forPath(path);
        }
        equal(text(client.getData().forPath(path)), "x", "data that all may read");
        refused(KeeperException.NoAuthException.class, () -> client.setData().forPath(path, bytes("y")));
    }

    private static void transactions(CuratorFramework client) throws Exception {
        String path = ROOT + "/transactions";
        client.create().creatingParentsIfNeeded().forPath(path, bytes("x"));
        List<CuratorTransactionResult> results = client.transaction().forOperations(
                client.transactionOp().check().withVersion(0).forPath(path),
                client.transactionOp().create().forPath(path + "/a", bytes("1")),
                client.transactionOp().create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(path + "/s-"),
                client.transactionOp().setData().withVersion(0).forPath(path + "/a", bytes("2")),
                client.transactionOp().create().forPath(path + "/b"),
                client.transactionOp().delete().forPath(path + "/b"));
        equal(results.size(), 6, "results");
        equal(results.get(2).getResultPath(), path + "/s-0000000001", "a sequential path");
        equal(results.get(3).getResultStat().getVersion(), 1, "a version");
        equal(text(client.getData().forPath(path + "/a")), "2", "data");
        try {
            client.transaction().forOperations(
                    client.transactionOp().setData().forPath(path + "/a", bytes("3")),
                    client.transactionOp().check().withVersion(7).forPath(path),
                    client.transactionOp().delete().forPath(path + "/a"));
            throw new AssertionError("should fail");
        } catch (KeeperException.BadVersionException error) {
            List<Integer> codes = new ArrayList<>();
            error.getResults().forEach(result -> codes.add(((org.apache.zookeeper.OpResult.ErrorResult) result).getErr()));
            equal(codes, List.of(0, -103, -2), "the results of a failed transaction");
        }
        equal(text(client.getData().forPath(path + "/a")), "2", "data after a failed transaction");
    }

    private static void namespace(CuratorFramework client) throws Exception {
        CuratorFramework inside = client.usingNamespace(ROOT.substring(1) + "/space");
        inside.create().creatingParentsIfNeeded().forPath("/x/y", bytes("z"));
        equal(text(client.getData().forPath(ROOT + "/space/x/y")), "z", "data in a namespace");
        try (CuratorFramework rooted = connect(address + ROOT + "/space")) {
            BlockingQueue<String> paths = new LinkedBlockingQueue<>();
            equal(text(rooted.getData().usingWatcher((Watcher) event -> paths.add(event.getPath())).forPath("/x/y")), "z", "data");
            client.setData().forPath(ROOT + "/space/x/y", bytes("w"));
            equal(taken(paths, "an event"), "/x/y", "the event's path");
            String made = rooted.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/x/s-");
            equal(made, "/x/s-0000000001", "a path below a chroot");
        }
    }

    private static void watches(CuratorFramework client) throws Exception {
        String path = ROOT + "/watches";
        client.create().creatingParentsIfNeeded().forPath(path);
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        Watcher watcher = event -> events.add(event.getType() + " " + event.getPath());
        client.watchers().add().withMode(AddWatchMode.PERSISTENT_RECURSIVE).usingWatcher(watcher).forPath(path);
        client.create().forPath(path + "/a");
        client.create().forPath(path + "/a/b");
        client.setData().forPath(path + "/a/b", bytes("x"));
        client.delete().forPath(path + "/a/b");
        for (String wanted : List.of("NodeCreated " + path + "/a", "NodeCreated " + path + "/a/b",
                "NodeDataChanged " + path + "/a/b", "NodeDeleted " + path + "/a/b")) {
            equal(taken(events, wanted), wanted, "an event");
        }
        client.watchers().remove(watcher).forPath(path);
        equal(taken(events, "the removal"), EventType.PersistentWatchRemoved + " " + path, "an event");
        client.setData().forPath(path + "/a", bytes("x"));
        refused(KeeperException.NoWatcherException.class, () -> client.watchers().removeAll().forPath(path + "/a"));
        require(events.isEmpty(), "nothing comes after the removal");
    }

    private static void configuration(CuratorFramework client) throws Exception {
        require(client.getConfig().forEnsemble() != null, "/zookeeper/config can be read");
        require(client.getChildren().forPath("/zookeeper").contains("quota"), "/zookeeper/quota is there");
    }

    private static void reconnection(CuratorFramework client) throws Exception {
        String path = ROOT + "/reconnection";
        BlockingQueue<ConnectionState> states = new LinkedBlockingQueue<>();
        client.getConnectionStateListenable().addListener((c, state) -> states.add(state));
        client.create().creatingParentsIfNeeded().withMode(CreateMode.EPHEMERAL).forPath(path);
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        client.watchers().add().withMode(AddWatchMode.PERSISTENT).usingWatcher((Watcher) event -> {
            if (event.getType() != EventType.None) {
                events.add(event.getType() + " " + event.getPath());
            }
        }).forPath(path);
        ZooKeeper zooKeeper = client.getZookeeperClient().getZooKeeper();
        BlockingQueue<String> once = new LinkedBlockingQueue<>();
        zooKeeper.getData(path, event -> {
            if (event.getType() != EventType.None) {
                once.add(event.getType() + " " + event.getPath());
            }
        }, null);
        long session = zooKeeper.getSessionId();
        zooKeeper.getTestable().closeSocket();
        while (taken(states, "RECONNECTED") != ConnectionState.RECONNECTED) {
            continue;
        }
        equal(client.getZookeeperClient().getZooKeeper().getSessionId(), session, "the session");
        equal(client.checkExists().forPath(path).getEphemeralOwner(), session, "the owner");
        client.setData().forPath(path, bytes("x"));
        equal(taken(events, "an event of a persistent watch"), "NodeDataChanged " + path, "the event");
        equal(taken(once, "an event of a watch"), "NodeDataChanged " + path, "the event");
    }

    private static void leaderLatch(CuratorFramework client) throws Exception {
        List<CuratorFramework> clients = new ArrayList<>();
        List<LeaderLatch> latches = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            clients.add(connect(address));
            latches.add(new LeaderLatch(clients.get(i), ROOT + "/latch", "id-" + i));
            latches.get(i).start();
        }
        require(latches.get(0).await(PATIENCE_S, TimeUnit.SECONDS) || latches.stream().anyMatch(LeaderLatch::hasLeadership), "a leader");
        for (int round = 0; round < 2; round++) {
            eventually("exactly one leader", () -> latches.stream().filter(LeaderLatch::hasLeadership).count() == 1);
            LeaderLatch leader = latches.stream().filter(LeaderLatch::hasLeadership).findFirst().orElseThrow();
            eventually("all know the leader", () -> latches.stream().allMatch(latch -> id(latch).equals(leader.getId())));
            latches.remove(leader);
            leader.close();
        }
        eventually("the last one leads", () -> latches.get(0).hasLeadership());
        clients.forEach(CuratorFramework::close);
    }

    private static String id(LeaderLatch latch) {
        try {
            return latch.getLeader().getId();
        } catch (Exception error) {
            return "";
        }
    }

    private static void leaderSelector(CuratorFramework client) throws Exception {
        BlockingQueue<Integer> turns = new LinkedBlockingQueue<>();
        AtomicInteger leading = new AtomicInteger();
        List<LeaderSelector> selectors = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            int own = i;
            selectors.add(new LeaderSelector(client, ROOT + "/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework c) {
                    turns.add(leading.incrementAndGet() == 1 ? own : -1);
                    leading.decrementAndGet();
                }
            }));
            selectors.get(i).start();
        }
        Set<Integer> seen = new ConcurrentSkipListSet<>();
        for (int i = 0; i < 3; i++) {
            seen.add(taken(turns, "a turn"));
        }
        equal(seen, Set.of(0, 1, 2), "who had a turn");
        selectors.forEach(LeaderSelector::close);
    }

    private static void contend(int threads, Callable<Void> work) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        List<Future<Void>> all = pool.invokeAll(Collections.nCopies(threads, work), 2 * PATIENCE_S, TimeUnit.SECONDS);
        for (Future<Void> one : all) {
            one.get();
        }
        pool.shutdown();
    }

    private static void mutex(CuratorFramework client) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger turns = new AtomicInteger();
        contend(4, () -> {
            try (CuratorFramework own = connect(address)) {
                InterProcessMutex mutex = new InterProcessMutex(own, ROOT + "/mutex");
                for (int i = 0; i < 10; i++) {
                    require(mutex.acquire(PATIENCE_S, TimeUnit.SECONDS), "the lock");
                    require(mutex.acquire(PATIENCE_S, TimeUnit.SECONDS), "the lock again");
                    require(inside.incrementAndGet() == 1, "alone inside");
                    turns.incrementAndGet();
                    inside.decrementAndGet();
                    mutex.release();
                    mutex.release();
                }
            }
            return null;
        });
        equal(turns.get(), 40, "turns");
        InterProcessMutex held = new InterProcessMutex(client, ROOT + "/held");
        try (CuratorFramework other = connect(address)) {
            InterProcessMutex waiting = new InterProcessMutex(other, ROOT + "/held");
            held.acquire();
            require(!waiting.acquire(200, TimeUnit.MILLISECONDS), "held by another");
            endSession(client);
            require(waiting.acquire(PATIENCE_S, TimeUnit.SECONDS), "the lock of an ended session");
        }
    }

    private static void readWriteLock(CuratorFramework client) throws Exception {
        AtomicInteger readers = new AtomicInteger();
        AtomicInteger writers = new AtomicInteger();
        contend(4, () -> {
            InterProcessReadWriteLock lock = new InterProcessReadWriteLock(client, ROOT + "/rw");
            for (int i = 0; i < 5; i++) {
                require(lock.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS), "the read lock");
                readers.incrementAndGet();
                require(writers.get() == 0, "no writer beside a reader");
                readers.decrementAndGet();
                lock.readLock().release();
                require(lock.writeLock().acquire(PATIENCE_S, TimeUnit.SECONDS), "the write lock");
                require(writers.incrementAndGet() == 1 && readers.get() == 0, "a writer is alone");
                writers.decrementAndGet();
                lock.writeLock().release();
            }
            return null;
        });
    }

    private static void semaphore(CuratorFramework client) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        contend(4, () -> {
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, ROOT + "/semaphore", 2);
            for (int i = 0; i < 5; i++) {
                Lease lease = semaphore.acquire(PATIENCE_S, TimeUnit.SECONDS);
                require(lease != null, "a lease");
                require(inside.incrementAndGet() <= 2, "two at most");
                inside.decrementAndGet();
                semaphore.returnLease(lease);
            }
            return null;
        });
    }

    private static void persistentNode(CuratorFramework client) throws Exception {
        String path = ROOT + "/persistent";
        try (CuratorFramework owner = connect(address);
                PersistentNode node = new PersistentNode(owner, CreateMode.EPHEMERAL, false, path, bytes("mine"))) {
            node.start();
            require(node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS), "created");
            Stat first = client.checkExists().forPath(path);
            client.delete().forPath(path);
            eventually("created again", () -> client.checkExists().forPath(path) != null);
            require(client.checkExists().forPath(path).getCzxid() > first.getCzxid(), "a new node");
            long session = owner.getZookeeperClient().getZooKeeper().getSessionId();
            endSession(owner);
            eventually("created by the next session", () -> {
                Stat stat = client.checkExists().forPath(path);
                return stat != null && stat.getEphemeralOwner() != session;
            });
            equal(text(client.getData().forPath(path)), "mine", "data");
            node.setData(bytes("changed"));
            eventually("changed", () -> text(client.getData().forPath(path)).equals("changed"));
        }
        equal(client.checkExists().forPath(path), null, "the node of a closed owner");
    }

    private static void groupMember(CuratorFramework client) throws Exception {
        GroupMember one = new GroupMember(client, ROOT + "/group", "one", bytes("1"));
        GroupMember two = new GroupMember(client, ROOT + "/group", "two", bytes("2"));
        one.start();
        two.start();
        eventually("both see both", () -> one.getCurrentMembers().size() == 2 && two.getCurrentMembers().size() == 2);
        two.close();
        eventually("one is left", () -> one.getCurrentMembers().keySet().equals(Set.of("one")));
        one.close();
    }

    private static void cache(CuratorFramework client) throws Exception {
        String path = ROOT + "/cache";
        client.create().creatingParentsIfNeeded().forPath(path + "/old", bytes("0"));
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        try (CuratorFramework watcher = connect(address); CuratorCache cache = CuratorCache.build(watcher, path)) {
            CountDownLatch initialized = new CountDownLatch(1);
            cache.listenable().addListener(CuratorCacheListener.builder().forInitialized(initialized::countDown).build());
            cache.start();
            require(initialized.await(PATIENCE_S, TimeUnit.SECONDS), "initialized");
            equal(cache.size(), 2, "size");
            cache.listenable().addListener((type, before, after) ->
                    events.add(type + " " + (after == null ? before.getPath() : after.getPath() + " " + text(after.getData()))));
            client.create().forPath(path + "/new", bytes("1"));
            client.setData().forPath(path + "/new", bytes("2"));
            eventually("cached", () -> cache.get(path + "/new").filter(node -> text(node.getData()).equals("2")).isPresent());
            client.delete().forPath(path + "/old");
            eventually("forgotten", () -> cache.get(path + "/old").isEmpty());
            require(taken(events, "an event").startsWith("NODE_CREATED " + path + "/new"), "the first event");
            eventually("the deletion is told", () -> events.contains("NODE_DELETED " + path + "/old"));
            watcher.getZookeeperClient().getZooKeeper().getTestable().closeSocket();
            client.create().forPath(path + "/while-away", bytes("3"));
            eventually("seen after a reconnection", () -> cache.get(path + "/while-away").isPresent());
            for (int i = 0; i < 300; i++) {
                client.create().inBackground().forPath(path + "/new/" + i, bytes("x"));
            }
            eventually("300 more", () -> cache.size() == 303);
        }
    }

    private static void treeCache(CuratorFramework client) throws Exception {
        String path = ROOT + "/tree";
        client.create().creatingParentsIfNeeded().forPath(path + "/a/b", bytes("0"));
        try (TreeCache cache = new TreeCache(client, path)) {
            cache.start();
            eventually("loaded", () -> cache.getCurrentData(path + "/a/b") != null);
            client.setData().forPath(path + "/a/b", bytes("1"));
            client.create().forPath(path + "/c", bytes("2"));
            eventually("changed", () -> text(cache.getCurrentData(path + "/a/b").getData()).equals("1"));
            eventually("added", () -> cache.getCurrentChildren(path).size() == 2);
        }
    }

    private static void atomicLong(CuratorFramework client) throws Exception {
        contend(4, () -> {
            DistributedAtomicLong own = new DistributedAtomicLong(client, ROOT + "/long", new ExponentialBackoffRetry(5, 20));
            for (int i = 0; i < 10; i++) {
                AtomicValue<Long> value = own.increment();
                require(value.succeeded(), "an increment");
            }
            return null;
        });
        DistributedAtomicLong own = new DistributedAtomicLong(client, ROOT + "/long", new ExponentialBackoffRetry(5, 20));
        equal(own.get().postValue(), 40L, "the sum");
        require(own.compareAndSet(40L, 7L).succeeded(), "compareAndSet");
        require(!own.compareAndSet(40L, 8L).succeeded(), "a stale compareAndSet");
    }

    private static void sharedCount(CuratorFramework client) throws Exception {
        try (CuratorFramework other = connect(address);
                SharedCount one = new SharedCount(client, ROOT + "/count", 5);
                SharedCount two = new SharedCount(other, ROOT + "/count", 5)) {
            one.start();
            two.start();
            one.setCount(9);
            eventually("the other sees it", () -> two.getCount() == 9);
            require(two.trySetCount(two.getVersionedValue(), 10), "set by version");
        }
    }

    private static void barriers(CuratorFramework client) throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(client, ROOT + "/barrier");
        barrier.setBarrier();
        require(!barrier.waitOnBarrier(100, TimeUnit.MILLISECONDS), "set");
        Future<Boolean> waiting = Executors.newSingleThreadExecutor()
                .submit(() -> new DistributedBarrier(client, ROOT + "/barrier").waitOnBarrier(PATIENCE_S, TimeUnit.SECONDS));
        barrier.removeBarrier();
        require(waiting.get(), "removed");
        contend(3, () -> {
            DistributedDoubleBarrier both = new DistributedDoubleBarrier(client, ROOT + "/double", 3);
            require(both.enter(PATIENCE_S, TimeUnit.SECONDS), "entered");
            require(both.leave(PATIENCE_S, TimeUnit.SECONDS), "left");
            return null;
        });
    }

    private static void queue(CuratorFramework client) throws Exception {
        SimpleDistributedQueue queue = new SimpleDistributedQueue(client, ROOT + "/queue");
        for (int i = 0; i < 20; i++) {
            queue.offer(bytes("item " + i));
        }
        for (int i = 0; i < 20; i++) {
            equal(text(queue.poll(PATIENCE_S, TimeUnit.SECONDS)), "item " + i, "the order");
        }
        equal(queue.poll(), null, "an empty queue");
    }

    private static void asynchronous(CuratorFramework client) throws Exception {
        AsyncCuratorFramework async = AsyncCuratorFramework.wrap(client);
        String path = ROOT + "/async";
        client.create().creatingParentsIfNeeded().forPath(path);
        String got = async.create().forPath(path + "/a", bytes("1"))
                .thenCompose(made -> async.setData().forPath(made, bytes("2")))
                .thenCompose(stat -> async.getData().forPath(path + "/a"))
                .thenApply(CuratorCheck::text).toCompletableFuture().get(PATIENCE_S, TimeUnit.SECONDS);
        equal(got, "2", "data");
        var watched = async.watched().getData().forPath(path + "/a");
        watched.toCompletableFuture().get(PATIENCE_S, TimeUnit.SECONDS);
        async.delete().forPath(path + "/a");
        WatchedEvent event = watched.event().toCompletableFuture().get(PATIENCE_S, TimeUnit.SECONDS);
        equal(event.getType(), EventType.NodeDeleted, "the event");
        async.transaction().forOperations(List.of(async.transactionOp().create().forPath(path + "/t")))
                .toCompletableFuture().get(PATIENCE_S, TimeUnit.SECONDS);
        require(client.checkExists().forPath(path + "/t") != null, "made by a transaction");
    }
}
