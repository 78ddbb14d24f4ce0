//! How deep indexes may lie in each other: one rule for who pins a reference and who mounts it.

/// How many indexes an index may lie in.
pub const MAX_INDEX_DEPTH: usize = 3;

/// How many indexes lie on the way to a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexDepth(usize);

/// An index lies in too many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it leads through {indexes} indexes to yet another one")]
pub struct TooDeep {
    /// Indexes on the way to the one that is not followed.
    pub indexes: usize,
}

impl IndexDepth {
    /// Where the entries are of an index that is here.
    pub fn enter(self) -> Result<Self, TooDeep> {
        if self.0 > MAX_INDEX_DEPTH { Err(TooDeep { indexes: self.0 }) } else { Ok(Self(self.0 + 1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_in_three_others_is_followed_and_one_in_four_is_not() {
        let mut depth = IndexDepth::default();
        for _ in 0..=MAX_INDEX_DEPTH {
            depth = depth.enter().unwrap();
        }
        assert_eq!(depth.enter(), Err(TooDeep { indexes: 4 }));
    }
}
