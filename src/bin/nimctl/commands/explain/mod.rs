//! `nimctl explain`.

mod text;

use std::path::Path;
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::ops::explain::{By, Explained, Since, Story};
use nimctl::ops::pull::{Accepted, Given, RemoteRelease};
use nimctl::ops::trust::{Admitted, Gate, NotAdmitted, VerifyReleaseOptions, verify_release};
use nimctl::ops::verify_signature::{VerifyOptions, verify_signature};
use nimctl::profile::ProfileId;
use nimctl::registry::Watch;
use nimctl::store::Store;
use nimctl::trust::Trust;
use nimctl::worker::host::Cancel;
use serde::Serialize;
use serde_json::{Value, json};

use super::places::{Reach, tell, to_read};
use super::sign::{SignerView, now_s, threads};
use super::trusted::InPlace;
use super::verify_trust;
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::counted;

/// What whoever is trusted makes of a release.
struct Verdict {
    is_accepted: bool,
    /// By which rule, or why not.
    words: String,
}

pub(crate) fn run(
    arguments: &cli::Explain,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Explain { subject, only, baseline, key, certificate_chain, trust, registries: _ } = arguments;
    let in_place = InPlace::of(key.as_deref(), certificate_chain, trust.as_deref())?;
    let (mut story, verdict) = read(subject, arguments, in_place.as_ref(), global, output, cancel)?;
    let before = baseline.as_ref().map(|baseline| read(baseline, arguments, None, global, output, cancel));
    let before = before.transpose()?.map(|(story, _)| story);
    if let Some(only) = only {
        let names: Vec<String> = story.profiles.iter().map(|one| one.passport.name.clone()).collect();
        story.profiles.retain(|one| only.chooses(&one.passport.name, &one.passport.tags));
        if story.profiles.is_empty() {
            let error = anyhow::anyhow!("--only {only} selects none of the profiles: {}", names.join(", "));
            return Err(Failure::new(ErrorKind::Input, error));
        }
    }
    let pages: Vec<(&Explained, Option<Option<Since>>)> = story
        .profiles
        .iter()
        .map(|profile| (profile, before.as_ref().map(|before| before.since(profile))))
        .collect();
    output.result(&text::text(&story, &pages, verdict.as_ref()), &view(&story, &pages, verdict.as_ref()));
    Ok(done())
}

/// Reads what was named: a folder, an id, else a place; and asks whoever is in place.
fn read(
    name: &str,
    arguments: &cli::Explain,
    in_place: Option<&InPlace>,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<(Story, Option<Verdict>), Failure> {
    let trusted = in_place.map(InPlace::trusted);
    let path = Path::new(name);
    if path.join(nimctl::manifest::MANIFEST_FILE).exists() {
        let story = Story::of_folder(path, trusted.as_ref())?;
        return Ok((story, in_place.map(|in_place| of_folder(path, in_place, cancel))));
    }
    if let (Ok(id), false) = (ProfileId::from_hex(name), path.exists()) {
        let story =
            Story::of_store(&id, &Store::look_at(&environment::store_folder(global)?), trusted.as_ref())?;
        let verdict = match in_place {
            Some(InPlace::Policy(trust, says)) => {
                let gate = Gate::new(trust, &environment::store_folder(global)?, now_s());
                let judged = story.profiles.iter().map(|profile| gate.admit(&profile.passport)).next();
                judged.map(|judged| of_store(trust, says, judged))
            }
            Some(InPlace::Key(_) | InPlace::Certificates(_)) | None => None,
        };
        return Ok((story, verdict));
    }
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let watch = Watch { cancelled: &cancelled, notice: &notice };
    let opened = to_read(name, Reach { arguments: &arguments.registries, watch })?;
    let release = RemoteRelease::open(opened.place.as_ref(), &opened.which)?;
    let story = Story::of_place(&release, trusted.as_ref(), &cancelled)?;
    let store = Store::look_at(&environment::store_folder(global)?);
    let verdict = in_place.map(|in_place| {
        let ids: Vec<String> = release.manifest.profiles.iter().map(|profile| profile.id.clone()).collect();
        let judged = release.check_signature(&in_place.trusted(), Given::default(), &ids);
        match judged.and_then(|accepted| release.check_order(&accepted, &store).map(|()| accepted)) {
            Ok(Accepted { signer, by_policy, .. }) => {
                let rule_line = by_policy.map(|by_policy| by_policy.rule_line);
                accepted(in_place, rule_line, &format!("signed by {signer}, and as signed"))
            }
            Err(error) => refused(Failure::from(error)),
        }
    });
    Ok((story, verdict))
}

fn of_store(trust: &Trust, says: &str, judged: Result<Admitted, NotAdmitted>) -> Verdict {
    let words = match judged {
        Ok(Admitted::ByRule(line)) => format!("accepted by {}", verify_trust::rule(trust, line, says)),
        Ok(Admitted::BuiltHere) => format!("accepted by `built_here` of {} ({says})", trust.path()),
        Err(error) => return refused(Failure::from(error)),
    };
    Verdict { is_accepted: true, words }
}

fn of_folder(folder: &Path, in_place: &InPlace, cancel: &Cancel) -> Verdict {
    let is_cancelled = || cancel.is_cancelled();
    let found = match in_place {
        InPlace::Policy(trust, _) => verify_release(&VerifyReleaseOptions {
            release: folder,
            signature: None,
            attestations: None,
            trust,
            allow_symlinks: false,
            now_s: now_s(),
            threads: threads(),
            is_cancelled: &is_cancelled,
        })
        .map(|verdict| {
            let line = verdict.accepted.map(|(_, line)| line);
            (verdict.signature, line, verdict.findings.len())
        })
        .map_err(Failure::from),
        InPlace::Key(_) | InPlace::Certificates(_) => verify_signature(&VerifyOptions {
            model: folder,
            signature: None,
            trusted: &in_place.trusted(),
            ignore: &[],
            ignore_unsigned: false,
            allow_symlinks: false,
            threads: threads(),
            is_cancelled: &is_cancelled,
        })
        .map(|report| (report, None, 0))
        .map_err(Failure::from),
    };
    match found {
        Ok((report, line, 0)) if report.differences.is_empty() => {
            accepted(in_place, line, &format!("signed by {}, and as signed", report.signer))
        }
        Ok((report, _, 0)) => Verdict {
            is_accepted: false,
            words: format!(
                "{} from what was signed: run `nimctl verify`",
                counted(report.differences.len(), "difference")
            ),
        },
        Ok((_, _, findings)) => Verdict {
            is_accepted: false,
            words: format!("{}: run `nimctl verify`", counted(findings, "problem")),
        },
        Err(failure) => refused(failure),
    }
}

fn accepted(in_place: &InPlace, line: Option<u32>, otherwise: &str) -> Verdict {
    let words = match (in_place, line) {
        (InPlace::Policy(trust, says), Some(line)) => {
            format!("accepted by {}", verify_trust::rule(trust, line, says))
        }
        _ => otherwise.to_owned(),
    };
    Verdict { is_accepted: true, words }
}

fn refused(failure: Failure) -> Verdict {
    Verdict { is_accepted: false, words: format!("refused: {:#}", failure.error) }
}

/// `nimctl.explanation/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    signatures: Vec<Value>,
    verdict: Option<Value>,
    profiles: Vec<ProfileView<'a>>,
}

#[derive(Serialize)]
struct ProfileView<'a> {
    passport: &'a nimctl::passport::Passport,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Option<&'a Since>>,
    attested: Vec<Value>,
}

fn view<'a>(
    story: &'a Story,
    pages: &'a [(&'a Explained, Option<Option<Since>>)],
    verdict: Option<&Verdict>,
) -> View<'a> {
    let profiles = pages.iter().map(|(profile, since)| ProfileView {
        passport: &profile.passport,
        since: since.as_ref().map(Option::as_ref),
        attested: profile
            .attested
            .iter()
            .map(|fact| json!({ "kind": fact.kind, "predicate_type": fact.predicate_type, "by": by(&fact.by) }))
            .collect(),
    });
    View {
        schema: "nimctl.explanation/1",
        signatures: story.signatures.iter().map(by).collect(),
        verdict: verdict.map(|verdict| json!({ "accepted": verdict.is_accepted, "reason": verdict.words })),
        profiles: profiles.collect(),
    }
}

fn by(by: &By) -> Value {
    match by {
        By::Verified(signer) => json!({ "verified": SignerView::from(signer) }),
        By::Claimed(claim) => json!({ "claimed": claim }),
        By::Refused(why) => json!({ "refused": why }),
    }
}
