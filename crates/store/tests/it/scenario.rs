//! One life of a store that passes every fail point, for the crash and power-cut tests.

use stowage_artifact::Codec;
use stowage_artifact::digest::Digest;
use stowage_store::{CommitError, IngestError, Principal, Store, ViewKey, ViewSpec};

use crate::support::{bytes, digest, everything, fill, layout_builder, record, tar, tar_layer, zstd};

pub(crate) const MANIFEST: &[u8] = b"{\"a manifest\": true}";
pub(crate) const SCRIPT: &[u8] = b"#!/bin/sh\nexit 0\n";
pub(crate) const SMALL: &[u8] = b"small";
pub(crate) const WRONG: &[u8] = b"what a lying registry says it serves";

pub(crate) fn weights() -> Vec<u8> {
    bytes(60_000, 1)
}

pub(crate) fn tokens() -> Vec<u8> {
    bytes(24_000, 2)
}

/// What has been promised to the caller so far.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    pub(crate) blobs: Vec<Digest>,
    pub(crate) view: Option<String>,
    /// From here on things are being removed.
    pub(crate) removing: bool,
}

/// Why a life ended early, whatever failed.
pub(crate) type Ended = Box<dyn std::error::Error>;

pub(crate) fn view_spec() -> ViewSpec {
    let weights = weights();
    let tokens = tokens();
    let mut builder = layout_builder(&[
        ("bin/run", SCRIPT, true),
        ("model/copy-1", SMALL, false),
        ("model/copy-2", SMALL, false),
        ("model/copy-3", SMALL, false),
        ("model/weights.bin", &weights, false),
        ("tokens.json", &tokens, false),
    ]);
    builder.tar(tar_layer(&dataset(), Some(Codec::Zstd))).unwrap();
    let layout = builder.finish().unwrap();
    ViewSpec { layout, attributes: ViewKey::default(), source: None }.with_source(digest(MANIFEST))
}

/// A tar as the registry serves it, compressed.
pub(crate) fn dataset() -> Vec<u8> {
    zstd(&tar(&[("data/", b""), ("data/rows", &bytes(30_000, 3))]))
}

fn download(store: &Store, whole: &[u8], in_two_lives: bool) -> Result<(), Ended> {
    let digest = digest(whole);
    let half = whole.len() as u64 / 2;
    if in_two_lives {
        match store.ingest(&digest, whole.len() as u64) {
            Err(IngestError::AlreadyStored(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(writer) => {
                writer.preallocate()?;
                if writer.missing().first().is_some_and(|gap| gap.start < half) {
                    writer.write_at(0, &whole[..half as usize])?;
                    writer.mark(0..half)?;
                }
                writer.checkpoint()?;
            }
        }
    }
    let writer = match store.ingest(&digest, whole.len() as u64) {
        Err(IngestError::AlreadyStored(_)) => return Ok(()),
        writer => writer?,
    };
    writer.preallocate()?;
    fill(&writer, whole)?;
    writer.flush()?;
    writer.advance()?;
    writer.commit()?;
    Ok(())
}

/// A download that is decoded as it passes.
fn decoded_download(store: &Store, whole: &[u8]) -> Result<(), Ended> {
    if store.decoded(&digest(whole))?.is_some() {
        return Ok(());
    }
    let writer = store.ingest(&digest(whole), whole.len() as u64)?;
    writer.decode(Codec::Zstd)?;
    writer.preallocate()?;
    fill(&writer, whole)?;
    writer.advance()?;
    writer.commit()?;
    Ok(())
}

/// A download whose bytes are wrong: it must leave nothing but quarantine.
fn wrong_download(store: &Store) -> Result<(), Ended> {
    let promised = digest(WRONG);
    let lie = bytes(WRONG.len(), 9);
    let writer = store.ingest(&promised, WRONG.len() as u64)?;
    for gap in writer.missing() {
        writer.write_at(gap.start, &lie[gap.start as usize..gap.end as usize])?;
        writer.mark(gap)?;
    }
    match writer.commit() {
        Err(CommitError::DigestMismatch { .. }) => Ok(()),
        Ok(()) => panic!("wrong bytes became a blob"),
        Err(error) => Err(error.into()),
    }
}

/// Publishes one volume, then removes everything again.
pub(crate) fn live(store: &Store, promised: &mut Promised) -> Result<(), Ended> {
    let (weights, tokens) = (weights(), tokens());
    let dataset = dataset();
    let blobs: Vec<Digest> = [MANIFEST, SCRIPT, SMALL, &weights, &tokens, &dataset].map(digest).into();
    store.pin(&record("volume", &blobs, None))?;
    store.put_blobs(
        &[MANIFEST, SCRIPT, SMALL].map(|small| (digest(small), bytes::Bytes::copy_from_slice(small))),
    )?;
    promised.blobs.extend([MANIFEST, SCRIPT, SMALL].map(digest));
    store.put_tag("registry.example/a:1", &digest(MANIFEST))?;
    download(store, &weights, false)?;
    promised.blobs.push(digest(&weights));
    download(store, &tokens, true)?;
    promised.blobs.push(digest(&tokens));
    decoded_download(store, &dataset)?;
    promised.blobs.extend(store.decoded(&digest(&dataset))?.map(|decoded| decoded.plain().clone()));
    wrong_download(store)?;
    store.grants().put("registry.example", "a", &digest(&weights), &Principal::Anonymous)?;
    store.grants().put_origin("registry.example", &digest(&weights))?;
    let view = store.build_view(&view_spec())?;
    promised.view = Some(view.id.clone());
    store.put_record(&record("volume", &blobs, Some(&view.id)))?;
    store.touch_view(&view.id)?;

    promised.removing = true;
    store.remove_record("volume", &record("volume", &[], None).target)?;
    store.collect(&everything())?;
    Ok(())
}
