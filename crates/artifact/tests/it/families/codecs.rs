//! Blobs that are compressed outside a tar.

use crate::fixture::{TITLE, assert_lines, layer, oras, paths, plan_default, plan_with, titled};

#[test]
fn a_codec_in_the_type_is_taken_off_unless_the_name_says_that_it_stays() {
    let table = [
        ("application/vnd.acme.data+gzip", "data", "data 444 gzip z"),
        ("application/vnd.acme.data+zstd", "data.bin", "data.bin 444 zstd z"),
        ("application/vnd.oci.image.layer.v1.raw+zstd", "data", "data 444 zstd z"),
        // `zstd:chunked` is zstd with annotations that mean nothing here.
        ("text/csv+zstd", "a/b.csv", "a/b.csv 444 zstd z"),
        ("application/vnd.acme.data+gzip", "data.gz", "data.gz 444 raw z"),
        ("application/vnd.acme.data+gzip", "DATA.TGZ", "DATA.TGZ 444 raw z"),
        ("application/vnd.acme.data+zstd", "data.zst", "data.zst 444 raw z"),
        ("application/vnd.acme.data+zstd", "data.gz", "data.gz 444 zstd z"),
        ("application/vnd.acme.data+gzip", ".gz", ".gz 444 gzip z"),
        ("application/gzip", "a.gz", "a.gz 444 raw z"),
        ("application/gzip", "a", "a 444 raw z"),
    ];
    for (media_type, title, expected) in table {
        let manifest = oras(&[layer(media_type, "z", &[(TITLE, title)])]);
        let plan = plan_default(&manifest).unwrap();
        let line = crate::fixture::lines(&plan).remove(1);
        assert_eq!(line, expected, "{media_type} {title}");
        assert_eq!(plan.layout.is_plain(), expected.contains("raw"));
    }
}

#[test]
fn a_packed_blob_can_be_left_out_or_chosen_like_any_other() {
    let manifest = oras(&[layer("a/b+gzip", "z", &[(TITLE, "data")]), titled("a")]);
    let plan = plan_with(&manifest, &[("exclude", "data")]).unwrap();
    assert!(plan.layout.is_plain() && plan.layout.is_exact());
    assert_eq!(paths(&plan.layout), ["a"]);
    let chosen = plan_with(&manifest, &[("files", "[{select: {title: data}, path: d}]")]);
    assert_lines(chosen, &["= oras", "d 444 gzip z", "- a"]);
}

#[test]
fn a_nameless_packed_blob_has_the_ending_of_what_is_inside_if_any() {
    let note = "# 1 of the artifact's layers have no name of their own";
    let manifest = oras(&[layer("application/vnd.acme.data+gzip", "z", &[])]);
    assert_lines(plan_default(&manifest), &["= oras", "blob 444 gzip z", note]);
}

#[test]
fn sizes_are_those_that_are_known() {
    let metadata = ("org.cncf.model.file.metadata+json", r#"{"size":1000}"#);
    let media_type = "application/vnd.cncf.model.weight.v1.raw+zstd";
    let known = oras(&[layer(media_type, "zz", &[(TITLE, "w"), metadata])]);
    let layout = crate::fixture::plan_config(&known, "{}", &[]).unwrap().layout;
    assert_eq!((layout.total_bytes(), layout.apparent_bytes(), layout.is_exact()), (2, 1000, false));
    let unknown = oras(&[layer("a/b+zstd", "zz", &[(TITLE, "w")])]);
    let layout = plan_default(&unknown).unwrap().layout;
    assert_eq!((layout.total_bytes(), layout.apparent_bytes(), layout.is_exact()), (2, 2, false));
    assert_eq!(layout.blobs().len(), 1);
}
