//! `ovl run`: scripts with their overlays here, as jobs of a real Slurm, and of the stand-ins for PBS, LSF and HTCondor.

mod here;
mod others;
mod refused;
mod slurm;

use std::os::unix::fs::PermissionsExt;

use crate::support::house::{House, script};

/// A house with overlays whose `bin/prog` prints their names.
fn house(names: &[&str]) -> House {
    let house = House::new();
    for name in names {
        overlay(&house, name);
        house.ovl(&["build", "-q", "--no-submit", name]).ok();
    }
    house
}

/// The recipe of such an overlay.
fn overlay(house: &House, name: &str) {
    let install = format!(
        "mkdir $target_dir/bin; printf '#!/bin/sh\\necho {name}\\n' > $target_dir/bin/prog; chmod +x $target_dir/bin/prog"
    );
    house.recipe(name, script("", &install));
}

/// A program of the house that starts `-n N COMMAND…` as an MPI launcher does: all at once, each with its rank.
fn launcher(house: &House, name: &str) {
    let text = "#!/bin/bash\n[ \"$1\" = -n ] || exit 64\nn=$2; shift 2; code=0\nfor ((i = 0; i < n; i++)); do PMI_RANK=$i PMI_SIZE=$n \"$@\" & pids+=($!); done\n\
                for pid in ${pids[@]}; do wait $pid || code=$?; done\nexit $code\n";
    let path = house.write(&format!("launchers/{name}"), text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    house.put_on_path(&house.path("launchers"));
}

/// Prints its arguments, each in brackets.
const ARGUMENTS: &str = "printf '[%s]' \"$@\"; echo\n";

/// Prints the variables that say what was granted.
const GRANTED: &str = "echo $NNODES $NTASKS $NTASKS_PER_NODE $NCPUS $MEM $MEM_GB\n";

/// What the only file of a directory of the house holds whose name begins so.
#[track_caller]
fn log(house: &House, dir: &str, start: &str) -> String {
    let names = house.names(dir);
    let name = names.iter().find(|name| name.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {names:?}"));
    std::fs::read_to_string(house.path(dir).join(name)).unwrap()
}

/// Where the output of jobs goes that name no place.
const LOGS: &str = "home/.local/state/ovl/logs/run";
