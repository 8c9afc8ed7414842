//! Whether jobs could ever run: asked before anything is built or queued.

use super::script;
use super::submit::{SubmitError, Submitter};
use crate::sched::{Unanswered, limits};
use crate::sys::signal;

impl Submitter<'_> {
    /// Writes the job scripts of these steps and asks whether such jobs could ever run, once for every different kind
    /// of job. Returns what could not be said in the scheduler's words.
    pub fn prepare(&self, steps: &[usize]) -> Result<Vec<String>, SubmitError> {
        let mut known: Vec<String> = Vec::new();
        let mut notes = Vec::new();
        for &step in steps {
            for note in script::write(self, step)? {
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        let allowed = self.queue.dialect.limits().map(|cmd| self.queue.dialect.allowed(&self.queue.ask(&cmd)));
        for &step in steps {
            let resources = &self.dir.head.plan.steps[step].resources;
            if let Some(Err(text)) = allowed.as_ref().map(|allowed| limits::fits(resources, allowed)) {
                return Err(self.refused(step, format!("it could never run: {text}")));
            }
        }
        for &step in steps {
            let path = self.dir.script(step);
            let Some(cmd) = self.queue.dialect.test(&path) else { break };
            let kind = script::kind(&self.dir.head.plan.steps[step].resources);
            if known.contains(&kind) {
                continue;
            }
            known.push(kind);
            if signal::interrupted().is_some() {
                return Err(SubmitError::Interrupted);
            }
            match self.queue.dialect.tested(&self.queue.ask(&cmd)) {
                Err(Unanswered::Refused(text)) => return Err(self.refused(step, text)),
                // Better now than after an hour of building here.
                Err(Unanswered::Away(text) | Unanswered::Uncertain(text)) => return Err(self.away(text)),
                // What the probe could not find out, the submission will.
                Ok(()) | Err(Unanswered::Odd(_)) => {}
            }
        }
        Ok(notes)
    }
}
