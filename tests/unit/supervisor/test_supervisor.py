#!/usr/bin/env python3
"""The real supervisor and mounter with workers that do nothing (fake.c): starts, deaths, mounts, ends.

usage: test_supervisor.py DIRECTORY-OF-PROGRAMS [CASE]
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BIN = ""
DIR = ""


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def wait_for(predicate, what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = predicate()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def mounts():
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return [line.split()[4] for line in f if line.split()[4].startswith(DIR)]


class Server:
    def __init__(self, name, **env):
        self.dir, self.env = os.path.join(DIR, name), {**os.environ, **env}
        # LeakSanitizer attaches to the process, which is not dumpable: only root may.
        if os.getuid() != 0:
            self.env.setdefault("ASAN_OPTIONS", "detect_leaks=0")
        self.process, self.out = None, os.path.join(DIR, name.replace("/", "_")[:40] + ".out")
        self.bin = BIN

    def create(self):
        return subprocess.run([self.bin + "/bazil-supervisor", "--data-dir=" + self.dir, "--create"], capture_output=True,
                              text=True, timeout=60, env=self.env)

    def start(self, *options, wait=True):
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen([self.bin + "/bazil-supervisor", "--data-dir=" + self.dir, "--run", *options],
                                            stdout=out, stderr=out, env=self.env)
        if wait:
            wait_for(lambda: "Listening" in self.text() or self.process.poll() is not None, "the server")
            check(self.process.poll() is None, self.text())
        return self

    def text(self):
        with open(self.out, encoding="utf-8") as f:
            return f.read()

    def bazil(self, *argv, status=0):
        r = subprocess.run([self.bin + "/bazil", "-data-dir=" + self.dir, *argv], capture_output=True, text=True, timeout=90,
                           env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})  # bazil(1) frees nothing at its end
        check(r.returncode == status, f"bazil {argv}: {r.returncode} {r.stdout}{r.stderr}")
        return r.stdout if status == 0 else r.stderr

    def status(self):
        return json.loads(self.bazil("server", "status", "-json"))

    def worker(self, role):
        return next(w for w in self.status()["workers"] if w["role"] == role)

    def counter(self, role, name):
        return sum(c["value"] for c in self.status()["counters"] if c["worker"] == role and c["name"] == name)

    def settled(self):
        return all(w["state"] == "running" for w in self.status()["workers"])

    def fds(self):
        if os.getuid() != 0:
            return 0  # the supervisor is not dumpable: only root sees its descriptors
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, sig=signal.SIGTERM, status=0):
        process, self.process = self.process, None
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as f:
            children = f.read().split()
        process.send_signal(sig)
        check(process.wait(60) == status, f"status {process.returncode}: {self.text()}")
        if sig != signal.SIGKILL:
            check(not os.path.exists(self.dir + "/ctl.sock"), "ctl.sock is left")
            check(not any(os.path.exists("/proc/" + pid) for pid in children), f"of {children} some are left")

    def take_down(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


SERVERS = []


def server(name, **env):
    SERVERS.append(Server(name, **env))
    r = SERVERS[-1].create()
    check(r.returncode == 0 and r.stderr == "", f"create: {r.stderr}")
    return SERVERS[-1]


def create__makes_a_private_directory_or_nothing():
    s = server("deep/er/dir")
    check(os.stat(s.dir).st_mode & 0o777 == 0o700, "mode")
    check(sorted(os.listdir(s.dir)) == ["keys", "lock", "store"], os.listdir(s.dir))
    r = s.create()
    check(r.returncode == 1 and "already exists" in r.stderr, r.stderr)
    check(sorted(os.listdir(s.dir)) == ["keys", "lock", "store"], "the second creation destroyed something")
    bare = Server("un/done")
    bare.bin = DIR + "/bin-bare"
    shutil.copytree(BIN, bare.bin)
    os.unlink(bare.bin + "/bazil-stored")
    r = bare.create()
    check(r.returncode == 1 and "installed completely" in r.stderr, r.stderr)
    check(not os.path.exists(DIR + "/un"), "a failed creation left something")


def create__leaves_what_was_there():
    os.makedirs(DIR + "/there/full/x")
    r = Server("there/full").create()
    check(r.returncode == 1 and "not empty" in r.stderr, r.stderr)
    check(os.path.isdir(DIR + "/there/full/x"), "it removed what it had not made")


def run__a_worker_that_cannot_begin_ends_the_start():
    s = server("broken")
    with open(s.dir + "/keys/broken", "w", encoding="ascii"):
        pass
    s.start(wait=False)
    check(s.process.wait(30) == 1, "status")
    check(s.text() == "bazil: fake: it is broken: mend it\n", s.text())
    check(not os.path.exists(s.dir + "/ctl.sock"), "ctl.sock is left")


def run__only_one_server_and_one_port():
    s = server("one").start()
    r = subprocess.run([BIN + "/bazil-supervisor", "--data-dir=" + s.dir, "--run"], capture_output=True, text=True, timeout=20)
    check(r.returncode == 1 and f"already running as pid {s.process.pid}" in r.stderr, r.stderr)
    other = server("other")
    other.start(f"--port={s.status()['port']}", wait=False)
    check(other.process.wait(20) == 1 and "already in use" in other.text(), other.text())
    s.stop()


def run__long_paths_and_readiness():
    path = os.path.join(DIR, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(10)
        s = server("x" * 100 + "/" + "y" * 100, NOTIFY_SOCKET=path).start()
        check(notify.recv(100) == b"READY=1", "READY")
        s.bazil("server", "ping")
        s.bazil("server", "stop")
        check(s.process.wait(30) == 0, "status")
        check(notify.recv(100) == b"STOPPING=1", "STOPPING")
        s.process = None


def is_dead(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
            return "\nState:\tZ" in f.read()
    except OSError:
        return True


def deaths__are_made_good():
    s = server("deaths").start()
    fds = s.fds()
    for _ in range(3):
        for role in ("keyd", "stored", "syncd", "dialer", "mounter"):
            before = s.worker(role)
            os.kill(before["pid"], signal.SIGKILL)
            wait_for(lambda: s.worker(role)["restarts"] > before["restarts"] and s.settled(), f"{role} again")
            check(s.worker(role)["last_death"].startswith("killed by signal 9"), s.worker(role)["last_death"])
    wait_for(lambda: s.fds() <= fds, "descriptors to be closed: a death leaks some")
    # Each end of every edge, and nobody got one twice: syncd has 4 with ctl, which it got when it started.
    os.kill(s.worker("syncd")["pid"], signal.SIGKILL)
    wait_for(lambda: s.worker("syncd")["restarts"] == 4 and s.settled(), "syncd again")
    check(s.counter("syncd", "edges") == 5, f"edges of a new syncd: {s.counter('syncd', 'edges')}")
    check(s.counter("syncd", "listeners") == 1, "the new syncd has no listener")
    before = s.counter("syncd", "edges")
    os.kill(s.worker("stored")["pid"], signal.SIGKILL)
    wait_for(lambda: s.worker("stored")["restarts"] == 4 and s.settled(), "stored again")
    wait_for(lambda: s.counter("syncd", "edges") == before + 2, "syncd to get new edges to stored")
    s.stop()


def deaths__requests_wait_for_the_next_life():
    s = server("wait").start()
    for _ in range(4):
        pid = wait_for(lambda: s.settled() and s.worker("stored")["pid"], "stored")
        os.kill(pid, signal.SIGKILL)
        # Dead, but perhaps not noticed: what is sent before that may have been done, so it is not sent again.
        wait_for(lambda: is_dead(pid), "death")
        check("v" in s.bazil("volume", "list"), "volume list")
    s.stop()


def peers__the_dialer_hears_of_changes():
    s = server("peers").start()
    wait_for(lambda: s.counter("dialer", "addresses") == 1, "the first addresses")
    s.bazil("peer", "location", "set", "p", "127.0.0.1:10")
    wait_for(lambda: s.counter("dialer", "addresses") == 2, "the next addresses")
    s.stop()


def once__serves_without_a_server():
    s = server("once")
    check(s.bazil("pubkey").startswith("010203"), "pubkey")
    check("v" in s.bazil("volume", "list"), "volume list")
    check("not running" in s.bazil("server", "ping", status=1), "ping")
    s.start().stop()


def mount__comes_and_goes():
    s = server("mount").start()
    point = DIR + "/mnt"
    os.mkdir(point)
    check("did you mean v" in s.bazil("volume", "mount", "w", point, status=1), "a close name")
    check("inside the data directory" in s.bazil("volume", "mount", "v", s.dir + "/keys", status=1), "data directory")
    check("it refuses" in s.bazil("volume", "mount", "refuses", point, status=1), "the reason")
    check(not mounts(), "a refused mount is left")
    fds = s.fds()
    s.bazil("volume", "mount", "v", point)
    check(mounts() == [point], mounts())
    check("already" in s.bazil("volume", "mount", "v", point, status=1), "mounted twice")
    check("mounted on" in s.bazil("volume", "remove", "-force", "v", status=1), "removed while mounted")
    os.kill(s.worker("mountd")["pid"], signal.SIGKILL)
    wait_for(lambda: s.worker("mountd")["restarts"] == 1 and s.settled(), "mountd again")
    s.bazil("volume", "unmount", "v")
    check(not mounts() and not s.status()["mounts"], "it is left")
    check("nothing" in s.bazil("volume", "unmount", "v", status=1), "unmounted twice")
    # From outside.
    s.bazil("volume", "mount", "v", point)
    subprocess.run(["fusermount3", "-u", point], check=True)
    wait_for(lambda: not s.status()["mounts"], "the supervisor to see it")
    wait_for(lambda: s.fds() <= fds, "descriptors of mounts to be closed")
    # And when all ends.
    s.bazil("volume", "mount", "v", point)
    s.stop()
    check(not mounts(), "the end of the server left a mount")


def replace(path, source):
    """As an installation does: another file, which appears at once under the old one's name."""
    shutil.copy2(source, path + ".new")
    os.rename(path + ".new", path)


def mount__of_another_build_is_refused():
    s = server("builds")
    s.bin = DIR + "/bin-builds"
    shutil.copytree(BIN, s.bin)
    replace(s.bin + "/bazil-keyd", BIN + "/other/bazil-keyd")
    s.start(wait=False)
    check(s.process.wait(20) == 1, "it started with another build's keyd")
    check("bazil-keyd is of another build (0.0-other)" in s.text(), s.text())
    check("restarting" not in s.text(), f"it was tried again: {s.text()}")
    replace(s.bin + "/bazil-keyd", BIN + "/bazil-keyd")
    replace(s.bin + "/bazil-mountd", BIN + "/other/bazil-mountd")
    s.start()
    point = DIR + "/builds-mnt"
    os.mkdir(point)
    err = s.bazil("volume", "mount", "v", point, status=1)
    check("bazil-mountd is of another build" in err and "server upgrade" in err, err)
    check(not mounts() and not s.status()["mounts"], "it is left")
    # While it runs: the server stays, and is well when the right one is back.
    replace(s.bin + "/bazil-keyd", BIN + "/other/bazil-keyd")
    os.kill(s.worker("keyd")["pid"], signal.SIGKILL)
    wait_for(lambda: "another build" in s.worker("keyd")["last_death"], "keyd to be refused")
    replace(s.bin + "/bazil-keyd", BIN + "/bazil-keyd")
    replace(s.bin + "/bazil-mountd", BIN + "/bazil-mountd")
    wait_for(s.settled, "keyd again")
    s.bazil("volume", "mount", "v", point)
    s.stop()


def mount__lives_through_an_upgrade_that_fails():
    s = server("upgrade")
    s.bin = DIR + "/bin-upgrade"
    shutil.copytree(BIN, s.bin)
    s.start()
    point = DIR + "/upgrade-mnt"
    os.mkdir(point)
    s.bazil("volume", "mount", "v", point)
    good, fds = s.worker("mountd")["pid"], s.fds()
    os.rename(s.bin + "/bazil-supervisor", s.bin + "/aside")
    with open(s.bin + "/bazil-supervisor", "w", encoding="ascii") as f:
        f.write("not a program")
    os.chmod(s.bin + "/bazil-supervisor", 0o755)
    s.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "could not be run" in s.text(), "the failure")
    wait_for(s.settled, "everything as before")
    check(mounts() == [point] and s.worker("mountd")["pid"] != good, "the mount")
    wait_for(lambda: s.fds() <= fds, "descriptors to be closed")
    os.rename(s.bin + "/aside", s.bin + "/bazil-supervisor")
    # A restarted worker of another build, and another supervisor beside it: it takes over unasked.
    for name in ("bazil-supervisor", "bazil-keyd"):
        replace(s.bin + "/" + name, BIN + ("/other/" if name == "bazil-keyd" else "/") + name)
    os.kill(s.worker("keyd")["pid"], signal.SIGKILL)
    wait_for(lambda: "it takes over" in s.text(), "the upgrade")
    check(s.process.wait(30) == 1 and "another build" in s.text(), "the new supervisor takes the wrong keyd")
    wait_for(lambda: not mounts(), "the mount to be taken down in the end")


def mount__is_taken_down_when_mountd_keeps_dying():
    s = server("dies").start()
    point = DIR + "/dying"
    os.mkdir(point)
    err = s.bazil("volume", "mount", "dies", point, status=1)
    check("died again and again" in err, err)
    check(not mounts() and not s.status()["mounts"], "it is left")
    s.bazil("volume", "mount", "v", point)
    s.stop()


def mount__is_taken_down_when_stored_keeps_failing():
    s = server("failing").start()
    point = DIR + "/failing-mnt"
    os.mkdir(point)
    s.bazil("volume", "mount", "v", point)
    # Killed from outside, ever so often, is no reason.
    for _ in range(35):
        pid = wait_for(lambda: s.worker("stored")["pid"], "stored")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: is_dead(pid), "death")
    check(mounts() == [point], "the mount is gone although stored is well")
    wait_for(s.settled, "stored again")
    with open(s.dir + "/store/broken", "w", encoding="ascii"):
        pass
    os.kill(s.worker("stored")["pid"], signal.SIGKILL)
    wait_for(lambda: not mounts(), "the mount to be taken down", 90)
    check("stored dies again and again" in s.text(), s.text())
    os.unlink(s.dir + "/store/broken")
    wait_for(s.settled, "stored again")
    s.bazil("volume", "mount", "v", point)
    s.stop()


def rebuild__begins_stored_anew():
    s = server("rebuild", BAZIL_WATCHDOG="1").start()
    before = s.worker("stored")
    check(not json.loads(s.bazil("store", "status", "-json"))["index_rebuilt"], "not yet")
    s.bazil("store", "rebuild-index")
    check(json.loads(s.bazil("store", "status", "-json"))["index_rebuilt"], "work_begin did not say it")
    after = s.worker("stored")
    check(after["pid"] != before["pid"] and after["restarts"] == 0 and not after["last_death"], after)
    os.kill(after["pid"], signal.SIGKILL)
    wait_for(lambda: s.worker("stored")["pid"] not in (0, after["pid"]) and s.settled(), "stored again")
    check(not json.loads(s.bazil("store", "status", "-json"))["index_rebuilt"], "said once, not for ever")

    # It cannot: whoever asked hears of it, and serving goes on when it can again.
    with open(s.dir + "/store/dying", "wb"):
        pass
    check("again and again" in s.bazil("store", "rebuild-index", status=1), "deaths")
    os.unlink(s.dir + "/store/dying")
    wait_for(s.settled, "stored again")
    with open(s.dir + "/store/broken", "wb"):
        pass
    check("it is broken: mend it" in s.bazil("store", "rebuild-index", status=1), "an error of work_begin")
    os.unlink(s.dir + "/store/broken")
    wait_for(s.settled, "stored again")
    with open(s.dir + "/store/slow", "wb"):
        pass
    before, began = s.worker("stored"), time.monotonic()
    s.bazil("store", "rebuild-index")
    check(time.monotonic() - began > 3.5, "it was to be slow")
    check(s.worker("stored")["restarts"] == before["restarts"] and s.counter("stored", "hangs") == 0, s.text())
    os.unlink(s.dir + "/store/slow")
    s.stop()
    s.bazil("store", "rebuild-index")
    check("mend" not in s.bazil("store", "status"), "without a server")


def mount__of_a_killed_server_is_cleared():
    s = server("killed").start()
    point = DIR + "/a b\\c"
    os.mkdir(point)
    s.bazil("volume", "mount", "v", point)
    foreign = server("foreign").start()
    other = DIR + "/foreign-mnt"
    os.mkdir(other)
    foreign.bazil("volume", "mount", "v", other)
    s.stop(signal.SIGKILL, -9)
    check(len(mounts()) == 2, "the kernel has cleared it already")
    s.start()
    check(mounts() == [other], f"a stale mount is left, or a foreign one taken: {mounts()}")
    s.stop()
    foreign.stop()


def main():
    global BIN, DIR
    DIR = tempfile.mkdtemp(prefix="bazil-supervisor.", dir="/var/tmp")
    os.chmod(DIR, 0o755)
    BIN = DIR + "/bin"
    shutil.copytree(sys.argv[1], BIN)
    cases = [f for name, f in list(globals().items()) if "__" in name and not name.startswith("__") and callable(f)]
    failed = 0
    for case in cases:
        if len(sys.argv) > 2 and case.__name__ != sys.argv[2]:
            continue
        if case.__name__.startswith("mount__") and not os.access("/dev/fuse", os.R_OK | os.W_OK):
            print(f"skipped: {case.__name__}: /dev/fuse cannot be opened")
            continue
        began = time.monotonic()
        try:
            case()
            print(f"ok      {case.__name__} ({time.monotonic() - began:.1f} s)")
        except Exception as e:  # pylint: disable=broad-except
            failed += 1
            print(f"FAILED  {case.__name__}: {e!r}")
            for s in SERVERS:
                if s.process and os.path.exists(s.out):
                    print(f"--- {s.out}\n{s.text()[-3000:]}")
        for s in SERVERS:
            s.take_down()
        for point in mounts():
            subprocess.run(["fusermount3", "-uz", point.replace("\\040", " ").replace("\\134", "\\")], check=False)
    shutil.rmtree(DIR, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
