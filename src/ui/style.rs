//! Colours, when they are wanted.

/// Paints text, or leaves it.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whether to paint.
    pub on: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For errors.
    pub fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// For warnings.
    pub fn yellow(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// For hints.
    pub fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// For success.
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }
}
