#!/usr/bin/env python3
"""What tests do briefly, for long: crash states, model, kills, simulated syncs, coverage-guided fuzzing.

usage: soak.py BUILD [--fuzz BUILD] [--minutes N] [--only NAME,...]

BUILD is a build tree with the target `tests`; --fuzz one of the preset fuzz. The jobs take turns, each time with a new seed, until the
time is up and each had its turn. Printed at the end: what was done in all, and for each failure the command that repeats it. What a job
printed that failed, and what a fuzzer found, is kept in BUILD/soak. Status 1: something failed.
"""
import argparse
import glob
import os
import random
import shlex
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TURN_SECONDS = 1200  # what takes longer hangs


class Job:
    """A program that is run again and again. `amount` of `unit` is what one turn does."""

    def __init__(self, name, argv, amount=1, unit="turns", **env):
        self.name, self.argv, self.amount, self.unit, self.env = name, argv, amount, unit, env
        self.turns, self.seconds, self.failures = 0, 0.0, []

    def turn(self, seed, where):
        env = {**self.env, "BAZIL_SEED": str(seed)}
        out = os.path.join(where, f"{self.name.replace('/', '-')}-{seed}.log")
        start = time.monotonic()
        with open(out, "wb") as log:
            try:
                status = subprocess.run(self.argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=where,
                                        timeout=TURN_SECONDS, check=False).returncode
            except subprocess.TimeoutExpired:
                status = "hangs"
        self.turns += 1
        self.seconds += time.monotonic() - start
        if status in (0, 77):
            os.unlink(out)
            return
        command = " ".join([f"{k}={v}" for k, v in env.items()] + [shlex.quote(a) for a in self.argv])
        self.failures.append(f"{self.name}: {status}: {command}  # {out}")
        print(self.failures[-1], flush=True)


def fuzzers(build, where, seconds):
    """One for each target; what makes new coverage is kept for the next turn."""
    jobs = []
    for path in sorted(glob.glob(os.path.join(build, "bin", "fuzz_*"))):
        name = os.path.basename(path)[len("fuzz_"):]
        found = os.path.join(where, "corpus", name)
        os.makedirs(found, exist_ok=True)
        corpus = os.path.join(HERE, "fuzz", "corpus", name.removeprefix("ipc_"))
        if not os.path.isdir(corpus):
            corpus = corpus.replace("cas_", "cas-")
        jobs.append(Job("fuzz/" + name, [path, f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={where}/{name}-",
                                         found, corpus], seconds, "seconds"))
        if not os.path.isdir(corpus):
            raise SystemExit(f"soak: {corpus}: there is no corpus for {name}")
    if not jobs:
        raise SystemExit(f"soak: {build}: there are no fuzzers: cmake --build {build}")
    return jobs


def all_jobs(build, fuzz, where, fuzz_seconds):
    def system(name, script, amount, unit, *args, **env):
        return Job(name, [sys.executable, "-B", os.path.join(HERE, "system", script), os.path.join(build, "bin"), *args], amount, unit, **env)
    program = os.path.join(build, "bin")
    jobs = [
        Job("explorer", [os.path.join(program, "explorer")], 200000, "crash states", BAZIL_STATES="200000"),
        Job("rot", [os.path.join(program, "test_crash_rot")], 10000, "damaged stores", BAZIL_ROT="10000"),
        Job("simulation", [os.path.join(program, "test_tree_simulation")], 20, "times its runs", BAZIL_RUNS="20"),
        system("storm", "storm.py", 30, "rounds", BAZIL_ROUNDS="30"),
        system("deaths", "deaths.py", 3, "rounds", BAZIL_ROUNDS="3"),
        system("model", "model_mount.py", 120000, "operations", "20000"),
        system("apps", "apps.py", 2, "rounds", BAZIL_ROUNDS="2"),
        system("accounting", "accounting.py", 60, "seconds", BAZIL_SECONDS="60"),
        system("gc", "gc.py", 1, "turns"),
        system("posix", "posix_mount.py", 1, "turns"),
    ]
    return jobs + (fuzzers(fuzz, where, fuzz_seconds) if fuzz else [])


def summary(jobs, minutes):
    failed = [f for job in jobs for f in job.failures]
    print(f"after {minutes:.0f} minutes:")
    for job in jobs:
        if job.turns:
            print(f"  {job.name:20} {job.turns * job.amount:>12,} {job.unit:16} {job.seconds:8.0f} s  {len(job.failures)} failed")
    for line in failed:
        print(line)
    print(f"{sum(job.turns for job in jobs) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--fuzz")
    p.add_argument("--fuzz-seconds", type=int, default=60)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--only", help="names, or the parts of them before a /")
    args = p.parse_args()
    build = os.path.abspath(args.build)
    where = os.path.join(build, "soak")
    os.makedirs(where, exist_ok=True)
    jobs = all_jobs(build, args.fuzz and os.path.abspath(args.fuzz), where, args.fuzz_seconds)
    if args.only:
        only = args.only.split(",")
        jobs = [job for job in jobs if job.name in only or job.name.split("/")[0] in only]
        if not jobs:
            p.error(f"no such job: {args.only}")
    seeds, start = random.SystemRandom(), time.monotonic()
    turn = 0
    while turn < len(jobs) or time.monotonic() - start < args.minutes * 60:
        jobs[turn % len(jobs)].turn(seeds.randrange(1, 1 << 31), where)
        turn += 1
    return summary(jobs, (time.monotonic() - start) / 60)


sys.exit(main())
