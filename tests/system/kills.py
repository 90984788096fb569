"""Worker processes killed at random while something else goes on."""
import subprocess
import threading
import time

import harness


class Killer(threading.Thread):
    """Kills workers of these roles, one at a time, until stop(). roles: a name, or names to choose from.
    first: seconds until the first kill, if it is not to be as all."""

    def __init__(self, node, roles, rng, pause=(0.05, 0.6), first=None):
        super().__init__(daemon=True)
        self.node, self.rng, self.pause = node, rng, pause
        self.roles = [roles] if isinstance(roles, str) else list(roles)
        self.ending = threading.Event()
        self.kills, self.last = 0, 0.0
        self.first = self.rng.uniform(*pause) if first is None else first

    def run(self):
        wait = self.first
        while not self.ending.wait(wait):
            wait = self.rng.uniform(*self.pause)
            role = self.rng.choice(self.roles)
            for pid in harness.children(self.node.server.pid):
                try:
                    with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                        comm = f.read().strip()
                except OSError:
                    continue
                if comm == f"bazil-{role}"[:15]:
                    subprocess.run([*self.node.user.prefix(), "kill", "-KILL", str(pid)], capture_output=True)
                    self.kills += 1
                    self.last = time.monotonic()

    def stop(self):
        self.ending.set()
        self.join()
        return self.kills

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


def settle(node):
    """All workers run again."""
    def running():
        try:
            return all(w["state"] == "running" for w in node.status()["workers"])
        except (harness.Failure, ValueError):
            return False
    harness.wait_for(running, f"{node.name}'s workers to run again", 60)
