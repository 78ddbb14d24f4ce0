//! Views of tars: an image of their members besides the files that are blobs, and what cannot be one.

use stowage_artifact::{Codec, FilesystemKind, FilesystemLayer, Layout, RelativePath, TarLayer};
use stowage_store::{View, ViewError, ViewKey, ViewSpec};

use crate::support::*;

fn view_spec(layout: Layout) -> ViewSpec {
    ViewSpec { layout, attributes: ViewKey::default(), source: None }
}

fn path(text: &str) -> RelativePath {
    RelativePath::parse(text).unwrap()
}

/// A layout of tars, and of files that are blobs.
fn layout_of(tars: Vec<TarLayer>, files: &[File<'_>]) -> Layout {
    let mut builder = Layout::builder();
    for tar in tars {
        builder.tar(tar).unwrap();
    }
    for (at, bytes, executable) in files {
        builder.raw(path(at), digest(bytes), bytes.len() as u64, *executable, at).unwrap();
    }
    builder.finish().unwrap()
}

fn build(store: &TestStore, tars: Vec<TarLayer>, files: &[File<'_>]) -> Result<View, ViewError> {
    store.build_view(&view_spec(layout_of(tars, files)))
}

#[test]
fn a_tar_becomes_an_image_that_points_into_its_blob() {
    let store = TestStore::new();
    let tar = tar(&[("data/", b""), ("data/a", &bytes(5000, 1)), ("data/b", b"b")]);
    download(&store, &tar);
    let view = build(&store, vec![tar_layer(&tar, None)], &[]).unwrap();
    let image = view.image.clone().unwrap();
    assert_eq!(image.devices, [store.path(blob_file(&digest(&tar), ""))]);
    assert!(!view.has_tree);
    assert_eq!((view.bytes, view.inodes), (5001, 4), "root, data, a and b");
    let written = std::fs::read(&image.path).unwrap();
    assert!(written.len() < 16 << 10 && written[1024..1028] == [0xe2, 0xe1, 0xf5, 0xe0], "EROFS");
    assert_eq!(store.fsck(false).unwrap().problems, []);
    // Found again, by this process and by the next.
    let again = build(&store, vec![tar_layer(&tar, None)], &[]).unwrap();
    assert_eq!(again, view);
    let store = store.reopen(options());
    assert_eq!(store.view(&view.id).unwrap().unwrap(), view);
}

#[test]
fn compressed_tars_and_files_come_out_plain() {
    let store = TestStore::new();
    let (first, second) = (tar(&[("a", b"one")]), tar(&[("b", b"two")]));
    let (gz, zst) = (gzip(&first), zstd(&second));
    decoded_download(&store, &gz, Codec::Gzip);
    // This one is in the store as it is, as `layout: oci` would have it.
    download(&store, &zst);
    let notes = b"notes".to_vec();
    store.put_blob(&digest(&notes), &notes).unwrap();
    let layers = vec![tar_layer(&gz, Some(Codec::Gzip)), tar_layer(&zst, Some(Codec::Zstd))];
    let view = build(&store, layers, &[("notes", &notes, false)]).unwrap();
    let image = view.image.unwrap();
    let blobs = [&first, &second].map(|tar| store.path(blob_file(&digest(tar), "")));
    assert_eq!(image.devices, blobs);
    assert!(view.has_tree && view.tree.join("notes").exists());
    assert_eq!((view.bytes, view.inodes), (11, 4));
}

#[test]
fn a_view_keeps_its_tars_and_a_broken_image_is_found() {
    let store = TestStore::new();
    let (tar, other) = (tar(&[("a", b"one")]), tar(&[("b", b"two")]));
    download(&store, &tar);
    let unused = download(&store, &other);
    let view = build(&store, vec![tar_layer(&tar, None)], &[]).unwrap();
    store.put_record(&record("v", &[], Some(&view.id))).unwrap();
    store.collect(&everything()).unwrap();
    assert_eq!(store.blob_size(&unused), None);
    assert!(store.blob_size(&digest(&tar)).is_some());

    let image = view.image.unwrap().path;
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[2000] ^= 1;
    std::fs::remove_file(&image).unwrap();
    std::fs::write(&image, bytes).unwrap();
    let problems = store.fsck(true).unwrap().problems;
    assert!(problems.len() == 1 && problems[0].detail.contains("image.erofs has the digest"), "{problems:?}");
    let rebuilt = build(&store, vec![tar_layer(&tar, None)], &[]).unwrap();
    assert_ne!(rebuilt.id, view.id, "a new generation");
}

#[test]
fn claims_of_plain_digests_are_checked_and_never_looked_up() {
    let store = TestStore::new();
    let secret = tar(&[("secret", b"of another tenant")]);
    download(&store, &secret);
    let mine = tar(&[("mine", b"x")]);
    let gz = gzip(&mine);
    decoded_download(&store, &gz, Codec::Gzip);
    let claims = |plain: &[u8]| TarLayer { plain: Some(digest(plain)), ..tar_layer(&gz, Some(Codec::Gzip)) };
    let lie = build(&store, vec![claims(&secret)], &[]).unwrap_err();
    let expected = format!(
        "layer 1 is said to decode to {}, and decodes to {}; push the artifact again",
        digest(&secret),
        digest(&mine)
    );
    assert_eq!(lie.to_string(), expected);
    build(&store, vec![claims(&mine)], &[]).unwrap();
    let by_sha512 = stowage_artifact::Digest::of(stowage_artifact::Algorithm::Sha512, &mine);
    let store = TestStore::new();
    decoded_download(&store, &gz, Codec::Gzip);
    build(&store, vec![TarLayer { plain: Some(by_sha512), ..claims(&mine) }], &[]).unwrap();
}

#[test]
fn what_is_no_tar_is_a_file_where_it_has_a_name() {
    let store = TestStore::new();
    let plain = b"just text, whatever its media type says".to_vec();
    download(&store, &plain);
    let named = TarLayer { fallback: Some(path("docs/readme.txt")), ..tar_layer(&plain, None) };
    let view = build(&store, vec![named], &[]).unwrap();
    assert_eq!(std::fs::read(view.tree.join("docs/readme.txt")).unwrap(), plain);
    assert!(view.image.is_none());
    let nameless = build(&store, vec![tar_layer(&plain, None)], &[]).unwrap_err();
    assert_eq!(
        nameless.to_string(),
        "layer 1 cannot be shown as files: these bytes are no tar: the first 512 have no valid header checksum; use `tar: file`, or push the layer again"
    );
}

#[test]
fn members_stand_where_the_artifact_says() {
    let store = TestStore::new();
    let tar = tar(&[("./a", b"one")]);
    download(&store, &tar);
    let at = TarLayer { at: Some(path("model")), ..tar_layer(&tar, None) };
    // The file beside it collides only if the tar's member is in that directory.
    let same = tar.clone();
    build(&store, vec![at.clone()], &[("a", &same, false)]).unwrap();
    let error = build(&store, vec![at], &[("model/a", &same, false)]).unwrap_err().to_string();
    assert_eq!(
        error,
        "`model/a` comes from the file `model/a` and from layer 1: exclude one, or use `tar: file`"
    );
    let elsewhere = TarLayer { within: Some(path("model")), ..tar_layer(&tar, None) };
    let error = build(&store, vec![elsewhere], &[]).unwrap_err().to_string();
    assert!(error.starts_with("layer 1 has the member `./a`, and the artifact says"), "{error}");
}

#[test]
fn a_file_and_a_directory_cannot_share_a_path_whichever_is_in_the_tar() {
    let store = TestStore::new();
    let blob = b"blob".to_vec();
    store.put_blob(&digest(&blob), &blob).unwrap();
    for (member, file) in [("x", "x/y"), ("x/y", "x"), ("x/", "x"), ("x", "x")] {
        let tar = tar(&[(member, if member.ends_with('/') { b"" } else { b"member" })]);
        store.put_blob(&digest(&tar), &tar).unwrap();
        let error = build(&store, vec![tar_layer(&tar, None)], &[(file, &blob, false)]).unwrap_err();
        assert!(matches!(error, ViewError::Collision { .. }), "{member} {file}: {error}");
    }
    // In an image what is laid over it wins.
    let tar = tar(&[("x", b"member")]);
    let image = TarLayer { whiteouts: true, ..tar_layer(&tar, None) };
    build(&store, vec![image], &[("x", &blob, false)]).unwrap();
}

#[test]
fn hostile_tars_leave_nothing_behind() {
    let store = TestStore::new();
    for name in ["../../etc/cron.d/x", "/etc/x", "a/../../x", "a\u{1}b"] {
        let tar = tar(&[(name, b"x")]);
        download(&store, &tar);
        let error = build(&store, vec![tar_layer(&tar, None)], &[]).unwrap_err();
        assert!(error.to_string().starts_with("layer 1 has a member whose name is refused"), "{error}");
    }
    assert_eq!(names(store.root.path(), "views"), [""; 0]);
}

#[test]
fn missing_blobs_are_those_that_have_to_be_fetched() {
    let store = TestStore::new();
    let (tar, plain) = (tar(&[("a", b"one")]), bytes(1000, 2));
    let gz = gzip(&tar);
    let layers = vec![tar_layer(&gz, Some(Codec::Gzip)), tar_layer(&plain, None)];
    let error = build(&store, layers, &[]).unwrap_err();
    let ViewError::MissingBlobs(missing) = error else { panic!("{error}") };
    assert_eq!(missing, [digest(&gz), digest(&plain)]);
}

#[test]
fn images_that_an_administrator_allows_are_shown_as_they_are() {
    let store = TestStore::new();
    let (below, above) = (bytes(10_000, 1), bytes(20_000, 2));
    let packed = zstd(&above);
    download(&store, &below);
    decoded_download(&store, &packed, Codec::Zstd);
    let layer = |blob: &[u8], kind, codec| FilesystemLayer {
        digest: digest(blob),
        size: blob.len() as u64,
        kind,
        codec,
        plain: None,
        origin: "layer".to_owned(),
    };
    let mut builder = Layout::builder();
    builder.filesystem(layer(&below, FilesystemKind::Erofs, None)).unwrap();
    builder.filesystem(layer(&packed, FilesystemKind::Squashfs, Some(Codec::Zstd))).unwrap();
    let view = store.build_view(&view_spec(builder.finish().unwrap())).unwrap();
    let found: Vec<_> = view.filesystems.iter().map(|layer| (layer.path.clone(), layer.kind)).collect();
    let expected = [(&below, FilesystemKind::Erofs), (&above, FilesystemKind::Squashfs)];
    let expected = expected.map(|(blob, kind)| (store.path(blob_file(&digest(blob), "")), kind));
    assert_eq!(found, expected);
    assert!(view.image.is_none() && !view.has_tree);
    store.put_record(&record("v", &[], Some(&view.id))).unwrap();
    store.collect(&everything()).unwrap();
    assert!(store.blob_size(&digest(&above)).is_some(), "the view keeps it");
}
