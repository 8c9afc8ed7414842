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

# ovl_unpack FILE [DIR]: unpacks an archive (tar, tar.*, zip) or a single compressed file (gz, bgz, xz, bz2, zst) into
# DIR (here, unless given), with all cores where a tool is there that can. What it is, its content tells.
ovl_unpack() {
    local file=$1 dir=${2:-.} cores=${NCPUS:-1} magic head name tool
    local -a reader
    if [ ! -r "$file" ]; then
        echo "ovl_unpack: $file is not there or cannot be read" >&2
        return 1
    fi
    mkdir -p "$dir" || return
    magic=$(head -c 6 "$file" | od -An -tx1 | tr -d ' \n')
    case $magic in
    1f8b*) set -- "pigz -d -c -p $cores" "gzip -d -c" ;;
    fd377a585a00) set -- "xz -d -c -T $cores" ;;
    425a68*) set -- "lbzip2 -d -c -n $cores" "pbzip2 -d -c -p$cores" "bzip2 -d -c" ;;
    28b52ffd*) set -- "pzstd -d -c -q -p $cores" "zstd -d -c -q" ;;
    504b0304* | 504b0506*)
        if command -v unzip >/dev/null 2>&1; then
            unzip -q -o "$file" -d "$dir"
        elif command -v bsdtar >/dev/null 2>&1; then
            bsdtar -xf "$file" -C "$dir"
        else
            python3 -m zipfile -e "$file" "$dir"
        fi
        return
        ;;
    *) set -- cat ;;
    esac
    reader=()
    for tool in "$@"; do
        if command -v "${tool%% *}" >/dev/null 2>&1; then
            read -r -a reader <<<"$tool"
            break
        fi
    done
    if [ ${#reader[@]} -eq 0 ]; then
        echo "ovl_unpack: $file needs one of: ${*%% *}; name what provides it with #BUILDDEP: or #NEEDS:" >&2
        return 127
    fi
    # The reader of the beginning ends early, and its writer with it.
    head=$(set +o pipefail; "${reader[@]}" "$file" 2>/dev/null | head -c 262 | tail -c 5 | tr -d '\0')
    name=${file##*/}
    case $head:$name in
    ustar:* | *:*.tar | *:*.tar.* | *:*.tgz | *:*.txz | *:*.tbz | *:*.tbz2 | *:*.tzst)
        "${reader[@]}" "$file" | tar -xf - -C "$dir"
        ;;
    *)
        if [ "${reader[0]}" = cat ]; then
            echo "ovl_unpack: $file is no archive and not compressed in a way that is known here" >&2
            return 1
        fi
        for tool in gz bgz xz bz2 zst; do name=${name%."$tool"}; done
        if [ "$dir/$name" -ef "$file" ]; then
            echo "ovl_unpack: $file would be written over; give a directory" >&2
            return 1
        fi
        "${reader[@]}" "$file" >"$dir/$name"
        ;;
    esac
}
