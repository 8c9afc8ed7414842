//! Where headers and directives stand, what is almost one, and bytes that are no script.

use super::*;
use crate::recipe::parse;

fn block(text: &str) -> (Scan, Vec<String>) {
    let mut findings = Vec::new();
    let scan = scan("r", text, &mut findings);
    (scan, findings.iter().map(|f| format!("{}:{} {}", f.loc.line, f.loc.col, f.rule.id())).collect())
}

fn words(text: &str) -> Vec<(usize, usize, String)> {
    let (scan, _) = block(text);
    scan.directives.iter().flat_map(|d| d.words.iter().map(|(loc, w)| (loc.line, loc.col, w.clone()))).collect()
}

#[test]
fn headers_are_the_comments_before_the_code() {
    let (scan, findings) =
        block("#!/bin/bash\n#WHATIS: a  text \n\n# plain\n#DEP: samtools/1.22\n#TARGET:x/{v}\nset -e\n#DEP:late/1\n");
    let seen: Vec<_> = scan.headers.iter().map(|h| (h.word.as_str(), h.value.as_str(), h.at.line, h.at.col)).collect();
    assert_eq!(seen, [("WHATIS", "a  text", 2, 10), ("DEP", "samtools/1.22", 5, 7), ("TARGET", "x/{v}", 6, 9)]);
    assert_eq!((scan.code, findings.len()), (7, 0));
}

#[test]
fn what_is_almost_a_header_is_reported_where_it_stands() {
    for (line, finding) in [
        ("#DEP samtools/1.22", "1:1 OVL010"),
        ("  #DEP:samtools/1.22", "1:3 OVL011"),
        ("#DEPS:samtools/1.22", "1:1 OVL012"),
        ("#dep:samtools/1.22", "1:1 OVL017"),
        ("# DEP:samtools/1.22", "1:1 OVL017"),
        ("#SBATCH--mem=1G", "1:1 OVL017"),
        (" #SBATCH --mem=1G", "1:2 OVL017"),
        ("#SBATCH", "1:1 OVL020"),
        ("#SBATCH --comment=\"x", "1:19 OVL020"),
    ] {
        assert_eq!(block(line).1, [finding], "{line}");
    }
    for line in [
        "#####",
        "# TARGET directory is made by ovl",
        "#TARGET directory is made by ovl",
        "#TODO: x",
        "# - NOTE: y",
        "#",
        "#é:x",
        "#http://x",
    ] {
        assert_eq!(block(line).1, Vec::<String>::new(), "{line}");
    }
}

#[test]
fn directives_are_split_as_their_schedulers_do() {
    assert_eq!(
        words("#SBATCH -c8 --comment=a#b -J \"a b\" # -n 4\n"),
        [(1, 9, "-c8".into()), (1, 13, "--comment=a#b".into()), (1, 27, "-J".into()), (1, 30, "a b".into())]
    );
    assert_eq!(
        words("  #PBS -l \\\n#PBS walltime=1\n#PBS-N x\n"),
        [(1, 8, "-l".into()), (2, 6, "walltime=1".into()), (3, 5, "-N".into()), (3, 8, "x".into())]
    );
    assert_eq!(
        words(" # BSUB -R \"rusage[mem=1] select[a]\" -J 'it''s' -o a\\b\n"),
        [
            (1, 9, "-R".into()),
            (1, 12, "rusage[mem=1] select[a]".into()),
            (1, 38, "-J".into()),
            (1, 41, "its".into()),
            (1, 49, "-o".into()),
            (1, 52, "a\\b".into())
        ]
    );
    let (scan, findings) = block("#BSUB -P \\\nproj\necho\n");
    assert_eq!((scan.directives[0].words[1].1.as_str(), &findings[..]), ("proj", &["2:1 OVL020".to_owned()][..]));
    assert!(block("# PBS -N x\n#pbs -N x\n").0.directives.is_empty());
    assert!(block("echo\n#SBATCH -c 1\n").0.directives.is_empty());
}

fn first(bytes: &[u8]) -> String {
    parse("r", bytes)
        .findings
        .iter()
        .find(|f| f.rule != crate::recipe::Rule::NoInstall)
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[test]
fn bytes_that_are_no_script_say_so() {
    assert_eq!(first(b""), "r:1:1: error[OVL001]: the recipe is empty");
    assert_eq!(first(b" \n\n"), "r:1:1: error[OVL001]: the recipe is empty");
    assert!(
        first("#WHATIS:é\nä\u{0}".as_bytes()).starts_with("r:2:2: error[OVL003]"),
        "{}",
        first("é\nä\u{0}".as_bytes())
    );
    let latin1 = first("#!/bin/sh\né".as_bytes().strip_suffix(b"\xa9").unwrap());
    assert!(latin1.starts_with("r:2:1: error[OVL002]: byte 0xc3 is not UTF-8"), "{latin1}");
    let crlf = parse("r", b"#DEP:a/1\r\n#WHATIS:x\r\ninstall() { :; }\r\n");
    assert_eq!(
        crlf.findings[0].to_string(),
        "r:1:9: error[OVL004]: 3 lines end in CRLF (\\r\\n), from line 1 on\n  hint: sed -i 's/\\r$//' r (or dos2unix r)"
    );
    assert_eq!(crlf.spec.unwrap().deps[0].value.to_string(), "a/1");
    assert!(first(b"\xef\xbb\xbf#!/bin/sh\n").contains("OVL006"));
    let long = [b"#WHATIS:".as_slice(), &vec![b'x'; 1 << 20], b"\ninstall() { :; }\n"].concat();
    assert_eq!(
        first(&long).split('\n').next().unwrap(),
        "r:1:1: error[OVL005]: the line has 1048584 characters (at most 131072)"
    );
}
