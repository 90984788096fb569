#!/usr/bin/env python3
"""What a mount survives besides the death of a worker: an upgrade, the death of the supervisor when systemd keeps its
descriptors, workers that hang, and how it ends when its mountd dies again and again.

usage: upgrade.py BINDIR [-k WORD]
"""
import array
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import harness
from harness import check, say, wait_for
from kills import settle

# Holds a file open, a lock on it, a mapping and the working directory; appends numbered lines until its input ends.
HOLDER = """
import fcntl, mmap, os, select, sys
os.chdir(sys.argv[1])
f = os.open('held', os.O_RDWR | os.O_CREAT | os.O_APPEND)
fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
m = os.open('mapped', os.O_RDWR | os.O_CREAT)
os.ftruncate(m, 1 << 20)
mem = mmap.mmap(m, 1 << 20)
n = 0
while not select.select([0], [], [], 0)[0]:
    assert os.write(f, b'%08d\\n' % n) == 9
    mem[n % 100000 * 8:n % 100000 * 8 + 8] = b'%08d' % n
    if n % 7 == 0:
        with open('small', 'w') as s:
            s.write(str(n))
        os.rename('small', 'renamed')
        assert open('renamed').read() == str(n)
    n += 1
mem.flush()
os.fsync(f)
print(n)
"""

# As systemd does: descriptors from 3 on, and the pid of the program that is run.
GIVER = """
import os, sys
fds, names, command = eval(sys.argv[1]), sys.argv[2], sys.argv[3:]
high = [os.dup2(fd, 200 + i) for i, fd in enumerate(fds)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
    os.close(fd)
os.closerange(3 + len(fds), 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execvp(command[0], command)
"""


class Systemd(threading.Thread):
    """The notify socket with a store of descriptors."""

    def __init__(self, bench):
        super().__init__(daemon=True)
        self.path = os.path.join(bench.dir, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self.store, self.said = {}, []
        self.start()

    def run(self):
        while True:
            data, control, _, _ = self.socket.recvmsg(4096, 4096)
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            self.said.append(fields)
            if fields.get("FDSTORE") == "1":
                fds = array.array("i")
                fds.frombytes(control[0][2])
                self.store[fields["FDNAME"]] = fds[0]
            elif fields.get("FDSTOREREMOVE") == "1" and fields["FDNAME"] in self.store:
                os.close(self.store.pop(fields["FDNAME"]))

    def launch(self, node):
        """node.start() with what is in the store."""
        names = list(self.store)
        fds = [self.store[n] for n in names]
        log = open(node.log, "ab")
        at = log.tell()
        node.server = subprocess.Popen([*node.prefix(), "python3", "-c", GIVER, repr(fds), ":".join(names),
                                        node.bench.bin + "/bazil", "server", "run"], env=node.environment(), cwd=node.home,
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=fds)
        log.close()
        wait_for(lambda: "Listening on" in node.log_text()[at:] or node.server.poll() is not None, "the server", 30)
        check(node.server.poll() is None, node.log_text())


def make(bench, name, **extra):
    node = bench.node(name)
    node.extra.update(extra)
    node.bazil("create")
    node.start()
    node.sh("bazil volume create v && mkdir mnt && bazil volume mount v mnt")
    return node


def hold(node):
    p = subprocess.Popen([*node.prefix(), "python3", "-c", HOLDER, node.home + "/mnt"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=node.environment())
    wait_for(lambda: p.poll() is not None or node.sh("wc -c <mnt/held 2>/dev/null || echo 0").strip() != "0", "the holder")
    return p


def let_go(node, holder):
    """All that the holder did is there, once and in order."""
    out, err = holder.communicate("\n", timeout=120)
    check(holder.returncode == 0, f"who had files open was disturbed: {err[-2000:]}")
    num = int(out)
    node.sh(f"test \"$(seq -f %08.0f 0 {num - 1} | sha256sum)\" = \"$(sha256sum <mnt/held)\" || "
            f"{{ wc mnt/held; diff <(seq -f %08.0f 0 {num - 1}) mnt/held | head -5; exit 1; }}")
    return num


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it went with its supervisor


def pids(node):
    return {w["role"]: w["pid"] for w in node.status()["workers"]}


def upgrade(bench):
    node = make(bench, "up")
    holder = hold(node)
    for n in range(3):
        before, server = pids(node), node.status()["pid"]
        copy = subprocess.Popen([*node.prefix(), "cp", "-r", "/usr/include/linux", f"{node.home}/mnt/copy{n}"],
                                stderr=subprocess.PIPE, env=node.environment())
        if n == 1:  # another file under the same name, as an installation makes it
            for program in os.listdir(bench.bin):
                path = os.path.join(bench.bin, program)
                shutil.copy2(path, path + ".new")
                os.rename(path + ".new", path)
        time.sleep(0.3)
        started = time.monotonic()
        node.bazil("server", "upgrade", timeout=120)
        took = time.monotonic() - started
        after = pids(node)
        check(node.status()["pid"] == server, "the supervisor has another pid")
        check(not set(before.values()) & set(after.values()), f"an old worker is left: {before} {after}")
        _, err = copy.communicate(timeout=120)
        check(copy.returncode == 0, f"the copy failed: {err.decode()}")
        node.sh(f"diff -r /usr/include/linux mnt/copy{n}")
        say(f"upgrade {n}: {took:.1f} s")
    # Not dumpable: only root may look what it runs.
    if os.getuid() == 0:
        exe = os.readlink(f"/proc/{node.status()['pid']}/exe")
        check("deleted" not in exe, f"the supervisor is still the old program: {exe}")
    r = node.command(["flock", "-n", "mnt/held", "true"])
    check(r.returncode == 1, "the lock is gone")
    say(f"{let_go(node, holder)} steps of who had files open")
    node.bazil("volume", "unmount", "v")
    check(not harness.mounts_below(node.home), "the mount is left")
    node.stop()


def supervisor_dies(bench):
    systemd = Systemd(bench)
    node = make(bench, "fdstore", NOTIFY_SOCKET=systemd.path)
    wait_for(lambda: len(systemd.store) == 5, f"five descriptors in the store: {list(systemd.store)}")
    check({"READY": "1"} in systemd.said, "READY=1 was not said")
    holder = hold(node)
    for all_die in (False, True, False):
        old = node.server
        victims = [old.pid] + (harness.children(old.pid) if all_die else [])
        for pid in victims:
            kill(pid)
        old.wait(10)
        systemd.launch(node)
        settle(node)
        status = node.status()
        check([m["volume"] for m in status["mounts"]] == ["v"], f"the mount was not taken over: {status['mounts']}")
        node.sh("dd if=/dev/urandom of=mnt/new bs=1M count=3 conv=fsync status=none && cat mnt/new >/dev/null")
        say(f"supervisor killed, {'with' if all_die else 'without'} its workers: the mount goes on")
    check(len(harness.mounts_below(node.home)) == 1, "mounted twice")
    say(f"{let_go(node, holder)} steps of who had files open")
    node.bazil("volume", "unmount", "v")
    wait_for(lambda: not systemd.store, f"an empty store: {list(systemd.store)}")
    # What is kept and makes no sense is given up, and the server starts.
    node.bazil("volume", "mount", "v", "mnt")
    wait_for(lambda: len(systemd.store) == 5, "five descriptors in the store")
    for pid in [node.server.pid] + harness.children(node.server.pid):
        kill(pid)
    node.server.wait(10)
    gone = next(n for n in systemd.store if n.endswith(".state"))
    os.close(systemd.store.pop(gone))
    systemd.launch(node)
    check(not node.status()["mounts"], "a mount without its state was taken over")
    wait_for(lambda: not systemd.store, f"an empty store: {list(systemd.store)}")
    for fd in list(systemd.store.values()):
        os.close(fd)
    node.bazil("volume", "mount", "v", "mnt")
    node.sh("ls mnt/held")
    node.stop()


def hangs(bench):
    node = make(bench, "hangs", BAZIL_WATCHDOG="3")
    holder = hold(node)
    for role in ("mountd", "stored", "keyd", "syncd", "dialer", "mounter"):
        w = node.worker(role)
        os.kill(w["pid"], signal.SIGSTOP)
        wait_for(lambda: node.worker(role)["restarts"] > w["restarts"], f"{role} to be replaced", 30)
        settle(node)
        check("did not answer" in node.worker(role)["last_death"], f"{role}: {node.worker(role)}")
        node.sh("echo x >mnt/x && cat mnt/x")
        say(f"{role} stopped: {node.worker(role)['last_death']}")
    status = node.status()
    num = {c["worker"]: c["value"] for c in status["counters"] if c["name"] == "hangs"}
    check(all(num.get(r, 0) >= 1 for r in ("mountd", "stored", "keyd", "syncd", "dialer", "mounter")), f"counted: {num}")
    before = {w["role"]: w["restarts"] for w in status["workers"]}
    time.sleep(8)
    after = {w["role"]: w["restarts"] for w in node.status()["workers"]}
    check(before == after, f"who answers is replaced: {before} {after}")
    let_go(node, holder)
    node.stop()


def taken_down(bench):
    node = make(bench, "down")
    node.sh("echo kept >mnt/kept && sync mnt/kept")
    holder = hold(node)
    deaths = 0
    end = time.monotonic() + 60
    while harness.mounts_below(node.home) and time.monotonic() < end:
        for pid in harness.children(node.server.pid):
            try:
                with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                    if f.read().strip() == "bazil-mountd":
                        os.kill(pid, signal.SIGKILL)
                        deaths += 1
            except OSError:
                continue
        time.sleep(0.05)
    check(not harness.mounts_below(node.home), f"after {deaths} deaths the mount is still there")
    check(deaths >= 15, f"taken down after {deaths} deaths")
    # Not waiting for ever, not in state D: an error.
    _, err = holder.communicate("\n", timeout=30)
    check(holder.returncode != 0, "who had files open got no error")
    check("connection abort" in err or "not connected" in err, f"another error: {err[-500:]}")
    check("again and again" in node.log_text() or "taken down" in node.log_text(), "it was not said why")
    node.bazil("volume", "mount", "v", "mnt")
    check(node.sh("cat mnt/kept") == "kept\n", "what was there is not there")
    say(f"taken down after {deaths} deaths: callers got errors, mounted again")
    node.stop()


CASES = (upgrade, supervisor_dies, hangs, taken_down)


def test(bench):
    word = sys.argv[sys.argv.index("-k") + 1] if "-k" in sys.argv else ""
    for case in CASES:
        if word in case.__name__:
            say(f"--- {case.__name__}")
            case(bench)


harness.run(test)
