//! What a stage starts from, made in its directory: an image, a container image, a bootstrapped system, or nothing.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::enclosed::Enclosed;
use super::root::Root;
use super::{Order, Result, Trouble};
use crate::image::ImageError;
use crate::image::source::dir::Skip;
use crate::image::source::extract::{Options, extract};
use crate::image::source::open::{self, Found, Way};
use crate::model::meta;
use crate::model::name::MOST_PARTS;
use crate::recipe::def::{Agent, Stage};
use crate::sys::fork::Ended;
use crate::sys::tolerate::Tolerate;
use crate::sys::{env, fs, process};

/// Fills the tree. Gives the configuration of a container image.
pub fn fill(stage: &Stage, from: Option<&Path>, root: &Root, order: &Order, owners: Tolerate) -> Result<Option<Value>> {
    match stage.agent {
        Agent::Scratch => Ok(None),
        Agent::Debootstrap | Agent::Mmdebstrap => bootstrap(stage, root, order, owners).map(|()| None),
        agent if agent.is_native() => {
            let from = from.ok_or_else(|| Trouble::new(format!("line {}: nothing to start from", stage.loc.line)))?;
            let config = image(from, root, order, owners)?;
            forget(&root.find("cnt")?, 0)?;
            Ok(config)
        }
        agent => Err(Trouble::new(format!("line {}: Bootstrap: {} needs Apptainer", stage.loc.line, agent.word()))
            .hint(agent.instead())),
    }
}

fn image(path: &Path, root: &Root, order: &Order, owners: Tolerate) -> Result<Option<Value>> {
    let bad = |error: ImageError| Trouble::image(&path.display().to_string(), &error);
    let way = Way { scratch: &order.work, watch: &(), skip: Arc::new(Skip::default()) };
    let found: Found = match fs::metadata(path)?.is_dir() {
        true => open::directory(path, &way).map_err(bad)?,
        false => open::file(fs::open(path)?, &way).map_err(bad)?,
    };
    let options =
        Options { keep_owner: owners == Tolerate::Devices, replace: false, threads: order.threads.clamp(1, 64) };
    extract(&found.source, &root.0, options, &()).map_err(bad)?;
    // Its owner may be told to have no business in it; root inside has.
    fs::set_mode(&root.0, 0o755)?;
    Ok(found.config)
}

/// Removes what ovl has written about the overlay that is built on: the new one has its own.
fn forget(dir: &Path, depth: usize) -> Result<()> {
    for name in fs::list_if_exists(dir)? {
        let path = dir.join(&name);
        if !fs::symlink_metadata(&path)?.is_dir() {
            continue;
        }
        if name == meta::DIR {
            fs::remove_tree(&path)?;
        } else if depth < MOST_PARTS {
            forget(&path, depth + 1)?;
            if fs::list(&path)?.is_empty() {
                fs::remove_tree(&path)?;
            }
        }
    }
    Ok(())
}

/// Lets debootstrap or mmdebstrap of the host make a system.
fn bootstrap(stage: &Stage, root: &Root, order: &Order, owners: Tolerate) -> Result<()> {
    if owners == Tolerate::Owners {
        let what = format!("line {}: Bootstrap: {} needs subordinate ids", stage.loc.line, stage.agent.word());
        return Err(Trouble::new(what).hint(
            "ask for a range in /etc/subuid and /etc/subgid and for newuidmap, or start from a container image: Bootstrap: docker",
        ));
    }
    let header = |name: &str| stage.header(name).unwrap_or_default();
    let words =
        |text: &str| text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(",");
    let (suite, mirror, include) = (header("osversion"), header("mirrorurl"), words(header("include")));
    let program = match (stage.agent, process::find("debootstrap"), process::find("mmdebstrap")) {
        (Agent::Mmdebstrap, _, Some(program)) | (Agent::Debootstrap, None, Some(program)) => (program, true),
        (Agent::Debootstrap, Some(program), None) => (program, false),
        // Without more ids than one's own the older program cannot unpack anything.
        (Agent::Debootstrap, Some(_), Some(program)) => (program, true),
        (agent, ..) => {
            return Err(Trouble::new(format!("line {}: there is no {} on PATH", stage.loc.line, agent.word()))
                .hint("ask for the package, or start from a container image: Bootstrap: docker, From: debian:stable"));
        }
    };
    let top = root.0.display().to_string();
    let mut argv = vec![program.0.display().to_string()];
    if program.1 {
        argv.extend(["--mode=root", "--variant=minbase", "--skip=check/empty"].map(str::to_owned));
        argv.extend((!include.is_empty()).then(|| format!("--include={include}")));
    } else {
        argv.extend(["--variant=minbase", "--exclude=openssl,udev,systemd"].map(str::to_owned));
        argv.extend((!include.is_empty()).then(|| format!("--include={include}")));
    }
    argv.extend([suite.to_owned(), top, mirror.to_owned()]);
    let mut env: Vec<(String, String)> = vec![
        ("PATH".into(), format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default())),
        ("TMPDIR".into(), order.tmp.display().to_string()),
        ("HOME".into(), order.tmp.display().to_string()),
        ("LC_ALL".into(), "C.UTF-8".into()),
    ];
    env.extend(super::cook::proxies());
    let run = Enclosed { root: None, binds: Vec::new(), tolerate: None, argv, env, cwd: "/".into() };
    match run.run()? {
        Ended::Code(0) => {}
        ended => return Err(super::cook::failed("bootstrap", ended, stage.loc.line)),
    }
    // Device nodes cannot be packed or used; runtimes bring the host's.
    let dev = root.find("dev")?;
    fs::remove_tree(&dev)?;
    root.dir("dev")
}
