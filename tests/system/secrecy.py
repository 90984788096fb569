"""Looks for plaintext and keys where they must not be: data directories, network captures, memory of processes.

The needles are the names of files (6 bytes and longer, so that chance does not find them) and 16-byte runs of contents, several from
each file of a sample, plus all of marked ones. The search is by Aho-Corasick-like hashing of 16-byte windows, so that it is exact and
takes a few seconds for hundreds of MB.
"""
import os
import re
import subprocess
import time

from harness import Failure, check, wait_for


class Capture:
    """tcpdump on the loopback (or in a namespace) until stop()."""

    def __init__(self, bench, netns):
        self.path = os.path.join(bench.dir, "capture.pcap")
        prefix = ["ip", "netns", "exec", netns] if netns else []
        self.process = subprocess.Popen([*prefix, "tcpdump", "-i", "any", "-s", "0", "-B", "65536", "-w", self.path, "-U",
                                         "-Z", "root", "tcp"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        bench.undo.append(self.stop)
        wait_for(lambda: os.path.exists(self.path) and os.path.getsize(self.path) >= 24, "tcpdump")

    def stop(self):
        if self.process.poll() is None:
            time.sleep(0.5)
            self.process.terminate()
            self.process.wait(10)
        return self.path


def run_is_telling(run):
    """Not a run of one or two values: those (zeros, spaces, dashes) stand in any memory and tell nothing."""
    return len(set(run)) >= 6


def content_runs(roots, per_file=3, most=60000):
    """16-byte runs from files: at fixed places in each file."""
    runs = {}
    for root in roots:
        for base, _, files in os.walk(root):
            for name in files:
                path = os.path.join(base, name)
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                with open(path, "rb") as f:
                    data = f.read(1 << 16)
                for k in range(per_file):
                    at = (len(data) * (2 * k + 1)) // (2 * per_file)
                    run = data[at:at + 16]
                    if len(run) == 16 and run_is_telling(run):
                        runs[run] = path
                if len(runs) >= most:
                    return runs
    return runs


def file_names(roots, shortest=8):
    names = set()
    for root in roots:
        for _, dirs, files in os.walk(root):
            names.update(n.encode(errors="surrogateescape") for n in dirs + files if len(n) >= shortest)
    return names


class Needles:
    """Finds any of many byte strings: 8-byte prefixes in a set, looked up at each offset by one compiled search."""

    def __init__(self, strings):
        self.by_prefix = {}
        for s in strings:
            self.by_prefix.setdefault(s[:8], []).append(s)

    def find(self, data):
        """The first needle found in data, or None."""
        prefixes = self.by_prefix
        view = bytes(data)
        for shift in range(8):
            # All 8-byte words at this alignment as a set: one set intersection instead of a search per needle.
            words = {view[i:i + 8] for i in range(shift, len(view) - 7, 8)}
            for prefix in words & prefixes.keys():
                for s in prefixes[prefix]:
                    if s in view:
                        return s
        return None


def blocks(f, size=4 << 20, overlap=256):
    tail = b""
    while True:
        data = f.read(size)
        if not data:
            return
        yield tail + data
        tail = data[-overlap:]


def search_file(path, needles):
    with open(path, "rb") as f:
        for block in blocks(f):
            hit = needles.find(block)
            if hit:
                return hit
    return None


def memory(pid):
    """All readable memory of a process, piece by piece, without what is only mapped from program files."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)\s*(.*)", line)
            start, end, mode, path = int(m[1], 16), int(m[2], 16), m[3], m[5]
            if "r" not in mode or path in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            # A sparse map (LMDB's, of a terabyte) is read only where its file has data: by its file, elsewhere.
            if end - start > 1 << 33:
                continue
            tail = b""
            at = start
            while at < end:
                size = min(4 << 20, end - at)
                try:
                    mem.seek(at)
                    data = mem.read(size)
                except OSError:
                    data = b""
                if data:
                    yield tail + data
                    tail = data[-256:]
                at += size


def search_memory(pid, needles):
    for block in memory(pid):
        hit = needles.find(block)
        if hit:
            return hit
    return None


def stop_words():
    """Strings that are no secret although a file is named so: they stand in our own programs and libraries."""
    words = b""
    for path in os.listdir("/usr/lib/x86_64-linux-gnu") if os.path.isdir("/usr/lib/x86_64-linux-gnu") else []:
        if re.match(r"(libc|libev|libcrypto|libsodium|liblmdb|libmsgpackc|libzstd|libseccomp|libfuse3|ld-linux.*|libm)\.so", path):
            with open("/usr/lib/x86_64-linux-gnu/" + path, "rb") as f:
                words += f.read()
    return words


def check_secrets(bench, white, black, roots, capture):
    harmless = stop_words()
    for name in os.listdir(bench.bin):
        with open(os.path.join(bench.bin, name), "rb") as f:
            harmless += f.read()
    strings = [s for s in list(content_runs(roots)) + list(file_names(roots)) if s not in harmless]
    strings += [b"deep-blue-marker", b"user.colour", b"tail-of-the-sparse-file"]
    check(len(strings) > 10000, f"only {len(strings)} needles")
    needles = Needles(strings)

    # The search finds what is there: the files themselves, and mountd's memory, which holds names.
    sample = next(path for path in content_runs(roots[:1], most=1).values())
    check(search_file(sample, needles), "the search is blind")
    check(search_memory(white.worker("mountd")["pid"], needles), "the search is blind in memory")

    for node in (white, black):
        for base, _, files in os.walk(node.data_dir):
            for name in files:
                path = os.path.join(base, name)
                hit = search_file(path, needles)
                check(not hit, f"{node.name}: {path} holds {hit!r}")
    hit = search_file(capture.stop(), needles)
    check(os.path.getsize(capture.path) > 1 << 20, "the capture is empty")
    check(not hit, f"the capture holds {hit!r}")
    for node in (white, black):
        for role in ("stored", "syncd"):
            hit = search_memory(node.worker(role)["pid"], needles)
            check(not hit, f"{node.name}: {role}'s memory holds {hit!r}")
    check_key(white)
    check_key(black)


def check_key(node):
    """The sharing key is in keyd's memory and in no other process of the node."""
    with open(os.path.join(node.home, "sekrit"), "rb") as f:
        key = f.read()
    pids = {}
    status = node.status()
    for w in status["workers"]:
        if w["pid"]:
            pids.setdefault(w["role"], []).append(w["pid"])
    pids["supervisor"] = [status["pid"]]
    check({"keyd", "stored", "syncd", "mountd", "supervisor"} <= set(pids), f"processes: {pids}")
    for role, some in pids.items():
        for pid in some:
            found = any(key in block for block in memory(pid))
            if role == "keyd":
                check(found, f"{node.name}: the sharing key is not in keyd's memory: the search is blind")
            else:
                check(not found, f"{node.name}: the sharing key is in {role}'s memory")
