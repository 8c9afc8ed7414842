//! Job scripts below their directives, the same for every scheduler that runs one: comments, variables, directory,
//! output, command. Nothing a user wrote can become a line of its own here.

use std::path::Path;

use super::pattern::{self, Piece};
use super::{Batch, Job};
use crate::model::resources::{Extra, Figure, Resources, Scheduler, Source};
use crate::recipe::values::is_variable;

/// A word quoted for bash; control characters are escaped, so that it never holds a line end: LSF reads `#BSUB` lines
/// and its own end mark in the whole script.
pub fn quote(word: &str) -> String {
    if !word.chars().any(char::is_control) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut text = String::from("$'");
    for c in word.chars() {
        match c {
            '\'' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() && c.is_ascii() => text.push_str(&format!("\\{:03o}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('\'');
    text
}

/// Where a job script sends what it prints, as bash words.
pub struct Redirect {
    /// Standard output.
    pub output: String,
    /// Standard error; None: the same.
    pub error: Option<String>,
    /// Whether they are appended to: output, then error.
    pub append: (bool, bool),
}

/// How a scheduler's job script knows itself, as bash words.
pub struct Own {
    /// The job's id.
    pub job: &'static str,
    /// The same for a task of an array: each has another one.
    pub task: &'static str,
    /// The id of the whole array.
    pub array: &'static str,
    /// The number of the task.
    pub index: &'static str,
}

/// The redirection of a user's script: its patterns as bash words.
pub fn redirect(job: &Job, batch: &Batch, own: &Own) -> Redirect {
    let word = |file: &Path| {
        // Variables stand in double quotes, everything else in single ones.
        pattern::fill(&pattern::parse(&path(file)), &|piece| match piece {
            Piece::Text(text) => Some(quote(text)),
            Piece::Job if batch.is_array() => Some(format!("\"{}\"", own.task)),
            Piece::Job => Some(format!("\"{}\"", own.job)),
            Piece::Array => Some(format!("\"{}\"", own.array)),
            Piece::Index => Some(format!("\"{}\"", own.index)),
            Piece::Name => Some(quote(&job.name)),
            Piece::User => Some("\"${USER}\"".to_owned()),
            Piece::Other('N') => Some("\"${HOSTNAME}\"".to_owned()),
            Piece::Other(_) => None,
        })
    };
    let append = (batch.share(&job.output), batch.error.as_deref().is_some_and(|error| batch.share(error)));
    Redirect { output: word(&job.output), error: batch.error.as_deref().map(word), append }
}

/// The lines below the directives. `redirect` is a bash word for the output file, where the scheduler's own way of
/// writing output shows it only when the job is over.
pub fn body(job: &Job, redirect: Option<Redirect>, notes: &mut Vec<String>) -> String {
    let mut text = String::from("\n");
    if let Some(umask) = job.batch.as_ref().and_then(|batch| batch.umask.as_deref())
        && umask.bytes().all(|b| b.is_ascii_digit())
    {
        text.push_str(&format!("umask {umask}\n"));
    }
    for comment in &job.comments {
        for line in comment.split(['\n', '\r']) {
            text.push_str(&comment_line(line));
        }
    }
    for (name, value) in &job.env {
        if is_variable(name) && !value.contains('\0') {
            text.push_str(&format!("export {name}={}\n", quote(value)));
        } else {
            notes.push(format!("the variable {name:?} cannot be passed to a job"));
        }
    }
    if let Some(Redirect { output, error, append }) = redirect {
        let to = |append| if append { ">>" } else { ">" };
        let error = error.map_or_else(|| "2>&1".to_owned(), |error| format!("2{}{error}", to(append.1)));
        text.push_str(&format!("exec {}{output} {error}\n", to(append.0)));
    }
    text.push_str(&format!("cd {} || exit 1\n", quote(&path(&job.cwd))));
    let words: Vec<String> = job.argv.iter().map(|word| quote(word)).collect();
    text.push_str(&format!("exec {}\n", words.join(" ")));
    text
}

/// A line of a comment, which no scheduler takes for a directive.
pub fn comment_line(line: &str) -> String {
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.is_empty() {
        return "#\n".to_owned();
    }
    // LSF takes `# BSUB` for a directive.
    let directive = ["BSUB", "SBATCH", "PBS"].iter().any(|word| line.trim_start_matches(['#', ' ']).starts_with(word));
    format!("# {}{line}\n", if directive { ". " } else { "" })
}

/// A path as text. Job scripts are text; a path that is not UTF-8 loses its bytes here and is not found by the job.
pub fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The output file of a build: `%j` becomes the value of `variable`.
pub fn output_word(job: &Job, variable: &str) -> Redirect {
    let pieces: Vec<String> = path(&job.output).split("%j").map(quote).collect();
    Redirect { output: pieces.join(&format!("\"${{{variable}}}\"")), error: None, append: (true, true) }
}

/// Who said it, for notes; what nobody said needs no note.
pub fn place(source: &Source) -> String {
    match source {
        Source::Directive { at, .. } => at.clone(),
        other => other.to_string(),
    }
}

/// A note that a figure cannot be said in this dialect.
pub fn left_out<T>(what: &str, figure: &Figure<T>, scheduler: Scheduler) -> String {
    format!("{what} cannot be said to {scheduler} and is left out ({})", place(&figure.source))
}

/// The extras of this dialect; those of others become notes.
pub fn own_extras<'a>(resources: &'a Resources, scheduler: Scheduler, notes: &mut Vec<String>) -> Vec<&'a Extra> {
    let mut own = Vec::new();
    for extra in &resources.extra {
        if extra.scheduler == scheduler {
            own.push(extra);
        } else {
            let (words, whose) = (extra.words.join(" "), extra.scheduler);
            notes.push(format!("{words} is {whose}'s and is left out for {scheduler} ({})", extra.at));
        }
    }
    own
}
