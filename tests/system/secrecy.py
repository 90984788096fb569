"""Looks for plaintext and keys where they must not be: data directories, network captures, memory of processes.

The search itself is tests/system/scan.c: every aligned 16-byte run of every file of the tree, and every file name.
"""
import glob
import os
import re
import subprocess
import time

from harness import check, wait_for


def ports(nodes):
    """Every port that a node has listened on."""
    return sorted({int(port) for node in nodes for port in re.findall(r"^bazil: Listening on \[::\]:(\d+)$", node.log_text(), re.M)})


class Capture:
    """tcpdump on all interfaces (of a namespace) until stop()."""

    def __init__(self, bench, netns):
        self.netns = netns
        self.path = os.path.join(bench.dir, "capture.pcap")
        prefix = ["ip", "netns", "exec", netns] if netns else []
        self.process = subprocess.Popen([*prefix, "tcpdump", "-i", "any", "-s", "0", "-B", "65536", "-w", self.path, "-U",
                                         "-Z", "root", "tcp"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        bench.undo.append(self.stop)
        wait_for(lambda: os.path.exists(self.path) and os.path.getsize(self.path) >= 24, "tcpdump")

    def stop(self):
        if self.process.poll() is None:
            time.sleep(0.5)
            self.process.terminate()
            self.process.wait(10)
        return self.path

    def between(self, nodes):
        """stop(), and the path of what the nodes said to each other, who may share their interfaces with others' traffic.
        In a namespace of their own it is all that there was."""
        self.stop()
        if self.netns:
            return self.path
        theirs = self.path + ".nodes"
        subprocess.run(["tcpdump", "-r", self.path, "-w", theirs, "-Z", "root", " or ".join(f"tcp port {p}" for p in ports(nodes))],
                       check=True, capture_output=True)
        return theirs


def harmless(bench):
    """Our programs and the libraries in them: a word of theirs is no leak although some file is named so."""
    libs = ["libc", "libev", "libcrypto", "libsodium", "liblmdb", "libmsgpackc", "libzstd", "libseccomp", "libfuse3", "ld-linux",
            "libm", "libjansson", "libgcc_s", "libcmph"]
    paths = [os.path.join(bench.bin, name) for name in os.listdir(bench.bin)]
    for lib in libs:
        paths += glob.glob(f"/usr/lib/*-linux-gnu/{lib}[.-]*so*")
    return [word for path in paths for word in ("--harmless", path)]


def scan(bench, needles, targets):
    """(found, text) of scan.c."""
    r = subprocess.run([os.path.join(bench.scan_dir, "scan"), *harmless(bench), *needles, "--", *targets],
                       capture_output=True, text=True, errors="replace")
    check(r.returncode in (0, 1), f"scan: {r.stderr}")
    return r.returncode == 1, r.stdout


def check_secrets(bench, white, black, roots, capture):
    needles = [word for root in roots + [os.path.join(white.home, "plain")] for word in ("--tree", root)]
    # The search finds what is there: a file of the tree, and what mountd has in memory.
    for target in (roots[0], f"pid:{white.worker('mountd')['pid']}"):
        found, text = scan(bench, needles, [target])
        check(found, f"the search is blind: {target}: {text}")
    heard = capture.between((white, black))
    targets = [white.data_dir, black.data_dir, heard]
    check(os.path.getsize(heard) > 1 << 20, "the capture is empty")
    for node in (white, black):
        targets += [f"pid:{node.worker(role)['pid']}" for role in ("stored", "syncd")]
    found, text = scan(bench, needles, targets)
    check(not found, f"plaintext outside the mounts: {text}")
    check_key(bench, white)
    check_key(bench, black)


def check_key(bench, node):
    """The sharing key is in keyd's memory and in no other process of the node, nor in its data directory."""
    needles = ["--secret", os.path.join(node.home, "sekrit")]
    status = node.status()
    pids = {"supervisor": [status["pid"]]}
    for w in status["workers"]:
        if w["pid"]:
            pids.setdefault(w["role"], []).append(w["pid"])
    check({"keyd", "stored", "syncd", "mountd", "supervisor"} <= set(pids), f"processes: {pids}")
    found, _ = scan(bench, needles, [f"pid:{pids.pop('keyd')[0]}"])
    check(found, f"{node.name}: the sharing key is not in keyd's memory: the search is blind")
    found, text = scan(bench, needles, [f"pid:{pid}" for some in pids.values() for pid in some] + [node.data_dir])
    check(not found, f"{node.name}: the sharing key stands outside keyd: {pids}: {text}")
