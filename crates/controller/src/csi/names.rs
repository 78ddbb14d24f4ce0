//! The names that a call is running for.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Names in use. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<HashSet<String>>>);

impl Names {
    /// Takes a name until the answer is dropped; `None` where another call has it.
    pub(crate) fn take(&self, name: &str) -> Option<Taken> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.to_owned()).then(|| Taken { names: self.clone(), name: name.to_owned() })
    }
}

/// A name that is taken.
#[derive(Debug)]
pub(crate) struct Taken {
    names: Names,
    name: String,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.names.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn a_name_is_taken_once_and_free_when_the_call_ends() {
        let names = Names::default();
        let taken = names.take("pvc-1");
        assert!(taken.is_some() && names.take("pvc-1").is_none());
        assert!(names.take("pvc-2").is_some());
        drop(taken);
        assert!(names.take("pvc-1").is_some());
    }
}
