//! A credential that is replaced while it is in use.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::credential::Credential;

/// The credential of one reader, or none. Clones share it: once renewed, each asks with the new one from its next request
/// on, and what is being read goes on.
#[derive(Clone, Default)]
pub struct Renewable(Arc<RwLock<Option<Arc<Credential>>>>);

impl Renewable {
    /// Takes another credential of the same reader in its place.
    pub fn renew(&self, credential: Credential) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // The same one again is no reason to sign in anew.
        if current.as_deref() != Some(&credential) {
            *current = Some(Arc::new(credential));
        }
    }

    pub(crate) fn current(&self) -> Option<Arc<Credential>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Option<Credential>> for Renewable {
    fn from(credential: Option<Credential>) -> Self {
        Self(Arc::new(RwLock::new(credential.map(Arc::new))))
    }
}

impl fmt::Debug for Renewable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.current().is_some() { "Renewable(credential)" } else { "Renewable(none)" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Credential, Renewable};

    #[test]
    fn clones_see_the_new_credential_and_the_same_one_again_is_none() {
        let reader = Renewable::from(Some(Credential::password("a", "1")));
        let clone = reader.clone();
        let before = clone.current().unwrap();
        reader.renew(Credential::password("a", "1"));
        assert!(Arc::ptr_eq(&before, &clone.current().unwrap()));
        reader.renew(Credential::password("a", "2"));
        assert!(*clone.current().unwrap() == Credential::password("a", "2"));
        assert!(!format!("{clone:?}").contains('2'));
    }
}
