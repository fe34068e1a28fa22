//! The script of a job, and what `sbatch` is told beside it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use crate::fleet::Slurm;

/// What is submitted.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// The name that the queue shows.
    pub name: &'a str,
    /// How many tasks the array has.
    pub tasks: u32,
    /// A folder for the logs of tasks.
    pub logs: &'a Path,
    /// The command and its arguments.
    pub command: &'a [String],
    /// The whole environment of `sbatch`, which that of the job is made of.
    pub environment: &'a BTreeMap<String, OsString>,
}

impl Submission<'_> {
    /// Returns the arguments of `sbatch`.
    pub(super) fn arguments(&self, slurm: &Slurm) -> Vec<String> {
        let Self { name, tasks, logs, command: _, environment: _ } = self;
        // In a path, a `%` stands for itself only if it is there twice.
        let log = format!("{}/%A_%a.log", logs.display().to_string().replace('%', "%%"));
        let mut arguments = vec![
            "--parsable".to_owned(),
            format!("--job-name={name}"),
            format!("--array=1-{tasks}"),
            "--chdir=/".into(),
            // A job that was preempted begins anew.
            "--open-mode=append".into(),
            format!("--output={log}"),
        ];
        arguments.extend(resources(slurm));
        arguments
    }

    /// Returns the script.
    pub(super) fn text(&self, slurm: &Slurm) -> String {
        let mut lines = vec!["#!/bin/sh".to_owned()];
        lines
            .extend(slurm.environment.iter().map(|(name, value)| format!("export {name}={}", quoted(value))));
        let command: Vec<String> = self.command.iter().map(|word| quoted(word)).collect();
        lines.push(format!("exec {}", command.join(" ")));
        lines.push(String::new());
        lines.join("\n")
    }
}

/// Returns what `sbatch` and `srun` are told of the machine that a job needs.
pub(super) fn resources(slurm: &Slurm) -> Vec<String> {
    let Slurm {
        shared: _,
        partition,
        gres,
        constraint,
        account,
        qos,
        time,
        max_wait: _,
        nodes: _,
        cpus,
        memory_mib,
        nimctl: _,
        environment: _,
    } = slurm;
    let given = [
        ("partition", partition.clone()),
        ("gres", gres.clone()),
        ("constraint", constraint.clone()),
        ("account", account.clone()),
        ("qos", qos.clone()),
        ("time", time.map(|time| time.to_string())),
        ("cpus-per-task", cpus.map(|count| count.to_string())),
        ("mem", memory_mib.map(|size| format!("{size}M"))),
    ];
    // All of what little the command itself is given. With less, Slurm makes an environment as a login does, which takes a second.
    let mut arguments = vec!["--ntasks=1".to_owned(), "--nodes=1".into(), "--export=ALL".into()];
    arguments.extend(given.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))));
    arguments
}

/// Returns a word as a shell reads it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted() {
        let mut slurm: Slurm = serde_json::from_value(serde_json::json!({
            "shared": "/scratch", "partition": "h100", "gres": "gpu:h100:1", "time": "00:30:00", "memory_mib": 8000,
        }))
        .unwrap();
        slurm.environment.insert("NIMCTL_TENSORRT_LIB".into(), "/it's here".into());
        let command = ["/opt/nimctl".to_owned(), "work".into()];
        let submission = Submission {
            name: "nimctl-hopper",
            tasks: 2,
            logs: Path::new("/scratch/logs"),
            command: &command,
            environment: &BTreeMap::new(),
        };
        let arguments = submission.arguments(&slurm).join(" ");
        assert_eq!(
            arguments,
            "--parsable --job-name=nimctl-hopper --array=1-2 --chdir=/ --open-mode=append --output=/scratch/logs/%A_%a.log \
             --ntasks=1 --nodes=1 --export=ALL --partition=h100 --gres=gpu:h100:1 --time=00:30:00 --mem=8000M"
        );
        let text = submission.text(&slurm);
        assert!(text.starts_with("#!/bin/sh\n"), "{text}");
        assert!(
            text.ends_with("export NIMCTL_TENSORRT_LIB='/it'\\''s here'\nexec '/opt/nimctl' 'work'\n"),
            "{text}"
        );
    }
}
