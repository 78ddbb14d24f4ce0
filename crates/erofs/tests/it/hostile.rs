//! Tars that mean harm, and bytes that are no tars.

use stowage_erofs::{MAX_EXTENSION_BYTES, MAX_EXTENSIONS, TarError, TarIndexer};

use crate::made::{Tar, index};

type Expected = fn(&TarError) -> bool;

/// A file whose header says this size.
fn sized(value: &'static [u8; 12]) -> Vec<u8> {
    Tar::new().member(b'0', "a", b"", |header| header[124..136].copy_from_slice(value)).end()
}

#[test]
fn hostile_tars_are_refused_by_what_is_wrong() {
    use TarError as E;
    let zeros_inside =
        [Tar::new().file("a", b"x").0, vec![0; 512], Tar::new().file("b", b"x").end()].concat();
    let damaged = [Tar::new().file("a", b"x").0, vec![b'z'; 512]].concat();
    let pax = |data: &[u8]| Tar::new().member(b'x', "p", data, |_| {}).file("a", b"").end();
    let long_pax = Tar::new().member(b'x', "p", b"", |h| h[124..136].copy_from_slice(b"00007777777\0")).end();
    let negative_user = Tar::new().member(b'0', "a", b"", |h| h[108..116].fill(0xff)).end();
    let mut disk_image = vec![0; 4096];
    disk_image[2048] = 7;
    let bad_size: Expected = |e| matches!(e, E::Number { field: "size", .. });
    let table: Vec<(&str, Vec<u8>, Expected)> = vec![
        ("nothing", vec![], |e| *e == E::Empty),
        ("text", b"hello".to_vec(), |e| *e == E::NotATar),
        ("long text", vec![b'a'; 5000], |e| *e == E::NotATar),
        ("gzip", [&[0x1f, 0x8b, 8][..], &[0; 2000]].concat(), |e| *e == E::NotATar),
        ("zeros and then something", disk_image, |e| *e == E::NotATar),
        ("damage", damaged, |e| matches!(e, E::Header { offset: 1024, previous: Some(name) } if name == "a")),
        ("zeros inside", zeros_inside, |e| matches!(e, E::StrayZeros { offset: 1024 })),
        ("negative size", sized(&[0xff; 12]), bad_size),
        ("size beyond all", sized(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), bad_size),
        ("size of letters", sized(b"hello world!"), bad_size),
        (
            "beyond 2 TiB",
            sized(b"\x80\0\0\0\0\0\x02\0\0\0\0\0"),
            |e| matches!(e, E::Large { member } if member == "a"),
        ),
        ("negative user", negative_user, |e| matches!(e, E::Number { field: "user", .. })),
        ("pax without length", pax(b"path=x\n"), |e| matches!(e, E::Extension { offset: 0, .. })),
        ("pax too long", pax(b"999 path=x\n"), |e| matches!(e, E::Extension { .. })),
        ("pax size", pax(b"28 size=9223372036854775807\n"), bad_size),
        ("long pax", long_pax, |e| matches!(e, E::LongExtension { bytes: 0o7_777_777, .. })),
        ("long name", Tar::new().member(b'L', "p", &[b'n'; 70_000], |_| {}).file("a", b"").end(), |e| {
            matches!(e, E::LongName { bytes: 70_000, .. })
        }),
        (
            "cut off",
            Tar::new().file("a", &[0; 2000]).0[..1500].to_vec(),
            |e| matches!(e, E::Truncated { offset: 1500, member: Some(name) } if name == "a"),
        ),
        ("pax for nobody", [Tar::new().pax(&[("path", "a")]).0, vec![0; 1024]].concat(), |e| {
            matches!(e, E::Truncated { .. })
        }),
    ];
    for (what, tar, expected) in table {
        let error = index(&tar).unwrap_err();
        assert!(expected(&error), "{what}: {error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn endless_pax_headers_end() {
    let header = Tar::new().pax(&[("comment", "x")]).0;
    let mut indexer = TarIndexer::new();
    let refused = (0..=MAX_EXTENSIONS).find_map(|_| indexer.push(&header).err());
    assert!(matches!(refused, Some(TarError::ManyExtensions { .. })), "{refused:?}");
    // It stays so, and holds nothing more.
    assert_eq!(indexer.push(&header).err(), refused);
    assert_eq!(indexer.finish().err(), refused);
}

#[test]
fn a_pax_header_may_have_a_mebibyte() {
    let value = "v".repeat(MAX_EXTENSION_BYTES as usize - 100);
    let tar = Tar::new().pax(&[("SCHILY.xattr.user.note", &value), ("path", "named")]).file("a", b"x");
    let index = tar.index();
    assert_eq!(index.members().next().unwrap().path, b"named");
}

#[test]
fn names_in_messages_do_nothing_to_a_terminal() {
    let tar = Tar::new().file("a\u{1b}[31m\nb", &[0; 600]).0;
    let message = index(&tar[..600]).unwrap_err().to_string();
    assert!(message.contains("a\\u{1b}[31m\\nb"), "{message}");
}
