"""What the three stand-ins share: the state on disk, the daemon that runs jobs, and the trouble a test can make."""
import contextlib
import fcntl
import getopt
import importlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time

KINDS = {"q": "pbs", "p": "pbs", "b": "lsf", "l": "lsf", "c": "htcondor"}
TICK = 0.05  # seconds between two looks of the daemon
IDLE = 0.3  # seconds without work after which the daemon ends


class Exit(Exception):
    """Ends a command with this code, saying this on standard error. What it changed is undone, unless `keep`."""

    def __init__(self, code, text="", keep=False):
        super().__init__(text)
        self.code, self.text, self.keep = code, text, keep


class Trouble:
    """Files in <state>/inject, written by a test:

    down             every command answers as when the server is down, while the file is there
    hang             "SECONDS [COMMAND]": (that command) answers later, while the file is there
    lose-reply       the next submission is taken, but its answer is the recorded one of a lost connection
    refuse           the next submission is refused; "CODE\\nTEXT" or empty for a recorded refusal
    refuse-after     how many submissions are still taken before that
    vanish           OpenPBS drops the next job that has dependencies, silently
    start-early      volclava's bug: -w is ignored, while the file is there
    forget           finished jobs are not shown any more, while the file is there
    stall            nothing is started, while the file is there
    slots            how many jobs may run at once (8)
    grace            seconds between the signals of a cancellation (0.5; the real ones wait 10)
    kill             lines "JOBID STATE", STATE one of node-fail, requeue, time-limit, memory; taken by the daemon
    """

    def __init__(self, state):
        self.dir = os.path.join(state, "inject")

    def __contains__(self, name):
        return os.path.exists(os.path.join(self.dir, name))

    def text(self, name, default=None):
        if name == "refuse" and (later := int(self.text("refuse-after", "0"))):
            self.make("refuse-after", str(later - 1))
            return default
        try:
            with open(os.path.join(self.dir, name)) as file:
                return file.read().strip()
        except OSError:
            return default

    def take(self, name):
        """The text of a one-time trouble, which is over with this; None: there is none."""
        text = self.text(name)
        if text is not None:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.dir, name))
        return text

    def make(self, name, text=""):
        new = os.path.join(self.dir, f".{name}")
        with open(new, "w") as file:
            file.write(text)
        os.rename(new, os.path.join(self.dir, name))


class Store:
    """The state directory. Everything happens under its lock; `jobs` maps ids to plain dictionaries."""

    def __init__(self, path, kind):
        self.path, self.kind = path, kind
        for part in ("", "inject", "jobs", "spool"):
            os.makedirs(os.path.join(path, part), exist_ok=True)
        self.trouble = Trouble(path)
        self.links = os.path.dirname(os.path.abspath(sys.argv[0]))

    def file(self, *parts):
        return os.path.join(self.path, *parts)

    @contextlib.contextmanager
    def open(self):
        with open(self.file("lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                with open(self.file("state.json")) as file:
                    text = file.read()
            except FileNotFoundError:
                text = '{"next": 1, "jobs": {}}'
            data = json.loads(text)
            self.jobs, self.data, failed = data["jobs"], data, None
            try:
                yield self
            except Exit as error:
                if not error.keep:
                    raise
                failed = error
            new = json.dumps(data, indent=1)
            if new != text:
                with open(self.file("state.new"), "w") as file:
                    file.write(new)
                os.rename(self.file("state.new"), self.file("state.json"))
            if failed:
                raise failed

    def new_id(self):
        number = self.data["next"]
        self.data["next"] += 1
        return number

    def job_dir(self, job):
        path = self.file("jobs", str(job["id"]))
        os.makedirs(path, exist_ok=True)
        return path

    def wake(self):
        """Makes sure that the daemon runs."""
        with open(self.file("daemon.lock"), "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        here = os.path.realpath(sys.argv[0])
        subprocess.Popen(
            [here, "--daemon", self.kind, self.path, self.links],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=open(self.file("daemon.err"), "a"),
            cwd="/",
            start_new_session=True,
        )


def new_job(store, number, **more):
    job = {
        "id": str(number), "name": "", "user": user(), "queue": "", "state": "pending", "held": False, "deps": [],
        "cwd": os.getcwd(), "env": dict(os.environ), "umask": current_umask(), "submit": time.time(), "start": None,
        "end": None, "pid": None, "code": None, "signal": None, "cancel": None, "runs": 0, "limit": None, "cpus": 1,
        "out": None, "err": None, "reason": None, "over": None,
    }
    job.update(more)
    store.jobs[job["id"]] = job
    return job


def user():
    return pwd.getpwuid(os.getuid()).pw_name


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def stamp(seconds):
    return time.strftime("%a %b %d %H:%M:%S", time.localtime(seconds))


def options(args, letters, refuse):
    """getopt, stopping at the first word that is no option."""
    try:
        return getopt.getopt(args, letters)
    except getopt.GetoptError as error:
        raise refuse(error) from None


def processes():
    """(pid, process group, session, state) of all processes."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            found.append((int(name), int(fields[2]), int(fields[3]), fields[0]))
    return found


def signal_session(pid, number):
    """To every process of the session that a job was started in; those that called setsid are not reached."""
    for process, _, session, _ in processes():
        if session == pid:
            with contextlib.suppress(OSError):
                os.kill(process, number)


def signal_group(pid, number):
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


class Daemon:
    """Starts what may start, ends what must end, and tells the scheduler's own module what came of it."""

    def __init__(self, store, module):
        self.store, self.module, self.children = store, module, {}

    def run(self):
        lock = open(self.store.file("daemon.lock"), "a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        quiet = time.monotonic()
        while True:
            if not os.path.isdir(self.store.path) or os.path.exists(self.store.file("stop")):
                for pid in self.children:
                    signal_session(pid, signal.SIGKILL)
                return
            try:
                with self.store.open():
                    if self.tick():
                        quiet = time.monotonic()
                    elif time.monotonic() - quiet > IDLE:
                        # Under the state's lock: whoever changes it after this finds no daemon and starts one.
                        lock.close()
                        return
            except FileNotFoundError:
                continue
            time.sleep(TICK)

    def tick(self):
        store, busy = self.store, False
        self.kill_as_told()
        for job in list(store.jobs.values()):
            if job["state"] == "running" and not job.get("dag"):
                busy = True
                self.watch(job)
        busy |= bool(self.module.tick(store))
        running = sum(1 for job in store.jobs.values() if job["state"] == "running" and not job.get("dag"))
        if "stall" in store.trouble:
            return busy
        for job in list(store.jobs.values()):
            if running >= int(store.trouble.text("slots", "8")):
                break
            if job["state"] == "pending" and not job["held"] and self.module.ready(store, job):
                self.start(job)
                running, busy = running + 1, True
        return busy

    def start(self, job):
        job["start"], job["runs"] = time.time(), job["runs"] + 1
        try:
            argv, how = self.module.launch(self.store, job)
        except Exit as error:
            self.module.not_started(self.store, job, error.text)
            return
        mask = os.umask(how.get("umask", 0o022))
        try:
            files = [open(path, mode) for path, mode in how.pop("files")]
        finally:
            os.umask(mask)
        try:
            child = subprocess.Popen(
                argv, stdin=files[0], stdout=files[1], stderr=files[2], start_new_session=True, **how
            )
        except OSError as error:
            self.module.not_started(self.store, job, error)
            return
        finally:
            for file in files:
                file.close()
        job.update(state="running", pid=child.pid, asked=0, pressed=None)
        self.children[child.pid] = child

    def watch(self, job):
        child = self.children.get(job["pid"])
        code = child.poll() if child else -signal.SIGKILL
        if code is None:
            self.press(job)
            return
        self.children.pop(job["pid"], None)
        job.update(end=time.time(), code=code if code >= 0 else None, signal=-code if code < 0 else None)
        job.update(state="ended", pid=None)
        if job["over"] == "requeue":
            job.update(state="pending", over=None, code=None, signal=None, end=None)
        self.module.ended(self.store, job)

    def press(self, job):
        """A job that must end gets its scheduler's signals, one after the other."""
        now = time.time()
        if job["over"] is None and job["limit"] is not None and now > job["start"] + job["limit"]:
            job["over"] = "time-limit"
        if job["over"] is None and job["cancel"] is not None:
            job["over"] = "cancelled"
        if job["over"] is None:
            return
        grace = float(self.store.trouble.text("grace", "0.5"))
        steps = self.module.signals(job)
        job["pressed"] = job["pressed"] or now
        if job["asked"] < len(steps) and now >= job["pressed"] + grace * job["asked"]:
            reach = signal_group if self.module.GROUP_ONLY else signal_session
            if steps[job["asked"]] in (signal.SIGKILL, signal.SIGUSR2):
                reach = signal_session
            reach(job["pid"], steps[job["asked"]])
            job["asked"] += 1

    def kill_as_told(self):
        text = self.store.trouble.text("kill")
        if not text:
            return
        left = []
        for line in text.splitlines():
            number, _, how = line.partition(" ")
            job = self.store.jobs.get(number.split(".")[0])
            if job and job["state"] == "running" and job["pid"]:
                job["over"] = how.strip()
            elif job is None or job["state"] == "pending":
                left.append(line)
        if left:
            if left != text.splitlines():
                self.store.trouble.make("kill", "\n".join(left) + "\n")
        else:
            self.store.trouble.take("kill")


def main(argv):
    if argv[1:2] == ["--daemon"]:
        kind, state, links = argv[2:5]
        store = Store(state, kind)
        store.links = links
        Daemon(store, importlib.import_module(kind)).run()
        return 0
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    name = os.path.basename(argv[0])
    kind = KINDS[name[0]]
    module = importlib.import_module(kind)
    state = os.environ.get("OVL_FAKE_DIR") or os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(argv[0]))), "state")
    store = Store(state, kind)
    with open(store.file("calls"), "a") as calls:
        calls.write(json.dumps([name, *argv[1:]]) + "\n")
    hang = (store.trouble.text("hang") or "").split()
    if hang and (len(hang) == 1 or hang[1] == name):
        time.sleep(float(hang[0]))
    try:
        if "down" in store.trouble:
            module.down(store, name)
        with store.open():
            code = module.COMMANDS[name](store, argv[1:]) or 0
        store.wake()
    except Exit as error:
        if error.keep:
            store.wake()
        sys.stdout.flush()
        if error.text:
            print(error.text, file=sys.stderr)
        code = error.code
    sys.stdout.flush()
    return code


__all__ = [
    "Exit", "Store", "contextlib", "current_umask", "json", "new_job", "options", "os", "re", "shutil", "signal",
    "signal_session", "stamp", "subprocess", "sys", "time", "user",
]
