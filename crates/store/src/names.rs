//! The names of everything in the store; see the tree in the crate's documentation.

use std::sync::atomic::{AtomicU64, Ordering};

use stowage_artifact::digest::{Algorithm, Digest};

pub(crate) const BLOBS: &str = "blobs";
pub(crate) const DECODED: &str = "decoded";
pub(crate) const INGEST: &str = "ingest";
pub(crate) const VIEWS: &str = "views";
pub(crate) const VOLUMES: &str = "volumes";
pub(crate) const TAGS: &str = "tags";
pub(crate) const GRANTS: &str = "grants";
pub(crate) const QUARANTINE: &str = "quarantine";
pub(crate) const TRASH: &str = "trash";
/// Always empty: the second lower layer of read-only overlays, which have at least two.
pub(crate) const EMPTY: &str = "empty";
/// The directories that every store has.
pub(crate) const DIRECTORIES: [&str; 10] =
    [BLOBS, DECODED, INGEST, VIEWS, VOLUMES, TAGS, GRANTS, QUARANTINE, TRASH, EMPTY];

pub(crate) const FORMAT: &str = "format.json";
pub(crate) const LOCK: &str = "node.lock";
pub(crate) const ADMIN_SOCKET: &str = "admin.sock";

/// In an ingest.
pub(crate) const DATA: &str = "data";
pub(crate) const JOURNAL: &str = "journal";
/// In a view.
pub(crate) const TREE: &str = "tree";
pub(crate) const IMAGE: &str = "image.erofs";
pub(crate) const VIEW_FILE: &str = "view.json";
pub(crate) const CONDEMNED: &str = "condemned";

const TEMPORARY: &str = ".tmp-";
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name that is used once, to be renamed or removed. The run tells the names of one open store from the
/// leftovers of another.
pub(crate) fn temporary(run: u32, hint: &str) -> String {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let hint: String = hint.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    format!("{TEMPORARY}{run:08x}-{number}-{hint}")
}

/// Whether this is a [`temporary`] name of this run.
pub(crate) fn is_temporary_of(run: u32, name: &str) -> bool {
    name.starts_with(&format!("{TEMPORARY}{run:08x}-"))
}

pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// The directory of a blob beneath `blobs/`: `<alg>/ab`.
pub(crate) fn shard(digest: &Digest) -> (&'static str, &str) {
    (digest.algorithm().as_str(), &digest.hex()[..2])
}

/// `<alg>-<hex>`, the name of what is in quarantine.
pub(crate) fn flat(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

/// The digest of a [`flat`] name.
pub(crate) fn parse_flat(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// `<alg>-<hex>.json`, which says what a compressed blob was decoded to.
pub(crate) fn decoded(digest: &Digest) -> String {
    format!("{}.json", flat(digest))
}

/// The digest of a [`decoded`] name.
pub(crate) fn parse_decoded(name: &str) -> Option<Digest> {
    parse_flat(name.strip_suffix(".json")?)
}

/// `<alg>-<hex>-<size>`, the name of an ingest.
pub(crate) fn ingest(digest: &Digest, size: u64) -> String {
    format!("{}-{size}", flat(digest))
}

/// The digest and declared size of an [`ingest`] name.
pub(crate) fn parse_ingest(name: &str) -> Option<(Digest, u64)> {
    let (flat_name, size) = name.rsplit_once('-')?;
    let (digest, size) = (parse_flat(flat_name)?, size.parse().ok()?);
    // Only the one spelling: no leading zero, no sign.
    (ingest(&digest, size) == name).then_some((digest, size))
}

/// One inode of a blob: which content, and which of its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sibling {
    pub(crate) executable: bool,
    pub(crate) number: u32,
}

impl Sibling {
    pub(crate) const BASE: Self = Self { executable: false, number: 0 };

    /// `<hex>`, `<hex>.1` ... and `<hex>.x`, `<hex>.x.1` ...
    pub(crate) fn file_name(self, digest: &Digest) -> String {
        let hex = digest.hex();
        match (self.executable, self.number) {
            (false, 0) => hex.to_owned(),
            (false, number) => format!("{hex}.{number}"),
            (true, 0) => format!("{hex}.x"),
            (true, number) => format!("{hex}.x.{number}"),
        }
    }

    /// The digest and sibling of a file name in a shard; `None` for a name that the store never gives.
    pub(crate) fn parse(algorithm: Algorithm, name: &str) -> Option<(Digest, Self)> {
        let (hex, suffix) = name.split_at_checked(algorithm.hex_len())?;
        let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
        let (executable, rest) = match suffix.strip_prefix(".x") {
            Some(rest) => (true, rest),
            None => (false, suffix),
        };
        let number = if rest.is_empty() { 0 } else { rest.strip_prefix('.')?.parse().ok()? };
        let sibling = Self { executable, number };
        // Only the one spelling: no leading zero, no sign.
        (sibling.file_name(&digest) == name).then_some((digest, sibling))
    }

    pub(crate) const fn mode(self) -> u32 {
        if self.executable { 0o555 } else { 0o444 }
    }
}

/// Splits `<sha256>.<n>`; `None` for a name that is no view's.
pub(crate) fn parse_view(name: &str) -> Option<(&str, u32)> {
    let (hex, number) = name.split_once('.')?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let generation: u32 = number.parse().ok()?;
    (hex.len() == 64 && hex.bytes().all(is_hex) && generation.to_string() == number)
        .then_some((hex, generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_have_one_spelling_each() {
        let digest = Digest::of(Algorithm::Sha256, b"x");
        for (executable, number) in [(false, 0), (false, 1), (false, 27), (true, 0), (true, 3)] {
            let sibling = Sibling { executable, number };
            let name = sibling.file_name(&digest);
            assert_eq!(Sibling::parse(Algorithm::Sha256, &name), Some((digest.clone(), sibling)), "{name}");
        }
        for strange in ["", ".0", ".01", ".+1", ".x.0", ".xx", ".y", ".1.x", ".tarindex", "/"] {
            let name = format!("{}{strange}", digest.hex());
            let known = strange.is_empty();
            assert_eq!(Sibling::parse(Algorithm::Sha256, &name).is_some(), known, "{name}");
        }
        assert_eq!(Sibling::parse(Algorithm::Sha512, digest.hex()), None);
        assert_eq!(Sibling::parse(Algorithm::Sha256, ".tmp-0-x"), None);
    }

    #[test]
    fn flat_names_go_in_and_out() {
        let digest = Digest::of(Algorithm::Sha512, b"x");
        assert_eq!(parse_flat(&flat(&digest)).as_ref(), Some(&digest));
        assert_eq!(parse_flat(".tmp-00000000-1-x"), None);
        assert_eq!(parse_flat("sha256-.."), None);
        let name = ingest(&digest, 12);
        assert_eq!(parse_ingest(&name), Some((digest.clone(), 12)));
        assert_eq!(parse_flat(&name), None);
        for bad in [flat(&digest), format!("{}-", flat(&digest)), format!("{}-012", flat(&digest))] {
            assert_eq!(parse_ingest(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_view_name_is_a_hash_and_a_number() {
        let hex = "0".repeat(64);
        assert_eq!(parse_view(&format!("{hex}.12")), Some((hex.as_str(), 12)));
        for bad in
            [hex.clone(), format!("{hex}."), format!("{hex}.01"), format!("{}.1", &hex[1..]), "..".to_owned()]
        {
            assert_eq!(parse_view(&bad), None, "{bad}");
        }
        let name = temporary(7, "tree/x");
        assert!(is_temporary(&name) && is_temporary_of(7, &name) && !is_temporary_of(8, &name), "{name}");
    }
}
