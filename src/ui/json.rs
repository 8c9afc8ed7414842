//! Progress as JSON lines on stderr, one event a line.

use crate::model::event::{Event, Listener};

/// Writes every event as one line of JSON.
pub struct Json;

impl Listener for Json {
    fn hear(&self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            super::tell(&line);
        }
    }
}
