"""OpenPBS 23.06 as recorded: job history on unless `forget`; server and host are called vm."""
from core import *

SERVER, VERSION, GROUP_ONLY = "vm", "23.06.06", False
USAGE = """usage: qsub [-a date_time] [-A account_string] [-c interval]
	[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
	[-k keep] [-l resource_list] [-m mail_options] [-M user_list]
	[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]
	[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]
	[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]
       qsub --version"""
LETTERS = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:Xz"
KNOWN = {"ncpus", "mem", "vmem", "pmem", "walltime", "select", "place", "cput", "nodes", "nodect", "host", "vnode",
         "ompthreads", "mpiprocs", "file", "nice", "arch", "software", "pcput", "pvmem"}
QUEUES = {"workq": {}, "short": {"walltime": 600, "ncpus": 4}, "closed": {}, "parked": {}}
NCPUS, MEM = 8, 32 << 30


def down(store, name):
    refused = f"Connection refused\n{name}: cannot connect to server {SERVER} (errno=15010)"
    if name == "qstat":
        if "json" in sys.argv:
            print(json_text({}))
        raise Exit(255, refused)
    if name == "qdel":
        raise Exit(162, f"Connection refused\nCouldn't connect to cluster: {SERVER}")
    if name == "pbsnodes":
        raise Exit(1, f"Connection refused\npbsnodes: cannot connect to server {SERVER}, error=15010")
    raise Exit(162, refused)


def version(args):
    if "--version" in args:
        print(f"pbs_version = {VERSION}")
        raise Exit(0)


# ---------------------------------------------------------------- qsub


def illegal(letter):
    return Exit(2, f"qsub: illegal -{letter} value\n{USAGE}")


def seconds(text, what):
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise Exit(166, f"qsub: Illegal attribute or resource value {what}")
    total = 0
    for part in text.split("."[0])[0].split(":"):
        total = total * 60 + int(part)
    return total


def size(text, what):
    found = re.fullmatch(r"(\d+)([kmgtp]?)[bw]?", text.lower())
    if not found:
        raise Exit(166, f"qsub: Illegal attribute or resource value {what}")
    return int(found[1]) << 10 * " kmgtp".index(found[2] or " ")


def directives(text, prefix):
    """The words of the lines before the first executable one."""
    words = []
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped.startswith(prefix):
            rest = stripped[len(prefix):]
            try:
                import shlex
                words += shlex.split(rest)
            except ValueError:
                raise Exit(1, f"qsub: directive error: {rest.strip()} ") from None
        elif stripped and not stripped.startswith(("#", ":")):
            break
    return words


def resources(lists):
    """The -l lists as one dictionary, checked as the server checks them."""
    wanted, chunk = {}, {}
    for one in lists:
        for part in one.split(","):
            name, _, value = part.partition("=")
            if name not in KNOWN:
                raise Exit(187, f"qsub: Unknown resource Resource_List.{name}")
            wanted[name] = value
    if "select" in wanted and wanted.keys() & {"ncpus", "mem", "nodes"}:
        both = sorted(wanted.keys() & {"ncpus", "mem", "nodes"})[0]
        raise Exit(5, f'qsub: "-lresource=" cannot be used with "select" or "place", resource is: {both}')
    for part in wanted.get("select", "1").split("+")[0].split(":")[1:]:
        name, _, value = part.partition("=")
        if name not in KNOWN:
            raise Exit(187, f"qsub: Unknown resource: {name}")
        chunk[name] = value
    cpus = chunk.get("ncpus", wanted.get("ncpus", "1"))
    if not cpus.isdigit():
        raise Exit(166, "qsub: Illegal attribute or resource value Resource_List.ncpus")
    memory = None
    if "mem" in chunk:
        memory = size(chunk["mem"], "select.mem")
    elif "mem" in wanted:
        memory = size(wanted["mem"], "Resource_List.mem")
    limit = seconds(wanted["walltime"], "Resource_List.walltime") if "walltime" in wanted else None
    wanted.setdefault("select", f"1:ncpus={cpus}" + (f":mem={wanted['mem']}" if "mem" in wanted else ""))
    wanted.update({"ncpus": int(cpus), "nodect": 1, "place": wanted.get("place", "pack")})
    if memory is not None:
        wanted["mem"] = chunk.get("mem", wanted.get("mem"))
    return wanted, int(cpus), memory, limit


def depend(text):
    """[[kind, id]…] of depend=…; malformed ones are refused."""
    found = []
    for clause in text.split(","):
        kind, *ids = clause.strip().split(":")
        if kind not in ("afterok", "afternotok", "afterany", "after") or not ids:
            raise illegal("W")
        for one in ids:
            # Of an array only the whole can be waited for.
            number = re.fullmatch(rf"(\d+(?:\[\])?)(\.{SERVER})?", one.split("@")[0])
            if not number:
                raise illegal("W")
            found.append([kind, number[1]])
    return found


def qsub(store, args):
    version(args)
    line = options(args, LETTERS, lambda error: Exit(2, f"qsub: invalid option -- '{error.opt}'\n{USAGE}"))
    given, rest = line
    if rest and rest[0] == "--" or "--" in args and rest:
        text, name, argv = "", "STDIN", [word for word in rest if word != "--"]
    elif len(rest) > 1:
        raise Exit(2, USAGE)
    else:
        argv, name = None, os.path.basename(rest[0]) if rest and rest[0] != "-" else "STDIN"
        try:
            text = sys.stdin.read() if name == "STDIN" else open(rest[0], errors="surrogateescape", newline="").read()
        except OSError:
            raise Exit(1, "qsub: script file:: No such file or directory") from None
    if "\r\n" in text:
        raise Exit(1, "qsub: script contains cr, lf")
    prefix = dict(given).get("-C", os.environ.get("PBS_DPREFIX", "#PBS"))
    inside, _ = options(directives(text, prefix), LETTERS, lambda error: Exit(1, f"qsub: directive error: {error} "))
    chosen, lists, others = {}, [], {}
    for letter, value in [*inside, *given]:
        if letter == "-l":
            # The command line's list takes the place of one name at a time.
            lists.append(value)
        elif letter == "-W":
            for part in re.split(r",(?=\s*[a-z_]+=)", value):
                key, eq, rest_of = part.strip().partition("=")
                if not eq:
                    raise illegal("W")
                others[key] = rest_of
        else:
            chosen[letter] = value
    name = chosen.get("-N", name)
    if "-N" in chosen:
        if len(name) > 230:
            raise Exit(2, "qsub: Job name is too long ")
        if not re.fullmatch(r"[A-Za-z0-9._+-]+", name):
            raise illegal("N")
    waits = depend(others["depend"]) if "depend" in others else []
    if store.trouble.text("refuse") is not None:
        code, _, words = store.trouble.take("refuse").partition("\n")
        raise Exit(int(code or 188), words or "qsub: Job violates queue and/or server resource limits")
    wanted, cpus, memory, limit = resources(lists)
    queue = chosen.get("-q") or "workq"
    if queue not in QUEUES:
        raise Exit(170, "qsub: Unknown queue")
    if queue == "closed":
        raise Exit(173, "qsub: Queue is not enabled")
    most = QUEUES[queue]
    if most and (cpus > most["ncpus"] or (limit or 0) > most["walltime"]):
        raise Exit(188, "qsub: Job violates queue and/or server resource limits")
    array = None
    if "-J" in chosen:
        found = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?(?:%(\d+))?", chosen["-J"])
        if not found or int(found[1]) >= int(found[2]):
            raise illegal("J")
        array = range(int(found[1]), int(found[2]) + 1, int(found[3] or 1))
        if len(array) > 10000:
            raise Exit(3, "qsub: Array job exceeds server or queue size limit")
    number = store.new_id()
    variables = {}
    if "-V" in chosen:
        variables = dict(os.environ)
    for part in chosen.get("-v", "").split(",") if "-v" in chosen else []:
        key, eq, value = part.partition("=")
        if not eq and key not in os.environ:
            raise Exit(1, "qsub: cannot send environment with the job")
        variables[key] = value if eq else os.environ[key]
    job = new_job(
        store, number, name=name, queue=queue, held="-h" in chosen, deps=waits, cpus=cpus, limit=limit,
        memory=memory, wanted=wanted, variables=variables, argv=argv, rerun=chosen.get("-r", "y") == "y",
        join=chosen.get("-j"), keep=chosen.get("-k", ""), mask=int(others.get("umask", "077"), 8),
        out=place(chosen.get("-o"), f"{name}.o{number}", f"{number}.{SERVER}.OU"),
        err=place(chosen.get("-e"), f"{name}.e{number}", f"{number}.{SERVER}.ER"),
        arguments=" ".join(args), env={key: os.environ.get(key, "") for key in ("HOME", "PATH", "SHELL", "LANG")},
    )
    if array is not None:
        del store.jobs[job["id"]]
        whole = f"{number}[]"
        job.update(id=whole, array=f"{array[0]}-{array[-1]}", at_once=int(found[4] or 0))
        store.jobs[whole] = job
        for index in array:
            one = {**job, "id": f"{number}[{index}]", "array": None, "part_of": whole, "index": index, "deps": []}
            for path in ("out", "err"):
                one[path] = re.sub(r"\^array_index\^", str(index), job[path]) if job[path] else None
            store.jobs[one["id"]] = one
    with open(os.path.join(store.job_dir(job), "script"), "w", errors="surrogateescape", newline="") as file:
        file.write(text)
    os.chmod(file.name, 0o700)
    register(store, job)
    if store.trouble.take("lose-reply") is not None:
        raise Exit(255, "Failed to recv data from background qsub", keep=True)
    print(f"{job['id']}.{SERVER}")


def place(path, plain, inside):
    path = os.path.join(os.getcwd(), re.sub(r"^[\w.-]+:", "", path) if path else plain)
    path = path.replace("^jobid^", inside.rsplit(".", 1)[0])
    return os.path.join(path, inside) if path.endswith("/") or os.path.isdir(path) else path


def register(store, job):
    """A dependency on a job that the server does not know makes the new one vanish, with exit 0 and an id."""
    if job["deps"] and store.trouble.take("vanish") is not None:
        del store.jobs[job["id"]]
        return
    left, seen = [], set()
    for kind, number in job["deps"]:
        parent = store.jobs.get(number)
        known = parent and (parent["state"] != "ended" or "forget" not in store.trouble)
        if not known or parent["state"] == "ended" and not met(kind, parent):
            never(store, job)
            return
        if parent["state"] != "ended":
            # The same parent twice: only one of the two is ever released.
            left.append([kind, number] if (kind, number) not in seen else ["stuck", number])
            seen.add((kind, number))
    job["deps"] = left


def met(kind, parent):
    good = parent["code"] == 0 and parent["start"] is not None and parent["over"] is None and parent.get("substate") != 93
    return {"afterok": good, "afternotok": not good, "afterany": True, "after": True}.get(kind, False)


def never(store, job):
    """Deleted by its dependency: over without having run, and whatever waits for it goes too."""
    job.update(state="ended", substate=92, end=time.time())
    for one in parts(store, job):
        one.update(state="ended", substate=92, end=time.time())
    for other in list(store.jobs.values()):
        if other["state"] == "pending" and any(number == job["id"] for _, number in other["deps"]):
            never(store, other)


# ---------------------------------------------------------------- running


def parts(store, job):
    return [one for one in store.jobs.values() if one.get("part_of") == job["id"]]


def tick(store):
    """An array is over when its last task is; its exit status is 0 in any case, as recorded."""
    for job in list(store.jobs.values()):
        if not job.get("array") or job["state"] == "ended":
            continue
        tasks = parts(store, job)
        if job["start"] is None and any(one["start"] for one in tasks):
            job.update(start=time.time(), begun=True)
        if all(one["state"] == "ended" for one in tasks):
            failed = any(one["code"] != 0 or one["over"] for one in tasks)
            job.update(state="ended", end=time.time(), code=0, substate=91 if job["over"] else 93 if failed else 92)
            release(store, job)
    return False


def ready(store, job):
    if job.get("array"):
        return False
    if job.get("part_of"):
        whole = store.jobs[job["part_of"]]
        running = sum(1 for one in parts(store, whole) if one["state"] == "running")
        if whole["held"] or whole["deps"] or whole["at_once"] and running >= whole["at_once"]:
            return False
    fits = job["cpus"] <= NCPUS and (job["memory"] or 0) <= MEM
    if not fits:
        what = "ncpus" if job["cpus"] > NCPUS else "mem"
        asked = job["cpus"] if what == "ncpus" else job["wanted"]["mem"]
        there = NCPUS if what == "ncpus" else "32gb"
        job["reason"] = f"Can Never Run: Insufficient amount of resource: {what} (R: {asked} A: {there} T: {there})"
    return fits and not job["deps"] and job["queue"] != "parked"


def launch(store, job):
    own, spool = store.job_dir(job), store.file("spool", f"{job['id']}.{SERVER}")
    if job.get("part_of"):
        shutil.copy(os.path.join(store.job_dir(store.jobs[job["part_of"]]), "script"), os.path.join(own, "script"))
    scratch = os.path.join(own, "tmp")
    os.makedirs(scratch, mode=0o700, exist_ok=True)
    nodes = os.path.join(own, "nodes")
    with open(nodes, "w") as file:
        # A line for each MPI process: mpiprocs of each chunk, hosts told apart.
        for chunk, part in enumerate(job["wanted"]["select"].split("+")):
            count, *rest = part.split(":")
            procs = dict(item.split("=", 1) for item in rest if "=" in item).get("mpiprocs", "1")
            for node in range(int(count) if count.isdigit() else 1):
                name = SERVER if chunk == node == 0 else f"{SERVER}{chunk}{node}"
                file.write(f"{name}\n" * int(procs))
    home = job["env"]["HOME"]
    env = {
        "ENVIRONMENT": "BATCH", "HOME": home, "LOGNAME": job["user"], "USER": job["user"], "SHELL": "/bin/bash",
        "NCPUS": str(job["cpus"]), "OMP_NUM_THREADS": str(job["cpus"]), "PATH": f"/usr/local/bin:/usr/bin:/bin:{store.links}",
        "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_JOBCOOKIE": "0" * 32, "PBS_JOBDIR": home, "PBS_JOBID": f"{job['id']}.{SERVER}",
        "PBS_JOBNAME": job["name"], "PBS_MOMPORT": "15003", "PBS_NODEFILE": nodes, "PBS_NODENUM": "0",
        "PBS_QUEUE": job["queue"], "PBS_TASKNUM": "1", "TMPDIR": scratch, **origin(job), **job["variables"],
    }
    if job.get("part_of"):
        env.update({"PBS_ARRAY_INDEX": str(job["index"]), "PBS_ARRAY_ID": f"{job['part_of']}.{SERVER}"})
    # A login shell reads the name of the script, so a signal shows as 128+n; the profile may set PATH anew.
    script = os.path.join(own, "script")
    with open(os.path.join(own, "typed"), "w") as file:
        if job["argv"] is None:
            file.write(f"case $PATH in *{store.links}*) ;; *) PATH=$PATH:{store.links} ;; esac; {script}\n")
        argv = ["-bash"] if job["argv"] is None else job["argv"]
    live = job["keep"].endswith("doe") or "d" in job["keep"]
    job["spool"] = [job["out"], job["err"]] if live else [spool + ".OU", spool + ".ER"]
    if job["join"] == "oe":
        job["spool"][1] = job["spool"][0]
    for path in job["spool"]:
        with contextlib.suppress(OSError):
            os.unlink(path)
    how = {
        "cwd": home, "env": env, "umask": job["mask"],
        "files": [(file.name, "r"), (job["spool"][0], "a"), (job["spool"][1], "a")],
    }
    if argv == ["-bash"]:
        how["executable"] = "/bin/bash"
    return argv, how


def origin(job):
    return {
        "PBS_O_HOME": job["env"]["HOME"], "PBS_O_HOST": SERVER, "PBS_O_LANG": job["env"]["LANG"], "PBS_O_LOGNAME": job["user"],
        "PBS_O_PATH": job["env"]["PATH"], "PBS_O_QUEUE": job["queue"], "PBS_O_SHELL": "/bin/bash", "PBS_O_SYSTEM": "Linux",
        "PBS_O_WORKDIR": job["cwd"],
    }


def not_started(store, job, error):
    job.update(state="ended", code=254, end=time.time())
    ended(store, job)


def signals(job):
    return [signal.SIGTERM, signal.SIGKILL]


def ended(store, job):
    if job["state"] == "pending":
        return
    over = job["over"]
    if over == "node-fail" and job["rerun"]:
        job.update(state="pending", over=None, code=None, signal=None, end=None)
        return
    if over in ("time-limit", "memory"):
        words = "walltime 2 exceeded limit 1" if over == "time-limit" else "mem 167540kb exceeded limit 102400kb"
        with contextlib.suppress(OSError), open(job["spool"][0], "a") as file:
            file.write(f"=>> PBS: job killed: {words}\n")
        job["code"], job["signal"] = (-29 if over == "time-limit" else -27), None
    elif over == "node-fail":
        job["code"], job["signal"] = -4, None
    elif job["signal"]:
        job["code"], job["signal"] = 256 + job["signal"], None
    job["substate"] = 91 if over == "cancelled" else 92 if job["code"] == 0 else 93
    for spooled, wanted in zip(job.get("spool", []), [job["out"], job["err"]]):
        if spooled != wanted and os.path.exists(spooled) and (wanted == job["out"] or not job["join"]):
            # A missing directory loses the output; the job has ended all the same.
            with contextlib.suppress(OSError):
                shutil.copy(spooled, wanted)
    release(store, job)


def release(store, parent):
    for child in list(store.jobs.values()):
        if child["state"] != "pending":
            continue
        for clause in list(child["deps"]):
            if clause[1] == parent["id"] and clause[0] != "stuck":
                if not met(clause[0], parent):
                    never(store, child)
                    break
                child["deps"].remove(clause)


# ---------------------------------------------------------------- asking


def shown(store, job, old):
    return job["state"] != "ended" or (old and "forget" not in store.trouble)


def letter(job):
    if job["state"] == "ended":
        return "F"
    if job.get("begun"):
        return "B"
    if job["state"] == "running":
        return "E" if job["cancel"] and job["over"] else "R"
    return "H" if job["held"] or job["deps"] else "Q"


def attributes(job):
    ran = job["start"] is not None and job["state"] != "pending"
    kinds = {"afterok": "afterok", "afternotok": "afternotok", "afterany": "afterany", "stuck": "afterok", "after": "after"}
    hold = ("s" if job["deps"] else "") + ("u" if job["held"] else "") or "n"
    state = letter(job)
    show = {"Job_Name": job["name"], "Job_Owner": f"{job['user']}@{SERVER}"}
    if ran:
        seconds_used = int((job["end"] or time.time()) - job["start"])
        wall = time.strftime("%H:%M:%S", time.gmtime(seconds_used))
        show["resources_used"] = {
            "cpupercent": 0, "cput": "00:00:00", "mem": "7052kb", "ncpus": job["cpus"], "vmem": "10380kb", "walltime": wall,
        }
    show.update({"job_state": state, "queue": job["queue"], "server": SERVER, "Checkpoint": "u", "ctime": clock(job["submit"])})
    if job["deps"]:
        lists = {}
        for kind, number in job["deps"]:
            lists.setdefault(kinds[kind], []).append(f":{number}.{SERVER}@{SERVER}")
        show["depend"] = ",".join(kind + "".join(numbers) for kind, numbers in lists.items())
    show["Error_Path"] = f"{SERVER}:{job['err']}"
    if ran:
        show.update({"exec_host": f"{SERVER}/0*{job['cpus']}", "exec_vnode": f"({SERVER}:ncpus={job['cpus']})"})
    show.update({
        "Hold_Types": hold, "Join_Path": job["join"] or "n", "Keep_Files": job["keep"] or "n", "Mail_Points": "a",
        "mtime": clock(job["end"] or job["start"] or job["submit"]), "Output_Path": f"{SERVER}:{job['out']}", "Priority": 0,
        "qtime": clock(job["submit"]), "Rerunable": str(job["rerun"]), "Resource_List": job["wanted"],
    })
    if ran:
        show.update({"stime": clock(job["start"]), "jobdir": job["env"]["HOME"]})
    substate = {"B": 70, "R": 42, "E": 50, "Q": 10, "H": 22 if "depend=" in job["arguments"] else 20}.get(state)
    show["substate"] = job.get("substate", 92) if state == "F" else substate
    show["Variable_List"] = {**origin(job), **job["variables"]}
    if ran:
        at = time.strftime("%a %b %d at %H:%M", time.localtime(job["start"]))
        how = "" if state != "F" else {91: " and terminated by user", 92: " and finished", 93: " and failed"}[show["substate"]]
        if job["over"] in ("time-limit", "memory") and state == "F":
            how = " and exceeded resource " + ("walltime" if job["over"] == "time-limit" else "mem")
        show["comment"] = f"Job run at {at} on ({SERVER}:ncpus={job['cpus']}){how}"
        show["run_count"] = job["runs"]
    elif job["reason"]:
        show["comment"] = job["reason"]
    if job.get("array"):
        show.update({"array": "True", "array_indices_submitted": job["array"]})
    if state == "F" and job["code"] is not None:
        show["Exit_status"] = job["code"]
    show.update({"Submit_arguments": job["arguments"], "project": "_pbs_project_default", "Submit_Host": SERVER})
    return show


def clock(when):
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(when))


def json_text(jobs):
    whole = {"timestamp": int(time.time()), "pbs_version": VERSION, "pbs_server": SERVER}
    if jobs:
        whole["Jobs"] = jobs
    return json.dumps(whole, indent="\t", separators=(",", ":\t"), ensure_ascii=False)


def qstat(store, args):
    version(args)
    given, ids = options(args, "fJptxEF:wD:aiRrHTu:nsGM1QqB", lambda error: Exit(2, "qstat: conflicting options."))
    chosen = dict(given)
    if chosen.get("-F") and "-f" not in chosen:
        raise Exit(2, "qstat: conflicting options.")
    if "-B" in chosen:
        print(f"Server             Max   Tot   Que   Run   Hld   Wat   Trn   Ext Status\n{SERVER}                   0     0     0     0     0     0     0     0 Active    ")
        return 0
    old, code, found, missing = "-x" in chosen, 0, [], []
    if old and "forget" in store.trouble:
        missing += [f"qstat: PBS is not configured to maintain job history {one}" for one in [f"{one.split('.')[0]}.{SERVER}" for one in ids] or [""]]
    for one in ids:
        number = re.fullmatch(rf"(\d+(?:\[\d*\])?)(\.{SERVER})?", one)
        if not number:
            code = 170 if re.fullmatch(r"\w+", one) else 1
            missing.append(f"qstat: Unknown queue destination {one}" if code == 170 else f"qstat: illegally formed job identifier: {one}")
            continue
        job = store.jobs.get(number[1])
        gone = job is None or (job["state"] == "ended" and "forget" in store.trouble)
        if gone:
            if not (old and "forget" in store.trouble):
                code = 153
                missing.append(f"qstat: Unknown Job Id {number[1]}.{SERVER}")
        elif job["state"] == "ended" and not old:
            code = 35
            missing.append(f"qstat: {job['id']}.{SERVER} Job has finished, use -x or -H to obtain historical job information")
        else:
            found.append(job)
    if not ids:
        found = [job for job in store.jobs.values() if shown(store, job, old) and not job.get("part_of")]
    if "-u" in chosen:
        found = [job for job in found if job["user"] in chosen["-u"].split(",")]
    if chosen.get("-F") == "json":
        print(json_text({f"{job['id']}.{SERVER}": attributes(job) for job in found}))
    elif chosen.get("-F") == "dsv":
        mark = chosen.get("-D", "|")
        for job in found:
            cells = [f"Job Id: {job['id']}.{SERVER}"]
            for key, value in attributes(job).items():
                if key == "Variable_List":
                    value = ",".join(f"{name}={text}" for name, text in value.items())
                pairs = [(f"{key}.{name}", text) for name, text in value.items()] if isinstance(value, dict) else [(key, value)]
                cells += [f"{name}={text}".replace(mark, "\\" + mark) for name, text in pairs]
            print(mark.join(cells))
    elif "-f" in chosen:
        for job in found:
            print(f"Job Id: {job['id']}.{SERVER}")
            for key, value in attributes(job).items():
                if key == "Variable_List":
                    value = ",".join(f"{name}={text}" for name, text in value.items())
                pairs = [(f"{key}.{name}", text) for name, text in value.items()] if isinstance(value, dict) else [(key, value)]
                for name, text in pairs:
                    print(f"    {name} = {text}")
            print()
    elif found:
        print("Job id            Name             User              Time Use S Queue")
        print("----------------  ---------------- ----------------  -------- - -----")
        for job in found:
            used = "00:00:00" if job["start"] else "0"
            print(f"{job['id'] + '.' + SERVER:<17} {job['name'][:16]:<16} {job['user']:<16} {used:>9} {letter(job)} {job['queue']:<16}")
    if missing:
        print("\n".join(missing), file=sys.stderr)
    return code


def qselect(store, args):
    version(args)
    given, _ = options(args, "a:A:c:h:HJl:N:p:q:r:s:t:TP:xu:", lambda error: Exit(2, "qselect: illegal option"))
    chosen = dict(given)
    if "-N" in chosen and not re.fullmatch(r"[A-Za-z0-9._+-]+", chosen["-N"]):
        raise Exit(2, "qselect: illegal -N value")
    old = "-x" in chosen or "-H" in chosen
    if old and "forget" in store.trouble:
        print("qselect: PBS is not configured to maintain job history", file=sys.stderr)
        return 0
    for job in store.jobs.values():
        if not shown(store, job, old) or chosen.get("-N", job["name"]) != job["name"]:
            continue
        if letter(job) in chosen.get("-s", letter(job)) and job["user"] in chosen.get("-u", job["user"]).split(","):
            print(f"{job['id']}.{SERVER}")
    return 0


# ---------------------------------------------------------------- changing


def each(store, name, args):
    """The jobs named, one at a time; an unknown one is told, and its code is the command's."""
    version(args)
    usage = f"usage: {name} [-h hold_list] job_identifier...\n       {name} --version"
    if name == "qdel":
        usage = "usage:\n\tqdel [-W force|suppress_email=X] [-x] job_identifier...\n\tqdel --version"
    given, ids = options(args, "h:W:x", lambda error: Exit(2, usage))
    if not ids:
        raise Exit(2, usage)
    code, told, jobs = 0, [], []
    for one in ids:
        number = re.fullmatch(rf"(\d+(?:\[\d*\])?)(\.{SERVER})?", one)
        job = store.jobs.get(number[1]) if number else None
        if number is None:
            code, words = 1, f"{name}: illegally formed job identifier: {one}"
        elif job is None or (job["state"] == "ended" and "forget" in store.trouble):
            code, words = 153, f"{name}: Unknown Job Id {number[1]}.{SERVER}"
        elif job["state"] == "ended":
            code, words = 35, f"{name}: Job has finished {job['id']}.{SERVER}"
        elif job["user"] != user() and user() != "root":
            code, words = 159, f"{name}: Unauthorized Request  {job['id']}.{SERVER}"
        else:
            jobs.append(job)
            continue
        told.append(words)
        if code == 153 and name == "qdel" and jobs:
            # A live id followed by an unknown one in one qdel ends the real server.
            store.trouble.make("down")
            return 0, jobs, []
    return code, jobs, told


def qdel(store, args):
    code, jobs, told = each(store, "qdel", args)
    for job in [*jobs, *(one for job in jobs for one in parts(store, job) if one["state"] != "ended")]:
        if job.get("array"):
            job["over"] = "cancelled"
            continue
        if job["state"] == "running":
            job["cancel"] = job["cancel"] or time.time()
        else:
            # Whatever waits for it is left held for ever.
            job.update(state="ended", substate=91, over="cancelled", end=time.time())
    if told:
        print("\n".join(told), file=sys.stderr)
    return code


def qhold(store, args):
    code, jobs, told = each(store, "qhold", args)
    for job in jobs:
        job["held"] = job["held"] or job["state"] == "pending"
    if told:
        print("\n".join(told), file=sys.stderr)
    return code


def qrls(store, args):
    code, jobs, told = each(store, "qrls", args)
    for job in jobs:
        job["held"] = False
    if told:
        print("\n".join(told), file=sys.stderr)
    return code


def pbsnodes(store, args):
    version(args)
    print(f"{SERVER}\n     Mom = {SERVER}\n     ntype = PBS\n     state = free\n     pcpus = {NCPUS}")
    print(f"     resources_available.mem = {MEM >> 10}kb\n     resources_available.ncpus = {NCPUS}\n")
    return 0


COMMANDS = {
    "qsub": qsub, "qstat": qstat, "qselect": qselect, "qdel": qdel, "qhold": qhold, "qrls": qrls, "pbsnodes": pbsnodes,
}
