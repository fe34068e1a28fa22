//! Opens the places that releases are published to and pulled from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::files::work_folder::{self, WorkFolder};
use nimctl::oci::{
    Archive, EMPTY, InvalidReference as InvalidPlace, Layout, Place, PlaceReference, RegistryPlace, WebPlace,
    Which, pack_archive,
};
use nimctl::registry::{
    Client, InvalidReference, Limits, Notice, Options, PlainHttp, Reference, Watch, WebFile, shown_address,
    web_address,
};

use crate::cli::{MirrorArgument, RegistryArguments};
use crate::environment;
use crate::exit::Failure;
use crate::output::Output;

/// What becomes an archive is in a folder of this name beside it.
const STAGING_PREFIX: &str = ".bundle-";

/// A place, and what is meant in it.
pub(super) struct Opened<'a> {
    pub(super) place: Box<dyn Place + 'a>,
    /// The tag, or the digest; an empty tag where none was named.
    pub(super) which: Which,
    /// The repository in a registry: `host/name`.
    pub(super) repository: Option<String>,
    /// The archive to pack at the end, and the folder that holds it until then.
    archive: Option<(PathBuf, WorkFolder)>,
}

/// How registries are reached, and who is told of it.
#[derive(Clone, Copy)]
pub(super) struct Reach<'a> {
    pub(super) arguments: &'a RegistryArguments,
    pub(super) watch: Watch<'a>,
}

/// Opens a place to read from.
pub(super) fn to_read<'a>(text: &str, reach: Reach<'a>) -> Result<Opened<'a>, Failure> {
    refuse_uri_mirrors(text, reach)?;
    Ok(match parse(text)? {
        PlaceReference::Layout(path, tag) => opened(Layout::open(&path)?, &tag),
        PlaceReference::Archive(path, tag) => opened(Archive::open(&path)?, &tag),
        PlaceReference::Registry(name) => registry(&name, reach)?,
        PlaceReference::Web(address, tag) => {
            let url = web_address(&address).map_err(|error| Failure::new(ErrorKind::Input, error))?;
            opened(WebPlace::open(client(reach), WebFile::new(url, None))?, &tag)
        }
    })
}

/// Opens a place to write to. An archive is written when it is finished.
pub(super) fn to_write<'a>(text: &str, reach: Reach<'a>) -> Result<Opened<'a>, Failure> {
    refuse_uri_mirrors(text, reach)?;
    Ok(match parse_to_write(text)? {
        PlaceReference::Layout(path, tag) => opened(Layout::open_or_make(&path)?, &tag),
        PlaceReference::Archive(path, tag) => {
            check_replaced(&path)?;
            let staging = staging_beside(&path).map_err(|error| Failure::new(ErrorKind::Input, error))?;
            let layout = Layout::open_or_make(&staging.path().join("layout"))?.named_as_archive(&path);
            Opened { archive: Some((path, staging)), ..opened(layout, &tag) }
        }
        PlaceReference::Web(_, _) => return Err(read_only(text)),
        PlaceReference::Registry(name) => registry(&name, reach)?,
    })
}

/// Checks that a place can be one to write to, and that an archive takes the place of no other file. Nothing is asked.
pub(super) fn check_form(text: &str) -> Result<(), Failure> {
    match parse_to_write(text)? {
        PlaceReference::Layout(_, _) | PlaceReference::Registry(_) => Ok(()),
        PlaceReference::Archive(path, _) => check_replaced(&path),
        PlaceReference::Web(_, _) => Err(read_only(text)),
    }
}

fn read_only(text: &str) -> Failure {
    let message = format!(
        "{} can only be read: publish to oci:FOLDER, and let the server serve that folder",
        shown(text)
    );
    Failure::new(ErrorKind::Input, anyhow::Error::msg(message))
}

/// Checks what can be known of a place long before it is written: its form, what an archive takes the place of, and that a registry
/// answers and lets us in. Nothing is made or sent.
pub(super) fn check_to_write(text: &str, reach: Reach<'_>) -> Result<(), Failure> {
    match parse_to_write(text)? {
        PlaceReference::Layout(_, _) => Ok(()),
        PlaceReference::Archive(path, _) => check_replaced(&path),
        PlaceReference::Web(_, _) | PlaceReference::Registry(_) => {
            let opened = to_write(text, reach)?;
            Ok(opened.place.has_blob(&Sha256::of(EMPTY)).map(|_| ())?)
        }
    }
}

fn opened<'a>(place: impl Place + 'a, tag: &str) -> Opened<'a> {
    let which = tag.parse::<Sha256>().map_or_else(|_| Which::Tag(tag.into()), Which::Digest);
    Opened { place: Box::new(place), which, repository: None, archive: None }
}

fn registry<'a>(name: &str, reach: Reach<'a>) -> Result<Opened<'a>, Failure> {
    let reference: Reference =
        name.parse().map_err(|error: InvalidReference| Failure::new(ErrorKind::Input, error))?;
    let repository = reference.repository.clone();
    let which = match (reference.digest, reference.tag) {
        (Some(digest), _) => Which::Digest(digest),
        (None, tag) => Which::Tag(tag.unwrap_or_default()),
    };
    let name = repository.to_string();
    let place = RegistryPlace::new(client(reach), repository);
    Ok(Opened { place: Box::new(place), which, repository: Some(name), archive: None })
}

/// Returns a place as results and messages show it: without the password or signature of an address.
pub(super) fn shown(text: &str) -> String {
    if text.starts_with("http") { shown_address(text) } else { text.into() }
}

/// Fails if a mirror is one of uris, which places do not have.
fn refuse_uri_mirrors(text: &str, reach: Reach<'_>) -> Result<(), Failure> {
    if !reach.arguments.mirrors.iter().any(|mirror| matches!(mirror, MirrorArgument::Uri(_))) {
        return Ok(());
    }
    let message = format!(
        "--mirror with uris is for manifests, and {} is none: write FROM=TO, each a host or host/name",
        shown(text)
    );
    Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)))
}

/// Returns a client that reaches servers as the user wants.
pub(super) fn client(reach: Reach<'_>) -> Client<'_> {
    let Reach { arguments, watch } = reach;
    let RegistryArguments { plain_http, mirrors, time_limit } = arguments;
    let options = Options {
        plain_http: if *plain_http { PlainHttp::All } else { PlainHttp::Loopback },
        limits: Limits { total: Duration::from_secs(*time_limit), ..Limits::default() },
        mirrors: mirrors
            .iter()
            .filter_map(|mirror| match mirror {
                MirrorArgument::Registry(mirror) => Some(mirror.clone()),
                MirrorArgument::Uri(_) => None,
            })
            .collect(),
        credentials: environment::registry_credentials(),
    };
    Client::new(options, watch)
}

/// Tells the user what a client goes on in spite of.
pub(super) fn tell(output: &Output, notice: Notice) {
    match notice {
        Notice::Retrying { reason, wait } => {
            output.talk(&format!("{reason}: trying again in {:.1} s", wait.as_secs_f64()));
        }
        Notice::RangeIgnored { host } => {
            output.warning(&format!(
                "{host} sends whole blobs where parts were asked for: more is fetched than is needed"
            ));
        }
        Notice::MirrorFailed { reason } => output.talk(&format!("mirror: {reason}")),
        Notice::HelperFailed { problem } => output.warning(&problem),
        _ => {}
    }
}

impl Opened<'_> {
    /// Writes the archive, if it is one.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if let Some((path, staging)) = self.archive {
            pack_archive(&Layout::open(&staging.path().join("layout"))?, &path)?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<PlaceReference, Failure> {
    PlaceReference::parse(text).map_err(|error| Failure::new(ErrorKind::Input, error))
}

/// Reads the name of a place to write to, which may not be there yet.
fn parse_to_write(text: &str) -> Result<PlaceReference, Failure> {
    PlaceReference::parse(text).map_err(|error| {
        let hint = "write oci:FOLDER or oci-archive:FILE for one that is to be made";
        let hint = matches!(error, InvalidPlace::NothingThere(_)).then(|| hint.to_owned());
        Failure::new(ErrorKind::Input, error).hint(hint)
    })
}

/// Fails if an archive would take the place of something else than an archive.
fn check_replaced(path: &Path) -> Result<(), Failure> {
    // Where a link leads to nothing, nothing is lost.
    if fs_err::metadata(path).is_err() || Archive::open(path).is_ok() {
        return Ok(());
    }
    let message = format!(
        "{} is there, and is not an archive in the OCI image layout: choose another name, or remove it",
        path.display()
    );
    Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)))
}

fn staging_beside(path: &Path) -> std::io::Result<WorkFolder> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    work_folder::sweep(parent, STAGING_PREFIX);
    WorkFolder::new_in(parent, STAGING_PREFIX)
}
