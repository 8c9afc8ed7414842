import os, sys, io, tarfile, py_compile

try:
    from importlib.util import cache_from_source
except ImportError:
    def cache_from_source(path):
        return path + "c"


def compiled(job):
    prefix, out, number, rank, path = job
    source = os.path.join(prefix, path)
    scratch = "%s.%d.pyc" % (out, number)
    try:
        py_compile.compile(source, cfile=scratch, dfile=source, doraise=True)
        with open(scratch, "rb") as file:
            data = file.read()
        name = os.path.relpath(cache_from_source(source), prefix)
        return rank + "/" + name, data, int(os.stat(source).st_mtime)
    except Exception:
        return None
    finally:
        if os.path.exists(scratch):
            os.unlink(scratch)


def main():
    prefix, listing, out, workers = sys.argv[1:5]
    jobs = []
    with io.open(listing, encoding="utf-8") as file:
        for number, line in enumerate(file):
            rank, path = line.rstrip("\n").split(" ", 1)
            jobs.append((prefix, out, number, rank, path))
    results = None
    try:
        # What is compiled must not depend on what the process has compiled before: a fresh one for every few files.
        import multiprocessing
        context = multiprocessing.get_context("fork") if hasattr(multiprocessing, "get_context") else multiprocessing
        pool = context.Pool(max(1, int(workers)), None, (), 1)
        results = pool.map(compiled, jobs, 50)
        pool.close()
        pool.join()
    except (ImportError, OSError, ValueError):
        results = None
    if results is None:
        results = map(compiled, jobs)
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as archive:
        for result in results:
            if result is not None:
                member = tarfile.TarInfo(result[0])
                member.size, member.mtime, member.mode = len(result[1]), result[2], 0o644
                archive.addfile(member, io.BytesIO(result[1]))


if __name__ == "__main__":
    main()
