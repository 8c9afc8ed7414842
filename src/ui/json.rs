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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_have_fixed_names_and_fields() {
        let name = || "a/1".parse().unwrap();
        let told = |event: Event| serde_json::to_value(event).unwrap();
        assert_eq!(told(Event::Plan { total: 12 }), json!({"event": "plan", "total": 12}));
        assert_eq!(
            told(Event::Failed { name: name(), text: "no\nwhy".into(), seconds: 1.5 }),
            json!({"event": "failed", "name": "a/1", "text": "no\nwhy", "seconds": 1.5})
        );
        assert_eq!(
            told(Event::Skipped { name: name(), because: "it needs b/1".into() }),
            json!({"event": "skipped", "name": "a/1", "because": "it needs b/1"})
        );
        let line = serde_json::to_string(&Event::Output { name: name(), line: "a\nb".into() }).unwrap();
        assert!(!line.contains('\n'), "one event is one line: {line}");
    }
}
