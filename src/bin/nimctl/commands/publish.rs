//! `nimctl publish`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::oci::{Place, Which};
use nimctl::ops::attest::{Unverified, default_attestations, read_attestations};
use nimctl::ops::publish::{FileLayout, PublishOptions, Published, Shipment, publish};
use nimctl::ops::sign::default_signature;
use nimctl::ops::verify_signature::read_bundle;
use nimctl::ops::workspace::Workspace;
use nimctl::profile::ModelRelease;
use nimctl::recipe::Only;
use nimctl::registry::Watch;
use nimctl::store::Store;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::places::{Opened, Reach, check_form, tell, to_write};
use crate::cli::{self, Global, LayoutArgument};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::progress::Bytes;
use crate::table::{counted, size};

/// No job runs, so the time limit has no effect.
pub(super) const NO_JOB_RUNS_S: u64 = 60;

pub(crate) fn run(
    arguments: &cli::Publish,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Publish { source, only, to, from, layout, signature, attestations, registries } = arguments;
    let layout = match layout {
        LayoutArgument::Packs => FileLayout::Packs,
        LayoutArgument::Files => FileLayout::Files,
    };
    let from = from.as_deref().map(named_release);
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let watch = Watch { cancelled: &cancelled, notice: &notice };
    check_form(to)?;
    let workspace = environment::workspace(global, NO_JOB_RUNS_S, cancel)?;
    let mut shipment = shipment(source, only.as_ref(), &workspace)?;
    let beside = Beside::of(source, &shipment, signature.as_deref(), attestations.as_deref())?;
    let opened = to_write(to, Reach { arguments: registries, watch })?;
    beside.add_to(&mut shipment, opened.place.as_ref(), output)?;
    let sent = send(&shipment, &workspace, to, opened, (layout, from.as_ref()), output)?;
    output.result(&sent.text(), &sent.view());
    Ok(done())
}

/// Returns which release of a place a tag or digest names.
pub(super) fn named_release(text: &str) -> Which {
    text.parse::<Sha256>().map_or_else(|_| Which::Tag(text.into()), Which::Digest)
}

/// What lies beside a release folder, each with its file and whether the user named it.
#[derive(Default)]
struct Beside {
    signature: Option<(PathBuf, bool, Vec<u8>)>,
    attestations: Option<(PathBuf, bool, Vec<Unverified>)>,
}

impl Beside {
    /// Reads the files that the user named, else those beside the folder.
    fn of(
        source: &Path,
        shipment: &Shipment,
        signature: Option<&Path>,
        attestations: Option<&Path>,
    ) -> Result<Self, Failure> {
        if !source.is_dir() {
            let named = signature.map(|_| "--signature").or(attestations.map(|_| "--attestations"));
            let Some(option) = named else { return Ok(Self::default()) };
            let message = format!(
                "{option} is of a release folder, and {} is none: make one with `nimctl release`, and sign it",
                source.display()
            );
            return Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)));
        }
        let file = |named: Option<&Path>, beside: PathBuf| match named {
            Some(path) => Some((path.to_path_buf(), true)),
            None => fs_err::symlink_metadata(&beside).is_ok().then_some((beside, false)),
        };
        let signature = match file(signature, default_signature(source)?) {
            Some((path, is_named)) => {
                let bytes = read_bundle(source, &path)?;
                check_is_signature_of(shipment, source, (&path, is_named), &bytes)?;
                Some((path, is_named, bytes))
            }
            None => None,
        };
        let attestations = match file(attestations, default_attestations(source)?) {
            Some((path, is_named)) => {
                let all = read_attestations(&path)?;
                Some((path, is_named, all))
            }
            None => None,
        };
        Ok(Self { signature, attestations })
    }

    /// Adds them to what is published; what the place can't keep is left out with a warning, unless the user named it.
    fn add_to(self, shipment: &mut Shipment, place: &dyn Place, output: &Output) -> Result<(), Failure> {
        let is_kept = |path: &Path, is_named: bool, what: &str| {
            let kept = is_named || place.keeps_referrers();
            if !kept {
                let place = place.name();
                output.warning(&format!("{} is not published: {place} keeps no {what}", path.display()));
            }
            kept
        };
        if let Some((path, is_named, bytes)) = self.signature
            && is_kept(&path, is_named, "signatures")
        {
            shipment.signature = Some(bytes);
        }
        if let Some((path, is_named, all)) = self.attestations
            && is_kept(&path, is_named, "attestations")
        {
            shipment.attest(&path, all)?;
        }
        Ok(())
    }
}

/// Returns the shipment of a release folder with the signature and attestations that lie beside it.
pub(super) fn signed_shipment(
    folder: &Path,
    place: &dyn Place,
    output: &Output,
) -> Result<Shipment, Failure> {
    let mut shipment = Shipment::of_release(folder)?;
    Beside::of(folder, &shipment, None, None)?.add_to(&mut shipment, place, output)?;
    Ok(shipment)
}

/// Returns what a release folder or a recipe gives to publish. First of all: without it, no place is made.
pub(super) fn shipment(
    source: &Path,
    only: Option<&Only>,
    workspace: &Workspace,
) -> Result<Shipment, Failure> {
    if !source.is_dir() {
        return Ok(Shipment::of_recipe(
            workspace,
            &super::build::resolved(workspace, source, only, &|_| ())?,
        )?);
    }
    if only.is_some() {
        let message = format!(
            "--only chooses among the profiles of a recipe, and {} is a release folder, which is published as it is: name \
             the recipe, or make a release with `nimctl release --only`",
            source.display()
        );
        return Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)));
    }
    Ok(Shipment::of_release(source)?)
}

/// Publishes to a place.
pub(super) fn send<'a>(
    shipment: &'a Shipment,
    workspace: &Workspace,
    to: &'a str,
    opened: Opened<'_>,
    (layout, from): (FileLayout, Option<&Which>),
    output: &Output,
) -> Result<Sent<'a>, Failure> {
    let tag = match &opened.which {
        Which::Tag(tag) if tag.is_empty() => shipment.model.release.clone(),
        Which::Tag(tag) => tag.clone(),
        Which::Digest(digest) => {
            let message = format!("{to}: a release is published under a tag, not under the digest {digest}");
            return Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)));
        }
    };
    let bytes = Bytes::new(output, "sending");
    let options = PublishOptions {
        tag: &tag,
        from,
        layout,
        cancelled: &|| workspace.cancel.is_cancelled(),
        on_sent: &|done, total| bytes.show(done, total),
    };
    // Only looked at: a release folder can be published where there is no store.
    let store = Store::look_at(&workspace.store);
    let published = publish(shipment, &store, opened.place.as_ref(), &options)?;
    bytes.finish();
    let signature = match &shipment.signature {
        Some(_) => SentSignature::Attached,
        None if opened.place.keeps_referrers() => SentSignature::None,
        None => SentSignature::NotKept,
    };
    let attestations: usize = shipment.attestations.values().map(Vec::len).sum();
    opened.finish()?;
    Ok(Sent { model: &shipment.model, to, tag, published, signature, attestations })
}

/// What was published.
pub(super) struct Sent<'a> {
    model: &'a ModelRelease,
    to: &'a str,
    tag: String,
    published: Published,
    signature: SentSignature,
    /// How many were attached.
    attestations: usize,
}

/// What became of the signature of a release.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum SentSignature {
    /// It is attached to the release.
    Attached,
    /// There was none.
    None,
    /// The place keeps none.
    NotKept,
}

impl Sent<'_> {
    pub(super) fn text(&self) -> String {
        let Self { model, to, tag, published, signature, attestations } = self;
        let Published { digest, files_bytes, distinct_bytes, sent_bytes, sent_blobs, profiles } = published;
        let attested = counted(*attestations, "attestation");
        let attached = match signature {
            SentSignature::Attached => format!("signature attached, {attested} attached"),
            SentSignature::None => format!("no signature, {attested} attached"),
            SentSignature::NotKept => "no signature and no attestations: only registries keep them".into(),
        };
        format!(
            "{} {}: {}, {} of files, {} of them different\nsent {} in {} to {to} as {tag}\n{attached}\n{digest}\n",
            model.name,
            model.release,
            counted(profiles.len(), "profile"),
            size(*files_bytes),
            size(*distinct_bytes),
            size(*sent_bytes),
            counted(*sent_blobs, "blob"),
        )
    }

    pub(super) fn view(&self) -> View<'_> {
        let Self { model, to, tag, published, signature, attestations } = self;
        let Published { digest, files_bytes, distinct_bytes, sent_bytes, sent_blobs, profiles } = published;
        View {
            schema: "nimctl.published/1",
            model: &model.name,
            release: &model.release,
            place: to,
            tag,
            digest: *digest,
            files_bytes: *files_bytes,
            distinct_bytes: *distinct_bytes,
            sent_bytes: *sent_bytes,
            sent_blobs: *sent_blobs,
            signature: *signature,
            attestations: *attestations,
            profiles,
        }
    }
}

/// `nimctl.published/1`.
#[derive(Serialize)]
pub(super) struct View<'a> {
    schema: &'static str,
    model: &'a str,
    release: &'a str,
    place: &'a str,
    tag: &'a str,
    digest: Sha256,
    files_bytes: u64,
    distinct_bytes: u64,
    sent_bytes: u64,
    sent_blobs: usize,
    signature: SentSignature,
    attestations: usize,
    profiles: &'a BTreeMap<String, Sha256>,
}

/// Fails if a signature is not one of the release as it is published: `nimctl pull` would refuse it on every host.
fn check_is_signature_of(
    shipment: &Shipment,
    folder: &Path,
    (path, is_named): (&Path, bool),
    bundle: &[u8],
) -> Result<(), Failure> {
    shipment.check_signature(bundle).map_err(|reason| {
        let (path, folder) = (path.display(), folder.display());
        let message = format!("{path} is not the signature of {folder} as it is now: {reason}");
        let hint = if is_named {
            format!("sign it again with `nimctl sign {folder} --signature {path}`, or name another file")
        } else {
            format!("sign it again with `nimctl sign {folder}`, or remove the file")
        };
        Failure::new(ErrorKind::Refused, anyhow::Error::msg(message)).hint(Some(hint))
    })
}
