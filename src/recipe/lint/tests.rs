//! Each rule on the smallest recipe that breaks it.

use crate::recipe::{Rule, parse};

const GOOD: &str = "install() {\n  mkdir -p \"$target_dir/bin\"\n}\n";

/// Findings as `line:col id`.
fn ids(text: &str) -> Vec<String> {
    parse("r", text.as_bytes())
        .findings
        .iter()
        .map(|f| format!("{}:{} {}", f.loc.line, f.loc.col, f.rule.id()))
        .collect()
}

fn with(headers: &str, body: &str) -> Vec<String> {
    ids(&format!("#WHATIS:x\n{headers}\n{body}"))
}

#[test]
fn a_good_recipe_has_no_findings() {
    let headers = "#DEP:samtools/1.22>=1.16\n#ENV:PATH=$app_root/bin:$PATH\n#ENVNOTE:where\n#SBATCH -c 4\n#TIMEOUT:2h";
    assert_eq!(with(headers, GOOD), Vec::<String>::new());
    assert_eq!(
        with(
            "",
            "main() { install \"$@\"; }\ninstall() { command install -m 755 a b; rm -rf \"$tmp_dir/x\"; }\nmain\nexit 0\n"
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        with("", "fetch() { curl -o x y; }\ninstall() { cp \"$src_dir/x\" .; cat ~/.x; }\n"),
        Vec::<String>::new()
    );
    assert_eq!(with("#NET:host", "install() { curl -o x y; }\n"), Vec::<String>::new());
}

#[test]
fn header_rules_find_what_they_are_for() {
    for (headers, expected) in [
        ("#DEP:star/1\n#DEP:star/2", "3:6 OVL016"),
        ("#DEP:star/1\n#BUILDDEP:star/1", "3:1 OVL016"),
        ("#DEP:star", "2:6 OVL014"),
        ("#DEP:", "2:6 OVL014"),
        ("#DEP:star/1<2", "2:6 OVL014"),
        ("#DEP:a/1 b/2", "2:6 OVL014"),
        ("#DEP:star/1-2_3", "2:6 OVL018"),
        ("#WHATIS:again", "2:1 OVL015"),
        ("#ENV:1X=2", "2:6 OVL014"),
        ("#ENV:X", "2:6 OVL014"),
        ("#ENV:PATH=$app_root/bin", "2:1 OVL031"),
        ("#ENV:X=$(id)", "2:1 OVL032"),
        ("#ENV:X=`id`", "2:1 OVL032"),
        ("#ENV:X=\"a b\"", "2:1 OVL032"),
        ("#ENVNOTE:x", "2:1 OVL030"),
        ("#ENV:API_TOKEN=abc", "2:1 OVL033"),
        ("#ARG:DB_PASSWORD=", "2:1 OVL033"),
        ("#ARG:X=ghp_0123456789abcdefghij", "2:1 OVL033"),
        ("#SRC:https://example.org/x.tar.gz", "2:1 OVL034"),
        ("#SRC:x.tar.gz", "2:6 OVL014"),
        ("#SBATCH -c 1\n#PBS -N x", "3:1 OVL022"),
        ("#SBATCH: -c 1", "2:1 OVL020"),
        ("#TYPE:thing", "2:7 OVL014"),
        ("#NET:proxy", "2:6 OVL014"),
        ("#TIMEOUT:1:30", "2:10 OVL014"),
        ("#TIMEOUT:0", "2:10 OVL014"),
        ("#TIMEOUT:soon", "2:10 OVL014"),
        ("#VERIFY:../x", "2:9 OVL014"),
        ("#VERIFY:x 12", "2:9 OVL014"),
        ("#OVL:2", "2:6 OVL014"),
        ("#TARGET:a/{v}\n#PL:v:9-1", "3:5 OVL014"),
        ("#TAG:a,,b", "2:6 OVL014"),
        ("#NEEDS:cargo>=", "2:8 OVL014"),
        ("#LABEL:x", "2:8 OVL014"),
        ("#SECRET:a b", "2:9 OVL014"),
        ("#GIT:https://example.org/x", "2:6 OVL014"),
    ] {
        assert_eq!(with(headers, GOOD), [expected], "{headers}");
    }
    assert_eq!(ids(GOOD), ["1:1 OVL040"]);
    for fine in [
        "#ENV:TOKEN_FILE=$app_root/x",
        "#ENV:KEYBOARD=us",
        "#ENV:X=a#b",
        "#ARG:MONKEY=1",
        "#ENV:X=$TOKEN",
        "#DEP:a/1 # why",
    ] {
        assert_eq!(with(fine, GOOD), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn body_rules_find_what_they_are_for() {
    for (body, expected) in [
        ("install() { install -m 755 a b; }", "3:13 OVL050"),
        ("install() { sub; }\nsub() { install -d x; }", "4:9 OVL050"),
        ("install() { sudo make install; }", "3:13 OVL051"),
        ("install() { apt-get update; }", "3:13 OVL051"),
        ("install() { mkdir -p ~/bin; }", "3:22 OVL052"),
        ("install() { echo x >> \"$HOME/.bashrc\"; }", "3:23 OVL052"),
        ("install() { rm -rf $target_dir; }", "3:20 OVL053"),
        ("install() { rm -r \"$a\" ${tmp_dir}/x; }", "3:24 OVL053"),
        ("install() { get; }\nget() { wget x; }", "4:9 OVL054"),
        ("install() { x=$(curl -s y); }", "3:17 OVL054"),
        ("install() { pip install numpy; }", "3:13 OVL054"),
        ("install() { git clone x; }", "3:13 OVL054"),
        ("install() { :; }\nexit 0", "4:1 OVL055"),
        ("install() { echo \"x; }", "3:18 OVL056"),
        ("echo x", "1:1 OVL007"),
        ("install() { :; }\n#DEP:x/1", "4:1 OVL013"),
        ("install() {\n#SBATCH -c 1\n:; }", "4:1 OVL021"),
    ] {
        let found = with("", &format!("{body}\n"));
        assert!(found.contains(&expected.to_owned()), "{body}: {found:?}");
        assert_eq!(found.len(), 1, "{body}: {found:?}");
    }
    assert_eq!(with("", "install() { pip install --no-index x; cat <<E\n#DEP:x/1\nE\n}\n"), Vec::<String>::new());
}

#[test]
fn allow_silences_its_rule_on_its_line_and_the_next() {
    assert_eq!(with("#DEPS:x/1 # ovl:allow OVL012", GOOD), Vec::<String>::new());
    assert_eq!(with("# ovl:allow OVL033, OVL012\n#ENV:API_TOKEN=abc", GOOD), Vec::<String>::new());
    assert_eq!(with("# ovl:allow OVL012\n#ENV:API_TOKEN=abc", GOOD), ["3:1 OVL033"]);
    assert_eq!(with("# ovl:allow OVL014\n#DEP:x", GOOD), ["3:6 OVL014"], "what cannot be read stays an error");
    let parsed = parse("r", b"#WHATIS:x\n#DEP:a/1 # ovl:allow OVL016\ninstall() { :; }\n");
    assert_eq!(parsed.spec.unwrap().deps[0].value.to_string(), "a/1");
    assert_eq!(with("", "install() { apt-get x; } # ovl:allow OVL051\n"), Vec::<String>::new());
}

#[test]
fn all_findings_come_at_once_and_read_well() {
    let text = "#DEP samtools/1.22\n  #ENV:X=1\n#WHATS:x\n#ENV:PATH=/opt\ninstall() {\n  wget x\n}\n";
    let all: Vec<String> = parse("my/recipe", text.as_bytes()).findings.iter().map(ToString::to_string).collect();
    let expected = "\
my/recipe:1:1: error[OVL010]: #DEP has no colon, so it is only a comment
  hint: write #DEP:samtools/1.22
my/recipe:1:1: hint[OVL040]: no #WHATIS: says what this is
  hint: add #WHATIS:one line
my/recipe:2:3: error[OVL011]: #ENV: is indented, so it is only a comment
  hint: begin it in the first column
my/recipe:3:1: warning[OVL012]: #WHATS: is no header ovl knows; it is not read
  hint: did you mean #WHATIS:?
my/recipe:4:1: warning[OVL031]: this PATH hides every other program
  hint: #ENV:PATH=/opt:$PATH
my/recipe:6:3: warning[OVL054]: wget in install: it runs without network
  hint: move the download to fetch(), into $src_dir, or say #NET:host";
    assert_eq!(all.join("\n"), expected);
}

#[test]
fn the_table_in_the_docs_is_the_table_in_the_code() {
    let docs = include_str!("../../../docs/lint.md");
    let rows: Vec<&str> = docs.lines().filter(|line| line.starts_with("| OVL")).collect();
    let code: Vec<String> =
        Rule::ALL.iter().map(|rule| format!("| {} | {} | {} |", rule.id(), rule.severity(), rule.title())).collect();
    assert_eq!(rows.len(), code.len());
    for (row, rule) in rows.iter().zip(&code) {
        assert!(row.starts_with(rule.as_str()), "{row}\n{rule}");
        assert!(row.len() > rule.len() + 20, "{rule} has no description");
    }
    let mut sorted: Vec<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), Rule::ALL.len());
    assert!(Rule::ALL.windows(2).all(|pair| pair[0].id() < pair[1].id()));
}
