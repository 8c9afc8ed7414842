"""volclava 2.2 as recorded, which stands for LSF: host vm, 8 slots, queues normal, short (5 min), narrow, adm."""
from core import *

HOST, SLOTS, GROUP_ONLY = "vm", 8, True
LETTERS = "HIKrxBNhVJ:o:e:n:W:M:R:q:w:P:m:u:i:f:k:E:L:c:C:D:F:S:T:v:p:b:t:a:s:X:"
QUEUES = {"normal": {}, "short": {"minutes": 5}, "narrow": {"slots": 2}, "adm": {"users": ["volclava"]}}
FIELDS = ["JOBID", "USER", "STAT", "QUEUE", "FROM_HOST", "EXEC_HOST", "JOB_NAME", "SUBMIT_TIME", "PROJ_NAME", "CPU_USED",
          "MEM", "SWAP", "PIDS", "START_TIME", "FINISH_TIME"]
UNMET = "Job dependency condition not satisfied: 1 host;"
HOPELESS = "Dependency condition invalid or never satisfied: 1 host;"
BJOBS_USAGE = """Usage: bjobs [-h] [-V] [-w |-l |-UF] [-a] [-d] [-p] [-s] [-r] [-o] [-json] [-A]
             [-m host_name] [-q queue_name] [-u user_name | -u all]
             [-P project_name] [-N host_spec]
             [-J name_spec] [jobId | "jobId[idxList]" ...]"""
LOADS = """
 SCHEDULING PARAMETERS:
           r15s   r1m  r15m   ut      pg    io   ls    it    tmp    swp    mem
 loadSched   -     -     -     -       -     -    -     -     -      -      -  
 loadStop    -     -     -     -       -     -    -     -     -      -      -  

 RESOURCE REQUIREMENT DETAILS:
 Combined: select[type == local] order[r15s:pg]
 Effective: -
"""


def down(store, name):
    """Never gives up, unless LSB_NTRIES says so; goes on when the daemon is back. lsid and bhist answer all the same."""
    if name in ("lsid", "bhist"):
        return
    told = 0
    begun = time.monotonic()
    while "down" in store.trouble:
        if time.monotonic() >= begun + 10 * told:
            print("batch system daemon not responding ... still trying", file=sys.stderr, flush=True)
            told += 1
            if told >= int(os.environ.get("LSB_NTRIES", "0") or 0) > 0:
                raise Exit(255, "Connection refused by server. " + ("Job not submitted." if name == "bsub" else ""))
        time.sleep(0.05)


# ---------------------------------------------------------------- bsub


def refused(words):
    return Exit(255, f"{words} Job not submitted.")


def embedded(script):
    """The words of all #BSUB lines, wherever they stand; a word with # ends a line, `--` ends all options."""
    words, lines = [], iter(script.splitlines())
    for line in lines:
        found = re.match(r"\s*#\s*BSUB\b(.*)", line)
        if not found:
            continue
        rest = found[1]
        while rest.endswith("\\"):
            rest = rest[:-1] + re.sub(r"^\s*#\s*BSUB", "", next(lines, ""))
        for word in re.findall(r"""(?:"[^"]*"|'[^']*'|[^\s"'])+""", rest):
            if word.startswith("#"):
                break
            if word.startswith("--"):
                return words
            words.append(re.sub(r""""([^"]*)"|'([^']*)'""", lambda quoted: quoted[1] or quoted[2] or "", word))
    return words


def bsub(store, args):
    bad = lambda error: Exit(255, f"bsub: illegal option -- {error.opt}\nUsage: bsub [-h] [-V] [-H] [-x] [-r] [-N] [-B] ...")
    if args[:1] and args[0] in ("-gpu", "-G", "-g", "-U", "-json", "-yaml", "-data"):
        raise Exit(255, f"bsub: illegal option -- {args[0][1:]}\nUsage: bsub [-h] [-V] [-x] [-H] [-r] [-N] [-B] [-I | -K | -Ip | -Is]")
    given, command = options(args, LETTERS, bad)
    script = "" if command else sys.stdin.read()
    inside, more = options(embedded(script), LETTERS, bad)
    chosen = dict([*inside, *given])
    if [letter for letter, _ in given].count("-R") > 1:
        raise refused("Invalid syntax; the -R option was used more than once.\n.")
    if store.trouble.text("refuse") is not None:
        code, _, words = store.trouble.take("refuse").partition("\n")
        raise Exit(int(code or 255), words or f"{chosen.get('-q', 'normal')}: User cannot use the queue. Job not submitted.")
    queue = chosen.get("-q", "normal")
    if queue not in QUEUES:
        raise refused(f"{queue}: No such queue.")
    if user() not in QUEUES[queue].get("users", [user()]):
        raise refused(f"{queue}: User cannot use the queue.")
    count = chosen.get("-n", "1").split(",")[0]
    if not count.isdigit():
        raise refused("Bad argument for option -n.")
    if int(count) < 1:
        raise refused("The number of processors must be a positive integer.")
    slots = int(count)
    alone = "span[hosts=1]" in chosen.get("-R", "")
    if slots > QUEUES[queue].get("slots", SLOTS if not alone else 10**6):
        raise refused("Too many processors requested.")
    wants = chosen.get("-R", "")
    if re.search(r"mem=[\d.]+[A-Za-z]|affinity|/host|\d\*\{", wants):
        raise refused("Bad resource requirement syntax.")
    limit = None
    if "-W" in chosen:
        found = re.fullmatch(r"(?:(\d+):)?(\d+)(/\S+)?", chosen["-W"])
        if not found:
            raise refused(f"{chosen['-W']}: Bad RUNLIMIT specification.")
        limit = 60 * (60 * int(found[1] or 0) + int(found[2]))
        if limit > 60 * QUEUES[queue].get("minutes", 10**6):
            raise refused("RUNLIMIT: Cannot exceed queue's hard limit(s).")
    if "-M" in chosen and not chosen["-M"].isdigit():
        raise refused(f"{chosen['-M']}: MEMLIMT value should be a positive integer.")
    name = chosen.get("-J")
    if name is not None and len(name) >= 255:
        raise refused("Bad job name.")
    if "-w" in chosen:
        Condition(store, chosen["-w"]).check()
    array = re.fullmatch(r"(.*)\[1-(\d+)\](?:%(\d+))?", name or "")
    number = store.new_id()
    line = " ".join([*command]) if command else ";".join(script.rstrip("\n").split("\n"))
    job = new_job(
        store, number, name=name if name is not None else line, named=name is not None, queue=queue, held="-H" in chosen,
        cpus=slots, limit=limit, out=chosen.get("-o"), err=chosen.get("-e"), condition=chosen.get("-w"), line=line,
        project=chosen.get("-P", "default"), minutes=limit, script=not command, memory=chosen.get("-M"), hopeless=False,
        on_hold="-H" in chosen, wants=wants,
    )
    path = os.path.join(store.job_dir(job), f"{int(time.time())}.{number}.shell")
    with open(path, "w") as file:
        text = script or " ".join([*command]) + "\n"
        file.write(text if text.startswith("#!") else "#!/bin/sh\n" + text)
    os.chmod(path, 0o700)
    job["shell"] = path
    if array:
        job.update(array=int(array[2]), at_once=int(array[3] or 0))
        for index in range(1, int(array[2]) + 1):
            one = {**job, "id": f"{number}[{index}]", "array": None, "part_of": str(number), "index": index, "whole_name": name,
                   "name": f"{array[1]}[{index}]"}
            store.jobs[one["id"]] = one
    if store.trouble.take("lose-reply") is not None:
        raise Exit(255, "Communication time out. Job not submitted.", keep=True)
    if not os.environ.get("BSUB_QUIET"):
        print(f"Job <{number}> is submitted to " + (f"queue <{queue}>." if "-q" in chosen else f"default queue <{queue}>."))
    return 0


class Condition:
    """A -w expression: True, False, or None when it can never be met."""

    def __init__(self, store, text):
        self.store, self.text, self.at, self.strict = store, text, 0, False
        self.words = re.findall(r"&&|\|\||[()!,]|\"[^\"]*\"|[^\s()!,&|\"]+", text)

    def broken(self):
        return refused(f"{self.text}: Dependency condition syntax error.")

    def take(self, wanted=None):
        if self.at >= len(self.words) or wanted and self.words[self.at] != wanted:
            raise self.broken()
        self.at += 1
        return self.words[self.at - 1]

    def peek(self):
        return self.words[self.at] if self.at < len(self.words) else None

    def value(self):
        self.at = 0
        found = self.either()
        if self.peek() is not None:
            raise self.broken()
        return found

    def either(self):
        found = self.both()
        while self.peek() == "||":
            self.take()
            other = self.both()
            found = True if True in (found, other) else False if False in (found, other) else None
        return found

    def both(self):
        found = self.one()
        while self.peek() == "&&":
            self.take()
            other = self.one()
            found = None if None in (found, other) else found and other
        return found

    def one(self):
        word = self.take()
        if word == "!":
            found = self.one()
            return None if found is None else not found
        if word == "(":
            found = self.either()
            self.take(")")
            return found
        if word in ("done", "exit", "ended", "started", "post_done"):
            self.take("(")
            name, code = self.take().strip('"'), None
            if self.peek() == ",":
                self.take()
                code = self.take()
            self.take(")")
            return self.met(word, name, code)
        if word in ("&&", "||", ")", ","):
            raise self.broken()
        return self.met("done", word.strip('"'), None)

    def met(self, kind, name, code):
        if name.isdigit():
            job = self.store.jobs.get(name)
            if job is None or self.strict and job.get("gone"):
                raise Exit(255, f"{name}: No matching job found. Job not submitted.")
        elif re.search(r"[\[\]]", name):
            raise self.broken()
        else:
            # An unknown name is taken, and never met.
            jobs = [job for job in self.store.jobs.values() if job["name"] == name]
            if not jobs:
                return False
            job = jobs[-1]
        over, good = job["state"] == "ended", stat(job) == "DONE"
        if kind == "started":
            return job["start"] is not None or over
        if not over:
            return False
        if kind == "ended":
            return True
        if kind in ("done", "post_done"):
            return True if good else None
        if code is None:
            return True if not good else None
        sign, number = re.fullmatch(r"([<>=!]*)\s*(\d+)", code).groups()
        have, want = job["code"] or 0, int(number)
        right = {"": have == want, "==": have == want, ">=": have >= want, ">": have > want, "<=": have <= want,
                 "<": have < want, "!=": have != want}[sign]
        return True if right and not good else None

    def check(self):
        """At submission: a job that is not shown any more is not known; a condition taken earlier goes on knowing it."""
        self.strict = True
        self.value()


# ---------------------------------------------------------------- running


def parts(store, job):
    return [one for one in store.jobs.values() if one.get("part_of") == job["id"]]


def tick(store):
    for job in store.jobs.values():
        if job.get("array") and job["state"] != "ended":
            tasks = parts(store, job)
            if all(one["state"] == "ended" for one in tasks):
                good = all(stat(one) == "DONE" for one in tasks)
                job.update(state="ended", end=time.time(), code=0 if good else 1)
    for job in store.jobs.values():
        if job["state"] == "ended" and "forget" in store.trouble:
            # Conditions that were accepted keep what they know of it.
            job["gone"] = True
    return False


def ready(store, job):
    if job.get("array"):
        return False
    if job.get("part_of"):
        whole = store.jobs[job["part_of"]]
        running = sum(1 for one in parts(store, whole) if one["state"] == "running")
        if whole["held"] or whole["at_once"] and running >= whole["at_once"]:
            return False
    if job["condition"] is None or "start-early" in store.trouble:
        return job["cpus"] <= SLOTS
    try:
        found = Condition(store, job["condition"]).value()
    except Exit:
        found = None
    job["hopeless"] = found is None
    return found is True and job["cpus"] <= SLOTS


def named(job, path):
    path = path.replace("%J", job["id"]).replace("%I", "0")
    path = os.path.join(job["cwd"], path)
    return os.path.join(path, job["id"] + ".out") if path.endswith("/") or os.path.isdir(path) else path


def hosts(job):
    """Slots of each host; span[ptile=N] puts N on each, here on hosts of other names."""
    tile = re.search(r"ptile=(\d+)", job.get("wants") or "")
    each, left, text = int(tile[1]) if tile else job["cpus"], job["cpus"], ""
    while left > 0:
        text += f"{HOST if not text else HOST + str(left)} {min(each, left)} "
        left -= each
    return text


def launch(store, job):
    own = store.job_dir(job)
    files = os.path.splitext(job["shell"])[0] + (f".{job['index']}" if job.get("part_of") else "")
    env = {key: value for key, value in job["env"].items() if not key.startswith(("LSB_", "LS_"))}
    env.update({
        "LSB_JOBID": job["id"], "LSB_JOBINDEX": "0", "LSB_JOBNAME": job["name"], "LSB_QUEUE": job["queue"],
        "LSB_HOSTS": " ".join([HOST] * job["cpus"]), "LSB_MCPU_HOSTS": hosts(job), "LSB_SUB_HOST": HOST,
        "LSB_JOBFILENAME": files, "LSB_CHKFILENAME": files, "LSB_ACCT_FILE": os.path.join(own, "acct"),
        "LSB_JOBEXIT_STAT": "0", "LSB_EXIT_PRE_ABORT": "99", "LSB_TRAPSIGS": "trap # 15 10 12 2 1",
        "LSB_UNIXGROUP": job["user"], "LSFUSER": job["user"], "LSF_EAUTH_CLIENT": "user",
        "LSF_EAUTH_SERVER": "mbatchd@volclava", "LSF_BINDIR": store.links, "LSF_ENVDIR": own, "LSF_LIBDIR": own,
        "LSF_SERVERDIR": own, "LS_SUBCWD": job["cwd"], "LS_EXEC_T": "START",
    })
    if job.get("part_of"):
        env.update({"LSB_JOBID": job["part_of"], "LSB_JOBINDEX": str(job["index"]), "LSB_JOBNAME": job["whole_name"]})
        env.update({"LSB_JOBINDEX_STEP": "1", "LSB_JOBINDEX_END": str(store.jobs[job["part_of"]]["array"])})
    if job["out"]:
        env["LSB_OUTPUTFILE"] = job["out"].replace("%J", job["id"]).replace("%I", "0")
    if job["err"]:
        env["LSB_ERRORFILE"] = job["err"].replace("%J", job["id"]).replace("%I", "0")
    job["live"] = [files + ".out", files + ".err" if job["err"] else files + ".out"]
    # The shell around the job turns a signal into 128+n; a trapped signal has its default action in the child.
    argv = ["/bin/sh", "-c", f"trap : USR2 INT TERM; '{job['shell']}'; exit $?"]
    return argv, {
        "cwd": job["cwd"] if os.path.isdir(job["cwd"]) else "/tmp", "env": env, "umask": job["umask"],
        "files": [("/dev/null", "r"), (job["live"][0], "a"), (job["live"][1], "a")],
    }


def not_started(store, job, error):
    job.update(state="ended", code=127, end=time.time())


def signals(job):
    if job["over"] == "time-limit":
        return [signal.SIGUSR2, signal.SIGKILL]
    if job["over"] == "memory":
        return [signal.SIGINT, signal.SIGKILL]
    if job["over"] in ("node-fail", "requeue"):
        return [signal.SIGKILL]
    return [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def outcome(job):
    if job["code"] == 0:
        return "Done successfully."
    return f"Exited by signal {job['signal']}." if job["signal"] else f"Exited with exit code {job['code']}."


def ended(store, job):
    if job["state"] == "pending":
        return
    text = open(job["live"][0], errors="surrogateescape").read()
    if job["out"]:
        words = "Successfully completed." if job["code"] == 0 else outcome(job)
        line = open(job["shell"]).read()
        rule = "-" * 60
        report = (
            f"Sender: LSF System <volclava@{HOST}>\nSubject: Job {job['id']}: <{job['name']}> {stat(job).title().replace('Exit', 'Exited')}\n\n"
            f"Job <{job['name']}> was submitted from host <{HOST}> by user <{job['user']}>.\n"
            f"Job was executed on host(s) <{HOST}>, in queue <{job['queue']}>, as user <{job['user']}>.\n"
            f"<{job['env'].get('HOME', '/')}> was used as the home directory.\n<{job['cwd']}> was used as the working directory.\n"
            f"Started at {stamp(job['start'])}\nResults reported at {stamp(job['end'])}\n\nYour job looked like:\n\n{rule}\n"
            f"# LSBATCH: User input\n{line}\n{rule}\n\n{words}\n\nResource usage summary:\n\n    CPU time   :      0.02 sec.\n\n"
            f"The output (if any) follows:\n\n"
        )
        # A missing directory loses the output; the job is DONE all the same.
        with contextlib.suppress(OSError), open(named(job, job["out"]), "a", errors="surrogateescape") as file:
            file.write(report + text)
    if job["err"]:
        with contextlib.suppress(OSError), open(named(job, job["err"]), "a", errors="surrogateescape") as file:
            file.write(open(job["live"][1], errors="surrogateescape").read())


# ---------------------------------------------------------------- asking


def stat(job):
    if job["state"] == "ended":
        return "DONE" if job["code"] == 0 and not job["signal"] else "EXIT"
    if job["state"] == "running":
        return "RUN"
    return "PSUSP" if job["held"] else "PEND"


def field(job, name):
    short = lambda when: time.strftime("%m/%d-%H:%M:%S", time.localtime(when)) if when else "-"
    return {
        "JOBID": job["id"], "USER": job["user"], "STAT": stat(job), "QUEUE": job["queue"], "FROM_HOST": HOST,
        "EXEC_HOST": ":".join([HOST] * job["cpus"]) if job["start"] and job["state"] != "pending" else "", "JOB_NAME": job["name"],
        "SUBMIT_TIME": time.strftime("%b %e %H:%M", time.localtime(job["submit"])), "PROJ_NAME": job["project"],
        "CPU_USED": "000:00:00.01", "MEM": "0", "SWAP": "0", "PIDS": "-", "START_TIME": short(job["start"]),
        "FINISH_TIME": short(job["end"]),
    }[name]


def bjobs(store, args):
    usage = lambda error: Exit(255, f"bjobs: invalid option -- '{error.opt}'\n{BJOBS_USAGE}")
    as_json, unbroken = "-json" in args, "-UF" in args
    args = ["-l" if word == "-UF" else word for word in args if word != "-json"]
    given, ids = options(args, "hVwlWadpsrAXo:m:q:u:P:N:J:", usage)
    chosen = dict(given)
    if as_json and "-o" not in chosen or "-h" in chosen:
        raise Exit(255, BJOBS_USAGE)
    names = [name.upper() for name in chosen.get("-o", "").split()]
    seen = [job for job in store.jobs.values() if not job.get("gone")]
    asked = "-l" in chosen or ids
    who = chosen.get("-u", user())
    if not ids:
        seen = [job for job in seen if who in ("all", job["user"])]
    missing, code = [], 0
    if ids and ids != ["0"]:
        found = []
        for one in ids:
            if not re.fullmatch(r"\d+(\[\d+\])?", one):
                raise Exit(255, f"{one}: Illegal job ID.")
            # An array is shown as its tasks.
            match = [job for job in seen if job["id"] == one and not job.get("array") or job.get("part_of") == one]
            found += match
            if not match:
                missing.append(one)
    else:
        found = [job for job in seen if not job.get("array")]
        if "-J" in chosen:
            import fnmatch
            found = [job for job in found if fnmatch.fnmatchcase(job["name"], chosen["-J"])]
        if "-q" in chosen:
            found = [job for job in found if job["queue"] == chosen["-q"]]
        if "-d" in chosen:
            found = [job for job in found if job["state"] == "ended"]
        elif "-r" in chosen:
            found = [job for job in found if stat(job) == "RUN"]
        elif "-p" in chosen:
            found = [job for job in found if stat(job) in ("PEND", "PSUSP")]
        elif "-s" in chosen:
            found = [job for job in found if stat(job) in ("PSUSP", "USUSP", "SSUSP")]
        elif not asked and "-a" not in chosen or "-l" in chosen and "-a" not in chosen:
            found = [job for job in found if job["state"] != "ended"]
        if not found:
            where = f" in queue <{chosen['-q']}>" if "-q" in chosen else ""
            kind = "pending" if "-p" in chosen else "suspended" if "-s" in chosen else "running" if "-r" in chosen else "unfinished"
            raise Exit(254, f"Job <{chosen['-J']}> is not found" if "-J" in chosen else f"No {kind} job found{where}")
    for name in names:
        if found and name not in FIELDS:
            raise Exit(99, f"<{name}> in the format string is not a valid field name.")
    if missing:
        code = 255
    if as_json:
        records = [{name: field(job, name) for name in names} for job in found]
        records += [{"JOBID": one, "ERROR": f"Job <{one}> is not found"} for one in missing]
        print(json_text({"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": records}))
        # Exit 0 as soon as one of them was found.
        return 0 if found else 255
    if found and names:
        print(" ".join(names))
        for job in found:
            print(" ".join(field(job, name).split(":vm")[0] or "-" for name in names))
    elif "-l" in chosen:
        print((f"{'-' * 78}\n").join(long_text(job, unbroken) + "\n" for job in found), end="")
    elif found:
        wide = "-w" in chosen or "-W" in chosen
        if "-p" in chosen and not ids and not wide:
            print("JOBID   USER    STAT  QUEUE       FROM_HOST      JOB_NAME           SUBMIT_TIME")
            for job in found:
                name = job["name"] if len(job["name"]) <= 18 else "*" + job["name"][-17:]
                print(f"{job['id']:<7} {job['user'][:7]:<7} {stat(job):<5} {job['queue']:<11} {HOST:<14} {name:<18} {field(job, 'SUBMIT_TIME')}")
                print(" " + waits(job))
            return code
        print("JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME")
        for job in found:
            name = job["name"] if wide or len(job["name"]) <= 10 else "*" + job["name"][-9:]
            host = field(job, "EXEC_HOST") or ("   -  " if wide else "")
            print(f"{job['id']:<7} {job['user'][:7]:<7} {stat(job):<5} {job['queue']:<10} {HOST:<11} "
                  f"{host if wide else host.split(':')[0]:<11} {name:<10} {field(job, 'SUBMIT_TIME')}")
            for _ in range(1, job["cpus"] if host and not wide else 0):
                print(f"{'':45}{HOST}")
            if "-p" in chosen:
                print(" " + waits(job))
    for one in missing:
        print(f"Job <{one}> is not found", file=sys.stderr)
    return code


def json_text(value):
    text = json.dumps(value, indent="\t", separators=(",", ":\t"), ensure_ascii=False)
    return text.replace("[\n\t\t{", "[{").replace("},\n\t\t{", "}, {").replace("}\n\t]", "}]")


def waits(job):
    if job["held"]:
        return "The job was suspended by the user while pending: 1 host;"
    if job["condition"]:
        return HOPELESS if job["hopeless"] else UNMET
    return "Not enough job slot(s): 1 host;" if job["cpus"] > SLOTS else "New job is waiting for scheduling: 1 host;"


def head(job, status):
    name = f", Job Name <{job['name']}>" if job["named"] else ""
    state = f", Status <{stat(job)}>, Queue <{job['queue']}>" if status else ""
    return f"\nJob <{job['id']}>{name}, User <{job['user']}>, Project <{job['project']}>{state}, Command <{job['line']}>"


def submitted(job, queue):
    home, cwd = job["env"].get("HOME", "/"), job["cwd"]
    cwd = "$HOME" + cwd[len(home):] if cwd == home or cwd.startswith(home + "/") else cwd
    text = f"{stamp(job['submit'])}: Submitted from host <{HOST}>{' with hold' if job['on_hold'] else ''}, " + (f"to Queue <{job['queue']}>, " if queue else "") + f"CWD <{cwd}>"
    if job["out"]:
        text += f", Output File <{job['out']}>"
    if job["err"]:
        text += f", Error File <{job['err']}>"
    if job["cpus"] > 1:
        text += f", {job['cpus']} Processors Requested"
    if job["condition"]:
        text += f", Dependency Condition <{job['condition']}>"
    text += ";"
    if job["minutes"] is not None:
        text += f"\n\n RUNLIMIT                \n {job['minutes'] / 60:.1f} min                 "
    return text


def long_text(job, unbroken):
    first, _, limits = submitted(job, False).partition("\n")
    if unbroken:
        first = first.replace(f"{job['cpus']} Processors Requested", f"{job['cpus']} Task(s)")
    lines = [head(job, True), first, *([limits] if limits and not unbroken else [])]
    if job["state"] == "pending":
        lines += [" PENDING REASONS:", " " + waits(job)]
    else:
        hosts = f"<{HOST}>" if job["cpus"] == 1 else f"{job['cpus']} Hosts/Processors " + " ".join([f"<{HOST}>"] * job["cpus"])
        started = f"Started on {hosts}"
        if unbroken:
            tasks = " ".join([f"<{HOST}>"] * job["cpus"])
            started = f"Started {job['cpus']} Task(s) on Host(s) {tasks}, Allocated {job['cpus']} Slot(s) on Host(s) {tasks}"
        if job["start"]:
            lines.append(f"{stamp(job['start'])}: {started}, Execution Home <{job['env'].get('HOME', '/')}>, Execution CWD <{job['cwd']}>;")
        if job["state"] == "ended":
            lines.append(f"{stamp(job['end'])}: {ending(job)}".removesuffix(";"))
    if unbroken and limits:
        lines.append(limits)
    effective = "-" if job["start"] is None else "select[type == local] order[r15s:pg]"
    return "\n".join(lines) + "\n" + LOADS.replace("Effective: -", f"Effective: {effective}")


def ending(job):
    return "Exited" if job["code"] is None and not job["signal"] else outcome(job) + " The CPU time used is 0.0 seconds."


def wrap(line):
    """bhist cuts what happened at 80 characters, inside words too, and goes on below the text; a full line gets an
    empty one."""
    if not re.match(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d: ", line) or "\n" in line:
        return [line]
    text = line + "\n"
    return [text[:80].rstrip("\n")] + [" " * 21 + text[at:at + 59].rstrip("\n") for at in range(80, len(text) + (len(text) == 80), 59)]


def bhist(store, args):
    given, ids = options(args, "lawbn:u:J:", lambda error: Exit(255, "Usage: bhist ..."))
    found = [job for job in store.jobs.values() if not ids and job["user"] == user() or job["id"] in ids or job.get("part_of") in ids]
    found = [job for job in found if not job.get("array")]
    if not found:
        print("No matching job found")
        return 255
    if "-l" in dict(given):
        for job in found:
            lines = [head(job, False), submitted(job, True)]
            if job["start"]:
                lines += [f"{stamp(job['start'])}: Dispatched to <{HOST}>;", f"{stamp(job['start'])}: Starting (Pid {job['pid'] or 1});"]
                where = f"home <{job['env'].get('HOME', '/')}>, Execution CWD <{job['cwd']}>, Execution Pid <{job['pid'] or 1}>;"
                lines.append(f"{stamp(job['start'])}: Running with execution {where}")
            if job["cancel"]:
                lines.append(f"{stamp(job['cancel'])}: Signal <KILL> requested by user or administrator <{job['user']}>")
            if job["state"] == "ended":
                lines.append(f"{stamp(job['end'])}: {ending(job)}".removesuffix(".").removesuffix(";") + ";")
            lines = [part for line in lines for part in wrap(line)]
            now = job["end"] or time.time()
            ran = int(now - job["start"]) if job["start"] else 0
            waited = int((job["start"] or now) - job["submit"])
            lines += ["", f"Summary of time in seconds spent in various states by  {stamp(now)}"]
            lines += ["  PEND     PSUSP    RUN      USUSP    SSUSP    UNKWN    TOTAL"]
            print("\n".join(lines) + f"\n  {waited:<8} 0        {ran:<8} 0        0        0        {waited + ran:<12}\n")
        return 0
    print("Summary of time in seconds spent in various states:")
    print("JOBID   USER    JOB_NAME  PEND    PSUSP   RUN     USUSP   SSUSP   UNKWN   TOTAL")
    for job in found:
        print(f"{job['id']:<7} {job['user'][:7]:<7} {job['name'][:8]:<9} 0       0       0       0       0       0       0         ")
    return 0


# ---------------------------------------------------------------- changing


def chosen_jobs(store, name, args, letters):
    given, ids = options(args, letters, lambda error: Exit(255, f"Usage: {name} [-h] [-V] [jobId ...]"))
    chosen = dict(given)
    mine = [job for job in store.jobs.values() if job["state"] != "ended" and job["user"] == user()]
    if "-J" in chosen:
        mine = [job for job in mine if job["name"] == chosen["-J"]]
    if ids == ["0"] or not ids and "-J" in chosen:
        if not mine:
            raise Exit(255, f"Job <{chosen['-J']}> is not found" if "-J" in chosen else "No matching job found")
        return chosen, mine, 0
    if not ids:
        raise Exit(255, f"Job ID or one of '-m', '-u' '-q' and '-J' must be specified.\nUsage: {name} [-h] [-V] [jobId ...]")
    found, code = [], 0
    for one in ids:
        job = store.jobs.get(one)
        if job is None or job.get("gone"):
            words = "No matching job found"
        elif job["state"] == "ended":
            words = "Job has already finished"
        elif job["user"] != user() and user() != "root":
            words = "User permission denied"
        else:
            found += [part for part in parts(store, job) if part["state"] != "ended"] if job.get("array") else [job]
            continue
        code = 255
        print(f"Job <{one}>: {words}", file=sys.stderr)
    return chosen, found, code


def bkill(store, args):
    chosen, jobs, code = chosen_jobs(store, "bkill", args, "hVlrbs:J:q:u:m:R")
    sent = chosen.get("-s", "KILL").upper().removeprefix("SIG")
    if not hasattr(signal, "SIG" + sent) and not sent.isdigit() or sent == "0":
        raise Exit(255, f"{chosen['-s']}: Illegal signal value")
    for job in jobs:
        print(f"Job <{job['id']}> is being " + ("terminated" if sent == "KILL" else "signaled"))
        if sent != "KILL":
            number = int(sent) if sent.isdigit() else getattr(signal, "SIG" + sent)
            if job["pid"]:
                with contextlib.suppress(OSError):
                    os.killpg(job["pid"], number)
        elif job["state"] == "running":
            job["cancel"] = job["cancel"] or time.time()
        else:
            job.update(state="ended", over="cancelled", cancel=time.time(), end=time.time())
    return code


def bresume(store, args):
    _, jobs, code = chosen_jobs(store, "bresume", args, "hVJ:q:u:m:")
    for job in jobs:
        job["held"] = False
        print(f"Job <{job['id']}> is being resumed")
    return code


def bstop(store, args):
    _, jobs, code = chosen_jobs(store, "bstop", args, "hVJ:q:u:m:a")
    for job in jobs:
        job["held"] = job["state"] == "pending"
        print(f"Job <{job['id']}> is being stopped")
    return code


def lsid(store, args):
    print(f"volclava project 2.2, Nov 20 2026\n\nMy cluster name is volclava\nMy master name is {HOST}")
    return 0


COMMANDS = {
    "bsub": bsub, "bjobs": bjobs, "bhist": bhist, "bkill": bkill, "bresume": bresume, "bstop": bstop, "lsid": lsid,
}
