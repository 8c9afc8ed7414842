# Functions every recipe may call. They are there before the recipe is read, so its own win.

# print_stderr TEXT: a line with the time, for the log.
print_stderr() {
    printf '[%s] %b\n' "$(date '+%Y-%m-%d %H:%M:%S')" "$*" >&2
}

# tar_xf_pigz ARCHIVE [tar options…]: unpacks a .tar.gz with all cores where pigz is there.
# A pipe rather than tar's own option: tar before 1.27 cannot give a program its arguments.
tar_xf_pigz() {
    local archive=$1
    shift
    pigz_or_gunzip_pipe "$archive" | tar -xf - "$@"
}

# pigz_or_gunzip FILE.gz…: unpacks files in place.
pigz_or_gunzip() {
    if command -v pigz >/dev/null 2>&1; then
        pigz -d -p "${NCPUS:-1}" "$@"
    else
        gzip -d "$@"
    fi
}

# pigz_or_gunzip_pipe [FILE.gz…]: unpacks files, or its input, to its output.
pigz_or_gunzip_pipe() {
    if command -v pigz >/dev/null 2>&1; then
        pigz -d -c -p "${NCPUS:-1}" "$@"
    else
        gzip -d -c "$@"
    fi
}
