//! `publish`: puts a release where hosts fetch it from: a registry, or a folder or tar in the OCI image layout.
//!
//! Chunks that an earlier release at the same place has are referred to; new ones travel in packs ([`crate::packs`]). What refers
//! to others is written after them, and the tag last: a release is there as a whole, or not at all.

mod error;
mod pieces;
mod sender;
mod shipment;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

pub use error::PublishError;
use pieces::Pieces;
use sender::{Sender, in_parallel};
pub use shipment::{Shipment, ShippedAttestation, ShippedFile, ShippedProfile};

use crate::chunks::{Chunk, ChunkList, Digested, digest_and_cut};
use crate::digest::{Blake3, Sha256};
use crate::files::direct_file;
use crate::oci::{
    ATTESTATION_KIND, BUNDLE_CONTENT, BUNDLE_PREDICATE, CONTENTS_TYPE, DOCUMENTS_ARTIFACT, Descriptor, EMPTY,
    EMPTY_TYPE, FILE_TYPE, INDEX_TYPE, ImageIndex, ImageManifest, MANIFEST_TYPE, PACK_INDEX_TYPE, PACK_TYPE,
    PASSPORT_TYPE, PROFILE_ARTIFACT, PROFILE_ID, PROFILE_NAME, Place, RELEASE_ARTIFACT, SIGNATURE_TYPE,
    TITLE, Which, fetch_small,
};
use crate::packs::{MAX_INDEX_BYTES, NewPack, Pack, PackIndex, Plan};
use crate::profile::CONTENTS_FILE;
use crate::release::PASSPORT_FILE;
use crate::store::Store;

/// Packs that travel at the same time.
const UPLOADS: usize = 2;

/// How a profile's files travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLayout {
    /// As chunks in packs.
    Packs,
    /// Each as a layer with its path as title.
    Files,
}

/// How to publish.
#[derive(Clone, Copy)]
pub struct PublishOptions<'a> {
    /// The tag to give it.
    pub tag: &'a str,
    /// The release at the same place whose packs are used again; by default the one that has the tag.
    pub from: Option<&'a Which>,
    /// How files travel.
    pub layout: FileLayout,
    /// Asked between packs.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Gets the bytes that were sent so far, and those to send.
    pub on_sent: &'a (dyn Fn(u64, u64) + Sync),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The digest of the release's index.
    pub digest: Sha256,
    /// Bytes of all files of all profiles.
    pub files_bytes: u64,
    /// Bytes of different chunks in them; equal to the sum over files for the layout `files`.
    pub distinct_bytes: u64,
    /// Bytes that were sent: packs or files, indexes and documents.
    pub sent_bytes: u64,
    /// Blobs and manifests that were sent.
    pub sent_blobs: usize,
    /// The digest of each profile's manifest, by its id.
    pub profiles: BTreeMap<String, Sha256>,
}

/// Publishes a release.
///
/// # Errors
/// Files that can't be read or are not what the release says, a place that can't be written, cancelled.
pub fn publish(
    shipment: &Shipment,
    store: &Store,
    to: &dyn Place,
    options: &PublishOptions<'_>,
) -> Result<Published, PublishError> {
    if !to.keeps_referrers() {
        if shipment.signature.is_some() {
            return Err(PublishError::KeepsNoSignatures { place: to.name() });
        }
        if !shipment.attestations.is_empty() {
            return Err(PublishError::KeepsNoAttestations { place: to.name() });
        }
    }
    send_all(shipment, store, to, options).map_err(|error| error.in_release(shipment.folder.as_deref()))
}

fn send_all(
    shipment: &Shipment,
    store: &Store,
    to: &dyn Place,
    options: &PublishOptions<'_>,
) -> Result<Published, PublishError> {
    let sender = Sender { to, bytes: AtomicU64::new(0), blobs: AtomicU64::new(0) };
    let files = Files::of(shipment, store, options)?;
    let small = small_blobs(shipment);
    // What is large fills the line; small blobs, which cost a registry time, go beside it.
    let (packed, distinct_bytes) = std::thread::scope(|scope| {
        let small = scope.spawn(|| in_parallel(&small, options, |(kind, bytes)| sender.blob(kind, bytes)));
        let large = match options.layout {
            FileLayout::Files => send_files(&files, &sender, options).map(|()| (None, files.size_bytes())),
            FileLayout::Packs => known_indexes(to, options).and_then(|known| {
                let lists: Vec<&ChunkList> = files.all.iter().map(|file| &file.list).collect();
                let plan = Plan::new(&lists, &known);
                let made = send_packs(&plan, &files, &sender, options)?;
                Ok((Some((plan, made)), files.distinct_bytes()))
            }),
        };
        let small = small.join().unwrap_or(Err(PublishError::Bug("a thread that sends blobs ended early")));
        large.and_then(|large| small.map(|_| large))
    })?;
    let profiles = in_parallel(&shipment.profiles, options, |profile| {
        let config = Descriptor::of(CONTENTS_TYPE, &profile.contents_json).with(TITLE, CONTENTS_FILE);
        let passport = Descriptor::of(PASSPORT_TYPE, &profile.passport).with(TITLE, PASSPORT_FILE);
        let mut layers = Vec::new();
        match &packed {
            Some((plan, made)) => {
                let of_profile = profile.files.iter().map(|file| {
                    let found = files.get(&file.sha256);
                    (file.path.as_str(), file.sha256, found.blake3, &found.list)
                });
                let index = plan.index(of_profile, made);
                let pack = |pack: &Pack| Descriptor::new(PACK_TYPE, pack.digest, pack.size_bytes);
                layers.push(sender.blob(PACK_INDEX_TYPE, &index.to_json())?);
                layers.push(passport);
                layers.extend(index.packs.iter().map(pack));
            }
            None => {
                layers.push(passport);
                layers.extend(profile.files.iter().map(|file| {
                    Descriptor::new(FILE_TYPE, file.sha256, file.size_bytes).with(TITLE, &file.path)
                }));
            }
        }
        let manifest = ImageManifest::new(PROFILE_ARTIFACT, config, layers).to_json();
        let mut descriptor = sender.manifest(None, MANIFEST_TYPE, &manifest)?;
        if let Some(attestations) = shipment.attestations.get(&profile.id) {
            attach(&descriptor, attestations.iter().map(|one| (Some(one), one.bundle.as_slice())), &sender)?;
        }
        descriptor.artifact_type = Some(PROFILE_ARTIFACT.into());
        Ok(descriptor.with(PROFILE_ID, profile.id.to_string()).with(PROFILE_NAME, &profile.name))
    })?;
    let ids = shipment.profiles.iter().map(|profile| profile.id.to_string());
    let digests = ids.zip(profiles.iter().map(|descriptor| descriptor.digest)).collect();
    let mut manifests = vec![documents(shipment, &sender)?];
    manifests.extend(profiles);
    let index = ImageIndex::new(Some(RELEASE_ARTIFACT), manifests);
    let index = index.to_json();
    if let Some(signature) = &shipment.signature {
        // Before the tag: whoever pulls by it finds the signature.
        let subject = sender.manifest(None, INDEX_TYPE, &index)?;
        attach(&subject, [(None, signature.as_slice())], &sender)?;
    }
    let descriptor = sender.manifest(Some(options.tag), INDEX_TYPE, &index)?;
    Ok(Published {
        digest: descriptor.digest,
        files_bytes: files.size_bytes(),
        distinct_bytes,
        sent_bytes: sender.bytes.into_inner(),
        sent_blobs: sender.blobs.into_inner() as usize,
        profiles: digests,
    })
}

/// Returns the blobs that are sent as they are, each with its media type.
fn small_blobs(shipment: &Shipment) -> Vec<(&'static str, &[u8])> {
    let documents = shipment.documents.iter().map(|(_, bytes)| (FILE_TYPE, bytes.as_slice()));
    let contents = shipment.profiles.iter().map(|profile| (CONTENTS_TYPE, profile.contents_json.as_slice()));
    let passports = shipment.profiles.iter().map(|profile| (PASSPORT_TYPE, profile.passport.as_slice()));
    let all = documents.chain(contents).chain(passports);
    std::iter::once((EMPTY_TYPE, EMPTY)).chain(all).collect()
}

/// Sends bundles that are about a manifest, as others attach theirs; one that is an attestation says which. One that the place lists as attached
/// is not sent again; that its manifest is there is not enough, since a publish that ended early may not have listed it.
fn attach<'b>(
    subject: &Descriptor,
    bundles: impl IntoIterator<Item = (Option<&'b ShippedAttestation>, &'b [u8])>,
    sender: &Sender<'_>,
) -> Result<(), PublishError> {
    let attached = sender.to.referrers(&subject.digest, SIGNATURE_TYPE)?;
    for (attestation, bundle) in bundles {
        let layer = sender.blob(SIGNATURE_TYPE, bundle)?;
        let mut manifest = ImageManifest::new(SIGNATURE_TYPE, Descriptor::of(EMPTY_TYPE, EMPTY), vec![layer]);
        manifest.subject = Some(Descriptor::new(&subject.media_type, subject.digest, subject.size));
        if let Some(ShippedAttestation { kind, predicate_type, bundle: _ }) = attestation {
            manifest.annotations.insert(BUNDLE_CONTENT.into(), "dsse-envelope".into());
            manifest.annotations.insert(BUNDLE_PREDICATE.into(), predicate_type.clone());
            if let Some(kind) = kind {
                manifest.annotations.insert(ATTESTATION_KIND.into(), kind.word().into());
            }
        }
        let manifest = manifest.to_json();
        if !attached.contains(&Sha256::of(&manifest)) {
            sender.manifest(None, MANIFEST_TYPE, &manifest)?;
        }
    }
    Ok(())
}

/// Sends the manifest of the release's documents, which are there.
fn documents(shipment: &Shipment, sender: &Sender<'_>) -> Result<Descriptor, PublishError> {
    let layer = |(name, bytes): &(String, Vec<u8>)| Descriptor::of(FILE_TYPE, bytes).with(TITLE, name);
    let layers = shipment.documents.iter().map(layer).collect();
    let manifest =
        ImageManifest::new(DOCUMENTS_ARTIFACT, Descriptor::of(EMPTY_TYPE, EMPTY), layers).to_json();
    let mut descriptor = sender.manifest(None, MANIFEST_TYPE, &manifest)?;
    descriptor.artifact_type = Some(DOCUMENTS_ARTIFACT.into());
    Ok(descriptor)
}

/// Sends every different file as a blob, one after the other.
fn send_files(files: &Files, sender: &Sender<'_>, options: &PublishOptions<'_>) -> Result<(), PublishError> {
    for (sha256, number) in &files.numbers {
        if (options.cancelled)() {
            return Err(PublishError::Cancelled);
        }
        let Cut { place, list, .. } = &files.all[*number];
        let reading = |source| PublishError::Read { path: place.clone(), source };
        let mut source = fs_err::File::open(place).map_err(reading)?;
        sender.large_blob(sha256, list.size_bytes, &mut source)?;
    }
    Ok(())
}

/// Returns the pack indexes of the release whose packs are used again, without the chunks of packs that the place has lost. One that
/// can't be read is as good as none: everything is sent then.
fn known_indexes(place: &dyn Place, options: &PublishOptions<'_>) -> Result<Vec<PackIndex>, PublishError> {
    let tag = Which::Tag(options.tag.into());
    let which = options.from.unwrap_or(&tag);
    let Some((bytes, _)) = place.manifest(which)? else {
        return match options.from {
            None => Ok(Vec::new()),
            Some(from) => Err(PublishError::NoEarlier { place: place.name(), from: from.to_string() }),
        };
    };
    let Ok(release) = ImageIndex::parse(&bytes, "") else { return Ok(Vec::new()) };
    let indexes = in_parallel(&release.manifests, options, |descriptor| {
        let Some((bytes, _)) = place.manifest(&Which::Digest(descriptor.digest))? else { return Ok(None) };
        let Ok(manifest) = ImageManifest::parse(&bytes, "") else { return Ok(None) };
        let Some(layer) = manifest.layer(PACK_INDEX_TYPE) else { return Ok(None) };
        let Ok(bytes) = fetch_small(place, layer, MAX_INDEX_BYTES) else { return Ok(None) };
        Ok(PackIndex::parse(&bytes, "").ok())
    })?;
    let mut indexes: Vec<PackIndex> = indexes.into_iter().flatten().collect();
    // Profiles share packs, and each is asked for once: a layout reads it whole.
    let packs: BTreeSet<Sha256> =
        indexes.iter().flat_map(|index| &index.packs).map(|pack| pack.digest).collect();
    let packs: Vec<Sha256> = packs.into_iter().collect();
    let are_there = in_parallel(&packs, options, |pack| Ok(place.has_blob(pack)?))?;
    let are_there: BTreeMap<Sha256, bool> = packs.into_iter().zip(are_there).collect();
    for PackIndex { schema: _, packs, files } in &mut indexes {
        let is_there = |pack: u32| packs.get(pack as usize).is_some_and(|pack| are_there[&pack.digest]);
        for file in files {
            file.chunks.retain(|placed| is_there(placed.pack));
        }
    }
    Ok(indexes)
}

/// Makes packs one after the other, and sends some at the same time.
fn send_packs(
    plan: &Plan,
    files: &Files,
    sender: &Sender<'_>,
    options: &PublishOptions<'_>,
) -> Result<Vec<Pack>, PublishError> {
    let total = plan.new_bytes();
    let sent = AtomicU64::new(0);
    (options.on_sent)(0, total);
    let places = files.places();
    let (give, take) = mpsc::sync_channel::<(Pack, &NewPack)>(0);
    let take = std::sync::Mutex::new(take);
    std::thread::scope(|scope| {
        let upload = || -> Result<(), PublishError> {
            loop {
                let next = take.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
                let Ok((Pack { digest, size_bytes }, pack)) = next else { return Ok(()) };
                let mut pieces = Pieces::new(pack, &places);
                let ended = sender.large_blob(&digest, size_bytes, &mut pieces);
                // A file that changed meanwhile is named as such.
                ended.map_err(|error| pieces.problem().unwrap_or(error))?;
                (options.on_sent)(sent.fetch_add(size_bytes, Ordering::Relaxed) + size_bytes, total);
            }
        };
        let uploads: Vec<_> = (0..UPLOADS).map(|_| scope.spawn(upload)).collect();
        let mut made = Vec::new();
        let mut failure = None;
        for pack in &plan.packs {
            if (options.cancelled)() {
                failure = Some(PublishError::Cancelled);
                break;
            }
            let mut pieces = Pieces::new(pack, &places);
            match Sha256::of_reader(&mut pieces) {
                Ok((digest, size_bytes)) => {
                    let made_pack = Pack { digest, size_bytes };
                    made.push(made_pack);
                    // Nobody takes it: every upload has failed, and says why.
                    if give.send((made_pack, pack)).is_err() {
                        break;
                    }
                }
                Err(_) => {
                    failure = pieces.problem();
                    break;
                }
            }
            if uploads.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        drop(give);
        for upload in uploads {
            let ended = upload
                .join()
                .unwrap_or_else(|_| Err(PublishError::Bug("a thread that sends packs ended early")));
            failure = failure.or(ended.err());
        }
        failure.map_or(Ok(made), Err)
    })
}

/// A file that is published, once however many profiles have it.
struct Cut {
    place: PathBuf,
    blake3: Blake3,
    list: ChunkList,
}

/// Every different file of a shipment, in the order of its profiles.
struct Files {
    all: Vec<Cut>,
    numbers: BTreeMap<Sha256, usize>,
    total_bytes: u64,
}

impl Files {
    fn of(shipment: &Shipment, store: &Store, options: &PublishOptions<'_>) -> Result<Self, PublishError> {
        let mut files = Self { all: Vec::new(), numbers: BTreeMap::new(), total_bytes: 0 };
        for file in shipment.profiles.iter().flat_map(|profile| &profile.files) {
            files.total_bytes += file.size_bytes;
            if files.numbers.contains_key(&file.sha256) {
                continue;
            }
            if (options.cancelled)() {
                return Err(PublishError::Cancelled);
            }
            files.numbers.insert(file.sha256, files.all.len());
            files.all.push(cut(file, store)?);
        }
        Ok(files)
    }

    fn get(&self, sha256: &Sha256) -> &Cut {
        &self.all[self.numbers[sha256]]
    }

    fn size_bytes(&self) -> u64 {
        self.total_bytes
    }

    fn distinct_bytes(&self) -> u64 {
        let chunks: BTreeSet<Chunk> =
            self.all.iter().flat_map(|file| file.list.chunks.iter().copied()).collect();
        chunks.iter().map(|chunk| u64::from(chunk.length)).sum()
    }

    /// Returns where each file is.
    fn places(&self) -> Vec<&Path> {
        self.all.iter().map(|file| file.place.as_path()).collect()
    }
}

/// Cuts a file, unless the store knows its chunks.
fn cut(file: &ShippedFile, store: &Store) -> Result<Cut, PublishError> {
    let ShippedFile { path: _, place, sha256, blake3, size_bytes } = file;
    if let (Some(blake3), Some(list)) = (blake3, store.chunk_list(sha256)?)
        && list.size_bytes == *size_bytes
    {
        return Ok(Cut { place: place.clone(), blake3: *blake3, list });
    }
    let reading = |source| PublishError::Read { path: place.clone(), source };
    let mut reader = direct_file::Reader::open(place).map_err(reading)?;
    let Digested { sha256: found, blake3, chunks } =
        digest_and_cut(|| reader.next_chunk()).map_err(reading)?;
    if found != *sha256 {
        return Err(PublishError::OtherFile { path: place.clone(), folder: None, expected: *sha256, found });
    }
    Ok(Cut { place: place.clone(), blake3, list: chunks })
}
