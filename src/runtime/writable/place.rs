//! The command's side: it comes into the keeper's namespaces, has everything mounted there that it will see, and takes
//! copies of the mounts with it. What is united with what follows from the names alone.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::keeper::{Ask, BASE, IMAGE, TREE, UNION, Word};
use crate::exec::{Base, Invocation};
use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::native::{self, Server};
use crate::sys::mount::{self, What};
use crate::sys::userns::{self, Refusal};
use crate::sys::{env, fs, pass};

/// Names that are the image's also where nobody has them yet.
const ALWAYS: [&str; 2] = ["cnt", "ext3"];
/// Names that stay the host's (or the base's) whatever the images have: what programs write there is not for it.
const NEVER: [&str; 6] = ["proc", "sys", "dev", "run", "tmp", "home"];

/// What lies where at the top of the root.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shares {
    /// From the image alone.
    own: Vec<(OsString, What)>,
    /// From the union.
    united: Vec<OsString>,
    /// Directories of the base that are in the union.
    base: Vec<OsString>,
}

/// Names with what they are.
type Names = Vec<(OsString, What)>;

/// Who gives which name of the root, with a directory as base.
fn shares(upper: &Names, tree: &Names, base: &Names, kept: &BTreeSet<OsString>) -> Shares {
    let mut shares = Shares::default();
    let find = |names: &Names, name: &OsStr| names.iter().find(|(other, _)| other == name).map(|(_, what)| *what);
    let is_mark = |name: &OsStr| name.as_bytes().starts_with(b".wh.");
    let mut names: BTreeSet<OsString> = upper.iter().chain(tree).map(|(name, _)| name.clone()).collect();
    names.extend(ALWAYS.map(OsString::from));
    for name in names {
        if is_mark(&name) || kept.contains(&name) {
            continue;
        }
        let hidden = upper.iter().any(|(other, _)| other.as_bytes().strip_prefix(b".wh.") == Some(name.as_bytes()));
        let (above, below, under) = (find(upper, &name), find(tree, &name), find(base, &name));
        match (above, below, under) {
            (Some(What::Dir), None, Some(What::Dir)) => {
                shares.base.push(name.clone());
                shares.united.push(name);
            }
            (_, Some(_), under) => {
                if under == Some(What::Dir) && above != Some(What::File) {
                    shares.base.push(name.clone());
                }
                shares.united.push(name);
            }
            // Made by a program that saw the base's: only directories are united.
            (Some(_), None, Some(_)) => {}
            // A whiteout of what is not there.
            (Some(What::File), None, None) if hidden => {}
            (Some(what), None, None) => shares.own.push((name, what)),
            (None, None, under) => {
                if under == Some(What::Dir) {
                    shares.base.push(name.clone());
                    shares.united.push(name);
                } else {
                    shares.own.push((name, What::Dir));
                }
            }
        }
    }
    shares
}

/// What the command takes with it out of the keeper's namespaces.
pub struct Place {
    shares: Shares,
    /// The union is the whole root.
    whole: bool,
}

fn hear(socket: &OwnedFd) -> Result<(Word, Vec<File>)> {
    let (message, files) = pass::receive(socket).map_err(Refusal::new("hear from the image's keeper"))?;
    match serde_json::from_slice(&message) {
        Ok(Word::Failed(report)) => Err(RuntimeError::Reported(report)),
        Ok(word) => Ok((word, files)),
        Err(_) => Err(RuntimeError::Impossible("the image's keeper ended before it had the image ready".into())),
    }
}

/// Asks the keeper for something.
pub fn ask(socket: &OwnedFd, ask: &Ask) -> Result<()> {
    let message = serde_json::to_vec(ask).map_err(Refusal::new("write a message down"))?;
    Ok(pass::send(socket, &message, &[]).map_err(Refusal::new("speak to the image's keeper"))?)
}

/// Enters the keeper's namespaces, puts everything together there and leaves with a copy. The working directory is the
/// stage afterwards, and has to be until [`Place::open`].
pub fn join(socket: &OwnedFd, invocation: &Invocation, server: Option<&Server>) -> Result<Place> {
    let (word, files) = hear(socket)?;
    let Word::Ready(stage, upper) = word else {
        return Err(RuntimeError::Impossible("the image's keeper speaks out of turn".into()));
    };
    let kept = kept();
    match files.as_slice() {
        [user, mounts] => userns::join(user, mounts)?,
        [mounts] => userns::join_mounts(mounts)?,
        _ => return Err(RuntimeError::Impossible("the image's keeper has no namespaces".into())),
    }
    let mut lower = Vec::new();
    let mut tree = Names::new();
    if let Some(server) = server {
        tree = server.ready()?;
        let device = Server::device()?;
        mount::fuse(&device, &stage.join(TREE)).map_err(native::no_fuse)?;
        server.serve(device)?;
        lower.push(TREE.to_owned());
    }
    let (shares, whole) = match &invocation.base {
        Base::Image(_) => (Shares::default(), true),
        Base::Dir(path) => {
            let path = fs::canonicalize(path)?;
            let shares = shares(&upper, &tree, &mount::entries(&path)?, &kept);
            for name in &shares.base {
                let target = stage.join(BASE).join(name);
                fs::create_dirs(&target)?;
                mount::bind(&path.join(name), &target)?;
            }
            if !shares.base.is_empty() {
                lower.push(BASE.to_owned());
            }
            for (name, what) in &shares.own {
                if *what == What::Dir {
                    fs::create_dirs(&stage.join(IMAGE).join("upper").join(name))?;
                }
            }
            (shares, false)
        }
    };
    if whole || !shares.united.is_empty() {
        ask(socket, &Ask::Unite(lower))?;
        hear(socket)?;
    }
    mount::go_to(&stage)?;
    userns::own_mounts()?;
    mount::slip_under_root()?;
    ask(socket, &Ask::Leave)?;
    Ok(Place { shares, whole })
}

/// Names that stay the base's: besides the fixed ones where the user is at home and at work.
fn kept() -> BTreeSet<OsString> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let first = |path: PathBuf| path.components().nth(1).map(|part| part.as_os_str().to_owned());
    let places = home.into_iter().chain([env::current_dir()]).filter_map(first);
    let always: Vec<OsString> = ALWAYS.map(OsString::from).into();
    places.filter(|name| !always.contains(name)).chain(NEVER.map(OsString::from)).collect()
}

/// A [`Place`] whose parts can be bound.
pub struct Opened {
    place: Place,
    union: Option<File>,
    upper: File,
}

impl Place {
    /// Opens its parts, in the namespace in which they will be bound; relative to the working directory.
    pub fn open(self) -> Result<Opened> {
        let united = self.whole || !self.shares.united.is_empty();
        let union = if united { Some(mount::place(Path::new(UNION))?) } else { None };
        let upper = mount::place(&Path::new(IMAGE).join("upper"))?;
        Ok(Opened { place: self, union, upper })
    }
}

impl Opened {
    /// Mounts the union as a whole.
    pub fn mount(&self, at: &Path) -> Result<()> {
        let union = self.union.as_ref().ok_or_else(|| RuntimeError::Impossible("nothing is united".into()))?;
        mount::go(union)?;
        Ok(mount::bind(Path::new("."), at)?)
    }

    /// Shows everything that is the image's in a root made of memory; the names.
    pub fn show(&self) -> Result<Vec<OsString>> {
        let mut shown = Vec::new();
        if let Some(union) = &self.union {
            mount::go(union)?;
            let entries = mount::entries(Path::new("."))?;
            for name in &self.place.shares.united {
                let Some((_, what)) = entries.iter().find(|(other, _)| other == name) else { continue };
                put(name, *what)?;
                shown.push(name.clone());
            }
        }
        mount::go(&self.upper)?;
        for (name, what) in &self.place.shares.own {
            put(name, *what)?;
            shown.push(name.clone());
        }
        Ok(shown)
    }
}

/// Shows a name of the working directory at the top of the root.
fn put(name: &OsStr, what: What) -> Result<()> {
    let (source, target) = (Path::new(".").join(name), Path::new("/").join(name));
    match what {
        What::Link => return Ok(mount::copy_link(&source, &target)?),
        What::Dir => fs::create_dirs(&target)?,
        What::File => drop(fs::append(&target)?),
    }
    Ok(mount::bind(&source, &target)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Names {
        let one = |word: &str| match word.strip_suffix('@') {
            Some(name) => (name.into(), What::Link),
            None => word.strip_suffix('-').map_or((word.into(), What::Dir), |name| (name.into(), What::File)),
        };
        text.split_whitespace().map(one).collect()
    }

    fn of(upper: &str, tree: &str, base: &str) -> (String, String, String) {
        let kept = NEVER.iter().chain(&["users"]).map(OsString::from).collect();
        let shares = shares(&names(upper), &names(tree), &names(base), &kept);
        let joined = |names: &[OsString]| names.join(OsStr::new(" ")).into_string().unwrap();
        let own: Vec<OsString> = shares.own.iter().map(|(name, _)| name.clone()).collect();
        (joined(&own), joined(&shares.united), joined(&shares.base))
    }

    fn shared(own: &str, united: &str, base: &str) -> (String, String, String) {
        (own.into(), united.into(), base.into())
    }

    #[test]
    fn an_empty_image_over_the_host_gives_its_own_places_only() {
        assert_eq!(of("", "", "usr bin@ tmp home"), shared("cnt ext3", "", ""));
    }

    #[test]
    fn what_both_have_is_united() {
        assert_eq!(of("cnt ext3", "cnt", "usr tmp"), shared("ext3", "cnt", ""));
        assert_eq!(of("", "cnt", "usr tmp"), shared("ext3", "cnt", ""));
        assert_eq!(of("usr opt", "cnt", "usr opt etc"), shared("ext3", "cnt opt usr", "opt usr"));
        assert_eq!(of("", "cnt usr", "usr"), shared("ext3", "cnt usr", "usr"));
    }

    #[test]
    fn homes_work_and_the_kernels_places_stay_the_hosts() {
        assert_eq!(
            of("tmp home users dev new file- link@", "", "tmp home users dev"),
            shared("cnt ext3 file link new", "", "")
        );
    }

    #[test]
    fn whatever_other_overlays_have_there_too() {
        let there = "proc sys dev run tmp home users";
        assert_eq!(of("", there, there), shared("cnt ext3", "", ""));
        assert_eq!(of(there, &format!("{there} opt"), there), shared("cnt ext3", "opt", ""));
    }

    #[test]
    fn a_base_with_a_cnt_of_its_own_is_united() {
        assert_eq!(of("", "", "cnt usr"), shared("ext3", "cnt", "cnt"));
    }
}
