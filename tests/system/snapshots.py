#!/usr/bin/env python3
"""Snapshots and the past: states of a changing tree are kept outside and compared with .snap/NAME, .snap/@TIME and mounts
of an instant; after the death of workers, a restart and a new mount; restoring, versions, differences; as an ordinary
user. Names of snapshots do not reach the disk. seed: BAZIL_SEED.
"""
import json
import os
import random
import time

import harness
from accounting import churn
from deaths import settle
from harness import check, say

STATES = 6
SECRET = "unseenSnapshotName"


def compare(node, past, state, what):
    node.sh(f"diff -r --no-dereference -x fifo {past} {state}")
    lines = node.tree("differences", os.path.join(node.home, past), os.path.join(node.home, state))
    check(lines == [], f"{what}: {lines}")


def stamp(ns):
    return f"{ns // 10**9}.{ns % 10**9:09}"


def compare_all(node, times, what):
    for i, ns in enumerate(times):
        compare(node, f"mnt/.snap/{SECRET}{i}", f"states/{i}", f"{what}, snapshot {i}")
        compare(node, f"mnt/.snap/@{stamp(ns)}", f"states/{i}", f"{what}, instant {i}")
    say(f"{what}: {len(times)} states are as they were")


def make_states(node, rng):
    times = []
    node.sh("mkdir mnt/churn states; echo 1 >mnt/keep; ln -s keep mnt/link; mkfifo mnt/fifo")
    for i in range(STATES):
        churn(node, os.path.join(node.home, "mnt/churn"), rng.randrange(2**32), 0.6)
        node.sh(f"echo {i} >>mnt/keep; head -c {300000 + i} /dev/urandom >mnt/big; setfattr -n user.n -v {i} mnt/keep")
        node.bazil("snapshot", "create", "myfiles", f"{SECRET}{i}")
        times.append(time.time_ns())
        node.sh(f"cp -a mnt/. states/{i}")
    return times


def test_rules(node):
    node.sh("test -d mnt/.snap && ! ls -A mnt | grep -q snap")
    for script, error in (("mkdir mnt/.snap", "File exists"), ("mv mnt/keep mnt/.snap", "ead-only"),
                          ("mv mnt/.snap mnt/x", "not permitted"), ("rmdir mnt/.snap", "not permitted"),
                          ("touch mnt/.snap/x", "ead-only"), (f"touch mnt/.snap/{SECRET}0/x", "ead-only"),
                          (f"echo x >>mnt/.snap/{SECRET}0/keep", "ead-only"), (f"rm mnt/.snap/{SECRET}0/keep", "ead-only"),
                          (f"mkdir mnt/.snap/{SECRET}0/x", "ead-only"), (f"chmod 700 mnt/.snap/{SECRET}0/keep", "ead-only"),
                          (f"setfattr -n user.n -v x mnt/.snap/{SECRET}0/keep", "ead-only"),
                          (f"mv mnt/.snap/{SECRET}0/keep mnt/moved", "ead-only"), ("mkdir mnt/.snap/@now", "Invalid"),
                          (f"mkdir mnt/.snap/{SECRET}0", "File exists"), ("ls mnt/.snap/none", "No such file"),
                          ("ls mnt/.snap/@2001-01-01", "No such file"), ("ls mnt/.snap/@nonsense", "No such file"),
                          ("rmdir mnt/.snap/none", "No such file")):
        r = node.command(["bash", "-c", f"LC_ALL=C {script}"])
        check(r.returncode != 0 and error in r.stderr, f"{script}: {r.returncode} {r.stderr}")
    # Who may look into the root may look into .snap.
    node.sh("""
        set -e; cd mnt; old=$(stat -c %a .)
        chmod 700 .; test $(stat -c %a .snap) = 700
        setfacl -m u:nobody:rx .; test "$(stat -c %a .) $(stat -c %a .snap)" = '750 750'
        getfacl -c .snap | grep -q '^user:nobody:r-x'
        setfacl -b .; test "$(stat -c %a .) $(stat -c %a .snap)" = '700 700'
        chmod $old .; test $(stat -c %a .snap) = $old
    """)
    # A file as it was is another file than the one of now: cp and diff must not take them for the same.
    node.sh(f"cp mnt/.snap/{SECRET}0/keep mnt/keep; cmp mnt/keep states/0/keep && ! diff -q mnt/.snap/{SECRET}1/keep mnt/keep >/dev/null")


def test_commands(node, times):
    listed = json.loads(node.bazil("snapshot", "list", "-json", "myfiles"))
    check([x["name"] for x in listed] == [f"{SECRET}{i}" for i in range(STATES)], f"list: {listed}")
    check(all(x["ns"] <= t and (i == 0 or x["ns"] > times[i - 1]) for i, (x, t) in enumerate(zip(listed, times))),
          f"times: {listed} {times}")
    node.fails("snapshot", "create", "myfiles", f"{SECRET}0", says="already")
    node.fails("snapshot", "create", "myfiles", "a/b", status=2, says="not a name")
    node.fails("snapshot", "remove", "myfiles", "none", says=("none", "snapshot list"))
    node.fails("snapshot", "list", "other", says=("other", "not mounted", "volume mount"))
    node.fails("restore", "-at=-1h", "-snapshot=x", "mnt/keep", status=2, says="either")
    node.fails("restore", "-at=soon", "mnt/keep", status=2, says=("soon", "2026"))
    node.fails("restore", "-snapshot=none", "mnt/keep", says="none")
    node.fails("log", "states/0/keep", says="not in a mounted volume")

    node.bazil("snapshot", "create", "myfiles", "before")
    node.sh("mkdir mnt/diff && echo a >mnt/diff/a && chmod 600 mnt/keep && rm mnt/link")
    changes = json.loads(node.bazil("snapshot", "diff", "-json", "myfiles", "before"))
    told = sorted((x["change"], x["path"]) for x in changes)
    check(told == [("added", "diff"), ("added", "diff/a"), ("changed", "keep"), ("removed", "link")], f"diff: {told}")
    node.bazil("snapshot", "create", "myfiles", "after")
    check(json.loads(node.bazil("snapshot", "diff", "-json", "myfiles", "before", "after")) == changes, "two snapshots")
    node.bazil("snapshot", "remove", "myfiles", "before")
    node.sh("rmdir mnt/.snap/after && ! ls mnt/.snap | grep -E 'before|after'")


def test_mounts(node, times):
    node.sh("mkdir at1 at2")
    node.bazil("volume", "mount", f"-at={stamp(times[1])}", "myfiles", "at1")
    node.bazil("volume", "mount", f"-snapshot={SECRET}2", "myfiles", "at2")
    for i, name in ((1, "at1"), (2, "at2")):
        compare(node, name, f"states/{i}", f"a mount of instant {i}")
        r = node.command(["touch", f"{name}/x"])
        check(r.returncode != 0 and "ead-only" in r.stderr, f"{name} can be changed: {r.stderr}")
    node.sh("echo more >>mnt/keep")
    for role in ("mountd", "stored"):
        for w in [w for w in node.status()["workers"] if w["role"] == role]:
            os.kill(w["pid"], 9) if os.getuid() == 0 else node.sh(f"kill -9 {w['pid']}")
        settle(node)
        compare(node, "at1", "states/1", f"a mount of an instant after the death of {role}")
    node.fails("volume", "mount", "-at=2001-01-01", "myfiles", "states", says="")
    node.fails("volume", "mount", "myfiles", "states", says="mounted")
    for name in ("at1", "at2"):
        node.bazil("volume", "unmount", os.path.join(node.home, name))
    node.sh("test $(cat mnt/keep | tail -1) = more")
    say("mounts of instants")


def store_bytes(node):
    return json.loads(node.bazil("volume", "status", "-json", "myfiles"))["store_object_bytes"]


def test_restore(node, times):
    node.sh("rm -rf mnt/churn; echo new >mnt/big")
    node.bazil("restore", f"-snapshot={SECRET}3", "mnt/churn")
    compare(node, "mnt/churn", "states/3/churn", "a restored tree")
    node.bazil("restore", f"-at={stamp(times[1])}", "mnt/big")
    node.sh("cmp mnt/big states/1/big")
    node.bazil("restore", f"-at={stamp(times[2])}", "-to=mnt/elsewhere", "mnt/churn")
    compare(node, "mnt/elsewhere", "states/2/churn", "a tree restored elsewhere")
    node.bazil("restore", f"-snapshot={SECRET}4", f"-to={node.home}/outside", "mnt/churn")
    compare(node, "outside", "states/4/churn", "a tree restored out of the mount")
    todo = json.loads(node.bazil("restore", "-json", "-dry-run", f"-snapshot={SECRET}3", "mnt/churn"))
    check(todo == [], f"nothing is to be done: {todo}")

    node.sh("head -c 60000000 /dev/urandom >mnt/large; sha256sum mnt/large >sum; sync -f mnt/large; sleep 3")
    node.bazil("snapshot", "create", "myfiles", "large")
    before = store_bytes(node)
    node.sh("rm mnt/large")
    node.bazil("restore", "mnt/large")
    node.sh("sha256sum -c sum")
    grown = store_bytes(node) - before
    check(grown < 500000, f"restoring 60 MB took {grown} bytes")
    say(f"restoring 60 MB took {grown} bytes of the store")


def test_log(node):
    for i in range(3):
        node.sh(f"head -c {1000 * (i + 1)} /dev/urandom >mnt/versions; python3 -c "
                "\"import os; os.fsync(os.open('mnt/versions', os.O_RDONLY))\"")
    node.sh("chmod 600 mnt/versions; rm mnt/versions")
    log = json.loads(node.bazil("log", "-json", "mnt/versions"))
    sizes = [v["size"] for v in log["versions"] if v["kind"] == "contents"]
    check([s for s in sizes if s] == [1000, 2000, 3000], f"log: {log}")
    names = [v for v in log["versions"] if v["kind"] == "name"]
    check(len(names) == 1 and names[0]["until"] > names[0]["since"], f"log: {names}")
    check(any(v["kind"] == "attributes" and v["mode"] & 0o777 == 0o600 for v in log["versions"]), f"log: {log}")
    text = node.bazil("log", "mnt/versions")
    check("removed" in text and "3000 bytes" in text, text)
    node.bazil("restore", "mnt/versions")
    node.sh("test $(stat -c %s:%a mnt/versions) = 3000:600")
    at = [v for v in log["versions"] if v.get("size") == 2000][0]["since"]
    node.bazil("restore", f"-at={stamp(at)}", "-to=mnt/second", "mnt/versions")
    node.sh("test $(stat -c %s mnt/second) = 2000")
    node.fails("restore", "mnt/versions", status=2, says="-at")
    node.fails("log", "mnt/never-there", says="kept")


def test_deaths(node, times):
    """Who stands in the past stays there."""
    for role in ("mountd", "stored"):
        pid = node.worker(role)["pid"]
        node.sh(f"exec 3<mnt/.snap/{SECRET}0/big; cd mnt/.snap/{SECRET}0/churn; ls >/dev/null; kill -9 {pid}; sleep 0.2; "
                "ls -lR . >/dev/null && cmp - <&3 ../../../../states/0/big && cd ..", timeout=60)
        settle(node)
        compare_all(node, times[:2], f"after the death of {role}")


def test(bench):
    rng = random.Random(harness.seed())
    node = bench.node("white")
    node.bazil("create")
    node.start()
    node.sh("bazil volume create myfiles; mkdir mnt; bazil volume mount myfiles mnt")
    times = make_states(node, rng)
    compare_all(node, times, "at once")
    test_rules(node)
    test_commands(node, times)
    say("commands")
    test_mounts(node, times)
    test_deaths(node, times)
    test_restore(node, times)
    test_log(node)
    say("versions")
    node.stop()
    node.sh(f"! grep -ra {SECRET} {node.data_dir}")
    node.start()
    node.sh("bazil volume mount myfiles mnt")
    compare_all(node, times, "after a restart")


harness.run(test)
