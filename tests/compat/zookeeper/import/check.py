"""Fills a ZooKeeper, has its tree copied, and compares the copy. usage: check.py OTTLA FROM TO"""

import json
import subprocess
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import ACL, Id, OPEN_ACL_UNSAFE, make_acl, make_digest_acl

OTTLA, FROM, TO = sys.argv[1:]
SUPER, ALICE = ("digest", "super:secret"), ("digest", "alice:wonder")
NODES = 500


def client(address, *proofs):
    opened = KazooClient(address, auth_data=list(proofs))
    opened.start(20)
    return opened


def fill(source):
    """Returns how many nodes are to be copied."""
    source.create("/app", b"the app")
    source.create("/app/empty", b"")
    source.create("/app/bytes", bytes(range(256)))
    source.create("/app/large", b"x" * 900_000)
    source.create("/app/a name with spaces, Ümläute, 日本", b"named")
    # No data at all, which ZooKeeper tells from empty data.
    source.create("/many", b"")
    for number in range(NODES):
        source.create(f"/many/n{number:04}", b"%d" % number)
    for _ in range(3):
        source.create("/app/sequence-", b"", sequence=True)
    source.create("/deep/" + "/".join("d%d" % depth for depth in range(30)), b"", makepath=True)
    count = 5 + 1 + NODES + 3 + 31
    owner = make_digest_acl("alice", "wonder", all=True)
    local = make_acl("ip", "127.0.0.0/8", read=True, write=True)
    world = make_acl("world", "anyone", read=True)
    source.create("/secret", b"hers", acl=[owner])
    source.create("/secret/within", b"hers too", acl=[owner])
    source.create("/mixed", b"", acl=[owner, local, world])
    source.create("/read-only", b"", acl=[world])
    source.create("/proved", b"", acl=[ACL(31, Id("auth", ""))])
    source.create("/app/session", b"", ephemeral=True)
    return count + 5


def tree_of(reader, path="/"):
    """Data and access lists of all nodes that stay, but for ZooKeeper's own."""
    data, stat = reader.get(path)
    nodes = {path: (data, sorted(map(str, reader.get_acls(path)[0])))}
    for name in reader.get_children(path):
        below = f"{path.rstrip('/')}/{name}"
        if below == "/zookeeper":
            continue
        nodes.update(tree_of(reader, below))
    return {} if stat.ephemeralOwner else nodes


def copy(*flags):
    """Exit code, and what was reported."""
    command = [OTTLA, "coordinator", "--json", "import", "--zookeeper", FROM, "--to", TO, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout) if done.stdout.strip() else {}
    return done.returncode, report, done.stderr


AS_SUPER = ("--zookeeper-auth", SUPER[1], "--auth", SUPER[1])


def what_anyone_may_read_is_copied(source, target, count):
    code, report, said = copy()
    failed = sorted(entry["path"] for entry in report["failed"])
    # What stands below a node that nobody may read is not known either. Of the list of /mixed
    # ZooKeeper hides the hash of alice's password.
    assert (code, failed) == (1, ["/mixed", "/proved", "/secret"]), (code, report, said)
    assert report["copied"] == count - 4, report
    assert [entry["path"] for entry in report["left_out"]] == ["/app/session"], report


def the_rest_is_copied_by_who_may_do_everything(source, target, count):
    code, report, said = copy(*AS_SUPER)
    assert (code, report["copied"]) == (0, 4), (code, report, said)
    assert report["existing"] == count - 4 + 1, report
    expected, got = tree_of(source), tree_of(target)
    differing = [path for path in expected.keys() | got.keys() if expected.get(path) != got.get(path)]
    assert not differing, [(path, expected.get(path), got.get(path)) for path in differing[:5]]


def access_lists_hold(source, target, _count):
    nobody, alice = client(TO), client(TO, ALICE)
    for path in ("/secret", "/proved"):
        try:
            nobody.get(path)
            raise AssertionError(f"anyone reads {path}")
        except NoAuthError:
            pass
    assert alice.get("/secret/within")[0] == b"hers too"
    assert nobody.get("/read-only")[0] == b""
    try:
        nobody.set("/read-only", b"not so")
        raise AssertionError("anyone writes /read-only")
    except NoAuthError:
        pass
    nobody.set("/mixed", b"from this machine")
    for one in (nobody, alice):
        one.stop()
        one.close()


def a_second_run_changes_only_what_it_is_told_to(source, target, _count):
    source.set("/app", b"newer")
    source.set_acls("/app", [make_acl("world", "anyone", read=True)])
    source.create("/app/later", b"")
    code, report, said = copy(*AS_SUPER)
    assert (code, report["copied"], report["overwritten"]) == (0, 1, 0), (code, report, said)
    assert target.get("/app")[0] == b"the app" and target.get_acls("/app")[0] == OPEN_ACL_UNSAFE
    code, report, said = copy(*AS_SUPER, "--overwrite")
    assert (code, report["copied"]) == (0, 0), (code, report, said)
    assert tree_of(source) == tree_of(target)


def a_part_is_copied(source, target, _count):
    target.delete("/many", recursive=True)
    code, report, said = copy(*AS_SUPER, "--path", "/many/n0007")
    assert (code, report["copied"]) == (0, 1), (code, report, said)
    assert target.get_children("/many") == ["n0007"]


def main():
    source, target = client(FROM, SUPER, ALICE), client(TO, SUPER)
    count = fill(source)
    checks = [what_anyone_may_read_is_copied, the_rest_is_copied_by_who_may_do_everything,
              access_lists_hold, a_second_run_changes_only_what_it_is_told_to, a_part_is_copied]
    failed = 0
    for check in checks:
        try:
            check(source, target, count)
        except AssertionError as error:
            failed += 1
            print(f"FAILED {check.__name__}: {error}")
    for one in (source, target):
        one.stop()
        one.close()
    print(f"import: {len(checks) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
