#!/usr/bin/env python3
"""Many small files stored together (mountd/group.h): made, written anew, cut, holed and removed; stored by a snapshot, by age, by a full
dirty log and by an unmount; with mountd, stored and keyd killed while it happens. Every file must say what was written, at once and after a new mount.

usage: small_files.py BINDIR; rounds: BAZIL_ROUNDS (12).
"""
import itertools
import os
import random
import signal
import threading
import time

import harness
from harness import check, wait_for
from kills import settle

KIB = 1 << 10


class Files:
    """What was written into the files of a directory."""

    def __init__(self, rng, path, names):
        self.rng, self.path, self.names, self.contents = rng, path, names, {}
        self.shared = [rng.randbytes(rng.randrange(5 * KIB, 90 * KIB)) for _ in range(8)]

    def make(self):
        """A size around each bound: of what is inline, of a chunk, of few chunks, of what a group takes; some have equal contents."""
        what = self.rng.random()
        if what < 0.15:
            return self.rng.choice(self.shared)
        size = self.rng.choice((0, 1, 4096, 4097, 16 * KIB, 64 * KIB + 1, 256 * KIB, 256 * KIB + 1)) if what < 0.35 else self.rng.randrange(1, 60 * KIB)
        return self.rng.randbytes(size) if self.rng.random() < 0.7 else (b"a line of %d\n" % self.rng.randrange(1 << 30)) * (size // 16)

    def change(self):
        name = f"{self.rng.randrange(self.names)}"
        path, old = os.path.join(self.path, name), self.contents.get(name)
        what = self.rng.random()
        if old is None or what < 0.5:
            new = self.make()
            with open(path, "wb") as f:
                f.write(new)
        elif what < 0.65:
            size = self.rng.randrange(len(old) + 1) if what < 0.6 else len(old) + self.rng.randrange(20 * KIB)
            os.truncate(path, size)
            new = old[:size].ljust(size, b"\0")
        elif what < 0.8:
            at, data = self.rng.randrange(len(old) + 9 * KIB), self.rng.randbytes(self.rng.randrange(1, 9 * KIB))
            with open(path, "r+b") as f:
                f.seek(at)
                f.write(data)
            new = old.ljust(at, b"\0")[:at] + data + old[at + len(data):]
        elif what < 0.9:
            os.unlink(path)
            del self.contents[name]
            return
        else:
            os.chmod(path, 0o600)
            os.utime(path, ns=(1, 10**9))
            return
        self.contents[name] = new

    def check(self, when):
        found = sorted(os.listdir(self.path))
        check(found == sorted(self.contents), f"{when}: {set(found) ^ set(self.contents)} should not differ")
        for name, data in self.contents.items():
            with open(os.path.join(self.path, name), "rb") as f:
                check(f.read() == data, f"{when}: {name} of {len(data)} bytes differs")


def counters(node):
    return {c["name"]: c["value"] for c in node.status()["counters"] if c["worker"] == "mountd"}


def killed_while_storing(node, files, victims, rng):
    """A snapshot stores all that is dirty; victims die at some moment of it."""
    name = f"{time.monotonic_ns()}"
    made = threading.Thread(target=node.command, args=(["mkdir", f"mnt/.snap/{name}"],))
    for _ in range(300):
        files.change()
    at_most = rng.choice((0.05, 0.1, 0.2))
    pids = [node.worker(victim)["pid"] for victim in victims]
    made.start()
    for pid in pids:
        time.sleep(rng.uniform(0, at_most))
        os.kill(pid, signal.SIGKILL)
    made.join(120)
    check(not made.is_alive(), f"a snapshot hangs after the death of {victims}")
    files.check(f"{victims} killed while a snapshot was made")
    settle(node)


def changed_while_stored(node, rng):
    """What is written into a file, or cut from it, while a copy of it is on its way into the store."""
    top = os.path.join(node.home, "mnt", "moving")
    os.mkdir(top)
    contents = []
    for n in range(3000):
        contents.append(bytearray(rng.randbytes(rng.choice((700, 9000, 40000)))))
        with open(os.path.join(top, f"{n}"), "wb") as f:
            f.write(contents[n])
        old = max(0, n - rng.randrange(1200))
        with open(os.path.join(top, f"{old}"), "r+b") as f:
            if n % 3 == 0:
                del contents[old][500:]
                f.truncate(500)
            else:
                contents[old][:5] = b"again"
                f.write(b"again")
    for when in ("at once", "mounted anew"):
        for n, data in enumerate(contents):
            with open(os.path.join(top, f"{n}"), "rb") as f:
                check(f.read() == data, f"{when}: moving/{n} differs")
        node.bazil("volume", "unmount", "v")
        node.sh("bazil volume mount v mnt")


def written_on_when_full(node):
    """The write for which room must be made goes on with the file that is stored for that, as the one that is dirty longest."""
    pid, names = node.worker("mountd")["pid"], itertools.count()
    path = os.path.join(node.home, "mnt", "slow")
    slow = [open(f"{path}{n}", "wb", buffering=0) for n in range(40)]
    for f in slow:
        f.write(b"x" * 5000)
    for f in slow:
        for name in itertools.islice(names, 8):
            with open(f"{path}.{name}", "wb") as other:
                other.write(os.urandom(200 * KIB))
        f.write(b"y" * KIB * KIB)
        f.close()
    check(node.worker("mountd")["pid"] == pid, "mountd died")
    for n in range(len(slow)):
        with open(f"{path}{n}", "rb") as f:
            check(f.read() == b"x" * 5000 + b"y" * KIB * KIB, f"{path}{n} differs")


def test(bench):
    rng = random.Random(harness.seed())
    node = bench.mounted("node", user=harness.User())
    node.sh("mkdir mnt/files mnt/new")
    files = Files(rng, os.path.join(node.home, "mnt", "files"), 1500)
    new = Files(rng, os.path.join(node.home, "mnt", "new"), 1 << 30)
    victims = [("mountd",), ("keyd",), ("stored",), ("mountd",), ("keyd", "mountd"), ("mountd", "stored")]
    for n in range(int(os.environ.get("BAZIL_ROUNDS", "12"))):
        killed_while_storing(node, files, victims[n % len(victims)], rng)
        if n % 4 == 3:
            node.bazil("volume", "unmount", "v")
            node.sh("bazil volume mount v mnt")
            files.check("mounted anew")
    pid = node.worker("mountd")["pid"]
    # By age, alone, with nobody asking for it.
    for _ in range(500):
        files.change()
    wait_for(lambda: counters(node)["dirty_files"] == 0, "all files to be stored")
    files.check("stored by age")
    # More than the log has room for, and unmounted at once.
    before = counters(node)
    for _ in range(3000):
        new.change()
    new.check("written")
    check(node.worker("mountd")["pid"] == pid, "mountd died by itself")
    told = {name: value - before[name] for name, value in counters(node).items()}
    node.bazil("volume", "unmount", "v")
    node.sh("bazil volume mount v mnt")
    for each in (files, new):
        each.check("unmounted right after it was written")
    print(f"{len(new.contents)} new files: {told['chunk_keys']} keys in {told['key_calls']} answers", flush=True)
    check(told["key_calls"] * 3 < told["chunk_keys"], "small files are stored together")
    changed_while_stored(node, rng)
    written_on_when_full(node)
    node.bazil("volume", "unmount", "v")
    node.stop()


harness.run(test)
