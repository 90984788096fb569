#!/usr/bin/env python3
"""Wrong use, as a new user would do it: each gives one clear line, the right status, and leaves no half state."""
import json
import os
import re
import socket
import subprocess
import time

import harness
from harness import check


def before_create(node):
    node.fails("server", "run", says=["does not exist", "bazil create"])
    node.fails("volume", "list", says=["does not exist", "bazil create"])
    node.fails("server", "ping", says=["does not exist", "bazil create"])
    check(not os.path.exists(node.data_dir), "a failed command made the data directory")


def words(node):
    for argv in ([], ["no-such"], ["volume"], ["volume", "mount", "x"], ["sharing", "add"], ["-no-such-option", "version"],
                 ["version", "-sharing=x"], ["server", "run", "-port=99999"], ["peer", "add", "a", "b"],
                 ["-data-dir"], ["volume", "mount", "a", "b", "c"]):
        r = node.bazil(*argv, ok=False)
        check(r.returncode == 2, f"{argv}: status {r.returncode}, not 2: {r.stderr}")
    check("usage: bazil" in node.bazil("help"), "help")
    check("usage: bazil" in node.bazil("--help"), "--help")
    check("volume mount" in node.bazil("help", "volume"), "help volume")
    check("-read-only" in node.bazil("volume", "mount", "--help"), "volume mount --help")
    check(node.bazil("version").startswith("bazil "), "version")
    found = re.findall(r"^  ([a-z]+(?: [a-z-]+)*) ", node.bazil("help"), re.M)
    check(len(found) > 40, f"commands in the help: {found}")
    for command in found:
        check(f"  {command} " in node.bazil(*command.split(), "--help"), f"{command} --help")


def json_output(node):
    """Whatever prints, prints JSON when it is asked to."""
    node.bazil("volume", "mount", "v", node.home + "/mnt")
    node.sh("echo x >mnt/json")
    node.bazil("snapshot", "create", "v", "snap")
    for line in ("version", "pubkey", "debug pubkey", "server ping", "server status", "sharing list", "volume list", "volume status v",
                 "volume retention v", "volume syncs v", "volume storage list v", "snapshot list v", "snapshot diff v snap",
                 "log mnt/json", "restore -dry-run -snapshot=snap mnt/json", "du mnt", "df", "stat mnt/json", "scrub", "scrub status", "gc",
                 "gc -dry-run", "store status", "peer list", "store rebuild-index -force"):
        json.loads(node.bazil(*line.split(), "-json"))
    node.bazil("snapshot", "remove", "v", "snap")
    node.bazil("volume", "unmount", "v")


def create(node):
    node.sh("mkdir -p ro && chmod 500 ro")
    if node.user.uid != 0:
        node.fails("-data-dir", node.home + "/ro/data", "create", says="ro")
    node.sh("echo >file")
    node.fails("-data-dir=" + node.home + "/file", "create", says="file")
    node.fails("-data-dir=" + node.home + "/file/below", "create")
    node.bazil("create")
    check(oct(os.stat(node.data_dir).st_mode & 0o777) == "0o700", "the data directory is open to others")
    node.fails("create")
    node.fails("-data-dir=/proc/nothing", "create", says="another place")
    node.sh("mkdir gone")
    r = node.command(["bash", "-c", "cd gone && rmdir ../gone && bazil -data-dir=x volume list"])
    check(r.returncode == 1 and "is gone" in r.stderr, f"a working directory that is gone: {r.stderr}")
    node.fails("server", "ping", says=["not running", "bazil server run"])
    check(len(node.bazil("debug", "pubkey").strip()) == 64, "pubkey without a server")
    check(node.bazil("sharing", "list").startswith("default "), "no default sharing key")


def secrets(node):
    for size, status in ((0, 1), (31, 1), (33, 1), (32, 0)):
        r = node.command([node.bench.bin + "/bazil", "sharing", "add", f"key{size}"], input="k" * size)
        check(r.returncode == status, f"a key of {size} bytes: {r.returncode} {r.stderr}")
        if status:
            check("32" in r.stderr and len(r.stderr.splitlines()) == 1, f"a key of {size} bytes: {r.stderr}")
    check("key33" not in node.bazil("sharing", "list"), "a bad key was added")
    r = node.command(["bash", "-c", "bazil sharing add closed <&-"])
    check(r.returncode == 2 and "32 bytes" in r.stderr, f"a closed standard input: {r.returncode} {r.stderr}")
    r = node.command([node.bench.bin + "/bazil", "sharing", "add", "key32"], input="z" * 32)
    check(r.returncode == 1 and "key32" in r.stderr, f"a second key of one name: {r.stderr}")
    for name in ("", "a/b", "x" * 65, "new\nline", "../up"):
        r = node.command([node.bench.bin + "/bazil", "sharing", "add", name], input="k" * 32)
        check(r.returncode in (1, 2), f"sharing key named {name!r}: {r.returncode}")
    node.fails("sharing", "remove", "nokey", says="nokey")
    node.bazil("sharing", "remove", "key32")


def volumes(node):
    node.fails("volume", "create", "-sharing=nokey", "v", says=["nokey", "bazil sharing"])
    node.bazil("volume", "create", "v")
    node.fails("volume", "create", "v")
    for name in ("a/b", "x" * 65, "white space", "\x1b[31m"):
        err = node.fails("volume", "create", name)
        check("\x1b" not in err, "an escape sequence reached the terminal")
    node.fails("volume", "status", "nov", says="nov")
    node.fails("sharing", "remove", "default", says="volume v")
    node.fails("volume", "remove", "v", says="-force")
    node.fails("volume", "storage", "add", "v", "ftp:nowhere", says="ftp:nowhere")
    node.fails("volume", "storage", "add", "v", "peerkey:1234", says="peerkey")
    node.fails("volume", "storage", "add", "v", "peerkey:" + "ab" * 32, says="bazil peer add")
    node.fails("volume", "storage", "add", "v", "peerkey:" + node.bazil("pubkey").strip(), says="bazil peer add")


def peers(node):
    own = node.bazil("pubkey").strip()
    node.fails("peer", "add", own, says="own key")
    node.fails("peer", "add", "1234", says="64")
    node.fails("peer", "add", "g" * 64)
    node.bazil("peer", "add", "-name=friend", "ab" * 32)
    node.fails("peer", "add", "ab" * 32)
    node.fails("peer", "add", "-name=friend", "cd" * 32, says="friend")
    node.fails("peer", "location", "set", "nobody", "127.0.0.1:1", says="nobody")
    for address in ("no port here:x", "host:x", "host:0", "host:99999", ":34211", "[::1"):
        node.fails("peer", "location", "set", "friend", address, says="HOST:PORT")
    node.fails("peer", "volume", "allow", "friend", "nov", says="nov")
    node.fails("peer", "storage", "allow", "friend", "elsewhere", says="local")
    check("friend" in node.bazil("peer", "list"), "the peer is not listed")
    node.bazil("peer", "remove", "friend")
    node.fails("peer", "remove", "friend", says="friend")


def mounts(node):
    mnt = node.home + "/mnt"
    node.fails("volume", "mount", "v", mnt, says=["mnt", "mkdir"])
    node.fails("volume", "mount", "v", node.home + "/file", says="file")
    node.sh("mkdir mnt full && touch full/something")
    node.fails("volume", "mount", "v", node.home + "/full", says="empty")
    node.fails("volume", "mount", "nov", mnt, says="nov")
    if node.user.uid != 0:
        node.fails("volume", "mount", "v", "/proc")
        if os.getuid() == 0:
            os.mkdir(node.bench.dir + "/foreign", 0o755)
            node.fails("volume", "mount", "v", node.bench.dir + "/foreign")
        node.fails("volume", "mount", "-allow-other", "v", mnt, says="root")
    node.fails("volume", "unmount", "v", says="v")
    check(not harness.mounts_below(node.home), "a failed mount left a mount")
    node.bazil("volume", "mount", "v", "mnt")
    node.fails("volume", "mount", "v", mnt)
    node.sh("mkdir mnt/inside mnt2 && bazil volume create w")
    if node.user.uid != 0:
        node.fails("volume", "mount", "w", node.home + "/mnt/inside", says=["FUSE", "outside"])
    node.bazil("volume", "remove", "-force", "w")
    node.fails("volume", "mount", "-snapshot=none", "v", node.home + "/mnt2", says="no snapshot of this name")
    node.fails("volume", "mount", "v", node.home + "/mnt2", says="mounted")
    node.fails("volume", "remove", "-force", "v", says="mounted")
    # Only its own user may enter the mount: not root, who runs this.
    with subprocess.Popen([*node.prefix(), "bash", "-c", "cd mnt && echo && exec sleep 100"], cwd=node.home,
                          stdout=subprocess.PIPE) as busy:
        busy.stdout.readline()
        node.fails("volume", "unmount", "v", says="busy")
        busy.kill()
    node.sh("echo still here >mnt/file && cat mnt/file")
    node.bazil("volume", "unmount", mnt)
    node.bazil("volume", "mount", "-read-only", "v", mnt)
    check(node.sh("cat mnt/file") == "still here\n", "the file is gone")
    r = node.command(["bash", "-c", "echo x >mnt/other"])
    check(r.returncode != 0 and "Read-only" in r.stderr, f"a read-only mount was written: {r.stderr}")
    node.bazil("volume", "unmount", "v")


def pinned(node):
    """Another mount namespace holds a copy of the mount: unmounting here must end all the same."""
    node.bazil("volume", "mount", "v", node.home + "/mnt")
    with subprocess.Popen(["unshare", "-m", "--propagation", "private", "sleep", "100"]) as other:
        harness.wait_for(lambda: os.readlink(f"/proc/{other.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"), "unshare")
        node.sh("echo kept >mnt/pinned")
        node.bazil("volume", "unmount", "v", timeout=30)
        node.bazil("volume", "mount", "v", node.home + "/mnt")
        check(node.sh("cat mnt/pinned") == "kept\n", "what was written before the unmount is gone")
        other.kill()
    node.bazil("volume", "unmount", "v")


def servers(node, other):
    # A second server on the same data directory.
    for _ in range(2):  # the first one leaves what the lock says alone
        node.fails("server", "run", says=["already", str(node.status()["pid"])])
    node.bazil("server", "ping")
    # A port that is taken is an error when it was asked for, and avoided when not.
    other.bazil("create")
    other.fails("server", "run", f"-port={node.port}", says=[str(node.port), "in use"])
    check(not os.path.exists(other.data_dir + "/ctl.sock"), "a failed start left the socket")
    with socket.socket(socket.AF_INET6) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("::", 34211))
            s.listen()
        except OSError:
            pass
        other.start()
        check(other.port != 34211, "34211 was taken")
    other.stop()


def stop_dialer(node, signal):
    for pid in harness.children(node.server.pid):
        with open(f"/proc/{pid}/comm", encoding="ascii") as f:
            if f.read().strip() == "bazil-dialer":
                subprocess.run([*node.user.prefix(), "kill", "-" + signal, str(pid)], check=True)


def no_network(node):
    peer = "ef" * 32
    node.bazil("peer", "add", peer)
    node.fails("volume", "sync", "v", peer, says="location")
    node.bazil("peer", "location", "set", peer, "127.0.0.1:9")
    node.fails("volume", "sync", "v", peer, says="127.0.0.1:9")
    node.fails("volume", "connect", peer, "w", says="127.0.0.1:9")
    # A location counts from the moment that it is set, however late the dialer hears of it.
    for port in (10, 11, 12, 13):
        stop_dialer(node, "STOP")
        node.bazil("peer", "location", "set", peer, f"127.0.0.1:{port}")
        with subprocess.Popen([*node.prefix(), node.bench.bin + "/bazil", "volume", "sync", "v", peer], env=node.environment(),
                              stderr=subprocess.PIPE, text=True) as sync:
            time.sleep(0.2)
            stop_dialer(node, "CONT")
            err = sync.communicate(timeout=30)[1]
        check(f"127.0.0.1:{port}:" in err, f"not the location that was set: {err}")
    node.bazil("peer", "remove", peer)


def two_nodes(bench, white, black):
    """Not allowed, unknown, wrong key: told apart where that is no leak, and alike where it is."""
    white.bazil("create")
    white.start()
    w, b = white.bazil("pubkey").strip(), black.bazil("pubkey").strip()
    white.sh("head -c 32 /dev/urandom >key && bazil sharing add friends <key && bazil volume create -sharing=friends shared")
    black.bazil("peer", "add", "-name=white", w)
    black.bazil("peer", "location", "set", "white", f"127.0.0.1:{white.port}")
    black.sh("head -c 32 /dev/urandom >key && bazil sharing add friends <key")
    black.fails("volume", "connect", "-sharing=friends", "white", "shared", says="white")
    white.bazil("peer", "add", b)
    no = black.fails("volume", "connect", "-sharing=friends", "white", "shared")
    none = black.fails("volume", "connect", "-sharing=friends", "white", "absent")
    check(no.replace("shared", "X") == none.replace("absent", "X"), f"a volume not allowed can be told from none: {no} / {none}")
    white.bazil("peer", "volume", "allow", b, "shared")
    black.fails("volume", "connect", "-sharing=friends", "white", "shared", says="sharing key")
    check("shared" not in black.bazil("volume", "list"), "a failed connect left the volume")
    black.sh(f"bazil sharing remove friends && bazil sharing add friends <{white.home}/key")
    black.bazil("volume", "connect", "-sharing=friends", "white", "shared")
    black.fails("volume", "connect", "-sharing=friends", "white", "shared")
    black.bazil("volume", "sync", "shared", "white")
    black.fails("volume", "sync", "nov", "white", says="nov")
    white.bazil("peer", "volume", "deny", b, "shared")
    black.fails("volume", "sync", "shared", "white")
    white.stop()
    black.fails("volume", "sync", "shared", "white")


def without_programs(bench):
    """No fusermount3, no /dev/fuse: said when a mount is asked for. Needs a mount namespace, so root."""
    node = bench.node("bare")
    node.bazil("create")
    for hidden, says in (("/usr/bin/fusermount3", "fuse3"), ("/dev/fuse", "/dev/fuse")):
        hide = f"mount --bind {bench.dir}/nothing {hidden}"
        open(bench.dir + "/nothing", "w", encoding="ascii").close()
        os.chmod(bench.dir + "/nothing", 0o600)
        inner = f"""
            bazil server run >log 2>&1 & server=$!
            for i in $(seq 100); do bazil server ping 2>/dev/null && break; sleep 0.1; done
            bazil volume create v 2>/dev/null; mkdir -p m
            bazil volume mount v m; echo status $?
            bazil server stop; wait $server
        """
        r = subprocess.run(["unshare", "-m", "bash", "-c", f"{hide} && exec \"$@\"", "-", *node.prefix(), "bash", "-c", inner],
                           env=node.environment(), cwd=node.home, capture_output=True, text=True, timeout=60)
        check("status 1" in r.stdout and says in r.stderr, f"{hidden} hidden: {r.stdout}{r.stderr}")
        check(len([x for x in r.stderr.splitlines() if x.startswith("bazil: ")]) == 1, f"{hidden} hidden: {r.stderr}")


def one_line(node, *argv, says):
    err = node.fails(*argv, says=says)
    check(len(err.splitlines()) == 1, f"{argv}: more than one line: {err}")


def bad_data_dir(node):
    """What cannot be opened is told in one line, by the commands that need no server too."""
    node.bazil("create")
    for folder in ("keys", "store"):
        os.chmod(f"{node.data_dir}/{folder}", 0)
        if node.user.uid != 0:
            one_line(node, "server", "run", says=[folder, "chmod"])
        os.chmod(f"{node.data_dir}/{folder}", 0o700)
    os.rename(node.data_dir + "/keys/keyring", node.home + "/keyring")
    one_line(node, "server", "run", says=["keyring", "backup"])
    one_line(node, "pubkey", says=["keyring", "backup"])
    os.rename(node.home + "/keyring", node.data_dir + "/keys/keyring")
    with open(node.data_dir + "/store/format", "w", encoding="ascii") as f:
        f.write("something else\n")
    one_line(node, "server", "run", says=["format", "backup"])
    one_line(node, "volume", "list", says=["format", "backup"])


def read_only_data_dir(bench):
    node = bench.node("readonly")
    node.bazil("create")
    inner = "bazil server run; echo $?; bazil pubkey; echo $?; bazil volume create v; echo $?; bazil -data-dir=$PWD/other create; echo $?"
    bind = f"mount --bind {node.home} {node.home} && mount -o remount,ro,bind {node.home} && cd {node.home}"
    r = subprocess.run(["unshare", "-m", "bash", "-c", bind + " && exec \"$@\"", "-", *node.prefix(), "bash", "-c", inner],
                       env=node.environment(), capture_output=True, text=True, timeout=60)
    lines = r.stderr.splitlines()
    check(r.stdout == "1\n" * 4 and len(lines) == 4 and all("read-only" in x for x in lines), f"read-only: {r.stdout}{r.stderr}")


def full_disk(bench):
    """A data directory on a full file system of 64 MiB: ENOSPC for writers, nothing acknowledged lost, delete works."""
    node = bench.node("small")
    os.mkdir(node.data_home, 0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=192m,uid={node.user.uid},gid={node.user.gid},mode=0755", "none", node.data_home],
                   check=True)
    node.bazil("create")
    node.start()
    node.bazil("volume", "create", "v")
    node.sh("mkdir mnt && bazil volume mount v mnt")
    node.sh("echo kept >mnt/kept && sync mnt/kept")
    r = node.command(["bash", "-c", "for i in $(seq 30); do head -c 20000000 /dev/urandom >mnt/big$i && sync mnt/big$i || exit 1; done"])
    check(r.returncode != 0 and "No space left" in r.stderr, f"a full disk: {r.returncode} {r.stderr[:500]}")
    check(node.sh("cat mnt/kept") == "kept\n", "what was synced is gone")
    node.sh("rm mnt/big*")
    node.bazil("server", "ping")
    node.bazil("volume", "unmount", "v")
    node.stop()
    node.start()
    node.bazil("volume", "mount", "v", "mnt")
    check(node.sh("ls mnt; cat mnt/kept") == "kept\nkept\n", "after the full disk: " + node.sh("ls -l mnt"))
    node.stop()
    subprocess.run(["umount", node.data_home], check=True)


def test(bench):
    node, other = bench.node("node"), bench.node("other")
    before_create(node)
    words(node)
    create(node)
    node.start()
    secrets(node)
    volumes(node)
    peers(node)
    mounts(node)
    json_output(node)
    if os.getuid() == 0:
        pinned(node)
    servers(node, other)
    no_network(node)
    two_nodes(bench, bench.node("white"), node)
    node.stop()
    bad_data_dir(bench.node("bad"))
    if os.getuid() == 0:
        read_only_data_dir(bench)
        without_programs(bench)
        full_disk(bench)


harness.run(test)
