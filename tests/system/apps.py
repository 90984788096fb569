#!/usr/bin/env python3
"""Programs that people use, on a mount whose processes are killed meanwhile.

usage: apps.py BINDIR [-k WORD] [--root]    only the cases with WORD in their name; as root, who lets all users in
Longer with BAZIL_ROUNDS (1). BAZIL_SEED as printed repeats a run.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import time

import harness
from harness import check, say
from kills import Killer, settle

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
PAUSE = (0.3, 1.5)  # between two kills
MOUNTD_PAUSE = (7.6, 9.0)  # five deaths in 30 seconds take its mount down


class Bed:
    """One node with one mounted volume, and a directory outside of it."""

    def __init__(self, bench, rng, rounds, user):
        self.bench, self.rng, self.rounds = bench, rng, rounds
        self.node = bench.node("apps", user)
        shutil.copy(os.path.join(HERE, "apps_run.py"), bench.dir)
        self.script = os.path.join(bench.dir, "apps_run.py")
        self.node.bazil("create")
        self.node.start()
        self.node.sh("bazil volume create v && mkdir mnt out && bazil volume mount v mnt")
        self.node.sh("git config --global safe.directory '*'")
        self.mnt, self.out = self.node.home + "/mnt", self.node.home + "/out"

    def run(self, *argv, **kw):
        r = self.node.command(["python3", self.script, *map(str, argv)], **kw)
        check(r.returncode == 0, f"{argv}: {r.stderr[-3000:]}")
        return r.stdout

    def spawn(self, *argv, out):
        return subprocess.Popen([*self.node.prefix(), "python3", self.script, *map(str, argv)], stdout=out,
                                stderr=subprocess.PIPE, env=self.node.environment(), cwd=self.node.home)

    def storm(self):
        """mountds die seldom enough for their mount to stay, the others as often as it pleases."""
        return Storm(self.node, self.rng)

    def same(self, a, b):
        """Two trees are the same in everything: attributes, contents, hard links."""
        diff = self.node.tree("differences", a, b)
        check(not diff, f"{a} and {b} differ:\n" + "\n".join(diff))
        sums, links = ([json.loads(self.run(what, tree)) for tree in (a, b)] for what in ("sums", "links"))
        wrong = [name for name in sums[0] if sums[0][name] != sums[1].get(name)]
        check(not wrong, f"contents of {a} and {b} differ: {wrong[:5]}")
        check(links[0] == links[1], f"hard links of {a} and {b} differ")


class Storm:
    last = 0.0  # when a mountd was killed

    def __init__(self, node, rng):
        # The first one soon, since some cases are short.
        first = max(rng.uniform(1, 3), Storm.last + MOUNTD_PAUSE[0] - time.monotonic())
        self.killers = [Killer(node, "mountd", random.Random(rng.random()), MOUNTD_PAUSE, first),
                        Killer(node, ("stored", "keyd"), random.Random(rng.random()), PAUSE)]
        self.node = node

    def __enter__(self):
        for k in self.killers:
            k.start()
        return self

    def __exit__(self, *_):
        self.kills = [k.stop() for k in self.killers]
        Storm.last = max(Storm.last, self.killers[0].last)
        settle(self.node)


def sqlite(bed, journal):
    db = f"{bed.mnt}/{journal}.db"
    acks = f"{bed.out}/{journal}.acks"
    for n in range(bed.rounds):
        bed.run("create", db, journal)
        with open(acks, "ab") as out, bed.storm() as storm:
            jobs = [bed.spawn("write", db, i, 10, journal, out=out) for i in range(3)]
            jobs += [bed.spawn("read", db, 10, out=out) for _ in range(2)]
            for job in jobs:
                _, err = job.communicate(timeout=300)
                check(job.returncode == 0, f"{journal}: {err.decode()[-2000:]}\n{bed.node.log_text()[-2000:]}")
        num = bed.run("check", db, acks).strip()
        say(f"sqlite {journal}, round {n}: {num} transactions, kills {storm.kills}")
    bed.node.sh("bazil volume unmount v && bazil volume mount v mnt")
    bed.run("check", db, acks)


def sqlite_wal(bed):
    sqlite(bed, "WAL")


def sqlite_rollback(bed):
    sqlite(bed, "DELETE")
    sqlite(bed, "PERSIST")


def repository(bed):
    """Our own history where there is one; else one of our files."""
    bare = os.path.join(bed.bench.dir, "source.git")
    if os.path.exists(bare):
        return bare
    r = subprocess.run(["git", "-c", "safe.directory=*", "clone", "-q", "--bare", SOURCE, bare], capture_output=True)
    if r.returncode != 0:
        copy = os.path.join(bed.bench.dir, "source")
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("build", ".git"))
        subprocess.run("git init -q && git add . && git -c user.name=t -c user.email=t@t commit -qm all && "
                       f"git clone -q --bare . {bare}", shell=True, cwd=copy, check=True)
    subprocess.run(["chmod", "-R", "a+rX", bare], check=True)
    return bare


GIT = "export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t; set -e; "


def git(bed):
    bare = repository(bed)
    for n in range(bed.rounds):
        with bed.storm() as storm:
            bed.node.sh(GIT + f"""
                cd {bed.mnt}; rm -rf g g2; git clone -q {bare} g; cd g
                test -z "$(git status --porcelain)"
                git checkout -q -b work
                for i in $(seq 20); do
                    echo $i >file$i; echo $i >>README.md; git add -A; git commit -qm "change $i"
                    test -z "$(git status --porcelain)"
                done
                git checkout -q -b side HEAD~10; echo side >side; git add side; git commit -qm side
                git merge -q -m merge work; git stash list
                git mv side sidewards; git commit -qm moved
                git gc -q --prune=now; git fsck --full --strict --no-dangling
                git repack -adfq; git pack-refs --all; git reflog expire --expire=now --all; git gc -q --prune=now
                git fsck --full --strict --no-dangling
                test -z "$(git status --porcelain)"
                git clone -q . ../g2; cd ../g2; git fsck --full --strict --no-dangling
                test "$(git rev-parse HEAD)" = "$(git -C ../g rev-parse HEAD)"
                diff -r -x .git . ../g
                """, timeout=600)
        say(f"git, round {n}: cloned, committed, merged, gc'ed, fsck'ed; kills {storm.kills}")
    bed.node.sh(GIT + f"cd {bed.mnt}/g; git bundle create -q {bed.out}/b --all; cd {bed.out}; rm -rf back; git clone -q b back -b side; "
                f"cd back; git fsck --strict --no-dangling; diff -r -x .git . {bed.mnt}/g")


def build(bed):
    """Part of ourselves, built on the mount and beside it: the same bytes come out."""
    bare = repository(bed)
    script = GIT + """
        cd {dir}; rm -rf src; git clone -q {bare} src; cd src
        cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS="-ffile-prefix-map=$PWD=." >/dev/null
        ninja -C build -j2 cas tree noise >/dev/null
        cd build; find . -name 'lib*.a' -o -name '*.c.o' | sort | xargs sha256sum
        """
    with bed.storm() as storm:
        inside = bed.node.sh(script.format(dir=bed.mnt, bare=bare), timeout=600)
    outside = bed.node.sh(script.format(dir=bed.out, bare=bare), timeout=600)
    check(inside.count("\n") > 10, f"too little was built: {inside}")
    check(inside == outside, f"built inside:\n{inside}\nbuilt outside:\n{outside}")
    again = bed.node.sh(f"cd {bed.mnt}/src && ninja -C build cas tree noise | tail -1")
    check("no work" in again, f"built again although nothing changed: {again}")
    say(f"build: {inside.count(chr(10))} files the same inside and outside; kills {storm.kills}")


def copies(bed):
    seed = bed.rng.randrange(1 << 30)
    bed.run("tree", f"{bed.out}/tree", seed)
    ways = {"cp": "cp -a {a} {b}", "rsync": "rsync -aHAX --sparse {a}/ {b}/",
            "tar": "mkdir {b} && tar -C {a} --xattrs --sparse -cf - . | tar -C {b} --xattrs --warning=no-timestamp -xpf -"}
    for way, command in ways.items():
        inside, back, twice = f"{bed.mnt}/{way}", f"{bed.out}/{way}", f"{bed.mnt}/{way}2"
        with bed.storm() as storm:
            bed.node.sh(command.format(a=f"{bed.out}/tree", b=inside), timeout=300)
            bed.same(f"{bed.out}/tree", inside)
            bed.node.sh(command.format(a=inside, b=twice), timeout=300)
        bed.same(f"{bed.out}/tree", twice)
        bed.node.sh("bazil volume unmount v && bazil volume mount v mnt")
        bed.same(f"{bed.out}/tree", inside)
        bed.node.sh(command.format(a=inside, b=back), timeout=300)
        bed.same(f"{bed.out}/tree", back)
        say(f"{way}: in, copied inside, and out again the same; kills {storm.kills}")
    out = bed.node.sh(f"rsync -aHAXni --checksum {bed.out}/tree/ {bed.mnt}/rsync/")
    check(not out.strip(), f"rsync would still change: {out[:500]}")


def mixed(bed):
    for n in range(bed.rounds):
        seed = bed.rng.randrange(1 << 30)
        bed.run("mixed", f"{bed.mnt}/mixed{n}", seed, 1500)
        with bed.storm() as storm:
            bed.run("mixed", f"{bed.mnt}/mixed-killed{n}", seed + 1, 3000)
        say(f"mixed, round {n}: buffered, direct, mapped; kills {storm.kills}")


def fio(bed):
    if not shutil.which("fio"):
        say("fio: not installed, left out")
        return
    common = ("--size=24m --verify=crc32c --verify_fatal=1 --do_verify=1 --group_reporting --output-format=terse "
              f"--directory={bed.mnt} --randrepeat=0 --allrandrepeat=0 --fallocate=none")
    jobs = {
        "buffered": "--ioengine=psync --rw=randwrite --bsrange=512-256k --numjobs=2",
        "synced": "--ioengine=psync --rw=randwrite --bs=16k --fsync=64",
        "direct": "--ioengine=psync --direct=1 --rw=randwrite --bs=4k",
        "direct-large": "--ioengine=psync --direct=1 --rw=write --bs=1m",
        "mmap": "--ioengine=mmap --rw=randwrite --bs=4k",
        "sequential": "--ioengine=psync --rw=write --bssplit=4k/30:64k/40:1m/30",
    }
    for name, options in jobs.items():
        bed.node.sh(f"fio --name={name} {common} {options}", timeout=300)
        with bed.storm() as storm:
            bed.node.sh(f"fio --name={name}-killed {common} {options} --loops={1 + bed.rounds}", timeout=600)
        bed.node.sh(f"rm -f {bed.mnt}/{name}*")
        say(f"fio {name}: verified, again with kills {storm.kills}")


CASES = (sqlite_wal, sqlite_rollback, git, build, copies, mixed, fio)


def test(bench):
    rounds = int(os.environ.get("BAZIL_ROUNDS", "1"))
    word = sys.argv[sys.argv.index("-k") + 1] if "-k" in sys.argv else ""
    user = None
    if "--root" in sys.argv:
        harness.need_root()
        user = harness.User()
    bed = Bed(bench, random.Random(harness.seed()), rounds, user)
    chosen = [c for c in CASES if word in c.__name__]
    check(chosen, f"no case has {word!r} in its name")
    for case in chosen:
        say(f"--- {case.__name__}")
        case(bed)
    settle(bed.node)
    bed.node.bazil("volume", "unmount", "v")
    bed.node.stop()


harness.run(test)
