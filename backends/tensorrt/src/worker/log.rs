//! What TensorRT says while it works: to standard error, and to the host as far as it matters.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nimctl_backend_kit::serve::Events;

/// The last errors are the ones that say why.
const MAX_ERRORS: usize = 16;
const MAX_WARNINGS: usize = 100;
const MAX_LINES: usize = 40;
/// Of the log as it came: four messages for each of a thousand refusals.
const MAX_LOGGED: usize = 4000;
const MAX_LOGGED_CHARS: usize = 2000;
/// Lines around a description of a node, which there are without one as well.
const EMPTY_MARKERS: &[&str] = &["--- Begin node ---", "--- End node ---", "Node name:"];
/// TensorRT reports thousands of steps a second.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(crate) struct Log(Mutex<State>);

#[derive(Default)]
struct State {
    events: Option<Events>,
    errors: VecDeque<String>,
    /// Every error as the library logged it.
    logged: Vec<String>,
    warnings: Vec<String>,
    phases: Vec<(String, u64)>,
    last_progress: Option<Instant>,
}

impl Log {
    /// Begins a request.
    pub(crate) fn begin(&self, events: &Events) {
        *self.state() = State { events: Some(events.clone()), ..State::default() };
    }

    pub(crate) fn error(&self, message: &str) {
        self.keep(message);
        let message = tidy(message);
        if message.is_empty() {
            return;
        }
        let _ = writeln!(std::io::stderr(), "error: {message}");
        let mut state = self.state();
        if !state.errors.contains(&message) {
            state.errors.push_back(message);
        }
        if state.errors.len() > MAX_ERRORS {
            state.errors.pop_front();
        }
    }

    fn keep(&self, message: &str) {
        let mut state = self.state();
        if state.logged.len() < MAX_LOGGED {
            state.logged.push(message.chars().take(MAX_LOGGED_CHARS).collect());
        }
    }

    /// Returns every error of the request as TensorRT logged it.
    pub(crate) fn logged(&self) -> Vec<String> {
        self.state().logged.clone()
    }

    pub(crate) fn warning(&self, message: &str) {
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(std::io::stderr(), "warning: {message}");
        let mut state = self.state();
        if state.warnings.len() < MAX_WARNINGS && !state.warnings.contains(&message) {
            if let Some(events) = &state.events {
                events.warning(message.clone());
            }
            state.warnings.push(message);
        }
    }

    /// Returns TensorRT's own words on why something failed, to stand behind a colon: one line, or lines of their own,
    /// indented.
    pub(crate) fn errors(&self) -> String {
        let state = self.state();
        let lines: Vec<&str> = state.errors.iter().flat_map(|message| message.lines()).collect();
        match lines.as_slice() {
            [] => " it gave no reason".into(),
            [line] => format!(" {line}"),
            lines => lines.iter().map(|line| format!("\n  {line}")).collect(),
        }
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    pub(crate) fn phase_start(&self, phase: &str, steps: i32) {
        self.state().phases.push((phase.to_owned(), u64::try_from(steps).unwrap_or_default()));
    }

    pub(crate) fn step(&self, phase: &str, step: i32) {
        let mut state = self.state();
        if state.last_progress.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "progress is reported a few times a second")]
        let now = Instant::now();
        state.last_progress = Some(now);
        let total = state.phases.iter().rev().find(|(name, _)| name == phase).map(|(_, steps)| *steps);
        if let Some(events) = &state.events {
            events.progress(phase, u64::try_from(step).ok().map(|step| step + 1), total);
        }
    }

    pub(crate) fn phase_finish(&self, phase: &str) {
        let mut state = self.state();
        if let Some(index) = state.phases.iter().rposition(|(name, _)| name == phase) {
            state.phases.truncate(index);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the lines of a message that say something, as they are, but for spaces at their ends.
fn tidy(message: &str) -> String {
    let says_nothing =
        |line: &&str| line.is_empty() || EMPTY_MARKERS.iter().any(|marker| line.ends_with(marker));
    let lines: Vec<&str> =
        message.lines().map(str::trim_end).filter(|line| !says_nothing(&line.trim_start())).collect();
    lines[..lines.len().min(MAX_LINES)].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(messages: &[&str], expected: &str) {
        let log = Log::default();
        messages.iter().for_each(|message| log.error(message));
        assert_eq!(log.errors(), expected);
    }

    #[test]
    fn errors_are_whole_lines_without_empty_markers() {
        check(&[], " it gave no reason");
        check(&["  \n"], " it gave no reason");
        check(
            &["Error Code 4: API Usage Error (no  such thing)\n"],
            " Error Code 4: API Usage Error (no  such thing)",
        );
        check(
            &[
                "ModelImporter.cpp:140: While parsing node number 3 [Det -> \"y\"]:",
                "ModelImporter.cpp:142: --- Begin node ---\nNode name: \n",
                "ModelImporter.cpp:143: --- End node ---",
                "ModelImporter.cpp:151: ERROR: false",
            ],
            "\n  ModelImporter.cpp:140: While parsing node number 3 [Det -> \"y\"]:\n  ModelImporter.cpp:151: ERROR: false",
        );
        check(
            &["--- Begin node ---\nNode name: det\n--- End node ---", "second"],
            "\n  Node name: det\n  second",
        );
    }
}
