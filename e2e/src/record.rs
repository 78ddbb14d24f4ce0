//! The record of a run: `junit.xml` is written after every row, so that a run that dies leaves what it knew.

use std::path::PathBuf;

use crate::verdict::{Row, Summary};

/// The rows so far, and where they are written.
pub(crate) struct Record {
    path: PathBuf,
    summary: Summary,
}

impl Record {
    /// An empty one.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, summary: Summary::default() }
    }

    /// Adds a row and writes the file. That it cannot be written is told and changes nothing.
    pub(crate) fn add(&mut self, row: Row) {
        self.summary.add(row);
        if let Some(directory) = self.path.parent()
            && let Err(error) = std::fs::create_dir_all(directory)
        {
            eprintln!("cannot make {}: {error}", directory.display());
        }
        if let Err(error) = std::fs::write(&self.path, self.summary.junit()) {
            eprintln!("cannot write {}: {error}", self.path.display());
        }
    }

    /// What was added.
    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::verdict::Verdict;

    #[test]
    fn the_file_has_every_row_as_soon_as_it_is_added() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out/junit.xml");
        let mut record = Record::new(path.clone());
        for (name, rows) in [("first", "tests=\"1\""), ("second", "tests=\"2\"")] {
            record.add(Row::new(name, Verdict::Passed, Duration::ZERO));
            let xml = std::fs::read_to_string(&path).unwrap();
            assert!(xml.contains(rows) && xml.contains(name), "{xml}");
        }
    }
}
