#!/usr/bin/env python3
"""Our mount against the native file system, gocryptfs, bindfs and libfuse's passthrough, the same work in one run.

usage: mount.py BINDIR [--quick] [--runs N] [--dir DIR] [--only NAME,...] [--image GIB] [--size MIB] [--entries N]
                       [--rows file,tree,git,micro]

Work: sequential write of incompressible data with fsync, reading it cold and warm, untar of a real tree, find and grep cold and
warm, rm -r, git clone and status, append of 4 KiB with fsync, one byte put in front of the big file (what our store grows by), and
single-threaded micro operations a second. Prints a table of medians, the ratios ours / each other, and the targets; the peak memory
of our processes after each row. What else it does, so that the figures are fair:

* Everything lies on one file system: with --image (root) a journaled ext4 in a pre-written image on a direct-io loop device; else
  DIR (default /var/tmp), and then the figures of creating files are those of that file system.
* "cold": the FUSE mount is unmounted and mounted again, and the caches are dropped (root; else the column says warm).
* Before each timed step memory is settled: dirty pages are written back and, as root, free memory is filled with page cache of a
  sparse file, so that no step pays for memory that the host has taken back.
* The source tar and the random data lie in /dev/shm.
* syncfs on a FUSE mount does not reach the disk: untar is timed without it for all, and so is native.
"""
import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.getuid() == 0


def sh(*argv, **kw):
    return subprocess.run(argv, check=True, **kw)


class Native:
    name = "native"

    def __init__(self, base, _bin):
        self.dir = os.path.join(base, "native")
        os.mkdir(self.dir)

    def remount(self):
        pass

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


class Gocryptfs:
    name = "gocryptfs"

    def __init__(self, base, _bin):
        self.back, self.dir = os.path.join(base, "gocryptfs.back"), os.path.join(base, "gocryptfs")
        os.mkdir(self.back)
        os.mkdir(self.dir)
        self.password = os.path.join(base, "password")
        with open(self.password, "w", encoding="ascii") as f:
            f.write("bench")
        sh("gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", self.password, self.back)
        self.mount()

    def mount(self):
        sh("gocryptfs", "-q", "-nosyslog", "-passfile", self.password, self.back, self.dir)

    def remount(self):
        sh("fusermount3", "-u", self.dir)
        self.mount()

    def close(self):
        subprocess.run(["fusermount3", "-u", self.dir], check=False)


class Mirror:
    """A FUSE file system that shows a directory."""

    def __init__(self, base, _bin):
        self.base, self.back, self.dir = base, os.path.join(base, self.name + ".back"), os.path.join(base, self.name)
        os.mkdir(self.back)
        os.mkdir(self.dir)
        self.mount()

    def remount(self):
        sh("fusermount3", "-u", self.dir)
        self.mount()

    def close(self):
        subprocess.run(["fusermount3", "-u", self.dir], check=False)
        shutil.rmtree(self.back, ignore_errors=True)


class Bindfs(Mirror):
    name = "bindfs"

    @staticmethod
    def is_here():
        return shutil.which("bindfs")

    def mount(self):
        sh("bindfs", self.back, self.dir)


class Passthrough(Mirror):
    """libfuse's examples, which Debian ships as source. passthrough_ll holds a descriptor for each inode that the kernel knows; where it may
    not have so many, what follows the big file is done by passthrough_fh, which goes by paths, with the same long timeouts, and is several
    times slower; a smaller tree (--entries) needs none."""
    name = "passthrough"
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    source = "/usr/share/doc/libfuse3-dev/examples/{}.c"
    program = "passthrough_ll"

    @classmethod
    def is_here(cls):
        return os.path.exists(cls.source.format(cls.program)) and shutil.which("cc")

    @classmethod
    def want_files(cls, num):
        """Whether so many can be had."""
        if num > cls.most_files:
            try:
                resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[0], num))
            except (ValueError, PermissionError):
                return False
        cls.most_files = max(num, cls.most_files)
        return True

    def use(self, program):
        if program != self.program:
            sh("fusermount3", "-u", self.dir)
            self.program = program
            self.mount()

    def build(self):
        binary = os.path.join(self.base, self.program)
        if not os.path.exists(binary):
            with open(self.source.format(self.program), encoding="utf-8") as f:
                code = f.read().replace("_timeout = 0;", "_timeout = 86400;")
            with open(binary + ".c", "w", encoding="utf-8") as f:
                f.write(code)
            # The examples include files of libfuse's own build.
            with open(os.path.join(self.base, "config.h"), "w", encoding="ascii") as f:
                f.write("#define HAVE_COPY_FILE_RANGE 1\n#define HAVE_UTIMENSAT 1\n#define HAVE_FSTATAT 1\n")
            flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, check=True, text=True)
            sh("cc", "-O2", "-w", "-D_GNU_SOURCE", "-DHAVE_UTIMENSAT", "-DHAVE_FSTATAT", "-I", self.base, "-I", os.path.dirname(self.source),
               "-o", binary, binary + ".c", *flags.stdout.split())
        return binary

    def mount(self):
        if self.program == "passthrough_fh":
            sh(self.build(), "-o", f"modules=subdir,subdir={self.back},kernel_cache", self.dir)
        else:
            sh("prlimit", f"--nofile={self.most_files}:{self.most_files}", self.build(), "-o", f"source={self.back},cache=always", self.dir)


class Bazil:
    name = "bazil"

    def __init__(self, base, bindir):
        self.base = base
        self.bazil = [os.path.join(bindir, "bazil"), "-data-dir=" + os.path.join(base, "bazil.data")]
        self.dir = os.path.join(base, "bazil")
        os.mkdir(self.dir)
        sh(*self.bazil, "create")
        self.server = subprocess.Popen([*self.bazil, "server", "run"], stdout=subprocess.PIPE, text=True)
        if "Listening" not in self.server.stdout.readline():
            raise SystemExit("bench: the server did not start")
        sh(*self.bazil, "volume", "create", "bench")
        self.mount()

    def mount(self):
        sh(*self.bazil, "volume", "mount", "bench", self.dir)

    def remount(self):
        sh(*self.bazil, "volume", "unmount", "bench")
        self.mount()

    def stored_bytes(self):
        """What the arenas hold."""
        os.sync()
        store = os.path.join(self.base, "bazil.data", "store")
        return sum(os.stat(os.path.join(store, n)).st_blocks * 512 for n in os.listdir(store) if n.startswith("arena."))

    def memory(self):
        """Peak resident MiB of each process."""
        status = json.loads(subprocess.run([*self.bazil, "server", "status", "-json"], capture_output=True, check=True).stdout)
        found = {}
        for w in status["workers"]:
            with open(f"/proc/{w['pid']}/status", encoding="ascii") as f:
                for line in f:
                    if line.startswith("VmHWM"):
                        found[w["role"]] = int(line.split()[1]) // 1024
        return found

    def close(self):
        sh(*self.bazil, "server", "stop")
        self.server.wait(30)


def settle(base):
    os.sync()
    if not ROOT:
        return
    free = 0
    with open("/proc/meminfo", encoding="ascii") as f:
        for line in f:
            if line.startswith("MemFree"):
                free = int(line.split()[1]) * 1024
    if free < 1 << 30:
        return
    path = os.path.join(base, "settle")
    with open(path, "wb") as f:
        f.truncate(free - (1 << 29))
    subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)


def drop_caches():
    os.sync()
    if ROOT:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("3\n")


def timed(fn):
    start = time.monotonic()
    fn()
    return time.monotonic() - start


def micro(where, num):
    """Operations a second, one thread."""
    d = os.path.join(where, "micro")
    os.mkdir(d)
    names = [os.path.join(d, f"file-{i}") for i in range(num)]
    data = b"x" * 100

    def create():
        for n in names:
            fd = os.open(n, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
            os.write(fd, data)
            os.close(fd)

    def stat():
        for n in names:
            os.stat(n)

    def read():
        for n in names:
            fd = os.open(n, os.O_RDONLY)
            os.read(fd, 4096)
            os.close(fd)

    def readdir():
        os.listdir(d)

    def rename():
        for n in names:
            os.rename(n, n + ".new")

    def unlink():
        for n in names:
            os.unlink(n + ".new")

    found = {}
    for what, fn in (("create", create), ("stat", stat), ("open+read+close", read), ("readdir", readdir), ("rename", rename),
                     ("unlink", unlink)):
        found[what + " ops/s"] = num / timed(fn)
    os.rmdir(d)
    return found


def fsyncs(where, num):
    """Median milliseconds of append 4 KiB + fsync."""
    took = []
    fd = os.open(os.path.join(where, "appended"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    block = os.urandom(4096)
    for _ in range(num):
        start = time.monotonic()
        os.write(fd, block)
        os.fsync(fd)
        took.append(time.monotonic() - start)
    os.close(fd)
    return statistics.median(took) * 1000


def insert_front(path):
    """The file with one byte more in front, as an editor saves it."""
    with open(path, "rb") as old, open(path + ".new", "wb") as new:
        new.write(b"!")
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())
    os.rename(path + ".new", path)


def big_file(fs, found, step, base, source, size_mb):
    big = os.path.join(fs.dir, "big")
    step("write+fsync", "dd", f"if={source}/random", f"of={big}", "bs=1M", "conv=fsync")
    step("read cold", "dd", f"if={big}", "of=/dev/null", "bs=1M", cold=True)
    step("read warm", "dd", f"if={big}", "of=/dev/null", "bs=1M")
    sh("cmp", big, f"{source}/random")
    before = fs.stored_bytes() if isinstance(fs, Bazil) else 0
    settle(base)
    found["insert 1 byte"] = timed(lambda: insert_front(big))
    found["  stored MiB"] = (fs.stored_bytes() - before) / 1048576 if isinstance(fs, Bazil) else size_mb
    os.unlink(big)


def tree_of_files(fs, step, source):
    tree = os.path.join(fs.dir, "tree")
    os.mkdir(tree)
    step("untar", "tar", "xf", f"{source}/tree.tar", "-C", tree)
    step("find cold", "find", tree, "-size", "+1", cold=True)
    step("find warm", "find", tree, "-size", "+1")
    step("grep cold", "bash", "-c", f"grep -r no-such-string-anywhere {tree} || true", cold=True)
    step("grep warm", "bash", "-c", f"grep -r no-such-string-anywhere {tree} || true")
    step("rm -r", "rm", "-r", tree)


def git(fs, step, source):
    clone = os.path.join(fs.dir, "clone")
    step("git clone", "git", "clone", "-q", "--no-hardlinks", f"{source}/repository", clone)
    step("git status", "git", "-C", clone, "status", "--short")
    step("git status warm", "git", "-C", clone, "status", "--short")
    sh("rm", "-r", clone)


def one_run(fs, base, source, args, num_files, peaks):
    found = {}
    if isinstance(fs, Passthrough):
        fs.use("passthrough_ll")

    def step(name, *argv, cold=False):
        if cold:
            fs.remount()
            drop_caches()
        settle(base)
        found[name] = timed(lambda: sh(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        if isinstance(fs, Bazil):
            for role, mib in fs.memory().items():
                peaks.setdefault(name, {})[role] = max(mib, peaks.get(name, {}).get(role, 0))

    if "file" in args.rows:
        big_file(fs, found, step, base, source, args.size)
    if isinstance(fs, Passthrough) and num_files >= fs.most_files:
        fs.use("passthrough_fh")
    if "tree" in args.rows:
        tree_of_files(fs, step, source)
    if "git" in args.rows and os.path.isdir(f"{source}/repository"):
        git(fs, step, source)
    if "micro" in args.rows:
        settle(base)
        found["append+fsync ms"] = fsyncs(fs.dir, 200)
        os.unlink(os.path.join(fs.dir, "appended"))
        settle(base)
        found.update(micro(fs.dir, args.micro))
    return found


def make_image(base, gib):
    """A journaled ext4 in a pre-written image."""
    image, mnt = os.path.join(base, "image"), os.path.join(base, "mnt")
    os.mkdir(mnt)
    sh("dd", "if=/dev/zero", f"of={image}", "bs=1M", f"count={gib * 1024}", "status=none", "conv=fsync")
    loop = sh("losetup", "--direct-io=on", "-f", "--show", image, capture_output=True, text=True).stdout.strip()
    sh("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop)
    sh("mount", "-o", "noatime", loop, mnt)
    return loop, mnt


# other: our time may be so many times the other's.
TARGETS = {
    "write+fsync": ("gocryptfs", 1 / 1.5), "read cold": ("passthrough", 1.2), "read warm": ("native", 2), "untar": ("gocryptfs", 0.4),
    "find cold": ("native", 2), "find warm": ("native", 1.5), "grep cold": ("passthrough", 1), "grep warm": ("native", 2),
    "rm -r": ("passthrough", 1.2), "git clone": ("gocryptfs", 0.4), "git status warm": ("native", 2), "append+fsync ms": ("native", 2),
}


def target(what, row):
    other, most = TARGETS.get(what, (None, 0))
    if not other or "bazil" not in row:
        return ""
    if not row.get(other):
        return f"<= {other} x {most:.2f}: not measured"
    return f"<= {other} x {most:.2f}: " + ("reached" if row["bazil"] <= row[other] * most else "MISSED")


def make_repository(source):
    """A repository of the tree, with a history of one commit."""
    repository = f"{source}/repository"
    os.mkdir(repository)
    sh("tar", "xf", f"{source}/tree.tar", "-C", repository)
    git = ["git", "-C", repository, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
    sh("git", "init", "-q", repository)
    sh(*git, "add", "-A")
    sh(*git, "commit", "-q", "-m", "tree")
    for name in os.listdir(repository):
        if name != ".git":
            shutil.rmtree(os.path.join(repository, name))


def table(results, names):
    def median(name, what):
        return statistics.median(r[what] for r in results[name]) if what in results.get(name, [{}])[0] else None
    others = [n for n in names if n != "bazil"] if "bazil" in names else []
    print(f"{'':22}" + "".join(f"{n:>12}" for n in names) + "".join(f"{'/' + n:>13}" for n in others) + "  target")
    for what in max((r[0] for r in results.values()), key=len):
        row = {n: median(n, what) for n in names}
        line = f"{what:22}" + "".join("{:>12}".format("-" if v is None else f"{v:.3f}" if v < 1000 else f"{v:.0f}") for v in row.values())
        ours = row.get("bazil")
        for other in others:
            line += f"{ours / row[other]:13.2f}" if ours and row.get(other) else " " * 13
        print(line + "  " + target(what, row))
    print("times in seconds unless said; a ratio of times below 1 and of ops/s above 1 is in our favour")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("bindir")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--dir", default="/var/tmp")
    p.add_argument("--only", default="native,passthrough,bindfs,gocryptfs,bazil")
    p.add_argument("--size", type=int, default=0, help="MiB of the big file")
    p.add_argument("--rows", default="file,tree,git,micro")
    p.add_argument("--entries", type=int, default=0, help="of the tree; all")
    p.add_argument("--image", type=int, default=0)
    args = p.parse_args()
    bindir = os.path.abspath(args.bindir)
    base = tempfile.mkdtemp(prefix="bazil-bench.", dir=args.dir)
    source = tempfile.mkdtemp(prefix="bazil-bench.", dir="/dev/shm")
    work, loop = base, None
    results, columns, peaks = {}, [], {}
    args.size = args.size or (256 if args.quick else 2048)
    args.micro = 2000 if args.quick else 20000
    try:
        if args.image:
            loop, work = make_image(base, args.image)
        sh("dd", "if=/dev/urandom", f"of={source}/random", "bs=1M", f"count={args.size}", "status=none")
        trees = ["usr/include"] if args.quick else ["usr/include", "usr/share", "usr/lib/python3", "usr/lib/gcc"]
        names = subprocess.run(["find", *[t for t in trees if os.path.isdir("/" + t)]], cwd="/", capture_output=True, check=True).stdout
        names = b"\n".join(names.splitlines()[:args.entries or None])
        subprocess.run(["tar", "cf", f"{source}/tree.tar", "-C", "/", "--no-recursion", "-T", "-"], input=names, check=False,
                       stderr=subprocess.DEVNULL)
        num = subprocess.run(["tar", "tf", f"{source}/tree.tar"], capture_output=True, check=True).stdout.count(b"\n")
        print(f"{args.size} MiB random; tree of {num} entries, {os.path.getsize(source + '/tree.tar') >> 20} MiB; "
              f"on {'ext4 image' if args.image else args.dir}; {args.runs} runs, medians; {'cold is cold' if ROOT else 'not root: cold is warm'}")
        if "git" in args.rows and shutil.which("git"):
            make_repository(source)
        # The clone has an object for each file beside it.
        num_files = 3 * num + args.micro
        if not Passthrough.want_files(num_files + 1):
            print("passthrough: passthrough_ll may not open as many files as the trees have; from untar on it is passthrough_fh,"
                  " several times slower (--entries makes a smaller tree)")
        for cls in (Native, Passthrough, Bindfs, Gocryptfs, Bazil):
            if cls.name not in args.only.split(",") or (cls is Gocryptfs and not shutil.which("gocryptfs")) or (
                    issubclass(cls, Mirror) and not cls.is_here()):
                continue
            columns.append(cls.name)
            fs = cls(work, bindir)
            try:
                results[cls.name] = [one_run(fs, work, source, args, num_files, peaks) for _ in range(args.runs)]
                if cls is Bazil:
                    memory = fs.memory()
            finally:
                fs.close()
        table(results, columns)
        if "bazil" in columns:
            print("peak memory, MiB:", ", ".join(f"{k} {v}" for k, v in sorted(memory.items())))
            for what, found in peaks.items():
                print(f"  {what:20}", ", ".join(f"{k} {v}" for k, v in sorted(found.items())))
    finally:
        if loop:
            subprocess.run(["umount", work], check=False)
            subprocess.run(["losetup", "-d", loop], check=False)
        shutil.rmtree(base, ignore_errors=True)
        shutil.rmtree(source, ignore_errors=True)


sys.exit(main())
