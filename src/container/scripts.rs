//! The scripts that Apptainer expects below `/.singularity.d`, in words of our own: they do what its documentation says.

/// Sources what an image says about the environment.
const ENVIRONMENT: &str = r#"#!/bin/sh
for script in /.singularity.d/env/*.sh; do
    if [ -f "$script" ]; then . "$script"; fi
done
"#;

/// Runs a program of the selected app (`$SINGULARITY_APPNAME`), else the image's own.
fn action(file: &str, none: &str) -> String {
    format!(
        r#"{ENVIRONMENT}
app="${{SINGULARITY_APPNAME:-}}"
if [ -n "$app" ]; then
    if [ -x "/scif/apps/$app/scif/{file}" ]; then exec "/scif/apps/$app/scif/{file}" "$@"; fi
    echo "the app $app has no {file}" >&2
    exit 1
fi
unset app
if [ -x /.singularity.d/{file} ]; then exec /.singularity.d/{file} "$@"; fi
{none}
"#
    )
}

/// All files of a new image: path, content, permission bits.
pub fn files() -> Vec<(&'static str, String, u32)> {
    let shell = format!(
        r#"{ENVIRONMENT}
if [ -n "${{SINGULARITY_SHELL:-}}" ] && [ -x "$SINGULARITY_SHELL" ]; then exec $SINGULARITY_SHELL "$@"; fi
for SHELL in /bin/bash /bin/sh; do
    export SHELL
    case $SHELL in
    */bash) if [ -x $SHELL ]; then PS1="${{APPTAINER_NAME:-}}:\\w> " exec $SHELL --norc "$@"; fi ;;
    *) if [ -x $SHELL ]; then exec $SHELL "$@"; fi ;;
    esac
done
echo "there is no shell in this image" >&2
exit 1
"#
    );
    let start = format!("#!/bin/sh\n# The first process of the instance waits for this.\nkill -CONT 1\n{}\n", {
        let rest = ENVIRONMENT.trim_start_matches("#!/bin/sh\n");
        format!("{rest}if [ -x /.singularity.d/startscript ]; then exec /.singularity.d/startscript; fi")
    });
    vec![
        ("etc/hosts", String::new(), 0o644),
        ("etc/resolv.conf", String::new(), 0o644),
        (".singularity.d/actions/exec", format!("{ENVIRONMENT}\nexec \"$@\"\n"), 0o755),
        (
            ".singularity.d/actions/run",
            action("runscript", "echo \"no runscript, starting /bin/sh\" >&2\nexec /bin/sh \"$@\""),
            0o755,
        ),
        (".singularity.d/actions/shell", shell, 0o755),
        (".singularity.d/actions/start", start, 0o755),
        (".singularity.d/actions/test", action("test", "exit 0"), 0o755),
        (".singularity.d/env/01-base.sh", "#!/bin/sh\n".into(), 0o755),
        (".singularity.d/env/90-environment.sh", "#!/bin/sh\n# %environment follows\n".into(), 0o755),
        (".singularity.d/env/95-apps.sh", APPS.into(), 0o755),
        (".singularity.d/env/99-base.sh", LIBRARIES.into(), 0o755),
        (".singularity.d/env/99-runtimevars.sh", PATHS.into(), 0o755),
        (".singularity.d/runscript", "#!/bin/sh\necho \"this image has no runscript\"\n".into(), 0o755),
        (".singularity.d/startscript", "#!/bin/sh\n".into(), 0o755),
    ]
}

const APPS: &str = r#"#!/bin/sh
if [ -n "${SINGULARITY_APPNAME:-}" ]; then
    export SINGULARITY_APPNAME
    if [ ! -d "/scif/apps/$SINGULARITY_APPNAME" ]; then
        echo "there is no app $SINGULARITY_APPNAME in this image" >&2
        exit 1
    fi
    SCIF_APPS=/scif/apps
    SCIF_APPROOT="/scif/apps/$SINGULARITY_APPNAME"
    export SCIF_APPS SCIF_APPROOT
    PATH="$SCIF_APPROOT:$PATH"
    if [ -d "$SCIF_APPROOT/bin" ]; then PATH="$SCIF_APPROOT/bin:$PATH"; fi
    if [ -d "$SCIF_APPROOT/lib" ]; then
        LD_LIBRARY_PATH="$SCIF_APPROOT/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
        export LD_LIBRARY_PATH
    fi
    for script in "$SCIF_APPROOT/scif/env/01-base.sh" "$SCIF_APPROOT/scif/env/90-environment.sh"; do
        if [ -f "$script" ]; then . "$script"; fi
    done
    export PATH
fi
"#;

const LIBRARIES: &str = r#"#!/bin/sh
LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/.singularity.d/libs"
PS1="${PS1:-Apptainer> }"
export LD_LIBRARY_PATH PS1
"#;

const PATHS: &str = r#"#!/bin/sh
PATH="${SING_USER_DEFINED_PREPEND_PATH:+$SING_USER_DEFINED_PREPEND_PATH:}$PATH"
PATH="$PATH${SING_USER_DEFINED_APPEND_PATH:+:$SING_USER_DEFINED_APPEND_PATH}"
PATH="${SING_USER_DEFINED_PATH:-$PATH}"
unset SING_USER_DEFINED_PREPEND_PATH SING_USER_DEFINED_APPEND_PATH SING_USER_DEFINED_PATH
export PATH
"#;
