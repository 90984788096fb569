#!/usr/bin/env python3
"""Source checks that compile nothing of the project's own logic.

usage: check.py CHECK --source DIR --build DIR

Each check prints what it objects to, one line a place, and fails when it printed anything. Exit status 77 means that
a tool is missing (ctest shows the test as skipped).
"""
import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys

FOLDERS = ["cas", "tree", "noise", "ipc", "worker", "keyd", "stored", "mountd", "syncd", "supervisor",
           "mounter", "dialer", "cli", "tests"]

# Which folder may include from which; a file may always include from its own folder.
MAY_INCLUDE = {
    "cas": set(),
    "tree": set(),
    "noise": set(),
    "ipc": set(),
    "worker": {"ipc"},
    "keyd": {"ipc", "worker", "cas", "noise"},
    "stored": {"ipc", "worker", "cas", "tree"},
    "mountd": {"ipc", "worker", "cas", "tree", "stored/intake.h"},
    "syncd": {"ipc", "worker", "noise", "cas/id.h", "cas/suite.h", "stored/intake.h"},
    "supervisor": {"ipc", "worker"},
    "mounter": {"ipc", "worker"},
    "dialer": {"ipc", "worker"},
    "cli": {"ipc", "tree/instant.h"},
}
# Header-only helpers without dependencies that every process folder may use.
EVERYBODY = {"worker/scope.h"}

BANNED = ["strcpy", "strcat", "sprintf", "vsprintf", "gets", "strtok", "system", "popen", "rand", "srand", "atoi",
          "atol", "alloca", "mktemp", "tmpnam", "localtime", "ctime", "asctime", "gmtime", "setjmp", "longjmp",
          "msgpack_unpack_next", "msgpack_unpack", "msgpack_unpacker_next"]


def sources(root, suffixes=(".c", ".h")):
    for folder in FOLDERS:
        for base, dirs, files in os.walk(os.path.join(root, folder)):
            dirs[:] = [d for d in dirs if d not in ("corpus", "__pycache__")]
            for name in sorted(files):
                if name.endswith(suffixes):
                    yield os.path.relpath(os.path.join(base, name), root)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def check_format(args):
    if not shutil.which("clang-format"):
        sys.exit(77)
    bad = []
    paths = list(sources(args.source))
    for path in paths:
        r = subprocess.run(["clang-format", "--dry-run", "-Werror", path], cwd=args.source, capture_output=True)
        if r.returncode:
            bad.append(f"{path}: not as clang-format has it")
    assert paths
    return bad


def check_headers(args):
    """Each header compiles alone, first in its file; each is guarded by its own name."""
    bad = []
    flags = ["-std=gnu17", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Werror",
             "-I", args.source, "-I", args.build]
    for lib in ("fuse3", "libsodium", "msgpack"):
        flags += subprocess.run(["pkg-config", "--cflags", lib], capture_output=True, text=True).stdout.split()
    for path in sources(args.source, (".h",)):
        text = read(args.source, path)
        guard = "BAZIL_" + re.sub(r"[^A-Z0-9]", "_", path.upper())
        if not path.startswith("tests/") and f"#ifndef {guard}\n#define {guard}\n" not in text:
            bad.append(f"{path}: guard is not {guard}")
        if not re.search(r"/\*.*?\*/", text, re.S) or text.find("/*") > text.find("#include") > 0:
            bad.append(f"{path}: does not open with what it is")
        r = subprocess.run(["gcc", *flags, "-x", "c", "-"], input=f'#include "{path}"\n', text=True,
                           cwd=args.source, capture_output=True)
        if r.returncode:
            bad.append(f"{path}: does not compile alone: {r.stderr.splitlines()[0] if r.stderr else ''}")
    return bad


def strip(text):
    """The code without comments and strings, lines kept."""
    def blank(m):
        return "\n" * m.group(0).count("\n") or " "
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"', blank, text, flags=re.S)


def check_banned(args):
    bad = []
    call = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    for path in sources(args.source):
        for n, line in enumerate(strip(read(args.source, path)).splitlines(), 1):
            m = call.search(line)
            if m:
                bad.append(f"{path}:{n}: {m.group(1)} is banned")
    for path in sources(args.source):
        for n, line in enumerate(read(args.source, path).splitlines(), 1):
            if re.search(r"\b(TODO|XXX|FIXME|HACK)\b", line):
                bad.append(f"{path}:{n}: unfinished work is an issue, not a comment")
    return bad


def check_includes(args):
    """Dependencies point one way: pure code, ipc and worker know no process, processes do not know each other."""
    bad = []
    for path in sources(args.source):
        folder = path.split("/")[0]
        if folder == "tests":
            continue
        own_header = path[:-2] + ".h"
        includes = re.findall(r'^#include "([^"]+)"', read(args.source, path), re.M)
        for inc in includes:
            top = inc.split("/")[0]
            if "/" not in inc:
                bad.append(f"{path}: \"{inc}\": include by path from the top")
            elif top != folder and top not in MAY_INCLUDE[folder] and inc not in MAY_INCLUDE[folder] | EVERYBODY:
                bad.append(f"{path}: {folder} must not include {inc}")
        if path.endswith(".c") and os.path.exists(os.path.join(args.source, own_header)) and \
                (not includes or includes[0] != own_header):
            bad.append(f"{path}: its own header comes first")
    return bad


def digest(text):
    """The schema without comments and white space, as ipc/ipcgen.py sees it for this purpose."""
    lines = [re.sub(r"\s+", " ", line.split("#")[0]).strip() for line in text.splitlines()]
    return hashlib.sha256("\n".join(filter(None, lines)).encode()).hexdigest()


def check_schemas(args):
    """A changed schema is noted in ipc/DIGESTS, with its version: one looks at it before it is changed."""
    bad = []
    noted = dict(line.split()[:2] for line in read(args.source, "ipc/DIGESTS").splitlines()
                 if line and not line.startswith("#"))
    for name in sorted(os.listdir(os.path.join(args.source, "ipc"))):
        if not name.endswith(".msg"):
            continue
        now = digest(read(args.source, "ipc/" + name))
        if noted.pop(name, None) != now:
            bad.append(f"ipc/{name}: changed: is its version right? then note it in ipc/DIGESTS: {name} {now}")
    bad += [f"ipc/DIGESTS: {name}: no such schema" for name in noted]
    return bad


def check_shell(args):
    if not shutil.which("shellcheck"):
        sys.exit(77)
    files = ["packaging/quickstart", "packaging/fresh", "packaging/test", "packaging/install-dependencies", ".ci/run"]
    r = subprocess.run(["shellcheck", *files], cwd=args.source, capture_output=True, text=True)
    return r.stdout.splitlines()


def commands(args):
    """The table of cli/main.c: words of a command -> names of the options that it takes beside those of all."""
    options = {}
    for name, takes in re.findall(r'\{ "([a-z-]+)", (?:0|(TAKES_\w+)),', read(args.source, "cli/options.c")):
        options.setdefault(takes, set()).add(name)
    common = options.pop("")
    ret = {}
    for words, flags in re.findall(r'\{ "([a-z ]+)",\s*"[^"]*",\s*"[^"]*",\s*\d+,\s*\w+,([^}]*?)cli_\w+ \}', read(args.source, "cli/main.c")):
        ret[words] = {o for takes in re.findall(r"TAKES_\w+", flags) for o in options[takes]}
    return ret, common


def check_man(args):
    """Every command of the table has its entry in the manual, with exactly the options that it takes."""
    entries, bad = {}, []
    manual = read(args.source, "docs/man/bazil.1")
    for line in re.findall(r"^\.(?:It )?Cm (.*)$", manual, re.M):
        flags = set(re.findall(r"\bFl ([a-z-]+)", line))
        words = re.match(r"[a-z -]*", re.sub(r"\bOo? .*|\bOp .*|\bAr .*|\bLi .*|\bNs .*", "", line)).group(0).split()
        entries.setdefault(" ".join(words), set()).update(flags)
        for other in re.findall(r"Ns \| Ns Cm ([a-z]+)", line):
            entries.setdefault(" ".join(words[:-1] + [other]), set()).update(flags)
    table, common = commands(args)
    for words, options in table.items():
        if words not in entries:
            bad.append(f"docs/man/bazil.1: {words}: not described")
            continue
        bad += [f"docs/man/bazil.1: {words}: -{o} is not described" for o in sorted(options - entries[words])]
        bad += [f"docs/man/bazil.1: {words}: it takes no -{o}" for o in sorted(entries[words] - options)]
    bad += [f"docs/man/bazil.1: -{o}: not described" for o in sorted(common) if f".It Fl {o}" not in manual]
    in_source = len(re.findall(r"\{ \"[a-z ]+\",", read(args.source, "cli/main.c")))
    assert len(table) == in_source > 20, f"{len(table)} of {in_source} commands understood"
    return bad


PROGRAMS = ["bazil", "bazil-supervisor", "bazil-mounter", "bazil-dialer", "bazil-keyd", "bazil-stored", "bazil-mountd",
            "bazil-syncd"]


def readelf(args, program, *options):
    path = os.path.join(args.build, "bin", program)
    return subprocess.run(["readelf", "-W", *options, path], capture_output=True, text=True, check=True).stdout


def check_hardening(args):
    """Position independent, full RELRO, no executable stack, stack protector and fortified calls, in each program."""
    bad = []
    for program in PROGRAMS:
        head, segments, dynamic = (readelf(args, program, o) for o in ("-h", "-l", "-d"))
        symbols = readelf(args, program, "--dyn-syms")
        if not re.search(r"Type:\s+DYN", head):
            bad.append(f"{program}: not position independent")
        if "GNU_RELRO" not in segments or "BIND_NOW" not in dynamic and "NOW" not in dynamic:
            bad.append(f"{program}: no full RELRO")
        if re.search(r"GNU_STACK.*RWE", segments):
            bad.append(f"{program}: executable stack")
        if re.search(r"LOAD.*RWE", segments):
            bad.append(f"{program}: a segment is writable and executable")
        if "RPATH" in dynamic or "RUNPATH" in dynamic:
            bad.append(f"{program}: has a library path of its own")
        if "__stack_chk_fail" not in symbols:
            bad.append(f"{program}: no stack protector")
        if "_chk@" not in symbols.replace("__stack_chk_fail", ""):
            bad.append(f"{program}: no fortified calls")
    return bad


# What a role must not even import from libc: less than its seccomp filter forbids, but checked without running it.
IMPORTS = {
    "bazil-syncd": ["open", "open64", "openat", "openat64", "fopen", "fopen64", "execve", "execv", "execl", "fork", "vfork", "connect", "system",
                    "ptrace", "unlink", "rename", "mkdir"],
    "bazil-keyd": ["fork", "vfork", "connect", "listen", "bind", "system", "getaddrinfo", "ptrace"],
    "bazil-mountd": ["fork", "vfork", "connect", "listen", "bind", "system", "getaddrinfo", "ptrace", "unlink", "rename", "mkdir"],
    "bazil-stored": ["fork", "vfork", "connect", "listen", "bind", "system", "getaddrinfo", "ptrace"],
    "bazil": ["system", "popen", "getaddrinfo", "sodium_init"],
    "bazil-supervisor": ["system", "popen", "getaddrinfo", "sodium_init", "mdb_env_open", "EVP_EncryptInit_ex"],
}
# The shared start-up code (worker/) makes the role's root before the sandbox is closed; these it needs.
START = {"open", "open64", "openat", "openat64", "mkdir"}


def check_imports(args):
    bad = []
    for program, forbidden in IMPORTS.items():
        symbols = readelf(args, program, "--dyn-syms")
        imported = set(re.findall(r"UND (\w+)@", symbols)) | set(re.findall(r"UND (\w+)$", symbols, re.M))
        assert imported
        for name in forbidden:
            if name in imported and not (program != "bazil" and name in START):
                bad.append(f"{program}: imports {name}")
    return bad


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("check")
    parser.add_argument("--source", required=True)
    parser.add_argument("--build", required=True)
    args = parser.parse_args()
    bad = globals()["check_" + args.check](args)
    for line in bad:
        print(line)
    sys.exit(1 if bad else 0)


main()
