//! Conda environments as text: files of environments, lists of packages, explicit lists and lock files, told apart by
//! what they hold; and the text of an environment that was asked for on the command line.

mod list;
mod yaml;

use rattler_conda_types::{MatchSpec, PackageNameMatcher, ParseMatchSpecOptions};
use url::Url;

use super::finding::{Finding, Rule};
use super::spec::At;
use crate::model::loc::Loc;

/// What an environment is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// What decides about its packages.
    pub content: Content,
    /// Channels that the text names, first one first; when it names any, no others are asked.
    pub channels: Vec<At<String>>,
    /// The platform that the text is for (`# platform: linux-64`), if it says so.
    pub platform: Option<At<String>>,
    /// What pip installs afterwards: lines as in a file of requirements.
    pub pip: Vec<At<String>>,
    /// Variables to set, with their values, in the order of the text.
    pub variables: Vec<(String, String)>,
}

/// What decides about an environment's packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Wishes, to be solved.
    Wishes(Vec<At<String>>),
    /// Archives, each by its address.
    Explicit(Vec<At<Archive>>),
    /// A lock file: the whole text is one.
    Lock,
}

/// A package by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Where it is, without the digest.
    pub url: Url,
    /// SHA-256 in lower case hexadecimal.
    pub sha256: Option<String>,
    /// MD5 in lower case hexadecimal.
    pub md5: Option<String>,
}

impl Environment {
    fn empty(content: Content) -> Environment {
        Environment { content, channels: Vec::new(), platform: None, pip: Vec::new(), variables: Vec::new() }
    }
}

/// Reads a text of any of the kinds; findings say what is wrong with it.
pub fn read(file: &str, text: &str, findings: &mut Vec<Finding>) -> Environment {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or("");
    let environment = if text.lines().any(|line| line.trim() == EXPLICIT) {
        list::explicit(file, text, findings)
    } else if looks_like_yaml(first) {
        yaml::read(file, text, findings)
    } else {
        list::wishes(file, text, findings)
    };
    let empty = match &environment.content {
        Content::Wishes(wishes) => wishes.is_empty() && environment.pip.is_empty(),
        Content::Explicit(archives) => archives.is_empty(),
        Content::Lock => false,
    };
    if empty && !findings.iter().any(Finding::is_error) {
        let message = format!("{file} names no packages");
        let hint = "name one package per line, or list them under dependencies: in a file that ends in .yml";
        findings.push(Finding::new(Rule::NoPackages, &Loc::new(file, 1, 1), message).hint(hint));
    }
    environment
}

/// The line that tells an explicit list.
const EXPLICIT: &str = "@EXPLICIT";

/// `key:` at the beginning of a line; `channel::package` is none.
fn looks_like_yaml(line: &str) -> bool {
    if matches!(line.as_bytes().first(), Some(b'{' | b'-' | b'%')) {
        return true;
    }
    line.split_once(':').is_some_and(|(key, rest)| {
        (rest.is_empty() || rest.starts_with(char::is_whitespace))
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-\"'".contains(c))
    })
}

/// Understands a wish such as `python>=3.10`, `bioconda::samtools=1.22=h1_0`.
pub fn wish(text: &str) -> Result<MatchSpec, String> {
    // The library reads over it.
    if text.ends_with(['<', '>', '=', '!', '~', ',', '|']) {
        return Err("nothing stands behind its last sign".to_owned());
    }
    let options = ParseMatchSpecOptions::lenient();
    let spec = MatchSpec::from_str(text, options).map_err(|error| error.to_string())?;
    match &spec.name {
        PackageNameMatcher::Exact(_) => Ok(spec),
        _ => Err("a package has a name without wildcards".to_owned()),
    }
}

/// Whether an address holds a user, a password or a token (`/t/TOKEN/…`), which belong into a file of credentials.
pub fn is_secret(url: &Url) -> bool {
    let token = url.path().split_once("/t/").is_some_and(|(_, rest)| rest.contains('/'));
    let remote = matches!(url.scheme(), "http" | "https");
    url.password().is_some() || !url.username().is_empty() || (token && remote)
}

/// Checks a line for pip: what it names must mean the same wherever the environment is built.
fn check_pip(loc: &Loc, line: &str, findings: &mut Vec<Finding>) -> bool {
    const FILES: [&str; 6] = ["-r", "--requirement", "-c", "--constraint", "-e", "--editable"];
    let word = line.split([' ', '=']).next().unwrap_or_default();
    let option = FILES.iter().find(|option| {
        word == **option || (option.len() == 2 && word.starts_with(**option) && !word.starts_with("--"))
    });
    let (_, behind) = line.split_once(" @ ").unwrap_or(("", line));
    let path = behind.starts_with(['.', '/', '~']) || behind.starts_with("file:");
    let message = match option {
        Some(option) => format!("pip: '{option}' names a file beside this one, which a build does not see"),
        None if path => format!("pip: '{line}' is a path, which a build does not see"),
        None => return true,
    };
    let hint = "write the packages themselves here, as NAME==VERSION or NAME @ https://…";
    findings.push(Finding::new(Rule::BadPackage, loc, message).hint(hint));
    false
}

/// Splits `channel::package=…` into the channel and the rest.
pub fn split_channel(wish: &str) -> (Option<&str>, &str) {
    match wish.rsplit_once("::") {
        Some((channel, rest)) => (Some(channel), rest),
        None => (None, wish),
    }
}

/// Checks a wish where it stands.
fn check_wish(loc: &Loc, text: &str, findings: &mut Vec<Finding>) -> bool {
    let Err(why) = wish(text) else { return true };
    let message = format!("'{text}' is no specification of a package: {why}");
    let near = text.replace("===", "==").replace(' ', "");
    let hint = if text.contains(" and ") || text.contains('&') {
        "put a comma between conditions, as in numpy>=1.26,<2".to_owned()
    } else if near != text && wish(&near).is_ok() {
        format!("write {near}")
    } else {
        "write it as name, name=version, name>=1.2,<2 or channel::name=version".to_owned()
    };
    findings.push(Finding::new(Rule::BadPackage, loc, message).hint(hint));
    false
}

/// `# platform: linux-64`, which explicit lists carry.
fn platform_of(file: &str, text: &str, findings: &mut Vec<Finding>) -> Option<At<String>> {
    for (number, line) in text.lines().enumerate() {
        let Some(value) = line.strip_prefix('#').and_then(|rest| rest.trim_start().strip_prefix("platform:")) else {
            continue;
        };
        let value = value.trim();
        let loc = Loc::new(file, number + 1, line.chars().count() - value.chars().count() + 1);
        if value.parse::<rattler_conda_types::Subdir>().is_ok() {
            return Some(At { loc, value: value.to_owned() });
        }
        let message = format!("'{value}' is no platform");
        findings.push(Finding::new(Rule::BadPackage, &loc, message).hint("for example: # platform: linux-64"));
    }
    None
}

/// The text of an environment asked for by words: the same words always make the same text.
pub fn compose(wishes: &[String], channels: &[String], platform: Option<&str>) -> String {
    let at = |value: &str| At { loc: Loc::new("", 1, 1), value: value.to_owned() };
    let all = |words: &[String]| words.iter().map(|word| at(word)).collect::<Vec<_>>();
    let made = Environment::empty(Content::Wishes(all(wishes)));
    Environment { channels: all(channels), platform: platform.map(at), ..made }.to_yaml()
}

impl Environment {
    /// As a file of an environment, whatever it was read from; of explicit lists and lock files only what is beside
    /// the packages.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        if let Some(platform) = &self.platform {
            text.push_str(&format!("# platform: {}\n", platform.value));
        }
        let list = |text: &mut String, indent: &str, items: &[At<String>]| {
            items.iter().for_each(|at| text.push_str(&format!("{indent}- {}\n", scalar(&at.value))));
        };
        if !self.channels.is_empty() {
            text.push_str("channels:\n");
            list(&mut text, "  ", &self.channels);
        }
        let wishes = if let Content::Wishes(wishes) = &self.content { wishes.as_slice() } else { &[] };
        if !wishes.is_empty() || !self.pip.is_empty() {
            text.push_str("dependencies:\n");
            list(&mut text, "  ", wishes);
        }
        if !self.pip.is_empty() {
            text.push_str("  - pip:\n");
            list(&mut text, "    ", &self.pip);
        }
        if !self.variables.is_empty() {
            text.push_str("variables:\n");
            for (name, value) in &self.variables {
                text.push_str(&format!("  {name}: {}\n", serde_json::to_string(value).unwrap_or_default()));
            }
        }
        text
    }
}

/// A word as YAML: plain where nobody can take it for something else.
fn scalar(word: &str) -> String {
    let plain = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "._=-+/".contains(c))
        && !matches!(
            word.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if plain { word.to_owned() } else { serde_json::to_string(word).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        read("f", text, &mut findings);
        findings.iter().map(|finding| finding.to_string().lines().next().unwrap_or_default().to_owned()).collect()
    }

    fn wishes(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        let environment = read("f", text, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        match environment.content {
            Content::Wishes(wishes) => wishes.into_iter().map(|at| at.value).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_kinds_are_told_by_what_is_in_them() {
        assert_eq!(
            wishes("numpy>=1.26\n# a comment\n\nbioconda::samtools=1.22  # why\n"),
            ["numpy>=1.26", "bioconda::samtools=1.22"]
        );
        assert_eq!(
            wishes("name: x\ndependencies:\n  - numpy >=1.26\n  - \"python=3.12\"\n"),
            ["numpy >=1.26", "python=3.12"]
        );
        assert_eq!(wishes("dependencies: [a, 'b=1']\n"), ["a", "b=1"]);
        let mut findings = Vec::new();
        let hex = "0".repeat(64);
        let text = format!("# platform: linux-64\n@EXPLICIT\nhttps://h/c/linux-64/zlib-1.3-h1_0.conda#sha256:{hex}\n");
        let explicit = read("f", &text, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(explicit.platform.unwrap().value, "linux-64");
        let Content::Explicit(archives) = explicit.content else { panic!() };
        assert_eq!(archives[0].value.url.as_str(), "https://h/c/linux-64/zlib-1.3-h1_0.conda");
        assert_eq!(archives[0].value.sha256.as_deref(), Some(hex.as_str()));
        let lock = read("f", "version: 6\nenvironments: {}\npackages: []\n", &mut findings);
        assert_eq!(lock.content, Content::Lock);
    }

    #[test]
    fn an_environment_file_says_everything_that_conda_reads() {
        let text = "name: lab\nchannels:\n  - bioconda\n  - nodefaults\ndependencies:\n  - pip\n  - python=3.12\n  \
                    - pip:\n    - requests==2.32\n    - six @ https://h/six.whl\nvariables:\n  LAB: 'a b'\n  N: 3\n";
        let mut findings = Vec::new();
        let environment = read("f", text, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(environment.channels.iter().map(|at| at.value.as_str()).collect::<Vec<_>>(), ["bioconda"]);
        assert_eq!(environment.channels[0].loc.to_string(), "f:3:5");
        assert_eq!(
            environment.pip.iter().map(|at| at.value.as_str()).collect::<Vec<_>>(),
            ["requests==2.32", "six @ https://h/six.whl"]
        );
        assert_eq!(environment.variables, [("LAB".into(), "a b".into()), ("N".into(), "3".into())]);
    }

    #[test]
    fn bad_input_is_told_with_its_place() {
        for (text, wanted) in [
            ("", "f:1:1: error[OVL062]: f names no packages"),
            ("name: x\n", "f:1:1: error[OVL062]: f names no packages"),
            ("numpy\nsci py<\n", "f:2:1: error[OVL061]: 'sci py<' is no specification of a package"),
            ("numpy*\n", "f:1:1: error[OVL061]: 'numpy*' is no specification"),
            ("dependencies:\n  - numpy\n  - a>=\n", "f:3:5: error[OVL061]: 'a>=' is no specification"),
            ("dependencies:\n  - numpy\n - x\n", "f:3:"),
            ("dependencies: 3\n", "f:1:1: error[OVL060]: dependencies: is to be a list"),
            ("dependencies:\n  - a\n  - 3.12\n", "f:3:5: error[OVL060]: 3.12 is a number"),
            ("dependencies:\n  - a\nplatforms: [linux-64]\n", "f:3:1: warning[OVL063]: platforms: is no key"),
            ("dependencies:\n  - a\nprefix: /home/x\n", "f:3:1: warning[OVL063]: prefix: is left out"),
            ("dependencies:\n  - a  # [linux]\n", "f:2:8: warning[OVL064]: '# [linux]' is only a comment here"),
            ("dependencies:\n  - sel(linux): a\n", "f:2:5: error[OVL060]: 'sel(linux):' is not understood"),
            ("dependencies:\n  - npm:\n    - x\n", "f:2:5: error[OVL060]: 'npm:' is not understood"),
            ("dependencies:\n  - pip:\n    - x\n", "f:2:5: warning[OVL065]: pip: without pip itself"),
            ("channels: [defaults]\ndependencies: [a]\n", "f:1:12: warning[OVL063]: 'defaults' is left out"),
            ("channels: ['https://u:p@h/c']\ndependencies: [a]\n", "f:1:13: error[OVL033]: a password in the address"),
            (
                "dependencies:\n  - pip\n  - pip:\n    - -r more.txt\n",
                "f:4:7: error[OVL061]: pip: '-r' names a file beside this one",
            ),
            ("dependencies:\n  - pip\n  - pip:\n    - -e .\n", "f:4:7: error[OVL061]: pip: '-e' names a file"),
            ("dependencies:\n  - pip\n  - pip:\n    - ./here\n", "f:4:7: error[OVL061]: pip: './here' is a path"),
            ("@EXPLICIT\nhttps://u:geheim@h/c/linux-64/z-1-0.conda\n", "f:2:1: error[OVL033]: a password in"),
            ("@EXPLICIT\nhttps://h/t/geheim/c/linux-64/z-1-0.conda\n", "f:2:1: error[OVL033]: a password in"),
            ("variables:\n  9X: a\ndependencies: [a]\n", "f:2:3: error[OVL060]: '9X' cannot be a variable's name"),
            ("dependencies: [a]\ndependencies: [b]\n", "f:2:1: error[OVL060]: "),
            ("@EXPLICIT\nzlib-1.3-0.conda\n", "f:2:1: error[OVL061]: 'zlib-1.3-0.conda' is no address of a package"),
            ("@EXPLICIT\nhttps://h/linux-64/zlib.conda\n", "f:2:1: error[OVL061]: "),
            ("@EXPLICIT\nhttps://h/linux-64/z-1-0.conda#12\n", "f:2:32: error[OVL061]: '12' is no digest"),
            ("# platform: amiga\n@EXPLICIT\n", "f:1:13: error[OVL061]: 'amiga' is no platform"),
        ] {
            let all = told(text);
            assert!(all.iter().any(|line| line.starts_with(wanted)), "{text:?}: wanted {wanted:?}, got {all:?}");
        }
    }

    #[test]
    fn words_of_the_command_line_make_a_text_that_is_read_back() {
        let words = ["python>=3.10,<3.13".to_owned(), "numpy".into(), "bioconda::samtools=1.22".into(), "y".into()];
        let text = compose(&words, &["file:///srv/my channel".into()], Some("linux-64"));
        assert!(text.contains("  - numpy\n") && text.contains("  - \"y\"\n"), "{text}");
        assert_eq!(wishes(&text), words);
        let environment = read("f", &text, &mut Vec::new());
        assert_eq!(environment.channels[0].value, "file:///srv/my channel");
        assert_eq!(environment.platform.unwrap().value, "linux-64");
        let text = "channels:\n  - c\ndependencies:\n  - pip\n  - pip:\n    - a==1\nvariables:\n  N: \"a: b\"\n";
        assert_eq!(read("f", text, &mut Vec::new()).to_yaml(), text);
    }
}
