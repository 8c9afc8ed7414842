"""HTCondor 23.9 as recorded, with DAGMan: the DAG is a job of the scheduler universe, looked after by the daemon."""
from core import *

GROUP_ONLY = False
VERSION = "$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $"
KEYS = {
    "executable", "arguments", "output", "error", "log", "input", "initialdir", "environment", "getenv", "universe", "hold",
    "request_cpus", "request_memory", "request_disk", "request_gpus", "requirements", "rank", "priority", "notification",
    "transfer_executable", "should_transfer_files", "when_to_transfer_output", "transfer_input_files", "batch_name",
    "periodic_remove", "periodic_hold", "periodic_release", "allowed_job_duration", "allowed_execute_duration", "max_retries",
    "job_max_vacate_time", "kill_sig", "remove_kill_sig", "on_exit_hold", "on_exit_remove", "accounting_group", "concurrency_limits",
    "accounting_group_user", "notify_user", "description", "leave_in_queue", "want_graceful_removal", "max_materialize", "stream_output", "stream_error",
}
NO_SCHEDD = "Error: Can't find address for schedd vm\n\nExtra Info: You probably saw this error because the condor_schedd is not \nrunning on the machine you are trying to query."


def down(store, name):
    if name == "condor_history" or name == "condor_version":
        return
    if name == "condor_submit":
        print("Submitting job(s)", end="")
        raise Exit(1, "\nERROR: Can't find address of local schedd")
    if name == "condor_submit_dag":
        raise Exit(1, "\nERROR: Can't find address of local schedd\nERROR: condor_submit failed; aborting.")
    raise Exit(1, NO_SCHEDD if name == "condor_q" else f"{name}: Can't find address for schedd vm")


# ---------------------------------------------------------------- submit descriptions


def expand(text, macros):
    for _ in range(20):
        new = re.sub(r"\$\(([A-Za-z_.]\w*)(?::([^)]*))?\)", lambda m: str(macros.get(m[1].lower(), m[2] or "")), text)
        if new == text:
            break
        text = new
    return text


def words(text):
    """Arguments or environment in the new syntax: "a 'b c' d" inside double quotes; else the old one, by blanks."""
    text = text.strip()
    if not (text.startswith('"') and text.endswith('"') and len(text) > 1):
        return text.split()
    found, word, quoted, there = [], "", False, False
    text = text[1:-1].replace('""', '"')
    at = 0
    while at < len(text):
        char = text[at]
        if char == "'":
            if quoted and text[at + 1:at + 2] == "'":
                word, at = word + "'", at + 1
            else:
                quoted, there = not quoted, True
        elif char in " \t" and not quoted:
            if word or there:
                found.append(word)
            word, there = "", False
        else:
            word += char
        at += 1
    return found + [word] if word or there else found


# `queue NAME from ( … )`: a job for each line.
ITEMS = re.compile(r"^queue\s+(\w+)\s+from\s+\(\n(.*?)^\)\s*", re.S | re.M)


def rows(text):
    """The macros of each job of a description with a list."""
    items = ITEMS.search(text)
    return [{items[1].lower(): value} for value in items[2].split()] if items else None


def description(text, macros):
    """(keys, attributes, count of jobs or None, unknown lines) of a submit description."""
    keys, more, count, odd = {}, {}, None, []
    text = re.sub(r"\\\n\s*", "", text)
    items = ITEMS.search(text)
    if items:
        text = text[:items.start()]
        count = len(items[2].split())
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        queue = re.fullmatch(r"queue\b\s*(\d*)\s*", line, re.I)
        if queue:
            count = int(queue[1] or 1)
            continue
        pair = re.fullmatch(r"(\+?[\w.]+)\s*=\s*(.*)", line)
        if not pair:
            print("Submitting job(s)", end="")
            raise Exit(1, f"\nERROR: on Line {number} of submit file: \nERROR: Failed to parse command file (line {number}).")
        key, value = pair[1].lower(), pair[2]
        if key.startswith(("+", "my.")):
            more[pair[1].lstrip("+").removeprefix("My.").removeprefix("MY.")] = value.strip('"')
        else:
            keys[key] = value
            if key not in KEYS:
                odd.append((key, line))
    every = {**keys, **{key.lower(): value for key, value in macros.items()}}
    # A name of one's own that another line uses is no typing error.
    odd = [line for key, line in odd if f"$({key})" not in text.lower()]
    return {key: expand(value, every) for key, value in keys.items()}, {k: expand(v, every) for k, v in more.items()}, count, odd


def enqueue(store, keys, more, cluster, proc, cwd, dag=None, node=None):
    home = os.path.join(cwd, keys.get("initialdir", ""))
    home = home.rstrip("/") or "/"
    env = {}
    wanted = keys.get("getenv", "").strip()
    if wanted.lower() in ("true", "1", "yes"):
        env = dict(os.environ)
    elif wanted and wanted.lower() not in ("false", "0"):
        import fnmatch
        for pattern in re.split(r"[,\s]+", wanted):
            env.update({key: value for key, value in os.environ.items() if fnmatch.fnmatchcase(key, pattern)})
    text = keys.get("environment", "")
    for pair in words(text) if text.strip().startswith('"') else [part for part in text.split(";") if part]:
        key, _, value = pair.partition("=")
        env[key.strip()] = value
    limit = None
    if keys.get("allowed_job_duration", "").isdigit():
        limit = int(keys["allowed_job_duration"])
    elif re.search(r">=?\s*\(?\s*(\d+)", keys.get("periodic_remove", "")):
        limit = int(re.search(r">=?\s*\(?\s*(\d+)", keys["periodic_remove"])[1])
    held = keys.get("hold", "false").lower() in ("true", "1")
    job = new_job(
        store, cluster if proc == 0 else f"{cluster}.{proc}", name=keys.get("batch_name", "").strip('"'), held=held, cwd=home, env=env,
        out=keys.get("output"), err=keys.get("error"), log=keys.get("log"), cluster=cluster, proc=proc, dagman=dag, node=node,
        program=keys.get("executable", ""), args=words(keys.get("arguments", "")), more=more, keys=keys, limit=limit,
        cpus=int(keys.get("request_cpus", "1") or 1) if keys.get("request_cpus", "1").isdigit() else 1,
        hold=[15, 0, "submitted on hold at user's request"] if held else None, removed=None, universe=5,
    )
    log(job, "000", f"Job submitted from host: <127.0.0.1:9618>" + (f"\n    DAG Node: {node}" if node else ""))
    if held:
        log(job, "012", f"Job was held.\n\t{job['hold'][2]}\n\tCode 15 Subcode 0")
    return job


def log(job, number, text):
    if job.get("log"):
        line = f"{number} ({job['cluster']:03}.{job['proc']:03}.000) {time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n...\n"
        with contextlib.suppress(OSError), open(os.path.join(job["cwd"], job["log"]), "a") as file:
            file.write(line)


def refusal(store):
    text = store.trouble.take("refuse")
    if text is not None:
        code, _, told = text.partition("\n")
        print("Submitting job(s)", end="")
        raise Exit(int(code or 1), told or "\nERROR: Failed to commit job submission into the queue.\nERROR: Number of submitted jobs would exceed MAX_JOBS_PER_OWNER")


def condor_submit(store, args):
    terse, file, extra, count, pairs, appended = False, None, [], None, {}, []
    args = list(args)
    while args:
        word = args.pop(0)
        if word in ("-terse", "-t"):
            terse = True
        elif word in ("-append", "-a"):
            appended.append(args.pop(0))
        elif word == "-batch-name":
            pairs["batch_name"] = args.pop(0)
        elif word == "-queue":
            count, args = int(args.pop(0)), []
        elif word.startswith("-") and word != "-":
            extra.append(word)
        elif "=" in word:
            key, _, value = word.partition("=")
            pairs[key.strip().lower()] = value
        else:
            file = word
    try:
        text = sys.stdin.read() if file in (None, "-") else open(file).read()
    except OSError as error:
        print("", end="")
        raise Exit(1, f"\nERROR: Failed to open command file ({file}) ({error.strerror})") from None
    refusal(store)
    lines = text.splitlines()
    at = next((n for n, line in enumerate(lines) if re.match(r"\s*queue\b", line, re.I)), len(lines))
    text = "\n".join([*lines[:at], *appended, *lines[at:]])
    probe, _, queued, odd = description(text, pairs)
    queued = count if count is not None else queued
    if queued is None:
        print("Submitting job(s)", end="")
        raise Exit(1, f"\nERROR: on Line {len(lines)} of submit file: no queue statement\nERROR: Failed to parse command file (line {len(lines)}).")
    program = os.path.join(os.getcwd(), probe.get("initialdir", ""), probe.get("executable", ""))
    if probe.get("transfer_executable", "true").lower() != "false" and not os.path.exists(program):
        print("Submitting job(s)", end="")
        raise Exit(1, f"\nERROR: Executable file {probe.get('executable', '')} does not exist")
    cluster = store.new_id()
    each = rows(text) or [{}] * queued
    for proc in range(queued):
        keys, more, _, _ = description(text, {**pairs, **each[proc], "cluster": cluster, "clusterid": cluster, "process": proc, "procid": proc})
        enqueue(store, {**keys, **{k: v for k, v in pairs.items() if k in KEYS}}, more, cluster, proc, os.getcwd())
    for line in odd:
        print(f"WARNING: the line '{line}' was unused by condor_submit. Is it a typo?", file=sys.stderr)
    if store.trouble.take("lose-reply") is not None:
        raise Exit(1, "ERROR: Failed to commit job submission into the queue.", keep=True)
    if terse:
        print(f"{cluster}.0 - {cluster}.{queued - 1}")
    else:
        print(f"Submitting job(s){'.' * queued}\n{queued} job(s) submitted to cluster {cluster}.")
    return 0


# ---------------------------------------------------------------- DAGMan


def condor_submit_dag(store, args):
    force, file, name, only, held, args = False, None, None, False, False, list(args)
    takes = ("-maxidle", "-maxjobs", "-maxpre", "-maxpost", "-config", "-debug", "-notification", "-priority",
             "-autorescue", "-dorescuefrom", "-outfile_dir", "-insert_env", "-include_env", "-insert_sub_file")
    while args:
        word = args.pop(0)
        if word.lower() in ("-f", "-force"):
            force = True
        elif word.lower() == "-batch-name":
            name = args.pop(0)
        elif word.lower() == "-no_submit":
            only = True
        elif word.lower() in ("-append", "-a"):
            held |= args.pop(0).replace(" ", "").lower() == "hold=true"
        elif word.lower() in takes:
            args.pop(0)
        elif not word.startswith("-"):
            file = word
    if file is None or not os.path.exists(file):
        print()
        error = f"MultiLogFiles::FileReader::Open(): safe_fopen_wrapper_follow({file}) failed with errno 2 (No such file or directory)"
        raise Exit(1, f"{error}\nERROR: {error}\n")
    rescues = sorted(n for n in os.listdir(os.path.dirname(file) or ".") if n.startswith(os.path.basename(file) + ".rescue"))
    made = [f"{file}{end}" for end in (".condor.sub", ".lib.out", ".lib.err", ".dagman.log")]
    there = [path for path in made if os.path.exists(path)]
    if force:
        for old in rescues:
            path = os.path.join(os.path.dirname(file), old)
            os.rename(path, path + ".old")
        rescues = []
    elif there and not rescues:
        print()
        told = "\n".join(f'ERROR: "{path}" already exists.' for path in there)
        raise Exit(1, f"""{told}

Some file(s) needed by condor_dagman already exist. Either:
- Rename them
- Use the "-f" option to force them to be overwritten
	or
- Use the "-update_submit" option to update the submit file and continue.""")
    refusal(store)
    for path in (made[0], made[3]):
        open(path, "a").close()
    ending = f"""-----------------------------------------------------------------------
File for submitting this DAG to HTCondor           : {file}.condor.sub
Log of DAGMan debugging messages                   : {file}.dagman.out
Log of HTCondor library output                     : {file}.lib.out
Log of HTCondor library error messages             : {file}.lib.err
Log of the life of condor_dagman itself            : {file}.dagman.log

-----------------------------------------------------------------------"""
    if only:
        print(ending)
        return 0
    cluster = store.new_id()
    rescue = os.path.join(os.path.dirname(os.path.abspath(file)), rescues[-1]) if rescues else None
    new_job(
        store, cluster, name=name or f"{os.path.basename(file)}+{cluster}", cluster=cluster, proc=0, universe=7, dagman=None, node=None,
        dag={"file": os.path.abspath(file), "rescue": rescue, "nodes": None, "status": 0}, removed=None, more={}, keys={},
        held=held, hold=[15, 0, "submitted on hold at user's request"] if held else None, program="/usr/bin/condor_dagman", args=[], log=None,
    )
    if store.trouble.take("lose-reply") is not None:
        raise Exit(1, "ERROR: Failed to commit job submission into the queue.\nERROR: condor_submit failed; aborting.", keep=True)
    print(f"Submitting job(s).\n1 job(s) submitted to cluster {cluster}.\n")
    if rescue:
        print(f"Running rescue DAG {len(rescues)}")
    print(ending)
    return 0


class Wrong(Exception):
    pass


def parse(text, cwd):
    """The nodes of a DAG file: {name: {submit, text, vars, parents, retry, state}}."""
    nodes, shared, lines = {}, {}, iter(enumerate(text.splitlines(), 1))
    known = {"ABORT-DAG-ON", "DOT", "PRIORITY", "CATEGORY", "MAXJOBS", "CONFIG", "SET_JOB_ATTR", "NODE_STATUS_FILE", "REJECT",
             "JOBSTATE_LOG", "PRE_SKIP", "CONNECT", "PIN_IN", "PIN_OUT", "SAVE_POINT_FILE", "ENV"}

    def block():
        inside = []
        for _, line in lines:
            if line.strip() == "}":
                return "\n".join(inside)
            inside.append(line)
        raise Wrong("no end of the block")

    def which(name):
        found = [key for key in nodes if key == name]
        if not found and name.upper() != "ALL_NODES":
            raise Wrong(f"unknown node {name}")
        return found or list(nodes)

    for number, line in lines:
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        word = parts[0].upper()
        if word in ("JOB", "FINAL", "SERVICE", "PROVISIONER"):
            opened = parts[2:3] == ["{"]
            nodes[parts[1]] = {
                "submit": None if opened else parts[2], "text": block() if opened else None, "vars": {}, "parents": [], "retry": 0,
                "unless": None, "tries": 0, "state": "done" if "DONE" in [p.upper() for p in parts[3:]] else "waiting",
                "job": None, "final": word == "FINAL", "pre": None,
            }
        elif word == "SUBMIT-DESCRIPTION":
            shared[parts[1]] = block()
        elif word == "SCRIPT":
            if parts[1].upper() == "PRE":
                for name in which(parts[2]):
                    nodes[name]["pre"] = parts[3:]
        elif word == "VARS":
            rest = line.split(None, 2)[2]
            for key, value in re.findall(r'(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"', rest):
                for name in which(parts[1]):
                    nodes[name]["vars"][key.lower()] = re.sub(r"\\(.)", r"\1", value)
        elif word == "PARENT":
            at = [part.upper() for part in parts].index("CHILD")
            for child in parts[at + 1:]:
                for parent in parts[1:at]:
                    nodes[which(child)[0]]["parents"].append(which(parent)[0])
        elif word == "RETRY":
            for name in which(parts[1]):
                nodes[name]["retry"] = int(parts[2])
                if len(parts) > 4 and parts[3].upper() == "UNLESS-EXIT":
                    nodes[name]["unless"] = int(parts[4])
        elif word == "DONE":
            for name in which(parts[1]):
                nodes[name]["state"] = "done"
        elif word not in known:
            raise Wrong(f"(line {number}): ERROR: expected JOB, DATA, … token (found {parts[0]})")
    for node in nodes.values():
        if node["submit"] in shared:
            node["text"] = shared[node["submit"]]
    return nodes


def cyclic(nodes):
    left = {name: set(node["parents"]) for name, node in nodes.items()}
    while left:
        free = [name for name, parents in left.items() if not parents & left.keys()]
        if not free:
            return True
        for name in free:
            del left[name]
    return False


def say(job, text):
    with contextlib.suppress(OSError), open(job["dag"]["file"] + ".dagman.out", "a") as file:
        file.write(f"{time.strftime('%m/%d/%y %H:%M:%S')} {text}\n")


def tick(store):
    busy = False
    for job in list(store.jobs.values()):
        if job.get("dag") and job["state"] != "ended" and not job["held"]:
            busy |= dagman(store, job)
    return busy


def dagman(store, job):
    dag = job["dag"]
    if job["state"] == "pending":
        if "stall" in store.trouble and not job["removed"]:
            return False
        job.update(state="running", start=time.time(), runs=1)
        with contextlib.suppress(OSError):
            for end in (".lib.out", ".lib.err", ".nodes.log"):
                open(dag["file"] + end, "a").close()
        try:
            dag["nodes"] = parse(open(dag["file"]).read(), job["cwd"])
            if dag["rescue"]:
                for line in open(dag["rescue"]):
                    if line.startswith("DONE ") and line.split()[1] in dag["nodes"]:
                        dag["nodes"][line.split()[1]]["state"] = "done"
        except (Wrong, OSError, ValueError, IndexError) as error:
            say(job, f"{os.path.basename(dag['file'])} {error}")
            dag["status"], dag["nodes"] = None, {}
            return over(store, job, 1)
        if cyclic(dag["nodes"]):
            dag["status"] = 5
            return over(store, job, 1)
    nodes = dag["nodes"]
    if job["removed"]:
        dag["status"] = 4
        if any(node["state"] == "queued" and store.jobs[node["job"]]["state"] != "ended" for node in nodes.values()):
            return True
        return over(store, job, None)
    moved = False
    for name, node in nodes.items():
        procs = [one for one in store.jobs.values() if one["dagman"] == job["cluster"] and one["cluster"] == store.jobs[node["job"]]["cluster"]] if node["state"] == "queued" else []
        if procs and all(one["state"] == "ended" for one in procs):
            moved = True
            bad = [one for one in procs if one["code"] != 0 or one["signal"] or one["removed"]]
            child = (bad or procs)[0]
            good = not bad
            if good:
                node["state"] = "done"
                say(job, f"Node {name} job proc ({node['job']}.0.0) completed successfully.")
            elif node["tries"] <= node["retry"] and (node["unless"] is None or child["code"] != node["unless"]):
                node["state"] = "waiting"
            else:
                node["state"] = "failed"
                why = f"with status {child['code']}" if child["code"] is not None else f"with signal {child['signal']}"
                say(job, f"Node {name} job proc ({node['job']}.0.0) failed {why}.")
    for _ in nodes:
        for node in nodes.values():
            if node["state"] == "waiting" and any(nodes[parent]["state"] in ("failed", "futile") for parent in node["parents"]):
                node["state"], moved = "futile", True
    for name, node in nodes.items():
        if node["state"] != "waiting":
            continue
        ready_now = all(nodes[parent]["state"] == "done" for parent in node["parents"])
        if node["final"]:
            ready_now = all(other["state"] in ("done", "failed", "futile") for other in nodes.values() if not other["final"])
        if node["state"] == "waiting" and ready_now:
            moved = True
            if node["pre"] and not prepared(job, name, node):
                continue
            if node["state"] == "waiting":
                submit_node(store, job, name, node)
    if all(node["state"] in ("done", "failed", "futile") for node in nodes.values()):
        failed = any(node["state"] == "failed" for node in nodes.values())
        dag["status"] = 2 if failed else 0
        final = [node for node in nodes.values() if node["final"]]
        # A FINAL node that succeeds hides the failure from the exit code.
        return over(store, job, 0 if not failed or final and final[0]["state"] == "done" else 1)
    queued = [store.jobs[node["job"]] for node in nodes.values() if node["state"] == "queued"]
    return moved or any(child["state"] == "running" or not child["held"] for child in queued)


PRE = {}  # (DAG, node): the process of its PRE script, in the daemon


def prepared(job, name, node):
    """Runs the PRE script beside everything else; when it fails, so does the node."""
    key = (job["id"], name)
    if key not in PRE:
        words_of = [word.replace("$JOB", name) for word in node["pre"]]
        env = {key: job["env"][key] for key in ("PATH", "HOME", "USER", "LANG", "TZ") if key in job["env"]}
        try:
            PRE[key] = subprocess.Popen(
                [os.path.join(job["cwd"], words_of[0]), *words_of[1:]], cwd=job["cwd"], env=env, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        except OSError:
            node["state"] = "failed"
            return True
    code = PRE[key].poll()
    if code is None:
        return False
    del PRE[key]
    if code != 0:
        node["state"] = "failed"
        say(job, f"PRE script of node {name} failed with status {code}")
    return True


def submit_node(store, job, name, node):
    node["tries"] += 1
    cluster = store.new_id()
    macros = {**node["vars"], "job": name, "retry": node["tries"] - 1, "dagmanjobid": job["cluster"], "cluster": cluster,
              "clusterid": cluster, "process": 0, "procid": 0, "node": name}
    try:
        text = node["text"] if node["text"] is not None else open(os.path.join(job["cwd"], node["submit"])).read()
        each = rows(text) or [{}]
        keys, more, _, _ = description(text, {**macros, **each[0]})
        if node["text"] is not None:
            # DAGMan submits these itself, and knows only the old syntax of arguments (a file of its own is fine).
            for word in words(keys.get("arguments", "")):
                if not word or re.search(r"\s", word):
                    raise Exit(1, f"Submit:-1:failed to insert arguments: Cannot represent '{word}' in V1 arguments syntax.")
    except (OSError, Exit) as error:
        node["state"] = "failed"
        say(job, f"submit error: {error}")
        return
    env, os.environ = os.environ, {key: job["env"][key] for key in ("PATH", "HOME", "USER", "LANG", "TZ") if key in job["env"]}
    try:
        log_of = {"log": os.path.basename(job["dag"]["file"]) + ".nodes.log"}
        child = enqueue(store, {**log_of, **keys}, more, cluster, 0, job["cwd"], job["cluster"], name)
        for proc in range(1, len(each)):
            keys, more, _, _ = description(text, {**macros, **each[proc], "process": proc, "procid": proc})
            enqueue(store, {**log_of, **keys}, more, cluster, proc, job["cwd"], job["cluster"], name)["user"] = job["user"]
    finally:
        os.environ = env
    child["user"] = job["user"]
    node.update(state="queued", job=child["id"])


def counts(dag):
    states = [node["state"] for node in (dag["nodes"] or {}).values()]
    return {
        "DAG_NodesTotal": len(states), "DAG_NodesDone": states.count("done"), "DAG_NodesFailed": states.count("failed"),
        "DAG_NodesFutile": states.count("futile"), "DAG_NodesQueued": states.count("queued"), "DAG_NodesUnready": states.count("waiting"),
        "DAG_NodesReady": 0, "DAG_NodesPrerun": 0, "DAG_NodesPostrun": 0,
    }


def over(store, job, code):
    dag = job["dag"]
    job.update(state="ended", end=time.time(), code=code)
    nodes = dag["nodes"]
    if nodes and (code != 0 or dag["status"]):
        number = 1
        while os.path.exists(f"{dag['file']}.rescue{number:03}"):
            number += 1
        failed = ",".join(name for name, node in nodes.items() if node["state"] == "failed")
        base = os.path.basename(dag["file"])
        done = [name for name, node in nodes.items() if node["state"] == "done"]
        with contextlib.suppress(OSError), open(f"{dag['file']}.rescue{number:03}", "w") as file:
            file.write(
                f"# Rescue DAG file, created after running\n#   the {base} DAG file\n# Created {time.strftime('%m/%d/%Y %H:%M:%S')} UTC\n"
                f"# Rescue DAG version: 2.0.1 (partial)\n#\n# Total number of Nodes: {len(nodes)}\n# Nodes premarked DONE: {len(done)}\n"
                f"# Nodes that failed: {failed.count(',') + 1 if failed else 0}\n#   {failed + ',' if failed else ''}<ENDLIST>\n\n"
                + "".join(f"DONE {name}\n" for name in done)
            )
    if dag["status"] is not None:
        number = counts(dag)
        metrics = {
            "client": "condor_dagman", "version": "23.9.6", "type": "metrics", "exitcode": code, "dagman_id": str(job["cluster"]),
            "rescue_dag_number": 1 if dag["rescue"] else 0, "jobs": len(nodes), "jobs_failed": number["DAG_NodesFailed"],
            "jobs_succeeded": number["DAG_NodesDone"], "total_jobs": len(nodes), "DagStatus": dag["status"],
        }
        with contextlib.suppress(OSError), open(dag["file"] + ".metrics", "w") as file:
            json.dump(metrics, file, indent=4)
    say(job, f"**** condor_scheduniv_exec.{job['cluster']}.0 (condor_DAGMAN) pid 1 EXITING WITH STATUS {code}")
    return True


# ---------------------------------------------------------------- running


def ready(store, job):
    most = job["keys"].get("max_materialize", "")
    running = sum(1 for one in store.jobs.values() if one["cluster"] == job["cluster"] and one["state"] == "running")
    return not job.get("dag") and job["cpus"] <= 4 and not (most.isdigit() and running >= int(most))


def launch(store, job):
    own = store.job_dir(job)
    scratch = os.path.join(own, "scratch")
    os.makedirs(os.path.join(scratch, "tmp"), exist_ok=True)
    cpus = str(job["cpus"])
    env = {
        "BATCH_SYSTEM": "HTCondor", "OMP_NUM_THREADS": cpus, "GOMAXPROCS": cpus, "MKL_NUM_THREADS": cpus, "TMPDIR": os.path.join(scratch, "tmp"),
        "TMP": os.path.join(scratch, "tmp"), "TEMP": os.path.join(scratch, "tmp"), "_CONDOR_BIN": store.links, "_CONDOR_SLOT": "slot1_1",
        "_CONDOR_SCRATCH_DIR": scratch, "_CONDOR_JOB_IWD": job["cwd"], "_CONDOR_JOB_AD": os.path.join(scratch, ".job.ad"),
        "_CONDOR_MACHINE_AD": os.path.join(scratch, ".machine.ad"), "_CONDOR_JOB_PIDS": "", **job["env"],
    }
    with open(env["_CONDOR_JOB_AD"], "w") as file:
        file.write("".join(f"{key} = {json.dumps(value)}\n" for key, value in sorted(attributes(job).items())))
    with open(env["_CONDOR_MACHINE_AD"], "w") as file:
        file.write(f"Cpus = {cpus}\nMemory = {memory(job)}\n")
    files = [("/dev/null", "r")]
    for path, what in ((job["out"], "output"), (job["err"], "error")):
        path = os.path.join(job["cwd"], path or "/dev/null")
        try:
            open(path, "w").close()
        except OSError as error:
            raise Exit(7, f"7 {error.errno} Error from slot1_1@vm: Failed to open '{path}' as standard {what}: {error.strerror} (errno {error.errno})") from None
        files.append((path, "a"))
    log(job, "001", f"Job executing on host: <127.0.0.1:9618>\n\tSlotName: slot1_1@vm\n\tCondorScratchDir = \"{scratch}\"\n\tCpus = {cpus}")
    return [os.path.join(job["cwd"], job["program"]), *job["args"]], {"cwd": job["cwd"], "env": env, "umask": 0o022, "files": files}


def not_started(store, job, error):
    if isinstance(error, str):
        code, sub, why = error.split(" ", 2)
    else:
        code, sub = 6, error.errno
        why = f"Error from slot1_1@vm: Failed to execute '{os.path.join(job['cwd'], job['program'])}': (errno={error.errno}: '{error.strerror}')"
    hold(job, int(code), int(sub), why)


def hold(job, code, sub, why):
    job.update(state="pending", held=True, hold=[code, sub, why])
    log(job, "012", f"Job was held.\n\t{why}\n\tCode {code} Subcode {sub}")


def signals(job):
    return [signal.SIGKILL] if job["over"] in ("node-fail", "requeue", "memory") else [signal.SIGTERM, signal.SIGKILL]


def ended(store, job):
    how = job["over"]
    if job["state"] == "pending":
        log(job, "004", "Job was evicted.")
        return
    if how == "node-fail":
        # The shadow gives up on the slot and the job is idle again.
        job.update(state="pending", over=None, code=None, signal=None, end=None)
        log(job, "024", "Job reconnection failed\n    Job not found at execution machine\n    Can not reconnect to slot1_1@vm, rescheduling job")
    elif how == "held":
        job.update(state="pending", over=None, code=None, signal=None, end=None, cancel=None)
    elif how == "time-limit":
        if "periodic_remove" in job["keys"]:
            job["removed"] = f"The job attribute PeriodicRemove expression '{job['keys']['periodic_remove']}' evaluated to TRUE"
            log(job, "009", f"Job was aborted.\n\t{job['removed']}")
        else:
            hold(job, 46, 0, f"The job exceeded allowed job duration of {time.strftime('%H:%M:%S', time.gmtime(job['limit'] or 0))}")
            job.update(over=None)
    elif how == "memory":
        hold(job, 34, 0, "Error from slot1_1@vm: Job has gone over cgroup memory limit of 128 megabytes. Last measured usage: 129 megabytes.  Consider resubmitting with a higher request_memory.")
        job.update(over=None)
    elif job["removed"]:
        log(job, "009", f"Job was aborted.\n\t{job['removed']}")
    elif job["signal"]:
        log(job, "005", f"Job terminated.\n\t(0) Abnormal termination (signal {job['signal']})\n\t(0) No core file")
    else:
        log(job, "005", f"Job terminated.\n\t(1) Normal termination (return value {job['code']})")


# ---------------------------------------------------------------- asking


def memory(job):
    found = re.fullmatch(r"(\d+)\s*([KMGT]?)B?", job["keys"].get("request_memory", "128").strip(), re.I)
    if not found:
        return 128
    return max(1, int(found[1]) * {"K": 1, "M": 1024, "G": 1 << 20, "T": 1 << 30, "": 1024}[found[2].upper()] // 1024)


def status(job):
    if job["state"] == "ended":
        return 3 if job["removed"] else 4
    if job["removed"]:
        return 3
    return 5 if job["held"] else 2 if job["state"] == "running" else 1


def attributes(job):
    show = {
        "ClusterId": job["cluster"], "ProcId": job["proc"], "JobStatus": status(job), "JobUniverse": job["universe"], "Owner": job["user"],
        "Cmd": os.path.join(job["cwd"], job["program"]), "Args": " ".join(job["args"]), "Iwd": job["cwd"], "QDate": int(job["submit"]),
        "NumJobStarts": job["runs"], "RequestCpus": job["cpus"], "RequestMemory": memory(job), "MyType": "Job", "ExitBySignal": False,
        "GlobalJobId": f"vm#{job['cluster']}.{job['proc']}#{int(job['submit'])}", "EnteredCurrentStatus": int(job["end"] or job["start"] or job["submit"]),
        "NumShadowStarts": job["runs"], "ServerTime": int(time.time()), "UserLog": job["log"],
        "JobBatchName": job["name"] or None, "DAGManJobId": job["dagman"], "DAGNodeName": job["node"], "RemoveReason": job["removed"], **job["more"],
    }
    if job["start"]:
        show.update({"JobStartDate": int(job["start"]), "JobCurrentStartDate": int(job["start"]), "RemoteWallClockTime": (job["end"] or time.time()) - job["start"]})
        show["RemoteHost" if job["state"] == "running" else "LastRemoteHost"] = "slot1_1@vm"
        show.update({"ResidentSetSize": 4548, "MemoryUsage": 5})
    if job["held"] and job["hold"]:
        show.update(dict(zip(("HoldReasonCode", "HoldReasonSubCode", "HoldReason"), job["hold"])))
    if job.get("dag") and job["runs"]:
        show.update(counts(job["dag"]))
        show["DAG_Status"] = job["dag"]["status"]
    if job["state"] == "ended" and not job["removed"]:
        show["CompletionDate"] = int(job["end"])
        if job["signal"]:
            show.update({"ExitBySignal": True, "ExitSignal": job["signal"]})
        else:
            show["ExitCode"] = job["code"]
    return {key: value for key, value in sorted(show.items()) if value is not None}


def fits(expression, job):
    """A ClassAd constraint of comparisons with && and ||, names without regard to case."""
    have = {key.lower(): value for key, value in attributes(job).items()}
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|=\?=|=!=|&&|\|\||[!<>=]=|[()!<>]|[\w.]+', expression)
    turned = {"&&": " and ", "||": " or ", "=?=": "==", "=!=": "!=", "!": " not ", "true": "True", "false": "False", "undefined": "None"}
    python = ""
    for token in tokens:
        if token in turned or token.lower() in turned:
            python += turned.get(token, turned.get(token.lower()))
        elif re.fullmatch(r"[A-Za-z_][\w.]*", token):
            python += f" get({token.lower()!r}) "
        else:
            python += f" {token} "
    try:
        return bool(eval(python, {"__builtins__": {}}, {"get": have.get}))
    except TypeError:
        return False
    except SyntaxError:
        raise Exit(1, f"Error: Arguments: -constraint {expression}\nCould not parse constraint") from None


def matching(jobs, ids, expression):
    if ids:
        wanted = [one for one in ids if re.fullmatch(r"\d+(\.\d+)?", one)]
        people = [one for one in ids if one not in wanted]
        jobs = [job for job in jobs if f"{job['cluster']}" in wanted or f"{job['cluster']}.{job['proc']}" in wanted or job["user"] in people]
    return [job for job in jobs if expression is None or fits(expression, job)]


def arguments(args):
    chosen, ids, args = {}, [], list(args)
    while args:
        word = args.pop(0)
        key = word.lstrip("-").lower()
        if not word.startswith("-"):
            ids.append(word)
        elif key.startswith("cons"):
            chosen["constraint"] = args.pop(0)
        elif key in ("attributes", "attr"):
            chosen["attributes"] = args.pop(0).split(",")
        elif key.split(":")[0] in ("af", "autoformat"):
            chosen["af"], args = [*args], []
        elif key in ("limit", "match", "reason", "name", "pool", "submitter"):
            chosen[key] = args.pop(0)
        else:
            chosen[key] = True
    return chosen, ids


def show(store, jobs, chosen, title, empty):
    if "json" in chosen:
        rows, seen = [], set()
        names = {name.strip().lower() for name in chosen.get("attributes", [])}
        for job in jobs:
            have = attributes(job)
            if names:
                have = {key: value for key, value in have.items() if key.lower() in names}
            if "procid" in names and "clusterid" not in names:
                # Results are told apart by what was asked for: the second of one ProcId is an error, and left out.
                if have["ProcId"] in seen:
                    print("Error: Two results with the same ID.", file=sys.stderr)
                    continue
                seen.add(have["ProcId"])
            rows.append(json.dumps(have, indent=2))
        print("[\n" + "\n,\n".join(rows) + "\n]" if rows else empty, end="\n" if rows or empty else "")
    elif "af" in chosen:
        for job in jobs:
            have = {key.lower(): value for key, value in attributes(job).items()}
            shown = [have.get(name.lower(), "undefined") for name in chosen["af"]]
            print(" ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in shown))
    else:
        print(title)
        for job in jobs:
            print(f"{job['cluster']}.{job['proc']}  {job['user']}  {'UIRXCH'[status(job)]}  {os.path.basename(job['program'])} {' '.join(job['args'])}")


def condor_q(store, args):
    chosen, ids = arguments(args)
    jobs = matching([job for job in store.jobs.values() if job["state"] != "ended"], ids, chosen.get("constraint"))
    show(store, jobs, chosen, "\n\n-- Schedd: vm : <127.0.0.1:9618?...\n ID      OWNER            SUBMITTED     RUN_TIME ST PRI SIZE CMD", "")
    return 0


def condor_history(store, args):
    chosen, ids = arguments(args)
    jobs = [] if "forget" in store.trouble else [job for job in store.jobs.values() if job["state"] == "ended"]
    jobs = matching(sorted(jobs, key=lambda job: -job["end"]), ids, chosen.get("constraint"))
    jobs = jobs[:int(chosen.get("limit", chosen.get("match", len(jobs) + 1)))]
    show(store, jobs, chosen, " ID     OWNER          SUBMITTED   RUN_TIME     ST COMPLETED   CMD            ", "[\n]")
    return 0


# ---------------------------------------------------------------- changing


def each(store, name, verb, args, act):
    chosen, ids = arguments(args)
    alive = [job for job in store.jobs.values() if job["state"] != "ended"]
    if not ids and "constraint" not in chosen and "all" not in chosen:
        raise Exit(1, f"You did not specify any jobs\nUsage: {name} [options] [constraints]")
    if "constraint" in chosen or "all" in chosen:
        jobs = matching(alive, [], chosen.get("constraint"))
        what = f"jobs matching constraint ({chosen['constraint']})" if "constraint" in chosen else "jobs"
    else:
        jobs = matching(alive, ids, None)
        tests = [f"ClusterId == {one}" if one.isdigit() else f"(ClusterId == {one.replace('.', ' && ProcId == ')})" for one in ids]
        what = f"jobs matching constraint ({' || '.join(tests)})"
        if len(ids) == 1:
            what = f"jobs in cluster {ids[0]}" if ids[0].isdigit() else f"jobs of user \"{ids[0]}\""
            if "." in ids[0] and jobs:
                act(jobs[0])
                print(f"Job {ids[0]} {verb[1]}")
                return 0
    for job in jobs:
        act(job)
    if jobs:
        print(f"All {what} have been {verb[1]}")
        return 0
    if not alive:
        print(f"{name}:0:There are no jobs in the queue", file=sys.stderr)
        return 0
    print(f"\nCouldn't find/{verb[0]} all {what}", file=sys.stderr)
    return 1


def condor_rm(store, args):
    def remove(job, why=None):
        job["removed"] = why or f"via condor_rm (by user {user()})"
        if job.get("dag"):
            for child in list(store.jobs.values()):
                if child["dagman"] == job["cluster"] and child["state"] != "ended" and not child["removed"]:
                    remove(child, f"removed because <OtherJobRemoveRequirements = DAGManJobId =?= {job['cluster']}> fired when job ({job['cluster']}.0) was removed")
            job["held"] = False
        elif job["state"] == "running":
            job["cancel"] = time.time()
        else:
            job.update(state="ended", end=time.time())
            log(job, "009", f"Job was aborted.\n\t{job['removed']}")

    return each(store, "condor_rm", ("remove", "marked for removal"), args, remove)


def condor_release(store, args):
    def release(job):
        if job["held"]:
            job.update(held=False, hold=None)
            log(job, "013", f"Job was released.\n\tvia condor_release (by user {user()})")

    return each(store, "condor_release", ("release", "released"), args, release)


def condor_hold(store, args):
    def keep(job):
        job.update(held=True, hold=[1, 0, f"via condor_hold (by user {user()})"])
        if job["state"] == "running" and not job.get("dag"):
            job.update(cancel=time.time(), over="held")

    return each(store, "condor_hold", ("hold", "held"), args, keep)


def condor_version(store, args):
    print(f"{VERSION}\n$CondorPlatform: X86_64-Debian_13 $")
    return 0


COMMANDS = {
    "condor_submit": condor_submit, "condor_submit_dag": condor_submit_dag, "condor_q": condor_q, "condor_history": condor_history,
    "condor_rm": condor_rm, "condor_release": condor_release, "condor_hold": condor_hold, "condor_version": condor_version,
}
