#!/usr/bin/env python3
"""Garbage collection through a mount: what is deleted gives its room back, beside writers, and with stored killed in the
middle; what is there stays what it is. megabytes: BAZIL_MB (500), seed: BAZIL_SEED.
"""
import json
import os
import random
import threading
import time

import harness
from deaths import Killer
from harness import check, say

# Of the bytes of small files that go, at least this part comes back: what tells of them stays between them, and keeps its blocks.
SMALL_BACK = 0.3

WRITE = """
import hashlib, os, random, sys
path, seed, megabytes, every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
left = megabytes << 20
os.makedirs(path)
i = 0
while left > 0:
    n = min(left, rng.choice([5000, 60000, 300000, 3 << 20, 20 << 20]))
    data = rng.randbytes(n)
    with open(f"{path}/{i:05}-{hashlib.sha256(data).hexdigest()}", "wb") as f:
        f.write(data)
        if i % every == 0:
            f.flush()
            os.fsync(f.fileno())
    left -= n
    i += 1
"""


def write(node, path, seed, megabytes, every=1):
    r = node.command(["python3", "-c", WRITE, path, str(seed), str(megabytes), str(every)], timeout=900)
    check(r.returncode == 0, f"{node.name}: {r.stderr[-2000:]}")


def verify(node, path):
    """Every file is what its name says. Returns how many."""
    num = 0
    listing = node.sh(f"cd {path} && sha256sum -- *", timeout=900)
    for line in listing.splitlines():
        digest, name = line.split(None, 1)
        check(name.split("-")[1] == digest, f"{path}/{name} has {digest}")
        num += 1
    return num


def disk(node):
    """Megabytes of the disk that the objects and the log take."""
    return int(node.sh("du -cm share/bazil/store/arena.* | tail -1").split()[0])


def gc(node, *options, ok=True):
    return json.loads(node.bazil("gc", "-json", *options, timeout=900)) if ok else node.bazil("gc", *options, ok=False)


def want_no_history(node, volume="v"):
    return node.bazil("volume", "retention", volume, "-keep-all=0", "-hourly=0", "-daily=0", "-weekly=0", "-monthly=0", ok=False)


def forget_history(node):
    """Whether the past can be told to go; it takes a moment."""
    r = want_no_history(node)
    if r.returncode != 0:
        return False
    harness.wait_for(lambda: gc(node, "-dry-run")["history"]["objects"] == 0, "history to go", 60)
    return True


def test_dates(node, megabytes):
    """What was deleted a moment ago stays for seven days, what a snapshot has as long as that."""
    dry = gc(node, "-dry-run")
    ages = dry["history_ages"]
    check(dry["history"]["bytes"] > megabytes * 900000, f"history has what was deleted: {dry}")
    check(sum(age["bytes"] for age in ages.values()) == dry["history"]["bytes"], f"all of it is told: {dry}")
    check(ages["snapshots"]["bytes"] == 0 and dry["history_from"] / 1e9 > time.time() + 6.9 * 86400, f"for seven days: {dry}")
    check(dry["history_from"] <= dry["history_until"], f"the last goes before the first: {dry}")
    text = node.bazil("gc", "-dry-run")
    check("objects go within a" in text and "the first not before 20" in text, f"a dry run tells dates: {text}")


def test_room(node, megabytes):
    node.sh("mkdir mnt/keep && cp -r /usr/include mnt/keep/ && sync -f mnt")
    # All that mountd holds is stored.
    gc(node, "-now")
    base = disk(node)
    write(node, "mnt/one", 1, megabytes)
    full = disk(node)
    check(full > base + megabytes * 0.9, f"{megabytes} MB written take {full - base} MB")
    dry = gc(node, "-dry-run")
    check(dry["freed"]["objects"] == 0 and dry["live"]["bytes"] > megabytes * 900000, f"dry run: {dry}")
    node.bazil("volume", "retention", "v", "-keep-all=7d")
    node.sh("rm -r mnt/one && sync -f mnt")
    test_dates(node, megabytes)
    is_past_gone = forget_history(node)
    dry = gc(node, "-dry-run", "-now")
    check(dry["freed"]["objects"] == 0 and disk(node) >= full, f"a dry run frees nothing: {dry}")
    text = node.bazil("gc", "-dry-run")
    check("kept" in text and "files have them" in text, f"a dry run explains: {text}")
    start = time.time()
    done = gc(node, "-now")
    say(f"gc --now took {time.time() - start:.1f} s: {json.dumps(done)}")
    if not is_past_gone:
        check(done["history"]["bytes"] > megabytes * 900000, f"history is gone: {done}")
        check(done["freed"]["objects"] == 0, f"history lost something: {done}")
        say("history keeps it all: no `volume retention` here")
        return
    check(done["freed"]["bytes"] > megabytes * 900000, f"too little was freed: {done}")
    after = disk(node)
    say(f"disk: {base} MB before, {full} MB full, {after} MB after")
    check(after < base + 2 + megabytes * 0.05, f"the room did not come back: {base} {full} {after}")
    node.sh("diff -r --no-dereference /usr/include mnt/keep/include", timeout=300)


SMALL = """
import os, random, sys
path, seed, num = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
for i in range(num):
    if i % 500 == 0:
        os.makedirs(f"{path}/{i // 500}")
    with open(f"{path}/{i // 500}/{i}", "wb") as f:
        f.write(rng.randbytes(rng.randint(1024, 20480)))
"""

HALVE = """
import os, random, sys
rng = random.Random(int(sys.argv[2]))
gone = 0
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        if rng.random() < 0.5:
            gone += os.stat(f"{folder}/{name}").st_size
            os.unlink(f"{folder}/{name}")
print(gone)
"""


def test_small(node, rng, num):
    """Of many small files every second goes: those are alone between changes, so compacting has little to gain."""
    base = disk(node)
    node.command(["python3", "-c", SMALL, "mnt/small", str(rng.randrange(1 << 30)), str(num)], timeout=900)
    node.sh("sync -f mnt")
    gc(node, "-now")
    full = disk(node)
    gone = int(node.command(["python3", "-c", HALVE, "mnt/small", str(rng.randrange(1 << 30))], timeout=900).stdout)
    node.sh("sync -f mnt")
    forget_history(node)
    before = node.sh("cd mnt/small && find . -type f | sort | xargs cat | sha256sum", timeout=600)
    done = gc(node, "-now")
    after = disk(node)
    say(f"{num} small files: {base} MB before, {full} MB with them, {gone >> 20} MB deleted, {after} MB after: {json.dumps(done)}")
    check(done["freed"]["objects"] > num // 4, f"too little was freed: {done}")
    check(full - after > (gone >> 20) * SMALL_BACK, f"the room did not come back: {base} {full} {after}")
    node.sh("echo 3 >/proc/sys/vm/drop_caches", ok=False)
    check(node.sh("cd mnt/small && find . -type f | sort | xargs cat | sha256sum", timeout=600) == before, "small files changed")
    node.sh("rm -r mnt/small")


RENAME = """
import os, sys
for i in range(int(sys.argv[2])):
    os.rename(sys.argv[1], sys.argv[1] + "2")
    os.rename(sys.argv[1] + "2", sys.argv[1])
"""


def log(node):
    """Bytes of the log in sealed arenas: of changes, and of bases."""
    status = json.loads(node.bazil("store", "status", "-json"))
    return status["changes_bytes"], status["bases_bytes"]


def test_log(node, num):
    """A file that is renamed again and again: all that the changes come to is its name."""
    node.sh("echo hello >mnt/renamed")
    before, (had, _) = disk(node), log(node)
    node.command(["python3", "-c", RENAME, "mnt/renamed", str(num)], timeout=900)
    node.sh("sync -f mnt")
    forget_history(node)
    full = disk(node)
    # What is in history is in a base too: it goes first, some of it a second.
    harness.wait_for(lambda: gc(node, "-now")["changes_bytes"] <= had, "the changes to go", 300)
    after, (left, bases) = disk(node), log(node)
    say(f"{num} renames: {before} MB before, {full} MB with them, {after} MB after; changes {had} -> {left}, bases {bases}")
    check(bases > 0, f"there is no base: {had} {left} {bases}")
    check(after < full, "the room did not come back")
    tree = node.sh("cd mnt && ls -lR --time-style=full-iso | sha256sum", timeout=300)
    node.bazil("store", "rebuild-index", "-force", timeout=300)
    check(node.sh("cd mnt && ls -lR --time-style=full-iso | sha256sum", timeout=300) == tree, "a rebuild gives another tree")
    check(node.sh("cat mnt/renamed") == "hello\n", "the file changed")
    # The kernel has it all: the index alone answers now.
    node.bazil("volume", "unmount", "v")
    node.bazil("volume", "mount", "v", "mnt")
    check(node.sh("cd mnt && ls -lR --time-style=full-iso | sha256sum", timeout=300) == tree, "the tree is another one")


def test_beside_writers(node, rng, megabytes):
    """Copies come and go, some with contents that have just died, while garbage is collected without a grace time and stored is
    killed now and then."""
    node.bazil("volume", "create", "w")
    node.sh("mkdir mnt.w")
    node.bazil("volume", "mount", "w", "mnt.w")
    ended = threading.Event()
    seen = {"gc": 0, "refused": 0, "kills": 0, "freed": 0}

    def collector():
        while not ended.is_set():
            # What was deleted meanwhile is history until the next pass of retention: in a second, unless stored is killed.
            want_no_history(node, "w")
            time.sleep(rng.choice([0, 0, 1.2]))
            r = gc(node, "-now", "-json", ok=False)
            if r.returncode == 0:
                seen["gc"] += 1
                seen["freed"] += json.loads(r.stdout)["freed"]["objects"]
            else:
                seen["refused"] += 1
                time.sleep(0.2)

    thread = threading.Thread(target=collector)
    killer = Killer(node, "stored", rng, pause=(1, 3))
    thread.start()
    killer.start()
    try:
        for i in range(100):
            if i >= 8 and killer.kills >= 3 and seen["freed"] > 0:
                break
            seed = rng.choice([10, 11, 12, 100 + i])
            write(node, f"mnt.w/{i}", seed, megabytes // 20, 7)
            if i >= 2:
                node.sh(f"rm -r mnt.w/{i - 2}")
            last = (i - 1, i)
    finally:
        ended.set()
        killer.stop()
        thread.join()
    seen["kills"] = killer.kills
    say(f"beside writers: {seen}")
    check(seen["gc"] >= 2 and seen["kills"] >= 2 and seen["freed"] > 0, f"too little happened: {seen}")
    node.sh("echo 3 >/proc/sys/vm/drop_caches", ok=False)
    for i in last:
        check(verify(node, f"mnt.w/{i}") > 0, "nothing to verify")
    # Read from the store and not from the kernel's memory.
    node.bazil("volume", "unmount", "w")
    node.bazil("volume", "mount", "w", "mnt.w")
    for i in last:
        say(f"{i}: {verify(node, f'mnt.w/{i}')} files verified")
    node.sh("diff -r --no-dereference /usr/include mnt/keep/include", timeout=300)
    return last


def test(bench):
    rng = random.Random(int(os.environ.get("BAZIL_SEED", time.time())))
    megabytes = int(os.environ.get("BAZIL_MB", "500"))
    node = bench.node("one")
    node.bazil("create")
    node.start()
    node.bazil("volume", "create", "v")
    node.sh("mkdir mnt")
    node.bazil("volume", "mount", "v", "mnt")
    forget_history(node)
    test_room(node, megabytes)
    test_small(node, rng, int(os.environ.get("BAZIL_FILES", "20000")))
    test_log(node, int(os.environ.get("BAZIL_RENAMES", "100000")))
    last = test_beside_writers(node, rng, megabytes)
    node.bazil("volume", "unmount", "w")
    node.bazil("volume", "unmount", "v")
    node.stop()
    # Without a server, and from the arenas alone.
    done = gc(node, "-now")
    check(done["live"]["objects"] > 0, f"without a server: {done}")
    node.sh("rm share/bazil/store/index")
    node.start()
    node.bazil("volume", "mount", "v", "mnt")
    node.bazil("volume", "mount", "w", "mnt.w")
    for i in last:
        verify(node, f"mnt.w/{i}")
    node.sh("diff -r --no-dereference /usr/include mnt/keep/include", timeout=300)
    node.bazil("volume", "unmount", "w")
    node.bazil("volume", "unmount", "v")
    node.stop()


harness.run(test)
