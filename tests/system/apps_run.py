#!/usr/bin/env python3
"""What apps.py runs inside a mount, as the user who may look into it.

usage: apps_run.py write DB ID SECONDS JOURNAL    transactions; each acknowledged one is a line on standard output
       apps_run.py read DB SECONDS                looks at the sum again and again
       apps_run.py check DB ACKS                  integrity, and all acknowledged transactions, each once
       apps_run.py mixed FILE SEED STEPS          buffered, direct and mapped accesses of one file against a model
       apps_run.py tree DIR SEED                  a tree of everything that a file system can hold
       apps_run.py links DIR                      groups of hard links, as JSON
       apps_run.py sums DIR                       hashes of all regular files, as JSON
"""
import hashlib
import json
import mmap
import os
import random
import sqlite3
import stat
import sys
import time

ACCOUNTS = 8
TOTAL = 8000


def connect(path):
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("PRAGMA synchronous=FULL")
    return db


def create(path, journal):
    db = connect(path)
    got = db.execute(f"PRAGMA journal_mode={journal}").fetchone()[0]
    assert got.upper() == journal.upper(), got
    db.executescript("CREATE TABLE IF NOT EXISTS done (writer INT, n INT, data BLOB, sum TEXT);"
                     "CREATE INDEX IF NOT EXISTS i ON done (writer, n);"
                     "CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, money INT);")
    for i in range(ACCOUNTS):
        db.execute("INSERT OR IGNORE INTO account VALUES (?, ?)", (i, TOTAL // ACCOUNTS))
    db.close()


def write(path, who, seconds, journal):
    rng = random.Random(f"{who} {time.time_ns()}")
    db = connect(path)
    db.execute(f"PRAGMA journal_mode={journal}")
    n = db.execute("SELECT coalesce(max(n), -1) FROM done WHERE writer=?", (int(who),)).fetchone()[0]
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        n += 1
        data = rng.randbytes(rng.choice((10, 300, 5000)))
        a, b = rng.sample(range(ACCOUNTS), 2)
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO done VALUES (?, ?, ?, ?)", (int(who), n, data, hashlib.sha256(data).hexdigest()))
            db.execute("UPDATE account SET money = money - 1 WHERE id=?", (a,))
            db.execute("UPDATE account SET money = money + 1 WHERE id=?", (b,))
            if n % 20 == 19:  # something to free and use again
                db.execute("UPDATE done SET data = x'' , sum = ? WHERE writer=? AND n=?",
                           (hashlib.sha256(b"").hexdigest(), int(who), rng.randrange(n)))
            db.execute("COMMIT")
        except sqlite3.OperationalError as e:
            if "locked" not in str(e):
                raise
            if db.in_transaction:
                db.execute("ROLLBACK")
            n -= 1
            continue
        os.write(1, f"{who} {n}\n".encode())


def read(path, seconds):
    db = connect(path)
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        total = db.execute("SELECT sum(money) FROM account").fetchone()[0]
        assert total == TOTAL, f"half a transaction was seen: {total}"
        db.execute("SELECT count(*), sum(length(data)) FROM done").fetchone()


def check(path, acks):
    db = connect(path)
    found = [row[0] for row in db.execute("PRAGMA integrity_check")]
    assert found == ["ok"], found
    with open(acks, encoding="ascii") as f:
        acked = {tuple(map(int, line.split())) for line in f}
    seen = {}
    for writer, n, data, digest in db.execute("SELECT writer, n, data, sum FROM done"):
        assert hashlib.sha256(data).hexdigest() == digest, f"damaged row {writer} {n}"
        seen[writer, n] = seen.get((writer, n), 0) + 1
    lost = sorted(acked - set(seen))
    assert not lost, f"{len(lost)} of {len(acked)} acknowledged transactions are lost: {lost[:5]}"
    twice = [k for k, v in seen.items() if v > 1]
    assert not twice, f"done twice: {twice[:5]}"
    assert db.execute("SELECT sum(money) FROM account").fetchone()[0] == TOTAL
    print(len(seen))


def mixed(path, seed, steps):
    """One file, one model of it, and every way to write and read it in turn."""
    rng = random.Random(int(seed))
    size, page = 4 << 20, 4096
    model = bytearray(size)
    plain = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(plain, size)
    direct = os.open(path, os.O_RDWR | os.O_DIRECT)
    mapped = mmap.mmap(plain, size)
    buf = mmap.mmap(-1, 256 * page)  # O_DIRECT wants aligned memory
    for step in range(int(steps)):
        how = rng.choice(("plain", "direct", "map"))
        at, n = rng.randrange(size), rng.randrange(1, 200_000)
        if how == "direct":
            at, n = at // page * page, min((n // page + 1) * page, len(buf))
        n = min(n, size - at)
        if rng.random() < 0.5:
            data = rng.randbytes(n) if rng.random() < 0.8 else bytes(n)
            if how == "plain":
                done = os.pwrite(plain, data, at)
            elif how == "direct":
                buf[:n] = data
                done = os.pwritev(direct, [memoryview(buf)[:n]], at)
            else:
                mapped[at:at + n] = data
                done = n
                if rng.random() < 0.3:
                    mapped.flush()
            assert done == n, f"step {step}: {how}: {done} of {n} bytes"
            model[at:at + n] = data
        else:
            if how == "plain":
                got = os.pread(plain, n, at)
            elif how == "direct":
                done = os.preadv(direct, [memoryview(buf)[:n]], at)
                got = bytes(buf[:done])
            else:
                got = mapped[at:at + n]
            if got != model[at:at + n]:
                bad = next((i for i in range(min(n, len(got))) if got[i] != model[at + i]), len(got))
                raise AssertionError(f"step {step}: {how}: {at}+{n}: {len(got)} bytes, wrong from {at + bad} on")
        if rng.random() < 0.02:
            os.fsync(plain)
    mapped.close()
    os.close(direct)
    os.close(plain)
    with open(path, "rb") as f:
        assert f.read() == model, "read again at the end"


def make_tree(root, seed):
    rng = random.Random(int(seed))
    os.makedirs(root)
    dirs, files = [root], []
    names = ["plain", "with space", "-dash", "new\nline", "ünïcode", "x" * 255, "quote'\"", "back\\slash", ".hidden", "tab\t"]
    for i in range(12):
        path = os.path.join(rng.choice(dirs), f"{rng.choice(names)[:200]}{i}")
        os.mkdir(path)
        dirs.append(path)
    for i in range(160):
        path = os.path.join(rng.choice(dirs), f"{rng.choice(names)[:200]}-{i}")
        kind = rng.randrange(12)
        if kind == 0:
            os.symlink(rng.choice(["nowhere", "/etc/passwd", "a" * 1000, "../x"]), path)
            continue
        if kind == 1:
            os.mkfifo(path, 0o640)
        elif kind == 2 and files:
            os.link(rng.choice(files), path)
            continue
        else:
            with open(path, "wb") as f:
                size = rng.choice((0, 1, 4096, 4097, 70_000, 600_000))
                f.write(rng.randbytes(size) if rng.random() < 0.5 else b"text of a kind\n" * (size // 15))
                if kind == 3:  # sparse
                    f.seek(3 << 20)
                    f.write(b"end")
                    f.truncate((4 << 20) + rng.randrange(9999))
            files.append(path)
            for j in range(rng.choice((0, 0, 1, 3))):
                os.setxattr(path, f"user.name{j}", rng.randbytes(rng.choice((0, 5, 1000))))
        # tar makes a file with its mode and only then sets attributes: an ordinary user cannot if it is read-only.
        os.chmod(path, rng.choice((0o644, 0o600, 0o755, 0o640, 0o640 if os.listxattr(path) else 0o444)))
        os.utime(path, ns=(rng.randrange(1 << 60), rng.randrange(-(1 << 60), 1 << 60)))
    for path in sorted(dirs, reverse=True):
        if path != root:
            os.chmod(path, rng.choice((0o755, 0o700, 0o2755)))
        os.utime(path, ns=(rng.randrange(1 << 60), rng.randrange(1 << 60)))


def links(root):
    groups = {}
    for base, _, names in os.walk(root):
        for name in names:
            path = os.path.join(base, name)
            st = os.lstat(path)
            if st.st_nlink > 1:
                groups.setdefault(st.st_ino, []).append(os.path.relpath(path, root))
    print(json.dumps(sorted(sorted(g) for g in groups.values())))


def sums(root):
    found = {}
    for base, _, names in os.walk(root):
        for name in names:
            path = os.path.join(base, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as f:
                    found[os.path.relpath(path, root)] = hashlib.sha256(f.read()).hexdigest()
    print(json.dumps(found))


if __name__ == "__main__":
    {"create": create, "write": write, "read": read, "check": check, "mixed": mixed, "tree": make_tree,
     "links": links, "sums": sums}[sys.argv[1]](*sys.argv[2:])
