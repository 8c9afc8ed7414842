//! The stages one after another, each in the order Apptainer has: source, apps, files from stages, `%setup`, files from
//! the host, `%post`, metadata. The last one is packed.

use std::path::Path;

use super::enclosed::Enclosed;
use super::root::Root;
use super::{Order, Result, Trouble, apps, files, layout, metadata, oci, sources};
use crate::image::source::DirSource;
use crate::image::squashfs::codec::{Codec, Compression};
use crate::image::squashfs::write::{Owners, PackOptions, pack};
use crate::recipe::def::{self, Agent, Arguments, Script, Stage};
use crate::sys::fork::Ended;
use crate::sys::tolerate::Tolerate;
use crate::sys::{env, fs};

/// The search path inside.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where `%post` may leave variables.
const ENVIRONMENT: &str = "/.singularity.d/env/91-environment.sh";
/// Of what tells names of hosts, that much is copied.
const LONGEST_LIST: usize = 4 << 20;
/// `%post` while it runs.
const POST: &str = ".post.script";

/// Makes the image of an order; the caller is root in namespaces of its own.
pub fn cook(order: &Order, tolerate: Tolerate, tell: &dyn Fn(&str)) -> Result<()> {
    let definition = def::read(&order.label, &order.text, &Arguments::new(), &mut Vec::new());
    tell(match tolerate {
        Tolerate::Devices => "root inside: subordinate ids",
        Tolerate::Owners => "root inside: one id only, so changes of owners are tolerated and not made",
    });
    // Private all the same: the directory above is.
    fs::set_mode(&order.tmp, 0o1777)?;
    let mut done: Vec<(Option<String>, Root)> = Vec::new();
    for (index, stage) in definition.stages.iter().enumerate() {
        let root = Root(order.work.join(format!("root-{index}")));
        fs::create_private_dir(&root.0)?;
        fs::set_mode(&root.0, 0o755)?;
        let from = order.from.get(index).and_then(Option::as_deref);
        cook_stage(stage, from, &root, &done, order, tolerate, tell)?;
        done.push((stage.name.clone(), root));
    }
    let Some((_, root)) = done.last() else { return Err(Trouble::new(format!("{}: no stage", order.label))) };
    tell("packing the tree");
    let options = PackOptions {
        compression: Compression { codec: Codec::Lz4, level: 1 },
        threads: order.threads,
        owners: if order.keep_owners { Owners::Keep } else { Owners::AllRoot },
        ..PackOptions::default()
    };
    let image = fs::create_new(&order.image, 0o600)?;
    let bad = |error| Trouble::image("cannot pack the tree", &error);
    let source = DirSource::new(&root.0).map_err(bad)?;
    pack(&source, &image, &options, &()).map_err(bad)?;
    for (_, root) in &done {
        fs::remove_tree(&root.0)?;
    }
    Ok(())
}

fn cook_stage(
    stage: &Stage,
    from: Option<&Path>,
    root: &Root,
    done: &[(Option<String>, Root)],
    order: &Order,
    tolerate: Tolerate,
    tell: &dyn Fn(&str),
) -> Result<()> {
    let name = stage.name.as_deref().map(|name| format!(" of {name}")).unwrap_or_default();
    if let Some(script) = stage.script("pre") {
        tell(&format!("%pre{name}"));
        on_host(&script, "pre", stage, root, order, tolerate)?;
    }
    tell(&format!("start{name}: {} {}", stage.agent.word(), stage.header("from").unwrap_or_default()));
    let config = sources::fill(stage, from, root, order, tolerate)?;
    layout::add(root, stage.agent != Agent::LocalImage)?;
    if let Some(config) = config {
        oci::add(root, &config)?;
    }
    let install = apps::add(root, stage, &order.dir, tolerate)?;
    let transfers = stage.files();
    for transfer in &transfers {
        let Some(wanted) = &transfer.stage else { continue };
        let Some((_, other)) = done.iter().find(|(name, _)| name.as_ref() == Some(wanted)) else {
            return Err(Trouble::new(format!("line {}: there is no stage {wanted}", transfer.line)));
        };
        tell(&format!("%files from {wanted}: {}", transfer.source));
        files::from_stage(transfer, other, root, tolerate)?;
    }
    if let Some(script) = stage.script("setup") {
        tell(&format!("%setup{name} (on the host)"));
        on_host(&script, "setup", stage, root, order, tolerate)?;
    }
    for transfer in transfers.iter().filter(|transfer| transfer.stage.is_none()) {
        tell(&format!("%files: {}", transfer.source));
        files::from_host(transfer, &order.dir, root, tolerate)?;
    }
    let mut post = stage.script("post").unwrap_or_default();
    post.text.push_str(&install);
    if !post.text.trim().is_empty() {
        tell(&format!("%post{name}"));
        inside(&post, stage, root, order, tolerate)?;
    }
    metadata::add(root, stage, order)
}

/// The words that run a script: `-c SHELL …` behind the section's name takes another shell than /bin/sh.
fn argv(args: &str, path: &str) -> Vec<String> {
    let mut argv: Vec<String> = ["/bin/sh", "-ex"].map(str::to_owned).into();
    let words: Vec<&str> = args.split_whitespace().collect();
    match words.iter().position(|word| *word == "-c") {
        Some(at) => {
            argv.extend(words.iter().take(at + 1).map(|word| (*word).to_owned()));
            let shell = words.get(at + 1..).unwrap_or(&[]).join(" ");
            argv.push(format!("{shell} {path}"));
        }
        None => {
            argv.extend(words.iter().map(|word| (*word).to_owned()));
            argv.push(path.to_owned());
        }
    }
    argv
}

/// Variables that scripts get under both names.
fn both(name: &str, value: &str) -> [(String, String); 2] {
    ["APPTAINER", "SINGULARITY"].map(|prefix| (format!("{prefix}_{name}"), value.to_owned()))
}

/// Proxy settings of the host: who needs them has no other network.
pub fn proxies() -> Vec<(String, String)> {
    const NAMES: [&str; 8] =
        ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY"];
    NAMES.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name)?))).collect()
}

/// The trouble of a script that ended badly.
pub fn failed(section: &str, ended: Ended, line: usize) -> Trouble {
    let code = match ended {
        Ended::Code(code) => code,
        Ended::Signal(number) => 128 + number,
    };
    let what = format!("line {line}: %{section} ended with {code}");
    Trouble { script: Some((section.to_owned(), code)), ..Trouble::new(what) }
}

fn ended(section: &str, ended: Ended, stage: &Stage) -> Result<()> {
    if ended == Ended::Code(0) { Ok(()) } else { Err(failed(section, ended, line(stage, section))) }
}

/// Where a section begins; its stage where it has none.
fn line(stage: &Stage, section: &str) -> usize {
    stage.sections.iter().find(|other| other.name == section).map_or(stage.loc.line, |other| other.loc.line)
}

/// `%setup` and `%pre`: with the host's files, as the user who sees himself as root.
fn on_host(
    script: &Script,
    section: &str,
    stage: &Stage,
    root: &Root,
    order: &Order,
    tolerate: Tolerate,
) -> Result<()> {
    let path = order.work.join(section);
    fs::write_quick(&path, script.text.as_bytes(), 0o755)?;
    let mut env: Vec<(String, String)> = env::all()
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    env.extend(both("ROOTFS", &root.0.display().to_string()));
    env.extend(both("ENVIRONMENT", ENVIRONMENT));
    let argv = argv(&script.args, &path.display().to_string());
    let run = Enclosed { root: None, binds: Vec::new(), tolerate: Some(tolerate), argv, env, cwd: order.dir.clone() };
    ended(section, run.run()?, stage)
}

/// `%post`, with the tree as its root.
fn inside(script: &Script, stage: &Stage, root: &Root, order: &Order, tolerate: Tolerate) -> Result<()> {
    if !root.has("/bin/sh")? {
        return Err(Trouble::new(format!(
            "line {}: %post needs a /bin/sh, which the image lacks",
            line(stage, "post")
        ))
        .hint("copy one with %files, or start from a system"));
    }
    root.write(POST, &script.text, 0o755)?;
    let mut env: Vec<(String, String)> = vec![
        ("PATH".into(), PATH.into()),
        ("HOME".into(), "/root".into()),
        ("USER".into(), "root".into()),
        ("LOGNAME".into(), "root".into()),
        ("LANG".into(), "C".into()),
        ("TERM".into(), "dumb".into()),
        ("SOURCE_DATE_EPOCH".into(), order.epoch.to_string()),
    ];
    env.extend(both("ENVIRONMENT", ENVIRONMENT));
    env.extend(both("LABELS", &format!("/{}", metadata::BUILD_LABELS)));
    env.extend(proxies());
    if tolerate == Tolerate::Owners {
        // apt would become another user, who cannot be.
        let config = order.tmp.join(".apt.conf");
        fs::write_quick(&config, b"APT::Sandbox::User \"root\";\n", 0o644)?;
        env.push(("APT_CONFIG".into(), "/tmp/.apt.conf".into()));
    }
    let mut argv_all = vec!["/bin/sh".to_owned(), "/.singularity.d/actions/exec".to_owned()];
    argv_all.extend(argv(&script.args, &format!("/{POST}")));
    let mut binds = vec![(order.tmp.clone(), "/tmp".into()), (order.tmp.clone(), "/var/tmp".into())];
    for name in ["resolv.conf", "hosts"] {
        // Copies: a script that writes there must not change the host's.
        let (path, copy) = (Path::new("/etc").join(name), order.work.join(name));
        if fs::metadata_if_exists(&path)?.is_some() {
            fs::write_quick(&copy, &fs::read_start(&path, LONGEST_LIST)?, 0o644)?;
            binds.push((copy, path));
        }
    }
    let run =
        Enclosed { root: Some(root.0.clone()), binds, tolerate: Some(tolerate), argv: argv_all, env, cwd: "/".into() };
    let result = run.run()?;
    fs::remove_file(&root.find_link(POST)?)?;
    ended("post", result, stage)
}
