//! `nimctl pull`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::manifest::MANIFEST_FILE;
use nimctl::ops::attest::read_attestations;
use nimctl::ops::pull::{Accepted, Given, PullOptions, Pulled, RemoteRelease};
use nimctl::ops::verify_signature::read_bundle;
use nimctl::passport::Passport;
use nimctl::registry::Watch;
use nimctl::selection::find_pinned;
use nimctl::store::Store;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::places::{Reach, shown, tell, to_read};
use super::pull_manifest::{self, Destination, Done, One, Profiles, Request, is_manifest};
use super::sign::SignerView;
use super::trusted::InPlace;
use super::verify_trust;
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::progress::Bytes;
use crate::table::size;

pub(crate) fn run(
    arguments: &cli::Pull,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Pull { from, profiles, all, devices, destination, parallel, accepted, registries } = arguments;
    let cli::AcceptedArguments { key, certificate_chain, trust, signature, attestations, allow_rollback } =
        accepted;
    let in_place = InPlace::of(key.as_deref(), certificate_chain, trust.as_deref())?;
    if let (None, Some(file)) = (&in_place, signature.as_ref().or(attestations.as_ref())) {
        let message = match signature {
            Some(_) => format!("nothing says whose signature {} must be", file.display()),
            None => format!("nothing says who must have signed the attestations in {}", file.display()),
        };
        let hint = "name a key with --key, roots with --certificate-chain, or a trust policy with --trust";
        return Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)).hint(Some(hint.into())));
    }
    if is_manifest(from) {
        if let Some(in_place) = &in_place {
            return Err(manifest_is_not_signed(from, in_place));
        }
        return of_manifest(arguments, global, output, cancel);
    }
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let watch = Watch { cancelled: &cancelled, notice: &notice };
    let opened = to_read(from, Reach { arguments: registries, watch })?;
    let release = RemoteRelease::open(opened.place.as_ref(), &opened.which)?;
    if let Some(folder) = destination {
        release.check_folder(folder)?;
    }
    let ids = if *all {
        release.manifest.profiles.iter().map(|profile| profile.id.clone()).collect()
    } else if profiles.is_empty() {
        chosen(&release, devices, output)?
    } else {
        let named = |name: &String| {
            let place = find_pinned(&release.manifest.profiles, name);
            let place = place.map_err(|error| {
                Failure::new(ErrorKind::Input, error)
                    .hint(Some("`nimctl pull --all` pulls every profile".into()))
            })?;
            Ok(release.manifest.profiles[place].id.clone())
        };
        profiles.iter().map(named).collect::<Result<Vec<_>, Failure>>()?
    };
    let accepted = match &in_place {
        None => None,
        Some(in_place) => {
            let attestations = attestations.as_deref().map(read_attestations).transpose()?;
            let given = Given {
                signature: signature.as_ref().map(|path| read_bundle(Path::new(from), path)).transpose()?,
                attestations: attestations.map(|all| all.into_iter().map(|one| one.bundle).collect()),
            };
            let accepted = release.check_signature(&in_place.trusted(), given, &ids)?;
            if !allow_rollback {
                release.check_order(&accepted, &Store::look_at(&environment::store_folder(global)?))?;
            }
            Some((accepted, in_place))
        }
    };
    let store = Store::open(&environment::store_folder(global)?)?;
    let mut pulled = Vec::new();
    for id in ids {
        let profile = release.manifest.profiles.iter().find(|profile| profile.id == id);
        let name = profile.map_or_else(|| id.clone(), |found| found.readable_name());
        let bytes = Bytes::new(output, &name);
        let options = PullOptions {
            parallel: usize::from(*parallel),
            cancelled: &|| cancel.is_cancelled(),
            on_bytes: &|done, total| bytes.show(done, total),
        };
        let one = release.pull(&id, &store, &options)?;
        bytes.finish();
        let name = one.passport.as_ref().map(|passport| passport.name.clone()).unwrap_or_default();
        pulled.push(One { id, name, pulled: one });
    }
    if let Some((accepted, _)) = &accepted {
        release.keep_signature(accepted, &store, *allow_rollback)?;
        for one in &mut pulled {
            // A signed passport may have taken the place of one that came without a signature.
            if let Some(passport) = &mut one.pulled.passport
                && let Some(now) = store.passport(&passport.id)?
            {
                **passport = now;
            }
        }
    }
    if let Some(folder) = destination {
        let passports: Vec<Passport> =
            pulled.iter().filter_map(|one| one.pulled.passport.as_deref().cloned()).collect();
        release.lay_out(&passports, &store, folder, opened.repository.as_deref())?;
    }
    // Last: a pull that failed before changes nothing of what may be used.
    if let Some((accepted, _)) = &accepted {
        release.keep_newest(accepted, &store, *allow_rollback)?;
    }
    let place = shown(from);
    let view = View::new(&place, release.digest, &pulled, destination.as_deref(), &[]);
    let mut said = text(&pulled, destination.as_deref());
    if let Some((Accepted { signer, by_policy, .. }, in_place)) = &accepted {
        let _ = writeln!(said, "signed by {signer}");
        if let (Some(by_policy), InPlace::Policy(trust, says)) = (by_policy, in_place) {
            let _ = writeln!(said, "accepted by {}", verify_trust::rule(trust, by_policy.rule_line, says));
        }
    }
    let signed = accepted.as_ref().map(|(Accepted { signer, by_policy, .. }, in_place)| SignedView {
        signed_by: signer.into(),
        policy: match in_place {
            InPlace::Policy(trust, _) => Some(trust.path()),
            InPlace::Key(_) | InPlace::Certificates(_) => None,
        },
        rule_line: by_policy.as_ref().map(|by_policy| by_policy.rule_line),
    });
    output.result(&said, &View { signed, ..view });
    Ok(done())
}

/// Returns why a manifest is not pulled where only what is signed is accepted.
fn manifest_is_not_signed(from: &str, in_place: &InPlace) -> Failure {
    let what = match in_place {
        InPlace::Policy(trust, _) => format!("the trust policy {}", trust.path()),
        InPlace::Key(_) | InPlace::Certificates(_) => "the command line".to_owned(),
    };
    let message = format!("{} is a manifest, which has no signature, and {what} asks for one", shown(from));
    let hint = "pull the release from a registry, or verify a release folder with `nimctl verify`";
    Failure::new(ErrorKind::Refused, anyhow::Error::msg(message)).hint(Some(hint.into()))
}

/// Returns the ids of the profiles that selection chooses for these GPUs.
fn chosen(
    release: &RemoteRelease<'_>,
    arguments: &cli::DeviceArguments,
    output: &Output,
) -> Result<Vec<String>, Failure> {
    let folder = tempfile::tempdir().map_err(|error| Failure::new(ErrorKind::Input, error))?;
    release.write_descriptions(folder.path())?;
    pull_manifest::chosen(&folder.path().join(MANIFEST_FILE), false, arguments, None, output)
}

pub(super) fn text(pulled: &[One], destination: Option<&Path>) -> String {
    let mut text = String::new();
    for One { id, name, pulled } in pulled {
        let Pulled {
            files_bytes,
            fetched_bytes,
            here_bytes,
            reused_bytes,
            passport: _,
            digest: _,
            in_use: _,
        } = pulled;
        let _ = writeln!(
            text,
            "{name} {id}\n  {}: {} fetched, {} in other files here, {} was here",
            size(*files_bytes),
            size(*fetched_bytes),
            size(*reused_bytes),
            size(*here_bytes),
        );
    }
    if let Some(folder) = destination {
        let _ = writeln!(text, "laid out in {}", folder.display());
    }
    text
}

/// Pulls profiles of a manifest.
fn of_manifest(
    arguments: &cli::Pull,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Pull { from, profiles, all, devices, destination, parallel, accepted: _, registries } =
        arguments;
    let profiles = match (all, profiles.as_slice()) {
        (true, _) => Profiles::All,
        (false, []) => Profiles::Chosen { lora: false, single: false },
        (false, named) => Profiles::Named(named),
    };
    let destination = Destination::Folder(destination.as_deref());
    let request = Request {
        manifest: from,
        profiles,
        devices,
        destination,
        parallel: *parallel,
        registries,
        // Where one is in place, a manifest was refused.
        admission: None,
    };
    let pulled = pull_manifest::pull(&request, global, output, cancel)?;
    output
        .result(&text(&pulled.profiles, pulled.folder.as_deref()), &View::of_manifest(&shown(from), &pulled));
    Ok(done())
}

/// `nimctl.pulled/1`.
#[derive(Serialize)]
pub(super) struct View<'a> {
    schema: &'static str,
    place: &'a str,
    digest: Sha256,
    folder: Option<&'a Path>,
    profiles: Vec<ProfileView<'a>>,
    unverified: &'a [String],
    #[serde(flatten)]
    signed: Option<SignedView<'a>>,
}

/// Who signed, and the rule that accepted it.
#[derive(Serialize)]
struct SignedView<'a> {
    signed_by: SignerView<'a>,
    policy: Option<&'a str>,
    rule_line: Option<u32>,
}

#[derive(Serialize)]
struct ProfileView<'a> {
    profile_id: &'a str,
    name: &'a str,
    manifest_digest: Option<Sha256>,
    files_bytes: u64,
    fetched_bytes: u64,
    reused_bytes: u64,
    here_bytes: u64,
}

impl<'a> View<'a> {
    fn new(
        place: &'a str,
        digest: Sha256,
        pulled: &'a [One],
        folder: Option<&'a Path>,
        unverified: &'a [String],
    ) -> Self {
        let profile = |One { id, name, pulled }: &'a One| ProfileView {
            profile_id: id,
            name,
            manifest_digest: pulled.digest,
            files_bytes: pulled.files_bytes,
            fetched_bytes: pulled.fetched_bytes,
            reused_bytes: pulled.reused_bytes,
            here_bytes: pulled.here_bytes,
        };
        let profiles = pulled.iter().map(profile).collect();
        Self { schema: "nimctl.pulled/1", place, digest, folder, profiles, unverified, signed: None }
    }

    pub(super) fn of_manifest(place: &'a str, done: &'a Done) -> Self {
        Self::new(place, done.digest, &done.profiles, done.folder.as_deref(), &done.unverified)
    }
}
