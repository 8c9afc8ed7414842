//! Definition files as they are written, and as they should not be.

use super::*;
use crate::recipe::finding::Rule;

fn parsed(text: &str, given: &[(&str, &str)]) -> (Definition, Vec<String>) {
    let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut findings = Vec::new();
    let definition = read("x.def", text, &given, &mut findings);
    let lines = findings.iter().map(|finding| format!("{}:{} {}", finding.loc.line, finding.loc.col, finding.message));
    (definition, lines.collect())
}

const WHOLE: &str = "#WHATIS:a test
# a comment
Bootstrap: docker
From: debian:{{ suite }}   # which
Stage: build
%arguments
    suite=trixie
    both={{suite}}-{{ other }}
    other = x
%files
    a.txt
    \"b c.txt\" /opt/b
    # not this
%post -c /bin/bash  # why
    echo {{ both }} # {{ nothing }}
    echo {{suite}}

BOOTSTRAP: localimage
from: base.sif
Include: one \\
  two
%files from build
    /x/*.so /lib/
%labels
    A a value
    B
%runscript
    exec x
%appinstall foo
    make
%apprun foo
    exec foo
%runscript
    exit 1
";

#[test]
fn a_definition_is_understood() {
    let (definition, findings) = parsed(WHOLE, &[("suite", "bookworm")]);
    assert_eq!(findings, Vec::<String>::new());
    let [build, last] = definition.stages.as_slice() else { panic!("{definition:?}") };
    assert_eq!(
        (build.agent, build.header("from"), build.name.as_deref()),
        (Agent::Docker, Some("debian:bookworm"), Some("build"))
    );
    assert_eq!((build.loc.line, build.place("from").line), (3, 4));
    let post = build.script("post").unwrap();
    assert_eq!(post.args, "-c /bin/bash");
    assert_eq!(post.text, "    echo bookworm-x # {{ nothing }}\n    echo bookworm\n\n");
    let files: Vec<(String, String, usize)> = build.files().into_iter().map(|f| (f.source, f.target, f.line)).collect();
    assert_eq!(files, [("a.txt".into(), String::new(), 11), ("b c.txt".into(), "/opt/b".into(), 12)]);
    assert_eq!(last.files()[0].stage.as_deref(), Some("build"));
    assert_eq!(last.header("include"), Some("one two"));
    assert_eq!(
        last.labels().into_iter().collect::<Vec<_>>(),
        [("A".into(), "a value".into()), ("B".into(), String::new())]
    );
    assert_eq!(last.script("runscript").unwrap().text, "    exec x\n    exit 1\n");
    assert_eq!(last.apps(), ["foo"]);
    assert_eq!(last.app_script("foo", "apprun").unwrap().text, "    exec foo\n");
    assert!(definition.used.contains("both") && definition.used.contains("other"));
    assert!(
        definition.text.contains("From: debian:bookworm") && definition.text.lines().count() == WHOLE.lines().count()
    );
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = "Bootstrap: dockre
From: x
Bootstrap: docker
Fron: y
nothing
%poste
  one
%files from later
  a b c
%post -c
  {{ who }} {{ who }}
 %labels
%apprun
Bootstrap: debootstrap
Stage: later
%arguments
  bad
";
    let (_, findings) = parsed(text, &[]);
    let expected = [
        "1:1 there is no agent 'dockre'",
        "11:3 the argument who has no value",
        "6:1 there is no section %poste",
        "12:2 %labels does not begin its line",
        "13:1 %apprun names no app",
        "4:1 there is no header 'fron'",
        "5:1 'nothing' is no header",
        "17:3 no NAME=VALUE",
        "3:1 Bootstrap: docker needs From:",
        "8:1 the stage later comes later, in line 14",
        "9:1 3 words: only the first two count",
        "10:1 %post -c names no program",
        "14:1 Bootstrap: debootstrap needs OSVersion:",
        "14:1 Bootstrap: debootstrap needs MirrorURL:",
    ];
    assert_eq!(findings, expected);
}

#[test]
fn hostile_text_ends_in_findings() {
    for text in
        ["%post\nBootstrap:", "Bootstrap:\n", " Bootstrap: docker\n", "%", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "x"]
    {
        let (_, findings) = parsed(text, &[]);
        assert!(!findings.is_empty(), "{text:?}");
    }
    for text in
        ["Bootstrap: scratch\n%files\n\"\n", "Bootstrap: scratch\n%post\n{{ {{{{x}} }}\n", "Bootstrap: scratch\\\n\\\n"]
    {
        let _ = parsed(text, &[("x", "{{x}}")]);
    }
    let (definition, _) = parsed("Bootstrap: scratch\n%post\n echo {{x}}\n", &[("x", "{{x}}\n%post")]);
    let text = definition.stages[0].script("post").unwrap().text;
    assert!(text.lines().count() == 1 && definition.stages[0].sections.len() == 1, "{text}");
}

#[test]
fn comments_alone_are_no_definition() {
    let mut findings = Vec::new();
    read("x.def", "# nothing\n", &Arguments::new(), &mut findings);
    assert_eq!(findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Rule::DefHeader]);
}
