//! How the tasks of a job are, whatever engine runs it.

/// A task of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The job, `_`, and the number of the task.
    pub id: String,
    /// How it is.
    pub state: TaskState,
    /// Why it waits, in the engine's words.
    pub reason: String,
    /// The node that it runs or ran on; empty while it waits.
    pub node: String,
}

/// How a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It waits: to be scheduled, or to be scheduled again.
    Waiting,
    /// It runs, begins or ends.
    Running,
    /// It is over, in Slurm's words: `COMPLETED`, `TIMEOUT`.
    Over(String),
}

impl Task {
    /// Returns the job that a task is of, from its id.
    pub fn job_of(id: &str) -> &str {
        id.split('_').next().unwrap_or(id)
    }
}
