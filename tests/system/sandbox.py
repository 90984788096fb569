#!/usr/bin/env python3
"""Workers that were taken over: each attack in each role's sandbox is stopped and has no effect; without walls it
succeeds, so that the test means something; the important ones are stopped by two layers each; and what runs in a real
server is as closed as it says, seen from outside.
"""
import os
import subprocess

import harness
from harness import check

ROLES = ("keyd", "stored", "mountd", "syncd", "dialer")
# What this kernel or machine may not have at all.
MAY_LACK = {"x32-abi", "other-abi", "vsock", "io-uring", "perf", "page-faults", "bpf", "kernel-keys", "by-handle",
            "take-descriptor"}  # a container's own filter may refuse the last


class Attacker:
    def __init__(self, bench, user):
        self.program, self.user = os.path.join(bench.bin, "bazil-attack"), user

    def attack(self, role, name, without=""):
        argv = [*self.user.prefix(), self.program, *([f"--without={without}"] if without else []), role, name]
        r = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        return r.returncode, r.stdout.strip() + r.stderr.strip()


def attacks(bench):
    out = subprocess.run([os.path.join(bench.bin, "bazil-attack"), "--list"], capture_output=True, text=True, check=True)
    for line in out.stdout.splitlines():
        name, depth, *allowed = line.split()
        yield name, int(depth), allowed


def lacks_landlock(said):
    """A container may refuse it (seccomp of systemd-nspawn 252, old Docker): then one layer less is there, and is said."""
    return "landlock: " in said


def stopped(bench, user):
    attacker, num, weaker = Attacker(bench, user), 0, set()
    for name, depth, allowed in attacks(bench):
        for role in ROLES:
            code, said = attacker.attack(role, name)
            if role in allowed:
                check(code == 1, f"{role} may {name}, but: {said}")
                continue
            if code != 0 and lacks_landlock(said):
                weaker.add(name)
                continue
            check(code == 0 and said.startswith("stopped: "), f"{role}: {name}: {said}")
            num += 1
            if depth > 1:
                code, said = attacker.attack(role, name, "seccomp")
                check(code == 0 or lacks_landlock(said), f"{role}: {name}: only the system call filter stops it: {said}")
    check(num > 200, f"only {num} attacks were stopped")
    print(f"uid {user.uid}: {num} attacks stopped" + (f"; without Landlock here, not: {', '.join(sorted(weaker))}" if weaker else ""))


def teeth(bench):
    """As root, with nothing in the way. An attack that never works would prove nothing."""
    attacker, lacking = Attacker(bench, harness.User()), []
    for name, _, _ in attacks(bench):
        code, said = attacker.attack("mountd", name, "all")
        if code != 1 and name in MAY_LACK:
            lacking.append(name)
            continue
        check(code == 1, f"{name} fails without any sandbox: {said}")
    print("this kernel lacks: " + (", ".join(lacking) or "nothing"))


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def threads_from_outside(pid, role):
    """Capabilities and filters belong to a thread."""
    for task in os.listdir(f"/proc/{pid}/task"):
        status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/task/{task}/status").splitlines() if ":\t" in line)
        check(status["Seccomp"] == "2", f"{role}: a thread: Seccomp {status['Seccomp']}")
        check(status["NoNewPrivs"] == "1", f"{role}: a thread: NoNewPrivs {status['NoNewPrivs']}")
        for cap in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            check(int(status[cap], 16) == 0, f"{role}: a thread: {cap} {status[cap]}")


def from_outside(node, worker):
    """What proc(5) says of a running worker."""
    pid, role = worker["pid"], worker["role"]
    status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    if role == "mounter":
        check(status["NoNewPrivs"] == "0", "the mounter could not exec fusermount3")
        return
    missing = [m for m in worker["missing"].split("; ") if m and not lacks_landlock(m)]
    check(not missing, f"{role}: missing: {worker['missing']}")
    threads_from_outside(pid, role)
    check(len(status["NSpid"].split()) >= 2, f"{role}: no pid namespace")
    r = node.command(["cat", f"/proc/{pid}/mem"])
    if node.user.uid:
        check("Permission denied" in r.stderr, f"{role}: its own user may read its memory: {r.stderr}")
    mounts = [line.split() for line in read(f"/proc/{pid}/mountinfo").splitlines()]
    if role in ("keyd", "stored"):
        part = {"keyd": "/keys", "stored": "/store"}[role]
        check(len(mounts) == 1 and mounts[0][4] == "/" and mounts[0][3].endswith(part), f"{role}: mounts {mounts}")
    elif role != "dialer":
        check(len(mounts) == 1 and "ro" in mounts[0][5].split(","), f"{role}: mounts {mounts}")
    if role != "dialer":
        for proto in ("tcp", "tcp6", "udp", "udp6"):
            check(len(read(f"/proc/{pid}/net/{proto}").splitlines()) == 1, f"{role}: net/{proto} is not empty")
    core = [line.split()[4:6] for line in read(f"/proc/{pid}/limits").splitlines() if line.startswith("Max core file size")]
    check(core == [["0", "0"]], f"{role}: it may leave a core: {core}")


def running(bench, user, name):
    if not all(os.path.exists(os.path.join(bench.bin, "bazil-" + role)) for role in ROLES):
        print("not all workers are built: the running system is not looked at")
        return
    node = bench.node(name, user)
    node.bazil("create")
    node.start()
    node.bazil("volume", "create", "v")
    node.sh("mkdir mnt && bazil volume mount v mnt && echo x >mnt/file && cat mnt/file")
    workers = node.status()["workers"]
    check({w["role"] for w in workers} == set(ROLES) | {"mounter"}, f"workers: {workers}")
    for worker in workers:
        from_outside(node, worker)
    node.bazil("volume", "unmount", "v")
    node.stop()


def test(bench):
    users = [harness.User()]
    if os.getuid() == 0:
        users.append(bench.ordinary_user())
        teeth(bench)
    for user in users:
        stopped(bench, user)
    for user in users:
        running(bench, user, f"node{user.uid}")


harness.run(test)
