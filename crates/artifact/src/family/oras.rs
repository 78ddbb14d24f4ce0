//! ORAS, and every artifact that is no one else's: a title is a file name.

use super::{Family, Rules, member};

pub(super) const RULES: Rules = Rules::new(Family::Oras, |_| true, member::any_members);
