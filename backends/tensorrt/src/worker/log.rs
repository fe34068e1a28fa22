//! What TensorRT says while it works: to standard error, and to the host as far as it matters.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nimctl_backend_kit::serve::Events;

/// The last errors are the ones that say why.
const MAX_ERRORS: usize = 4;
const MAX_WARNINGS: usize = 100;
const MAX_MESSAGE_CHARS: usize = 2000;
/// TensorRT reports thousands of steps a second.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(crate) struct Log(Mutex<State>);

#[derive(Default)]
struct State {
    events: Option<Events>,
    errors: VecDeque<String>,
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
        let message = tidy(message);
        let _ = writeln!(std::io::stderr(), "error: {message}");
        let mut state = self.state();
        if !state.errors.contains(&message) {
            state.errors.push_back(message);
        }
        if state.errors.len() > MAX_ERRORS {
            state.errors.pop_front();
        }
    }

    pub(crate) fn warning(&self, message: &str) {
        let message = tidy(message);
        let _ = writeln!(std::io::stderr(), "warning: {message}");
        let mut state = self.state();
        if state.warnings.len() < MAX_WARNINGS && !state.warnings.contains(&message) {
            if let Some(events) = &state.events {
                events.warning(message.clone());
            }
            state.warnings.push(message);
        }
    }

    /// Returns TensorRT's own words on why something failed.
    pub(crate) fn errors(&self) -> String {
        let state = self.state();
        if state.errors.is_empty() {
            return "it gave no reason".into();
        }
        state.errors.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
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

/// Makes one short line of a message.
fn tidy(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    words.join(" ").chars().take(MAX_MESSAGE_CHARS).collect()
}
