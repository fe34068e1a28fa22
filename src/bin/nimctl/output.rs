//! The only place that prints: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use nimctl::error_kind::ErrorKind;

use crate::exit::{self, Failure};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable text.
    Text,
    /// One JSON object that starts with its schema's name.
    Json,
}

/// How progress and messages are shown on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressFormat {
    /// A line for each running job, which changes; on a terminal only.
    Auto,
    /// A new line for each change.
    Plain,
    /// A JSON object in a line for each change and each message.
    Json,
}

/// Prints results and messages.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    format: Format,
    progress: ProgressFormat,
    quiet: bool,
    /// Why a result did not reach standard output.
    lost: Arc<OnceLock<io::Error>>,
}

impl Output {
    pub(crate) fn new(format: Format, progress: ProgressFormat, quiet: bool) -> Self {
        Self { format, progress, quiet, lost: Arc::default() }
    }

    /// Prints a result: the text for people, or the view as JSON.
    pub(crate) fn result(&self, text: &str, view: &impl Serialize) {
        match self.format {
            Format::Text => self.data(&harmless(text)),
            Format::Json => self.data(
                &serde_json::to_string_pretty(view)
                    .unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string()),
            ),
        }
    }

    /// Prints data unchanged, ending with a line feed.
    pub(crate) fn data(&self, text: &str) {
        let mut stdout = anstream::stdout().lock();
        let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
        match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
            // A reader that is done (`nimctl … | head`) closes the pipe: that is no failure.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => _ = self.lost.set(error),
            Ok(()) | Err(_) => {}
        }
    }

    /// Returns the exit code of a command that ends with this one: another one if its results are lost.
    pub(crate) fn exit_code(&self, code: ExitCode) -> ExitCode {
        let Some(error) = self.lost.get() else { return code };
        self.problem(&format!("the results could not be written to standard output: {error}"));
        if code == ExitCode::SUCCESS { ExitCode::from(exit::code(ErrorKind::Input)) } else { code }
    }

    /// Prints a note, unless `--quiet` is set.
    pub(crate) fn talk(&self, text: &str) {
        if !self.quiet {
            self.message("note", "", text);
        }
    }

    /// Prints a warning, unless `--quiet` is set.
    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet {
            self.message("warning", &format!("{YELLOW}warning{YELLOW:#}: "), text);
        }
    }

    /// Prints an error that does not end the command.
    pub(crate) fn problem(&self, text: &str) {
        self.message("error", &format!("{RED}error{RED:#}: "), text);
    }

    /// Prints what to do about an error.
    pub(crate) fn hint(&self, text: &str) {
        self.message("hint", &format!("{CYAN}hint{CYAN:#}: "), text);
    }

    fn message(&self, kind: &str, prefix: &str, text: &str) {
        if self.progress == ProgressFormat::Json {
            self.event(json!({ "kind": kind, "message": text }));
        } else {
            let _ = writeln!(anstream::stderr().lock(), "{prefix}{}", harmless(text));
        }
    }

    /// Prints something that happened as a line of JSON, with its time.
    pub(crate) fn event(&self, mut event: serde_json::Value) {
        #[expect(clippy::disallowed_methods, reason = "an event says when it happened")]
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        event["schema"] = "nimctl.event/1".into();
        event["unix_ms"] = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX).into();
        // Not a byte of it is for a terminal.
        let _ = writeln!(std::io::stderr().lock(), "{event}");
    }

    /// Prints a failure and returns its exit code.
    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        let code = failure.code();
        if self.format == Format::Json {
            let view = json!({
                "schema": "nimctl.error/1",
                "message": failure.message(),
                "hint": failure.hint,
                "exit_code": code,
            });
            self.data(&format!("{view:#}"));
        }
        self.problem(&failure.message());
        if let Some(hint) = &failure.hint {
            self.hint(hint);
        }
        if failure.kind == ErrorKind::Bug {
            self.message(
                "note",
                "",
                "this is a bug in nimctl: please report it together with the command and the recipe",
            );
        }
        ExitCode::from(code)
    }

    /// Returns whether results are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Returns whether progress is shown as lines that change: only on a terminal.
    pub(crate) fn shows_progress(&self) -> bool {
        self.progress == ProgressFormat::Auto && !self.quiet && std::io::stderr().is_terminal()
    }

    /// Returns how else progress is shown, if it is.
    pub(crate) fn progress_lines(&self) -> Option<ProgressFormat> {
        (self.progress != ProgressFormat::Auto && !self.quiet).then_some(self.progress)
    }
}

/// Prints what the command line gets in place of a command: help, a version, or what is wrong with it.
pub(crate) fn help_or_usage(instead: &clap::Error) -> ExitCode {
    let code = u8::try_from(instead.exit_code()).unwrap_or(1);
    // It repeats what it does not understand.
    if instead.use_stderr() && instead.render().to_string().contains("PRIVATE KEY-----") {
        let _ = writeln!(
            anstream::stderr().lock(),
            "{RED}error{RED:#}: the command line has a private key in it, which other users can read: name its file with --key, \
             or its environment variable with --key-env"
        );
        return ExitCode::from(code);
    }
    match instead.print() {
        Err(error) if code == 0 && error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(
                anstream::stderr().lock(),
                "{RED}error{RED:#}: the text could not be written: {error}"
            );
            ExitCode::from(exit::code(ErrorKind::Input))
        }
        Ok(()) | Err(_) => ExitCode::from(code),
    }
}

/// Says that files became shorter while they were read.
pub(crate) fn cut_off(files: &[std::path::PathBuf]) {
    let names: Vec<String> = files.iter().map(|path| harmless(&path.display().to_string())).collect();
    let what = match names.as_slice() {
        [] => "a file, or the disk that it is on, could not be read to its end".to_owned(),
        names => format!("{} became shorter while it was read", names.join(", ")),
    };
    let _ = writeln!(
        anstream::stderr().lock(),
        "{RED}error{RED:#}: {what}: run the command again when it is complete"
    );
}

/// Says that the command was interrupted, where nothing else is left to say so.
pub(crate) fn interrupted() {
    let _ = writeln!(anstream::stderr().lock(), "{RED}error{RED:#}: interrupted");
}

const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const YELLOW: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();
const CYAN: anstyle::Style = anstyle::AnsiColor::Cyan.on_default().bold();

/// Escapes control characters for the terminal: names in the text may come from a hostile file.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn a_terminal_is_told_nothing_by_a_name() {
        assert_eq!(harmless("a\tb\n\u{1b}[2J\r\u{9b}ü"), "a\tb\n\\u{1b}[2J\\r\\u{9b}ü");
    }
}
