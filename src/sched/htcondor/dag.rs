//! DAG files: HTCondor's only way of saying what runs after what.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::model::cmd::Cmd;

/// The submit description of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submit {
    /// A file; its path holds no blanks (relative to the DAG's directory).
    File(PathBuf),
    /// Its text, into the DAG itself; HTCondor 9.6 or later.
    Inline(String),
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagNode {
    /// Its name, made by `job_name`: letters, digits, `_` and `-`.
    pub name: String,
    /// Its job.
    pub submit: Submit,
    /// Names of the nodes that must have succeeded.
    pub parents: Vec<String>,
    /// Runs on the submit machine before it; when it fails, the node does. Words without blanks or quotes only.
    pub pre: Option<Cmd>,
}

/// Whether a word can stand in a DAG as it is.
pub fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// Whether a path or argument can: DAGMan splits at blanks, and its quotes cannot be relied on.
fn is_word(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "_-./:=@%+,~".contains(c))
}

/// The DAG file. DAGMan checks one only after it has started, and fails late; what it would not take is an error here.
pub fn dag(nodes: &[DagNode]) -> Result<String, String> {
    let mut text = String::new();
    let mut names = BTreeSet::new();
    for node in nodes {
        let reserved = ["PARENT", "CHILD", "ALL_NODES"].iter().any(|word| node.name.eq_ignore_ascii_case(word));
        if !is_plain(&node.name) || reserved {
            return Err(format!("'{}' cannot be the name of a DAG node", node.name));
        }
        if !names.insert(node.name.as_str()) {
            return Err(format!("there are two DAG nodes '{}'", node.name));
        }
    }
    for node in nodes {
        match &node.submit {
            Submit::File(path) => {
                let path = path.to_string_lossy();
                if !is_word(&path) {
                    return Err(format!("the path '{}' cannot stand in a DAG", path.escape_debug()));
                }
                text.push_str(&format!("JOB {} {path}\n", node.name));
            }
            Submit::Inline(inline) => {
                text.push_str(&format!("JOB {} {{\n", node.name));
                for line in inline.lines().filter(|line| line.trim() != "queue") {
                    if line.trim() == "}" {
                        return Err(format!("the description of '{}' holds a lone brace", node.name));
                    }
                    text.push_str(&format!("  {line}\n"));
                }
                text.push_str("}\n");
            }
        }
        if let Some(pre) = &node.pre {
            let words: Vec<String> = std::iter::once(&pre.program)
                .chain(&pre.args)
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            if let Some(bad) = words.iter().find(|word| !is_word(word)) {
                return Err(format!("the word '{}' cannot stand in a DAG", bad.escape_debug()));
            }
            text.push_str(&format!("SCRIPT PRE {} {}\n", node.name, words.join(" ")));
        }
    }
    for node in nodes.iter().filter(|node| !node.parents.is_empty()) {
        if let Some(missing) = node.parents.iter().find(|parent| !names.contains(parent.as_str())) {
            return Err(format!("'{}' waits for '{missing}', which is not in the DAG", node.name));
        }
        let parents: BTreeSet<&str> = node.parents.iter().map(String::as_str).collect();
        text.push_str(&format!("PARENT {} CHILD {}\n", parents.into_iter().collect::<Vec<_>>().join(" "), node.name));
    }
    Ok(text)
}
