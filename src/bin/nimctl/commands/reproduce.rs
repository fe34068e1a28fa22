//! `nimctl reproduce`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::files::work_folder::{self, WorkFolder};
use nimctl::ops::pull::{PullOptions, RemoteRelease};
use nimctl::ops::reproduce::{Released, ReproduceError, ReproduceOptions, reproduce};
use nimctl::registry::Watch;
use nimctl::reproduction::{FileReproduction, Finding, ProfileReproduction, Reproduction, Verdict};
use nimctl::store::Store;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::admission::Admission;
use super::places::{Reach, shown, tell, to_read};
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::progress::{BuildProgress, Bytes};
use crate::table::{counted, table};

/// Temporary stores are in folders of this name.
const PREFIX: &str = "nimctl-reproduce-";
/// Parts of files that are fetched at the same time.
const PARALLEL_PARTS: usize = 8;

pub(crate) fn run(
    arguments: &cli::Reproduce,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Reproduce {
        release,
        graphs,
        recipes,
        only: _,
        run,
        trust,
        work_dir,
        jobs,
        job_timeout,
        registries: _,
    } = arguments;
    // A policy that can't be read refuses before anything is fetched.
    let admission = match run {
        true => Admission::in_place(trust, global)?,
        false => None,
    };
    let parent = work_dir.clone().unwrap_or_else(environment::temporary_folder);
    if !parent.is_dir() {
        let message = format!("there is no folder {} for the temporary store", parent.display());
        return Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message))
            .hint(Some("create it, or name another one with --work-dir".into())));
    }
    work_folder::sweep(&parent, PREFIX);
    let work = WorkFolder::new_in(&parent, PREFIX).map_err(|error| {
        let error = anyhow::Error::from(error);
        Failure::new(ErrorKind::Input, error.context(format!("cannot make a folder in {}", parent.display())))
            .hint(Some("name a folder that can be written with --work-dir".into()))
    })?;
    let mut workspace = environment::workspace(global, *job_timeout, cancel)?;
    workspace.store = work.path().join("store");
    if let Some(jobs) = jobs {
        workspace.parallel_jobs = usize::from(*jobs);
    }
    let released = released(arguments, (&work, admission.as_ref()), output, cancel)?;
    let options = ReproduceOptions { graphs: graphs.clone(), recipes: recipes.clone(), run: *run };
    let progress = BuildProgress::new(output);
    let show = |event| progress.show(event);
    let result = reproduce(&workspace, &released, &options, &work, &show);
    progress.finish();
    let result = result?;
    output.result(&text(&result), &View::new(&shown(release), &result));
    Ok(result.failure().map_or_else(done, |kind| ExitCode::from(code(kind))))
}

/// Reads the release: a folder, or a place that is pulled into the work folder.
fn released(
    arguments: &cli::Reproduce,
    (work, admission): (&WorkFolder, Option<&Admission>),
    output: &Output,
    cancel: &Cancel,
) -> Result<Released, Failure> {
    let cli::Reproduce { release, only, registries, .. } = arguments;
    let folder = Path::new(release);
    if folder.is_dir() && !folder.join("oci-layout").is_file() {
        if let Some(admission) = admission {
            admission.check_release_folder(folder, cancel)?;
        }
        return Ok(Released::of_folder(folder, only.as_ref(), cancel)?);
    }
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let reach = Reach { arguments: registries, watch: Watch { cancelled: &cancelled, notice: &notice } };
    let opened = to_read(release, reach).map_err(|failure| match failure.hint {
        Some(_) => failure,
        None => failure.hint(Some("a release folder that is there can be named too".into())),
    })?;
    let remote = RemoteRelease::open(opened.place.as_ref(), &opened.which)?;
    if let Some(admission) = admission {
        admission.check_remote(&remote)?;
    }
    let store = Store::open(&work.path().join("released"))?;
    let bytes = Bytes::new(output, &shown(release));
    let options = PullOptions {
        parallel: PARALLEL_PARTS,
        cancelled: &cancelled,
        on_bytes: &|done, total| bytes.show(done, total),
    };
    let released = Released::of_place(&remote, only.as_ref(), &store, &work.path().join("files"), &options);
    bytes.finish();
    match released {
        Err(_) if cancel.is_cancelled() => Err(ReproduceError::Cancelled.into()),
        released => Ok(released?),
    }
}

fn text(result: &Reproduction) -> String {
    let Reproduction { model, profiles } = result;
    let mut text = format!("{} {}\n\n", model.name, model.release);
    let row = |profile: &ProfileReproduction| {
        let identical = profile.files.iter().filter(|file| file.verdict == Verdict::Identical).count();
        let files = match profile.files.len() {
            0 => "-".into(),
            of => format!("{identical} of {of}"),
        };
        vec![profile.name.clone(), profile.verdict.word().into(), files, profile.id.clone()]
    };
    text.push_str(&table(
        &["PROFILE", "VERDICT", "IDENTICAL FILES", "ID"],
        &profiles.iter().map(row).collect::<Vec<_>>(),
    ));
    // Profiles share graphs and tools, and then what is to be said of them.
    let mut explained: Vec<(Verdict, Vec<String>, Vec<&str>)> = Vec::new();
    for profile in profiles {
        let lines = explanation(profile);
        match explained.iter_mut().find(|(verdict, known, _)| *verdict == profile.verdict && *known == lines)
        {
            Some((_, _, names)) => names.push(&profile.name),
            None => explained.push((profile.verdict, lines, vec![&profile.name])),
        }
    }
    for (verdict, lines, names) in explained.iter().filter(|(_, lines, _)| !lines.is_empty()) {
        let _ = writeln!(text, "\n{}: {}", names.join(", "), verdict.word());
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    let verdicts = [Verdict::Identical, Verdict::Equivalent, Verdict::Different, Verdict::NotReproduced];
    let counts = verdicts.iter().filter_map(|&verdict| match result.count(verdict) {
        0 => None,
        count => Some(format!("{count} {}", verdict.word())),
    });
    let profiles = counted(profiles.len(), "profile");
    let _ = writeln!(text, "\n{profiles}: {}", counts.collect::<Vec<_>>().join(", "));
    text
}

/// Returns what is to be said of a profile, a line each.
fn explanation(profile: &ProfileReproduction) -> Vec<String> {
    let ProfileReproduction { name: _, id: _, rebuilt_id: _, verdict: _, files, findings } = profile;
    let compared = files
        .iter()
        .flat_map(|file| file.compared.iter().map(|compared| format!("{}: {compared}", file.path)));
    findings.iter().map(|finding| finding.text.clone()).chain(compared).collect()
}

/// `nimctl.reproduction/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    release: &'a str,
    model: &'a str,
    model_release: &'a str,
    /// That of all profiles together.
    verdict: &'static str,
    profiles: Vec<ProfileView<'a>>,
}

#[derive(Serialize)]
struct ProfileView<'a> {
    name: &'a str,
    profile_id: &'a str,
    rebuilt_profile_id: Option<String>,
    verdict: &'static str,
    files: &'a [FileReproduction],
    findings: &'a [Finding],
}

impl<'a> View<'a> {
    fn new(release: &'a str, result: &'a Reproduction) -> Self {
        let Reproduction { model, profiles } = result;
        let view = |profile: &'a ProfileReproduction| {
            let ProfileReproduction { name, id, rebuilt_id, verdict, files, findings } = profile;
            ProfileView {
                name,
                profile_id: id,
                rebuilt_profile_id: rebuilt_id.map(|id| id.to_string()),
                verdict: verdict.word(),
                files,
                findings,
            }
        };
        Self {
            schema: "nimctl.reproduction/1",
            release,
            model: &model.name,
            model_release: &model.release,
            verdict: profiles
                .iter()
                .map(|profile| profile.verdict)
                .max()
                .unwrap_or(Verdict::Identical)
                .word(),
            profiles: profiles.iter().map(view).collect(),
        }
    }
}
