//! What a failed command means: a refusal, or that nobody knows.

use super::{Reply, Unanswered};

/// Most characters of a scheduler's words that are kept.
const LONGEST: usize = 600;

/// The scheduler's words on one line, without the prefixes programs put before them.
pub fn words(reply: &Reply) -> String {
    let clean = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| {
            let mut line = line.trim();
            for prefix in
                ["sbatch: ", "squeue: ", "scancel: ", "sacct: ", "qsub: ", "qstat: ", "qdel: ", "error: ", "ERROR: "]
            {
                line = line.strip_prefix(prefix).unwrap_or(line);
            }
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        });
        // HTCondor goes on at length about what else it might be; others say the same twice.
        let mut said: Vec<String> = Vec::new();
        for line in lines
            .filter(|line| !line.is_empty())
            .take_while(|line| line != "Extra Info:" && !line.starts_with("Extra Info: You probably"))
        {
            if !said.contains(&line) {
                said.push(line);
            }
        }
        said
    };
    let mut said = clean(&reply.stderr);
    if said.is_empty() {
        said = clean(&reply.stdout);
    }
    let text: String = said.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    match (text.is_empty(), reply.code) {
        (false, _) => text,
        (true, Some(code)) => format!("it said nothing and ended with exit code {code}"),
        (true, None) => "it said nothing and did not end by itself".to_owned(),
    }
}

/// Whether one of these phrases was said, without regard to case.
pub fn says(reply: &Reply, phrases: &[&str]) -> bool {
    let said = format!("{}\n{}", reply.stderr, reply.stdout).to_ascii_lowercase();
    phrases.iter().any(|phrase| said.contains(&phrase.to_ascii_lowercase()))
}

/// A failed submission. `lost` are the phrases after which there may be a job all the same.
pub fn submission(reply: &Reply, lost: &[&str]) -> Unanswered {
    match reply.code {
        None => Unanswered::Uncertain(words(reply)),
        Some(_) if says(reply, lost) => Unanswered::Uncertain(words(reply)),
        Some(0) => Unanswered::Uncertain(format!("no job id in the answer: {}", words(reply))),
        Some(_) => Unanswered::Refused(words(reply)),
    }
}

/// A failed query or order. `away` are the phrases of a scheduler that cannot be reached just now.
pub fn order(reply: &Reply, away: &[&str]) -> Unanswered {
    match reply.code {
        None => Unanswered::Uncertain(words(reply)),
        Some(_) if says(reply, away) => Unanswered::Uncertain(words(reply)),
        Some(_) => Unanswered::Refused(words(reply)),
    }
}

/// Not understood: the beginning of what was said.
pub fn odd(text: &str) -> Unanswered {
    let start: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    Unanswered::Odd(if start.trim().is_empty() { "an empty answer".to_owned() } else { start.trim().to_owned() })
}
