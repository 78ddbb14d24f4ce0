//! What an index says of a tar.

use proptest::prelude::*;
use stowage_erofs::{IndexError, Member, MemberKind, TarError, TarIndex, Time};

use crate::harness::fuzz::index_in_pieces;
use crate::made::{Tar, index, pax_data};

fn only(tar: Tar) -> TarIndex {
    let index = tar.index();
    assert_eq!(index.len(), 1, "{index:?}");
    index
}

fn first(index: &TarIndex) -> Member<'_> {
    index.members().next().unwrap()
}

fn put<const N: usize>(at: usize, value: &'static [u8; N]) -> impl FnOnce(&mut [u8]) {
    move |header| header[at..at + N].copy_from_slice(value)
}

#[test]
fn names_are_found_wherever_a_dialect_keeps_them() {
    let long = "long/".repeat(60) + "name";
    let full = "n".repeat(100);
    let with_nul = format!("{long}\0");
    let pax_for_all = || Tar::new().member(b'g', "g", &pax_data(&[("path", b"all")]), |_| {});
    let star = |header: &mut [u8]| {
        header[345..351].copy_from_slice(b"prefix");
        header[476..488].copy_from_slice(b"14000000000\0");
        header[508..512].copy_from_slice(b"tar\0");
    };
    let gnu = |header: &mut [u8]| {
        header[257..265].copy_from_slice(b"ustar  \0");
        header[345..357].copy_from_slice(b"14000000000\0");
    };
    let gnu_name =
        |tar: Tar, name: &[u8]| tar.member(b'L', "././@LongLink", name, |_| {}).file("short", b"x");
    let solaris = Tar::new().member(b'X', "x", &pax_data(&[("path", b"solaris")]), |_| {});
    let cases: Vec<(&str, Tar, &str)> = vec![
        ("V7", Tar::new().member(b'\0', "a/b", b"x", put(257, &[0; 8])), "a/b"),
        (
            "V7, where other bytes mean nothing",
            Tar::new().member(b'\0', "a", b"x", |h| h[257..400].fill(b'z')),
            "a",
        ),
        ("ustar", Tar::new().member(b'0', "name", b"x", put(345, b"some/prefix")), "some/prefix/name"),
        ("star", Tar::new().member(b'0', "name", b"x", star), "prefix/name"),
        ("GNU, whose prefix is a time", Tar::new().member(b'0', "name", b"x", gnu), "name"),
        ("GNU long name", gnu_name(Tar::new(), with_nul.as_bytes()), &long),
        ("pax", Tar::new().pax(&[("path", &long)]).file("short", b"x"), &long),
        ("Solaris", solaris.file("s", b"x"), "solaris"),
        ("pax for all", pax_for_all().file("s", b"x"), "all"),
        ("pax over pax for all", pax_for_all().pax(&[("path", "own")]).file("s", b"x"), "own"),
        ("a reset of pax for all", pax_for_all().pax(&[("path", "")]).file("s", b"x"), "s"),
        ("GNU long name over pax", gnu_name(Tar::new().pax(&[("path", "pax")]), b"gnu\0"), "gnu"),
        ("a full name without NUL", Tar::new().file(&full, b"x"), &full),
    ];
    for (what, tar, name) in cases {
        let index = only(tar);
        assert_eq!(String::from_utf8_lossy(first(&index).path), name, "{what}");
    }
}

#[test]
fn metadata_comes_from_headers_and_pax() {
    let index = only(Tar::new().member(b'0', "f", b"", |h| {
        h[100..108].copy_from_slice(b"0106755\0");
        h[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]);
        h[116..124].copy_from_slice(b"1750 \0\0\0");
        h[136..148].copy_from_slice(&[0xff; 12]);
    }));
    let member = first(&index);
    assert_eq!((member.mode, member.uid, member.gid), (0o6755, u32::MAX - 1, 0o1750));
    assert_eq!(member.mtime, Time { seconds: -1, nanos: 0 });

    let pax = [("uid", "4000000000"), ("gid", "7"), ("mtime", "1700000000.25"), ("size", "3")];
    let tar = Tar::new().pax(&pax).member(b'0', "f", b"abc", |h| h[124..136].fill(b'0')).file("g", b"");
    let index = tar.index();
    let member = first(&index);
    assert_eq!((member.uid, member.gid, member.size), (4_000_000_000, 7, 3));
    assert_eq!(member.mtime, Time { seconds: 1_700_000_000, nanos: 250_000_000 });
    assert_eq!(index.members().nth(1).unwrap().uid, 0, "a pax header is for one member");
}

#[test]
fn a_checksum_of_signed_bytes_is_one_too() {
    let name = "ä";
    let mut tar = Tar::new().file(name, b"x").end();
    // The field counts as spaces, in either sum.
    tar[148..156].fill(b' ');
    let signed: i32 = tar[..512].iter().map(|byte| i32::from(byte.cast_signed())).sum();
    assert!(signed > 0);
    tar[148..156].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
    assert_eq!(index(&tar).unwrap().members().next().unwrap().path, name.as_bytes());
    tar[0] ^= 1;
    assert_eq!(index(&tar), Err(TarError::NotATar));
}

#[test]
fn every_kind_is_told() {
    let kinds = [
        (b'0', MemberKind::File),
        (0, MemberKind::File),
        (b'7', MemberKind::File),
        (b'Z', MemberKind::File),
        (b'1', MemberKind::HardLink),
        (b'2', MemberKind::Symlink),
        (b'3', MemberKind::CharacterDevice),
        (b'4', MemberKind::BlockDevice),
        (b'5', MemberKind::Directory),
        (b'6', MemberKind::Fifo),
        (b'D', MemberKind::Directory),
        (b'S', MemberKind::Sparse),
        (b'M', MemberKind::Continuation),
    ];
    for (flag, kind) in kinds {
        let index = only(Tar::new().link(flag, "name", "target"));
        let linked = matches!(kind, MemberKind::HardLink | MemberKind::Symlink);
        let member = first(&index);
        assert_eq!((member.kind, member.link), (kind, if linked { &b"target"[..] } else { b"" }), "{flag}");
    }
    let index = only(Tar::new().member(0, "old/", b"", put(257, &[0; 8])));
    assert_eq!(first(&index).kind, MemberKind::Directory, "V7 tells directories by a slash");
    let index = Tar::new().member(b'V', "label", b"", |_| {}).file("f", b"").index();
    assert_eq!(index.len(), 1, "the label of a volume is no member");
}

#[test]
fn data_is_found_behind_everything() {
    let sparse_map_goes_on = |h: &mut [u8]| {
        h[257..265].copy_from_slice(b"ustar  \0");
        h[482] = 1;
        h[124..136].copy_from_slice(b"00000000144\0");
    };
    let mut tar =
        Tar::new().file("a", &[1; 700]).hard_link("h", "a").pax(&[("path", "b")]).file("x", &[2; 512]);
    // A sparse file whose map goes on for two blocks, then 100 bytes of data.
    let mut blocks = vec![0; 1024 + 100];
    blocks[504] = 1;
    tar = tar.member(b'S', "s", &blocks, sparse_map_goes_on);
    let tar = tar.file("c", &[3; 5]).end();
    let index = index(&tar).unwrap();
    let names: Vec<_> = index.members().map(|member| member.path).collect();
    assert_eq!(names, [&b"a"[..], b"h", b"b", b"s", b"c"]);
    for (member, byte) in index.members().filter(|member| member.kind == MemberKind::File).zip(1..) {
        assert_eq!(member.offset % 512, 0);
        let data = &tar[member.offset as usize..][..member.size as usize];
        assert!(data.iter().all(|found| *found == byte), "{member:?}");
    }
    assert_eq!(index.tar_bytes(), tar.len() as u64);
}

#[test]
fn a_link_has_no_data_whatever_its_size_says() {
    for flag in b"123456" {
        let tar = Tar::new()
            .file("f", b"abc")
            .member(*flag, "l", b"", |h| h[124..136].copy_from_slice(b"00000010000\0"))
            .file("g", b"");
        assert_eq!(tar.index().len(), 3, "{flag}");
    }
}

#[test]
fn what_follows_the_end_is_not_read() {
    let mut tar = Tar::new().file("a", b"abc").end();
    let whole = index(&tar).unwrap();
    tar.extend_from_slice(&Tar::new().file("b", b"abc").end());
    tar.extend_from_slice(b"rubbish");
    let longer = index(&tar).unwrap();
    assert!(longer.members().eq(whole.members()));
    assert_eq!(longer.tar_bytes(), tar.len() as u64);
}

#[test]
fn a_tar_may_end_without_an_end_mark() {
    let whole = Tar::new().file("a", &[1; 600]).file("b", &[2; 100]);
    let members = whole.clone().index();
    for (what, bytes) in [("no mark", whole.0.len()), ("no padding", whole.0.len() - 412)] {
        let found = index(&whole.0[..bytes]).unwrap();
        assert!(found.members().eq(members.members()), "{what}");
        assert_eq!(found.tar_bytes(), bytes as u64);
    }
    let half_a_mark = whole.end();
    for cut in [512, 300, 1000] {
        assert!(index(&half_a_mark[..half_a_mark.len() - cut]).is_ok(), "{cut}");
    }
    assert!(index(&[0; 1024]).unwrap().is_empty(), "a tar may have no member");
}

#[test]
fn wherever_a_tar_is_cut_it_is_whole_or_says_so() {
    let long = "n".repeat(300);
    let tar =
        Tar::new().file("a", &[1; 600]).pax(&[("path", &long)]).file("b", &[2; 100]).directory("d/").end();
    let whole = index(&tar).unwrap();
    for cut in 0..tar.len() {
        match index(&tar[..cut]) {
            Ok(part) => {
                let members: Vec<_> = part.members().collect();
                assert!(whole.members().take(members.len()).eq(members.iter().copied()), "{cut}");
                let data_ends = members.iter().map(|member| member.offset + member.size).max().unwrap_or(0);
                assert!(data_ends <= cut as u64, "{cut}: data is missing");
            }
            Err(TarError::Empty) => assert_eq!(cut, 0),
            Err(TarError::NotATar) => assert!(cut < 512, "{cut}"),
            Err(error) => assert!(matches!(error, TarError::Truncated { .. }), "{cut}: {error}"),
        }
    }
}

/// Flag, name, data, owner, seconds and nanoseconds of one member.
type RandomMember = (u8, String, Vec<u8>, u32, i64, u32);

fn some_member() -> impl Strategy<Value = RandomMember> {
    let flag = prop::sample::select(b"0123456x".to_vec());
    let data = prop::collection::vec(any::<u8>(), 0..1500);
    let seconds = -5_000_000_000i64..5_000_000_000;
    (flag, "[a-c]{1,3}(/[a-c.é]{1,3}){0,3}", data, any::<u32>(), seconds, 0..1_000_000_000u32)
}

fn build(members: Vec<RandomMember>) -> Vec<u8> {
    let mut tar = Tar::new();
    for (flag, name, data, id, seconds, nanos) in members {
        let (id, time) = (id.to_string(), format!("{}.{nanos:09}", seconds.unsigned_abs()));
        let time = if seconds < 0 { format!("-{time}") } else { time };
        tar = match flag {
            b'0' => tar.pax(&[("mtime", &time), ("uid", &id)]).file(&name, &data),
            b'x' => tar.pax(&[("path", &name), ("gid", &id)]).file("", &data),
            flag => tar.link(flag, &name, &name),
        };
    }
    tar.end()
}

proptest! {
    #[test]
    fn an_index_does_not_depend_on_how_the_bytes_come(
        members in prop::collection::vec(some_member(), 1..12),
        cuts in prop::collection::vec(1usize..2000, 1..20),
    ) {
        let tar = build(members);
        let mut cuts = cuts.iter().copied().cycle();
        let whole = index(&tar).unwrap();
        prop_assert_eq!(&index_in_pieces(&tar, || cuts.next().unwrap()).unwrap(), &whole);
        prop_assert_eq!(&index_in_pieces(&tar, || 1).unwrap(), &whole);
    }

    #[test]
    fn an_index_is_read_as_it_was_written(members in prop::collection::vec(some_member(), 0..30)) {
        let index = index(&build(members)).unwrap();
        let mut bytes = Vec::new();
        index.encode(&mut bytes).unwrap();
        prop_assert_eq!(TarIndex::decode(&bytes).unwrap(), index);
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = index(&bytes);
        let _ = TarIndex::decode(&bytes);
    }

    #[test]
    fn damage_to_a_written_index_is_seen(
        members in prop::collection::vec(some_member(), 1..5), at in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let mut bytes = Vec::new();
        index(&build(members)).unwrap().encode(&mut bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(TarIndex::decode(&bytes).is_err());
        bytes[at] ^= flip;
        prop_assert!(TarIndex::decode(&bytes[..at]).is_err());
    }
}

#[test]
fn an_index_of_another_version_is_told_from_damage() {
    let mut bytes = Vec::new();
    Tar::new().file("a", b"x").index().encode(&mut bytes).unwrap();
    assert_eq!(TarIndex::decode(b"something else"), Err(IndexError::Foreign));
    let mut newer = bytes.clone();
    newer[8] = 9;
    assert_eq!(TarIndex::decode(&newer), Err(IndexError::Version { found: 9 }));
    bytes[20] ^= 1;
    assert_eq!(TarIndex::decode(&bytes), Err(IndexError::Checksum));
}

#[test]
fn a_written_index_is_short() {
    let mut tar = Tar::new();
    for number in 0..1000 {
        tar = tar.file(&format!("models/llama/layers/{number:05}.bin"), &[7; 600]);
    }
    let mut bytes = Vec::new();
    tar.index().encode(&mut bytes).unwrap();
    assert!(bytes.len() < 20_000, "{} bytes for 1000 members", bytes.len());
}
