#!/usr/bin/env python3
"""Memory stays bounded however large a file or a tree is.

usage: bigfile.py BINDIR [--gib N] [--files N]
--gib N     a file of N GiB (3) written, and read again after a remount, with mountd and stored capped at 300 MiB each: as root
            by a cgroup each, whose page cache counts too; else what they had in memory at most is checked
--files N   instead: N small files made, then walked after a remount, with all processes together below 500 MiB
"""
import os
import sys

import harness
from harness import check, say

CAP = 300 << 20
ALL_CAP = 500 << 20
V1, V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"

# Each MiB of the file is its own: a quarter random, the rest text.
WORK = """
import os, random, sys
what, path, blocks = sys.argv[1], sys.argv[2], int(sys.argv[3])
def block(i):
    line = b'block %012d of a large file, compressible\\n' % i
    return (random.Random(i).randbytes(1 << 18) + line * ((3 << 18) // len(line) + 1))[:1 << 20]
if what == 'write':
    with open(path, 'wb', buffering=0) as f:
        for i in range(blocks):
            assert f.write(block(i)) == 1 << 20
        os.fsync(f.fileno())
elif what == 'read':
    with open(path, 'rb', buffering=0) as f:
        for i in range(blocks):
            assert f.read(1 << 20) == block(i), f'block {i} is wrong'
        assert f.read(1) == b''
        for i in random.Random(1).sample(range(blocks), min(blocks, 200)):
            f.seek((i << 20) + 1000)
            assert f.read(5000) == block(i)[1000:6000], f'block {i} is wrong'
elif what == 'make':
    for d in range((blocks + 999) // 1000):
        os.makedirs(f'{path}/{d // 30}/{d}')
        for i in range(min(1000, blocks - d * 1000)):
            with open(f'{path}/{d // 30}/{d}/file {i}', 'w') as f:
                f.write(f'{d} {i}\\n')
elif what == 'walk':
    n = 0
    for base, dirs, files in os.walk(path):
        for name in files:
            n += os.lstat(os.path.join(base, name)).st_size > 0
    assert n == blocks, n
"""


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return {k: int(v.split()[0]) << 10 for k, v in (line.split(":", 1) for line in f) if v.endswith(" kB\n")}


class Cap:
    """A limit on one process, its page cache included."""

    def __init__(self, bench, name):
        self.dir, self.v2 = None, False
        if os.getuid() != 0:
            return
        if os.path.exists(V1 + "/memory.limit_in_bytes"):
            self.dir = f"{V1}/bazil-{os.getpid()}-{name}"
        elif "memory" in read_text(V2 + "/cgroup.subtree_control"):
            self.dir, self.v2 = f"{V2}/bazil-{os.getpid()}-{name}", True
        if not self.dir:
            return
        try:
            os.mkdir(self.dir)
            self.write("memory.max" if self.v2 else "memory.limit_in_bytes", CAP)
        except OSError as e:
            say(f"no cgroup: {e}")
            self.dir = None
            return
        bench.undo.append(self.remove)

    def write(self, name, value):
        with open(f"{self.dir}/{name}", "w", encoding="ascii") as f:
            f.write(str(value))

    def add(self, pid):
        if self.dir:
            self.write("cgroup.procs", pid)

    def peak(self):
        if not self.dir:
            return None
        return int(read_text(self.dir + ("/memory.peak" if self.v2 else "/memory.max_usage_in_bytes")) or 0)

    def remove(self):
        parent = os.path.dirname(self.dir)
        for pid in read_text(self.dir + "/cgroup.procs").split():
            with open(parent + "/cgroup.procs", "w", encoding="ascii") as f:
                f.write(pid)
        os.rmdir(self.dir)


def read_text(path):
    try:
        with open(path, encoding="ascii") as f:
            return f.read()
    except OSError:
        return ""


def mib(n):
    return f"{n / (1 << 20):.0f} MiB"


def work(node, *argv):
    r = node.command(["python3", "-c", WORK, *map(str, argv)], timeout=7200)
    check(r.returncode == 0, f"{argv}: {r.stderr[-2000:]}\n{node.log_text()[-2000:]}")


def report(node, what, caps):
    for w in node.status()["workers"]:
        if w["role"] not in caps:
            continue
        now = status_of(w["pid"])
        peak = caps[w["role"]].peak()
        say(f"{what}: {w['role']}: resident at most {mib(now['VmHWM'])} (now: own {mib(now['RssAnon'])}, shared memory "
            f"{mib(now['RssShmem'])}, files {mib(now['RssFile'])})" +
            (f"; its cgroup at most {mib(peak)} of {mib(CAP)}" if peak is not None else ""))
        check(w["restarts"] == 0, f"{w['role']} died: {w['last_death']}")
        # Mapped files are page cache, which the kernel takes back; a cgroup counts them.
        check(now["RssAnon"] + now["RssShmem"] < CAP, f"{w['role']} has more than {mib(CAP)}")


def big(bench, node, gib):
    caps = {role: Cap(bench, role) for role in ("mountd", "stored")}

    def cap():
        for w in node.status()["workers"]:
            if w["role"] in caps:
                caps[w["role"]].add(w["pid"])
    cap()
    blocks = int(gib * 1024)
    work(node, "write", "mnt/big", blocks)
    report(node, f"{gib} GiB written", caps)
    used = node.sh("du -sm share/bazil/store | cut -f1").strip()
    say(f"{used} MiB on disk")
    node.sh("bazil volume unmount v && bazil volume mount v mnt")
    cap()
    work(node, "read", "mnt/big", blocks)
    report(node, "read and verified", caps)


def small(node, num):
    work(node, "make", "mnt/tree", num)
    say(f"{num} files made")
    node.sh("bazil volume unmount v && bazil volume mount v mnt")
    work(node, "walk", "mnt/tree", num)
    total = 0
    for pid in [node.server.pid] + harness.children(node.server.pid):
        now = status_of(pid)
        own = now.get("RssAnon", 0) + now.get("RssShmem", 0)
        say(f"walked: {read_text(f'/proc/{pid}/comm').strip()}: own {mib(own)}, at most {mib(now.get('VmHWM', 0))}")
        total += own
    say(f"all together {mib(total)}")
    check(total < ALL_CAP, f"more than {mib(ALL_CAP)}")


def option(name, default):
    return float(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def test(bench):
    node = bench.node("node")
    node.bazil("create")
    node.start()
    node.sh("bazil volume create v && mkdir mnt && bazil volume mount v mnt")
    if "--files" in sys.argv:
        small(node, int(option("--files", 0)))
    else:
        big(bench, node, option("--gib", 3.0))
    node.stop()


harness.run(test)
