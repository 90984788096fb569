"""Nodes, users, mounts and network namespaces for system tests.

A test is a script that calls run(test) with a function taking a Bench. Everything that the Bench made is taken down
at the end, also after a failure: servers stopped, then killed by pid; mounts detached; namespaces and users removed.

Root makes an ordinary user and runs the nodes as that user; an ordinary user runs them as himself, and what only root
can do is skipped (exit status 77).
"""
import atexit
import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

SKIP = 77


class Failure(Exception):
    pass


STARTED = time.monotonic()


def say(text):
    """Progress, with the seconds since the start."""
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


def check(condition, what):
    if not condition:
        raise Failure(what)


def wait_for(predicate, what, seconds=15.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = predicate()
        if value:
            return value
        time.sleep(0.05)
    raise Failure(f"waited {seconds} s in vain for {what}")


def seed():
    """For what is random in a test: BAZIL_SEED, or a fresh one, which is told."""
    ret = int(os.environ.get("BAZIL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"BAZIL_SEED={ret}", flush=True)
    return ret


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIP)


def need_root():
    if os.getuid() != 0:
        skip("only root can do this")


def mounts_below(path):
    """Mount points at or below path, deepest first, without touching them: a dead mount would hang."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            point = line.split()[4].replace("\\040", " ")
            if point == path or point.startswith(path + "/"):
                found.append(point)
    return sorted(found, reverse=True)


def processes(match):
    """Pids whose command line contains every word of match."""
    pids = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                words = f.read().decode(errors="replace")
        except OSError:
            continue
        if all(m in words for m in match):
            pids.append(int(entry))
    return pids


def children(pid):
    """All descendants of a process."""
    found = []
    todo = [pid]
    while todo:
        p = todo.pop()
        try:
            with open(f"/proc/{p}/task/{p}/children", encoding="ascii") as f:
                kids = [int(k) for k in f.read().split()]
        except OSError:
            kids = []
        found += kids
        todo += kids
    return found


class User:
    """Who runs a node: the user running the tests, or an ordinary one made for them by root."""

    def __init__(self, name=None):
        self.name = name
        if name:
            entry = pwd.getpwnam(name)
            self.uid, self.gid = entry.pw_uid, entry.pw_gid
        else:
            self.uid, self.gid = os.getuid(), os.getgid()

    def prefix(self):
        if self.uid == os.getuid():
            return []
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]


class Node:
    """One data directory and its server. `data_home` is what XDG_DATA_HOME is for its commands."""

    def __init__(self, bench, name, user, netns=None):
        self.bench, self.name, self.user, self.netns = bench, name, user, netns
        self.home = os.path.join(bench.dir, name)
        os.mkdir(self.home, 0o755)
        os.chown(self.home, user.uid, user.gid)
        self.data_home = os.path.join(self.home, "share")
        self.data_dir = os.path.join(self.data_home, "bazil")
        self.server = None
        self.extra = {}  # more of the environment
        self.log = os.path.join(self.home, "server.log")

    def prefix(self):
        # Not `ip netns exec`: that has a mount namespace of its own, where the server's mounts are not seen.
        ns = ["nsenter", f"--net=/run/netns/{self.netns}"] if self.netns else []
        return ns + self.user.prefix()

    def environment(self):
        env = {k: v for k, v in os.environ.items() if k in ("LANG", "ASAN_OPTIONS", "TERM")}
        env.update(PATH=self.bench.bin + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", HOME=self.home,
                   XDG_DATA_HOME=self.data_home, **self.extra)
        return env

    def command(self, argv, **kw):
        """Runs any command as this node's user, in its directory and network namespace."""
        kw.setdefault("cwd", self.home)
        kw.setdefault("timeout", 300)
        if "input" not in kw:
            kw.setdefault("stdin", subprocess.DEVNULL)  # never the terminal: some commands would ask there
        return subprocess.run([*self.prefix(), *argv], env=self.environment(), capture_output=True,
                              errors="surrogateescape", **kw)

    def sh(self, script, ok=True, **kw):
        r = self.command(["bash", "-c", script], **kw)
        if ok and r.returncode != 0:
            raise Failure(f"{self.name}$ {script}\n-> {r.returncode}\n{r.stdout}{r.stderr}")
        return r.stdout

    def bazil(self, *argv, ok=True, **kw):
        r = self.command([os.path.join(self.bench.bin, "bazil"), *argv], **kw)
        if ok and r.returncode != 0:
            raise Failure(f"{self.name}$ bazil {' '.join(argv)}\n-> {r.returncode}\n{r.stdout}{r.stderr}")
        return r if not ok else r.stdout

    def fails(self, *argv, status=1, says=(), **kw):
        """The command fails with this status and one clear line that contains each of `says`."""
        r = self.bazil(*argv, ok=False, **kw)
        err = r.stderr.strip()
        told = f"{self.name}$ bazil {' '.join(argv)}\n-> {r.returncode}\n{r.stdout}{r.stderr}"
        check(r.returncode == status, f"status {status} expected: {told}")
        check(err.startswith("bazil: ") and len(err.splitlines()) == 1, f"one line `bazil: ...` expected: {told}")
        for word in [says] if isinstance(says, str) else says:
            check(word in err, f"{word!r} expected in: {told}")
        return err

    def tree(self, *argv):
        """An answer of tree.py, run as this node's user."""
        r = self.command(["python3", os.path.join(self.bench.dir, "tree.py"), *argv], timeout=900)
        check(r.returncode == 0, f"{self.name}: tree.py {argv}: {r.stderr[-2000:]}")
        return json.loads(r.stdout)

    def start(self, *options):
        log = open(self.log, "ab")
        at = log.tell()
        self.server = subprocess.Popen([*self.prefix(), os.path.join(self.bench.bin, "bazil"), "server", "run", *options],
                                       env=self.environment(), cwd=self.home, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, start_new_session=True)
        log.close()

        def listening():
            if self.server.poll() is not None:
                raise Failure(f"{self.name}: the server ended: {self.log_text()}")
            with open(self.log, encoding="utf-8", errors="replace") as f:
                f.seek(at)
                for line in f:
                    if line.startswith("bazil: Listening on [::]:") and line.endswith("\n"):
                        return int(line.rsplit(":", 1)[1])
            return None
        self.port = wait_for(listening, f"{self.name}'s server", 30)
        return self

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def status(self):
        return json.loads(self.bazil("server", "status", "-json"))

    def worker(self, role, label=""):
        for w in self.status()["workers"]:
            if w["role"] == role and (not label or w["label"] == label):
                return w
        raise Failure(f"{self.name}: no {role} in server status")

    def kill(self, role, label=""):
        """SIGKILLs a worker and returns its pid. Needs the right to: root, or the same user."""
        # 0 while it is being started again: kill would take that for its own process group.
        pid = wait_for(lambda: self.worker(role, label)["pid"], f"{role} to run")
        subprocess.run([*self.user.prefix(), "kill", "-KILL", str(pid)], check=True)
        return pid

    def stop(self):
        if not self.server:
            return
        server, self.server = self.server, None
        self.bazil("server", "stop", ok=False, timeout=90)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name}: the server did not stop: {self.log_text()}")
        check(server.returncode == 0, f"{self.name}: the server ended with {server.returncode}: {self.log_text()}")

    def take_down(self):
        server, self.server = self.server, None
        if server and server.poll() is None:
            pids = [server.pid] + children(server.pid)
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                pass
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            server.wait(10)
        for point in mounts_below(self.home):
            subprocess.run(["fusermount3", "-uz", point] if os.getuid() else ["umount", "-l", point], capture_output=True)


class Bench:
    def __init__(self, bindir):
        self.dir = tempfile.mkdtemp(prefix="bazil-test.", dir="/var/tmp")
        os.chmod(self.dir, 0o755)
        self.bin = self.copy_programs(os.path.abspath(bindir))
        self.scan_dir = os.path.abspath(bindir)
        shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tree.py"), self.dir)
        self.nodes, self.netns, self.users = [], [], []
        self.undo = []

    def copy_programs(self, bindir):
        """The programs where every user reaches them, with the modes that they are installed with."""
        ret = os.path.join(self.dir, "bin")
        os.mkdir(ret, 0o755)
        for name in os.listdir(bindir):
            if name.startswith("bazil"):
                shutil.copy(os.path.join(bindir, name), ret)
                os.chmod(os.path.join(ret, name), 0o755 if name == "bazil" else 0o711)
        return ret

    def ordinary_user(self):
        """An ordinary user: made by root for this test, else the caller."""
        if os.getuid() != 0:
            return User()
        name = f"bazil-t{os.getpid() % 100000}"
        if name not in self.users:
            subprocess.run(["useradd", "--no-create-home", "--home-dir", self.dir, "--shell", "/bin/bash", name],
                           check=True, capture_output=True)
            self.users.append(name)
        return User(name)

    def node(self, name, user=None, netns=None):
        node = Node(self, name, user or self.ordinary_user(), netns)
        self.nodes.append(node)
        return node

    def mounted(self, name, user=None):
        """A node with a volume v on mnt."""
        node = self.node(name, user)
        node.bazil("create")
        node.start()
        node.bazil("volume", "create", "v")
        node.sh("mkdir mnt && bazil volume mount v mnt")
        return node

    def two_hosts(self, addr_a="192.0.2.42", addr_b="192.0.2.43"):
        """Two network namespaces joined by a cable. Returns their names."""
        names = [f"bzt{os.getpid()}a", f"bzt{os.getpid()}b"]
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            self.netns.append(name)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "link", "add", "bz0", "netns", names[0], "type", "veth", "peer", "name", "bz0", "netns",
                        names[1]], check=True)
        for name, addr in zip(names, (addr_a, addr_b)):
            subprocess.run(["ip", "-n", name, "addr", "add", addr + "/24", "dev", "bz0"], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "bz0", "up"], check=True)
        return names

    def close(self):
        for fn in reversed(self.undo):
            fn()
        for node in self.nodes:
            node.take_down()
        for name in self.netns:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        for point in mounts_below(self.dir):
            subprocess.run(["umount", "-l", point], capture_output=True)
        for name in self.users:
            subprocess.run(["userdel", name], capture_output=True)
        check(not mounts_below(self.dir), f"mounts are left below {self.dir}")
        shutil.rmtree(self.dir, ignore_errors=True)


def run(test):
    """Runs test(bench). usage of the script: SCRIPT BINDIR"""
    if len(sys.argv) < 2:
        print(f"usage: {sys.argv[0]} DIRECTORY-OF-PROGRAMS", file=sys.stderr)
        sys.exit(2)
    bench = Bench(sys.argv[1])
    closed = []

    def close():
        if not closed:
            closed.append(True)
            bench.close()
    atexit.register(close)
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(1))
    try:
        test(bench)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        for node in bench.nodes:
            if os.path.exists(node.log):
                print(f"--- {node.name}'s server log (end)\n{node.log_text()[-6000:]}")
        sys.stdout.flush()
        close()
        sys.exit(1)
    close()
    print("passed")
