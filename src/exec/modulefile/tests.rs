//! Whole files, and that whatever an overlay says stays text: both quotings are read back as their languages do.

use proptest::prelude::*;

use super::*;

fn var(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: value.into(), note: None }
}

fn module() -> Module {
    let vars = [
        var("SAMTOOLS_ROOT", "$app_root"),
        var("DATA", "${SAMTOOLS_ROOT}/share:$HOST_HAS_IT"),
        var("PERL5LIB", "$app_root/lib/perl5:$PERL5LIB"),
        var("MANPATH", "$MANPATH:$app_root/man"),
        var("PATH", "$app_root/bin:$PATH"),
        var("NOTE", "a \"quoted\" [exec id] ${x:-y} $(id) \\ {"),
        var("bad-name", "x"),
    ];
    Module {
        name: "samtools/1.22".parse().unwrap(),
        whatis: Some("reads \"alignments\"; [exit] }".into()),
        url: Some("https://example.org/?a=$b".into()),
        needs: vec!["htslib/1.22".parse().unwrap()],
        changes: Module::changes("/cnt/samtools/1.22", &vars),
        wrappers: Some("/m/samtools/.1.22.bin".into()),
    }
}

#[test]
fn variables_become_what_modules_can_undo() {
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let ((a, b), (c, d), (e, f), (g, h)) = (
        of("SAMTOOLS_ROOT", "/cnt/samtools/1.22"),
        of("DATA", "/cnt/samtools/1.22/share:"),
        of("PERL5LIB", "/cnt/samtools/1.22/lib/perl5"),
        of("MANPATH", "/cnt/samtools/1.22/man"),
    );
    let changes = module().changes;
    assert_eq!(changes[..4], [Change::Set(a, b), Change::Set(c, d), Change::Prepend(e, f), Change::Append(g, h)]);
    assert_eq!(changes.len(), 5, "PATH is the wrappers', and odd names are left out");
}

#[test]
fn a_file_for_lmod() {
    assert_eq!(
        module().text(Format::Lua),
        r#"-- -*- lua -*-
-- made by ovl module from samtools/1.22
help("samtools/1.22, an overlay run by ovl\nreads \"alignments\"; [exit] }\nhttps://example.org/?a=$b")
whatis("Name: samtools")
whatis("Version: 1.22")
whatis("Description: reads \"alignments\"; [exit] }")
whatis("URL: https://example.org/?a=$b")
family("samtools")
depends_on("htslib/1.22")
setenv("SAMTOOLS_ROOT", "/cnt/samtools/1.22")
setenv("DATA", "/cnt/samtools/1.22/share:")
prepend_path("PERL5LIB", "/cnt/samtools/1.22/lib/perl5")
append_path("MANPATH", "/cnt/samtools/1.22/man")
setenv("NOTE", "a \"quoted\" [exec id] y $(id) \\ {")
prepend_path("PATH", "/m/samtools/.1.22.bin")
"#
    );
}

#[test]
fn a_file_for_environment_modules() {
    assert_eq!(
        module().text(Format::Tcl),
        r#"#%Module1.0
# made by ovl module from samtools/1.22
proc ModulesHelp {} {
    puts stderr "samtools/1.22, an overlay run by ovl\nreads \"alignments\"; \[exit\] \}\nhttps://example.org/?a=\$b"
}
module-whatis "reads \"alignments\"; \[exit\] \}"
module-whatis "URL: https://example.org/?a=\$b"
conflict "samtools"
if {![is-loaded "htslib/1.22"]} { module load "htslib/1.22" }
prereq "htslib/1.22"
setenv SAMTOOLS_ROOT "/cnt/samtools/1.22"
setenv DATA "/cnt/samtools/1.22/share:"
prepend-path PERL5LIB "/cnt/samtools/1.22/lib/perl5"
append-path MANPATH "/cnt/samtools/1.22/man"
setenv NOTE "a \"quoted\" \[exec id\] y \$(id) \\ \{"
prepend-path PATH "/m/samtools/.1.22.bin"
"#
    );
}

/// Reads a string of Lua as its manual says; None when it does not end where the text ends.
fn lua_reads(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.strip_prefix('"')?.bytes().peekable();
    let mut out = Vec::new();
    loop {
        match bytes.next()? {
            b'"' => return bytes.next().is_none().then_some(out),
            b'\n' => return None,
            b'\\' => match bytes.next()? {
                b'n' => out.push(b'\n'),
                byte @ (b'"' | b'\\') => out.push(byte),
                digit @ b'0'..=b'9' => {
                    let rest = [bytes.next()?, bytes.next()?];
                    let number = [digit, rest[0], rest[1]].iter().fold(0u32, |sum, d| sum * 10 + u32::from(d - b'0'));
                    out.push(u8::try_from(number).ok()?);
                }
                _ => return None,
            },
            byte => out.push(byte),
        }
    }
}

/// Reads a quoted word of Tcl in a body between braces; None when something in it would be substituted, end the word
/// early, or count as a brace.
fn tcl_reads(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut out = String::new();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(out),
            '$' | '[' | ']' | '{' | '}' | '\n' => return None,
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                c @ ('"' | '\\' | '$' | '[' | ']' | '{' | '}') => out.push(c),
                _ => return None,
            },
            c => out.push(c),
        }
    }
}

proptest! {
    #[test]
    fn any_text_stays_text(text in "(?s:.*)|[\\x00-\\x7f]*|[\\[\\]{}$\\\\\"\n#;]*") {
        prop_assert_eq!(lua_reads(&lua::quoted(&text)), Some(text.clone().into_bytes()));
        prop_assert_eq!(tcl_reads(&tcl::quoted(&text)), Some(text));
    }
}
