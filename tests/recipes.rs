//! Recipes as people write them: those that ship with ovl, odd ones, and thousands of damaged ones.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ovl::model::name::Name;
use ovl::recipe::spec::{Choice, Kind};
use ovl::recipe::{Spec, parse};

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// All files below a directory, by their path in it, sorted.
fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, dir: &Path, into: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, into);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                into.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    let mut all = Vec::new();
    walk(root, root, &mut all);
    all.sort();
    all
}

#[test]
fn recipes_that_ship_are_without_findings_and_resolve() {
    let shipped = files(&dir("scripts"));
    let names: Vec<Name> = shipped.iter().map(|(name, _)| name.parse().unwrap()).collect();
    assert!(names.len() >= 6, "{names:?}");
    for (name, bytes) in &shipped {
        let (spec, findings) = parse(name, bytes).ready().unwrap();
        assert_eq!(findings, [], "{name}");
        assert_eq!(spec.unsupported(), [], "{name}");
        for dep in spec.deps.iter().chain(&spec.builddeps) {
            assert!(names.contains(&dep.value.name), "{name} needs {}, which does not ship", dep.value);
        }
    }
}

/// What stands in a spec, for reading.
fn show(spec: &Spec) -> String {
    let mut text = String::new();
    for dep in &spec.deps {
        writeln!(text, "dep {} {}", dep.loc, dep.value).unwrap();
    }
    for prompt in &spec.prompts {
        writeln!(text, "prompt {} {:?} secret={}", prompt.loc, prompt.text, prompt.secret).unwrap();
    }
    for directive in &spec.directives {
        let words: Vec<String> =
            directive.words.iter().map(|(loc, word)| format!("{}:{}={word}", loc.line, loc.col)).collect();
        writeln!(text, "{:?} {}", directive.marker, words.join(" ")).unwrap();
    }
    for (loc, word) in spec.unsupported() {
        writeln!(text, "unsupported {loc} {word}").unwrap();
    }
    let f = spec.functions;
    writeln!(text, "functions install={} install_app={} fetch={} check={}", f.install, f.install_app, f.fetch, f.check)
        .unwrap();
    writeln!(text, "calls_install={} tests_target_dir={}", spec.calls_install, spec.tests_target_dir).unwrap();
    text
}

/// What ovl says about each odd recipe stands beside it; OVL_ACCEPT=1 writes it anew.
#[test]
fn odd_recipes_are_read_as_written_beside_them() {
    for (name, bytes) in files(&dir("tests/recipes")).iter().filter(|(name, _)| !name.ends_with(".expected")) {
        let parsed = parse(name, bytes);
        let mut text: String = parsed.findings.iter().map(|finding| format!("{finding}\n")).collect();
        text += &parsed.spec.as_ref().map(show).unwrap_or_default();
        let beside = dir("tests/recipes").join(format!("{name}.expected"));
        if std::env::var_os("OVL_ACCEPT").is_some() {
            fs::write(&beside, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&beside).unwrap_or_default(), "{name}");
    }
}

#[test]
fn kinds_and_placeholders_are_values() {
    let bytes = fs::read(dir("tests/recipes/template-gencode")).unwrap();
    let spec = parse("t", &bytes).spec.unwrap();
    assert_eq!(spec.kind(&"salmon/1".parse().unwrap()), Kind::Data);
    let gencode = &spec.placeholders[0].value;
    let range = Choice::Range { from: 22, to: 47, width: 0 };
    assert_eq!((gencode.name.as_str(), gencode.sorted), ("gencode", true));
    assert_eq!(gencode.choices, [range, Choice::One("49".into())]);
    assert_eq!((&spec.placeholders[1].value.choices[2], spec.placeholders[1].value.sorted), (&Choice::Any, false));
    let plain = parse("t", b"install() { :; }").spec.unwrap();
    assert_eq!(plain.kind(&"a/b/1".parse().unwrap()), Kind::Data);
    assert_eq!(plain.kind(&"a/1".parse().unwrap()), Kind::App);
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides.max(1)).unwrap()).unwrap()
    }
}

/// Damages a recipe: bytes changed, pieces cut, doubled, moved, and pieces of syntax thrown in.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    const PIECES: &[&str] = &[
        "#",
        ":",
        "\n",
        "\r\n",
        "\\\n",
        "\"",
        "'",
        "`",
        "$(",
        ")",
        "${",
        "}",
        "{ ",
        "<<EOF\n",
        "#DEP:",
        "#SBATCH ",
        " #PBS ",
        "# BSUB ",
        "#ENV:",
        "=",
        ">=",
        "é",
        "\u{0}",
        "\u{feff}",
        "case x in ",
        "esac",
        "install() {",
        "#PL:a:1-99999999999",
        "((",
        "# ovl:allow OVL012",
        "\u{2028}",
        "🎯",
        "\t",
        ";;",
        "&&",
        "[[ ",
        "function ",
        "#TIMEOUT:99999999999h",
        "1!2+3",
    ];
    for _ in 0..=dice.roll(6) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + dice.roll(30)).min(bytes.len());
        match dice.roll(5) {
            0 if at < bytes.len() => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                let to = dice.roll(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            _ => drop(bytes.splice(at..at, PIECES[dice.roll(PIECES.len())].bytes())),
        }
    }
}

#[test]
fn damaged_recipes_are_read_without_panic_and_places_lie_in_the_text() {
    let mut seeds = files(&dir("scripts"));
    seeds.extend(files(&dir("tests/recipes")));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut built, mut refused) = (0, 0);
    for round in 0..4000 {
        let (name, mut bytes) = seeds[dice.roll(seeds.len())].clone();
        damage(&mut bytes, &mut dice);
        let parsed = parse("r", &bytes);
        let text = String::from_utf8_lossy(&bytes).replace('\u{feff}', "");
        let lines: Vec<&str> = text.split('\n').collect();
        for finding in &parsed.findings {
            let (line, col) = (finding.loc.line, finding.loc.col);
            let length = lines.get(line.wrapping_sub(1)).map_or(0, |line| line.chars().count());
            assert!(line <= lines.len() && col >= 1 && col <= length + 1, "round {round}, {name}: {finding}");
        }
        match parsed.ready() {
            Ok(_) => built += 1,
            Err(findings) => {
                assert!(findings.iter().any(ovl::recipe::Finding::is_error));
                refused += 1;
            }
        }
    }
    assert!(built > 200 && refused > 200, "{built} {refused}: the damage is too light or too heavy to show anything");
}
