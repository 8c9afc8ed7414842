//! The options of `ovl exec` in a script's lines and on the command line, as one list of words.

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, Parser};

use crate::cli::args::{OptionWords, Options};
use crate::cli::failure::Failure;
use crate::cli::{Context, info};
use crate::exec::binds;
use crate::model::env::is_name;
use crate::model::need::Need;
use crate::recipe::spec::At;
use crate::script::{self, Line, Script};
use crate::sys::{env, fs};

/// Options that are understood: overlays apart, as they are resolved, and the words of all others.
#[derive(Debug, Default)]
pub struct Exec {
    /// Overlays of the lines, each with its place.
    pub of_lines: Vec<(String, String)>,
    /// Overlays of the command line.
    pub typed: Vec<String>,
    /// Everything else, in order.
    pub words: Vec<String>,
}

/// The options of a script's lines, then those typed; a word that is no option is refused with its place.
pub fn words(script: &Script, typed: Option<&ArgMatches>, context: &Context) -> Result<Exec, Failure> {
    let mut exec = Exec::default();
    for line in &script.options {
        let parsed = parse(line)?;
        for overlay in parsed.overlay.iter() {
            let place = line.words.iter().find(|(_, word)| word.ends_with(overlay.as_str()));
            let loc = place.map_or(&line.loc, |(loc, _)| loc);
            exec.of_lines.push((overlay.clone(), loc.to_string()));
        }
        let words: Vec<String> = line.words.iter().map(|(_, word)| word.clone()).collect();
        if let Ok(matches) = OptionWords::command().try_get_matches_from(words) {
            let place = |why: String| Failure::usage(format!("{}: #{}: {why}", line.loc, line.marker));
            add(&mut exec.words, rebuilt(&matches), context).map_err(place)?;
        }
    }
    if let Some(matches) = typed {
        exec.typed = matches.get_many::<String>("overlay").into_iter().flatten().cloned().collect();
        add(&mut exec.words, rebuilt(matches), context).map_err(Failure::usage)?;
    }
    // What a job would only find when it runs.
    understood(&exec.words)?;
    Ok(exec)
}

/// Words that contradict each other: the last one counts.
const GPUS: [&str; 3] = ["--nv", "--rocm", "--no-gpu"];

/// Adds words that win over those before them. Paths become absolute, as a job may run elsewhere.
fn add(all: &mut Vec<String>, words: Vec<String>, context: &Context) -> Result<(), String> {
    let cwd = env::current_dir();
    for word in words {
        let word = match word.split_once('=') {
            Some(("--base", text)) => {
                // A path, else the name of an overlay, as for `ovl exec`.
                let path = cwd.join(text);
                let path = match fs::metadata_if_exists(&path) {
                    Ok(Some(_)) => path,
                    Ok(None) => {
                        info::locate(text, context).map_err(|failure| format!("--base: {}", failure.message))?
                    }
                    Err(error) => return Err(format!("--base: {error}")),
                };
                format!("--base={}", path.display())
            }
            Some(("--bind", text)) => {
                binds::parse(text, &cwd).map_err(|why| format!("--bind: {why}"))?;
                let (source, rest) = text.split_once(':').map_or((text, None), |(source, rest)| (source, Some(rest)));
                let rest = rest.map(|rest| format!(":{rest}")).unwrap_or_default();
                format!("--bind={}{rest}", cwd.join(source).display())
            }
            Some(("--env", text)) if !text.split_once('=').is_some_and(|(name, _)| is_name(name)) => {
                return Err(format!("--env: '{text}' is not NAME=VALUE"));
            }
            _ => word,
        };
        if GPUS.contains(&word.as_str()) {
            all.retain(|known| !GPUS.contains(&known.as_str()));
        }
        all.push(word);
    }
    Ok(())
}

/// The options that words mean.
pub fn understood(words: &[String]) -> Result<Options, Failure> {
    OptionWords::try_parse_from(words).map(|all| all.options).map_err(|error| Failure::usage(first_line(&error)))
}

/// The first line of clap's own words, without its `error:`.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// A line's options.
fn parse(line: &Line) -> Result<Options, Failure> {
    let words: Vec<&str> = line.words.iter().map(|(_, word)| word.as_str()).collect();
    OptionWords::try_parse_from(words).map(|all| all.options).map_err(|error| {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            _ => None,
        };
        let invalid = context(ContextKind::InvalidArg).or_else(|| context(ContextKind::InvalidValue));
        let at = invalid.as_deref().map(|text| text.split([' ', '=']).next().unwrap_or(text).to_owned());
        let place = at.and_then(|text| {
            line.words.iter().find(|(_, word)| *word == text || word.starts_with(&format!("{text}=")))
        });
        let value = context(ContextKind::InvalidValue)
            .and_then(|text| line.words.iter().find(|(_, word)| *word == text || word.ends_with(&format!("={text}"))));
        let (loc, word) =
            value.or(place).or(line.words.first()).map_or((&line.loc, ""), |(loc, word)| (loc, word.as_str()));
        let said = first_line(&error);
        let marker = line.marker;
        let why = if said.contains("unexpected argument") { format!("'{word}' is no option here") } else { said };
        Failure::usage(format!("{loc}: #{marker}: {why}"))
            .hint(format!("#{marker}: lines take the options of ovl exec, as in -o name/version"))
    })
}

/// What was given, as words that mean the same; overlays left out.
fn rebuilt(matches: &ArgMatches) -> Vec<String> {
    let mut words = Vec::new();
    let command = Options::augment_args(clap::Command::new("options"));
    for arg in command.get_arguments().filter(|arg| arg.get_id() != "overlay") {
        let id = arg.get_id().as_str();
        let Some(long) = arg.get_long() else { continue };
        if !matches.try_contains_id(id).unwrap_or(false) || matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        match arg.get_action() {
            ArgAction::SetTrue => words.push(format!("--{long}")),
            ArgAction::SetFalse | ArgAction::Help | ArgAction::Version => {}
            ArgAction::Count => {
                let count = matches.get_raw(id).map_or(0, Iterator::count).max(1);
                words.extend(std::iter::repeat_n(format!("--{long}"), count));
            }
            _ => {
                for value in matches.get_raw(id).into_iter().flatten() {
                    words.push(format!("--{long}={}", value.to_string_lossy()));
                }
            }
        }
    }
    words
}

/// The names of overlays in a script's option lines, as dependencies; files and names without a version are none.
pub fn needs_of_lines(label: &str, bytes: &[u8]) -> Vec<At<Need>> {
    let Ok(script) = script::read(label, bytes) else { return Vec::new() };
    let mut needs = Vec::new();
    for line in &script.options {
        let Ok(options) = parse(line) else { continue };
        for text in options.overlay {
            if let Ok(name) = text.parse() {
                needs.push(At { loc: line.loc.clone(), value: Need { name, min: None } });
            }
        }
    }
    needs
}
