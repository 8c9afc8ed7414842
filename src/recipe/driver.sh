# Runs one phase of a recipe: bash driver.sh PHASE RECIPE, with helpers.sh in the same directory.
#
# PHASE is fetch, install or check. The recipe's text is read first, as bash would run it, for its variables and
# functions. Many recipes end by calling install themselves:
#  - in the phase install that call counts, and install is not called again;
#  - in the other phases the call is skipped, and only the phase's own function runs.
# Standard input belongs to the recipe: its `read` commands see the answers in order.
# Exit status: the recipe's; 86: it ended well before its function was called; 87: it has no such function; 64: usage.
#
# The recipe runs in a second bash, so that nothing it does (exit, exec, traps of its own) can hide whether
# its function was called: the call leaves a mark, which is looked for afterwards.

case ${1-} in
fetch | install | check)
    if [ $# -ne 2 ] || [ ! -f "$2" ]; then
        echo "usage: driver.sh fetch|install|check RECIPE" >&2
        exit 64
    fi
    # Without a slash, bash would look for the recipe in PATH.
    case $2 in
    */*) ovl_recipe=$2 ;;
    *) ovl_recipe=./$2 ;;
    esac
    ovl_mark=$(mktemp "${TMPDIR:-/tmp}/ovl-mark.XXXXXX") || exit 1
    "${BASH:-bash}" "$0" "in-$1" "$ovl_recipe" "$ovl_mark"
    ovl_status=$?
    ovl_called=$(cat "$ovl_mark" 2>/dev/null)
    rm -f "$ovl_mark"
    if [ "$ovl_status" -eq 0 ] && [ -z "$ovl_called" ]; then
        echo "the recipe ended with exit 0 before $1 was called" >&2
        ovl_status=86
    fi
    exit "$ovl_status"
    ;;
in-*) ;;
*)
    echo "usage: driver.sh fetch|install|check RECIPE" >&2
    exit 64
    ;;
esac

case $0 in
*/*) ovl_helpers=${0%/*} ;;
*) ovl_helpers=. ;;
esac
ovl_phase=${1#in-} ovl_recipe=$2 ovl_mark=$3
# The recipe sees no arguments of ours.
set --

# Runs before every command while the text is read in the phase install: notes the first command within install.
# A file keeps the note, for the call may stand in a pipe or a subshell.
ovl_note() {
    case " ${FUNCNAME[*]:1} " in
    *' install '* | *' install_app '*)
        trap - DEBUG
        set +o functrace
        echo called >"$ovl_mark"
        ;;
    esac
    return 0
}

# Runs before every command while the text is read in the other phases: whatever has been defined as install by
# then does nothing, so that a call of it is harmless however it is written.
ovl_blunt() {
    if declare -F install >/dev/null; then install() { :; }; fi
    if declare -F install_app >/dev/null; then install_app() { :; }; fi
    return 0
}

# The text has been read: runs the function of the phase unless the recipe did.
ovl_run() {
    trap - DEBUG
    set +o functrace
    unset -f exit
    if [ -s "$ovl_mark" ]; then
        return 0
    fi
    ovl_function=$ovl_phase
    if [ "$ovl_phase" = install ] && ! declare -F -- install >/dev/null; then
        ovl_function=install_app
    fi
    if ! declare -F -- "$ovl_function" >/dev/null; then
        echo "the recipe has no function $ovl_phase" >&2
        exit 87
    fi
    echo called >"$ovl_mark"
    "$ovl_function"
}

# shellcheck source=/dev/null
. "$ovl_helpers/helpers.sh"
set -eo pipefail
set -o functrace
if [ "$ovl_phase" = install ]; then
    trap ovl_note DEBUG
else
    # An exit in the text ends the reading. One that refuses ends it, too, when there is something to check:
    # recipes refuse to run when $target_dir exists.
    exit() {
        ovl_status=${1-$?}
        if [ "$BASH_SUBSHELL" -eq 0 ] && { [ "$ovl_status" = 0 ] || [ "$ovl_phase" = check ]; }; then
            ovl_run
            builtin exit 0
        fi
        builtin exit "$ovl_status"
    }
    trap ovl_blunt DEBUG
fi
# shellcheck source=/dev/null
. "$ovl_recipe"
ovl_run
