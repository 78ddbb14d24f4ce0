//! The names of members as paths in a volume.

use stowage_artifact::{PathError, RelativePath};

use super::Rules;
use crate::tar::printable;

/// The part of a member's name that is its path: `./` in front and slashes at the end are left away. Empty for the root.
///
/// Returns how many bytes are left away in front, and the path.
pub(super) fn trim(name: &[u8], rules: Rules) -> (usize, &[u8]) {
    let mut path = name;
    loop {
        path = match path {
            [b'.', b'/', rest @ ..] => rest,
            // As every container runtime has it.
            [b'/', rest @ ..] if rules == Rules::RootFilesystem => rest,
            _ => break,
        };
    }
    let skipped = name.len() - path.len();
    while let [rest @ .., b'/'] = path {
        // A lone slash is not a path, and is told so.
        if rest.is_empty() {
            break;
        }
        path = rest;
    }
    (skipped, if path == b"." { b"" } else { path })
}

/// Checks a path that is not empty by the rules of [`RelativePath`]. Only root filesystems may have names that are not UTF-8.
pub(super) fn check(path: &[u8], rules: Rules) -> Result<(), String> {
    let parse =
        |text: &str| RelativePath::parse(text).map(drop).map_err(|problem: PathError| problem.to_string());
    match std::str::from_utf8(path) {
        Ok(text) => parse(text),
        Err(_) if rules == Rules::RootFilesystem => {
            // As many bytes, and each of those that are ASCII: all that the rules look at.
            let substitute: Vec<u8> =
                path.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect();
            parse(&String::from_utf8_lossy(&substitute))
        }
        Err(_) => Err(format!("the path `{}` is not UTF-8", printable(path))),
    }
}

/// The components of a checked path, each with its position in the path.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut position = 0;
    path.split(|byte| *byte == b'/').map(move |name| {
        let begins = position;
        position += name.len() + 1;
        (begins, name)
    })
}

/// Why a symlink in a directory at this depth (0: the root) may lead out of the volume.
///
/// `..` may only stand at the beginning, and climb no higher than the root. Then each symlink on the way starts in a directory of
/// the tree and goes down, and the next one does too.
pub(super) fn leads_out(target: &[u8], depth: usize) -> Option<&'static str> {
    if target.first() == Some(&b'/') {
        return Some("is absolute");
    }
    let mut climbed = 0;
    let mut went_down = false;
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if went_down => return Some("has `..` behind a name"),
            b".." => climbed += 1,
            _ => went_down = true,
        }
    }
    (climbed > depth).then_some("leads out of the volume")
}

#[cfg(test)]
mod tests {
    use super::{check, components, leads_out, trim};
    use crate::Rules::{Files, RootFilesystem};

    #[test]
    fn names_of_real_tars_become_paths() {
        let table: &[(&str, &str, &str)] = &[
            ("a/b", "a/b", "a/b"),
            ("./a/b", "a/b", "a/b"),
            ("././a/", "a", "a"),
            ("./", "", ""),
            (".", "", ""),
            ("", "", ""),
            ("a//", "a", "a"),
            ("/a", "/a", "a"),
            ("//a", "//a", "a"),
            (".//a", "/a", "a"),
            ("/", "/", ""),
            ("..", "..", ".."),
            (".a", ".a", ".a"),
            ("./.wh.a", ".wh.a", ".wh.a"),
        ];
        for (name, file, root) in table {
            for (rules, expected) in [(Files, file), (RootFilesystem, root)] {
                let (skipped, path) = trim(name.as_bytes(), rules);
                assert_eq!(path, expected.as_bytes(), "{name} {rules:?}");
                assert!(path.is_empty() || name.as_bytes()[skipped..].starts_with(path), "{name}");
            }
        }
    }

    #[test]
    fn only_root_filesystems_have_names_that_are_not_utf_8() {
        let latin = b"\xe9t\xe9/menu";
        check(latin, RootFilesystem).unwrap();
        assert!(check(latin, Files).unwrap_err().contains("\u{fffd}t\u{fffd}/menu"));
        let long = [0xe9; 256];
        check(&long[..255], RootFilesystem).unwrap();
        check(&long, RootFilesystem).unwrap_err();
        for bad in [&b"../\xe9"[..], b"a/../\xe9", b"\xe9\n", b"\xe9//a", b"\xe9\0"] {
            check(bad, RootFilesystem).unwrap_err();
        }
    }

    #[test]
    fn components_know_where_they_begin() {
        let found: Vec<_> = components(b"a/bc/d").collect();
        assert_eq!(found, [(0, &b"a"[..]), (2, &b"bc"[..]), (5, &b"d"[..])]);
    }

    #[test]
    fn symlinks_that_stay_inside() {
        for (target, depth) in
            [("a", 0), ("a/b", 0), ("./a", 0), ("../a", 1), ("../../a/b", 2), ("..", 1), (".", 0)]
        {
            assert_eq!(leads_out(target.as_bytes(), depth), None, "{target} at {depth}");
        }
        for (target, depth) in
            [("/a", 3), ("..", 0), ("../../a", 1), ("a/..", 3), ("./a/../../b", 3), ("/", 0)]
        {
            assert!(leads_out(target.as_bytes(), depth).is_some(), "{target} at {depth}");
        }
    }
}
