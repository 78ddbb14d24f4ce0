//! ORAS, and every artifact that is no one else's: a title is a file name.

use super::{Family, Rules};

pub(super) const RULES: Rules =
    Rules { family: Family::Oras, claims: |_| true, needs_config: false, members: super::any_members };
