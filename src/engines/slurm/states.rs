//! How tasks of array jobs are, as `squeue` says.

use crate::fleet::{Task, TaskState};

/// What `squeue` is asked to print: number, state, reason, nodes.
pub(super) const FORMAT: &str = "%i|%T|%r|%N";

/// Reads a line.
pub(super) fn read(line: &str) -> Option<Task> {
    let mut parts = line.splitn(4, '|');
    let (id, state, reason, node) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let state = match state {
        "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => {
            TaskState::Waiting
        }
        "RUNNING" | "CONFIGURING" | "COMPLETING" | "SUSPENDED" | "STOPPED" | "RESIZING" | "SIGNALING"
        | "STAGE_OUT" => TaskState::Running,
        over => TaskState::Over(over.into()),
    };
    Some(Task { id: id.trim().into(), state, reason: reason.into(), node: node.trim().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_read() {
        let task = |line: &str| read(line).map(|task| (task.id, task.state, task.reason, task.node));
        assert_eq!(
            task("12_1|PENDING|Resources|"),
            Some(("12_1".into(), TaskState::Waiting, "Resources".into(), String::new()))
        );
        assert_eq!(
            task("12_2|RUNNING|None|n1"),
            Some(("12_2".into(), TaskState::Running, "None".into(), "n1".into()))
        );
        assert_eq!(
            task("12_3|NODE_FAIL|NonZeroExitCode|n1"),
            Some(("12_3".into(), TaskState::Over("NODE_FAIL".into()), "NonZeroExitCode".into(), "n1".into()))
        );
        assert_eq!(task("nonsense"), None);
    }
}
