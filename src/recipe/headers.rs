//! From headers to typed values: one function per header, one table that says what is known and what is supported.

use std::time::Duration;

use super::finding::{Finding, Rule};
use super::scan::{Header, Scan};
use super::spec::{At, Choice, EnvVar, Kind, Net, Note, PlaceholderSpec, Prompt, Source, Spec, Tool, Verify};
use super::values::{file_name, is_id, is_sha256, is_variable, list, sounds_secret, without_comment};
use crate::model::need::Need;
use crate::model::units;
use crate::model::version::Version;

/// One header ovl knows.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The word between `#` and `:`.
    pub word: &'static str,
    /// Whether it may be given more than once.
    pub many: bool,
    /// Whether the builder carries it out; if not, [`Spec::unsupported`] names it.
    pub supported: bool,
    /// How its value is written.
    pub form: &'static str,
}

const fn known(word: &'static str, many: bool, supported: bool, form: &'static str) -> Known {
    Known { word, many, supported, form }
}

/// All headers.
pub const KNOWN: &[Known] = &[
    known("DEP", true, true, "name/version[>=min]"),
    known("BUILDDEP", true, true, "name/version[>=min]"),
    known("ENV", true, true, "VAR=value"),
    known("ENVNOTE", true, true, "text"),
    known("INTERACTIVE", true, true, "question"),
    known("WHATIS", false, true, "text"),
    known("URL", false, true, "address"),
    known("TYPE", false, true, "app, data or ref"),
    known("NET", false, true, "none or host"),
    known("TEST", true, true, "command"),
    known("LABEL", true, true, "key=value"),
    known("TIMEOUT", false, true, "30m, 1h30m or seconds"),
    known("VERIFY", true, true, "path [sha256]"),
    known("AUTOUPDATE", true, true, "text"),
    known("TAG", true, true, "a,b"),
    known("NEEDS", true, true, "command[>=version] [provided-by=host|name/version]"),
    known("OVL", true, true, "1, or in scripts options of ovl exec"),
    known("CNT", true, true, "options of ovl exec, in scripts"),
    known("PL", true, true, "name:values"),
    known("TARGET", false, true, "pattern"),
    known("SRC", true, true, "url [sha256=…] [as=name] [mirror=url]"),
    known("GIT", true, false, "url@revision"),
    known("SRCDIR", true, false, "name [required]"),
    known("SECRET", true, false, "id or id?"),
    known("SSH", true, false, "default"),
    known("ARG", true, false, "NAME=default"),
    known("STAGE", true, false, "name [from=name]"),
    known("PLATFORM", true, false, "linux/amd64,…"),
    known("CACHE", true, false, "/path"),
    known("CASE", true, false, "a|b"),
    known("HOST", true, false, "name:ip"),
    known("OWNER", false, false, "uid:gid"),
    known("COPY", true, false, "src dst"),
];

/// Reads all headers of a scan; what cannot be understood becomes a finding and is left out.
pub fn read(scan: &Scan, findings: &mut Vec<Finding>) -> Spec {
    let mut spec = Spec::empty(scan.file.clone());
    spec.directives.clone_from(&scan.directives);
    let mut seen: Vec<&Header> = Vec::new();
    for header in &scan.headers {
        let Some(known) = KNOWN.iter().find(|known| known.word == header.word) else { continue };
        if let (false, Some(first)) = (known.many, seen.iter().find(|other| other.word == header.word)) {
            let message = format!("#{}: stands already in line {}", header.word, first.loc.line);
            findings.push(Finding::new(Rule::Repeated, &header.loc, message));
            continue;
        }
        seen.push(header);
        if !known.supported {
            spec.refused.push((header.loc.clone(), header.word.clone()));
        }
        let read =
            if header.value.is_empty() { Err("it has no value".to_owned()) } else { one(&mut spec, header, findings) };
        if let Err(why) = read {
            let message = format!("#{}: {why}", header.word);
            let hint = format!("its form is #{}:{}", known.word, known.form);
            findings.push(Finding::new(Rule::BadValue, &header.at, message).hint(hint));
        }
    }
    spec
}

/// Reads one header into the spec.
fn one(spec: &mut Spec, header: &Header, findings: &mut Vec<Finding>) -> Result<(), String> {
    let whole = header.value.as_str();
    let bare = without_comment(whole);
    let words: Vec<&str> = bare.split_whitespace().collect();
    let loc = &header.loc;
    match header.word.as_str() {
        "DEP" => dependency(&mut spec.deps, header, bare, findings)?,
        "BUILDDEP" => dependency(&mut spec.builddeps, header, bare, findings)?,
        "ENV" => spec.env.push(variable(header)?),
        "ENVNOTE" => {
            let name = spec.env.last().map(|var| var.name.clone());
            spec.notes.push(Note { name, text: whole.to_owned(), loc: loc.clone() });
        }
        "INTERACTIVE" => {
            let text = whole.replace("\\n", "\n");
            spec.prompts.push(Prompt { secret: sounds_secret(&text), text, loc: loc.clone() });
        }
        "WHATIS" => spec.whatis = Some(at(header, whole.to_owned())),
        "URL" => spec.url = Some(at(header, bare.to_owned())),
        "TYPE" => {
            let kind = match bare.to_ascii_lowercase().as_str() {
                "app" => Kind::App,
                "data" | "ref" => Kind::Data,
                _ => return Err(format!("'{bare}' is no type")),
            };
            spec.declared_kind = Some(at(header, kind));
        }
        "NET" => {
            spec.net = match bare {
                "none" => Some(Net::None),
                "host" => Some(Net::Host),
                _ => return Err(format!("'{bare}' is no network")),
            };
        }
        "TEST" => spec.tests.push(at(header, whole.to_owned())),
        "LABEL" => {
            let (key, value) = whole.split_once('=').ok_or("it has no '='")?;
            let key = key.trim();
            if key.is_empty() || key.contains(char::is_whitespace) {
                return Err(format!("'{key}' is no key"));
            }
            spec.labels.push(at(header, (key.to_owned(), value.trim().to_owned())));
        }
        "TIMEOUT" => spec.timeout = Some(at(header, timeout(bare)?)),
        "VERIFY" => spec.verify.push(at(header, verify(&words)?)),
        "AUTOUPDATE" => spec.autoupdate.push(at(header, whole.to_owned())),
        "TAG" => {
            let tags = list(bare, &[',']).ok_or("a tag is empty")?;
            if let Some(bad) = tags.iter().find(|tag| !is_id(tag)) {
                return Err(format!("'{bad}' is no tag (letters, digits and . _ - are)"));
            }
            spec.tags.extend(tags.into_iter().map(|tag| at(header, tag)));
        }
        "NEEDS" => spec.needs.push(at(header, tool(&words)?)),
        // Options of `ovl run`, which reads them itself.
        "CNT" => {}
        "OVL" => match bare {
            "1" => spec.format = 1,
            options if options.starts_with('-') => {}
            _ => return Err(format!("this ovl reads recipes of format 1, not '{bare}'")),
        },
        "PL" => spec.placeholders.push(at(header, placeholder(bare)?)),
        "TARGET" => spec.target = Some(at(header, bare.to_owned())),
        "SRC" => {
            let source = source(&words)?;
            if let Some(first) = spec.sources.iter().find(|other| other.value.name == source.name) {
                return Err(format!("line {} is called {} too: name one with as=", first.loc.line, source.name));
            }
            spec.sources.push(at(header, source));
        }
        "GIT" => {
            let (url, rev) = bare.rsplit_once('@').ok_or("it has no @revision")?;
            if url.is_empty() || rev.is_empty() || rev.contains([':', '/', ' ']) {
                return Err("it has no @revision".into());
            }
            spec.gits.push(at(header, (url.to_owned(), rev.to_owned())));
        }
        "SRCDIR" => match words[..] {
            [name] if is_id(name) => spec.srcdirs.push(at(header, (name.to_owned(), false))),
            [name, "required"] if is_id(name) => spec.srcdirs.push(at(header, (name.to_owned(), true))),
            _ => return Err(format!("'{bare}' is not understood")),
        },
        "SECRET" => {
            let (id, optional) = bare.strip_suffix('?').map_or((bare, false), |id| (id, true));
            if !is_id(id) {
                return Err(format!("'{id}' is no id (letters, digits and . _ - are)"));
            }
            spec.secrets.push(at(header, (id.to_owned(), optional)));
        }
        "ARG" => {
            let (name, default) = whole.split_once('=').unwrap_or((whole, ""));
            if !is_variable(name.trim()) {
                return Err(format!("'{}' cannot be a variable's name", name.trim()));
            }
            spec.args.push(at(header, (name.trim().to_owned(), default.trim().to_owned())));
        }
        "STAGE" => match words[..] {
            [name] if is_id(name) => spec.stages.push(at(header, (name.to_owned(), None))),
            [name, from] if is_id(name) => {
                let from = from.strip_prefix("from=").filter(|from| !from.is_empty());
                let from = from.ok_or_else(|| format!("'{bare}' is not understood"))?;
                spec.stages.push(at(header, (name.to_owned(), Some(from.to_owned()))));
            }
            _ => return Err(format!("'{bare}' is not understood")),
        },
        _ => spec.others.push(header.clone()),
    }
    Ok(())
}

fn at<T>(header: &Header, value: T) -> At<T> {
    At { loc: header.loc.clone(), value }
}

fn dependency(
    into: &mut Vec<At<Need>>,
    header: &Header,
    text: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    let need: Need = text.parse().map_err(|bad| format!("{bad}"))?;
    if let Err(bad) = Version::strict(need.name.version()) {
        findings.push(Finding::new(Rule::BadVersion, &header.at, format!("{bad}; it is ordered as well as it can be")));
    }
    if let Some(first) = into.iter().find(|other| other.value.name.stem() == need.name.stem()) {
        let message = format!("{} is asked for already in line {}", need.name.stem(), first.loc.line);
        findings.push(Finding::new(Rule::DuplicateDep, &header.at, message).hint("keep one of them"));
        return Ok(());
    }
    into.push(at(header, need));
    Ok(())
}

/// A time with units; clock times are refused: one scheduler reads `1:30` as minutes, another as hours.
fn timeout(text: &str) -> Result<Duration, String> {
    if text.contains(':') {
        return Err(format!("'{text}' is ambiguous, write it with units, as in 1h30m"));
    }
    match units::parse_time(text)? {
        Duration::ZERO => Err(format!("'{text}' is no time at all")),
        time => Ok(time),
    }
}

fn variable(header: &Header) -> Result<EnvVar, String> {
    let (name, value) = header.value.split_once('=').ok_or("it has no '='")?;
    if !is_variable(name) {
        return Err(format!("'{name}' cannot be a variable's name"));
    }
    Ok(EnvVar { name: name.to_owned(), value: value.trim_start().to_owned(), loc: header.loc.clone() })
}

fn digest(text: &str) -> Result<String, String> {
    let text = text.strip_prefix("sha256=").or_else(|| text.strip_prefix("sha256:")).unwrap_or(text);
    if is_sha256(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("'{text}' is no sha256 (64 hexadecimal digits)"))
    }
}

fn verify(words: &[&str]) -> Result<Verify, String> {
    let (path, sha256) = match words {
        [path] => (path, None),
        [path, sum] => (path, Some(digest(sum)?)),
        _ => return Err("it is a path and at most one sha256".into()),
    };
    if path.starts_with('/') || path.split('/').any(|part| matches!(part, ".." | "")) {
        return Err(format!("'{path}' is no path below $target_dir"));
    }
    Ok(Verify { path: (*path).to_owned(), sha256 })
}

fn source(words: &[&str]) -> Result<Source, String> {
    let (url, rest) = words.split_first().ok_or("it has no value")?;
    let address = |url: &str| match ["http://", "https://", "file:///"].iter().any(|scheme| url.starts_with(scheme)) {
        true => Ok(url.to_owned()),
        false if url.starts_with("ftp://") => Err(format!("'{url}': ftp has to be fetched with curl, in fetch()")),
        false => Err(format!("'{url}' is no http, https or file address")),
    };
    let mut source = Source { url: address(url)?, mirrors: Vec::new(), sha256: None, name: String::new() };
    for word in rest {
        match word.split_once('=') {
            Some(("sha256", sum)) => source.sha256 = Some(digest(sum)?),
            Some(("as", name)) if is_id(name) => source.name = name.to_owned(),
            Some(("mirror", url)) => source.mirrors.push(address(url)?),
            _ => return Err(format!("'{word}' is not understood")),
        }
    }
    if source.name.is_empty() {
        source.name = file_name(url).ok_or_else(|| format!("'{url}' ends in no file name: give one with as="))?;
    }
    Ok(source)
}

fn tool(words: &[&str]) -> Result<Tool, String> {
    let (what, rest) = words.split_first().ok_or("it has no value")?;
    let (command, min) = match what.split_once(">=") {
        Some((command, min)) => (command, Some(Version::strict(min).map_err(|bad| bad.to_string())?)),
        None => (*what, None),
    };
    if command.is_empty() || !command.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c)) {
        return Err(format!("'{command}' is no command"));
    }
    let provided_by = match rest {
        [] => Vec::new(),
        [from] => from
            .strip_prefix("provided-by=")
            .and_then(|from| list(from, &['|']))
            .ok_or_else(|| format!("'{from}' is not understood"))?,
        _ => return Err("it names more than one command".into()),
    };
    Ok(Tool { command: command.to_owned(), min, provided_by })
}

/// Most values of a placeholder: what is listed must stay a list.
const WIDEST: u64 = 10_000;

fn placeholder(text: &str) -> Result<PlaceholderSpec, String> {
    let (name, form) = text.split_once(':').ok_or("it has no second ':'")?;
    if !is_variable(name) {
        return Err(format!("'{name}' cannot be a placeholder's name"));
    }
    let sorted = !form.contains('|');
    if !sorted && form.contains(',') {
        return Err("',' and '|' are mixed: newest first, or in the order written?".into());
    }
    let choices = list(form, &[',', '|']).ok_or("one of its values is empty")?;
    let choices: Vec<Choice> = choices.into_iter().map(choice).collect::<Result<_, _>>()?;
    let count = choices.iter().fold(0_u64, |sum, choice| match choice {
        Choice::Range { from, to, .. } => sum.saturating_add(to.saturating_sub(*from)).saturating_add(1),
        _ => sum.saturating_add(1),
    });
    if count > WIDEST {
        return Err(format!("it has {count} values (at most {WIDEST})"));
    }
    Ok(PlaceholderSpec { name: name.to_owned(), choices, sorted, form: form.trim().to_owned() })
}

fn choice(item: String) -> Result<Choice, String> {
    if item == "*" {
        return Ok(Choice::Any);
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some((low, high)) = item.split_once('-').filter(|(low, high)| digits(low) && digits(high)) {
        let (Ok(from), Ok(to)) = (low.parse::<u64>(), high.parse::<u64>()) else {
            return Err(format!("the range {item} has numbers that are too large"));
        };
        // 001-120 counts 001, 002, …
        let width = if low.starts_with('0') && low.len() > 1 { low.len() } else { 0 };
        return match to.checked_sub(from) {
            Some(more) if more < WIDEST => Ok(Choice::Range { from, to, width }),
            Some(_) => Err(format!("the range {item} has more than {WIDEST} values")),
            None => Err(format!("the range {item} runs backwards")),
        };
    }
    match item.chars().find(|c| !c.is_ascii_alphanumeric() && !"._+-".contains(*c)) {
        Some(odd) => Err(format!("'{}' in '{item}' cannot be part of a name", odd.escape_debug())),
        None => Ok(Choice::One(item)),
    }
}
