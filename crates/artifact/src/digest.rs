//! Content digests: `sha256:<hex>` and `sha512:<hex>` (image-spec, descriptor.md, "Digests").

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;

/// A digest algorithm that Stowage verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, 64 hex digits.
    Sha256,
    /// SHA-512, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, in the order of preference.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name in front of the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hex digits follow the colon.
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a digest that Stowage accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The text has no `<algorithm>:<hex>` shape.
    #[error("`{text}` is not a digest: write it as `sha256:` and 64 lower-case hex digits")]
    NoAlgorithm {
        /// The text, shortened.
        text: String,
    },
    /// The algorithm is neither sha256 nor sha512.
    #[error("the digest algorithm `{algorithm}` is not supported: use sha256 or sha512")]
    UnsupportedAlgorithm {
        /// The algorithm, shortened.
        algorithm: String,
    },
    /// The part behind the colon is not what the algorithm gives.
    #[error("`{text}` is not a {algorithm} digest: it needs {} lower-case hex digits", algorithm.hex_len())]
    BadHex {
        /// The text, shortened.
        text: String,
        /// The algorithm that was named.
        algorithm: Algorithm,
    },
}

/// The digest of a blob; two digests of one blob under two algorithms are different values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    text: Box<str>,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm in front of the colon.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hex digits behind the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The whole text, `<algorithm>:<hex>`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Self {
        Self { algorithm, text: format!("{algorithm}:{}", hex::encode(raw)).into() }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm { text: excerpt(text) });
        };
        let Some(algorithm) = Algorithm::ALL.into_iter().find(|known| known.as_str() == name) else {
            return Err(DigestError::UnsupportedAlgorithm { algorithm: excerpt(name) });
        };
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(is_hex) {
            return Err(DigestError::BadHex { text: excerpt(text), algorithm });
        }
        Ok(Self { algorithm, text: text.into() })
    }
}

impl TryFrom<&str> for Digest {
    type Error = DigestError;

    fn try_from(text: &str) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text.into()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Hashes bytes as they pass.
///
/// With AWS-LC, which is as fast as the processor allows with the SHA instructions and without: the `digest` row of
/// `cargo xtask bench` compares it with the `sha2` crate.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: Context,
}

impl Hasher {
    /// A hasher that has seen nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let context = Context::new(match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha512 => &SHA512,
        });
        Self { algorithm, context }
    }

    /// Adds `bytes` to what has been seen.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of everything seen.
    pub fn finish(self) -> Digest {
        Digest::from_raw(self.algorithm, self.context.finish().as_ref())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::{Algorithm, Digest, DigestError, Hasher};

    const EMPTY_SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_answers() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").as_str(), EMPTY_SHA256);
        assert_eq!(
            Digest::of(Algorithm::Sha512, b"abc").hex(),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
    }

    #[test]
    fn hashing_in_pieces_gives_the_digest_of_the_whole() {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"stow");
        hasher.update(b"");
        hasher.update(b"age");
        assert_eq!(hasher.finish(), Digest::of(Algorithm::Sha512, b"stowage"));
    }

    proptest! {
        #[test]
        fn another_implementation_says_the_same(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        ) {
            let whole = pieces.concat();
            let (mut short, mut long) = (Hasher::new(Algorithm::Sha256), Hasher::new(Algorithm::Sha512));
            for piece in &pieces {
                short.update(piece);
                long.update(piece);
            }
            let (short, long) = (short.finish(), long.finish());
            prop_assert_eq!(short.hex(), hex::encode(sha2::Sha256::digest(&whole)));
            prop_assert_eq!(long.hex(), hex::encode(sha2::Sha512::digest(&whole)));
        }
    }

    #[test]
    fn text_goes_in_and_out_unchanged() {
        let digest: Digest = EMPTY_SHA256.parse().unwrap();
        assert_eq!(digest.to_string(), EMPTY_SHA256);
        assert_eq!(digest.algorithm(), Algorithm::Sha256);
        assert_eq!(digest.hex(), &EMPTY_SHA256[7..]);
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(matches!("".parse::<Digest>(), Err(DigestError::NoAlgorithm { .. })));
        assert!(matches!("e3b0c442".parse::<Digest>(), Err(DigestError::NoAlgorithm { .. })));
        for unsupported in ["md5:d41d8cd98f00b204e9800998ecf8427e", "SHA256:00", "sha384:00", ":00"] {
            let found = unsupported.parse::<Digest>();
            assert!(matches!(found, Err(DigestError::UnsupportedAlgorithm { .. })), "{unsupported}");
        }
        let upper = EMPTY_SHA256.to_uppercase().replace("SHA256", "sha256");
        let long = format!("{EMPTY_SHA256}0");
        let traversal = format!("sha256:{}", "../".repeat(21) + "/");
        for bad in
            ["sha256:", "sha256:00", &upper, &long, &traversal, &EMPTY_SHA256.replace("sha256", "sha512")]
        {
            assert!(matches!(bad.parse::<Digest>(), Err(DigestError::BadHex { .. })), "{bad}");
        }
    }
}
