//! `ovl env install`, `remove` and `update`: what is wished for is solved anew with what is installed in favour, shown,
//! and made so in a process that has the image in place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rattler::install::PythonInfo;
use rattler_conda_types::{NoArchType, PrefixRecord, RepoDataRecord, Subdir};
use serde_json::{Value, json};

use super::How;
use super::look;
use super::make::{self, Packages};
use crate::cli::args::ChangeArgs;
use crate::cli::failure::{Failure, Outcome, code};
use crate::cli::{Context, search};
use crate::conda::Conda;
use crate::conda::apply::Change;
use crate::conda::installed::{Installed, META, name_of};
use crate::model::loc::Loc;
use crate::model::units::show_size;
use crate::net::redacted;
use crate::recipe::conda::{self, Environment};
use crate::recipe::spec::At;
use crate::runtime::writable::care;
use crate::sys::{clock, env, fs, term};
use crate::ui::table;

/// Specifications of packages by their names.
type Specs = BTreeMap<String, String>;

/// What changes.
struct Transaction {
    /// By name: what is there, what is to be there.
    pairs: BTreeMap<String, (Option<PrefixRecord>, Option<RepoDataRecord>)>,
}

impl Transaction {
    fn between(there: &Installed, wanted: &[RepoDataRecord], platform: Subdir) -> Transaction {
        let python = |record: Option<&RepoDataRecord>| {
            record.and_then(|record| PythonInfo::from_python_record(&record.package_record, platform).ok())
        };
        let find = |name: &str| wanted.iter().find(|one| one.package_record.name.as_normalized() == name);
        let before = python(there.get("python").map(|record| &record.repodata_record));
        // Packages for any python lie in the directory of one.
        let moved = before.zip(python(find("python"))).is_some_and(|(old, new)| new.is_relink_required(&old));
        let mut pairs = BTreeMap::new();
        for record in &there.records {
            let name = record.name().as_normalized();
            let new = find(name);
            let is_python = record.repodata_record.package_record.noarch == NoArchType::python();
            let stays = new.is_some_and(|new| same(&record.repodata_record, new)) && !(moved && is_python);
            if !stays {
                pairs.insert(name.to_owned(), (Some(record.clone()), new.cloned()));
            }
        }
        for record in wanted {
            let name = record.package_record.name.as_normalized();
            if there.get(name).is_none() {
                pairs.insert(name.to_owned(), (None, Some(record.clone())));
            }
        }
        Transaction { pairs }
    }

    fn added(&self) -> Vec<RepoDataRecord> {
        self.pairs.values().filter_map(|(_, new)| new.clone()).collect()
    }

    fn gone(&self) -> Vec<String> {
        self.pairs.values().filter_map(|(old, _)| Some(old.as_ref()?.file_name())).collect()
    }

    fn show(&self, context: &Context) {
        let version = |record: &RepoDataRecord| record.package_record.version.to_string();
        let rows: Vec<Vec<String>> = self
            .pairs
            .iter()
            .map(|(name, (old, new))| {
                let old = old.as_ref().map(|old| &old.repodata_record);
                let (mark, versions) = match (old, new) {
                    (Some(old), Some(new)) => ("~", format!("{} -> {}", version(old), version(new))),
                    (Some(old), None) => ("-", version(old)),
                    (None, Some(new)) => ("+", version(new)),
                    (None, None) => ("", String::new()),
                };
                let one = new.as_ref().or(old).map(|one| &one.package_record);
                let build = one.map(|one| one.build.to_string()).unwrap_or_default();
                let size = new.as_ref().and_then(|new| new.package_record.size).map(show_size).unwrap_or_default();
                vec![format!("  {mark}"), name.clone(), versions, build, size]
            })
            .collect();
        table::columns(&rows).iter().for_each(|line| context.ui.out(line));
    }

    fn json(&self, image: &Path, done: bool) -> Value {
        let one = |record: &RepoDataRecord| {
            let package = &record.package_record;
            json!({
                "version": package.version.to_string(), "build": package.build.to_string(),
                "url": redacted(record.url.as_str()), "size": package.size,
            })
        };
        let change = |(name, (old, new)): (&String, &(Option<PrefixRecord>, Option<RepoDataRecord>))| {
            let old = old.as_ref().map(|old| one(&old.repodata_record));
            json!({ "name": name, "from": old, "to": new.as_ref().map(one) })
        };
        json!({ "image": image, "changes": self.pairs.iter().map(change).collect::<Vec<_>>(), "done": done })
    }
}

fn same(old: &RepoDataRecord, new: &RepoDataRecord) -> bool {
    let (old, new) = (&old.package_record, &new.package_record);
    let sums = old.sha256.zip(new.sha256).is_none_or(|(old, new)| old == new);
    (&old.version, &old.build, &old.subdir) == (&new.version, &new.build, &new.subdir) && sums
}

/// Runs the command.
pub fn run(how: How, args: &ChangeArgs, context: &Context) -> Outcome {
    let path = look::image(args.image.as_deref())?;
    let say = |text: &str| context.ui.say(text);
    let held = care::hold_image(&path, &say)?;
    if !care::facts(&path, &held)?.is_clean() {
        care::check(&path, &held, care::How::Safely)?;
    }
    // fuse2fs keeps a tenth for root.
    let facts = care::facts(&path, &held)?;
    let room = facts.free().saturating_sub(facts.size() / 10);
    // Held by the process that changes it, and looked at again there.
    let there = look::read(&path, held.file)?;
    let (wishes, asked) = wishes(how, args, &there)?;
    let (locked, gone) = if wishes.is_empty() {
        (Vec::new(), look::platform(&there).or(Subdir::current()))
    } else {
        let locked = solve(how, args, &there, &wishes, context)?;
        (locked.records, Some(locked.platform))
    };
    let platform = gone.unwrap_or(Subdir::Linux64);
    if how == How::Remove {
        still_needed(&asked, &locked)?;
    }
    let transaction = Transaction::between(&there, &locked, platform);
    let told = wishes != there.wishes();
    if transaction.pairs.is_empty() && !there.half_done && !told {
        let nothing = || context.ui.say(&format!("{}: everything is as wished for", path.display()));
        if args.json {
            context.ui.out(&transaction.json(&path, false).to_string())
        } else {
            nothing()
        }
        return Ok(0);
    }
    if !args.json {
        transaction.show(context);
    }
    if args.dry_run {
        if args.json {
            context.ui.out(&transaction.json(&path, false).to_string());
        }
        return Ok(0);
    }
    confirm(&transaction, args, context)?;
    let work = make::work(context)?;
    let tree = work.path().join("tree");
    let added = transaction.added();
    let python = locked.iter().find(|one| one.package_record.name.as_normalized() == "python");
    let python = python.map(|python| python.package_record.clone());
    let (mut scripts, mut add) = (Vec::new(), Vec::new());
    fs::create_dirs(&tree)?;
    if !added.is_empty() {
        let requested = wishes.values().cloned().collect();
        let packages = Packages { records: added, platform, python, requested, top: &tree, work: &work };
        let (wanted, bytes) = make::write_out(packages, context)?;
        if bytes > room {
            return Err(Failure::new(
                code::ERROR,
                format!("{} has {} free, and {} are needed", path.display(), show_size(room), show_size(bytes)),
            )
            .hint(format!("make it larger with: ovl overlay resize -s SIZE {}", path.display())));
        }
        scripts = wanted;
        add = prepare(&tree, &there, &transaction, context)?;
    }
    let change = Change {
        expected: there.files.clone(),
        remove: transaction.gone(),
        history: history(how, &there, &transaction, &asked, &wishes),
        add,
        tree,
    };
    let file = work.path().join("change.json");
    let text = serde_json::to_vec(&change).map_err(|error| Failure::new(code::ERROR, error.to_string()))?;
    fs::write_quick(&file, &text, 0o600)?;
    let program =
        env::current_exe().map_err(|error| Failure::new(code::ERROR, format!("cannot start ovl: {error}")))?;
    let words = [&*program.to_string_lossy(), "internal", "change-env", &*file.to_string_lossy()].map(str::to_owned);
    make::inside(&path, &[], &words.each_ref().map(String::as_str))?;
    make::run_scripts(&path, &scripts, context)?;
    if args.json {
        context.ui.out(&transaction.json(&path, true).to_string());
    } else {
        context.ui.say(&format!("{}: done", path.display()));
    }
    Ok(0)
}

/// What is wished for from now on, and what the command line has said to that, by name.
fn wishes(how: How, args: &ChangeArgs, there: &Installed) -> Result<(Specs, Specs), Failure> {
    let mut asked = BTreeMap::new();
    for text in &args.packages {
        let name = name_of(text).ok_or_else(|| {
            Failure::usage(format!("'{text}' names no package")).hint("write it as name, name=version or name>=1.2,<2")
        })?;
        if how != How::Install && there.get(&name).is_none() {
            return Err(Failure::usage(format!("{name} is not installed")).hint("see what is with: ovl env list"));
        }
        asked.insert(name, text.clone());
    }
    let mut wishes = there.wishes();
    match how {
        How::Remove if asked.is_empty() => {
            return Err(Failure::usage("nothing is named that is to be removed"));
        }
        How::Remove => wishes.retain(|name, _| !asked.contains_key(name)),
        How::Install => wishes.extend(asked.clone()),
        // A bare name shall not undo what was said of its version.
        How::Update => wishes.extend(asked.clone().into_iter().filter(|(name, text)| name != text)),
    }
    Ok((wishes, asked))
}

fn solve(
    how: How,
    args: &ChangeArgs,
    there: &Installed,
    wishes: &Specs,
    context: &Context,
) -> Result<crate::conda::Locked, Failure> {
    let conda = Conda::new(&context.config, &search::wishes(&args.conda))?;
    let named: BTreeSet<String> = args.packages.iter().filter_map(|text| name_of(text)).collect();
    let kept: Vec<RepoDataRecord> = there
        .packages()
        .into_iter()
        .filter(|record| match how {
            How::Install => true,
            How::Remove => !named.contains(record.package_record.name.as_normalized()),
            How::Update => !named.is_empty() && !named.contains(record.package_record.name.as_normalized()),
        })
        .collect();
    let at = |value: &String| At { loc: Loc::new("", 1, 1), value: value.clone() };
    let mut channels = there.channels();
    channels.extend(context.config.conda_channels().iter().cloned());
    let platform = look::platform(there).map(|platform| platform.to_string());
    let environment = Environment {
        channels: channels.iter().map(at).collect(),
        platform: platform.as_ref().map(at),
        ..conda::read("", &conda::compose(&[], &[], None), &mut Vec::new())
    };
    let wishes: Vec<String> = wishes.values().cloned().collect();
    let locked = conda.change(&wishes, &environment, &kept)?;
    conda.notes().iter().for_each(|note| context.ui.warn(note));
    Ok(locked)
}

/// Refuses to remove what others need.
fn still_needed(asked: &Specs, locked: &[RepoDataRecord]) -> Result<(), Failure> {
    for name in asked.keys() {
        if !locked.iter().any(|record| record.package_record.name.as_normalized() == name) {
            continue;
        }
        let needs = |record: &&RepoDataRecord| {
            record.package_record.depends.iter().any(|need| need.split([' ', '=', '>', '<']).next() == Some(name))
        };
        let by: Vec<&str> =
            locked.iter().filter(needs).map(|record| record.package_record.name.as_normalized()).collect();
        return Err(Failure::usage(format!("{name} is needed by {}", by.join(", ")))
            .hint(format!("remove both with: ovl env remove {name} {}", by.join(" "))));
    }
    Ok(())
}

/// The records of new packages. What a package that stays has already is taken out of them and of the tree.
fn prepare(tree: &Path, there: &Installed, what: &Transaction, context: &Context) -> Result<Vec<String>, Failure> {
    let stays = |record: &&PrefixRecord| !what.pairs.contains_key(record.name().as_normalized());
    let paths = |record: &PrefixRecord| {
        record.paths_data.paths.iter().map(|entry| entry.relative_path.clone()).collect::<Vec<_>>()
    };
    let owned: BTreeSet<_> = there.records.iter().filter(stays).flat_map(paths).collect();
    let mut names = Vec::new();
    for name in fs::list(&tree.join(META))?.into_iter().filter_map(|name| name.into_string().ok()) {
        if !name.ends_with(".json") {
            continue;
        }
        let file = tree.join(META).join(&name);
        let odd = |error: serde_json::Error| Failure::new(code::ERROR, format!("{name}: {error}"));
        let mut record: PrefixRecord = serde_json::from_slice(&fs::read(&file)?).map_err(odd)?;
        let is_dir = |path: &Path| fs::symlink_metadata(&tree.join(path)).is_ok_and(|meta| meta.is_dir());
        let lost: BTreeSet<_> =
            paths(&record).into_iter().filter(|path| owned.contains(path) && !is_dir(path)).collect();
        if !lost.is_empty() {
            for path in &lost {
                let text = format!("{} stays another package's; {} brings it too", path.display(), name);
                context.ui.warn(&text);
                fs::remove_file(&tree.join(path))?;
            }
            record.paths_data.paths.retain(|entry| !lost.contains(&entry.relative_path));
            record.files.retain(|path| !lost.contains(path));
            fs::write_quick(&file, &serde_json::to_vec_pretty(&record).map_err(odd)?, 0o644)?;
        }
        names.push(name);
    }
    Ok(names)
}

/// The history with this change, as conda writes it, and everything that is wished for.
fn history(how: How, there: &Installed, what: &Transaction, asked: &Specs, wishes: &Specs) -> String {
    let time = clock::rfc3339(clock::now()).replace('T', " ");
    let time = time.get(..19).unwrap_or("1970-01-01 00:00:00");
    let mut text = there.history.clone();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("==> {time} <==\n# cmd: ovl env {}\n", format!("{how:?}").to_lowercase()));
    for (old, new) in what.pairs.values() {
        for (mark, record) in [("-", old.as_ref().map(|old| &old.repodata_record)), ("+", new.as_ref())] {
            let Some(record) = record else { continue };
            let channel = redacted(record.channel.as_deref().unwrap_or("unknown").trim_end_matches('/'));
            let one = &record.package_record;
            let (name, version, build) = (one.name.as_normalized(), &one.version, &one.build);
            text.push_str(&format!("{mark}{channel}/{}::{name}-{version}-{build}\n", one.subdir));
        }
    }
    let listed = |specs: Vec<&String>| specs.iter().map(|spec| format!("{spec:?}")).collect::<Vec<_>>().join(", ");
    if how == How::Remove {
        text.push_str(&format!("# remove specs: [{}]\n", listed(asked.keys().collect())));
    }
    if !wishes.is_empty() {
        text.push_str(&format!("# update specs: [{}]\n", listed(wishes.values().collect())));
    }
    text
}

fn confirm(what: &Transaction, args: &ChangeArgs, context: &Context) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    if !term::stdin_is_terminal() {
        return Err(Failure::usage("nobody is there to ask").hint("change it without a question: --yes"));
    }
    context.ui.ask(&format!("change {} packages? [y/N]", what.pairs.len()));
    match term::read_line(false).ok().flatten().as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new(code::INTERRUPTED, "nothing was changed")),
    }
}
