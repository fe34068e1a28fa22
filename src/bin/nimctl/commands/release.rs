//! `nimctl release`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::benchmark::{BenchStatus, Comparison, Settings, Uncompared};
use nimctl::error_kind::ErrorKind;
use nimctl::ops::attest::{AttestOptions, Attested, attest, check_builder};
use nimctl::ops::bench::BenchOptions;
use nimctl::ops::publish::FileLayout;
use nimctl::ops::release::{Made, ReleaseOptions, ReleaseReport, release};
use nimctl::ops::sign::{SignOptions, Signed, sign};
use nimctl::passport::Passport;
use nimctl::registry::Watch;
use nimctl::release::{Policy, Refusal, least_row_cosine};
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::admission::Admission;
use super::attest::{self, View as AttestationsView};
use super::places::{Reach, check_to_write, tell, to_write};
use super::publish::{Sent, View as PublishedView, named_release, send, signed_shipment};
use super::sign::{Signing, now_s, threads};
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::{counted, table};

/// The defaults of `nimctl bench`.
const WARM_UP_MS: u64 = 200;
const WINDOW_MS: u64 = 100;

pub(crate) fn run(
    arguments: &cli::Release,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Release {
        recipes,
        destination,
        policy,
        baseline,
        only,
        fleet,
        trust,
        no_bench,
        fresh,
        rounds,
        threads,
        gpu,
        budget_ms,
        job_timeout,
        publish_to,
        publish_from,
        private_key,
        builder_id,
        registries,
    } = arguments;
    if let Some(admission) = Admission::in_place(trust, global)? {
        let gate = admission.gate([], cancel)?;
        recipes.iter().try_for_each(|recipe| gate.admit_build(recipe))?;
    }
    // Hours of building before a key turns out to be mistyped would be lost.
    let signing = private_key.is_given().then(|| Signing::of(private_key)).transpose()?;
    check_builder(builder_id)?;
    let mut workspace = environment::workspace(global, *job_timeout, cancel)?;
    workspace
        .secrets
        .extend([&private_key.key_env, &private_key.password_env].into_iter().flatten().cloned());
    environment::use_fleet(&mut workspace, fleet)?;
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let reach = Reach { arguments: registries, watch: Watch { cancelled: &cancelled, notice: &notice } };
    publish_to.as_ref().map_or(Ok(()), |to| check_to_write(to, reach))?;
    let (read, policy_file) = match policy {
        None => (Policy::default(), None),
        Some(path) => {
            let (policy, text) = read_policy(path)?;
            (policy, Some((path.display().to_string(), text)))
        }
    };
    let options = ReleaseOptions {
        bench: BenchOptions {
            batches: Vec::new(),
            streams: vec![1],
            settings: Settings {
                rounds: usize::from(*rounds),
                warm_up_ms: WARM_UP_MS,
                window_ms: WINDOW_MS,
                budget_ms: *budget_ms,
                threads: *threads,
                provider: None,
                graph_optimization: None,
                cuda_graph: false,
            },
            gpu: *gpu,
            compare: None,
            nvml_library: environment::nvml_library(),
            take_over: !fresh,
        },
        recipes: recipes.clone(),
        only: only.clone(),
        measure: !no_bench,
        destination: destination.clone(),
        policy: read,
        policy_file,
        baseline: baseline.clone(),
    };
    let report = release(&workspace, &options, &|step| output.talk(step))?;
    let signed = match (&report.made, signing) {
        (Some(made), Some(signing)) => {
            output.talk("signing");
            let signed = sign_release(&made.folder, signing, builder_id, cancel);
            Some(signed.map_err(|failure| {
                let hint = failure.hint.as_ref().map(|hint| format!("{hint}; ")).unwrap_or_default();
                let folder = made.folder.display();
                failure.hint(Some(format!(
                    "{hint}the release is in {folder}: sign it with `nimctl sign` and `nimctl attest`"
                )))
            })?)
        }
        _ => None,
    };
    // Of a release that is here, whatever goes wrong with publishing it.
    let again = |made: &Made, to: &str, failure: Failure| {
        let hint = failure.hint.as_ref().map(|hint| format!("{hint}; ")).unwrap_or_default();
        let folder = made.folder.display();
        failure.hint(Some(format!("{hint}the release is in {folder}: `nimctl publish {folder} --to {to}`")))
    };
    let shipment = match (&report.made, publish_to) {
        (Some(made), Some(to)) => {
            output.talk("publishing");
            let opened = to_write(to, reach).and_then(|opened| {
                Ok((signed_shipment(&made.folder, opened.place.as_ref(), output)?, opened))
            });
            let (shipment, opened) = opened.map_err(|failure| again(made, to, failure))?;
            Some((made, to, shipment, opened))
        }
        _ => None,
    };
    let from = publish_from.as_deref().map(named_release);
    let kept;
    let sent = match shipment {
        Some((made, to, shipment, opened)) => {
            kept = shipment;
            let sent = send(&kept, &workspace, to, opened, (FileLayout::Packs, from.as_ref()), output);
            Some(sent.map_err(|failure| again(made, to, failure))?)
        }
        None => None,
    };
    let published = sent.as_ref().map(Sent::text).unwrap_or_default();
    let signed_text = signed.as_ref().map(SignedRelease::text).unwrap_or_default();
    output.result(
        &format!("{}{signed_text}{published}", text(&report)),
        &View::new(&report, signed.as_ref(), sent.as_ref()),
    );
    if report.made.is_some() {
        return Ok(done());
    }
    output.problem("no release was written; builds and results are kept in the store");
    Ok(ExitCode::from(code(ErrorKind::Refused)))
}

/// A release that was signed.
struct SignedRelease {
    signed: Signed,
    attested: Attested,
}

impl SignedRelease {
    fn text(&self) -> String {
        let Self { signed, attested } = self;
        format!("signed by {}: {}\n{}", signed.signer, signed.signature.display(), attest::text(attested))
    }
}

/// Signs a release and attests its profiles.
fn sign_release(
    folder: &Path,
    signing: Signing,
    builder: &str,
    cancel: &Cancel,
) -> Result<SignedRelease, Failure> {
    let Signing { key, certificates, files } = signing;
    let attested = attest(&AttestOptions {
        release: folder,
        destination: None,
        key: &key,
        certificates: certificates.as_deref(),
        key_files: &files,
        builder,
        now_s: now_s(),
    })?;
    let signed = sign(SignOptions {
        model: folder,
        signature: None,
        ignore: &[],
        allow_symlinks: false,
        key,
        certificates,
        key_files: &files,
        now_s: now_s(),
        threads: threads(),
        is_cancelled: &|| cancel.is_cancelled(),
    })?;
    Ok(SignedRelease { signed, attested })
}

/// Returns the policy, and its text.
fn read_policy(path: &Path) -> Result<(Policy, String), Failure> {
    let text = nimctl::files::text::read(path).map_err(|error| Failure::new(ErrorKind::Input, error))?;
    let policy = Policy::parse(&text, &path.display().to_string());
    Ok((policy.map_err(|error| Failure::new(ErrorKind::Input, error))?, text))
}

fn text(report: &ReleaseReport) -> String {
    let ReleaseReport { model, profiles, not_built, compared, refusals, made } = report;
    let mut text = format!("{} {}\n\n", model.name, model.release);
    let rows: Vec<Vec<String>> = profiles.iter().map(row).collect();
    text.push_str(&table(&["PROFILE", "ID", "VALIDATION", "VERDICT", "MIN COSINE", "SPEED"], &rows));
    if !not_built.is_empty() {
        text.push_str("\nnot in this release:\n");
        for (name, why) in not_built {
            let _ = writeln!(text, "  {name}: {why}");
        }
    }
    if !compared.uncompared.is_empty() {
        text.push_str("\nnot compared with the baseline:\n");
        for found in &compared.uncompared {
            let _ = writeln!(text, "  {}", found.words());
        }
    }
    if !refusals.is_empty() {
        text.push_str("\nREFUSED:\n");
        for Refusal { reason, remedy } in refusals {
            let _ = writeln!(text, "  {reason}\n    {remedy}");
        }
    }
    if let Some(Made { folder, tar, files }) = made {
        let _ = writeln!(
            text,
            "\nwrote {} to {} and packed them as {}",
            counted(*files, "file"),
            folder.display(),
            tar.display()
        );
    }
    text
}

fn verdict(passport: &Passport) -> &'static str {
    match passport.validation.validation() {
        Some(validation) if validation.passed => "passed",
        Some(_) => "failed",
        None => "skipped",
    }
}

fn row(passport: &Passport) -> Vec<String> {
    let speed = match &passport.bench {
        BenchStatus::Measured(_) => "measured",
        BenchStatus::Failed(_) => "failed",
        BenchStatus::Skipped(_) => "not measured",
    };
    vec![
        passport.name.clone(),
        passport.id.to_string(),
        passport.validation.word().into(),
        verdict(passport).into(),
        least_row_cosine(passport).map_or_else(|| "-".into(), |cosine| format!("{cosine:.7}")),
        speed.into(),
    ]
}

/// `nimctl.release/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    model: &'a str,
    release: &'a str,
    folder: Option<&'a Path>,
    tar: Option<&'a Path>,
    profiles: Vec<ProfileView<'a>>,
    not_built: Vec<NotBuiltView<'a>>,
    comparisons: &'a [Comparison],
    uncompared: &'a [Uncompared],
    refusals: &'a [Refusal],
    /// Absent for a release that is not signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attestations: Option<AttestationsView<'a>>,
    published: Option<PublishedView<'a>>,
}

#[derive(Serialize)]
struct ProfileView<'a> {
    profile_id: String,
    name: &'a str,
    validation: &'static str,
    verdict: &'static str,
    least_row_cosine: Option<f64>,
    bench: &'a BenchStatus,
}

#[derive(Serialize)]
struct NotBuiltView<'a> {
    name: &'a str,
    reason: &'a str,
}

impl<'a> View<'a> {
    fn new(report: &'a ReleaseReport, signed: Option<&'a SignedRelease>, sent: Option<&'a Sent<'_>>) -> Self {
        let ReleaseReport { model, profiles, not_built, compared, refusals, made } = report;
        let profile = |passport: &'a Passport| ProfileView {
            profile_id: passport.id.to_string(),
            name: &passport.name,
            validation: passport.validation.word(),
            verdict: verdict(passport),
            least_row_cosine: least_row_cosine(passport),
            bench: &passport.bench,
        };
        Self {
            schema: "nimctl.release/1",
            model: &model.name,
            release: &model.release,
            folder: made.as_ref().map(|made| made.folder.as_path()),
            tar: made.as_ref().map(|made| made.tar.as_path()),
            profiles: profiles.iter().map(profile).collect(),
            not_built: not_built.iter().map(|(name, reason)| NotBuiltView { name, reason }).collect(),
            comparisons: &compared.comparisons,
            uncompared: &compared.uncompared,
            refusals,
            signature: signed.map(|signed| signed.signed.signature.as_path()),
            attestations: signed.map(|signed| AttestationsView::new(&signed.attested)),
            published: sent.map(Sent::view),
        }
    }
}
