#!/usr/bin/env python3
"""SIGKILL of one worker after the other during a copy and during a sync.

The copy or the sync completes, or ends with a clear error that the repeated command heals; nothing acknowledged is lost; the
store opens; `server status` shows the restart. rounds: BAZIL_ROUNDS (3).
"""
import os
import random
import subprocess
import time

import harness
from harness import check, wait_for
from kills import Killer, settle


def copy_under_fire(node, role, rng, source, round_no):
    settle(node)
    before = {w["role"]: w["restarts"] for w in node.status()["workers"]}
    killer = Killer(node, role, rng)
    killer.start()
    end = time.monotonic() + 8
    acked = []
    n = 0
    while time.monotonic() < end:
        name = f"mnt/{role}-{round_no}-{n}"
        text = f"line of {name}\n" * rng.randrange(1, 20000)
        r = node.command(["bash", "-c", f"cat >{name} && sync {name}"], input=text)
        if r.returncode == 0:
            acked.append((name, text))
        n += 1
    copy = node.command(["bash", "-c", f"rm -rf mnt/copy-{role}; cp -r {source} mnt/copy-{role}"])
    killer.stop()
    settle(node)
    if copy.returncode != 0:
        check(copy.stderr.strip(), "the copy failed without a word")
        node.sh(f"rm -rf mnt/copy-{role}; cp -r {source} mnt/copy-{role}")
    check(killer.kills > 2, f"only {killer.kills} kills of {role}")
    check(len(acked) > 5, f"{role}: only {len(acked)} of {n} writes were acknowledged")
    node.sh(f"diff -r {source} mnt/copy-{role}")
    node.bazil("volume", "unmount", "v")
    node.bazil("volume", "mount", "v", "mnt")
    for name, text in acked:
        with open(os.path.join(node.bench.dir, "expected"), "w", encoding="ascii") as f:
            f.write(text)
        node.sh(f"cmp {name} {node.bench.dir}/expected")
    node.sh(f"diff -r {source} mnt/copy-{role}")
    after = {w["role"]: w["restarts"] for w in node.status()["workers"]}
    check(after[role] >= before[role] + killer.kills - 1, f"{role}: {killer.kills} kills, restarts {before} {after}")
    print(f"copy: {role}: {killer.kills} kills, {len(acked)} of {n} acknowledged, copy {'went through' if copy.returncode == 0 else 'was repeated'}")


def attributes_survive(node, rng):
    """What was set of fresh files and is not stored yet, when mountd dies; and when it is stored."""
    settle(node)
    made = {}
    with Killer(node, "mountd", rng, (0.1, 0.4)) as killer:
        end = time.monotonic() + 5
        while time.monotonic() < end or killer.kills < 3:
            check(time.monotonic() < end + 30, "mountd was not killed")
            name = f"mnt/held-{len(made)}"
            mode, atime, mtime = rng.randrange(0o1000) | 0o400, rng.randrange(1 << 31), rng.randrange(1 << 31)
            steps = [f"chmod {mode:o} {name}", f"touch -a -d @{atime} {name}", f"touch -m -d @{mtime} {name}"]
            rng.shuffle(steps)
            if rng.random() < 0.3:
                steps += [f"mv {name} {name}.moved", f"mv {name}.moved {name}"]
            if rng.random() < 0.2:
                steps += [f"ln {name} {name}.link"]
            node.sh(f"echo {name} >{name} && " + " && ".join(steps), timeout=60)
            made[name] = f"{mode:o} {atime} {mtime}"

    def look(when):
        found = node.sh("stat -c '%n %a %X %Y' " + " ".join(made)).splitlines()
        wrong = [line for line in found if made[line.split(" ", 1)[0]] != line.split(" ", 1)[1]]
        check(len(found) == len(made) and not wrong, f"{when}: {wrong[:3]} should be {[made[line.split()[0]] for line in wrong[:3]]}")
    settle(node)
    look("after the deaths")
    node.bazil("volume", "unmount", "v")
    node.bazil("volume", "mount", "v", "mnt")
    look("stored")
    print(f"attributes: {len(made)} files, {killer.kills} kills of mountd")


REMOVED = """
import json, os, signal, subprocess, sys

def kill():
    workers = json.loads(subprocess.run(["bazil", "server", "status", "-json"], capture_output=True, check=True).stdout)["workers"]
    os.kill(next(w["pid"] for w in workers if w["role"] == "mountd"), signal.SIGKILL)

os.mkdir("mnt/gone", 0o700)
with open("mnt/gone.txt", "w") as f:
    f.write("text")
fds = [os.open("mnt/" + name, os.O_RDONLY) for name in ("gone", "gone.txt")]
was = [os.fstat(fd) for fd in fds]
os.rmdir("mnt/gone")
os.unlink("mnt/gone.txt")
for _ in range(2):
    kill()
    for fd, old in zip(fds, was):
        os.fsync(fd)
        new = os.fstat(fd)
        assert (new.st_mode, new.st_size, new.st_mtime_ns, new.st_nlink) == (old.st_mode, old.st_size, old.st_mtime_ns, 0), (old, new)
    assert os.pread(fds[1], 5, 0) == b"text"
for fd in fds:
    os.close(fd)
assert not {"gone", "gone.txt"} & set(os.listdir("mnt"))
"""


def removed_stay_open(node):
    """A file and a directory that were removed while open are what they were, also for the next mountd."""
    settle(node)
    r = node.command(["/usr/bin/python3", "-c", REMOVED], timeout=60)
    check(r.returncode == 0, f"removed while open: {r.stderr}")


def sync_under_fire(white, black, victim, role, rng, source, round_no):
    settle(white)
    settle(black)
    white.sh(f"cp -r {source} mnt/sync-{victim.name}-{role}-{round_no}; head -c 30000000 /dev/urandom >mnt/bulk-{victim.name}-{role}-{round_no}")
    killer = Killer(victim, role, rng, (0.02, 0.3))
    killer.start()
    time.sleep(0.2)
    failures = 0
    for _ in range(6):
        r = black.bazil("volume", "sync", "v", "white", ok=False, timeout=120)
        if r.returncode != 0:
            check(r.stderr.startswith("bazil: ") and len(r.stderr.splitlines()) == 1, f"no clear error: {r.stderr}")
            failures += 1
        black.command(["bash", "-c", f"cat mnt/bulk-{victim.name}-{role}-{round_no} | wc -c"], timeout=120)
    killer.stop()
    settle(white)
    settle(black)
    black.bazil("volume", "sync", "v", "white", timeout=120)
    r = black.command(["diff", "-r", "--no-dereference", white.home + "/mnt", black.home + "/mnt"])
    check(r.returncode == 0, f"after {victim.name}'s {role} was killed: {r.stdout[:1000]}{r.stderr[:1000]}")
    check(killer.kills > 2, f"only {killer.kills} kills of {role}")
    print(f"sync: {victim.name}'s {role}: {killer.kills} kills, {failures} of 6 syncs failed")


# Dirties every page of a mapped file, which nobody is told of before the kernel writes them back; then reads them again
# until its input ends.
MAPPER = """
import mmap, os, select, sys
f = os.open(sys.argv[1], os.O_RDWR)
mem = mmap.mmap(f, os.fstat(f).st_size)
for at in range(0, len(mem), 4096):
    mem[at:at + 8] = b'%08d' % (at // 4096)
print('dirty', flush=True)
while not select.select([0], [], [], 0.05)[0]:
    assert mem[4096:4104] == b'00000001'
mem.flush()
"""


def stuck_thread(pid):
    """Whether a thread of it is in an uninterruptible wait."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat", encoding="ascii") as f:
                if f.read().rpartition(")")[2].split()[0] == "D":
                    return True
    except OSError:
        pass
    return False


def killed_while_pages_are_dropped(white, black, rounds):
    """A pull brings a file whose mapped pages are dirty: to drop them the kernel has mountd's thread wait for answers that
    only mountd gives. Killed there it does not end before its successor has answered; so that must not wait for its end."""
    settle(white)
    settle(black)
    stuck = 0
    for n in range(rounds):
        name = f"mnt/mapped{n}"
        white.sh(f"head -c 16000000 /dev/zero >{name} && sync {name}")
        black.bazil("volume", "sync", "v", "white")
        mapper = subprocess.Popen([*black.prefix(), "python3", "-c", MAPPER, f"{black.home}/{name}"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, env=black.environment())
        check(mapper.stdout.readline() == "dirty\n", "the file could not be mapped")
        white.sh(f"echo more >>{name} && sync {name}")
        pid = black.worker("mountd")["pid"]
        sync = subprocess.Popen([*black.prefix(), black.bench.bin + "/bazil", "volume", "sync", "v", "white"],
                                env=black.environment(), stderr=subprocess.DEVNULL)
        wait_for(lambda: stuck_thread(pid) or sync.poll() is not None, "pages to be dropped")
        subprocess.run([*black.user.prefix(), "kill", "-KILL", str(pid)], capture_output=True)
        killed = time.monotonic()
        black.command(["ls", "-l", "mnt"], timeout=10)
        took = time.monotonic() - killed
        check(took < 3, f"the mount was away for {took:.1f} s")
        sync.wait(60)
        mapper.communicate("\n", timeout=60)
        check(mapper.returncode == 0, "who had it mapped was disturbed")
        stuck += "held back" in black.worker("mountd")["last_death"]
    settle(black)
    for n in range(rounds):
        black.sh(f"for i in 1 1000 3905; do dd if=mnt/mapped{n} bs=4096 skip=$i count=1 status=none | head -c 8 | "
                 "cmp - <(printf %08d $i) || exit 1; done")
    for node in (white, black):
        node.sh("rm mnt/mapped*")
    check(stuck > 0, f"in none of {rounds} rounds was a thread held back")
    print(f"mountd killed while pages are dropped: {rounds} rounds, a thread was held back in {stuck}")


def test(bench):
    rng = random.Random(harness.seed())
    rounds = int(os.environ.get("BAZIL_ROUNDS", "1"))
    white, black = bench.node("white"), bench.node("black")
    for node in (white, black):
        node.bazil("create")
        node.start()
    w, b = white.bazil("pubkey").strip(), black.bazil("pubkey").strip()
    white.sh("head -c 32 /dev/urandom >key && bazil sharing add friends <key && bazil volume create -sharing=friends v && mkdir mnt && bazil volume mount v mnt")
    white.sh(f"bazil peer add -name=black {b} && bazil peer storage allow black local && bazil peer volume allow black v")
    black.sh(f"bazil peer add -name=white {w} && bazil peer location set white 127.0.0.1:{white.port} && bazil sharing add friends <{white.home}/key")
    black.sh("bazil volume connect -sharing=friends white v && bazil volume storage add -sharing=friends v peerkey:white && mkdir mnt && bazil volume mount v mnt")
    source = "/usr/include/linux"
    killed_while_pages_are_dropped(white, black, 4)
    for n in range(rounds):
        attributes_survive(white, rng)
        removed_stay_open(white)
        for role in ("stored", "keyd", "syncd"):
            copy_under_fire(white, role, rng, source, n)
        black.bazil("volume", "sync", "v", "white", timeout=120)
        for victim in (black, white):
            for role in ("stored", "keyd", "syncd"):
                sync_under_fire(white, black, victim, role, rng, source, n)
    # The whole server, at once: the next start finds a clean house.
    pids = [white.server.pid] + harness.children(white.server.pid)
    for pid in pids:
        subprocess.run(["kill", "-KILL", str(pid)], capture_output=True)
    white.server.wait(10)
    white.server = None
    white.start()
    wait_for(lambda: not harness.mounts_below(white.home), "the dead mount to be cleared")
    white.bazil("volume", "mount", "v", "mnt")
    white.sh("ls mnt >/dev/null")
    white.stop()
    black.stop()


if __name__ == "__main__":
    harness.run(test)
