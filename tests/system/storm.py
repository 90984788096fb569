#!/usr/bin/env python3
"""A storm of SIGKILL over the whole system under load.

A client writes, appends, replaces, renames and truncates files in a mount and keeps a journal of what was acknowledged on
another file system. Meanwhile workers are killed: one role again and again, several at once, or the whole server. After each
round everything acknowledged is there: every fsync, every rename, every size. What was on its way may have happened or not,
but not by half. BAZIL_ROUNDS (12), BAZIL_SEED.
"""
import errno
import os
import random
import shutil
import subprocess
import sys
import time

KINDS = ("log", "replace", "name", "size")
FILES = 4
# The server takes a mount down after five deaths of its mountd in 30 seconds.
MOUNTD_DEATHS = 3


def line(i, n):
    """Line n of log i: anybody knows what it is."""
    return f"{i}:{n}:" + "abcdefghij"[(i + n) % 10] * (1 + (i * 7 + n * 13) % 700) + "\n"


def version(i, n):
    """All of version n of file i."""
    return f"version {n} of {i}\n" * (1 + (i * 31 + n * 17) % 9000)


class Client:
    """Runs until it is told to end, or its mount is dead."""

    def __init__(self, top, journal, seed):
        self.top, self.rng = top, random.Random(seed)
        self.state = read_journal(journal)
        self.journal = open(journal, "a", encoding="ascii", buffering=1)

    def path(self, name):
        return os.path.join(self.top, name)

    def sync(self, path):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def write(self, name, text, flags):
        fd = os.open(self.path(name), os.O_WRONLY | os.O_CREAT | flags, 0o600)
        try:
            data = memoryview(text.encode())
            while data:
                data = data[os.write(fd, data):]
            os.fsync(fd)
        finally:
            os.close(fd)

    def log(self, i, n):
        # A line that was on its way when the mount went may be there, whole or in part.
        path = self.path(f"log{i}")
        if os.path.exists(path):
            os.truncate(path, sum(len(line(i, k)) for k in range(1, n)))
        self.write(f"log{i}", line(i, n), os.O_APPEND)

    def replace(self, i, n):
        self.write(f"new{i}", version(i, n), os.O_TRUNC)
        os.rename(self.path(f"new{i}"), self.path(f"replace{i}"))
        self.sync(self.top)

    def name(self, i, n):
        if n == 1:
            self.write(f"name{i}.1", f"named {i}\n", os.O_TRUNC)
        elif not os.path.exists(self.path(f"name{i}.{n}")):
            os.rename(self.path(f"name{i}.{n - 1}"), self.path(f"name{i}.{n}"))
        self.sync(self.path(f"name{i}.{n}"))
        self.sync(self.top)

    def size(self, i, n):
        fd = os.open(self.path(f"size{i}"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, size_of(i, n))
            os.fsync(fd)
        finally:
            os.close(fd)

    def run(self):
        while True:
            kind, i = self.rng.choice(KINDS), self.rng.randrange(FILES)
            done, _ = self.state[kind, i]
            self.journal.write(f"try {kind} {i} {done + 1}\n")
            try:
                getattr(self, kind)(i, done + 1)
            except OSError as e:
                self.journal.write(f"error {kind} {i} {done + 1} {errno.errorcode.get(e.errno)}\n")
                if e.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV):
                    return
                time.sleep(0.05)
                continue
            self.journal.write(f"ok {kind} {i} {done + 1}\n")
            self.state[kind, i] = (done + 1, done + 1)


def size_of(i, n):
    return (i + 1) * (n * 7919 % 100003)


def read_journal(path):
    """(kind, file) -> (acknowledged, tried)"""
    state = {(kind, i): (0, 0) for kind in KINDS for i in range(FILES)}
    if not os.path.exists(path):
        return state
    with open(path, encoding="ascii") as f:
        for text in f:
            words = text.split()
            if not text.endswith("\n") or len(words) < 4:
                continue
            key, n = (words[1], int(words[2])), int(words[3])
            done, tried = state[key]
            state[key] = (max(done, n) if words[0] == "ok" else done, max(tried, n))
    return state


def read(path):
    try:
        with open(path, encoding="ascii") as f:
            return f.read()
    except FileNotFoundError:
        return None


def verify(top, journal):
    """Exits with what is wrong; runs as the mount's user."""
    wrong = []
    names = os.listdir(top)
    for (kind, i), (done, tried) in read_journal(journal).items():
        where = f"{kind}{i}: acknowledged {done}, tried {tried}"
        if kind == "log":
            text = read(os.path.join(top, f"log{i}")) or ""
            must = "".join(line(i, n) for n in range(1, done + 1))
            # The line being written was first cut off again.
            may = must + (line(i, tried) if tried > done else "")
            if not text.startswith(must) or not may.startswith(text):
                wrong.append(f"{where}: {len(text)} bytes, {len(must)} to {len(may)} expected")
        elif kind == "replace":
            text = read(os.path.join(top, f"replace{i}"))
            if not ((text is None and done == 0) or any(text == version(i, n) for n in range(max(done, 1), tried + 1))):
                wrong.append(f"{where}: {None if text is None else (len(text), text[:30])}")
        elif kind == "name":
            have = [n for n in names if n.startswith(f"name{i}.")]
            if len(have) > 1 or (not have and done > 0) or (have and not done <= int(have[0].split(".")[1]) <= tried):
                wrong.append(f"{where}: {have}")
            elif have and done > 0 and read(os.path.join(top, have[0])) != f"named {i}\n":
                wrong.append(f"{where}: another text")
        else:
            path = os.path.join(top, f"size{i}")
            size = os.stat(path).st_size if os.path.exists(path) else 0
            if size not in [size_of(i, n) for n in range(done, tried + 1)] + [0] * (done == 0):
                wrong.append(f"{where}: {size} bytes, {size_of(i, done)} expected")
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if len(sys.argv) > 1 and sys.argv[1] == "--client":
    Client(sys.argv[2], sys.argv[3], sys.argv[4]).run()
    sys.exit(0)
if len(sys.argv) > 1 and sys.argv[1] == "--verify":
    verify(sys.argv[2], sys.argv[3])

import harness  # noqa: E402: not there where the client runs
from harness import check, wait_for  # noqa: E402
from kills import settle  # noqa: E402


def workers(node, roles):
    """Pids of the workers of these roles."""
    found = []
    for pid in harness.children(node.server.pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                comm = f.read().strip()
        except OSError:
            continue
        if comm in [f"bazil-{role}"[:15] for role in roles]:
            found.append((comm, pid))
    return found


def kill(node, pid):
    subprocess.run([*node.user.prefix(), "kill", "-KILL", str(pid)], capture_output=True)


class Storm:
    def __init__(self, node, rng):
        self.node, self.rng = node, rng
        self.top = os.path.join(node.home, "mnt")
        self.tool = os.path.join(node.bench.dir, "storm.py")
        self.journal = os.path.join(node.home, "journal")
        shutil.copy(os.path.abspath(__file__), self.tool)
        self.kills = 0
        self.mountd_deaths = []

    def client(self):
        return subprocess.Popen([*self.node.prefix(), "python3", self.tool, "--client", self.top, self.journal,
                                 str(self.rng.random())], env=self.node.environment(), stdin=subprocess.DEVNULL)

    def strike(self, roles, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.rng.uniform(0.05, 0.7))
            for comm, pid in workers(self.node, roles):
                now = time.monotonic()
                if comm == "bazil-mountd":
                    self.mountd_deaths = [t for t in self.mountd_deaths if now - t < 35]
                    if len(self.mountd_deaths) >= MOUNTD_DEATHS:
                        continue
                    self.mountd_deaths.append(now)
                kill(self.node, pid)
                self.kills += 1

    def verify(self, what):
        r = self.node.command(["python3", self.tool, "--verify", self.top, self.journal])
        check(r.returncode == 0, f"after {what}:\n{r.stdout}{r.stderr[-3000:]}")

    def whole_server(self):
        """At once: what was in memory only is gone, what was acknowledged is not."""
        node = self.node
        for pid in [node.server.pid] + harness.children(node.server.pid):
            kill(node, pid)
            self.kills += 1
        node.server.wait(20)
        node.server = None
        node.start()
        wait_for(lambda: not harness.mounts_below(node.home), "the dead mount to be cleared", 30)
        node.bazil("volume", "mount", "v", "mnt")

    def round(self, n):
        roles = self.rng.choice([["stored"], ["mountd"], ["keyd"], ["syncd"], ["stored", "mountd"],
                                 ["mountd", "stored", "keyd", "syncd"], ["server"], ["server"]])
        client = self.client()
        try:
            if roles == ["server"]:
                time.sleep(self.rng.uniform(0.5, 3))
                self.whole_server()
            else:
                self.strike(roles, self.rng.uniform(2, 4))
                check(client.poll() is None, f"the client ended with {client.returncode} under {'+'.join(roles)}")
        finally:
            if client.poll() is None:
                for pid in [client.pid] + harness.children(client.pid):
                    kill(self.node, pid)
            client.wait(30)
        settle(self.node)
        self.verify(f"round {n}, {'+'.join(roles)}")
        harness.say(f"round {n}: {'+'.join(roles)}: {sum(v[0] for v in read_journal(self.journal).values())} acknowledged")


def test(bench):
    node = bench.node("white")
    node.bazil("create")
    node.start()
    node.sh("head -c 32 /dev/urandom >key && bazil sharing add friends <key && bazil volume create -sharing=friends v && "
            "mkdir mnt && bazil volume mount v mnt")
    storm = Storm(node, random.Random(harness.seed()))
    rounds = int(os.environ.get("BAZIL_ROUNDS", "12"))
    for n in range(rounds):
        storm.round(n)
    # Once more from the arenas alone, after a clean end.
    node.bazil("volume", "unmount", "v")
    node.stop()
    os.remove(os.path.join(node.data_dir, "store", "index"))
    node.start()
    node.bazil("volume", "mount", "v", "mnt")
    storm.verify("the index was rebuilt")
    done = sum(v[0] for v in read_journal(storm.journal).values())
    check(storm.kills >= rounds, f"only {storm.kills} kills")
    check(done > 10 * rounds, f"only {done} acknowledged")
    print(f"{rounds} rounds, {storm.kills} kills, {done} operations acknowledged")
    node.stop()


harness.run(test)
