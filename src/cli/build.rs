//! `ovl build`: from what was typed to a request, and from results to lines, JSON and an exit code.

use super::args::{Build, NetworkArg};
use super::failure::{Failure, Outcome};
use super::{Context, Flag};
use crate::build::{self, Done, Request};
use crate::exec::Network;
use crate::model::name::Name;
use crate::model::units;
use crate::recipe::spec::Prompt;
use crate::sys::{fs, term};
use crate::ui::Ui;

/// Flags that stand for configuration keys.
pub fn flags(args: &Build) -> Vec<Flag> {
    let scratch =
        args.scratch.as_ref().map(|path| crate::sys::env::current_dir().join(path).to_string_lossy().into_owned());
    let pairs = [
        ("build.stage", "--stage", args.stage.clone()),
        ("build.comp", "--comp", args.comp.clone()),
        ("build.jobs", "--jobs", args.jobs.map(|jobs| jobs.to_string())),
        ("dirs.scratch", "--scratch", scratch),
        ("ui.progress", "--progress", args.progress.clone()),
    ];
    pairs.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?))).collect()
}

/// Runs the command.
pub fn run(args: &Build, context: &Context) -> Outcome {
    let request = request(args, context)?;
    let mut answers = Answers::new(args, context.ui)?;
    let listener = context.ui.listener(&context.config.progress());
    let results = build::run(&request, &context.config, &*listener, &mut |name, prompt| answers.next(name, prompt));
    drop(listener);
    if args.json {
        context.ui.out(&serde_json::to_string_pretty(&results.done).unwrap_or_default());
    } else {
        let shown = results.done.iter().filter(|done| request.dry_run || request.targets.contains(&done.name));
        shown.for_each(|done| tell(done, context.ui));
    }
    match results.error {
        None => Ok(0),
        Some(error) => Err(error.into()),
    }
}

/// The path of what is there goes to stdout; the listener has told the rest on stderr.
fn tell(done: &Done, ui: Ui) {
    if done.outcome == build::Outcome::WouldBuild {
        ui.out(&format!(
            "would build {} → {} ({})",
            done.name,
            done.path.display(),
            done.reason.as_deref().unwrap_or("")
        ));
        return;
    }
    if done.outcome == build::Outcome::Stale {
        ui.hint(&format!("rebuild it with: ovl build --update {}", done.name));
    }
    ui.out(&done.path.display().to_string());
}

fn request(args: &Build, context: &Context) -> Result<Request, Failure> {
    let mut targets: Vec<Name> = Vec::new();
    for text in &args.names {
        let name: Name = text.parse()?;
        if !targets.contains(&name) {
            targets.push(name);
        }
    }
    if args.file.is_some() && targets.len() > 1 {
        return Err(Failure::usage("--file gives the recipe of one overlay; name one"));
    }
    let block_size =
        match &args.block_size {
            None => None,
            Some(text) => {
                let size = units::parse_size(text).map_err(Failure::usage)?;
                let fits =
                    u32::try_from(size).ok().filter(|size| size.is_power_of_two() && (4096..=1 << 20).contains(size));
                Some(fits.ok_or_else(|| {
                    Failure::usage(format!("--block-size: '{text}' is not a power of two from 4k to 1M"))
                })?)
            }
        };
    let timeout = args
        .timeout
        .as_deref()
        .map(units::parse_time)
        .transpose()
        .map_err(|why| Failure::usage(format!("--timeout: {why}")))?;
    Ok(Request {
        targets,
        file: args.file.clone(),
        update: args.update,
        no_deps: args.no_deps,
        layer: args.layer.clone(),
        timeout: timeout.filter(|limit| !limit.is_zero()),
        network: args.network.map(network),
        compression: context.config.compression(),
        block_size,
        keep_owners: args.keep_owners,
        keep_failed: args.keep_failed,
        when_free: args.when_free,
        no_wait: args.no_wait,
        dry_run: args.dry_run,
    })
}

/// The network that a flag names.
pub fn network(arg: NetworkArg) -> Network {
    match arg {
        NetworkArg::None => Network::None,
        NetworkArg::Host => Network::Host,
    }
}

/// Answers to questions: --answer N=…, then --answer and --answers-file in order, then the terminal or standard input.
struct Answers {
    numbered: Vec<(usize, String)>,
    ordered: std::collections::VecDeque<String>,
    asked: usize,
    ui: Ui,
}

impl Answers {
    fn new(args: &Build, ui: Ui) -> Result<Answers, Failure> {
        let mut answers = Answers { numbered: Vec::new(), ordered: Default::default(), asked: 0, ui };
        for text in &args.answer {
            match text.split_once('=').and_then(|(number, text)| Some((number.parse().ok()?, text))) {
                Some((number, text)) => answers.numbered.push((number, text.to_owned())),
                None => answers.ordered.push_back(text.clone()),
            }
        }
        if let Some(path) = &args.answers_file {
            let text =
                String::from_utf8(fs::read(path).map_err(|error| Failure::usage(format!("--answers-file: {error}")))?)
                    .map_err(|_| Failure::usage(format!("{}: not UTF-8", path.display())))?;
            answers.ordered.extend(text.lines().map(str::to_owned));
        }
        Ok(answers)
    }

    fn next(&mut self, name: &Name, prompt: &Prompt) -> Option<String> {
        self.asked += 1;
        if let Some((_, text)) = self.numbered.iter().find(|(number, _)| *number == self.asked) {
            return Some(text.clone());
        }
        if let Some(text) = self.ordered.pop_front() {
            return Some(text);
        }
        if term::stdin_is_terminal() {
            self.ui.ask(&format!("{name}: {}\n>", prompt.text));
        }
        let line = term::read_line(prompt.secret).ok().flatten();
        if prompt.secret && term::stdin_is_terminal() {
            self.ui.say("");
        }
        line
    }
}
